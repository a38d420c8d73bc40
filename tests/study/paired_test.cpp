// Arms, and paired runs of a network small enough to train in a second.
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/errors.h"
#include "study/paired/run.h"
#include "study/report/report.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

struct Study {
  Study() : config(folder.path() / "tiny.json") {
    write_file(config, to_json_text(tiny_config({"train.overlays=0", "train.log_every=1"})));
  }
  PairedRequest request(const std::string& arms, int64_t seeds, const std::vector<std::string>& settings = {}) const {
    PairedRequest r;
    r.config = config;
    r.settings = settings;
    r.arms = parse_arms(arms);
    r.seeds = seeds;
    r.out = folder.path() / "study";
    r.command = "a command";
    r.log = nullptr;
    return r;
  }
  nlohmann::json result() const { return nlohmann::json::parse(read_file(folder.path() / "study" / "study.json")); }
  TemporaryFolder folder;
  fs::path config;
};

}  // namespace

TEST_CASE("arms are modes of the equalizer, or names with settings", "[paired]") {
  const auto arms = parse_arms("off,on,gentle:optimizer.lr=1e-4;equalizer.mode=explicit,wide:decode_head.in_index=[0,1];a.b=\"x,y\"");
  REQUIRE(arms.size() == 4);
  CHECK(arms[0].settings == std::vector<std::string>{"equalizer.mode=off"});
  CHECK(arms[1].name == "on");
  CHECK(arms[1].settings == std::vector<std::string>{"equalizer.mode=explicit"});
  CHECK(arms[2].name == "gentle");
  CHECK(arms[2].settings == std::vector<std::string>{"optimizer.lr=1e-4", "equalizer.mode=explicit"});
  CHECK(arms[3].settings == std::vector<std::string>{"decode_head.in_index=[0,1]", "a.b=\"x,y\""});
  CHECK_THROWS_WITH(parse_arms("off"), Contains("one arm"));
  CHECK_THROWS_WITH(parse_arms("off,study.json:seed=1"), Contains("file of the study's folder"));
  CHECK_THROWS_WITH(parse_arms("off,off"), Contains("there twice"));
  for (const char* bad : {"", "off,", "off,../x:a=1", "off,.hidden:a=1", "off,a b:a=1"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_arms(bad), UsageError);
  }
}

