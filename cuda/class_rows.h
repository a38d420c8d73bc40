#pragma once
// Rows of classes, [..., C], for softmax and cross-entropy. Up to kMostTiled classes a warp has a tile of neighbouring rows, one
// run of memory: it is copied to shared memory in packs of 16 bytes, which rows of 19 classes are not made of; 1 to 16 lanes
// have a row, up to kHeld values each, and write the results over it; the tile leaves in packs. So each value crosses memory
// once each way, and shared memory twice.
// Longer rows belong to a block, which reads them again (from a cache) in each pass.

#include <algorithm>
#include <limits>

#include "cuda/async_copy.h"
#include "cuda/block.h"
#include "cuda/divide.h"
#include "cuda/pack.h"

namespace eq::cuda {

constexpr int kMostTiled = 256, kTileThreads = 128, kTileWarps = kTileThreads / kWarp, kHeld = 24, kGroup = 4;

struct RowTile {
  int width = 0;      // C
  int log_lanes = 0;  // 2^log_lanes threads share a row
  int slots = 0;      // values of the first of them; the others have as many or one fewer
  int height = 1;     // rows of a warp
  int pad = 0;        // between rows in shared memory, in values
  bool packs = false;
  Divisor row_of;     // of a value

  bool is_long() const { return width > kMostTiled; }
  unsigned threads() const { return unsigned(is_long() ? kThreads : kTileThreads); }
  int rows_of_block() const { return is_long() ? 1 : kTileWarps * height; }
  EQ_HOST_DEVICE int values() const { return height * (width + pad); }
  template <class T>
  size_t shared_bytes() const { return is_long() ? 0 : size_t(kTileWarps) * values() * sizeof(T); }
};

template <class T, class... Pointers>
RowTile row_tile(int64_t width, const Pointers*... pointers) {
  RowTile tile;
  tile.width = int(width);
  tile.packs = on_16_bytes(pointers...);
  if (tile.is_long()) return tile;
  const auto slots = [&] { return ((tile.width - 1) >> tile.log_lanes) + 1; };
  while (slots() > kHeld) ++tile.log_lanes;
  tile.slots = slots();
  tile.height = kWarp >> tile.log_lanes;
  tile.packs = tile.packs && tile.height * tile.width % kPackWidth<T> == 0;
  // Rows of an even number of packs are set apart to spare banks.
  if (width % kPackWidth<T> == 0 && width / kPackWidth<T> % 2 == 0) {
    tile.pad = kPackWidth<T>, tile.row_of = Divisor(tile.width);
  }
  return tile;
}

// The thread's warp among those of the grid.
__device__ inline unsigned warp_of_grid() { return blockIdx.x * kTileWarps + threadIdx.x / kWarp; }

// What the compiler is told of a thread's part in a row: it has at least kSure and at most kSlots values (0: a long row), and the
// row to itself if kAlone.
template <int kSlots_, int kSure_, bool kAlone_>
struct RowKind {
  static constexpr int kSlots = kSlots_, kSure = kSure_;
  static constexpr bool kAlone = kAlone_, kLong = kSlots == 0;
};

// Calls fn(RowKind) with the tile's.
template <class T, class Fn>
void with_row_kind(const RowTile& tile, Fn&& fn) {
  if (tile.is_long()) return fn(RowKind<0, 0, false>{});
  if constexpr (sizeof(T) == 8) {
    return fn(RowKind<kHeld, 0, false>{});  // for comparisons: one kernel is enough
  } else {
    const auto with = [&]<int kGroups>(std::integral_constant<int, kGroups>) {
      constexpr int kSlots = kGroups * kGroup;
      if (tile.log_lanes == 0) return fn(RowKind<kSlots, kSlots - kGroup, true>{});
      if constexpr (2 * kSlots > kHeld) return fn(RowKind<kSlots, kSlots - kGroup, false>{});
    };
    switch ((tile.slots - 1) / kGroup) {
      case 0: return with(std::integral_constant<int, 1>());
      case 1: return with(std::integral_constant<int, 2>());
      case 2: return with(std::integral_constant<int, 3>());
      case 3: return with(std::integral_constant<int, 4>());
      case 4: return with(std::integral_constant<int, 5>());
      default: return with(std::integral_constant<int, 6>());
    }
  }
}

// on_pack(memory + i, place of i) for the lane's packs among the first `count` values of a tile, and on_value for what is left.
template <class Kind, class T, class Memory, class Shared, class OnPack, class OnValue>
__device__ void each_of_tile(const RowTile& tile, int count, Memory* memory, Shared* shared, const OnPack& on_pack,
                             const OnValue& on_value) {
  constexpr int N = kPackWidth<T>, kPacks = (Kind::kSlots + N - 1) / N;  // of a lane: a tile has at most kWarp kSlots values
  const int lane = int(threadIdx.x) % kWarp, whole = tile.packs ? count & -N : 0;
  const auto place = [&](int i) { return tile.pad == 0 ? i : i + tile.pad * tile.row_of.quotient(i); };
  if (tile.pad == 0) {
    Memory* own_memory = memory + lane * N;
    Shared* own_shared = shared + lane * N;
#pragma unroll
    for (int k = 0; k < kPacks; ++k) {
      if (k * kWarp * N + lane * N < whole) on_pack(own_memory + k * kWarp * N, own_shared + k * kWarp * N);
    }
  } else {
    EQ_UNROLL(1)
    for (int i = lane * N; i < whole; i += kWarp * N) on_pack(memory + i, shared + place(i));
  }
  EQ_UNROLL(1)
  for (int i = whole + lane; i < count; i += kWarp) on_value(memory + i, shared + place(i));
}

// The first `count` values of a tile, to and from shared memory. Every lane of the warp takes part; wait_for_copies and
// __syncwarp follow load_tile, __syncwarp comes before store_tile.
template <class Kind, class T>
__device__ void load_tile(const RowTile& tile, const T* from, int count, T* to) {
  each_of_tile<Kind, T>(
      tile, count, from, to, [](const T* at, T* place) { copy_async<16>(place, at, true); },
      [](const T* at, T* place) { *place = *at; });
  close_copies();
}
template <class Kind, class T>
__device__ void store_tile(const RowTile& tile, const T* from, int count, T* to) {
  each_of_tile<Kind, T>(
      tile, count, to, from, [](T* at, const T* place) { store_pack(at, load_pack<T, kPackWidth<T>>(place)); },
      [](T* at, const T* place) { *at = *place; });
}

// The rows of tile `index` among all.
struct TileRows {
  int64_t first_row, first;  // of the tile; its first value
  int rows, count;           // count: values

