#pragma once
// What Tensor itself needs of a backend: changes in place and conversion. Elements are independent.
//
//   fill:       x[i] = value                convert:   y[i] = converted(x[i]), in y's type (any pair of types)
//   add_scaled: x[i] += scale * other[i]    scale_by:  x[i] *= factor

#include <limits>
#include <type_traits>

#include "core/backend.h"
#include "core/host_device.h"
#include "core/tensor.h"

namespace eq {

// x as a To. To a whole number: cut off towards zero; beyond the range the nearest there is, NaN 0. (C++ leaves that undefined.)
template <class To, class From>
EQ_HOST_DEVICE To converted(From x) {
  if constexpr (!std::is_integral_v<To> || std::is_same_v<To, bool> || std::is_same_v<From, bool>) {
    return static_cast<To>(x);
  } else if constexpr (std::is_same_v<From, bfloat16>) {
    return converted<To>(float(x));
  } else {
    constexpr To kLeast = std::numeric_limits<To>::lowest(), kMost = std::numeric_limits<To>::max();
    if constexpr (std::is_floating_point_v<From>) {
      if (!(x == x)) return 0;
      if (x <= From(kLeast)) return kLeast;
      if (x >= From(kMost)) return kMost;
    } else if constexpr (sizeof(From) > sizeof(To)) {
      if (x < From(kLeast)) return kLeast;
      if (x > From(kMost)) return kMost;
    }
    return static_cast<To>(x);
  }
}

EQ_KERNELS(
void fill(Tensor& x, double value);
void convert(const Tensor& x, Tensor& y);
void add_scaled(Tensor& x, const Tensor& other, double scale);
void scale_by(Tensor& x, double factor);
)

}  // namespace eq
