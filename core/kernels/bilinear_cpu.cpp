// Both directions work row by row in two steps, so that the work per output is two multiply-adds instead of four:
//   forward: blend the two source rows into scratch (with the affine map, which commutes with the rest because weights
//            sum to 1), then blend neighbouring pixels of it into the output row;
//   adjoint: gather each output row into w_in pixels of scratch, then add those rows into the input rows they came from.
// Scratch rows stay in the first two cache levels; the large arrays are each read or written once.

#include "core/kernels/bilinear_cpu.h"

#include <algorithm>

#include "core/kernels/packs.h"
#include "core/kernels/resize.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

template <class T>
struct Tap {
  int64_t lower, upper;
  T lower_weight, upper_weight;
};

// Consecutive outputs that read the same pair of cells.
struct Run {
  int64_t first, count, lower, upper;
  bool assign_lower, assign_upper;  // no earlier run reads that cell
};

template <class T>
struct Axis {
  Axis(int64_t in_size, int64_t out_size, bool align_corners) : in(in_size), out(out_size), identity(in == out) {
    taps.reserve(size_t(out));
    int64_t untouched = 0;
    for (int64_t position = 0; position < out; ++position) {
      const BilinearSource s = bilinear_source(position, in, out, align_corners);
      taps.push_back({s.lower, s.upper, T(1 - s.upper_weight), T(s.upper_weight)});
      if (!runs.empty() && runs.back().lower == s.lower && runs.back().upper == s.upper) {
        ++runs.back().count;
        continue;
      }
      runs.push_back({position, 1, s.lower, s.upper, s.lower >= untouched, s.upper >= untouched});
      untouched = s.upper + 1;
    }
  }

  int64_t in, out;
  bool identity;
  std::vector<Tap<T>> taps;  // one per output
  std::vector<Run> runs;     // ascending
};

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

Tensor scratch(int64_t elements, DType dtype) { return Tensor::empty({elements}, dtype); }

// A [C] or [1] constant as `length` values, repeated with period C.
template <class T>
std::vector<T> expanded(const Tensor& constant, int64_t channels, int64_t length, T absent) {
  std::vector<T> values(size_t(length), absent);
  if (!constant.defined()) return values;
  const T* from = constant.data<T>();
  const bool one = constant.numel() == 1;
  for (int64_t i = 0; i < length; ++i) values[size_t(i)] = from[one ? 0 : i % channels];
  return values;
}

template <class T>
struct Plan {
  Plan(const BilinearBranch& branch, int64_t out_h, int64_t out_w, int64_t channel_offset, bool align_corners)
      : data(branch.x.data<T>()), h(branch.x.size(1)), w(branch.x.size(2)), channels(branch.channels),
        offset(channel_offset), affine(branch.shift.defined() || branch.scale.defined()),
        rows(h, out_h, align_corners), columns(w, out_w, align_corners) {
    if (!affine) return;
    // Narrow branches treat a row as one long pixel, so that their affine map fills vectors too.
    period = channels >= kWidePack<T> ? channels : channels * w;
    shift = expanded<T>(branch.shift, channels, period, T(0));
    scale = expanded<T>(branch.scale, channels, round_up(period, kWidePack<T>), T(1));
  }

  T* data;
  int64_t h, w, channels, offset;
  bool affine;
  Axis<T> rows, columns;
  int64_t period = 0;
  std::vector<T> shift, scale;  // empty without an affine map
};

template <class T>
std::vector<Plan<T>> make_plans(const std::vector<BilinearBranch>& branches, int64_t out_h, int64_t out_w, bool align_corners) {
  std::vector<Plan<T>> plans;
  plans.reserve(branches.size());
  int64_t offset = 0;
  for (const BilinearBranch& branch : branches) {
    if (branch.x.defined() && branch.x.numel() > 0) plans.emplace_back(branch, out_h, out_w, offset, align_corners);
    offset += branch.channels;
  }
  return plans;
}

