// Constants that are measured anew during training: the function stays, the units change.
#include "training/refresh.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "core/sha256.h"
#include "layers/branch_net.h"
#include "layers/moments.h"
#include "training/checkpoint.h"
#include "training/fold.h"
#include "training/interrupted.h"
#include "training/tiny.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

EqualizerOptions refreshed(const char* mode = "explicit", const char* granularity = "scalar") {
  EqualizerOptions options = equalizer_mode(mode, granularity);
  options.refresh = 1;
  return options;
}

// The features after some training: other scales and means, not the same change for all branches.
std::vector<Tensor> drifted_features(uint64_t seed) {
  std::vector<Tensor> features = branch_features(seed);
  return {features[0] * 0.7 + 0.3, features[1] * 2.5 - 4.0, features[2] * 6.0 + 1.0};
}

CalibrationReport refresh(BranchNet& net, Optimizer& optimizer, Ema* ema = nullptr) {
  return refresh_equalizers(net, optimizer, ema, [&](int64_t i) { net.forward(drifted_features(300 + 10 * uint64_t(i))); });
}

struct RefreshedRun {
  RefreshedRun(Fusion fusion, const EqualizerOptions& equalizer, const OptimizerOptions& options)
      : net(calibrated_net(fusion, equalizer)), optimizer(make_optimizer(optimizer_parameters(*net), options)) {}
  double step(uint64_t seed, double lr, double clip = 0) {
    net->train();
    net->zero_grad();
    const Tensor loss = mean(square(net->forward(drifted_features(seed)) - random_tensor({2, 8, 6, 2}, seed + 3)));
    loss.backward();
    optimizer->step(lr, clip_factor(gradient_norm(optimizer->parameters()).norm, clip));
    return loss.item();
  }
  std::unique_ptr<BranchNet> net;
  std::unique_ptr<Optimizer> optimizer;
};

const OptimizerOptions kSgd{.type = "sgd", .lr = 0.02, .momentum = 0.9, .weight_decay = 0.01},
    kAdamW{.type = "adamw", .lr = 0.005, .eps = 1e-3, .weight_decay = 0.05};

void check_same(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (const auto& [name, value] : a) {
    CAPTURE(name);
    check_close(value.to(DType::kFloat64), b.at(name).to(DType::kFloat64), tolerance);
  }
}

}  // namespace

