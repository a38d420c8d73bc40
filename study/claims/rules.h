#pragma once
// Internal to the claims: the evidence in numbers, and the rules over it.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "study/claims/claims.h"
#include "study/statistics/paired.h"
#include "study/theory/study.h"

namespace eq {

struct TheoryEvidence {
  std::string file;
  std::vector<TheoryCheck> checks;
};

struct BranchEvidence {
  std::string name;
  bool upsampled = false;
  double channels = 0;
  double resized_std = 0, fused_mean = 0, fused_std = 0;
  // By how much other batches would have moved the two, in their units: of the constants and of the record. 0: the study does not say.
  double mean_error = 0, std_error = 0;
  std::optional<double> weight_grad;  // norm of the gradient of the fusion weight's slice
};

struct SiteEvidence {
  std::string head, mode, site;  // mode: equalizer.mode of the record's arm, "changed <mode>" if it is not the paper's equalizer
  bool depthwise = false;        // the fusion convolution: each filter reads one branch alone
  std::optional<double> grad_ratio;
  std::vector<BranchEvidence> branches;
};

struct RecordEvidence {  // of the studies "scales" and "gradients"
  std::string file;
  std::vector<SiteEvidence> sites;  // of concatenations, before the first update
};

struct RunEvidence {
  std::string file;
  struct Arm {
    std::string mode;              // as of a site
    std::set<std::string> others;  // settings besides the equalizer's
  };
  std::map<std::string, Arm> arms;
  struct Run {
    double miou = 0, loss_tail = 0, seconds = 0;  // of the processor, where the study knows
    std::string weights;                          // their SHA-256; empty: unknown
    double tail_from = 0;                         // the iteration from which loss_tail is a mean
  };
  std::map<std::string, std::map<int64_t, Run>> runs;  // arm -> seed
};

struct Evidence {
  std::vector<TheoryEvidence> theory;
  std::vector<RecordEvidence> scales, gradients;
  std::vector<RunEvidence> runs;
};

Evidence read_evidence(const std::filesystem::path& folder);

std::vector<Claim> judge_theory(const std::vector<TheoryEvidence>& evidence);
std::vector<Claim> judge_records(const std::vector<RecordEvidence>& scales, const std::vector<RecordEvidence>& gradients);
std::vector<Claim> judge_runs(const std::vector<RunEvidence>& evidence);

// Joins the distinct names of files.
std::string once_each(const std::vector<std::string>& files);

}  // namespace eq
