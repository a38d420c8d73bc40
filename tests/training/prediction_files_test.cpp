// Predictions as files.
#include "training/prediction_files.h"

#include <algorithm>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "support.h"
#include "training/evaluator.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

TrainRequest silent(const fs::path& out) {
  TrainRequest request{.out = out};
  request.log = nullptr;
  return request;
}

}  // namespace

TEST_CASE("predictions are written for pictures of any size, under names of their own", "[predict]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run", pictures = folder.path() / "pictures";
  train(tiny_config({"train.iterations=1"}), silent(out));
  fs::create_directory(pictures);
  write_png(pictures / "a.png", Image{50, 70, std::vector<uint8_t>(50 * 70 * 3, 90)});
  fs::create_directory(pictures / "deeper");
  write_png(pictures / "deeper" / "a.png", Image{33, 20, std::vector<uint8_t>(33 * 20 * 3, 9)});
  write_file(pictures / "notes.txt", "no picture");
  TrainedModel trained = load_trained_model(out);
  const PictureList list = list_pictures({pictures, pictures / "deeper" / "a.png"});
  CHECK(list.left_out == std::vector<fs::path>{pictures / "notes.txt"});
  const std::vector<PictureFile>& listed = list.pictures;
  REQUIRE(listed.size() == 3);
  const auto files = predict_files(trained, listed, folder.path() / "predicted");
  REQUIRE(files.size() == 3);
  // Those of folders keep their place in it; a picture that is given by name has none, and gets a name of its own.
  CHECK(files[0].labels == folder.path() / "predicted" / "a.png");
  CHECK(files[1].labels == folder.path() / "predicted" / "deeper" / "a.png");
  CHECK(files[2].labels == folder.path() / "predicted" / "a-2.png");
  const LabelMap labels = read_label_map(files[0].labels);
  CHECK(labels.height == 50);
  CHECK(labels.width == 70);
  CHECK(labels.labels == predict_labels(trained, read_image(listed[0].file)).labels);
  CHECK(*std::max_element(labels.labels.begin(), labels.labels.end()) < 8);
  CHECK(read_image(files[1].overlay).height == 33);
  // Predicted into their own folder, pictures would be overwritten: nothing is written at all.
  const std::string before = read_file(pictures / "a.png");
  fs::create_directory_symlink(pictures, folder.path() / "link");
  CHECK_THROWS_WITH(predict_files(trained, {pictures / "deeper" / "a.png", pictures / "a.png"}, folder.path() / "link"),
                    Contains("overwrite") && Contains("another folder"));
  CHECK_THROWS_AS(predict_files(trained, {pictures / "a.png"}, pictures), UsageError);
  CHECK_THROWS_AS(predict_files(trained, listed, ""), UsageError);
  CHECK_NOTHROW(predict_files(trained, listed, folder.path() / "predicted"));  // an earlier prediction is replaced
  fs::create_directory(folder.path() / "labels");
  write_file(folder.path() / "labels" / "a.png", "a label map");  // no overlay is beside it
  CHECK_THROWS_WITH(predict_files(trained, listed, folder.path() / "labels"),
                    Contains("no earlier prediction") && Contains("labels/a.png"));
  CHECK(read_file(folder.path() / "labels" / "a.png") == "a label map");
  // Stopped, it has done whole pictures.
  int64_t asked = 0;
  const auto some = predict_files(trained, listed, folder.path() / "stopped", {.stop = [&] { return ++asked > 1; }});
  REQUIRE(some.size() == 1);
  CHECK(some[0].picture == files[0].picture);
  CHECK(fs::exists(some[0].overlay));
  CHECK_FALSE(fs::exists(folder.path() / "stopped" / "deeper"));
  // What cannot be written is no fault of the pictures.
  write_file(folder.path() / "file", "");
  CHECK_THROWS_AS(predict_files(trained, listed, folder.path() / "file" / "below", {},
                                [](const PredictedFiles&, const Error*) { FAIL_CHECK("called"); }),
                  IoError);
  // A picture that cannot be read: the others are predicted where someone hears of it.
  write_file(pictures / "broken.png", read_file(pictures / "a.png").substr(0, 60));
  CHECK_THROWS_AS(predict_files(trained, {pictures / "broken.png", pictures / "a.png"}, folder.path() / "some"), DataError);
  std::vector<bool> failed;
  predict_files(trained, {pictures / "broken.png", pictures / "a.png"}, folder.path() / "some", {},
                [&](const PredictedFiles&, const Error* error) { failed.push_back(error != nullptr); });
  CHECK(failed == std::vector<bool>{true, false});
  CHECK(fs::exists(folder.path() / "some" / "a.png"));
  CHECK(read_file(pictures / "a.png") == before);
  CHECK_FALSE(fs::exists(pictures / "a_overlay.png"));
  CHECK_THROWS_AS(list_pictures({folder.path() / "nowhere"}), IoError);
  // Predictions in the folder of the pictures are not predicted in turn.
  predict_files(trained, {pictures / "a.png"}, pictures / "predicted");
  fs::create_directory(pictures / ".hidden");
  write_file(pictures / ".hidden" / "a.png", "");
  CHECK(list_pictures({pictures}).pictures.size() == 5);
  const PictureList again = list_pictures({pictures}, folder.path() / "link" / "predicted");
  REQUIRE(again.pictures.size() == 3);
  CHECK(again.pictures[1].file == pictures / "broken.png");
  CHECK(again.pictures[2].below == "deeper");
  // A folder of predictions that is no part of the pictures' folder takes nothing from it.
  CHECK(list_pictures({pictures / "deeper"}, pictures).pictures.size() == 1);
  CHECK(list_pictures({pictures / "deeper"}, pictures / "deeper").pictures.size() == 1);
  CHECK_THROWS_AS(list_pictures({out / "checkpoint"}), DataError);
}

