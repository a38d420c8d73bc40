#pragma once
// Rows of classes, [..., C], for softmax and cross-entropy. Up to kMostTiled classes a block has a tile of neighbouring rows, one
// run of memory: it is copied to shared memory in packs of 16 bytes, which rows of 19 classes are not made of; 1 to 16
// neighbouring threads have a row, up to kHeld values each, and write the results over it; the tile leaves in packs. So each
// value crosses memory once each way, and shared memory twice.
// Longer rows belong to a block, which reads them again (from a cache) in each pass.

#include <algorithm>
#include <limits>

#include "cuda/async_copy.h"
#include "cuda/block.h"
#include "cuda/divide.h"
#include "cuda/pack.h"

namespace eq::cuda {

constexpr int kMostTiled = 256, kTileThreads = 128, kHeld = 24, kGroup = 4;

struct RowTile {
  int width = 0;      // C
  int log_lanes = 0;  // 2^log_lanes threads share a row
  int segment = 0;    // values of a thread; the last ones of a row have fewer
  int common = 0;     // how many values every thread has, rounded down to groups
  int height = 1;     // rows of a block
  int pad = 0;        // between rows in shared memory, in values
  bool packs = false;
  Divisor row_of;     // of a value

  bool is_long() const { return width > kMostTiled; }
  unsigned threads() const { return unsigned(is_long() ? kThreads : kTileThreads); }
  EQ_HOST_DEVICE int values() const { return height * (width + pad); }
  template <class T>
  size_t shared_bytes() const { return is_long() ? 0 : size_t(values()) * sizeof(T); }

  // fn(i, place) for values i = begin, begin + step, ... < end of the tile: where they are in shared memory.
  template <class Fn>
  __device__ void places(int begin, int end, int step, const Fn& fn) const {
    if (pad == 0) {
      EQ_UNROLL(1)
      for (int i = begin; i < end; i += step) fn(i, i);
    } else {
      EQ_UNROLL(1)
      for (int i = begin; i < end; i += step) fn(i, i + pad * row_of.quotient(i));
    }
  }
};

// A tile's bytes are a multiple of 16 (a block has 8 rows or more), so packs need aligned arrays only.
template <class T, class... Pointers>
RowTile row_tile(int64_t width, const Pointers*... pointers) {
  RowTile tile;
  tile.width = int(width);
  tile.packs = on_16_bytes(pointers...);
  if (tile.is_long()) return tile;
  // Neighbouring threads read shared memory a segment, or a row, apart: an odd distance spares banks.
  tile.segment = tile.width;
  for (; tile.segment > kHeld; tile.segment = (((tile.width - 1) >> tile.log_lanes) + 1) | 1) ++tile.log_lanes;
  tile.common = std::max(0, tile.width - ((1 << tile.log_lanes) - 1) * tile.segment) / kGroup * kGroup;
  tile.height = kTileThreads >> tile.log_lanes;
  // Only rows of whole packs can be set apart.
  if (width % kPackWidth<T> == 0 && width / kPackWidth<T> % 2 == 0) {
    tile.pad = kPackWidth<T>, tile.row_of = Divisor(tile.width);
  }
  return tile;
}

// Calls fn.template operator()<kLong>().
template <class Fn>
void with_length(const RowTile& tile, Fn&& fn) {
  if (tile.is_long()) return fn.template operator()<true>();
  return fn.template operator()<false>();
}

// The first `count` values of a tile, to and from shared memory. Every thread of the block takes part; wait_for_copies and a
// barrier follow load_tile, a barrier comes before store_tile.
template <class T>
__device__ void load_tile(const RowTile& tile, const T* from, int count, T* to) {
  constexpr int N = kPackWidth<T>;
  const int thread = int(threadIdx.x), whole = tile.packs ? count & -N : 0;
  tile.places(thread * N, whole, kTileThreads * N, [&](int i, int place) { copy_async<16>(to + place, from + i, true); });
  tile.places(whole + thread, count, kTileThreads, [&](int i, int place) { to[place] = from[i]; });
  close_copies();
}
template <class T>
__device__ void store_tile(const RowTile& tile, const T* from, int count, T* to) {
  constexpr int N = kPackWidth<T>;
  const int thread = int(threadIdx.x), whole = tile.packs ? count & -N : 0;
  tile.places(thread * N, whole, kTileThreads * N,
              [&](int i, int place) { store_pack(to + i, load_pack<T, N>(from + place)); });
  tile.places(whole + thread, count, kTileThreads, [&](int i, int place) { to[i] = from[place]; });
}

// The rows of tile `index` among all.
struct TileRows {
  int64_t first_row, first;  // of the tile; its first value
  int rows, count;           // count: values

  __device__ TileRows(const RowTile& tile, unsigned index, int64_t all)
      : first_row(uint64_t(index) * unsigned(tile.height)), first(uint64_t(index) * unsigned(tile.height * tile.width)) {
    const int64_t left = all - first_row;
    rows = left < tile.height ? int(left) : tile.height;
    count = rows * tile.width;
  }
};

// A thread's part in a row. Rows behind the last one have parts, too: of a tile, what is there is computed and goes nowhere.
template <bool kLong>
struct RowPart {
  int row;    // of the tile
  int first;  // the first value's class
  int place;  // of the first value in the tile, or (long) in the row
  int count;
  int segment, common, log_lanes;  // RowTile's

