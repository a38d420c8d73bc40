// Verdicts over studies written here; those over the theory are in theory_study_test.cpp.
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "study/claims/claims.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

Claim find(const std::vector<Claim>& claims, const std::string& part) {
  for (const Claim& claim : claims) {
    if (claim.claim.find(part) != std::string::npos) return claim;
  }
  FAIL("there is no claim with " << part);
  return {};
}

void write_study(const fs::path& folder, const json& study) {
  fs::create_directories(folder);
  write_file(folder / "study.json", study.dump());
}

json branch(const std::string& name, double std, double grad, double fused_std) {
  return {{"name", name}, {"upsampled", name != "level 0"}, {"channels", 16}, {"resized", {{"mean", 0.4}, {"std", std}}},
          {"fused", {{"mean", 0.001}, {"std", fused_std}}}, {"weight_grad", grad}};
}

// {std, gradient, std as fused} of each branch.
using Branches = std::vector<std::array<double, 3>>;

json site(const std::string& name, const Branches& branches_of, bool equalized, double grad_ratio) {
  json branches = json::array();
  for (size_t i = 0; i < branches_of.size(); ++i) {
    const auto [std, grad, fused] = branches_of[i];
    branches.push_back(branch("level " + std::to_string(i), std, grad, equalized ? fused : std));
  }
  return {{"site", name}, {"kind", "concat"}, {"grad_ratio", grad_ratio}, {"branches", branches}};
}

// As many alike sites as asked for, each with a little noise, without equalizers and with: gradient ratios of 3 and `equalized_ratio`.
json records(const std::string& kind, const Branches& branches, int sites = 1, double equalized_ratio = 1.2) {
  json list = json::array();
  for (const char* arm : {"off", "explicit"}) {
    const bool on = std::string(arm) == "explicit";
    json of_arm = {{{"site", "top-down"}, {"kind", "sum"}, {"branches", json::array()}}};
    for (int i = 0; i < sites; ++i) {
      Branches noisy = branches;
      for (auto& values : noisy) values[1] *= 1 + 0.01 * i;
      noisy[0][1] *= 1 - 0.02 * i;
      of_arm.push_back(site("fpn" + std::to_string(i), noisy, on, on ? equalized_ratio * (1 + 0.01 * i) : 3.0));
    }
    list.push_back({{"head", "uper"}, {"arm", arm}, {"iteration", 0}, {"sites", of_arm}});
  }
  return {{"kind", kind}, {"records", list}};
}

// One run for each value; the seconds of all arms but the first are those given.
json runs(const std::vector<std::pair<std::string, std::vector<double>>>& miou, double seconds = 10) {
  json arms = json::array(), list = json::array();
  for (const auto& [arm, values] : miou) {
    arms.push_back({{"name", arm}, {"settings", {"equalizer.mode=" + arm}}});
    for (size_t i = 0; i < values.size(); ++i) {
      const double wobble = 0.01 * double(i);
      list.push_back({{"arm", arm}, {"seed", i}, {"miou", values[i]}, {"loss_tail", 1 - values[i]},
                      {"seconds", (arms.size() == 1 ? 10 : seconds) + wobble}, {"shared_from", nullptr}});
    }
  }
  return {{"kind", "run"}, {"config", {{"equalizer", {{"mode", "off"}}}}}, {"arms", arms}, {"runs", list}};
}

}  // namespace

TEST_CASE("without evidence nothing is measured, and the command that would is named", "[claims]") {
  TemporaryFolder folder;
  const auto claims = judge_claims(folder.path());
  CHECK(claims.size() == 16);
  for (const Claim& claim : claims) {
    CAPTURE(claim.claim);
    CHECK(claim.verdict == Verdict::kNotMeasured);
    CHECK_THAT(claim.evidence, Contains("equiscale study"));
  }
  CHECK_THAT(claims_table(claims), Contains("not measured"));
  CHECK_THROWS_AS(judge_claims(folder.path() / "nowhere"), IoError);
}

