#include "training/ema.h"

#include <algorithm>

#include "core/errors.h"
#include "core/kernels/optimizer_step.h"
#include "core/parallel.h"

namespace eq {

Ema::Ema(Module& model, double decay) : decay_(decay) {
  if (!(decay > 0 && decay < 1)) {
    throw UsageError("the decay of averaged weights must be above 0 and below 1", "train.ema", "0.999 is usual; 0 turns them off");
  }
  for (const Module::NamedTensor& named : model.named_tensors()) {
    entries_.push_back({named.tensor, named.tensor.clone()});
    const Tensor& value = named.tensor;
    if (!is_floating(value.dtype()) || !value.device().is_cpu()) continue;
    for (int64_t begin = 0; begin < value.numel(); begin += kStepGrain) {
      ranges_.push_back({entries_.size() - 1, begin, std::min(begin + kStepGrain, value.numel())});
    }
  }
}

void Ema::update(int64_t step) {
  const double decay = std::min(decay_, (1.0 + double(step)) / (10.0 + double(step)));
  const AverageUpdate<double> update{decay, 1 - decay};
  std::vector<SteppedParameter> on_device;
  for (Entry& entry : entries_) {
    if (!is_floating(entry.value.dtype())) {
      entry.average.copy_(entry.value);
      continue;
    }
    if (entry.value.device().is_cuda()) on_device.push_back({entry.average, entry.value});
    entry.average.bump_version();
  }
  if constexpr (kBuiltWithCuda) {
    if (!on_device.empty()) cuda::average_step(update, on_device);
  }
  parallel_for(int64_t(ranges_.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const Range& range = ranges_[size_t(r)];
      const Entry& entry = entries_[range.entry];
      dispatch_floating(entry.value.dtype(), "averaged weights", [&]<class T>() {
        const AverageUpdate<T> apply = update.as<T>();
        T* __restrict average = entry.average.template data<T>();
        const T* __restrict value = entry.value.template data<T>();
        for (int64_t i = range.begin; i < range.end; ++i) apply(average[i], value[i]);
      });
    }
  });
}

void Ema::swap() noexcept {
  for (Entry& entry : entries_) entry.value.swap_memory(entry.average);
}

void Ema::take_from_model() {
  for (Entry& entry : entries_) entry.average.copy_(entry.value.detach());
}

}  // namespace eq
