// The forms of the equalizer: which of them are the same function, which of them train alike, and the layers they are compared with.
#include <cmath>
#include <memory>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "layers/branch_net.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "support.h"
#include "training/optimizer.h"

using namespace eq;
using namespace eq::test;

namespace {

// Losses of `steps` updates towards fixed random targets.
std::vector<double> train(BranchNet& net, const OptimizerOptions& options, int steps, double clip = 0) {
  auto optimizer = make_optimizer(optimizer_parameters(net), options);
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    net.zero_grad();
    const Tensor loss =
        mean(square(net.forward(branch_features(uint64_t(step % 5) * 7)) - random_tensor({2, 8, 6, 2}, uint64_t(step % 5) * 7 + 3)));
    loss.backward();
    losses.push_back(loss.item());
    optimizer->step(options.lr, clip_factor(gradient_norm(optimizer->parameters()).norm, clip));
  }
  return losses;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

// V = W / sigma over input channels.
Tensor effective_weight(BranchNet& net) {
  NoGradGuard no_grad;
  Tensor weight = net.conv().weight().clone();
  const int64_t per_group = weight.size(0) / net.conv().options().groups, in = weight.size(3), taps = weight.size(1) * weight.size(2);
  std::vector<double> std;
  for (const auto& branch : net.site().branches()) {
    const auto of_branch = branch.equalizer ? branch.equalizer->get().std : std::vector<double>{1};
    for (int64_t c = 0; c < branch.channels; ++c) std.push_back(of_branch[of_branch.size() == 1 ? 0 : size_t(c)]);
  }
  for (int64_t i = 0; i < weight.numel(); ++i) weight.data<double>()[i] /= std[size_t(i / (in * taps) / per_group * in + i % in)];
  return weight;
}

}  // namespace

TEST_CASE("folded at the start is the explicit function, border included", "[equalizer]") {
  for (Fusion fusion : {Fusion::kDense, Fusion::kDepthwise, Fusion::kBias}) {
    for (const char* granularity : {"scalar", "channel"}) {
      for (const char* inputs : {"all", "upsampled", "matched"}) {
        CAPTURE(int(fusion), granularity, inputs);
        EqualizerOptions options = equalizer_mode("explicit", granularity);
        options.inputs = inputs;
        for (const char* name : {"folded", "folded_lr", "learnable"}) {
          options.mode = "explicit";
          const auto expected_net = calibrated_net(fusion, options);
          options.mode = name;
          const auto net = calibrated_net(fusion, options);
          for (bool training : {true, false}) {  // evaluation: the fresh running statistics have taken the mean over
            expected_net->train(training);
            net->train(training);
            check_close(net->forward(branch_features(1)), expected_net->forward(branch_features(1)),
                        training || fusion == Fusion::kBias ? 1e-12 : 1e-9);
          }
        }
      }
    }
  }
}

namespace {

// A convolution with a group norm behind it, as one layer.
class GroupNormed : public Module {
 public:
  explicit GroupNormed(const EqualizerOptions& options) {
    auto& layer = register_module<Sequential>("layer");
    auto& conv = layer.append<Conv2d>(8, 8, Conv2dLayerOptions{.kernel_size = 3, .padding = 1});
    layer.append<GroupNorm>(2, 8);
    const std::vector<LevelSite::Branch> branches{{.name = "fine", .channels = 3},
                                                  {.name = "middle", .channels = 2, .upsampled = true},
                                                  {.name = "coarse", .channels = 3, .upsampled = true}};
    site_ = &register_module<FusionSite>("site", branches, Upsampling(), options, FusionLayer(layer, conv));
  }
  Tensor forward(const std::vector<Tensor>& features) { return site_->forward(features, 8, 6); }

 private:
  FusionSite* site_;
};

}  // namespace

TEST_CASE("a fusion layer that does more than its convolution is applied whole, folded or not", "[equalizer]") {
  const auto result = [](const char* name) {
    const InitRandom random(3, DType::kFloat64);
    GroupNormed net(equalizer_mode(name));
    calibrate_equalizers(net, [&](int64_t i) { net.forward(branch_features(100 + 10 * uint64_t(i))); });
    return net.forward(branch_features(1));
  };
  const Tensor normed = result("explicit");
  CHECK(std::abs(mean(normed).item()) < 1e-12);  // the group norm was applied
  CHECK(mean(square(normed)).item() == Approx(1).epsilon(1e-3));
  check_close(result("folded"), normed, 1e-12);
}

TEST_CASE("a trained explicit or learnable network folds to the same function", "[equalizer]") {
  for (Fusion fusion : {Fusion::kDense, Fusion::kDepthwise, Fusion::kBias}) {
    for (const char* name : {"explicit", "learnable"}) {
      CAPTURE(int(fusion), name);
      const auto net = calibrated_net(fusion, equalizer_mode(name, "channel"));
      train(*net, {.type = "adamw", .lr = 0.01}, 30);
      net->eval();
      const Tensor before = net->forward(branch_features(1));
      net->site().fold();
      check_close(net->forward(branch_features(1)), before, 1e-12);
      for (const auto& [key, value] : net->state_dict()) CHECK(key.find("equalizers") == std::string::npos);
      CHECK(net->state_dict().count("site.border") == 1);
      CHECK_THROWS_AS(net->site().fold(), UsageError);
    }
  }
}

