#pragma once
// Neighbouring values that are loaded and stored together, 16 bytes at a time where the channel count and the addresses allow it.

#include <bit>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/host_device.h"

// Before a loop: repeat its body `n` times, so that the loads of several rounds are on their way together.
#ifdef __CUDACC__
#define EQ_PRAGMA(text) _Pragma(#text)
#define EQ_UNROLL(n) EQ_PRAGMA(unroll n)
#else
#define EQ_UNROLL(n)
#endif

namespace eq::cuda {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
  EQ_HOST_DEVICE T& operator[](int i) { return values[i]; }
  EQ_HOST_DEVICE const T& operator[](int i) const { return values[i]; }
};

// As words: nvcc stores a pack of bfloat16 value by value otherwise.
template <class T, int N>
EQ_HOST_DEVICE inline Pack<T, N> load_pack(const T* from) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) < 4 && sizeof(T) * N % 8 == 0) {
    return std::bit_cast<Pack<T, N>>(*reinterpret_cast<const Pack<uint32_t, sizeof(T) * N / 4>*>(from));
  }
#endif
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <class T, int N>
EQ_HOST_DEVICE inline void store_pack(T* to, const Pack<T, N>& pack) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) < 4 && sizeof(T) * N % 8 == 0) {
    using Words = Pack<uint32_t, sizeof(T) * N / 4>;
    *reinterpret_cast<Words*>(to) = std::bit_cast<Words>(pack);
    return;
  }
#endif
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

template <class T>
constexpr int kPackWidth = int(16 / sizeof(T));

// A pack that waits in registers between its load and its use: in words, which the compiler would otherwise take apart and put
// together again.
template <class T, int N>
struct Held {
  static constexpr bool kWords = sizeof(T) < 4 && sizeof(T) * N % 4 == 0;
  std::conditional_t<kWords, Pack<uint32_t, int(sizeof(T) * N / 4)>, Pack<T, N>> pack;
};
template <class T, int N>
EQ_HOST_DEVICE inline Held<T, N> load_held(const T* from) {
  return *reinterpret_cast<const Held<T, N>*>(from);
}

// The values of a pack in the type that is computed in. Two of bfloat16 are the halves of a word: one instruction each.
template <class T, int N, class W>
EQ_HOST_DEVICE inline void widen(const Pack<T, N>& pack, W (&out)[N]) {
  if constexpr (std::is_same_v<T, bfloat16> && N % 2 == 0) {
    const auto words = std::bit_cast<Pack<uint32_t, N / 2>>(pack);
    for (int i = 0; i < N / 2; ++i) {
      out[2 * i] = std::bit_cast<float>(words[i] << 16);
      out[2 * i + 1] = std::bit_cast<float>(words[i] & 0xffff0000u);
    }
  } else {
    for (int i = 0; i < N; ++i) out[i] = W(pack[i]);
  }
}

template <class T, int N, class W>
EQ_HOST_DEVICE inline void widen(const Held<T, N>& held, W (&out)[N]) {
  widen(std::bit_cast<Pack<T, N>>(held), out);
}

// N neighbouring parameters; `whole_packs`: they begin on 16 bytes.
template <class W, int N>
EQ_HOST_DEVICE inline void load_values(const W* from, bool whole_packs, W (&out)[N]) {
  constexpr int kWidth = N % kPackWidth<W> == 0 ? kPackWidth<W> : 1;
  if (whole_packs && kWidth > 1) {
    for (int k = 0; k < N; k += kWidth) {
      const Pack<W, kWidth> pack = load_pack<W, kWidth>(from + k);
      for (int i = 0; i < kWidth; ++i) out[k + i] = pack[i];
    }
  } else {
    for (int i = 0; i < N; ++i) out[i] = from[i];
  }
}
template <class... Pointers>
bool on_16_bytes(const Pointers*... pointers) { return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...); }

// Calls fn.template operator()<N>() with N = kWidth if `channels` is a multiple of it and all pointers are on 16 bytes, else 1.
template <class T, int kWidth = kPackWidth<T>, class Fn, class... Pointers>
decltype(auto) with_pack(int64_t channels, Fn&& fn, const Pointers*... pointers) {
  if (channels % kWidth == 0 && on_16_bytes(pointers...)) return fn.template operator()<kWidth>();
  return fn.template operator()<1>();
}

}  // namespace eq::cuda
