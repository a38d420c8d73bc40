#pragma once
// The parts of a study's page that have pictures of their own.

#include <filesystem>
#include <vector>

#include "study/report/fields.h"
#include "study/report/html.h"

namespace eq::report {

// Measured against predicted, how fast levels are learned, every check.
std::vector<Section> theory_sections(const Fields& study);
// Arms and seeds, differences with intervals, what they say in words, classes, cost. Runs in `folder` are linked where they have a report.
std::vector<Section> paired_sections(const Fields& study, const std::filesystem::path& folder);
// One section a head; arms side by side, at the beginning, at the end and on the way. Runs in `folder` are linked where they have a report.
std::vector<Section> scale_sections(const Fields& study, const std::filesystem::path& folder);
std::vector<Section> gradient_sections(const Fields& study, const std::filesystem::path& folder);
// What each branch contributes, then class by class; runs side by side.
std::vector<Section> ablation_sections(const Fields& study);

}  // namespace eq::report
