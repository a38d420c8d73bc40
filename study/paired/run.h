#pragma once
// `equiscale study run`: the same seeds under every arm, compared pair by pair with the first arm.
//
// DIR/<arm>/<seed>/ is an ordinary training run (with cost.json beside what training leaves; its progress is in log.txt); DIR/study.json
// and report.html are rewritten after each. Initial weights and the order of the data are functions of the seed, so runs of one seed differ
// in nothing but the arm.

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "study/paired/arms.h"
#include "study/statistics/paired.h"

namespace eq {

struct PairedRequest {
  std::filesystem::path config;
  std::vector<std::string> settings = {};  // of all arms
  std::vector<ArmSpec> arms;               // the first one is the baseline
  int64_t seeds = 3;
  std::filesystem::path out;
  std::string command = {};           // for study.json
  bool dry_run = false;               // resolve everything, compare initial weights of the first seed, run nothing
  std::FILE* log = stdout;            // null: quiet
};

// grad_ratio of a fusion site (training/probes.h) along a run.
struct SiteRatios {
  std::string site;
  std::vector<int64_t> iterations;  // of the records, ascending
  std::vector<double> ratios;       // one each
};

struct PairedRun {
  std::string arm;
  int64_t seed = 0;
  std::string folder;       // relative to the study's
  double miou = 0, macc = 0, aacc = 0;
  double cross_entropy = 0;       // on the validation pictures; NaN of a run from before it was measured
  std::vector<double> per_class;  // IoU; NaN: absent
  double loss_tail = 0;     // mean training loss over the iterations after tail_from, where the last tenth begins or the log's row with it
  double tail_from = 0;
  double seconds = 0, cpu_seconds = 0;
  std::string weights_sha256;
  std::string shared_from;  // the arm with the same configuration whose run this is; empty: its own
  std::vector<SiteRatios> grad_ratios;  // where probes were on
};

// A run that ended because its loss or gradient was no longer finite.
struct DivergedRun {
  std::string arm;
  int64_t seed = 0, iteration = 0;
  std::string folder;  // relative to the study's
};

struct PairedStudy {
  Arms arms;
  std::vector<std::string> class_names;
  std::vector<WeightsOfSeed> initial_weights;  // one per seed that was begun
  std::vector<PairedRun> runs;                  // finished ones
  std::vector<DivergedRun> diverged;            // no seed of theirs is compared
  std::vector<PairedComparison> comparisons;
  bool finished = false;  // false: stopped by a signal, or a dry run
};

// Finished runs are kept, an interrupted one is resumed. SIGINT and SIGTERM end it with a checkpoint. Throws UsageError for a folder that
// holds a run of another configuration (naming the keys), and what training throws.
PairedStudy run_paired_study(const PairedRequest& request);

// The metrics that are compared: miou, macc, aacc, cross_entropy, loss_tail.
std::vector<Metric> paired_metrics();
// Every other arm against the first one, over the seeds that both have finished; training losses only where they are means over the same
// iterations.
std::vector<PairedComparison> compare_arms(const PairedStudy& study);

// What an arm does to the inequality of a site's gradients, at the first and the last record that all pairs have.
struct RatioComparison {
  std::string site, baseline, arm;
  int64_t iteration = 0;
  Factor factor;  // arm over baseline, a pair a seed
};
std::vector<RatioComparison> compare_grad_ratios(const PairedStudy& study);
std::string grad_ratios_table(const std::vector<RatioComparison>& comparisons);  // for the terminal; empty without any
// Of all sites whose gradients tell scales (no sum, no depthwise convolution); none without the file. Throws DataError naming it.
std::vector<SiteRatios> read_grad_ratios(const std::filesystem::path& probes);

std::string paired_study_json(const PairedStudy& study, const std::string& command);
// For the terminal: a row per arm, then the words of each mIoU comparison.
std::string paired_study_table(const PairedStudy& study);

// Reads a finished run (summary.json, metrics.jsonl, cost.json, probes.jsonl). Throws IoError or DataError naming the file.
PairedRun read_paired_run(const std::filesystem::path& folder, std::vector<std::string>* class_names = nullptr);

}  // namespace eq
