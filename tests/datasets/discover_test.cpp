// Folders as people have them, and what a configuration would say of each.
#include "datasets/discover.h"

#include "core/errors.h"
#include "pictures.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

using Entries = std::map<int, int>;

}  // namespace

TEST_CASE("what values of label files become", "[discover]") {
  struct Case {
    std::vector<int> values;
    Names classes;
    Entries map;
    bool ignores;
  };
  const Case cases[] = {{{0, 255}, {"background", "foreground"}, {{0, 0}, {255, 1}}, false},
                        {{0, 1}, {"background", "foreground"}, {}, false},
                        {{0, 1, 255}, {"background", "foreground"}, {}, true},
                        {{0, 1, 2, 255}, {"class 0", "class 1", "class 2"}, {}, true},
                        {{1, 2, 3}, {"value 1", "value 2", "value 3"}, {{1, 0}, {2, 1}, {3, 2}}, false},
                        {{1, 2, 255}, {"background", "foreground"}, {{1, 0}, {2, 1}}, true},
                        {{0, 128, 255}, {"value 0", "value 128", "value 255"}, {{0, 0}, {128, 1}, {255, 2}}, false},
                        {{0, 7, 19}, {"value 0", "value 7", "value 19"}, {{0, 0}, {7, 1}, {19, 2}}, false}};
  for (const Case& c : cases) {
    CAPTURE(c.values);
    const OddFolder folder;
    for (int i = 0; i < 5; ++i) {
      folder.picture("images/" + std::to_string(i) + ".jpg");
      folder.gray("masks/" + std::to_string(i) + ".png", c.values);
    }
    const FoundData found = discover_data(folder.root);
    CHECK(found.options.classes == c.classes);
    CHECK(found.options.label_map.entries == c.map);
    CHECK(found.options.palette.empty());  // grays are no colours for overlays
    CHECK(found.options.val_fraction == 0.2);
    CHECK(found.labels.back().name.empty() == c.ignores);
    CHECK(found.labels.front().files == 5);
    check_loads(found);
    const LabelMapper mapper(found.options.label_map, int64_t(c.classes.size()));
    CHECK((mapper[255] == kIgnoreIndex) == (c.values.back() != 255 || c.ignores));
  }
}

TEST_CASE("masks of colours, their names, and borders that are ignored", "[discover]") {
  const Palette painted = {{0, 0, 0}, {200, 10, 10}, {10, 200, 10}};
  const auto with = [&](const char* file, const std::string& text, const Palette& palette) {
    const OddFolder folder;
    for (int i = 0; i < 3; ++i) {
      folder.picture(std::to_string(i) + ".png");
      folder.colors(std::to_string(i) + "_mask.png", palette);
    }
    if (file != nullptr) write_file(folder.root / file, text);
    FoundData found = discover_data(folder.root);
    CHECK(found.pairs.at("train").size() == 3);
    CHECK(found.options.label_colors);
    check_loads(found);
    return found;
  };
  const FoundData bare = with(nullptr, "", painted);
  CHECK(bare.options.classes == Names{"color #000000", "color #0ac80a", "color #c80a0a"});
  CHECK(bare.options.palette == Palette{{0, 0, 0}, {10, 200, 10}, {200, 10, 10}});
  CHECK_FALSE(bare.options.label_map.is_given());

  const FoundData table =
      with("class_dict.csv", "name,r,g,b\r\nleaf,10,200,10\r\nsoil,0,0,0\r\nfruit, 200, 10, 10\r\nstem,1,2,3\r\n", painted);
  CHECK(table.options.classes == Names{"leaf", "soil", "fruit", "stem"});
  CHECK(table.options.palette[2] == Color{200, 10, 10});
  CHECK(table.labels[3].pixels == 0);

  const FoundData map = with("labelmap.txt", "# label:color_rgb:parts:actions\nsoil:0,0,0::\nleaf:10,200,10::\n", painted);
  CHECK(map.options.classes == Names{"soil", "leaf", "color #c80a0a"});
  REQUIRE(map.remarks.size() == 1);
  CHECK_THAT(map.remarks[0], Contains("labelmap.txt does not name 1 of the colours"));

  CHECK(with("labelmap.txt", "soil:0,0,0\nvoid:200,10,10\nleaf:10,200,10", painted).options.classes == Names{"soil", "leaf"});
  CHECK(with("class_dict.csv", "name,r,g,b\n\"soil,0,0,0\n", painted).remarks.size() == 1);
  CHECK(with(nullptr, "", {{0, 0, 0}, {255, 255, 255}}).options.classes == Names{"background", "foreground"});
  CHECK(with("classes.txt", "soil\nleaf\nfruit\n", painted).options.classes == Names{"soil", "leaf", "fruit"});

  Palette bordered = painted;
  bordered.push_back({224, 224, 192});
  const FoundData border = with(nullptr, "", bordered);
  CHECK(border.options.classes.size() == 3);
  CHECK(border.labels.back().name.empty());
  CHECK(LabelMapper(border.options.label_map, 3)[3] == kIgnoreIndex);
}

