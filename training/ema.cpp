#include "training/ema.h"

#include <algorithm>

#include "core/errors.h"
#include "core/kernels/optimizer_step.h"

namespace eq {

Ema::Ema(Module& model, double decay) : decay_(decay) {
  if (!(decay > 0 && decay < 1)) {
    throw UsageError("the decay of averaged weights must be above 0 and below 1", "train.ema", "0.999 is usual; 0 turns them off");
  }
  for (const Module::NamedTensor& named : model.named_tensors()) entries_.push_back({named.tensor, named.tensor.clone()});
}

void Ema::update(int64_t step) {
  const double decay = std::min(decay_, (1.0 + double(step)) / (10.0 + double(step)));
  const AverageUpdate<double> update{decay, 1 - decay};
  std::vector<SteppedParameter> averages;
  for (Entry& entry : entries_) {
    if (!is_floating(entry.value.dtype())) {
      entry.average.copy_(entry.value);
      continue;
    }
    averages.push_back({entry.average, entry.value});
    entry.average.bump_version();
  }
  if (!averages.empty()) EQ_RUN(averages[0].value.device(), average_step(update, averages));
}

void Ema::swap() noexcept {
  for (Entry& entry : entries_) entry.value.swap_memory(entry.average);
}

void Ema::take_from_model() {
  for (Entry& entry : entries_) entry.average.copy_(entry.value.detach());
}

}  // namespace eq
