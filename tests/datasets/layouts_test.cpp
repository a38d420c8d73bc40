#include <filesystem>

#include "core/errors.h"
#include "datasets/dataset.h"
#include "datasets/folders.h"
#include "datasets/image.h"
#include "datasets/transforms.h"
#include "support.h"

using namespace eq;
using Catch::Contains;
using Catch::EndsWith;
using eq::test::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

void write_pair(const fs::path& image, const fs::path& labels, std::vector<uint8_t> values, int64_t width = 3, int64_t height = 2) {
  fs::create_directories(image.parent_path());
  fs::create_directories(labels.parent_path());
  write_png(image, {height, width, std::vector<uint8_t>(size_t(3 * height * width), 77)});
  values.resize(size_t(height * width), values.back());
  write_indexed_png(labels, {height, width, std::move(values)}, voc_palette());
}

DataOptions options_of(const std::string& type, const fs::path& root) {
  DataOptions options;
  options.type = type;
  options.root = root.string();
  return options;
}

DataOptions listed(const fs::path& root) {
  DataOptions options = options_of("folders", root);
  options.classes = {"no", "yes"};
  options.list = {{"train", "train.txt"}};
  return options;
}

DataOptions in_folders(const fs::path& root, const std::string& images = "img", const std::string& labels = "lab") {
  DataOptions options = listed(root);
  options.list.clear();
  options.folders = {{"train", {images, labels}}};
  return options;
}

std::vector<uint8_t> labels_of(const Dataset& dataset, int64_t index) { return dataset.load(index).labels.labels; }

}  // namespace

TEST_CASE("a list and a pair of folders describe the same set", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "img/b.png", root.path() / "lab/b_mask.png", {0, 1, 1, 0, 255, 0});
  write_pair(root.path() / "img/a.png", root.path() / "lab/a_mask.png", {1});
  write_pair(root.path() / "img/deep/c.png", root.path() / "lab/deep/c_mask.png", {0});
  test::write_file(root.path() / "img/notes.txt", "not a picture");
  test::write_file(root.path() / "train.txt", "img/a.png lab/a_mask.png\r\n\n  /img/b.png\tlab/b_mask.png\n");
  const auto list = make_dataset(listed(root.path()), "train");
  REQUIRE(list->size() == 2);
  CHECK(list->load(0).name == "a");
  CHECK(labels_of(*list, 1) == std::vector<uint8_t>{0, 1, 1, 0, 255, 0});
  CHECK(list->num_classes() == 2);
  CHECK(list->palette().size() >= 2);
  CHECK(list->ignore_index() == 255);

  DataOptions options = in_folders(root.path());
  options.image_suffix = {".png"};
  options.label_suffix = "_mask.png";
  options.palette = {{1, 2, 3}, {4, 5, 6}};
  const auto folders = make_dataset(options, "train");
  REQUIRE(folders->size() == 3);
  CHECK(folders->load(0).name == "a");
  CHECK(folders->load(1).name == "b");
  CHECK(folders->load(2).name == "c");
  CHECK(folders->palette()[1] == Color{4, 5, 6});
  CHECK(folders->files(1)->labels.filename() == "b_mask.png");
  CHECK_THROWS_AS(folders->load(3), UsageError);
}

TEST_CASE("a list may begin with a byte order mark", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a.png", root.path() / "a_l.png", {1});
  test::write_file(root.path() / "train.txt", "\xEF\xBB\xBF" "a.png a_l.png\n");
  CHECK(make_dataset(listed(root.path()), "train")->load(0).name == "a");
}

TEST_CASE("a list may have Windows line ends and tabs", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a b.png", root.path() / "a l.png", {1});
  test::write_file(root.path() / "train.txt", "a b.png\ta l.png\r\n");
  CHECK(labels_of(*make_dataset(listed(root.path()), "train"), 0)[0] == 1);
}

