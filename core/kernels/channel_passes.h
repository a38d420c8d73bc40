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

  // Enough rows for a task to be worth starting, few enough chunks for their merging to cost nothing.
  int64_t chunk_rows() const {
    return std::max<int64_t>({1, 32768 / std::max<int64_t>(1, channels), (rows + 127) / 128});
  }
  int64_t chunks() const { return (rows + chunk_rows() - 1) / chunk_rows(); }
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

// Calls body(sample, chunk, first_row, row_count) for every chunk of every sample.
template <class Body>
void for_each_chunk(const ChannelLayout& layout, const Body& body) {
  const int64_t chunks = layout.chunks(), step = layout.chunk_rows();
  parallel_for(layout.samples * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % chunks * step;
      body(i / chunks, i % chunks, first, std::min(step, layout.rows - first));
    }
  });
}

// sum += x - origin, squares += (x - origin)^2
template <class T>
void add_moments(const T* __restrict x, int64_t rows, int64_t channels, const T* __restrict origin, T* __restrict sum,
                 T* __restrict squares) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T a = x[c] - origin[c], b = x[channels + c] - origin[c];
      const T d = x[2 * channels + c] - origin[c], e = x[3 * channels + c] - origin[c];
      sum[c] += (a + b) + (d + e);
      squares[c] += (a * a + b * b) + (d * d + e * e);
    }
  }
  for (; r < rows; ++r, x += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T a = x[c] - origin[c];
      sum[c] += a;
      squares[c] += a * a;
    }
  }
}

// Empties T sums into double ones.
template <class T>
void flush_sums(int64_t channels, T* __restrict sum, T* __restrict squares, double* __restrict sum_out,
                double* __restrict squares_out) {
#pragma omp simd
  for (int64_t c = 0; c < channels; ++c) {
    sum_out[c] += double(sum[c]);
    squares_out[c] += double(squares[c]);
    sum[c] = squares[c] = 0;
  }
}

// sum += g, products += g * (x - mean), with g masked where the affine image of x is not positive.
template <class T, bool kRelu>
void add_gradients(const T* __restrict g, const T* __restrict x, int64_t rows, int64_t channels, const T* __restrict mean,
                   const T* __restrict scale, const T* __restrict shift, T* __restrict sum, T* __restrict products) {
  auto masked = [](T gradient, T centred, T a, T b) {
    return kRelu && centred * a + b <= T(0) ? T(0) : gradient;
  };
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2, g += 2 * channels, x += 2 * channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T d0 = x[c] - mean[c], d1 = x[channels + c] - mean[c];
      const T g0 = masked(g[c], d0, scale[c], shift[c]), g1 = masked(g[channels + c], d1, scale[c], shift[c]);
      sum[c] += g0 + g1;
      products[c] += g0 * d0 + g1 * d1;
    }
  }
  for (; r < rows; ++r, g += channels, x += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T d = x[c] - mean[c], value = masked(g[c], d, scale[c], shift[c]);
      sum[c] += value;
      products[c] += value * d;
    }
  }
}

template <class T, bool kRelu>
void affine_rows(const T* __restrict x, int64_t rows, int64_t channels, const T* __restrict mean, const T* __restrict scale,
                 const T* __restrict shift, T* __restrict y) {
  for (int64_t r = 0; r < rows; ++r, x += channels, y += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T v = (x[c] - mean[c]) * scale[c] + shift[c];
      y[c] = kRelu && v < T(0) ? T(0) : v;
    }
  }
}

// out = g * scale + (x - mean) * slope + offset, g masked as above
template <class T, bool kRelu>
void gradient_rows(const T* __restrict g, const T* __restrict x, int64_t rows, int64_t channels, const T* __restrict mean,
                   const T* __restrict scale, const T* __restrict shift, const T* __restrict slope,
                   const T* __restrict offset, T* __restrict out) {
  for (int64_t r = 0; r < rows; ++r, g += channels, x += channels, out += channels) {
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      const T d = x[c] - mean[c];
      const T value = kRelu && d * scale[c] + shift[c] <= T(0) ? T(0) : g[c];
      out[c] = value * scale[c] + (d * slope[c] + offset[c]);
    }
  }
}

}  // namespace detail

