#pragma once
// Learning rates as a pure function of the iteration, so that a resumed run needs no state.

#include <cstdint>

#include "training/options.h"

namespace eq {

// With t = iteration / iterations, both counted from 0, and b the base rate:
//   poly:     (b - min_lr) (1 - t)^power + min_lr       (mmsegmentation)
//   cosine:   (b - min_lr) (1 + cos(pi t)) / 2 + min_lr (Loshchilov and Hutter 2017)
//   constant: b
// During warm-up the value is multiplied by 1 - (1 - iteration / warmup_iterations)(1 - warmup_ratio) (mmcv).
class Schedule {
 public:
  // Throws UsageError: unknown type, no iterations, a number out of its range, min_lr above the base rate.
  Schedule(const ScheduleOptions& options, double base_lr, int64_t iterations);
  double lr(int64_t iteration) const;  // past the end: the value at the end

 private:
  ScheduleOptions options_;
  double base_lr_;
  int64_t iterations_;
};

}  // namespace eq
