#include "training/trainer.h"

#include <fmt/format.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/parallel.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "support.h"
#include "training/checkpoint.h"
#include "training/evaluator.h"
#include "training/run_log.h"
#include "training/signals.h"
#include "training/interrupted.h"
#include "training/tiny.h"
#include "training/trained_model.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

// A gray picture of one class, and its labels beside it.
void add_picture(const fs::path& folder, const std::string& name) {
  fs::create_directories(folder);
  write_png(folder / (name + ".png"), Image{64, 64, std::vector<uint8_t>(64 * 64 * 3, 90)});
  write_indexed_png(folder / (name + "_l.gif"), {64, 64, std::vector<uint8_t>(64 * 64, 1)}, voc_palette());
}

// The setting for a data set of such pictures, a folder for each split.
std::string in_folders(const fs::path& root, const std::string& train, const std::string& val) {
  const nlohmann::json data = {{"type", "folders"},
                               {"root", root.string()},
                               {"classes", {"x", "y"}},
                               {"checks", false},
                               {"folders",
                                {{"image_suffix", ".png"},
                                 {"label_suffix", "_l.gif"},
                                 {"train", {{"images", train}, {"labels", train}}},
                                 {"val", {{"images", val}, {"labels", val}}}}}};
  return "data=" + data.dump();
}

}  // namespace

