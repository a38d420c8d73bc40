// Probes against slow sums over what they look at.
#include "training/probes.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/bilinear_variance.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;

namespace {

// A site with a free choice of features.
class Site : public Module {
 public:
  explicit Site(const EqualizerOptions& options = {}, int64_t channels = 4, const Upsampling& upsampling = {}, int64_t groups = 1)
      : conv_(register_module<Conv2d>("conv", 2 * channels, 2, Conv2dLayerOptions{.groups = groups})),
        site_(register_module<FusionSite>("site",
                                          std::vector<LevelSite::Branch>{{.name = "fine", .channels = channels},
                                                                         {.name = "coarse", .channels = channels, .upsampled = true}},
                                          upsampling, options, conv_)) {}
  SiteRecord measure(const Tensor& fine, const Tensor& coarse) {
    SiteRecord record;
    site_.set_observer([&](const LevelSite::Visit& visit) { record = measure_site(visit); });
    site_.forward({fine, coarse}, fine.size(1), fine.size(2));
    return record;
  }
  Conv2d& conv_;
  FusionSite& site_;
};

double mean_of(const Tensor& x) { return mean(x).item(); }
double variance_of(const Tensor& x) { return var(x, {}, false).item(); }

// Each image gets its own level and each channel too: value = a[n] * c + b[c] + noise.
Tensor mixed(int64_t n, int64_t h, int64_t w, int64_t c, uint64_t seed) {
  return random_tensor({n, h, w, c}, seed) + random_tensor({n, 1, 1, c}, seed + 1) * 2.0 + random_tensor({1, 1, 1, c}, seed + 2) * 3.0;
}

double norm_of(const Tensor& x) { return std::sqrt(sum(square(x)).item()); }

}  // namespace

TEST_CASE("a site's scales are those of its features, split by the law of total variance", "[probes]") {
  InitRandom random(0, DType::kFloat64);
  Site net;
  const Tensor fine = mixed(3, 8, 6, 4, 1), coarse = mixed(3, 4, 3, 4, 5);
  const SiteRecord record = net.measure(fine, coarse);
  CHECK(record.site == "site");
  CHECK(record.kind == "concat");
  CHECK(record.height == 8);
  REQUIRE(record.branches.size() == 2);
  const Tensor inputs[] = {fine, coarse};
  for (int b = 0; b < 2; ++b) {
    const BranchRecord& branch = record.branches[size_t(b)];
    const Tensor resized = resize_bilinear(inputs[b], 8, 6, false);
    CHECK(branch.before.mean == Approx(mean_of(inputs[b])));
    CHECK(branch.before.std == Approx(std::sqrt(variance_of(inputs[b]))));
    CHECK(branch.resized.std == Approx(std::sqrt(variance_of(resized))));
    CHECK(branch.fused.std == Approx(branch.resized.std));
    CHECK(branch.measured_factor == Approx(variance_of(resized) / variance_of(inputs[b])));
    const Tensor image_means = mean(resized, {1, 2}, true), channel_means = mean(image_means, {0}, true);
    CHECK(branch.within_image == Approx(mean_of(square(resized - image_means))));
    CHECK(branch.between_images == Approx(mean_of(square(image_means - channel_means))));
    CHECK(branch.between_channels == Approx(variance_of(channel_means)));
    CHECK(branch.within_image + branch.between_images + branch.between_channels == Approx(branch.resized.std * branch.resized.std));
  }
  CHECK(record.branches[0].measured_factor == Approx(1));
  CHECK(record.branches[0].predicted_factor == Approx(1));
}

