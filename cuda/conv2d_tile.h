#pragma once
// The tile machinery of convolution as matrix multiplication: a block computes rows x columns of the result, deep slice
// by deep slice. Slices of both operands lie in shared memory, several of them: while one is multiplied, the next are on
// their way (cuda/async_copy.h).
//
// An operand's slice is stored as its memory runs: along the depth (a pixel's channels, a filter) or along rows (the
// weight gradient, where the depth is pixels). Either way a line is followed by 16 spare bytes, which puts the 16-byte
// pieces of neighbouring lines into different banks. float32 and float64 multiply in registers, kPerRow x kPerColumn
// results per thread; bfloat16 on tensor cores (cuda/mma.h).

#include "cuda/async_copy.h"
#include "cuda/mma.h"
#include "cuda/pack.h"

namespace eq::cuda {

enum class Along { kDepth, kRows };  // what is contiguous in memory

template <class T>
constexpr int kDepth = int(64 / sizeof(T));  // of a slice
constexpr int kStages = 3;  // slices in shared memory: two large blocks fit a multiprocessor of compute capability 8.0

// kBlocks: that fit a multiprocessor at once, as far as registers decide.
struct LargeTile {
  static constexpr int kRows = 128, kColumns = 128, kThreads = 256, kBlocks = 2;
};
struct TallTile {  // these two: tensor cores only
  static constexpr int kRows = 128, kColumns = 64, kThreads = 128, kBlocks = 3;
};
struct WideTile {
  static constexpr int kRows = 64, kColumns = 128, kThreads = 128, kBlocks = 3;
};
struct SmallTile {
  static constexpr int kRows = 64, kColumns = 64, kThreads = 128, kBlocks = 3;
};

// A slice of kDepth<T> values of `rows` rows (or columns) in shared memory.
template <class T, int rows, Along along>
struct Slice {
  static constexpr int kRows = rows, kLine = (along == Along::kDepth ? kDepth<T> : rows) + kPackWidth<T>;
  static constexpr int kSize = (along == Along::kDepth ? rows : kDepth<T>) * kLine;
  __device__ static constexpr int at(int row, int depth) {
    return along == Along::kDepth ? row * kLine + depth : depth * kLine + row;
  }

  // Packs of kPack values that the threads of a block copy, each the same place of several lines.
  template <int kThreads, int kPack>
  struct Copies {
    static constexpr int kPerLine = (along == Along::kDepth ? kDepth<T> : rows) / kPack;
    static constexpr int kLines = (along == Along::kDepth ? rows : kDepth<T>);
    static constexpr int kLinesAtOnce = kThreads / kPerLine;
    static constexpr int kCount = kLines / kLinesAtOnce;  // per thread
    static_assert(kThreads % kPerLine == 0 && kLines % kLinesAtOnce == 0);
    __device__ static int place() { return int(threadIdx.x) % kPerLine * kPack; }  // in the line
    __device__ static int line(int i) { return int(threadIdx.x) / kPerLine + i * kLinesAtOnce; }
    __device__ static T* target(T* slice, int i) { return slice + line(i) * kLine + place(); }
  };
};

// --- float32, float64: 16 columns of threads. Lines along the depth: neighbouring threads own neighbouring rows; along
// the rows: packs of neighbouring rows. Both are read 16 bytes at a time without bank conflicts.
template <class T, class Tile, Along along_a, Along along_b>
class RegisterMultiply {
  static constexpr int kAcross = 16, kDown = Tile::kThreads / kAcross;
  static constexpr int kPerRow = Tile::kRows / kDown, kPerColumn = Tile::kColumns / kAcross, kPack = kPackWidth<T>;
  using A = Slice<T, Tile::kRows, along_a>;
  using B = Slice<T, Tile::kColumns, along_b>;

