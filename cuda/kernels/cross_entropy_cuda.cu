// Rows of logits as cuda/class_rows.h has them: each pass reads them once, and writes the gradient once. Blocks keep the sum of
// their losses and their first bad label; one block adds those up. The sum of weights that kMeanValid divides by takes a pass
// over the labels alone before, and stays on the device.

#include "core/kernels/cross_entropy.h"

#include "cuda/class_rows.h"

namespace eq::cuda {
namespace {

using Reduction = CrossEntropyOptions::Reduction;

constexpr int64_t kMostBlocks = 4096;  // partial sums that the last block adds up
constexpr int kLastThreads = 1024;     // of that block
constexpr int64_t kNone = std::numeric_limits<int64_t>::max();

struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

struct Labels {
  const void* values;
  DType dtype;
  int64_t count, classes, ignore;

  __device__ int64_t at(int64_t i) const {
    if (dtype == DType::kUInt8) return static_cast<const uint8_t*>(values)[i];
    if (dtype == DType::kInt32) return static_cast<const int32_t*>(values)[i];
    return static_cast<const int64_t*>(values)[i];
  }
  __device__ bool is_class(int64_t label) const { return uint64_t(label) < uint64_t(classes); }
};

// Each block: the sum of the weights of the valid positions in its chunk.
template <class W>
__global__ void label_weights(Labels labels, const W* weights, int64_t chunk, double* parts) {
  const int64_t begin = int64_t(blockIdx.x) * chunk, limit = begin + chunk < labels.count ? begin + chunk : labels.count;
  double sum = 0;
  EQ_UNROLL(4)
  for (int64_t i = begin + threadIdx.x; i < limit; i += kThreads) {
    const int64_t label = labels.at(i);
    if (label != labels.ignore && labels.is_class(label)) sum += weights == nullptr ? 1 : double(weights[label]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The sum of `count` numbers, by one block.
__device__ inline double sum_of(const double* parts, int count) {
  double sum = 0;
  for (int i = int(threadIdx.x); i < count; i += kLastThreads) sum += parts[i];
  return block_sum(sum);
}

__global__ void invert_weights(const double* parts, int count, double* scale) {
  const double sum = sum_of(parts, count);
  if (threadIdx.x == 0) *scale = sum == 0 ? 0 : 1 / sum;
}

template <class T>
struct Problem {
  const T* logits;
  Labels labels;
  const Wide<T>* weights;  // or null
  double scale;            // 1 / denominator
  const double* scale_at;  // or null: it is `scale`
  const T* grad_loss;      // or null: it is 1
  T* gradient;             // or null
  int rounds;              // tiles of a block

  __device__ Wide<T> gradient_scale() const {
    const Wide<T> whole = Wide<T>(scale_at == nullptr ? scale : *scale_at);
    return grad_loss == nullptr ? whole : whole * Wide<T>(*grad_loss);
  }
};

// losses: of each block, or null.
template <class T, bool kLong>
__global__ void __launch_bounds__(kLong ? kThreads : kTileThreads)
    cross_entropy_kernel(RowTile tile, Problem<T> problem, double* losses, int64_t* first_bad) {
  using W = Wide<T>;
  const Labels& labels = problem.labels;
  const W scale = problem.gradient_scale();
  const RowPart<kLong> part(tile);
  T* buffers = shared_memory<T>();  // two tiles: one is computed while the next comes
  const auto rows_of = [&](int round) {
    return TileRows(tile, blockIdx.x * unsigned(problem.rounds) + unsigned(round), labels.count);
  };
  const auto load = [&](int round) {
    if (round < problem.rounds) {
      if (const TileRows rows = rows_of(round); rows.rows > 0) {
        return load_tile(tile, problem.logits + rows.first, rows.count, buffers + round % 2 * tile.values());
      }
    }
    close_copies();
  };
  if constexpr (!kLong) load(0);
  double loss = 0;
  int64_t bad = kNone;
  EQ_UNROLL(1)
  for (int round = 0; round < problem.rounds; ++round) {
    const TileRows rows = rows_of(round);
    if (rows.rows <= 0) break;
    T* shared = buffers + round % 2 * tile.values();
    if constexpr (!kLong) {
      if (round > 0) __syncthreads();  // the tile before is still leaving
      load(round + 1);
    }
    const int64_t at = rows.first_row + part.row, label = part.row < rows.rows ? labels.at(at) : labels.ignore;
    const bool valid = label != labels.ignore && labels.is_class(label);
    if (label != labels.ignore && !valid) bad = Smaller()(bad, at);
    const W weight = !valid ? W(0) : problem.weights == nullptr ? W(1) : problem.weights[label];
    if constexpr (!kLong) {
      wait_for_copies<1>();
      __syncthreads();
    }
    const T* in = kLong ? problem.logits + rows.first : shared;
    const RowExponentials<T, kLong> exponentials(part, in);
    const int own = valid ? part.find(int(label)) : -1;  // one thread of the row has the label's logit
    const W shifted = own < 0 ? W(0) : W(in[own]) - exponentials.top;
    if (own >= 0 && losses != nullptr) loss += double(weight * (std::log(exponentials.total) - shifted));
    if (problem.gradient == nullptr) continue;
    T* out = kLong ? problem.gradient + rows.first : shared;
    const W peak = weight * scale, factor = peak / exponentials.total;
    if (valid) {
      part.each([&](int v, int i) { out[i] = T(exponentials(v, i) * factor); });
    } else {  // whatever the logits are, even NaN
      part.each([&](int, int i) { out[i] = T(W(0)); });
    }
    if (own >= 0) out[own] = T(exp_difference(shifted) * factor - peak);
    if constexpr (!kLong) {
      __syncthreads();
      store_tile(tile, shared, rows.count, problem.gradient + rows.first);
    }
  }
  if (losses == nullptr) return;
  loss = block_sum(loss);
  bad = block_reduce(bad, kNone, Smaller());
  if (threadIdx.x == 0) losses[blockIdx.x] = loss, first_bad[blockIdx.x] = bad;
}

// The loss, and the position and value of the first bad label (position -1: none).
template <class L>
__global__ void finish(const double* losses, const int64_t* first_bad, int count, double scale, const double* scale_at,
                       Labels labels, L* loss, int64_t* found) {
  const double sum = sum_of(losses, count);
  int64_t bad = kNone;
  for (int i = int(threadIdx.x); i < count; i += kLastThreads) bad = Smaller()(bad, first_bad[i]);
  bad = block_reduce(bad, kNone, Smaller());
  if (threadIdx.x != 0) return;
  *loss = L(sum * (scale_at == nullptr ? scale : *scale_at));
  found[0] = bad == kNone ? -1 : bad;
  found[1] = bad == kNone ? 0 : labels.at(bad);
}

// 1 / sum of weights over the valid positions, or 0; on the device.
template <class W>
Tensor inverse_weight(const Labels& labels, const W* weights, Device device) {
  const int64_t chunk = std::max<int64_t>(16 * kThreads, (labels.count + kMostBlocks - 1) / kMostBlocks);
  const unsigned blocks = blocks_for(labels.count, chunk);
  const Tensor parts = Tensor::empty({int64_t(blocks)}, DType::kFloat64, device),
               scale = Tensor::empty({1}, DType::kFloat64, device);
  launch(device, "cross_entropy", Grid{blocks, kThreads}, label_weights<W>, labels, weights, chunk, data<double>(parts));
  launch(device, "cross_entropy", Grid{1, kLastThreads}, invert_weights, data<double>(parts), int(blocks), data<double>(scale));
  return scale;
}

// What the loss and its gradient have in common. `scale_at` must live until the launch.
template <class T>
Problem<T> problem_of(const Tensor& logits, const Labels& labels, const CrossEntropyOptions& options, Tensor& scale_at) {
  const Wide<T>* weights = data<Wide<T>>(options.class_weights);
  if (options.reduction == Reduction::kMeanValid) scale_at = inverse_weight(labels, weights, logits.device());
  const double scale = options.reduction == Reduction::kMeanAll ? 1 / double(labels.count) : 1;
  return {data<T>(logits), labels, weights, scale, data<double>(scale_at), nullptr, nullptr, 1};
}

// Shares the tiles among blocks, whose number is the result.
template <class T>
unsigned plan(Problem<T>& problem, RowTile& tile) {
  tile = row_tile<T>(problem.labels.classes, problem.logits, problem.gradient);
  const int64_t tiles = (problem.labels.count + tile.height - 1) / tile.height, rounds = (tiles + kMostBlocks - 1) / kMostBlocks;
  problem.rounds = int(rounds);
  return blocks_for(tiles, rounds);
}

// losses, first_bad: of each block, or null.
template <class T>
void run(Device device, const RowTile& tile, unsigned blocks, const Problem<T>& problem, double* losses, int64_t* first_bad) {
  with_length(tile, [&]<bool kLong>() {
    launch(device, "cross_entropy", Grid{blocks, tile.threads(), 2 * tile.shared_bytes<T>()}, cross_entropy_kernel<T, kLong>, tile,
           problem, losses, first_bad);
  });
}

Labels labels_of(const Tensor& labels, const Tensor& logits, const CrossEntropyOptions& options) {
  return {labels.raw_data(), labels.dtype(), labels.numel(), logits.size(-1), options.ignore_index};
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options, Tensor& loss,
                   Tensor& grad_logits) {
  if (labels.numel() == 0) {
    loss.fill_(0);
    return;
  }
  const Device device = logits.device();
  const Tensor found = Tensor::empty({2}, DType::kInt64, device);
  const Labels view = labels_of(labels, logits, options);
  dispatch(logits.dtype(), "cross_entropy", [&]<typename T>() {
    Tensor scale_at;
    Problem<T> problem = problem_of<T>(logits, view, options, scale_at);
    problem.gradient = data<T>(grad_logits);
    RowTile tile;
    const unsigned blocks = plan(problem, tile);
    const Tensor losses = Tensor::empty({int64_t(blocks)}, DType::kFloat64, device),
                 bad = Tensor::empty({int64_t(blocks)}, DType::kInt64, device);
    run(device, tile, blocks, problem, data<double>(losses), data<int64_t>(bad));
    dispatch(loss.dtype(), "cross_entropy", [&]<typename L>() {
      launch(device, "cross_entropy", Grid{1, kLastThreads}, finish<L>, data<double>(losses), data<int64_t>(bad), int(blocks),
             problem.scale, problem.scale_at, view, data<L>(loss), data<int64_t>(found));
    });
  });
  report_later(found.alias({1}),
               [found, classes = view.classes, ignore = view.ignore, shape = labels.shape()](int64_t position) {
                 refuse_label(int64_t(found.alias({1}, 1).item()), position, classes, ignore, shape);
               });
}

void cross_entropy_backward(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options,
                            const Tensor& grad_loss, Tensor& grad_logits) {
  if (labels.numel() == 0) return;
  const Labels view = labels_of(labels, logits, options);
  dispatch(logits.dtype(), "cross_entropy", [&]<typename T>() {
    Tensor scale_at;
    Problem<T> problem = problem_of<T>(logits, view, options, scale_at);
    problem.grad_loss = data<T>(grad_loss);
    problem.gradient = data<T>(grad_logits);
    RowTile tile;
    const unsigned blocks = plan(problem, tile);
    run(logits.device(), tile, blocks, problem, nullptr, nullptr);
  });
}

}  // namespace eq::cuda
