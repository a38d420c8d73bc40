// The passes are batch norm's, per image (cuda/channel_passes.h). What belongs to a group is formed in between, on [N, C]
// values: a block per group. The gradients of gamma and beta are sums of those over the images.

#include "core/kernels/group_norm.h"

#include "cuda/block.h"
#include "cuda/channel_passes.h"

namespace eq::cuda {
namespace {

ChannelLayout layout_of(const Tensor& x) {
  const int64_t images = x.size(0), channels = x.size(-1);
  return {images, x.numel() / std::max<int64_t>(1, images * channels), channels};
}

template <class W>
ChannelAffine<W> affine_of(const ChannelLayout& layout, int64_t groups, const Tensor& gamma, const Tensor& beta,
                           const Tensor& mean, const Tensor& inv_std) {
  return {data<W>(mean), data<W>(inv_std), data<W>(gamma), data<W>(beta), groups, int(layout.channels / groups), false};
}

// Mean and sum of squared deviations of each channel of each image.
template <class T>
struct FinishMoments {
  const T* x;
  double *mean, *squares;
  int64_t rows, channels;
  __device__ void operator()(int64_t sample, int64_t c, double sum, double square) const {
    const double away = sum / double(rows), deviations = square - sum * away;
    mean[sample * channels + c] = double(x[sample * rows * channels + c]) + away;
    squares[sample * channels + c] = deviations < 0 ? 0 : deviations;
  }
};

// Block: a group of `width` channels of an image, [N, groups]. Every channel has `rows` values.
template <class W>
__global__ void group_moments_kernel(int64_t rows, int width, const double* means, const double* squares, double eps,
                                     W* mean, W* inv_std) {
  const int64_t first = int64_t(blockIdx.x) * width;
  double total = 0, spread = 0;
  for (int c = int(threadIdx.x); c < width; c += int(blockDim.x)) total += means[first + c];
  const double centre = block_sum(total) / width;
  for (int c = int(threadIdx.x); c < width; c += int(blockDim.x)) {
    const double away = means[first + c] - centre;
    spread += squares[first + c] + double(rows) * away * away;
  }
  spread = block_sum(spread);
  if (threadIdx.x != 0) return;
  mean[blockIdx.x] = W(centre);
  inv_std[blockIdx.x] = W(1 / std::sqrt(spread / (double(rows) * width) + eps));
}

// Sum of g and of g * xhat of each channel of each image.
template <class W>
struct FinishSums {
  const W* inv_std;
  double *sum, *products;
  int64_t channels, groups;
  int width;
  __device__ void operator()(int64_t sample, int64_t c, double first, double second) const {
    sum[sample * channels + c] = first;
    products[sample * channels + c] = second * double(inv_std[sample * groups + int(c) / width]);
  }
};

// Block: a group of an image. h = g * gamma.
template <class W>
__global__ void group_gradient_kernel(int64_t rows, int width, int groups, const double* sum, const double* products,
                                      const W* gamma, const W* inv_std, W* slope, W* offset) {
  const int64_t first = int64_t(blockIdx.x) * width;
  const int channel = int(blockIdx.x % unsigned(groups)) * width;
  double h = 0, h_xhat = 0;
  for (int c = int(threadIdx.x); c < width; c += int(blockDim.x)) {
    const double factor = gamma != nullptr ? double(gamma[channel + c]) : 1.0;
    h += factor * sum[first + c];
    h_xhat += factor * products[first + c];
  }
  h = block_sum(h);
  h_xhat = block_sum(h_xhat);
  if (threadIdx.x != 0) return;
  const double inverse = inv_std[blockIdx.x], per_value = -inverse / (double(rows) * width);
  offset[blockIdx.x] = W(per_value * h);
  slope[blockIdx.x] = W(per_value * h_xhat * inverse);
}

template <class W>
struct StoreGradients {
  W *grad_gamma, *grad_beta;
  __device__ void operator()(int64_t, int64_t c, double sum, double products) const {
    grad_beta[c] = W(sum);
    grad_gamma[c] = W(products);
  }
};

Grid group_grid(const ChannelLayout& layout, int64_t groups) {
  const int64_t width = layout.channels / groups;
  return {blocks_for(layout.samples * groups, 1), unsigned(std::min<int64_t>(kThreads, (width + 31) / 32 * 32))};
}

}  // namespace

void group_norm_forward(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y,
                        Tensor& mean, Tensor& inv_std) {
  dispatch(x.dtype(), "group_norm", [&]<typename T>() {
    using W = Wide<T>;
    const ChannelLayout layout = layout_of(x);
    const int64_t values = layout.samples * layout.channels;
    const Tensor moments = Tensor::empty({2, values}, DType::kFloat64, x.device());
    double *means = data<double>(moments), *squares = means + values;
    channel_moments<T>(x, layout, FinishMoments<T>{data<T>(x), means, squares, layout.rows, layout.channels});
    launch(x.device(), "group_norm moments", group_grid(layout, groups), group_moments_kernel<W>, layout.rows,
           layout.channels / groups, means, squares, eps, data<W>(mean), data<W>(inv_std));
    channel_affine<T>(x, layout, affine_of<W>(layout, groups, gamma, beta, mean, inv_std), y);
  });
}

void group_norm_backward(const Tensor& grad_y, const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& mean,
                         const Tensor& inv_std, Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta) {
  dispatch(x.dtype(), "group_norm", [&]<typename T>() {
    using W = Wide<T>;
    const ChannelLayout layout = layout_of(x);
    const int64_t values = layout.samples * layout.channels;
    const ChannelAffine<W> affine = affine_of<W>(layout, groups, gamma, {}, mean, inv_std);
    const Tensor sums = Tensor::empty({2, values}, DType::kFloat64, x.device());
    double *sum = data<double>(sums), *products = sum + values;
    channel_gradient_sums<T>(grad_y, x, layout, affine, nullptr,
                             FinishSums<W>{affine.inv_std, sum, products, layout.channels, groups, affine.width});
    // [2, 1, images, C]: the images are the chunks of this sum.
    channel_finish(x.device(), 1, layout.samples, layout.channels, sum,
                   StoreGradients<W>{data<W>(grad_gamma), data<W>(grad_beta)});
    if (!grad_x.defined()) return;
    const Tensor slope = Tensor::empty_like(mean), offset = Tensor::empty_like(mean);
    launch(x.device(), "group_norm gradient", group_grid(layout, groups), group_gradient_kernel<W>, layout.rows,
           affine.width, groups, sum, products, affine.gamma, affine.inv_std, data<W>(slope), data<W>(offset));
    channel_gradient<T>(grad_y, x, layout, affine, data<W>(slope), data<W>(offset), grad_x);
  });
}

}  // namespace eq::cuda