TEST_CASE("claims about real features", "[claims]") {
  TemporaryFolder folder;
  write_study(folder.path() / "a", records("scales", {{0.9, 0.3, 1.01}, {0.4, 0.1, 0.99}}));
  write_study(folder.path() / "b", records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3));
  auto claims = judge_claims(folder.path());
  CHECK(find(claims, "differ in scale").verdict == Verdict::kHolds);
  CHECK_THAT(find(claims, "differ in scale").measurement, Contains("2.25"));
  CHECK(find(claims, "standard deviation 1").verdict == Verdict::kHolds);
  CHECK(find(claims, "larger gradients").verdict == Verdict::kHolds);
  CHECK_THAT(find(claims, "larger gradients").measurement, Contains("of 3 pairs") && Contains("3 have"));
  CHECK(find(claims, "closer together").verdict == Verdict::kHolds);
  CHECK_THAT(find(claims, "closer together").measurement, Contains("3.00 without, 1.21 with"));
  write_study(folder.path() / "a", records("scales", {{0.9, 0.3, 1.05}, {0.85, 0.1, 0.99}}));
  write_study(folder.path() / "b", records("gradients", {{0.9, 0.1, 1}, {0.4, 0.3, 1}}, 3, 4));
  claims = judge_claims(folder.path());
  CHECK(find(claims, "differ in scale").verdict == Verdict::kDoesNotHold);
  CHECK(find(claims, "standard deviation 1").verdict == Verdict::kDoesNotHold);
  CHECK(find(claims, "larger gradients").verdict == Verdict::kDoesNotHold);
  CHECK(find(claims, "closer together").verdict == Verdict::kDoesNotHold);
  // Two sites settle nothing, whatever they say.
  write_study(folder.path() / "b", records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 2));
  claims = judge_claims(folder.path());
  CHECK(find(claims, "larger gradients").verdict == Verdict::kNotSettled);
  CHECK(find(claims, "closer together").verdict == Verdict::kNotSettled);
  // Where scales are alike there is nothing to bring closer.
  write_study(folder.path() / "b", records("gradients", {{0.9, 0.1, 1}, {0.85, 0.3, 1}}, 3));
  const Claim none = find(judge_claims(folder.path()), "closer together");
  CHECK(none.verdict == Verdict::kNotMeasured);
  CHECK_THAT(none.measurement, Contains("none of 3 sites"));
  CHECK_THAT(none.evidence, Contains("--heads uper,psp"));
}

TEST_CASE("gradients that cannot tell a scale are no evidence", "[claims]") {
  TemporaryFolder folder;
  json study = records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3);
  for (json& record : study["records"]) {
    for (json& of_site : record["sites"]) of_site["depthwise"] = true;
  }
  write_study(folder.path(), study);
  CHECK(find(judge_claims(folder.path()), "larger gradients").verdict == Verdict::kNotMeasured);
  CHECK(find(judge_claims(folder.path()), "closer together").verdict == Verdict::kNotMeasured);
}

TEST_CASE("several seeds of a site are one site, judged by their geometric mean", "[claims]") {
  TemporaryFolder folder;
  json study = records("scales", {{0.9, 0.3, 1}, {0.3, 0.1, 1}}), other = records("scales", {{0.9, 0.3, 1}, {0.75, 0.1, 1}});
  study["by_seed"] = study["records"];
  for (const json& record : other["records"]) study["by_seed"].push_back(record);
  write_study(folder.path(), study);
  CHECK_THAT(find(judge_claims(folder.path()), "differ in scale").measurement, Contains("median 1.90, over 1 fusion sites"));
}

