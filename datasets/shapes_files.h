#pragma once
// Shapes-8 as files, for whoever wants to see a data set of folders at work, or to spoil one.

#include <cstdint>
#include <filesystem>

#include "datasets/options.h"

namespace eq {

// Writes images/<split>/00000.png and labels/<split>/00000.png for train and val, as many as `shapes` says (train_images may not be
// endless), with its size, difficulty and wrong labels. Returns the options of the same set as `folders`: what is trained on it is what is
// trained on the built-in pictures. Throws UsageError (options; a folder that is not empty) and IoError.
DataOptions write_shapes(const DataOptions& shapes, uint64_t seed, const std::filesystem::path& folder);

}  // namespace eq
