// Which files are pictures, and which labels are theirs, by their names.
#include "datasets/discover.h"

#include <set>

#include "pictures.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

TEST_CASE("splits above or below the folders of pictures and masks", "[discover]") {
  for (const char* form : {"images/{}/{}.png masks/{}/{}.png", "{}/image/{}.jpg {}/mask/{}.png", "{}/{}.jpg {}_labels/{}_L.png",
                           "images-{}/{}.jpg masks-{}/{}.png", "{}/{}.jpg {}/{}_mask.png", "a/{}/b/{}.jpg a/{}/c/{}.png"}) {
    CAPTURE(form);
    const OddFolder folder;
    for (const std::string split : {"train", "val"}) {
      for (int i = 0; i < 3; ++i) {
        std::string names = form;
        for (const std::string& part : {split, std::to_string(i), split, std::to_string(i)}) names.replace(names.find("{}"), 2, part);
        folder.picture(names.substr(0, names.find(' ')));
        folder.gray(names.substr(names.find(' ') + 1), {0, 1, 2});
      }
    }
    const FoundData found = discover_data(folder.root);
    CHECK(found.pairs.at("train").size() == 3);
    CHECK(found.pairs.at("val").size() == 3);
    REQUIRE(found.options.folders.size() == 2);
    CHECK(found.options.val_fraction == 0);
    CHECK(found.options.classes == Names{"class 0", "class 1", "class 2"});
    CHECK_FALSE(found.options.label_map.is_given());
    CHECK(found.remarks.empty());
    CHECK(found.unlabelled.empty());
    CHECK(found.sizes == std::map<std::array<int64_t, 2>, int64_t>{{{kWidth, kHeight}, 6}});
    check_loads(found);
  }
}

TEST_CASE("pictures and masks whose folders or names differ in several words", "[discover]") {
  struct Case {
    const char *picture, *label, *other;  // {}: the split, then the number, once or twice; `other`: what is no label file
    const char *images, *labels;          // of train, as the configuration names them; null: listed
    const char *image_suffix, *label_suffix;
  };
  const Case cases[] = {
      {"images/10k/{}/b{}.jpg", "labels/sem_seg/masks/{}/b{}.png", "labels/sem_seg/colormaps/{}/b{}.png", "images/10k/train",
       "labels/sem_seg/masks/train", ".jpg", ".png"},
      {"{}/images/{}.jpg", "{}/v2.0/labels/{}.png", "{}/v2.0/panoptic/{}.png", "train/images", "train/v2.0/labels", ".jpg", ".png"},
      {"{}/{}_sat.jpg", "{}/{}_mask.png", "", "train", "train", "_sat.jpg", "_mask.png"},
      {"{}/{}_sat.png", "{}/{}_mask.png", "", "train", "train", "_sat.png", "_mask.png"},
      {"rgb_anon/fog/{}/G0475/G0475_frame_{}_rgb_anon.png", "gt/fog/{}/G0475/G0475_frame_{}_gt_labelIds.png",
       "gt/fog/{}/G0475/G0475_frame_{}_gt_labelColor.png", "rgb_anon/fog/train", "gt/fog/train", "_rgb_anon.png", "_gt_labelids.png"},
      {"left/{}/7/f{}_leftImg8bit.jpg", "gtFine/{}/7/f{}_gtFine_labelcsIds.png", "", "left/train", "gtFine/train", "_leftimg8bit.jpg",
       "_gtfine_labelcsids.png"},
      {"images/{}_img/{}.jpg", "masks/{}_mask/{}.png", "", "images/train_img", "masks/train_mask", ".jpg", ".png"},
      {"images/{}/image_{}.png", "masks/{}/mask_{}.png", "", nullptr, nullptr, ".png", ".png"},
      {"{}/img{}.jpg", "{}/label{}.png", "", nullptr, nullptr, ".jpg", ".png"},
      {"{}/frame_{}.jpg", "{}/labels/{}.png", "", nullptr, nullptr, ".jpg", ".png"},
      {"{}/{}.jpg", "{}/masks/{}.png", "", "train", "train/masks", ".jpg", ".png"},
      {"{}/video/rgb/{}.jpg", "labels/{}/video/{}.png", "", "train/video/rgb", "labels/train/video", ".jpg", ".png"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.picture);
    const OddFolder folder;
    std::map<std::string, std::set<std::pair<std::string, std::string>>> expected;
    for (const std::string split : {"train", "val"}) {
      for (int i = 0; i < 3; ++i) {
        const auto name = [&](std::string form) {
          for (const std::string& part : {split, std::to_string(i)}) form.replace(form.find("{}"), 2, part);
          return form;
        };
        folder.picture(name(c.picture));
        folder.gray(name(c.label), {0, 1, 2});
        if (*c.other != 0) folder.gray(name(c.other), {0, 1, 2, 3});
        expected[split].insert({name(c.picture), name(c.label)});
      }
    }
    const FoundData found = discover_data(folder.root);
    std::map<std::string, std::set<std::pair<std::string, std::string>>> pairs;
    for (const auto& [split, of_split] : found.pairs) {
      for (const SampleFiles& pair : of_split) pairs[split].insert({pair.image.string(), pair.labels.string()});
    }
    CHECK(pairs == expected);
    CHECK(found.unlabelled.empty());
    CAPTURE(found.remarks);
    CHECK(found.remarks.size() == (*c.other == 0 ? 0 : 1));
    CHECK(found.options.image_suffix == Names{c.image_suffix});
    CHECK(found.options.label_suffix == c.label_suffix);
    if (c.images == nullptr) {
      CHECK(found.options.folders.empty());
      continue;
    }
    REQUIRE(found.options.folders.contains("train"));
    CHECK(found.options.folders.at("train").images == c.images);
    CHECK(found.options.folders.at("train").labels == c.labels);
    check_loads(found);
  }
}

