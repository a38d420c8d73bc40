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
constexpr int64_t kTiles = 28;   // of a part
constexpr int64_t kStretch = 9;  // parts that are read twice in a row
constexpr int64_t kTasks = 16;   // wanted; beyond what the rectangles give, by partial sums

template <class T, int kM>
struct Plan {
  WinogradShape shape;
  Split outs, ins, tiles;  // ranges of channels, of output channels and of vectors of input channels; blocks of tiles
  int64_t chunks;

  explicit Plan(const WinogradShape& s)
      : shape(s), outs(s.out_channels, kOutRange), ins(divide_up(s.in_channels, kVectorLanes<T>), kInRange / kVectorLanes<T>),
        tiles(s.tiles(), kTiles),
        chunks(std::clamp<int64_t>(kTasks / (outs.parts * ins.parts), 1, std::max<int64_t>(1, tiles.parts))) {}
  int64_t tasks() const { return chunks * outs.parts * ins.parts; }
  int64_t in_begin(int64_t part) const { return ins.begin(part) * kVectorLanes<T>; }
  int64_t in_count(int64_t part) const { return std::min(in_begin(part + 1), shape.in_channels) - in_begin(part); }
};

// A dy A^T of `count` tiles, channels [channel, channel + channels) of grad_y; laid out as by winograd_transform_input.
template <class T, int kM, int kFirst, int kRows>
void transform_gradient(const WinogradShape& shape, const T* grad_y, int64_t tile, int64_t count, int64_t channel,
                        int64_t channels, T* to, int64_t plane, int64_t row) {
  constexpr int kIn = Winograd<kM>::kIn;
  const int64_t y_row = shape.y_row(), y_pixel = shape.y_pixel();
  WinogradShape::Place place = shape.at(tile);
  for (int64_t t = 0; t < count; ++t, place.next(), to += row) {
    const WinogradTile &rows = place.rows(), &cols = place.cols();
    const T* const from = grad_y + shape.y_offset(place) + channel;
    const bool whole = rows.count == kM && cols.count == kM;
    for (int64_t k = 0; k < channels; k += kVectorLanes<T>) {
      const int64_t valid = std::min<int64_t>(kVectorLanes<T>, channels - k);
      const auto transform = [](const Vector<T>* y, Vector<T>* m) { Winograd<kM>::output_adjoint(y, m); };
      const WriteRows<T, kIn> write = {to + k, kIn * plane, plane};
      if (whole && valid == kVectorLanes<T>) {
        transform_square<kM, kIn, T, kFirst, kRows>(ReadColumns<T, kM>{from + k, y_row, y_pixel}, transform, write);
      } else {
        transform_square<kM, kIn, T, kFirst, kRows>(
            [&](int j, Vector<T>* column) {
              for (int i = 0; i < kM; ++i) {
                const bool inside = i < rows.count && j < cols.count;
                column[i] = inside ? load_first(from + i * y_row + j * y_pixel + k, valid) : Vector<T>{};
              }
            },
            transform, write);
      }
    }
  }
}

// G^T sums G of a rectangle of channels to grad_weight [O,3,3,I]: `sums` is [frequency][out channel][in channel]. A filter's
// gradient is collected first: with each vector stored to its far row, whole gradients of 512 x 512 channels took 5 to 10 % longer.
template <class T, int kM>
void transform_sums(const T* sums, int64_t plane, int64_t row, int64_t outs, int64_t ins, int64_t in_channels, T* to) {
  constexpr int kIn = Winograd<kM>::kIn;
  T near[9][kInRange];
  for (int64_t k = 0; k < outs; ++k, sums += row, to += 9 * in_channels) {
    for (int64_t c = 0; c < ins; c += kVectorLanes<T>) {
      transform_square<kIn, 3, T>(ReadColumns<T, kIn>{sums + c, kIn * plane, plane},
                                  [](const Vector<T>* u, Vector<T>* w) { Winograd<kM>::filter_adjoint(u, w); },
                                  WriteRows<T, 3>{near[0] + c, 3 * kInRange, kInRange});
    }
    for (int64_t tap = 0; tap < 9; ++tap) std::copy_n(near[tap], ins, to + tap * in_channels);
  }
}

