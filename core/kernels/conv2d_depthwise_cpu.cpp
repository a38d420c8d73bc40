// Depthwise convolution: lanes are channels. The image is read in place; a run of outputs, or the gradients of a filter row,
// stay in registers, and near the border a run leaves out the columns beyond it. Groups narrower than a vector are done in the
// same way, but for weight gradients: lanes are the output channels of several groups, and for each input channel of a group a
// shuffle gives all lanes of the group its value.

#include <algorithm>
#include <utility>

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_simd.h"
#include "core/parallel.h"

namespace eq::cpu::conv {
namespace {

constexpr int kRun = 8;                    // vectors of neighbouring outputs computed together
constexpr int64_t kTaskBytes = 128 << 10;  // of output per task
constexpr int64_t kParts = 32;             // partial sums of a weight gradient

// The pieces of `width` channels that cover `channels`: the last one overlaps its neighbour where it can, and is partial only when
// there are fewer channels than its width.
struct Pieces {
  int64_t channels, width;
  int64_t count() const { return divide_up(channels, width); }
  int64_t offset(int64_t piece) const { return std::max<int64_t>(0, std::min(piece * width, channels - width)); }
};

// weight [C,kh,kw,G] -> [tap][G][C], the taps of the axes in their order: what output channel C of the correlation gets from the
// G-th input channel of its group. `backward`: outputs are the convolution's inputs.
template <class T>
void pack_filters(const Correlation& c, const Tensor& weight, bool backward, T* packed) {
  const int64_t channels = weight.size(0), kernel_w = weight.size(2), group = weight.size(3), filter = weight.size(1) * kernel_w * group;
  for (int64_t r : c.h.filter) {
    for (int64_t s : c.w.filter) {
      const T* from = weight.data<T>() + (r * kernel_w + s) * group;
      for (int64_t g = 0; g < group; ++g) {
        for (int64_t k = 0; k < channels; ++k) {
          *packed++ = backward ? from[(k / group * group + g) * filter + k % group] : from[k * filter + g];
        }
      }
    }
  }
}

// Of each group of kGroup lanes, lane kIndex in all of them.
template <class T, int kGroup, int kIndex, int... kLane>
inline Vector<T> spread(Vector<T> value, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(value, value, (kLane / kGroup * kGroup + kIndex)...);
}

// sum += the products of groups: filter[i] has what each lane gets from the i-th of its group.
template <class T, int kGroup, int... kIndex>
inline void add_groups(Vector<T> value, const Vector<T> (&filter)[kGroup], Vector<T>& sum, std::integer_sequence<int, kIndex...>) {
  ((sum += spread<T, kGroup, kIndex>(value, std::make_integer_sequence<int, kVectorLanes<T>>()) * filter[kIndex]), ...);
}

// Outputs [begin, end) of an axis whose taps all lie inside.
std::pair<int64_t, int64_t> interior(const Axis& axis) {
  if (axis.taps.empty()) return {0, axis.out};
  const int64_t first = axis.taps.front() < 0 ? divide_up(-axis.taps.front(), axis.step) : 0;
  const int64_t room = axis.in - 1 - axis.taps.back();
  const int64_t end = room < 0 ? 0 : std::min(axis.out, room / axis.step + 1);
  return first < end ? std::pair(first, end) : std::pair<int64_t, int64_t>(0, 0);
}

bool neighbours(const Axis& axis) {
  for (size_t i = 1; i < axis.taps.size(); ++i) {
    if (axis.taps[i] != axis.taps[0] + int64_t(i)) return false;
  }
  return true;
}

// fn.template operator()<taps, step, vectors>(), as constants. Taps and step where those of the axis have a kernel of their own,
// otherwise 0, 0. Vectors of a piece: few taps leave registers for two, a whole cache line.
template <class T, class Fn>
auto with_constants(const Axis& axis, int64_t channels, const Fn& fn) {
  const size_t taps = neighbours(axis) ? axis.taps.size() : 0;
  const bool two = channels >= 2 * kVectorLanes<T>;
  if (axis.step == 1 && taps == 1) return two ? fn.template operator()<1, 1, 2>() : fn.template operator()<1, 1, 1>();
  if (axis.step == 1 && taps == 2) return two ? fn.template operator()<2, 1, 2>() : fn.template operator()<2, 1, 1>();
  if (axis.step == 1 && taps == 3) return two ? fn.template operator()<3, 1, 2>() : fn.template operator()<3, 1, 1>();
  if (axis.step == 2 && taps == 3) return two ? fn.template operator()<3, 2, 2>() : fn.template operator()<3, 2, 1>();
  if (axis.step == 1 && taps == 5) return fn.template operator()<5, 1, 1>();
  if (axis.step == 1 && taps == 7) return fn.template operator()<7, 1, 1>();
  return fn.template operator()<0, 0, 1>();
}

// One output row.
template <class T>
struct RowTask {
  const Axis *h, *w;
  const T* x;  // of the image
  int64_t x_row, channels;
  const T* weight;  // [tap][channels]
  int64_t p;        // the output row