// --- forward ---

template <class V, bool kTwo, bool kAffine, class T>
inline V blended(const T* a, const T* b, T wa, T wb, const T* shift, const T* scale) {
  V value = load_pack<V>(a);
  if constexpr (kTwo) value = wa * value + wb * load_pack<V>(b);
  if constexpr (kAffine) value = (value - load_pack<V>(shift)) * load_pack<V>(scale);
  return value;
}

template <class V, bool kTwo, bool kAffine, bool kStream, class T>
void blend_with(T* dst, const T* a, const T* b, T wa, T wb, const T* shift, const T* scale, int64_t n) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  const auto blend_at = [&](int64_t i) {
    const V value = blended<V, kTwo, kAffine>(a + i, b + i, wa, wb, shift + i, scale + i);
    if constexpr (kStream) {
      stream_pack(dst + i, value);
    } else {
      store_pack(dst + i, value);
    }
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) blend_at(i);
  if (i < n) blend_at(n - kLanes);  // overlaps the vector before it
}

// dst = ((wa*a + wb*b) - shift) * scale over n elements; `stream` needs whole, aligned vectors.
template <bool kTwo, bool kAffine, class T>
void blend(T* dst, const T* a, const T* b, T wa, T wb, const T* shift, const T* scale, int64_t n, bool stream = false) {
  constexpr int kWide = kWidePack<T>, kNarrow = kNarrowPack<T>;
  using Wide = Pack<T, kWide>;
  using Small = Pack<T, kNarrow>;
  if (stream) return blend_with<Wide, kTwo, kAffine, true>(dst, a, b, wa, wb, shift, scale, n);
  if (n >= kWide) return blend_with<Wide, kTwo, kAffine, false>(dst, a, b, wa, wb, shift, scale, n);
  if (n >= kNarrow) return blend_with<Small, kTwo, kAffine, false>(dst, a, b, wa, wb, shift, scale, n);
  for (int64_t i = 0; i < n; ++i) {
    dst[i] = blended<T, kTwo, kAffine>(a + i, b + i, wa, wb, shift + i, scale + i);
  }
}

// Two source rows of w pixels into one, contiguous; equal pointers: one source row.
template <class T>
void blend_rows(const Plan<T>& plan, const T* a, const T* b, T wa, T wb, T* dst) {
  const int64_t length = plan.w * plan.channels;
  if (!plan.affine) {
    if (a == b) return void(std::copy_n(a, length, dst));
    return blend<true, false>(dst, a, b, wa, wb, a, a, length);
  }
  const T *shift = plan.shift.data(), *scale = plan.scale.data();
  for (int64_t at = 0; at < length; at += plan.period) {
    if (a == b) {
      blend<false, true>(dst + at, a + at, a + at, wa, wb, shift, scale, plan.period);
    } else {
      blend<true, true>(dst + at, a + at, b + at, wa, wb, shift, scale, plan.period);
    }
  }
}

// What an output row of a branch is made from: two rows of the branch, or one that is blended already.
template <class T>
struct RowSource {
  const T *a, *b;  // equal: one row
  T wa, wb;
};

template <class T>
RowSource<T> branch_rows(const Plan<T>& plan, int64_t image, int64_t row) {
  const Tap<T>& tap = plan.rows.taps[size_t(row)];
  const T* rows = plan.data + image * plan.h * plan.w * plan.channels;
  return {rows + tap.lower * plan.w * plan.channels, rows + tap.upper * plan.w * plan.channels, tap.lower_weight, tap.upper_weight};
}

// A branch as wide as the output is blended and mapped pixel by pixel; of another, that is done here for its shorter row.
template <class T>
RowSource<T> prepared_rows(const Plan<T>& plan, int64_t image, int64_t row, T* spare) {
  const RowSource<T> source = branch_rows(plan, image, row);
  if (plan.columns.identity || (source.a == source.b && !plan.affine)) return source;
  blend_rows(plan, source.a, source.b, source.wa, source.wb, spare);
  return {spare, spare, T(1), T(0)};
}

