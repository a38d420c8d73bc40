#pragma once
// What a run's folder holds, read for the report. Every file but config.json and metrics.jsonl may be missing.

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "datasets/image.h"
#include "study/report/sites.h"

namespace eq::report {

struct TrainRow {
  double iteration, loss, main_loss, aux_loss, lr, grad_norm, images_per_second, data_wait, memory_bytes, seconds;
};
struct ClassRow {
  std::string name;
  double iou, acc, dice, precision, pixels;
};
struct EvaluationRow {
  double iteration, miou, macc, aacc, mdice, cross_entropy, pictures, seconds;
  std::vector<ClassRow> classes;
};
struct PictureRow {
  int64_t index = 0;
  std::string name;
  double miou, accuracy, cross_entropy;
};
struct Confusion {
  std::vector<std::string> names;
  std::vector<std::vector<double>> counts;  // [label][prediction]
};
struct ShownPicture {  // eval/best_1_0042.png
  std::filesystem::path file;
  int64_t rank = 0, index = 0;
};

struct Refreshed {
  double iteration;
  std::vector<Calibrated> branches;
};

struct RunFiles {
  std::filesystem::path folder;
  std::shared_ptr<const nlohmann::json> config, summary, diverged;  // null when missing: summary.json, nan_report.json
  std::vector<TrainRow> train;
  std::vector<EvaluationRow> evaluations;
  std::vector<ProbeRecord> probes;
  std::vector<Calibrated> calibrated;
  std::vector<Refreshed> refreshes;
  double calibration_batches;  // NaN without calibration.json
  std::optional<Confusion> confusion;
  std::vector<PictureRow> pictures;
  std::vector<ShownPicture> best, worst;
  std::optional<int64_t> checkpoint_iteration;  // updates that the checkpoint has; none: there is no checkpoint
  std::vector<std::string> class_names;         // with `palette`, of the checkpoint; empty without one
  Palette palette;
};

// Updates made, by the newest file that tells.
double iterations_done(const RunFiles& run);

// Throws IoError and DataError naming the file.
RunFiles read_run(const std::filesystem::path& folder);
// A folder of `equiscale eval --out`: its evaluation, with the confusions and the pictures; evaluation.json stands for the configuration.
RunFiles read_evaluation(const std::filesystem::path& folder);
// Without what training has measured beside: calibration, probes, the last evaluation's pictures.
RunFiles read_run_progress(const std::filesystem::path& folder);

}  // namespace eq::report