  // fn(x's row, the row's taps) for each filter row inside the image.
  template <class Fn>
  void for_rows(const Fn& fn) const {
    for (size_t i = 0; i < h->taps.size(); ++i) {
      const int64_t row = p * h->step + h->taps[i];
      if (row >= 0 && row < h->in) fn(x + row * x_row, int64_t(i * w->taps.size()));
    }
  }
};

// kTaps neighbouring taps, a run of outputs from q on, a piece of channels from c on: each input vector is loaded once. kInside: all
// are in the image.
template <class T, int kTaps, int kStep, int kVectors, bool kInside>
inline void add_run(const RowTask<T>& t, int64_t q, int64_t c, Vector<T> (&sum)[kRun / kVectors][kVectors]) {
  constexpr int kPixels = kRun / kVectors;
  const int64_t first = q * kStep + t.w->taps[0];
  t.for_rows([&](const T* x, int64_t tap) {
    Vector<T> weight[kTaps][kVectors];
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) weight[s][v] = load(t.weight + (tap + s) * t.channels + c + v * kVectorLanes<T>);
    }
#pragma GCC unroll 32
    for (int j = 0; j < (kPixels - 1) * kStep + kTaps; ++j) {
      if (!kInside && (first + j < 0 || first + j >= t.w->in)) continue;
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> value = load(x + (first + j) * t.channels + c + v * kVectorLanes<T>);
#pragma GCC unroll 8
        for (int s = 0; s < kTaps; ++s) {
          if (j >= s && (j - s) % kStep == 0 && (j - s) / kStep < kPixels) sum[(j - s) / kStep][v] += value * weight[s][v];
        }
      }
    }
  });
}

// Any taps and step, groups of kGroup channels.
template <class T, int kGroup, bool kInside>
inline void add_run_any(const RowTask<T>& t, int64_t q, int64_t c, Vector<T> (&sum)[kRun][1]) {
  t.for_rows([&](const T* x, int64_t tap) {
    for (size_t s = 0; s < t.w->taps.size(); ++s) {
      Vector<T> filter[kGroup];
#pragma GCC unroll 8
      for (int g = 0; g < kGroup; ++g) filter[g] = load(t.weight + ((tap + int64_t(s)) * kGroup + g) * t.channels + c);
      const int64_t first = q * t.w->step + t.w->taps[s];
#pragma GCC unroll 8
      for (int i = 0; i < kRun; ++i) {
        const int64_t column = first + i * t.w->step;
        if (!kInside && (column < 0 || column >= t.w->in)) continue;
        const Vector<T> value = load(x + column * t.channels + c);
        if constexpr (kGroup == 1) {
          sum[i][0] += value * filter[0];
        } else {
          add_groups<T, kGroup>(value, filter, sum[i][0], std::make_integer_sequence<int, kGroup>());
        }
      }
    }
  });
}

