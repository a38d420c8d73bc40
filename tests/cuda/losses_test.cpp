// dice_loss and hard_examples against the CPU; cross-entropy is in softmax_test.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "cuda/parity.h"
#include "ops/dice_loss_cases.h"
#include "ops/hard_examples_cases.h"
#include "ops/random_labels.h"

using namespace eq;
using namespace eq::test;

namespace {

// 255 would be one of many classes: they have the first label ignored.
template <class Options>
Options ignoring(Options options, int64_t classes, const Tensor& labels) {
  if (classes > 255) options.ignore_index = int64_t(labels.value_at(0));
  return options;
}

void check_dice(const cases::DiceLossCase& c) {
  const int64_t classes = c.logits.at(-1);
  const Tensor labels = random_labels(positions_of(c.logits), c.named > 0 ? c.named : classes, c.ignored, c.labels);
  // A mean's gradients are small: scaled back, the bounds hold relative to them.
  const double scale = double(labels.numel());
  const DiceLossOptions options = ignoring(c.options, classes, labels);
  const auto fn = [&](const std::vector<Tensor>& in) { return mul(dice_loss(in[0], in[1], options), scale); };
  check_parity(c.name, fn, {{random_tensor(c.logits, 1).mul_(3)}, {labels}}, {.bfloat16 = 2e-2});
}

// What each position's label gets of the softmax, in double precision; -1 where it is ignored.
std::vector<double> answers_of(const Tensor& logits, const Tensor& labels, int64_t ignore_index) {
  const std::vector<double> all = softmax(logits.to(DType::kFloat64)).to_vector<double>();
  const std::vector<int64_t> classes = labels.to(DType::kInt64).to_vector<int64_t>();
  std::vector<double> answers;
  for (size_t i = 0; i < classes.size(); ++i) {
    answers.push_back(classes[i] == ignore_index ? -1 : all[i * size_t(logits.size(-1)) + size_t(classes[i])]);
  }
  return answers;
}

// The probability below which positions are hard.
double limit_of(std::vector<double> answers, const HardExamplesOptions& options) {
  std::erase(answers, -1.0);
  std::sort(answers.begin(), answers.end());
  if (answers.empty()) return options.threshold;
  return std::max(options.threshold, answers[std::min(size_t(options.min_kept), answers.size() - 1)]);
}

// The devices' exponentials and the order of their sums differ, so that of positions as close to the limit as that either may stay.
void check_hard(const cases::HardExamplesCase& c) {
  constexpr double kRounding = 4e-6;
  INFO(c.name);
  const Tensor labels = random_labels(positions_of(c.logits), c.logits.at(-1), c.ignored, c.labels);
  const HardExamplesOptions options = ignoring(c.options, c.logits.at(-1), labels);
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    const Tensor logits = random_tensor(c.logits, 1).mul_(2).to(dtype);
    const Tensor expected = hard_examples(dtype == DType::kBFloat16 ? logits.to(DType::kFloat32) : logits, labels, options);
    const Tensor hard = hard_examples(logits.to(Device::cuda()), labels.to(Device::cuda()), options).to(Device::cpu());
    const std::vector<double> answers = answers_of(logits, labels, options.ignore_index);
    const double limit = limit_of(answers, options);
    int64_t wrong = 0;
    for (int64_t i = 0; i < labels.numel(); ++i) {
      wrong += hard.value_at(i) != expected.value_at(i) && !(std::abs(answers[size_t(i)] - limit) <= kRounding * limit);
    }
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_CASE("cuda: the Dice loss and its gradient", "[cuda][dice_loss]") {
  EQ_NEED_CUDA();
  for (const auto& c : cases::kDiceLossCases) check_dice(c);
}

TEST_CASE("cuda: the Dice loss over several blocks, lanes and long rows", "[cuda][dice_loss]") {
  EQ_NEED_CUDA();
  using Mean = DiceLossOptions::Mean;
  const cases::DiceLossCase large[] = {
      {"several blocks", {2, 10, 33, 19}},
      {"two a row", {40, 33}, DType::kInt32, {.squared = true}},
      {"four a row", {70, 96}},
      {"eight a row", {150, 150}, DType::kUInt8, {.mean = Mean::kAll, .smooth = 1}, 40},
      {"sixteen a row", {11, 255}},
      {"long rows", {5, 1000}, DType::kInt64, {.mean = Mean::kAll, .squared = true}, 300},
  };
  for (const auto& c : large) check_dice(c);
  // So many rows that a block goes through several tiles of them.
  const Tensor labels = random_labels({140000}, 2, 0.1, DType::kInt32);
  Tensor on_cpu = random_tensor({140000, 2}, 2, DType::kFloat32).set_requires_grad();
  Tensor on_gpu = on_cpu.detach().to(Device::cuda()).set_requires_grad();
  const Tensor expected = dice_loss(on_cpu, labels) * 1e5, loss = dice_loss(on_gpu, labels.to(Device::cuda())) * 1e5;
  CHECK(loss.item() == Approx(expected.item()).epsilon(1e-6));
  expected.backward();
  loss.backward();
  check_close(on_gpu.grad().to(Device::cpu()), on_cpu.grad(), 1e-6);
}

TEST_CASE("cuda: the Dice loss's gradient is scaled, and survives a second backward", "[cuda][dice_loss]") {
  EQ_NEED_CUDA();
  const Tensor labels = random_labels({40}, 7, 0.1, DType::kUInt8).to(Device::cuda());
  Tensor once = random_tensor({40, 7}, 4, DType::kFloat32).to(Device::cuda()).set_requires_grad();
  Tensor twice = once.detach().clone().set_requires_grad();
  (dice_loss(once, labels) * 3).backward();
  const Tensor loss = dice_loss(twice, labels);
  loss.backward({}, true);
  (loss * 2).backward();
  check_close(twice.grad().to(Device::cpu()), once.grad().to(Device::cpu()), 1e-7);
}

TEST_CASE("cuda: the Dice loss ignores NaN at ignored positions, and shows others", "[cuda][dice_loss]") {
  EQ_NEED_CUDA();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor labels = Tensor::from<uint8_t>({1, 255, 0}, {3}).to(Device::cuda());
  Tensor logits = Tensor::from<float>({1, 2, nan, nan, 3, 4}, {3, 2}).to(Device::cuda()).set_requires_grad();
  Tensor loss = dice_loss(logits, labels);
  loss.backward();
  CHECK(std::isfinite(loss.item()));
  for (int64_t i = 0; i < 6; ++i) CHECK((logits.grad().value_at(i) == 0) == (i == 2 || i == 3));
  logits = Tensor::from<float>({1, 2, 0, 0, nan, 4}, {3, 2}).to(Device::cuda()).set_requires_grad();
  loss = dice_loss(logits, labels);
  loss.backward();
  CHECK(std::isnan(loss.item()));
  CHECK(std::isnan(logits.grad().value_at(4)));
}

TEST_CASE("cuda: hard examples", "[cuda][hard_examples]") {
  EQ_NEED_CUDA();
  for (const auto& c : cases::kHardExamplesCases) check_hard(c);
  const cases::HardExamplesCase large[] = {
      {"lanes", {2, 31, 33}, DType::kUInt8, {.threshold = 1e-3, .min_kept = 20}},
      {"sixteen a row", {31, 255}, DType::kInt64, {.threshold = 1e-9, .min_kept = 11}},
      {"long rows", {30, 1000}, DType::kInt32, {.threshold = 1e-9, .min_kept = 7}},
  };
  for (const auto& c : large) check_hard(c);
}

TEST_CASE("cuda: hard examples keep what is no number", "[cuda][hard_examples]") {
  EQ_NEED_CUDA();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor logits = Tensor::from<float>({9, 0, nan, nan, 9, 0, nan, 1}, {4, 2}).to(Device::cuda());
  const Tensor labels = Tensor::from<uint8_t>({0, 0, 0, 255}, {4}).to(Device::cuda());
  const Tensor hard = hard_examples(logits, labels, {.threshold = 0.5, .min_kept = 0});
  CHECK(hard.to_vector<uint8_t>() == std::vector<uint8_t>{255, 0, 255, 255});
}

TEST_CASE("cuda: to the Dice loss and hard examples a bad label counts as ignored, and is reported", "[cuda][dice_loss][hard_examples]") {
  EQ_NEED_CUDA();
  const auto refused = [](const Tensor& value, const char* op) {
    try {
      value.to(Device::cpu());
      FAIL("no error");
    } catch (const DataError& error) {
      CHECK_THAT(error.what_happened(), Catch::Contains("label 200 ") && Catch::Contains("0 to 10"));
      CHECK_THAT(error.where(), Catch::Contains(op) && Catch::Contains("flat position 1234"));
    }
  };
  for (const DType dtype : {DType::kUInt8, DType::kInt32, DType::kInt64}) {
    Tensor values = Tensor::zeros({40, 50}, DType::kInt64), without = values.clone();
    for (const auto& [at, label] : {std::pair<int64_t, int64_t>{1234, 200}, {1999, 11}, {1700, 255}}) {
      values.data<int64_t>()[at] = label;
      without.data<int64_t>()[at] = 255;
    }
    const Tensor labels = values.to(dtype).to(Device::cuda()), ignored = without.to(dtype).to(Device::cuda());
    const Tensor logits = random_tensor({40, 50, 11}, 3, DType::kFloat32).to(Device::cuda());
    Tensor a = logits.clone().set_requires_grad(), b = logits.clone().set_requires_grad();
    const Tensor loss = dice_loss(a, labels), expected = dice_loss(b, ignored);
    loss.backward();
    refused(loss, "dice_loss");
    expected.backward();
    CHECK(loss.item() == expected.item());  // reported once
    CHECK(bit_equal(a.grad().to(Device::cpu()), b.grad().to(Device::cpu())));
    const HardExamplesOptions options{.threshold = 0.05, .min_kept = 100};
    const Tensor hard = hard_examples(logits, labels, options);
    refused(hard, "hard_examples");
    CHECK(bit_equal(hard.to(Device::cpu()), hard_examples(logits, ignored, options).to(Device::cpu())));
  }
  const Tensor none = Tensor::zeros({0, 3}, DType::kFloat32, Device::cuda()), no_labels = Tensor::zeros({0}, DType::kUInt8, Device::cuda());
  CHECK(dice_loss(none, no_labels).item() == 0);
  CHECK(hard_examples(none, no_labels).numel() == 0);
}
