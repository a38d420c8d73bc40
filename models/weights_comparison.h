#pragma once
// Two files of weights beside each other: which tensors both have, under whatever names, and how far their values are apart.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace eq {

struct SharedTensor {
  std::string name, other_name;  // in the first file, in the other
  DType dtype, other_dtype;
  Shape shape, other_shape;
  bool comparable = false;       // the shapes fit; else there are no differences
  bool bit_equal = false;        // type, shape and every bit
  double absolute = 0;           // the largest |a - b|; infinite where only one of them is a number
  double relative = 0;           // that, by the largest magnitude in either: a value near zero that moved a little is no large difference
  bool other_type() const { return dtype != other_dtype; }
};

// Relatively; integers, which count batches, come after all that was learned.
bool farther_apart(const SharedTensor& a, const SharedTensor& b);

struct WeightsComparison {
  std::vector<SharedTensor> shared;                 // in the first file's order
  std::vector<std::string> only_first, only_other;
  std::string naming;  // what the pairs are found by, where that is not the same names: "the other file has timm's names"; else empty
  int64_t bit_equal() const;
  int64_t misfits() const;                // of another shape
  const SharedTensor* most_apart() const;  // the first by farther_apart; null where nothing that can be compared differs
};

// The tensors of two files as they are there (read_network_weights). Of files that name the same backbone differently
// (models/weight_names.h), one of them as we do, tensors are paired by what they mean, and patch merging's values brought into one order;
// "backbone." in front may be missing in one of them.
WeightsComparison compare_weights(const std::map<std::string, Tensor>& first, const std::map<std::string, Tensor>& other);

}  // namespace eq
