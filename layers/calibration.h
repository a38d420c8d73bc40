#pragma once
// Measures the scale of every branch of every fusion site and sets the equalizers' constants.

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "layers/fusion.h"

namespace eq {

struct CalibrationReport {
  struct Branch {
    std::string site, branch;
    double mean = 0, std = 0;  // over all its values, after resizing; what theory says of it where the constants are analytic
    // Standard errors of the two: by how much they would be others over other batches. Of batches, not of pictures, since batch norm ties
    // the pictures of a batch to each other. NaN where the constants are analytic, or from one batch.
    double mean_error = std::numeric_limits<double>::quiet_NaN(), std_error = mean_error;
    bool equalized = false;
    bool floored = false;      // some standard deviation was below the floor: raised to it, or of a refresh left as it was
    double growth = 1;         // of a refresh: sigma_new / sigma_old; of several channels that which is farthest from 1
  };
  std::vector<Branch> branches;
  int64_t batches = 0;         // 0: analytic
};

// Sets the constants of every site of `model` whose mode has some; run_forward(i) runs the network on training batch i.
//
// "measured": over `batches` forward passes, "together" with no site equalized meanwhile, or "in_turn", each site in such passes of its own
// with the sites before it equalized, in the order in which one more pass reaches them. The network is in training mode, so that batch norm
// uses batch statistics: with the running values of a fresh decoder it would be the identity, and the scale measured would not be the one
// the optimiser sees. Parts of a training network that are in evaluation mode (frozen) stay so. Running statistics, modes and observers are
// restored, also when something throws; so are the constants of explicit and learnable equalizers then. Sites in a folded mode can be
// calibrated once. "analytic": one forward pass tells the sizes; the constants are those of white noise behind batch norm and ReLU (mean
// 0.399, standard deviation 0.584) times the square root of the resizing's variance factor (core/kernels/bilinear_variance.h).
//
// Throws UsageError where no pass reaches a site, where a site has folded its constants already, and where sites differ in how they are to
// be measured; NumericalError for features that are not finite.
CalibrationReport calibrate_equalizers(Module& model, const std::function<void(int64_t)>& run_forward);

// What a refresh would set (training/refresh.h).
struct NewConstants {
  struct Site {
    FusionSite* site;
    std::vector<BranchConstants> constants;
  };
  std::vector<Site> sites;
  CalibrationReport report;
};

// Measures the sites of a network that trains, as it is: a refresh changes no function, so all sites are measured in the same passes.
// What is silent over these passes, its deviation below the floor, keeps its constants: divided by the floor it would come back thousands
// of times as large. Nothing is changed; everything else is as above. Throws UsageError also for sites that do not refresh.
NewConstants measure_again(Module& model, const std::function<void(int64_t)>& run_forward);

}  // namespace eq
