#include "core/tensor.h"

#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <type_traits>

#include "core/access_watch.h"
#include "core/allocator.h"
#include "core/cuda_device.h"
#include "core/kernels/assign.h"

namespace eq {
namespace {

void check_alike(const char* op, const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) {
    throw ShapeError(std::string(op) + " needs two tensors alike, not " + describe(a) + " and " + describe(b), op,
                     "the shapes and types must be equal");
  }
}

void check_on_one_device(const char* op, const Tensor& a, const Tensor& b) {
  if (a.device() == b.device()) return;
  throw DeviceError(std::string(op) + " needs two tensors on one device, not " + describe(a) + " and " + describe(b), op,
                    "move one of them: x.to(Device)");
}

// Bytes from one tensor to another of the same size, wherever they are.
void copy_values(const Tensor& from, const Tensor& to) {
  if constexpr (kBuiltWithCuda) {
    void* target = to.raw_data();
    const void* source = from.raw_data();
    const Device target_device = to.device(), source_device = from.device();
    if (target_device.is_cuda() && source_device.is_cpu()) return cuda::copy_to_device(target, source, from.bytes(), target_device.index);
    if (target_device.is_cpu() && source_device.is_cuda()) return cuda::copy_to_host(target, source, from.bytes(), source_device.index);
    if (target_device != source_device) {
      return cuda::copy_between_devices(target, target_device.index, source, source_device.index, from.bytes());
    }
    if (target_device.is_cuda()) return cuda::copy_on_device(target, source, from.bytes(), target_device.index);
  }
  std::memmove(to.raw_data(), from.raw_data(), from.bytes());
}

}  // namespace

Storage::Storage(size_t bytes, Device device) : bytes_(bytes), device_(device), data_(allocator(device).allocate(bytes)) {
  static std::atomic<uint64_t> next{1};
  id_ = next.fetch_add(1, std::memory_order_relaxed);
}
Storage::~Storage() { allocator(device_).free(data_); }

Tensor::Impl& Tensor::impl() const {
  if (!impl_) throw UsageError("a tensor is used that has no value", "Tensor", "check defined() first");
  return *impl_;
}

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor result;
  result.impl_ = std::make_shared<Impl>();
  result.impl_->shape = shape;
  result.impl_->numel = shape.numel();
  if (result.impl_->numel > (int64_t{1} << 62) / int64_t(size_of(dtype))) {
    throw ShapeError("a tensor of " + to_string(shape) + " has more bytes than can be counted", "Tensor::empty",
                     "use smaller extents");
  }
  result.impl_->dtype = dtype;
  result.impl_->storage = std::make_shared<Storage>(size_t(result.impl_->numel) * size_of(dtype), device);
  return result;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) { return full(shape, 0, dtype, device); }

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor result = empty(shape, dtype, device);
  result.fill_(value);
  return result;
}

void* Tensor::raw_data() const {
  return static_cast<char*>(impl().storage->data()) + size_t(impl().offset) * size_of(dtype());
}

void Tensor::check_host_access(DType wanted) const {
  if (detail::t_access_watch != nullptr) detail::t_access_watch(*this);
  if (dtype() != wanted) {
    throw DTypeError(std::string("the tensor holds ") + name_of(dtype()) + ", not " + name_of(wanted), "Tensor::data",
                     "convert it first: x.to(DType)");
  }
  if (!device().is_cpu()) {
    throw DeviceError("the values are on " + to_string(device()), "Tensor::data",
                      "copy them first: x.to(Device::cpu())");
  }
}

double Tensor::value_at(int64_t index) const {
  if (index < 0 || index >= numel()) {
    throw ShapeError("there is no element " + std::to_string(index) + " in " + describe(*this), "Tensor::value_at",
                     "indices run from 0 to numel() - 1");
  }
  if (detail::t_access_watch != nullptr) detail::t_access_watch(*this);  // this tensor, not the view of its element
  const Tensor one = alias({}, index).to(Device::cpu());
  return dispatch_all(dtype(), [&]<typename T>() { return double(*static_cast<const T*>(one.raw_data())); });
}

