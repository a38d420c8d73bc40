#include "autograd/functional.h"
#include "core/random.h"
#include "cuda/parity.h"

using namespace eq;
using namespace eq::test;

namespace {

constexpr uint64_t kSeed = 0x123456789ABCDEF0, kStream = 0xFEDCBA9876543210;  // reach the upper halves of key and counter

}  // namespace

TEST_CASE("cuda: dropout", "[cuda][dropout]") {
  EQ_NEED_CUDA();
  for (const Shape& shape : {Shape{1}, Shape{3, 70}, Shape{64}, Shape{1003}, Shape{0, 4}}) {
    check_parity(to_string(shape), [](const std::vector<Tensor>& in) { return dropout(in[0], 0.3, kSeed, kStream); },
                 {{random_tensor(shape, 1)}}, {.float32 = 2e-7, .bfloat16 = 4e-3});
  }
  check_parity("a view", [](const std::vector<Tensor>& in) { return dropout(slice(in[0], 0, 1, 700), 0.5, 1, 2); },
               {{random_tensor({701}, 1)}}, {.float32 = 2e-7, .bfloat16 = 4e-3});
}

TEST_CASE("cuda: channel dropout", "[cuda][dropout]") {
  EQ_NEED_CUDA();
  for (const Shape& shape : {Shape{2, 3, 3, 9}, Shape{3, 4, 5, 16}, Shape{5, 21}, Shape{2, 7, 64}, Shape{1, 4, 2, 8},
                             Shape{3, 1, 24}, Shape{0, 4}}) {
    check_parity(to_string(shape), [](const std::vector<Tensor>& in) { return channel_dropout(in[0], 0.4, kSeed, kStream); },
                 {{random_tensor(shape, 1)}}, {.float32 = 2e-7, .bfloat16 = 4e-3});
  }
}

TEST_CASE("cuda: dropout's mask has the same bits as the CPU's, whatever it masks", "[cuda][dropout]") {
  EQ_NEED_CUDA();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    const Tensor x = Tensor::full({2, 33, 20}, 0.5, dtype).to(Device::cuda());
    for (const double p : {0.5, 0.1, 0.7}) {
      const Tensor y = dropout(x, p, 3, 4), z = channel_dropout(x, p, 3, 4);
      const Tensor here = y.to(Device::cpu()), channels = z.to(Device::cpu());
      int64_t wrong = 0;
      for (int64_t i = 0; i < x.numel(); ++i) {
        wrong += (here.value_at(i) != 0) != (double(uniform_at(3, 4, uint64_t(i))) >= p);
        wrong += (channels.value_at(i) != 0) != (double(uniform_at(3, 4, uint64_t(i / 660 * 20 + i % 20))) >= p);
      }
      CHECK(wrong == 0);
    }
  }
  const Tensor nan = Tensor::full({64}, NAN, DType::kFloat32, Device::cuda());
  const std::vector<float> y = dropout(nan, 0.5, 1, 2).to_vector<float>();
  for (size_t i = 0; i < y.size(); ++i) CHECK((uniform_at(1, 2, i) >= 0.5f ? std::isnan(y[i]) : y[i] == 0));
}
