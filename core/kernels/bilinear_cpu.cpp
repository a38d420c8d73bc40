// Both directions work row by row in two steps, so that the work per output is two multiply-adds instead of four:
//   forward: blend the two source rows into scratch (with the affine map, which commutes with the rest because weights
//            sum to 1), then blend neighbouring pixels of it into the output row;
//   adjoint: gather each output row into w_in pixels of scratch, then add those rows into the input rows they came from.
// Scratch rows stay in the first two cache levels; the large arrays are each read or written once.

#include "core/kernels/bilinear_cpu.h"

#include <algorithm>

#include "core/kernels/packs_cpu.h"
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

// dst = ((wa*a + wb*b) - shift) * scale over n elements; the last vector overlaps the one before it.
template <class V, bool kTwo, bool kAffine, class T>
void blend_with(T* dst, const T* a, const T* b, T wa, T wb, const T* shift, const T* scale, int64_t n) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store_pack(dst + i, blended<V, kTwo, kAffine>(a + i, b + i, wa, wb, shift + i, scale + i));
  }
  if (i == n) return;
  i = n - kLanes;
  store_pack(dst + i, blended<V, kTwo, kAffine>(a + i, b + i, wa, wb, shift + i, scale + i));
}

template <bool kTwo, bool kAffine, class T>
void blend(T* dst, const T* a, const T* b, T wa, T wb, const T* shift, const T* scale, int64_t n) {
  constexpr int kWide = kWidePack<T>;
  if (n >= kWide) return blend_with<Pack<T, kWide>, kTwo, kAffine>(dst, a, b, wa, wb, shift, scale, n);
  if (n >= kWide / 4) return blend_with<Pack<T, kWide / 4>, kTwo, kAffine>(dst, a, b, wa, wb, shift, scale, n);
  for (int64_t i = 0; i < n; ++i) {
    dst[i] = blended<T, kTwo, kAffine>(a + i, b + i, wa, wb, shift + i, scale + i);
  }
}

// Two source rows of `w` pixels into w pixels `stride` elements apart.
template <class T>
void blend_rows(const Plan<T>& plan, const T* a, const T* b, T wa, T wb, T* dst, int64_t stride) {
  const int64_t c = plan.channels;
  const bool two = a != b;
  if (!plan.affine) {
    const int64_t length = stride == c ? plan.w * c : c;
    for (int64_t at = 0; at < plan.w * c; at += length, dst += stride) {
      if (two) {
        blend<true, false>(dst, a + at, b + at, wa, wb, a, a, length);
      } else {
        std::copy_n(a + at, length, dst);
      }
    }
    return;
  }
  const int64_t length = stride == c ? plan.period : c;
  int64_t phase = 0;  // where in the period a pixel of a narrow branch starts
  for (int64_t at = 0; at < plan.w * c; at += length) {
    const T *shift = plan.shift.data() + phase, *scale = plan.scale.data() + phase;
    if (two) {
      blend<true, true>(dst, a + at, b + at, wa, wb, shift, scale, length);
    } else {
      blend<false, true>(dst, a + at, b + at, wa, wb, shift, scale, length);
    }
    dst += stride == c ? length : stride;
    if (length < plan.period) phase += length;
  }
}

// One pixel per output from a row of w pixels. `src` has a vector's worth of readable elements behind its end.
template <class T>
void blend_pixels(const Plan<T>& plan, const T* src, T* dst, int64_t stride) {
  const int64_t c = plan.channels, out = plan.columns.out;
  int64_t q = 0;
  if (c < kWidePack<T> && stride == c) {
    // Narrow pixels are written as whole vectors: what spills over is overwritten by the next pixel.
    with_pack<T>(c, [&]<class V>() {
      constexpr int64_t kLanes = sizeof(V) / sizeof(T);
      for (; q * c + kLanes <= out * c; ++q) {
        const Tap<T>& tap = plan.columns.taps[size_t(q)];
        const V low = load_pack<V>(src + tap.lower * c);
        const V high = load_pack<V>(src + tap.upper * c);
        store_pack(dst + q * c, tap.lower == tap.upper ? low : V(tap.lower_weight * low + tap.upper_weight * high));
      }
    });
  }
  for (; q < out; ++q) {
    const Tap<T>& tap = plan.columns.taps[size_t(q)];
    const T *low = src + tap.lower * c, *high = src + tap.upper * c;
    if (tap.lower != tap.upper) {
      blend<true, false>(dst + q * stride, low, high, tap.lower_weight, tap.upper_weight, low, low, c);
    } else {
      std::copy_n(low, c, dst + q * stride);
    }
  }
}

template <class T>
void forward_row(const Plan<T>& plan, int64_t image, int64_t row, T* dst, int64_t stride, T* spare) {
  const Tap<T>& tap = plan.rows.taps[size_t(row)];
  const int64_t pitch = plan.w * plan.channels;
  const T* a = plan.data + (image * plan.h + tap.lower) * pitch;
  const T* b = plan.data + (image * plan.h + tap.upper) * pitch;
  if (plan.columns.identity) return blend_rows(plan, a, b, tap.lower_weight, tap.upper_weight, dst, stride);
  if (a == b && !plan.affine && plan.channels >= kWidePack<T>) return blend_pixels(plan, a, dst, stride);
  blend_rows(plan, a, b, tap.lower_weight, tap.upper_weight, spare, plan.channels);
  blend_pixels(plan, spare, dst, stride);
}

