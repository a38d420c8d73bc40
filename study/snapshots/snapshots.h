#pragma once
// `equiscale study scales` and `study gradients`: what the branches of every fusion site look like on real data, before the first update
// and, if asked, along a training run.

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "layers/calibration.h"
#include "study/paired/arms.h"
#include "training/probes.h"

namespace eq {

struct SnapshotRequest {
  std::filesystem::path config;
  std::vector<std::string> settings = {};
  std::vector<ArmSpec> heads;   // decode heads to compare; empty: the configuration's
  std::vector<ArmSpec> arms;    // modes of the equalizer
  bool gradients = false;       // also run backward: the gradient of each slice and branch
  int64_t batches = 32;         // of training data, fresh ones: the constants were measured over others
  int64_t seeds = 1;            // networks of each head and arm, from the configuration's seed on; the first of them is trained
  int64_t iterations = 0;       // 0: the first step only; else each head and arm is trained so long and recorded on the way
  int64_t every = 50;           // iterations between those records
  std::filesystem::path out = {};  // study.json, and the runs; empty: nothing is written
  std::FILE* log = stdout;      // null: quiet
};

struct Snapshot {
  std::string head, arm;
  std::vector<ProbeRecord> by_seed;  // each the mean of its batches
  ProbeRecord record;                // the mean over the seeds
  std::vector<CalibrationReport> calibrations = {};  // [seed]; without branches in modes without constants
};

// "uper,psp,fcn" or "name:key=value;...", as for arms. A name alone sets model.decode_head.type; "fcn" is the form that fuses all levels
// (input_transform resize_concat and one 1x1 convolution), since the other one has nothing to resize.
std::vector<ArmSpec> parse_heads(const std::string& text);

// Means over `batches` batches: deviations pooled, gradients as root mean squares. Throws what loading, building and training throw.
std::vector<Snapshot> first_step_snapshots(const SnapshotRequest& request);

// Trains each head and arm for request.iterations updates (0: none) with probes on, in out/<head>-<arm>/; what was begun goes on. False
// when SIGINT or SIGTERM ended it, with a checkpoint. Throws what training throws.
bool train_and_record(const SnapshotRequest& request);

// The snapshots, then what the runs have recorded so far, as the text of study.json.
std::string snapshot_study_json(const SnapshotRequest& request, const std::vector<Snapshot>& snapshots, bool finished,
                                const std::string& command, double seconds);

// One head and arm for the terminal.
std::string snapshot_table(const Snapshot& snapshot, bool gradients);

}  // namespace eq
