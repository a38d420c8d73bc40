// Claims about upsampling, gradients and learning, judged by the theory study.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/words.h"
#include "study/claims/rules.h"

namespace eq {
namespace {

constexpr const char* kTheoryCommand = "equiscale study theory --out DIR";

struct TheoryFound {
  std::vector<const TheoryCheck*> checks;
  std::vector<std::string> files;
  bool all_pass() const {
    return std::all_of(checks.begin(), checks.end(), [](const TheoryCheck* c) { return c->pass; });
  }
  double lowest() const { return (*std::min_element(checks.begin(), checks.end(), by_measured))->measured; }
  double highest() const { return (*std::max_element(checks.begin(), checks.end(), by_measured))->measured; }

 private:
  static bool by_measured(const TheoryCheck* a, const TheoryCheck* b) { return a->measured < b->measured; }
};

// The checks of a group whose setting contains `part`.
TheoryFound find_checks(const std::vector<TheoryEvidence>& evidence, const std::string& name, const std::string& part = "") {
  TheoryFound found;
  for (const TheoryEvidence& study : evidence) {
    for (const TheoryCheck& check : study.checks) {
      if (check.name != name || check.setting.find(part) == std::string::npos) continue;
      found.checks.push_back(&check);
      found.files.push_back(study.file);
    }
  }
  return found;
}

Claim undecided(const std::string& claim, const std::string& source) {
  return {claim, source, "", Verdict::kNotMeasured, kTheoryCommand};
}

Claim decided(Claim claim, const TheoryFound& found, bool holds, const std::string& measurement) {
  claim.measurement = measurement;
  claim.verdict = holds ? Verdict::kHolds : Verdict::kDoesNotHold;
  claim.evidence = once_each(found.files);
  return claim;
}

Claim lower_variance(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim = undecided("Bilinear upsampling lowers the variance", "theorem 3.2");
  const TheoryFound found = find_checks(evidence, "white noise");
  if (found.checks.empty()) return claim;
  const bool below =
      std::all_of(found.checks.begin(), found.checks.end(), [](const TheoryCheck* c) { return c->measured + 4 * c->standard_error < 1; });
  return decided(claim, found, below && found.all_pass(),
                 fmt::format("white noise keeps {:.3f} to {:.3f} of its variance over {} settings of ratio, size and align_corners",
                             found.lowest(), found.highest(), found.checks.size()));
}

Claim every_picture(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim = undecided("It lowers the variance of every single picture", "read into theorem 3.2");
  const TheoryFound walks = find_checks(evidence, "no picture gains"),
                    sine = find_checks(evidence, "a picture may gain", "align_corners=true");
  if (walks.checks.empty() || sine.checks.empty()) return claim;
  constexpr double kSineVariance = 0.46875;
  return decided(
      claim, walks, walks.all_pass() && sine.highest() <= kSineVariance,
      fmt::format(
          "align_corners=false and a whole ratio: none of {} x 1000 random walks gained (largest ratio {:.3f}); align_corners=true: a sine "
          "of variance {} becomes {:.5f}",
          walks.checks.size(), walks.highest(), kSineVariance, sine.highest()));
}

Claim script_slopes(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim = undecided("The variance after upsampling is proportional to that before", "the synthetic experiment");
  const TheoryFound found = find_checks(evidence, "the authors' script", "slope");
  if (found.checks.empty()) return claim;
  std::vector<std::string> slopes;
  for (const TheoryCheck* c : found.checks) slopes.push_back(fmt::format("{:.4f} ({:.4f})", c->measured, c->predicted));
  return decided(claim, found, found.all_pass(), "slopes measured (predicted) for ratios 2, 4, 8: " + joined(slopes));
}

Claim monotone(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim = undecided("Stronger upsampling means lower variance", "often read into the paper");
  TheoryFound found;
  for (const char* setting : {"n=128 r=2 align_corners=false", "n=128 r=4 align_corners=false", "n=128 r=8 align_corners=false"}) {
    const TheoryFound one = find_checks(evidence, "white noise", setting);
    if (one.checks.empty()) return claim;
    found.checks.push_back(one.checks.front());
    found.files.push_back(one.files.front());
  }
  const auto& c = found.checks;
  return decided(
      claim, found, c[0]->measured > c[1]->measured && c[1]->measured > c[2]->measured,
      fmt::format("white noise, n=128: {:.3f} at ratio 2, {:.3f} at 4, {:.3f} at 8", c[0]->measured, c[1]->measured, c[2]->measured));
}

Claim rectified(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim = undecided("Convolution, batch norm and ReLU start every branch at mean 0.3989", "the synthetic experiment");
  const TheoryFound found = find_checks(evidence, "rectified normal", "convolution");
  if (found.checks.size() < 2) return claim;
  return decided(
      claim, found, found.all_pass(),
      fmt::format("mean {:.4f}, variance {:.4f} behind a convolution of gain 21", found.checks[0]->measured, found.checks[1]->measured));
}

Claim gradient_scale(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim =
      undecided("The scale of a weight's gradient follows the variance of its feature", "section 2.1, the gradient argument");
  const TheoryFound bare = find_checks(evidence, "weight gradient", "as they are, no norm"),
                    normed = find_checks(evidence, "weight gradient", "as they are, batch norm");
  if (bare.checks.empty() || normed.checks.empty()) return claim;
  return decided(claim, normed, bare.all_pass() && normed.all_pass(),
                 fmt::format("with batch norm behind the fusion second moments of {:.3f} to {:.3f} follow the centred variance; without it "
                             "the raw second moment "
                             "counts instead ({:.3f} to {:.3f})",
                             normed.lowest(), normed.highest(), bare.lowest(), bare.highest()));
}

// The share of its error that each level loses per step of SGD in a mode; least squares, whitened levels.
TheoryFound learning_speeds(const std::vector<TheoryEvidence>& evidence, const std::string& mode) {
  return find_checks(evidence, "learning, SGD: share of its error that a level loses per step", mode + ", deviation");
}

constexpr double kEqualSpeeds = 1.02;  // largest over smallest up to which levels count as learned alike

Claim slower_levels(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim = undecided("A level of smaller scale learns more slowly, and equalizers cure that (least squares)",
                                "section 2.1, the gradient argument");
  const TheoryFound off = learning_speeds(evidence, "off"), cured = learning_speeds(evidence, "explicit");
  const TheoryFound sgd = find_checks(evidence, "learning: exponent of the deviation in the speed", "SGD, off");
  const TheoryFound adamw = find_checks(evidence, "learning: exponent of the deviation in the speed", "AdamW, off");
  if (off.checks.empty() || cured.checks.empty() || sgd.checks.empty() || adamw.checks.empty()) return claim;
  const bool pass = off.all_pass() && cured.all_pass() && sgd.all_pass() && adamw.all_pass();
  const bool slower = off.highest() > kEqualSpeeds * off.lowest() && sgd.lowest() > 0 && adamw.lowest() > 0;
  return decided(
      claim, off, pass && slower && cured.highest() <= kEqualSpeeds * cured.lowest(),
      fmt::format("with a fixed target, not of networks: a step of SGD takes {:.3g} % from the error of the level of the largest "
                  "scale, {:.3g} % from that of the smallest; the speed goes as the deviation to the power {:.2f}, with AdamW {:.2f}; "
                  "with explicit equalizers {:.3g} % from each",
                  100 * off.highest(), 100 * off.lowest(), sgd.highest(), adamw.highest(), 100 * cured.highest()));
}

Claim fold_cures(const std::vector<TheoryEvidence>& evidence) {
  const Claim claim =
      undecided("Equalizers folded into the initial weights cure that as well (least squares)", "section 1.5, the auxiliary initializer");
  const TheoryFound off = learning_speeds(evidence, "off"), folded = learning_speeds(evidence, "folded"),
                    in_units = learning_speeds(evidence, "folded_lr");
  if (off.checks.empty() || folded.checks.empty() || in_units.checks.empty()) return claim;
  return decided(
      claim, folded, folded.all_pass() && folded.highest() <= kEqualSpeeds * folded.lowest(),
      fmt::format("a step of SGD takes {:.3g} % to {:.3g} % from the levels' errors, without equalizers {:.3g} % to {:.3g} %; stepped in "
                  "the equalizers' units (folded_lr) {:.3g} % to {:.3g} %",
                  100 * folded.lowest(), 100 * folded.highest(), 100 * off.lowest(), 100 * off.highest(), 100 * in_units.lowest(),
                  100 * in_units.highest()));
}

}  // namespace

std::vector<Claim> judge_theory(const std::vector<TheoryEvidence>& evidence) {
  return {lower_variance(evidence), every_picture(evidence),  script_slopes(evidence), monotone(evidence),
          rectified(evidence),      gradient_scale(evidence), slower_levels(evidence), fold_cures(evidence)};
}

}  // namespace eq
