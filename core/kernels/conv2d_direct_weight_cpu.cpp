#include <algorithm>
#include <utility>

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_tile.h"
#include "core/parallel.h"

namespace eq::cpu::conv {
namespace {

constexpr int64_t kTasks = 16;              // wanted; beyond what blocks of channels give, by partial sums over pixels
constexpr int64_t kStripBytes = 320 << 10;  // of x and grad_y in scratch
constexpr int64_t kStripPixels = 512;
constexpr int64_t kInPlaceBytes = 128;  // of a pixel: a panel's of 256 bytes fill all ways of the first cache's sets in which they lie
constexpr int64_t kFewUses = 4;
constexpr int64_t kLineBytes = 64;           // groups whose pixels have less share cache lines: a task takes several,
constexpr int64_t kGroupSumsBytes = 128 << 10;  // as many as have so many bytes of sums
constexpr int64_t kPanelPixels = 128;  // of a strip, whose vectors stay in the first cache while the tiles' rows pass

// A task is a rectangle of output channels x input channels of one group, or several groups, summed over a chunk of the strips.
struct Plan {
  Split images, rows, cols;
  Split groups, outs, ins;  // ranges of groups and of channels
  int64_t chunks;
  // Vectors lie along the input channels, as in the gradient, or, where these would fill them badly (a stem), along the
  // output channels.
  bool transposed;
  int64_t strips() const { return images.parts * rows.parts * cols.parts; }
  int64_t ranges() const { return groups.parts * outs.parts * ins.parts; }
};

template <class T>
Plan make_plan(const Correlation& c) {
  // The rectangle's sums stay in cache with a strip: 64 x 64 channels of a 3x3 filter are 147 KiB.
  const int64_t taps = int64_t(c.h.taps.size() * c.w.taps.size());
  const int64_t range = taps > 4 ? 64 : taps > 1 ? 128 : 256;
  const Split outs(c.out_channels, range), ins(c.in_channels, range);
  const bool shared = c.in_channels * int64_t(sizeof(T)) < kLineBytes;
  const int64_t sums_bytes = taps * c.in_channels * c.out_channels * int64_t(sizeof(T));
  const Split groups(c.groups, shared ? kGroupSumsBytes / std::max<int64_t>(1, sums_bytes) : 1);
  const int64_t pixel_bytes = (groups.largest() * ins.largest() + kBlock<T>) * int64_t(sizeof(T));
  const int64_t grad_bytes = (groups.largest() * outs.largest() + kBlock<T>) * int64_t(sizeof(T));
  const Split cols(c.w.out, kPanelPixels);
  auto bytes = [&](int64_t rows) {
    return c.h.positions(rows) * c.w.positions(cols.largest()) * pixel_bytes + rows * cols.largest() * grad_bytes;
  };
  int64_t most_rows = std::max<int64_t>(1, kStripPixels / std::max<int64_t>(1, cols.largest()));
  while (most_rows > 1 && bytes(most_rows) > kStripBytes) --most_rows;
  const Split rows(c.h.out, most_rows);
  int64_t most_images = 1;
  if (rows.parts == 1 && cols.parts == 1) {
    most_images = std::max<int64_t>(1, std::min(kStripPixels / (c.h.out * c.w.out), kStripBytes / bytes(c.h.out)));
  }
  const Split images(c.images, most_images);
  // A tile of one vector beside such of two takes nearly as long as these; alone it has more rows.
  auto filled = [](int64_t channels) {
    const int64_t width = channels <= kVectorLanes<T> ? kVectorLanes<T> : kBlock<T>;
    return double(channels) / double(divide_up(channels, width) * width);
  };
  const bool merged = c.in_channels % kVectorLanes<T> != 0 && c.w.taps.size() > 1 && c.w.taps[1] == c.w.taps[0] + 1;
  const double filled_in = filled(merged ? c.in_channels * int64_t(c.w.taps.size()) : c.in_channels);
  Plan plan = {images, rows, cols, groups, outs, ins, 1, ins.parts == 1 && filled(outs.largest()) > 1.2 * filled_in};
  plan.chunks = std::clamp<int64_t>(kTasks / plan.ranges(), 1, std::max<int64_t>(1, plan.strips()));
  return plan;
}

// A strip of an operand in scratch. Packed for vectors: [block of kBlock channels][image][row][column][kBlock]; packed for
// rows: [tile][image][row][column][channels of a tile]; otherwise [image][row][column][channels].
template <class T>
struct Operand {
  const T* data;
  int64_t image, row, pixel;
  int64_t part;  // elements from one block or tile to the next
};

// Copies `count` channels to parts of `size` of them, `part` elements apart, each by kVectors whole vectors: what these write
// too much is written again by the next pixel, or is the part's margin. The pixel after the next three is fetched: `pixel` elements
// lie between neighbours.
template <int kVectors, class T>
void pack_pixel(const T* from, int64_t pixel, int64_t count, int64_t size, T* to, int64_t part) {
  constexpr int64_t kWidth = kVectorLanes<T>;
  for (int64_t i = 0; i < count; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + 4 * pixel + i);
  int64_t c = 0;
  for (; c + kVectors * kWidth <= count; c += size, to += part) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(to + v * kWidth, load(from + c + v * kWidth));
  }
  for (; c < count; c += size, to += part) {
    for (int64_t v = 0; v < std::min(size, count - c); v += kWidth) {
      store(to + v, load_first(from + c + v, std::min(kWidth, count - c - v)));
    }
  }
}

// A row of `pixels` of them, to pixels of `size`.
template <int kVectors, class T>
void pack_row(const T* from, int64_t pixel, int64_t pixels, int64_t count, int64_t size, T* to, int64_t part) {
  for (int64_t q = 0; q < pixels; ++q, from += pixel, to += size) pack_pixel<kVectors>(from, pixel, count, size, to, part);
}

// pack_row by as many vectors as cover `size`.
template <class T, int kVectors = 1>
auto row_packer(int64_t size) -> void (*)(const T*, int64_t, int64_t, int64_t, int64_t, T*, int64_t) {
  if constexpr (kVectors * kVectorLanes<T> < std::max<int64_t>(kBlock<T>, kOneVectorRows)) {
    if (size > kVectors * kVectorLanes<T>) return row_packer<T, kVectors + 1>(size);
  }
  return pack_row<kVectors, T>;
}

template <class T>
class Task {
 public:
  Task(const Correlation& c, const Plan& plan, int64_t task) : c_(c), plan_(plan) {
    auto take = [&task](int64_t count) { return std::exchange(task, task / count) % count; };
    const int64_t in = take(plan.ins.parts), out = take(plan.outs.parts), groups = take(plan.groups.parts),
                  group = plan.groups.begin(groups);
    chunk_ = task;
    groups_ = plan.groups.size(groups);
    in_count_ = plan.ins.size(in);
    out_count_ = plan.outs.size(out);
    x_channel_ = group * c.in_channels + plan.ins.begin(in);
    y_channel_ = group * c.out_channels + plan.outs.begin(out);
    filter_at_ = y_channel_ * filter() + plan.ins.begin(in);
    // Taps of a filter row that lie side by side in x and in the gradient are one longer row of channels.
    merged_ = in_count_ == c.in_channels && in_count_ % kVectorLanes<T> != 0;
    // An operand is read in place where its pixels are whole, and either few of their lines meet in a set of the first
    // cache or copying would serve few tiles.
    const auto in_place = [&](int64_t count, int64_t all, int64_t uses) {
      return count == all && (count * int64_t(sizeof(T)) <= kInPlaceBytes || uses * taps() <= kFewUses);
    };
    const int64_t in_blocks = divide_up(in_count_, kBlock<T>), out_tiles = divide_up(out_count_, kTileRows);
    x_in_place_ = c.h.never_outside() && c.w.never_outside() && in_count_ % kVectorLanes<T> == 0 &&
                  in_place(in_count_, c.in_channels * c.groups, out_tiles);
    grad_in_place_ = (!plan.transposed || out_count_ % kVectorLanes<T> == 0) && in_place(out_count_, c.out_channels * c.groups, in_blocks);
    packed_x_ = !plan.transposed && !merged_ && !x_in_place_;
  }

