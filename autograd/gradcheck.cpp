#include "autograd/gradcheck.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include "autograd/node.h"
#include "core/random.h"
#include "core/words.h"

namespace eq {
namespace {

double weighted_sum(const Tensor& y, const Tensor& weights) {
  const double *a = y.data<double>(), *b = weights.data<double>();
  double total = 0;
  for (int64_t i = 0; i < y.numel(); ++i) total += a[i] * b[i];
  return total;
}

// An element of an input that is changed for a while: it comes back also where the function throws.
class Nudged {
 public:
  Nudged(Tensor& input, int64_t index) : input_(input), x_(input.data<double>() + index), before_(*x_) {}
  ~Nudged() { set(before_); }
  void by(double step) { set(before_ + step); }

 private:
  void set(double value) {
    *x_ = value;
    input_.bump_version();  // layers may have kept what they made of it
  }
  Tensor& input_;
  double *x_, before_;
};

// Takes the inputs' gradients away, and gives them back.
class GradientScope {
 public:
  explicit GradientScope(std::vector<Tensor>& inputs) {
    for (Tensor& input : inputs) {
      if (!input.defined() || !input.requires_grad()) continue;
      before_.emplace_back(input, input.grad());
      input.set_grad({});
    }
  }
  ~GradientScope() {
    for (auto& [input, grad] : before_) input.set_grad(grad);
  }
  GradientScope(const GradientScope&) = delete;

 private:
  std::vector<std::pair<Tensor, Tensor>> before_;
};

}  // namespace

GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& fn, std::vector<Tensor> inputs,
                          const GradcheckOptions& options) {
  if (options.max_elements < 1) {
    throw UsageError("gradcheck of " + counted(options.max_elements, "element") + " an input proves nothing", "GradcheckOptions::max_elements",
                     "1 or more");
  }
  for (Tensor& input : inputs) {
    if (input.defined() && input.requires_grad()) {
      if (input.dtype() != DType::kFloat64) {
        throw DTypeError("gradcheck needs float64 inputs, not " + describe(input), "gradcheck",
                         "convert with x.to(DType::kFloat64)");
      }
      input.set_requires_grad();  // throws for what is no leaf: its gradient would not be kept
    }
  }
  const GradientScope scope(inputs);
  const Tensor y = fn(inputs);
  if (y.dtype() != DType::kFloat64) {
    throw DTypeError("gradcheck needs a float64 result, not " + describe(y), "gradcheck",
                     "compute in float64 throughout; layers do where they are made under InitRandom(seed, DType::kFloat64)");
  }
  Random random(options.seed);
  Tensor weights = Tensor::empty(y.shape(), DType::kFloat64);
  for (int64_t i = 0; i < weights.numel(); ++i) weights.data<double>()[i] = random.uniform(-1, 1);
  run_backward(y, weights, false, true);

  GradcheckResult result;
  NoGradGuard no_grad;
  for (size_t k = 0; k < inputs.size(); ++k) {
    Tensor& input = inputs[k];
    if (!input.defined() || !input.requires_grad()) continue;
    const Tensor analytic = input.grad().defined() ? input.grad() : Tensor::zeros_like(input);
    const bool all = input.numel() <= options.max_elements;
    const int64_t count = all ? input.numel() : options.max_elements;
    std::vector<int64_t> indices(count);
    std::vector<double> numeric(count);
    double scale = 1;
    for (int64_t j = 0; j < count; ++j) {
      indices[j] = all ? j : random.uniform_int(0, input.numel());
      Nudged x(input, indices[j]);
      x.by(options.step);
      const double above = weighted_sum(fn(inputs), weights);
      x.by(-options.step);
      const double below = weighted_sum(fn(inputs), weights);
      numeric[j] = (above - below) / (2 * options.step);
      scale = std::max(scale, std::abs(numeric[j]));
    }
    for (int64_t j = 0; j < count; ++j) {
      const double value = analytic.data<double>()[indices[j]];
      const double difference = std::abs(value - numeric[j]) / scale;
      if (!(difference <= result.worst)) result.worst = difference;
      if (difference <= options.tolerance || !result.ok) continue;
      result.ok = false;
      char text[200];
      std::snprintf(text, sizeof text, "input %zu, element %lld: backward gives %.12g, central differences %.12g", k,
                    static_cast<long long>(indices[j]), value, numeric[j]);
      result.message = text;
    }
  }
  return result;
}

}  // namespace eq
