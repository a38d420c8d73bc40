// The study of ablation: what a network loses without a branch.
#include "study/ablation/ablation.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/file.h"
#include "layers/fusion.h"
#include "study/ablation/over_seeds.h"
#include "support.h"
#include "training/evaluator.h"
#include "training/tiny.h"
#include "training/trained_model.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using nlohmann::json;

namespace {

SegmentationMetrics with_iou(const std::vector<double>& iou) {
  SegmentationMetrics metrics;
  for (size_t c = 0; c < iou.size(); ++c) metrics.classes.push_back({.name = "class " + std::to_string(c), .iou = iou[c]});
  return metrics;
}

FusionSite& last_fusion(TrainedModel& trained) {
  for (FusionSite* site : modules_of<FusionSite>(*trained.model)) {
    if (site->path() == "decode_head.fpn_fusion") return *site;
  }
  throw UsageError("there is no such site", "test", "");
}

// A network of one site that loses so much without each of its two branches.
AblatedRun ablated(const std::string& run, const std::string& training, int64_t seed, double first, double second) {
  AblatedRun result{.run = run, .head = "uper", .equalizer = training, .seed = seed, .training = training};
  result.metrics.miou = 0.8;
  result.sites.push_back({.site = "site", .kind = "concat", .branches = {{.name = "a", .metrics = {}}, {.name = "b", .metrics = {}}}});
  result.sites[0].branches[0].metrics.miou = 0.8 - first;
  result.sites[0].branches[1].metrics.miou = 0.8 - second;
  return result;
}

}  // namespace

TEST_CASE("networks that differ in the seed alone are averaged, and compared seed by seed with those of the first training", "[ablation]") {
  const std::vector<AblatedRun> runs{ablated("s/off/1", "off", 1, 0.1, 0), ablated("s/off/2", "off", 2, 0.2, 0),
                                     ablated("s/off/3", "off", 3, 0.3, 0), ablated("s/on/3", "on", 3, 0.32, 0.5),
                                     ablated("s/on/1", "on", 1, 0.1, 0.1), ablated("copy/1", "on", 1, 0.9, 0.9)};
  const auto groups = ablated_seeds(runs);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].name == "off");
  CHECK(groups[0].seeds == std::vector<int64_t>{1, 2, 3});
  CHECK(groups[1].seeds == std::vector<int64_t>{3, 1});  // the copy of seed 1 is left out
  const AblatedSeeds::Branch &off = groups[0].sites[0].branches[0], &on = groups[1].sites[0].branches[0];
  CHECK(mean_of(off.lost) == Approx(0.2));
  REQUIRE(off.interval.has_value());
  CHECK((*off.interval)[1] == Approx(0.2 + 4.302653 * 0.1 / std::sqrt(3.0)));  // Student's t of two degrees of freedom
  CHECK(off.change.empty());
  REQUIRE(on.change.size() == 2);
  CHECK(on.change[0] == Approx(0.02));
  CHECK(on.change[1] == Approx(0).margin(1e-12));
  CHECK(mean_of(groups[1].sites[0].branches[1].change) == Approx(0.3));

  const json all = json::parse(ablated_seeds_json(groups).dump());
  CHECK(all[1]["sites"][0]["branches"][1]["lost"].get<double>() == Approx(0.3));
  CHECK(all[0]["sites"][0]["branches"][1]["change"].is_null());
  const std::string table = ablated_seeds_table(groups);
  CHECK(table.find(" \n") == std::string::npos);
  CHECK_THAT(table, Catch::Contains("on: mean of 2 seeds") && Catch::Contains("less what off loses") && Catch::Contains("-4.84 to 44.84"));
  CHECK(ablated_seeds({runs[0], runs[3]}).empty());  // one network each
  CHECK(ablated_seeds_table({}) == "");
  // A group that shares no folder is called by what it is, and names differ.
  CHECK(ablated_seeds({ablated("x/1", "on", 1, 0, 0), ablated("y/2", "on", 2, 0, 0)})[0].name == "uper, equalizer on");
  CHECK(ablated_seeds({runs[0], runs[1], ablated("t/off/1", "more", 1, 0, 0)})[1].name == "t/off");
  AblatedRun other = ablated("z", "on", 1, 0, 0);
  other.training = "another";
  CHECK(ablated_seeds({ablated("x", "on", 1, 0, 0), ablated("y", "on", 2, 0, 0), other})[1].name == "uper, equalizer on (2)");
}

