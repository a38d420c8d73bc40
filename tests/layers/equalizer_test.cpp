// The scale equalizer and the fusion site it lives in.
#include <cmath>

#include "autograd/node.h"
#include "core/random.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

EqualizerOptions explicit_options(const char* inputs = "all", const char* granularity = "scalar") {
  EqualizerOptions options;
  options.mode = "explicit";
  options.inputs = inputs;
  options.granularity = granularity;
  options.batches = 8;
  return options;
}

// A head of two branches: x itself and x at half the size, scaled and shifted so that the scales differ.
class TinyHead : public Module {
 public:
  explicit TinyHead(const EqualizerOptions& options)
      : norm_(register_module<BatchNorm2d>("norm", 3)),
        fusion_(register_module<Conv2d>("fusion", 6, 2, Conv2dLayerOptions{.kernel_size = 1})),
        site_(register_module<FusionSite>(
            "site", std::vector<FusionSite::Branch>{{.name = "fine", .channels = 3}, {.name = "coarse", .channels = 3, .upsampled = true}},
            Upsampling(), options, fusion_)) {}
  Tensor forward(const Tensor& fine, const Tensor& coarse) { return site_.forward({norm_(fine), coarse}, fine.size(1), fine.size(2)); }
  BatchNorm2d& norm_;
  Conv2d& fusion_;
  FusionSite& site_;
};

}  // namespace

TEST_CASE("moments merge as if measured at once", "[equalizer]") {
  const Tensor x = random_tensor({3, 50, 40, 5}, 1);
  const auto all = channel_moments(x, 1, 4);
  std::vector<Moments> parts(3);
  for (int64_t n = 0; n < 3; ++n) {
    const auto part = channel_moments(x.alias({50, 40, 5}, n * 50 * 40 * 5), 1, 4);
    for (size_t c = 0; c < 3; ++c) parts[c].merge(part[c]);
  }
  for (size_t c = 0; c < 3; ++c) {
    double mean = 0, m2 = 0;
    for (int64_t i = 0; i < 6000; ++i) mean += x.value_at(i * 5 + 1 + int64_t(c)) / 6000;
    for (int64_t i = 0; i < 6000; ++i) m2 += std::pow(x.value_at(i * 5 + 1 + int64_t(c)) - mean, 2);
    CHECK(all[c].count == 6000);
    CHECK(all[c].mean == Approx(mean).margin(1e-13));
    CHECK(all[c].variance() == Approx(m2 / 6000).epsilon(1e-12));
    CHECK(parts[c].mean == Approx(all[c].mean).margin(1e-13));
    CHECK(parts[c].m2 == Approx(all[c].m2).epsilon(1e-12));
  }
}

TEST_CASE("standard errors are those of the groups, not of their values", "[equalizer]") {
  // Of single values: that of a mean, s / sqrt(n), and of a deviation by leaving out each (the jackknife), which agree to first order.
  // Groups of unequal size whose values hang together: the same, by leaving out groups.
  const auto left_out = [](const std::vector<Moments>& groups, auto value) {
    const double n = double(groups.size());
    Moments spread;
    for (size_t out = 0; out < groups.size(); ++out) {
      std::vector<Moments> others = groups;
      others.erase(others.begin() + std::ptrdiff_t(out));
      spread.merge({1, value(pooled(others)), 0});
    }
    return std::sqrt((n - 1) * spread.variance());
  };
  Random random(5);
  std::vector<Moments> single, groups;
  for (int i = 0; i < 400; ++i) {
    single.push_back({1, 3 + 2 * random.normal(), 0});
    const double shift = random.normal(), scale = std::exp(0.5 * random.normal());
    Moments group;
    for (int64_t j = random.uniform_int(50, 150); j > 0; --j) group.merge({1, shift + scale * random.normal(), 0});
    groups.push_back(group);
  }
  const Moments all = pooled(single);
  CHECK(standard_errors(single).mean == Approx(std::sqrt(all.m2 / 399 / 400)).epsilon(1e-12));
  for (const auto& of : {single, groups}) {
    CHECK(standard_errors(of).mean == Approx(left_out(of, [](const Moments& m) { return m.mean; })).epsilon(0.01));
    CHECK(standard_errors(of).deviation == Approx(left_out(of, [](const Moments& m) { return m.standard_deviation(); })).epsilon(0.01));
  }
  CHECK(standard_errors(groups).deviation > 5 * pooled(groups).standard_deviation() / std::sqrt(2.0 * double(pooled(groups).count)));
  CHECK(std::isnan(standard_errors({groups[0]}).deviation));
  CHECK(std::isnan(standard_errors({}).mean));
  const Moments silent{.count = 5, .mean = 2, .m2 = 0};
  CHECK(standard_errors({silent, silent}).deviation == 0);
}

