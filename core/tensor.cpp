#include "core/tensor.h"

#include <cstdio>

#include "core/allocator.h"
#include "core/parallel.h"

namespace eq {

Storage::Storage(size_t bytes, Device device)
    : bytes_(bytes), device_(device), data_(allocator(device).allocate(bytes)) {}
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
  return dispatch_all(dtype(), [&]<typename T>() { return double(data<T>()[index]); });
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
  if (offset < 0 || count > numel() || offset > numel() - count) {
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
  std::memcpy(result.raw_data(), raw_data(), bytes());
  return result;
}

Tensor Tensor::to(DType wanted) const {
  if (wanted == dtype()) return *this;
  Tensor result = empty(shape(), wanted, device());
  dispatch_all(dtype(), [&]<typename From>() {
    dispatch_all(wanted, [&]<typename To>() {
      const From* in = data<From>();
      To* out = result.data<To>();
      parallel_for(numel(), 1 << 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = static_cast<To>(in[i]);
      });
    });
  });
  return result;
}

Tensor Tensor::to(Device wanted) const {
  if (wanted == device()) return *this;
  throw DeviceError("this build has no CUDA backend", "Tensor::to(" + to_string(wanted) + ")", "use the cpu device");
}

Tensor& Tensor::fill_(double value) {
  check_in_place("fill_");
  dispatch_all(dtype(), [&]<typename T>() {
    T* out = data<T>();
    parallel_for(numel(), 1 << 16, [&](int64_t begin, int64_t end) { std::fill(out + begin, out + end, T(value)); });
  });
  bump_version();
  return *this;
}

namespace {

void check_alike(const char* op, const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype() || a.device() != b.device()) {
    throw ShapeError(std::string(op) + " needs two tensors alike, not " + describe(a) + " and " + describe(b), op,
                     "the shapes, types and devices must be equal");
  }
}

}  // namespace

Tensor& Tensor::copy_(const Tensor& source) {
  check_in_place("copy_");
  check_alike("copy_", *this, source);
  std::memmove(raw_data(), source.raw_data(), bytes());
  bump_version();
  return *this;
}

Tensor& Tensor::add_(const Tensor& other, double scale) {
  check_in_place("add_");
  check_alike("add_", *this, other);
  dispatch_floating(dtype(), "add_", [&]<typename T>() {
    T* out = data<T>();
    const T* in = other.data<T>();
    const T factor = T(scale);
    parallel_for(numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] += factor * in[i];
    });
  });
  bump_version();
  return *this;
}

Tensor& Tensor::mul_(double factor) {
  check_in_place("mul_");
  dispatch_floating(dtype(), "mul_", [&]<typename T>() {
    T* out = data<T>();
    parallel_for(numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] *= T(factor);
    });
  });
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
  for (int64_t i = 0; i < std::min(limit, tensor.numel()); ++i) {
    char value[32];
    std::snprintf(value, sizeof value, "%s%.6g", i > 0 ? ", " : "", tensor.value_at(i));
    text += value;
  }
  return text + (tensor.numel() > limit ? ", ...}" : "}");
}

}  // namespace eq