  template <Along along>
  __device__ static int owned(int i, int thread, int threads) {
    return along == Along::kDepth ? thread + i * threads : (i / kPack * threads + thread) * kPack + i % kPack;
  }
  // values[i][k]: rows i of the thread, kPack steps of depth.
  template <class S, Along along, int kCount>
  __device__ static void load(const T* slice, int depth, int thread, int threads, T (&values)[kCount][kPack]) {
    if constexpr (along == Along::kDepth) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const auto pack = load_pack<T, kPack>(slice + S::at(owned<along>(i, thread, threads), depth));
#pragma unroll
        for (int k = 0; k < kPack; ++k) values[i][k] = pack[k];
      }
    } else {
#pragma unroll
      for (int k = 0; k < kPack; ++k) {
#pragma unroll
        for (int i = 0; i < kCount; i += kPack) {
          const auto pack = load_pack<T, kPack>(slice + S::at(owned<along>(i, thread, threads), depth + k));
#pragma unroll
          for (int j = 0; j < kPack; ++j) values[i + j][k] = pack[j];
        }
      }
    }
  }

  T sums_[kPerRow][kPerColumn] = {};

 public:
  static constexpr int kTogether = along_b == Along::kRows ? kPack : 1;  // neighbouring columns that `results` hands over

  __device__ void add(const T* a, const T* b) {
    const int across = int(threadIdx.x) % kAcross, down = int(threadIdx.x) / kAcross;
#pragma unroll 1  // unrolled, a large tile spills
    for (int depth = 0; depth < kDepth<T>; depth += kPack) {
      T left[kPerRow][kPack];
      load<A, along_a>(a, depth, down, kDown, left);
      if constexpr (along_b == Along::kDepth) {  // a column at a time keeps few registers busy
#pragma unroll
        for (int j = 0; j < kPerColumn; ++j) {
          const auto right = load_pack<T, kPack>(b + B::at(owned<along_b>(j, across, kAcross), depth));
#pragma unroll
          for (int k = 0; k < kPack; ++k) {
#pragma unroll
            for (int i = 0; i < kPerRow; ++i) sums_[i][j] += left[i][k] * right[k];
          }
        }
      } else {
        T right[kPerColumn][kPack];
        load<B, along_b>(b, depth, across, kAcross, right);
#pragma unroll
        for (int k = 0; k < kPack; ++k) {
#pragma unroll
          for (int i = 0; i < kPerRow; ++i) {
#pragma unroll
            for (int j = 0; j < kPerColumn; ++j) sums_[i][j] += left[i][k] * right[j][k];
          }
        }
      }
    }
  }

  // fn(row, column, values): kTogether values from that column on.
  template <class Fn>
  __device__ void results(const Fn& fn) const {
    const int across = int(threadIdx.x) % kAcross, down = int(threadIdx.x) / kAcross;
#pragma unroll
    for (int i = 0; i < kPerRow; ++i) {
#pragma unroll
      for (int j = 0; j < kPerColumn; j += kTogether) {
        fn(owned<along_a>(i, down, kDown), owned<along_b>(j, across, kAcross), &sums_[i][j]);
      }
    }
  }
};

// --- bfloat16: two rows of warps, each warp with 16x8 pieces on tensor cores.
template <class Tile, Along along_a, Along along_b>
class TensorMultiply {
  static constexpr int kDown = 2, kAcross = Tile::kThreads / 32 / kDown;
  static constexpr int kWarpRows = Tile::kRows / kDown, kWarpColumns = Tile::kColumns / kAcross;
  static constexpr int kPiecesDown = kWarpRows / 16, kPiecesAcross = kWarpColumns / 8;
  static_assert(kPiecesAcross % 2 == 0);
  using A = Slice<bfloat16, Tile::kRows, along_a>;
  using B = Slice<bfloat16, Tile::kColumns, along_b>;

  __device__ static int first_row() { return int(threadIdx.x) / 32 / kAcross * kWarpRows; }
  __device__ static int first_column() { return int(threadIdx.x) / 32 % kAcross * kWarpColumns; }

  float sums_[kPiecesDown][kPiecesAcross][4] = {};

 public:
  static constexpr int kTogether = 2;