// Mean and sum of squared deviations per sample and channel, [samples, channels]. Each chunk sums around an origin of its
// own (the mean of its first rows), so a mean far larger than the deviation costs no accuracy; chunks are merged by
// Chan's formula.
template <class T>
void channel_moments(const T* x, const ChannelLayout& layout, double* mean, double* squares) {
  const int64_t channels = layout.channels, chunks = layout.chunks(), step = layout.chunk_rows();
  std::vector<double> means(size_t(layout.samples * chunks * channels)), deviations(means.size());
  detail::for_each_chunk(layout, [&](int64_t sample, int64_t chunk, int64_t first, int64_t rows) {
    std::vector<T> scratch(size_t(3 * channels));
    T *origin = scratch.data(), *sum = origin + channels, *square = sum + channels;
    const T* from = x + (sample * layout.rows + first) * channels;
    double* chunk_mean = means.data() + (sample * chunks + chunk) * channels;
    double* chunk_squares = deviations.data() + (sample * chunks + chunk) * channels;
    const int64_t probe = std::min<int64_t>(rows, 8);
    for (int64_t r = 0; r < probe; ++r) {
#pragma omp simd
      for (int64_t c = 0; c < channels; ++c) origin[c] += from[r * channels + c];
    }
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) origin[c] *= T(1) / T(probe);
    for (int64_t r = 0; r < rows; r += detail::kRowsInT) {
      detail::add_moments(from + r * channels, std::min(detail::kRowsInT, rows - r), channels, origin, sum, square);
      detail::flush_sums(channels, sum, square, chunk_mean, chunk_squares);
    }
    for (int64_t c = 0; c < channels; ++c) {
      const double offset = chunk_mean[c] / double(rows);
      chunk_squares[c] -= chunk_mean[c] * offset;
      chunk_mean[c] = double(origin[c]) + offset;
    }
  });
  parallel_for(layout.samples * channels, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t base = i / channels * chunks * channels + i % channels;
      double total = 0, spread = 0;
      for (int64_t k = 0; k < chunks; ++k) {
        total += double(std::min(step, layout.rows - k * step)) * means[base + k * channels];
      }
      mean[i] = total / double(layout.rows);
      for (int64_t k = 0; k < chunks; ++k) {
        const double away = means[base + k * channels] - mean[i];
        spread += deviations[base + k * channels] + double(std::min(step, layout.rows - k * step)) * away * away;
      }
      squares[i] = std::max(spread, 0.0);  // a rounded negative becomes 0, NaN stays
    }
  });
}

template <class T>
void channel_affine(const T* x, const ChannelLayout& layout, const ChannelAffine<T>& affine, T* y) {
  detail::for_each_chunk(layout, [&](int64_t sample, int64_t, int64_t first, int64_t rows) {
    const int64_t at = (sample * layout.rows + first) * layout.channels, row = sample * layout.channels;
    const auto pass = affine.relu ? detail::affine_rows<T, true> : detail::affine_rows<T, false>;
    pass(x + at, rows, layout.channels, affine.mean + row, affine.scale + row, affine.shift, y + at);
  });
}

// sum g and sum g * (x - mean) per sample and channel, g masked by the affine map's ReLU. With `grad_x` given, the same
// pass writes g * scale there (the gradient when mean and scale are constants).
template <class T>
void channel_gradient_sums(const T* g, const T* x, const ChannelLayout& layout, const ChannelAffine<T>& affine, T* grad_x,
                           double* sum, double* products) {
  const int64_t channels = layout.channels, chunks = layout.chunks();
  std::vector<double> sums(size_t(layout.samples * chunks * channels)), moments(sums.size());
  const std::vector<T> zeros(grad_x ? size_t(channels) : 0);
  detail::for_each_chunk(layout, [&](int64_t sample, int64_t chunk, int64_t first, int64_t rows) {
    std::vector<T> scratch(size_t(2 * channels));
    const auto pass = affine.relu ? detail::add_gradients<T, true> : detail::add_gradients<T, false>;
    const auto write = affine.relu ? detail::gradient_rows<T, true> : detail::gradient_rows<T, false>;
    const T *mean = affine.mean + sample * channels, *scale = affine.scale + sample * channels;
    for (int64_t r = 0; r < rows; r += detail::kRowsInT) {
      const int64_t at = (sample * layout.rows + first + r) * channels, count = std::min(detail::kRowsInT, rows - r);
      pass(g + at, x + at, count, channels, mean, scale, affine.shift, scratch.data(), scratch.data() + channels);
      if (grad_x) {
        write(g + at, x + at, count, channels, mean, scale, affine.shift, zeros.data(), zeros.data(), grad_x + at);
      }
      const int64_t slot = (sample * chunks + chunk) * channels;
      detail::flush_sums(channels, scratch.data(), scratch.data() + channels, sums.data() + slot, moments.data() + slot);
    }
  });
  parallel_for(layout.samples * channels, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t base = i / channels * chunks * channels + i % channels;
      sum[i] = products[i] = 0;
      for (int64_t k = 0; k < chunks; ++k) {
        sum[i] += sums[base + k * channels];
        products[i] += moments[base + k * channels];
      }
    }
  });
}

// grad_x = g * scale + (x - mean) * slope + offset, g masked by the affine map's ReLU; slope and offset: [samples, channels].
template <class T>
void channel_gradient(const T* g, const T* x, const ChannelLayout& layout, const ChannelAffine<T>& affine, const T* slope,
                      const T* offset, T* grad_x) {
  detail::for_each_chunk(layout, [&](int64_t sample, int64_t, int64_t first, int64_t rows) {
    const int64_t at = (sample * layout.rows + first) * layout.channels, row = sample * layout.channels;
    const auto pass = affine.relu ? detail::gradient_rows<T, true> : detail::gradient_rows<T, false>;
    pass(g + at, x + at, rows, layout.channels, affine.mean + row, affine.scale + row, affine.shift, slope + row,
         offset + row, grad_x + at);
  });
}

}  // namespace eq::cpu
