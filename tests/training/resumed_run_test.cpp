// What a run records and keeps, counted by hand, and what of it a resumed run goes on with.
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "datasets/image.h"
#include "support.h"
#include "training/checkpoint.h"
#include "training/interrupted.h"
#include "training/run_folder.h"
#include "training/tiny.h"
#include "training/trained_model.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
namespace fs = std::filesystem;

namespace {

std::vector<nlohmann::json> rows_of(const fs::path& file, const std::string& type = "") {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(read_file(file));
  for (std::string line; std::getline(lines, line);) {
    rows.push_back(nlohmann::json::parse(line));
    if (!type.empty() && rows.back()["type"] != type) rows.pop_back();
  }
  return rows;
}

int64_t times_said(const fs::path& out, const std::string& words) {
  const std::string log = read_file(out / "log.txt");
  int64_t times = 0;
  for (size_t at = log.find(words); at != std::string::npos; at = log.find(words, at + 1)) ++times;
  return times;
}

// As another course of the run might have left it: better than anything, of that iteration.
void pretend_best(const fs::path& out, int64_t iteration) {
  TrainedModel kept = load_trained_model(out / kBestWeights);
  kept.card.miou = 1.0;
  kept.card.iteration = iteration;
  save_weights(out / kBestWeights, *kept.model, kept.card);
}

}  // namespace

TEST_CASE("a row of metrics is the mean of the steps since the one before, and the last step has one", "[trainer]") {
  TemporaryFolder folder;
  std::vector<StepReport> steps;
  TrainRequest request = quiet(folder.path() / "run");
  request.on_step = [&](const StepReport& report) { steps.push_back(report); };
  train(tiny_config({"train.log_every=4"}), request);
  const auto rows = rows_of(request.out / "metrics.jsonl", "train");
  REQUIRE(rows.size() == 2);
  REQUIRE(steps.size() == 6);
  for (const auto& [row, begin, end] : {std::tuple(rows[0], 0u, 4u), std::tuple(rows[1], 4u, 6u)}) {
    CHECK(row["iteration"] == end);
    double loss = 0, main_loss = 0, aux_loss = 0;
    for (size_t i = begin; i < end; ++i) loss += steps[i].loss, main_loss += steps[i].main_loss, aux_loss += steps[i].aux_loss;
    CHECK(row["loss"] == Approx(loss / double(end - begin)));
    CHECK(row["main_loss"] == Approx(main_loss / double(end - begin)));
    CHECK(row["aux_loss"] == Approx(aux_loss / double(end - begin)));
  }
}

TEST_CASE("each evaluation is made once, and one that is stopped is none", "[trainer]") {
  TemporaryFolder folder;
  const Config config = tiny_config({"train.evaluate_every=2"});
  const fs::path out = folder.path() / "run";
  CHECK_THROWS_AS(train(tiny_config({"train.evaluate_every=2", "train.checkpoint_every=2"}), crash_after(out, 5)), Crash);
  train(tiny_config({"train.evaluate_every=2", "train.checkpoint_every=2"}), quiet(out, true));  // from 4, which was evaluated
  for (const int iteration : {2, 4, 6}) CHECK(times_said(out, "evaluating 5 pictures after iteration " + std::to_string(iteration)) == 1);

  struct Stopping final : Dataset {  // its third picture comes with a signal
    explicit Stopping(const Dataset& set) : Dataset(set.class_names(), set.palette()), of(set) {}
    int64_t size() const override { return of.size(); }
    RawSample load(int64_t index) const override {
      if (index == 2) std::raise(SIGTERM);
      return of.load(index);
    }
    std::string describe(int64_t index) const override { return of.describe(index); }
    const Dataset& of;
  };
  const auto train_set = make_dataset(config.data, "train"), val_set = make_dataset(config.data, "val");
  const Stopping stopping(*val_set);
  TrainRequest request = quiet(folder.path() / "stopped");
  request.train_set = train_set.get();
  request.val_set = &stopping;
  CHECK_FALSE(train(config, request).finished);
  CHECK(rows_of(request.out / "metrics.jsonl", "evaluate").empty());
}

TEST_CASE("a best from behind the checkpoint counts no more", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  const auto config = [](const char* iterations) {
    return tiny_config({"train.keep_best=true", "train.evaluate_every=3", std::string("train.iterations=") + iterations});
  };
  REQUIRE(train(config("6"), quiet(out)).best);
  pretend_best(out, 6);
  CHECK(train(config("7"), quiet(out, true)).best->miou == 1);  // of its own past
  pretend_best(out, 20);
  CHECK(train(config("8"), quiet(out, true)).best->miou < 1);
}