  int64_t chunk() const { return chunk_; }

  void run(const T* x, const T* grad_y, T* to) const {
    const int64_t sums_row = scratch_pixel<T>(plan_.transposed ? out_count_ : taps() * in_count_);
    const int64_t sums_size = whole((plan_.transposed ? taps() * in_count_ : out_count_) * sums_row);
    const int64_t positions = c_.h.positions(plan_.rows.largest()) * c_.w.positions(plan_.cols.largest());
    const int64_t pixels = plan_.images.largest() * plan_.rows.largest() * plan_.cols.largest(), grad_part = grad_part_channels();
    const int64_t x_size = x_in_place_ ? 0
                           : packed_x_ ? divide_up(in_count_, kBlock<T>) * part_size(plan_.images.largest() * positions * kBlock<T>)
                                       : whole(plan_.images.largest() * positions * scratch_pixel<T>(in_count_));
    const int64_t grad_size = grad_in_place_ ? 0 : divide_up(out_count_, grad_part) * part_size(pixels * grad_part);
    T* const sums = static_cast<T*>(thread_scratch(size_t(groups_ * sums_size + x_size + grad_size) * sizeof(T)));
    T *const x_scratch = sums + groups_ * sums_size, *const grad_scratch = x_scratch + x_size;
    std::fill_n(sums, groups_ * sums_size, T(0));
    const int64_t strips = plan_.strips();
    for (int64_t strip = strips * chunk_ / plan_.chunks; strip < strips * (chunk_ + 1) / plan_.chunks; ++strip) {
      int64_t rest = strip;
      auto take = [&rest](int64_t count) { return std::exchange(rest, rest / count) % count; };
      const int64_t col = take(plan_.cols.parts), row = take(plan_.rows.parts);
      const auto window = x_in_place_ ? direct_window : copied_window;
      const Window rows = window(c_.h, plan_.rows.begin(row), plan_.rows.size(row)),
                   cols = window(c_.w, plan_.cols.begin(col), plan_.cols.size(col));
      const int64_t image = plan_.images.begin(rest), images = plan_.images.size(rest);
      for (int64_t g = 0; g < groups_; ++g) {
        add_strip(rows, cols, images, read_x(x + g * c_.in_channels, image, images, rows, cols, x_scratch),
                  read_grad(grad_y + g * c_.out_channels, image, images, rows, cols, grad_scratch), sums + g * sums_size, sums_row);
      }
    }
    for (int64_t g = 0; g < groups_; ++g) write(sums + g * sums_size, sums_row, to + filter_at_ + g * c_.out_channels * filter());
  }

