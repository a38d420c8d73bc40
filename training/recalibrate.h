#pragma once
// The running statistics of batch norm, measured anew: after weights were averaged or changed by hand, for pictures of another kind, or
// where training's batches were so small that the running values lag behind.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layers/module.h"
#include "training/trained_model.h"

namespace eq {

// How far a layer's running statistics were from the batches': the worst of its channels.
struct NormShift {
  std::string layer;
  double mean = 0;                             // |new mean - old mean| in new standard deviations
  double lowest_ratio = 1, highest_ratio = 1;  // of new to old variance
};

// Running means and variances become the plain averages over the batches of `batches` passes, run_forward(i), in which batch norms alone
// are in training mode: everything else does what it does in evaluation. Returns the layers that a pass reached, in registration order; the
// others, auxiliary heads for example, keep what they have. Modes and momenta are restored; so are the statistics when something throws.
// Throws UsageError where nothing is reached or `batches` is below 1, NumericalError naming the layer whose statistics are not finite.
std::vector<NormShift> recalibrate_batch_norm(Module& model, int64_t batches, const std::function<void(int64_t)>& run_forward);

// The same with batches as in training, drawn from `split`: of train.batch_size augmented pictures, a function of the configuration's seed.
// on_batch(i) is told of the progress.
std::vector<NormShift> recalibrate_batch_norm(TrainedModel& trained, int64_t batches, const std::string& split,
                                              const std::function<void(int64_t)>& on_batch = {});

}  // namespace eq
