#pragma once
// PASCAL VOC 2012: JPEGImages, SegmentationClass (palette PNGs: 0 background, 1 .. 20, 255 border) and
// ImageSets/Segmentation/<split>.txt. The root is VOCdevkit/VOC2012 or a folder above it. With augmented_list the split
// "train" comes from train_aug.txt (or trainaug.txt), whose lines are a name, with labels in SegmentationClassAug, or
// an image and a label path.

#include "datasets/dataset.h"

namespace eq {
std::unique_ptr<Dataset> make_voc2012(const DataOptions& options, const std::string& split);
}  // namespace eq