  __device__ TileRows(const RowTile& tile, unsigned index, int64_t all)
      : first_row(uint64_t(index) * unsigned(tile.height)), first(uint64_t(index) * unsigned(tile.height * tile.width)) {
    const int64_t left = all - first_row;
    rows = int(std::clamp<int64_t>(left, 0, tile.height));
    count = rows * tile.width;
  }
};

// A thread's part in a row: every `lanes`-th value. Rows behind the last one have parts, too: of a tile, what is there is computed
// and goes nowhere.
template <class Kind>
struct RowPart {
  static constexpr bool kLong = Kind::kLong;
  int row;    // of the tile
  int first;  // the first value's class
  int start;  // of the row in the tile; of a long row 0
  int lanes, count;  // a power of two; of its values

  __device__ explicit RowPart(const RowTile& tile) {
    lanes = kLong ? kThreads : Kind::kAlone ? 1 : 1 << tile.log_lanes;
    const int thread = int(threadIdx.x) % (kLong ? kThreads : kWarp);
    row = kLong ? 0 : thread / lanes;
    first = thread % lanes;
    start = row * (tile.width + tile.pad);
    count = (tile.width - first + lanes - 1) / lanes;
  }
  // fn(v, i) for each value: v counts them, i is the place.
  template <class Fn>
  __device__ void each(const Fn& fn) const {
    if constexpr (kLong) {
      for (int v = 0; v < count; ++v) fn(v, start + first + v * lanes);
    } else {
      each_slot([&](int v, int i, bool has) {
        if (has) fn(v, i);
      });
    }
  }
  // out[i] = fn(v, i); fn may read at i what is overwritten there.
  template <class T, class Fn>
  __device__ void write(T* out, const Fn& fn) const {
    if constexpr (kLong) {
      each([&](int v, int i) { out[i] = T(fn(v, i)); });
    } else {
#pragma unroll
      for (int group = 0; group < Kind::kSlots; group += kGroup) {
        T results[kGroup] = {};  // the compiler cannot know that a group's loads may go before its stores
#pragma unroll
        for (int v = group; v < group + kGroup; ++v) {
          if (has(v)) results[v - group] = T(fn(v, start + first + v * lanes));
        }
#pragma unroll
        for (int v = group; v < group + kGroup; ++v) {
          if (has(v)) out[start + first + v * lanes] = results[v - group];
        }
      }
    }
  }
  // In a tile: fn(v, i, has) for every slot.
  template <class Fn>
  __device__ void each_slot(const Fn& fn) const {
#pragma unroll
    for (int v = 0; v < Kind::kSlots; ++v) fn(v, start + first + v * lanes, has(v));
  }
  // The place of class c, or -1 where it is another thread's.
  __device__ int find(int c) const { return (c & (lanes - 1)) == first ? start + c : -1; }

