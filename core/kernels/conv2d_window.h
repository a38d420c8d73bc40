#pragma once
// Where a convolution reads. Forward, backward input and backward weight are all correlations: along each spatial axis
// output i reads input positions i * step + taps[t], whatever mixture of stride, padding, dilation and phase that came
// from. Work is cut into strips (a window of outputs per axis); a strip's input is copied, zero-padded, into scratch
// that fits the L2 cache.

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "core/allocator.h"
#include "core/kernels/conv2d.h"
#include "core/kernels/conv2d_simd.h"
#include "core/parallel.h"

namespace eq::cpu::conv {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }  // a >= 0, b > 0

// `total` items in `parts` parts whose sizes differ by at most one.
struct Split {
  int64_t total, parts;
  Split(int64_t total_items, int64_t largest_part)
      : total(total_items), parts(divide_up(total_items, std::max<int64_t>(1, largest_part))) {}
  int64_t begin(int64_t part) const { return total / parts * part + std::min(part, total % parts); }
  int64_t size(int64_t part) const { return begin(part + 1) - begin(part); }
  int64_t largest() const { return parts == 0 ? 0 : divide_up(total, parts); }
};

struct Axis {
  int64_t in = 1, out = 1, step = 1;
  std::vector<int64_t> taps;    // input position read by output 0, ascending; may lie outside [0, in)
  std::vector<int64_t> filter;  // which filter row or column each tap belongs to

  bool never_outside() const { return taps.empty() || (taps.front() >= 0 && (out - 1) * step + taps.back() < in); }
  // Scratch positions that `count` neighbouring outputs need at most.
  int64_t positions(int64_t count) const {
    if (taps.empty() || count == 0) return 0;
    return std::min((count - 1) * step + taps.back() - taps.front() + 1, count * int64_t(taps.size()));
  }
};

// An axis's outputs in parts of at most `largest_part`: where one tap begins or ceases to read the input a part begins, too, unless
// one would have less than kLeastPart. So parts near the border leave out taps that read padding only, which for filters of large
// dilation are most of them.
class Cut {
 public:
  static constexpr int64_t kLeastPart = 8;
  Cut(const Axis& axis, int64_t largest_part);
  int64_t parts() const { return int64_t(begins_.size()) - 1; }
  int64_t begin(int64_t part) const { return begins_[size_t(part)]; }
  int64_t size(int64_t part) const { return begin(part + 1) - begin(part); }
  int64_t largest() const;
  // Scratch positions that a part needs at most, or so many outputs of it.
  int64_t positions(const Axis& axis, int64_t outputs) const;

 private:
  std::vector<int64_t> begins_;  // and the end
};

// The axes of the forward convolution (also used by the weight gradient): step = stride, taps = r * dilation - padding.
Axis forward_axis(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t dilation, int64_t padding);
// Backward input along an axis, by phases: the inputs i, i + stride, ... read grad_y with step 1, through the taps with
// (i + padding - r * dilation) divisible by the stride. The filter is flipped: taps ascend while r descends.
struct Phases {
  std::vector<std::pair<int64_t, Axis>> axes;  // i and its axis; inputs that no output read have none
  bool gaps;                                   // there are such inputs
};
Phases backward_phases(const Axis& forward, int64_t dilation, int64_t padding);

// Outputs [begin, begin + count) of an axis, and how to find their inputs in a buffer of `source.size()` positions.
struct Window {
  int64_t begin = 0, count = 0, step = 1;
  std::vector<int64_t> tap,
      base;  // taps that meet the input, and the buffer position where they find that of output `begin`
  std::vector<int64_t> source;  // the input position each buffer position holds; negative: zeros

  // `taps` follow one another both in the filter and in the buffer.
  bool consecutive() const {
    for (size_t i = 1; i < tap.size(); ++i) {
      if (tap[i] != tap[0] + int64_t(i) || base[i] != base[0] + int64_t(i)) return false;
    }
    return true;
  }
};
Window copied_window(const Axis& axis, int64_t begin, int64_t count);
Window direct_window(const Axis& axis, int64_t begin,
                     int64_t count);  // positions are the input's; needs never_outside()

// Copies `channels` values of each position of rows x cols from an image of `width` pixels of `pixel` elements to
// scratch of rows x cols pixels of `scratch_pixel` elements.
template <class T>
void copy_window(const T* image, int64_t width, int64_t pixel, int64_t channels, const Window& rows, const Window& cols,
                 T* scratch, int64_t scratch_pixel) {
  const int64_t positions = int64_t(cols.source.size()), scratch_row = positions * scratch_pixel;
  const bool dense = channels == pixel && channels == scratch_pixel;
  const bool few_vectors = !dense && channels <= kBlock<T>;  // a call for each pixel costs more than its copy
  struct Run {  // positions that follow one another on both sides; from < 0: one of zeros
    int64_t to, from, count;
  };
  std::vector<Run> runs;  // the same in all rows: found once
  for (int64_t j = 0; j < positions; ++j) {
    const int64_t from = cols.source[size_t(j)];
    if (dense && from > 0 && !runs.empty() && runs.back().from >= 0 && runs.back().from + runs.back().count == from) ++runs.back().count;
    else runs.push_back({j, from, 1});
  }
  for (size_t i = 0; i < rows.source.size(); ++i, scratch += scratch_row) {
    if (rows.source[i] < 0) {
      std::fill(scratch, scratch + scratch_row, T(0));
      continue;
    }
    const T* row = image + rows.source[i] * width * pixel;
    for (const Run& run : runs) {
      const T* from = row + run.from * pixel;
      T* to = scratch + run.to * scratch_pixel;
      if (run.from < 0) {
        std::fill(to, to + channels, T(0));
      } else if (few_vectors) {
        int64_t c = 0;
        for (; c + kVectorLanes<T> <= channels; c += kVectorLanes<T>) store(to + c, load(from + c));
        copy_first<T>(to + c, from + c, channels - c);
      } else {
        std::memcpy(to, from, size_t(run.count * channels) * sizeof(T));
      }
    }
  }
}

// Distance of pixels in scratch: dense for few channels, but never a multiple of 512 bytes, which would crowd few cache
// sets.
template <class T>
int64_t scratch_pixel(int64_t channels) {
  return channels * int64_t(sizeof(T)) % 512 == 0 ? channels + int64_t(64 / sizeof(T)) : channels;
}

// Scratch of the calling thread, kept for later calls; uninitialised. Valid until the thread's next request.
void* thread_scratch(size_t bytes);

// Memory from the allocator for the length of a call.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : data_(static_cast<T*>(allocator().allocate(size_t(count) * sizeof(T)))) {}
  ~Buffer() { allocator().free(data_); }
  Buffer(const Buffer&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }

 private:
  T* data_;
};

// out[i] = the sum of parts[part * size + i], in order.
template <class T>
void add_parts(const T* parts, int64_t count, int64_t size, T* out) {
  parallel_for(size, 4096, [&](int64_t begin, int64_t end) {
    std::copy(parts + begin, parts + end, out + begin);
    for (int64_t part = 1; part < count; ++part) {
      for (int64_t i = begin; i < end; ++i) out[i] += parts[part * size + i];
    }
  });
}

}  // namespace eq::cpu::conv