// Fewer channels than lanes.
template <class T>
void forward_row_partial(const RowTask<T>& t, const T* bias, T* y, int64_t y_pixel) {
  for (int64_t q = 0; q < t.w->out; ++q) {
    Vector<T> sum = bias ? load_first(bias, t.channels) : Vector<T>{};
    t.for_rows([&](const T* x, int64_t tap) {
      for (size_t s = 0; s < t.w->taps.size(); ++s) {
        const int64_t column = q * t.w->step + t.w->taps[s];
        if (column < 0 || column >= t.w->in) continue;
        sum += load_first(x + column * t.channels, t.channels) * load_first(t.weight + (tap + int64_t(s)) * t.channels, t.channels);
      }
    });
    store_first(y + q * y_pixel, sum, t.channels);
  }
}

template <class T, int kTaps, int kStep, int kVectors, int kGroup = 1>
void forward_row(const RowTask<T>& t, const T* bias, T* y, int64_t y_pixel) {
  constexpr int kPixels = kRun / kVectors;
  const auto [first, end] = interior(*t.w);
  const Pieces pieces{t.channels, kVectors * kVectorLanes<T>};
  const int64_t count = std::min<int64_t>(kPixels, t.w->out);
  const T* next_x = t.x + ((t.p + 1) * t.h->step + (t.h->taps.empty() ? 0 : t.h->taps.back() - t.h->step + 1)) * t.x_row;
  for (int64_t begin = 0; begin < t.w->out; begin += kPixels) {
    const int64_t q = std::min(begin, t.w->out - count);  // the last run: once more over some outputs, the same values again
    const bool inside = q >= first && q + kPixels <= end;
    for (int64_t piece = 0; piece < pieces.count(); ++piece) {
      const int64_t c = pieces.offset(piece);
      Vector<T> sum[kPixels][kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> start = bias ? load(bias + c + v * kVectorLanes<T>) : Vector<T>{};
#pragma GCC unroll 8
        for (int i = 0; i < kPixels; ++i) sum[i][v] = start;
      }
      if constexpr (kStep > 1) {  // half of an image's rows are new to each row of outputs: more than the hardware fetches in time
#pragma GCC unroll 2
        for (int r = 0; r < kStep; ++r) {
#pragma GCC unroll 16
          for (int j = 0; j < kPixels * kStep; ++j) __builtin_prefetch(next_x + r * t.x_row + (q * kStep + j) * t.channels + c);
        }
      }
      if constexpr (kTaps == 0) {
        if (inside) {
          add_run_any<T, kGroup, true>(t, q, c, sum);
        } else {
          add_run_any<T, kGroup, false>(t, q, c, sum);
        }
      } else if (inside) {
        add_run<T, kTaps, kStep, kVectors, true>(t, q, c, sum);
      } else {
        add_run<T, kTaps, kStep, kVectors, false>(t, q, c, sum);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kPixels; ++i) {
        if (i >= count) break;
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store(y + (q + i) * y_pixel + c + v * kVectorLanes<T>, sum[i][v]);
      }
    }
  }
}

// For groups of `group` channels: 1, or what narrow_groups() takes.
template <class T>
auto row_kernel(const Axis& w, int64_t channels, int64_t group) -> void (*)(const RowTask<T>&, const T*, T*, int64_t) {
  if constexpr (kVectorLanes<T> > 2) {
    if (group == 2) return forward_row<T, 0, 0, 1, 2>;
  }
  if constexpr (kVectorLanes<T> > 4) {
    if (group == 4) return forward_row<T, 0, 0, 1, 4>;
  }
  if constexpr (kVectorLanes<T> > 8) {
    if (group == 8) return forward_row<T, 0, 0, 1, 8>;
  }
  if (channels < kVectorLanes<T>) return forward_row_partial<T>;
  return with_constants<T>(w, channels, []<int kTaps, int kStep, int kVectors>() { return forward_row<T, kTaps, kStep, kVectors>; });
}