template <class T>
inline void blend_pixel(const Plan<T>& plan, const RowSource<T>& source, int64_t q, T* dst, bool stream) {
  const int64_t c = plan.channels;
  if (plan.columns.identity) {
    const T *a = source.a + q * c, *b = source.b + q * c;
    if (plan.affine) {
      const T *shift = plan.shift.data(), *scale = plan.scale.data();
      if (a == b) return blend<false, true>(dst, a, a, source.wa, source.wb, shift, scale, c, stream);
      return blend<true, true>(dst, a, b, source.wa, source.wb, shift, scale, c, stream);
    }
    if (a == b) return blend<false, false>(dst, a, a, source.wa, source.wb, a, a, c, stream);
    return blend<true, false>(dst, a, b, source.wa, source.wb, a, a, c, stream);
  }
  const Tap<T>& tap = plan.columns.taps[size_t(q)];
  const T *low = source.a + tap.lower * c, *high = source.a + tap.upper * c;
  if (low == high) return blend<false, false>(dst, low, low, T(1), T(0), low, low, c, stream);
  blend<true, false>(dst, low, high, tap.lower_weight, tap.upper_weight, low, low, c, stream);
}

// A branch that has the output to itself: pixels are read and written as whole vectors, and what spills over is overwritten
// by the next pixel. `spare` holds a row and a vector.
template <class T>
void forward_row_alone(const Plan<T>& plan, int64_t image, int64_t row, T* dst, T* spare, bool stream) {
  const int64_t c = plan.channels, out = plan.columns.out;
  const RowSource<T> source = branch_rows(plan, image, row);
  blend_rows(plan, source.a, source.b, source.wa, source.wb, plan.columns.identity ? dst : spare);
  if (plan.columns.identity) return;
  int64_t q = 0;
  with_pack<T>(c, [&]<class V>() {
    constexpr int64_t kLanes = sizeof(V) / sizeof(T);
    const int64_t last = out * c - round_up(c, kLanes);  // no pixel after this one spills over the row's end
    const Tap<T>* taps = plan.columns.taps.data();
    const auto put = [stream](T* to, V value) {
      if constexpr (sizeof(V) == kRegisterBytes) {
        if (stream) return stream_pack(to, value);
      }
      store_pack(to, value);
    };
    for (; q * c <= last; ++q) {
      const Tap<T> tap = taps[q];
      const T *low = spare + tap.lower * c, *high = spare + tap.upper * c;
      T* to = dst + q * c;
      if (low == high) {
        for (int64_t i = 0; i < c; i += kLanes) put(to + i, load_pack<V>(low + i));
      } else {
        for (int64_t i = 0; i < c; i += kLanes) {
          put(to + i, V(tap.lower_weight * load_pack<V>(low + i) + tap.upper_weight * load_pack<V>(high + i)));
        }
      }
    }
  });
  for (; q < out; ++q) blend_pixel(plan, {spare, spare, T(1), T(0)}, q, dst + q * c, false);
}

// Pixels [first, last) of an array become copies of the border.
template <class T>
void fill_border(T* out, int64_t first, int64_t last, const std::vector<T>& values) {
  for (int64_t pixel = first; pixel < last; ++pixel) std::copy(values.begin(), values.end(), out + pixel * int64_t(values.size()));
}

