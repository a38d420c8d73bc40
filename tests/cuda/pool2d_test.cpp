#include <limits>

#include "autograd/functional.h"
#include "core/allocator.h"
#include "cuda/parity.h"
#include "ops/pool2d_cases.h"

using namespace eq;
using namespace eq::test;

namespace {

std::string text(int64_t h, int64_t w, int64_t c, int64_t kernel_h, int64_t kernel_w) {
  return std::to_string(h) + " x " + std::to_string(w) + " x " + std::to_string(c) + ", windows " +
         std::to_string(kernel_h) + " x " + std::to_string(kernel_w);
}

// bfloat16: values and gradients are rounded once.
const Accuracy kOnce{.bfloat16 = 4e-3};

void check_average(const cases::Pool2dCase& k) {
  check_parity(
      "average " + text(k.h, k.w, k.c, k.options.kernel_h, k.options.kernel_w),
      [&](const std::vector<Tensor>& in) { return avg_pool2d(in[0], k.options); },
      {{random_tensor({k.n, k.h, k.w, k.c}, 2)}}, kOnce);
}

}  // namespace

TEST_CASE("cuda: max and average pooling", "[cuda][pool2d]") {
  EQ_NEED_CUDA();
  for (const cases::Pool2dCase& k : cases::kPool2d) {
    // bfloat16 has ties: the first must be taken.
    check_parity(
        "max " + text(k.h, k.w, k.c, k.options.kernel_h, k.options.kernel_w),
        [&](const std::vector<Tensor>& in) { return max_pool2d(in[0], k.options); },
        {{distinct_tensor({k.n, k.h, k.w, k.c}, 1)}}, kOnce);
    check_average(k);
  }
}

TEST_CASE("cuda: average pooling over large windows", "[cuda][pool2d]") {
  EQ_NEED_CUDA();
  const cases::Pool2dCase all[] = {{2, 13, 11, 24, {5, 4, 3, 2, 2, 1, true, true}},
                                   {1, 9, 9, 300, {7, 7, 2, 2, 3, 3, false, false}},
                                   {1, 8, 8, 5, {8, 8, 1, 1, 0, 0, false, true}},
                                   {2, 6, 6, 16, {6, 6, 6, 6, 3, 3, false, true}}};
  for (const cases::Pool2dCase& k : all) check_average(k);
}

TEST_CASE("cuda: adaptive pooling", "[cuda][pool2d]") {
  EQ_NEED_CUDA();
  std::vector<cases::AdaptivePoolCase> all(std::begin(cases::kAdaptivePool), std::end(cases::kAdaptivePool));
  all.insert(all.end(), {{1, 33, 20, 40, 2, 3}, {2, 32, 64, 8, 1, 1}, {0, 4, 4, 3, 2, 2}});
  for (const cases::AdaptivePoolCase& k : all) {
    check_parity(
        text(k.h, k.w, k.c, k.out_h, k.out_w),
        [&](const std::vector<Tensor>& in) { return adaptive_avg_pool2d(in[0], k.out_h, k.out_w); },
        {{random_tensor({k.n, k.h, k.w, k.c}, 3)}}, kOnce);
  }
}

// Hidden, since it takes 9 GB and the simulator minutes: test_cuda "[large]".
TEST_CASE("cuda: max pooling of more packs than 32 bits can count", "[.large]") {
  EQ_NEED_CUDA();
  const Shape shape = {33, 8192, 8192, 1};
  try {
    Tensor x = Tensor::zeros(shape, DType::kBFloat16, Device::cuda());
    const int64_t image = x.numel() / 33, places[] = {0, 31 * image - 1, 31 * image, x.numel() - 1};  // 31 images are the first launch's
    for (int64_t i = 0; i < 4; ++i) x.alias({1}, places[i]).fill_(double(i + 1));
    const Tensor y = max_pool2d(x, Pool2dOptions::square(1, 1, 0));
    for (int64_t i = 0; i < 4; ++i) CHECK(y.value_at(places[i]) == double(i + 1));
    CHECK(y.value_at(places[3] - 1) == 0);
  } catch (const OutOfMemoryError& error) {
    WARN("SKIPPED: " << error.what());
  }
  allocator(Device::cuda()).release_cached();
}

TEST_CASE("cuda: max pooling lets NaN win, like the CPU", "[cuda][pool2d]") {
  EQ_NEED_CUDA();
  Tensor x = random_tensor({1, 6, 6, 5}, 4, DType::kFloat32);
  for (const int64_t i : {7, 8, 44, 90, 91, 92}) x.data<float>()[i] = std::numeric_limits<float>::quiet_NaN();
  const Pool2dOptions options = Pool2dOptions::square(3, 2, 1);
  Tensor here = x.clone().set_requires_grad(), there = x.to(Device::cuda()).set_requires_grad();
  const Tensor a = max_pool2d(here, options), b = max_pool2d(there, options);
  CHECK(bit_equal(b.detach().to(Device::cpu()), a.detach()));
  const Tensor grad = random_tensor(a.shape(), 5, DType::kFloat32);
  a.backward(grad);
  b.backward(grad.to(Device::cuda()));
  CHECK(bit_equal(there.grad().to(Device::cpu()), here.grad()));
}
