#include <algorithm>

#include "core/kernels/conv2d_tile.h"
#include "core/kernels/conv2d_winograd.h"
#include "core/parallel.h"

namespace eq::cpu::conv {
namespace {

// A task is a rectangle of output channels x input channels, summed over a chunk of the tiles: 64 x 64 channels of 36
// frequencies in float32 are 576 KiB, about as much as the transformed inputs and gradients of kTiles tiles. Smaller
// rectangles, which leave more of an L2 cache of 1 MiB free, lose more by transforming everything more often.
constexpr int64_t kOutRange = 64, kInRange = 64;
constexpr int64_t kTiles = 28;
constexpr int64_t kTasks = 16;  // wanted; beyond what the rectangles give, by partial sums

template <class T, int kM>
struct Plan {
  static constexpr int kFrequencies = Winograd<kM>::kIn * Winograd<kM>::kIn;
  WinogradShape shape;
  Split outs, ins, tiles;  // ranges of channels, of output channels and of vectors of input channels; blocks of tiles
  int64_t chunks;

  explicit Plan(const WinogradShape& s)
      : shape(s), outs(s.out_channels, kOutRange), ins(divide_up(s.in_channels, kLanes<T>), kInRange / kLanes<T>),
        tiles(s.tiles(), kTiles),
        chunks(std::clamp<int64_t>(kTasks / (outs.parts * ins.parts), 1, std::max<int64_t>(1, tiles.parts))) {}
  int64_t tasks() const { return chunks * outs.parts * ins.parts; }
  int64_t in_begin(int64_t part) const { return ins.begin(part) * kLanes<T>; }
  int64_t in_count(int64_t part) const { return std::min(in_begin(part + 1), shape.in_channels) - in_begin(part); }
};

// A dy A^T of `count` tiles, channels [channel, channel + channels) of grad_y; laid out as by winograd_transform_input.
template <class T, int kM>
void transform_gradient(const WinogradShape& shape, const T* grad_y, int64_t tile, int64_t count, int64_t channel,
                        int64_t channels, T* to, int64_t plane, int64_t row) {
  constexpr int kIn = Winograd<kM>::kIn;
  const int64_t y_row = shape.y_row(), y_pixel = shape.y_pixel();
  for (int64_t t = 0; t < count; ++t, to += row) {
    const WinogradShape::Place place = shape.at(tile + t);
    const WinogradTile &rows = place.rows, &cols = place.cols;
    const T* const from = grad_y + shape.y_offset(place) + channel;
    const bool whole = rows.count == kM && cols.count == kM;
    for (int64_t k = 0; k < channels; k += kLanes<T>) {
      const int64_t valid = std::min<int64_t>(kLanes<T>, channels - k);
      const auto transform = [](const Vector<T>* y, Vector<T>* m) { Winograd<kM>::output_adjoint(y, m); };
      const auto write = [&](int i, int j, Vector<T> value) { store(to + (i * kIn + j) * plane + k, value); };
      if (whole && valid == kLanes<T>) {
        transform_square<kM, kIn, T>([&](int i, int j) { return load(from + i * y_row + j * y_pixel + k); }, transform, write);
      } else {
        transform_square<kM, kIn, T>(
            [&](int i, int j) {
              return i < rows.count && j < cols.count ? load_first(from + i * y_row + j * y_pixel + k, valid) : Vector<T>{};
            },
            transform, write);
      }
    }
  }
}

// G^T sums G of a rectangle of channels to grad_weight [O,3,3,I]: `sums` is [frequency][out channel][in channel].
template <class T, int kM>
void transform_sums(const T* sums, int64_t plane, int64_t row, int64_t outs, int64_t ins, int64_t in_channels, T* to) {
  constexpr int kIn = Winograd<kM>::kIn;
  for (int64_t k = 0; k < outs; ++k, sums += row, to += 9 * in_channels) {
    for (int64_t c = 0; c < ins; c += kLanes<T>) {
      const int64_t valid = std::min<int64_t>(kLanes<T>, ins - c);
      transform_square<kIn, 3, T>(
          [&](int i, int j) { return load(sums + (i * kIn + j) * plane + c); },
          [](const Vector<T>* u, Vector<T>* w) { Winograd<kM>::filter_adjoint(u, w); },
          [&](int i, int j, Vector<T> value) { store_first(to + (i * 3 + j) * in_channels + c, value, valid); });
    }
  }
}

template <class T, int kM>
void run_task(const Plan<T, kM>& plan, const T* x, const T* grad_y, const T* zeros, int64_t out, int64_t in, int64_t chunk, T* to) {
  constexpr int kFrequencies = Plan<T, kM>::kFrequencies;
  const int64_t out_begin = plan.outs.begin(out), out_count = plan.outs.size(out);
  const int64_t in_begin = plan.in_begin(in), in_count = plan.in_count(in), width = plan.ins.size(in) * kLanes<T>;
  const int64_t x_row = scratch_pixel<T>(width), grad_row = scratch_pixel<T>(divide_up(out_count, kLanes<T>) * kLanes<T>);
  const int64_t x_plane = winograd_plane<T>(kTiles * x_row), grad_plane = winograd_plane<T>(kTiles * grad_row);
  const int64_t plane = winograd_plane<T>(out_count * width);
  T* const inputs = static_cast<T*>(thread_scratch(size_t(kFrequencies * (x_plane + grad_plane + plane)) * sizeof(T)));
  T *const grads = inputs + kFrequencies * x_plane, *const sums = grads + kFrequencies * grad_plane;
  std::fill_n(sums, kFrequencies * plane, T(0));
  const Split rows(out_count, kTileRows);
  for (int64_t part = plan.tiles.parts * chunk / plan.chunks; part < plan.tiles.parts * (chunk + 1) / plan.chunks; ++part) {
    const int64_t tile = plan.tiles.begin(part), count = plan.tiles.size(part);
    winograd_transform_input<T, kM>(plan.shape, x, zeros, tile, count, in_begin, in_count, inputs, x_plane, x_row);
    transform_gradient<T, kM>(plan.shape, grad_y, tile, count, out_begin, out_count, grads, grad_plane, grad_row);
    WeightTile<T> job = {};
    job.x_pixel = x_row;
    job.grad_pixel = grad_row;
    job.images = job.rows = 1;
    job.cols = count;
    job.out_row = width;
    job.last = kLanes<T>;
    for (int f = 0; f < kFrequencies; ++f) {
      for (int64_t column = 0; column < width; column += kBlock<T>) {
        const WeightTileTable<T>& table = width - column > kLanes<T> ? kWeightTiles<T, 2> : kWeightTiles<T, 1>;
        for (int64_t r = 0; r < rows.parts; ++r) {
          job.x = inputs + f * x_plane + column;
          job.grad = grads + f * grad_plane + rows.begin(r);
          job.out = sums + f * plane + rows.begin(r) * width + column;
          table[size_t(rows.size(r) - 1)](job);
        }
      }
    }
  }
  const int64_t channels = plan.shape.in_channels;
  transform_sums<T, kM>(sums, plane, width, out_count, in_count, channels, to + out_begin * 9 * channels + in_begin);
}

}  // namespace

template <class T, int kM>
void winograd_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  const Plan<T, kM> plan(winograd_forward_shape(x.shape(), grad_y.shape(), options, kM));
  const int64_t size = grad_weight.numel();
  T* out = grad_weight.data<T>();
  Buffer<T> zeros(plan.shape.in_channels), parts(plan.chunks > 1 ? plan.chunks * size : 1);
  std::fill_n(zeros.data(), plan.shape.in_channels, T(0));
  parallel_for(plan.tasks(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t in = task % plan.ins.parts, k = task / plan.ins.parts % plan.outs.parts;
      const int64_t chunk = task / (plan.ins.parts * plan.outs.parts);
      run_task(plan, x.data<T>(), grad_y.data<T>(), zeros.data(), k, in, chunk,
               plan.chunks > 1 ? parts.data() + chunk * size : out);
    }
  });
  if (plan.chunks > 1) add_parts(parts.data(), plan.chunks, size, out);
}

template void winograd_backward_weight<float, 2>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void winograd_backward_weight<float, 4>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void winograd_backward_weight<double, 2>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void winograd_backward_weight<double, 4>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
