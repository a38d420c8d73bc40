// Depthwise convolution: lanes are channels. The image is read in place; pixels near the border take a path that checks
// every tap, all others a path that keeps a run of outputs, or the gradients of a filter row, in registers.

#include <algorithm>
#include <utility>

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_simd.h"
#include "core/parallel.h"

namespace eq::cpu::conv {
namespace {

constexpr int kRun = 8;                    // neighbouring outputs computed together
constexpr int64_t kTaskBytes = 128 << 10;  // of output per task
constexpr int64_t kParts = 32;             // partial sums of a weight gradient

// The vectors that cover `channels`: the last one overlaps its neighbour where it can, and is partial only when there
// are fewer channels than lanes.
template <class T>
struct ChannelVectors {
  int64_t channels;
  int64_t count() const { return divide_up(channels, kLanes<T>); }
  int64_t offset(int64_t v) const { return std::max<int64_t>(0, std::min(v * kLanes<T>, channels - kLanes<T>)); }
  int64_t valid() const { return std::min<int64_t>(channels, kLanes<T>); }
};

// weight [C,kh,kw,1] -> [tap][C], the taps of the axes in their order.
template <class T>
void pack_filters(const Correlation& c, const Tensor& weight, T* packed) {
  const int64_t channels = weight.size(0), kernel_w = weight.size(2), filter = weight.size(1) * kernel_w;
  const T* from = weight.data<T>();
  for (int64_t r : c.h.filter) {
    for (int64_t s : c.w.filter) {
      for (int64_t k = 0; k < channels; ++k) *packed++ = from[k * filter + r * kernel_w + s];
    }
  }
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
  return axis.step == 1;
}

// One output row, one vector of channels.
template <class T>
struct RowTask {
  const Axis *h, *w;
  const T* x;  // of the image, at the vector's first channel
  int64_t x_row, x_pixel;
  const T* weight;  // [tap][x_pixel], at the vector's first channel
  int64_t p;        // the output row
  int64_t valid;    // lanes

