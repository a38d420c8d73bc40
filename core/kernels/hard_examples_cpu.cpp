#include "core/kernels/hard_examples.h"

#include <array>

#include "core/kernels/softmax_block.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // positions of a task behind the softmax

// Of some positions.
struct Summary {
  int64_t valid = 0, below = 0;  // below: the threshold
  int64_t bad = -1;              // the first position with a label that is no class, or -1
};

Summary add_summaries(const Summary& a, const Summary& b) {
  return {a.valid + b.valid, a.below + b.below, a.bad >= 0 ? a.bad : b.bad};
}

// Writes the label's probability at each position.
template <class T, class Label>
Summary find_probabilities(const T* logits, const Label* labels, int64_t classes, int64_t ignore, float threshold, float* probabilities,
                           int64_t begin, int64_t end) {
  SoftmaxBlock<T> block(classes);
  Summary summary;
  for (int64_t first = begin; first < end; first += block.kRows) {
    const int64_t count = std::min(block.kRows, end - first);
    block.compute(logits + first * classes, count, classes, logits + end * classes);
    for (int64_t p = 0; p < count; ++p) {
      const int64_t label = labels[first + p];
      if (label == ignore) {
        probabilities[first + p] = kNoProbability;
        continue;
      }
      if (uint64_t(label) >= uint64_t(classes)) {
        summary.bad = first + p;
        return summary;
      }
      const float probability = probability_or_zero(block.exponentials(p)[label] / block.total[p]);
      probabilities[first + p] = probability;
      ++summary.valid;
      summary.below += probability < threshold;
    }
  }
  return summary;
}

// The probability of the given rank (from 0), which must be below their number.
float probability_at(const float* probabilities, int64_t count, int64_t rank) {
  constexpr int kDigitBits = 10;
  using Counts = std::array<int64_t, 1 << kDigitBits>;
  uint32_t prefix = 0;
  for (int shift = kProbabilityBits - kDigitBits; shift >= 0; shift -= kDigitBits) {
    const Counts counts = parallel_reduce(
        count, kGrain, Counts{},
        [&](int64_t begin, int64_t end) {
          Counts part{};
          for (int64_t i = begin; i < end; ++i) {
            const uint32_t bits = probability_bits(probabilities[i]);
            if (bits >> (shift + kDigitBits) == prefix) ++part[(bits >> shift) % part.size()];
          }
          return part;
        },
        [](Counts a, const Counts& b) {
          for (size_t d = 0; d < a.size(); ++d) a[d] += b[d];
          return a;
        });
    uint32_t digit = 0;
    while (rank >= counts[digit]) rank -= counts[digit++];
    prefix = prefix << kDigitBits | digit;
  }
  return probability_of(prefix);
}

template <class T, class Label>
void hard_examples_of(const Tensor& logits, const Tensor& labels, const HardExamplesOptions& options, Tensor& hard) {
  const int64_t count = labels.numel(), classes = logits.size(-1);
  const T* scores = logits.data<T>();
  const Label* in = labels.data<Label>();
  Label* out = hard.data<Label>();
  const float threshold = float(options.threshold);
  const Tensor memory = Tensor::empty(labels.shape());
  float* probabilities = memory.data<float>();
  const int64_t grain = (grain_for(classes, 32768) + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  const Summary summary = parallel_reduce(
      count, grain, Summary(),
      [&](int64_t begin, int64_t end) {
        return find_probabilities(scores, in, classes, options.ignore_index, threshold, probabilities, begin, end);
      },
      add_summaries);
  if (summary.bad >= 0) {
    refuse_label("hard_examples", int64_t(in[summary.bad]), summary.bad, classes, options.ignore_index, labels.shape());
  }
  float limit = threshold;
  const int64_t rank = std::min(options.min_kept, summary.valid - 1);
  // With more than `rank` below the threshold the one sought is among them, else it is not below.
  if (rank >= summary.below) limit = probability_at(probabilities, count, rank);
  parallel_for(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = probabilities[i] < limit ? in[i] : Label(options.ignore_index);
  });
}

}  // namespace

void hard_examples(const Tensor& logits, const Tensor& labels, const HardExamplesOptions& options, Tensor& hard) {
  dispatch_floating(logits.dtype(), "hard_examples", [&]<typename T>() {
    dispatch_labels(labels, "hard_examples", [&]<typename Label>() { hard_examples_of<T, Label>(logits, labels, options, hard); });
  });
}

}  // namespace eq::cpu
