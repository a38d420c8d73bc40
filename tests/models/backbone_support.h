#pragma once
// What the tests of backbones share.

#include <array>
#include <vector>

#include "autograd/node.h"
#include "models/segmentor.h"

namespace eq::test {

// Of the levels of one black picture, in evaluation.
inline std::vector<Shape> level_shapes(Backbone& backbone, int64_t height, int64_t width) {
  const NoGradGuard no_grad;
  backbone.eval();
  std::vector<Shape> shapes;
  for (const Tensor& level : backbone.forward(Tensor::zeros({1, height, width, 3}))) shapes.push_back(level.shape());
  return shapes;
}

// Parameters of a network at multiplier 1, from those at 1/16, 2/16 and 3/16: a tensor's size has two widths as factors at most, so the
// count is a polynomial of second degree in the multiplier, and a hundred million values need not be drawn.
template <class Network>
int64_t published_count(BackboneOptions options) {
  std::array<int64_t, 3> narrow;
  for (int i = 0; i < 3; ++i) {
    options.multiplier = (i + 1) / 16.0;
    narrow[i] = Network(options).parameter_count();
  }
  const int64_t first = narrow[1] - narrow[0], second = narrow[2] - 2 * narrow[1] + narrow[0];
  return narrow[0] + 15 * first + 15 * 14 / 2 * second;
}

}  // namespace eq::test
