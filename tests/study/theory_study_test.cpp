// The study as a whole, on few samples.
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "core/errors.h"
#include "core/parallel.h"
#include "study/claims/claims.h"
#include "study/theory/lab.h"
#include "study/theory/study.h"
#include "support.h"

using namespace eq;

namespace {

constexpr const char* kSlower = "A level of smaller scale learns more slowly, and equalizers cure that (least squares)";
constexpr const char* kFolded = "Equalizers folded into the initial weights cure that as well (least squares)";

TheoryRequest small_request(uint64_t seed) {
  TheoryRequest request;
  request.seed = seed;
  request.samples = int64_t{1} << 16;
  return request;
}

}  // namespace

TEST_CASE("the kernels agree with the theory, and the claims follow", "[theory_study]") {
  const TheoryReport report = run_theory_study(small_request(0));
  std::set<std::string> groups;
  for (const TheoryCheck& check : report.checks) {
    groups.insert(check.name);
    CAPTURE(check.name, check.setting, check.predicted, check.measured, check.standard_error, check.z);
    CHECK(check.pass);
  }
  CHECK(groups.size() >= 21);
  CHECK(report.checks.size() > 180);
  CHECK(report.white_noise.size() == 24);
  REQUIRE(report.learning.size() == 32);  // two optimizers, four modes, four levels
  for (const LearningCurve& curve : report.learning) CHECK(curve.measured_steps == curve.predicted_steps);
  CHECK(report.learning[3].measured_steps == 184);  // ln 0.1 / ln (1 - 0.1/8), and on to the next whole step
  CHECK_THAT(learning_table(report), Catch::Contains("level 1.000") && Catch::Contains("sgd    off") && Catch::Contains("184 / 184"));
  const std::string text = theory_study_json(report, small_request(0), "equiscale study theory");
  const auto json = nlohmann::json::parse(text);
  CHECK(json["kind"] == "theory");
  CHECK(json["failed"] == 0);
  CHECK(json["passed"] == report.checks.size());
  CHECK(json["checks"].size() == report.checks.size());
  CHECK(json["learning"][0]["measured"].size() == json["learning"][0]["steps"].size());

  test::TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "theory");
  test::write_file(folder.path() / "theory" / "study.json", text);
  std::map<std::string, Verdict> verdicts;
  const auto claims = judge_claims(folder.path());
  for (const Claim& claim : claims) verdicts[claim.claim] = claim.verdict;
  CHECK(verdicts.at("Bilinear upsampling lowers the variance") == Verdict::kHolds);
  CHECK(verdicts.at("It lowers the variance of every single picture") == Verdict::kDoesNotHold);
  CHECK(verdicts.at("The variance after upsampling is proportional to that before") == Verdict::kHolds);
  CHECK(verdicts.at("Stronger upsampling means lower variance") == Verdict::kDoesNotHold);
  CHECK(verdicts.at("Convolution, batch norm and ReLU start every branch at mean 0.3989") == Verdict::kHolds);
  CHECK(verdicts.at("The scale of a weight's gradient follows the variance of its feature") == Verdict::kHolds);
  CHECK(verdicts.at(kSlower) == Verdict::kHolds);
  CHECK(verdicts.at(kFolded) == Verdict::kDoesNotHold);
  CHECK(claims.front().evidence == "theory/study.json");
  CHECK(nlohmann::json::parse(claims_json(claims, "c", 1))["claims"][0]["verdict"] == "holds");
}

TEST_CASE("the claims about learning follow the checks", "[theory_study]") {
  Lab lab(small_request(0));
  check_learning(lab);
  const auto json = nlohmann::json::parse(theory_study_json(lab.report, small_request(0), "c"));
  test::TemporaryFolder folder;
  // The verdicts on the checks after `change`, in the order of the two claims.
  const auto verdicts = [&](const std::function<bool(nlohmann::json&)>& keep) {
    nlohmann::json study = json;
    nlohmann::json checks = nlohmann::json::array();
    for (nlohmann::json& check : study["checks"]) {
      if (keep(check)) checks.push_back(check);
    }
    study["checks"] = checks;
    test::write_file(folder.path() / "study.json", study.dump());
    std::vector<Verdict> found;
    for (const Claim& claim : judge_claims(folder.path())) {
      if (claim.claim == kSlower || claim.claim == kFolded) found.push_back(claim.verdict);
    }
    return found;
  };
  const auto starts = [](const nlohmann::json& check, const char* part) { return check["setting"].get<std::string>().starts_with(part); };
  CHECK(verdicts([](nlohmann::json&) { return true; }) == std::vector<Verdict>{Verdict::kHolds, Verdict::kDoesNotHold});
  CHECK(verdicts([&](nlohmann::json& c) { return !starts(c, "off"); }) ==
        std::vector<Verdict>{Verdict::kNotMeasured, Verdict::kNotMeasured});
  const auto fail = [&](nlohmann::json& c) {
    if (starts(c, "AdamW, off")) c["pass"] = false;
    return true;
  };
  CHECK(verdicts(fail)[0] == Verdict::kDoesNotHold);
  const auto uncured = [&](nlohmann::json& c) {
    if (starts(c, "explicit, deviation 0.5")) c["measured"] = 0.05;
    return true;
  };
  CHECK(verdicts(uncured)[0] == Verdict::kDoesNotHold);
  const auto equal = [&](nlohmann::json& c) {
    if (starts(c, "folded, deviation")) c["measured"] = 0.1;
    return true;
  };
  CHECK(verdicts(equal)[1] == Verdict::kHolds);
}