template <class T>
void forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border) {
  const int64_t full_h = y.size(1), full_w = y.size(2), channels = y.size(3);
  const int64_t out_h = full_h - 2 * border.rows, out_w = full_w - 2 * border.columns;
  const std::vector<Plan<T>> plans = make_plans<T>(branches, out_h, out_w, align_corners);
  int64_t row_lengths = kWidePack<T>;  // vectors read that far behind the last row
  T* out = y.data<T>();
  bool stream = true;
  for (const Plan<T>& plan : plans) {
    row_lengths += plan.w * plan.channels;
    stream = stream && streams_well(out, y.bytes(), size_t(plan.channels) * sizeof(T));
  }
  const std::vector<T> around = expanded<T>(border.values, channels, channels, T(0));
  parallel_for(y.size(0) * full_h, grain_for(full_w * channels, 1 << 16), [&](int64_t begin, int64_t end) {
    const Tensor rows = scratch(row_lengths, y.dtype());
    std::vector<RowSource<T>> sources(plans.size());
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / full_h, row = i % full_h - border.rows;
      if (row < 0 || row >= out_h) {
        fill_border(out, i * full_w, (i + 1) * full_w, around);
        continue;
      }
      fill_border(out, i * full_w, i * full_w + border.columns, around);
      fill_border(out, (i + 1) * full_w - border.columns, (i + 1) * full_w, around);
      T *dst = out + (i * full_w + border.columns) * channels, *spare = rows.data<T>();
      if (branches.size() == 1) {
        forward_row_alone(plans[0], image, row, dst, spare, stream);
        continue;
      }
      for (size_t k = 0; k < plans.size(); ++k) {
        sources[k] = prepared_rows(plans[k], image, row, spare);
        spare += plans[k].w * plans[k].channels;
      }
      // Pixel by pixel over all branches, so that the output is written in the order of memory.
      for (int64_t q = 0; q < out_w; ++q, dst += channels) {
        for (size_t k = 0; k < plans.size(); ++k) blend_pixel(plans[k], sources[k], q, dst + plans[k].offset, stream);
      }
    }
    if (stream) finish_streaming();
  });
}

// --- adjoint ---

// How far ahead the gradient is fetched, in elements: the hardware alone does not keep up with steps of a pixel.
template <class T>
int64_t prefetch_distance(int64_t stride) {
  return std::max<int64_t>(16 * stride, 4096 / sizeof(T));
}

// h[cell] = scale * sum over the outputs that read it of weight * g[output]. Pixels of g are `stride` elements apart, those of h
// `pitch`, a whole number of vectors; up to a vector is read behind each pixel of g.
template <class V, bool kScaled, class T>
void gather_pixels(const Axis<T>& axis, const T* g, int64_t stride, const T* scale, T* h, int64_t pitch) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  const int64_t ahead = prefetch_distance<T>(stride);
  int64_t next = 0;
  for (const Run& run : axis.runs) {
    if (next < run.lower) std::fill(h + next * pitch, h + run.lower * pitch, T(0));
    next = run.upper + 1;
    const Tap<T>* taps = axis.taps.data() + run.first;
    const T* from = g + run.first * stride;
    T *to_lower = h + run.lower * pitch, *to_upper = h + run.upper * pitch;
    for (int64_t c = 0; c < pitch; c += kLanes) {
      V lower{}, upper{};
      for (int64_t k = 0; k < run.count; ++k) {
        const V value = load_pack<V>(from + k * stride + c);
        __builtin_prefetch(from + k * stride + c + ahead, 0, 2);
        lower += taps[k].lower_weight * value;
        upper += taps[k].upper_weight * value;
      }
      if constexpr (kScaled) {
        lower *= load_pack<V>(scale + c);
        upper *= load_pack<V>(scale + c);
      }
      store_pack(to_lower + c, run.assign_lower ? lower : V(load_pack<V>(to_lower + c) + lower));
      if (run.upper == run.lower) continue;
      store_pack(to_upper + c, run.assign_upper ? upper : V(load_pack<V>(to_upper + c) + upper));
    }
  }
  std::fill(h + next * pitch, h + axis.in * pitch, T(0));
}