TEST_CASE("a best over other pictures counts no more", "[trainer]") {
  TemporaryFolder folder;
  const auto add_picture = [&](const std::string& name) {
    for (const char* part : {"i", "l"}) fs::create_directories(folder.path() / part);
    write_png(folder.path() / "i" / (name + ".png"), Image{64, 64, std::vector<uint8_t>(64 * 64 * 3, 90)});
    write_indexed_png(folder.path() / "l" / (name + ".png"), {64, 64, std::vector<uint8_t>(64 * 64, 1)}, voc_palette());
  };
  const nlohmann::json split = {{"images", "i"}, {"labels", "l"}};
  const nlohmann::json data = {{"type", "folders"}, {"root", folder.path().string()}, {"classes", {"x", "y"}}, {"checks", false},
                               {"folders", {{"image_suffix", ".png"}, {"train", {{"images", "t"}, {"labels", "u"}}}, {"val", split}}}};
  for (const char* name : {"a", "b"}) add_picture(name);
  fs::copy(folder.path() / "i", folder.path() / "t");  // to train on: these stay
  fs::copy(folder.path() / "l", folder.path() / "u");
  const auto config = [&](const char* iterations) {
    return tiny_config({"data=" + data.dump(), "train.keep_best=true", std::string("train.iterations=") + iterations});
  };
  const fs::path out = folder.path() / "run";
  REQUIRE(train(config("1"), quiet(out)).best);
  pretend_best(out, 1);
  CHECK(train(config("2"), quiet(out, true)).best->miou == 1);
  add_picture("c");
  CHECK(train(config("3"), quiet(out, true)).best->miou < 1);
}

TEST_CASE("a best over fewer built-in pictures counts no more", "[trainer]") {
  TemporaryFolder folder;
  const auto config = [](const char* iterations, const char* pictures) {
    return tiny_config({"train.keep_best=true", std::string("train.iterations=") + iterations, std::string("data.val_images=") + pictures});
  };
  const fs::path out = folder.path() / "run";
  REQUIRE(train(config("1", "3"), quiet(out)).best);
  pretend_best(out, 1);
  CHECK(train(config("2", "3"), quiet(out, true)).best->miou == 1);
  CHECK(times_said(out, "the pictures to evaluate on are others than before") == 0);
  CHECK(train(config("3", "4"), quiet(out, true)).best->miou < 1);
  CHECK(times_said(out, "the pictures to evaluate on are others than before (3 then, 4 now)") == 1);
}

TEST_CASE("a resumed run goes on with its time, keeps each record once, and takes an earlier report away", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run", manifest = out / "checkpoint" / "manifest.json";
  const Config config = tiny_config({"probes.every=3"});
  CHECK_THROWS_AS(train(config, crash_after(out, 5)), Crash);  // the checkpoint is of 3, and there is a record of 3
  auto json = nlohmann::json::parse(read_file(manifest));
  json["seconds"] = 5000;
  write_file(manifest, json.dump());
  write_file(out / "nan_report.json", "{}");
  const auto unfinished = {out / ".model.safetensors.9.1.tmp", out / "eval" / ".best_1_0002.png.9.2.tmp",
                           out / "overlays" / ".0.png.9.3.tmp"};
  for (const fs::path& file : unfinished) {  // as kills leave them
    fs::create_directories(file.parent_path());
    write_file(file, "half");
  }
  for (const char* name : {".mine.txt", ".notes.tmp", ".notes.2.tmp", ".a.b.1.tmp"}) write_file(out / name, "kept");
  CHECK(train(config, quiet(out, true)).seconds > 5000);
  CHECK_FALSE(fs::exists(out / "nan_report.json"));
  for (const fs::path& file : unfinished) CHECK_FALSE(fs::exists(file));
  for (const char* name : {".mine.txt", ".notes.tmp", ".notes.2.tmp", ".a.b.1.tmp"}) CHECK(fs::exists(out / name));
  std::vector<int64_t> recorded;
  for (const auto& row : rows_of(out / "probes.jsonl")) recorded.push_back(row["iteration"]);
  CHECK(recorded == std::vector<int64_t>{0, 3, 5});
  TrainRequest dry = quiet(out);
  dry.dry_run = true;
  CHECK_NOTHROW(check_run_folder(dry));  // it writes nothing
}

TEST_CASE("a refresh is recorded once, and those from behind it are another course's", "[trainer]") {
  TemporaryFolder folder;
  const fs::path file = folder.path() / "calibration.json";
  CalibrationReport report;
  report.branches.resize(1);
  write_calibration(file, report);
  const auto refreshes = [&] {
    std::vector<int64_t> iterations;
    const auto json = nlohmann::json::parse(read_file(file));
    for (const auto& refresh : json["refreshes"]) iterations.push_back(refresh["iteration"]);
    return iterations;
  };
  for (const int64_t iteration : {2, 4, 6, 4}) write_refresh(file, iteration, report);
  CHECK(refreshes() == std::vector<int64_t>{2, 4});
}

TEST_CASE("parts of a program's own are told apart by name, not by number", "[trainer]") {
  Checkpoint checkpoint;
  checkpoint.card.own_parts = {"loss"};
  CHECK_NOTHROW(check_own_parts(checkpoint, {"loss"}, "run"));
  CHECK_THROWS_WITH(check_own_parts(checkpoint, {"data"}, "run"), Catch::Contains("has had: loss; now: data"));
}
