#pragma once
// One training update: forward, losses, backward, clipping, optimizer, averaged weights. What it does is a function of the model's state,
// the batches, the seed and the iteration alone; it keeps nothing that a checkpoint does not hold.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "datasets/loader.h"
#include "models/segmentor.h"
#include "training/config.h"
#include "training/ema.h"
#include "training/optimizer.h"
#include "training/schedule.h"

namespace eq {

struct StepReport {
  int64_t iteration = 0;  // from 0
  double loss = 0;        // main + aux_weight * aux, mean over the accumulated passes
  double main_loss = 0;   // of the head: cross entropy and, where asked for, the Dice loss; or a loss of one's own
  double aux_loss = 0;    // 0 without an auxiliary head
  double lr = 0;          // before the groups' multipliers
  double grad_norm = 0;   // before clipping
};

// What went bad and where, found by running the failed forward pass again under observation.
struct NonFiniteReport {
  struct LayerValues {
    std::string name, description;
    double largest = 0, mean = 0;  // of |values|, over the finite ones
    int64_t bad = 0;               // how many are NaN or infinite
  };
  int64_t iteration = 0;
  std::vector<std::string> pictures;  // of the failed pass; of all passes where it is the gradient that is bad
  double loss = 0, grad_norm = 0;
  std::string first_bad;            // the layer, or the parameter whose gradient is bad, in words
  std::vector<LayerValues> layers;  // in the order of application
};

// A NumericalError that carries its report.
class NonFiniteError : public NumericalError {
 public:
  explicit NonFiniteError(NonFiniteReport report, const std::string& more = "");  // `more` ends the hint
  const NonFiniteReport& report() const { return report_; }

 private:
  NonFiniteReport report_;
};

// A loss of one's own: from a head's scores [N,H,W,C], resized to the labels, and these, uint8 [N,H,W] on the same device (kIgnoreIndex is
// not to count), to one value. A function of the two alone, made of recorded operators: then a run is repeatable and can be resumed.
using HeadLoss = std::function<Tensor(const Tensor& scores, const Tensor& labels)>;

// Looks into one update. It must not change anything.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void before_forward(const Batch& batch) = 0;
  virtual void after_backward() = 0;  // gradients are complete
  virtual void after_update() = 0;    // weights have changed, gradients are still there
};

class TrainStep {
 public:
  // Freezes what the configuration says. The model must outlive it. Throws UsageError for
  // values out of range (check_config) and options that do not fit the model (number of class weights, groups, ...).
  // A `loss` takes the place of cross entropy, Dice and all, in each head (train.aux_weight stays); a configuration that sets what is then
  // not used is refused, too.
  TrainStep(EncoderDecoder& model, const Config& config, HeadLoss loss = {});

  // Update number `iteration`, from train.accumulate batches. Throws NonFiniteError before anything is updated but the running statistics
  // when the loss or a gradient is not finite; DataError for labels out of range; ShapeError where a loss of one's own is not one value.
  // The observer, if any, sees the first forward pass.
  StepReport run(int64_t iteration, const std::function<Batch()>& next_batch, StepObserver* observer = nullptr);

  Optimizer& optimizer() { return *optimizer_; }
  Ema* ema() { return ema_.get(); }  // null without averaging

 private:
  struct Losses {
    Tensor main, aux, total;
  };
  Losses forward(const Batch& batch, int64_t pass);
  Tensor loss_of(const Tensor& logits, const Tensor& labels) const;  // of a head, at the labels' size
  [[noreturn]] void explain(const Batch& batch, int64_t iteration, int64_t pass, double loss, double grad_norm);

  EncoderDecoder& model_;
  uint64_t seed_;
  TrainOptions options_;
  HeadLoss own_loss_;  // empty: the configuration's
  CrossEntropyOptions cross_entropy_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Ema> ema_;
  Schedule schedule_;
};

}  // namespace eq
