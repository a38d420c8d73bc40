#pragma once
// What Swin, Twins and ConvNeXt share: four stages of a published variant, stochastic depth, and the initial weights.

#include <array>
#include <span>
#include <vector>

#include "autograd/node.h"
#include "layers/layers.h"
#include "models/segmentor.h"

namespace eq {

struct StageVariant {
  const char* name;
  int64_t channels;  // of the first stage
  std::array<int, 4> blocks;
  int64_t heads = 1;                             // of attention in the first stage
  std::array<int64_t, 4> widths = {1, 2, 4, 8};  // how many times the first stage's channels and heads a stage has
};

struct StagePlan {
  std::array<int, 4> blocks;
  std::vector<int64_t> channels, heads;
  std::array<std::vector<double>, 4> drop_path;  // of each block: evenly from 0 at the network's first one to the option at its last
};

// By options.variant, the first one if that is empty, and options.multiplier. Throws UsageError for an unknown variant and for a multiplier
// that does not leave each head a whole number of channels.
StagePlan plan_stages(std::span<const StageVariant> variants, const BackboneOptions& options);

// A parameter's initial values, N(0, 0.02). (The published code cuts that normal at a hundred deviations.)
inline Tensor small_values(const Shape& shape) {
  Tensor values = Tensor::empty(shape, init::dtype());
  init::normal_(values, 0, 0.02);
  return values;
}

// Starts a layer with such weights and bias 0.
template <class L>
L& small_weights(L& layer) {
  const NoGradGuard no_grad;
  Tensor weight = layer.weight(), bias = layer.bias();
  init::normal_(weight, 0, 0.02);
  if (bias.defined()) bias.fill_(0);
  return layer;
}

}  // namespace eq
