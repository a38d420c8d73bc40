#include "autograd/functional.h"
#include "cuda/parity.h"

using namespace eq;
using namespace eq::test;

namespace {

// Teams of one thread, of parts of a warp, of warps and of blocks, with packs and with single values; several rows per team
// and several blocks; rows too long for registers; no row.
const Shape kShapes[] = {{5, 1},    {3, 2, 7}, {2, 3, 2, 16}, {4, 33},   {70, 19},  {3, 96},   {600, 8}, {550, 3},
                         {19, 264}, {3, 513},  {131, 40},     {2, 1029}, {9, 1032}, {2, 1100}, {0, 4}};

}  // namespace

TEST_CASE("cuda: layer norm", "[cuda][layer_norm]") {
  EQ_NEED_CUDA();
  const auto fn = [](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-2); };
  for (const Shape& shape : kShapes) {
    const Shape channels = {shape.at(-1)};
    check_parity(to_string(shape), fn,
                 {{random_tensor(shape, 1)}, parameter(random_tensor(channels, 2)), parameter(random_tensor(channels, 3))});
  }
}

TEST_CASE("cuda: layer norm without gamma and beta, and gradients of some arguments alone", "[cuda][layer_norm]") {
  EQ_NEED_CUDA();
  const auto fn = [](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-5); };
  for (const int64_t width : {24, 712, 1030}) {
    INFO(width);
    const Tensor x = random_tensor({3, width}, 1), gamma = random_tensor({width}, 2);
    check_parity("neither", fn, {{x}, parameter({}), parameter({})});
    check_parity("gamma is a constant", fn, {{x}, constant(gamma), parameter({})});
    check_parity("x is a constant", fn, {constant(x), parameter(gamma), parameter({})},
                 {.bfloat16 = 0});  // it would stay float32
  }
}

TEST_CASE("cuda: layer norm keeps its accuracy when the mean dwarfs the deviation", "[cuda][layer_norm]") {
  EQ_NEED_CUDA();
  for (const int64_t width : {96, 777, 4104}) {
    Tensor x = random_tensor({5, width}, 5);
    for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += 1e4;
    x = x.to(DType::kFloat32);
    const Tensor expected = layer_norm(x.to(DType::kFloat64), {}, {}, 1e-5);
    // What is left is the mean's own rounding to float32, up to 5e-4 beside a deviation of 1 and values up to 3.
    check_close(layer_norm(x.to(Device::cuda()), {}, {}, 1e-5).to(Device::cpu()), expected, 3e-4);
  }
}