TEST_CASE("equalizers that are not the paper's count for no claim", "[claims]") {
  const std::vector<double> base = {0.60, 0.62, 0.61, 0.59}, better = {0.604, 0.6242, 0.6138, 0.594};
  TemporaryFolder folder;
  for (const char* setting : {"equalizer.inputs=\"upsampled\"", "equalizer.inputs=matched", "equalizer.constants=analytic",
                              "equalizer.center=false", "equalizer.exponent=0.5", "equalizer.refresh=100", "equalizer.sites=[\"fpn\"]"}) {
    CAPTURE(setting);
    json trained = runs({{"off", base}, {"explicit", better}}), features = records("scales", {{0.9, 0.3, 1.5}, {0.4, 0.1, 0.6}});
    trained["arms"][1]["settings"].push_back(setting);
    features["config"] = trained["config"];
    features["arms"] = trained["arms"];
    write_study(folder.path() / "runs", trained);
    write_study(folder.path() / "scales", features);
    const auto claims = judge_claims(folder.path());
    CHECK(find(claims, "raise the mIoU").verdict == Verdict::kNotMeasured);
    CHECK(find(claims, "standard deviation 1").verdict == Verdict::kNotMeasured);
    CHECK(find(claims, "differ in scale").verdict == Verdict::kHolds);  // of the arm without
  }
  // Nor does anything where levels are not resized bilinearly.
  json trained = runs({{"off", base}, {"explicit", better}}), features = records("scales", {{0.9, 0.3, 1.5}, {0.4, 0.1, 0.6}}, 3);
  json by_arms = trained, by_config = trained;
  for (json& arm : by_arms["arms"]) arm["settings"].push_back("model.upsampling=nearest");
  by_config["config"]["model"]["upsampling"] = "nearest";
  for (const json& study : {by_arms, by_config}) {
    features["config"] = study["config"];
    features["arms"] = study["arms"];
    write_study(folder.path() / "runs", study);
    write_study(folder.path() / "scales", features);
    for (const char* claim : {"raise the mIoU", "standard deviation 1", "differ in scale"}) {
      CHECK(find(judge_claims(folder.path()), claim).verdict == Verdict::kNotMeasured);
    }
  }
  json plain = runs({{"off", base}, {"explicit", better}});
  plain["arms"][1]["settings"].push_back("equalizer.granularity=channel");
  write_study(folder.path() / "runs", plain);
  CHECK(find(judge_claims(folder.path()), "raise the mIoU").verdict == Verdict::kHolds);
}

TEST_CASE("claims about training", "[claims]") {
  const std::vector<double> base = {0.60, 0.62, 0.61, 0.59};
  const std::vector<double> better = {0.604, 0.6242, 0.6138, 0.594}, mixed = {0.61, 0.60, 0.62, 0.58},
                            worse = {0.597, 0.6172, 0.607, 0.587};
  TemporaryFolder folder;
  const auto judged = [&](const json& study) {
    write_study(folder.path() / "runs", study);
    return judge_claims(folder.path());
  };
  auto claims = judged(runs({{"off", base}, {"explicit", better}}));
  CHECK(find(claims, "raise the mIoU").verdict == Verdict::kHolds);
  CHECK(find(claims, "consistent").verdict == Verdict::kNotMeasured);
  CHECK(find(claims, "cost nothing").verdict == Verdict::kNotMeasured);
  CHECK(find(judged(runs({{"off", base}, {"explicit", mixed}})), "raise the mIoU").verdict == Verdict::kNotSettled);
  CHECK(find(judged(runs({{"off", base}, {"explicit", worse}})), "raise the mIoU").verdict == Verdict::kDoesNotHold);
  CHECK(find(judged(runs({{"off", base}, {"folded", mixed}}, 10.1)), "cost nothing").verdict == Verdict::kHolds);
  CHECK(find(judged(runs({{"off", base}, {"folded", mixed}}, 12)), "cost nothing").verdict == Verdict::kDoesNotHold);
  CHECK(find(judged(runs({{"explicit", base}, {"folded", better}})), "initializer").verdict == Verdict::kDoesNotHold);
  CHECK(find(judged(runs({{"explicit", base}, {"folded", mixed}})), "initializer").verdict == Verdict::kNotSettled);
  CHECK(find(judged(runs({{"off", base}, {"explicit", base}})), "raise the mIoU").verdict == Verdict::kNotMeasured);
  // Of two studies that disagree the mean decides: 0.05 points, 0.1 excluded.
  write_study(folder.path() / "more", runs({{"off", base}, {"explicit", worse}}));
  claims = judged(runs({{"off", base}, {"explicit", better}}));
  CHECK(find(claims, "raise the mIoU").verdict == Verdict::kDoesNotHold);
  CHECK_THAT(find(claims, "raise the mIoU").measurement, Contains("more, explicit against off") && Contains("runs, explicit against off"));
  CHECK(find(claims, "consistent").verdict == Verdict::kDoesNotHold);
  CHECK_THAT(find(claims, "raise the mIoU").measurement, Contains("mean of 2 studies: +0.05 points"));
  // One failure does not decide about an average; arms of one study are not two.
  const std::vector<double> much_better = {0.62, 0.641, 0.629, 0.612};
  claims = judged(runs({{"off", base}, {"explicit", much_better}, {"folded", worse}}));
  CHECK(find(claims, "raise the mIoU").verdict == Verdict::kHolds);
  CHECK_THAT(find(claims, "raise the mIoU").measurement, Contains("mean of 2 studies") && Contains("runs, folded against off"));
}