TEST_CASE("the factor predicted from the lag-one correlation is the one measured", "[probes]") {
  InitRandom random(0, DType::kFloat64);
  Site net({}, 64);
  for (double rho : {0.0, 0.5, 0.9}) {
    CAPTURE(rho);
    // Separable and stationary, of the given correlation in both directions, plus levels per image and channel that do not shrink.
    Tensor x = random_tensor({4, 32, 32, 64}, 9);
    double* data = x.data<double>();
    const double fresh = std::sqrt(1 - rho * rho);
    for (int64_t i = 0; i < x.numel(); ++i) {
      if (i / 64 % 32 > 0) data[i] = rho * data[i - 64] + fresh * data[i];
    }
    for (int64_t i = 0; i < x.numel(); ++i) {
      if (i / 2048 % 32 > 0) data[i] = rho * data[i - 2048] + fresh * data[i];
    }
    const BranchRecord branch = net.measure(random_tensor({4, 64, 64, 64}, 1), x + random_tensor({4, 1, 1, 64}, 2)).branches[1];
    CHECK(branch.lag_one == Approx(rho).margin(rho > 0.8 ? 0.06 : 0.02));  // deviations are from each map's own mean
    CHECK(branch.measured_factor == Approx(branch.predicted_factor).epsilon(0.01));
    CHECK(branch.measured_factor < 0.99);
  }
}

TEST_CASE("what resizing keeps of white noise is recorded: all of it where values are repeated", "[probes]") {
  const InitRandom random(0, DType::kFloat64);
  const Tensor fine = random_tensor({2, 12, 10, 4}, 1), coarse = random_tensor({2, 6, 5, 4}, 2);
  const SiteRecord bilinear = Site().measure(fine, coarse), nearest = Site({}, 4, {.mode = "nearest"}).measure(fine, coarse);
  CHECK(bilinear.branches[0].white_noise_factor == 1);
  CHECK(bilinear.branches[1].white_noise_factor == bilinear_variance_factor(6, 12, false) * bilinear_variance_factor(5, 10, false));
  CHECK(bilinear.branches[1].measured_factor < 0.8);
  CHECK(nearest.branches[1].white_noise_factor == 1);
  CHECK(nearest.branches[1].predicted_factor == Approx(1).epsilon(1e-12));
  CHECK(nearest.branches[1].measured_factor == Approx(1).epsilon(1e-12));  // each value four times
}

TEST_CASE("a probe sees the gradient of each slice, and what each branch gets back", "[probes]") {
  StepSetup setup({"optimizer.momentum=0", "optimizer.weight_decay=0"});
  const Batch batch = setup.loader->next();
  FusionSite* site = modules_of<FusionSite>(*setup.model).at(1);
  REQUIRE(site->path() == "decode_head.fpn_fusion");
  Tensor before, grad, after;
  struct Spy : Probe {  // takes the tensors at the moments the probe measures them
    Spy(EncoderDecoder& model, FusionSite* site, Tensor* before, Tensor* grad, Tensor* after)
        : Probe(model, 0, true), site_(site), before_(before), grad_(grad), after_(after) {}
    void after_backward() override {
      Probe::after_backward();
      *before_ = site_->fusion().conv->weight().clone();
      *grad_ = site_->fusion().conv->weight().grad().clone();
    }
    void after_update() override {
      Probe::after_update();
      *after_ = site_->fusion().conv->weight().clone();
    }
    FusionSite* site_;
    Tensor *before_, *grad_, *after_;
  } probe(*setup.model, site, &before, &grad, &after);
  setup.step->run(0, [&] { return batch; }, &probe);
  const ProbeRecord& record = probe.record();

  REQUIRE(record.sites.size() == 5);  // pyramid, three sums, the final fusion
  CHECK(record.sites[1].kind == "sum");
  CHECK(std::isnan(record.sites[1].branches[0].weight_grad));
  CHECK(record.sites[1].branches[0].input_grad > 0);
  const SiteRecord& fused = record.sites[4];
  CHECK(fused.site == "decode_head.fpn_fusion");
  double shares = 0;
  NoGradGuard no_grad;
  for (size_t b = 0; b < fused.branches.size(); ++b) {
    const auto& branch = site->branches()[b];
    const auto of_branch = [&](const Tensor& x) { return slice(x, 3, branch.first_channel, branch.first_channel + branch.channels); };
    CHECK(fused.branches[b].weight_grad == Approx(norm_of(of_branch(grad))).epsilon(1e-5));
    CHECK(fused.branches[b].weight_grad_rms == Approx(norm_of(of_branch(grad)) / std::sqrt(double(of_branch(grad).numel()))).epsilon(1e-5));
    CHECK(fused.branches[b].update_ratio ==
          Approx(norm_of(of_branch(after) - of_branch(before)) / norm_of(of_branch(before))).epsilon(1e-4));
    CHECK(fused.branches[b].input_grad > 0);
    shares += fused.branches[b].weight_grad_share;
  }
  CHECK(shares == Approx(1));
  CHECK(fused.grad_ratio >= 1);
  CHECK(record.layers.size() > 20);
}