// Moves w pixels of c elements from `pitch` apart to c apart, in place.
template <class V, class T>
void compact_pixels(T* h, int64_t w, int64_t c, int64_t pitch) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  if (c == pitch) return;
  for (int64_t k = 1; k < w; ++k) {
    for (int64_t i = 0; i < c; i += kLanes) store_pack(h + k * c + i, load_pack<V>(h + k * pitch + i));
  }
}

constexpr int kRowsAtOnce = 4;

template <int kCount, bool kAssign, class T>
void add_rows(T* __restrict dst, const T* __restrict h, int64_t pitch, const T* weights, int64_t n) {
  T w[kCount];
  for (int k = 0; k < kCount; ++k) w[k] = weights[k];
  for (int64_t i = 0; i < n; ++i) {
    T sum = w[0] * h[i];
    for (int k = 1; k < kCount; ++k) sum += w[k] * h[k * pitch + i];
    dst[i] = kAssign ? sum : dst[i] + sum;
  }
}

// dst (=, +=) sum_k weights[k] * row k of h.
template <class T>
void add_rows(T* dst, const T* h, int64_t pitch, const T* weights, int64_t count, int64_t n, bool assign) {
  switch (count * 2 + assign) {
    case 2: return add_rows<1, false>(dst, h, pitch, weights, n);
    case 3: return add_rows<1, true>(dst, h, pitch, weights, n);
    case 4: return add_rows<2, false>(dst, h, pitch, weights, n);
    case 5: return add_rows<2, true>(dst, h, pitch, weights, n);
    case 6: return add_rows<3, false>(dst, h, pitch, weights, n);
    case 7: return add_rows<3, true>(dst, h, pitch, weights, n);
    case 8: return add_rows<4, false>(dst, h, pitch, weights, n);
    default: return add_rows<4, true>(dst, h, pitch, weights, n);
  }
}

// Rows [begin, end) of one image's gradient of a branch.
template <class V, class T>
void backward_rows(const Plan<T>& plan, const Tensor& grad_y, const BilinearBorder& border, int64_t image, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  const int64_t c = plan.channels, pitch = round_up(c, kLanes), row_length = plan.w * c;
  const int64_t full_w = grad_y.size(2), out_w = full_w - 2 * border.columns, stride = grad_y.size(3);
  const T* g = grad_y.data<T>() + ((image * grad_y.size(1) + border.rows) * full_w + border.columns) * stride + plan.offset;
  const T* g_end = grad_y.data<T>() + grad_y.numel();
  T* grad = plan.data + image * plan.h * row_length;
  const auto& runs = plan.rows.runs;

  const int64_t h_pitch = plan.w * pitch + kLanes;  // one vector more, lest rows lie a power of two apart
  const Tensor spare = scratch(kRowsAtOnce * h_pitch, grad_y.dtype());
  T* h = spare.data<T>();
  Tensor last_row;  // a copy of the array's last row where vectors would read past the end

  auto gather = [&](int64_t p, T* into) {
    const T* from = g + p * full_w * stride;
    int64_t from_stride = stride;
    if (from + (out_w - 1) * stride + pitch > g_end) {
      last_row = scratch(out_w * c + kLanes, grad_y.dtype());
      T* copy = last_row.data<T>();
      for (int64_t q = 0; q < out_w; ++q) std::copy_n(from + q * stride, c, copy + q * c);
      std::fill_n(copy + out_w * c, kLanes, T(0));
      from = copy;
      from_stride = c;
    }
    if (plan.affine) {
      gather_pixels<V, true>(plan.columns, from, from_stride, plan.scale.data(), into, pitch);
    } else {
      gather_pixels<V, false>(plan.columns, from, from_stride, static_cast<const T*>(nullptr), into, pitch);
    }
    compact_pixels<V>(into, plan.w, c, pitch);
  };

  int64_t next = begin;
  auto run = std::partition_point(runs.begin(), runs.end(), [&](const Run& r) { return r.upper < begin; });
  for (; run != runs.end() && run->lower < end; ++run) {
    if (next < run->lower) std::fill(grad + next * row_length, grad + run->lower * row_length, T(0));
    next = run->upper + 1;
    for (int64_t done = 0; done < run->count; done += kRowsAtOnce) {
      const int64_t count = std::min<int64_t>(kRowsAtOnce, run->count - done);
      T lower_weights[kRowsAtOnce], upper_weights[kRowsAtOnce];
      for (int64_t k = 0; k < count; ++k) {
        const int64_t p = run->first + done + k;
        gather(p, h + k * h_pitch);
        lower_weights[k] = plan.rows.taps[size_t(p)].lower_weight;
        upper_weights[k] = plan.rows.taps[size_t(p)].upper_weight;
      }
      if (run->lower >= begin) {
        add_rows(grad + run->lower * row_length, h, h_pitch, lower_weights, count, row_length, run->assign_lower && done == 0);
      }
      if (run->upper > run->lower && run->upper < end) {
        add_rows(grad + run->upper * row_length, h, h_pitch, upper_weights, count, row_length, run->assign_upper && done == 0);
      }
    }
  }
  if (next < end) std::fill(grad + next * row_length, grad + end * row_length, T(0));
}

