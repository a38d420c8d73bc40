#pragma once
// What a convolution's kernel makes of a weight before it begins (packed or transformed filters), kept for the next call: for inference,
// where weights stay the same from call to call. A layer owns one.
//
// The entry belongs to the weight's memory, version and shape: whoever writes through Tensor::data() calls bump_version(), as for autograd.

#include <memory>
#include <mutex>

#include "core/tensor.h"

namespace eq {

class WeightCache {
 public:
  // What make() returned for this weight and key; it is called when there is none. One entry is kept, the last one. The key says everything
  // else that make() depends on. Calls from several threads wait for each other.
  template <class Value, class Make>
  std::shared_ptr<const Value> get(const Tensor& weight, int64_t key, const Make& make) {
    const std::lock_guard lock(mutex_);
    const Entry entry{weight.memory_id(), weight.version(), weight.raw_data(), weight.shape(), key};
    if (!value_ || !(entry_ == entry)) {
      value_.reset();
      value_ = std::shared_ptr<const Value>(make());
      entry_ = entry;
    }
    return std::static_pointer_cast<const Value>(value_);
  }
  // The same where there may be no cache: then made for this call.
  template <class Value, class Make>
  static std::shared_ptr<const Value> get(WeightCache* cache, const Tensor& weight, int64_t key, const Make& make) {
    return cache ? cache->get<Value>(weight, key, make) : std::shared_ptr<const Value>(make());
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    value_.reset();
  }

 private:
  struct Entry {
    uint64_t memory = 0;
    uint32_t version = 0;
    const void* begin = nullptr;  // views of one memory begin at different places
    Shape shape;
    int64_t key = 0;
    bool operator==(const Entry&) const = default;
  };

  std::mutex mutex_;
  Entry entry_;
  std::shared_ptr<const void> value_;
};

}  // namespace eq
