// Interpolation is separable: a row of the result is first made from rows of the maps, with the taps of one filter column summed
// (w short pixels of kernel_w * block channels), then its pixels from neighbouring pixels of that. The adjoint goes back in the other
// order. All four steps are weighted sums of a few runs of channels; a block's working rows stay in the second cache level.

#include "core/kernels/tap_maps_cpu.h"

#include <algorithm>

#include "core/kernels/conv2d_window.h"
#include "core/kernels/lanes.h"
#include "core/kernels/resize.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kBlockChannels = 128;  // at most
constexpr int64_t kTasks = 16, kLeastRows = 4;

using conv::divide_up;

// --- weighted sums ---

template <class T>
struct Term {
  int64_t offset;  // elements
  T weight;
};

template <int kVectors, bool kAdd, class T>
inline void sum_vectors(T* to, const T* from, const Term<T>* terms, int64_t count) {
  Lanes<T> sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = kAdd ? load(to + v * kLanes<T>) : Lanes<T>{};
  for (int64_t k = 0; k < count; ++k) {
    const T* run = from + terms[k].offset;
    const Lanes<T> weight = broadcast(terms[k].weight);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] += weight * load(run + v * kLanes<T>);
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, sum[v]);
}

// to (=, +=) sum_k weight_k * from[offset_k ..], over n elements, a whole number of vectors.
template <bool kAdd, class T>
void weighted_sum(T* to, const T* from, const Term<T>* terms, int64_t count, int64_t n) {
  int64_t i = 0;
  for (; i + 8 * kLanes<T> <= n; i += 8 * kLanes<T>) sum_vectors<8, kAdd>(to + i, from + i, terms, count);
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>) sum_vectors<4, kAdd>(to + i, from + i, terms, count);
  for (; i < n; i += kLanes<T>) sum_vectors<1, kAdd>(to + i, from + i, terms, count);
}

// --- who reads what along an axis ---

// Output `position` reads `cell` of the map of `tap`.
template <class T>
struct Read {
  int64_t position, tap, cell;
  T weight;
};

struct TapAxis {
  int64_t cells, in, out, kernel, before;
  bool align_corners;
  bool inside(int64_t position, int64_t tap) const {
    const int64_t at = position + tap - before;
    return at >= 0 && at < in;
  }
  bool all_inside(int64_t position) const { return inside(position, 0) && inside(position, kernel - 1); }
};

// Ascending positions, and taps in each.
template <class T>
std::vector<Read<T>> reads_along(const TapAxis& axis) {
  std::vector<Read<T>> reads;
  for (int64_t position = 0; position < axis.out; ++position) {
    for (int64_t tap = 0; tap < axis.kernel; ++tap) {
      if (!axis.inside(position, tap)) continue;
      const BilinearSource s = bilinear_source(position + tap - axis.before, axis.cells, axis.in, axis.align_corners);
      reads.push_back({position, tap, s.lower, T(1 - s.upper_weight)});
      if (s.upper != s.lower) reads.push_back({position, tap, s.upper, T(s.upper_weight)});
    }
  }
  return reads;
}

// The reads as lists, one per key, each in the order of `reads`.
template <class T>
struct Lists {
  template <class Key, class Make>
  Lists(const std::vector<Read<T>>& reads, int64_t keys, const Key& key, const Make& make)
      : first(size_t(keys) + 1, 0), terms(reads.size()) {
    for (const Read<T>& read : reads) ++first[size_t(key(read)) + 1];
    for (size_t k = 1; k < first.size(); ++k) first[k] += first[k - 1];
    std::vector<int64_t> next = first;
    for (const Read<T>& read : reads) terms[size_t(next[size_t(key(read))]++)] = make(read);
  }
  const Term<T>* list(int64_t key) const { return terms.data() + first[size_t(key)]; }
  int64_t count(int64_t key) const { return first[size_t(key) + 1] - first[size_t(key)]; }

  std::vector<int64_t> first;
  std::vector<Term<T>> terms;
};