TEST_CASE("a refresh changes constants and no score, at the border neither", "[refresh]") {
  for (const Fusion fusion : {Fusion::kDense, Fusion::kDepthwise, Fusion::kBias}) {
    for (const char* granularity : {"scalar", "channel"}) {
      for (const char* inputs : {"all", "upsampled", "matched"}) {
        for (const char* mode : {"explicit", "folded_lr"}) {
          CAPTURE(int(fusion), granularity, inputs, mode);
          EqualizerOptions options = refreshed(mode, granularity);
          options.inputs = inputs;
          RefreshedRun trained(fusion, options, kAdamW);
          for (uint64_t i = 0; i < 10; ++i) trained.step(7 * i, 0.01);
          for (int times = 0; times < 2; ++times) {  // the border is no longer zero the second time
            Tensor before[2], after[2];
            for (const bool training : {true, false}) {
              trained.net->train(training);
              before[training] = trained.net->forward(drifted_features(1)).detach();
            }
            const auto report = times == 0 ? refresh(*trained.net, *trained.optimizer)
                                           : refresh_equalizers(*trained.net, *trained.optimizer, nullptr,
                                                                [&](int64_t) { trained.net->forward(branch_features(5)); });
            const auto* most = farthest(report);
            REQUIRE(most != nullptr);
            CHECK(std::abs(std::log(most->growth)) > std::log(1.5));
            for (const bool training : {false, true}) {
              trained.net->train(training);
              after[training] = trained.net->forward(drifted_features(1)).detach();
              check_close(after[training], before[training], 1e-11);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("after a refresh the branches have mean 0 and deviation 1, on other batches too", "[refresh]") {
  for (const char* granularity : {"scalar", "channel"}) {
    EqualizerOptions options = refreshed("explicit", granularity);
    options.batches = 16;
    RefreshedRun trained(Fusion::kDense, options, kSgd);
    const auto moments = [&] {
      std::vector<Moments> all(3);
      trained.net->site().set_observer([&](const LevelSite::Visit& visit) {
        REQUIRE(visit.fused().shape() == (Shape{2, 8, 6, 8}));  // without the border
        for (size_t b = 0; b < 3; ++b) {
          const auto& branch = visit.site.branches()[b];
          all[b].merge(pooled(channel_moments(visit.fused(), branch.first_channel, branch.first_channel + branch.channels)));
        }
      });
      for (uint64_t i = 0; i < 16; ++i) trained.net->forward(drifted_features(5000 + 10 * i));
      trained.net->site().set_observer({});
      return all;
    };
    CHECK(moments()[2].standard_deviation() > 4);
    const auto report = refresh(*trained.net, *trained.optimizer);
    for (const Moments& branch : moments()) {
      CHECK(std::abs(branch.mean) < 0.15);
      CHECK(branch.standard_deviation() == Approx(1).epsilon(0.1));
    }
    REQUIRE(report.branches.size() == 3);
    CHECK(report.branches[2].growth == Approx(6).epsilon(0.3));
    CHECK(farthest(report) == &report.branches[2]);
  }
}

TEST_CASE("an optimizer's state means after a refresh what it would had the constants always been the new ones", "[refresh]") {
  for (OptimizerOptions options : {kSgd, kAdamW}) {
    options.weight_decay = 0;  // is no gradient: in new units it is another one
    for (const Fusion fusion : {Fusion::kDense, Fusion::kDepthwise}) {
      for (const char* mode : {"explicit", "folded_lr"}) {
        CAPTURE(options.type, int(fusion), mode);
        RefreshedRun late(fusion, refreshed(mode, "channel"), options), early(fusion, refreshed(mode, "channel"), options);
        refresh(*early.net, *early.optimizer);
        for (uint64_t i = 0; i < 3; ++i) {  // at a rate of 0 gradients gather, and nothing moves
          early.step(11 * i, 0);
          late.step(11 * i, 0);
        }
        refresh(*late.net, *late.optimizer);
        check_same(late.net->state_dict(), early.net->state_dict(), 1e-10);
        check_same(late.optimizer->state(), early.optimizer->state(), 1e-10);
      }
    }
  }
}

TEST_CASE("explicit and folded_lr train alike through refreshes", "[refresh]") {
  for (const OptimizerOptions& options : {kSgd, kAdamW}) {
    CAPTURE(options.type);
    RefreshedRun a(Fusion::kDense, refreshed("explicit"), options), b(Fusion::kDense, refreshed("folded_lr"), options),
        never(Fusion::kDense, equalizer_mode("explicit"), options);
    double first = 0, last = 0, farther = 0;
    for (uint64_t i = 0; i < 60; ++i) {
      if (i % 20 == 10) refresh(*a.net, *a.optimizer), refresh(*b.net, *b.optimizer);
      last = a.step(7 * (i % 5), options.lr, 0.5);
      if (i == 0) first = last;
      CHECK(b.step(7 * (i % 5), options.lr, 0.5) == Approx(last).epsilon(1e-9));
      farther = std::max(farther, std::abs(never.step(7 * (i % 5), options.lr, 0.5) - last));
    }
    CHECK(last < first);
    CHECK(farther > 1e-4);
  }
}

TEST_CASE("averaged weights keep their function, too", "[refresh]") {
  for (const char* mode : {"explicit", "folded_lr"}) {
    RefreshedRun trained(Fusion::kDense, refreshed(mode), kSgd);
    Ema ema(*trained.net, 0.8);
    for (int64_t i = 0; i < 10; ++i) {
      trained.step(uint64_t(i), 0.05);
      ema.update(i);
      if (i == 4) refresh(*trained.net, *trained.optimizer, &ema);
    }
    const auto score = [&] {
      const EmaScope averaged(&ema);
      trained.net->eval();
      return trained.net->forward(drifted_features(1)).detach();
    };
    const Tensor before = score();
    refresh_equalizers(*trained.net, *trained.optimizer, &ema, [&](int64_t) { trained.net->forward(branch_features(5)); });
    check_close(score(), before, 1e-11);
    const BranchConstants present = trained.net->site().constants()[2];
    const EmaScope averaged(&ema);
    CHECK(trained.net->site().constants()[2].std == present.std);
  }
}

TEST_CASE("a network whose constants were refreshed folds to the same function, and can be calibrated again", "[refresh]") {
  for (const Fusion fusion : {Fusion::kDense, Fusion::kDepthwise, Fusion::kBias}) {
    RefreshedRun trained(fusion, refreshed("explicit", "channel"), kSgd);
    for (uint64_t i = 0; i < 5; ++i) trained.step(i, 0.05, 0.5);
    refresh(*trained.net, *trained.optimizer);
    trained.net->eval();
    const Tensor before = trained.net->forward(drifted_features(1));
    trained.net->site().fold();
    check_close(trained.net->forward(drifted_features(1)), before, 1e-11);
  }
  RefreshedRun trained(Fusion::kDense, refreshed(), kSgd);
  const Tensor once = trained.net->forward(branch_features(1));
  const Tensor weight = trained.net->conv().weight().clone();
  refresh(*trained.net, *trained.optimizer);
  trained.net->conv().weight().detach().copy_(weight);
  calibrate_equalizers(*trained.net, [&](int64_t i) { trained.net->forward(branch_features(100 + 10 * uint64_t(i))); });
  check_close(trained.net->forward(branch_features(1)), once, 1e-12);
}

TEST_CASE("what is silent at a refresh keeps its constants", "[refresh]") {
  const char* mode = GENERATE("explicit", "folded_lr");
  RefreshedRun trained(Fusion::kDense, refreshed(mode, "channel"), kAdamW);
  for (uint64_t i = 0; i < 5; ++i) trained.step(i, 0.05);
  const BranchConstants before = trained.net->site().constants()[0];
  const Tensor weight = trained.net->conv().weight().clone();
  const Tensor awake = Tensor::from<double>({0, 1, 1}, {3});  // the first channel of the first branch
  const CalibrationReport report = refresh_equalizers(*trained.net, *trained.optimizer, nullptr, [&](int64_t i) {
    const std::vector<Tensor> features = drifted_features(300 + 10 * uint64_t(i));
    trained.net->forward({features[0] * awake, features[1], features[2]});
  });
  const BranchConstants after = trained.net->site().constants()[0];
  CHECK(after.std[0] == before.std[0]);
  CHECK(after.mean[0] == before.mean[0]);
  CHECK(after.std[1] != before.std[1]);
  CHECK(report.branches[0].floored);
  CHECK_FALSE(report.branches[1].floored);
  for (int64_t o = 0; o < 8; ++o) {  // [O,3,3,8]
    CHECK(trained.net->conv().weight().data<double>()[o * 72] == weight.data<double>()[o * 72]);
  }
}

TEST_CASE("a calibration that fails gives a refreshed site its border back, too", "[refresh]") {
  RefreshedRun trained(Fusion::kDense, refreshed(), kSgd);
  for (uint64_t i = 0; i < 3; ++i) trained.step(i, 0.05);
  refresh(*trained.net, *trained.optimizer);
  const std::string before = sha256_hex(trained.net->state_dict());
  CHECK_THROWS_AS(calibrate_equalizers(*trained.net, [](int64_t) { throw DataError("broken picture", "x.png", ""); }), DataError);
  CHECK(sha256_hex(trained.net->state_dict()) == before);
}

TEST_CASE("a refresh that fails changes nothing", "[refresh]") {
  RefreshedRun trained(Fusion::kDense, refreshed(), kSgd);
  for (uint64_t i = 0; i < 3; ++i) trained.step(i, 0.05);
  const std::string before = sha256_hex(trained.net->state_dict()), state = sha256_hex(trained.optimizer->state());
  trained.net->eval();
  CHECK_THROWS_AS(
      refresh_equalizers(*trained.net, *trained.optimizer, nullptr, [](int64_t) { throw DataError("broken picture", "x.png", ""); }),
      DataError);
  CHECK_THROWS_AS(refresh_equalizers(*trained.net, *trained.optimizer, nullptr, [](int64_t) {}), UsageError);  // the site is not reached
  CHECK_THROWS_AS(
      refresh_equalizers(*trained.net, *trained.optimizer, nullptr,
                         [&](int64_t) {
                           trained.net->forward({branch_features(0)[0] * HUGE_VAL, branch_features(0)[1], branch_features(0)[2]});
                         }),
      NumericalError);
  CHECK(sha256_hex(trained.net->state_dict()) == before);
  CHECK(sha256_hex(trained.optimizer->state()) == state);
  CHECK_FALSE(trained.net->is_training());
  RefreshedRun never(Fusion::kDense, equalizer_mode("explicit"), kSgd);
  CHECK_THROWS_AS(refresh(*never.net, *never.optimizer), UsageError);
  CHECK_THROWS_AS(never.net->site().refresh(never.net->site().constants()), UsageError);
}

TEST_CASE("refreshing is refused where there is nothing to measure anew", "[refresh]") {
  const auto refused = [](const std::vector<std::string>& settings, const char* key) {
    CAPTURE(settings[0]);
    const Config config = tiny_config(settings);
    ModelOptions model = config.model;
    model.num_classes = 8;
    CHECK_THROWS_WITH(EncoderDecoder(model),
                      Contains(std::string("equalizer.refresh with equalizer.") + key) && Contains("equalizer.refresh 0"));
  };
  for (const char* mode : {"learnable", "folded", "folded_normalised"}) {
    refused({std::string("equalizer.mode=") + mode, "equalizer.refresh=5"}, "mode");
  }
  refused({"equalizer.constants=analytic", "equalizer.refresh=5"}, "constants");
  Conv2d same(8, 2, Conv2dLayerOptions{.kernel_size = 3, .same = true});
  CHECK_THROWS_WITH(FusionSite({{.name = "all", .channels = 8}}, {}, refreshed(), same), Contains("padding follows its input"));
  TrainRequest request = quiet("");
  request.dry_run = true;
  CHECK_THROWS_AS(train(tiny_config({"equalizer.mode=learnable", "equalizer.refresh=2"}), request), UsageError);
  CHECK_NOTHROW(train(tiny_config({"equalizer.refresh=2"}), request));
}

TEST_CASE("a run resumes across refreshes to the same bits", "[refresh]") {
  const auto settings = GENERATE(
      std::vector<std::string>{"equalizer.refresh=2", "optimizer.type=sgd", "train.ema=0.9", "train.accumulate=2"},
      std::vector<std::string>{"equalizer.refresh=3", "optimizer.type=adamw", "equalizer.granularity=channel"},  // at the checkpoint
      std::vector<std::string>{"equalizer.refresh=2", "equalizer.mode=folded_lr", "train.ema=0.9"});
  const Config config = tiny_config(settings);
  TemporaryFolder folder;
  set_num_threads(2);
  const TrainResult whole = train(config, quiet(folder.path() / "whole"));
  const fs::path out = folder.path() / "crashed";
  CHECK_THROWS_AS(train(config, crash_after(out, 5)), Crash);
  set_num_threads(1);
  CHECK_THROWS_AS(train(config, crash_after(out, 4, true)), Crash);
  CHECK(train(config, quiet(out, true)).weights_sha256 == whole.weights_sha256);
  const Checkpoint a = load_checkpoint(folder.path() / "whole" / "checkpoint"), b = load_checkpoint(out / "checkpoint");
  CHECK(sha256_hex(a.model) == sha256_hex(b.model));
  CHECK(sha256_hex(a.optimizer) == sha256_hex(b.optimizer));
  CHECK(sha256_hex(a.ema) == sha256_hex(b.ema));
  CHECK(read_file(folder.path() / "whole" / "calibration.json") == read_file(out / "calibration.json"));
  CHECK_THROWS_WITH(train(tiny_config(), quiet(out, true)), Contains("equalizer.refresh"));
}

TEST_CASE("a run says and records each refresh, and its first one changes no loss", "[refresh]") {
  TemporaryFolder folder;
  std::map<std::string, std::vector<double>> losses;
  for (const char* refresh : {"0", "4"}) {
    TrainRequest request = quiet(folder.path() / refresh);
    request.on_step = [&](const StepReport& report) { losses[refresh].push_back(report.loss); };
    train(tiny_config({std::string("equalizer.refresh=") + refresh, "train.iterations=10", "model.decode_head.dropout=0.5"}), request);
  }
  // Iteration 4 has new constants, and the pictures and the dropout that it has without.
  for (size_t i = 0; i <= 4; ++i) CHECK(losses["4"][i] == Approx(losses["0"][i]).epsilon(1e-4));
  const fs::path run = folder.path() / "4";
  const auto calibration = nlohmann::json::parse(read_file(run / "calibration.json"));
  CHECK(calibration["batches"] == 2);
  CHECK(calibration["branches"].size() == 9);
  CHECK(calibration["branches"][0]["std_error"].get<double>() > 0);
  REQUIRE(calibration["refreshes"].size() == 2);  // none after the last step
  CHECK(calibration["refreshes"][1]["iteration"] == 8);
  for (const auto& refresh : calibration["refreshes"]) {
    REQUIRE(refresh["branches"].size() == 9);
    for (size_t b = 0; b < 9; ++b) {
      const auto& branch = refresh["branches"][b];
      const auto& earlier = refresh["iteration"] == 4 ? calibration["branches"][b] : calibration["refreshes"][0]["branches"][b];
      CHECK(branch["site"] == earlier["site"]);
      CHECK(branch["growth"].get<double>() == Approx(branch["std"].get<double>() / earlier["std"].get<double>()).epsilon(1e-5));
    }
  }
  const std::string log = read_file(run / "log.txt");
  CHECK_THAT(log,
             Contains("after iteration 4: feature scales measured anew; changed most: decode_head.") && Contains("after iteration 8: "));
  CHECK(read_file(folder.path() / "0" / "log.txt").find("measured anew") == std::string::npos);
  CHECK(nlohmann::json::parse(read_file(folder.path() / "0" / "calibration.json")).count("refreshes") == 0);

  TrainedModel trained = load_trained_model(run), same = load_trained_model(run);
  fold_equalizers(trained);
  CHECK(trained.config.model.equalizer.refresh == 0);
  const auto dataset = make_dataset(trained.config.data, "val");
  CHECK(compare_predictions(trained, same, *dataset, 0).largest < 1e-4);
}

TEST_CASE("a spoilt calibration.json does not end a run that refreshes", "[refresh]") {
  TemporaryFolder folder;
  for (const char* text : {"", "{\"refreshes\": 3}", "{\"refreshes\": [{\"iteration\": \"two\"}]}", "[1"}) {
    const fs::path out = folder.path() / ("run" + std::to_string(std::string(text).size()));
    TrainRequest request = quiet(out);
    request.on_step = [&](const StepReport& report) {
      if (report.iteration == 1) write_file(out / "calibration.json", text);
    };
    CHECK(train(tiny_config({"equalizer.refresh=2"}), request).finished);
    CHECK(nlohmann::json::parse(read_file(out / "calibration.json"))["refreshes"].size() == 2);
  }
}

TEST_CASE("the branch that changed most is the equalized one farthest from 1, in either direction", "[refresh]") {
  CalibrationReport report;
  CHECK(farthest(report) == nullptr);
  for (const auto& [growth, equalized] : {std::pair(2.0, true), {0.25, true}, {3.0, true}, {100.0, false}}) {
    CalibrationReport::Branch branch;
    branch.growth = growth;
    branch.equalized = equalized;
    report.branches.push_back(branch);
  }
  CHECK(farthest(report)->growth == 0.25);
}

TEST_CASE("of a branch's channels the report has the one that changed most", "[refresh]") {
  RefreshedRun run(Fusion::kDense, refreshed("explicit", "channel"), kSgd);
  const FusionSite& site = *modules_of<FusionSite>(*run.net).at(0);
  const auto before = site.constants();
  const CalibrationReport report = refresh(*run.net, *run.optimizer);
  const auto after = site.constants();
  REQUIRE(report.branches.size() == before.size());
  bool elsewhere = false;
  for (size_t b = 0; b < before.size(); ++b) {
    REQUIRE(before[b].std.size() > 1);
    double most = 1, last = 1;
    for (size_t c = 0; c < before[b].std.size(); ++c) {
      last = after[b].std[c] / before[b].std[c];
      if (farther_from_one(last, most)) most = last;
    }
    CHECK(report.branches[b].growth == Approx(most));
    elsewhere = elsewhere || most != last;
  }
  CHECK(elsewhere);
}

TEST_CASE("a refresh drops paths as its passes will, whatever passes were before it", "[refresh]") {
  const Config config = tiny_config({"equalizer.refresh=3", "equalizer.batches=1", "model.backbone.type=convnext",
                                     "model.backbone.variant=tiny", "model.backbone.multiplier=0.0625", "model.backbone.drop_path=0.5",
                                     "train.iterations=4", "train.overlays=0", "data.val_images=1", "pipeline.crop=[32,32]"});
  TemporaryFolder folder;
  const fs::path out = folder.path() / "crashed";
  const TrainResult whole = train(config, quiet(folder.path() / "whole"));
  CHECK_THROWS_AS(train(config, crash_after(out, 4)), Crash);  // the checkpoint is that of iteration 3, before the refresh
  CHECK(train(config, quiet(out, true)).weights_sha256 == whole.weights_sha256);
  CHECK(read_file(folder.path() / "whole" / "calibration.json") == read_file(out / "calibration.json"));
}
