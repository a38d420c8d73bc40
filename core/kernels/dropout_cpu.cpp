#include "core/kernels/dropout.h"

#include <cmath>

#include "core/parallel.h"
#include "core/random.h"

namespace eq::cpu {
namespace {

constexpr int kCounters = 16;                // Philox blocks side by side
constexpr int64_t kBatch = 4 * kCounters;    // numbers they give

// The 24-bit integers behind uniform_at(seed, stream, first + i), i < kBatch; first is a multiple of 4. The same ten
// rounds as philox(), with the counters in vector lanes: one by one they would cost more than the memory they mask.
void uniform_integers(uint64_t seed, uint64_t stream, uint64_t first, uint32_t* __restrict out) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  alignas(64) uint32_t a[kCounters], b[kCounters], c[kCounters], d[kCounters];
  for (int i = 0; i < kCounters; ++i) {
    const uint64_t block = first / 4 + uint64_t(i);
    a[i] = uint32_t(block);
    b[i] = uint32_t(block >> 32);
    c[i] = uint32_t(stream);
    d[i] = uint32_t(stream >> 32);
  }
  uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
#pragma omp simd
    for (int i = 0; i < kCounters; ++i) {
      const uint64_t p0 = kMultiplier0 * a[i], p1 = kMultiplier1 * c[i];
      a[i] = uint32_t(p1 >> 32) ^ b[i] ^ key0;
      b[i] = uint32_t(p1);
      c[i] = uint32_t(p0 >> 32) ^ d[i] ^ key1;
      d[i] = uint32_t(p0);
    }
  }
  for (int i = 0; i < kCounters; ++i) {
    out[4 * i] = a[i] >> 8;
    out[4 * i + 1] = b[i] >> 8;
    out[4 * i + 2] = c[i] >> 8;
    out[4 * i + 3] = d[i] >> 8;
  }
}

}  // namespace

void dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y) {
  dispatch_floating(x.dtype(), "dropout", [&]<typename T>() {
    const T *in = x.data<T>(), scale = T(1 / (1 - p));
    T* out = y.data<T>();
    const uint32_t threshold = uint32_t(std::ceil(p * 0x1p24));
    parallel_for(x.numel(), 256 * kBatch, [&](int64_t begin, int64_t end) {
      alignas(64) uint32_t numbers[kBatch];
      for (int64_t first = begin; first < end; first += kBatch) {
        uniform_integers(seed, stream, uint64_t(first), numbers);
        const int64_t count = std::min(kBatch, end - first);
        for (int64_t i = 0; i < count; ++i) out[first + i] = numbers[i] >= threshold ? in[first + i] * scale : T(0);
      }
    });
  });
}

void channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y) {
  dispatch_floating(x.dtype(), "channel_dropout", [&]<typename T>() {
    const int64_t images = x.size(0), channels = x.size(-1);
    if (x.numel() == 0) return;
    const int64_t rows = x.numel() / (images * channels);
    std::vector<uint8_t> kept(size_t(images * channels));
    for (size_t k = 0; k < kept.size(); ++k) kept[k] = double(uniform_at(seed, stream, k)) >= p;
    const T *in = x.data<T>(), scale = T(1 / (1 - p));
    T* out = y.data<T>();
    parallel_for(images * rows, grain_for(channels), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const uint8_t* keep = kept.data() + r / rows * channels;
        const T* from = in + r * channels;
        T* to = out + r * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] = keep[c] ? from[c] * scale : T(0);
      }
    });
  });
}

}  // namespace eq::cpu