TEST_CASE("a copy of a study is no further evidence", "[claims]") {
  TemporaryFolder folder;
  json study = runs({{"off", {0.60, 0.62, 0.61, 0.59}}, {"explicit", {0.61, 0.60, 0.62, 0.58}}});
  for (json& run : study["runs"]) run["weights_sha256"] = run["arm"].get<std::string>() + run["seed"].dump();
  write_study(folder.path() / "a", study);
  const std::string once = find(judge_claims(folder.path()), "raise the mIoU").measurement;
  write_study(folder.path() / "copy", study);
  CHECK(find(judge_claims(folder.path()), "raise the mIoU").measurement == once);
  CHECK(find(judge_claims(folder.path()), "consistent").verdict == Verdict::kNotMeasured);
  for (json& run : study["runs"]) run["weights_sha256"] = "other " + run["weights_sha256"].get<std::string>();
  write_study(folder.path() / "copy", study);
  CHECK_THAT(find(judge_claims(folder.path()), "raise the mIoU").measurement, Contains("mean of 2 studies"));
  // Nor is one that has only its arm without equalizers from there: both would say what these runs happen to be.
  for (json& run : study["runs"]) {
    if (run["arm"] == "off") run["weights_sha256"] = run["weights_sha256"].get<std::string>().substr(6);
  }
  write_study(folder.path() / "copy", study);
  CHECK(find(judge_claims(folder.path()), "raise the mIoU").measurement == once);
}

