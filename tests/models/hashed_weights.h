#pragma once
// Weights that are functions of their names, as tools/network_goldens.py makes them: a golden file needs none.

#include <cmath>
#include <string>

#include "autograd/functional.h"
#include "core/tensor.h"

namespace eq::test {

// Uniform in [0, 1): splitmix64 of the FNV-1a hash of the name and the element's index.
inline Tensor hashed(const std::string& name, const Shape& shape) {
  uint64_t seed = 0xCBF29CE484222325;
  for (const char c : name) seed = (seed ^ uint8_t(c)) * 0x100000001B3;
  Tensor values = Tensor::empty(shape, DType::kFloat64);
  for (int64_t i = 0; i < values.numel(); ++i) {
    uint64_t z = seed + uint64_t(i + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    values.data<double>()[i] = double((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }
  return values;
}

// `shape` is the file's, [O,I,kh,kw] of a filter.
inline Tensor initial_value(const std::string& name, const Shape& shape) {
  const Tensor u = hashed(name, shape);
  Tensor value;
  if (shape.rank() == 4 || (shape.rank() == 2 && name.ends_with("weight"))) {
    value = (2.0 * u - 1.0) * std::sqrt(6.0 / double(u.numel() / shape[0]));
  } else if (name.find(".equalizers.") != std::string::npos) {
    value = 0.3 + 0.5 * u;
  } else if (name.ends_with("weight") || name.ends_with("running_var")) {
    value = 0.5 + u;
  } else {
    value = 0.2 * (u - 0.5);
  }
  return value.to(DType::kFloat32);
}

}  // namespace eq::test
