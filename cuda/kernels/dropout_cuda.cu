// A thread draws four numbers at a time, the mask of four neighbouring elements: the CPU's bits, since a draw depends on its
// index alone.

#include "core/kernels/dropout.h"

#include <cmath>

#include "core/philox.h"
#include "cuda/map.h"

namespace eq::cuda {
namespace {

// A draw's upper 24 bits are a uniform number times 2^24: it is at least p if they are at least this.
uint32_t threshold_of(double p) { return uint32_t(std::ceil(p * 0x1p24)); }

template <class T>
struct Dropout {
  static constexpr int kLoad = kPackWidth<T>, kWidth = kLoad < 4 ? 4 : kLoad;
  const T* x;
  T* y;
  int64_t count;
  bool aligned;
  uint64_t seed, stream;
  uint32_t threshold;
  Wide<T> scale;

  EQ_HOST_DEVICE T masked(T value, uint32_t draw) const {
    return (draw >> 8) >= threshold ? T(Wide<T>(value) * scale) : T(0);
  }
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t first = i * kWidth;
    if (!aligned || first + kWidth > count) {
      for (int64_t at = first; at < first + kWidth && at < count; at += 4) {
        const auto draws = random_block(seed, stream, uint64_t(at) / 4);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          if (at + k < count) y[at + k] = masked(x[at + k], draws[k]);
        }
      }
      return;
    }
    Pack<T, kLoad> packs[kWidth / kLoad];
#pragma unroll
    for (int p = 0; p < kWidth / kLoad; ++p) packs[p] = load_pack<T, kLoad>(x + first + p * kLoad);
#pragma unroll
    for (int b = 0; b < kWidth / 4; ++b) {
      const auto draws = random_block(seed, stream, uint64_t(first) / 4 + b);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        T& value = packs[(4 * b + k) / kLoad][(4 * b + k) % kLoad];
        value = masked(value, draws[k]);
      }
    }
#pragma unroll
    for (int p = 0; p < kWidth / kLoad; ++p) store_pack(y + first + p * kLoad, packs[p]);
  }
};

// kept[k] for four of them.
struct KeepChannels {
  uint64_t seed, stream;
  uint32_t threshold;
  int64_t count;
  uint8_t* kept;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const auto draws = random_block(seed, stream, uint64_t(i));
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (4 * i + k < count) kept[4 * i + k] = (draws[k] >> 8) >= threshold;
    }
  }
};

template <class T>
struct Mask {
  Wide<T> scale;
  EQ_HOST_DEVICE T operator()(T x, uint8_t keep) const { return keep ? T(Wide<T>(x) * scale) : T(0); }
};

}  // namespace

void dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y) {
  dispatch(x.dtype(), "dropout", [&]<typename T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    const bool aligned = on_16_bytes(in, out);
    constexpr int64_t kWidth = Dropout<T>::kWidth;
    for_each(x.device(), "dropout", (x.numel() + kWidth - 1) / kWidth,
             Dropout<T>{in, out, x.numel(), aligned, seed, stream, threshold_of(p), Wide<T>(1 / (1 - p))});
  });
}

void channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y) {
  if (x.numel() == 0) return;
  Shape own = x.shape();
  for (int axis = 1; axis < x.rank() - 1; ++axis) own.set(axis, 1);
  const int64_t masks = own.numel();
  const Tensor kept = Tensor::empty(own, DType::kUInt8, x.device());
  for_each(x.device(), "channel_dropout", (masks + 3) / 4, KeepChannels{seed, stream, threshold_of(p), masks, data<uint8_t>(kept)});
  dispatch(x.dtype(), "channel_dropout", [&]<typename T>() {
    map(x.device(), "channel_dropout", x.numel(), Mask<T>{Wide<T>(1 / (1 - p))}, data<T>(y), Whole<T>{data<T>(x)},
        Spread<uint8_t>(data<uint8_t>(kept), own, x.shape()));
  });
}

}  // namespace eq::cuda
