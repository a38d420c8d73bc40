#pragma once
// Neighbouring values that are loaded and stored together, 16 bytes at a time where the channel count and the addresses allow it.

#include <cstdint>

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

template <class T, int N>
EQ_HOST_DEVICE inline Pack<T, N> load_pack(const T* from) { return *reinterpret_cast<const Pack<T, N>*>(from); }
template <class T, int N>
EQ_HOST_DEVICE inline void store_pack(T* to, const Pack<T, N>& pack) { *reinterpret_cast<Pack<T, N>*>(to) = pack; }

template <class T>
constexpr int kPackWidth = int(16 / sizeof(T));

// Calls fn.template operator()<N>() with N = kPackWidth<T> if `channels` is a multiple of it and all pointers are on 16 bytes, else 1.
template <class T, class Fn, class... Pointers>
decltype(auto) with_pack(int64_t channels, Fn&& fn, const Pointers*... pointers) {
  const bool aligned = ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
  if (channels % kPackWidth<T> == 0 && aligned) return fn.template operator()<kPackWidth<T>>();
  return fn.template operator()<1>();
}

}  // namespace eq::cuda
