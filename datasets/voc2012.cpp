#include "datasets/voc2012.h"

#include "core/errors.h"
#include "datasets/folders.h"

namespace eq {

std::unique_ptr<Dataset> make_voc2012(const DataOptions& options, const std::string& split) {
  namespace fs = std::filesystem;
  static const LayoutDefaults kDefaults = {
      .classes = {"background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
                  "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"},
      .palette = {},
      .label_map = {.preset = "identity"},
  };
  const fs::path given = data_root(options);
  fs::path root = given;
  std::error_code ignored;  // require_folder and the reader of the list say what the matter is
  for (const char* below : {"", "VOC2012", "VOCdevkit/VOC2012"}) {
    if (fs::is_directory(given / below / "JPEGImages", ignored)) {
      root = given / below;
      break;
    }
  }
  const std::string hint = "data.root is VOCdevkit/VOC2012, or a folder above it";
  require_folder(root / "JPEGImages", hint);
  const bool augmented = options.augmented_list && split == "train";
  const fs::path labels = root / (augmented ? "SegmentationClassAug" : "SegmentationClass");
  require_folder(labels, augmented ? "the augmented labels belong here; without them set data.augmented_list to false" : hint);
  const fs::path lists = root / "ImageSets" / "Segmentation";
  fs::path list = lists / (augmented ? "train_aug.txt" : split + ".txt");
  if (augmented && !fs::exists(list, ignored) && fs::exists(lists / "trainaug.txt", ignored)) list = lists / "trainaug.txt";
  FilePairs pairs;
  for (const auto& row : read_list(list, 1, augmented ? 2 : 1, "the name of an image without its suffix")) {
    if (row.size() == 2) pairs.files.push_back({listed_file(root, row[0]), listed_file(root, row[1])});
    else pairs.files.push_back({root / "JPEGImages" / (row[0] + ".jpg"), labels / (row[0] + ".png")});
  }
  return std::make_unique<FileDataset>(std::move(pairs), options, kDefaults);
}

}  // namespace eq