// A branch of the target's size: its gradient is its channel range, scaled.
template <class T>
void backward_copy(const Plan<T>& plan, const Tensor& grad_y, const BilinearBorder& border, int64_t image, int64_t begin, int64_t end) {
  const int64_t c = plan.channels, stride = grad_y.size(3);
  T* grad = plan.data + (image * plan.h + begin) * plan.w * c;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t first = (image * grad_y.size(1) + border.rows + row) * grad_y.size(2) + border.columns;
    const T* g = grad_y.data<T>() + first * stride + plan.offset;
    for (int64_t i = 0; i < plan.w; ++i, g += stride, grad += c) {
      if (!plan.affine) {
        std::copy_n(g, c, grad);
      } else {
        for (int64_t k = 0; k < c; ++k) grad[k] = g[k] * plan.scale[size_t(k)];
      }
    }
  }
}

template <class T>
void backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners, const BilinearBorder& border) {
  const std::vector<Plan<T>> plans =
      make_plans<T>(branches, grad_y.size(1) - 2 * border.rows, grad_y.size(2) - 2 * border.columns, align_corners);
  // A task is a strip of one image: of each branch that share of the input rows, so that the branches read their channel ranges
  // of the same output rows shortly after one another. Output rows between two strips are gathered by both.
  const int64_t images = grad_y.size(0);
  int64_t tallest = 1;
  for (const Plan<T>& plan : plans) tallest = std::max(tallest, plan.h);
  const int64_t strips = std::min((tallest + 3) / 4, std::max((tallest + 15) / 16, (16 + images - 1) / images));
  parallel_for(images * strips, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t image = i / strips, strip = i % strips;
      for (const Plan<T>& plan : plans) {
        const int64_t begin = plan.h * strip / strips, end = plan.h * (strip + 1) / strips;
        if (begin == end) continue;
        if (plan.rows.identity && plan.columns.identity) {
          backward_copy(plan, grad_y, border, image, begin, end);
        } else {
          with_pack<T>(plan.channels, [&]<class V>() { backward_rows<V>(plan, grad_y, border, image, begin, end); });
        }
      }
    }
  });
}

}  // namespace

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border) {
  if (y.numel() == 0) return;
  dispatch_floating(y.dtype(), "resize_bilinear", [&]<typename T>() { forward<T>(branches, y, align_corners, border); });
}

void bilinear_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners,
                       const BilinearBorder& border) {
  if (grad_y.numel() == 0) return;
  dispatch_floating(grad_y.dtype(), "resize_bilinear", [&]<typename T>() { backward<T>(grad_y, branches, align_corners, border); });
}

}  // namespace eq::cpu
