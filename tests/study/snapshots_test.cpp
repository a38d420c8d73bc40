// The studies of scales and gradients on a network of a second.
#include "study/snapshots/snapshots.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "study/snapshots/ratio_changes.h"
#include "study/snapshots/record_mean.h"
#include "support.h"
#include "training/tiny.h"

using namespace eq;
using namespace eq::test;
using nlohmann::json;

namespace {

ProbeRecord record_with(double mean, double std, double grad) {
  BranchRecord branch{.name = "a", .channels = 2};
  branch.before = branch.resized = branch.fused = {mean, std};
  branch.within_image = std * std * 0.75;
  branch.between_channels = std * std * 0.25;
  branch.lag_one = branch.white_noise_factor = branch.predicted_factor = branch.measured_factor = 0.5;
  branch.weight_grad = branch.weight_grad_rms = branch.input_grad = grad;
  branch.update_ratio = 0.5;
  BranchRecord other = branch;
  other.weight_grad = other.weight_grad_rms = 1;
  return {.sites = {{.site = "s", .kind = "concat", .branches = {branch, other}}}};
}

}  // namespace

TEST_CASE("records of several batches are pooled", "[snapshots]") {
  RecordMean mean;
  mean.add(record_with(1, 2, 3));
  mean.add(record_with(3, 4, 4));
  const ProbeRecord record = mean.result();
  const BranchRecord& branch = record.sites[0].branches[0];
  CHECK(branch.resized.mean == Approx(2));
  CHECK(branch.resized.std == Approx(std::sqrt((4 + 16) / 2.0 + 1)));  // the means differ by one from theirs
  CHECK(branch.within_image + branch.between_images + branch.between_channels == Approx(branch.resized.std * branch.resized.std));
  CHECK(branch.between_images == Approx(1));
  CHECK(branch.weight_grad == Approx(std::sqrt((9 + 16) / 2.0)));
  CHECK(branch.weight_grad_share == Approx(branch.weight_grad / (branch.weight_grad + 1)));
  CHECK(record.sites[0].grad_ratio == Approx(branch.weight_grad_rms));
  CHECK(std::isnan(branch.update_ratio));
  CHECK(branch.weight_grad_rms == Approx(std::sqrt(12.5)));
  CHECK(branch.input_grad == Approx(std::sqrt(12.5)));
  // Of a sum, whose weights there are none, no ratio.
  ProbeRecord sum = record_with(1, 2, 3);
  for (BranchRecord& of_sum : sum.sites[0].branches) of_sum.weight_grad = of_sum.weight_grad_rms = kNotMeasured;
  RecordMean of_sums;
  of_sums.add(sum);
  CHECK(std::isnan(of_sums.result().sites[0].grad_ratio));
}

