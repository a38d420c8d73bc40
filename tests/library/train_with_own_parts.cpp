// The stock trainer with a loss, an augmentation and data sets of one's own.
#include "programs.h"

#include "autograd/functional.h"
#include "core/random.h"
#include "training/trained_model.h"
#include "training/trainer.h"

using namespace eq;

namespace {

// A bright field left of a dark one.
class Fields : public Dataset {
 public:
  explicit Fields(int64_t size) : Dataset({"bright", "dark"}, {{240, 240, 240}, {20, 20, 20}}), size_(size) {}
  int64_t size() const override { return size_; }
  std::string describe(int64_t index) const override { return "field " + std::to_string(index); }
  RawSample load(int64_t index) const override {
    check_index(index);
    Random random(3, uint64_t(index));
    RawSample sample{.image = {64, 64, {}}, .labels = {64, 64, {}}, .name = std::to_string(index)};
    for (int64_t i = 0; i < 64 * 64; ++i) {
      const bool dark = i % 64 > 20 + index % 20;
      sample.labels.labels.push_back(dark);
      for (int c = 0; c < 3; ++c) sample.image.pixels.push_back(uint8_t((dark ? 40 : 160) + random.uniform_int(0, 60)));
    }
    return sample;
  }

 private:
  int64_t size_;
};

// Label smoothing (Szegedy et al. 2016), of pixels that all have a label.
Tensor smoothed(const Tensor& scores, const Tensor& labels) {
  return 0.9 * cross_entropy(scores, labels) - 0.1 * mean(log_softmax(scores));
}

void add_noise(RawSample& sample, Random& random) {
  for (uint8_t& value : sample.image.pixels) value = uint8_t(value / 2 + random.uniform_int(0, 64));
}

}  // namespace

void train_with_own_parts(const std::filesystem::path& folder) {
  const std::filesystem::path run = folder / "own_parts";
  std::filesystem::remove_all(run);
  const Config config = parse_config(R"({
    "pipeline": {"crop": [64, 64]},
    "model": {"backbone": {"width": 8}, "decode_head": {"type": "fcn", "channels": 8}},
    "train": {"iterations": 2, "batch_size": 2}})", "own parts");
  const Fields train_set(8), val_set(2);
  const TrainResult result = train(
      config, {.out = run, .log = nullptr, .loss = smoothed, .augment = add_noise, .train_set = &train_set, .val_set = &val_set});
  expect(result.own_parts.size() == 3, "the result, the log, summary.json and the card name them");
  expect(load_trained_model(run).card.own_parts == result.own_parts, "the card, too");
}
