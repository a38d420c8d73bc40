#pragma once
// A running average of a model's weights, which often evaluates better than the last ones.

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "layers/module.h"

namespace eq {

class Ema {
 public:
  // Starts from the model's present values. `decay` in (0, 1); throws UsageError otherwise.
  Ema(Module& model, double decay);

  // average += (1 - d) (weight - average) with d = min(decay, (1 + step) / (10 + step)), so that the first values do not
  // linger; `step` counts updates from 0. Floating buffers (running statistics) are averaged too, integers are copied.
  void update(int64_t step);

  // Exchanges the averages with the model's values; calling it again restores both. The model must be on the device that it was on
  // when this began. It cannot fail: that a checkpoint or an evaluation ends in an error must not leave the averages in the model.
  void swap() noexcept;

  // Overwrites the averages with the model's present values (which a loader has just put there).
  void take_from_model();

 private:
  struct Entry {
    Tensor value;    // the model's own tensor
    Tensor average;  // float32 or float64 as the value; integers are plain copies
  };
  std::vector<Entry> entries_;
  double decay_;
};

// The model holds the averages while this lives. Null: nothing happens.
class EmaScope {
 public:
  explicit EmaScope(Ema* ema) : ema_(ema) {
    if (ema_ != nullptr) ema_->swap();
  }
  ~EmaScope() {
    if (ema_ != nullptr) ema_->swap();
  }
  EmaScope(const EmaScope&) = delete;

 private:
  Ema* ema_;
};

}  // namespace eq