  // fn(x's row, the row's taps) for each filter row inside the image.
  template <class Fn>
  void for_rows(const Fn& fn) const {
    for (size_t i = 0; i < h->taps.size(); ++i) {
      const int64_t row = p * h->step + h->taps[i];
      if (row >= 0 && row < h->in) fn(x + row * x_row, int64_t(i * w->taps.size()));
    }
  }
};

// kTaps neighbouring taps, kRun outputs from q on: each input vector is loaded once.
template <class T, int kTaps>
inline void add_run(const RowTask<T>& t, int64_t q, Vector<T> (&sum)[kRun]) {
  t.for_rows([&](const T* x, int64_t tap) {
    Vector<T> weight[kTaps];
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) weight[s] = load(t.weight + (tap + s) * t.x_pixel);
    x += (q + t.w->taps[0]) * t.x_pixel;
#pragma GCC unroll 16
    for (int j = 0; j < kRun + kTaps - 1; ++j, x += t.x_pixel) {
      const Vector<T> value = load(x);
#pragma GCC unroll 8
      for (int s = 0; s < kTaps; ++s) {
        if (j - s >= 0 && j - s < kRun) sum[j - s] += value * weight[s];
      }
    }
  });
}

// Any taps and step.
template <class T>
inline void add_run_any(const RowTask<T>& t, int64_t q, Vector<T> (&sum)[kRun]) {
  t.for_rows([&](const T* x, int64_t tap) {
    for (size_t s = 0; s < t.w->taps.size(); ++s) {
      const Vector<T> weight = load(t.weight + (tap + int64_t(s)) * t.x_pixel);
      const T* from = x + (q * t.w->step + t.w->taps[s]) * t.x_pixel;
#pragma GCC unroll 8
      for (int i = 0; i < kRun; ++i) sum[i] += load(from + i * t.w->step * t.x_pixel) * weight;
    }
  });
}

// One output, its taps checked, any number of lanes.
template <class T>
inline void add_checked(const RowTask<T>& t, int64_t q, Vector<T>& sum) {
  t.for_rows([&](const T* x, int64_t tap) {
    for (size_t s = 0; s < t.w->taps.size(); ++s) {
      const int64_t column = q * t.w->step + t.w->taps[s];
      if (column < 0 || column >= t.w->in) continue;
      sum +=
          load_first(x + column * t.x_pixel, t.valid) * load_first(t.weight + (tap + int64_t(s)) * t.x_pixel, t.valid);
    }
  });
}

template <class T>
void forward_row(const RowTask<T>& t, Vector<T> bias, T* y, int64_t y_pixel, int64_t y_row) {
  auto [first, end] = interior(*t.w);
  if (t.valid < kLanes<T>) end = first;  // whole vectors would read and write beyond the last pixel
  const bool near = neighbours(*t.w);
  const T* next_x = t.x + ((t.p + 1) * t.h->step + (t.h->taps.empty() ? 0 : t.h->taps.back())) * t.x_row;
  for (int64_t q = 0; q < t.w->out;) {
    if (q < first || q + kRun > end) {
      if (q >= first && q < end && end - first >= kRun) {
        q = end - kRun;  // once more over some outputs: the same values again
      } else {
        Vector<T> sum = bias;
        add_checked(t, q, sum);
        store_first(y + q++ * y_pixel, sum, t.valid);
        continue;
      }
    }
    Vector<T> sum[kRun];
#pragma GCC unroll 8
    for (int i = 0; i < kRun; ++i) sum[i] = bias;
      // The lines of the next row: walked in pieces of a vector, they are no stream the hardware would foresee.
#pragma GCC unroll 8
    for (int i = 0; i < kRun; ++i) {
      __builtin_prefetch(next_x + (q + i) * t.w->step * t.x_pixel, 0);
      __builtin_prefetch(y + y_row + (q + i) * y_pixel, 1);
    }
    if (near && t.w->taps.size() == 3) {
      add_run<T, 3>(t, q, sum);
    } else if (near && t.w->taps.size() == 5) {
      add_run<T, 5>(t, q, sum);
    } else if (near && t.w->taps.size() == 7) {
      add_run<T, 7>(t, q, sum);
    } else {
      add_run_any(t, q, sum);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRun; ++i) store(y + (q + i) * y_pixel, sum[i]);
    q += kRun;
  }
}

template <class T>
void correlate(const Correlation& c, int64_t channels, const T* x, const T* packed, const T* bias, const Finish<T>& finish, T* y) {
  const int64_t x_row = c.w.in * channels, x_image = c.h.in * x_row;
  const ChannelVectors<T> vectors{channels};
  const Split rows(c.h.out, grain_for(c.w.out * channels * int64_t(sizeof(T)), kTaskBytes));
  parallel_for(c.images * rows.parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / rows.parts, part = task % rows.parts;
      for (int64_t p = rows.begin(part); p < rows.begin(part + 1); ++p) {
        for (int64_t v = 0; v < vectors.count(); ++v) {
          const int64_t channel = vectors.offset(v);
          const RowTask<T> row = {
              &c.h, &c.w, x + image * x_image + channel, x_row, channels, packed + channel, p, vectors.valid()};
          const Vector<T> start = bias ? load_first(bias + channel, vectors.valid()) : Vector<T>{};
          forward_row(row, start, y + image * c.y_image + p * c.y_row + channel, c.y_pixel, c.y_row);
        }
        if (finish) finish.apply(y + image * c.y_image + p * c.y_row, c.y_row, 1, c.y_pixel, c.w.out, 0, channels);
      }
    }
  });
}

// --- the weight gradient: sums are [tap][kLanes], those of a filter row in registers along a row of outputs ---

template <class T, int kTaps>
void weight_run(const T* x, const T* grad, int64_t pixel, int64_t count, T* sum, const T* next_x, const T* next_grad) {
  Vector<T> total[kTaps];
#pragma GCC unroll 8
  for (int s = 0; s < kTaps; ++s) total[s] = load(sum + s * kLanes<T>);
  int64_t q = 0;
  for (; q + kRun <= count; q += kRun) {
    Vector<T> g[kRun];
#pragma GCC unroll 8
    for (int i = 0; i < kRun; ++i) {
      g[i] = load(grad + (q + i) * pixel);
      __builtin_prefetch(next_grad + (q + i) * pixel);
      __builtin_prefetch(next_x + (q + i) * pixel);
    }
    const T* from = x + q * pixel;
#pragma GCC unroll 16
    for (int j = 0; j < kRun + kTaps - 1; ++j, from += pixel) {
      const Vector<T> value = load(from);
#pragma GCC unroll 8
      for (int s = 0; s < kTaps; ++s) {
        if (j - s >= 0 && j - s < kRun) total[s] += value * g[j - s];
      }
    }
  }
  for (; q < count; ++q) {
    const Vector<T> g = load(grad + q * pixel);
#pragma GCC unroll 8
    for (int s = 0; s < kTaps; ++s) total[s] += load(x + (q + s) * pixel) * g;
  }
#pragma GCC unroll 8
  for (int s = 0; s < kTaps; ++s) store(sum + s * kLanes<T>, total[s]);
}

