#pragma once
// ScaleEqualizer: (x - mean) / std with constants measured once over the training data (Kim & Kim, 2024), which puts the
// features that meet at a fusion layer on one scale after bilinear upsampling has shrunk the variance of some of them; and the
// layers it is compared with.

#include <cstdint>
#include <string>
#include <vector>

#include "layers/module.h"

namespace eq {

// How the branches of a fusion site are put on one scale. With x_i a branch at the site's size, (mu_i, sigma_i) its constants and
// W_i its slice of the fusion weight:
//   "off"                as they come
//   "explicit"           (x_i - mu_i) / sigma_i, the constants fixed
//   "folded"             W_i / sigma_i once, before training, and nothing to compute after that: the same function at the first step, but
//                        gradient descent sees the unequalized features (PAPER: "an auxiliary initializer")
//   "folded_normalised"  as "folded" with sigma_i / (geometric mean of all sigma), so that the weight keeps its overall size
//   "folded_lr"          as "folded", and the optimizer steps W_i in the equalizer's units (learning rate times 1 / sigma_i^2 with
//                        SGD, 1 / sigma_i with Adam): the same training as "explicit" where a batch norm follows, which cancels the means
//   "learnable"          as "explicit", then trained
// and for comparison, after the upsampling:
//   "batch_norm", "layer_norm"
//   "l2_norm"            each position's vector divided by its length, times a learned gain per channel (ParseNet, SSD)
//   "weighted"           w_i / (sum w + 1e-4) with learned w_i >= 0 (BiFPN's fast normalised fusion)
struct EqualizerOptions {
  std::string mode = "off";
  // Names of the fusion sites that are equalized ("fpn_fusion"), the others are left alone; empty: all that concatenate, as in the paper.
  // Sums ("top_down") have to be named.
  std::vector<std::string> sites = {};
  std::string inputs = "all";          // "all" inputs of a site; "upsampled" ones only; or those, "matched" to the standard
                                       // deviation of the inputs that are not upsampled, their mean kept
  std::string granularity = "scalar";  // one pair of constants per branch, or one per "channel"
  std::string constants = "measured";  // over training batches; or "analytic": what white noise behind batch norm and ReLU would have
  std::string measure = "together";    // all sites in one pass; or "in_turn", each with the sites before it equalized
  int64_t batches = 32;                // training batches the constants are measured over
  double floor = 1e-5;                 // smallest sigma
  // What the constants are made of: mu is 0 without `center` (the scale alone is equalized); with an exponent below 1 a branch is divided
  // by sigma^exponent, so that differences of scale become smaller and do not vanish: 0.5 halves them on a logarithmic scale, 0 leaves
  // them.
  bool center = true;
  double exponent = 1;
  // "explicit" and "folded_lr": updates between measurements of the constants during training (FusionSite::refresh); 0: never, as the paper
  // has it.
  int64_t refresh = 0;
};

const std::vector<std::string>& equalizer_modes();
inline bool folds(const EqualizerOptions& o) { return o.mode == "folded" || o.mode == "folded_normalised" || o.mode == "folded_lr"; }
// Whether the mode has constants to be set before training.
inline bool has_constants(const EqualizerOptions& o) { return folds(o) || o.mode == "explicit" || o.mode == "learnable"; }
// What these options are for the fusion site of that name; and for sums, which are equalized only where `sites` names them.
EqualizerOptions at_site(const EqualizerOptions& options, const std::string& site);
EqualizerOptions at_sum(const EqualizerOptions& options, const std::string& site);
// Whether the constants are to be measured anew during training.
inline bool refreshes(const EqualizerOptions& o) { return o.refresh > 0 && (o.mode == "explicit" || o.mode == "folded_lr"); }

// Of one branch: one value, or one per channel; none where the branch is left alone.
struct BranchConstants {
  std::vector<double> mean, std;
};

// What both kinds of equalizer do: y = (x - shift) * scale with shift and scale [1] or [C].
class BranchEqualizer : public Layer {
 public:
  // Takes [1] or [C] values of both; throws ShapeError for another number.
  virtual void set(const BranchConstants& constants) = 0;
  virtual BranchConstants get() const = 0;
};

// Buffers "mean" and "std": [1] or [C]. They are 0 and 1, the identity, until set. No gradient flows into them; the gradient of x is
// grad_output / std.
class ScaleEqualizer : public BranchEqualizer {
 public:
  ScaleEqualizer(int64_t channels, const EqualizerOptions& options);
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "ScaleEqualizer"; }
  void set(const BranchConstants& constants) override;
  BranchConstants get() const override;

  const Tensor& mean() const { return mean_; }
  const Tensor& std() const { return std_; }
  Tensor inverse_std() const;

 private:
  Tensor mean_, std_;
};

// Parameters "shift" and "scale": [1] or [C]; 0 and 1 until set to mean and 1 / std.
class LearnableEqualizer : public BranchEqualizer {
 public:
  LearnableEqualizer(int64_t channels, const EqualizerOptions& options);
  Tensor forward(const Tensor& x) override;
  std::string description() const override { return "LearnableEqualizer"; }
  void set(const BranchConstants& constants) override;
  BranchConstants get() const override;

 private:
  Tensor shift_, scale_;
};

// x / sqrt(sum_c x_c^2 + 1e-10) * weight_c at each position. The gain starts at sqrt(C), which makes the root mean square 1 whatever C
// is (SSD starts at 20 for 512 channels, where the square root is 22.6).
class L2Norm : public Layer {
 public:
  explicit L2Norm(int64_t channels);
  Tensor forward(const Tensor& x) override;
  std::string description() const override;

 private:
  Tensor gain_;
};

}  // namespace eq