TEST_CASE("a folder that cannot be examined is not called missing", "[layouts]") {
  TemporaryFolder root;
  fs::create_symlink("loop", root.path() / "loop");
  for (const char* type : {"folders", "voc2012", "ade20k"}) {
    CHECK_THROWS_AS(make_dataset(options_of(type, root.path() / "loop"), "train"), IoError);
    CHECK_THROWS_WITH(make_dataset(options_of(type, root.path() / "loop"), "train"), Contains("cannot be examined: Too many levels"));
  }
  fs::create_symlink("JPEGImages", root.path() / "JPEGImages");
  CHECK_THROWS_AS(make_dataset(options_of("voc2012", root.path()), "train"), IoError);
  fs::create_symlink("ADEChallengeData2016", root.path() / "ADEChallengeData2016");
  CHECK_THROWS_AS(make_dataset(options_of("ade20k", root.path()), "train"), IoError);
}

TEST_CASE("a link that leads to itself is named, however deep it is", "[layouts]") {
  TemporaryFolder root;
  fs::create_directories(root.path() / "a");
  CHECK(files_below(root.path()).empty());
  fs::create_symlink("loop", root.path() / "a/loop");
  CHECK_THROWS_AS(files_below(root.path()), IoError);
  CHECK_THROWS_WITH(files_below(root.path()), Contains("Too many levels") && Contains("a/loop"));
}

TEST_CASE("label maps and label colours come from the options", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a.png", root.path() / "a_l.png", {0, 1, 2, 255, 7, 7});
  test::write_file(root.path() / "train.txt", "a.png a_l.png\n");
  DataOptions options = listed(root.path());
  options.label_map.entries = {{0, LabelMapOptions::kIgnore}, {1, 0}, {2, 1}};
  options.label_map.other = "ignore";
  CHECK(labels_of(*make_dataset(options, "train"), 0) == std::vector<uint8_t>{255, 0, 1, 255, 255, 255});

  // The same labels as an RGB picture; the third colour is one of no class.
  write_png(root.path() / "a_l.png", {2, 3, {9, 9, 9, 200, 0, 0, 0, 200, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9}});
  CHECK_THROWS_WITH(make_dataset(options, "train")->load(0),
                    Contains("a_l.png") && Contains("data.label_colors") && Contains("data.palette"));
  options.label_colors = true;
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("data.palette"));
  options.palette = {{200, 0, 0}, {0, 200, 0}, {9, 9, 9}};
  options.label_map = {.entries = {{2, LabelMapOptions::kIgnore}}, .other = "keep"};
  CHECK(labels_of(*make_dataset(options, "train"), 0) == std::vector<uint8_t>{255, 0, 1, 255, 255, 255});
  options.palette = {{200, 0, 0}, {0, 200, 0}, {8, 8, 8}};
  CHECK_THROWS_AS(make_dataset(options, "train")->load(0), DataError);
}