// From the first position to behind the last one that reads each cell, whatever the tap; empty where there is none.
struct Spans {
  template <class T>
  Spans(const std::vector<Read<T>>& reads, int64_t cells) : first(size_t(cells), 0), end(size_t(cells), 0) {
    for (const Read<T>& read : reads) {
      int64_t &from = first[size_t(read.cell)], &to = end[size_t(read.cell)];
      if (to == 0) from = read.position;
      to = read.position + 1;
    }
  }
  int64_t longest() const {
    int64_t most = 1;
    for (size_t k = 0; k < first.size(); ++k) most = std::max(most, end[k] - first[k]);
    return most;
  }
  std::vector<int64_t> first, end;
};

TapAxis row_axis(const TapWindow& w, int64_t cells) { return {cells, w.in_h, w.out_h, w.kernel_h, w.top, w.align_corners}; }
TapAxis column_axis(const TapWindow& w, int64_t cells) { return {cells, w.in_w, w.out_w, w.kernel_w, w.left, w.align_corners}; }

// The tap maps of one branch.
template <class T>
struct Map {
  Map(const Tensor& map, const TapWindow& window, const ChannelBlocks& blocks)
      : data(map.data<T>()), h(map.size(1)), w(map.size(2)), pixel(window.taps() * blocks.padded()), run(window.kernel_w * blocks.size) {}
  T* row(int64_t image, int64_t row) const { return data + (image * h + row) * w * pixel; }

  T* data;
  int64_t h, w;
  int64_t pixel;  // elements
  int64_t run;    // those of a block's taps in one filter row
};

// A task is a strip of rows of one image, for one block of channels.
struct Tasks {
  Tasks(int64_t images, int64_t rows, int64_t channel_blocks)
      : blocks(channel_blocks),
        strips(std::clamp(divide_up(kTasks, std::max<int64_t>(1, images * blocks)), int64_t{1}, divide_up(rows, kLeastRows))),
        count(images * strips * blocks) {}
  template <class Fn>
  void run(const Fn& fn) const {  // fn(image, strip, block)
    parallel_for(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) fn(i / blocks / strips, i / blocks % strips, i % blocks);
    });
  }
  int64_t blocks, strips, count;
};

// fn(position of the pixel, tap) for the pixels of row p and the taps that are outside there.
template <class Fn>
void for_outside(const TapAxis& rows, const TapAxis& columns, int64_t p, const Fn& fn) {
  const bool whole = rows.all_inside(p);
  for (int64_t q = 0; q < columns.out; ++q) {
    if (whole && columns.all_inside(q)) continue;
    for (int64_t r = 0; r < rows.kernel; ++r) {
      for (int64_t s = 0; s < columns.kernel; ++s) {
        if (!rows.inside(p, r) || !columns.inside(q, s)) fn(q, r * columns.kernel + s);
      }
    }
  }
}

