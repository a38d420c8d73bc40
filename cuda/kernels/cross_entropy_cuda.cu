// Rows of logits as cuda/class_rows.h has them: each pass reads them once, and writes the gradient once. Blocks keep the sum of
// their losses and their first bad label; one block adds those up. The sum of weights that kMeanValid divides by takes a pass
// over the labels alone before, and stays on the device.

#include "core/kernels/cross_entropy.h"

#include "cuda/class_labels.h"

namespace eq::cuda {
namespace {

using Reduction = CrossEntropyOptions::Reduction;

constexpr int64_t kMostBlocks = 4096;  // partial sums that the last block adds up

// Each block: the sum of the weights of the valid positions in its chunk.
template <class W>
__global__ void label_weights(ClassLabels labels, const W* weights, int64_t chunk, double* parts) {
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

__global__ void __launch_bounds__(kLastThreads) invert_weights(const double* parts, int count, double* scale) {
  const double sum = sum_of(parts, count);
  if (threadIdx.x == 0) *scale = sum == 0 ? 0 : 1 / sum;
}

template <class T>
struct Problem {
  const T* logits;
  ClassLabels labels;
  const Wide<T>* weights;  // or null
  double scale;            // 1 / denominator
  const double* scale_at;  // or null: it is `scale`
  const T* grad_loss;      // or null: it is 1
  T* gradient;             // or null

  __device__ Wide<T> gradient_scale() const {
    const Wide<T> whole = Wide<T>(scale_at == nullptr ? scale : *scale_at);
    return grad_loss == nullptr ? whole : whole * Wide<T>(*grad_loss);
  }
};

// losses: of each block, or null.
template <class T, class Kind>
__global__ void __launch_bounds__(Kind::kLong ? kThreads : kTileThreads)
    cross_entropy_kernel(RowTile tile, Problem<T> problem, double* losses, int64_t* first_bad) {
  using W = Wide<T>;
  constexpr bool kLong = Kind::kLong;
  const ClassLabels& labels = problem.labels;
  const W scale = problem.gradient_scale();
  const RowPart<Kind> part(tile);
  // Two tiles of each warp: one is computed while the next comes.
  T* buffers = shared_memory<T>() + threadIdx.x / kWarp * 2 * tile.values();
  // Neighbours have neighbouring tiles at the same time.
  const unsigned first_tile = kLong ? blockIdx.x : warp_of_grid(), stride = kLong ? gridDim.x : gridDim.x * kTileWarps;
  const auto rows_of = [&](int round) { return TileRows(tile, first_tile + unsigned(round) * stride, labels.count); };
  // A class, or what is none.
  const auto label_of = [&](const TileRows& rows) {
    return part.row < rows.rows ? labels.class_at(rows.first_row + part.row) : ClassLabels::kIgnored;
  };
  TileRows next = rows_of(0);
  int next_label = label_of(next);
  if constexpr (!kLong) load_tile<Kind>(tile, problem.logits + next.first, next.count, buffers);
  double loss = 0;
  int64_t bad = kNoPosition;
  EQ_UNROLL(1)
  for (int round = 0; next.rows > 0; ++round) {
    const TileRows rows = next;
    const int label = next_label;
    T* shared = buffers + round % 2 * tile.values();
    next = rows_of(round + 1);
    if constexpr (!kLong) {
      if (round > 0) __syncwarp();  // the tile before is still leaving
      load_tile<Kind>(tile, problem.logits + next.first, next.count, buffers + (round + 1) % 2 * tile.values());
    }
    next_label = label_of(next);
    const bool valid = label >= 0;
    if (label == ClassLabels::kBad) bad = Smaller()(bad, rows.first_row + part.row);
    const W weight = !valid ? W(0) : problem.weights == nullptr ? W(1) : problem.weights[label];
    if constexpr (!kLong) {
      wait_for_copies<1>();
      __syncwarp();
    }
    const T* in = kLong ? problem.logits + rows.first : shared;
    RowExponentials<T, Kind> exponentials(part, in);
    const int own = valid ? part.find(label) : -1;  // one thread of the row has the label's logit
    const W shifted = own < 0 ? W(0) : W(in[own]) - exponentials.top, inverse = 1 / exponentials.total;
    if (own >= 0 && losses != nullptr) loss += double(weight * (log_of_total(exponentials.total) - shifted));
    if (problem.gradient == nullptr) continue;
    T* out = kLong ? problem.gradient + rows.first : shared;
    const W peak = weight * scale, factor = valid ? peak * inverse : W(0);
    if constexpr (kLong) {
      part.each([&](int v, int i) { out[i] = valid ? T(exponentials(v, i) * factor) : T(W(0)); });
    } else {
      if (!valid) exponentials.clear();  // whatever the logits are, even NaN
      part.each([&](int v, int i) { out[i] = T(exponentials(v, i) * factor); });
    }
    if (own >= 0) out[own] = T(exp_difference(shifted) * factor - peak);
    if constexpr (!kLong) {
      __syncwarp();
      store_tile<Kind>(tile, shared, rows.count, problem.gradient + rows.first);
    }
  }
  if (losses == nullptr) return;
  constexpr int kWarps = (kLong ? kThreads : kTileThreads) / kWarp;
  __shared__ double warp_losses[kWarps];
  __shared__ int64_t warp_bad[kWarps];
  loss = warp_reduce(loss, Add());
  if (__ballot_sync(0xffffffffu, bad != kNoPosition) != 0) bad = warp_reduce(bad, Smaller());
  if (threadIdx.x % kWarp == 0) warp_losses[threadIdx.x / kWarp] = loss, warp_bad[threadIdx.x / kWarp] = bad;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kWarps; ++warp) {
    loss += warp_losses[warp];
    bad = Smaller()(bad, warp_bad[warp]);
  }
  losses[blockIdx.x] = loss, first_bad[blockIdx.x] = bad;
}

// The loss, and what is wrong with the labels.
template <class L>
__global__ void __launch_bounds__(kLastThreads)
    finish(const double* losses, const int64_t* first_bad, int count, double scale, const double* scale_at, ClassLabels labels, L* loss,
           int64_t* found) {
  const double sum = sum_of(losses, count);
  if (threadIdx.x == 0) *loss = L(sum * (scale_at == nullptr ? scale : *scale_at));
  labels.report(first_bad, count, found);
}

// 1 / sum of weights over the valid positions, or 0; on the device.
template <class W>
Tensor inverse_weight(const ClassLabels& labels, const W* weights, Device device) {
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
Problem<T> problem_of(const Tensor& logits, const ClassLabels& labels, const CrossEntropyOptions& options, Tensor& scale_at) {
  const Wide<T>* weights = data<Wide<T>>(options.class_weights);
  if (options.reduction == Reduction::kMeanValid) scale_at = inverse_weight(labels, weights, logits.device());
  const double scale = options.reduction == Reduction::kMeanAll ? 1 / double(labels.count) : 1;
  return {data<T>(logits), labels, weights, scale, data<double>(scale_at), nullptr, nullptr};
}

// Shares the tiles among blocks, whose number is the result.
template <class T>
unsigned plan(const Problem<T>& problem, RowTile& tile) {
  tile = row_tile<T>(problem.labels.classes, problem.logits, problem.gradient);
  return blocks_of(tile, problem.labels.count, kMostBlocks);
}

// losses, first_bad: of each block, or null.
template <class T>
void run(Device device, const RowTile& tile, unsigned blocks, const Problem<T>& problem, double* losses, int64_t* first_bad) {
  with_row_kind<T>(tile, [&]<class Kind>(Kind) {
    launch(device, "cross_entropy", Grid{blocks, tile.threads(), 2 * tile.shared_bytes<T>()}, cross_entropy_kernel<T, Kind>, tile,
           problem, losses, first_bad);
  });
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options, Tensor& loss,
                   Tensor& grad_logits) {
  if (labels.numel() == 0) {
    loss.fill_(0);
    return;
  }
  const Device device = logits.device();
  int64_t* const found = report_cell(device);
  const ClassLabels view(labels, logits, options.ignore_index);
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
             problem.scale, problem.scale_at, view, data<L>(loss), found);
    });
  });
  report_bad_label("cross_entropy", device, found, view, labels.shape());
}

void cross_entropy_backward(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options,
                            const Tensor& grad_loss, Tensor& grad_logits) {
  if (labels.numel() == 0) return;
  const ClassLabels view(labels, logits, options.ignore_index);
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