TEST_CASE("a site that two studies have the same record of is one", "[claims]") {
  TemporaryFolder folder;
  for (const char* kind : {"scales", "gradients"}) write_study(folder.path() / kind, records(kind, {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3));
  const auto once = judge_claims(folder.path());
  for (const char* kind : {"scales", "gradients"}) {
    write_study(folder.path() / "copy" / kind, records(kind, {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3));
  }
  const auto twice = judge_claims(folder.path());
  for (const char* claim : {"differ in scale", "standard deviation 1", "larger gradients", "closer together"}) {
    CHECK(find(twice, claim).measurement == find(once, claim).measurement);
  }
}

TEST_CASE("final losses that are means over other iterations are not compared", "[claims]") {
  TemporaryFolder folder;
  json study = runs({{"explicit", {0.60, 0.62, 0.61}}, {"folded", {0.64, 0.66, 0.6501}}});
  write_study(folder.path(), study);
  CHECK(find(judge_claims(folder.path()), "initializer").verdict == Verdict::kDoesNotHold);
  for (json& run : study["runs"]) run["loss_tail_from"] = run["arm"] == "folded" ? 5 : 0;
  write_study(folder.path(), study);
  CHECK(find(judge_claims(folder.path()), "initializer").verdict == Verdict::kNotMeasured);
}

TEST_CASE("what a run costs is time of the processor, where that was measured", "[claims]") {
  TemporaryFolder folder;
  json study = runs({{"off", {0.6, 0.61, 0.62}}, {"folded", {0.61, 0.6, 0.62}}}, 20);
  CHECK([&] { write_study(folder.path(), study); return find(judge_claims(folder.path()), "cost nothing").verdict; }() == Verdict::kDoesNotHold);
  for (json& run : study["runs"]) run["cpu_seconds"] = 5 + 0.01 * run["seed"].get<double>();
  write_study(folder.path(), study);
  CHECK(find(judge_claims(folder.path()), "cost nothing").verdict == Verdict::kHolds);
}

TEST_CASE("an arm is judged by its mode, whatever its name", "[claims]") {
  TemporaryFolder folder;
  for (const char* kind : {"scales", "gradients"}) {
    json study = records(kind, {{0.9, 0.3, 1.01}, {0.4, 0.1, 0.99}}, 3);
    study["config"] = {{"equalizer", {{"mode", "off"}}}};
    study["arms"] = {{{"name", "plain"}, {"settings", json::array()}}, {{"name", "on"}, {"settings", {"equalizer.mode=explicit"}}}};
    for (json& record : study["records"]) record["arm"] = record["arm"] == "off" ? "plain" : "on";
    write_study(folder.path() / kind, study);
  }
  const auto claims = judge_claims(folder.path());
  for (const char* claim : {"differ in scale", "standard deviation 1", "larger gradients", "closer together"}) {
    CHECK(find(claims, claim).verdict == Verdict::kHolds);
  }
}

TEST_CASE("gradients are compared within a study", "[claims]") {
  TemporaryFolder folder;
  json without = records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}), with = without;
  without["records"].erase(1);
  with["records"].erase(0);
  write_study(folder.path() / "one", without);
  write_study(folder.path() / "another", with);
  CHECK(find(judge_claims(folder.path()), "closer together").verdict == Verdict::kNotMeasured);
}

TEST_CASE("arms that differ in more than the equalizer prove nothing about it", "[claims]") {
  const std::vector<double> base = {0.60, 0.62, 0.61, 0.59}, better = {0.604, 0.6242, 0.6138, 0.594};
  TemporaryFolder folder;
  json study = runs({{"off", base}, {"explicit", better}});
  study["arms"][1]["settings"].push_back("optimizer.lr=1e-4");
  write_study(folder.path() / "runs", study);
  CHECK(find(judge_claims(folder.path()), "raise the mIoU").verdict == Verdict::kNotMeasured);
  study["arms"][0]["settings"].push_back("optimizer.lr=1e-4");
  study["arms"][1]["settings"].push_back("equalizer.granularity=channel");
  write_study(folder.path() / "runs", study);
  CHECK(find(judge_claims(folder.path()), "raise the mIoU").verdict == Verdict::kHolds);
}

TEST_CASE("damaged studies are named", "[claims]") {
  TemporaryFolder folder;
  fs::create_directories(folder.path() / "bad");
  write_file(folder.path() / "bad" / "study.json", "{\"kind\": \"run\"");
  CHECK_THROWS_WITH(judge_claims(folder.path()), Contains("bad/study.json"));
  write_file(folder.path() / "bad" / "study.json", "{\"kind\": \"run\"}");
  CHECK_THROWS_WITH(judge_claims(folder.path()), Contains("bad/study.json") && Contains("arms"));
  write_file(folder.path() / "bad" / "study.json", "{\"kind\": " + std::string(100, '[') + std::string(100, ']') + "}");
  CHECK_THROWS_WITH(judge_claims(folder.path()), Contains("bad/study.json") && Contains("deep"));
  write_file(folder.path() / "bad" / "study.json",
             R"({"kind": "run", "arms": [], "runs": [{"shared_from": null, "arm": "off", "seed": 1e300, "miou": 1, "loss_tail": 1}]})");
  CHECK_THROWS_WITH(judge_claims(folder.path()), Contains("bad/study.json") && Contains("no whole number"));
  write_file(folder.path() / "bad" / "study.json", "{\"kind\": \"another\"}");
  CHECK_NOTHROW(judge_claims(folder.path()));
}

