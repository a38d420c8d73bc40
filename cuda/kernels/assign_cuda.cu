#include "core/kernels/assign.h"

#include "cuda/map.h"

namespace eq::cuda {
namespace {

template <class T>
struct Constant {
  T value;
  EQ_HOST_DEVICE T operator()() const { return value; }
};

template <class To>
struct ConvertTo {
  template <class From>
  EQ_HOST_DEVICE To operator()(From x) const { return converted<To>(x); }
};

template <class T>
struct AddScaled {
  Wide<T> scale;
  EQ_HOST_DEVICE T operator()(T x, T other) const { return T(Wide<T>(x) + scale * Wide<T>(other)); }
};

template <class T>
struct ScaleBy {
  Wide<T> factor;
  EQ_HOST_DEVICE T operator()(T x) const { return T(Wide<T>(x) * factor); }
};

}  // namespace

void fill(Tensor& x, double value) {
  dispatch_all(x.dtype(), [&]<typename T>() { map(x.device(), "fill", x.numel(), Constant<T>{converted<T>(value)}, data<T>(x)); });
}

void convert(const Tensor& x, Tensor& y) {
  dispatch_all(x.dtype(), [&]<typename From>() {
    dispatch_all(y.dtype(), [&]<typename To>() {
      map(x.device(), "convert", x.numel(), ConvertTo<To>(), data<To>(y), Whole<From>{data<From>(x)});
    });
  });
}

void add_scaled(Tensor& x, const Tensor& other, double scale) {
  dispatch(x.dtype(), "add_", [&]<typename T>() {
    T* out = data<T>(x);
    map(x.device(), "add_", x.numel(), AddScaled<T>{Wide<T>(scale)}, out, Whole<T>{out}, Whole<T>{data<T>(other)});
  });
}

void scale_by(Tensor& x, double factor) {
  dispatch(x.dtype(), "mul_", [&]<typename T>() {
    T* out = data<T>(x);
    map(x.device(), "mul_", x.numel(), ScaleBy<T>{Wide<T>(factor)}, out, Whole<T>{out});
  });
}

}  // namespace eq::cuda