TEST_CASE("the layer applies (x - mean) / std and its gradient is grad / std", "[equalizer]") {
  InitRandom random(0, DType::kFloat64);
  ScaleEqualizer equalizer(3, explicit_options("all", "channel"));
  equalizer.set({{1, -2, 0}, {2, 1, 0.5}});
  CHECK_THROWS_AS(equalizer.set({{1}, {2}}), ShapeError);
  Tensor x = random_leaf({2, 2, 2, 3}, 1);
  const Tensor y = equalizer(x);
  const double mean[] = {1, -2, 0}, std[] = {2, 1, 0.5};
  for (int64_t i = 0; i < x.numel(); ++i) CHECK(y.value_at(i) == Approx((x.value_at(i) - mean[i % 3]) / std[i % 3]).margin(1e-14));
  y.backward(Tensor::full(y.shape(), 1, DType::kFloat64));
  for (int64_t i = 0; i < x.numel(); ++i) CHECK(x.grad().value_at(i) == Approx(1 / std[i % 3]));
}

TEST_CASE("calibration gives zero mean and unit deviation at the fusion, on unseen data too", "[equalizer]") {
  for (const char* granularity : {"scalar", "channel"}) {
    InitRandom random(0, DType::kFloat64);
    TinyHead head(explicit_options("all", granularity));
    auto batch = [](int64_t i) {
      return std::pair(random_tensor({4, 16, 16, 3}, 100 + uint64_t(i)) , mul(random_tensor({4, 8, 8, 3}, 900 + uint64_t(i)), 5) + 3);
    };
    const Tensor running_before = head.named_buffers()[0].tensor.clone();
    const auto report = calibrate_equalizers(head, [&](int64_t i) {
      const auto [fine, coarse] = batch(i);
      head.forward(fine, coarse);
    });
    REQUIRE(report.branches.size() == 2);
    CHECK(report.branches[0].std == Approx(1).epsilon(0.05));          // a batch-normalised branch
    CHECK(report.branches[1].mean == Approx(3).epsilon(0.05));
    CHECK(report.branches[1].std ==
          Approx(5 * (1 + 7 * 0.625) / 8).epsilon(0.05));               // white noise, 8 -> 16: variance factor ((1 + 7 * 0.625) / 8)^2
    CHECK(bit_equal(head.named_buffers()[0].tensor, running_before));   // running statistics untouched
    CHECK(head.named_buffers()[2].tensor.item() == 0);                  // nor num_batches_tracked

    Tensor seen;
    LayerObserver observer([&](Layer& layer, const Tensor& input, const Tensor&) {
      if (&layer == &head.fusion_) seen = input;
    });
    const auto [fine, coarse] = batch(50);
    head.forward(fine, coarse);
    for (int branch = 0; branch < 2; ++branch) {
      const Moments moments = pooled(channel_moments(seen, branch * 3, branch * 3 + 3));
      CHECK(std::abs(moments.mean) < 0.2);  // 768 values: three standard errors
      CHECK(moments.standard_deviation() == Approx(1).epsilon(0.05));
    }
  }
}

TEST_CASE("only the asked branches are equalized, and off leaves no trace", "[equalizer]") {
  TinyHead off(EqualizerOptions{}), upsampled(explicit_options("upsampled")), all(explicit_options("all"));
  CHECK(off.named_buffers().size() == 3);
  CHECK(upsampled.named_buffers().size() == 5);
  CHECK(upsampled.named_buffers()[3].name == "site.equalizers.1.mean");
  CHECK(all.named_buffers().size() == 7);
}

TEST_CASE("a dead branch gets the floor instead of a division by zero", "[equalizer]") {
  TinyHead head(explicit_options());
  const auto report = calibrate_equalizers(head, [&](int64_t i) {
    head.forward(random_tensor({2, 4, 4, 3}, 7 + uint64_t(i), DType::kFloat32), Tensor::zeros({2, 2, 2, 3}));
  });
  CHECK_FALSE(report.branches[0].floored);
  CHECK(report.branches[1].floored);
  CHECK(head.site_.branches()[1].equalizer->get().std[0] == Approx(1e-5));
  const Tensor y = head.forward(random_tensor({2, 4, 4, 3}, 1, DType::kFloat32), Tensor::zeros({2, 2, 2, 3}));
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(std::isfinite(y.value_at(i)));
}