TEST_CASE("a paired study: equal beginnings, each run once, every pair compared", "[paired]") {
  Study study;
  const PairedStudy result = run_paired_study(study.request("off,explicit,again:equalizer.mode=off", 2));
  CHECK(result.finished);
  REQUIRE(result.runs.size() == 6);
  CHECK(result.arms.seeds == std::vector<int64_t>{3, 4});
  for (const WeightsOfSeed& weights : result.initial_weights) CHECK(weights.equal);
  REQUIRE(result.initial_weights.size() == 2);
  CHECK(result.initial_weights[0].sha256 != result.initial_weights[1].sha256);
  CHECK_FALSE(fs::exists(study.folder.path() / "study" / "again"));
  REQUIRE(result.comparisons.size() == 10);
  for (const PairedComparison& c : result.comparisons) {
    CHECK(c.baseline == "off");
    CHECK(c.differences.size() == 2);
    if (c.arm == "again") CHECK(c.ties == 2);
  }

  const auto json = study.result();
  CHECK(json["kind"] == "run");
  CHECK(json["command"] == "a command");
  CHECK(json["finished"] == true);
  CHECK(json["config"]["seed"] == 3);
  CHECK(json["arms"][2]["same_as"] == "off");
  CHECK(json["cost"]["cpu_seconds"] > 0);
  for (const auto& run : json["runs"]) {
    const bool shared = run["arm"] == "again";
    CHECK(run["shared_from"] == (shared ? nlohmann::json("off") : nlohmann::json()));
    CHECK(run["per_class"].size() == json["classes"].size());
    const auto summary =
        nlohmann::json::parse(read_file(study.folder.path() / "study" / run["folder"].get<std::string>() / "summary.json"));
    CHECK(run["miou"] == summary["miou"]);
    CHECK(run["cross_entropy"] == summary["cross_entropy"]);
    CHECK(run["cross_entropy"] > 0);
    CHECK(run["weights_sha256"] == summary["weights_sha256"]);
    CHECK(run["loss_tail"] > 0);
  }
  CHECK_THAT(paired_study_table(result), Contains("explicit: ") && Contains("against off"));

  SECTION("finished runs are kept, further seeds are added") {
    const auto before = fs::last_write_time(study.folder.path() / "study" / "off" / "3" / "summary.json");
    const PairedStudy more = run_paired_study(study.request("off,explicit", 3));
    CHECK(more.runs.size() == 6);
    CHECK(study.result()["runs"].size() == 6);
    run_paired_study(study.request("off,explicit", 1));  // nothing is left to run, and the result is of what was asked for
    CHECK(study.result()["runs"].size() == 2);
    CHECK(fs::last_write_time(study.folder.path() / "study" / "off" / "3" / "summary.json") == before);
  }
  SECTION("runs from before their cross-entropy was measured are compared by the rest") {
    PairedStudy older = result;
    for (PairedRun& run : older.runs) run.cross_entropy = std::nan("");
    older.comparisons = compare_arms(older);
    CHECK(older.comparisons.size() == 8);
    const fs::path out = study.folder.path() / "older";
    fs::create_directory(out);
    write_file(out / "study.json", paired_study_json(older, ""));
    const std::string page = read_file(write_study_report(out));
    CHECK_THAT(page, Contains("mAcc, every seed") && !Contains("Validation cross-entropy"));
    write_file(out / "study.json", paired_study_json(result, ""));
    CHECK_THAT(read_file(write_study_report(out)), Contains("Validation cross-entropy, every seed"));
  }
  SECTION("another configuration is refused, by name of the key") {
    CHECK_THROWS_WITH(run_paired_study(study.request("off,explicit", 2, {"train.iterations=7"})),
                      Contains("train.iterations") && Contains("off/3"));
    CHECK_NOTHROW(run_paired_study(study.request("off,explicit", 2, {"train.log_every=2"})));
    fs::remove_all(study.folder.path() / "study" / "off");  // every run is looked at before any is trained
    CHECK_THROWS_WITH(run_paired_study(study.request("off,explicit", 2, {"train.iterations=7"})), Contains("explicit/3"));
    CHECK_FALSE(fs::exists(study.folder.path() / "study" / "off"));
  }
}

