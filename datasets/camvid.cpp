#include "datasets/camvid.h"

#include "datasets/folders.h"

namespace eq {

std::unique_ptr<Dataset> make_camvid(const DataOptions& options, const std::string& split) {
  static const LayoutDefaults kDefaults = {
      .classes = {"Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"},
      .palette = {{128, 128, 128}, {128, 0, 0}, {192, 192, 128}, {128, 64, 128}, {60, 40, 222}, {128, 128, 0},
                  {192, 128, 128}, {64, 64, 128}, {64, 0, 128}, {64, 64, 0}, {0, 128, 192}},
      .label_map = {.preset = "", .entries = {{11, LabelMapOptions::kIgnore}}, .other = "keep"},
  };
  const std::filesystem::path root = data_root(options);
  return std::make_unique<FileDataset>(pairs_from_list(root, root / (split + ".txt")), options, kDefaults);
}

}  // namespace eq
