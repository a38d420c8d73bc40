#pragma once
// What a convolution's kernel makes of a weight before it begins (packed or transformed filters), kept for the next call: for inference, where weights
// stay the same from call to call. A layer owns one.
//
// The entry belongs to the weight's memory and version: whoever writes through Tensor::data() calls bump_version(), as for autograd.

#include <memory>
#include <mutex>

#include "core/tensor.h"

namespace eq {

class WeightCache {
 public:
  // What make() returned for this weight and key; it is called when there is none. One entry is kept, the last one.
  // Calls from several threads wait for each other.
  template <class Value, class Make>
  std::shared_ptr<const Value> get(const Tensor& weight, int64_t key, const Make& make) {
    const std::lock_guard lock(mutex_);
    if (!value_ || memory_ != weight.memory_id() || version_ != weight.version() || key_ != key) {
      value_.reset();
      value_ = std::shared_ptr<const Value>(make());
      memory_ = weight.memory_id();
      version_ = weight.version();
      key_ = key;
    }
    return std::static_pointer_cast<const Value>(value_);
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    value_.reset();
  }

 private:
  std::mutex mutex_;
  uint64_t memory_ = 0;
  uint32_t version_ = 0;
  int64_t key_ = 0;
  std::shared_ptr<const void> value_;
};

}  // namespace eq
