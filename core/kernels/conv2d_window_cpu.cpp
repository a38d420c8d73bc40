#include "core/kernels/conv2d_window.h"

namespace eq::cpu::conv {
namespace {

// Some of the outputs [begin, begin + count) read the input through this tap.
bool reads_inside(const Axis& axis, int64_t tap, int64_t begin, int64_t count) {
  const int64_t first = std::max(begin, tap < 0 ? divide_up(-tap, axis.step) : 0);
  return first < begin + count && first * axis.step + tap < axis.in;
}

}  // namespace

Cut::Cut(const Axis& axis, int64_t largest_part) {
  std::vector<int64_t> changes;
  for (int64_t tap : axis.taps) {
    for (int64_t position : {-tap, axis.in - tap}) changes.push_back(position <= 0 ? 0 : divide_up(position, axis.step));
  }
  std::sort(changes.begin(), changes.end());
  changes.push_back(axis.out);
  int64_t from = 0;
  for (int64_t to : changes) {
    const bool last = to == axis.out;
    if (!last && (to - from < kLeastPart || axis.out - to < kLeastPart)) continue;
    const Split parts(to - from, largest_part);
    for (int64_t part = 0; part < parts.parts; ++part) begins_.push_back(from + parts.begin(part));
    from = to;
    if (last) break;
  }
  begins_.push_back(axis.out);
}

int64_t Cut::largest() const {
  int64_t result = 0;
  for (int64_t part = 0; part < parts(); ++part) result = std::max(result, size(part));
  return result;
}

int64_t Cut::positions(const Axis& axis, int64_t outputs) const {
  int64_t result = 0;
  for (int64_t part = 0; part < parts(); ++part) {
    const int64_t count = std::min(size(part), outputs);
    const auto reads = [&](int64_t tap) { return reads_inside(axis, tap, begin(part), size(part)); };
    result = std::max(result, std::min<int64_t>(axis.positions(count), count * std::count_if(axis.taps.begin(), axis.taps.end(), reads)));
  }
  return result;
}

Axis forward_axis(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding) {
  Axis axis{in, out, stride, {}, {}};
  for (int64_t r = 0; r < kernel; ++r) {
    axis.taps.push_back(r * dilation - padding);
    axis.filter.push_back(r);
  }
  return axis;
}

Phases backward_phases(const Axis& forward, int64_t dilation, int64_t padding) {
  const int64_t stride = forward.step, kernel = int64_t(forward.taps.size()), phases = std::min(stride, forward.in);
  Phases result;
  for (int64_t phase = 0; phase < phases; ++phase) {
    Axis axis{forward.out, divide_up(forward.in - phase, stride), 1, {}, {}};
    for (int64_t r = kernel - 1; r >= 0; --r) {
      const int64_t position = phase + padding - r * dilation;
      if (position % stride != 0) continue;
      axis.taps.push_back(position / stride);
      axis.filter.push_back(r);
    }
    if (!axis.taps.empty()) result.axes.emplace_back(phase, axis);
  }
  result.gaps = int64_t(result.axes.size()) < phases;
  return result;
}

Window copied_window(const Axis& axis, int64_t begin, int64_t count) {
  Window window;
  window.begin = begin;
  window.count = count;
  for (size_t t = 0; t < axis.taps.size(); ++t) {
    if (reads_inside(axis, axis.taps[t], begin, count)) window.tap.push_back(int64_t(t));
  }
  if (window.tap.empty()) return window;
  auto inside = [&](int64_t position) { return position < 0 || position >= axis.in ? int64_t{-1} : position; };
  const int64_t low = begin * axis.step + axis.taps[window.tap.front()];
  const int64_t span = (count - 1) * axis.step + axis.taps[window.tap.back()] - axis.taps[window.tap.front()] + 1;
  const int64_t taps = int64_t(window.tap.size());
  if (span <= taps * count) {
    window.step = axis.step;
    window.source.reserve(size_t(span));
    for (int64_t i = 0; i < span; ++i) window.source.push_back(inside(low + i));
    for (int64_t t : window.tap) window.base.push_back(axis.taps[t] - axis.taps[window.tap.front()]);
  } else {  // gaps between the taps are wider than the strip: each tap gets positions of its own
    window.step = 1;
    window.source.reserve(size_t(taps * count));
    for (int64_t t : window.tap) {
      window.base.push_back(int64_t(window.source.size()));
      for (int64_t i = 0; i < count; ++i) window.source.push_back(inside((begin + i) * axis.step + axis.taps[t]));
    }
  }
  return window;
}

Window direct_window(const Axis& axis, int64_t begin, int64_t count) {
  Window window;
  window.begin = begin;
  window.count = count;
  window.step = axis.step;
  for (size_t t = 0; t < axis.taps.size(); ++t) {
    window.tap.push_back(int64_t(t));
    window.base.push_back(begin * axis.step + axis.taps[t]);
  }
  return window;
}

namespace {

struct ThreadScratch {
  void* data = nullptr;
  size_t bytes = 0;
  ~ThreadScratch() { allocator().free(data); }
};

}  // namespace

void* thread_scratch(size_t bytes) {
  thread_local ThreadScratch scratch;
  if (bytes > scratch.bytes) {
    allocator().free(scratch.data);
    scratch.data = nullptr;
    scratch.bytes = 0;
    scratch.data = allocator().allocate(bytes);
    scratch.bytes = bytes;
  }
  return scratch.data;
}

}  // namespace eq::cpu::conv
