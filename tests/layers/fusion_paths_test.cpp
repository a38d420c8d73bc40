// A fusion site and its convolution are one operator unless an observer of layers wants to see each of them: both paths are one function.
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
class PathNet : public Module {
 public:
  PathNet(const EqualizerOptions& options, bool with_norm) {
    const std::vector<LevelSite::Branch> branches{{.name = "fine", .channels = 5},
                                                  {.name = "middle", .channels = 4, .upsampled = true},
                                                  {.name = "coarse", .channels = 3, .upsampled = true},
                                                  {.name = "odd", .channels = 2, .upsampled = true}};
    if (with_norm) {
      site_ = &register_module<FusionSite>("site", branches, Upsampling(), options, register_module<ConvModule>("module", 14, 20, 3));
    } else {
      auto& conv = register_module<Conv2d>("conv", 14, 20, Conv2dLayerOptions{.kernel_size = 3, .padding = 1});
      site_ = &register_module<FusionSite>("site", branches, Upsampling(), options, conv);
    }
  }
  Tensor forward(const std::vector<Tensor>& features) { return site_->forward(features, 12, 10); }
  FusionSite& site() { return *site_; }

 private:
  FusionSite* site_;
};

std::vector<Tensor> features(DType dtype, bool leaves = false) {
  std::vector<Tensor> list{random_tensor({2, 12, 10, 5}, 1) + 0.5, random_tensor({2, 6, 5, 4}, 2) * 3.0 - 1.0,
                           random_tensor({2, 2, 2, 3}, 3) * 0.2, random_tensor({2, 10, 9, 2}, 4)};
  for (Tensor& feature : list) {
    feature = feature.to(dtype);
    if (leaves) feature.set_requires_grad();
  }
  return list;
}

std::unique_ptr<PathNet> make(const EqualizerOptions& options, bool with_norm, DType dtype) {
  InitRandom random(3, dtype);
  auto net = std::make_unique<PathNet>(options, with_norm);
  calibrate_equalizers(*net, [&](int64_t) { net->forward(features(dtype)); });
  return net;
}

Tensor apply(PathNet& net, const std::vector<Tensor>& inputs, bool plain) {
  if (!plain) return net.forward(inputs);
  const LayerObserver observer([](Layer&, const Tensor&, const Tensor&) {});
  return net.forward(inputs);
}

// The operator that computed y, or the one that this one's input came from.
std::string convolution_of(const Tensor& y) {
  const std::string last = gradient_edge(y).node->name();
  return last == "batch_norm" ? gradient_edge(y).node->edges()[0].node->name() : last;
}

// The value and the gradients of all features and parameters.
std::vector<Tensor> run(PathNet& net, DType dtype, bool plain) {
  net.zero_grad();
  std::vector<Tensor> inputs = features(dtype, true);
  const Tensor y = apply(net, inputs, plain);
  CHECK(convolution_of(y) == (plain ? "conv2d" : "fused_conv2d"));
  y.backward(random_tensor(y.shape(), 9).to(dtype));
  std::vector<Tensor> results{y.detach()};
  for (const Tensor& parameter : net.parameters()) inputs.push_back(parameter);
  for (const Tensor& input : inputs) results.push_back(input.grad());
  return results;
}

}  // namespace

TEST_CASE("a fusion site is the same function with and without its concatenation", "[fusion]") {
  for (const std::string& mode : equalizer_modes()) {
    const bool resizes_first = mode == "batch_norm" || mode == "layer_norm" || mode == "l2_norm";
    if (resizes_first) continue;  // nothing coarse is left
    for (bool with_norm : {true, false}) {
      for (bool training : {true, false}) {
        for (const char* granularity : {"scalar", "channel"}) {
          CAPTURE(mode, with_norm, training, granularity);
          EqualizerOptions options;
          options.mode = mode;
          options.granularity = granularity;
          options.batches = 1;
          for (const auto& [dtype, tolerance] : {std::pair{DType::kFloat64, 1e-12}, std::pair{DType::kFloat32, 8e-5}}) {  // Winograd's
            const auto net = make(options, with_norm, dtype);
            net->train(training);
            const std::vector<Tensor> plain = run(*net, dtype, true), commuted = run(*net, dtype, false);
            for (size_t i = 0; i < plain.size(); ++i) check_close(commuted[i], plain[i], tolerance);
          }
        }
      }
    }
  }
}

TEST_CASE("an observer of the site changes nothing and sees the concatenation", "[fusion]") {
  for (const char* mode : {"off", "explicit", "folded"}) {
    EqualizerOptions options;
    options.mode = mode;
    options.batches = 1;
    const auto net = make(options, true, DType::kFloat32);
    net->train();
    const std::vector<Tensor> alone = run(*net, DType::kFloat32, false);
    Tensor seen, wanted;
    net->site().set_observer([&](const LevelSite::Visit& visit) { seen = visit.fused(); });
    const std::vector<Tensor> observed = run(*net, DType::kFloat32, false);
    for (size_t i = 0; i < alone.size(); ++i) CHECK(bit_equal(alone[i], observed[i]));
    const Tensor values = seen;
    const LayerObserver observer([&](Layer& layer, const Tensor& input, const Tensor&) {
      if (&layer == net->site().fusion().conv) wanted = input;
    });
    net->forward(features(DType::kFloat32));
    CHECK(wanted.defined());
    CHECK(values.defined() == (std::string(mode) != "folded"));
    if (values.defined()) CHECK(bit_equal(values, wanted));
  }
}