  // Over all threads of the row. Every thread of the block takes part, in a row or not.
  template <class W, class Op>
  __device__ W combine(W value, W identity, Op op) const {
    if constexpr (kLong) {
      return block_reduce(value, identity, op);
    } else {
      for (int distance = lanes / 2; distance > 0; distance /= 2)
        value = op(value, __shfl_xor_sync(0xffffffffu, value, distance));
      return value;
    }
  }

 private:
  __device__ bool has(int v) const { return v < Kind::kSure || v < count; }
};

// e^d for d <= 0, in a third of std::exp's instructions. Rounding the difference d has moved e^d by up to |d| 2^-24 of itself;
// the product and its constant move it by as much again and half, and the instruction by 2^-22: less than 3e-7 against e^0, the
// largest, which is exact. Below 2^-126 it is 0.
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

// The logarithm of a sum of exponentials with the largest 1: the instruction is right to 2^-22, which is what the sum has been
// rounded by, too. Of 1 it is 0.
EQ_HOST_DEVICE inline float log_of_total(float total) {
#ifdef __CUDA_ARCH__
  float result;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(total));
  return result * 0.693147181f;
#else
  return std::log(total);
#endif
}
EQ_HOST_DEVICE inline double log_of_total(double total) { return std::log(total); }

struct Maximum {  // of the numbers among them
  template <class W>
  __device__ W operator()(W a, W b) const {
    return std::fmax(a, b);
  }
};

// What softmax needs of a row: its maximum and the sum of e^(x - maximum). The exponentials stay in registers; of a long row
// they are computed again.
template <class T, class Kind>
struct RowExponentials {
  using W = Wide<T>;
  static constexpr W kNothing = -std::numeric_limits<W>::infinity();
  W top = kNothing, total = 0;

  __device__ RowExponentials(const RowPart<Kind>& part, const T* values) : values_(values) {
    if constexpr (Kind::kLong) {
      part.each([&](int, int i) { top = Maximum()(W(values[i]), top); });
    } else {
      part.each_slot([&](int v, int i, bool has) { held_[v] = has ? W(values[i]) : kNothing; });
#pragma unroll
      for (int v = 0; v < Kind::kSlots; ++v) top = Maximum()(held_[v], top);
    }
    top = part.combine(top, kNothing, Maximum());
    if constexpr (Kind::kLong) {
      part.each([&](int v, int i) { total += (*this)(v, i); });
    } else {
#pragma unroll
      for (int v = 0; v < Kind::kSlots; ++v) {
        held_[v] = exp_difference(held_[v] - top);
        total += held_[v];
      }
    }
    total = part.combine(total, W(0), Add());
  }
  // Of a tile: all are 0, NaN too.
  __device__ void clear() {
    asm volatile("");  // else every value gets a selection in place of the branch that leads here
#pragma unroll
    for (W& exponential : held_) exponential = 0;
  }
  // The exponential at each()'s (v, i).
  __device__ W operator()(int v, int i) const {
    if constexpr (Kind::kLong) return exp_difference(W(values_[i]) - top);
    else return held_[v];
  }

 private:
  const T* values_;
  W held_[Kind::kLong ? 1 : Kind::kSlots];
};

}  // namespace eq::cuda
