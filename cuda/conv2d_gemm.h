#pragma once
// Convolution as matrix multiplication without a matrix of patches: the tiles of conv2d_tile.h copy what they multiply
// straight from the tensors.
//
//   forward          rows: pixels of y      columns: output channels   depth: taps x input channels
//   backward input   rows: pixels of x      columns: input channels    depth: taps x output channels, per phase of the stride
//   backward weight  rows: output channels  columns: taps x input ch.  depth: pixels of y, in chunks (conv2d_chunks.h)
//
// Channels are innermost everywhere, so a thread copies 16-byte packs where the channel counts allow it, single values
// elsewhere. Where a row of a block reads is worked out once; a slice of the depth adds one offset, and one test per axis
// against the border. Groups are a grid axis.

#include <numeric>
#include <type_traits>

#include "cuda/conv2d_axis.h"
#include "cuda/conv2d_chunks.h"
#include "cuda/conv2d_tile.h"
#include "cuda/divide.h"
#include "cuda/own_conv2d.h"

namespace eq::cuda {

// A row's pixel in the input, before a tap is added, and the elements up to it (and to the group's first channel).
struct InputPlace {
  int64_t element;
  int h, w;
  __device__ bool inside(unsigned tap_h, unsigned tap_w, const CorrelationAxis& along_h, const CorrelationAxis& along_w) const {
    return unsigned(h) + tap_h < unsigned(along_h.in) && unsigned(w) + tap_w < unsigned(along_w.in);
  }
};

// Writes the block's results, which each thread holds a part of, through shared memory: in lines, in packs if `packed`.
// Row i goes to out + to(i), or nowhere if that is negative; `columns` of a row exist; finish(value, column) is what is
// stored.
template <class Tile, class Out, class Multiply, class To, class Finish>
__device__ inline void store_results(const Multiply& multiply, Out* shared, Out* out, int columns, bool packed, const To& to,
                                     const Finish& finish) {
  constexpr int kLine = kResultLine<Out, Tile>, kPack = kPackWidth<Out>, kPerLine = Tile::kColumns / kPack;
  multiply.results([&](int row, int column, const auto* values) {
    Pack<Out, Multiply::kTogether> pack;
#pragma unroll
    for (int i = 0; i < Multiply::kTogether; ++i) pack[i] = finish(values[i], column + i);
    store_pack(shared + row * kLine + column, pack);
  });
  __syncthreads();
  for (int i = int(threadIdx.x); i < Tile::kRows * kPerLine; i += Tile::kThreads) {
    const int row = i / kPerLine, column = i % kPerLine * kPack;
    const int64_t element = to(row);
    if (element < 0 || column >= columns) continue;
    const auto pack = load_pack<Out, kPack>(shared + row * kLine + column);
    Out* target = out + element + column;
    if (packed) {
      store_pack(target, pack);
    } else {
#pragma unroll
      for (int j = 0; j < kPack; ++j) {
        if (column + j < columns) target[j] = pack[j];
      }
    }
  }
}

// Tiles of one kind of result: columns, rows, then whatever is outside them; `rows` may be more than some phases have.
struct TileGrid {
  int columns, rows;
};

template <class T>
struct CorrelationArguments {
  Convolution shape;
  TileGrid tiles;
  const T *in, *weight, *bias;
  T* out;
  bool packed_out;
};

template <class T, class Tile, int kPack, bool kBackward>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) correlate_kernel(CorrelationArguments<T> arguments) {
  constexpr Along kWeightAlong = kBackward ? Along::kRows : Along::kDepth;
  using A = typename Slice<T, Tile::kRows, Along::kDepth>::template Copies<Tile::kThreads, kPack>;
  using B = typename Slice<T, Tile::kColumns, kWeightAlong>::template Copies<Tile::kThreads, kPack>;
  constexpr bool kKeepPlaces = A::kCount <= 4 && std::is_same_v<T, bfloat16>;  // in registers; the others have none to spare
  __shared__ InputPlace places[Tile::kRows];
  __shared__ int64_t targets[Tile::kRows];

  const Convolution& shape = arguments.shape;
  unsigned block = blockIdx.x;
  const int first_column = int(block % unsigned(arguments.tiles.columns)) * Tile::kColumns;
  block /= unsigned(arguments.tiles.columns);
  const int64_t first_row = int64_t(block % unsigned(arguments.tiles.rows)) * Tile::kRows;
  block /= unsigned(arguments.tiles.rows);
  const int group = int(block % unsigned(shape.groups)), phase = int(block / unsigned(shape.groups));
  const CorrelationAxis h = kBackward ? shape.h.backward(phase / shape.w.phases()) : shape.h.forward();
  const CorrelationAxis w = kBackward ? shape.w.backward(phase % shape.w.phases()) : shape.w.forward();
  const int64_t rows = int64_t(shape.images) * h.out * w.out;
  if (first_row >= rows) return;

  const int channels = kBackward ? shape.out_channels : shape.in_channels;  // of the depth
  const int columns = kBackward ? shape.in_channels : shape.out_channels;
  const int depth = h.taps * w.taps * channels, slices = (depth + kDepth<T> - 1) / kDepth<T>;
  const int out_h = kBackward ? shape.h.in : shape.h.out, out_w = kBackward ? shape.w.in : shape.w.out;
  const int64_t in_pixel = int64_t(channels) * shape.groups, out_pixel = int64_t(columns) * shape.groups;
  for (int i = int(threadIdx.x); i < Tile::kRows; i += Tile::kThreads) {
    const int64_t row = first_row + i < rows ? first_row + i : rows - 1;  // past the end: anything that can be read
    const int64_t q = row % w.out, p = row / w.out % h.out, image = row / w.out / h.out;
    const int64_t from_h = h.origin + p * h.step, from_w = w.origin + q * w.step;
    places[i] = {((image * h.in + from_h) * w.in + from_w) * in_pixel + group * channels, int(from_h), int(from_w)};
    const int64_t pixel = (image * out_h + h.first + p * h.every) * out_w + w.first + q * w.every;
    targets[i] = first_row + i < rows ? pixel * out_pixel + int64_t(group) * columns + first_column : -1;
  }
  __syncthreads();

  InputPlace kept[kKeepPlaces ? A::kCount : 1];
  if constexpr (kKeepPlaces) {
#pragma unroll
    for (int i = 0; i < A::kCount; ++i) kept[i] = places[A::line(i)];
  }
  const Divisor by_channels(channels), by_taps_w(w.taps > 0 ? w.taps : 1);
  const T* weight = arguments.weight + int64_t(group) * shape.out_channels * shape.filter();

  const auto copy = [&](int slice, T* a, T* b) {
    int channel = slice * kDepth<T> + A::place();
    const bool exists = channel < depth;
    const int k = channel;
    int s = by_channels.divide(channel);
    const int r = by_taps_w.divide(s);
    const unsigned tap_h = unsigned(r) * unsigned(h.spread), tap_w = unsigned(s) * unsigned(w.spread);
    const int64_t offset = (int64_t(r) * h.spread * w.in + int64_t(s) * w.spread) * in_pixel + channel;
#pragma unroll
    for (int i = 0; i < A::kCount; ++i) {
      const InputPlace& place = kKeepPlaces ? kept[kKeepPlaces ? i : 0] : places[A::line(i)];
      const bool valid = exists && place.inside(tap_h, tap_w, h, w);
      copy_async<kPack * sizeof(T)>(A::target(a, i), valid ? arguments.in + place.element + offset : arguments.in, valid);
    }
    if constexpr (!kBackward) {  // the filter of a column, from k on
#pragma unroll
      for (int i = 0; i < B::kCount; ++i) {
        const int column = first_column + B::line(i);
        const T* from = weight + int64_t(column < columns ? column : 0) * depth + (exists ? k : 0);
        copy_async<kPack * sizeof(T)>(B::target(b, i), from, exists);
      }
    } else {  // input channels, from `column` on, of one tap of one filter
      const int column = first_column + B::place();
#pragma unroll
      for (int i = 0; i < B::kCount; ++i) {
        int filter = slice * kDepth<T> + B::line(i);
        const bool real = filter < depth;
        int tap_s = by_channels.divide(filter);
        const int tap_r = by_taps_w.divide(tap_s);
        const int tap = (h.tap_first + tap_r * h.tap_every) * shape.w.kernel + w.tap_first + tap_s * w.tap_every;
        const int64_t element = int64_t(filter) * shape.filter() + int64_t(tap) * columns + (column < columns ? column : 0);
        copy_async<kPack * sizeof(T)>(B::target(b, i), real ? weight + element : weight, real);
      }
    }
  };
  typename MultiplyOf<T, Tile, Along::kDepth, kWeightAlong>::type multiply;
  T* shared = shared_memory<T>();
  multiply_slices<T, Tile, Along::kDepth, kWeightAlong>(slices, shared, copy, multiply);
  const T* bias = arguments.bias == nullptr ? nullptr : arguments.bias + int64_t(group) * columns + first_column;
  const int rest = columns - first_column;
  const auto finish = [&](Wide<T> value, int column) {
    return T(bias != nullptr && column < rest ? value + Wide<T>(bias[column]) : value);
  };
  store_results<Tile>(multiply, shared, arguments.out, rest, arguments.packed_out, [&](int row) { return targets[row]; }, finish);
}

