#pragma once
// ScaleEqualizer: (x - mean) / std with constants measured once over the training data (Kim & Kim, 2024), which puts the
// features that meet at a fusion layer on one scale after bilinear upsampling has shrunk the variance of some of them.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layers/module.h"
#include "layers/moments.h"

namespace eq {

struct EqualizerOptions {
  std::string mode = "off";           // "off", "explicit"
  std::string inputs = "all";         // "all" inputs of a fusion site, or "upsampled" ones only
  std::string granularity = "scalar"; // "scalar" per branch, or per "channel"
  int64_t batches = 32;               // training batches the constants are measured over
  double floor = 1e-5;                // smallest sigma
};

// Buffers "mean" and "std": [1] or [C]. They are 0 and 1, the identity, until set. No gradient flows into them; the gradient of x is
// grad_output / std.
class ScaleEqualizer : public Layer {
 public:
  ScaleEqualizer(int64_t channels, const EqualizerOptions& options);
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "ScaleEqualizer"; }

  // Takes the constants from the moments of each channel: pooled into one pair, or one pair a channel. A standard
  // deviation below the floor becomes the floor, so that a dead branch stays finite. Returns how many were raised so.
  int64_t set_constants(const std::vector<Moments>& channels);
  void reset();  // back to the identity

  const Tensor& mean() const { return mean_; }
  const Tensor& std() const { return std_; }
  Tensor inverse_std() const;

 private:
  bool per_channel_;
  double floor_;
  Tensor mean_, std_;
};

class FusionSite;

struct CalibrationReport {
  struct Branch {
    std::string site, branch;
    double mean = 0, std = 0;  // over all its values, after resizing
    bool equalized = false;
    bool floored = false;      // some standard deviation was below the floor
  };
  std::vector<Branch> branches;
  int64_t batches = 0;
};

// Measures every branch of every site over `batches` forward passes (run_forward(i) runs batch i), all sites in one pass with all equalizers
// at the identity, then sets the constants. The network is in training mode meanwhile, so that batch norm uses batch statistics: with
// the running values of a fresh decoder it would be the identity, and the scale measured would not be the one the optimiser sees. All other
// buffers (running statistics) and the mode are restored.
CalibrationReport calibrate_equalizers(Module& model, const std::vector<FusionSite*>& sites, int64_t batches,
                                       const std::function<void(int64_t)>& run_forward);

}  // namespace eq