  __device__ void add(const bfloat16* a, const bfloat16* b) {
    // The line of an 8x8 matrix that this lane names, and which of the four matrices it is in.
    const int lane = int(threadIdx.x) % 32, line = lane % 8, odd = lane / 8 % 2 * 8, upper = lane / 16 * 8;
#pragma unroll
    for (int depth = 0; depth < kDepth<bfloat16>; depth += 16) {
      uint32_t right[kPiecesAcross][2];
#pragma unroll
      for (int j = 0; j < kPiecesAcross; j += 2) {  // matrices: two halves of the depth, for 8 columns and the next 8
        const int column = first_column() + j * 8 + upper, k = depth + odd;
        uint32_t four[4];
        if constexpr (along_b == Along::kDepth) {
          load_matrices<false>(b + B::at(column + line, k), four);
        } else {
          load_matrices<true>(b + B::at(column, k + line), four);
        }
        right[j][0] = four[0], right[j][1] = four[1], right[j + 1][0] = four[2], right[j + 1][1] = four[3];
      }
#pragma unroll
      for (int i = 0; i < kPiecesDown; ++i) {  // matrices: 8 rows and the next 8, for two halves of the depth
        const int row = first_row() + i * 16 + odd, k = depth + upper;
        uint32_t left[4];
        if constexpr (along_a == Along::kDepth) {
          load_matrices<false>(a + A::at(row + line, k), left);
        } else {
          load_matrices<true>(a + A::at(row, k + line), left);
        }
#pragma unroll
        for (int j = 0; j < kPiecesAcross; ++j) multiply_add(left, right[j], sums_[i][j]);
      }
    }
  }

  template <class Fn>
  __device__ void results(const Fn& fn) const {
    const int lane = int(threadIdx.x) % 32, group = lane / 4, pair = lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kPiecesDown; ++i) {
#pragma unroll
      for (int j = 0; j < kPiecesAcross; ++j) {
        const int row = first_row() + i * 16 + group, column = first_column() + j * 8 + pair;
        fn(row, column, &sums_[i][j][0]);
        fn(row + 8, column, &sums_[i][j][2]);
      }
    }
  }
};

template <class T, class Tile, Along along_a, Along along_b>
struct MultiplyOf { using type = RegisterMultiply<T, Tile, along_a, along_b>; };
template <class Tile, Along along_a, Along along_b>
struct MultiplyOf<bfloat16, Tile, along_a, along_b> { using type = TensorMultiply<Tile, along_a, along_b>; };

// The result of a block, gathered in the shared memory of the slices so that it is written in lines of 16-byte packs.
template <class Out, class Tile>
constexpr int kResultLine = Tile::kColumns + kPackWidth<Out>;

template <class T, class Out, class Tile, Along along_a, Along along_b>
constexpr size_t tile_bytes() {
  const size_t slices = kStages * sizeof(T) * (Slice<T, Tile::kRows, along_a>::kSize + Slice<T, Tile::kColumns, along_b>::kSize);
  return std::max(slices, sizeof(Out) * Tile::kRows * kResultLine<Out, Tile>);
}

// Multiplies `slices` slices. copy(slice, a, b) starts this thread's copies of one into shared memory; `shared` has
// tile_bytes().
template <class T, class Tile, Along along_a, Along along_b, class Copy, class Multiply>
__device__ inline void multiply_slices(int slices, T* shared, const Copy& copy, Multiply& multiply) {
  constexpr int kA = Slice<T, Tile::kRows, along_a>::kSize, kStage = kA + Slice<T, Tile::kColumns, along_b>::kSize;
  const auto start = [&](int slice) {
    T* stage = shared + slice % kStages * kStage;
    if (slice < slices) copy(slice, stage, stage + kA);
    close_copies();  // also an empty group, so that the count of groups is the count of slices
  };
  for (int slice = 0; slice < kStages - 1; ++slice) start(slice);
  for (int slice = 0; slice < slices; ++slice) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the slice is there for all; and all have left the stage that is filled next
    start(slice + kStages - 1);
    const T* stage = shared + slice % kStages * kStage;
    multiply.add(stage, stage + kA);
  }
  wait_for_copies<0>();
  __syncthreads();
}

}  // namespace eq::cuda
