#pragma once
// Internal to the trainer: what it checks and writes in a run's folder, outside of the loop.

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "datasets/dataset.h"
#include "layers/calibration.h"
#include "training/checkpoint.h"
#include "training/config.h"
#include "training/trainer.h"

namespace eq {

// Throws UsageError for a folder that holds a run when not resuming, and for one that does not exist when resuming.
void check_run_folder(const TrainRequest& request);
// The checkpoint to go on from, if there is one and the run is to be resumed. A run that was killed before its first one begins again:
// throws UsageError for a configuration that is not its, and where other files show that there was a checkpoint.
std::optional<Checkpoint> load_run_checkpoint(const TrainRequest& request, const Config& config);

SplitPrint print_of(const Dataset& dataset);
// Whether two splits are the same files, in the same order.
bool same_pictures(const Dataset& a, const Dataset& b);

// Throws unless `config` may continue `checkpoint`: DataError for another number of classes (naming both and the tensor) and for other
// pictures, UsageError naming the keys that differ and matter. Keys that only say how long to train, what to report or where files are may
// differ.
void check_continues(const Checkpoint& checkpoint, const Config& config, const Dataset& dataset, const std::filesystem::path& folder);

// What the request gives beside the configuration: "loss", "augmentation", "data".
std::vector<std::string> own_parts_of(const TrainRequest& request);
// Throws UsageError where the run was trained with other parts of a program's own.
void check_own_parts(const Checkpoint& checkpoint, const std::vector<std::string>& parts, const std::filesystem::path& folder);

// Keeps other processes out of a run's folder, which is made if missing, while alive: two of them would delete each other's checkpoints.
// Throws UsageError where one is there already. An empty path: nothing.
class RunLock {
 public:
  explicit RunLock(const std::filesystem::path& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;

 private:
  int file_ = -1;
};

// Removes what a kill of an earlier part of the run left of files that it was writing: with each kill there would be more of them.
void remove_unfinished(const std::filesystem::path& folder);

// Removes what an earlier end of the run left (model.safetensors, summary.json) when training goes on: it would be taken for the
// newest. The checkpoint has the same weights.
void retire_results(const std::filesystem::path& folder);

// calibration.json: {"batches", "branches": [{"site", "branch", "mean", "std", "mean_error", "std_error", "equalized", "floored"}]} of the
// measurement before the first step (CalibrationReport; null where there is no standard error), and "refreshes", if there were any:
// [{"iteration", "branches": the same, and "growth", new over old constant}] in order. Adding one replaces what an earlier part of the run
// has recorded from that iteration on.
void write_calibration(const std::filesystem::path& path, const CalibrationReport& report);
void write_refresh(const std::filesystem::path& path, int64_t iteration, const CalibrationReport& report);
// With the values of every layer, or the first bad one only.
void write_non_finite_report(const std::filesystem::path& path, const NonFiniteReport& report, bool all_layers);

// The three lines into log.txt, where that can be written: they are all that a failed run tells its folder.
void log_error(const std::filesystem::path& folder, const Error& error);

// Collects predictions during an evaluation and writes pictures input | label | prediction.
class OverlayWriter {
 public:
  // `written`, if any, hears of each picture, with the bytes of its file.
  using Written = std::function<void(int64_t index, const Image& picture, std::span<const uint8_t> png)>;
  OverlayWriter(const Dataset& dataset, std::filesystem::path folder, int64_t count, Written written);
  void operator()(int64_t index, const Tensor& labels, const Tensor& predictions) const;

 private:
  const Dataset& dataset_;
  std::filesystem::path folder_;
  int64_t count_;
  Written written_;
};

}  // namespace eq
