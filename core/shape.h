#pragma once
// Shape: up to eight extents, row-major order. Images, features and logits are [N, H, W, C].

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace eq {

inline constexpr int kMaxRank = 8;

class Shape {
 public:
  Shape() = default;  // rank 0: a scalar, one element
  Shape(std::initializer_list<int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}
  explicit Shape(std::span<const int64_t> extents);             // throws ShapeError: rank > 8 or a negative extent
  explicit Shape(const std::vector<int64_t>& extents) : Shape(std::span<const int64_t>(extents)) {}

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[axis]; }      // 0 <= axis < rank, unchecked
  int64_t at(int axis) const { return extents_[normalized(axis)]; }  // negative counts from the end; throws ShapeError
  int normalized(int axis) const;                                   // -1 -> rank - 1; throws ShapeError
  void set(int axis, int64_t extent) { extents_[axis] = extent; }
  int64_t numel() const;                                            // 1 for a scalar; throws ShapeError past 2^62
  int64_t product(int begin, int end) const;                        // of the extents [begin, end)
  const int64_t* begin() const { return extents_.data(); }
  const int64_t* end() const { return extents_.data() + rank_; }
  bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

std::string to_string(const Shape& shape);  // "[2, 3, 4]"

// The shape both broadcast to by NumPy's rule (aligned at the last axis, extents equal or 1).
// Throws ShapeError naming `op` and both shapes.
Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op);

}  // namespace eq