TEST_CASE("probed runs are compared by the inequality of their gradients", "[paired]") {
  Study study;
  const PairedStudy result = run_paired_study(study.request("off,explicit,again:equalizer.mode=off", 2, {"probes.every=2"}));
  const auto json = study.result();
  const auto& of_run = json["runs"][0]["grad_ratios"];
  REQUIRE(of_run.size() == 2);  // sums have no weights
  CHECK(of_run[0]["site"] == "decode_head.ppm_fusion");
  CHECK(of_run[0]["iterations"] == std::vector<int>{0, 2, 4, 5});
  // As the probes have them; at the ends alone: 2 sites x 2 arms x 2 records.
  REQUIRE(json["ratio_changes"].size() == 8);
  const auto ratio = [&](const char* arm, int seed, size_t record) {
    std::istringstream rows(read_file(study.folder.path() / "study" / arm / std::to_string(seed) / "probes.jsonl"));
    std::string row;
    for (size_t i = 0; i <= record; ++i) std::getline(rows, row);
    const auto probe = nlohmann::json::parse(row);
    for (const auto& site : probe["sites"]) {
      if (site["site"] == "decode_head.fpn_fusion") return site["grad_ratio"].get<double>();
    }
    return 0.0;
  };
  for (const auto& change : json["ratio_changes"]) {
    if (change["site"] != "decode_head.fpn_fusion" || change["arm"] != "explicit") continue;
    const size_t record = change["iteration"] == 0 ? 0 : 3;
    CHECK(change["iteration"] == (record == 0 ? 0 : 5));
    for (int seed : {0, 1}) {
      CHECK(change["factors"][size_t(seed)] == Approx(ratio("explicit", 3 + seed, record) / ratio("off", 3 + seed, record)));
    }
    CHECK(change["mean"].get<double>() > 0);
  }
  CHECK(json["ratio_changes"][2]["arm"] == "again");
  CHECK(json["ratio_changes"][2]["mean"] == 1);
  CHECK_THAT(paired_study_table(result),
             Contains("times what it is in the first arm") && Contains("again against off") && Contains("1.000 (1.000 to 1.000), 2 seeds"));
  CHECK_THAT(read_file(study.folder.path() / "study" / "report.html"),
             Contains("Gradients where levels are fused") && Contains("geometric mean over the seeds") && Contains("explicit / off"));

  // Records that not all pairs have do not count; nor do depthwise convolutions.
  PairedStudy cut = result;
  cut.runs[0].grad_ratios[1].iterations.pop_back();
  cut.runs[0].grad_ratios[1].ratios.pop_back();
  const auto changes = compare_grad_ratios(cut);
  CHECK(changes.back().site == "decode_head.fpn_fusion");
  CHECK(changes.back().iteration == 4);
  const fs::path probes = study.folder.path() / "probes.jsonl";
  write_file(probes, R"({"iteration": 0, "sites": [{"site": "a", "grad_ratio": 2, "depthwise": true}, {"site": "b", "grad_ratio": null}]})"
                     "\n");
  CHECK(read_grad_ratios(probes).empty());
  write_file(probes, R"({"iteration": 0, "sites": [{"site": "a"}]})" "\n");
  CHECK_THROWS_WITH(read_grad_ratios(probes), Contains("probes.jsonl") && Contains("grad_ratio"));
  CHECK(read_grad_ratios(study.folder.path() / "none").empty());
}

TEST_CASE("a stopped study goes on to the same result", "[paired]") {
  Study whole, stopped;
  const PairedStudy expected = run_paired_study(whole.request("off,explicit", 1));
  // The first run as an interrupted training leaves it: a checkpoint after iteration 3, no summary.
  const fs::path run = stopped.folder.path() / "study" / "off" / "3";
  Config config = load_config(stopped.config, {"equalizer.mode=off", "seed=3"});
  TrainRequest request;
  request.out = run;
  request.log = nullptr;
  request.on_step = [](const StepReport& report) {
    if (report.iteration == 4) std::raise(SIGTERM);
  };
  CHECK_FALSE(train(config, request).finished);
  REQUIRE(fs::exists(run / "checkpoint" / "manifest.json"));
  const PairedStudy result = run_paired_study(stopped.request("off,explicit", 1));
  CHECK(result.finished);
  REQUIRE(result.runs.size() == expected.runs.size());
  for (size_t i = 0; i < result.runs.size(); ++i) {
    CHECK(result.runs[i].weights_sha256 == expected.runs[i].weights_sha256);
    CHECK(result.runs[i].miou == expected.runs[i].miou);
  }
}

TEST_CASE("an arm that diverges keeps no other from its runs, and is named at the end", "[paired]") {
  Study study;
  try {
    run_paired_study(study.request("hot:optimizer.lr=1e30,off,explicit", 2));
    FAIL("nothing diverged");
  } catch (const NumericalError& error) {
    CHECK_THAT(error.what_happened(), Contains("hot seed 3") && Contains("hot seed 4") && !Contains("off"));
  }
  const auto json = study.result();
  CHECK(json["runs"].size() == 4);
  CHECK(json["finished"] == false);
  REQUIRE(json["diverged"].size() == 2);
  CHECK(json["diverged"][0]["arm"] == "hot");
  CHECK(json["diverged"][1]["seed"] == 4);
  CHECK(json["diverged"][1]["folder"] == "hot/4");
  CHECK(json["diverged"][1]["iteration"] == 1);
  // The baseline has no run: no difference from it is known, and none is drawn.
  for (const auto& comparison : json["comparisons"]) {
    CHECK(comparison["mean"].is_null());
    CHECK(comparison["std"].is_null());
  }
  const std::string page = read_file(study.folder.path() / "study" / "report.html");
  CHECK_THAT(page, Contains("hot diverged with seed 4, at iteration 1: no pair has it.") && !Contains("mIoU, differences"));
}