TEST_CASE("what is wrong with a set of files is said by name", "[layouts]") {
  TemporaryFolder root;
  const fs::path list = root.path() / "train.txt";
  write_pair(root.path() / "a.png", root.path() / "a_l.png", {0, 0, 0, 0, 200, 0});
  write_pair(root.path() / "b.png", root.path() / "b_l.png", {0}, 4, 2);
  DataOptions options = listed(root.path());
  auto make = [&] { return make_dataset(options, "train"); };
  CHECK_THROWS_AS(make(), IoError);
  CHECK_THROWS_WITH(make(), Contains("train.txt") && !Contains("must be made first"));  // it is to be read
  test::write_file(list, "\n \n");
  CHECK_THROWS_AS(make(), DataError);
  CHECK_THROWS_WITH(make(), Contains("list is empty") && Contains("train.txt"));
  test::write_file(list, "a.png a_l.png\n\nb.png\n");
  CHECK_THROWS_WITH(make(), Contains("line 3 has 1 column") && Contains("b.png") && Contains("train.txt"));
  test::write_file(list, "a.png a_l.png extra\n");
  CHECK_THROWS_WITH(make(), Contains("line 1 has 3 columns"));
  test::write_file(list, "a.png a_l.png\nb.png none.png\n");
  CHECK_THROWS_AS(make(), IoError);
  CHECK_THROWS_WITH(make(), Contains("none.png") && Contains("b.png"));
  std::filesystem::create_directory(list.parent_path() / "folder.png");
  test::write_file(list, "a.png a_l.png\nb.png folder.png\n");
  CHECK_THROWS_WITH(make(), Contains("folder.png") && Contains("is a folder"));
  test::write_file(list, "a.png a_l.png\na.png b_l.png\n");
  CHECK_THROWS_WITH(make()->load(0), Contains("a_l.png") && Contains("label 200") && Contains("x 1, y 1") && Contains("0-1, 255"));
  CHECK_THROWS_AS(make()->load(0), DataError);
  CHECK_THROWS_WITH(make()->load(1), Contains("3x2") && Contains("4x2") && Contains("b_l.png"));

  CHECK_THROWS_WITH(make_dataset(options, "val"), Contains("'val'") && Contains("data.list.val"));
  options.folders = {{"train", {"x", "y"}}};
  options.list.clear();
  CHECK_THROWS_WITH(make(), Contains("folder does not exist") && Contains("x"));
  options.folders = {{"train", {".", "."}}};
  options.image_suffix = {".jpg"};
  CHECK_THROWS_WITH(make(), Contains(".jpg") && Contains("image_suffix"));
  options.classes.clear();
  options.image_suffix = {".png"};
  options.label_suffix = "_l.png";
  CHECK_THROWS_WITH(make(), Contains("data.classes"));
  options.classes = {"a", "b"};
  options.palette = {{1, 1, 1}};
  CHECK_THROWS_WITH(make(), Contains("1 colours for 2 classes"));
  options.root = (root.path() / "nowhere").string();
  CHECK_THROWS_AS(make(), IoError);
  CHECK_THROWS_WITH(make(), Contains("nowhere") && EndsWith("set data.root to the folder that holds the data set"));
  options.root = "nowhere";
  CHECK_THROWS_WITH(make(), EndsWith("; this path begins at the current folder, " + std::filesystem::current_path().string()));
  options.root = list.string();
  CHECK_THROWS_WITH(make(), Contains("not a folder"));
  options.root.clear();
  CHECK_THROWS_AS(make(), UsageError);
  options.type = "camvit";
  CHECK_THROWS_WITH(make(), Contains("camvit") && Contains("camvid, voc2012"));
}

TEST_CASE("a key that the data set does not read is refused", "[layouts]") {
  TemporaryFolder root;
  const auto refused = [&](DataOptions options, const std::string& key, const std::string& types) {
    CHECK_THROWS_AS(make_dataset(options, "train"), UsageError);
    CHECK_THROWS_WITH(make_dataset(options, "train"), Contains(options.type + " does not read " + key) && Contains(types));
  };
  refused(options_of("shapes", root.path()), "data.root", "folders, camvid, voc2012, ade20k, cityscapes");
  DataOptions options = listed(root.path());
  options.type = "camvid";
  refused(options, "data.list", "folders");
  options = options_of("camvid", root.path());
  options.wrong_labels = "shift";
  refused(options, "data.wrong_labels", "shapes");
  options = options_of("ade20k", root.path());
  options.augmented_list = true;
  refused(options, "data.augmented_list", "voc2012");
  options = options_of("voc2012", root.path());
  options.image_suffix = {".png"};
  refused(options, "data.folders", "folders");
  options = listed(root.path());
  options.size = 64;
  refused(options, "data.size", "shapes");
}

