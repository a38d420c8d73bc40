#pragma once
// A run in a few words and numbers, and what sets several runs apart: what `equiscale inspect run` says.

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "study/report/fields.h"
#include "study/report/run_files.h"

namespace eq::report {

enum class RunState { kFinished, kTraining, kDiverged, kBrokenOff };
std::string words(RunState state);  // "finished", "training now", "diverged", "broken off"

struct RunAccount {
  RunFiles files;
  RunState state = RunState::kBrokenOff;
  std::string network;     // "uper head on ResNet-18"
  std::string equalizer;   // the mode: "off"
  std::string data, root;  // its type and folder
  std::string error;       // the last words of the log, if they are an error's
  double seed = 0, planned = 0;  // NaN where the configuration does not say
  double done = 0;               // iterations, of the newest file that tells
  double seconds = 0, images_per_second = 0, parameters = 0;  // NaN: not known yet
  std::optional<EvaluationRow> best, last;  // by mIoU, by iteration; evaluations without an mIoU are not among them
  std::optional<int64_t> best_weights;      // iteration of the weights that were kept as the best; none: there are no such
};

// Reads what is there, of a run in progress, too. Throws IoError (no run in the folder) and DataError naming the file.
RunAccount account_of(const std::filesystem::path& folder);

std::string network_words(const Fields& config);

// A dotted key whose value is not the same in all configurations: JSON, in the order of the runs; empty where one lacks it.
struct DifferingKey {
  std::string key;
  std::vector<std::string> values;
};
std::vector<DifferingKey> differing_keys(const std::vector<RunAccount>& runs);

}  // namespace eq::report