TEST_CASE("the folder of a paired study stands for its networks", "[ablation]") {
  const TemporaryFolder folder;
  const auto write = [&](const json& study) { write_file(folder.path() / "study.json", study.dump()); };
  write({{"kind", "run"},
         {"runs",
          {{{"folder", "off/0"}, {"shared_from", nullptr}},
           {{"folder", "on/0"}, {"shared_from", nullptr}},
           {{"folder", "off/0"}, {"shared_from", "off"}}}}});
  const auto networks = networks_in({"elsewhere/run", folder.path()});
  CHECK(networks == std::vector<std::filesystem::path>{"elsewhere/run", folder.path() / "off/0", folder.path() / "on/0"});
  write({{"kind", "run"}, {"runs", json::array()}});
  CHECK_THROWS_WITH(networks_in({folder.path()}), Catch::Contains("no finished training runs"));
  write({{"kind", "scales"}});
  CHECK_THROWS_WITH(networks_in({folder.path()}), Catch::Contains("no finished training runs"));
  write_file(folder.path() / "study.json", "{");
  CHECK_THROWS_AS(networks_in({folder.path()}), DataError);
}

TEST_CASE("classes that lose most come first, those that lose nothing not at all", "[ablation]") {
  const double absent = std::numeric_limits<double>::quiet_NaN();
  const auto losses = largest_losses(with_iou({0.9, 0.5, 0.8, absent, 0.4}), with_iou({0.8, 0.1, 0.797, absent, 0.5}), 3);
  REQUIRE(losses.size() == 2);
  CHECK(losses[0].name == "class 1");
  CHECK(losses[0].loss == Approx(0.4));
  CHECK(losses[1].name == "class 0");
}

TEST_CASE("each branch in turn is replaced by its mean, and the network is then what it was", "[ablation]") {
  const TemporaryFolder folder;
  for (const char* mode : {"off", "explicit"}) {
    train(tiny_config({std::string("equalizer.mode=") + mode, "train.iterations=10", "train.overlays=0"}),
          {.out = folder.path() / mode, .log = nullptr});
  }
  AblationRequest request{.runs = {folder.path() / "off", folder.path() / "explicit"}, .limit = 2, .log = nullptr};
  std::vector<bool> finished;
  request.on_run = [&](const Ablation& so_far) { finished.push_back(so_far.finished && so_far.runs.size() == 2); };
  const Ablation ablation = run_ablation(request);
  CHECK(ablation.finished);
  CHECK(finished == std::vector<bool>{false, true});
  REQUIRE(ablation.runs.size() == 2);
  for (const AblatedRun& run : ablation.runs) {
    CAPTURE(run.run);
    CHECK(run.pictures == 2);
    REQUIRE(run.sites.size() == 5);  // pyramid pooling, three sums, the last concatenation
    CHECK(run.sites[0].branches.size() == 5);
    CHECK(run.sites[1].kind == "sum");

    // By hand: the means of what arrives, then the same features with one branch constant.
    TrainedModel trained = load_trained_model(run.run);
    const auto dataset = make_dataset(trained.config.data, "val");
    const EvalRequest evaluation{.options = trained.config.evaluate, .pipeline = trained.config.pipeline, .limit = 2};
    const SegmentationMetrics whole = evaluate(*trained.model, *dataset, evaluation).metrics;
    CHECK(whole.miou == run.metrics.miou);
    CHECK(whole.cross_entropy == run.metrics.cross_entropy);
    FusionSite& site = last_fusion(trained);
    std::vector<double> sums(size_t(site.branches()[2].channels), 0.0);
    double count = 0;
    site.set_observer([&](const LevelSite::Visit& visit) {
      const Tensor& x = visit.features[2];
      for (int64_t i = 0; i < x.numel(); ++i) sums[size_t(i) % sums.size()] += x.value_at(i);
      count += double(x.numel()) / double(sums.size());
    });
    evaluate(*trained.model, *dataset, evaluation);
    for (double& sum : sums) sum /= count;
    site.set_observer([&](const LevelSite::Visit& visit) {
      const Tensor& x = visit.features[2];
      for (int64_t i = 0; i < x.numel(); ++i) CHECK(x.value_at(i) == Approx(sums[size_t(i) % sums.size()]).epsilon(1e-5).margin(1e-6));
    });
    site.replace(2, Tensor::from<double>(sums, {int64_t(sums.size())}).to(DType::kFloat32));
    const SegmentationMetrics without = evaluate(*trained.model, *dataset, evaluation).metrics;
    CHECK(run.sites[4].branches[2].metrics.miou == Approx(without.miou).margin(1e-3));
    CHECK(run.sites[4].branches[2].metrics.cross_entropy == Approx(without.cross_entropy).epsilon(1e-4));
    CHECK(without.cross_entropy != whole.cross_entropy);
    site.set_observer({});
    site.replace(2, Tensor());
    CHECK(evaluate(*trained.model, *dataset, evaluation).metrics.miou == run.metrics.miou);
  }
  const std::string table = ablation_table(ablation.runs[0]);
  CHECK(table.find("decode_head.fpn_fusion (concat)") != std::string::npos);
  CHECK(table.find("nan") == std::string::npos);
  const json study = json::parse(ablation_json(ablation, request, "command", 2));
  CHECK(study["kind"] == "ablation");
  CHECK(study["runs"][1]["equalizer"] == "explicit");
  const json& branch = study["runs"][0]["sites"][4]["branches"][0];
  CHECK(branch["lost"].get<double>() == Approx(study["runs"][0]["miou"].get<double>() - branch["miou"].get<double>()).margin(1e-12));
  CHECK(branch["iou"].size() == 8);
}