TEST_CASE("folders pair suffixes in any case, and say what they leave out", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "img/a.JPG", root.path() / "lab/a.png", {1});
  write_pair(root.path() / "img/b.jpg", root.path() / "lab/b.PNG", {0});
  write_pair(root.path() / "img/c.png", root.path() / "lab/c.png", {0});
  write_pair(root.path() / "img/d.jpg", root.path() / "lab/d.png", {0});
  DataOptions options = in_folders(root.path());
  auto set = make_dataset(options, "train");
  REQUIRE(set->size() == 3);
  CHECK(labels_of(*set, 0)[0] == 1);
  CHECK(set->files(1)->labels.filename() == "b.PNG");
  REQUIRE(set->left_out().size() == 2);
  CHECK_THAT(set->left_out()[0], Contains("img, not ending in .jpg: c.png"));
  CHECK_THAT(set->left_out()[1], Contains("without a picture") && Contains("lab: c.png"));
  options.image_suffix = {".jpg", ".png"};
  CHECK(make_dataset(options, "train")->left_out().empty());
  CHECK(make_dataset(options, "train")->size() == 4);

  fs::create_symlink("gone.jpg", root.path() / "img/e.jpg");
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("link to a file that does not exist") && Contains("e.jpg"));
  fs::remove(root.path() / "img/e.jpg");
  for (const char* name : {"a.png", "b.PNG", "c.png"}) fs::remove(root.path() / "lab" / name);
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("lab/a.png") && Contains("3 files of the set: a.png, b.png, c.png"));
}

TEST_CASE("hidden files and folders are no part of a set", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "img/a.jpg", root.path() / "lab/a.png", {1});
  write_pair(root.path() / "img/._a.jpg", root.path() / "lab/._a.png", {0});
  write_pair(root.path() / "img/.thumbnails/b.jpg", root.path() / "lab/.thumbnails/b.png", {0});
  DataOptions options = in_folders(root.path());
  const auto set = make_dataset(options, "train");
  CHECK(set->size() == 1);
  CHECK(set->left_out().empty());
}

TEST_CASE("the longest of the suffixes that fit is taken off, and a label of the exact suffix goes first", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "img/a_rgb.png", root.path() / "lab/a_l.png", {1});
  write_pair(root.path() / "img/b.png", root.path() / "lab/b_l.png", {1});
  write_pair(root.path() / "img/c.png", root.path() / "lab/c_l.png", {1});
  write_pair(root.path() / "img/c.png", root.path() / "lab/c_L.png", {0});  // comes before it
  DataOptions options = in_folders(root.path());
  options.label_suffix = "_l.png";
  for (const std::vector<std::string>& suffixes : {std::vector<std::string>{".png", "_rgb.png"}, {"_rgb.png", ".png"}}) {
    options.image_suffix = suffixes;
    const auto set = make_dataset(options, "train");
    REQUIRE(set->size() == 3);
    for (const int64_t i : {0, 1, 2}) CHECK(set->files(i)->labels.string().ends_with("_l.png"));
  }
}

TEST_CASE("pictures and labels may share a folder", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a.jpg", root.path() / "a.png", {1});
  write_pair(root.path() / "b.jpg", root.path() / "b.png", {0});
  fs::remove(root.path() / "b.jpg");
  DataOptions options = in_folders(root.path(), ".", ".");
  const auto set = make_dataset(options, "train");
  CHECK(set->size() == 1);
  REQUIRE(set->left_out().size() == 1);
  CHECK_THAT(set->left_out()[0], Contains("without a picture") && Contains(": b.png"));
}

TEST_CASE("in a shared folder a label is no picture, though its ending is a picture's", "[layouts]") {
  TemporaryFolder root;
  for (const std::string stem : {"000", "001", "deep/002", "lone"}) {
    write_pair(root.path() / (stem + ".png"), root.path() / (stem + "_mask.png"), {1});
  }
  fs::remove(root.path() / "lone.png");
  DataOptions options = in_folders(root.path(), ".", ".");
  options.image_suffix = {".png"};
  options.label_suffix = "_mask.png";
  const auto set = make_dataset(options, "train");
  REQUIRE(set->size() == 3);
  CHECK(set->files(0)->image.string() == (root.path() / "000.png").string());
  CHECK(set->files(2)->labels.filename() == "002_mask.png");
  REQUIRE(set->left_out().size() == 1);
  CHECK_THAT(set->left_out()[0], Contains("without a picture") && Contains(": lone_mask.png"));
  // Labels in a folder below the pictures'.
  write_pair(root.path() / "x/a.png", root.path() / "x/labels/a.png", {1});
  options.folders = {{"train", {"x", "x/labels"}}};
  options.label_suffix = ".png";
  CHECK(make_dataset(options, "train")->size() == 1);
  // Of a single name nobody can tell which is which.
  options.folders = {{"train", {".", "."}}};
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("are label files") && Contains("label_suffix"));
}

