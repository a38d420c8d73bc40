#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "cuda/parity.h"
#include "ops/cross_entropy_cases.h"
#include "ops/random_labels.h"

using namespace eq;
using namespace eq::test;
using Reduction = CrossEntropyOptions::Reduction;

namespace {

// bfloat16: values are rounded once; gradients are computed from the rounded value and rounded again.
const Accuracy kTwice{.bfloat16 = 1e-2};

void check_cross_entropy(const cases::CrossEntropyCase& c) {
  const int64_t classes = c.logits.at(-1);
  const Tensor labels = random_labels(positions_of(c.logits), classes, c.ignored, c.labels);
  const int64_t first = labels.numel() > 0 ? int64_t(labels.value_at(0)) : -1;  // what more than 255 classes have ignored
  Tensor weights;
  if (c.weighted) {
    weights = Tensor::empty({classes}, DType::kFloat64);
    for (int64_t k = 0; k < classes; ++k) weights.data<double>()[k] = 0.2 + double(k % 5);
  }
  // A mean's gradients are small: scaled back, the bounds hold relative to them.
  const double scale = c.reduction == Reduction::kSum ? 1 : double(labels.numel());
  const auto fn = [&](const std::vector<Tensor>& in) {
    CrossEntropyOptions options;
    options.reduction = c.reduction;
    options.class_weights = in[2];
    if (classes > 255) options.ignore_index = first;
    return mul(cross_entropy(in[0], in[1], options), scale);
  };
  check_parity(c.name, fn, {{random_tensor(c.logits, 1).mul_(3)}, {labels}, constant(weights)}, {.bfloat16 = 2e-2});
}

}  // namespace

TEST_CASE("cuda: softmax and log_softmax", "[cuda][softmax]") {
  EQ_NEED_CUDA();
  // One to 16 threads a row; rows of odd and even numbers of packs; tiles that are not full, and several of them.
  const Shape shapes[] = {{5, 1},   {4, 2},   {2, 3, 4, 11}, {2, 16},  {70, 19}, {33, 33},  {3, 128}, {3, 129}, {260, 3},
                          {9, 150}, {5, 255}, {2, 256},      {130, 9}, {2, 257}, {1, 1000}, {0, 3},   {129, 8}, {7, 24},
                          {66, 25}, {5, 40},  {34, 48},      {3, 96},  {9, 97},  {17, 192}, {2, 193}};
  for (const Shape& shape : shapes) {
    const Input x{random_tensor(shape, 1).mul_(3)};
    check_parity(
        "softmax " + to_string(shape), [](const std::vector<Tensor>& in) { return softmax(in[0]); }, {x}, kTwice);
    check_parity("log_softmax " + to_string(shape), [](const std::vector<Tensor>& in) { return log_softmax(in[0]); }, {x},
                 {.bfloat16 = 3e-2});
  }
}

TEST_CASE("cuda: softmax and cross-entropy of arrays that do not begin on 16 bytes", "[cuda][softmax][cross_entropy]") {
  EQ_NEED_CUDA();
  const auto behind_first = [](const Tensor& x) { return x.alias({x.size(0) - 1, x.size(1)}, x.size(1)); };
  const Tensor labels = random_labels({150}, 5, 0.1, DType::kUInt8).to(Device::cuda());
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    const Tensor whole = random_tensor({151, 5}, 1).to(dtype).to(Device::cuda()), aligned = behind_first(whole).clone();
    Tensor moved = behind_first(whole);
    CHECK(bit_equal(softmax(moved).to(Device::cpu()), softmax(aligned).to(Device::cpu())));
    const Tensor gradients[] = {moved.detach().set_requires_grad(), aligned.detach().set_requires_grad()};
    for (const Tensor& x : gradients) cross_entropy(x, labels).backward();
    CHECK(bit_equal(gradients[0].grad().to(Device::cpu()), gradients[1].grad().to(Device::cpu())));
  }
}

TEST_CASE("cuda: softmax stands huge, lonely and forbidden logits; a NaN spoils its own row and no other",
          "[cuda][softmax]") {
  EQ_NEED_CUDA();
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from<float>(
      {1000, 0, -1000, 3, -infinity, 3, -500, -500, -500, 1, nan, 2, infinity, 0, 0, -infinity, -infinity, -infinity},
      {6, 3});
  const std::vector<float> y = softmax(x.to(Device::cuda())).to_vector<float>(),
                           z = log_softmax(x.to(Device::cuda())).to_vector<float>();
  const std::vector<float> expected = {1, 0, 0, 0.5, 0, 0.5, 1 / 3.f, 1 / 3.f, 1 / 3.f};
  for (size_t i = 0; i < 9; ++i) CHECK(y[i] == Approx(expected[i]).margin(1e-7));
  for (size_t i = 9; i < 18; ++i) CHECK((std::isnan(y[i]) && std::isnan(z[i])));
  CHECK(z[1] == -1000);
  CHECK(z[4] == -infinity);
}

TEST_CASE("cuda: cross-entropy and its gradient", "[cuda][cross_entropy]") {
  EQ_NEED_CUDA();
  for (const auto& c : cases::kCrossEntropyCases) check_cross_entropy(c);
}