// Adds the products of one row of grad_y.
template <class T>
void weight_row(const RowTask<T>& t, const T* grad, T* sum) {
  auto [first, end] = interior(*t.w);
  if (t.valid < kLanes<T>) first = end = t.w->out;
  const int64_t taps = int64_t(t.w->taps.size()), step = t.w->step;
  const bool near = neighbours(*t.w) && (taps == 3 || taps == 5 || taps == 7);
  t.for_rows([&](const T* x, int64_t tap) {
    for (int64_t s = 0; s < taps; ++s) {
      T* to = sum + (tap + s) * kLanes<T>;
      Vector<T> total = load(to);
      auto add_border = [&](int64_t q, int64_t until) {
        for (; q < until; ++q) {
          const int64_t column = q * step + t.w->taps[size_t(s)];
          if (column < 0 || column >= t.w->in) continue;
          total += load_first(x + column * t.x_pixel, t.valid) * load_first(grad + q * t.x_pixel, t.valid);
        }
      };
      add_border(0, first);
      if (!near) {
        const T* from = x + t.w->taps[size_t(s)] * t.x_pixel;
        for (int64_t q = first; q < end; ++q) total += load(from + q * step * t.x_pixel) * load(grad + q * t.x_pixel);
      }
      add_border(end, t.w->out);
      store(to, total);
    }
    if (!near) return;
    const T* from = x + (first + t.w->taps[0]) * t.x_pixel;
    const T* g = grad + first * t.x_pixel;
    T* to = sum + tap * kLanes<T>;
    const bool bottom = tap + taps == taps * int64_t(t.h->taps.size());  // fetches the lines of the next row
    const T *next_x = bottom ? from + t.x_row : from, *next_grad = bottom ? g + t.w->out * t.x_pixel : g;
    if (taps == 3) weight_run<T, 3>(from, g, t.x_pixel, end - first, to, next_x, next_grad);
    if (taps == 5) weight_run<T, 5>(from, g, t.x_pixel, end - first, to, next_x, next_grad);
    if (taps == 7) weight_run<T, 7>(from, g, t.x_pixel, end - first, to, next_x, next_grad);
  });
}

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
void depthwise_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish, Tensor& y,
                       const Conv2dOptions& o) {
  const int64_t channels = y.size(3);
  Correlation c = axes(x.shape(), weight.shape(), y.shape(), o);
  set_output(c, c.h.out, c.w.out, channels, 1, 1);
  Buffer<T> packed(weight.numel());
  pack_filters(c, weight, packed.data());
  const Tensor wide = repeat_channels<T>(x, channels / x.size(3));
  correlate(c, channels, wide.data<T>(), packed.data(), bias.defined() ? bias.data<T>() : nullptr, finish, y.data<T>());
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
      pack_filters(c, weight, packed.data());
      correlate<T>(c, channels, grad_y.data<T>(), packed.data(), nullptr, {},
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
  const ChannelVectors<T> vectors{channels};
  const T *xs = wide.data<T>(), *grads = grad_y.data<T>();
  // A last vector that overlaps its neighbour would count channels twice: sums are kept by vector, [vector][tap][lane].
  const int64_t part_size = vectors.count() * taps * kLanes<T>;
  Buffer<T> parts(chunks.parts * part_size);
  parallel_for(chunks.parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      T* part = parts.data() + chunk * part_size;
      std::fill_n(part, part_size, T(0));
      for (int64_t row = chunks.begin(chunk); row < chunks.begin(chunk + 1); ++row) {
        const int64_t image = row / c.h.out, p = row % c.h.out;
        for (int64_t v = 0; v < vectors.count(); ++v) {
          const int64_t channel = vectors.offset(v);
          const RowTask<T> t = {&c.h, &c.w,           xs + image * c.h.in * x_row + channel, x_row, channels, nullptr,
                                p,    vectors.valid()};
          weight_row(t, grads + row * y_row + channel, part + v * taps * kLanes<T>);
        }
      }
    }
  });
  T* out = grad_weight.data<T>();
  std::fill_n(out, size, T(0));
  for (int64_t chunk = 0; chunk < chunks.parts; ++chunk) {
    for (int64_t k = 0; k < channels; ++k) {
      const int64_t v = k / kLanes<T>;
      const T* part = parts.data() + chunk * part_size + v * taps * kLanes<T> + k - vectors.offset(v);
      for (int64_t tap = 0; tap < taps; ++tap) out[k * taps + tap] += part[tap * kLanes<T>];
    }
  }
}

template void depthwise_forward<float>(const Tensor&, const Tensor&, const Tensor&, const Finish<float>&, Tensor&, const Conv2dOptions&);
template void depthwise_forward<double>(const Tensor&, const Tensor&, const Tensor&, const Finish<double>&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_input<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_input<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_weight<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void depthwise_backward_weight<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