TEST_CASE("palette files painted in a named list's colours count by colours", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 3; ++i) {
    folder.picture("images/" + std::to_string(i) + ".jpg");
    folder.labels("masks/" + std::to_string(i) + ".png", {0, 5}, {{9, 9, 90}, {}, {}, {}, {}, {9, 90, 9}});
  }
  CHECK(discover_data(folder.root).options.classes == Names{"background", "foreground"});  // values 0 and 5
  write_file(folder.root / "labelmap.txt", "leaf:9,90,9::\nsoil:9,9,90::\n");
  const FoundData found = discover_data(folder.root);
  CHECK(found.options.label_colors);
  CHECK(found.options.classes == Names{"leaf", "soil"});
  check_loads(found);
}

TEST_CASE("names tell of classes that no file shows; names that do not fit are said and left", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 3; ++i) {
    folder.picture("images/" + std::to_string(i) + ".jpg");
    folder.labels("masks/" + std::to_string(i) + ".png", {0, 2, 1});
  }
  const auto names = [&](const std::string& text) {
    write_file(folder.root / "classes.txt", text);
    const FoundData found = discover_data(folder.root);
    check_loads(found);
    return found;
  };
  const FoundData numbered = names("0 soil\n1: leaf\n2\tlong stem\n3,fruit\n");
  CHECK(numbered.options.classes == Names{"soil", "leaf", "long stem", "fruit"});
  CHECK(numbered.labels[3].pixels == 0);
  CHECK(numbered.options.checks == DataChecks::kFiles);  // or training would refuse it
  CHECK_THAT(numbered.remarks.at(0), Contains("do not show: fruit"));
  const Palette voc = voc_palette();
  CHECK(numbered.options.palette == Palette(voc.begin(), voc.begin() + 4));  // the files' own
  const FoundData colored = names("0 soil 1 2 3\n1 green leaf 4 5 6\n2 Void 7 8 9\n");
  CHECK(colored.options.classes == Names{"soil", "green leaf"});
  CHECK(colored.options.palette == Palette{{1, 2, 3}, {4, 5, 6}});
  CHECK_FALSE(colored.options.label_colors);
  CHECK_THAT(colored.remarks.at(0), Contains("\"Void\" is ignored, by its name"));
  CHECK(colored.options.label_map.entries == Entries{{2, LabelMapOptions::kIgnore}});
  CHECK(colored.labels.back().name.empty());
  const FoundData first = names("unlabelled\nsoil\nleaf\n");
  CHECK(first.options.classes == Names{"soil", "leaf"});
  CHECK(first.options.label_map.entries == Entries{{0, LabelMapOptions::kIgnore}, {1, 0}, {2, 1}});
  CHECK(names("2 stem\n0 soil\n1 leaf\n").options.classes == Names{"soil", "leaf", "stem"});  // by their indices
  CHECK(names("2 wheeler\n4 wheeler\nbus\n").options.classes == Names{"2 wheeler", "4 wheeler", "bus"});
  CHECK(names("\xEF\xBB\xBFsoil \n leaf\nstem").options.classes == Names{"soil", "leaf", "stem"});
  CHECK(names("obstacles to avoid\nleaf\nstem").options.classes[0] == "obstacles to avoid");
  CHECK_THAT(names("soil\nbl\xe4tter\nstem\n").remarks.at(0), Contains("classes.txt was not used") && Contains("not UTF-8"));
  CHECK_THAT(names("soil\nleaf\nleaf\n").remarks.at(0), Contains("a name occurs twice: leaf"));
  const FoundData few = names("2 trees\nleaf\n");
  CHECK(few.options.classes == Names{"class 0", "class 1", "class 2"});
  CHECK_THAT(few.remarks.at(0), Contains("classes.txt has 2 names, the label files have 3 values"));
}