TEST_CASE("scales and gradients are recorded for each head and arm, at the first step and on the way", "[snapshots]") {
  const TemporaryFolder folder;
  write_file(folder.path() / "tiny.json", to_json_text(tiny_config()));
  for (const bool gradients : {false, true}) {
    SnapshotRequest request{.config = folder.path() / "tiny.json",
                            .settings = {"equalizer.batches=8", "train.batch_size=4"},
                            .gradients = gradients,
                            .batches = 8};
    request.arms = arm_specs("off,explicit");
    request.log = nullptr;
    if (gradients) {
      request.iterations = 3;
      request.every = 2;
      request.out = folder.path() / "study";
    }
    const auto snapshots = first_step_snapshots(request);
    REQUIRE(snapshots.size() == 2);
    CHECK(snapshots[1].head == "uper");
    CHECK(snapshots[1].arm == "explicit");
    // The features do not depend on the arm before the first fusion.
    CHECK(snapshots[0].record.sites[0].branches[2].resized.std == snapshots[1].record.sites[0].branches[2].resized.std);
    for (const BranchRecord& branch : snapshots[1].record.sites[0].branches) {
      CHECK(std::abs(branch.fused.mean) < 0.1);
      CHECK(branch.fused.std == Approx(1).epsilon(0.1));
      CHECK(std::isfinite(branch.weight_grad) == gradients);
    }
    const std::string table = snapshot_table(snapshots[0], gradients);
    CHECK(table.find("decode_head.fpn_fusion (concat, 16 x 16)") != std::string::npos);
    CHECK((table.find("share") != std::string::npos) == gradients);
    CHECK(table.find("nan") == std::string::npos);

    const json study = json::parse(snapshot_study_json(request, snapshots, train_and_record(request), "command", 1.5));
    CHECK(study["finished"] == true);
    CHECK(study["arms"][1]["settings"] == json({"equalizer.mode=explicit"}));
    CHECK(study["kind"] == (gradients ? "gradients" : "scales"));
    CHECK(study["records"].size() == (gradients ? 2 + 2 * 2 : 2));  // iterations 0 and 2
    CHECK(study["records"][0]["source"] == "first step");
    CHECK_FALSE(study["records"][0].contains("calibration_batches"));  // off
    CHECK(study["records"][1]["calibration_batches"] == load_config(request.config, request.settings).model.equalizer.batches);
    const json &first = study["records"][1]["sites"][0]["branches"][1], &sum = study["records"][1]["sites"][1]["branches"][1];
    CHECK(first["fused"]["std"].get<double>() == Approx(first["resized"]["std"].get<double>() / first["calibrated"]["std"].get<double>()));
    CHECK(first["calibrated"]["std_error"].get<double>() > 0);
    CHECK_FALSE(sum.contains("calibrated"));
    CHECK(sum["fused"]["std"] == sum["resized"]["std"]);
    CHECK(study["records"].back()["arm"] == "explicit");
    CHECK(study["records"].back()["sites"].size() == 5);
    if (!gradients) continue;
    CHECK(study["records"].back()["sites"][4]["branches"][0]["update_ratio"].get<double>() > 0);
    CHECK(std::filesystem::exists(request.out / "uper-explicit" / "report.html"));
    CHECK(train_and_record(request));  // runs that are there go on, as far as they were to go
  }
}

TEST_CASE("several seeds are several networks, recorded one by one and as their mean", "[snapshots]") {
  const TemporaryFolder folder;
  write_file(folder.path() / "tiny.json", to_json_text(tiny_config()));
  SnapshotRequest request{.config = folder.path() / "tiny.json", .gradients = true, .batches = 2, .seeds = 2};
  request.arms = arm_specs("off");
  request.log = nullptr;
  const auto both = first_step_snapshots(request);
  request.seeds = 1;
  request.settings = {"seed=4"};  // the second of those from 3 on
  const auto second = first_step_snapshots(request);
  REQUIRE(both[0].by_seed.size() == 2);
  const auto rms = [](const ProbeRecord& record) { return record.sites[0].branches[0].weight_grad_rms; };
  CHECK(rms(both[0].by_seed[1]) == rms(second[0].record));
  CHECK(rms(both[0].by_seed[0]) != rms(second[0].record));
  const double pooled = std::hypot(rms(both[0].by_seed[0]), rms(both[0].by_seed[1])) / std::sqrt(2.0);
  CHECK(rms(both[0].record) == Approx(pooled));
  CHECK(snapshot_table(both[0], true).find("by seed") != std::string::npos);
  request = {.config = request.config, .arms = request.arms, .gradients = true, .batches = 2, .seeds = 2, .log = nullptr};
  const json study = json::parse(snapshot_study_json(request, both, true, "command", 1));
  CHECK(study["records"].size() == 1);
  CHECK(study["records"][0]["seeds"] == 2);
  CHECK(study["by_seed"][1]["seed"] == 4);
  CHECK(study["by_seed"][1]["batches"] == 2);
  CHECK(study["ratio_changes"].empty());  // one arm
  CHECK(json::parse(snapshot_study_json({.config = request.config, .arms = request.arms}, second, true, "command", 1))["by_seed"].empty());
  request.seeds = 0;
  CHECK_THROWS_AS(first_step_snapshots(request), UsageError);
}

