#include "core/kernels/fuse_levels.h"

#include "autograd/functional.h"
#include "cuda/parity.h"
#include "ops/fuse_levels_cases.h"

using namespace eq;
using namespace eq::test;
using cases::FuseLevelsCase;

namespace {

// The branches, their shifts and scales, and the border, as arguments of check_parity.
void check(const FuseLevelsCase& k, const std::string& name, int64_t pad_h, int64_t pad_w, bool equalize, bool border) {
  const size_t count = k.branches.size();
  std::vector<Input> inputs;
  int64_t channels = 0;
  uint64_t seed = 20;
  for (const cases::FuseBranch& b : k.branches) {
    inputs.push_back({random_tensor({k.n, b.h, b.w, b.c}, ++seed)});
    channels += b.c;
  }
  for (const cases::FuseBranch& b : k.branches) {
    inputs.push_back(constant(b.shift == 0 ? Tensor() : random_tensor({b.shift}, ++seed)));
    inputs.push_back(constant(b.scale == 0 ? Tensor() : random_tensor({b.scale}, ++seed)));
  }
  inputs.push_back(constant(border ? random_tensor({channels}, ++seed) : Tensor()));
  check_parity(
      name,
      [&](const std::vector<Tensor>& in) {
        FuseLevelsOptions options{
            .out_h = k.out_h, .out_w = k.out_w, .align_corners = k.align_corners, .pad_h = pad_h, .pad_w = pad_w};
        options.border = in[3 * count];
        for (size_t i = 0; i < count && equalize; ++i) {
          options.shift.push_back(in[count + 2 * i]);
          options.scale.push_back(in[count + 2 * i + 1]);
        }
        return fuse_levels({in.begin(), in.begin() + int64_t(count)}, options);
      },
      inputs);
}

}  // namespace

TEST_CASE("cuda: fuse_levels", "[cuda][fuse_levels]") {
  EQ_NEED_CUDA();
  int which = 0;
  for (const FuseLevelsCase& k : cases::kFuseLevels) {
    const std::string name = "case " + std::to_string(which++);
    check(k, name, 0, 0, true, false);
    check(k, name + " with a border", 1, 2, true, true);
    check(k, name + " without equalizer, with a border of zeros", 2, 0, false, false);
  }
}

TEST_CASE("cuda: fuse_levels of packs, with cells of few and of many outputs", "[cuda][fuse_levels]") {
  EQ_NEED_CUDA();
  for (bool align_corners : {false, true}) {
    check({2, 20, 24, align_corners, {{20, 24, 16, 16, 16}, {10, 12, 8, 8, 1}, {1, 1, 24, 24, 24}, {2, 3, 16, 1, 16}}},
          "packs", 1, 1, true, true);
    check({1, 6, 5, align_corners, {{6, 5, 8, 0, 0}, {8, 9, 8, 8, 8}}}, "a branch as large as the output with its border", 1, 2,
          true, true);
  }
}

TEST_CASE("cuda: fuse_levels of more branches than a launch takes", "[cuda][fuse_levels]") {
  EQ_NEED_CUDA();
  FuseLevelsCase k{1, 12, 10, false, {}};
  for (int64_t i = 0; i < 19; ++i) k.branches.push_back({1 + i % 3, 1 + i % 2, 1 + i % 4, 0, 1});
  check(k, "19 branches", 0, 1, true, true);
}

TEST_CASE("cuda: fuse_levels differentiates only what is wanted", "[cuda][fuse_levels]") {
  EQ_NEED_CUDA();
  const auto fn = [](const std::vector<Tensor>& in) {
    return fuse_levels({in[0], in[1].to(in[0].dtype()), in[2]}, {.out_h = 8, .out_w = 8});
  };
  check_parity(
      "the second is a constant", fn,
      {{random_tensor({1, 8, 8, 8}, 1)}, constant(random_tensor({1, 2, 2, 16}, 2)), {random_tensor({1, 1, 1, 8}, 3)}});
}