TEST_CASE("a list names pictures of folders", "[layouts]") {
  TemporaryFolder root;
  for (const std::string stem : {"a", "street 01", "deep/c", "d"}) {
    write_pair(root.path() / "i" / (stem + ".jpg"), root.path() / "l" / (stem + ".png"), {1});
  }
  fs::remove(root.path() / "l/d.png");  // not in the list: nobody asks for its labels
  test::write_file(root.path() / "train.txt", "street 01\r\n\ndeep/c.jpg\na\n");
  DataOptions options = listed(root.path());
  options.folders = {{"train", {"i", "l"}}};
  const auto set = make_dataset(options, "train");
  REQUIRE(set->size() == 3);
  CHECK(set->load(0).name == "street 01");
  CHECK(set->load(1).name == "c");
  CHECK(set->files(2)->labels.filename() == "a.png");
  REQUIRE(set->left_out().size() == 1);
  CHECK_THAT(set->left_out()[0], Contains("train.txt: 1 picture of"));
  test::write_file(root.path() / "train.txt", "a\nb\ne.jpg\n");
  CHECK_THROWS_AS(make_dataset(options, "train"), DataError);
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("train.txt") && Contains(": b, e.jpg"));
}

TEST_CASE("a part of the training pictures is drawn to evaluate on, always the same", "[layouts]") {
  TemporaryFolder root;
  for (const std::string stem : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}) {
    write_pair(root.path() / "i" / (stem + ".jpg"), root.path() / "l" / (stem + ".png"), {1});
  }
  DataOptions options = in_folders(root.path(), "i", "l");
  const auto names = [&](const std::string& split) {
    std::string text;
    const auto set = make_dataset(options, split);
    for (int64_t i = 0; i < set->size(); ++i) text += set->load(i).name;
    return text;
  };
  CHECK_THROWS_WITH(names("val"), Contains("data.val_fraction"));
  options.val_fraction = 0.3;
  CHECK(names("val") == "ghj");  // on every machine
  CHECK(names("train") == "abcdefi");
  CHECK_THAT(make_dataset(options, "train")->left_out()[0], Contains("3 of 10 pictures") && Contains("split_seed 0"));
  CHECK(make_dataset(options, "val")->left_out().empty());
  CHECK_THROWS_AS(names("test"), UsageError);
  options.split_seed = 1;
  CHECK(names("val") != "ghj");
  options.val_fraction = 0.01;
  CHECK(names("val").size() == 1);
  options.folders["test"] = {"i", "l"};
  CHECK(names("test") == "abcdefghij");  // nothing is drawn from it
  options.folders.erase("test");
  options.folders["val"] = {"i", "l"};
  CHECK_THROWS_WITH(names("val"), Contains("of its own"));
  options.folders.erase("val");
  // Of a list, too.
  test::write_file(root.path() / "train.txt", "b\nd\n");
  options.list = {{"train", "train.txt"}};
  CHECK(names("train") + names("val") == "db");
  options.val_fraction = 0.9;
  CHECK_THROWS_WITH(names("val"), Contains("none would be left"));
  options = options_of("camvid", root.path());
  options.val_fraction = 0.5;
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("does not read data.val_fraction"));
}