template <class T>
void add(T* __restrict to, const T* __restrict from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

ChannelBlocks::ChannelBlocks(int64_t all, int64_t lanes) : channels(all) {
  const int64_t wanted = divide_up(all, std::max(lanes, kBlockChannels / lanes * lanes));
  size = divide_up(divide_up(all, wanted), lanes) * lanes;
  count = divide_up(all, size);
}

template <class T>
void add_tap_maps(const std::vector<Tensor>& maps, const T* outside, const conv::Finish<T>& finish, Tensor& y, const TapWindow& window,
                  const ChannelBlocks& blocks) {
  const int64_t size = blocks.size, out_h = window.out_h, out_w = window.out_w, channels = blocks.channels;
  std::vector<Map<T>> list;
  std::vector<Lists<T>> rows;              // [map], keyed by output row
  std::vector<Read<T>> column_reads;       // of all maps; `cell` is the place in the row that the first step writes
  int64_t row_length = 0;
  for (const Tensor& tensor : maps) {
    const Map<T>& map = list.emplace_back(tensor, window, blocks);
    rows.emplace_back(reads_along<T>(row_axis(window, map.h)), out_h, [](const Read<T>& r) { return r.position; },
                      [&](const Read<T>& r) { return Term<T>{r.cell * map.w * map.pixel + r.tap * map.run, r.weight}; });
    for (Read<T> read : reads_along<T>(column_axis(window, map.w))) {
      read.cell = row_length + read.cell * map.run + read.tap * size;
      column_reads.push_back(read);
    }
    row_length += map.w * map.run;
  }
  const Lists<T> columns(
      column_reads, out_w, [](const Read<T>& r) { return r.position; },
      [](const Read<T>& r) {
        return Term<T>{r.cell, r.weight};
      });
  const Tasks tasks(y.size(0), out_h, blocks.count);
  tasks.run([&](int64_t image, int64_t strip, int64_t block) {
    const Tensor scratch = Tensor::empty({row_length + size}, y.dtype());
    T *blended = scratch.data<T>(), *whole = blended + row_length;
    const int64_t valid = std::min(size, channels - block * size);
    for (int64_t p = out_h * strip / tasks.strips; p < out_h * (strip + 1) / tasks.strips; ++p) {
      T* to = blended;
      for (size_t m = 0; m < list.size(); ++m) {
        const Map<T>& map = list[m];
        const T* from = map.row(image, 0) + block * window.taps() * size;
        for (int64_t j = 0; j < map.w; ++j, to += map.run, from += map.pixel) {
          weighted_sum<false>(to, from, rows[m].list(p), rows[m].count(p), map.run);
        }
      }
      T* row = y.data<T>() + (image * out_h + p) * out_w * channels + block * size;
      for (int64_t q = 0; q < out_w; ++q) {
        T* pixel = row + q * channels;
        if (valid == size) {
          weighted_sum<true>(pixel, blended, columns.list(q), columns.count(q), size);
        } else {
          weighted_sum<false>(whole, blended, columns.list(q), columns.count(q), size);
          add(pixel, whole, valid);
        }
      }
      if (outside) {
        for_outside(row_axis(window, 1), column_axis(window, 1), p,
                    [&](int64_t q, int64_t tap) { add(row + q * channels, outside + tap * channels + block * size, valid); });
      }
      if (finish) finish.apply(row, out_w * channels, 1, channels, out_w, block * size, valid);
    }
  });
}

template <class T>
void gather_tap_maps(const Tensor& grad_y, std::vector<Tensor>& grad_maps, const TapWindow& window, const ChannelBlocks& blocks) {
  const int64_t size = blocks.size, out_h = window.out_h, out_w = window.out_w, channels = blocks.channels;
  const bool in_place = blocks.padded() == channels;  // else rows of a block are copied, and padded
  const int64_t stride = in_place ? channels : size;
  std::vector<Map<T>> list;
  std::vector<Lists<T>> rows, columns;  // [map], keyed by cell * kernel + tap; row terms hold positions
  std::vector<Spans> spans;
  int64_t ring_size = 0, tallest = 1;
  for (const Tensor& tensor : grad_maps) {
    const Map<T>& map = list.emplace_back(tensor, window, blocks);
    const std::vector<Read<T>> row_reads = reads_along<T>(row_axis(window, map.h));
    rows.emplace_back(row_reads, map.h * window.kernel_h, [&](const Read<T>& r) { return r.cell * window.kernel_h + r.tap; },
                      [](const Read<T>& r) { return Term<T>{r.position, r.weight}; });
    columns.emplace_back(reads_along<T>(column_axis(window, map.w)), map.w * window.kernel_w,
                         [&](const Read<T>& r) { return r.cell * window.kernel_w + r.tap; },
                         [&](const Read<T>& r) { return Term<T>{r.position * stride, r.weight}; });
    spans.emplace_back(row_reads, map.h);
    ring_size = std::max(ring_size, spans.back().longest() * map.w * map.run);
    tallest = std::max(tallest, map.h);
  }
  const Tasks tasks(grad_y.size(0), tallest, blocks.count);
  tasks.run([&](int64_t image, int64_t strip, int64_t block) {
    const Tensor scratch = Tensor::empty({ring_size + (in_place ? 0 : out_w * size)}, grad_y.dtype());
    T *ring = scratch.data<T>(), *padded = ring + ring_size;
    const int64_t valid = std::min(size, channels - block * size);
    std::vector<Term<T>> terms;
    for (size_t m = 0; m < list.size(); ++m) {
      const Map<T>& map = list[m];
      const Spans& span = spans[m];
      const int64_t slots = span.longest(), slot_size = map.w * map.run;
      const auto row_in_ring = [&](int64_t p) {
        const T* from = grad_y.data<T>() + (image * out_h + p) * out_w * channels + block * size;
        if (!in_place) {
          for (int64_t q = 0; q < out_w; ++q) {
            std::copy_n(from + q * channels, valid, padded + q * size);
            std::fill(padded + q * size + valid, padded + (q + 1) * size, T(0));
          }
          from = padded;
        }
        T* to = ring + p % slots * slot_size;
        for (int64_t k = 0; k < map.w * window.kernel_w; ++k, to += size) {
          weighted_sum<false>(to, from, columns[m].list(k), columns[m].count(k), size);
        }
      };
      int64_t next = 0;  // the first row that was not in the ring
      for (int64_t cell = map.h * strip / tasks.strips; cell < map.h * (strip + 1) / tasks.strips; ++cell) {
        for (next = std::max(next, span.first[size_t(cell)]); next < span.end[size_t(cell)]; ++next) row_in_ring(next);
        for (int64_t r = 0; r < window.kernel_h; ++r) {
          const int64_t key = cell * window.kernel_h + r;
          terms.assign(rows[m].list(key), rows[m].list(key) + rows[m].count(key));
          for (Term<T>& term : terms) term.offset = term.offset % slots * slot_size;
          T* to = map.row(image, cell) + (block * window.kernel_h + r) * map.run;
          for (int64_t j = 0; j < map.w; ++j, to += map.pixel) {
            weighted_sum<false>(to, ring + j * map.run, terms.data(), int64_t(terms.size()), map.run);
          }
        }
      }
    }
  });
}

template <class T>
void sum_outside(const Tensor& grad_y, T* sums, const TapWindow& window) {
  const int64_t images = grad_y.size(0), channels = grad_y.size(3), size = window.taps() * channels;
  const Tensor parts = Tensor::zeros({images, size}, grad_y.dtype());
  parallel_for(images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * window.out_h; i < end * window.out_h; ++i) {
      const T* row = grad_y.data<T>() + i * window.out_w * channels;
      T* part = parts.data<T>() + i / window.out_h * size;
      for_outside(row_axis(window, 1), column_axis(window, 1), i % window.out_h,
                  [&](int64_t q, int64_t tap) { add(part + tap * channels, row + q * channels, channels); });
    }
  });
  std::fill_n(sums, size, T(0));
  for (int64_t n = 0; n < images; ++n) add(sums, parts.data<T>() + n * size, size);
}

template void add_tap_maps<float>(const std::vector<Tensor>&, const float*, const conv::Finish<float>&, Tensor&, const TapWindow&,
                                  const ChannelBlocks&);
template void add_tap_maps<double>(const std::vector<Tensor>&, const double*, const conv::Finish<double>&, Tensor&, const TapWindow&,
                                   const ChannelBlocks&);
template void gather_tap_maps<float>(const Tensor&, std::vector<Tensor>&, const TapWindow&, const ChannelBlocks&);
template void gather_tap_maps<double>(const Tensor&, std::vector<Tensor>&, const TapWindow&, const ChannelBlocks&);
template void sum_outside<float>(const Tensor&, float*, const TapWindow&);
template void sum_outside<double>(const Tensor&, double*, const TapWindow&);

}  // namespace eq::cpu
