// What calibration leaves alone, and what it refuses.
#include "layers/calibration.h"

#include <cmath>
#include <limits>

#include "autograd/node.h"
#include "core/random.h"
#include "layers/moments.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

EqualizerOptions with_mode(const char* mode) {
  EqualizerOptions options;
  options.mode = mode;
  options.batches = 2;
  return options;
}

// Two sites of two branches each, the second one in a part that is only run when asked.
class HalfRun : public Module {
 public:
  explicit HalfRun(const EqualizerOptions& options) : HalfRun(options, options) {}
  HalfRun(const EqualizerOptions& options, const EqualizerOptions& second_options)
      : norm_(register_module<BatchNorm2d>("norm", 2)),
        conv_(register_module<Conv2d>("conv", 4, 2, Conv2dLayerOptions{.kernel_size = 3, .padding = 1})),
        site_(register_module<FusionSite>("site", branches(), Upsampling(), options, conv_)),
        second_conv_(register_module<Conv2d>("second_conv", 4, 2, Conv2dLayerOptions{.kernel_size = 1})),
        second_(register_module<FusionSite>("second", branches(), Upsampling(), second_options, second_conv_)) {}
  static std::vector<LevelSite::Branch> branches() {
    return {{.name = "fine", .channels = 2}, {.name = "coarse", .channels = 2, .upsampled = true}};
  }
  Tensor forward(int64_t i, bool both = true) {
    const Tensor fine = random_tensor({2, 4, 4, 2}, 10 + uint64_t(i)) * 3.0,
                 coarse = random_tensor({2, 2, 2, 2}, 20 + uint64_t(i)) + poison_;
    const Tensor y = site_.forward({norm_(fine), coarse}, 4, 4);
    return both ? second_.forward({y, coarse}, 4, 4) : y;
  }
  BatchNorm2d& norm_;
  Conv2d& conv_;
  FusionSite& site_;
  Conv2d& second_conv_;
  FusionSite& second_;
  double poison_ = 0;
};

void calibrate(HalfRun& net) {
  calibrate_equalizers(net, [&](int64_t i) { net.forward(i); });
}

}  // namespace

TEST_CASE("standard errors are what other batches would change", "[calibration]") {
  // Pictures of a brightness and a contrast each, behind a batch norm and as they come: measured over 12 batches of 4, many times, the
  // deviations spread as each measurement says. Behind the norm that is a fraction of what pictures that know nothing of each other would do.
  const InitRandom random(5, DType::kFloat64);
  EqualizerOptions options = with_mode("explicit");
  options.batches = 12;
  HalfRun net(options);
  Random draw(7);
  const auto pictures = [&](int64_t side) {
    Tensor x = random_tensor({4, side, side, 2}, draw.next_u64());
    for (int64_t n = 0; n < 4; ++n) {
      const double scale = std::exp(0.4 * draw.normal()), shift = 0.3 * draw.normal();
      double* values = x.data<double>() + n * side * side * 2;
      for (int64_t i = 0; i < side * side * 2; ++i) values[i] = shift + scale * values[i];
    }
    return x;
  };
  std::vector<Moments> deviations(2), means(2), deviation_errors(2), mean_errors(2);
  for (int repeat = 0; repeat < 150; ++repeat) {
    const CalibrationReport report =
        calibrate_equalizers(net.site_, [&](int64_t) { net.site_.forward({net.norm_(pictures(8)), pictures(4)}, 8, 8); });
    for (size_t b = 0; b < 2; ++b) {
      const CalibrationReport::Branch& branch = report.branches[b];
      deviations[b].merge({1, branch.std, 0});
      means[b].merge({1, branch.mean, 0});
      deviation_errors[b].merge({1, branch.std_error, 0});
      mean_errors[b].merge({1, branch.mean_error, 0});
    }
  }
  // 150 repeats know a spread to 6 %, and small samples understate it by some percent.
  CHECK(deviation_errors[1].mean == Approx(deviations[1].standard_deviation()).epsilon(0.25));
  CHECK(mean_errors[1].mean == Approx(means[1].standard_deviation()).epsilon(0.25));
  CHECK(deviation_errors[0].mean < 1e-3 * deviation_errors[1].mean);  // each batch is normalized
  CHECK(deviations[0].standard_deviation() < 1e-3 * deviation_errors[1].mean);
}

TEST_CASE("a frozen part of a training network stays frozen while it is measured, and after", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  HalfRun net(with_mode("explicit"));
  net.norm_.eval();
  calibrate_equalizers(net, [&](int64_t i) {
    CHECK(net.is_training());
    CHECK_FALSE(net.norm_.is_training());
    net.forward(i);
  });
  CHECK(net.is_training());
  CHECK_FALSE(net.norm_.is_training());
  net.eval();
  calibrate_equalizers(net, [&](int64_t i) {
    CHECK(net.norm_.is_training());
    net.forward(i);
  });
  CHECK_FALSE(net.is_training());
}