TEST_CASE("without the mean, and by a power of the deviation", "[equalizer]") {
  for (const char* granularity : {"scalar", "channel"}) {
    for (const bool center : {true, false}) {
      for (const double exponent : {0.0, 0.5, 1.0}) {
        CAPTURE(granularity, center, exponent);
        const InitRandom random(0, DType::kFloat64);
        EqualizerOptions options = explicit_options("all", granularity);
        TinyHead plain(options);
        options.center = center;
        options.exponent = exponent;
        TinyHead head(options);
        for (TinyHead* each : {&plain, &head}) {
          calibrate_equalizers(*each, [&](int64_t i) {
            each->forward(random_tensor({4, 16, 16, 3}, 100 + uint64_t(i)), mul(random_tensor({4, 8, 8, 3}, 900 + uint64_t(i)), 5) + 3);
          });
        }
        for (size_t b = 0; b < 2; ++b) {
          const BranchConstants whole = plain.site_.constants()[b], made = head.site_.constants()[b];
          REQUIRE(made.std.size() == whole.std.size());
          for (size_t c = 0; c < made.std.size(); ++c) {
            CHECK(made.mean[c] == (center ? whole.mean[c] : 0));
            CHECK(made.std[c] == Approx(std::pow(whole.std[c], exponent)).epsilon(1e-12));
          }
        }
      }
    }
  }
}

TEST_CASE("matched half way keeps the mean, or not", "[equalizer]") {
  for (const bool center : {true, false}) {
    const InitRandom random(0, DType::kFloat64);
    EqualizerOptions options = explicit_options("matched");
    options.center = center;
    options.exponent = 0.5;
    TinyHead head(options);
    const CalibrationReport report = calibrate_equalizers(head, [&](int64_t i) {
      head.forward(random_tensor({4, 16, 16, 3}, 100 + uint64_t(i)), mul(random_tensor({4, 8, 8, 3}, 900 + uint64_t(i)), 5) + 3);
    });
    const BranchConstants made = head.site_.constants()[1];
    const double ratio = report.branches[1].std / report.branches[0].std, mean = report.branches[1].mean;
    CHECK(made.std[0] == Approx(std::sqrt(ratio)).epsilon(1e-12));
    CHECK((mean - made.mean[0]) / made.std[0] == Approx(center ? mean : mean / std::sqrt(ratio)).epsilon(1e-12));
  }
}

TEST_CASE("an interrupted calibration restores everything", "[equalizer]") {
  InitRandom random(0, DType::kFloat64);
  TinyHead head(explicit_options());
  head.eval();
  std::vector<Tensor> before;
  for (const auto& buffer : head.named_buffers()) before.push_back(buffer.tensor.clone());
  CHECK_THROWS_AS(calibrate_equalizers(head,
                                       [&](int64_t i) {
                                         if (i == 1) throw DataError("broken picture", "x.png", "");
                                         head.forward(random_tensor({2, 4, 4, 3}, 1), random_tensor({2, 2, 2, 3}, 2));
                                       }),
                  DataError);
  CHECK_FALSE(head.is_training());
  for (size_t i = 0; i < before.size(); ++i) CHECK(bit_equal(head.named_buffers()[i].tensor, before[i]));
}

TEST_CASE("a fusion site names the branch that does not fit", "[equalizer]") {
  TinyHead head(EqualizerOptions{});
  try {
    head.site_.forward({Tensor::zeros({1, 4, 4, 3}), Tensor::zeros({1, 2, 2, 5})}, 4, 4);
    FAIL("nothing was thrown");
  } catch (const ShapeError& error) {
    CHECK(std::string(error.what()).find("'coarse' must be [N,h,w,3]") != std::string::npos);
    CHECK(error.where() == "site");
  }
  Conv2d conv(3, 2, {});
  FusionSite alone({{.name = "fine", .channels = 3}}, {}, {}, conv);
  try {
    alone.forward({Tensor::zeros({1, 4, 4, 2})}, 4, 4);
    FAIL("nothing was thrown");
  } catch (const ShapeError& error) {
    CHECK(error.where() == "a fusion site outside of a network");
  }
}
