// Elementwise operators, reductions and products over the case tables the tests use. Bytes count inputs and outputs once;
// products report FLOP/s.

#include <benchmark/benchmark.h>

#include <string>

#include "autograd/functional.h"
#include "ops/elementwise_cases.h"
#include "ops/matmul_cases.h"
#include "ops/reduce_cases.h"

namespace {

using namespace eq;

Tensor filled(const Shape& shape, double low = -1, double high = 1) {
  Tensor x = Tensor::empty(shape);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<float>()[i] = float(low + (high - low) * double(i % 257) / 256);
  return x;
}

std::string axes_text(const std::vector<int>& axes) {
  std::string text = " over";
  for (int axis : axes) text.append(" ").append(std::to_string(axis));
  return axes.empty() ? " over all" : text;
}

const bool kRegistered = [] {
  for (const cases::UnaryCase& unary : cases::kUnaryCases) {
    benchmark::RegisterBenchmark(("unary/forward/" + std::string(unary.name)).c_str(), [&unary](benchmark::State& state) {
      const Tensor x = filled({8, 64, 64, 64}, unary.low, unary.high);
      for (auto _ : state) benchmark::DoNotOptimize(unary.op(x).raw_data());
      state.SetBytesProcessed(state.iterations() * int64_t(2 * x.bytes()));
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
    benchmark::RegisterBenchmark(("unary/backward/" + std::string(unary.name)).c_str(), [&unary](benchmark::State& state) {
      Tensor x = filled({8, 64, 64, 64}, unary.low, unary.high).set_requires_grad();
      const Tensor grad = filled(x.shape());
      const Tensor y = unary.op(x);
      for (auto _ : state) {
        x.set_grad({});
        y.backward(grad, true);
      }
      state.SetBytesProcessed(state.iterations() * int64_t(3 * x.bytes()));
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
  }
  for (const cases::ReduceCase& reduce : cases::kLargeReduceCases) {
    benchmark::RegisterBenchmark(("sum/" + to_string(reduce.shape) + axes_text(reduce.axes)).c_str(), [&reduce](benchmark::State& state) {
      const Tensor x = filled(reduce.shape);
      for (auto _ : state) benchmark::DoNotOptimize(sum(x, reduce.axes).raw_data());
      state.SetBytesProcessed(state.iterations() * int64_t(x.bytes()));
    })->UseRealTime()->Unit(benchmark::kMicrosecond);
  }
  for (const cases::MatmulCase& product : cases::kLargeMatmulCases) {
    benchmark::RegisterBenchmark(("matmul/" + to_string(product.a) + " x " + to_string(product.b)).c_str(),
                                 [&product](benchmark::State& state) {
                                   const Tensor a = filled(product.a), b = filled(product.b);
                                   for (auto _ : state) benchmark::DoNotOptimize(matmul(a, b).raw_data());
                                   const double flop = 2.0 * double(product.result.numel()) * double(a.size(-1));
                                   state.counters["FLOP/s"] =
                                       benchmark::Counter(flop * double(state.iterations()), benchmark::Counter::kIsRate);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  return true;
}();

}  // namespace
