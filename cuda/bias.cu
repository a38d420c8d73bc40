// One pack of neighbouring channels per thread; the bias itself stays in the caches.
#include "cuda/bias.h"

#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

template <class T, int width, bool add>
struct Bias {
  const T* bias;
  T* y;
  int64_t packs_per_row;

  EQ_HOST_DEVICE void operator()(int64_t i) const {
    // A 64-bit division costs more than the pack's memory traffic.
    const bool small = (uint64_t(i) | uint64_t(packs_per_row)) <= 0xffffffffu;
    const int64_t column = small ? int64_t(uint32_t(i) % uint32_t(packs_per_row)) : i % packs_per_row;
    Pack<T, width> value = load_pack<T, width>(bias + column * width);
    if constexpr (add) {
      const Pack<T, width> old = load_pack<T, width>(y + i * width);
      for (int j = 0; j < width; ++j) value[j] = T(Wide<T>(old[j]) + Wide<T>(value[j]));
    }
    store_pack<T, width>(y + i * width, value);
  }
};

template <bool add>
void run(const Tensor& bias, Tensor& y) {
  const int64_t channels = bias.numel();
  dispatch(y.dtype(), "bias", [&]<typename T>() {
    const T* from = data<T>(bias);
    T* to = data<T>(y);
    with_pack<T>(
        channels,
        [&]<int width>() {
          for_each(y.device(), "bias", y.numel() / width, Bias<T, width, add>{from, to, channels / width});
        },
        from, to);
  });
}

}  // namespace

void write_bias(const Tensor& bias, Tensor& y) { run<false>(bias, y); }
void add_bias(const Tensor& bias, Tensor& y) { run<true>(bias, y); }

}  // namespace eq::cuda