TEST_CASE("explicit and folded_lr train alike, plain folding does not", "[equalizer]") {
  const OptimizerOptions optimizers[] = {{.type = "sgd", .lr = 0.02, .momentum = 0.9, .weight_decay = 0.01},
                                         {.type = "sgd", .lr = 0.02, .momentum = 0.9, .nesterov = true, .weight_decay = 0.01},
                                         {.type = "adamw", .lr = 0.005, .eps = 1e-3, .weight_decay = 0.05}};
  for (const OptimizerOptions& optimizer : optimizers) {
    for (Fusion fusion : {Fusion::kDense, Fusion::kDepthwise}) {
      for (double clip : {0.0, 0.3}) {
        CAPTURE(optimizer.type, int(fusion), clip);
        const auto explicit_net = calibrated_net(fusion, equalizer_mode("explicit")),
                   scaled = calibrated_net(fusion, equalizer_mode("folded_lr")), plain = calibrated_net(fusion, equalizer_mode("folded"));
        const auto expected = train(*explicit_net, optimizer, 200, clip);
        CHECK(largest_difference(train(*scaled, optimizer, 200, clip), expected) < 1e-10);
        check_close(scaled->conv().weight(), effective_weight(*explicit_net), 1e-10);
        CHECK(largest_difference(train(*plain, optimizer, 200, clip), expected) > 1e-4);
        CHECK(expected.back() < expected.front());
      }
    }
  }
}

TEST_CASE("a normalised fold leaves the geometric mean of the scales out", "[equalizer]") {
  const auto plain = calibrated_net(Fusion::kDense, equalizer_mode("folded")),
             normalised = calibrated_net(Fusion::kDense, equalizer_mode("folded_normalised"));
  const Tensor a = plain->conv().weight(), b = normalised->conv().weight();
  const double ratio = b.value_at(0) / a.value_at(0);
  for (int64_t i = 0; i < a.numel(); ++i) CHECK(b.value_at(i) == Approx(ratio * a.value_at(i)));
  const auto measured = calibrated_net(Fusion::kDense, equalizer_mode("explicit"));
  double log_sum = 0;
  for (const auto& branch : measured->site().branches()) log_sum += std::log(branch.equalizer->get().std[0]) / 3;
  CHECK(ratio == Approx(std::exp(log_sum)));
}

TEST_CASE("matched keeps the mean and takes over the deviation of what is not upsampled", "[equalizer]") {
  EqualizerOptions options = equalizer_mode("explicit");
  options.inputs = "matched";
  const auto net = calibrated_net(Fusion::kDense, options);
  Tensor fused, resized;
  net->site().set_observer([&](const LevelSite::Visit& visit) {
    fused = visit.fused().detach();
    resized = visit.resized();
  });
  net->train();
  std::vector<Moments> before(3), after(3);
  for (uint64_t i : {100, 110}) {  // the batches it was measured over
    net->forward(branch_features(i));
    for (size_t b = 0; b < 3; ++b) {
      const auto& branch = net->site().branches()[b];
      before[b].merge(pooled(channel_moments(resized, branch.first_channel, branch.first_channel + branch.channels)));
      after[b].merge(pooled(channel_moments(fused, branch.first_channel, branch.first_channel + branch.channels)));
    }
  }
  for (size_t b = 0; b < 3; ++b) {
    CHECK(after[b].mean == Approx(before[b].mean).margin(1e-12));
    CHECK(after[b].standard_deviation() == Approx(before[0].standard_deviation()));
  }
}

TEST_CASE("analytic constants are those of rectified white noise behind the resizing", "[equalizer]") {
  EqualizerOptions options = equalizer_mode("explicit");
  options.constants = "analytic";
  const auto net = calibrated_net(Fusion::kDense, options);
  const double factor[] = {1, (1 + 3 * 0.625) / 4 * (1 + 2 * 0.625) / 3,
                           (1 + 0.65625) / 2 * (1 + (2.0 / 3 + 1.0 / 27)) / 2};  // 8x6; 4x3 twice; 2x2 by 4 and by 3
  for (size_t b = 0; b < 3; ++b) {
    const BranchConstants constants = net->site().branches()[b].equalizer->get();
    CHECK(constants.mean[0] == Approx(0.398942280401));
    CHECK(constants.std[0] == Approx(0.5838194 * std::sqrt(factor[b])));
  }
}

namespace {

// Two sites, the second fed by the first.
class TwoSites : public Module {
 public:
  explicit TwoSites(const EqualizerOptions& options) {
    for (int i = 0; i < 2; ++i) {
      auto& conv = register_module<Conv2d>("conv" + std::to_string(i), 4, 2, Conv2dLayerOptions{});
      sites_.push_back(&register_module<FusionSite>(
          "site" + std::to_string(i),
          std::vector<LevelSite::Branch>{{.name = "a", .channels = 2}, {.name = "b", .channels = 2, .upsampled = true}}, Upsampling(),
          options, conv));
    }
  }
  void forward(uint64_t seed) {
    const Tensor first = sites_[0]->forward({random_tensor({2, 6, 6, 2}, seed) * 4.0, random_tensor({2, 3, 3, 2}, seed + 1)}, 6, 6);
    sites_[1]->forward({first, random_tensor({2, 3, 3, 2}, seed + 2)}, 6, 6);
  }
  std::vector<FusionSite*> sites_;
};

}  // namespace

