#pragma once
// exp(x - max) and its sum for a few rows at a time: the common body of softmax, log-softmax and cross-entropy on the CPU.
// Each step runs over all rows before the next begins, because one row alone is a chain of dependent instructions (maximum,
// exponential, sum, quotient) several times longer than the work in it.

#include <limits>

#include "core/kernels/lanes.h"

namespace eq::cpu {

template <class T>
class SoftmaxBlock {
 public:
  static constexpr int64_t kRows = kLanes<T>;

  explicit SoftmaxBlock(int64_t width) : walk(width), scratch_(kRows * walk.vectors) {}

  // Up to kRows rows at `rows`; full vectors may be read below `limit`. Rows that are not there get total 1 and top 0.
  void compute(const T* rows, int64_t count, int64_t width, const T* limit) {
    switch (walk.vectors) {  // a constant number leaves one loop, with the constants of exp in registers
      case 1: compute_rows<1>(rows, count, width, limit); break;
      case 2: compute_rows<2>(rows, count, width, limit); break;
      default: compute_rows<0>(rows, count, width, limit);
    }
    for (int64_t p = 0; p < count; ++p) total[p] = sum_lanes<T>(load(sums_ + p * kLanes<T>));
    for (int64_t p = count; p < kRows; ++p) {
      total[p] = T(1);
      top[p] = T(0);
    }
  }

  // Of row p, zeros behind the last one, up to a whole vector.
  T* exponentials(int64_t p) { return scratch_.data() + p * walk.vectors * kLanes<T>; }

  LaneRow<T> walk;
  alignas(64) T top[kRows], total[kRows];  // largest value, sum of exponentials

 private:
  template <int kVectors>
  void compute_rows(const T* rows, int64_t count, int64_t width, const T* limit) {
    constexpr T kNothing = -std::numeric_limits<T>::infinity();
    const LaneRow<T> row = walk;
    const int64_t vectors = kVectors > 0 ? kVectors : row.vectors;
    T* exponential = scratch_.data();
    for (int64_t p = 0; p < count; ++p) {
      Lanes<T> largest = broadcast(kNothing);
      for (int64_t v = 0; v < vectors; ++v) {
        largest = max_of(largest, row.load_at(rows + p * width, v, v + 1 == vectors, limit, kNothing));
      }
      top[p] = max_lanes<T>(largest);
    }
    for (int64_t p = 0; p < count; ++p) {
      Lanes<T> sum{};
      for (int64_t v = 0; v < vectors; ++v, exponential += kLanes<T>) {
        const Lanes<T> e = exp_nonpositive<T>(row.load_at(rows + p * width, v, v + 1 == vectors, limit, kNothing) - top[p]);
        store(exponential, e);
        sum += e;
      }
      store(sums_ + p * kLanes<T>, sum);
    }
  }

  alignas(64) T sums_[kRows * kLanes<T>];
  LaneScratch<T> scratch_;
};

}  // namespace eq::cpu
