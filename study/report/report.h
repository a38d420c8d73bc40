#pragma once
// report.html: what a folder holds as one page that needs no network, no script and no other file. Readable on a phone, in dark mode and
// on paper.

#include <filesystem>

namespace eq {

// For a run's folder (training/trainer.h): needs config.json and metrics.jsonl; everything else may be missing, and the page then says
// what would make it. Replaces folder/report.html and returns its path. Throws IoError, and DataError for files that are damaged, naming
// them.
std::filesystem::path write_run_report(const std::filesystem::path& folder);

// For a study's folder: needs study.json.
std::filesystem::path write_study_report(const std::filesystem::path& folder);

// For a folder of `equiscale eval --out`: needs evaluation.json.
std::filesystem::path write_evaluation_report(const std::filesystem::path& folder);

// Whichever of these the folder is, by its files.
std::filesystem::path write_report(const std::filesystem::path& folder);

}  // namespace eq
