#include "datasets/inspect.h"

#include <filesystem>

#include "core/errors.h"
#include "core/parallel.h"
#include "datasets/shapes.h"
#include "fuzz/pictures.h"
#include "support.h"

using namespace eq;
using Catch::Contains;
using eq::test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

// `count` pictures of 3x2 with the given labels each, as a set of two classes.
class Folder {
 public:
  explicit Folder(const std::vector<std::vector<uint8_t>>& labels) {
    std::string list;
    for (size_t i = 0; i < labels.size(); ++i) {
      const std::string name = std::to_string(i);
      write_png(folder_.path() / (name + ".png"), {2, 3, std::vector<uint8_t>(18, 9)});
      write_indexed_png(folder_.path() / (name + "_l.png"), {2, 3, labels[i]}, voc_palette());
      list += name + ".png " + name + "_l.png\n";
    }
    test::write_file(folder_.path() / "all.txt", list);
    options_.type = "folders";
    options_.root = folder_.path().string();
    options_.classes = {"no", "yes"};
    options_.list = {{"train", "all.txt"}};
  }
  std::unique_ptr<Dataset> make() const { return make_dataset(options_, "train"); }
  const fs::path& path() const { return folder_.path(); }
  DataOptions& options() { return options_; }

 private:
  TemporaryFolder folder_;
  DataOptions options_;
};

}  // namespace

TEST_CASE("a clean set: counts, modes, sizes", "[inspect]") {
  const Folder folder({{0, 0, 1, 1, 1, 255}, {0, 0, 0, 0, 0, 0}});
  const DataReport report = check_before_training(*folder.make());
  CHECK(report.size == 2);
  CHECK(report.inspected == 2);
  CHECK(report.class_names == std::vector<std::string>{"no", "yes"});
  CHECK(report.class_pixels == std::vector<int64_t>{8, 3});
  CHECK(report.class_samples == std::vector<int64_t>{2, 1});
  CHECK(report.ignored_pixels == 1);
  CHECK(report.total_pixels == 12);
  CHECK(report.file_values[255] == 1);
  CHECK(report.absent_classes().empty());
  CHECK(report.problem_count == 0);
  CHECK(report.sizes == std::map<std::array<int64_t, 2>, int64_t>{{{3, 2}, 2}});
  CHECK(report.label_modes == std::map<std::string, int64_t>{{"png indexed 8 bits", 2}});
  CHECK(report.image_modes == std::map<std::string, int64_t>{{"png RGB 8 bits", 2}});
}

TEST_CASE("every problem is found, with file, pixel and value", "[inspect]") {
  Folder folder({{0, 0, 1, 1, 1, 1}, {0, 9, 0, 7, 7, 0}, {0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0}});
  write_indexed_png(folder.path() / "2_l.png", {1, 3, {0, 0, 0}}, voc_palette());
  test::write_file(folder.path() / "3_l.png", "not a picture");
  write_png(folder.path() / "4_l.png", {2, 3, std::vector<uint8_t>(18, 9)});
  for (int threads : {1, 2}) {
    const int before = num_threads();
    set_num_threads(threads);
    const DataReport report = inspect_dataset(*folder.make());
    set_num_threads(before);
    REQUIRE(report.problem_count == 4);
    REQUIRE(report.problems.size() == 4);
    const DataProblem& label = report.problems[0];
    CHECK(label.kind == DataProblem::Kind::kLabelOutOfRange);
    CHECK_THAT(label.file, Contains("1_l.png"));
    CHECK(label.x == 1);
    CHECK(label.y == 0);
    CHECK(label.value == 9);
    CHECK(label.pixels == 3);
    CHECK_THAT(label.message, Contains("7, 9") && Contains("0-1, 255"));
    CHECK(report.problems[1].kind == DataProblem::Kind::kSizeMismatch);
    CHECK_THAT(report.problems[1].message, Contains("3x2") && Contains("3x1"));
    CHECK(report.problems[2].kind == DataProblem::Kind::kUnreadable);
    CHECK_THAT(report.problems[2].file, Contains("3_l.png"));
    CHECK(report.problems[3].kind == DataProblem::Kind::kUnreadable);
    CHECK_THAT(report.problems[3].file, Contains("4_l.png"));
    CHECK_THAT(report.problems[3].message, Contains("RGB"));
    CHECK(report.label_modes.at("png RGB 8 bits") == 1);
    CHECK(report.class_pixels == std::vector<int64_t>{8, 4});
    CHECK_THROWS_AS(check_report(report), DataError);
    CHECK_THROWS_WITH(check_report(report), Contains("1_l.png") && Contains("first of 4 problems"));
    CHECK_THAT(report.problems[0].hint, Contains("data.label_map"));
    CHECK_THAT(report.problems[1].hint, Contains("one size"));
    CHECK_THAT(report.problems[3].hint, Contains("data.label_colors"));
  }
}

