// Normalisation, probabilities, losses and dropout at network sizes. Rates count every array once per pass that must touch it,
// read or written, so they compare with the machine's copying rate.

#include <benchmark/benchmark.h>

#include <algorithm>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/group_norm.h"
#include "core/kernels/layer_norm.h"
#include "core/random.h"
#include "ops/batch_norm_cases.h"
#include "ops/cross_entropy_cases.h"
#include "ops/dice_loss_cases.h"
#include "ops/group_norm_cases.h"
#include "ops/hard_examples_cases.h"

namespace {

using namespace eq;

Tensor random_values(const Shape& shape, uint64_t seed) {
  Tensor result = Tensor::empty(shape);
  for (int64_t i = 0; i < result.numel(); ++i) result.data<float>()[i] = 4 * uniform_at(seed, 0, uint64_t(i)) - 2;
  return result;
}

void set_rate(benchmark::State& state, const Tensor& x, int transfers) {
  state.SetBytesProcessed(int64_t(state.iterations()) * int64_t(x.bytes()) * transfers);
}

// Inputs of one operator with a gradient to feed back.
struct Setup {
  Tensor x, gamma, beta, grad;
  explicit Setup(const Shape& shape)
      : x(random_values(shape, 1)), gamma(random_values({shape.at(-1)}, 2)), beta(random_values({shape.at(-1)}, 3)),
        grad(random_values(shape, 4)) {}
};

void batch_norm_forward(benchmark::State& state, cases::BatchNormCase c) {
  Setup s(c.x);
  Tensor mean = Tensor::zeros({c.x.at(-1)}), var = Tensor::full({c.x.at(-1)}, 1);
  BatchNormOptions options;
  options.relu = c.relu;
  for (auto _ : state) benchmark::DoNotOptimize(batch_norm(s.x, s.gamma, s.beta, mean, var, options));
  set_rate(state, s.x, 3);
}

void batch_norm_eval(benchmark::State& state, cases::BatchNormCase c) {
  Setup s(c.x);
  Tensor mean = Tensor::zeros({c.x.at(-1)}), var = Tensor::full({c.x.at(-1)}, 1);
  BatchNormOptions options;
  options.relu = c.relu;
  options.training = false;
  for (auto _ : state) benchmark::DoNotOptimize(batch_norm(s.x, s.gamma, s.beta, mean, var, options));
  set_rate(state, s.x, 2);
}

void batch_norm_backward(benchmark::State& state, cases::BatchNormCase c) {
  Setup s(c.x);
  Tensor mean = Tensor::empty_like(s.gamma), inv_std = Tensor::empty_like(s.gamma), var = Tensor::empty_like(s.gamma);
  cpu::batch_norm_statistics(s.x, mean, inv_std, var, 1e-5);
  Tensor grad_x = Tensor::empty_like(s.x), grad_gamma = Tensor::empty_like(mean), grad_beta = Tensor::empty_like(mean);
  for (auto _ : state) {
    cpu::batch_norm_backward(s.grad, s.x, s.gamma, s.beta, mean, inv_std, c.relu, true, grad_x, grad_gamma, grad_beta);
  }
  set_rate(state, s.x, 5);
}

void group_norm_forward(benchmark::State& state, cases::GroupNormCase c) {
  Setup s(c.x);
  for (auto _ : state) benchmark::DoNotOptimize(group_norm(s.x, c.groups, s.gamma, s.beta, 1e-5));
  set_rate(state, s.x, 3);
}

void group_norm_backward(benchmark::State& state, cases::GroupNormCase c) {
  Setup s(c.x);
  Tensor y = Tensor::empty_like(s.x), mean = Tensor::empty({c.x[0], c.groups}), inv_std = Tensor::empty_like(mean);
  cpu::group_norm_forward(s.x, c.groups, s.gamma, s.beta, 1e-5, y, mean, inv_std);
  Tensor grad_gamma = Tensor::empty_like(s.gamma), grad_beta = Tensor::empty_like(s.gamma);
  for (auto _ : state) {
    cpu::group_norm_backward(s.grad, s.x, c.groups, s.gamma, mean, inv_std, y, grad_gamma, grad_beta);
  }
  set_rate(state, s.x, 5);
}

void layer_norm_forward(benchmark::State& state, Shape shape) {
  Setup s(shape);
  for (auto _ : state) benchmark::DoNotOptimize(layer_norm(s.x, s.gamma, s.beta, 1e-6));
  set_rate(state, s.x, 2);
}

void layer_norm_backward(benchmark::State& state, Shape shape) {
  Setup s(shape);
  Tensor y = Tensor::empty_like(s.x), mean = Tensor::empty({s.x.numel() / shape.at(-1)}), inv_std = Tensor::empty_like(mean);
  cpu::layer_norm_forward(s.x, s.gamma, s.beta, 1e-6, y, mean, inv_std);
  Tensor grad_gamma = Tensor::empty_like(s.gamma), grad_beta = Tensor::empty_like(s.gamma);
  for (auto _ : state) cpu::layer_norm_backward(s.grad, s.x, s.gamma, mean, inv_std, y, grad_gamma, grad_beta);
  set_rate(state, s.x, 3);
}

void softmax_forward(benchmark::State& state, Shape shape, bool logarithm) {
  const Tensor x = random_values(shape, 1);
  for (auto _ : state) benchmark::DoNotOptimize(logarithm ? log_softmax(x) : softmax(x));
  set_rate(state, x, 2);
}

Tensor labels_for(const Shape& logits, double ignored) {
  const int64_t classes = logits.at(-1);
  Tensor labels = Tensor::empty({logits.numel() / classes}, DType::kUInt8);
  for (int64_t i = 0; i < labels.numel(); ++i) {
    labels.data<uint8_t>()[i] = uniform_at(5, 0, uint64_t(i)) < ignored ? 255 : uint8_t(i * 7 % classes);
  }
  return labels;
}

void cross_entropy_bench(benchmark::State& state, cases::CrossEntropyCase c, bool gradient) {
  const Tensor logits = random_values(c.logits, 1), labels = labels_for(c.logits, c.ignored);
  Tensor loss = Tensor::empty({}), grad_logits = gradient ? Tensor::empty_like(logits) : Tensor();
  for (auto _ : state) cpu::cross_entropy(logits, labels, {}, loss, grad_logits);
  set_rate(state, logits, gradient ? 2 : 1);
}

void dice_loss_bench(benchmark::State& state, cases::DiceLossCase c, bool gradient) {
  const Tensor logits = random_values(c.logits, 1), labels = labels_for(c.logits, c.ignored), one = Tensor::scalar(1);
  Tensor loss = Tensor::empty({}), slopes = Tensor::empty({2, c.logits.at(-1)}, DType::kFloat64);
  Tensor grad_logits = gradient ? Tensor::empty_like(logits) : Tensor();
  for (auto _ : state) {
    cpu::dice_loss(logits, labels, c.options, loss, slopes);
    if (gradient) cpu::dice_loss_backward(logits, labels, c.options, slopes, one, grad_logits);
  }
  set_rate(state, logits, gradient ? 3 : 1);
}

void hard_examples_bench(benchmark::State& state, cases::HardExamplesCase c) {
  const Tensor logits = random_values(c.logits, 1), labels = labels_for(c.logits, c.ignored);
  Tensor hard = Tensor::empty_like(labels);
  for (auto _ : state) cpu::hard_examples(logits, labels, c.options, hard);
  set_rate(state, logits, 1);
}

void dropout_bench(benchmark::State& state, bool channels) {
  const Tensor x = random_values({8, 64, 64, 128}, 1);
  for (auto _ : state) benchmark::DoNotOptimize(channels ? channel_dropout(x, 0.1, 1, 2) : dropout(x, 0.1, 1, 2));
  set_rate(state, x, 2);
}

template <class... Args>
void add(const std::string& name, void (*run)(benchmark::State&, Args...), std::type_identity_t<Args>... args) {
  benchmark::RegisterBenchmark(name.c_str(), run, args...)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond)
      ->ComputeStatistics("best", [](const std::vector<double>& times) { return *std::min_element(times.begin(), times.end()); });
}

