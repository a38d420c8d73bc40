#pragma once
// `equiscale study ablation`: how much a trained network uses each branch of its fusion sites. One branch after the other is replaced by
// its mean, one value a channel, and the network evaluated: what the accuracy loses is what this branch alone contributed.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "study/statistics/paired.h"
#include "training/metrics.h"

namespace eq {

struct AblationRequest {
  std::vector<std::filesystem::path> runs;  // folders or files of trained networks, by load_trained_model
  std::vector<std::string> settings = {};   // of all of them
  std::string split = "val";
  int64_t limit = 0;                        // pictures from the start of the split; 0: all
  std::FILE* log = stdout;                  // null: quiet
  std::function<void(const struct Ablation&)> on_run = {};  // after each network, with what is measured so far
};

struct AblatedBranch {
  std::string name;
  int64_t channels = 0;
  SegmentationMetrics metrics;  // without it
  std::optional<Interval> lost;  // 95 %, over pictures, of what the mean IoU loses; none for few (study/statistics/over_pictures.h)
};

struct AblatedSite {
  std::string site, kind;  // "concat" or "sum"
  std::vector<AblatedBranch> branches;
};

struct AblatedRun {
  std::string run, head, equalizer;  // as typed; model.decode_head.type, equalizer.mode
  int64_t seed = 0;
  std::string training;  // the configuration but for the seed, as JSON text: equal in runs that differ in nothing else
  int64_t pictures = 0;
  SegmentationMetrics metrics;  // of the whole network
  std::vector<AblatedSite> sites;
};

struct Ablation {
  std::vector<AblatedRun> runs;  // those measured whole
  bool finished = false;         // all of them are there: neither SIGINT nor SIGTERM ended it
};

// The networks of these folders and files. The folder of a paired study (`study run`) stands for its finished runs, in its order; one that
// two arms share is there once. Throws DataError for a study.json that cannot be read, UsageError for a study without finished runs.
std::vector<std::filesystem::path> networks_in(const std::vector<std::filesystem::path>& paths);

// The means are those over the pictures that are evaluated, so as many evaluations as there are branches, and one more. A single picture's
// own mean is not kept: a branch pooled to one cell is replaced, too. Throws what loading and evaluating throw, UsageError for a network
// that fuses nothing: all are loaded once before the first is measured.
Ablation run_ablation(const AblationRequest& request);

std::string ablation_json(const Ablation& ablation, const AblationRequest& request, const std::string& command, double seconds);
std::string ablation_table(const AblatedRun& run);  // for the terminal

// A class that loses IoU without the branch, and how much: largest loss first, at most `count`, none that loses less than 0.005.
struct ClassLoss {
  std::string name;
  double loss;
};
std::vector<ClassLoss> largest_losses(const SegmentationMetrics& whole, const SegmentationMetrics& without, size_t count);

}  // namespace eq