TEST_CASE("training losses are means over iterations, and compared where these are the same", "[paired]") {
  TemporaryFolder folder;
  const auto tail = [&](const std::string& rows, int iterations = 100) {
    write_file(folder.path() / "summary.json",
               R"({"miou": 0.5, "macc": 0.5, "aacc": 1, "seconds": 1, "weights_sha256": "", "per_class": [], "iterations": )" +
                   std::to_string(iterations) + "}");
    write_file(folder.path() / "metrics.jsonl", rows);
    return read_paired_run(folder.path());
  };
  const auto row = [](int iteration, double loss) {
    return R"({"type": "train", "iteration": )" + std::to_string(iteration) + R"(, "loss": )" + std::to_string(loss) + "}\n";
  };
  const std::string rows = row(80, 9) + row(88, 4) + row(96, 2) + row(100, 5);
  CHECK(tail(rows).loss_tail == Approx((8 * 2 + 4 * 5) / 12.0));  // 89 to 96, and 97 to 100
  CHECK(tail(rows).tail_from == 88);
  CHECK(tail(row(100, 3)).tail_from == 0);
  CHECK(std::isnan(tail("").loss_tail));

  PairedStudy study;
  study.arms.seeds = {0, 1};
  for (const char* arm : {"off", "on"}) {
    study.arms.arms.push_back({.spec = {arm, {}}, .configs = {}});
    for (const int64_t seed : study.arms.seeds) {
      study.runs.push_back(
          {.arm = arm, .seed = seed, .miou = 0.5, .cross_entropy = 0.25 + 0.5 * double(seed), .loss_tail = 1 + 0.1 * double(seed)});
    }
  }
  const auto losses = [&] {
    for (const PairedComparison& c : compare_arms(study)) {
      if (c.metric == "loss_tail") return c.differences.size();
    }
    return size_t{0};
  };
  CHECK(losses() == 2);
  study.runs.back().tail_from = 5;
  CHECK(losses() == 1);
  study.runs[2].tail_from = 5;
  CHECK(losses() == 0);

  // The table: means of what is there, and no deviation of one.
  study.runs.pop_back();
  study.comparisons = compare_arms(study);
  const std::string table = paired_study_table(study);
  CHECK_THAT(table,
             Contains("cross-entropy") && Contains("0.5000") && Contains("0.2500") && Contains("of validation cross-entropy against off"));
  CHECK_THAT(table, Contains("on                           1    50.00        - ") && Contains("not all arms", Catch::CaseSensitive::No));
  const fs::path out = folder.path() / "page";
  fs::create_directory(out);
  for (Arm& arm : study.arms.arms) arm.configs.push_back(tiny_config());
  write_file(out / "study.json", paired_study_json(study, ""));
  CHECK_THAT(read_file(write_study_report(out)), Contains("Not all arms have finished the same seeds"));
  study.runs.push_back({.arm = "on", .seed = 1});
  CHECK_THAT(paired_study_table(study), !Contains("Not all arms"));
  study.runs.pop_back();
  study.runs[0].loss_tail = std::nan("");
  CHECK_THAT(paired_study_table(study), Contains("1.1000") && !Contains("nan"));
}

