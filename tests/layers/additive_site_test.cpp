// Sums of two levels, and equalizers at them.
#include <cmath>

#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

constexpr int64_t kChannels = 3;

EqualizerOptions at_sums(const std::string& mode, const char* granularity = "scalar") {
  EqualizerOptions options{.mode = mode};
  options.granularity = granularity;
  options.measure = "in_turn";
  options.batches = 2;
  return options;
}

std::vector<LevelSite::Branch> two_branches() {
  return {{.name = "fine", .channels = kChannels}, {.name = "coarse", .channels = kChannels, .upsampled = true}};
}

// A top-down path: levels of three sizes, the sums listed fine to coarse and run coarse to fine.
class TopDown : public Module {
 public:
  explicit TopDown(const EqualizerOptions& options) : sums_(register_module<ModuleList<AdditiveSite>>("sums")) {
    for (int i = 0; i < 2; ++i) sums_.append(two_branches(), Upsampling(), options);
  }
  Tensor forward(uint64_t seed) {
    const Tensor fine = random_tensor({2, 8, 12, kChannels}, seed) * 3.0 + 1.0,
                 middle = random_tensor({2, 4, 6, kChannels}, seed + 1) + 2.0, coarse = random_tensor({2, 2, 3, kChannels}, seed + 2) * 0.2;
    return sums_[0].forward(fine, sums_[1].forward(middle, coarse));
  }
  ModuleList<AdditiveSite>& sums_;
};

}  // namespace

TEST_CASE("an equalized sum adds what the paper's formula makes of each branch", "[additive_site]") {
  const InitRandom random(3, DType::kFloat64);
  const Tensor fine = random_tensor({2, 6, 5, kChannels}, 1), coarse = random_tensor({2, 3, 4, kChannels}, 2);
  for (const char* mode : {"explicit", "learnable"}) {
    for (const char* granularity : {"scalar", "channel"}) {
      CAPTURE(mode, granularity);
      AdditiveSite site(two_branches(), {}, at_sums(mode, granularity));
      CHECK(bit_equal(site.forward(fine, coarse), fine + resize_bilinear(coarse, 6, 5, false)));  // the identity until constants are set
      const bool each = std::string(granularity) == "channel";
      const BranchConstants a = each ? BranchConstants{{0.5, -1, 2}, {2, 0.25, 3}} : BranchConstants{{0.5}, {2}},
                            b = each ? BranchConstants{{-3, 0, 1}, {0.1, 4, 1}} : BranchConstants{{-3}, {0.1}};
      site.set_constants({a, b});
      const auto equalized = [](const Tensor& x, const BranchConstants& c) {
        const int64_t count = int64_t(c.mean.size());
        return div(sub(x, Tensor::from<double>(c.mean, {count})), Tensor::from<double>(c.std, {count}));
      };
      const Tensor wanted = equalized(fine, a) + equalized(resize_bilinear(coarse, 6, 5, false), b);
      check_close(site.forward(fine, coarse), wanted, 1e-12);
      CHECK(site.constants()[1].mean == b.mean);
      site.reset();
      CHECK(bit_equal(site.forward(fine, coarse), fine + resize_bilinear(coarse, 6, 5, false)));
    }
  }
}

TEST_CASE("each branch's gradient at an equalized sum is divided by its sigma", "[additive_site]") {
  const InitRandom random(3, DType::kFloat64);
  AdditiveSite plain(two_branches(), {}), equalized(two_branches(), {}, at_sums("explicit"));
  equalized.set_constants({{{0.5}, {4}}, {{-1}, {0.125}}});
  const Tensor grad = random_tensor({2, 6, 5, kChannels}, 7);
  std::vector<Tensor> grads;
  for (AdditiveSite* site : {&plain, &equalized}) {
    Tensor fine = random_tensor({2, 6, 5, kChannels}, 1), coarse = random_tensor({2, 3, 4, kChannels}, 2);
    fine.set_requires_grad();
    coarse.set_requires_grad();
    site->forward(fine, coarse).backward(grad);
    grads.push_back(fine.grad());
    grads.push_back(coarse.grad());
  }
  check_close(grads[2], grads[0] / 4.0, 1e-14);
  check_close(grads[3], grads[1] * 8.0, 1e-14);
}

