#include "core/kernels/dropout.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/parallel.h"
#include "core/random.h"

namespace eq::cpu {
namespace {

constexpr int kCounters = 8;               // Philox blocks side by side
constexpr int64_t kBatch = 4 * kCounters;  // numbers they give
typedef uint64_t Words __attribute__((vector_size(8 * kCounters)));  // 32 bits each, room for a product

// The integers whose upper 24 bits are uniform_at(seed, stream, first + i), i < kBatch; first is a multiple of 4. The same ten
// rounds as philox(), with the counters in vector lanes: one by one they would cost more than the memory they mask.
void uniform_integers(uint64_t seed, uint64_t stream, uint64_t first, uint32_t* out) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57, kLow = 0xFFFFFFFF;
  Words block;
  for (int i = 0; i < kCounters; ++i) block[i] = first / 4 + uint64_t(i);
  Words a = block & kLow, b = block >> 32, c = Words{} + (stream & kLow), d = Words{} + (stream >> 32);
  uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
    const Words p0 = a * kMultiplier0, p1 = c * kMultiplier1;
    a = (p1 >> 32) ^ b ^ uint64_t(key0);
    b = p1 & kLow;
    c = (p0 >> 32) ^ d ^ uint64_t(key1);
    d = p0 & kLow;
  }
  // Numbers 4i and 4i+1 of counter i share a word, then 4i+2 and 4i+3.
  static_assert(std::endian::native == std::endian::little);
  const Words even = a | b << 32, odd = c | d << 32;
  const Words front = __builtin_shuffle(even, odd, Words{0, 8, 1, 9, 2, 10, 3, 11});
  const Words back = __builtin_shuffle(even, odd, Words{4, 12, 5, 13, 6, 14, 7, 15});
  std::memcpy(out, &front, sizeof front);
  std::memcpy(out + kBatch / 2, &back, sizeof back);
}

template <class T>
inline void mask(const T* __restrict from, const uint32_t* __restrict numbers, uint32_t threshold, T scale, int64_t count,
                 T* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = (numbers[i] >> 8) >= threshold ? from[i] * scale : T(0);
}

// As wide as a value: a vector of words masks a vector of values.
template <class T>
using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <class T>
inline void mask_bits(const T* __restrict from, const Word<T>* __restrict bits, T scale, int64_t count, T* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = std::bit_cast<T>(std::bit_cast<Word<T>>(from[i] * scale) & bits[i]);
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
        if (first + kBatch <= end) {
          mask(in + first, numbers, threshold, scale, kBatch, out + first);  // a constant count: unrolled
        } else {
          mask(in + first, numbers, threshold, scale, end - first, out + first);
        }
      }
    });
  });
}

void channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y) {
  dispatch_floating(x.dtype(), "channel_dropout", [&]<typename T>() {
    const int64_t images = x.size(0), channels = x.size(-1);
    if (x.numel() == 0) return;
    const int64_t rows = x.numel() / (images * channels);
    std::vector<Word<T>> bits(size_t(images * channels));
    for (size_t k = 0; k < bits.size(); ++k) bits[k] = double(uniform_at(seed, stream, k)) >= p ? ~Word<T>(0) : 0;
    const T *in = x.data<T>(), scale = T(1 / (1 - p));
    T* out = y.data<T>();
    parallel_for(images * rows, grain_for(channels), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        mask_bits(in + r * channels, bits.data() + r / rows * channels, scale, channels, out + r * channels);
      }
    });
  });
}

}  // namespace eq::cpu