const bool kRegistered = [] {
  for (const auto& c : cases::kBatchNormNetworkCases) {
    const std::string name = std::string(c.name) + " " + to_string(c.x);
    add("batch_norm+relu/forward/" + name, batch_norm_forward, c);
    add("batch_norm+relu/backward/" + name, batch_norm_backward, c);
    add("batch_norm+relu/eval/" + name, batch_norm_eval, c);
  }
  for (const auto& c : cases::kGroupNormNetworkCases) {
    const std::string name = std::string(c.name) + " " + to_string(c.x);
    add("group_norm/forward/" + name, group_norm_forward, c);
    add("group_norm/backward/" + name, group_norm_backward, c);
  }
  for (const Shape& shape : {Shape{8, 64, 64, 96}, Shape{8, 16, 16, 384}, Shape{8, 64, 64, 11}}) {
    add("layer_norm/forward/" + to_string(shape), layer_norm_forward, shape);
    add("layer_norm/backward/" + to_string(shape), layer_norm_backward, shape);
    add("softmax/forward/" + to_string(shape), softmax_forward, shape, false);
    add("log_softmax/forward/" + to_string(shape), softmax_forward, shape, true);
  }
  for (const auto& c : cases::kCrossEntropyNetworkCases) {
    const std::string name = std::string(c.name) + " " + to_string(c.logits);
    add("cross_entropy/loss/" + name, cross_entropy_bench, c, false);
    add("cross_entropy/loss+gradient/" + name, cross_entropy_bench, c, true);
  }
  for (const auto& c : cases::kDiceLossNetworkCases) {
    const std::string name = std::string(c.name) + " " + to_string(c.logits);
    add("dice_loss/loss/" + name, dice_loss_bench, c, false);
    add("dice_loss/loss+gradient/" + name, dice_loss_bench, c, true);
  }
  for (const auto& c : cases::kHardExamplesNetworkCases) {
    add("hard_examples/" + (std::string(c.name) + " ") + to_string(c.logits), hard_examples_bench, c);
  }
  add("dropout/elements", dropout_bench, false);
  add("dropout/channels", dropout_bench, true);
  return true;
}();

}  // namespace
