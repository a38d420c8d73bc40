#include "core/kernels/cross_entropy.h"

#include "core/kernels/softmax_block.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

struct LabelScan {
  double weight = 0;  // sum of class weights over valid positions
  int64_t bad = -1;   // the first position with a label that is no class, or -1
};

template <class Label, class T>
LabelScan scan_labels(const Label* labels, int64_t count, int64_t classes, int64_t ignore, const T* weights) {
  auto partial = [&](int64_t begin, int64_t end) {
    LabelScan scan;
    int64_t valid = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t label = labels[i];
      if (label == ignore) continue;
      if (uint64_t(label) >= uint64_t(classes)) {
        scan.bad = i;
        return scan;
      }
      ++valid;
      if (weights) scan.weight += double(weights[label]);
    }
    if (!weights) scan.weight = double(valid);
    return scan;
  };
  return parallel_reduce(count, 1 << 15, LabelScan(), partial, [](LabelScan a, const LabelScan& b) {
    return LabelScan{a.weight + b.weight, a.bad >= 0 ? a.bad : b.bad};
  });
}

// Everything a task needs. `scale` is 1 / denominator, for the gradient.
template <class T, class Label>
struct Problem {
  const T* logits;
  const Label* labels;
  const T* weights;  // or null
  int64_t classes, ignore;
  double scale;
  T* gradient;  // or null
};

// The loss of the positions [begin, end), not yet divided; their gradient is written on the way.
template <class T, class Label>
double loss_of(const Problem<T, Label>& problem, int64_t begin, int64_t end) {
  const auto [logits, labels, weights, classes, ignore, scale, gradient] = problem;
  SoftmaxBlock<T> block(classes);
  const LaneRow<T>& walk = block.walk;
  double loss = 0;
  for (int64_t first = begin; first < end; first += block.kRows) {
    const int64_t count = std::min(block.kRows, end - first);
    block.compute(logits + first * classes, count, classes, logits + end * classes);
    alignas(64) T offset[block.kRows] = {}, weight[block.kRows] = {}, factor[block.kRows];
    for (int64_t p = 0; p < count; ++p) {
      const int64_t label = labels[first + p];
      if (label == ignore) {
        block.total[p] = T(1);  // whatever the logits are, even NaN
        continue;
      }
      offset[p] = block.top[p] - logits[(first + p) * classes + label];
      weight[p] = weights ? weights[label] : T(1);
    }
    const Lanes<T> totals = load(block.total);
    loss += double(sum_lanes<T>(load(weight) * (log_positive<T>(totals) + load(offset))));
    if (!gradient) continue;
    store(weight, load(weight) * T(scale));
    store(factor, load(weight) / totals);
    for (int64_t p = 0; p < count; ++p) {
      const int64_t label = labels[first + p];
      T* out = gradient + (first + p) * classes;
      for (int64_t v = 0; v < walk.vectors; ++v) {
        const Lanes<T> value = load(block.exponentials(p) + v * kLanes<T>) * factor[p];
        walk.store(out, v, gradient + end * classes, label == ignore ? Lanes<T>{} : value);
      }
      if (label != ignore) out[label] -= weight[p];
    }
  }
  return loss;
}

template <class T, class Label>
void cross_entropy_of(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options, Tensor& loss,
                      Tensor& grad_logits) {
  using Reduction = CrossEntropyOptions::Reduction;
  const int64_t count = labels.numel(), classes = logits.size(-1);
  const T* weights = options.class_weights.defined() ? options.class_weights.data<T>() : nullptr;
  const LabelScan scan = scan_labels(labels.data<Label>(), count, classes, options.ignore_index, weights);
  if (scan.bad >= 0) {
    refuse_label("cross_entropy", int64_t(labels.data<Label>()[scan.bad]), scan.bad, classes, options.ignore_index, labels.shape());
  }
  double denominator = 1;
  if (options.reduction == Reduction::kMeanAll) denominator = double(count);
  if (options.reduction == Reduction::kMeanValid) denominator = scan.weight;
  const double scale = denominator == 0 ? 0 : 1 / denominator;
  T* gradient = grad_logits.defined() ? grad_logits.data<T>() : nullptr;
  const Problem<T, Label> problem{logits.data<T>(), labels.data<Label>(), weights, classes, options.ignore_index, scale, gradient};
  const int64_t grain = (grain_for(classes, 32768) + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  const double total = parallel_reduce(
      count, grain, 0.0, [&](int64_t begin, int64_t end) { return loss_of(problem, begin, end); }, std::plus<double>());
  loss.data<T>()[0] = T(total * scale);
}

}  // namespace

void cross_entropy(const Tensor& logits, const Tensor& labels, const CrossEntropyOptions& options, Tensor& loss,
                   Tensor& grad_logits) {
  dispatch_floating(logits.dtype(), "cross_entropy", [&]<typename T>() {
    dispatch_labels(labels, "cross_entropy", [&]<typename Label>() {
      cross_entropy_of<T, Label>(logits, labels, options, loss, grad_logits);
    });
  });
}

}  // namespace eq::cpu
