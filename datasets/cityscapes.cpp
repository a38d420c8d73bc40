#include "datasets/cityscapes.h"

#include "core/errors.h"
#include "datasets/folders.h"

namespace eq {

std::unique_ptr<Dataset> make_cityscapes(const DataOptions& options, const std::string& split) {
  namespace fs = std::filesystem;
  LayoutDefaults defaults = {
      .classes = {"road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
                  "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"},
      .palette = {{128, 64, 128}, {244, 35, 232}, {70, 70, 70}, {102, 102, 156}, {190, 153, 153}, {153, 153, 153}, {250, 170, 30},
                  {220, 220, 0}, {107, 142, 35}, {152, 251, 152}, {70, 130, 180}, {220, 20, 60}, {255, 0, 0}, {0, 0, 142},
                  {0, 0, 70}, {0, 60, 100}, {0, 80, 100}, {0, 0, 230}, {119, 11, 32}},
  };
  const fs::path root = data_root(options);
  const std::string training_ids = "_gtFine_labelTrainIds.png", ids = "_gtFine_labelIds.png";
  auto pairs = [&](const std::string& label_suffix) {
    return pairs_from_folders(root / "leftImg8bit" / split, root / "gtFine" / split, {"_leftImg8bit.png"}, label_suffix);
  };
  FilePairs files = pairs(training_ids);
  const LabelMapOptions& given = options.label_map;
  std::error_code ignored;  // FileDataset says what the matter is
  if (given.is_given() ? given.preset != "identity" : !fs::exists(files.files.front().labels, ignored)) {
    files = pairs(ids);
    defaults.label_map.preset = "cityscapes_ids";
  } else {
    defaults.label_map.preset = "identity";
  }
  return std::make_unique<FileDataset>(std::move(files), options, defaults);
}

}  // namespace eq