TEST_CASE("what a sum's observer sees adds up to the sum, in every mode", "[additive_site]") {
  const InitRandom random(3, DType::kFloat64);
  for (const char* mode : {"off", "explicit", "learnable", "batch_norm", "layer_norm", "l2_norm", "weighted"}) {
    for (const char* upsampling : {"bilinear", "nearest"}) {
      CAPTURE(mode, upsampling);
      AdditiveSite site(two_branches(), {.mode = upsampling}, at_sums(mode));
      if (has_constants(site.options())) site.set_constants({{{0.5}, {2}}, {{-1}, {0.25}}});
      Tensor joined, resized;
      site.set_observer([&](const LevelSite::Visit& visit) { joined = visit.fused(), resized = visit.resized(); });
      const Tensor sum = site.forward(random_tensor({2, 6, 5, kChannels}, 1) + 1.0, random_tensor({2, 3, 4, kChannels}, 2));
      CHECK(joined.defined() == (site.options().mode != "off"));
      if (!joined.defined()) joined = resized;
      check_close(slice(joined, 3, 0, kChannels) + slice(joined, 3, kChannels, 2 * kChannels), sum, 1e-12);
      if (std::string(mode) == "weighted") check_close(joined, resized / 2.0001, 1e-12);
      if (std::string(mode) == "batch_norm") {
        CHECK(std::abs(channel_moments(joined, 4, 5)[0].mean) < 1e-12);
        CHECK(channel_moments(joined, 4, 5)[0].variance() == Approx(1).epsilon(1e-3));
      }
    }
  }
}

TEST_CASE("a top-down path is calibrated as it runs, coarse to fine: everything added has mean 0 and deviation 1",
          "[additive_site][calibration]") {
  const InitRandom random(3, DType::kFloat64);
  for (const char* mode : {"explicit", "learnable"}) {
    CAPTURE(mode);
    TopDown net(at_sums(mode));
    const CalibrationReport report = calibrate_equalizers(net, [&](int64_t i) { net.forward(uint64_t(10 * i)); });
    REQUIRE(report.branches.size() == 4);
    CHECK(report.branches[0].site == "sums.1");  // the first that a pass reaches
    CHECK(report.branches[2].site == "sums.0");
    std::vector<Moments> added(4);
    for (size_t s = 0; s < 2; ++s) {
      net.sums_[s].set_observer([&added, s](const LevelSite::Visit& visit) {
        const Tensor joined = visit.fused();
        for (size_t b = 0; b < 2; ++b) {
          added[2 * s + b].merge(pooled(channel_moments(joined, int64_t(b) * kChannels, int64_t(b + 1) * kChannels)));
        }
      });
    }
    for (int64_t i = 0; i < 2; ++i) net.forward(uint64_t(10 * i));
    for (size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      CHECK(std::abs(added[i].mean) < 1e-12);
      CHECK(added[i].standard_deviation() == Approx(1));
    }
  }
}

TEST_CASE("what a sum cannot be is said before there is one", "[additive_site]") {
  const auto make = [](const EqualizerOptions& options) { AdditiveSite(two_branches(), {}, options); };
  for (const char* mode : {"folded", "folded_normalised", "folded_lr"}) {
    CHECK_THROWS_WITH(make(at_sums(mode)), Contains("no weights that could take constants over") && Contains("explicit"));
  }
  EqualizerOptions options = at_sums("explicit");
  options.refresh = 10;
  CHECK_THROWS_WITH(make(options), Contains("equalizer.refresh") && Contains("use 0"));
  options = at_sums("explicit");
  options.constants = "analytic";
  CHECK_THROWS_WITH(make(options), Contains("batch norm and ReLU") && Contains("measured"));
  options = at_sums("explicit");
  options.measure = "together";
  CHECK_THROWS_WITH(make(options), Contains("hands its scale on") && Contains("in_turn"));
  options.mode = "batch_norm";  // which measures nothing
  CHECK_NOTHROW(make(options));
  CHECK_THROWS_AS(AdditiveSite({{.name = "fine", .channels = 2}, {.name = "coarse", .channels = 3, .upsampled = true}}, {}), ShapeError);
  CHECK_THROWS_AS(AdditiveSite({{.name = "alone", .channels = 2}}, {}), ShapeError);
}
