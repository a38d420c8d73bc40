// Lesson 3: how to trust a gradient.
//
// A wrong gradient does not crash. The network still learns, only worse, and nobody knows why. So every derivative in
// this engine is compared with one that needs no calculus, the central difference:
//
//   f'(x)  is about  (f(x + h) - f(x - h)) / (2 h)         and misses it by  h^2 / 6 * f'''(x)
//
// A smaller h is better, until rounding takes over: f is known to about 1e-16 of its size in float64, and dividing by
// 2 h magnifies that to 1e-16 / h. The first table shows both ends. With float64 the best h is near 1e-5 and ten
// digits agree. With float32 it is between 1e-2 and 1e-3 and not quite five do: that is why gradients are checked in
// float64.
//
// An operator has many inputs and outputs. gradcheck() weighs the outputs with random numbers, so that there is one
// number to differentiate, and nudges every input element in turn.
//
// The second part writes an operator of our own, softsign(x) = x / (1 + |x|), as this engine wants it: compute the
// value, then record() a Node that knows how gradients flow back. Its derivative is 1 / (1 + |x|)^2. A second version
// forgets the square. By eye nothing is wrong: the sign is right, at 0 it is exact, and training works. gradcheck
// sees it.
//
// The third part is a caution. At a kink, such as relu's at 0, the central difference averages both slopes, 0 and 1,
// and says 1/2. The operator says 0. Neither is wrong: there is no derivative. Check operators away from their kinks.
//
// Exercise: plant another bug, one that gradcheck finds only because the weights are random: return grad_output
// averaged over all elements. Why would a check with equal weights have passed it?
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "autograd/functional.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"

using namespace eq;

// The error of the central difference of exp(sin(x)) at x = 1, with all arithmetic in T.
template <class T>
double difference_error(double step) {
  auto f = [](T x) { return std::exp(std::sin(x)); };
  const T x = 1, h = T(step);
  const double slope = double((f(x + h) - f(x - h)) / (2 * h));
  return std::abs(slope - std::exp(std::sin(1.0)) * std::cos(1.0));
}

// Prints the table; the best errors are returned.
struct Best {
  double float32 = 1, float64 = 1;
};
Best table_of_steps() {
  Best best;
  std::printf("   h      float32   float64     h^2/6 f'''\n");
  const double s = std::sin(1.0), c = std::cos(1.0), third = (3 * s * c + c - c * c * c) * std::exp(s);  // |f'''(1)|
  for (double h = 0.1; h > 1e-13; h /= 10) {
    const double error32 = difference_error<float>(h), error64 = difference_error<double>(h);
    std::printf("  %.0e   %.1e   %.1e   %.1e\n", h, error32, error64, h * h / 6 * third);
    best = {std::min(best.float32, error32), std::min(best.float64, error64)};
  }
  return best;
}

// What is needed on the way back is saved; the engine frees it after its turn.
template <bool planted_bug>
struct SoftsignBackward final : Node {
  explicit SoftsignBackward(const Tensor& x) : Node("softsign"), x_(save(x)) {}
  TensorList backward(const TensorList& grad_outputs) override {
    const Tensor factor = reciprocal(abs(x_.get()) + 1);
    return {grad_outputs[0] * (planted_bug ? factor : square(factor))};
  }
  SavedTensor& x_;
};

template <bool planted_bug>
Tensor softsign(const Tensor& x) {
  Tensor y = Tensor::empty_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) y.data<double>()[i] = x.value_at(i) / (1 + std::abs(x.value_at(i)));
  record<SoftsignBackward<planted_bug>>(y, {x}, x);
  return y;
}

template <class Operator>
bool passes(const char* name, Operator op, std::vector<double> values) {
  const Shape shape{int64_t(values.size())};
  const auto x = Tensor::from(values, shape).set_requires_grad();
  const auto result = gradcheck([&](const std::vector<Tensor>& inputs) { return op(inputs[0]); }, {x});
  std::printf("%-34s %s (difference %.1e)\n", name, result.ok ? "agrees" : "DIFFERS", result.worst);
  if (!result.ok) std::printf("    %s\n", result.message.c_str());
  return result.ok;
}

int main() {
  const Best best = table_of_steps();
  const std::vector<double> values = {-2.0, -0.6, 0.3, 1.0, 4.0};
  const bool right = passes("softsign", softsign<false>, values);
  const bool wrong = passes("softsign without the square", softsign<true>, values);
  const bool kink = passes("relu at 0", [](const Tensor& x) { return relu(x); }, {0.0});
  const bool beside = passes("relu beside 0", [](const Tensor& x) { return relu(x); }, {-1e-3, 1e-3});
  const bool ok = best.float64 < 1e-9 && best.float32 > 1e-6 && right && !wrong && !kink && beside;
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
