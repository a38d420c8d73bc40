#pragma once

#include "core/tensor.h"

namespace eq {

// Whether no value is NaN or infinite. Of any device; the values are looked at on the host.
bool all_finite(const Tensor& x);

}  // namespace eq
