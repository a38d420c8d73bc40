#pragma once
// What a configuration says about training and evaluation. Defaults are those of an empty configuration file.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace eq {

// Multipliers for the parameters whose name contains `pattern`; the pattern "norm" also means every parameter of a
// normalisation layer, whatever its name. A parameter that several groups match gets the product of their multipliers.
struct ParameterGroup {
  std::string pattern;
  double lr_mult = 1;
  double decay_mult = 1;
};

struct OptimizerOptions {
  std::string type = "sgd";  // "sgd", "adamw"
  double lr = 0.01;          // for the schedule: an optimizer is told the rate of each step
  double momentum = 0.9;     // sgd
  bool nesterov = false;     // sgd
  std::array<double, 2> betas = {0.9, 0.999};  // adamw
  double eps = 1e-8;                           // adamw
  double weight_decay = 5e-4;
  std::vector<ParameterGroup> groups = {};
};

struct ScheduleOptions {
  std::string type = "poly";  // "poly", "cosine", "constant"
  double power = 0.9;         // poly
  double min_lr = 1e-4;       // poly, cosine: the value at the end
  int64_t warmup_iterations = 0;
  double warmup_ratio = 1e-6;  // the share of the scheduled rate at iteration 0 of the warm-up
};

// Online hard example mining: pixels answered with at least `threshold` leave the cross entropy, but min_kept of each picture
// (on average over the batch) stay (core/kernels/hard_examples.h).
struct OhemOptions {
  double threshold = 0.7;
  int64_t min_kept = 100000;
};

struct TrainOptions {
  int64_t iterations = 1000;
  int64_t batch_size = 8;     // pictures per forward pass
  int64_t accumulate = 1;     // forward passes per update
  double clip_norm = 0;       // largest global gradient norm; 0: no clipping
  double ema = 0;             // decay of the averaged weights; 0: none
  double aux_weight = 0.4;    // of the auxiliary head's loss
  std::vector<double> class_weights = {};   // one per class; empty: all 1
  std::vector<std::string> freeze = {};     // modules that do not learn and stay in evaluation mode, each with all that is in it
  std::vector<std::string> norm_eval = {};  // modules whose batch norms stay in evaluation mode while their parameters learn
  std::string precision = "float32";      // of features in training: "float32", "bf16" (EncoderDecoder::set_precision)
  std::string reduction = "mean_all";     // "mean_all", "mean_valid" (core/kernels/cross_entropy.h)
  std::optional<OhemOptions> ohem = {};   // of each head's own answer
  double dice_weight = 0;                 // a head's loss is cross entropy + dice_weight * Dice loss (core/kernels/dice_loss.h)
  int64_t log_every = 10;         // iterations between progress lines; 0: one, at the end
  int64_t evaluate_every = 0;     // 0: only at the end
  int64_t checkpoint_every = 500; // 0: only at the end and when stopped
  bool keep_best = false;         // keep the weights of the best evaluation, too (model_best.safetensors)
  int64_t overlays = 8;           // pictures input | label | prediction written after the last evaluation
  bool tensorboard = false;       // also write what TensorBoard shows (training/tensorboard.h)
  int64_t loader_threads = 0;     // that prepare pictures; 0: as loader_options() says
  std::string on_nan = "stop";    // "stop"; "dump": also write nan_report.json with statistics of every layer
};

// What a run records of its fusion sites (training/probes.h).
struct ProbeOptions {
  int64_t every = 0;    // iterations between records, the first and the last one included; 0: none
  bool layers = true;   // also the gradient and the update of every weight
};

struct EvaluateOptions {
  std::string mode = "whole";                 // "whole", "slide"
  std::array<int64_t, 2> crop = {512, 512};   // slide: window, height and width in pixels
  std::array<int64_t, 2> stride = {341, 341}; // slide: step, height and width
  int64_t batch_size = 1;                     // pictures (whole) or windows (slide) per forward pass
  std::vector<double> scales = {1};           // each picture is looked at in these sizes, times its own
  bool flip = false;                          // and mirrored; probabilities are averaged
};

}  // namespace eq