TEST_CASE("a branch without influence loses nothing, one that alone has some loses everything", "[ablation]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(tiny_config({"train.iterations=30", "train.overlays=0", "optimizer.lr=0.05"}), {.out = out, .log = nullptr});
  TrainedModel trained = load_trained_model(out);
  FusionSite& site = last_fusion(trained);
  // Of the last fusion's weight [O,3,3,I] only the slice of level 0 is left.
  const NoGradGuard no_grad;
  const Tensor weight = site.fusion().conv->weight();
  const int64_t channels = site.branches()[0].channels;
  for (int64_t i = 0; i < weight.numel(); ++i) {
    if (i % weight.size(3) >= channels) weight.data<float>()[i] = 0;
  }
  save_weights(folder.path() / "half.safetensors", *trained.model, trained.card);
  const Ablation ablation = run_ablation({.runs = {folder.path() / "half.safetensors"}, .limit = 3, .log = nullptr});
  const AblatedSite& last = ablation.runs[0].sites[4];
  for (size_t b = 1; b < 4; ++b) CHECK(last.branches[b].metrics.miou == ablation.runs[0].metrics.miou);
  // Without level 0 every picture is one class, but for borders.
  int64_t found = 0;
  for (const ClassMetrics& of_class : last.branches[0].metrics.classes) found += of_class.iou > 0.02;
  CHECK(found <= 1);
}

TEST_CASE("what is lost has its interval over pictures, with and without the branch the same ones", "[ablation]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  // Not for longer: it then answers background everywhere for a while.
  train(tiny_config({"optimizer.lr=0.0005", "train.iterations=8", "train.batch_size=4", "train.overlays=0"}), {.out = out, .log = nullptr});
  AblationRequest request{.runs = {out}, .settings = {"data.val_images=12"}, .log = nullptr};
  const Ablation ablation = run_ablation(request);
  const AblatedRun& run = ablation.runs[0];
  const std::vector<AblatedBranch>& branches = run.sites[4].branches;
  const double lost = run.metrics.miou - branches[0].metrics.miou;
  REQUIRE(branches[0].lost.has_value());
  const auto [low, high] = *branches[0].lost;
  CHECK(low > 0);
  CHECK(low <= lost);
  CHECK(lost <= high);
  const json entry = json::parse(ablation_json(ablation, request, "command", 2))["runs"][0]["sites"][4]["branches"][0];
  CHECK(entry["lost_interval"] == json({low, high}));
  CHECK_THAT(ablation_table(run), Catch::Contains(fmt::format("{:.2f} to {:.2f}", 100 * low, 100 * high)));
  request.limit = 5;
  const Ablation few = run_ablation(request);
  CHECK_FALSE(few.runs[0].sites[4].branches[0].lost.has_value());
  CHECK(json::parse(ablation_json(few, request, "command", 2))["runs"][0]["sites"][4]["branches"][0]["lost_interval"].is_null());
}

TEST_CASE("what cannot be ablated is refused", "[ablation]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(tiny_config({"train.iterations=1", "train.overlays=0", "equalizer.mode=off", "model.decode_head.type=fcn",
                     "model.decode_head.in_index=[3]", "model.decode_head.channels=8", "model.decode_head.concat_input=false"}),
        {.out = out, .log = nullptr});
  CHECK_THROWS_AS(run_ablation({.runs = {out}, .log = nullptr}), UsageError);

  InitRandom random(0, DType::kFloat64);
  AdditiveSite site({{.name = "fine", .channels = 2}, {.name = "coarse", .channels = 2, .upsampled = true}}, {});
  CHECK_THROWS_AS(site.replace(2, Tensor()), ShapeError);
  CHECK_THROWS_AS(site.replace(0, Tensor::zeros({3})), ShapeError);
  // No gradient reaches what is replaced.
  Tensor fine = random_leaf({1, 4, 4, 2}, 1), coarse = random_leaf({1, 2, 2, 2}, 2);
  site.replace(1, Tensor::from<double>({5, -1}, {2}));
  const Tensor y = site.forward(fine, coarse);
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(y.value_at(i) == Approx(fine.value_at(i) + (i % 2 == 0 ? 5 : -1)));
  sum(y).backward();
  CHECK(fine.grad().defined());
  CHECK_FALSE(coarse.grad().defined());
}
