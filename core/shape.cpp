#include "core/shape.h"

#include "core/errors.h"
#include "core/words.h"

namespace eq {

Shape::Shape(std::span<const int64_t> extents) {
  if (extents.size() > size_t(kMaxRank)) {
    throw ShapeError("a tensor has at most 8 axes, not " + std::to_string(extents.size()), "Shape",
                     "merge axes with reshape");
  }
  for (int64_t extent : extents) {
    if (extent < 0) {
      throw ShapeError("an extent is negative: " + std::to_string(extent), "Shape", "extents must be 0 or more");
    }
    extents_[rank_++] = extent;
  }
}

int Shape::normalized(int axis) const {
  const int wrapped = axis < 0 ? axis + rank_ : axis;
  if (wrapped < 0 || wrapped >= rank_) {
    throw ShapeError("there is no axis " + std::to_string(axis) + " in " + to_string(*this), "Shape",
                     rank_ == 0 ? "a single value has no axes"
                                : "axes run from " + std::to_string(-rank_) + " to " + std::to_string(rank_ - 1));
  }
  return wrapped;
}

int64_t Shape::product(int begin, int end) const {
  int64_t total = 1;
  for (int axis = begin; axis < end; ++axis) {
    if (__builtin_mul_overflow(total, extents_[axis], &total) || total > (int64_t{1} << 62)) {
      throw ShapeError("the element count of " + to_string(*this) + " overflows", "Shape", "use smaller extents");
    }
  }
  return total;
}

int64_t Shape::numel() const {
  for (int axis = 0; axis < rank_; ++axis) {
    if (extents_[axis] == 0) return 0;
  }
  return product(0, rank_);
}

std::string to_string(const Shape& shape) {
  const std::string extents = joined(shape);
  return "[" + extents + "]";
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const char* op) {
  const int rank = std::max(a.rank(), b.rank());
  std::vector<int64_t> extents(rank);
  for (int axis = 0; axis < rank; ++axis) {
    const int in_a = axis - (rank - a.rank()), in_b = axis - (rank - b.rank());
    const int64_t ea = in_a < 0 ? 1 : a[in_a], eb = in_b < 0 ? 1 : b[in_b];
    if (ea != eb && ea != 1 && eb != 1) {
      throw ShapeError(std::string(op) + ": shapes " + to_string(a) + " and " + to_string(b) + " do not broadcast", op,
                       "extents must be equal or 1, counted from the last axis");
    }
    extents[axis] = ea == 1 ? eb : ea;
  }
  return Shape(extents);
}

}  // namespace eq