TEST_CASE("files of names below the root: Roboflow's _classes.csv in each split, lists beside the masks", "[discover]") {
  const OddFolder folder;
  for (const std::string split : {"train", "valid"}) {
    for (int i = 0; i < 2; ++i) {
      folder.picture(split + "/" + std::to_string(i) + ".jpg");
      folder.gray(split + "/" + std::to_string(i) + "_mask.png", {0, 1, 2});
    }
    write_file(folder.root / split / "_classes.csv", "Pixel Value, Class\n0, background\n1, leaf\n2, long stem\n");
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.options.classes == Names{"background", "leaf", "long stem"});
  CHECK(found.pairs.at("val").size() == 2);
  check_loads(found);
  write_file(folder.root / "classes.txt", "soil\nleaf\nstem\n");  // the root's is preferred
  CHECK(discover_data(folder.root).options.classes == Names{"soil", "leaf", "stem"});
  const OddFolder deep;
  for (int i = 0; i < 2; ++i) {
    deep.picture("a/images/" + std::to_string(i) + ".jpg");
    deep.gray("a/masks/" + std::to_string(i) + ".png", {0, 1, 2});
  }
  write_file(deep.root / "a/class_dict_seg.csv", "name, r, g, b\nsoil, 0, 0, 0\nleaf, 1, 1, 1\nstem, 2, 2, 2\n");
  CHECK(discover_data(deep.root).options.classes == Names{"soil", "leaf", "stem"});
  write_file(deep.root / "a/class_dict_seg.csv", "name, r, g, b\nsoil, 0, 0, 0\n");
  CHECK_THAT(discover_data(deep.root).remarks.at(0), Contains("a/class_dict_seg.csv"));
}

TEST_CASE("pictures without labels, and pictures of several folders, are to be listed", "[discover]") {
  const OddFolder folder;
  for (const std::string site : {"north", "south"}) {
    for (int i = 0; i < 2; ++i) {
      folder.picture(site + "/images/" + std::to_string(i) + ".jpg");
      folder.gray(site + "/masks/" + std::to_string(i) + ".png", {0, 1});
    }
  }
  const FoundData sites = discover_data(folder.root);
  CHECK(sites.pairs.at("train").size() == 4);
  CHECK(sites.options.folders.empty());
  folder.picture("north/images/9.jpg");
  const FoundData found = discover_data(folder.root);
  CHECK(found.pairs.at("train").size() == 4);
  folder.picture("south/images/deep/8.jpg");  // in a folder in which nothing has labels: something else
  folder.picture("south/images/7.jpg");
  CHECK(discover_data(folder.root).unlabelled == Names{"north/images/9.jpg", "south/images/7.jpg"});
  CHECK(found.unlabelled == Names{"north/images/9.jpg"});
}

TEST_CASE("masks of objects stand back behind those of classes, unless they are asked for", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 3; ++i) {
    folder.picture("JPEGImages/" + std::to_string(i) + ".jpg");
    folder.labels("SegmentationClass/" + std::to_string(i) + ".png", {0, 1, 2});
    folder.labels("SegmentationObject/" + std::to_string(i) + ".png", {0, 1});
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.options.folders.at("train").labels == "SegmentationClass");
  REQUIRE(found.remarks.size() == 1);
  CHECK_THAT(found.remarks[0], Contains("SegmentationObject/0.png") && Contains("--labels"));
  CHECK(discover_data(folder.root, {.labels = "SegmentationObject"}).options.folders.at("train").labels == "SegmentationObject");
  CHECK(discover_data(folder.root, {.images = "JPEGImages/"}).options.folders.at("train").images == "JPEGImages");
  CHECK(discover_data(folder.root, {.labels = (folder.root / "SegmentationObject").string()}).options.folders.at("train").labels ==
        "SegmentationObject");
  CHECK_THROWS_WITH(discover_data(folder.root, {.labels = "Masks"}), Contains("no such folder below") && Contains("--labels"));
  CHECK_THROWS_WITH(discover_data(folder.root, {.images = ".."}), Contains("--images"));
}