TEST_CASE("splits that only the label files' folders name", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 5; ++i) {
    folder.picture("images/" + std::to_string(i) + ".jpg");
    folder.gray((i < 3 ? "labels/train/" : "labels/val/") + std::to_string(i) + ".png", {0, 1});
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.pairs.at("train").size() == 3);
  CHECK(found.pairs.at("val").size() == 2);
  CHECK(found.options.val_fraction == 0);
  CHECK(found.options.folders.empty());
}

TEST_CASE("a second mask of a picture is no picture without labels; one label file of two pictures is said", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 3; ++i) {
    folder.picture(std::to_string(i) + ".png");
    folder.gray(std::to_string(i) + "_mask.png", {0, 1});
    folder.labels(std::to_string(i) + "_instances.png", {0, 1, 2, 3});
  }
  folder.picture("human.png");  // a picture by its name, whatever word it is
  CHECK(discover_data(folder.root).unlabelled == Names{"human.png"});
  folder.picture("2.jpg");
  CHECK_THAT(discover_data(folder.root).remarks.back(), Contains("several pictures have: 2_mask.png"));
}

TEST_CASE("thousands of files of the same names in many folders", "[discover]") {
  const OddFolder folder;
  folder.picture("picture.png");
  folder.gray("label.png", {0, 1, 2});
  const fs::path set = folder.root / "set";
  for (int video = 0; video < 60; ++video) {
    for (const std::string kind : {"frames", "masks"}) {
      const fs::path below = set / std::to_string(video) / kind;
      fs::create_directories(below);
      for (int i = 0; i < 20; ++i) {
        fs::create_hard_link(folder.root / (kind == "frames" ? "picture.png" : "label.png"), below / (std::to_string(i) + ".png"));
      }
    }
  }
  const FoundData found = discover_data(set, {.samples = 7});
  REQUIRE(found.pairs.at("train").size() == 1200);
  for (const SampleFiles& pair : found.pairs.at("train")) {
    REQUIRE(pair.image.parent_path().parent_path() == pair.labels.parent_path().parent_path());
    REQUIRE(pair.image.parent_path().filename() == "frames");
    REQUIRE(pair.image.filename() == pair.labels.filename());
  }
  CHECK(found.options.folders.empty());
  CHECK(found.looked_into == 7);
}

TEST_CASE("pictures with no more colours than their labels are said to be odd", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 3; ++i) {
    const std::string name = std::to_string(i) + ".png";
    folder.picture("images/photo" + std::string(1, char('a' + i)) + name);  // no part of a name that the others have
    folder.colors("colormaps/x" + name, {{0, 0, 0}, {9, 0, 0}});
    folder.gray("masks/x" + name, {0, 1});
  }
  const FoundData found = discover_data(folder.root);
  REQUIRE(found.options.folders.at("train").images == "colormaps");
  CHECK_THAT(found.remarks.at(0), Contains("no more colours") && Contains("colormaps/x0.png") && Contains("--images"));
}