template <class T>
struct WeightArguments {
  Convolution shape;
  TileGrid tiles;
  int64_t chunk;  // pixels of y
  Divisor by_w, by_h;  // of y
  const T *grad_y, *x;
  Wide<T>* sums;  // [chunk][O, kh, kw, I/groups]
  bool packed_out;
};

template <class T, class Tile, int kPack>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) weight_kernel(WeightArguments<T> arguments) {
  using A = typename Slice<T, Tile::kRows, Along::kRows>::template Copies<Tile::kThreads, kPack>;
  using B = typename Slice<T, Tile::kColumns, Along::kRows>::template Copies<Tile::kThreads, kPack>;
  const Convolution& shape = arguments.shape;
  unsigned block = blockIdx.x;
  const int first_column = int(block % unsigned(arguments.tiles.columns)) * Tile::kColumns;
  block /= unsigned(arguments.tiles.columns);
  const int first_row = int(block % unsigned(arguments.tiles.rows)) * Tile::kRows;
  block /= unsigned(arguments.tiles.rows);
  const int group = int(block % unsigned(shape.groups));
  const int64_t chunk = block / unsigned(shape.groups), begin = chunk * arguments.chunk, pixels = shape.out_pixels();
  const int depth = int(begin + arguments.chunk < pixels ? arguments.chunk : pixels - begin);
  const int slices = (depth + kDepth<T> - 1) / kDepth<T>;

  const int rows = shape.out_channels, columns = int(shape.filter());
  const CorrelationAxis h = shape.h.forward(), w = shape.w.forward();
  // This thread's places in the lines: an output channel; a tap and an input channel. Past the end: anything that can be
  // read.
  const int row = first_row + A::place(), column = first_column + B::place();
  const int64_t y_pixel = int64_t(rows) * shape.groups, x_pixel = int64_t(shape.in_channels) * shape.groups;
  const T* grad_y = arguments.grad_y + begin * y_pixel + int64_t(group) * rows + (row < rows ? row : 0);
  const int real = column < columns ? column : 0, tap = real / shape.in_channels, channel = real % shape.in_channels;
  const unsigned tap_h = unsigned(tap / w.taps) * unsigned(h.spread) + unsigned(h.origin);
  const unsigned tap_w = unsigned(tap % w.taps) * unsigned(w.spread) + unsigned(w.origin);
  const int picture = h.out * w.out, first_image = int(begin / picture), first_pixel = int(begin % picture);
  const T* x = arguments.x + int64_t(group) * shape.in_channels + channel;

  const auto copy = [&](int slice, T* a, T* b) {
#pragma unroll
    for (int i = 0; i < A::kCount; ++i) {
      const int pixel = slice * kDepth<T> + A::line(i);
      const bool exists = pixel < depth;
      copy_async<kPack * sizeof(T)>(A::target(a, i), exists ? grad_y + pixel * y_pixel : grad_y, exists);
    }
#pragma unroll
    for (int i = 0; i < B::kCount; ++i) {
      const int pixel = slice * kDepth<T> + B::line(i);
      int q = first_pixel + pixel;
      int p = arguments.by_w.divide(q);
      const int image = first_image + arguments.by_h.divide(p);
      const unsigned at_h = unsigned(p) * unsigned(h.step) + tap_h, at_w = unsigned(q) * unsigned(w.step) + tap_w;
      const bool valid = pixel < depth && at_h < unsigned(h.in) && at_w < unsigned(w.in);
      const T* from = x + ((int64_t(image) * h.in + at_h) * w.in + at_w) * x_pixel;
      copy_async<kPack * sizeof(T)>(B::target(b, i), valid ? from : arguments.x, valid);
    }
  };
  typename MultiplyOf<T, Tile, Along::kRows, Along::kRows>::type multiply;
  T* shared = shared_memory<T>();
  multiply_slices<T, Tile, Along::kRows, Along::kRows>(slices, shared, copy, multiply);
  const int64_t filters = chunk * y_pixel + int64_t(group) * rows + first_row;
  const int rest = rows - first_row;
  store_results<Tile>(multiply, reinterpret_cast<Wide<T>*>(shared), arguments.sums, columns - first_column, arguments.packed_out,
                      [&](int row) { return row < rest ? (filters + row) * columns + first_column : int64_t(-1); },
                      [](Wide<T> value, int) { return value; });
}