  __device__ explicit RowPart(const RowTile& tile) : segment(tile.segment), common(tile.common), log_lanes(tile.log_lanes) {
    if constexpr (kLong) {
      row = 0;
      first = place = int(threadIdx.x);
      count = (tile.width - first + kThreads - 1) / kThreads;
    } else {
      row = int(threadIdx.x) >> log_lanes;
      first = (int(threadIdx.x) & ((1 << log_lanes) - 1)) * segment;
      place = row * (tile.width + tile.pad) + first;
      count = std::clamp(tile.width - first, 0, segment);
    }
  }
  // fn(v, i) for each value: v counts them, i is the place.
  template <class Fn>
  __device__ void each(const Fn& fn) const {
    if constexpr (kLong) {
      for (int v = 0; v < count; ++v) fn(v, place + v * kThreads);
    } else {
      each_slot([&](int v, bool has) {
        if (has) fn(v, place + v);
      });
    }
  }
  // out[i] = fn(v, i); fn may read at i what is overwritten there.
  template <class T, class Fn>
  __device__ void write(T* out, const Fn& fn) const {
    if constexpr (kLong) {
      each([&](int v, int i) { out[i] = T(fn(v, i)); });
    } else {
      each_group([&](int group, auto has) {
        T results[kGroup] = {};  // the compiler cannot know that a group's loads may go before its stores
#pragma unroll
        for (int k = 0; k < kGroup; ++k) {
          if (has(group + k)) results[k] = T(fn(group + k, place + group + k));
        }
#pragma unroll
        for (int k = 0; k < kGroup; ++k) {
          if (has(group + k)) out[place + group + k] = results[k];
        }
      });
    }
  }
  // In a tile: fn(group, has) for the groups of kGroup values; has(v): whether the thread has that value.
  template <class Fn>
  __device__ void each_group(const Fn& fn) const {
#pragma unroll
    for (int group = 0; group < kHeld; group += kGroup) {
      if (group < common) {  // the same for every thread
        fn(group, [](int) { return true; });
      } else if (group < segment) {
        fn(group, [this](int v) { return v < count; });
      }
    }
  }
  // In a tile: fn(v, has) for v < segment and up to three more.
  template <class Fn>
  __device__ void each_slot(const Fn& fn) const {
    each_group([&](int group, auto has) {
#pragma unroll
      for (int v = group; v < group + kGroup; ++v) fn(v, has(v));
    });
  }
  template <class Fn>
  __device__ void each_slot_alike(const Fn& fn) const {
#pragma unroll
    for (int group = 0; group < kHeld; group += kGroup) {
      if (group >= segment) continue;
#pragma unroll
      for (int v = group; v < group + kGroup; ++v) fn(v);
    }
  }
  // The place of class c, or -1 where it is another thread's.
  __device__ int find(int c) const {
    const int distance = c - first;
    if constexpr (kLong) {
      return distance >= 0 && distance % kThreads == 0 ? c : -1;
    } else {
      return distance >= 0 && distance < count ? place + distance : -1;
    }
  }
  // Over all threads of the row. Every thread of the block takes part, in a row or not.
  template <class W, class Op>
  __device__ W combine(W value, W identity, Op op) const {
    if constexpr (kLong) {
      return block_reduce(value, identity, op);
    } else {
      for (int distance = (1 << log_lanes) / 2; distance > 0; distance /= 2)
        value = op(value, __shfl_xor_sync(0xffffffffu, value, distance));
      return value;
    }
  }
};

// e^d for d <= 0, in a third of std::exp's instructions. Rounding the difference d has moved e^d by up to |d| 2^-24 of itself;
// the product and its constant move it by as much again and half, and the instruction by 2^-22: less than 3e-7 against e^0, the
// largest. Below 2^-126 it is 0.
EQ_HOST_DEVICE inline float exp_difference(float d) {
  const float power = d * 1.442695041f;
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(power));
  return result;
#else
  return std::exp2(power);
#endif
}
EQ_HOST_DEVICE inline double exp_difference(double d) { return std::exp(d); }

struct Maximum {  // of the numbers among them
  template <class W>
  __device__ W operator()(W a, W b) const {
    return std::fmax(a, b);
  }
};

// What softmax needs of a row: its maximum and the sum of e^(x - maximum). The exponentials stay in registers; of a long row
// they are computed again.
template <class T, bool kLong>
struct RowExponentials {
  using W = Wide<T>;
  static constexpr W kNothing = -std::numeric_limits<W>::infinity();
  W top = kNothing, total = 0;

  __device__ RowExponentials(const RowPart<kLong>& part, const T* values) : values_(values) {
    if constexpr (kLong) {
      part.each([&](int, int i) { top = Maximum()(W(values[i]), top); });
    } else {
      part.each_slot([&](int v, bool has) { held_[v] = has ? W(values[part.place + v]) : kNothing; });
      part.each_slot_alike([&](int v) { top = Maximum()(held_[v], top); });
    }
    top = part.combine(top, kNothing, Maximum());
    if constexpr (kLong) {
      part.each([&](int v, int i) { total += (*this)(v, i); });
    } else {
      part.each_slot_alike([&](int v) {
        held_[v] = exp_difference(held_[v] - top);
        total += held_[v];
      });
    }
    total = part.combine(total, W(0), Add());
  }
  // The exponential at each()'s (v, i).
  __device__ W operator()(int v, int i) const {
    if constexpr (kLong) return exp_difference(W(values_[i]) - top);
    else return held_[v];
  }

 private:
  const T* values_;
  W held_[kLong ? 1 : kHeld];
};

}  // namespace eq::cuda
