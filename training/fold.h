#pragma once
// Folding the equalizers of a trained network into its fusion weights.

#include <cstdint>
#include <functional>

#include "datasets/dataset.h"
#include "training/trained_model.h"

namespace eq {

// Turns explicit or learnable equalizers into weights: the network computes the same and has nothing left to equalize. Its configuration
// says "folded" from then on. Returns the number of sites. Throws UsageError for a network without such equalizers.
int64_t fold_equalizers(TrainedModel& trained);

struct PredictionDifference {
  int64_t pictures = 0, pixels = 0;
  double largest = 0;          // |difference| of two scores of a class at a pixel, at the network's input size
  int64_t changed_pixels = 0;  // whose class of the highest score differs
};

// Over the first `limit` pictures of a data set (0: all), whole pictures. on_picture(i, size) is told of the progress.
PredictionDifference compare_predictions(TrainedModel& a, TrainedModel& b, const Dataset& dataset, int64_t limit,
                                         const std::function<void(int64_t, int64_t)>& on_picture = {});

}  // namespace eq
