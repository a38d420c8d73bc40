// inspect run: runs as they lie in their folders, finished, in progress, broken off, damaged.
#include <nlohmann/json.hpp>

#include "command.h"
#include "training/run_folder.h"

using namespace eq;
using namespace eq::test;

namespace {

// The folder of a run that has been evaluated after 20 and 40 of 60 iterations.
struct LyingRun {
  explicit LyingRun(const std::filesystem::path& path, const std::string& mode = "off", double miou = 0.5) : path(path) {
    std::filesystem::create_directories(path);
    write_file(
        path / "config.json",
        R"({"seed": 7, "data": {"type": "camvid", "root": "somewhere"}, "model": {"backbone": {"type": "resnet", "depth": 34}, "decode_head": {"type": "psp"}},
      "equalizer": {"mode": ")" +
            mode + R"("}, "train": {"iterations": 60}, "pipeline": {"mean": [1, 2, 3]}})");
    const auto row = [](int iteration, double value) {
      return R"({"type":"evaluate","iteration":)" + std::to_string(iteration) + R"(,"miou":)" + std::to_string(value) +
             R"(,"macc":0.6,"aacc":0.7,"cross_entropy":0.5,"per_class":[{"name":"road","iou":)" + std::to_string(value) +
             R"(,"acc":0.5,"precision":0.25,"pixels":10},{"name":"sky","iou":null,"acc":null,"precision":null,"pixels":0}]})" + "\n";
    };
    write_file(path / "metrics.jsonl", row(20, miou) + row(40, miou - 0.125) +
                                           R"({"type":"train","iteration":45,"loss":1.25,"images_per_second":12.5,"seconds":61})"
                                           "\n"
                                           R"({"type":"train","itera)");
  }
  CommandResult inspect(const std::string& more = "") const { return equiscale("inspect run " + path.string() + " " + more); }
  std::filesystem::path path;
};