 private:
  int64_t taps() const { return int64_t(c_.h.taps.size() * c_.w.taps.size()); }
  int64_t filter() const { return taps() * c_.in_channels; }  // elements of one output channel's
  // Of tiles of `lines` x `columns`.
  static int64_t tile_rows(int64_t lines, int64_t columns) {
    return Split(lines, columns <= kVectorLanes<T> ? kOneVectorRows : kTileRows).largest();
  }
  int64_t columns() const { return merged_ ? in_count_ * int64_t(c_.w.taps.size()) : in_count_; }  // along x, of a strip that has all taps
  int64_t grad_part_channels() const { return plan_.transposed ? kBlock<T> : tile_rows(out_count_, columns()); }
  static int64_t part_size(int64_t count) { return scratch_pixel<T>(whole(count)); }
  static int64_t whole(int64_t count) { return divide_up(count + kBlock<T>, kBlock<T>) * kBlock<T>; }  // with a margin

  Operand<T> read_x(const T* x, int64_t image, int64_t images, const Window& rows, const Window& cols, T* to) const {
    const int64_t x_pixel = c_.in_channels * c_.groups, x_image = c_.h.in * c_.w.in * x_pixel;
    x += image * x_image + x_channel_;
    if (x_in_place_) return {x, x_image, c_.w.in * x_pixel, x_pixel, kBlock<T>};
    Operand<T> in;
    in.data = to;
    in.pixel = packed_x_ ? kBlock<T> : scratch_pixel<T>(in_count_);
    in.row = int64_t(cols.source.size()) * in.pixel;
    in.image = int64_t(rows.source.size()) * in.row;
    in.part = packed_x_ ? part_size(images * in.image) : kBlock<T>;
    for (int64_t n = 0; n < images; ++n, x += x_image) {
      if (!packed_x_) {
        copy_window(x, c_.w.in, x_pixel, in_count_, rows, cols, to + n * in.image, in.pixel);
        continue;
      }
      T* pixel = to + n * in.image;
      for (int64_t i : rows.source) {
        for (int64_t j : cols.source) {
          if (i < 0 || j < 0) {
            for (int64_t c = 0; c < in_count_; c += kBlock<T>) std::fill_n(pixel + c / kBlock<T> * in.part, kBlock<T>, T(0));
          } else {
            pack_pixel<kTileVectors>(x + (i * c_.w.in + j) * x_pixel, x_pixel, in_count_, kBlock<T>, pixel, in.part);
          }
          pixel += in.pixel;
        }
      }
    }
    return in;
  }

  Operand<T> read_grad(const T* grad_y, int64_t image, int64_t images, const Window& rows, const Window& cols, T* to) const {
    const int64_t y_pixel = c_.out_channels * c_.groups, size = grad_part_channels();
    grad_y += image * c_.y_image + rows.begin * c_.y_row + cols.begin * y_pixel + y_channel_;
    if (grad_in_place_) return {grad_y, c_.y_image, c_.y_row, y_pixel, plan_.transposed ? kBlock<T> : size};
    const auto pack = row_packer<T>(size);
    Operand<T> grad;
    grad.data = to;
    grad.pixel = size;
    grad.row = cols.count * size;
    grad.image = rows.count * grad.row;
    grad.part = part_size(images * grad.image);
    for (int64_t n = 0; n < images; ++n) {
      for (int64_t p = 0; p < rows.count; ++p) {
        pack(grad_y + n * c_.y_image + p * c_.y_row, y_pixel, cols.count, out_count_, size, to, grad.part);
        to += grad.row;
      }
    }
    return grad;
  }

