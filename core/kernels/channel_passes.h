#pragma once
// Passes over [samples, rows, channels] that treat each channel of each sample alone: the common body of batch norm
// (one sample) and group norm (one per image). Memory is read and written once per pass, vectorised over channels.
// Sums: at most 32 rows in T, then double, over fixed chunks of rows added in order.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/parallel.h"

namespace eq::cpu {

struct ChannelLayout {
  int64_t samples, rows, channels;

  // Channels of one task: few enough for their sums and some rows to stay in the first-level cache; a page of floats per row.
  static constexpr int64_t kWidth = 1024;
  // Enough rows for a task to be worth starting and for its sums to be small beside it, at most 128 chunks to merge.
  int64_t chunk_rows() const {
    return std::max<int64_t>({64, 32768 / std::clamp<int64_t>(channels, 1, kWidth), (rows + 127) / 128});
  }
  int64_t chunks() const { return (rows + chunk_rows() - 1) / chunk_rows(); }
};

// What one task works on: rows [first, first + rows) of `sample`, channels [channel, channel + width).
struct ChannelTask {
  int64_t sample, chunk, first, rows, channel, width;
  int64_t at;      // of its first element in x
  int64_t vector;  // of its first channel in [samples, channels]
  int64_t part;    // of its first channel in partial sums [samples, chunks, channels]
};

// v = (x - mean) * scale + shift, then max(v, 0) if relu (NaN stays NaN). mean and scale: [samples, channels];
// shift: [channels] for all samples.
template <class T>
struct ChannelAffine {
  const T *mean, *scale, *shift;
  bool relu = false;
};

namespace detail {

inline constexpr int64_t kRowsInT = 32;
// Below, rows are `width` values, `stride` apart.

// Calls body(task) for every part of the whole.
template <class Body>
void for_each_task(const ChannelLayout& layout, const Body& body) {
  const int64_t chunks = layout.chunks(), step = layout.chunk_rows(), channels = layout.channels;
  const int64_t columns = (channels + ChannelLayout::kWidth - 1) / ChannelLayout::kWidth;
  const int64_t work = std::min(step, layout.rows) * std::min(ChannelLayout::kWidth, channels);
  parallel_for(layout.samples * chunks * columns, grain_for(work), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      ChannelTask task;
      task.sample = i / (chunks * columns);
      task.chunk = i / columns % chunks;
      task.first = task.chunk * step;
      task.rows = std::min(step, layout.rows - task.first);
      task.channel = i % columns * ChannelLayout::kWidth;
      task.width = std::min(ChannelLayout::kWidth, channels - task.channel);
      task.at = (task.sample * layout.rows + task.first) * channels + task.channel;
      task.vector = task.sample * channels + task.channel;
      task.part = (task.sample * chunks + task.chunk) * channels + task.channel;
      body(task);
    }
  });
}

// sum += x - origin, squares += (x - origin)^2
template <class T>
void add_moments(const T* __restrict x, int64_t rows, int64_t stride, int64_t width, const T* __restrict origin, T* __restrict sum,
                 T* __restrict squares) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * stride) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const T a = x[c] - origin[c], b = x[stride + c] - origin[c];
      const T d = x[2 * stride + c] - origin[c], e = x[3 * stride + c] - origin[c];
      sum[c] += (a + b) + (d + e);
      squares[c] += (a * a + b * b) + (d * d + e * e);
    }
  }
  for (; r < rows; ++r, x += stride) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const T a = x[c] - origin[c];
      sum[c] += a;
      squares[c] += a * a;
    }
  }
}

// Empties T sums into double ones.
template <class T>
void flush_sums(int64_t width, T* __restrict sum, T* __restrict squares, double* __restrict sum_out,
                double* __restrict squares_out) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    sum_out[c] += double(sum[c]);
    squares_out[c] += double(squares[c]);
    sum[c] = squares[c] = 0;
  }
}