TEST_CASE("a probe leaves who observed a site before where it was, and lets no second probe in", "[probes]") {
  StepSetup setup;
  const Batch batch = setup.loader->next();
  FusionSite* site = modules_of<FusionSite>(*setup.model).at(1);
  int seen = 0;
  site->set_observer([&](const LevelSite::Visit&) { ++seen; });
  const auto step = [&](StepObserver* observer) { setup.step->run(0, [&] { return batch; }, observer); };
  {
    Probe probe(*setup.model, 0, false);
    step(&probe);
    CHECK(seen == 1);
    CHECK(probe.record().sites.at(4).branches.at(0).before.std > 0);
    step(nullptr);
    CHECK(seen == 2);
  }
  step(nullptr);
  CHECK(seen == 3);
  {
    Probe waiting(*setup.model, 0, false), second(*setup.model, 0, false);
    waiting.before_forward(batch);
    CHECK_THROWS_WITH(second.before_forward(batch), Catch::Contains("another probe"));
    step(nullptr);
    CHECK(seen == 4);
    CHECK(waiting.record().sites.at(4).branches.at(0).before.std > 0);
    waiting.before_forward(batch);
    site->set_observer([&](const LevelSite::Visit&) { seen += 10; });  // takes the probe's place, and stays
  }
  step(nullptr);
  CHECK(seen == 14);
}

TEST_CASE("a probe whose functions are called out of order says so", "[probes]") {
  StepSetup setup;
  Probe probe(*setup.model, 0, true);
  CHECK_THROWS_AS(probe.after_backward(), UsageError);
  CHECK_THROWS_AS(probe.after_update(), UsageError);
}

TEST_CASE("the gradient at a branch is the one from this site alone", "[probes]") {
  // The pyramid's output feeds the last sum too: together the two sites send back what its producer gets.
  StepSetup setup;
  setup.model->train();
  const Batch batch = setup.loader->next();
  FusionSite* site = modules_of<FusionSite>(*setup.model).at(1);
  Tensor fused_grad, branch_grad;
  site->set_observer([&](const LevelSite::Visit& visit) {
    register_hook(visit.features[3], [&](const Tensor& grad) { return branch_grad = grad.clone(), Tensor(); });
  });
  const LayerObserver observer([&](Layer& layer, const Tensor& input, const Tensor&) {  // makes the site compute the concatenation
    if (&layer == site->fusion().conv) register_hook(input, [&](const Tensor& grad) { return fused_grad = grad.clone(), Tensor(); });
  });
  const SegmentorOutput output = setup.model->forward(batch.images);
  mean(square(output.logits)).backward();
  const auto& branch = site->branches()[3];
  Tensor x = Tensor::zeros(branch_grad.shape());
  x.set_requires_grad();
  const Tensor scale = dynamic_cast<ScaleEqualizer*>(branch.equalizer)->inverse_std();
  mul(resize_bilinear(x, fused_grad.size(1), fused_grad.size(2), false), scale)
      .backward(slice(fused_grad, 3, branch.first_channel, branch.first_channel + branch.channels));
  check_close(branch_grad, x.grad(), 1e-6);
}