TEST_CASE("what an arm does to the inequality of gradients is one factor a network", "[snapshots]") {
  const auto snapshot = [](const char* head, const char* arm, const std::vector<double>& ratios) {
    Snapshot result{head, arm, {}, {}};
    for (const double ratio : ratios) {
      ProbeRecord record = record_with(0, 1, ratio);
      record.sites[0].grad_ratio = ratio;
      record.sites.push_back({.site = "depthwise", .kind = "concat", .depthwise = true, .grad_ratio = ratio});
      record.sites.push_back({.site = "sum", .kind = "sum"});
      result.by_seed.push_back(record);
    }
    result.record = result.by_seed.front();
    return result;
  };
  const std::vector<Snapshot> snapshots{snapshot("uper", "off", {2, 4}), snapshot("uper", "explicit", {1, 1}),
                                        snapshot("psp", "off", {9, 9}), snapshot("psp", "explicit", {9, 9})};
  const auto changes = ratio_changes(snapshots);
  REQUIRE(changes.size() == 2);
  CHECK(changes[0].head == "uper");
  CHECK(changes[0].site == "s");
  CHECK(changes[0].arm == "explicit");
  CHECK(changes[0].baseline == "off");
  CHECK(changes[0].factor.factors == std::vector<double>{0.5, 0.25});
  CHECK(changes[0].factor.mean == Approx(std::sqrt(0.125)));
  CHECK(changes[1].factor.mean == 1);
  CHECK(ratio_changes_table(changes).find("explicit against off") != std::string::npos);
  CHECK(ratio_changes({snapshot("uper", "off", {2}), snapshot("uper", "explicit", {1})}).empty());  // one network
  CHECK(ratio_changes_table({}) == "");
}

TEST_CASE("a frozen branch is sent no gradient, and the table says so", "[snapshots]") {
  ProbeRecord record = record_with(0, 1, 2);
  record.sites[0].branches[0].input_grad = kNotMeasured;
  const std::string table = snapshot_table({"uper", "off", {record}, record}, true);
  CHECK(table.find("nan") == std::string::npos);
  CHECK(table.find("|         -\n") != std::string::npos);
}

TEST_CASE("heads are named like arms", "[snapshots]") {
  const auto heads = parse_heads("uper,fcn,small:model.decode_head.type=uper;model.decode_head.channels=4");
  REQUIRE(heads.size() == 3);
  CHECK(heads[0].settings == std::vector<std::string>{"model.decode_head.type=uper"});
  CHECK(heads[1].settings.size() == 5);
  CHECK(heads[2].settings.size() == 2);
  CHECK_THROWS_AS(parse_heads("uper,uper"), UsageError);
  CHECK_THROWS_AS(parse_heads("../up"), UsageError);
}

TEST_CASE("each head and arm of a snapshot is the network that its settings make", "[snapshots]") {
  const TemporaryFolder folder;
  write_file(folder.path() / "tiny.json", to_json_text(tiny_config()));
  SnapshotRequest request{.config = folder.path() / "tiny.json",
                          .heads = parse_heads("uper,small:model.decode_head.channels=4,fcn"),
                          .arms = arm_specs("off,explicit"),
                          .batches = 2,
                          .log = nullptr};
  const auto snapshots = first_step_snapshots(request);
  REQUIRE(snapshots.size() == 6);
  for (size_t i = 0; i < 6; i += 2) {
    const BranchRecord &off = snapshots[i].record.sites[0].branches.back(), &on = snapshots[i + 1].record.sites[0].branches.back();
    CAPTURE(snapshots[i].head);
    CHECK(off.fused.std == Approx(off.resized.std));
    CHECK(on.fused.std == Approx(1).epsilon(0.3));
    CHECK(off.resized.std != Approx(1).epsilon(0.3));
  }
  const auto channels = [&](size_t i) { return snapshots[i].record.sites.back().branches.back().channels; };
  CHECK(channels(0) == 8);
  CHECK(channels(2) == 4);
  CHECK(snapshots[4].record.sites.size() == 1);  // one site, where uper has five
  request.heads = {};
  request.arms = arm_specs("off");
  request.batches = 1;
  CHECK(first_step_snapshots(request)[0].record.sites[0].branches[0].resized.std != snapshots[0].record.sites[0].branches[0].resized.std);
  request.settings = {"model.decode_head.type=psp"};
  CHECK(first_step_snapshots(request)[0].head == "psp");
  request.settings = {"seed=" + std::to_string(std::numeric_limits<int64_t>::max())};
  request.seeds = 2;
  CHECK_THROWS_WITH(first_step_snapshots(request), Catch::Contains("there is no seed 1 after"));
  request.batches = 0;
  CHECK_THROWS_WITH(first_step_snapshots(request), Catch::Contains("at least one batch"));
}

