// Folding a trained network: equal predictions, from the same file formats.
#include "training/fold.h"

#include "core/errors.h"
#include "core/safetensors.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;

TEST_CASE("a folded network predicts as before and has no equalizers", "[fold]") {
  const TemporaryFolder folder;
  for (const char* mode : {"explicit", "learnable"}) {
    for (const char* granularity : {"scalar", "channel"}) {
      CAPTURE(mode, granularity);
      const auto out = folder.path() / (std::string(mode) + granularity), file = folder.path() / "folded.safetensors";
      TrainRequest request{.out = out};
      request.log = nullptr;
      train(tiny_config({std::string("equalizer.mode=") + mode, std::string("equalizer.granularity=") + granularity}), request);
      TrainedModel trained = load_trained_model(out);
      CHECK(fold_equalizers(trained) == 2);
      save_weights(file, *trained.model, trained.card);
      for (const auto& [name, tensor] : read_safetensors(file).tensors) CHECK(name.find("equalizers") == std::string::npos);

      TrainedModel before = load_trained_model(out), after = load_trained_model(file);
      CHECK(after.config.model.equalizer.mode == "folded");
      const auto dataset = make_dataset(before.config.data, "val");
      const PredictionDifference difference = compare_predictions(before, after, *dataset, 0);
      CHECK(difference.pictures == 5);
      CHECK(difference.pixels == 5 * 64 * 64);
      CHECK(difference.changed_pixels == 0);
      CHECK(difference.largest < 1e-5);
      CHECK(difference.largest > 0);
      CHECK_THROWS_AS(fold_equalizers(after), UsageError);
    }
  }
}

TEST_CASE("differences of predictions are counted", "[fold]") {
  const TemporaryFolder folder;
  TrainRequest request{.out = folder.path() / "run"};
  request.log = nullptr;
  train(tiny_config(), request);
  TrainedModel a = load_trained_model(request.out), b = load_trained_model(request.out);
  for (auto& parameter : a.model->named_parameters()) {
    if (parameter.name == "decode_head.conv_seg.bias") parameter.tensor.data<float>()[2] += 1000;
  }
  for (auto& parameter : b.model->named_parameters()) {
    if (parameter.name == "decode_head.conv_seg.bias") parameter.tensor.data<float>()[5] += 500;
  }
  const auto dataset = make_dataset(a.config.data, "val");
  const PredictionDifference difference = compare_predictions(a, b, *dataset, 2);
  CHECK(difference.pictures == 2);
  CHECK(difference.changed_pixels == 2 * 64 * 64);
  CHECK(difference.largest == Approx(1000).epsilon(1e-4));
  CHECK_THROWS_AS(compare_predictions(a, b, *make_dataset(a.config.data, "train"), 0), UsageError);
}

TEST_CASE("sites without equalizers stay as they are, and nothing is measured anew of what was folded", "[fold]") {
  const TemporaryFolder folder;
  TrainRequest request{.out = folder.path() / "run"};
  request.log = nullptr;
  train(tiny_config({"equalizer.sites=[\"fpn_fusion\"]", "equalizer.refresh=4"}), request);
  TrainedModel trained = load_trained_model(request.out), before = load_trained_model(request.out);
  CHECK(fold_equalizers(trained) == 1);
  CHECK(trained.config.model.equalizer.refresh == 0);
  const auto dataset = make_dataset(before.config.data, "val");
  const PredictionDifference all = compare_predictions(before, trained, *dataset, 100);
  CHECK(all.pictures == 5);
  CHECK(all.largest < 1e-5);
  for (auto& parameter : trained.model->named_parameters()) {
    if (parameter.name == "decode_head.conv_seg.weight") parameter.tensor.data<float>()[0] += 1;
  }
  double largest = 0;
  for (int64_t limit = 1; limit <= 5; ++limit) {  // more pictures can only differ more
    const PredictionDifference some = compare_predictions(before, trained, *dataset, limit);
    CHECK(some.pictures == limit);
    CHECK(some.largest >= largest);
    largest = some.largest;
  }
  CHECK(compare_predictions(before, trained, *dataset, 0).largest == largest);
  before.config.model.equalizer.mode = "off";
  CHECK_THROWS_WITH(fold_equalizers(before), Catch::Contains("nothing to fold") && Catch::Contains("leave the folding out"));
}

TEST_CASE("a network with equalized sums trains, is loaded and predicts; it cannot be folded, and is left as it was", "[fold]") {
  const TemporaryFolder folder;
  TrainRequest request{.out = folder.path() / "run"};
  request.log = nullptr;
  train(
      tiny_config({"equalizer.mode=explicit", "equalizer.measure=in_turn", "equalizer.sites=[\"ppm_fusion\",\"top_down\",\"fpn_fusion\"]"}),
      request);
  TrainedModel trained = load_trained_model(request.out), before = load_trained_model(request.out);
  CHECK_THROWS_WITH(fold_equalizers(trained), Catch::Contains("no weights that could take") && Catch::Contains("top_down.0"));
  CHECK(trained.config.model.equalizer.mode == "explicit");
  CHECK(compare_predictions(before, trained, *make_dataset(before.config.data, "val"), 0).largest == 0);
}
