// How sites resize: bilinearly, or by repeating values, which keeps their variance.
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/bilinear_variance.h"
#include "layers/calibration.h"
#include "layers/fusion.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

constexpr int64_t kHeight = 12, kWidth = 10;
const Upsampling kNearest{.mode = "nearest"};

std::vector<Tensor> features() {
  return {random_tensor({2, kHeight, kWidth, 3}, 1) + 0.5, random_tensor({2, 6, 5, 4}, 2) * 3.0 - 1.0, random_tensor({2, 5, 4, 2}, 3),
          random_tensor({2, 1, 1, 3}, 4)};
}

std::vector<Tensor> repeated(const std::vector<Tensor>& levels) {
  std::vector<Tensor> all;
  for (const Tensor& level : levels) all.push_back(resize_nearest(level, kHeight, kWidth));
  return all;
}

class Net : public Module {
 public:
  Net(const EqualizerOptions& options, const Upsampling& upsampling) {
    site_ = &register_module<FusionSite>("site",
                                         std::vector<LevelSite::Branch>{{.name = "fine", .channels = 3},
                                                                        {.name = "half", .channels = 4, .upsampled = true},
                                                                        {.name = "odd", .channels = 2, .upsampled = true},
                                                                        {.name = "pooled", .channels = 3, .upsampled = true}},
                                         upsampling, options, register_module<ConvModule>("module", 12, 6, 3));
  }
  Tensor forward(const std::vector<Tensor>& levels) { return site_->forward(levels, kHeight, kWidth); }
  FusionSite& site() { return *site_; }

 private:
  FusionSite* site_;
};

// The value, and the gradients of the levels and of all parameters. `repeat`: they are resized before the site sees them.
std::vector<Tensor> run(const std::string& mode, const Upsampling& upsampling, bool repeat, bool observe_layers) {
  const InitRandom random(3, DType::kFloat64);
  EqualizerOptions options{.mode = mode};
  options.batches = 1;
  Net net(options, upsampling);
  const auto arriving = [&](const std::vector<Tensor>& levels) { return repeat ? repeated(levels) : levels; };
  calibrate_equalizers(net, [&](int64_t) { net.forward(arriving(features())); });
  std::vector<Tensor> inputs = features();
  for (Tensor& input : inputs) input.set_requires_grad();
  Tensor y;
  if (observe_layers) {
    const LayerObserver observer([](Layer&, const Tensor&, const Tensor&) {});
    y = net.forward(arriving(inputs));
  } else {
    y = net.forward(arriving(inputs));
  }
  y.backward(random_tensor(y.shape(), 9));
  std::vector<Tensor> results{y.detach()};
  for (const Tensor& input : inputs) results.push_back(input.grad());
  for (const Tensor& parameter : net.parameters()) results.push_back(parameter.grad());
  return results;
}

}  // namespace

TEST_CASE("a site that repeats values is one whose levels were repeated before", "[upsampling]") {
  for (const std::string& mode : equalizer_modes()) {
    for (const bool observed : {false, true}) {
      CAPTURE(mode, observed);
      const std::vector<Tensor> nearest = run(mode, kNearest, false, observed), before = run(mode, {}, true, observed);
      REQUIRE(nearest.size() == before.size());
      for (size_t i = 0; i < nearest.size(); ++i) check_close(nearest[i], before[i], 1e-12);
      CHECK_FALSE(bit_equal(nearest[0], run(mode, {}, false, observed)[0]));  // which resizes bilinearly
    }
  }
}

TEST_CASE("whoever observes a site that repeats values sees them repeated", "[upsampling]") {
  const InitRandom random(3, DType::kFloat64);
  Net net({}, kNearest);
  Tensor resized, fused;
  net.site().set_observer([&](const LevelSite::Visit& visit) { resized = visit.resized(), fused = visit.fused(); });
  net.forward(features());
  const Tensor wanted = concat(repeated(features()), 3);
  CHECK(bit_equal(resized, wanted));
  CHECK(bit_equal(fused, wanted));
}

TEST_CASE("a sum repeats values, too", "[upsampling]") {
  AdditiveSite site({{.name = "fine", .channels = 3}, {.name = "coarse", .channels = 3, .upsampled = true}}, kNearest);
  const Tensor fine = features()[0], coarse = random_tensor({2, 6, 5, 3}, 7);
  CHECK(bit_equal(site.forward(fine, coarse), fine + resize_nearest(coarse, kHeight, kWidth)));
}

TEST_CASE("analytic constants of repeated values are those of levels that are not resized", "[upsampling][calibration]") {
  const InitRandom random(3, DType::kFloat64);
  EqualizerOptions options{.mode = "explicit"};
  options.constants = "analytic";
  Net net(options, kNearest);
  calibrate_equalizers(net, [&](int64_t) { net.forward(features()); });
  REQUIRE(net.site().constants().size() == 4);
  for (const BranchConstants& constants : net.site().constants()) CHECK(constants.std[0] == Approx(std::sqrt(kRectifiedNormalVariance)));
}