template <class T>
void correlate(const Correlation& c, int64_t channels, int64_t group, const T* x, const T* packed, const T* bias, const Finish<T>& finish,
               T* y) {
  const int64_t x_row = c.w.in * channels, x_image = c.h.in * x_row;
  const Split rows(c.h.out, grain_for(c.w.out * channels * int64_t(sizeof(T)), kTaskBytes));
  const auto run_row = row_kernel<T>(c.w, channels, group);
  parallel_for(c.images * rows.parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / rows.parts, part = task % rows.parts;
      for (int64_t p = rows.begin(part); p < rows.begin(part + 1); ++p) {
        T* const to = y + image * c.y_image + p * c.y_row;
        run_row({&c.h, &c.w, x + image * x_image, x_row, channels, packed, p}, bias, to, c.y_pixel);
        if (finish) finish.apply(to, c.y_row, 1, c.y_pixel, c.w.out, 0, channels);
      }
    }
  });
}

// --- the weight gradient: sums of a piece are [tap][width], those of a filter row in registers along a row of outputs ---

// total[tap] += the products of a run of outputs from q on.
template <class T, int kTaps, int kStep, int kVectors, bool kInside>
inline void weight_run(const RowTask<T>& t, const T* x, const T* grad, int64_t q, Vector<T> (&total)[kTaps][kVectors], const T* next_x,
                       const T* next_grad) {
  constexpr int kPixels = kRun / kVectors;
  const int64_t first = q * kStep + t.w->taps[0], pixel = t.channels;
  Vector<T> g[kPixels][kVectors];
#pragma GCC unroll 8
  for (int i = 0; i < kPixels; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) g[i][v] = load(grad + (q + i) * pixel + v * kVectorLanes<T>);
    __builtin_prefetch(next_grad + (q + i) * pixel);
  }
#pragma GCC unroll 32
  for (int j = 0; j < (kPixels - 1) * kStep + kTaps; ++j) {
    if (!kInside && (first + j < 0 || first + j >= t.w->in)) continue;
    if (j < kPixels * kStep) __builtin_prefetch(next_x + (first + j) * pixel);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const Vector<T> value = load(x + (first + j) * pixel + v * kVectorLanes<T>);
#pragma GCC unroll 8
      for (int s = 0; s < kTaps; ++s) {
        if (j >= s && (j - s) % kStep == 0 && (j - s) / kStep < kPixels) total[s][v] += value * g[(j - s) / kStep][v];
      }
    }
  }
}

// Adds the products of one row of grad_y, a piece of channels from c on.
template <class T, int kTaps, int kStep, int kVectors>
void weight_row(const RowTask<T>& t, int64_t c, const T* grad, T* sum) {
  constexpr int kPixels = kRun / kVectors, kWidth = kVectors * kVectorLanes<T>;
  const auto [first, end] = interior(*t.w);
  grad += c;
  t.for_rows([&](const T* x, int64_t tap) {
    x += c;
    T* const to = sum + tap * kWidth;
    const bool bottom = tap + kTaps == kTaps * int64_t(t.h->taps.size());  // fetches the lines of the next row
    const T *next_x = bottom ? x + t.h->step * t.x_row : x, *next_grad = bottom ? grad + t.w->out * t.channels : grad;
    Vector<T> total[kTaps][kVectors];
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) total[s][v] = load(to + s * kWidth + v * kVectorLanes<T>);
    }
    int64_t q = 0;
    for (; q + kPixels <= t.w->out; q += kPixels) {
      if (q >= first && q + kPixels <= end) {
        weight_run<T, kTaps, kStep, kVectors, true>(t, x, grad, q, total, next_x, next_grad);
      } else {
        weight_run<T, kTaps, kStep, kVectors, false>(t, x, grad, q, total, next_x, next_grad);
      }
    }
    for (; q < t.w->out; ++q) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        const Vector<T> g = load(grad + q * t.channels + v * kVectorLanes<T>);
#pragma GCC unroll 8
        for (int s = 0; s < kTaps; ++s) {
          const int64_t column = q * kStep + t.w->taps[0] + s;
          if (column >= 0 && column < t.w->in) total[s][v] += load(x + column * t.channels + v * kVectorLanes<T>) * g;
        }
      }
    }
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) store(to + s * kWidth + v * kVectorLanes<T>, total[s][v]);
    }
  });
}

