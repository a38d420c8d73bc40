// Convolution at network sizes, all three directions. GFLOP/s are those of the direct algorithm (two per multiply-add),
// in wall time. /1: one thread, to compare with the core's peak; /all: as many as the machine has.

#include <benchmark/benchmark.h>

#include <string>
#include <utility>

#include "core/parallel.h"
#include "core/random.h"
#include "ops/conv2d_cases.h"

namespace {

using namespace eq;
using cases::Conv2dCase;

enum class Direction { kForward, kBackwardInput, kBackwardWeight };

Tensor random_values(const Shape& shape, uint64_t seed) {
  Tensor result = Tensor::empty(shape);
  for (int64_t i = 0; i < result.numel(); ++i) result.data<float>()[i] = 2 * uniform_at(seed, 0, uint64_t(i)) - 1;
  return result;
}

void conv2d_case(benchmark::State& state, const Conv2dCase& c, Direction direction, bool all_threads) {
  static const int all = num_threads();
  set_num_threads(all_threads ? all : 1);
  const Tensor x = random_values(c.x_shape(), 1), weight = random_values(c.weight_shape(), 2);
  const Tensor bias = c.bias ? random_values({c.out}, 3) : Tensor(), grad_y = random_values(c.y_shape(), 4);
  Tensor y = Tensor::empty(c.y_shape()), grad_x = Tensor::empty(c.x_shape()),
         grad_weight = Tensor::empty(c.weight_shape());
  const auto run = [&] {
    switch (direction) {
      case Direction::kForward: cpu::conv2d_forward(x, weight, bias, y, c.options); break;
      case Direction::kBackwardInput: cpu::conv2d_backward_input(grad_y, weight, grad_x, c.options); break;
      case Direction::kBackwardWeight: cpu::conv2d_backward_weight(grad_y, x, grad_weight, c.options); break;
    }
  };
  run();  // the first touch of the results' and scratch memory is the system's time
  for (auto _ : state) {
    run();
    benchmark::ClobberMemory();
  }
  state.counters["GFLOP/s"] = benchmark::Counter(c.flops() * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

const bool registered = [] {
  const std::pair<const char*, Direction> directions[] = {{"forward", Direction::kForward},
                                                          {"backward_input", Direction::kBackwardInput},
                                                          {"backward_weight", Direction::kBackwardWeight}};
  for (const Conv2dCase& c : cases::kConv2dNetworks) {
    for (const auto& [name, direction] : directions) {
      for (bool all : {false, true}) {
        const std::string title = std::string("conv2d/") + c.name + "/" + name + (all ? "/all" : "/1");
        const Direction d = direction;
        benchmark::RegisterBenchmark(title.c_str(),
                                     [&c, d, all](benchmark::State& state) { conv2d_case(state, c, d, all); })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
      }
    }
  }
  return true;
}();

}  // namespace
