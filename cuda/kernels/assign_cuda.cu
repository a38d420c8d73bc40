#include "core/kernels/assign.h"

#include "cuda/launch.h"

namespace eq::cuda {
namespace {

template <class T>
struct Fill {
  T* out;
  T value;
  EQ_HOST_DEVICE void operator()(int64_t i) const { out[i] = value; }
};

template <class From, class To>
struct Convert {
  const From* in;
  To* out;
  EQ_HOST_DEVICE void operator()(int64_t i) const { out[i] = static_cast<To>(in[i]); }
};

template <class T>
struct AddScaled {
  T* out;
  const T* in;
  Wide<T> scale;
  EQ_HOST_DEVICE void operator()(int64_t i) const { out[i] = T(Wide<T>(out[i]) + scale * Wide<T>(in[i])); }
};

template <class T>
struct ScaleBy {
  T* out;
  Wide<T> factor;
  EQ_HOST_DEVICE void operator()(int64_t i) const { out[i] = T(Wide<T>(out[i]) * factor); }
};

}  // namespace

void fill(Tensor& x, double value) {
  dispatch_all(x.dtype(), [&]<typename T>() { for_each(x.device(), "fill", x.numel(), Fill<T>{data<T>(x), T(value)}); });
}

void convert(const Tensor& x, Tensor& y) {
  dispatch_all(x.dtype(), [&]<typename From>() {
    dispatch_all(y.dtype(), [&]<typename To>() { for_each(x.device(), "convert", x.numel(), Convert<From, To>{data<From>(x), data<To>(y)}); });
  });
}

void add_scaled(Tensor& x, const Tensor& other, double scale) {
  dispatch(x.dtype(), "add_", [&]<typename T>() {
    for_each(x.device(), "add_", x.numel(), AddScaled<T>{data<T>(x), data<T>(other), Wide<T>(scale)});
  });
}

void scale_by(Tensor& x, double factor) {
  dispatch(x.dtype(), "mul_", [&]<typename T>() { for_each(x.device(), "mul_", x.numel(), ScaleBy<T>{data<T>(x), Wide<T>(factor)}); });
}

}  // namespace eq::cuda
