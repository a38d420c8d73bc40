#pragma once
// Keys of a configuration that are set and have no effect there: of another type's head, say, which a recipe may keep when
// --set model.decode_head.type=... takes its place. So they are no errors, and worth a word.

#include <string>
#include <vector>

#include "training/config.h"

namespace eq {

// A sentence for each such key whose value is not the default. Keys of the data set are not among them: they are refused (make_dataset).
std::vector<std::string> unread_keys(const Config& config);

// A sentence for each value that is possible and hardly meant: a warm-up that the run does not outlast, pictures that are not prepared as
// the pretrained weights expect.
std::vector<std::string> doubtful_values(const Config& config);

}  // namespace eq