// sum += g, products += g * (x - mean), with g masked where the affine image of x is not positive.
template <class T, bool kRelu>
void add_gradients(const T* __restrict g, const T* __restrict x, int64_t rows, int64_t stride, int64_t width,
                   const T* __restrict mean,
                   const T* __restrict scale, const T* __restrict shift, T* __restrict sum, T* __restrict products) {
  auto masked = [](T gradient, T centred, T a, T b) {
    return kRelu && centred * a + b <= T(0) ? T(0) : gradient;
  };
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2, g += 2 * stride, x += 2 * stride) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const T d0 = x[c] - mean[c], d1 = x[stride + c] - mean[c];
      const T g0 = masked(g[c], d0, scale[c], shift[c]), g1 = masked(g[stride + c], d1, scale[c], shift[c]);
      sum[c] += g0 + g1;
      products[c] += g0 * d0 + g1 * d1;
    }
  }
  for (; r < rows; ++r, g += stride, x += stride) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const T d = x[c] - mean[c], value = masked(g[c], d, scale[c], shift[c]);
      sum[c] += value;
      products[c] += value * d;
    }
  }
}

template <class T, bool kRelu>
void affine_rows(const T* __restrict x, int64_t rows, int64_t stride, int64_t width,
                   const T* __restrict mean, const T* __restrict scale,
                 const T* __restrict shift, T* __restrict y) {
  for (int64_t r = 0; r < rows; ++r, x += stride, y += stride) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const T v = (x[c] - mean[c]) * scale[c] + shift[c];
      y[c] = kRelu && v < T(0) ? T(0) : v;
    }
  }
}

// out = g * scale + (x - mean) * slope + offset, g masked as above
template <class T, bool kRelu>
void gradient_rows(const T* __restrict g, const T* __restrict x, int64_t rows, int64_t stride, int64_t width,
                   const T* __restrict mean,
                   const T* __restrict scale, const T* __restrict shift, const T* __restrict slope,
                   const T* __restrict offset, T* __restrict out) {
  for (int64_t r = 0; r < rows; ++r, g += stride, x += stride, out += stride) {
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      const T d = x[c] - mean[c];
      const T value = kRelu && d * scale[c] + shift[c] <= T(0) ? T(0) : g[c];
      out[c] = value * scale[c] + (d * slope[c] + offset[c]);
    }
  }
}

// Calls body(at, width, part) for blocks of channels: their place in [samples, channels], their number, and the place of
// their first partial sums.
template <class Body>
void for_each_vector_block(const ChannelLayout& layout, const Body& body) {
  constexpr int64_t kBlock = 256;
  const int64_t blocks = (layout.channels + kBlock - 1) / kBlock;
  parallel_for(layout.samples * blocks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sample = i / blocks, first = i % blocks * kBlock;
      body(sample * layout.channels + first, std::min(kBlock, layout.channels - first),
           sample * layout.chunks() * layout.channels + first);
    }
  });
}

}  // namespace detail

// Mean and sum of squared deviations per sample and channel, [samples, channels]. Each chunk sums around an origin of its
// own (the mean of its first rows), so a mean far larger than the deviation costs no accuracy; chunks are merged by
// Chan's formula.
template <class T>
void channel_moments(const T* x, const ChannelLayout& layout, double* mean, double* squares) {
  const int64_t channels = layout.channels, chunks = layout.chunks(), step = layout.chunk_rows();
  std::vector<double> means(size_t(layout.samples * chunks * channels)), deviations(means.size());
  detail::for_each_task(layout, [&](const ChannelTask& task) {
    const int64_t width = task.width, probe = std::min<int64_t>(task.rows, 8);
    std::vector<T> scratch(size_t(3 * width));
    T *origin = scratch.data(), *sum = origin + width, *square = sum + width;
    const T* from = x + task.at;
    double *chunk_mean = means.data() + task.part, *chunk_squares = deviations.data() + task.part;
    for (int64_t r = 0; r < probe; ++r) {
      for (int64_t c = 0; c < width; ++c) origin[c] += from[r * channels + c];
    }
    for (int64_t c = 0; c < width; ++c) origin[c] /= T(probe);
    for (int64_t r = 0; r < task.rows; r += detail::kRowsInT) {
      detail::add_moments(from + r * channels, std::min(detail::kRowsInT, task.rows - r), channels, width, origin, sum, square);
      detail::flush_sums(width, sum, square, chunk_mean, chunk_squares);
    }
    for (int64_t c = 0; c < width; ++c) {
      const double offset = chunk_mean[c] / double(task.rows);
      chunk_squares[c] -= chunk_mean[c] * offset;
      chunk_mean[c] = double(origin[c]) + offset;
    }
  });
  detail::for_each_vector_block(layout, [&](int64_t at, int64_t width, int64_t part) {
    std::fill_n(mean + at, width, 0.0);
    std::fill_n(squares + at, width, 0.0);
    for (int64_t k = 0; k < chunks; ++k) {
      const double share = double(std::min(step, layout.rows - k * step)) / double(layout.rows);
      for (int64_t c = 0; c < width; ++c) mean[at + c] += share * means[part + k * channels + c];
    }
    for (int64_t k = 0; k < chunks; ++k) {
      const double count = double(std::min(step, layout.rows - k * step));
      for (int64_t c = 0; c < width; ++c) {
        const double away = means[part + k * channels + c] - mean[at + c];
        // a rounded negative becomes 0, NaN stays
        squares[at + c] += std::max(deviations[part + k * channels + c], 0.0) + count * away * away;
      }
    }
  });
}