// The same for any taps, step and number of lanes.
template <class T>
void weight_row_any(const RowTask<T>& t, int64_t c, const T* grad, T* sum) {
  const int64_t taps = int64_t(t.w->taps.size()), step = t.w->step, valid = std::min<int64_t>(t.channels, kVectorLanes<T>);
  auto [first, end] = interior(*t.w);
  if (valid < kVectorLanes<T>) first = end = t.w->out;  // whole vectors would read beyond the last pixel
  t.for_rows([&](const T* x, int64_t tap) {
    for (int64_t s = 0; s < taps; ++s) {
      T* to = sum + (tap + s) * kVectorLanes<T>;
      Vector<T> total = load(to);
      auto add_border = [&](int64_t q, int64_t until) {
        for (; q < until; ++q) {
          const int64_t column = q * step + t.w->taps[size_t(s)];
          if (column < 0 || column >= t.w->in) continue;
          total += load_first(x + column * t.channels + c, valid) * load_first(grad + q * t.channels + c, valid);
        }
      };
      add_border(0, first);
      const T* from = x + t.w->taps[size_t(s)] * t.channels + c;
      for (int64_t q = first; q < end; ++q) total += load(from + q * step * t.channels) * load(grad + q * t.channels + c);
      add_border(end, t.w->out);
      store(to, total);
    }
  });
}

// Of one output row, a piece of channels, to its sums; and the piece's width.
template <class T>
struct WeightRow {
  void (*add)(const RowTask<T>& t, int64_t c, const T* grad, T* sum);
  int64_t width;
};

// x with each channel repeated `multiplier` times in a row (x itself when that is 1).
template <class T>
Tensor repeat_channels(const Tensor& x, int64_t multiplier) {
  if (multiplier == 1) return x;
  const int64_t channels = x.size(3);
  Tensor wide = Tensor::empty({x.size(0), x.size(1), x.size(2), channels * multiplier}, x.dtype());
  const T* from = x.data<T>();
  T* to = wide.data<T>();
  parallel_for(x.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::fill_n(to + i * multiplier, multiplier, from[i]);
  });
  return wide;
}

// The axes alone: every channel is a group.
Correlation axes(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& o) {
  Correlation c;
  c.images = x[0];
  c.h = forward_axis(x[1], y[1], weight[1], o.stride_h, o.dilation_h, o.pad_top);
  c.w = forward_axis(x[2], y[2], weight[2], o.stride_w, o.dilation_w, o.pad_left);
  return c;
}

void set_output(Correlation& c, int64_t height, int64_t width, int64_t channels, int64_t stride_h, int64_t stride_w) {
  c.y_pixel = channels * stride_w;
  c.y_row = width * channels * stride_h;
  c.y_image = height * width * channels;
}

}  // namespace

template <class T>
bool narrow_groups(int64_t channels, int64_t in_channels, int64_t groups) {
  const int64_t group = channels / groups;
  return channels == in_channels && (group == 2 || group == 4 || group == 8) && group < kVectorLanes<T> && channels % kVectorLanes<T> == 0;
}

template <class T>
void depthwise_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish, Tensor& y,
                       const Conv2dOptions& o) {
  const int64_t channels = y.size(3);
  Correlation c = axes(x.shape(), weight.shape(), y.shape(), o);
  set_output(c, c.h.out, c.w.out, channels, 1, 1);
  Buffer<T> packed(weight.numel());
  pack_filters(c, weight, false, packed.data());
  const Tensor wide = repeat_channels<T>(x, channels / x.size(3));
  correlate(c, channels, weight.size(3), wide.data<T>(), packed.data(), bias.defined() ? bias.data<T>() : nullptr, finish, y.data<T>());
}