TEST_CASE("sites are told apart by study and head, and only first-step records of concatenations count", "[claims]") {
  TemporaryFolder folder;
  const auto measured = [&] { return find(judge_claims(folder.path()), "differ in scale").measurement; };
  const json study = records("scales", {{0.8, 0.3, 1}, {0.4, 0.1, 1}}), other = records("scales", {{0.9, 0.3, 1}, {0.3, 0.1, 1}});
  write_study(folder.path() / "one", study);
  write_study(folder.path() / "two", other);
  CHECK_THAT(measured(), Contains("2.00 to 3.00, median 2.50, over 2 fusion sites"));
  fs::remove_all(folder.path() / "two");
  json heads = study;
  for (json record : other["records"]) {
    record["head"] = "psp";
    heads["records"].push_back(record);
  }
  write_study(folder.path() / "one", heads);
  CHECK_THAT(measured(), Contains("median 2.50, over 2 fusion sites"));
  // What does not count: a run's own records, later ones, sums, sites of one branch.
  json more = study;
  json late = other["records"][0], of_run = late;
  late["iteration"] = 100;
  of_run["source"] = "run";
  more["records"].push_back(late);
  more["records"].push_back(of_run);
  json sum_site = other["records"][0]["sites"][1], lone = sum_site;
  sum_site["site"] = "sum", sum_site["kind"] = "sum";
  lone["site"] = "lone", lone["branches"].erase(1);
  more["records"][0]["sites"].push_back(sum_site);
  more["records"][0]["sites"].push_back(lone);
  write_study(folder.path() / "one", more);
  CHECK_THAT(measured(), Contains("2.00 to 2.00, median 2.00, over 1 fusion sites"));
  // Seeds whose site has other branches are of another site.
  json seeds = study;
  seeds["by_seed"] = study["records"];
  seeds["by_seed"].push_back(records("scales", {{0.9, 0.3, 1}, {0.3, 0.1, 1}, {0.3, 0.1, 1}})["records"][0]);
  write_study(folder.path() / "one", seeds);
  CHECK_THAT(measured(), Contains("median 2.50, over 2 fusion sites"));
}

TEST_CASE("scales are unequal where three quarters of the sites are, and not where as many are alike", "[claims]") {
  TemporaryFolder folder;
  const auto verdict_of = [&](int unequal) {
    for (int i = 0; i < 4; ++i) {
      write_study(folder.path() / std::to_string(i), records("scales", {{i < unequal ? 0.9 : 0.41, 0.3 + i, 1}, {0.4, 0.1, 1}}));
    }
    return find(judge_claims(folder.path()), "differ in scale").verdict;
  };
  CHECK(verdict_of(3) == Verdict::kHolds);
  CHECK(verdict_of(2) == Verdict::kNotSettled);
  CHECK(verdict_of(1) == Verdict::kDoesNotHold);
}

TEST_CASE("unit scale is of means, too, and an arm without equalizers stays one whatever the configuration says of them", "[claims]") {
  TemporaryFolder folder;
  json study = records("scales", {{0.9, 0.3, 1}, {0.4, 0.1, 1}});
  study["records"][1]["sites"][1]["branches"][0]["fused"]["mean"] = -0.05;
  write_study(folder.path(), study);
  CHECK(find(judge_claims(folder.path()), "standard deviation 1").verdict == Verdict::kDoesNotHold);
  const json trained = runs({{"off", {0.6, 0.61}}, {"explicit", {0.6, 0.62}}});
  study["arms"] = trained["arms"];
  study["config"] = {{"equalizer", {{"mode", "off"}, {"exponent", 0.5}}}};
  write_study(folder.path(), study);
  CHECK(find(judge_claims(folder.path()), "differ in scale").verdict == Verdict::kHolds);
  CHECK(find(judge_claims(folder.path()), "standard deviation 1").verdict == Verdict::kNotMeasured);
}