template <class T>
void channel_affine(const T* x, const ChannelLayout& layout, const ChannelAffine<T>& affine, T* y) {
  const auto pass = affine.relu ? detail::affine_rows<T, true> : detail::affine_rows<T, false>;
  detail::for_each_task(layout, [&](const ChannelTask& task) {
    pass(x + task.at, task.rows, layout.channels, task.width, affine.mean + task.vector, affine.scale + task.vector,
         affine.shift + task.channel, y + task.at);
  });
}

// sum g and sum g * (x - mean) per sample and channel, g masked by the affine map's ReLU. With `grad_x` given, the same
// pass writes g * scale there (the gradient when mean and scale are constants).
template <class T>
void channel_gradient_sums(const T* g, const T* x, const ChannelLayout& layout, const ChannelAffine<T>& affine, T* grad_x,
                           double* sum, double* products) {
  const int64_t channels = layout.channels, chunks = layout.chunks();
  std::vector<double> sums(size_t(layout.samples * chunks * channels)), moments(sums.size());
  const std::vector<T> zeros(size_t{ChannelLayout::kWidth});  // braces: parentheses are a declaration to clang
  const auto add = affine.relu ? detail::add_gradients<T, true> : detail::add_gradients<T, false>;
  const auto write = affine.relu ? detail::gradient_rows<T, true> : detail::gradient_rows<T, false>;
  detail::for_each_task(layout, [&](const ChannelTask& task) {
    const int64_t width = task.width;
    std::vector<T> scratch(size_t(2 * width));
    const T *mean = affine.mean + task.vector, *scale = affine.scale + task.vector, *shift = affine.shift + task.channel;
    for (int64_t r = 0; r < task.rows; r += detail::kRowsInT) {
      const int64_t at = task.at + r * channels, rows = std::min(detail::kRowsInT, task.rows - r);
      add(g + at, x + at, rows, channels, width, mean, scale, shift, scratch.data(), scratch.data() + width);
      if (grad_x) {
        write(g + at, x + at, rows, channels, width, mean, scale, shift, zeros.data(), zeros.data(), grad_x + at);
      }
      detail::flush_sums(width, scratch.data(), scratch.data() + width, sums.data() + task.part, moments.data() + task.part);
    }
  });
  detail::for_each_vector_block(layout, [&](int64_t at, int64_t width, int64_t part) {
    std::fill_n(sum + at, width, 0.0);
    std::fill_n(products + at, width, 0.0);
    for (int64_t k = 0; k < chunks; ++k) {
      for (int64_t c = 0; c < width; ++c) {
        sum[at + c] += sums[part + k * channels + c];
        products[at + c] += moments[part + k * channels + c];
      }
    }
  });
}

// grad_x = g * scale + (x - mean) * slope + offset, g masked by the affine map's ReLU; slope and offset: [samples, channels].
template <class T>
void channel_gradient(const T* g, const T* x, const ChannelLayout& layout, const ChannelAffine<T>& affine, const T* slope,
                      const T* offset, T* grad_x) {
  const auto pass = affine.relu ? detail::gradient_rows<T, true> : detail::gradient_rows<T, false>;
  detail::for_each_task(layout, [&](const ChannelTask& task) {
    pass(g + task.at, x + task.at, task.rows, layout.channels, task.width, affine.mean + task.vector,
         affine.scale + task.vector, affine.shift + task.channel, slope + task.vector, offset + task.vector,
         grad_x + task.at);
  });
}

}  // namespace eq::cpu