TEST_CASE("measured in turn, a site sees the sites before it equalized", "[equalizer]") {
  EqualizerOptions together = equalizer_mode("explicit"), in_turn = equalizer_mode("explicit");
  in_turn.measure = "in_turn";
  double first[2], second[2], after[2];
  int i = 0;
  for (const EqualizerOptions& options : {together, in_turn}) {
    InitRandom random(3, DType::kFloat64);
    TwoSites net(options);
    calibrate_equalizers(net, [&](int64_t batch) { net.forward(uint64_t(batch) * 5); });
    first[i] = net.sites_[0]->branches()[0].equalizer->get().std[0];
    second[i] = net.sites_[1]->branches()[0].equalizer->get().std[0];
    Moments moments;
    net.sites_[1]->set_observer([&](const LevelSite::Visit& visit) { moments.merge(pooled(channel_moments(visit.fused(), 0, 2))); });
    net.forward(0);
    net.forward(5);
    after[i++] = moments.standard_deviation();
  }
  CHECK(first[0] == first[1]);
  CHECK(second[0] > 2 * second[1]);       // the first site's output shrank by about its branches' scale
  CHECK(after[1] == Approx(1));           // so only in turn is the second site's input on scale 1 at the first step
  CHECK(after[0] == Approx(second[1] / second[0]));
}

TEST_CASE("the comparators normalise each branch after it was resized", "[equalizer]") {
  for (const char* name : {"batch_norm", "layer_norm", "l2_norm"}) {
    CAPTURE(name);
    const auto net = calibrated_net(Fusion::kDense, equalizer_mode(name));
    Tensor fused;
    net->site().set_observer([&](const LevelSite::Visit& visit) { fused = visit.fused().detach(); });
    net->train();
    net->forward(branch_features(5));
    for (const auto& branch : net->site().branches()) {
      const auto moments = channel_moments(fused, branch.first_channel, branch.first_channel + branch.channels);
      double power = 0;
      for (const Moments& m : moments) power += (m.variance() + m.mean * m.mean) / double(branch.channels);
      CHECK(power == Approx(1).epsilon(0.02));
      if (std::string(name) == "batch_norm") CHECK(std::abs(moments[0].mean) < 1e-12);
    }
    CHECK(net->state_dict().count("site.equalizers.2.weight") == 1);
  }
}

TEST_CASE("weighted fusion scales each branch by its share, and learns it", "[equalizer]") {
  const auto net = calibrated_net(Fusion::kDense, equalizer_mode("weighted"));
  Tensor fused;
  net->site().set_observer([&](const LevelSite::Visit& visit) {
    fused = visit.fused().detach();
    check_close(fused, visit.resized() / 3.0001, 1e-12);
  });
  net->forward(branch_features(5));
  REQUIRE(fused.defined());
  net->site().set_observer({});
  auto weights = net->named_parameters();
  train(*net, {.type = "adamw", .lr = 0.01}, 5);
  bool changed = false;
  for (const auto& parameter : weights) changed |= parameter.name == "site.weights" && parameter.tensor.value_at(0) != 1;
  CHECK(changed);
}

TEST_CASE("l2_norm and the learnable equalizer have the right gradients", "[equalizer]") {
  InitRandom random(3, DType::kFloat64);
  L2Norm norm(4);
  LearnableEqualizer equalizer(4, equalizer_mode("learnable", "channel"));
  equalizer.set({{0.1, 0.2, -0.3, 0}, {2, 1, 0.5, 3}});
  check_gradients([&](const TensorList& in) { return norm(in[0]); }, {random_leaf({2, 2, 3, 4}, 1), norm.parameters()[0]});
  check_gradients([&](const TensorList& in) { return equalizer(in[0]); },
                  {random_leaf({2, 2, 3, 4}, 1), equalizer.parameters()[0], equalizer.parameters()[1]});
}

TEST_CASE("equalizer options that do not go together are refused", "[equalizer]") {
  const auto refused = [](const EqualizerOptions& options, const char* where) {
    try {
      BranchNet net(Fusion::kDense, options);
      FAIL("accepted");
    } catch (const UsageError& error) {
      CHECK(error.where() == where);
    }
  };
  refused(equalizer_mode("folder"), "equalizer.mode");
  EqualizerOptions options = equalizer_mode("batch_norm");
  options.inputs = "matched";
  refused(options, "equalizer.inputs");
  options = equalizer_mode("weighted");
  options.inputs = "upsampled";
  refused(options, "equalizer.inputs");
  for (const char* name : {"explicit", "folded"}) refused(equalizer_mode(name, "pixel"), "equalizer.granularity");
}