// Large tiles reuse more of what they read; small ones give a small problem more blocks. By the shapes alone: `times` as
// many blocks as rows x columns take (groups, phases, chunks) should be about one for each multiprocessor of a large GPU,
// two where a block is half as large. Oblong: tall or wide, whichever the kernel has.
inline Tiles tiles_for(int64_t rows, int64_t columns, int64_t times, bool tall) {
  const auto blocks = [&](int64_t height, int64_t width) { return divide_up(rows, height) * divide_up(columns, width) * times; };
  if (rows > 64 && columns > 64 && blocks(128, 128) >= 128) return Tiles::kLarge;
  if ((tall ? rows : columns) > 64 && blocks(tall ? 128 : 64, tall ? 64 : 128) >= 256) return Tiles::kOblong;
  return Tiles::kSmall;
}

// Calls fn.template operator()<Tile, kPack>(). What a type or a single value at a time has no tile for gets a small one.
template <class T, int kPack, class OblongTile, class Fn>
void with_tile(Tiles tiles, const Fn& fn) {
  if constexpr (kPack > 1 && !std::is_same_v<T, double>) {
    if (tiles == Tiles::kLarge) return fn.template operator()<LargeTile, kPack>();
  }
  if constexpr (kPack > 1 && std::is_same_v<T, bfloat16>) {
    if (tiles == Tiles::kOblong) return fn.template operator()<OblongTile, kPack>();
  }
  fn.template operator()<SmallTile, kPack>();
}

