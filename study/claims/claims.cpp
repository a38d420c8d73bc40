#include "study/claims/claims.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/json.h"
#include "study/claims/rules.h"
#include "study/study_head.h"

namespace eq {

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kHolds: return "holds";
    case Verdict::kDoesNotHold: return "does not hold";
    case Verdict::kNotSettled: return "not settled";
    case Verdict::kNotMeasured: break;
  }
  return "not measured";
}

std::vector<Claim> judge_claims(const std::filesystem::path& folder) {
  const Evidence evidence = read_evidence(folder);
  std::vector<Claim> claims;
  for (auto group : {judge_theory(evidence.theory), judge_records(evidence.scales, evidence.gradients), judge_runs(evidence.runs)}) {
    for (Claim& claim : group) claims.push_back(std::move(claim));
  }
  return claims;
}

std::string claims_json(const std::vector<Claim>& claims, const std::string& command, double seconds) {
  using nlohmann::ordered_json;
  ordered_json rows = ordered_json::array();
  for (const Claim& c : claims) {
    rows.push_back({{"claim", c.claim},
                    {"source", c.source},
                    {"measurement", c.measurement},
                    {"verdict", to_string(c.verdict)},
                    {"evidence", c.evidence}});
  }
  ordered_json study = study_head("claims", command, seconds);
  study["claims"] = rows;
  return file_text(study);
}

std::string claims_table(const std::vector<Claim>& claims) {
  std::string text;
  for (const Claim& c : claims) {
    text += fmt::format("{:<14} {} [{}]\n", to_string(c.verdict), c.claim, c.source);
    if (!c.measurement.empty()) text += fmt::format("{:14} {}\n", "", c.measurement);
    text += fmt::format("{:14} {}: {}\n", "", c.verdict == Verdict::kNotMeasured ? "measure it by" : "evidence", c.evidence);
  }
  return text;
}

}  // namespace eq
