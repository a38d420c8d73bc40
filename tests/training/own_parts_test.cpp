// Runs with a loss, an augmentation and data sets of the program's own.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/random.h"
#include "support.h"
#include "training/evaluator.h"
#include "training/interrupted.h"
#include "training/tiny.h"
#include "training/trained_model.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

// Left and right halves of pictures of noise, the right one brighter.
class Halves : public Dataset {
 public:
  explicit Halves(int64_t size, std::vector<std::string> names = {"left", "right"})
      : Dataset(std::move(names), {{0, 0, 0}, {255, 255, 255}}), size_(size) {}
  int64_t size() const override { return size_; }
  std::string describe(int64_t index) const override { return "halves " + std::to_string(index); }
  RawSample load(int64_t index) const override {
    check_index(index);
    Random random(5, uint64_t(index));
    RawSample sample{.image = {64, 64, {}}, .labels = {64, 64, {}}, .name = std::to_string(index)};
    for (int64_t i = 0; i < 64 * 64; ++i) {
      const bool right = i % 64 >= 32;
      sample.labels.labels.push_back(right);
      for (int c = 0; c < 3; ++c) sample.image.pixels.push_back(uint8_t((right ? 150 : 50) + random.uniform_int(0, 50)));
    }
    return sample;
  }

 private:
  int64_t size_;
};

}  // namespace

TEST_CASE("classes of the program's own have names in plain text", "[trainer]") {
  struct Set : Dataset {
    explicit Set(const std::string& name) : Dataset({name, "right"}, {}) {}
    int64_t size() const override { return 1; }
    std::string describe(int64_t) const override { return ""; }
    RawSample load(int64_t) const override { return {}; }
  };
  CHECK_NOTHROW(Set("Bl\xc3\xa4tter"));
  CHECK_THROWS_WITH(Set("Bl\xe4tter"), Contains("class name is not UTF-8"));
  CHECK_THROWS_AS(Set("a\nb"), UsageError);
}

TEST_CASE("each class of the program's own has a colour: PASCAL VOC's where none is given", "[trainer]") {
  struct Set : Dataset {
    explicit Set(Palette palette) : Dataset({"a", "b", "c"}, std::move(palette)) {}
    int64_t size() const override { return 1; }
    std::string describe(int64_t) const override { return ""; }
    RawSample load(int64_t) const override { return {}; }
  };
  CHECK(Set({}).palette() == voc_palette());
  CHECK(Set({{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}).palette().size() == 3);
  CHECK_THROWS_WITH(Set({{1, 2, 3}, {4, 5, 6}}), Contains("there are 2 colours for 3 classes"));
}

TEST_CASE("a run with parts of the program's own says so, and goes on with such only", "[trainer]") {
  const TemporaryFolder folder;
  const auto with_parts = [&](TrainRequest request) {
    request.loss = [](const Tensor& scores, const Tensor& labels) { return cross_entropy(scores, labels) + 0.5 * dice_loss(scores, labels); };
    request.augment = [](RawSample& sample, Random& random) {
      const int shift = int(random.uniform_int(-20, 21));
      for (uint8_t& value : sample.image.pixels) value = uint8_t(std::clamp(value + shift, 0, 255));
    };
    return request;
  };
  const TrainResult stock = train(tiny_config(), quiet(folder.path() / "stock"));
  const TrainResult whole = train(tiny_config(), with_parts(quiet(folder.path() / "whole")));
  CHECK(stock.own_parts.empty());
  CHECK(whole.own_parts == std::vector<std::string>{"loss", "augmentation"});
  CHECK(whole.weights_sha256 != stock.weights_sha256);
  CHECK(nlohmann::json::parse(read_file(folder.path() / "whole" / "summary.json"))["own_parts"] == whole.own_parts);
  CHECK_FALSE(nlohmann::json::parse(read_file(folder.path() / "stock" / "summary.json")).contains("own_parts"));
  CHECK_THAT(read_file(folder.path() / "whole" / "log.txt"), Contains("of the program's own, not in config.json: loss, augmentation"));
  CHECK(load_trained_model(folder.path() / "whole").card.own_parts == whole.own_parts);

  const fs::path cut = folder.path() / "cut";
  CHECK_THROWS_AS(train(tiny_config(), with_parts(crash_after(cut, 4))), Crash);
  CHECK_THROWS_WITH(train(tiny_config(), quiet(cut, true)), Contains("the run has had: loss, augmentation; now: none"));
  CHECK(train(tiny_config(), with_parts(quiet(cut, true))).weights_sha256 == whole.weights_sha256);
  CHECK_THROWS_WITH(train(tiny_config({"train.iterations=7"}), with_parts(quiet(folder.path() / "stock", true))), Contains("now: loss"));
}

TEST_CASE("a run on data sets of the program's own", "[trainer]") {
  const Halves train_set(6), val_set(3);
  const TemporaryFolder folder;
  const auto on_halves = [&](TrainRequest request) {
    request.train_set = &train_set;
    request.val_set = &val_set;
    return request;
  };
  const Config config = tiny_config({"data.checks=true", "model.auxiliary_head=null"});
  const fs::path whole = folder.path() / "whole", cut = folder.path() / "cut";
  const TrainResult result = train(config, on_halves(quiet(whole)));
  CHECK(result.own_parts == std::vector<std::string>{"data"});
  CHECK(result.metrics.classes.size() == 2);
  CHECK_THAT(read_file(whole / "log.txt"), Contains("on data of the program's own (2 classes)") && Contains("6 pictures to train on"));
  TrainedModel trained = load_trained_model(whole);
  CHECK(trained.card.class_names == train_set.class_names());
  CHECK(evaluate(*trained.model, val_set, {.options = config.evaluate, .pipeline = config.pipeline}).metrics.miou == result.metrics.miou);
  CHECK_THROWS_AS(train(config, on_halves(crash_after(cut, 4))), Crash);
  CHECK_THROWS_WITH(train(config, quiet(cut, true)), Contains("has had: data; now: none"));
  CHECK(train(config, on_halves(quiet(cut, true))).weights_sha256 == result.weights_sha256);
  TrainRequest half = quiet(folder.path() / "half");
  half.train_set = &train_set;
  CHECK_THROWS_WITH(train(config, half), Contains("the other is not"));

  // What the evaluation would refuse is refused before the first step.
  const Halves turned(3, {"right", "left"}), nothing(0), endless(Dataset::kEndless);
  const std::pair<const Halves*, const char*> wrong[] = {
      {&turned, "other classes"}, {&nothing, "no pictures to evaluate on"}, {&endless, "an endless set"}};
  for (const auto& [set, message] : wrong) {
    TrainRequest request = on_halves(quiet(folder.path() / message));
    request.val_set = set;
    request.on_step = [](const StepReport&) { FAIL("a step was made"); };
    CHECK_THROWS_WITH(train(config, request), Contains(message));
    CHECK_FALSE(holds_run(folder.path() / message));
  }
}
