#pragma once
// Tensor: a shared handle to an n-dimensional array.
//
// LAYOUT, once and for all: memory is row-major and contiguous, always. Images, features and logits are [N, H, W, C];
// convolution weights are [O, kh, kw, I/groups]; linear weights are [O, I]. There are no strides: what can be a view of
// contiguous memory (reshape, a slice of the first axis) is one; everything else copies. Files on disk use
// PyTorch's order (N, C, H, W and O, I, kh, kw); the state dict permutes when it loads and saves.
//
// Copying a Tensor copies the handle. clone() copies the values.

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace eq {

// Memory from the device's allocator, shared by all views of it. `version` counts in-place changes: autograd compares it
// to find values that were overwritten after they were saved for backward.
class Storage {
 public:
  Storage(size_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  uint32_t version() const { return version_; }
  void bump_version() { ++version_; }
  uint64_t id() const { return id_; }  // no other memory of this process has or had it

 private:
  size_t bytes_;
  Device device_;
  void* data_;
  uint32_t version_ = 0;
  uint64_t id_;
};

// What autograd hangs on a tensor. Core owns it and knows nothing else about it.
struct AutogradSlot {
  virtual ~AutogradSlot() = default;
};

class Tensor {
 public:
  Tensor() = default;  // undefined: no value; the only thing to ask it is defined()

  static Tensor empty(const Shape& shape, DType dtype = DType::kFloat32, Device device = Device::cpu());  // uninitialised
  static Tensor zeros(const Shape& shape, DType dtype = DType::kFloat32, Device device = Device::cpu());
  static Tensor full(const Shape& shape, double value, DType dtype = DType::kFloat32, Device device = Device::cpu());
  static Tensor scalar(double value, DType dtype = DType::kFloat32) { return full({}, value, dtype); }
  static Tensor empty_like(const Tensor& other) { return empty(other.shape(), other.dtype(), other.device()); }
  static Tensor zeros_like(const Tensor& other) { return zeros(other.shape(), other.dtype(), other.device()); }
  // Copies `values`; their number must be shape.numel() (throws ShapeError).
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape);

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const { return impl().shape; }
  int rank() const { return shape().rank(); }
  int64_t size(int axis) const { return shape().at(axis); }  // negative counts from the end
  int64_t numel() const { return impl().numel; }
  DType dtype() const { return impl().dtype; }
  Device device() const { return impl().storage->device(); }
  size_t bytes() const { return size_t(numel()) * size_of(dtype()); }

  // Typed memory. Throws DTypeError if T is not the element type, DeviceError if the memory is not the host's.
  // The constness of a handle is not the constness of the values (as with std::shared_ptr).
  template <class T>
  T* data() const;
  void* raw_data() const;  // host or device pointer, untyped
  template <class T>
  std::vector<T> to_vector() const {  // from any device
    const Tensor here = to(Device::cpu());
    return std::vector<T>(here.data<T>(), here.data<T>() + numel());
  }
  double item() const;                   // the one value of a one-element tensor of any type; throws ShapeError
  double value_at(int64_t index) const;  // element `index` in memory order, of any type; slow; throws ShapeError

  // --- outside the graph: these never record. No gradient flows through their results to what those were made from (the recorded ones are in
  // autograd/functional.h; cast() there is a recorded to(DType), x * 1.0 a recorded clone()) ---
  // Another shape over the same memory, starting `offset` elements in. Throws ShapeError if it does not fit.
  Tensor alias(const Shape& shape, int64_t offset = 0) const;
  Tensor clone() const;             // a copy with memory of its own
  // A converted copy (itself if nothing changes). To whole numbers fractions are cut off; beyond the type's range it is its
  // nearest value, of NaN 0.
  Tensor to(DType dtype) const;
  Tensor to(Device device) const;   // copy on another device (itself if nothing changes)
  // Takes the values of every handle of this tensor to another device; its gradient is dropped. For parameters and buffers:
  // whoever holds a handle follows. Views made before stay where they are.
  void move_to(Device device);
  // In-place changes. They bump the version; on a leaf that requires gradients, and on the result of a recorded
  // operator, they throw AutogradError unless gradients are off (NoGradGuard); so they do where the values taken require one.
  Tensor& fill_(double value);  // throws DTypeError for what is no value of an integer type: 300 in uint8, NaN; so do full and scalar
  Tensor& copy_(const Tensor& source);                  // same shape and dtype, any device; throws otherwise
  Tensor& add_(const Tensor& other, double scale = 1);  // this += scale * other, same shape and dtype
  Tensor& mul_(double factor);
  // Exchanges the memory of two tensors of one shape, type and device (throws otherwise), whoever holds handles to them; views made before
  // stay where they are. Takes no memory and no time.
  void swap_memory(Tensor& other);
  void bump_version() const { impl().storage->bump_version(); }  // for kernels that write through data()
  uint32_t version() const { return impl().storage->version(); }
  uint64_t memory_id() const { return impl().storage->id(); }  // shared by all views of one memory; never given twice

  // --- autograd: defined in autograd/variable.cpp ---
  bool requires_grad() const;                  // a leaf marked so, or computed from one while recording
  Tensor& set_requires_grad(bool on = true);   // leaves only (throws AutogradError), floating types only
  // Of a leaf; the result of a recorded operator keeps none, and both throw AutogradError: register_hook (autograd/node.h) sees its gradient.
  Tensor grad() const;                         // accumulated; undefined before backward
  void set_grad(const Tensor& grad);           // same shape, dtype and device, or undefined to clear
  Tensor detach() const;                       // the same memory, outside the graph
  // Adds d(this)/d(leaf) to the grad() of every leaf behind this tensor. `grad_output` defaults to 1 for one-element
  // tensors. The graph is freed unless retain_graph. Throws AutogradError when there is nothing to differentiate.
  void backward(const Tensor& grad_output = {}, bool retain_graph = false) const;

  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }  // the same handle target
  // Nothing else refers to this value or its memory, so it may be overwritten.
  bool is_unique() const { return impl_ && impl_.use_count() == 1 && impl_->storage.use_count() == 1; }
  AutogradSlot* autograd_slot() const { return impl().autograd.get(); }
  void set_autograd_slot(std::unique_ptr<AutogradSlot> slot) const { impl().autograd = std::move(slot); }

 private:
  struct Impl {
    std::shared_ptr<Storage> storage;
    int64_t offset = 0;  // in elements
    Shape shape;
    int64_t numel = 1;
    DType dtype = DType::kFloat32;
    std::unique_ptr<AutogradSlot> autograd;
  };
  Impl& impl() const;  // throws UsageError when undefined
  void check_host_access(DType wanted) const;
  void check_in_place(const char* op, const Tensor* source = nullptr) const;  // defined in autograd/variable.cpp

  std::shared_ptr<Impl> impl_;
};

// "float32 [2, 3] on cpu"; "undefined".
std::string describe(const Tensor& tensor);
// The values too, up to `limit` of them: for people and error messages.
std::string to_string(const Tensor& tensor, int64_t limit = 64);

template <class T>
T* Tensor::data() const {
  check_host_access(dtype_of<T>::value);
  return static_cast<T*>(raw_data());
}

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape) {
  if (int64_t(values.size()) != shape.numel()) {
    throw ShapeError("there are " + std::to_string(values.size()) + " values for the shape " + to_string(shape),
                     "Tensor::from", "give " + std::to_string(shape.numel()) + " values");
  }
  Tensor result = empty(shape, dtype_of<T>::value);
  T* out = result.template data<T>();
  for (size_t i = 0; i < values.size(); ++i) out[i] = values[i];
  return result;
}

}  // namespace eq
