#pragma once
// One owner for every kind of CUDA handle: Handle<cudaEvent_t, cudaEventDestroy>.

#include <utility>

namespace eq::cuda {

template <class T, auto destroy>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T value) : value_(value) {}
  Handle(Handle&& other) noexcept : value_(std::exchange(other.value_, T{})) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~Handle() {
    if (value_ != T{}) destroy(value_);
  }

  T get() const { return value_; }
  T* receive() { return &value_; }  // for calls that create the handle; it must be empty

 private:
  T value_{};
};

}  // namespace eq::cuda