TEST_CASE("probes change nothing, and a resumed run has the same records", "[probes]") {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& name, const std::vector<std::string>& settings, bool resume = false) {
    TrainRequest request{.out = folder.path() / name};
    request.resume = resume;
    request.log = nullptr;
    return train(tiny_config(settings), request);
  };
  const TrainResult plain = run("plain", {});
  const TrainResult probed = run("probed", {"probes.every=2"});
  CHECK(plain.weights_sha256 == probed.weights_sha256);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "plain" / "probes.jsonl"));

  struct Crash {};
  TrainRequest crashing{.out = folder.path() / "cut"};
  crashing.log = nullptr;
  crashing.on_step = [](const StepReport& report) {
    if (report.iteration == 4) throw Crash();  // after a checkpoint at 3 and a record of 4
  };
  CHECK_THROWS_AS(train(tiny_config({"probes.every=2"}), crashing), Crash);
  run("cut", {"probes.every=2"}, true);
  const std::string whole = read_file(folder.path() / "probed" / "probes.jsonl"), cut = read_file(folder.path() / "cut" / "probes.jsonl");
  std::vector<int64_t> iterations;
  size_t begin = 0;
  while (begin < whole.size()) {
    const size_t end = whole.find('\n', begin);
    const auto record = nlohmann::json::parse(whole.substr(begin, end - begin));
    iterations.push_back(record["iteration"].get<int64_t>());
    CHECK(record["sites"].size() == 5);
    CHECK(record["sites"][1]["branches"][0]["weight_grad"].is_null());
    begin = end + 1;
  }
  CHECK(iterations == std::vector<int64_t>{0, 2, 4, 5});
  const std::string table = read_file(folder.path() / "probed" / "probes.csv");
  CHECK(std::count(table.begin(), table.end(), '\n') == 1 + 4 * (5 + 3 * 2 + 4));
  CHECK(cut == whole);
}

TEST_CASE("with equalizers every branch reaches the fusion layer with mean 0 and deviation 1", "[probes]") {
  StepSetup setup({"equalizer.batches=16", "train.batch_size=8"});
  setup.model->set_step(3, 0);
  calibrate_equalizers(*setup.model, [&](int64_t) { setup.model->forward(setup.loader->next().images); });
  std::map<std::string, std::vector<Moments>> seen;
  for (int i = 0; i < 16; ++i) {
    for (FusionSite* site : modules_of<FusionSite>(*setup.model)) {
      site->set_observer([&](const LevelSite::Visit& visit) {
        auto& moments = seen[visit.site.path()];
        moments.resize(visit.site.branches().size());
        for (size_t b = 0; b < moments.size(); ++b) {
          const auto& branch = visit.site.branches()[b];
          if (branch.equalizer) {
            moments[b].merge(pooled(channel_moments(visit.fused(), branch.first_channel, branch.first_channel + branch.channels)));
          }
        }
      });
    }
    setup.model->train();
    NoGradGuard no_grad;
    setup.model->forward(setup.loader->next().images);
  }
  for (const char* name : {"decode_head.ppm_fusion", "decode_head.fpn_fusion"}) {
    for (const Moments& moments : seen.at(name)) {
      CHECK(std::abs(moments.mean) < 0.1);
      CHECK(moments.standard_deviation() == Approx(1).epsilon(0.1));
    }
  }
}

TEST_CASE("correlations and the factor they predict are those of each direction", "[probes]") {
  const InitRandom random(0, DType::kFloat64);
  Tensor x = mixed(2, 3, 4, 4, 1);
  double* data = x.data<double>();
  for (int64_t i = 0; i < x.numel(); ++i) {  // smooth along rows, not along columns
    if (i / 4 % 4 > 0) data[i] = 0.9 * data[i - 4] + 0.2 * data[i];
  }
  const Tensor d = x - mean(x, {1, 2}, true);
  const double within = mean_of(square(d)), rows = mean_of(mul(slice(d, 1, 0, 2), slice(d, 1, 1, 3))) / within,
               columns = mean_of(mul(slice(d, 2, 0, 3), slice(d, 2, 1, 4))) / within;
  REQUIRE(std::abs(rows - columns) > 0.1);
  const BranchRecord branch = Site().measure(random_tensor({2, 6, 12, 4}, 1), x).branches[1];
  CHECK(branch.lag_one == Approx((rows + columns) / 2).epsilon(1e-12));
  const double kept = bilinear_variance_factor(3, 6, false, rows) * bilinear_variance_factor(4, 12, false, columns);
  CHECK(branch.predicted_factor == Approx((variance_of(x) - within + within * kept) / variance_of(x)).epsilon(1e-12));
}

