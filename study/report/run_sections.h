#pragma once
// The parts of a run's page. Each says what is missing where its files are.

#include "study/report/html.h"
#include "study/report/run_files.h"

namespace eq::report {

Section learning_section(const RunFiles& run);  // loss, learning rate, mIoU, gradient norm, throughput
Section classes_section(const RunFiles& run);   // per-class IoU, and how it came about
Section confusion_section(const RunFiles& run);
Section pictures_section(const RunFiles& run);    // the best and the worst, with errors
Section scales_section(const RunFiles& run);      // of the branches that meet at fusion sites
Section gradients_section(const RunFiles& run);   // at the same sites
Section layers_section(const RunFiles& run);      // gradient norms layer by time
Section provenance_section(const RunFiles& run);  // configuration, seed, versions, machine, hashes, data

Tile cross_entropy_tile(const EvaluationRow& scores);

// "Train with --set key=value."
std::string train_with(const std::string& key, const std::string& value);

}  // namespace eq::report
