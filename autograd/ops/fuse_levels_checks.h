#pragma once
// The argument checks of fuse_levels, for all operators that begin with it.

#include <vector>

#include "core/kernels/fuse_levels.h"

namespace eq::check {

void levels(const char* op, const std::vector<Tensor>& branches, const FuseLevelsOptions& options);

}  // namespace eq::check