TEST_CASE("branches of one name are told apart in what is recorded of them", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  Conv2d conv(6, 2, Conv2dLayerOptions{});
  const FusionSite site(
      {{.name = "pool 2", .channels = 2}, {.name = "pool 2", .channels = 2, .upsampled = true}, {.name = "pool 2", .channels = 2}}, {}, {},
      conv);
  CHECK(site.branches()[0].name == "pool 2");
  CHECK(site.branches()[1].name == "pool 2 (2)");
  CHECK(site.branches()[2].name == "pool 2 (3)");
}

TEST_CASE("observers of a site are back after its calibration", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  HalfRun net(with_mode("explicit"));
  int seen = 0;
  net.site_.set_observer([&](const LevelSite::Visit&) { ++seen; });
  calibrate(net);
  CHECK(seen == 0);
  net.forward(0);
  CHECK(seen == 1);
}

TEST_CASE("a second calibration replaces the constants, or says that it cannot", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  for (const char* mode : {"explicit", "learnable"}) {
    HalfRun net(with_mode(mode));
    calibrate(net);
    const Tensor once = net.forward(7);
    calibrate(net);
    check_close(net.forward(7), once, 1e-12);
  }
  for (const char* mode : {"folded", "folded_normalised", "folded_lr"}) {
    HalfRun net(with_mode(mode));
    calibrate(net);
    const Tensor once = net.forward(7);
    CHECK_THROWS_AS(calibrate(net), UsageError);
    CHECK_THROWS_AS(net.site_.reset(), UsageError);
    CHECK_THROWS_AS(net.site_.set_constants({{{0}, {1}}, {{0}, {1}}}), UsageError);
    CHECK(bit_equal(net.forward(7), once));
    HalfRun loaded(with_mode(mode));  // the file says so, too
    loaded.load_state_dict(net.state_dict());
    CHECK_THROWS_AS(calibrate(loaded), UsageError);
  }
}

TEST_CASE("a calibration that fails leaves the constants that were there", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  for (const char* mode : {"explicit", "learnable"}) {
    HalfRun net(with_mode(mode));
    calibrate(net);
    const auto before = net.site_.constants(), second = net.second_.constants();
    const auto unchanged = [&] {
      CHECK(net.site_.constants()[1].std == before[1].std);
      CHECK(net.site_.constants()[0].mean == before[0].mean);
      CHECK(net.second_.constants()[0].std == second[0].std);
    };
    CHECK_THROWS_AS(calibrate_equalizers(net, [](int64_t) { throw DataError("broken picture", "x.png", ""); }), DataError);
    unchanged();
    CHECK_THROWS_AS(calibrate_equalizers(net, [&](int64_t i) { net.forward(i, false); }), UsageError);  // the second site is not reached
    unchanged();
    net.poison_ = std::numeric_limits<double>::quiet_NaN();
    CHECK_THROWS_WITH(calibrate(net), Catch::Contains("branch 'coarse' are not finite (batch 0, channel 0)"));
    net.poison_ = std::numeric_limits<double>::infinity();
    CHECK_THROWS_AS(calibrate(net), NumericalError);
    unchanged();
  }
}

TEST_CASE("an unreached site is named, analytic constants or measured ones", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  for (const char* constants : {"measured", "analytic"}) {
    EqualizerOptions options = with_mode("folded");
    options.constants = constants;
    HalfRun net(options);
    const Tensor weight = net.conv_.weight().clone();
    try {
      calibrate_equalizers(net, [&](int64_t i) { net.forward(i, false); });
      FAIL("no error");
    } catch (const UsageError& error) {
      CHECK(error.where() == "second");
    }
    CHECK(bit_equal(net.conv_.weight(), weight));
  }
}

TEST_CASE("sites that are to be measured in different ways are refused", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  std::vector<EqualizerOptions> others(3, with_mode("explicit"));
  others[0].batches = 3;
  others[1].constants = "analytic";
  others[2].measure = "in_turn";
  for (const EqualizerOptions& other : others) {
    HalfRun net(with_mode("explicit"), other);
    CHECK_THROWS_WITH(calibrate(net), Catch::Contains("calibrated in one way"));
  }
  EqualizerOptions none = with_mode("explicit");
  none.batches = 0;
  HalfRun net(none);
  CHECK_THROWS_WITH(calibrate(net), Catch::Contains("at least one batch"));
}