TEST_CASE("a list may hold absolute paths", "[layouts]") {
  TemporaryFolder root, elsewhere;
  write_pair(elsewhere.path() / "a.png", elsewhere.path() / "a_l.png", {1});
  test::write_file(root.path() / "train.txt", (elsewhere.path() / "a.png").string() + " " + (elsewhere.path() / "a_l.png").string() + "\n");
  CHECK(make_dataset(listed(root.path()), "train")->load(0).name == "a");
}

TEST_CASE("CamVid's layout: lists, and 11 is void", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "val/a.png", root.path() / "valannot/a.png", {0, 10, 11, 5, 5, 5});
  write_pair(root.path() / "val/b.png", root.path() / "valannot/b.png", {12});
  test::write_file(root.path() / "val.txt", "val/a.png valannot/a.png\nval/b.png valannot/b.png\n");
  const auto dataset = make_dataset(options_of("camvid", root.path()), "val");
  CHECK(dataset->num_classes() == 11);
  CHECK(class_count(options_of("camvid", "nowhere")) == 11);
  CHECK(dataset->class_names()[10] == "Bicyclist");
  CHECK(dataset->palette()[3] == Color{128, 64, 128});
  CHECK(labels_of(*dataset, 0) == std::vector<uint8_t>{0, 10, 255, 5, 5, 5});
  CHECK_THROWS_WITH(dataset->load(1), Contains("label 12") && Contains("0-11, 255"));
}

TEST_CASE("PASCAL VOC's layout, its parents, and the augmented list", "[layouts]") {
  TemporaryFolder folder;
  const fs::path root = folder.path() / "VOCdevkit/VOC2012", lists = root / "ImageSets/Segmentation";
  fs::create_directories(lists);
  write_pair(root / "JPEGImages/x.jpg", root / "SegmentationClass/x.png", {0, 20, 255, 1, 1, 1});
  write_pair(root / "JPEGImages/y.jpg", root / "SegmentationClassAug/y.png", {3});
  fs::copy(root / "SegmentationClass/x.png", root / "SegmentationClassAug/x.png");
  test::write_file(lists / "train.txt", "x\n");
  test::write_file(lists / "val.txt", "x\n");
  for (const fs::path& given : {root, folder.path() / "VOCdevkit", folder.path()}) {
    const auto dataset = make_dataset(options_of("voc2012", given), "train");
    REQUIRE(dataset->size() == 1);
    CHECK(labels_of(*dataset, 0) == std::vector<uint8_t>{0, 20, 255, 1, 1, 1});
    CHECK(dataset->class_names()[15] == "person");
    CHECK(dataset->palette()[1] == Color{128, 0, 0});
    CHECK(dataset->files(0)->image == root / "JPEGImages/x.jpg");
    CHECK(dataset->files(0)->image.string().find("/./") == std::string::npos);
  }
  DataOptions options = options_of("voc2012", root);
  options.augmented_list = true;
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("train_aug.txt"));
  test::write_file(lists / "trainaug.txt", "x\n");
  CHECK(make_dataset(options, "train")->size() == 1);
  test::write_file(lists / "train_aug.txt", "/JPEGImages/x.jpg /SegmentationClassAug/x.png\ny\n");
  const auto augmented = make_dataset(options, "train");
  REQUIRE(augmented->size() == 2);
  CHECK(augmented->load(1).name == "y");
  CHECK(make_dataset(options, "val")->size() == 1);
  fs::remove_all(root / "SegmentationClassAug");
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("SegmentationClassAug") && Contains("augmented_list"));
  CHECK_THROWS_AS(make_dataset(options_of("voc2012", lists), "train"), IoError);
}

