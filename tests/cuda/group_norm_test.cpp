#include "autograd/functional.h"
#include "cuda/parity.h"
#include "ops/group_norm_cases.h"

using namespace eq;
using namespace eq::test;

namespace {

// Groups narrower and wider than a pack, several chunks of rows, more channels in a group than threads in a block, no image.
const cases::GroupNormCase kMoreCases[] = {
    {"groups within packs", {2, 5, 16}, 8},        {"several chunks", {2, 33, 20, 8}, 2},
    {"chunks of single channels", {2, 700, 3}, 3}, {"a wide group", {1, 3, 600}, 2},
    {"blocks side by side", {2, 9, 280}, 7},       {"no image", {0, 4, 6}, 2},
};

void check(const cases::GroupNormCase& c) {
  const int64_t channels = c.x.at(-1);
  const Tensor gamma = c.affine ? random_tensor({channels}, 2) : Tensor(),
               beta = c.affine ? random_tensor({channels}, 3) : Tensor();
  check_parity(c.name, [&](const std::vector<Tensor>& in) { return group_norm(in[0], c.groups, in[1], in[2], 1e-3); },
               {{random_tensor(c.x, 1)}, parameter(gamma), parameter(beta)});
}

}  // namespace

TEST_CASE("cuda: group norm", "[cuda][group_norm]") {
  EQ_NEED_CUDA();
  for (const cases::GroupNormCase& c : cases::kGroupNormCases) check(c);
  for (const cases::GroupNormCase& c : kMoreCases) check(c);
}

TEST_CASE("cuda: group norm's gradients of the parameters alone", "[cuda][group_norm]") {
  EQ_NEED_CUDA();
  check_parity("x is a constant", [](const std::vector<Tensor>& in) { return group_norm(in[0], 2, in[1], in[2], 1e-3); },
               {constant(random_tensor({2, 3, 8}, 1)), parameter(random_tensor({8}, 2)), parameter(random_tensor({8}, 3))},
               {.bfloat16 = 0});  // a constant stays float32 beside bfloat16
}

TEST_CASE("cuda: group norm keeps its accuracy when means dwarf deviations", "[cuda][group_norm]") {
  EQ_NEED_CUDA();
  Tensor x = random_tensor({2, 31, 29, 8}, 5);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += 1e4;
  x = x.to(DType::kFloat32);
  const Tensor expected = group_norm(x.to(DType::kFloat64), 2, {}, {}, 1e-5);
  // What is left is the mean's own rounding to float32, up to 5e-4 beside a deviation of 1 and values up to 4.
  check_close(group_norm(x.to(Device::cuda()), 2, {}, {}, 1e-5).to(Device::cpu()), expected, 3e-4);
}
