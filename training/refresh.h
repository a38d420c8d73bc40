#pragma once
// Equalizers whose constants follow the features. Weights and norms move while a network trains, so constants that were measured before the
// first step stop being the scale of what they divide. A refresh measures them anew and puts the difference into the fusion weight: scores
// stay what they were, and the next steps are taken in units in which all branches are on one scale again.

#include <cstdint>
#include <functional>

#include "layers/calibration.h"
#include "training/ema.h"
#include "training/optimizer.h"

namespace eq {

// For a network whose equalizers refresh (EqualizerOptions::refresh); run_forward(i) runs it on training batch i. What the optimizer has
// gathered of the fusion weights' gradients is brought to their new units, and the averaged weights (null: there are none) keep their
// function as the present ones do. Where no batch norm follows a site, gradients contain the means, and of these the optimizer's state
// keeps the old ones. Throws what measure_again() does, before anything changes.
CalibrationReport refresh_equalizers(Module& model, Optimizer& optimizer, Ema* ema, const std::function<void(int64_t)>& run_forward);

// Whether a factor changes more than another one does, by the logarithm: 0.5 as much as 2.
bool farther_from_one(double a, double b);
// Of the branches that are equalized the one whose growth is farthest from 1; null if there are none.
const CalibrationReport::Branch* farthest(const CalibrationReport& report);

}  // namespace eq
