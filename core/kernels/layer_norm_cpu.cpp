#include "core/kernels/layer_norm.h"

#include <cmath>

#include "core/kernels/channel_passes.h"
#include "core/kernels/lanes.h"

namespace eq::cpu {
namespace {

constexpr int64_t kVectorsInT = 64;  // added lane by lane before the sum goes into a double

// Values of an optional [C] vector, padded with zeros to whole vectors.
template <class T>
void fill_padded(T* to, const Tensor& vector, T missing, int64_t width) {
  for (int64_t c = 0; c < width; ++c) to[c] = vector.defined() ? vector.data<T>()[c] : missing;
}

struct Moments {
  double mean, variance;
};

// The variance is summed around a first mean, and both are corrected by what that mean's rounding left over.
template <class T>
Moments row_moments(const LaneRow<T>& walk, const T* row, const T* limit, int64_t width) {
  double total = 0, left = 0, squares = 0;
  for (int64_t begin = 0; begin < walk.vectors; begin += kVectorsInT) {
    const int64_t pairs_end = std::min(begin + kVectorsInT, (walk.vectors - 1) / 2 * 2);
    Lanes<T> sum{};
    for (int64_t v = begin; v < pairs_end; v += 2) {
      sum += load(row + v * kLanes<T>) + load(row + (v + 1) * kLanes<T>);  // half as long a chain of sums
    }
    walk.each_vector(std::max(begin, pairs_end), begin + kVectorsInT,
                     [&](int64_t v, auto is_last) { sum += walk.load_at(row, v, is_last, limit, T(0)); });
    total += double(sum_lanes<T>(sum));
  }
  const T centre = T(total / double(width));
  for (int64_t begin = 0; begin < walk.vectors; begin += kVectorsInT) {
    Lanes<T> sum{}, square{};
    walk.each_vector(begin, begin + kVectorsInT, [&](int64_t v, auto is_last) {
      const Lanes<T> d = walk.load_at(row, v, is_last, limit, centre) - centre;
      sum += d;
      square += d * d;
    });
    left += double(sum_lanes<T>(sum));
    squares += double(sum_lanes<T>(square));
  }
  left /= double(width);
  return {double(centre) + left, std::max(squares / double(width) - left * left, 0.0)};
}

}  // namespace

void layer_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y, Tensor& mean,
                        Tensor& inv_std) {
  dispatch_floating(x.dtype(), "layer_norm", [&]<typename T>() {
    const int64_t width = x.size(-1);
    const ChannelLayout layout{1, x.numel() / width, width};
    const LaneRow<T> walk(width);
    LaneScratch<T> scratch(2 * walk.vectors);
    T *factor = scratch.data(), *shift = factor + walk.vectors * kLanes<T>;
    fill_padded(factor, gamma, T(1), width);
    fill_padded(shift, beta, T(0), width);
    const T* in = x.data<T>();
    T *out = y.data<T>(), *means = mean.data<T>(), *inverses = inv_std.data<T>();
    parallel_for(layout.rows, layout.chunk_rows(), [&](int64_t begin, int64_t end) {
      const T* limit = in + end * width;
      for (int64_t r = begin; r < end; ++r) {
        const T* row = in + r * width;
        const Moments moments = row_moments(walk, row, limit, width);
        const T centre = means[r] = T(moments.mean), inverse = inverses[r] = T(1 / std::sqrt(moments.variance + eps));
        walk.each_vector(0, walk.vectors, [&](int64_t v, auto is_last) {
          const Lanes<T> xhat = (walk.load_at(row, v, is_last, limit, T(0)) - centre) * inverse;
          walk.store_at(out + r * width, v, is_last, out + end * width, xhat * load(factor + v * kLanes<T>) + load(shift + v * kLanes<T>));
        });
      }
    });
  });
}

void layer_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& gamma, const Tensor& mean, const Tensor& inv_std,
                         Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta) {
  dispatch_floating(x.dtype(), "layer_norm", [&]<typename T>() {
    const int64_t width = x.size(-1);
    const ChannelLayout layout{1, x.numel() / width, width};
    const LaneRow<T> walk(width);
    const int64_t padded = walk.vectors * kLanes<T>, step = layout.chunk_rows(), chunks = layout.chunks();
    LaneScratch<T> factors(walk.vectors);
    fill_padded(factors.data(), gamma, T(1), width);
    const T *gradient = grad_y.data<T>(), *in = x.data<T>(), *factor = factors.data();
    T* out = grad_x.defined() ? grad_x.data<T>() : nullptr;
    std::vector<double> gamma_parts(size_t(chunks * padded)), beta_parts(gamma_parts.size());

    parallel_for(layout.rows, step, [&](int64_t begin, int64_t end) {
      LaneScratch<T> sums(2 * walk.vectors);
      T *gamma_sum = sums.data(), *beta_sum = gamma_sum + padded;
      const T *g_limit = gradient + end * width, *x_limit = in + end * width;
      const int64_t slot = begin / step * padded;
      for (int64_t r = begin; r < end; ++r) {
        const T *g_row = gradient + r * width, *x_row = in + r * width;
        const T centre = mean.data<T>()[r], inverse = inv_std.data<T>()[r];
        double h_total = 0, product_total = 0;
        for (int64_t first = 0; first < walk.vectors; first += kVectorsInT) {
          Lanes<T> h_sum{}, product_sum{};
          walk.each_vector(first, first + kVectorsInT, [&](int64_t v, auto is_last) {
            const Lanes<T> g = walk.load_at(g_row, v, is_last, g_limit, T(0));
            const Lanes<T> xhat = (walk.load_at(x_row, v, is_last, x_limit, centre) - centre) * inverse;
            const Lanes<T> h = g * load(factor + v * kLanes<T>);
            h_sum += h;
            product_sum += h * xhat;
            store(gamma_sum + v * kLanes<T>, load(gamma_sum + v * kLanes<T>) + g * xhat);
            store(beta_sum + v * kLanes<T>, load(beta_sum + v * kLanes<T>) + g);
          });
          h_total += double(sum_lanes<T>(h_sum));
          product_total += double(sum_lanes<T>(product_sum));
        }
        if (out) {
          const T h_mean = T(h_total / double(width)), product_mean = T(product_total / double(width));
          walk.each_vector(0, walk.vectors, [&](int64_t v, auto is_last) {
            const Lanes<T> h = walk.load_at(g_row, v, is_last, g_limit, T(0)) * load(factor + v * kLanes<T>);
            const Lanes<T> xhat = (walk.load_at(x_row, v, is_last, x_limit, centre) - centre) * inverse;
            walk.store_at(out + r * width, v, is_last, out + end * width, (h - h_mean - xhat * product_mean) * inverse);
          });
        }
        if ((r - begin + 1) % detail::kRowsInT == 0 || r + 1 == end) {
          detail::flush_sums(padded, gamma_sum, beta_sum, gamma_parts.data() + slot, beta_parts.data() + slot);
        }
      }
    });
    for (int64_t k = 1; k < chunks; ++k) {
      for (int64_t c = 0; c < padded; ++c) {
        gamma_parts[c] += gamma_parts[k * padded + c];
        beta_parts[c] += beta_parts[k * padded + c];
      }
    }
    gamma_parts.resize(size_t(padded));  // zeros when there was no row
    beta_parts.resize(size_t(padded));
    for (int64_t c = 0; c < width; ++c) {
      if (grad_gamma.defined()) grad_gamma.data<T>()[c] = T(gamma_parts[c]);
      if (grad_beta.defined()) grad_beta.data<T>()[c] = T(beta_parts[c]);
    }
  });
}

}  // namespace eq::cpu
