// The built-in pictures as files, what is measured of a set, and sheets of pictures.
#include "datasets/shapes_files.h"

#include <cmath>

#include "core/errors.h"
#include "core/parallel.h"
#include "datasets/contact_sheet.h"
#include "datasets/inspect.h"
#include "datasets/shapes.h"
#include "support.h"

using namespace eq;
using Catch::Contains;
using eq::test::TemporaryFolder;

namespace {

DataOptions few_shapes() {
  DataOptions shapes;
  shapes.size = 64;
  shapes.train_images = 5;
  shapes.val_images = 3;
  return shapes;
}

}  // namespace

TEST_CASE("shapes written as files are the built-in ones", "[shapes]") {
  const TemporaryFolder folder;
  DataOptions shapes = few_shapes();
  shapes.difficulty.noise = 20;
  const DataOptions files = write_shapes(shapes, kShapesSeed, folder.path() / "set");
  for (const char* split : {"train", "val"}) {
    const auto built_in = make_dataset(shapes, split), written = make_dataset(files, split);
    REQUIRE(written->size() == built_in->size());
    CHECK(written->class_names() == built_in->class_names());
    CHECK(written->palette() == built_in->palette());
    CHECK(written->left_out().empty());
    for (int64_t i = 0; i < written->size(); ++i) {
      CHECK(written->load(i).image.pixels == built_in->load(i).image.pixels);
      CHECK(written->load(i).labels.labels == built_in->load(i).labels.labels);
    }
  }
  CHECK(make_dataset(write_shapes(shapes, 9, folder.path() / "other"), "val")->load(0).image.pixels !=
        make_dataset(files, "val")->load(0).image.pixels);
  CHECK_THROWS_AS(write_shapes(shapes, 8, folder.path() / "set"), UsageError);  // not empty
  shapes.train_images = 0;
  CHECK_THROWS_AS(write_shapes(shapes, 8, folder.path() / "endless"), UsageError);
}

TEST_CASE("labels spoilt on purpose are spoilt in the files", "[shapes]") {
  const TemporaryFolder folder;
  DataOptions shapes = few_shapes();
  const DataOptions right = write_shapes(shapes, kShapesSeed, folder.path() / "right");
  shapes.wrong_labels = "shift";
  DataOptions shifted = write_shapes(shapes, kShapesSeed, folder.path() / "shift");
  CHECK_THROWS_WITH(check_before_training(*make_dataset(shifted, "train")), Contains("the values 8") || Contains("out of range"));
  shifted.label_map.preset = "minus_one_zero_ignored";  // mends it
  CHECK(make_dataset(shifted, "train")->load(2).labels.labels == make_dataset(right, "train")->load(2).labels.labels);
  shapes.wrong_labels = "binary";
  const auto binary = make_dataset(write_shapes(shapes, kShapesSeed, folder.path() / "binary"), "val");
  CHECK(inspect_dataset(*binary).absent_classes().size() == 7);
}

TEST_CASE("mean and standard deviation of the pixels, and weights of the classes", "[inspect]") {
  const TemporaryFolder folder;
  // Two pictures of two pixels: the second class in one of them alone.
  const auto write = [&](const std::string& name, const std::vector<uint8_t>& pixels, const std::vector<uint8_t>& labels) {
    write_png(folder.path() / (name + ".png"), {1, int64_t(labels.size()), pixels});
    write_indexed_png(folder.path() / (name + "_l.png"), {1, int64_t(labels.size()), labels}, voc_palette());
  };
  write("a", {10, 0, 5, 20, 0, 5, 30, 0, 5, 40, 0, 5}, {0, 0, 1, 255});
  write("b", {10, 0, 5, 10, 0, 5}, {0, 0});
  test::write_file(folder.path() / "all.txt", "a.png a_l.png\nb.png b_l.png\n");
  DataOptions options;
  options.type = "folders";
  options.root = folder.path().string();
  options.classes = {"much", "little", "never"};
  options.list = {{"train", "all.txt"}};
  const auto dataset = make_dataset(options, "train");
  const DataReport report = inspect_dataset(*dataset);
  CHECK(report.pixels.count == 6);
  CHECK(report.pixels.mean() == std::array<double, 3>{20, 0, 5});
  CHECK(report.pixels.std()[0] == Approx(std::sqrt((4 * 100 + 0 + 100 + 400 - 100) / 6.0)));
  CHECK((report.pixels.std()[1] == 0 && report.pixels.std()[2] == 0));
  // Frequencies 4/5 and 1/3, the median between them.
  const double median = (0.8 + 1.0 / 3) / 2;
  const std::vector<double> weights = balancing_weights(report);
  REQUIRE(weights.size() == 3);
  CHECK(weights[0] == Approx(median / 0.8));
  CHECK(weights[1] == Approx(median * 3));
  CHECK(weights[2] == 1);
  const int before = num_threads();
  set_num_threads(1);
  CHECK(inspect_dataset(*dataset).pixels.sum == report.pixels.sum);
  set_num_threads(before);
}

TEST_CASE("sheets show the samples, those of a training as it sees them", "[image]") {
  const auto dataset = make_dataset(few_shapes(), "train");
  const std::vector<RawSample> spread = spread_samples(*dataset, 3);
  REQUIRE(spread.size() == 3);
  CHECK(spread[1].name == "1");
  CHECK(spread_samples(*dataset, 100).size() == 5);
  const Image plain = contact_sheet(spread, dataset->palette(), kIgnoreIndex, 2, 0);
  CHECK(plain.width == 2 * (2 * 64 + 2) + 12);
  CHECK(plain.height == 2 * 64 + 12);
  CHECK(std::equal(plain.pixels.begin(), plain.pixels.begin() + 64 * 3, spread[0].image.pixels.begin()));
  CHECK(contact_sheet(spread, dataset->palette(), kIgnoreIndex, 1, 32).width == 2 * 32 + 2);
  CHECK_THROWS_AS(contact_sheet({}, dataset->palette(), kIgnoreIndex, 2, 0), UsageError);

  // Without augmentation the pixels come back to the bit; with padding they are the mean.
  PipelineOptions pipeline;
  pipeline.crop = {70, 64};
  pipeline.flip = 0;
  pipeline.photometric = false;
  pipeline.max_class_share = 1;
  const LoaderOptions loader{.batch_size = 2, .seed = 3};
  const std::vector<RawSample> seen = training_samples(*dataset, pipeline, loader, 5);
  REQUIRE(seen.size() == 5);
  for (const RawSample& sample : seen) {
    const RawSample own = dataset->load(std::stoll(sample.name));
    CHECK(std::equal(own.image.pixels.begin(), own.image.pixels.end(), sample.image.pixels.begin()));
    CHECK(std::equal(own.labels.labels.begin(), own.labels.labels.end(), sample.labels.labels.begin()));
    CHECK((sample.image.height == 70 && sample.labels.labels.back() == kIgnoreIndex && sample.image.pixels.back() == 104));
  }
  pipeline.flip = 1;
  CHECK(training_samples(*dataset, pipeline, loader, 1)[0].image.pixels != seen[0].image.pixels);
}

TEST_CASE("stacked puts pictures one below the other", "[image]") {
  const Image wide{1, 2, {1, 2, 3, 4, 5, 6}}, narrow{1, 1, {7, 8, 9}};
  CHECK(stacked({wide, narrow}, 1).pixels == std::vector<uint8_t>{1, 2, 3, 4, 5, 6, 255, 255, 255, 255, 255, 255, 7, 8, 9, 255, 255, 255});
  CHECK_THROWS_AS(stacked({}), UsageError);
}