TEST_CASE("measurements do not depend on the number of threads", "[theory_study]") {
  const int threads = num_threads();
  std::vector<std::vector<double>> measured;
  for (const int count : {1, 2}) {
    set_num_threads(count);
    Lab lab(small_request(5));
    check_phases(lab);
    check_rectified(lab);
    measured.emplace_back();
    for (const TheoryCheck& check : lab.report.checks) measured.back().push_back(check.measured);
  }
  set_num_threads(threads);
  CHECK(measured[0] == measured[1]);
}

TEST_CASE("a wrong prediction fails, by its score or by its bound", "[theory_study]") {
  Lab lab(small_request(1));
  const Estimate precise{1.0, 0.001, 100}, vague{1.0, 0.2, 100};
  lab.equal("a", "right", 1.002, precise, 0.01);
  lab.equal("a", "five errors away", 1.006, precise, 0.01);
  lab.equal("a", "within the error, outside the bound", 1.3, vague, 0.1);
  lab.equal("a", "five errors of two batches are nothing", 1.006, {1.0, 0.001, 1}, 0.01);
  lab.exact("a", "equal", 0.5, 0.5, 1e-9);
  lab.exact("a", "unequal", 0.5, 0.501, 1e-9);
  lab.at_most("a", "below", 1, 0.9);
  lab.at_most("a", "above", 1, 1.1);
  lab.equal("a", "not a number", 1, {std::nan(""), 0.1, 3}, 1);
  std::vector<bool> pass;
  for (const TheoryCheck& check : lab.report.checks) pass.push_back(check.pass);
  CHECK(pass == std::vector<bool>{true, false, false, true, true, false, true, false, false});
  CHECK(lab.report.failed() == 5);
}

TEST_CASE("batches give a ratio and its error", "[theory_study]") {
  BatchSums sums;
  sums.add(1, 2);
  sums.add(3, 2);
  sums.add(2, 2);
  const Estimate estimate = sums.estimate();
  CHECK(estimate.value == Approx(1));
  CHECK(estimate.standard_error == Approx(std::sqrt(2.0 / 2 / 3) / 2));  // residuals -1, 1, 0 over a mean of 2
  CHECK(estimate.degrees == 2);
  TheoryRequest request;
  request.samples = 100;
  CHECK_THROWS_AS(run_theory_study(request), UsageError);
}