TEST_CASE("unit scale is not settled by batches whose noise explains what is off", "[claims]") {
  TemporaryFolder folder;
  json study = records("scales", {{0.9, 0.3, 1.05}, {0.4, 0.1, 1}});
  json &record = study["records"][1], &branch = record["sites"][1]["branches"][0];
  branch["fused"]["mean"] = -0.06;
  record["batches"] = 8;
  record["calibration_batches"] = 2;
  // In units of the deviation, and of both measurements: 0.02 * sqrt(1 + 2 / 8) of the mean, 0.015 * sqrt(1 + 2 / 8) of the deviation.
  branch["calibrated"] = {{"mean", 0.4}, {"std", 0.5}, {"mean_error", 0.01}, {"std_error", 0.0075}};
  const auto judged = [&] {
    write_study(folder.path(), study);
    return find(judge_claims(folder.path()), "standard deviation 1");
  };
  CHECK(judged().verdict == Verdict::kNotSettled);
  CHECK_THAT(judged().measurement, Contains("0.0500") && Contains("noise of so few batches"));
  branch["fused"]["std"] = 1.0504;  // 3 errors are 0.0503
  CHECK(judged().verdict == Verdict::kDoesNotHold);
  branch["fused"]["std"] = 1.0502;
  CHECK(judged().verdict == Verdict::kNotSettled);
  branch["fused"]["mean"] = -0.0672;  // 0.0671
  CHECK(judged().verdict == Verdict::kDoesNotHold);
  study["by_seed"] = std::move(study["records"]);  // of single networks, which say it themselves
  study["records"] = json::array();
  CHECK(judged().verdict == Verdict::kDoesNotHold);
  study["by_seed"][1]["sites"][1]["branches"][0]["fused"]["mean"] = -0.06;
  CHECK(judged().verdict == Verdict::kNotSettled);
}

TEST_CASE("unit scale within its limit holds, whatever the noise, and without errors the limit decides", "[claims]") {
  TemporaryFolder folder;
  json study = records("scales", {{0.9, 0.3, 1.05}, {0.4, 0.1, 1}});
  json &record = study["records"][1], &branch = record["sites"][1]["branches"][0];
  record["batches"] = record["calibration_batches"] = 2;
  branch["calibrated"] = {{"mean", 0.4}, {"std", 0.5}, {"mean_error", 0.01}, {"std_error", 0.0075}};
  const auto judged = [&] {
    write_study(folder.path(), study);
    return find(judge_claims(folder.path()), "standard deviation 1");
  };
  branch["fused"]["mean"] = 0.01;
  branch["fused"]["std"] = 1.01;  // within the limit, whatever the noise
  CHECK(judged().verdict == Verdict::kHolds);
  branch["fused"]["std"] = 1.05;
  for (const char* key : {"mean_error", "std_error"}) branch["calibrated"][key] = nullptr;  // one batch has no error
  CHECK(judged().verdict == Verdict::kDoesNotHold);
}

