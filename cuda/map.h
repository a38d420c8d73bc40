#pragma once
// Elementwise kernels: y[i] = fn(a[i], b[i], ...) for each i, in no order.
//
//   map(device, "add_", count, AddScaled<T>{scale}, y, Whole<T>{x}, Whole<T>{other});     y may be one of the arguments
//
// A thread has one pack: so many neighbours that the widest of the types fills 16 bytes. With a multiprocessor full of threads
// that is enough for the memory's rate. What is left over has a thread for each element; so has everything where an address is
// not aligned or packs do not fit.

#include <algorithm>
#include <bit>

#include "core/kernels/elementwise.h"
#include "cuda/divide.h"
#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {

// Where an argument's elements begin for a pack: neighbours, or one of them again and again.
template <class T>
struct Neighbours {
  const T* first;
  EQ_HOST_DEVICE T value() const { return *first; }
  template <int N>
  EQ_HOST_DEVICE Pack<T, N> pack() const { return load_pack<T, N>(first); }
};
template <class T>
struct Run {
  const T* first;
  bool repeats;
  EQ_HOST_DEVICE T value() const { return *first; }
  template <int N>
  EQ_HOST_DEVICE Pack<T, N> pack() const {
    if (!repeats) return load_pack<T, N>(first);
    Pack<T, N> values;
#pragma unroll
    for (int k = 0; k < N; ++k) values[k] = *first;
    return values;
  }
};

// An argument with one element for each of the result.
template <class T>
struct Whole {
  using Value = T;
  const T* from;

  bool fits(int) const { return true; }
  EQ_HOST_DEVICE Neighbours<T> at(int64_t i) const { return {from + i}; }
};

// An argument of shape `own` that broadcasts to `result`.
template <class T>
struct Spread {
  using Value = T;
  const T* from;
  GatherPlan plan;
  int64_t run;
  bool repeats;

  Spread(const T* from, const Shape& own, const Shape& result) : from(from) {
    const BroadcastPlan axes = plan_broadcast(own, own, result);
    plan = GatherPlan(axes.rank, axes.extent, axes.stride_a);
    run = axes.extent[axes.rank - 1];
    repeats = axes.stride_a[axes.rank - 1] == 0;
  }
  // Packs of n do not reach beyond a run; then they are aligned as well, since steps are multiples of the runs.
  bool fits(int n) const { return plan.rank == 1 || run % n == 0; }
  EQ_HOST_DEVICE Run<T> at(int64_t i) const { return {from + plan.place(i), repeats}; }
};

template <int N, class T, class Fn, class... Packs>
EQ_HOST_DEVICE inline Pack<T, N> map_packs(const Fn& fn, const Packs&... packs) {
  Pack<T, N> result;
#pragma unroll
  for (int k = 0; k < N; ++k) result[k] = fn(packs[k]...);
  return result;
}

template <int N, class Fn, class T, class... Places>
EQ_HOST_DEVICE inline void map_at(bool pack, const Fn& fn, T* y, const Places&... places) {
  if (pack) {
    store_pack(y, map_packs<N, T>(fn, places.template pack<N>()...));
  } else {
    *y = fn(places.value()...);
  }
}

// What thread i does: the first `packs` threads have a pack.
template <int N, class Fn, class T, class... Arguments>
EQ_HOST_DEVICE inline void map_part(int64_t i, int64_t packs, const Fn& fn, T* y, const Arguments&... arguments) {
  const bool pack = i < packs;
  i = pack ? i * N : i + packs * (N - 1);
  map_at<N>(pack, fn, y + i, arguments.at(i)...);
}

#if defined(__CUDACC__) || defined(EQ_CUDA_SIMULATED)
// A functor among a kernel's parameters: without its type, so that hundreds of kernels share the code that launches them.
template <size_t size, size_t alignment>
struct alignas(alignment) FunctorBytes {
  unsigned char bytes[size];
};

template <int N, class Fn, class T, class... Arguments>
__global__ void map_kernel(int64_t threads, int64_t packs, FunctorBytes<sizeof(Fn), alignof(Fn)> fn, T* y,
                           Arguments... arguments) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < threads) map_part<N>(i, packs, std::bit_cast<Fn>(fn), y, arguments...);
}

// Packs of `width` that cover `count` elements, as far as they can.
template <class T, class... Arguments>
int64_t packs_of(int width, int64_t count, const T* y, const Arguments&... arguments) {
  const auto aligned = [width](const auto* p) { return reinterpret_cast<uintptr_t>(p) % (sizeof(*p) * width) == 0; };
  return aligned(y) && ((aligned(arguments.from) && arguments.fits(width)) && ...) ? count / width : 0;
}

template <class Bytes, class T, class... Arguments>
void launch_map(Device device, const char* name, int width, int64_t count,
                void (*kernel)(int64_t, int64_t, Bytes, T*, Arguments...), const Bytes& fn, T* y, const Arguments&... arguments) {
  const int64_t packs = packs_of(width, count, y, arguments...), threads = count - packs * (width - 1);
  launch(device, name, Grid{blocks_for(threads, kThreads), kThreads}, kernel, threads, packs, fn, y, arguments...);
}

template <class Fn, class T, class... Arguments>
void map(Device device, const char* name, int64_t count, const Fn& fn, T* y, const Arguments&... arguments) {
  constexpr int N = int(16 / std::max({sizeof(T), sizeof(typename Arguments::Value)...}));
#ifdef EQ_CUDA_SIMULATED
  const int64_t packs = packs_of(N, count, y, arguments...);
  for_each(device, name, count - packs * (N - 1), [&](int64_t i) { map_part<N>(i, packs, fn, y, arguments...); });
#else
  using Bytes = FunctorBytes<sizeof(Fn), alignof(Fn)>;
  launch_map<Bytes, T, Arguments...>(device, name, N, count, map_kernel<N, Fn, T, Arguments...>, std::bit_cast<Bytes>(fn), y,
                                     arguments...);
#endif
}
#endif

}  // namespace eq::cuda