TEST_CASE("ADE20K's layout: 0 is ignored, names come from its own list", "[layouts]") {
  TemporaryFolder folder;
  const fs::path root = folder.path() / "ADEChallengeData2016";
  write_pair(root / "images/training/p.jpg", root / "annotations/training/p.png", {0, 1, 3, 2, 2, 2});
  write_pair(root / "images/validation/q.jpg", root / "annotations/validation/q.png", {4});
  test::write_file(root / "objectInfo150.txt",
                   "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t1\t1\twall\r\n2 \t0.1\t1\t1\tbuilding, edifice\n3\t0.1\t1\t1\tsky\n");
  for (const fs::path& given : {root, folder.path()}) {
    const auto dataset = make_dataset(options_of("ade20k", given), "train");
    CHECK(dataset->class_names() == std::vector<std::string>{"wall", "building", "sky"});
    CHECK(labels_of(*dataset, 0) == std::vector<uint8_t>{255, 0, 2, 1, 1, 1});
  }
  const auto val = make_dataset(options_of("ade20k", root), "val");
  CHECK_THROWS_WITH(val->load(0), Contains("label 4") && Contains("0-3, 255"));
  CHECK_THROWS_AS(make_dataset(options_of("ade20k", root), "test"), UsageError);
  test::write_file(root / "objectInfo150.txt", "Idx\tName\n1\twall\n3\tsky\n");
  CHECK_THROWS_WITH(make_dataset(options_of("ade20k", root), "val"), Contains("class 2") && Contains("objectInfo150.txt"));
  for (const char* name : {"caf\xe9", "wall\x1b[2J"}) {
    test::write_file(root / "objectInfo150.txt", "Idx\tName\n1\tsky\n2\t" + std::string(name) + "\n");
    CHECK_THROWS_WITH(make_dataset(options_of("ade20k", root), "val"), Contains("class 2 is not UTF-8") && Contains("objectInfo150.txt"));
  }
}

TEST_CASE("Cityscapes' layout: training ids where they are, else label ids", "[layouts]") {
  TemporaryFolder root;
  const fs::path images = root.path() / "leftImg8bit/train", labels = root.path() / "gtFine/train";
  for (const std::string stem : {"aachen/aachen_000000_000019", "zurich/zurich_000001_000019"}) {
    write_pair(images / (stem + "_leftImg8bit.png"), labels / (stem + "_gtFine_labelIds.png"), {7, 33, 0, 16, 26, 8});
  }
  const DataOptions options = options_of("cityscapes", root.path());
  const auto ids = make_dataset(options, "train");
  REQUIRE(ids->size() == 2);
  CHECK(ids->num_classes() == 19);
  CHECK(class_count(options_of("cityscapes", "nowhere")) == 19);
  CHECK(class_count(options_of("folders", "nowhere")) == 0);
  CHECK(labels_of(*ids, 0) == std::vector<uint8_t>{0, 18, 255, 255, 13, 1});
  write_pair(images / "aachen/aachen_000000_000019_leftImg8bit.png", labels / "aachen/aachen_000000_000019_gtFine_labelTrainIds.png",
             {0, 18, 255, 3, 3, 3});
  CHECK_THROWS_WITH(make_dataset(options, "train"), Contains("zurich_000001_000019_gtFine_labelTrainIds.png"));
  write_pair(images / "zurich/zurich_000001_000019_leftImg8bit.png", labels / "zurich/zurich_000001_000019_gtFine_labelTrainIds.png", {5});
  CHECK(labels_of(*make_dataset(options, "train"), 0) == std::vector<uint8_t>{0, 18, 255, 3, 3, 3});
  // A map of one's own is over the label ids: road against the rest.
  DataOptions binary = options;
  binary.classes = {"road", "other"};
  binary.palette = {{1, 1, 1}, {2, 2, 2}};
  binary.label_map = {.entries = {{7, 0}, {0, LabelMapOptions::kIgnore}, {33, 1}, {16, 1}, {26, 1}, {8, 1}}};
  CHECK(labels_of(*make_dataset(binary, "train"), 0) == std::vector<uint8_t>{0, 1, 255, 1, 1, 1});
  binary.label_map.entries.erase(26);
  CHECK_THROWS_WITH(make_dataset(binary, "train")->load(0), Contains("label 26"));
  CHECK_THROWS_AS(make_dataset(options, "val"), IoError);
}