TEST_CASE("gradients are judged per weight, within a head, and settle nothing where sites disagree", "[claims]") {
  TemporaryFolder folder;
  const auto claim_of = [&](const json& study, const char* words) {
    write_study(folder.path(), study);
    return find(judge_claims(folder.path()), words);
  };
  // A branch of n channels spreads its gradient over n times as many weights.
  const auto with_channels = [](int channels) {
    json study = records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3);
    for (json& record : study["records"]) {
      for (json& of_site : record["sites"]) {
        if (of_site["kind"] == "concat") of_site["branches"][1]["channels"] = channels;
      }
    }
    return study;
  };
  CHECK(claim_of(with_channels(4), "larger gradients").verdict == Verdict::kHolds);         // 0.3 / 4 and 0.1 / 2
  CHECK(claim_of(with_channels(1), "larger gradients").verdict == Verdict::kDoesNotHold);  // 0.3 / 4 and 0.1
  json heads = records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3);
  for (json record : json(heads["records"])) {
    record["head"] = "psp";
    heads["records"].push_back(record);
  }
  CHECK_THAT(claim_of(heads, "closer together").measurement, Contains("median over 6 sites"));
  json mixed = records("gradients", {{0.9, 0.3, 1}, {0.4, 0.1, 1}}, 3);
  for (const double of_last : {0.02, 0.9}) {
    for (json& record : mixed["records"]) record["sites"][1]["branches"][0]["weight_grad"] = of_last;
    mixed["records"][1]["sites"][1]["grad_ratio"] = of_last < 0.1 ? 40 : 0.2;
    mixed["records"][1]["sites"][2]["grad_ratio"] = of_last < 0.1 ? 0.1 : 20;
    if (of_last < 0.1) CHECK(claim_of(mixed, "larger gradients").verdict == Verdict::kNotSettled);
    CHECK(claim_of(mixed, "closer together").verdict == Verdict::kNotSettled);
  }
}

TEST_CASE("gains hold above zero, are consistent where each holds, and are of explicit equalizers where there are such", "[claims]") {
  const std::vector<double> base = {0.60, 0.62, 0.61, 0.59}, better = {0.604, 0.6242, 0.6138, 0.594}, mixed = {0.61, 0.60, 0.62, 0.58},
                            slightly = {0.601, 0.6212, 0.6111, 0.5913};  // 0.09 to 0.14 points
  TemporaryFolder folder;
  const auto judged = [&](const json& study) {
    write_study(folder.path() / "runs", study);
    return judge_claims(folder.path());
  };
  CHECK(find(judged(runs({{"off", base}, {"explicit", slightly}})), "raise the mIoU").verdict == Verdict::kHolds);
  json named = runs({{"off", base}, {"explicit", better}, {"folded", mixed}});
  const std::map<std::string, std::string> names = {{"off", "off"}, {"explicit", "z"}, {"folded", "a"}};
  for (json& arm : named["arms"]) arm["name"] = names.at(arm["name"]);
  for (json& run : named["runs"]) run["arm"] = names.at(run["arm"]);
  CHECK(find(judged(named), "raise the mIoU").verdict == Verdict::kHolds);
  write_study(folder.path() / "more", runs({{"off", base}, {"explicit", better}}));
  CHECK(find(judged(runs({{"off", base}, {"explicit", better}})), "consistent").verdict == Verdict::kHolds);
  CHECK(find(judged(runs({{"off", base}, {"explicit", mixed}})), "consistent").verdict == Verdict::kNotSettled);
}

TEST_CASE("costs that may lie on either side of the limit settle nothing, and shared runs have none of their own", "[claims]") {
  const std::vector<double> base = {0.60, 0.62, 0.61}, other = {0.61, 0.60, 0.62};
  TemporaryFolder folder;
  const auto judged = [&](const json& study, const char* words) {
    write_study(folder.path(), study);
    return find(judge_claims(folder.path()), words).verdict;
  };
  json study = runs({{"off", base}, {"folded", other}});
  const double seconds[] = {9.9, 10.3, 10.8};
  for (json& run : study["runs"]) {
    if (run["arm"] == "folded") run["seconds"] = seconds[run["seed"].get<size_t>()];
  }
  CHECK(judged(study, "cost nothing") == Verdict::kNotSettled);
  for (json& run : study["runs"]) {
    if (run["arm"] == "folded") run["shared_from"] = "off";
  }
  CHECK(judged(study, "cost nothing") == Verdict::kNotMeasured);
  // An initializer: folded weights against equalizers, a loss that is higher or lower.
  CHECK(judged(runs({{"explicit", {0.604, 0.6242, 0.6138}}, {"folded", base}}), "initializer") == Verdict::kDoesNotHold);
  CHECK(judged(runs({{"explicit", {0.604, 0.6242, 0.6138}}, {"folded_lr", base}}), "initializer") == Verdict::kNotMeasured);
}
