#pragma once
// ADE20K as ADEChallengeData2016: images/{training,validation}, annotations/{training,validation} and
// objectInfo150.txt, from which the class names come (the first of each row's synonyms). Labels are 0, ignored, and 1
// .. 150. The root is that folder or its parent.

#include "datasets/dataset.h"

namespace eq {
std::unique_ptr<Dataset> make_ade20k(const DataOptions& options, const std::string& split);
}  // namespace eq
