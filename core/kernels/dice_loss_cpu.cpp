#include "core/kernels/dice_loss.h"

#include "core/kernels/softmax_block.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kMostChunks = 512;  // each has its own sums of every class

// Of a chunk of positions.
struct ClassSums {
  ClassSums() = default;
  explicit ClassSums(int64_t classes) : overlap(classes), answered(classes), labelled(classes) {}
  std::vector<double> overlap, answered, labelled;
  int64_t bad = -1;  // the first position with a label that is no class, or -1
};

ClassSums add_sums(ClassSums a, const ClassSums& b) {
  for (size_t c = 0; c < a.overlap.size(); ++c) {
    a.overlap[c] += b.overlap[c];
    a.answered[c] += b.answered[c];
    a.labelled[c] += b.labelled[c];
  }
  if (a.bad < 0) a.bad = b.bad;
  return a;
}

template <class T, class Label>
struct Problem {
  const T* logits;
  const Label* labels;
  int64_t classes, ignore;
  bool squared;
};

template <class T, class Label>
ClassSums sums_of(const Problem<T, Label>& problem, int64_t begin, int64_t end) {
  const auto [logits, labels, classes, ignore, squared] = problem;
  SoftmaxBlock<T> block(classes);
  ClassSums sums(classes);
  for (int64_t first = begin; first < end; first += block.kRows) {
    const int64_t count = std::min(block.kRows, end - first);
    block.compute(logits + first * classes, count, classes, logits + end * classes);
    alignas(64) T inverse[block.kRows];
    store(inverse, T(1) / load(block.total));
    const T* rows[block.kRows];  // of the labelled positions
    T factors[block.kRows];
    int64_t labelled = 0;
    for (int64_t p = 0; p < count; ++p) {
      const int64_t label = labels[first + p];
      if (label == ignore) continue;
      if (uint64_t(label) >= uint64_t(classes)) {
        sums.bad = first + p;
        return sums;
      }
      rows[labelled] = block.exponentials(p);
      factors[labelled] = inverse[p];
      sums.overlap[label] += double(rows[labelled][label] * inverse[p]);
      sums.labelled[label] += 1;
      ++labelled;
    }
    for (int64_t v = 0; v < block.walk.vectors; ++v) {
      Lanes<T> sum{};
      for (int64_t r = 0; r < labelled; ++r) {
        const Lanes<T> p = load(rows[r] + v * kLanes<T>) * factors[r];
        sum += squared ? p * p : p;
      }
      alignas(64) T values[kLanes<T>];
      store(values, sum);
      double* answered = sums.answered.data() + v * kLanes<T>;
      const int64_t width = v + 1 == block.walk.vectors ? block.walk.last : kLanes<T>;
      for (int64_t i = 0; i < width; ++i) answered[i] += double(values[i]);
    }
  }
  return sums;
}

// The gradient of the positions [begin, end). Of each class, zeros up to a whole vector: `answer` = e d loss / d P, `overlap` =
// d loss / d I.
template <class T, class Label>
void gradient_of(const Problem<T, Label>& problem, const T* overlap, const T* answer, T* gradient, int64_t begin, int64_t end) {
  const auto [logits, labels, classes, ignore, squared] = problem;
  SoftmaxBlock<T> block(classes);
  const LaneRow<T>& walk = block.walk;
  for (int64_t first = begin; first < end; first += block.kRows) {
    const int64_t count = std::min(block.kRows, end - first);
    block.compute(logits + first * classes, count, classes, logits + end * classes);
    alignas(64) T inverse[block.kRows], peak[block.kRows], mean[block.kRows];  // peak: of the label, p d loss / d I; mean: sum g p
    store(inverse, T(1) / load(block.total));
    const auto probability = [&](int64_t p, int64_t v) { return load(block.exponentials(p) + v * kLanes<T>) * inverse[p]; };
    const auto slope = [&](const Lanes<T>& values, int64_t v) {
      const Lanes<T> whole = load(answer + v * kLanes<T>);
      return squared ? whole * values : whole;
    };
    for (int64_t p = 0; p < count; ++p) {
      const int64_t label = labels[first + p];
      if (label == ignore) continue;
      Lanes<T> sum{};
      for (int64_t v = 0; v < walk.vectors; ++v) {
        const Lanes<T> values = probability(p, v);
        sum += values * slope(values, v);
      }
      peak[p] = block.exponentials(p)[label] * inverse[p] * overlap[label];
      mean[p] = sum_lanes<T>(sum) + peak[p];
    }
    for (int64_t p = 0; p < count; ++p) {
      const int64_t label = labels[first + p];
      T* out = gradient + (first + p) * classes;
      for (int64_t v = 0; v < walk.vectors; ++v) {
        const Lanes<T> values = probability(p, v);
        walk.store(out, v, gradient + end * classes, label == ignore ? Lanes<T>{} : values * (slope(values, v) - mean[p]));
      }
      if (label != ignore) out[label] += peak[p];
    }
  }
}

