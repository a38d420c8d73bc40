// Logits are read once, in registers (cuda/class_rows.h), and the gradient is written from there. Blocks keep the sum of
// their losses and their first bad label; one block adds those up. The sum of weights that kMeanValid divides by takes a
// pass over the labels alone before, and stays on the device.

#include "core/kernels/cross_entropy.h"

#include <limits>

#include "cuda/class_rows.h"

namespace eq::cuda {
namespace {

using Reduction = CrossEntropyOptions::Reduction;

constexpr int64_t kMostBlocks = 2048;  // partial sums that the last block adds up
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
  for (int64_t i = begin + threadIdx.x; i < limit; i += kThreads) {
    const int64_t label = labels.at(i);
    if (label != labels.ignore && labels.is_class(label)) sum += weights == nullptr ? 1 : double(weights[label]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The sum of `count` numbers, by one block.
__device__ double sum_of(const double* parts, int count) {
  double sum = 0;
  for (int i = int(threadIdx.x); i < count; i += kThreads) sum += parts[i];
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
  const double* scale_at;  // null: `scale`
  double scale;            // 1 / denominator
  T* gradient;             // or null
  int rounds;              // of rows that a block goes through
};

template <class T, int kHeld>
__global__ void cross_entropy_kernel(RowGrid grid, Problem<T> problem, double* losses, int64_t* first_bad) {
  using W = Wide<T>;
  constexpr W kNothing = -std::numeric_limits<W>::infinity();
  const Labels& labels = problem.labels;
  const int width = int(labels.classes), lanes = 1 << grid.log_lanes, lane = int(threadIdx.x) & (lanes - 1);
  const W scale = W(problem.scale_at == nullptr ? problem.scale : *problem.scale_at);
  double loss = 0;
  int64_t bad = kNone;
  for (int round = 0; round < problem.rounds; ++round) {
    const int64_t at = ((int64_t(blockIdx.x) * problem.rounds + round) * kThreads + threadIdx.x) >> grid.log_lanes;
    const bool exists = at < labels.count;
    const int64_t label = exists ? labels.at(at) : labels.ignore;
    const bool valid = label != labels.ignore && labels.is_class(label);
    if (label != labels.ignore && !valid) bad = Smaller()(bad, at);
    const RowLane<kHeld> row{lane, lanes, exists ? width : 0};
    const T* logits = problem.logits + at * width;
    RowValues<T, kHeld> values(row, logits);
    W top = kNothing;
    row.each([&](int v, int c) { top = Larger()(values(v, c), top); });
    top = row.combine(top, kNothing, Larger());
    values.replace(row, [&](W value) { return std::exp(value - top); });
    const auto exponential = [&](int v, int c) { return kHeld > 0 ? values(v, c) : std::exp(values(v, c) - top); };
    W total = 0;
    row.each([&](int v, int c) { total += exponential(v, c); });
    total = row.combine(total, W(0), Add());
    const W weight = !valid ? W(0) : problem.weights == nullptr ? W(1) : problem.weights[label];
    if (valid && lane == 0) loss += double(weight * (std::log(total) + (top - W(logits[label]))));
    if (problem.gradient == nullptr) continue;
    T* out = problem.gradient + at * width;
    const W peak = weight * scale, factor = peak / total;
    row.each([&](int v, int c) {
      // An ignored position's is 0 whatever the logits are, even NaN.
      out[c] = T(valid ? exponential(v, c) * factor - (c == label ? peak : W(0)) : W(0));
    });
  }
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
  for (int i = int(threadIdx.x); i < count; i += kThreads) bad = Smaller()(bad, first_bad[i]);
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
  launch(device, "cross_entropy", Grid{1, kThreads}, invert_weights, data<double>(parts), int(blocks), data<double>(scale));
  return scale;
}

template <class T>
void cross_entropy_of(const Tensor& logits, const Labels& labels, const CrossEntropyOptions& options, Tensor& loss,
                      Tensor& grad_logits, const Tensor& found) {
  const Device device = logits.device();
  const Wide<T>* weights = data<Wide<T>>(options.class_weights);
  const Tensor scale_at = options.reduction == Reduction::kMeanValid ? inverse_weight(labels, weights, device) : Tensor();
  Problem<T> problem{data<T>(logits), labels, weights, data<double>(scale_at), 1, data<T>(grad_logits), 1};
  if (options.reduction == Reduction::kMeanAll) problem.scale = 1 / double(labels.count);
  with_rows(labels.classes, [&]<int kHeld>(RowGrid grid) {
    const int64_t rounds = (labels.count + grid.rows_per_block() * kMostBlocks - 1) / (grid.rows_per_block() * kMostBlocks);
    problem.rounds = int(rounds);
    const unsigned blocks = blocks_for(labels.count, rounds * grid.rows_per_block());
    const Tensor losses = Tensor::empty({int64_t(blocks)}, DType::kFloat64, device),
                 bad = Tensor::empty({int64_t(blocks)}, DType::kInt64, device);
    launch(device, "cross_entropy", Grid{blocks, kThreads}, cross_entropy_kernel<T, kHeld>, grid, problem,
           data<double>(losses), data<int64_t>(bad));
    dispatch(loss.dtype(), "cross_entropy", [&]<typename L>() {
      launch(device, "cross_entropy", Grid{1, kThreads}, finish<L>, data<double>(losses), data<int64_t>(bad), int(blocks),
             problem.scale, data<double>(scale_at), labels, data<L>(loss), data<int64_t>(found));
    });
  });
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options, Tensor& loss,
                   Tensor& grad_logits) {
  if (labels.numel() == 0) {
    loss.fill_(0);
    return;
  }
  const int64_t classes = logits.size(-1), ignore = options.ignore_index;
  const Tensor found = Tensor::empty({2}, DType::kInt64, logits.device());
  const Labels view{labels.raw_data(), labels.dtype(), labels.numel(), classes, ignore};
  dispatch(logits.dtype(), "cross_entropy",
           [&]<typename T>() { cross_entropy_of<T>(logits, view, options, loss, grad_logits, found); });
  report_later(found.alias({1}), [found, classes, ignore, shape = labels.shape()](int64_t position) {
    refuse_label(int64_t(found.alias({1}, 1).item()), position, classes, ignore, shape);
  });
}

}  // namespace eq::cuda