  void add_strip(const Window& rows, const Window& cols, int64_t images, const Operand<T>& x, const Operand<T>& grad, T* sums,
                 int64_t sums_row) const {
    const bool merged = merged_ && cols.consecutive();
    const int64_t width = merged ? in_count_ * int64_t(cols.tap.size()) : in_count_, taps_w = int64_t(c_.w.taps.size());
    const Operand<T> x_steps = {x.data, x.image, rows.step * x.row, cols.step * x.pixel, x.part};
    const Operand<T> &across = plan_.transposed ? grad : x_steps, &down = plan_.transposed ? x_steps : grad;
    const int64_t columns = plan_.transposed ? out_count_ : width, lines = plan_.transposed ? width : out_count_;
    WeightTiles<T> tile = {};
    tile.x_image = across.image;
    tile.x_row = across.row;
    tile.x_pixel = across.pixel;
    tile.grad_image = down.image;
    tile.grad_row = down.row;
    tile.grad_pixel = down.pixel;
    const int64_t size = plan_.transposed ? tile_rows(lines, columns) : grad_part_channels();
    tile.grad_tile = plan_.transposed ? size : down.part;
    tile.out_row = sums_row;
    const int64_t panel_rows = std::clamp<int64_t>(kPanelPixels / cols.count, 1, rows.count);
    const int64_t panel_images = panel_rows < rows.count ? 1 : std::clamp<int64_t>(kPanelPixels / (cols.count * rows.count), 1, images);
    for (int64_t image = 0; image < images; image += panel_images) {
      tile.images = std::min(panel_images, images - image);
      for (int64_t row = 0; row < rows.count; row += panel_rows) {
        tile.rows = std::min(panel_rows, rows.count - row);
        tile.cols = cols.count;
        const T *from_across = across.data + image * across.image + row * across.row,
                *from_down = down.data + image * down.image + row * down.row;
        for (size_t i = 0; i < rows.tap.size(); ++i) {
          for (size_t j = 0; j < (merged ? std::min<size_t>(1, cols.tap.size()) : cols.tap.size()); ++j) {
            const int64_t offset = rows.base[i] * x.row + cols.base[j] * x.pixel;
            T* tap_sums = sums + (rows.tap[i] * taps_w + cols.tap[j]) * in_count_ * (plan_.transposed ? sums_row : 1);
            for (int64_t column = 0; column < columns; column += kBlock<T>) {
              tile.x = from_across + (plan_.transposed ? 0 : offset) + column / kBlock<T> * across.part;
              tile.grad = from_down + (plan_.transposed ? offset : 0);
              tile.out = tap_sums + column;
              run_lines(tile, lines, size, std::min<int64_t>(kBlock<T>, columns - column));
            }
          }
        }
      }
    }
  }

  // The sums to the rectangle of [O,kh,kw,I/groups] that begins at `to`.
  void write(const T* sums, int64_t sums_row, T* to) const {
    for (int64_t k = 0; k < out_count_; ++k, to += filter()) {
      for (int64_t tap = 0; tap < taps(); ++tap) {
        T* const tap_to = to + tap * c_.in_channels;
        if (plan_.transposed) {
          for (int64_t c = 0; c < in_count_; ++c) tap_to[c] = sums[(tap * in_count_ + c) * sums_row + k];
        } else {
          std::copy_n(sums + k * sums_row + tap * in_count_, in_count_, tap_to);
        }
      }
    }
  }

  const Correlation& c_;
  const Plan& plan_;
  int64_t chunk_, groups_, in_count_, out_count_, x_channel_, y_channel_, filter_at_;
  bool merged_, x_in_place_, grad_in_place_, packed_x_;
};

}  // namespace

template <class T>
void direct_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& o) {
  const Correlation c = forward_correlation(x.shape(), grad_weight.shape(), grad_y.shape(), o);
  const Plan plan = make_plan<T>(c);
  const int64_t size = grad_weight.numel();
  T* out = grad_weight.data<T>();
  Buffer<T> parts(plan.chunks > 1 ? plan.chunks * size : 1);
  parallel_for(plan.chunks * plan.ranges(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Task<T> task(c, plan, i);
      task.run(x.data<T>(), grad_y.data<T>(), plan.chunks > 1 ? parts.data() + task.chunk() * size : out);
    }
  });
  if (plan.chunks > 1) add_parts(parts.data(), plan.chunks, size, out);
}

template void direct_backward_weight<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_backward_weight<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