template <class T>
int64_t whole_blocks(int64_t positions) {
  return (positions + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <class T, class Label>
void dice_loss_of(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, Tensor& loss, Tensor& slopes) {
  const int64_t count = labels.numel(), classes = logits.size(-1);
  const Problem<T, Label> problem{logits.data<T>(), labels.data<Label>(), classes, options.ignore_index, options.squared};
  const int64_t grain = whole_blocks<T>(std::max(grain_for(classes, 32768), (count + kMostChunks - 1) / kMostChunks));
  const ClassSums sums = parallel_reduce(
      count, grain, ClassSums(classes), [&](int64_t begin, int64_t end) { return sums_of(problem, begin, end); }, add_sums);
  if (sums.bad >= 0) {
    refuse_label("dice_loss", int64_t(problem.labels[sums.bad]), sums.bad, classes, options.ignore_index, labels.shape());
  }
  const int64_t present = std::count_if(sums.labelled.begin(), sums.labelled.end(), [](double n) { return n > 0; });
  const double share = 1 / double(options.mean == DiceLossOptions::Mean::kAll ? classes : std::max<int64_t>(present, 1));
  double total = 0;
  for (int64_t c = 0; c < classes; ++c) {
    const DiceTerm term = dice_term(sums.overlap[c], sums.answered[c], sums.labelled[c], options.smooth, share);
    total += term.loss;
    slopes.data<double>()[c] = term.overlap_slope;
    slopes.data<double>()[classes + c] = term.answer_slope;
  }
  loss.data<T>()[0] = T(total);
}

}  // namespace

void dice_loss(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, Tensor& loss, Tensor& slopes) {
  dispatch_floating(logits.dtype(), "dice_loss", [&]<typename T>() {
    dispatch_labels(labels, "dice_loss", [&]<typename Label>() { dice_loss_of<T, Label>(logits, labels, options, loss, slopes); });
  });
}

void dice_loss_backward(const Tensor& logits, const Tensor& labels, const DiceLossOptions& options, const Tensor& slopes,
                        const Tensor& grad_loss, Tensor& grad_logits) {
  dispatch_floating(logits.dtype(), "dice_loss", [&]<typename T>() {
    const int64_t classes = logits.size(-1), vectors = (classes + kLanes<T> - 1) / kLanes<T>;
    LaneScratch<T> scaled(2 * vectors);
    T *overlap = scaled.data(), *answer = overlap + vectors * kLanes<T>;
    const double factor = double(grad_loss.data<T>()[0]), exponent = options.squared ? 2 : 1;
    for (int64_t c = 0; c < classes; ++c) {
      overlap[c] = T(factor * slopes.data<double>()[c]);
      answer[c] = T(factor * exponent * slopes.data<double>()[classes + c]);
    }
    dispatch_labels(labels, "dice_loss", [&]<typename Label>() {
      const Problem<T, Label> problem{logits.data<T>(), labels.data<Label>(), classes, options.ignore_index, options.squared};
      parallel_for(labels.numel(), whole_blocks<T>(grain_for(classes, 32768)), [&](int64_t begin, int64_t end) {
        gradient_of(problem, overlap, answer, grad_logits.data<T>(), begin, end);
      });
    });
  });
}

}  // namespace eq::cpu