TEST_CASE("folders that cannot be understood say why", "[discover]") {
  const OddFolder folder;
  fs::create_directories(folder.root);
  CHECK_THROWS_AS(discover_data(folder.root / "gone"), IoError);
  CHECK_THROWS_WITH(discover_data(folder.root), Contains("no picture"));
  write_file(folder.root / "a.tif", "II*");
  CHECK_THROWS_WITH(discover_data(folder.root), Contains("1 .tif files cannot be read"));
  folder.picture("one.png");
  CHECK_THROWS_WITH(discover_data(folder.root),
                    Contains("none is another's label file") && Contains("one.png") && Contains("1 .tif files"));
  fs::remove(folder.root / "a.tif");
  folder.gray("one_mask.png", {4});
  CHECK_THROWS_WITH(discover_data(folder.root), Contains("all pixels of the label files are 4"));
  fs::remove(folder.root / "one_mask.png");
  fs::rename(folder.root / "one.png", folder.root / "one.jpg");
  CHECK_THROWS_WITH(discover_data(folder.root), Contains("all are JPEG"));
}

TEST_CASE("pictures beside the splits are left out, and said", "[discover]") {
  const OddFolder folder;
  for (const std::string place : {"train/", "val/", ""}) {
    folder.picture(place + "images/1.jpg");
    folder.gray(place + "masks/1.png", {0, 1});
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.pairs.at("train").size() == 1);
  CHECK_THAT(found.remarks.at(0), Contains("left out, in no split's folder: images/1.jpg"));
  check_loads(found);
}

TEST_CASE("pictures of val or test alone are taken together", "[discover]") {
  const OddFolder folder;
  for (const std::string split : {"test", "val"}) {
    for (int i = 0; i < 3; ++i) {
      folder.picture(split + "/images/" + std::to_string(i) + ".jpg");
      folder.gray(split + "/masks/" + std::to_string(i) + ".png", {0, 1});
    }
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.pairs.size() == 1);
  CHECK(found.pairs.at("train").size() == 6);
  CHECK(found.options.val_fraction == 0.2);
  CHECK_THAT(found.remarks.at(0), Contains("folders for test and val, none for train"));
}

TEST_CASE("label files with more colours than classes can be are refused before they are counted", "[discover]") {
  const OddFolder folder;
  folder.picture("images/1.jpg");
  Image smooth{40, 40, {}};
  for (int i = 0; i < 1600; ++i) {
    for (int c = 0; c < 3; ++c) smooth.pixels.push_back(uint8_t(c == 0 ? i % 256 : i / 256));
  }
  folder.write("masks/1.png", smooth);
  folder.picture("images/2.jpg");
  folder.gray("masks/2.png", {0, 1});
  CHECK_THROWS_WITH(discover_data(folder.root, {.labels = "masks"}), Contains("more than 256 colours") && Contains("--labels"));
}

TEST_CASE("folders of scenes that share names: a picture's own folder has its mask", "[discover]") {
  for (const char* ending : {".jpg", ".png"}) {
    CAPTURE(ending);
    const OddFolder folder;
    for (const std::string scene : {"scene1", "scene2"}) {
      for (int i = 0; i < 3; ++i) {
        folder.picture(scene + "/" + std::to_string(i) + ending);
        folder.gray(scene + "/" + std::to_string(i) + "_mask.png", {0, 1});
      }
    }
    const FoundData found = discover_data(folder.root);
    REQUIRE(found.pairs.at("train").size() == 6);
    for (const SampleFiles& pair : found.pairs.at("train")) {
      CHECK(pair.image.parent_path() == pair.labels.parent_path());
      CHECK(pair.image.extension() == ending);
    }
    CHECK(found.options.label_suffix == "_mask.png");
    check_loads(found);
  }
}

TEST_CASE("which are the pictures does not depend on names' order, on a second rendering of masks or on a broken file", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 6; ++i) {
    folder.picture("photos/" + std::to_string(i) + ".png");
    folder.gray("masks/" + std::to_string(i) + ".png", {0, 1, 2});
    folder.colors("mask_rgb/" + std::to_string(i) + ".png", {{0, 0, 0}, {9, 0, 0}, {0, 9, 0}, {0, 0, 9}});
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.options.folders.at("train").images == "photos");  // though mask_rgb comes before
  CHECK(found.options.folders.at("train").labels == "masks");
  write_file(folder.root / "masks/3.png", "");
  CHECK_THROWS_WITH(discover_data(folder.root, {.labels = "masks"}), Contains("masks/3.png"));
}

