#include "core/kernels/resize.h"

#include "autograd/functional.h"
#include "cuda/parity.h"
#include "ops/resize_cases.h"

using namespace eq;
using namespace eq::test;
using cases::ResizeCase;

namespace {

// Several rectangles of pixels and columns of packs; many outputs per cell along both axes, and along one; one channel.
constexpr ResizeCase kMoreCases[] = {
    {1, 1, 1, 8, 24, 20, false},   {2, 2, 3, 16, 33, 41, true}, {1, 3, 2, 3, 50, 20, false}, {1, 2, 20, 8, 60, 20, false},
    {1, 19, 35, 8, 37, 70, false}, {2, 9, 40, 1, 18, 70, true}, {1, 4, 5, 264, 7, 9, false}, {1, 70, 2, 1, 1, 40, false},
};

std::string name_of_case(const char* op, const ResizeCase& k) {
  return std::string(op) + " " + to_string(Shape{k.n, k.h, k.w, k.c}) + " to " + to_string(Shape{k.out_h, k.out_w}) +
         (k.align_corners ? ", aligned corners" : "");
}

void check_bilinear(const ResizeCase& k) {
  check_parity(name_of_case("bilinear", k),
               [&](const std::vector<Tensor>& in) { return resize_bilinear(in[0], k.out_h, k.out_w, k.align_corners); },
               {{random_tensor({k.n, k.h, k.w, k.c}, 1)}});
}
void check_nearest(const ResizeCase& k) {
  check_parity(name_of_case("nearest", k),
               [&](const std::vector<Tensor>& in) { return resize_nearest(in[0], k.out_h, k.out_w); },
               {{random_tensor({k.n, k.h, k.w, k.c}, 1)}});
}

}  // namespace

TEST_CASE("cuda: bilinear resizing", "[cuda][resize]") {
  EQ_NEED_CUDA();
  for (const ResizeCase& k : cases::kResize) check_bilinear(k);
  for (const ResizeCase& k : kMoreCases) check_bilinear(k);
}

TEST_CASE("cuda: nearest resizing", "[cuda][resize]") {
  EQ_NEED_CUDA();
  for (const ResizeCase& k : cases::kResize) check_nearest(k);
  for (const ResizeCase& k : kMoreCases) check_nearest(k);
}

TEST_CASE("cuda: nearest resizing copies every element type, at every alignment", "[cuda][resize]") {
  EQ_NEED_CUDA();
  for (DType dtype :
       {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64, DType::kUInt8, DType::kBool, DType::kBFloat16}) {
    for (int64_t channels : {1, 2, 3, 8, 24}) {
      for (int64_t offset : {0, 1}) {
        INFO(name_of(dtype) << ", " << channels << " channels, " << offset << " elements in");
        const Shape shape = {2, 3, 5, channels};
        const Tensor here = Tensor::empty({shape.numel() + offset}, dtype);
        auto* bytes = static_cast<unsigned char*>(here.raw_data());
        for (size_t i = 0; i < here.bytes(); ++i)
          bytes[i] = dtype == DType::kBool ? i % 3 == 0 : (unsigned char)(i * 37 + i / 5);
        const Tensor there = here.to(Device::cuda());
        CHECK(bit_equal(resize_nearest(there.alias(shape, offset), 7, 4).to(Device::cpu()),
                        resize_nearest(here.alias(shape, offset), 7, 4)));
      }
    }
  }
}

TEST_CASE("cuda: bilinear resizing to the same size is a copy, and does not spread an infinity", "[cuda][resize]") {
  EQ_NEED_CUDA();
  Tensor x = random_tensor({1, 6, 5, 8}, 1, DType::kFloat32);
  x.data<float>()[83] = INFINITY;
  for (bool align_corners : {false, true}) {
    CHECK(bit_equal(resize_bilinear(x.to(Device::cuda()), 6, 5, align_corners).to(Device::cpu()), x));
    const Tensor y = resize_bilinear(x.to(Device::cuda()), 11, 9, align_corners).to(Device::cpu());
    const Tensor expected = resize_bilinear(x, 11, 9, align_corners);
    for (int64_t i = 0; i < y.numel(); ++i) CHECK(std::isfinite(y.value_at(i)) == std::isfinite(expected.value_at(i)));
  }
}

TEST_CASE("cuda: resizing of memory that is not on 16 bytes", "[cuda][resize]") {
  EQ_NEED_CUDA();
  const Shape shape = {1, 5, 6, 8};
  const Tensor here = random_tensor({shape.numel() + 1}, 1, DType::kFloat32), there = here.to(Device::cuda());
  check_close(resize_bilinear(there.alias(shape, 1), 9, 11, false).to(Device::cpu()),
              resize_bilinear(here.alias(shape, 1), 9, 11, false), 1e-6);
}

TEST_CASE("cuda: resizing of no image", "[cuda][resize]") {
  EQ_NEED_CUDA();
  Tensor x = Tensor::empty({0, 3, 4, 5}, DType::kFloat32, Device::cuda());
  CHECK(resize_bilinear(x, 6, 8, false).shape() == Shape{0, 6, 8, 5});
  CHECK(resize_nearest(x, 6, 8).shape() == Shape{0, 6, 8, 5});
  x.set_requires_grad();
  resize_bilinear(x, 6, 8, false).backward(Tensor::empty({0, 6, 8, 5}, DType::kFloat32, Device::cuda()));
  CHECK(x.grad().shape() == x.shape());
}