TEST_CASE("cuda: cross-entropy over several blocks and long rows", "[cuda][cross_entropy]") {
  EQ_NEED_CUDA();
  const cases::CrossEntropyCase large[] = {
      {"several blocks", {2, 10, 33, 19}, DType::kUInt8, Reduction::kMeanValid, true},
      {"long rows", {3, 1000}, DType::kInt64, Reduction::kMeanValid, true},
      {"labels of several chunks", {4500, 1}, DType::kUInt8, Reduction::kMeanValid, true},
      {"eight a thread", {11, 255}, DType::kUInt8, Reduction::kSum, true},
  };
  for (const auto& c : large) check_cross_entropy(c);
  // So many rows that a block goes through several tiles of them.
  const Tensor labels = random_labels({530000}, 2, 0.1, DType::kInt32);
  Tensor on_cpu = random_tensor({530000, 2}, 2, DType::kFloat32).set_requires_grad();
  Tensor on_gpu = on_cpu.detach().to(Device::cuda()).set_requires_grad();
  CrossEntropyOptions sum;
  sum.reduction = Reduction::kSum;
  const Tensor expected = cross_entropy(on_cpu, labels, sum), loss = cross_entropy(on_gpu, labels.to(Device::cuda()), sum);
  CHECK(loss.item() == Approx(expected.item()).epsilon(1e-6));
  expected.backward();
  loss.backward();
  check_close(on_gpu.grad().to(Device::cpu()), on_cpu.grad(), 1e-6);
}

TEST_CASE("cuda: cross-entropy's gradient is scaled, and survives a second backward", "[cuda][cross_entropy]") {
  EQ_NEED_CUDA();
  const Tensor labels = random_labels({40}, 7, 0.1, DType::kUInt8).to(Device::cuda());
  Tensor once = random_tensor({40, 7}, 4, DType::kFloat32).to(Device::cuda()).set_requires_grad();
  Tensor twice = once.detach().clone().set_requires_grad();
  (cross_entropy(once, labels) * 3).backward();
  const Tensor loss = cross_entropy(twice, labels);
  loss.backward({}, true);
  (loss * 2).backward();
  check_close(twice.grad().to(Device::cpu()), once.grad().to(Device::cpu()), 1e-7);
}

TEST_CASE("cuda: cross-entropy ignores NaN logits at ignored positions, and shows others", "[cuda][cross_entropy]") {
  EQ_NEED_CUDA();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor labels = Tensor::from<uint8_t>({1, 255, 0}, {3}).to(Device::cuda());
  Tensor logits = Tensor::from<float>({1, 2, nan, nan, 3, 4}, {3, 2}).to(Device::cuda()).set_requires_grad();
  Tensor loss = cross_entropy(logits, labels);
  loss.backward();
  CHECK(std::isfinite(loss.item()));
  CHECK(logits.grad().value_at(2) == 0);
  CHECK(logits.grad().value_at(3) == 0);
  logits = Tensor::from<float>({1, 2, 0, 0, nan, 4}, {3, 2}).to(Device::cuda()).set_requires_grad();
  loss = cross_entropy(logits, labels);
  loss.backward();
  CHECK(std::isnan(loss.item()));
  for (int64_t i = 0; i < 6; ++i) CHECK(std::isnan(logits.grad().value_at(i)) == (i >= 4));
}

TEST_CASE("cuda: a bad label counts as ignored; the next look at a value says which and where", "[cuda][cross_entropy]") {
  EQ_NEED_CUDA();
  for (const DType dtype : {DType::kUInt8, DType::kInt32, DType::kInt64}) {
    Tensor labels = Tensor::zeros({40, 50}, DType::kInt64), ignored = labels.clone();
    for (const auto& [at, label] : {std::pair<int64_t, int64_t>{1234, 200}, {1999, 11}, {1700, 255}}) {
      labels.data<int64_t>()[at] = label;
      ignored.data<int64_t>()[at] = 255;
    }
    for (const auto reduction : {Reduction::kMeanAll, Reduction::kMeanValid}) {
      CrossEntropyOptions options;
      options.reduction = reduction;
      const Tensor logits = random_tensor({40, 50, 11}, 3, DType::kFloat32).to(Device::cuda());
      Tensor a = logits.clone().set_requires_grad(), b = logits.clone().set_requires_grad();
      const Tensor loss = cross_entropy(a, labels.to(dtype).to(Device::cuda()), options);
      loss.backward();
      try {
        loss.item();
        FAIL("no error");
      } catch (const DataError& error) {
        CHECK_THAT(error.what_happened(), Catch::Contains("label 200 ") && Catch::Contains("0 to 10"));
        CHECK_THAT(error.where(), Catch::Contains("[40, 50]") && Catch::Contains("flat position 1234"));
      }
      const Tensor expected = cross_entropy(b, ignored.to(dtype).to(Device::cuda()), options);
      expected.backward();
      CHECK(loss.item() == expected.item());  // reported once
      CHECK(bit_equal(a.grad().to(Device::cpu()), b.grad().to(Device::cpu())));
    }
  }
  const Tensor negative = Tensor::from<int32_t>({0, -1}, {2}).to(Device::cuda());
  const Tensor loss = cross_entropy(Tensor::zeros({2, 3}, DType::kFloat32, Device::cuda()), negative);
  CHECK_THROWS_WITH(loss.item(), Catch::Contains("label -1 "));
  const Tensor none = cross_entropy(Tensor::zeros({0, 3}, DType::kFloat32, Device::cuda()),
                                    Tensor::zeros({0}, DType::kUInt8, Device::cuda()));
  CHECK(none.item() == 0);
}