TEST_CASE("evaluation keeps the labels' size", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a.png", root.path() / "a_l.png", {0, 1, 1, 0, 255, 0});
  test::write_file(root.path() / "train.txt", "a.png a_l.png\n");
  const auto dataset = make_dataset(listed(root.path()), "train");
  PipelineOptions pipeline;
  pipeline.test_scale = {12, 12};
  const Sample sample = load_for_evaluation(*dataset, 0, pipeline);
  CHECK(sample.image.shape() == Shape{1, 8, 12, 3});
  CHECK(sample.labels.shape() == Shape{2, 3});
  CHECK(sample.labels.to_vector<uint8_t>() == std::vector<uint8_t>{0, 1, 1, 0, 255, 0});
  CHECK(sample.name == "a");
  CHECK(sample.image.data<float>()[0] == Approx((77 - 123.675) / 58.395));
}

TEST_CASE("the real sets load", "[layouts][shared]") {
  EQ_NEED_SHARED_DATA();
  const fs::path shared = test::shared_data();
  struct Case {
    const char *type, *root, *split;
    int64_t size, classes;
  };
  const Case cases[] = {
      {"camvid", "camvid", "train", 367, 11},         {"camvid", "camvid", "val", 101, 11},
      {"camvid", "camvid", "test", 233, 11},          {"voc2012", "voc2012_sample", "train", 3, 21},
      {"voc2012", "voc2012_sample", "trainval", 5, 21}, {"ade20k", "ade20k_sample", "train", 2, 150},
      {"ade20k", "ade20k_sample", "val", 2, 150},
  };
  for (const Case& c : cases) {
    INFO(c.type << " " << c.split);
    const auto dataset = make_dataset(options_of(c.type, shared / c.root), c.split);
    CHECK(dataset->size() == c.size);
    CHECK(dataset->num_classes() == c.classes);
    CHECK(class_count(options_of(c.type, "nowhere")) == c.classes);
    const RawSample sample = dataset->load(dataset->size() - 1);
    int64_t labelled = 0;
    for (uint8_t label : sample.labels.labels) labelled += label != 255;
    CHECK(labelled > sample.labels.width * sample.labels.height / 2);
    CHECK(sample.image.pixels.size() == 3 * sample.labels.labels.size());
  }
  CHECK(make_dataset(options_of("ade20k", shared / "ade20k_sample"), "val")->class_names()[2] == "sky");
}

TEST_CASE("a label of the exact suffix goes first where another case of it comes later", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "img/a.png", root.path() / "lab/a_L.png", {1});
  write_pair(root.path() / "img/a.png", root.path() / "lab/a_l.png", {0});
  DataOptions options = in_folders(root.path());
  options.image_suffix = {".png"};
  options.label_suffix = "_L.png";
  CHECK(make_dataset(options, "train")->files(0)->labels.filename() == "a_L.png");
}

TEST_CASE("in a shared folder the label of a picture is none, even where it has a label itself", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a.png", root.path() / "a_mask.png", {1});
  write_pair(root.path() / "b.png", root.path() / "a_mask_mask.png", {1});
  fs::remove(root.path() / "b.png");
  DataOptions options = in_folders(root.path(), ".", ".");
  options.image_suffix = {".png"};
  options.label_suffix = "_mask.png";
  const auto set = make_dataset(options, "train");
  REQUIRE(set->size() == 1);
  CHECK(set->files(0)->image.filename() == "a.png");
  CHECK(set->files(0)->labels.filename() == "a_mask.png");
}

TEST_CASE("blanks around the names of a list do not belong to them", "[layouts]") {
  TemporaryFolder root;
  write_pair(root.path() / "a b.png", root.path() / "a l.png", {1});
  test::write_file(root.path() / "train.txt", " a b.png \t a l.png  \n");
  CHECK(labels_of(*make_dataset(listed(root.path()), "train"), 0)[0] == 1);
}