TEST_CASE("a run leaves its files, and evaluating its weights again gives its numbers", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  const TrainResult result = train(tiny_config({"train.evaluate_every=4", "data.val_images=3"}), quiet(out));
  CHECK(result.finished);
  CHECK(result.iterations == 6);
  CHECK(result.train_peak_bytes > 0);
  CHECK(result.eval_peak_bytes > 0);
  REQUIRE(result.calibration.branches.size() == 9);
  for (const char* name :
       {"config.json", "log.txt", "metrics.jsonl", "metrics.csv", "calibration.json", "checkpoint/manifest.json", "model.safetensors"}) {
    CAPTURE(name);
    CHECK(fs::exists(out / name));
  }
  CHECK(std::distance(fs::directory_iterator(out / "overlays"), fs::directory_iterator()) == 2);
  const auto summary = nlohmann::json::parse(read_file(out / "summary.json"));
  CHECK(summary["miou"] == result.metrics.miou);
  CHECK(summary["cross_entropy"] == result.metrics.cross_entropy);
  CHECK(summary["weights_sha256"] == result.weights_sha256);
  CHECK(summary["iterations"] == 6);
  CHECK(summary["per_class"].size() == 8);
  CHECK(summary["peak_bytes"] == result.train_peak_bytes);
  CHECK(sha256_hex(read_safetensors(out / "model.safetensors").tensors) == result.weights_sha256);
  // 3 progress lines, 2 evaluations.
  int train_rows = 0, evaluations = 0;
  std::istringstream lines(read_file(out / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto row = nlohmann::json::parse(line);
    train_rows += row["type"] == "train";
    evaluations += row["type"] == "evaluate";
  }
  CHECK(train_rows == 3);
  CHECK(evaluations == 2);
  const std::string log = read_file(out / "log.txt");  // though nothing was printed
  CHECK_THAT(log, Contains("uper-resnet18 on shapes") && Contains("measuring feature scales") && Contains("iter  6/6  loss") &&
                      Contains("| aAcc"));
  CHECK(log.ends_with("\n"));
  CHECK(log.find("\n\n") == std::string::npos);
  const std::string csv = read_file(out / "metrics.csv");
  CHECK(std::count(csv.begin(), csv.end(), '\n') == 6);
  CHECK(std::count(csv.begin(), csv.end(), ',') == 6 * 14);

  for (const fs::path& path : {out, out / "model.safetensors", out / "checkpoint"}) {
    TrainedModel trained = load_trained_model(path);
    CHECK(trained.card.iteration == 6);
    const auto dataset = make_dataset(trained.config.data, "val");
    const EvalResult again = evaluate(*trained.model, *dataset, {.options = trained.config.evaluate, .pipeline = trained.config.pipeline});
    CHECK(again.metrics.miou == result.metrics.miou);
    CHECK(again.metrics.aacc == result.metrics.aacc);
    CHECK(again.metrics.cross_entropy == result.metrics.cross_entropy);
  }
  CHECK_THROWS_WITH(train(tiny_config(), quiet(out)), Contains("already holds a run") && Contains(out.string()));
}

TEST_CASE("averaged weights begin with the calibrated equalizers", "[trainer]") {
  TemporaryFolder folder;
  for (const char* mode : {"explicit", "folded"}) {
    const fs::path out = folder.path() / mode;
    train(tiny_config({std::string("equalizer.mode=") + mode, "train.iterations=1", "train.ema=0.999"}), quiet(out));
    const Checkpoint checkpoint = load_checkpoint(out / "checkpoint");
    int constants = 0;
    for (const auto& [name, tensor] : checkpoint.model) {
      if (name.find("equalizers") == std::string::npos && !name.ends_with("border")) continue;
      CHECK(sha256_hex({{name, tensor}}) == sha256_hex({{name, checkpoint.ema.at(name)}}));
      ++constants;
    }
    CHECK(constants == (mode == std::string("explicit") ? 18 : 2));
  }
}

TEST_CASE("with hard examples and the Dice loss a run trains, and resumes to the same bits", "[trainer]") {
  const auto settings = GENERATE(std::vector<std::string>{"train.ohem.threshold=0.1", "train.ohem.min_kept=500"},
                                 std::vector<std::string>{"train.dice_weight=1"});
  const Config config = tiny_config(settings);
  TemporaryFolder folder;
  const TrainResult whole = train(config, quiet(folder.path() / "whole"));
  CHECK(whole.finished);
  const fs::path out = folder.path() / "crashed";
  CHECK_THROWS_AS(train(config, crash_after(out, 5)), Crash);
  CHECK(train(config, quiet(out, true)).weights_sha256 == whole.weights_sha256);
  CHECK_THROWS_WITH(train(tiny_config(), quiet(out, true)),
                    Contains("not the one the run was started with: train." +
                             std::string(settings.size() == 2 ? "ohem" : "dice_weight (1.0 then, 0.0 now)")));
  CHECK(train(tiny_config(), quiet(folder.path() / "plain")).weights_sha256 != whole.weights_sha256);
}

TEST_CASE("an interrupted run resumes to the same bits", "[trainer]") {
  const std::string optimizer = GENERATE("sgd", "adamw");
  const Config config = tiny_config({"optimizer.type=" + optimizer, "train.ema=0.9", "train.accumulate=2", "train.clip_norm=1"});
  TemporaryFolder folder;
  set_num_threads(2);
  const TrainResult whole = train(config, quiet(folder.path() / "whole"));
  const fs::path out = folder.path() / "crashed";
  CHECK_THROWS_AS(train(config, crash_after(out, 5)), Crash);
  CHECK(load_checkpoint_card(out / "checkpoint").iteration == 3);
  set_num_threads(1);  // nor do threads matter
  const TrainResult resumed = train(config, quiet(out, true));
  CHECK(resumed.finished);
  CHECK(resumed.iterations == 6);
  CHECK(resumed.weights_sha256 == whole.weights_sha256);
  CHECK(resumed.metrics.miou == whole.metrics.miou);
  const Checkpoint a = load_checkpoint(folder.path() / "whole" / "checkpoint"), b = load_checkpoint(out / "checkpoint");
  CHECK(sha256_hex(a.model) == sha256_hex(b.model));
  CHECK(sha256_hex(a.optimizer) == sha256_hex(b.optimizer));
  CHECK(sha256_hex(a.ema) == sha256_hex(b.ema));
  CHECK(sha256_hex(a.ema) == whole.weights_sha256);  // the averaged weights are the result
  CHECK(sha256_hex(a.model) != whole.weights_sha256);
  // Each row once, though iteration 4 was logged by both parts.
  const std::string rows = read_file(out / "metrics.csv");
  CHECK(std::count(rows.begin(), rows.end(), '\n') == 5);
  const std::string log = read_file(out / "log.txt");  // both parts
  CHECK(log.find("iter  4/6") < log.find("resuming after iteration 3"));
  CHECK(log.find("resuming after iteration 3") < log.rfind("iter  4/6"));
  // A finished run may be resumed: nothing is left to do but to evaluate.
  CHECK(train(config, quiet(out, true)).weights_sha256 == whole.weights_sha256);
}

TEST_CASE("a run that is stopped between two rows of metrics has the rows of one that is not", "[trainer]") {
  TemporaryFolder folder;
  const Config config = tiny_config({"train.log_every=4", "train.checkpoint_every=0", "train.iterations=8"});
  train(config, quiet(folder.path() / "whole"));
  TrainRequest request = quiet(folder.path() / "stopped");
  request.on_step = [](const StepReport& report) {
    if (report.iteration == 5) std::raise(SIGTERM);
  };
  CHECK_FALSE(train(config, request).finished);
  CHECK(train(config, quiet(folder.path() / "stopped", true)).finished);
  const auto losses = [&](const char* run) {
    std::vector<std::string> rows;
    std::istringstream lines(read_file(folder.path() / run / "metrics.csv"));
    for (std::string line; std::getline(lines, line);) {
      size_t end = 0;
      for (int column = 0; column < 6; ++column) end = line.find(',', end) + 1;  // iteration .. grad_norm
      rows.push_back(line.substr(0, end));
    }
    return rows;
  };
  CHECK(losses("whole").size() == 4);
  CHECK(losses("stopped") == losses("whole"));
}

TEST_CASE("training on takes the earlier end's weights away, which would be taken for the newest", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  train(tiny_config({"train.iterations=2"}), quiet(out));
  CHECK(load_trained_model(out).card.iteration == 2);
  TrainRequest request = quiet(out, true);
  request.on_step = [](const StepReport& report) {
    if (report.iteration == 3) std::raise(SIGTERM);
  };
  CHECK_FALSE(train(tiny_config(), request).finished);
  CHECK(load_trained_model(out).card.iteration == 4);
  CHECK_FALSE(fs::exists(out / "summary.json"));
}

TEST_CASE("two runs cannot be in one folder at a time, nor a run and a study", "[trainer]") {
  TemporaryFolder folder;
  write_file(folder.path() / "study.json", "{}");
  CHECK_THROWS_WITH(train(tiny_config(), quiet(folder.path())), Contains("holds a study"));
  const fs::path out = folder.path() / "run";
  TrainRequest request = quiet(out);
  std::string second;
  request.on_step = [&](const StepReport& report) {
    if (report.iteration != 4) return;
    try {
      train(tiny_config(), quiet(out, true));
    } catch (const UsageError& error) {
      second = error.what();
    }
  };
  CHECK(train(tiny_config(), request).finished);
  CHECK_THAT(second, Contains("another process is training"));
  CHECK(train(tiny_config(), quiet(out, true)).finished);
}

TEST_CASE("an evaluation that a stop came before is made up for, and none is recorded twice", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  const Config config = tiny_config({"train.evaluate_every=2", "train.checkpoint_every=0"});
  const auto evaluations = [&] {
    std::vector<int64_t> iterations;
    std::istringstream lines(read_file(out / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto row = nlohmann::json::parse(line);
      if (row["type"] == "evaluate") iterations.push_back(row["iteration"]);
    }
    const std::string csv = read_file(out / "metrics.csv");
    size_t rows = 0;
    for (size_t at = csv.find(",,,,,,,,"); at != std::string::npos; at = csv.find(",,,,,,,,", at + 8)) ++rows;
    CHECK(rows == iterations.size());
    return iterations;
  };
  TrainRequest request = quiet(out);
  request.on_step = [](const StepReport& report) {
    if (report.iteration == 3) std::raise(SIGTERM);  // the fourth step
  };
  CHECK_FALSE(train(config, request).finished);
  CHECK(load_checkpoint_card(out / "checkpoint").iteration == 4);
  CHECK(evaluations() == std::vector<int64_t>{2});
  CHECK(train(config, quiet(out, true)).finished);
  CHECK(evaluations() == std::vector<int64_t>{2, 4, 6});
  CHECK(train(config, quiet(out, true)).finished);  // evaluates once more
  CHECK(evaluations() == std::vector<int64_t>{2, 4, 6});
}

TEST_CASE("the best evaluation's weights are kept, and a resumed run keeps the same", "[trainer]") {
  // So that the best is not the last; the averaged weights are those that are evaluated.
  const Config config = tiny_config({"train.keep_best=true", "train.evaluate_every=1", "optimizer.lr=0.0005", "train.iterations=8",
                                     "train.ema=0.5", "train.checkpoint_every=3"});
  TemporaryFolder folder;
  const fs::path whole = folder.path() / "whole";
  const TrainResult result = train(config, quiet(whole));
  REQUIRE(result.best);
  CHECK(result.best->iteration < 8);
  CHECK(result.best->miou > result.metrics.miou);
  double highest = -1;
  std::istringstream lines(read_file(whole / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto row = nlohmann::json::parse(line);
    if (row["type"] == "evaluate") highest = std::max(highest, row["miou"].get<double>());
  }
  CHECK(result.best->miou == highest);
  const auto summary = nlohmann::json::parse(read_file(whole / "summary.json"));
  CHECK(summary["best"]["iteration"] == result.best->iteration);
  CHECK(summary["best"]["miou"] == result.best->miou);
  CHECK_THAT(read_file(whole / "log.txt"), Contains(fmt::format("after iteration {} (model_best.safetensors)", result.best->iteration)));
  TrainedModel best = load_trained_model(whole / kBestWeights);
  CHECK(best.card.iteration == result.best->iteration);
  const auto dataset = make_dataset(best.config.data, "val");
  CHECK(evaluate(*best.model, *dataset, {.options = best.config.evaluate, .pipeline = best.config.pipeline}).metrics.miou == highest);

  for (const int64_t killed : {2, 5, 7, 8}) {
    CAPTURE(killed);
    const fs::path out = folder.path() / std::to_string(killed);
    CHECK_THROWS_AS(train(config, crash_after(out, killed)), Crash);
    const TrainResult resumed = train(config, quiet(out, true));
    CHECK(resumed.weights_sha256 == result.weights_sha256);
    REQUIRE(resumed.best);
    CHECK(resumed.best->iteration == result.best->iteration);
    CHECK(read_file(out / kBestWeights) == read_file(whole / kBestWeights));
  }
  // Without it nothing is kept.
  const fs::path plain = folder.path() / "plain";
  CHECK_FALSE(train(tiny_config({"train.evaluate_every=2"}), quiet(plain)).best);
  CHECK_FALSE(fs::exists(plain / kBestWeights));
}

TEST_CASE("a run that was interrupted before its first checkpoint starts again", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  CHECK_THROWS_AS(train(tiny_config(), crash_after(out, 2)), Crash);
  CHECK_THROWS_WITH(train(tiny_config({"optimizer.lr=0.5"}), quiet(out, true)), Contains("optimizer.lr") && Contains("started with"));
  const TrainResult resumed = train(tiny_config(), quiet(out, true));
  CHECK(resumed.finished);
  // Nor does evaluating in between change anything.
  CHECK(resumed.weights_sha256 == train(tiny_config({"train.evaluate_every=2"}), quiet(folder.path() / "whole")).weights_sha256);
}

TEST_CASE("a run whose checkpoint is gone does not start again over what is left of it", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  train(tiny_config(), quiet(out));
  const std::string metrics = read_file(out / "metrics.csv"), weights = read_file(out / "model.safetensors");
  const auto refused = [&](const char* sign) {
    CHECK_THROWS_WITH(train(tiny_config(), quiet(out, true)),
                      Contains("checkpoint is missing") && Contains(sign) && Contains("manifest.json"));
    CHECK(read_file(out / "metrics.csv") == metrics);
  };
  fs::remove(out / "checkpoint" / "manifest.json");
  refused("model.safetensors");
  CHECK(read_file(out / "model.safetensors") == weights);
  fs::remove_all(out / "checkpoint");
  fs::remove(out / "model.safetensors");
  refused("summary.json");
  fs::remove(out / "summary.json");
  refused("go to iteration 6, and it wrote one every 3");
}

TEST_CASE("what a run without a checkpoint throws away is said", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  CHECK_THROWS_AS(train(tiny_config({"train.checkpoint_every=4"}), crash_after(out, 3)), Crash);
  write_file(out / "metrics.csv", "");  // as a full disk leaves it
  train(tiny_config(), quiet(out, true));
  CHECK_THAT(read_file(out / "log.txt"), Contains("recorded to iteration 2 is thrown away"));
  CHECK(read_file(out / "metrics.csv").starts_with("iteration,loss,"));
}

TEST_CASE("a run goes on with the pictures that it began with", "[trainer]") {
  TemporaryFolder folder;
  for (const char* name : {"a", "b", "c"}) add_picture(folder.path() / "train", name), add_picture(folder.path() / "val", name);
  const auto config = [&](const char* iterations) {
    return tiny_config({in_folders(folder.path(), "train", "val"), std::string("train.iterations=") + iterations});
  };
  const fs::path out = folder.path() / "run";
  train(config("1"), quiet(out));
  add_picture(folder.path() / "val", "d");
  CHECK(train(config("2"), quiet(out, true)).finished);
  CHECK_THAT(read_file(out / "log.txt"), Contains("WARNING: the pictures to evaluate on are others than before (3 then, 4 now)"));
  fs::rename(folder.path() / "train" / "c.png", folder.path() / "train" / "e.png");
  fs::rename(folder.path() / "train" / "c_l.gif", folder.path() / "train" / "e_l.gif");
  CHECK_THROWS_WITH(train(config("3"), quiet(out, true)), Contains("other pictures: 3 then, 3 now") && Contains("names"));
  add_picture(folder.path() / "train", "c");
  CHECK_THROWS_WITH(train(config("3"), quiet(out, true)), Contains("3 then, 4 now"));
  auto manifest = nlohmann::json::parse(read_file(out / "checkpoint" / "manifest.json"));
  manifest.erase("data");  // an older one
  write_file(out / "checkpoint" / "manifest.json", manifest.dump());
  CHECK(train(config("3"), quiet(out, true)).finished);
}

TEST_CASE("a run that is evaluated on what it is trained on says so", "[trainer]") {
  TemporaryFolder folder;
  for (const char* split : {"one", "two"}) {
    for (const char* name : {"a", "b"}) add_picture(folder.path() / split, name);
  }
  const auto log_of = [&](const char* validation) {
    const fs::path out = folder.path() / (std::string("run_") + validation);
    train(tiny_config({in_folders(folder.path(), "one", validation), "train.iterations=1"}), quiet(out));
    return read_file(out / "log.txt");
  };
  CHECK_THAT(log_of("one"), Contains("the pictures to evaluate on are those that are trained on"));
  CHECK_THAT(log_of("two"), !Contains("those that are trained on"));  // though the names are the same
}

TEST_CASE("the speed of a resumed run is that of all its steps", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  const TrainResult whole = train(tiny_config(), quiet(out));
  fs::remove(out / "model.safetensors");  // as if killed after its last step
  fs::remove(out / "summary.json");
  const TrainResult resumed = train(tiny_config(), quiet(out, true));
  CHECK(whole.images_per_second > 0);
  CHECK(resumed.images_per_second == Approx(whole.images_per_second));
  CHECK(resumed.data_wait == Approx(whole.data_wait));
}

TEST_CASE("a signal ends a run with a checkpoint", "[trainer]") {
  TemporaryFolder folder;
  const Config config = tiny_config({"train.checkpoint_every=0"});
  const fs::path out = folder.path() / "run";
  TrainRequest request = quiet(out);
  request.on_step = [](const StepReport& report) {
    if (report.iteration == 1) std::raise(SIGTERM);
  };
  const TrainResult stopped = train(config, request);
  CHECK_FALSE(stopped.finished);
  CHECK(stopped.iterations == 2);
  CHECK_FALSE(fs::exists(out / "summary.json"));
  CHECK(load_checkpoint_card(out / "checkpoint").iteration == 2);
  CHECK(train(config, quiet(out, true)).weights_sha256 == train(config, quiet(folder.path() / "whole")).weights_sha256);
}

TEST_CASE("a checkpoint goes on with its own configuration only", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  train(tiny_config({"train.iterations=2"}), quiet(out));
  CHECK_THROWS_WITH(train(tiny_config({"model.decode_head.channels=16"}), quiet(out, true)), Contains("model.decode_head.channels"));
  CHECK_THROWS_WITH(train(tiny_config({"train.batch_size=4", "seed=9"}), quiet(out, true)),
                    Contains("train.batch_size") && Contains("seed"));
  CHECK_THROWS_WITH(train(tiny_config({"model.auxiliary_head=null"}), quiet(out, true)), Contains("started with: model.auxiliary_head\n"));
  CHECK_THROWS_WITH(train(tiny_config({"train.iterations=1"}), quiet(out, true)), Contains("already made 2"));
  CHECK_THROWS_AS(train(tiny_config(), quiet(folder.path() / "nowhere", true)), UsageError);
  CHECK(train(tiny_config({"train.iterations=3", "train.log_every=1", "evaluate.batch_size=2"}), quiet(out, true)).iterations == 3);
}

TEST_CASE("equalizers off: nothing is measured, and the first loss is another", "[trainer]") {
  TemporaryFolder folder;
  std::vector<double> losses;
  for (const char* mode : {"off", "explicit"}) {
    TrainRequest request = quiet(folder.path() / mode);
    request.on_step = [&](const StepReport& report) {
      if (report.iteration == 0) losses.push_back(report.loss);
    };
    const TrainResult result = train(tiny_config({std::string("equalizer.mode=") + mode, "train.iterations=1"}), request);
    CHECK(result.calibration.branches.empty() == (std::string(mode) == "off"));
  }
  CHECK(losses[0] != losses[1]);
}

TEST_CASE("a loss that is not finite ends the run, with a report where asked for", "[trainer]") {
  TemporaryFolder folder;
  const fs::path out = folder.path() / "run";
  const Config config = tiny_config({"optimizer.lr=1e30", "schedule.min_lr=0", "train.on_nan=dump", "train.checkpoint_every=1"});
  CHECK_THROWS_AS(train(config, quiet(out)), NonFiniteError);
  const auto report = nlohmann::json::parse(read_file(out / "nan_report.json"));
  CHECK(report["layers"].size() > 5);
  CHECK_FALSE(report["first_bad"].get<std::string>().empty());
  CHECK(has_checkpoint(out / "checkpoint"));
  CHECK_FALSE(fs::exists(out / "summary.json"));
  CHECK_THAT(read_file(out / "log.txt"),
             Contains("\nnumerical error: the ") && Contains("\n  where: pictures ") && Contains("\n  try:   lower optimizer.lr"));
}

TEST_CASE("a dry run takes one step and writes nothing", "[trainer]") {
  TemporaryFolder folder;
  TrainRequest request = quiet(folder.path() / "dry");
  request.dry_run = true;
  const TrainResult result = train(tiny_config(), request);
  CHECK_FALSE(result.finished);
  CHECK(result.train_peak_bytes > 0);
  CHECK(result.eval_peak_bytes > 0);
  CHECK_FALSE(fs::exists(folder.path() / "dry"));
  CHECK_THROWS_AS(train(tiny_config(), quiet("")), UsageError);
}

TEST_CASE("the progress line has its form", "[trainer]") {
  const Progress progress{.iteration = 1200, .iterations = 4000, .loss = 0.4124, .main_loss = 0.341, .aux_loss = 0.178, .has_aux = true,
                          .lr = 7.3e-3, .grad_norm = 1.84, .images_per_second = 128.2, .data_wait = 0.031,
                          .memory_bytes = size_t(1.9 * (1 << 30)), .eta_seconds = 131};
  CHECK(progress_line(progress) ==
        "iter  1200/4000  loss 0.412 (main .341 aux .178)  lr 7.3e-03  |g| 1.84  128 img/s  data 3%  mem 1.9G  eta 0:02:11");
}

TEST_CASE("pictures that a run could not be evaluated on end it before its first step", "[trainer]") {
  TemporaryFolder folder;
  TrainRequest request = quiet(folder.path() / "run");
  request.on_step = [](const StepReport&) { FAIL("a step was made"); };
  const std::string small = "pipeline.test_scale=[40,20]", convnext = "model.backbone.type=convnext",
                    width = "model.backbone.multiplier=0.0625", checks = "data.checks=true";
  CHECK_THROWS_WITH(train(tiny_config({checks, small, convnext, width}), request),
                    Contains("too small for convnext") && Contains("64 x 64 that the run would be evaluated on"));
  CHECK_THROWS_WITH(
      train(tiny_config({checks, convnext, width, "evaluate.mode=slide", "evaluate.crop=[30,40]", "evaluate.stride=[20,20]"}), request),
      Contains("40 x 30 are too small"));
  request.on_step = nullptr;
  CHECK_NOTHROW(train(tiny_config({checks, small, "train.iterations=1"}), request));
}

TEST_CASE("what is no trained network is refused", "[predict]") {
  TemporaryFolder folder;
  CHECK_THROWS_AS(load_trained_model(folder.path()), IoError);
  CHECK_THROWS_AS(load_trained_model(folder.path() / "none.safetensors"), IoError);
  write_safetensors(folder.path() / "foreign.safetensors", {{"a", Tensor::zeros({2})}});
  CHECK_THROWS_WITH(load_trained_model(folder.path() / "foreign.safetensors"), Contains("does not say which network"));
  write_safetensors(folder.path() / "odd.safetensors", {{"a", Tensor::zeros({2})}}, {{"equiscale", "[1"}});
  CHECK_THROWS_AS(load_trained_model(folder.path() / "odd.safetensors"), DataError);
}

TEST_CASE("stop signals nest: a study's outlive those of its runs", "[trainer]") {
  const auto mine = [](int) {};
  const auto original = std::signal(SIGTERM, mine);
  {
    const StopSignals study;
    std::raise(SIGTERM);
    {
      const StopSignals run;
      CHECK(StopSignals::requested());  // a run that begins after the signal ends at once
    }
    CHECK(StopSignals::requested());
  }
  CHECK(std::signal(SIGTERM, original) == static_cast<void (*)(int)>(mine));
}

TEST_CASE("a run begins with another run's network, its classifier aside, and resumes without it", "[trainer]") {
  TemporaryFolder folder;
  train(tiny_config(), quiet(folder.path() / "source"));
  const Config config = tiny_config({"model.init_from=" + (folder.path() / "source").string(), "optimizer.lr=0.001", "train.iterations=4"});
  const TrainResult whole = train(config, quiet(folder.path() / "whole"));
  CHECK(whole.calibration.branches.empty());  // the constants came with the weights
  CHECK_THAT(read_file(folder.path() / "whole" / "log.txt"),
             Contains("source: took ") && Contains("the equalizers keep the file's constants"));
  CHECK_THROWS_AS(train(config, crash_after(folder.path() / "crashed", 4)), Crash);
  fs::remove_all(folder.path() / "source");
  CHECK(train(config, quiet(folder.path() / "crashed", true)).weights_sha256 == whole.weights_sha256);
}