template <class T>
void forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners) {
  const int64_t out_h = y.size(1), out_w = y.size(2), channels = y.size(3);
  const std::vector<Plan<T>> plans = make_plans<T>(branches, out_h, out_w, align_corners);
  int64_t longest = 0;
  for (const Plan<T>& plan : plans) longest = std::max(longest, plan.w * plan.channels);
  T* out = y.data<T>();
  parallel_for(y.size(0) * out_h, grain_for(out_w * channels, 1 << 16), [&](int64_t begin, int64_t end) {
    const Tensor row = scratch(longest + kWidePack<T>, y.dtype());
    T* spare = row.data<T>();
    for (int64_t i = begin; i < end; ++i) {
      for (const Plan<T>& plan : plans) {
        forward_row(plan, i / out_h, i % out_h, out + i * out_w * channels + plan.offset, channels, spare);
      }
    }
  });
}

// --- adjoint ---

// h[cell] = scale * sum over the outputs that read it of weight * g[output]. Pixels of g are `stride` elements apart, those of h
// `pitch`, a whole number of vectors; up to a vector is read behind each pixel of g.
template <class V, bool kScaled, class T>
void gather_pixels(const Axis<T>& axis, const T* g, int64_t stride, const T* scale, T* h, int64_t pitch) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
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
void backward_rows(const Plan<T>& plan, const Tensor& grad_y, int64_t image, int64_t begin, int64_t end) {
  constexpr int64_t kLanes = sizeof(V) / sizeof(T);
  const int64_t c = plan.channels, pitch = round_up(c, kLanes), row_length = plan.w * c;
  const int64_t out_h = grad_y.size(1), out_w = grad_y.size(2), stride = grad_y.size(3);
  const T* g = grad_y.data<T>() + image * out_h * out_w * stride + plan.offset;
  const T* g_end = grad_y.data<T>() + grad_y.numel();
  T* grad = plan.data + image * plan.h * row_length;
  const auto& runs = plan.rows.runs;

  const int64_t h_pitch = plan.w * pitch + kLanes;  // one vector more, lest rows lie a power of two apart
  const Tensor spare = scratch(kRowsAtOnce * h_pitch, grad_y.dtype());
  T* h = spare.data<T>();
  Tensor last_row;  // a copy of the array's last row where vectors would read past the end

  auto gather = [&](int64_t p, T* into) {
    const T* from = g + p * out_w * stride;
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
void backward_copy(const Plan<T>& plan, const Tensor& grad_y, int64_t image, int64_t begin, int64_t end) {
  const int64_t c = plan.channels, stride = grad_y.size(3);
  const int64_t first = (image * plan.h + begin) * plan.w, count = (end - begin) * plan.w;
  const T* g = grad_y.data<T>() + first * stride + plan.offset;
  T* grad = plan.data + first * c;
  for (int64_t i = 0; i < count; ++i, g += stride, grad += c) {
    if (!plan.affine) {
      std::copy_n(g, c, grad);
    } else {
      for (int64_t k = 0; k < c; ++k) grad[k] = g[k] * plan.scale[size_t(k)];
    }
  }
}

template <class T>
void backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners) {
  const std::vector<Plan<T>> plans = make_plans<T>(branches, grad_y.size(1), grad_y.size(2), align_corners);
  // A task is a strip of input rows of one image; the output rows between two strips are gathered by both.
  struct Task {
    const Plan<T>* plan;
    int64_t image, begin, end;
  };
  std::vector<Task> tasks;
  const int64_t images = grad_y.size(0);
  for (const Plan<T>& plan : plans) {
    const int64_t strips = std::min((plan.h + 3) / 4, std::max((plan.h + 15) / 16, (16 + images - 1) / images));
    const int64_t rows = (plan.h + strips - 1) / strips;
    for (int64_t image = 0; image < images; ++image) {
      for (int64_t begin = 0; begin < plan.h; begin += rows) {
        tasks.push_back({&plan, image, begin, std::min(plan.h, begin + rows)});
      }
    }
  }
  parallel_for(int64_t(tasks.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Task& task = tasks[size_t(i)];
      const Plan<T>& plan = *task.plan;
      if (plan.rows.identity && plan.columns.identity) {
        backward_copy(plan, grad_y, task.image, task.begin, task.end);
      } else {
        with_pack<T>(plan.channels, [&]<class V>() { backward_rows<V>(plan, grad_y, task.image, task.begin, task.end); });
      }
    }
  });
}

}  // namespace

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners) {
  if (y.numel() == 0) return;
  dispatch_floating(y.dtype(), "resize_bilinear", [&]<typename T>() { forward<T>(branches, y, align_corners); });
}

void bilinear_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners) {
  if (grad_y.numel() == 0) return;
  dispatch_floating(grad_y.dtype(), "resize_bilinear", [&]<typename T>() { backward<T>(grad_y, branches, align_corners); });
}

}  // namespace eq::cpu
