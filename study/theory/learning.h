#pragma once
// Teacher fusion: a fusion layer learns a known mix of levels by least squares on one fixed batch, with the engine's own site, convolution,
// backward and optimizers. What each level still lacks after any number of steps can be said beforehand; docs/studies.md derives it.

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "study/theory/closed_forms.h"
#include "study/theory/lab.h"
#include "training/options.h"

namespace eq {

// --- what theory says ---
// What a step of gradient descent leaves of the error of a centred level that shares nothing with the others: 1 - rate * deviation^2.
double descent_factor(double rate, double deviation);
// What is left of an error of 1 after 0, 1, ... `steps` steps of Adam without decay, where the gradient is any multiple of the error: Adam
// divides by the gradient's own size, so `stride` = rate / error before the first step is all that matters. With betas of 0 it is 1 -
// stride * step until it crosses 0.
std::vector<double> adam_remaining(double stride, const std::array<double, 2>& betas, int64_t steps);

// Steps, with a fraction, after which a falling curve over whole steps is first at `share` of its beginning; on a straight line between two
// steps. NaN if never.
double crossing(const std::vector<double>& remaining, double share);

// --- the task ---
struct Levels {
  int64_t side = 0;                   // of the fusion
  std::vector<Tensor> features;       // float64 [images, h, w, channels]
  std::vector<MeanVariance> moments;  // of each at the fusion: what its equalizer is told
};

// Levels of which every channel, resized to side x side, has mean 0 and the deviation given over the batch, and is orthogonal to every
// other one of every level: their Gram matrix is diagonal up to rounding.
Levels whitened_levels(Lab& lab, const std::vector<int64_t>& ratios, const std::vector<double>& deviations);
// White noise, or rectified white noise; the moments are those of the population.
Levels noise_levels(Lab& lab, int64_t images, const std::vector<int64_t>& ratios, bool rectified);

// [pixels, channels of all levels + 1]: what the convolution reads, and the 1 that the bias is multiplied by.
Tensor inputs_of(const Levels& levels, bool equalized);

struct Lesson {
  Levels levels;
  std::string mode = "off";  // of the equalizer
  OptimizerOptions optimizer;
  int64_t steps = 100;
  bool norm_behind = false;  // batch norm by the batch's statistics, without affine parameters and without eps
  double change = 1;         // that every weight has to learn, up or down, in the unit of its equalized level
  uint64_t seed = 0;         // of the initial weights, and of the signs of the change
};

// The target is what the student computes with the change made: up to a constant the same change of the function in every mode, and one of
// equal power from every level.
struct Course {
  std::vector<Tensor> weights;      // [outputs, channels + 1], the bias last: before the first step, and after each
  Tensor ideal;                     // as they should be
  Tensor first_output;              // before the first step
  std::vector<int64_t> first_channels;  // of each level, and their sum

  Tensor error(size_t step, size_t level) const;    // weights - ideal, [outputs, channels of the level]
  std::vector<double> remaining(size_t level) const;  // norm of the error after each step over that before the first
};
Course learn(const Lesson& lesson);

}  // namespace eq