template <class T>
void depthwise_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& o) {
  const int64_t channels = grad_y.size(3), multiplier = channels / grad_x.size(3);
  Correlation c = axes(grad_x.shape(), weight.shape(), grad_y.shape(), o);
  const Axis h = c.h, w = c.w;
  set_output(c, h.in, w.in, channels, o.stride_h, o.stride_w);
  Tensor wide = multiplier == 1 ? grad_x : Tensor::empty({c.images, h.in, w.in, channels}, grad_x.dtype());
  Buffer<T> packed(weight.numel());
  const Phases rows = backward_phases(h, o.dilation_h, o.pad_top), cols = backward_phases(w, o.dilation_w, o.pad_left);
  if (rows.gaps || cols.gaps) wide.fill_(0);
  for (const auto& [first_row, row_axis] : rows.axes) {
    for (const auto& [first_col, col_axis] : cols.axes) {
      c.h = row_axis;
      c.w = col_axis;
      pack_filters(c, weight, true, packed.data());
      correlate<T>(c, channels, weight.size(3), grad_y.data<T>(), packed.data(), nullptr, {},
                   wide.data<T>() + (first_row * w.in + first_col) * channels);
    }
  }
  if (multiplier == 1) return;
  const T* from = wide.data<T>();
  T* to = grad_x.data<T>();
  parallel_for(grad_x.numel(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      to[i] = 0;
      for (int64_t m = 0; m < multiplier; ++m) to[i] += from[i * multiplier + m];
    }
  });
}

template <class T>
void depthwise_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& o) {
  const int64_t channels = grad_y.size(3), taps = grad_weight.numel() / channels, size = grad_weight.numel();
  const Correlation c = axes(x.shape(), grad_weight.shape(), grad_y.shape(), o);
  const Tensor wide = repeat_channels<T>(x, channels / x.size(3));
  const int64_t x_row = c.w.in * channels, y_row = c.w.out * channels, rows = c.images * c.h.out;
  const Split chunks(rows, divide_up(rows, kParts));
  WeightRow<T> row_kernel = {weight_row_any<T>, kVectorLanes<T>};
  if (channels >= kVectorLanes<T>) {
    row_kernel = with_constants<T>(c.w, channels, []<int kTaps, int kStep, int kVectors>() -> WeightRow<T> {
      if constexpr (kTaps == 0) {
        return {weight_row_any<T>, kVectorLanes<T>};
      } else {
        return {weight_row<T, kTaps, kStep, kVectors>, kVectors * kVectorLanes<T>};
      }
    });
  }
  const Pieces pieces{channels, row_kernel.width};
  const T *xs = wide.data<T>(), *grads = grad_y.data<T>();
  // A last piece that overlaps its neighbour would count channels twice: sums are kept by piece, [piece][tap][width].
  const int64_t piece_size = taps * pieces.width, part_size = pieces.count() * piece_size;
  Buffer<T> parts(chunks.parts * part_size);
  parallel_for(chunks.parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      T* part = parts.data() + chunk * part_size;
      std::fill_n(part, part_size, T(0));
      for (int64_t row = chunks.begin(chunk); row < chunks.begin(chunk + 1); ++row) {
        const int64_t image = row / c.h.out, p = row % c.h.out;
        const RowTask<T> t = {&c.h, &c.w, xs + image * c.h.in * x_row, x_row, channels, nullptr, p};
        for (int64_t piece = 0; piece < pieces.count(); ++piece) {
          row_kernel.add(t, pieces.offset(piece), grads + row * y_row, part + piece * piece_size);
        }
      }
    }
  });
  T* out = grad_weight.data<T>();
  std::fill_n(out, size, T(0));
  for (int64_t chunk = 0; chunk < chunks.parts; ++chunk) {
    for (int64_t k = 0; k < channels; ++k) {
      const int64_t piece = k / pieces.width;
      const T* part = parts.data() + chunk * part_size + piece * piece_size + k - pieces.offset(piece);
      for (int64_t tap = 0; tap < taps; ++tap) out[k * taps + tap] += part[tap * pieces.width];
    }
  }
}

template bool narrow_groups<float>(int64_t, int64_t, int64_t);
template bool narrow_groups<double>(int64_t, int64_t, int64_t);
template void depthwise_forward<float>(const Tensor&, const Tensor&, const Tensor&, const Finish<float>&, Tensor&, const Conv2dOptions&);
template void depthwise_forward<double>(const Tensor&, const Tensor&, const Tensor&, const Finish<double>&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_input<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_input<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_weight<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_weight<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
