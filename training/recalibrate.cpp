#include "training/recalibrate.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "core/put_back.h"
#include "datasets/loader.h"
#include "layers/layers.h"

namespace eq {
namespace {

// A norm that begins to average, and what it had before. That is put back unless keep_new() is called; the momentum always is.
class Before {
 public:
  explicit Before(BatchNorm2d& norm)
      : norm_(norm),
        mean_(norm.running_mean().clone()),
        var_(norm.running_var().clone()),
        tracked_(norm.batches_tracked()),
        momentum_(norm.momentum()) {
    norm.reset_running_stats();
    norm.set_momentum(std::nullopt);
    norm.train();
  }
  ~Before() {
    if (!keep_new_) put_back([&] { norm_.set_running_stats(mean_, var_, tracked_); });
    norm_.set_momentum(momentum_);
  }
  Before(const Before&) = delete;

  BatchNorm2d& norm() const { return norm_; }
  void keep_new() { keep_new_ = true; }

  NormShift shift() const {
    const auto values = [](const Tensor& of_channels) { return cast(of_channels, DType::kFloat64).to_vector<double>(); };
    const auto old_mean = values(mean_), old_var = values(var_), mean = values(norm_.running_mean()), var = values(norm_.running_var());
    NormShift shift{.layer = norm_.path(), .lowest_ratio = HUGE_VAL, .highest_ratio = 0};
    for (size_t c = 0; c < mean.size(); ++c) {
      if (!std::isfinite(mean[c]) || !std::isfinite(var[c])) {
        throw NumericalError("the statistics of channel " + std::to_string(c) + " are not finite", shift.layer,
                             "look for weights or pictures with NaN or infinity in them");
      }
      const double floor = norm_.inference().eps;  // what evaluation adds to a variance: channels without any spread are compared by it
      shift.mean = std::max(shift.mean, std::abs(mean[c] - old_mean[c]) / std::sqrt(var[c] + floor));
      const double ratio = (var[c] + floor) / (old_var[c] + floor);
      shift.lowest_ratio = std::min(shift.lowest_ratio, ratio);
      shift.highest_ratio = std::max(shift.highest_ratio, ratio);
    }
    return shift;
  }

 private:
  BatchNorm2d& norm_;
  Tensor mean_, var_;
  int64_t tracked_;
  std::optional<double> momentum_;
  bool keep_new_ = false;
};

}  // namespace

std::vector<NormShift> recalibrate_batch_norm(Module& model, int64_t batches, const std::function<void(int64_t)>& run_forward) {
  if (batches < 1) throw UsageError("no batches to measure statistics on", "recalibrate_batch_norm", "take some tens of them");
  NoGradGuard no_grad;
  const ModeScope modes(model);
  model.eval();
  std::vector<std::unique_ptr<Before>> all;
  for (BatchNorm2d* norm : modules_of<BatchNorm2d>(model)) all.push_back(std::make_unique<Before>(*norm));
  for (int64_t i = 0; i < batches; ++i) run_forward(i);
  std::vector<NormShift> shifts;
  std::vector<Before*> reached;
  for (const auto& before : all) {
    if (before->norm().batches_tracked() == 0) continue;
    shifts.push_back(before->shift());
    reached.push_back(before.get());
  }
  if (shifts.empty()) {
    throw UsageError(
        all.empty() ? "the network has no batch norm" : "no pass reached a batch norm", "recalibrate_batch_norm",
        all.empty() ? "there is nothing to measure: layer and group norm keep no statistics" : "run the network in run_forward");
  }
  for (Before* before : reached) before->keep_new();
  return shifts;
}

std::vector<NormShift> recalibrate_batch_norm(TrainedModel& trained, int64_t batches, const std::string& split,
                                              const std::function<void(int64_t)>& on_batch) {
  const Config& config = trained.config;
  const std::unique_ptr<Dataset> dataset = make_dataset(config.data, split);
  DataLoader loader(*dataset, config.pipeline, loader_options(config));
  return recalibrate_batch_norm(*trained.model, batches, [&](int64_t i) {
    trained.model->forward(loader.next().images);
    if (on_batch) on_batch(i);
  });
}

}  // namespace eq
