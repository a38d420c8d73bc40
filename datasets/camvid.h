#pragma once
// CamVid as the SegNet authors prepared it: the root holds train.txt, val.txt and test.txt with lines "image label".
// Labels are 0 .. 10; 11, unlabelled, is ignored.

#include "datasets/dataset.h"

namespace eq {
std::unique_ptr<Dataset> make_camvid(const DataOptions& options, const std::string& split);
}  // namespace eq