TEST_CASE("a picture that is too small for the network is named, and stops no other", "[predict]") {
  TemporaryFolder folder;
  const Config config = tiny_config({"train.iterations=1", "model.backbone.type=convnext", "model.backbone.multiplier=0.0625"});
  train(config, silent(folder.path() / "run"));
  TrainedModel trained = load_trained_model(folder.path() / "run");
  const fs::path small = folder.path() / "small.png", large = folder.path() / "large.png";
  write_png(small, Image{31, 70, std::vector<uint8_t>(31 * 70 * 3, 90)});
  write_png(large, Image{32, 70, std::vector<uint8_t>(32 * 70 * 3, 90)});
  CHECK_THROWS_WITH(predict_files(trained, {small, large}, folder.path() / "out"),
                    Contains("needs 32 pixels a side") && Contains("small.png"));
  std::vector<bool> failed;
  predict_files(trained, {small, large}, folder.path() / "out", {},
                [&](const PredictedFiles&, const Error* error) { failed.push_back(error != nullptr); });
  CHECK(failed == std::vector<bool>{true, false});
  CHECK(fs::exists(folder.path() / "out" / "large.png"));

  const auto dataset = make_dataset(config.data, "val");
  EvalRequest request{.options = config.evaluate, .pipeline = config.pipeline};
  request.pipeline.test_scale = {20, 20};
  CHECK_THROWS_WITH(evaluate(*trained.model, *dataset, request), Contains("too small for convnext") && Contains(dataset->describe(0)));
}

TEST_CASE("probabilities are written beside, of one view and of several", "[predict]") {
  TemporaryFolder folder;
  train(tiny_config({"train.iterations=1"}), silent(folder.path() / "run"));
  const fs::path picture = folder.path() / "a.png";
  write_png(picture, Image{50, 70, std::vector<uint8_t>(50 * 70 * 3, 90)});
  for (const bool flip : {false, true}) {
    CAPTURE(flip);
    TrainedModel trained = load_trained_model(folder.path() / "run", {flip ? "evaluate.flip=true" : "evaluate.flip=false"});
    const PredictedFiles files = predict_files(trained, {picture}, folder.path() / "out", {.probabilities = true})[0];
    const WeightsFile file = read_safetensors(files.probabilities);
    CHECK(file.metadata.at("classes").starts_with("background\n"));
    const Tensor probabilities = file.tensors.at("probabilities");
    REQUIRE(probabilities.shape() == Shape{8, 50, 70});
    const Tensor sums = sum(probabilities, {0});
    CHECK(max(reshape(abs(sums - 1), {-1}), 0).item() < 1e-6);
    const std::vector<int64_t> classes = argmax(permute(probabilities, {1, 2, 0}), -1).to_vector<int64_t>();
    const std::vector<uint8_t> written = read_label_map(files.labels).labels;
    CHECK(std::equal(classes.begin(), classes.end(), written.begin(), written.end()));
    CHECK(written == predict_labels(trained, read_image(picture)).labels);
  }
  // Alone, the file of probabilities is no earlier prediction.
  fs::create_directory(folder.path() / "other");
  fs::rename(folder.path() / "out" / "a_probabilities.safetensors", folder.path() / "other" / "a_probabilities.safetensors");
  TrainedModel trained = load_trained_model(folder.path() / "run");
  CHECK_THROWS_WITH(predict_files(trained, {picture}, folder.path() / "other", {.probabilities = true}), Contains("no earlier prediction"));
}

TEST_CASE("classes are written as the values of the data set's label files", "[predict]") {
  TemporaryFolder folder;
  train(tiny_config({"train.iterations=1"}), silent(folder.path() / "run"));
  const fs::path picture = folder.path() / "a.png";
  write_png(picture, Image{50, 70, std::vector<uint8_t>(50 * 70 * 3, 90)});
  TrainedModel trained = load_trained_model(folder.path() / "run");
  const auto labels = [&] {
    return read_label_map(predict_files(trained, {picture}, folder.path() / "out", {.label_values = true})[0].labels).labels;
  };
  std::vector<uint8_t> classes = predict_labels(trained, read_image(picture)).labels;
  CHECK(labels() == classes);
  trained.config.data.label_map.preset = "minus_one_zero_ignored";
  for (uint8_t& label : classes) ++label;
  CHECK(labels() == classes);
  trained.config.data.label_map = {.preset = "", .entries = {{7, 0}, {8, 0}}, .other = "keep"};
  CHECK_THROWS_WITH(labels(), Contains("more than one value of label files means class 0"));
}
