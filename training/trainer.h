#pragma once
// A whole training run: data, model, calibration, the loop, evaluation, and everything in the run's folder.

#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "layers/calibration.h"
#include "training/config.h"
#include "training/evaluator.h"
#include "training/train_step.h"

namespace eq {

struct TrainRequest {
  std::filesystem::path out;  // the run's folder; made if missing. May be empty in a dry run only
  bool resume = false;        // go on from out/checkpoint (from the start if the run was killed before its first one)
  bool dry_run = false;       // check configuration, data, shapes and memory with one step and one picture; write nothing
  int threads = 0;            // set_num_threads; 0: as it is
  std::FILE* log = stdout;    // progress; null: quiet
  bool handle_signals = true; // SIGINT and SIGTERM end the run with a checkpoint
  std::function<void(const StepReport&)> on_step = {};

  // What a configuration cannot say. Log, summary and card name those that were given, and a run goes on only where the same ones are
  // given: that they still do the same is up to the program. The command can use what such a run has learned, not go on with it.
  HeadLoss loss = {};         // in place of the configured one (train_step.h)
  Augmentation augment = {};  // of the pictures to train on, before the configured pipeline (datasets/loader.h)
  // Both or neither, in place of the section "data", of which the checks stay. They must outlive the call. Whether a set without files is
  // the one that the run began with shows in its size only. Throws UsageError where they name different classes.
  const Dataset *train_set = nullptr, *val_set = nullptr;
};

struct BestEvaluation {
  int64_t iteration = 0;
  double miou = 0;
};

struct TrainResult {
  bool finished = false;        // false: stopped by a signal (a checkpoint was written), or a dry run
  int64_t iterations = 0;       // updates made, over all resumptions
  double seconds = 0;           // over all resumptions
  double images_per_second = 0; // of the steps, over all resumptions
  double data_wait = 0;         // share of the training time spent waiting for the loader
  size_t train_peak_bytes = 0, eval_peak_bytes = 0;  // of tensors
  SegmentationMetrics metrics;  // of the last evaluation
  std::optional<BestEvaluation> best;  // whose weights were kept (train.keep_best)
  std::string weights_sha256;   // of the final weights (the averaged ones if train.ema is on)
  std::vector<std::string> own_parts;  // of the run, given in the request: "loss", "augmentation", "data"
  CalibrationReport calibration;  // before the first step; empty when the equalizers are off, or were restored from a checkpoint
};

// The folder: config.json (resolved), log.txt, metrics.jsonl, metrics.csv, calibration.json, probes.* (probes.h), tensorboard/
// (tensorboard.h), checkpoint/, overlays/*.png (input | label | prediction), eval/ (evaluation_files.h), model.safetensors,
// model_best.safetensors with train.keep_best and, last, summary.json. Throws UsageError (options; a folder that already holds a run,
// unless resuming; a configuration that does not belong to the checkpoint), DataError, IoError, NonFiniteError.
TrainResult train(const Config& config, const TrainRequest& request);

// A run began in this folder (it has a config.json): train() goes on there only by resuming.
bool holds_run(const std::filesystem::path& folder);
// A process is training in this folder now.
bool is_training(const std::filesystem::path& folder);

// The text of summary.json.
std::string summary_json(const Config& config, const TrainResult& result, int64_t parameters);

}  // namespace eq