// One task. The sums of all frequencies do not fit a cache beside what they are made of, so a stretch of tiles is read
// twice, once for each half of the frequencies' rows; the second time it is still in the last cache.
template <class T, int kM>
class Task {
 public:
  Task(const Plan<T, kM>& plan, int64_t out, int64_t in, int64_t chunk)
      : plan_(plan),
        out_begin_(plan.outs.begin(out)), out_count_(plan.outs.size(out)),
        in_begin_(plan.in_begin(in)), in_count_(plan.in_count(in)), width_(plan.ins.size(in) * kVectorLanes<T>),
        parts_begin_(plan.tiles.parts * chunk / plan.chunks), parts_end_(plan.tiles.parts * (chunk + 1) / plan.chunks) {}

  void run(const T* x, const T* grad_y, const T* zeros, T* to) const {
    T* const sums = static_cast<T*>(thread_scratch(size_t(kIn * kIn * plane_ + kRows * kIn * (x_plane_ + grad_plane_)) * sizeof(T)));
    T* const scratch = sums + kIn * kIn * plane_;
    std::fill_n(sums, kIn * kIn * plane_, T(0));
    for (int64_t begin = parts_begin_; begin < parts_end_; begin += kStretch) {
      const int64_t end = std::min(begin + kStretch, parts_end_);
      run_rows<0>(begin, end, x, grad_y, zeros, scratch, sums);
      if constexpr (kRows < kIn) run_rows<kRows>(begin, end, x, grad_y, zeros, scratch, sums + kRows * kIn * plane_);
    }
    const int64_t channels = plan_.shape.in_channels;
    transform_sums<T, kM>(sums, plane_, width_, out_count_, in_count_, channels, to + out_begin_ * 9 * channels + in_begin_);
  }

 private:
  static constexpr int kIn = Winograd<kM>::kIn;
  static constexpr int kRows = kM == 4 ? kIn / 2 : kIn;  // F(2x2) has few enough frequencies

  // Adds the parts [begin, end) of the tiles to the sums of the frequencies' rows kFirst .. kFirst + kRows - 1.
  template <int kFirst>
  void run_rows(int64_t begin, int64_t end, const T* x, const T* grad_y, const T* zeros, T* scratch, T* sums) const {
    T *const inputs = scratch, *const grads = scratch + kRows * kIn * x_plane_;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t tile = plan_.tiles.begin(part), count = plan_.tiles.size(part);
      winograd_transform_input<T, kM, kFirst, kRows>(plan_.shape, x, zeros, tile, count, in_begin_, in_count_, inputs, x_plane_, x_row_);
      transform_gradient<T, kM, kFirst, kRows>(plan_.shape, grad_y, tile, count, out_begin_, out_count_, grads, grad_plane_, grad_row_);
      WeightTiles<T> job = {};
      job.x_pixel = x_row_;
      job.grad_pixel = grad_row_;
      job.grad_tile = Split(out_count_, kTileRows).largest();
      job.images = job.rows = 1;
      job.cols = count;
      job.out_row = width_;
      for (int f = 0; f < kRows * kIn; ++f) {
        for (int64_t column = 0; column < width_; column += kBlock<T>) {
          job.x = inputs + f * x_plane_ + column;
          job.grad = grads + f * grad_plane_;
          job.out = sums + f * plane_ + column;
          run_lines<T>(job, out_count_, job.grad_tile, std::min<int64_t>(kBlock<T>, width_ - column));
        }
      }
    }
  }

  const Plan<T, kM>& plan_;
  const int64_t out_begin_, out_count_, in_begin_, in_count_, width_, parts_begin_, parts_end_;
  const int64_t x_row_ = scratch_pixel<T>(width_), grad_row_ = scratch_pixel<T>(divide_up(out_count_, kVectorLanes<T>) * kVectorLanes<T>);
  const int64_t x_plane_ = winograd_plane<T>(kTiles * x_row_), grad_plane_ = winograd_plane<T>(kTiles * grad_row_);
  const int64_t plane_ = winograd_plane<T>(out_count_ * width_);
};

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
      Task<T, kM>(plan, k, in, chunk).run(x.data<T>(), grad_y.data<T>(), zeros.data(), plan.chunks > 1 ? parts.data() + chunk * size : out);
    }
  });
  if (plan.chunks > 1) add_parts(parts.data(), plan.chunks, size, out);
}

template void winograd_backward_weight<float, 2>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void winograd_backward_weight<float, 4>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void winograd_backward_weight<double, 2>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void winograd_backward_weight<double, 4>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
