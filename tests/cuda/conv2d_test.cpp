// Bounds: float64 and float32 sum in another order than the CPU. bfloat16: one rounding of each result, 2^-9 of the largest, is all that
// differs from float32 arithmetic over the same rounded arguments.

#include "autograd/functional.h"
#include "cuda/own_conv2d.h"
#include "cuda/parity.h"
#include "ops/conv2d_cases.h"

using namespace eq;
using namespace eq::cases;
using namespace eq::test;

namespace {

void check(const Conv2dCase& c, const Accuracy& accuracy = {.bfloat16 = 4e-3}) {
  std::vector<Input> inputs = {{random_tensor(c.x_shape(), 1)}, {random_tensor(c.weight_shape(), 2)}};
  if (c.bias) inputs.push_back(constant(random_tensor({c.out}, 3)));
  const auto fn = [&](const std::vector<Tensor>& in) {
    return conv2d(in[0], in[1], in.size() > 2 ? in[2].to(in[0].dtype()) : Tensor(), c.options);
  };
  check_parity(c.name, fn, inputs, accuracy);
}

}  // namespace

TEST_CASE("cuda: conv2d of small shapes, all options", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  for (const Conv2dCase& c : kConv2dSmall) check(c);
}
