// A fusion site computes its concatenation only where somebody looks at it: both paths are one function.
#include <memory>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "layers/calibration.h"
#include "layers/fusion.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

// Three levels and one resized one, fused by a convolution with a norm, or with a bias.
class Net : public Module {
 public:
  Net(const EqualizerOptions& options, bool with_norm) {
    const std::vector<LevelSite::Branch> branches{{.name = "fine", .channels = 5},
                                                  {.name = "middle", .channels = 4, .upsampled = true},
                                                  {.name = "coarse", .channels = 3, .upsampled = true},
                                                  {.name = "odd", .channels = 2, .upsampled = true}};
    if (with_norm) {
      site_ = &register_module<FusionSite>("site", branches, false, options, register_module<ConvModule>("module", 14, 20, 3));
    } else {
      auto& conv = register_module<Conv2d>("conv", 14, 20, Conv2dLayerOptions{.kernel_size = 3, .padding = 1});
      site_ = &register_module<FusionSite>("site", branches, false, options, conv);
    }
    assign_paths();
  }
  Tensor forward(const std::vector<Tensor>& features) { return site_->forward(features, 12, 10); }
  FusionSite& site() { return *site_; }

 private:
  FusionSite* site_;
};

std::vector<Tensor> features(DType dtype, bool leaves = false) {
  std::vector<Tensor> list{random_tensor({2, 12, 10, 5}, 1) + 0.5, random_tensor({2, 6, 5, 4}, 2) * 3.0 - 1.0, random_tensor({2, 2, 2, 3}, 3) * 0.2,
                           random_tensor({2, 10, 9, 2}, 4)};
  for (Tensor& feature : list) {
    feature = feature.to(dtype);
    if (leaves) feature.set_requires_grad();
  }
  return list;
}

std::unique_ptr<Net> make(const EqualizerOptions& options, bool with_norm, DType dtype) {
  InitRandom random(3, dtype);
  auto net = std::make_unique<Net>(options, with_norm);
  calibrate_equalizers(*net, [&](int64_t) { net->forward(features(dtype)); });
  return net;
}

// The value and the gradients of all features and parameters, in float64; and which operator the value's convolution was.
struct Results {
  std::vector<Tensor> tensors;
  bool observed = false;
};
Results run(Net& net, DType dtype, bool observe) {
  Results results;
  net.zero_grad();
  if (observe) net.site().set_observer([&](const LevelSite::Visit&) { results.observed = true; });
  std::vector<Tensor> inputs = features(dtype, true);
  const Tensor y = net.forward(inputs);
  net.site().set_observer({});
  y.backward(random_tensor(y.shape(), 9).to(dtype));
  results.tensors.push_back(y.detach().to(DType::kFloat64));
  for (const Tensor& parameter : net.parameters()) inputs.push_back(parameter);
  for (const Tensor& input : inputs) results.tensors.push_back(input.grad().to(DType::kFloat64));
  return results;
}

}  // namespace

TEST_CASE("a fusion site is the same function whether or not somebody looks at the concatenation", "[fusion]") {
  for (const std::string& mode : equalizer_modes()) {
    for (bool with_norm : {true, false}) {
      for (bool training : {true, false}) {
        for (const char* granularity : {"scalar", "channel"}) {
          CAPTURE(mode, with_norm, training, granularity);
          EqualizerOptions options;
          options.mode = mode;
          options.granularity = granularity;
          options.batches = 1;
          for (const auto& [dtype, tolerance] : {std::pair{DType::kFloat64, 1e-12}, std::pair{DType::kFloat32, 1e-4}}) {
            const auto net = make(options, with_norm, dtype);
            net->train(training);
            const Results plain = run(*net, dtype, true), commuted = run(*net, dtype, false);
            CHECK(plain.observed);
            REQUIRE(plain.tensors.size() == commuted.tensors.size());
            for (size_t i = 0; i < plain.tensors.size(); ++i) check_close(commuted.tensors[i], plain.tensors[i], tolerance);
          }
        }
      }
    }
  }
}

TEST_CASE("the concatenation is computed for observers only", "[fusion]") {
  const auto net = make({}, true, DType::kFloat32);
  const auto convolution = [&] {  // the name of the operator behind batch norm
    const Tensor y = net->forward(features(DType::kFloat32, true));
    return std::string(gradient_edge(y).node->edges()[0].node->name());
  };
  CHECK(convolution() == "fused_conv2d");
  int layers = 0;
  {
    const LayerObserver observer([&](Layer&, const Tensor&, const Tensor&) { ++layers; });
    CHECK(convolution() == "conv2d");
    CHECK(layers == 3);  // the convolution, its norm and both
  }
  net->site().set_observer([](const LevelSite::Visit& visit) { CHECK(visit.fused.shape() == Shape{2, 12, 10, 14}); });
  CHECK(convolution() == "conv2d");
  net->site().set_observer({});
  CHECK(convolution() == "fused_conv2d");
}
