#include "core/kernels/reduce.h"

#include <limits>

#include "autograd/functional.h"
#include "core/kernels/conv2d.h"
#include "cuda/parity.h"
#include "ops/reduce_cases.h"

using namespace eq;
using namespace eq::test;

namespace {

std::string name_of(const char* op, const Shape& shape, const std::vector<int>& axes) {
  return std::string(op) + " of " + to_string(shape) + " over " + Catch::Detail::stringify(axes);
}

// One rounding to bfloat16 of the value: 2^-8 of it. Gradients of sums are copies.
const Accuracy kOnce{.bfloat16 = 4e-3};

void check_sums(const Shape& shape, const std::vector<int>& axes) {
  const Input x{random_tensor(shape, 1)};
  check_parity(
      name_of("sum", shape, axes), [&](const std::vector<Tensor>& in) { return sum(in[0], axes); }, {x}, kOnce);
  check_parity(name_of("mean", shape, axes), [&](const std::vector<Tensor>& in) { return mean(in[0], axes, true); }, {x},
               {.bfloat16 = 8e-3});
}

void check_var(const Shape& shape, const std::vector<int>& axes) {
  // A large mean: its square must not be in the sum. The gradient is a product of two rounded values.
  const Input x{add(random_tensor(shape, 2), 8)};
  check_parity(name_of("var", shape, axes), [&](const std::vector<Tensor>& in) { return var(in[0], axes, false); }, {x},
               {.bfloat16 = 8e-3});
}

}  // namespace

TEST_CASE("cuda: sum, mean and var over any axes", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  for (const cases::ReduceCase& c : cases::kReduceCases) {
    check_sums(c.shape, c.axes);
    check_var(c.shape, c.axes);
  }
}

TEST_CASE("cuda: sums over several blocks and chunks", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  // Smaller than the CPU's large cases: a simulated thread costs a thousand times more.
  const cases::ReduceCase large[] = {
      {{40003}, {}},       {{2, 30, 20, 19}, {0, 1, 2}}, {{2, 30, 20, 19}, {3}}, {{2, 30, 20, 64}, {1, 2}},
      {{2, 70, 300}, {1}}, {{10, 20, 20, 8}, {0, 2}},    {{2, 20, 600}, {0}}};
  for (const cases::ReduceCase& c : large) {
    check_sums(c.shape, c.axes);
    check_var(c.shape, c.axes);
  }
}

TEST_CASE("cuda: sums at the edges of packs, warps and blocks", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  for (const int64_t width : {1, 2, 7, 8, 31, 32, 33, 64, 127, 129, 513, 1024, 1025, 2056}) {
    check_sums({3, width}, {1});
    check_sums({width}, {});
    check_sums({5, width}, {0});
    check_sums({2, width, 3}, {1});
  }
  check_sums({20000, 3}, {0});
  check_sums({3000, 24}, {0});
  check_sums({600, 140}, {1});
  check_sums({1, 9000}, {0});
}

TEST_CASE("cuda: sums of arrays that begin anywhere", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  check_parity(
      "a view", [](const std::vector<Tensor>& in) { return sum(slice(in[0], 0, 1, 2000)); }, {{random_tensor({2001}, 3)}},
      kOnce);
  check_parity(
      "a view of rows", [](const std::vector<Tensor>& in) { return sum(slice(in[0], 0, 1, 200), {0}); },
      {{random_tensor({201, 5}, 3)}}, kOnce);
}

TEST_CASE("cuda: max and its place", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  const std::pair<Shape, int> shapes[] = {{{3, 5, 7}, 0}, {{3, 5, 7}, 1}, {{3, 5, 7}, 2},   {{40, 19}, 1}, {{7, 150}, 1},
                                          {{2, 1, 3}, 1}, {{3000}, 0},    {{2, 700, 5}, 1}, {{300, 2}, 1}};
  for (const auto& [shape, axis] : shapes) {
    // bfloat16 has ties here: the first must be taken. Values and gradients are copies.
    const Input x{distinct_tensor(shape, 4)};
    check_parity(name_of("max", shape, {axis}), [&, a = axis](const std::vector<Tensor>& in) { return max(in[0], a); }, {x},
                 {1e-300, 1e-300, 1e-300});
    check_parity(name_of("argmax", shape, {axis}),
                 [&, a = axis](const std::vector<Tensor>& in) { return argmax(in[0].detach(), a); }, {x});
  }
}

TEST_CASE("cuda: max takes the first of equals, and NaN over everything", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::from<float>({1, 3, 3, 2, nan, inf, nan, 0, -inf, -inf, -inf, -inf}, {3, 4});
  Tensor leaf = x.to(Device::cuda()).set_requires_grad();
  const Tensor y = max(leaf, 1);
  CHECK(argmax(leaf, 1).to_vector<int64_t>() == std::vector<int64_t>{1, 0, 0});
  CHECK(y.value_at(0) == 3);
  CHECK(std::isnan(y.value_at(1)));
  CHECK(y.value_at(2) == -inf);
  y.backward(Tensor::from<float>({1, 2, 3}, {3}).to(Device::cuda()));
  CHECK(leaf.grad().to_vector<float>() == std::vector<float>{0, 1, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0});
  // Several lanes share these.
  Tensor wide = random_tensor({3, 500}, 5, DType::kFloat32);
  for (const int64_t i : {77, 333, 500 + 400, 500 + 9}) wide.data<float>()[i] = i < 500 ? nan : 50;
  for (const Tensor& t : {wide, permute(wide, {1, 0})}) {
    const int axis = t.size(0) == 3 ? 1 : 0;
    CHECK(bit_equal(argmax(t.to(Device::cuda()), axis).to(Device::cpu()), argmax(t, axis)));
  }
}

TEST_CASE("cuda: reductions of nothing", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  const Tensor none = Tensor::zeros({0, 3}, DType::kFloat32, Device::cuda());
  CHECK(sum(none).item() == 0);
  CHECK(sum(none, {0}).to_vector<float>() == std::vector<float>(3, 0));
  CHECK(sum(none, {1}).shape() == Shape{0});
  CHECK(max(none, 1).shape() == Shape{0});
}

TEST_CASE("cuda: the gradient of a convolution's bias is float32 for bfloat16 images", "[cuda][reduce]") {
  EQ_NEED_CUDA();
  for (const Shape& shape : {Shape{2, 9, 7, 16}, Shape{1, 40, 30, 19}, Shape{1, 1, 1, 5}}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
      const Tensor grad_y = random_tensor(shape, 6).to(dtype);
      Tensor grad_bias = Tensor::empty({shape[3]}, parameter_type(dtype), Device::cuda());
      cuda::conv2d_backward_bias(grad_y.to(Device::cuda()), grad_bias);
      check_close(grad_bias.to(Device::cpu()).to(DType::kFloat64), sum(grad_y.to(DType::kFloat64), {0, 1, 2}),
                  dtype == DType::kFloat64 ? 1e-13 : 2e-7);
    }
  }
}