void check_says(const CommandResult& result, const std::vector<std::string>& words) {
  INFO(result.output);
  CHECK(result.status == 0);
  for (const std::string& word : words) {
    CAPTURE(word);
    CHECK(result.output.find(word) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("inspect run gives an account of a run that broke off, and of one in progress", "[app]") {
  const TemporaryFolder folder;
  const LyingRun run(folder.path() / "run");
  check_says(run.inspect(), {"run: broken off\n", "psp head on resnet34, equalizers off", "camvid in somewhere, 2 classes", "seed        7",
                             "iterations  45 of 60\n", "0:01:01, 12.5 pictures", "last 37.50 at 40, best 50.00 at 20",
                             "road   37.50  50.00     -      25.00\n", "sky        -      -     -          -\n"});
  write_file(run.path / "log.txt", "iter 45/60\ndata error: the label 9 is bad\n  where: x.png\n  try:   mend it\n");
  check_says(run.inspect(), {"the log ends with: data error: the label 9 is bad\n"});
  write_file(run.path / "log.txt", "data error: the label 9 is bad\n  where: x.png\n  try:   mend it\nresuming after iteration 40\n");
  CHECK(run.inspect().output.find("the log ends") == std::string::npos);
  write_file(run.path / "nan_report.json", "{}");
  check_says(run.inspect(), {"run: diverged\n"});
  {
    const RunLock lock(run.path);
    check_says(run.inspect(), {"run: training now\n"});
  }
  write_file(run.path / "metrics.jsonl", "");
  check_says(run.inspect(), {"not evaluated yet", "iterations  0 of 60"});
}

TEST_CASE("inspect run of several says what sets them apart", "[app]") {
  const TemporaryFolder folder;
  const LyingRun first(folder.path() / "first"), second(folder.path() / "second", "explicit", 0.75);
  const CommandResult text = first.inspect(second.path.string());
  check_says(text, {"equalizer.mode  \"off\"  \"explicit\"\n", "20  50.00  75.00\n", "40  37.50  62.50\n", "road         37.50  62.50\n"});
  CHECK_THAT(text.output, Catch::Contains("mAcc  cross-entropy") && Catch::Contains("60.00         0.5000  1.25"));
  CHECK(text.output.find("pipeline.mean") == std::string::npos);
  const nlohmann::json json = nlohmann::json::parse(first.inspect(second.path.string() + " --json").output);
  CHECK(json["differing_keys"].size() == 1);
  CHECK(json["differing_keys"]["equalizer.mode"] == nlohmann::json({"off", "explicit"}));
  CHECK(json["runs"][1]["best"]["miou"] == 0.75);
  CHECK(json["runs"][1]["last"]["per_class"][1]["iou"].is_null());
  CHECK(json["runs"][0]["state"] == "broken off");
  check_says(first.inspect(first.path.string()), {"the configurations are the same"});
}

TEST_CASE("inspect run of a finished run, and of what is none", "[app]") {
  const TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), run = (folder.path() / "run").string();
  write_file(config, tiny_recipe());
  REQUIRE(equiscale("train " + config + " --out " + run + " --set train.iterations=4 --set train.evaluate_every=2").status == 0);
  const CommandResult text = equiscale("inspect run " + run);
  check_says(text, {": finished\n", "iterations  4 of 4\n", "parameters", "shapes, 8 classes", "twin"});
  const nlohmann::json json = nlohmann::json::parse(equiscale("inspect run --json " + run).output);
  CHECK(json["runs"][0]["evaluations"].size() == 2);
  CHECK(json["runs"][0]["checkpoint"] == 4);
  check_error(equiscale("inspect run " + folder.path().string()), 3, "does not hold a run");
  check_error(equiscale("inspect run " + run + " " + (folder.path() / "none").string()), 3, "none");
  check_error(equiscale("inspect run"), 2, "run");
  write_file(run + "/config.json", "{\"model\": 3}");
  check_error(equiscale("inspect run " + run), 3, "config.json");
  write_file(run + "/config.json", "{");
  check_error(equiscale("inspect run " + run), 3, "config.json");
}

TEST_CASE("whether a process trains in a folder can be seen, and looking keeps no one from training", "[app]") {
  const TemporaryFolder folder;
  CHECK_FALSE(is_training(folder.path()));
  {
    const RunLock lock(folder.path());
    CHECK(is_training(folder.path()));
    CHECK_THROWS_AS(RunLock(folder.path()), UsageError);
  }
  CHECK_FALSE(is_training(folder.path()));
  const RunLock again(folder.path());
}

TEST_CASE("inspect run shows the best and the worst of many classes", "[app]") {
  const TemporaryFolder folder;
  const LyingRun run(folder.path() / "run");
  nlohmann::json row = {{"type", "evaluate"}, {"iteration", 60}, {"miou", 0.5}, {"macc", 0.5}, {"aacc", 0.5}};
  for (int i = 0; i < 24; ++i) row["per_class"].push_back({{"name", "class" + std::to_string(i) + "."}, {"iou", 0.01 * i}});
  write_file(run.path / "metrics.jsonl", row.dump() + "\n");
  const CommandResult result = run.inspect();
  check_says(result, {"class23.", "class16.", "... 8 more", "class7.", "class0."});
  for (const char* between : {"class15.", "class8."}) CHECK(result.output.find(between) == std::string::npos);
  CHECK(result.output.find("class23.") < result.output.find("class0."));
}

TEST_CASE("inspect run names a checkpoint to go on from, and sets only the same classes side by side", "[app]") {
  const TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), trained = (folder.path() / "trained").string();
  write_file(config, tiny_recipe());
  REQUIRE(equiscale("train " + config + " --out " + trained + " --set train.iterations=2").status == 0);
  CHECK(equiscale("inspect run " + trained).output.find("a checkpoint of") == std::string::npos);
  std::filesystem::remove(trained + "/summary.json");
  check_says(equiscale("inspect run " + trained), {"iterations  2 of 2, a checkpoint of 2\n"});

  const LyingRun first(folder.path() / "first"), second(folder.path() / "second");
  CHECK(first.inspect(second.path.string()).output.find("last IoU of") != std::string::npos);
  std::string rows = read_file(second.path / "metrics.jsonl");
  for (size_t at = 0; (at = rows.find("road", at)) != std::string::npos;) rows.replace(at, 4, "rail");
  write_file(second.path / "metrics.jsonl", rows);
  CHECK(first.inspect(second.path.string()).output.find("last IoU of") == std::string::npos);
}