double Tensor::item() const {
  if (numel() != 1) {
    throw ShapeError("item() needs one element, not " + describe(*this), "Tensor::item",
                     "reduce it first: sum(x) or mean(x)");
  }
  return value_at(0);
}

Tensor Tensor::alias(const Shape& shape, int64_t offset) const {
  const int64_t count = shape.numel();
  if (offset < 0 || offset > numel() - count) {
    throw ShapeError("a view of " + to_string(shape) + " at element " + std::to_string(offset) + " does not fit in " +
                         to_string(this->shape()),
                     "Tensor::alias", "the element counts must fit");
  }
  Tensor result;
  result.impl_ = std::make_shared<Impl>();
  result.impl_->storage = impl().storage;
  result.impl_->offset = impl().offset + offset;
  result.impl_->shape = shape;
  result.impl_->numel = count;
  result.impl_->dtype = dtype();
  return result;
}

Tensor Tensor::clone() const {
  Tensor result = empty_like(*this);
  copy_values(*this, result);
  return result;
}

Tensor Tensor::to(DType wanted) const {
  if (wanted == dtype()) return *this;
  Tensor result = empty(shape(), wanted, device());
  EQ_RUN(device(), convert(*this, result));
  return result;
}

Tensor Tensor::to(Device wanted) const {
  if (wanted == device()) return *this;
  Tensor result = empty(shape(), dtype(), wanted);
  copy_values(*this, result);
  return result;
}

void Tensor::move_to(Device wanted) {
  if (wanted == device()) return;
  const Tensor moved = to(wanted);
  impl().storage = moved.impl().storage;
  impl().offset = 0;
  if (autograd_slot() != nullptr) set_grad({});
}

void Tensor::swap_memory(Tensor& other) {
  check_alike("swap_memory", *this, other);
  check_on_one_device("swap_memory", *this, other);
  std::swap(impl_->storage, other.impl_->storage);
  std::swap(impl_->offset, other.impl_->offset);
}

Tensor& Tensor::fill_(double value) {
  check_in_place("fill_");
  dispatch_all(dtype(), [&]<typename T>() {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
      if (double(converted<T>(value)) == std::trunc(value)) return;
      throw DTypeError(fmt::format("{} has no value {:g}", name_of(dtype()), value), "fill_ or full of " + describe(*this),
                       "use a value in the type's range, or another type");
    }
  });
  EQ_RUN(device(), fill(*this, value));
  bump_version();
  return *this;
}

Tensor& Tensor::copy_(const Tensor& source) {
  check_in_place("copy_", &source);
  check_alike("copy_", *this, source);
  copy_values(source, *this);
  bump_version();
  return *this;
}

Tensor& Tensor::add_(const Tensor& other, double scale) {
  check_in_place("add_", &other);
  check_alike("add_", *this, other);
  check_on_one_device("add_", *this, other);
  EQ_RUN(device(), add_scaled(*this, other, scale));
  bump_version();
  return *this;
}

Tensor& Tensor::mul_(double factor) {
  check_in_place("mul_");
  EQ_RUN(device(), scale_by(*this, factor));
  bump_version();
  return *this;
}

std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  return std::string(name_of(tensor.dtype())) + " " + to_string(tensor.shape()) + " on " + to_string(tensor.device());
}

std::string to_string(const Tensor& tensor, int64_t limit) {
  std::string text = describe(tensor);
  if (!tensor.defined()) return text;
  text += " {";
  const Tensor here = tensor.to(Device::cpu());
  for (int64_t i = 0; i < std::min(limit, tensor.numel()); ++i) {
    char value[32];
    std::snprintf(value, sizeof value, "%s%.6g", i > 0 ? ", " : "", here.value_at(i));
    text += value;
  }
  return text + (tensor.numel() > limit ? ", ...}" : "}");
}

}  // namespace eq
