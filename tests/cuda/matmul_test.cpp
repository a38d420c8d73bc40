#include "core/kernels/matmul.h"

#include "autograd/functional.h"
#include "cuda/gemm.h"
#include "cuda/parity.h"
#include "ops/matmul_cases.h"

using namespace eq;
using namespace eq::test;

namespace {

void check_matmul(const cases::MatmulCase& c) {
  check_parity(to_string(c.a) + " x " + to_string(c.b), [](const auto& in) { return matmul(in[0], in[1]); },
               {{random_tensor(c.a, 1)}, {random_tensor(c.b, 2)}});
}

void check_transposed(const cases::MatmulCase& c) {
  check_parity(to_string(c.a) + " x " + to_string(c.b) + " from its transpose", [](const auto& in) { return matmul(in[0], in[1], true); },
               {{random_tensor(c.a, 1)}, {transpose(random_tensor(c.b, 2), -1, -2)}});
}

void check_linear(const cases::LinearCase& c) {
  check_parity(
      to_string(c.x) + " to " + std::to_string(c.out), [](const auto& in) { return linear(in[0], in[1], in[2]); },
      {{random_tensor(c.x, 3)}, {random_tensor({c.out, c.x.at(-1)}, 4)}, {c.bias ? random_tensor({c.out}, 5) : Tensor()}});
}

}  // namespace

TEST_CASE("cuda: matmul", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  for (const cases::MatmulCase& c : cases::kMatmulCases) check_matmul(c), check_transposed(c);
}

TEST_CASE("cuda: matmul of large matrices, long sums and stacks", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  for (const cases::MatmulCase& c : cases::kLargeMatmulCases) check_matmul(c);
}

TEST_CASE("cuda: matmul, the longest batch axis is not the last", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  const cases::MatmulCase longest_first[] = {{{7, 1, 3, 4}, {1, 2, 4, 5}, {7, 2, 3, 5}},
                                             {{3, 4, 2, 5}, {4, 5, 3}, {3, 4, 2, 3}},
                                             {{2, 1, 3, 1, 4, 3}, {5, 1, 2, 3, 2}, {2, 5, 3, 2, 4, 2}}};
  for (const cases::MatmulCase& c : longest_first) check_matmul(c);
}

TEST_CASE("cuda: linear", "[cuda][linear]") {
  EQ_NEED_CUDA();
  for (const cases::LinearCase& c : cases::kLinearCases) check_linear(c);
  // Rows of the bias in whole packs of every type, and in none.
  for (const int64_t out : {24, 37}) check_linear({{5, 61, 40}, out, true});
}

TEST_CASE("cuda: the product takes transposed operands as they lie", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  if constexpr (kBuiltWithCuda) {
    const Tensor a = random_tensor({2, 37, 21}, 6), b = random_tensor({2, 21, 45}, 7), expected = matmul(a, b);
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        Tensor y = Tensor::full({2, 37, 45}, NAN, DType::kFloat64, Device::cuda());
        cuda::matmul((ta ? transpose(a, 1, 2) : a).to(Device::cuda()), ta, (tb ? transpose(b, 1, 2) : b).to(Device::cuda()),
                     tb, y);
        check_close(y.to(Device::cpu()), expected, 1e-14);
      }
    }
  }
}

TEST_CASE("cuda: bfloat16 products summed and stored in float32, and added to a bias", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  if constexpr (kBuiltWithCuda) {
    const Tensor a = random_tensor({300, 17}, 8).to(DType::kBFloat16), b = random_tensor({300, 9}, 9).to(DType::kBFloat16);
    const Tensor exact = matmul(transpose(a.to(DType::kFloat64), 0, 1), b.to(DType::kFloat64));
    const Tensor before = random_tensor({2, 17, 9}, 10, DType::kFloat32);
    Tensor c = before.to(Device::cuda());
    cuda::Gemm product{.m = 17, .n = 9, .k = 300, .transpose_a = true, .offset_c = 17 * 9};
    cuda::gemm(product, a.to(Device::cuda()), b.to(Device::cuda()), c);
    Tensor after = c.to(Device::cpu());
    CHECK(bit_equal(after.alias({17, 9}), before.alias({17, 9})));
    check_close(after.alias({17, 9}, 17 * 9).to(DType::kFloat64), exact, 1e-6);
    const Tensor bias = random_tensor({9}, 11, DType::kFloat32);
    Tensor sum = Tensor::full({17, 9}, NAN, DType::kFloat32, Device::cuda());
    product.offset_c = 0, product.bias = bias.to(Device::cuda());
    cuda::gemm(product, a.to(Device::cuda()), b.to(Device::cuda()), sum);
    check_close(sum.to(Device::cpu()).to(DType::kFloat64), add(exact, bias.to(DType::kFloat64)), 1e-6);
    product.k = 0;
    cuda::gemm(product, a.to(Device::cuda()), b.to(Device::cuda()), sum);
    CHECK(bit_equal(sum.to(Device::cpu()).alias({9}, 16 * 9), bias));
    CHECK_THROWS_AS(cuda::gemm(product, c, b.to(Device::cuda()), c), DTypeError);
  }
}

TEST_CASE("cuda: TF32 is off until it is allowed", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  if constexpr (kBuiltWithCuda) {
    REQUIRE_FALSE(cuda::allow_tf32());
    const Tensor a = random_tensor({64, 256}, 11, DType::kFloat32), b = random_tensor({256, 64}, 12, DType::kFloat32);
    const Tensor expected = matmul(a, b);
    cuda::set_allow_tf32(true);
    CHECK(cuda::allow_tf32());
    const Tensor rough = matmul(a.to(Device::cuda()), b.to(Device::cuda())).to(Device::cpu());
    cuda::set_allow_tf32(false);
    check_close(rough, expected, 2e-3);  // factors of 10 bits
    check_close(matmul(a.to(Device::cuda()), b.to(Device::cuda())).to(Device::cpu()), expected, 1e-6);
  }
}

TEST_CASE("cuda: each device has its own library", "[cuda][matmul]") {
  EQ_NEED_CUDA();
  if constexpr (kBuiltWithCuda) {
    const Tensor a = random_tensor({20, 30}, 13), b = random_tensor({30, 10}, 14), expected = matmul(a, b);
    for (int index = 0; index < cuda::device_count(); ++index) {
      const Device device = Device::cuda(index);
      check_close(matmul(a.to(device), b.to(device)).to(Device::cpu()), expected, 1e-14);
    }
  }
}