TEST_CASE("endings in any case, splits with years, and labels beside splits without a separator", "[discover]") {
  const OddFolder folder;
  for (const std::string split : {"train", "val"}) {
    folder.picture(split + "/IMG_1.JPG");
    folder.picture(split + "/IMG_2.jpg");
    folder.gray(split + "annot/IMG_1.PNG", {0, 1});
    folder.gray(split + "annot/IMG_2.png", {0, 1});
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.pairs.at("train").size() == 2);
  CHECK(found.pairs.at("val").size() == 2);
  CHECK(found.options.folders.at("val").labels == "valannot");
  check_loads(found);
  const OddFolder years;
  for (const std::string split : {"train2017", "val2017"}) {
    years.picture("images/" + split + "/1.jpg");
    years.gray("masks/" + split + "/1.png", {0, 1});
  }
  CHECK(discover_data(years.root).options.folders.at("val").images == "images/val2017");
}

TEST_CASE("lists of the splits' pictures choose them, where they fit", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 5; ++i) {
    folder.picture("JPEGImages/" + std::to_string(i) + ".jpg");
    folder.labels("SegmentationClass/" + std::to_string(i) + ".png", {0, 1, 2});
  }
  fs::create_directories(folder.root / "ImageSets/Segmentation");
  write_file(folder.root / "labelmap.txt", "background:0,0,0::\n");
  write_file(folder.root / "ImageSets/Segmentation/train.txt", "3\n0\n4\n");
  CHECK_THAT(discover_data(folder.root).remarks.at(0), Contains("train.txt was not used"));  // without the other
  write_file(folder.root / "ImageSets/Segmentation/val.txt", "2\n");
  const FoundData found = discover_data(folder.root);
  REQUIRE(found.pairs.at("train").size() == 3);
  CHECK(found.pairs.at("val").size() == 1);
  CHECK(found.pairs.at("train")[0].image == "JPEGImages/3.jpg");
  CHECK(found.options.val_fraction == 0);
  CHECK(found.options.list.at("val") == "ImageSets/Segmentation/val.txt");
  check_loads(found);
  write_file(folder.root / "ImageSets/Segmentation/val.txt", "2\n77\n");
  CHECK(discover_data(folder.root).options.list.empty());
}

TEST_CASE("what does not fit is said: sizes, broken pictures, lists of splits, files not looked into", "[discover]") {
  const OddFolder folder;
  for (int i = 0; i < 4; ++i) {
    folder.picture("images/" + std::to_string(i) + ".png");
    folder.gray("masks/" + std::to_string(i) + ".png", {0, 1, 255});
  }
  folder.write("images/1.png", {4, 4, std::vector<uint8_t>(48, 7)});
  write_file(folder.root / "images/2.png", "broken");
  write_file(folder.root / "train.txt", "0\n");
  write_file(folder.root / "classes.txt", "soil\nleaf\nstem\n");
  const FoundData found = discover_data(folder.root, {.samples = 4});
  std::string all;
  for (const std::string& remark : found.remarks) all += remark + "\n";
  CHECK_THAT(all,
             Contains("different sizes: images/1.png") && Contains("cannot be read: images/2.png") && Contains("train.txt was not used"));
  CHECK(found.options.classes == Names{"soil", "leaf", "stem"});  // as many as values: 255 is one
  CHECK(found.options.list.empty());
  CHECK(found.options.label_map.entries == Entries{{0, 0}, {1, 1}, {255, 2}});
  CHECK_THAT(discover_data(folder.root, {.samples = 3}).remarks.back(), Contains("3 of 4 label files were looked into"));
  const OddFolder lonely;
  lonely.picture("1.jpg");
  lonely.gray("1.png", {0, 1});
  CHECK_THROWS_WITH(discover_data(lonely.root), Contains("one picture with labels"));
}

TEST_CASE("a class that val alone shows is said, and does not keep training from beginning", "[discover]") {
  const OddFolder folder;
  for (const std::string split : {"test", "train", "val"}) {
    folder.picture("images/" + split + "/1.jpg");
    folder.gray("masks/" + split + "/1.png", split == "train" ? std::vector{0, 1} : std::vector{0, 1, 2});
  }
  const FoundData found = discover_data(folder.root);
  CHECK(found.labels[2].files == 2);
  CHECK(found.labels[2].train_files == 0);
  CHECK(found.labels[1].train_files == 1);
  CHECK(found.options.checks == DataChecks::kFiles);
  CHECK_THAT(found.remarks.back(), Contains("train's label files do not show: class 2"));
}