TEST_CASE("a snapshot's table has each site's ratios, and each branch as it arrives, resized and fused", "[snapshots]") {
  ProbeRecord first = record_with(1, 2, 3);
  first.sites[0].grad_ratio = 3;
  first.sites[0].branches[0].resized = {0.5, 1.5};
  first.sites[0].branches[0].weight_grad_share = 0.75;
  first.sites.push_back(first.sites[0]);
  first.sites[1].site = "other";
  ProbeRecord second = first;
  second.sites[0].grad_ratio = 5;
  const std::string table = snapshot_table({"uper", "off", {first, second}, first}, true);
  CHECK_THAT(table, Catch::Contains("uper, equalizer off, mean of 2 seeds\n") && Catch::Contains("3.00 (by seed 3.00 5.00)\n") &&
                        Catch::Contains("3.00 (by seed 3.00 3.00)\n") &&
                        Catch::Contains("|   1.000   2.000 |   0.500   1.500 |   1.000   2.000 |") && Catch::Contains("  75.0%"));
}

TEST_CASE("rows of runs that are not there are none, and what is no row is named", "[snapshots]") {
  const TemporaryFolder folder;
  write_file(folder.path() / "tiny.json", to_json_text(tiny_config()));
  SnapshotRequest request{.config = folder.path() / "tiny.json",
                          .arms = arm_specs("off,explicit"),
                          .iterations = 2,
                          .out = folder.path() / "study",
                          .log = nullptr};
  std::filesystem::create_directories(request.out / "uper-off");
  const std::filesystem::path rows = request.out / "uper-off" / "probes.jsonl";
  write_file(rows, probe_json(record_with(1, 2, 3)) + "\n");
  const json study = json::parse(snapshot_study_json(request, {{"uper", "off", {}, record_with(1, 2, 3)}}, false, "command", 1));
  REQUIRE(study["records"].size() == 2);
  CHECK(study["records"][1]["source"] == "run");
  for (const json& record : study["records"]) CHECK(record.count("layers") == 0);
  write_file(rows, "{\"iteration\": 0");
  CHECK_THROWS_WITH(snapshot_study_json(request, {}, false, "command", 1),
                    Catch::Contains("a row is not JSON") && Catch::Contains(rows.string()));
}

TEST_CASE("each number of a mean record is of its own", "[snapshots]") {
  CHECK(RecordMean().result().sites.empty());
  ProbeRecord a = record_with(1, 2, 3), b = a;
  BranchRecord& branch = b.sites[0].branches[0];
  branch.before = {3, 2};
  branch.fused = {-1, 4};
  branch.within_image = 5;
  branch.lag_one = 0.7;
  branch.white_noise_factor = 0.9;
  branch.predicted_factor = 1.1;
  branch.measured_factor = 1.3;
  RecordMean mean;
  mean.add(a);
  mean.add(b);
  const ProbeRecord both = mean.result();
  const BranchRecord& result = both.sites[0].branches[0];
  CHECK(result.before.mean == Approx(2));
  CHECK(result.resized.mean == Approx(1));
  CHECK(result.fused.mean == Approx(0).margin(1e-12));
  CHECK(result.within_image == Approx(4));  // of 3 and 5
  CHECK(result.lag_one == Approx(0.6));
  CHECK(result.white_noise_factor == Approx(0.7));
  CHECK(result.predicted_factor == Approx(0.8));
  CHECK(result.measured_factor == Approx(0.9));
}
