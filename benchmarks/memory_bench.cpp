// What moves values and hardly computes: arithmetic of two tensors with and without broadcasting, conversions, copies, layouts. GB/s counts
// each element of inputs and outputs once.

#include <benchmark/benchmark.h>

#include <functional>
#include <string>

#include "autograd/functional.h"
#include "core/random.h"

namespace {

using namespace eq;

Tensor uniform_values(const Shape& shape, uint64_t seed) {
  Tensor x = Tensor::empty(shape);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = 0.5f + uniform_at(seed, 0, uint64_t(i));
  return x;
}

void add(const std::string& name, const Shape& shape, const std::function<Tensor(const Tensor&)>& run) {
  benchmark::RegisterBenchmark((name + " " + to_string(shape)).c_str(), [shape, run](benchmark::State& state) {
    const Tensor x = uniform_values(shape, 1);
    size_t bytes = 0;
    for (auto _ : state) {
      const Tensor y = run(x);
      benchmark::DoNotOptimize(y.raw_data());
      bytes += x.bytes() + y.bytes();
    }
    state.SetBytesProcessed(int64_t(bytes));
  })->UseRealTime()->Unit(benchmark::kMicrosecond);
}

// A residual's, a scale of channels, a weight of pixels.
void add_binary(const std::string& name, Tensor (*op)(const Tensor&, const Tensor&)) {
  const Shape x{8, 64, 64, 64};
  for (const auto& [title, shape] :
       {std::pair<const char*, Shape>{"same", x}, {"channels", {64}}, {"pixels", {8, 64, 64, 1}}, {"number", {}}}) {
    add("binary/" + name + "/" + title, x, [op, b = uniform_values(shape, 2)](const Tensor& a) { return op(a, b); });
  }
}

const bool kRegistered = [] {
  add_binary("add", eq::add);
  add_binary("sub", eq::sub);
  add_binary("mul", eq::mul);
  add_binary("div", eq::div);
  add_binary("maximum", eq::maximum);
  const Shape features{8, 64, 64, 64};
  add("cast/to float64", features, [](const Tensor& x) { return cast(x, DType::kFloat64); });
  add("cast/to bfloat16", features, [](const Tensor& x) { return cast(x, DType::kBFloat16); });
  add("fill", features, [](const Tensor& x) { return Tensor::full(x.shape(), 1.5); });
  add("clone", features, [](const Tensor& x) { return x.clone(); });
  add("add_", features, [sum = uniform_values(features, 3)](const Tensor& x) mutable { return sum.add_(x, 1e-3); });
  add("expand/pixels", {8, 64, 64, 1}, [](const Tensor& x) { return expand(x, {8, 64, 64, 64}); });
  add("slice/channels", features, [](const Tensor& x) { return slice(x, 3, 16, 48); });
  add("pad2d/one", features, [](const Tensor& x) { return pad2d(x, 1, 1, 1, 1); });
  add("permute/to channels first", features, [](const Tensor& x) { return permute(x, {0, 3, 1, 2}); });
  add("permute/to channels last", features, [](const Tensor& x) { return permute(x, {0, 2, 3, 1}); });
  add("permute/to heads", {512, 49, 3, 32}, [](const Tensor& x) { return permute(x, {0, 2, 1, 3}); });
  add("argmax/classes", {8, 128, 128, 19}, [](const Tensor& x) { return argmax(x, 3); });
  add("max/classes", {8, 128, 128, 19}, [](const Tensor& x) { return max(x, 3); });
  add("mean/pixels", features, [](const Tensor& x) { return mean(x, {1, 2}); });
  add("var/channels", features, [](const Tensor& x) { return var(x, {3}); });
  return true;
}();

}  // namespace