TEST_CASE("each check of the theory counts for its claim", "[theory_study]") {
  using nlohmann::json;
  const std::string share = "learning, SGD: share of its error that a level loses per step",
                    exponent = "learning: exponent of the deviation in the speed";
  const auto check = [](const std::string& name, const std::string& setting, double measured, double error = 0) {
    return json{{"name", name}, {"setting", setting}, {"predicted", 0}, {"measured", measured}, {"standard_error", error}, {"pass", true}};
  };
  // A world in which every claim holds.
  const std::vector<json> all = {check("white noise", "n=128 r=2 align_corners=false", 0.6),
                                 check("white noise", "n=128 r=4 align_corners=false", 0.5),
                                 check("white noise", "n=128 r=8 align_corners=false", 0.4),
                                 check("no picture gains", "r=2", 0.9),
                                 check("a picture may gain", "align_corners=true", 0.46),
                                 check("a picture may gain", "align_corners=false", 0.9),
                                 check("the authors' script", "slope, r=2", 0.5),
                                 check("rectified normal", "convolution: mean", 0.4),
                                 check("rectified normal", "convolution: variance", 0.3),
                                 check("weight gradient", "as they are, no norm behind", 0.5),
                                 check("weight gradient", "as they are, batch norm behind", 0.4),
                                 check(share, "off, deviation 1", 0.1),
                                 check(share, "off, deviation 0.5", 0.03),
                                 check(share, "explicit, deviation 1", 0.1),
                                 check(share, "folded, deviation 1", 0.1),
                                 check(share, "folded, deviation 0.5", 0.1),
                                 check(share, "folded_lr, deviation 1", 0.1),
                                 check(exponent, "SGD, off", 2),
                                 check(exponent, "AdamW, off", 1)};
  const std::vector<std::string> claims = {"Bilinear upsampling", "every single picture", "is proportional",    "Stronger upsampling",
                                           "at mean 0.3989",      "weight's gradient",    "learns more slowly", "folded into"};
  test::TemporaryFolder folder;
  // The verdict on a claim where the checks of this name and setting are others; `change` says whether they are there at all.
  const auto verdict = [&](size_t claim, const std::string& name, const std::string& setting, const std::function<bool(json&)>& change) {
    json checks = json::array();
    for (json c : all) {
      const bool meant = c["name"] == name && c["setting"].get<std::string>().find(setting) != std::string::npos;
      if (!meant || change(c)) checks.push_back(c);
    }
    test::write_file(folder.path() / "study.json", json{{"kind", "theory"}, {"checks", checks}}.dump());
    for (const Claim& judged : judge_claims(folder.path())) {
      if (judged.claim.find(claims[claim]) != std::string::npos) return judged.verdict;
    }
    throw std::logic_error("no claim " + claims[claim]);
  };
  const auto gone = [](json&) { return false; };
  const auto fails = [](json& c) { return c["pass"] = false, true; };
  const auto becomes = [](double measured, double error = 0) {
    return [=](json& c) { return c["measured"] = measured, c["standard_error"] = error, true; };
  };
  for (size_t claim = 0; claim < claims.size(); ++claim) CHECK(verdict(claim, "none", "", gone) == Verdict::kHolds);
  struct Of {
    size_t claim;
    std::string name, setting;
  };
  for (const Of& of : std::vector<Of>{{0, "white noise", "r=4"},
                                      {1, "no picture gains", ""},
                                      {2, "the authors' script", ""},
                                      {4, "rectified normal", "variance"},
                                      {5, "weight gradient", "no norm"},
                                      {5, "weight gradient", "batch norm"},
                                      {6, share, "off, deviation 1"},
                                      {6, share, "explicit"},
                                      {6, exponent, "SGD"},
                                      {6, exponent, "AdamW"},
                                      {7, share, "folded, deviation 1"}}) {
    CAPTURE(of.name, of.setting);
    CHECK(verdict(of.claim, of.name, of.setting, fails) == Verdict::kDoesNotHold);
  }
  for (const Of& of : std::vector<Of>{{0, "white noise", ""},
                                      {1, "no picture gains", ""},
                                      {1, "a picture may gain", "true"},
                                      {2, "the authors' script", ""},
                                      {3, "white noise", "r=4"},
                                      {4, "rectified normal", "variance"},
                                      {5, "weight gradient", "no norm"},
                                      {5, "weight gradient", "batch norm"},
                                      {6, share, "off"},
                                      {6, share, "explicit"},
                                      {6, exponent, "SGD"},
                                      {6, exponent, "AdamW"},
                                      {7, share, "off"},
                                      {7, share, "folded, "},
                                      {7, share, "folded_lr"}}) {
    CAPTURE(of.name, of.setting);
    CHECK(verdict(of.claim, of.name, of.setting, gone) == Verdict::kNotMeasured);
  }
  CHECK(verdict(0, "white noise", "r=2", becomes(0.99, 0.004)) == Verdict::kDoesNotHold);  // four standard errors reach beyond 1
  CHECK(verdict(0, "white noise", "r=2", becomes(0.99, 0.002)) == Verdict::kHolds);
  CHECK(verdict(1, "a picture may gain", "true", becomes(0.47)) == Verdict::kDoesNotHold);
  CHECK(verdict(3, "white noise", "r=2", becomes(0.45)) == Verdict::kDoesNotHold);
  CHECK(verdict(3, "white noise", "r=8", becomes(0.55)) == Verdict::kDoesNotHold);
  CHECK(verdict(6, share, "off, deviation 0.5", becomes(0.1)) == Verdict::kDoesNotHold);
  CHECK(verdict(6, exponent, "SGD", becomes(-1)) == Verdict::kDoesNotHold);
  CHECK(verdict(6, exponent, "AdamW", becomes(-1)) == Verdict::kDoesNotHold);
  CHECK(verdict(7, share, "folded, deviation 0.5", becomes(0.05)) == Verdict::kDoesNotHold);
}

TEST_CASE("fields are fresh ones, bounds relative, and moments around the origin that was asked for", "[theory_study]") {
  Lab lab(small_request(1));
  CHECK(lab.maps(10000) == 16);
  CHECK_FALSE(test::bit_equal(lab.normal({100}), lab.normal({100})));
  lab.exact("a", "a hundredth of a hundred", 100, 100.9, 0.01);
  lab.exact("a", "half of a hundredth", 0.01, 0.015, 0.01);
  CHECK(lab.report.checks[0].pass);
  CHECK_FALSE(lab.report.checks[1].pass);
  const Tensor x = Tensor::from<float>({1, 10, 3, 20}, {2, 2});
  CHECK(second_moments(x, 5)[0] == Approx((16 + 4) / 2.0));
  CHECK(second_moments(x, 5)[1] == Approx((25 + 225) / 2.0));
}