template <class T, class Tile, int kPack, bool kBackward>
void launch_correlation(Device device, CorrelationArguments<T> arguments, int64_t rows, int64_t columns, int64_t times) {
  constexpr Along kWeightAlong = kBackward ? Along::kRows : Along::kDepth;
  const int64_t down = divide_up(rows, Tile::kRows), across = divide_up(columns, Tile::kColumns);
  const unsigned blocks = blocks_for(down * across * times, 1);
  arguments.tiles = {int(across), int(down)};
  const Grid grid = {blocks, Tile::kThreads, tile_bytes<T, T, Tile, Along::kDepth, kWeightAlong>()};
  launch(device, kBackward ? "conv2d, backward input" : "conv2d", grid, correlate_kernel<T, Tile, kPack, kBackward>, arguments);
}

template <class T, bool kBackward>
void correlate(const Convolution& shape, const Tensor& in, const Tensor& weight, const Tensor& bias, Tensor& out, Tiles tiles) {
  if (out.numel() == 0) return;
  const int channels = kBackward ? std::gcd(shape.in_channels, shape.out_channels) : shape.in_channels;
  const int columns = kBackward ? shape.in_channels : shape.out_channels;
  const int64_t phases = kBackward ? int64_t(shape.h.phases()) * shape.w.phases() : 1;
  const int64_t rows = kBackward ? shape.images * divide_up(shape.h.in, shape.h.stride) * divide_up(shape.w.in, shape.w.stride)
                                 : shape.out_pixels();  // of the largest phase
  const bool packed_out = columns % kPackWidth<T> == 0 && on_16_bytes(data<T>(out));
  const CorrelationArguments<T> arguments = {shape, {}, data<T>(in), data<T>(weight), data<T>(bias), data<T>(out), packed_out};
  const int64_t times = phases * shape.groups;
  if (tiles == Tiles::kByShape) tiles = tiles_for(rows, columns, times, true);
  with_pack<T>(channels, [&]<int kPack>() {
    with_tile<T, kPack, TallTile>(tiles, [&]<class Tile, int kOfTile>() {
      launch_correlation<T, Tile, kOfTile, kBackward>(out.device(), arguments, rows, columns, times);
    });
  }, arguments.in, arguments.weight);
}

