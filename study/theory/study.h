#pragma once
// `equiscale study theory`: every closed form beside what the engine's own kernels make of random fields.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace eq {

struct TheoryCheck {
  std::string name, setting;   // "white noise", "n=128 r=4 align_corners=false"
  double predicted = 0, measured = 0;
  double standard_error = 0;   // of the measured value, from independent batches; 0: nothing random in it
  double z = 0;                // (measured - predicted)/standard_error as a normal score (few batches have heavier tails)
  double bound = 0;            // largest |measured - predicted| / |predicted|
  bool at_most = false;        // predicted is a limit: measured may lie below it
  bool pass = false;           // |z| < 4 and within the bound
};

// The authors' own experiment: a population variance before and after upsampling (align_corners = false).
struct WhiteNoisePoint {
  int64_t ratio = 0;
  double variance = 0;       // asked of the generator
  double before = 0, after = 0;
};

// How fast a level's weights are learned by least squares: by "sgd" or "adamw", under a mode of the equalizer.
struct LearningCurve {
  std::string optimizer, mode;
  double deviation = 0;                               // of the level at the fusion
  double predicted_steps = 0, measured_steps = 0;  // until nine tenths of the change are learned; NaN: not within the steps that were made
  std::vector<int64_t> steps;                         // some of them, of SGD only,
  std::vector<double> predicted, measured;            // and the share of the error that is left after each
};

struct TheoryRequest {
  uint64_t seed = 0;
  int64_t samples = int64_t{1} << 20;  // input cells per setting, 2^16 .. 2^30
  bool full = false;  // the authors' experiment in its published size: 99 variances, 16 x 256 maps of 128 x 128 each
  std::function<void(const TheoryCheck&)> on_check = {};
};

struct TheoryReport {
  std::vector<TheoryCheck> checks;
  std::vector<WhiteNoisePoint> white_noise;
  std::vector<LearningCurve> learning;  // by optimizer, mode and level
  double seconds = 0;
  int64_t failed() const;
};

// A function of the request alone. Memory stays below about 300 MiB whatever its size. Throws UsageError for `samples` out of range.
TheoryReport run_theory_study(const TheoryRequest& request);

// The text of study.json. `command` is what was typed.
std::string theory_study_json(const TheoryReport& report, const TheoryRequest& request, const std::string& command);

// The steps of report.learning: a row for each optimizer and mode, a column for each level.
std::string learning_table(const TheoryReport& report);

}  // namespace eq