TEST_CASE("a report says over how many batches, and which branches are equalized", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  EqualizerOptions options = with_mode("explicit");
  options.inputs = "upsampled";
  HalfRun net(options);
  const CalibrationReport report = calibrate_equalizers(net, [&](int64_t i) { net.forward(i); });
  CHECK(report.batches == 2);
  REQUIRE(report.branches.size() == 4);
  for (size_t b = 0; b < 4; ++b) CHECK(report.branches[b].equalized == (b % 2 == 1));
  CHECK_THROWS_WITH(measure_again(net, [&](int64_t i) { net.forward(i); }), Catch::Contains("do not change during training"));
}

TEST_CASE("a new equalizer is the identity, and takes as many constants as it has", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  ScaleEqualizer equalizer(2, with_mode("explicit"));
  const Tensor x = random_tensor({1, 2, 2, 2}, 1);
  CHECK(bit_equal(equalizer.forward(x), x));
  CHECK_THROWS_WITH(equalizer.set({{0, 0}, {1, 1}}), Catch::Contains("has 1 constants, not 2"));
}

TEST_CASE("a weighted branch of negative weight has no share", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  HalfRun net(with_mode("weighted"));
  for (const Module::NamedTensor& parameter : net.named_parameters()) {
    if (parameter.name != "site.weights") continue;
    NoGradGuard no_grad;
    Tensor(parameter.tensor).copy_(Tensor::from<double>({1, -0.5}, {2}));
  }
  const Tensor before = net.forward(3, false);
  net.poison_ = 5;
  CHECK(bit_equal(net.forward(3, false), before));
}

TEST_CASE("constants that do not fit change nothing", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const char* mode : {"explicit", "learnable", "folded", "folded_lr"}) {
    for (const char* granularity : {"scalar", "channel"}) {
      EqualizerOptions options = with_mode(mode);
      options.granularity = granularity;
      HalfRun net(options);
      const Tensor before = net.forward(3);
      const size_t n = options.granularity == "channel" ? 2 : 1;
      const BranchConstants good{std::vector<double>(n, 0.5), std::vector<double>(n, 2)};
      for (const double std : {0.0, -1.0, nan, HUGE_VAL}) {
        CHECK_THROWS_AS(net.site_.set_constants({good, {good.mean, std::vector<double>(n, std)}}), NumericalError);
      }
      CHECK_THROWS_AS(net.site_.set_constants({good, {std::vector<double>(n, nan), good.std}}), NumericalError);
      CHECK_THROWS_AS(net.site_.set_constants({good, {std::vector<double>(3, 0), std::vector<double>(3, 1)}}), ShapeError);
      CHECK_THROWS_AS(net.site_.set_constants({good, {}}), ShapeError);
      CHECK_THROWS_AS(net.site_.set_constants({good}), ShapeError);
      CHECK(bit_equal(net.forward(3), before));
    }
  }
}

TEST_CASE("constants of branches that are not equalized do not matter, explicit or folded", "[calibration]") {
  std::vector<Tensor> results;
  for (const char* mode : {"explicit", "folded"}) {
    const InitRandom random(5, DType::kFloat64);
    EqualizerOptions options = with_mode(mode);
    options.inputs = "upsampled";
    HalfRun net(options);
    net.site_.set_constants({{{5}, {7}}, {{0.5}, {2}}});
    net.eval();
    results.push_back(net.forward(3, false));
  }
  check_close(results[0], results[1], 1e-12);
}

TEST_CASE("a fusion site is made for the convolution that reads it", "[calibration]") {
  const InitRandom random(5, DType::kFloat64);
  Conv2d other(6, 2, Conv2dLayerOptions{.kernel_size = 1}), same(4, 2, Conv2dLayerOptions{.kernel_size = 3, .same = true}),
      grouped(4, 2, Conv2dLayerOptions{.kernel_size = 1, .groups = 2});
  CHECK_THROWS_AS(FusionSite(HalfRun::branches(), Upsampling(), with_mode("off"), other), ShapeError);
  CHECK_NOTHROW(FusionSite(HalfRun::branches(), Upsampling(), with_mode("folded"), grouped));
  CHECK_NOTHROW(FusionSite(HalfRun::branches(), Upsampling(), with_mode("explicit"), same));
  CHECK_THROWS_AS(FusionSite(HalfRun::branches(), Upsampling(), with_mode("folded"), same), UsageError);
  Conv2d plain(4, 2, Conv2dLayerOptions{.kernel_size = 1, .bias = false});
  CHECK_THROWS_WITH(FusionSite(HalfRun::branches(), Upsampling(), with_mode("folded"), plain), Catch::Contains("neither a bias nor a norm"));
}