TEST_CASE("the check before training gives the first problem's own advice", "[inspect]") {
  Folder folder({{0, 0, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 0}});
  const auto advice = [&]() -> std::string {
    try {
      check_before_training(*folder.make());
    } catch (const DataError& error) {
      return error.try_this();
    }
    return "nothing was refused";
  };
  write_png(folder.path() / "1_l.png", {2, 3, std::vector<uint8_t>(18, 9)});
  CHECK_THAT(advice(), Contains("set data.label_colors to true"));
  test::write_file(folder.path() / "1_l.png", "GIF89a");
  CHECK_THAT(advice(), Contains("convert it to PNG or JPEG"));
  write_indexed_png(folder.path() / "1_l.png", {1, 3, {0, 0, 0}}, voc_palette());
  CHECK_THAT(advice(), Contains("make them one size"));
  write_indexed_png(folder.path() / "1_l.png", {3, 2, {0, 0, 0, 0, 0, 0}}, voc_palette());
  CHECK_THAT(advice(), Contains("make them one size"));  // nothing turns the image
}

TEST_CASE("labels that are not turned with their picture are called so", "[inspect]") {
  Folder folder({{0, 0, 1, 1, 1, 1}});
  // TIFF of the EXIF chunk: one entry, orientation 6.
  const std::string exif("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26);
  const std::string chunk = test::png_chunk("eXIf", exif);
  test::write_file(folder.path() / "0.png", test::make_png({3, 2, 8, 0, false, "", chunk, "\x01\x02\x03\x04\x05\x06", 3}));
  REQUIRE(probe_picture(folder.path() / "0.png").turned);
  CHECK_THROWS_WITH(check_before_training(*folder.make()), Contains("2x3") && Contains("3x2") && Contains("EXIF orientation"));
  CHECK_THROWS_WITH(folder.make()->load(0), Contains("EXIF orientation") && Contains("not turned"));
}

TEST_CASE("masks of 0 and 255 are refused with the cure", "[inspect]") {
  std::vector<uint8_t> mostly(6, 255);
  std::vector<std::vector<uint8_t>> labels(12, mostly);
  labels[3][0] = 0;
  Folder folder(labels);
  const DataReport report = inspect_dataset(*folder.make());
  CHECK(report.ignored_share() == Approx(71.0 / 72));
  CHECK(report.absent_classes() == std::vector<int64_t>{1});
  CHECK_THROWS_WITH(check_report(report), Contains("98 %") && Contains("\"255\": 1") && Contains("data.checks"));
  folder.options().label_map.entries = {{0, 0}, {255, 1}};
  check_report(inspect_dataset(*folder.make()));
}

TEST_CASE("an absent class and labels of 255 are one remark, with the map that helps", "[inspect]") {
  // A third is 255: the commonest masks of one's own.
  Folder folder({{0, 0, 255, 0, 255, 0}});
  const auto odd = odd_classes(inspect_dataset(*folder.make()));
  REQUIRE(odd);
  CHECK_THAT(odd->what_happened(), Contains("1 of 2 classes never occur: 1 yes") && Contains("nothing but 0 and 255") && Contains("33 %"));
  CHECK_THAT(odd->try_this(), Contains("{\"0\": 0, \"255\": 1}"));
  folder.options().classes = {"a", "b", "c"};
  write_indexed_png(folder.path() / "0_l.png", {2, 3, {0, 1, 255, 0, 1, 255}}, voc_palette());
  CHECK_THAT(odd_classes(inspect_dataset(*folder.make()))->try_this(), Contains("{\"255\": 2, \"other\": \"keep\"}"));
  folder.options().label_map = {.entries = {{255, 1}}, .other = "keep"};
  CHECK_THAT(odd_classes(inspect_dataset(*folder.make()))->try_this(), Contains("check data.label_map and data.classes"));
}

TEST_CASE("classes that never occur may be no reason to refuse, bad files still are", "[inspect]") {
  const Folder folder({{0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0}});
  CHECK_THROWS_AS(check_before_training(*folder.make()), DataError);
  CHECK(odd_classes(check_before_training(*folder.make(), DataChecks::kFiles)));
  test::write_file(folder.path() / "1_l.png", "not a picture");
  CHECK_THROWS_AS(check_before_training(*folder.make(), DataChecks::kFiles), DataError);
  CHECK(check_before_training(*folder.make(), DataChecks::kNone).inspected == 0);
}

TEST_CASE("a truncated picture with a sound header is a problem", "[inspect]") {
  const Folder folder({{0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1}});
  const fs::path picture = folder.path() / "1.png";
  const std::string bytes = test::read_file(picture);
  test::write_file(picture, bytes.substr(0, bytes.size() - 20));
  CHECK(probe_picture(picture).width == 3);
  const DataReport report = inspect_dataset(*folder.make());
  REQUIRE(report.problem_count == 1);
  CHECK(report.problems[0].kind == DataProblem::Kind::kUnreadable);
  CHECK(report.problems[0].file == picture.string());
  CHECK_THROWS_WITH(check_before_training(*folder.make()), Contains("1.png"));
  // In search of the second class only labels are looked at.
  CHECK(inspect_dataset(*folder.make(), {.samples = 1, .extend_to = 2}).problem_count == 0);
}

TEST_CASE("a class that never occurs is named", "[inspect]") {
  const Folder folder({{0, 0, 0, 0, 0, 0}});
  CHECK_THROWS_WITH(check_before_training(*folder.make()), Contains("1 of 2 classes") && Contains("1 yes"));
}

TEST_CASE("inspection goes on while a class is missing", "[inspect]") {
  std::vector<std::vector<uint8_t>> labels(200, std::vector<uint8_t>(6, 0));
  labels[187][3] = 1;
  const Folder folder(labels);
  const auto dataset = folder.make();
  const DataReport few = inspect_dataset(*dataset, {.samples = 10});
  CHECK(few.inspected == 10);
  CHECK(few.absent_classes().size() == 1);
  const DataReport more = inspect_dataset(*dataset, {.samples = 10, .extend_to = 1000});
  CHECK(more.inspected > 10);
  CHECK(more.inspected <= 200);
  CHECK(more.class_samples[1] == 1);
  CHECK(inspect_dataset(*dataset, {.samples = 10, .extend_to = 1000}).inspected == more.inspected);
  const DataReport all = inspect_dataset(*dataset);
  CHECK(all.inspected == 200);
  CHECK(all.class_pixels == std::vector<int64_t>{1199, 1});
}

TEST_CASE("the built-in shapes pass the checks", "[inspect]") {
  const DataReport report = check_before_training(*make_shapes({}, "train"));
  CHECK(report.size == Dataset::kEndless);
  CHECK(report.inspected == 128);
  CHECK(report.sizes.at({96, 96}) == 128);
  CHECK(inspect_dataset(*make_shapes({}, "val")).inspected == 200);
}

TEST_CASE("wrong labels of the built-in shapes: what the checks catch, and what only the eye can", "[inspect]") {
  DataOptions options;
  options.train_images = 100;  // of endless ones 4,096 would be drawn in search of a class that never occurs
  options.wrong_labels = "shift";
  CHECK_THROWS_WITH(check_before_training(*make_shapes(options, "train")), Contains("label 8") && Contains("out of range"));
  options.wrong_labels = "binary";
  CHECK_THROWS_WITH(check_before_training(*make_shapes(options, "train")), Contains("7 of 8 classes never occur"));
  options.wrong_labels = "swapped";
  check_before_training(*make_shapes(options, "train"));
}

TEST_CASE("CamVid passes the checks", "[inspect][shared]") {
  EQ_NEED_SHARED_DATA();
  DataOptions options;
  options.type = "camvid";
  options.root = (test::shared_data() / "camvid").string();
  const DataReport report = inspect_dataset(*make_dataset(options, "val"));
  check_report(report);
  CHECK(report.inspected == 101);
  CHECK(report.sizes.at({480, 360}) == 101);
  CHECK(report.label_modes.at("png gray 8 bits") == 101);
  // The shares of the data's own description.
  CHECK(100.0 * double(report.class_pixels[1]) / double(report.total_pixels) == Approx(25.96).margin(0.01));
  CHECK(100 * report.ignored_share() == Approx(1.70).margin(0.01));
}
