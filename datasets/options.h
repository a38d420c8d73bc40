#pragma once
// What a configuration says about pictures: where they are, what their labels mean, and how they are prepared.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace eq {

// How values in label files become classes (datasets/label_map.h).
struct LabelMapOptions {
  // "identity", "minus_one_zero_ignored" or "cityscapes_ids"; empty with no `entries`: the data set's own
  // (identity for folders).
  std::string preset = {};
  // A custom map instead of a preset: value in the file -> class, or kIgnore.
  std::map<int, int> entries = {};
  // Of a custom map, for values that `entries` does not name: "error", "ignore", "keep" (the value is the class) or the class, in digits.
  std::string other = "error";

  static constexpr int kIgnore = 255;

  bool is_given() const { return !preset.empty() || !entries.empty(); }  // else it is the data set's own
};

struct FolderPair {
  std::string images, labels;  // relative to the root
};

// What makes the built-in pictures harder to read. The labels stay as they are.
struct ShapesDifficulty {
  int64_t noise = 0;    // 0 .. 128: gray levels added or taken away at most, for every channel of every pixel
  double contrast = 1;  // 0.05 .. 1: colours move towards middle gray
  int64_t blur = 0;     // 0 .. 8: radius in pixels of a box filter
};

// What is looked at before training (datasets/inspect.h): nothing, bad files (unreadable, of unequal sizes, with values out of range), or
// also classes that never occur and labels that are nearly all ignored. With kFiles a run says of these and goes on.
enum class DataChecks { kNone, kFiles, kAll };

struct DataOptions {
  std::string type = "shapes";  // a name of dataset_names()
  std::string root = {};        // needed by all but shapes

  // shapes
  int64_t size = 96;         // side in pixels, 64 .. 256
  int64_t train_images = 0;  // 0: endless
  int64_t val_images = 200;
  ShapesDifficulty difficulty = {};
  std::string wrong_labels = {};  // "", "shift", "binary" or "swapped": labels spoilt on purpose (datasets/shapes.h)

  // folders: a list file for each split, or a pair of folders, or both: then the list names pictures of the folders
  std::map<std::string, std::string> list = {};  // split -> file, relative to the root: lines "image label", or, with folders, a name each
  std::map<std::string, FolderPair> folders = {};
  std::vector<std::string> image_suffix = {".jpg"};  // of the folders' files, in any case; the rest of the name pairs them
  std::string label_suffix = ".png";
  double val_fraction = 0;  // of train's pictures, drawn by split_seed, which are val instead; 0: val has pictures of its own
  int64_t split_seed = 0;

  // Class names; their number is the number of classes. Empty: the data set's own (folders must give them).
  std::vector<std::string> classes = {};
  // The colour of each class; empty: the data set's own, else the PASCAL VOC colours. With `label_colors` the colour of
  // each value that `label_map` maps, so there may be more colours than classes.
  std::vector<std::array<uint8_t, 3>> palette = {};
  LabelMapOptions label_map = {};
  bool label_colors = false;    // labels are the palette's colours, whether files hold them as RGB, palette or gray
  bool augmented_list = false;  // voc2012: train on ImageSets/Segmentation/train_aug.txt with SegmentationClassAug
  DataChecks checks = DataChecks::kAll;
};

struct ResizeOptions {
  std::array<int64_t, 2> scale = {2048, 512};     // width, height: the picture must fit, turned either way
  std::array<double, 2> ratio_range = {0.5, 2.0};  // one ratio, uniform in this range, multiplies the scale
};

struct PipelineOptions {
  std::optional<ResizeOptions> resize = {};         // none: pictures keep their size
  std::optional<std::array<int64_t, 2>> crop = {};  // height, width; none: all pictures must have one size
  double max_class_share = 0.75;  // a crop in which one class has more of the labelled pixels is drawn again; 1: never
  double flip = 0.5;              // probability, of left and right
  double vertical_flip = 0;       // of top and bottom
  double rotate90 = 0;            // of a turn by 90, 180 or 270 degrees, one as likely as the other
  bool photometric = true;
  std::array<double, 3> mean = {123.675, 116.28, 103.53};  // RGB, of 0 .. 255
  std::array<double, 3> std = {58.395, 57.12, 57.375};
  std::optional<std::array<int64_t, 2>> test_scale = {};  // width, height: evaluation pictures are resized to fit; none: as they are
};

}  // namespace eq
