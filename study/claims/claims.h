#pragma once
// `equiscale study claims`: what the paper claims, what the studies below a folder measured, and a verdict by fixed rules.

#include <filesystem>
#include <string>
#include <vector>

namespace eq {

enum class Verdict { kHolds, kDoesNotHold, kNotSettled, kNotMeasured };
const char* to_string(Verdict verdict);  // "holds", "does not hold", "not settled", "not measured"

struct Claim {
  std::string claim, source;  // in words; where the paper (or what follows from it) says so
  std::string measurement;    // numbers in words; what would measure it where nothing did
  Verdict verdict = Verdict::kNotMeasured;
  std::string evidence;       // study.json files, relative to the folder, or the command that would make one
};

// Reads every study.json below `folder`. The rules stand in study/claims/rules_*.cpp and docs/studies.md. Throws IoError (no such folder)
// and DataError naming the file (not JSON, or without what its kind promises).
std::vector<Claim> judge_claims(const std::filesystem::path& folder);

std::string claims_json(const std::vector<Claim>& claims, const std::string& command, double seconds);
std::string claims_table(const std::vector<Claim>& claims);

}  // namespace eq