TEST_CASE("the fused scale is the one behind the equalizers", "[probes]") {
  const InitRandom random(0, DType::kFloat64);
  Site net({.mode = "explicit"});
  net.site_.set_constants({{{1}, {2}}, {{-3}, {0.5}}});
  const SiteRecord record = net.measure(mixed(3, 8, 6, 4, 1), mixed(3, 4, 3, 4, 5));
  const double means[] = {1, -3}, stds[] = {2, 0.5};
  for (size_t b = 0; b < 2; ++b) {
    const BranchRecord& branch = record.branches[b];
    CHECK(branch.fused.std == Approx(branch.resized.std / stds[b]));
    CHECK(branch.fused.mean == Approx((branch.resized.mean - means[b]) / stds[b]));
  }
}

TEST_CASE("of a depthwise fusion each branch has the filters that read it", "[probes]") {
  StepSetup setup({"model.decode_head.type=sep_aspp", "model.decode_head.in_index=[3]"});
  struct Spy : Probe {
    using Probe::Probe;
    void after_backward() override {
      Probe::after_backward();
      for (FusionSite* site : sites) grads.push_back(site->fusion().conv->weight().grad().clone());
    }
    std::vector<FusionSite*> sites;
    std::vector<Tensor> grads;
  } probe(*setup.model, 0, false);
  probe.sites = modules_of<FusionSite>(*setup.model);
  setup.step->run(0, [&] { return setup.loader->next(); }, &probe);
  CHECK(probe.record().layers.empty());
  size_t depthwise = 0;
  for (size_t s = 0; s < probe.sites.size(); ++s) {
    const Conv2d& conv = *probe.sites[s]->fusion().conv;
    const SiteRecord& record = probe.record().sites.at(s);
    REQUIRE(record.site == probe.sites[s]->path());
    CHECK(record.depthwise == (conv.options().groups > 1));
    if (!record.depthwise) continue;
    ++depthwise;
    for (size_t b = 0; b < record.branches.size(); ++b) {
      const auto& branch = probe.sites[s]->branches()[b];
      const Tensor own = slice(probe.grads[s], 0, branch.first_channel, branch.first_channel + branch.channels);
      CHECK(record.branches[b].weight_grad == Approx(norm_of(own)).epsilon(1e-5));
    }
  }
  CHECK(depthwise > 0);
  // Groups of several channels tell scales.
  const InitRandom random(0, DType::kFloat64);
  CHECK_FALSE(Site({}, 4, {}, 2).measure(random_tensor({1, 4, 4, 4}, 1), random_tensor({1, 2, 2, 4}, 2)).depthwise);
  CHECK(Site({}, 1, {}, 2).measure(random_tensor({1, 4, 4, 1}, 1), random_tensor({1, 2, 2, 1}, 2)).depthwise);
}

TEST_CASE("a probe looks at an update's first pass, may begin again, and passes over what needs no gradient", "[probes]") {
  StepSetup setup({"train.freeze=[\"backbone\"]", "train.accumulate=2"});
  std::vector<Batch> batches{setup.loader->next(), setup.loader->next()};
  size_t next = 0;
  Probe probe(*setup.model, 0, false);
  probe.before_forward(batches[1]);  // of a step that failed before its forward pass
  setup.step->run(0, [&] { return batches[next++]; }, &probe);
  REQUIRE(next == 2);
  const SiteRecord pyramid = probe.record().sites.at(0);
  CHECK(std::isnan(pyramid.branches[0].input_grad));  // the backbone's level itself
  CHECK(pyramid.branches[1].input_grad > 0);
  // The same weights, since a step of rate 0 follows: what the first batch alone gives.
  StepSetup again({"train.freeze=[\"backbone\"]"});
  Probe first(*again.model, 0, false);
  again.step->run(0, [&] { return batches[0]; }, &first);
  CHECK(first.record().sites.at(0).branches[1].before.std == pyramid.branches[1].before.std);
}
