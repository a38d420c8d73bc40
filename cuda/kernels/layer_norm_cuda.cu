// A team of threads has a row in registers, so that each value is read once: part of a warp (up to 16 values per thread,
// several rows per warp where they are short), or a block. Sums over a row: a few values in Wide<T>, then double. For the
// gradients of gamma and beta a thread adds its channels over at most 32 rows in Wide<T>, a block adds its teams in double,
// and a second kernel the blocks; a block has a number of rows fixed by the shape. Rows longer than kMostBlockThreads
// threads hold are read again from the caches.

#include "core/kernels/layer_norm.h"

#include "cuda/block.h"
#include "cuda/channel_passes.h"

namespace eq::cuda {
namespace {

constexpr int kMostBlockThreads = 256;

// Packs of a thread.
template <class T, int N>
constexpr int kPacks = N == 1 || sizeof(T) == 8 ? 4 : 16 / N;

// Who has a row: `size` neighbouring threads of a warp (a power of two), or a whole block.
struct Team {
  int size;
  int64_t rows;        // of x
  int64_t block_rows;  // of a block
  int width;           // C
  double share;        // 1 / C: divisions of doubles take some thirty instructions
};

template <bool kBlock>
__device__ double team_sum(double value, int size) {
  if constexpr (kBlock) {
    return block_sum(value);
  } else {
    for (int distance = size / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(0xffffffffu, value, distance);
    return value;
  }
}

// Calls body(row, exists, load(row, exists)) for the team's rows; the next row is loaded before. Every thread of the block goes
// through as many rounds, since teams of a warp sum together.
template <class Load, class Body>
__device__ void for_rows(const Team& team, const Load& load, const Body& body) {
  const int64_t begin = int64_t(blockIdx.x) * team.block_rows, end = std::min(team.rows, begin + team.block_rows);
  const int teams = int(blockDim.x) / team.size;
  int64_t row = begin + int(threadIdx.x) / team.size;
  auto next = load(row, row < end);
  for (int64_t round = begin; round < end; round += teams, row += teams) {
    const auto current = next;
    if (round + teams < end) next = load(row + teams, row + teams < end);
    body(row, row < end, current);
  }
}

// 1 / sqrt(x), to W.
__device__ inline float inverse_root(double x, float) { return 1 / std::sqrt(float(x)); }
__device__ inline double inverse_root(double x, double) { return 1 / std::sqrt(x); }

// The values of an optional [C] vector that belong to this thread's packs.
template <class W, int N, int K>
__device__ void load_vector(const W* from, W missing, const Team& team, W (&to)[K][N]) {
  const int lane = int(threadIdx.x) % team.size;
  for (int k = 0; k < K; ++k) {
    const int c = (lane + k * team.size) * N;
    for (int i = 0; i < N; ++i) to[k][i] = from != nullptr && c < team.width ? from[c + i] : missing;
  }
}

// This thread's packs of a row; zeros behind its end.
template <class T, int N, int K>
struct RowPacks {
  Pack<T, N> packs[K];

  __device__ RowPacks(const T* row, bool exists, const Team& team) {
    const int lane = int(threadIdx.x) % team.size;
    for (int k = 0; k < K; ++k) {
      const int c = (lane + k * team.size) * N;
      packs[k] = exists && c < team.width ? load_pack<T, N>(row + c) : Pack<T, N>{};
    }
  }
};

template <class T, int N, bool kBlock>
__global__ void __launch_bounds__(kThreads)
    layer_norm_forward_kernel(Team team, const T* __restrict__ x, const Wide<T>* gamma, const Wide<T>* beta, double eps,
                              T* __restrict__ y, Wide<T>* means, Wide<T>* inv_stds) {
  using W = Wide<T>;
  constexpr int K = kPacks<T, N>;
  const int lane = int(threadIdx.x) % team.size;
  W factor[K][N], shift[K][N];
  load_vector<W, N, K>(gamma, W(1), team, factor);
  load_vector<W, N, K>(beta, W(0), team, shift);
  const auto load = [&](int64_t row, bool exists) { return RowPacks<T, N, K>(x + row * team.width, exists, team); };
  for_rows(team, load, [&](int64_t row, bool exists, const RowPacks<T, N, K>& in) {
    W total = 0;
    for (int k = 0; k < K; ++k) {
      for (int i = 0; i < N; ++i) total += W(in.packs[k][i]);
    }
    // The variance is summed around a first mean, and both are corrected by what that mean's rounding left over.
    const W first = W(team_sum<kBlock>(double(total), team.size) * team.share);
    W left = 0, squares = 0;
    for (int k = 0; k < K; ++k) {
      if ((lane + k * team.size) * N >= team.width) continue;
      for (int i = 0; i < N; ++i) {
        const W d = W(in.packs[k][i]) - first;
        left += d;
        squares += d * d;
      }
    }
    const double over = team_sum<kBlock>(double(left), team.size) * team.share;
    const double spread = team_sum<kBlock>(double(squares), team.size) * team.share - over * over;
    const W centre = W(double(first) + over), inverse = inverse_root((spread < 0 ? 0 : spread) + eps, W());
    if (!exists) return;
    if (lane == 0) means[row] = centre, inv_stds[row] = inverse;
    for (int k = 0; k < K; ++k) {
      const int c = (lane + k * team.size) * N;
      if (c >= team.width) continue;
      Pack<T, N> out;
      for (int i = 0; i < N; ++i) out[i] = T((W(in.packs[k][i]) - centre) * inverse * factor[k][i] + shift[k][i]);
      store_pack(y + row * team.width + c, out);
    }
  });
}

// parts: [2, blocks, C], sums of g * xhat and of g; nullptr: not wanted.
template <class T, int N, bool kBlock>
__global__ void __launch_bounds__(kThreads)
    layer_norm_backward_kernel(Team team, const T* __restrict__ grad_y, const T* __restrict__ x, const Wide<T>* gamma,
                               const Wide<T>* means, const Wide<T>* inv_stds, T* __restrict__ grad_x, double* parts) {
  using W = Wide<T>;
  constexpr int K = kPacks<T, N>;
  const int lane = int(threadIdx.x) % team.size;
  W factor[K][N], gamma_sums[K][N] = {}, beta_sums[K][N] = {};
  load_vector<W, N, K>(gamma, W(1), team, factor);
  struct Statistics {  // of a row; two rows of values would take too many registers
    W centre, inverse;
  };
  const auto load = [&](int64_t row, bool exists) {
    return exists ? Statistics{means[row], inv_stds[row]} : Statistics{};
  };
  for_rows(team, load, [&](int64_t row, bool exists, const Statistics& statistics) {
    const RowPacks<T, N, K> g(grad_y + row * team.width, exists, team), in(x + row * team.width, exists, team);
    const W centre = statistics.centre, inverse = statistics.inverse;
    W h = 0, products = 0;
    for (int k = 0; k < K; ++k) {
      for (int i = 0; i < N; ++i) {
        const W gradient = W(g.packs[k][i]),
                xhat = (W(in.packs[k][i]) - centre) * inverse;  // the gradient is 0 behind the row's end
        h += gradient * factor[k][i];
        products += gradient * factor[k][i] * xhat;
        gamma_sums[k][i] += gradient * xhat;
        beta_sums[k][i] += gradient;
      }
    }
    if (grad_x == nullptr) return;
    const W h_mean = W(team_sum<kBlock>(double(h), team.size) * team.share);
    const W product_mean = W(team_sum<kBlock>(double(products), team.size) * team.share);
    if (!exists) return;
    for (int k = 0; k < K; ++k) {
      const int c = (lane + k * team.size) * N;
      if (c >= team.width) continue;
      Pack<T, N> out;
      for (int i = 0; i < N; ++i) {
        const W xhat = (W(in.packs[k][i]) - centre) * inverse;
        out[i] = T((W(g.packs[k][i]) * factor[k][i] - h_mean - xhat * product_mean) * inverse);
      }
      store_pack(grad_x + row * team.width + c, out);
    }
  });
  if (parts == nullptr) return;
  const int teams = int(blockDim.x) / team.size, own = int(threadIdx.x) / team.size;
  for (int k = 0; k < K; ++k) {
    double a[N], b[N];
    for (int i = 0; i < N; ++i) a[i] = double(gamma_sums[k][i]), b[i] = double(beta_sums[k][i]);
    sum_columns<N>(a, b, team.size, teams, own);
    const int c = (lane + k * team.size) * N;
    if (own != 0 || c >= team.width) continue;
    double* part = parts + int64_t(blockIdx.x) * team.width + c;
    for (int i = 0; i < N; ++i) part[i] = a[i];
    for (int i = 0; i < N; ++i) part[int64_t(gridDim.x) * team.width + i] = b[i];
  }
}

// --- rows too long for a block's registers: a block per row, read several times ---

template <class T>
__global__ void long_forward_kernel(int64_t width, const T* x, const Wide<T>* gamma, const Wide<T>* beta, double eps, T* y,
                                    Wide<T>* means, Wide<T>* inv_stds) {
  using W = Wide<T>;
  const T* in = x + blockIdx.x * width;
  double total = 0, squares = 0;
  for (int64_t c = threadIdx.x; c < width; c += kThreads) total += double(in[c]);
  const double mean = block_sum(total) / double(width);
  for (int64_t c = threadIdx.x; c < width; c += kThreads) squares += (double(in[c]) - mean) * (double(in[c]) - mean);
  const W centre = W(mean), inverse = W(1 / std::sqrt(block_sum(squares) / double(width) + eps));
  if (threadIdx.x == 0) means[blockIdx.x] = centre, inv_stds[blockIdx.x] = inverse;
  for (int64_t c = threadIdx.x; c < width; c += kThreads) {
    const W xhat = (W(in[c]) - centre) * inverse;
    y[blockIdx.x * width + c] = T(xhat * (gamma != nullptr ? gamma[c] : W(1)) + (beta != nullptr ? beta[c] : W(0)));
  }
}

template <class T>
__global__ void long_backward_kernel(int64_t width, const T* grad_y, const T* x, const Wide<T>* gamma, const Wide<T>* means,
                                     const Wide<T>* inv_stds, T* grad_x) {
  using W = Wide<T>;
  const int64_t at = blockIdx.x * width;
  const W centre = means[blockIdx.x], inverse = inv_stds[blockIdx.x];
  const auto h = [&](int64_t c) { return W(grad_y[at + c]) * (gamma != nullptr ? gamma[c] : W(1)); };
  const auto xhat = [&](int64_t c) { return (W(x[at + c]) - centre) * inverse; };
  double total = 0, products = 0;
  for (int64_t c = threadIdx.x; c < width; c += kThreads) total += double(h(c)), products += double(h(c) * xhat(c));
  const W h_mean = W(block_sum(total) / double(width)), product_mean = W(block_sum(products) / double(width));
  for (int64_t c = threadIdx.x; c < width; c += kThreads)
    grad_x[at + c] = T((h(c) - h_mean - xhat(c) * product_mean) * inverse);
}

// Sums over a chunk of rows, a thread per channel.
constexpr int64_t kLongChunk = 128;
template <class T>
struct LongSums {
  int64_t rows, width;
  const T *grad_y, *x;
  const Wide<T> *means, *inv_stds;
  double* parts;  // [2, chunks, C]
  int64_t chunks;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const int64_t c = i % width, begin = i / width * kLongChunk, end = std::min(rows, begin + kLongChunk);
    double gamma_sum = 0, beta_sum = 0;
    for (int64_t row = begin; row < end; ++row) {
      const double g = double(grad_y[row * width + c]);
      gamma_sum += g * double((Wide<T>(x[row * width + c]) - means[row]) * inv_stds[row]);
      beta_sum += g;
    }
    parts[i] = gamma_sum;
    parts[chunks * width + i] = beta_sum;
  }
};

template <class W>
struct FinishGradients {
  W *grad_gamma, *grad_beta;
  __device__ void operator()(int64_t, int64_t c, double first, double second) const {
    if (grad_gamma != nullptr) grad_gamma[c] = W(first);
    if (grad_beta != nullptr) grad_beta[c] = W(second);
  }
};

struct Plan {
  Team team;
  bool block;
  unsigned blocks, threads;
};

// Calls fn.template operator()<N, kBlock>(plan), or returns false for rows too long. A team takes `least_rows` to
// `most_rows` rows.
template <class T, class Fn, class... Pointers>
bool with_team(int64_t rows, int64_t width, int64_t least_rows, int64_t most_rows, Fn&& fn, const Pointers*... pointers) {
  return with_pack<T>(
      width,
      [&]<int N>() {
        const int64_t packs = width / N, threads = (packs + kPacks<T, N> - 1) / kPacks<T, N>;
        if (threads > kMostBlockThreads) return false;
        Plan plan{{1, rows, 0, int(width), 1 / double(width)}, threads > 32, 0, 0};
        if (plan.block) plan.team.size = int((threads + 31) / 32 * 32);
        while (!plan.block && plan.team.size < threads) plan.team.size *= 2;
        plan.threads = unsigned(plan.block ? plan.team.size : kThreads);
        const int64_t teams = plan.threads / unsigned(plan.team.size);
        plan.team.block_rows = teams * std::clamp<int64_t>(rows / (teams * 1024), least_rows, most_rows);
        plan.blocks = blocks_for(rows, plan.team.block_rows);
        if (plan.block) {
          fn.template operator()<N, true>(plan);
        } else {
          fn.template operator()<N, false>(plan);
        }
        return true;
      },
      pointers...);
}

}  // namespace

void layer_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y, Tensor& mean,
                        Tensor& inv_std) {
  dispatch(x.dtype(), "layer_norm", [&]<typename T>() {
    using W = Wide<T>;
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const T* in = data<T>(x);
    T* out = data<T>(y);
    const W *factor = data<W>(gamma), *shift = data<W>(beta);
    W *means = data<W>(mean), *inv_stds = data<W>(inv_std);
    const auto run = [&]<int N, bool kBlock>(const Plan& plan) {
      launch(x.device(), "layer_norm", Grid{plan.blocks, plan.threads}, layer_norm_forward_kernel<T, N, kBlock>, plan.team,
             in, factor, shift, eps, out, means, inv_stds);
    };
    if (with_team<T>(rows, width, 1, 8, run, in, out)) return;
    launch(x.device(), "layer_norm", Grid{blocks_for(rows, 1), kThreads}, long_forward_kernel<T>, width, in, factor, shift,
           eps, out, means, inv_stds);
  });
}