template <class T>
void gemm_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options,
                         Tiles tiles) {
  correlate<T, false>(convolution_of(x.shape(), weight.shape(), y.shape(), options), x, weight, bias, y, tiles);
}

template <class T>
void gemm_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options,
                                Tiles tiles) {
  correlate<T, true>(convolution_of(grad_x.shape(), weight.shape(), grad_y.shape(), options), grad_y, weight, {}, grad_x, tiles);
}

template <class T, class Tile, int kPack>
void launch_weight(const WeightArguments<T>& from, Tensor& grad_weight) {
  const Convolution& shape = from.shape;
  WeightArguments<T> arguments = from;
  const int64_t down = divide_up(shape.out_channels, Tile::kRows), across = divide_up(shape.filter(), Tile::kColumns);
  const int64_t pixels = shape.out_pixels(), count = grad_weight.numel();
  arguments.tiles = {int(across), int(down)};
  arguments.chunk = pixels_per_chunk(pixels, down * across * shape.groups, 256, count * int64_t(sizeof(Wide<T>)));
  const int64_t chunks = divide_up(pixels, arguments.chunk);
  Tensor sums;
  if constexpr (std::is_same_v<T, Wide<T>>) {
    if (chunks == 1) sums = grad_weight;  // nothing to add
  }
  const bool direct = sums.defined();
  if (!direct) sums = Tensor::empty({chunks, count}, dtype_of<Wide<T>>::value, grad_weight.device());
  arguments.sums = data<Wide<T>>(sums);
  arguments.packed_out = shape.filter() % kPackWidth<Wide<T>> == 0 && on_16_bytes(arguments.sums);
  const Grid grid = {blocks_for(down * across * shape.groups * chunks, 1), Tile::kThreads,
                     tile_bytes<T, Wide<T>, Tile, Along::kRows, Along::kRows>()};
  launch(grad_weight.device(), "conv2d, backward weight", grid, weight_kernel<T, Tile, kPack>, arguments);
  if (!direct) add_chunks<T>(sums, grad_weight, 1, count);
}

template <class T>
void gemm_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options,
                                 Tiles tiles) {
  const Convolution shape = convolution_of(x.shape(), grad_weight.shape(), grad_y.shape(), options);
  if (shape.out_pixels() == 0) {
    grad_weight.fill_(0);
    return;
  }
  const WeightArguments<T> arguments = {shape,   {}, 0, Divisor(shape.w.out), Divisor(shape.h.out), data<T>(grad_y), data<T>(x),
                                        nullptr, false};
  const int64_t chunks = divide_up(shape.out_pixels(), 512);  // they make up for few tiles
  if (tiles == Tiles::kByShape) tiles = tiles_for(shape.out_channels, shape.filter(), shape.groups * chunks, false);
  with_pack<T>(std::gcd(shape.in_channels, shape.out_channels), [&]<int kPack>() {
    with_tile<T, kPack, WideTile>(tiles, [&]<class Tile, int kOfTile>() {
      launch_weight<T, Tile, kOfTile>(arguments, grad_weight);
    });
  }, arguments.grad_y, arguments.x);
}

}  // namespace eq::cuda
