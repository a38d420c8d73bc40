#include "training/ema.h"

#include <algorithm>
#include <cstring>

#include "core/errors.h"
#include "core/parallel.h"

namespace eq {

Ema::Ema(Module& model, double decay) : decay_(decay) {
  if (!(decay > 0 && decay < 1)) {
    throw UsageError("the decay of averaged weights must be above 0 and below 1", "train.ema", "0.999 is usual; 0 turns them off");
  }
  for (const auto& list : {model.named_parameters(), model.named_buffers()}) {
    for (const Module::NamedTensor& named : list) entries_.push_back({named.tensor, named.tensor.clone()});
  }
}

void Ema::update(int64_t step) {
  const double decay = std::min(decay_, (1.0 + double(step)) / (10.0 + double(step)));
  for (Entry& entry : entries_) {
    if (!is_floating(entry.value.dtype())) {
      std::memcpy(entry.average.raw_data(), entry.value.raw_data(), entry.value.bytes());
      continue;
    }
    dispatch_floating(entry.value.dtype(), "ema", [&]<class T>() {
      const T* value = entry.value.template data<T>();
      T* average = entry.average.template data<T>();
      const T share = T(1 - decay);
      parallel_for(entry.value.numel(), 65536, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) average[i] += share * (value[i] - average[i]);
      });
    });
  }
}

void Ema::swap() {
  for (Entry& entry : entries_) {
    auto* a = static_cast<uint8_t*>(entry.value.raw_data());
    auto* b = static_cast<uint8_t*>(entry.average.raw_data());
    std::swap_ranges(a, a + entry.value.bytes(), b);
    entry.value.bump_version();
  }
}

void Ema::take_from_model() {
  for (Entry& entry : entries_) std::memcpy(entry.average.raw_data(), entry.value.raw_data(), entry.value.bytes());
}

}  // namespace eq