void layer_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& gamma, const Tensor& mean,
                         const Tensor& inv_std, Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta) {
  dispatch(x.dtype(), "layer_norm", [&]<typename T>() {
    using W = Wide<T>;
    const int64_t width = x.size(-1), rows = x.numel() / width;
    const T *g = data<T>(grad_y), *in = data<T>(x);
    T* out = data<T>(grad_x);
    const W *factor = data<W>(gamma), *means = data<W>(mean), *inv_stds = data<W>(inv_std);
    const bool sums = grad_gamma.defined() || grad_beta.defined();
    Tensor parts;
    int64_t chunks = 0;
    const auto make_parts = [&](int64_t count) {
      chunks = count;
      if (sums) parts = Tensor::empty({2, chunks, width}, DType::kFloat64, x.device());
    };
    const auto run = [&]<int N, bool kBlock>(const Plan& plan) {
      make_parts(plan.blocks);
      const Grid grid{plan.blocks, plan.threads, sums ? kColumnBytes<N> : 0};
      launch(x.device(), "layer_norm adjoint", grid, layer_norm_backward_kernel<T, N, kBlock>, plan.team, g, in, factor,
             means, inv_stds, out, data<double>(parts));
    };
    if (!with_team<T>(rows, width, 4, 32, run, g, in, out)) {
      make_parts((rows + kLongChunk - 1) / kLongChunk);
      if (out != nullptr) {
        launch(x.device(), "layer_norm adjoint", Grid{blocks_for(rows, 1), kThreads}, long_backward_kernel<T>, width, g, in,
               factor, means, inv_stds, out);
      }
      if (sums) {
        for_each(x.device(), "layer_norm sums", chunks * width,
                 LongSums<T>{rows, width, g, in, means, inv_stds, data<double>(parts), chunks});
      }
    }
    if (sums) {
      channel_finish(x.device(), 1, chunks, width, data<double>(parts),
                     FinishGradients<W>{data<W>(grad_gamma), data<W>(grad_beta)});
    }
  });
}

}  // namespace eq::cuda