TEST_CASE("arms whose networks differ are told from pairs", "[paired]") {
  Study study;
  PairedRequest request = study.request("off,wide:decode_head.channels=16", 1);
  request.dry_run = true;
  request.arms[1].settings = {"model.decode_head.channels=16"};
  const PairedStudy result = run_paired_study(request);
  CHECK_FALSE(result.finished);
  CHECK_FALSE(fs::exists(request.out));
  REQUIRE(result.initial_weights.size() == 1);
  CHECK_FALSE(result.initial_weights[0].equal);
  CHECK_THAT(result.initial_weights[0].first_difference, Contains("wide: "));
  CHECK_THROWS_WITH(run_paired_study(study.request("off,odd:equalizer.mode=explicti", 1)), Contains("explicti"));
  CHECK_THROWS_WITH(run_paired_study(study.request("off,odd:seed=9", 1)), Contains("seed"));
  CHECK_THROWS_AS(run_paired_study(study.request("off,explicit", 0)), UsageError);
  CHECK_NOTHROW(resolve_arms(study.config, {"seed=9223372036854775806"}, parse_arms("off,explicit"), 2));
  CHECK_THROWS_WITH(resolve_arms(study.config, {"seed=9223372036854775806"}, parse_arms("off,explicit"), 3), Contains("no seed 2 after"));
}

TEST_CASE("a damaged run is named", "[paired]") {
  TemporaryFolder folder;
  write_file(folder.path() / "summary.json", R"({"miou": 0.5})");
  CHECK_THROWS_WITH(read_paired_run(folder.path()), Contains("summary.json") && Contains("macc"));
  write_file(folder.path() / "summary.json", "half a fil");
  CHECK_THROWS_AS(read_paired_run(folder.path()), DataError);
  // Numbers beyond all iterations are numbers.
  write_file(folder.path() / "summary.json", R"({"miou": 0.5, "macc": null, "aacc": 1, "seconds": 1, "weights_sha256": "", "per_class": [],
                                                "iterations": 1e300})");
  write_file(folder.path() / "metrics.jsonl", "{\"type\": \"train\", \"iteration\": 1e300, \"loss\": 2}\n");
  CHECK(read_paired_run(folder.path()).loss_tail == 2);
  write_file(folder.path() / "cost.json", "{");
  CHECK_THROWS_WITH(read_paired_run(folder.path()), Contains((folder.path() / "cost.json").string()));
}

TEST_CASE("a study says what it does, and adds up what its runs have taken", "[paired]") {
  const Study study;
  PairedRequest request = study.request("off,explicit,again:equalizer.mode=off", 1);
  // What parts that came to an end before have taken; one file is spoilt.
  for (const auto& [arm, cost] : {std::pair{"off", R"({"cpu_seconds": 1000})"}, {"explicit", R"({"cpu_seconds": "much"})"}}) {
    fs::create_directories(request.out / arm / "3");
    write_file(request.out / arm / "3" / "cost.json", cost);
  }
  const fs::path log = study.folder.path() / "log";
  request.log = std::fopen(log.c_str(), "w");
  const PairedStudy result = run_paired_study(request);
  std::fclose(request.log);
  CHECK_THAT(read_file(log), Contains("again is the same configuration as off: it is run once\n3 arms x 1 seeds: 2 runs left\n"
                                      "[1/2] off seed 3: begins\n[1/2] off seed 3: mIoU ") &&
                                 Contains("; 1 run left, about 0:0") && Contains("[2/2] explicit seed 3: begins\n") &&
                                 Contains("; all runs are done\n") && !Contains("note:"));
  REQUIRE(result.runs.size() == 3);
  CHECK(result.runs[0].cpu_seconds > 1000);
  CHECK(result.runs[0].cpu_seconds < 1600);
  CHECK(result.runs[1].cpu_seconds > 0);
  CHECK(result.runs[1].cpu_seconds < 600);
  CHECK(study.result()["cost"]["cpu_seconds"] < 2000);  // the shared run counts once
  for (const char* arm : {"off", "explicit"}) CHECK(fs::exists(request.out / arm / "3" / "report.html"));
  request.log = nullptr;
  request.out.clear();
  CHECK_THROWS_WITH(run_paired_study(request), Contains("a study needs a folder"));
}
