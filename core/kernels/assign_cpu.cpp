#include "core/kernels/assign.h"

#include "core/parallel.h"

namespace eq::cpu {

constexpr int64_t kChunk = 1 << 15;

void fill(Tensor& x, double value) {
  dispatch_all(x.dtype(), [&]<typename T>() {
    T* out = x.data<T>();
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) { std::fill(out + begin, out + end, converted<T>(value)); });
  });
}

void convert(const Tensor& x, Tensor& y) {
  dispatch_all(x.dtype(), [&]<typename From>() {
    dispatch_all(y.dtype(), [&]<typename To>() {
      const From* in = x.data<From>();
      To* out = y.data<To>();
      parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = converted<To>(in[i]);
      });
    });
  });
}

void add_scaled(Tensor& x, const Tensor& other, double scale) {
  dispatch_floating(x.dtype(), "add_", [&]<typename T>() {
    T* out = x.data<T>();
    const T* in = other.data<T>();
    const T factor = T(scale);
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] += factor * in[i];
    });
  });
}

void scale_by(Tensor& x, double factor) {
  dispatch_floating(x.dtype(), "mul_", [&]<typename T>() {
    T* out = x.data<T>();
    parallel_for(x.numel(), kChunk, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] *= T(factor);
    });
  });
}

}  // namespace eq::cpu
