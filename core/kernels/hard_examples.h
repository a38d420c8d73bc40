#pragma once
// hard_examples: labels without the positions that are answered well enough, for online hard example mining (OHEM): take a loss of them.
//
//   p = softmax(z)[label] of each position whose label is not ignore_index, as float32
//   limit = max(threshold, the probability at min_kept (from 0) when they are sorted, or the largest if there are no more)
//   hard  = label where p < limit, else ignore_index
//
// So all positions below the threshold stay, and where these are fewer than min_kept, the min_kept hardest (fewer at ties, and the
// easiest one goes in any case). This is mmsegmentation's OHEMPixelSampler, where min_kept is that of a picture: times their number here.
// A probability that is no number counts as 0: its position stays, and the loss shows it.
//
// Shapes: logits [..., C], labels and the result [...] uint8, int32 or int64. Not differentiable: the result is integers.
// Bad labels are what they are to cross_entropy: DataError, on a GPU with the next copy of a value to the host, meanwhile ignored.
// The selection is exact: digit by digit of the probabilities' bits, which are in the numbers' order. Counts are integers: the same
// result for any thread count.

#include <bit>

#include "core/backend.h"
#include "core/host_device.h"
#include "core/kernels/class_labels.h"

namespace eq {

struct HardExamplesOptions {
  double threshold = 0.7;    // above 0, at most 1
  int64_t min_kept = 100000; // positions, of all together
  int64_t ignore_index = kDefaultIgnoreIndex;
};

// float32 from 0 to 1 has no bit set above these; kNoProbability marks positions that are ignored, and has one.
constexpr int kProbabilityBits = 30;
constexpr float kNoProbability = 2;

EQ_HOST_DEVICE inline uint32_t probability_bits(float probability) { return std::bit_cast<uint32_t>(probability); }
EQ_HOST_DEVICE inline float probability_of(uint32_t bits) { return std::bit_cast<float>(bits); }
// What is no number is a mistake of the network's: as hard as can be.
template <class T>
EQ_HOST_DEVICE float probability_or_zero(T quotient) { return quotient > 0 ? float(quotient) : 0.f; }

EQ_KERNELS(
void hard_examples(const Tensor& logits, const Tensor& labels, const HardExamplesOptions& options, Tensor& hard);
)

}  // namespace eq
