// The convolutions of fusion sites, forward and backward: commuted with the resizing, beside fuse_levels and conv2d.

#include <benchmark/benchmark.h>

#include <string>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/random.h"

namespace {

using namespace eq;

struct Site {
  const char* name;
  int64_t batch, side, out, kernel;
  std::vector<std::pair<int64_t, int64_t>> branches;  // side and channels
};
const Site kSites[] = {
    {"upernet_resnet18", 8, 64, 128, 3, {{64, 128}, {32, 128}, {16, 128}, {8, 128}}},
    {"upernet_resnet50", 2, 64, 512, 3, {{64, 512}, {32, 512}, {16, 512}, {8, 512}}},
    {"pyramid_pooling", 8, 32, 128, 3, {{32, 512}, {1, 128}, {2, 128}, {3, 128}, {6, 128}}},
    {"hrnet", 8, 64, 270, 1, {{64, 18}, {32, 36}, {16, 72}, {8, 144}}},
};

Tensor random_values(const Shape& shape, uint64_t seed) {
  Tensor result = Tensor::empty(shape);
  for (int64_t i = 0; i < result.numel(); ++i) result.data<float>()[i] = 2 * uniform_at(seed, 0, uint64_t(i)) - 1;
  return result;
}

struct Arguments {
  Arguments(const Site& site, bool folded) {
    uint64_t seed = 0;
    int64_t channels = 0;
    for (const auto& [side, c] : site.branches) {
      branches.push_back(random_values({site.batch, side, side, c}, ++seed).set_requires_grad());
      channels += c;
      if (!folded) {
        levels.shift.push_back(Tensor::full({1}, 0.25));
        levels.scale.push_back(Tensor::full({1}, 1.5));
      }
    }
    levels.out_h = levels.out_w = site.side;
    weight = random_values({site.out, site.kernel, site.kernel, channels}, ++seed).set_requires_grad();
    if (folded) {
      levels.pad_h = levels.pad_w = site.kernel / 2;
      levels.border = Tensor::full({channels}, 0.25);
    } else {
      conv.padding(site.kernel / 2);
    }
    grad_y = random_values({site.batch, site.side, site.side, site.out}, ++seed);
  }
  Tensor apply(bool commuted) const {
    return commuted ? fused_conv2d(branches, weight, {}, levels, conv) : conv2d(fuse_levels(branches, levels), weight, {}, conv);
  }

  std::vector<Tensor> branches;
  Tensor weight, grad_y;
  FuseLevelsOptions levels;
  Conv2dOptions conv;
};

void fusion(benchmark::State& state, const Site& site, bool commuted, bool folded, bool backward) {
  Arguments a(site, folded);
  for (auto _ : state) {
    if (!backward) {
      const NoGradGuard no_grad;
      benchmark::DoNotOptimize(a.apply(commuted).raw_data());
      continue;
    }
    state.PauseTiming();
    const Tensor y = a.apply(commuted);
    state.ResumeTiming();
    y.backward(a.grad_y);
    a.weight.set_grad({});
    for (Tensor& branch : a.branches) branch.set_grad({});
  }
}

const bool registered = [] {
  for (const Site& site : kSites) {
    for (bool backward : {false, true}) {
      for (bool folded : {false, true}) {
        for (bool commuted : {false, true}) {
          const std::string name = std::string("fused_conv2d/") + site.name + (backward ? "/backward" : "/forward") +
                                   (folded ? "/folded" : "/explicit") + (commuted ? "/commuted" : "/plain");
          benchmark::RegisterBenchmark(name.c_str(), [&, commuted, folded, backward](benchmark::State& state) {
            fusion(state, site, commuted, folded, backward);
          })->UseRealTime()->Unit(benchmark::kMillisecond);
        }
      }
    }
  }
  return true;
}();

}  // namespace
