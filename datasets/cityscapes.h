#pragma once
// Cityscapes: leftImg8bit/<split>/<city>/<stem>_leftImg8bit.png with
// gtFine/<split>/<city>/<stem>_gtFine_labelTrainIds.png (0 .. 18 and 255) where the official script has made them, else
// ..._gtFine_labelIds.png with the preset cityscapes_ids. A label_map in the options decides too: identity means the
// training ids, anything else is a map of the label ids.

#include "datasets/dataset.h"

namespace eq {
std::unique_ptr<Dataset> make_cityscapes(const DataOptions& options, const std::string& split);
}  // namespace eq
