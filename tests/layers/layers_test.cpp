// Layers against the operators that they are made of: their numbers, their beginnings, their order.
#include "layers/layers.h"

#include <cmath>

#include "autograd/functional.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

TEST_CASE("a convolution's groups divide its channels, and its fan-out is that of a group", "[layers]") {
  const auto make = [](int64_t in, int64_t out, int64_t groups) { Conv2d conv(in, out, {.groups = groups}); };
  CHECK_THROWS_WITH(make(4, 4, 0), Catch::Contains("groups must divide"));
  CHECK_THROWS_WITH(make(3, 4, 2), Catch::Contains("groups must divide"));
  CHECK_THROWS_WITH(make(4, 3, 2), Catch::Contains("groups must divide"));
  InitRandom random(3);
  Conv2d conv(128, 128, {.kernel_size = 3, .groups = 4});
  CHECK(mean(square(conv.weight())).item() == Approx(2.0 / (9 * 32)).epsilon(0.02));
  CHECK(conv.description() == "Conv2d 128->128 3x3 groups 4");
  CHECK(conv.macs({}, Tensor::zeros({1, 2, 2, 128})) == 4 * 128 * 9 * 32);
}

TEST_CASE("a convolution pads rows and columns by their own amounts, and a fused one sees the border of its levels", "[layers]") {
  const InitRandom random(1);
  Conv2d conv(2, 3, {.kernel_size = 3});
  conv.set_padding(2, 1);
  CHECK(conv(Tensor::zeros({1, 5, 5, 2})).shape() == Shape{1, 7, 5, 3});
  const Conv2dLayerOptions to_same{.kernel_size = 3, .stride = 3, .same = true};
  const Conv2d same(4, 3, to_same);
  const std::vector<Tensor> branches = {random_tensor({1, 4, 7, 4}, 1, DType::kFloat32)};
  for (const auto& [pad_h, pad_w] : {std::pair<int64_t, int64_t>{1, 2}, {3, 1}}) {
    const FuseLevelsOptions levels{.out_h = 4, .out_w = 7, .pad_h = pad_h, .pad_w = pad_w};
    Conv2d plain(4, 3, to_same);
    plain.load_state_dict(same.state_dict());
    check_close(same.forward_fused(branches, levels), plain(fuse_levels(branches, levels)), 1e-6);
  }
}

TEST_CASE("a linear layer begins uniform within 1 over the root of its inputs, the bias too", "[layers]") {
  const InitRandom random(5);
  const Linear layer(64, 4000);
  for (const Tensor& values : {layer.weight(), layer.bias()}) {
    CHECK(max(reshape(abs(values), {-1}), 0).item() <= 0.125);
    CHECK(var(values, {}, false).item() == Approx(0.125 * 0.125 / 3).epsilon(0.05));
  }
  CHECK(Linear(64, 10).macs({}, Tensor::zeros({3, 10})) == 3 * 10 * 64);
}

TEST_CASE("batch norm's own eps counts, and a reset is the state it began with", "[layers]") {
  const Tensor x = random_tensor({2, 3, 3, 2}, 1, DType::kFloat32);
  BatchNorm2d wide(2, {.eps = 3, .relu = true}), usual(2);
  for (const bool training : {true, false}) {
    wide.train(training);
    const Tensor y = wide(x), mean_now = training ? mean(x, {0, 1, 2}, true) : wide.running_mean(),
                 var_now = training ? var(x, {0, 1, 2}, false, true) : wide.running_var();
    check_close(y, relu(div(sub(x, mean_now), sqrt(var_now + 3.0))), 1e-5);
  }
  usual(x);
  usual.reset_running_stats();
  CHECK(bit_equal(usual.running_mean(), Tensor::zeros({2})));
  CHECK(bit_equal(usual.running_var(), Tensor::full({2}, 1)));
  CHECK(usual.batches_tracked() == 0);
  usual.set_momentum(std::nullopt);  // the plain average
  usual(x);
  usual(x * 3.0);
  check_close(usual.running_mean(), mean(x, {0, 1, 2}) * 2.0, 1e-6);
}

TEST_CASE("batch norm refuses an eps and a momentum that give no variance", "[layers]") {
  for (const BatchNorm2dOptions& bad : {BatchNorm2dOptions{.eps = -1}, BatchNorm2dOptions{.eps = NAN}, BatchNorm2dOptions{.momentum = 7},
                                        BatchNorm2dOptions{.momentum = -0.1}}) {
    CHECK_THROWS_WITH(BatchNorm2d(3, bad), Catch::Contains("eps must be 0 or more, momentum 0 to 1"));
  }
  CHECK_NOTHROW(BatchNorm2d(3, {.eps = 0, .momentum = 1}));
  CHECK_NOTHROW(BatchNorm2d(3, {.momentum = std::nullopt}));
}

TEST_CASE("upsampling by a factor resizes each side by it", "[layers]") {
  const Tensor x = random_tensor({1, 4, 6, 2}, 1, DType::kFloat32);
  for (const bool align : {true, false}) CHECK(bit_equal(Upsample(1.5, align)(x), resize_bilinear(x, 6, 9, align)));
}

TEST_CASE("a drop path keeps or drops whole samples, each for itself", "[layers]") {
  const InitRandom random(2);
  Dropout path(0.5, Dropout::Kind::kSample);
  const Tensor y = path(Tensor::full({64, 2, 3, 1}, 1));
  int kept = 0;
  for (int64_t n = 0; n < 64; ++n) {
    for (int64_t i = 0; i < 6; ++i) CHECK(y.value_at(6 * n + i) == y.value_at(6 * n));
    CHECK((y.value_at(6 * n) == 0 || y.value_at(6 * n) == 2));
    kept += y.value_at(6 * n) != 0;
  }
  CHECK(std::abs(kept - 32) < 20);
}

TEST_CASE("convolutions and norms in order: fused in evaluation unless somebody looks, the same either way", "[layers]") {
  const InitRandom random(4);
  Conv2d first(2, 3, {.kernel_size = 3, .padding = 1}), second(3, 3, {});
  BatchNorm2d norm(3, {.relu = true}), last(3);
  const Tensor x = random_tensor({2, 5, 5, 2}, 1, DType::kFloat32);
  const std::vector<Layer*> layers = {&first, &norm, &second, &last};
  for (const bool training : {true, false}) {
    for (Layer* layer : layers) layer->train(training);
    std::vector<Layer*> seen;
    Tensor watched;
    {
      const LayerObserver observer([&](Layer& layer, const Tensor&, const Tensor&) { seen.push_back(&layer); });
      watched = forward_in_order(layers, x);
    }
    CHECK(seen == layers);
    const Tensor y = forward_in_order(layers, x);
    check_close(y, last(second(norm(first(x)))), 1e-5);
    check_close(watched, y, 1e-5);
    const Tensor h = first(x);
    const auto shortcut = [&] { return h; };
    check_close(conv_norm_add_relu(second, last, h, shortcut), relu(add(last(second(h)), h)), 1e-5);
  }
}

TEST_CASE("convolution modules keep the size at any dilation, and end in ReLU", "[layers]") {
  const InitRandom random(6);
  const Tensor x = random_tensor({2, 9, 8, 4}, 1, DType::kFloat32);
  ConvModule module(4, 6, 3, 2);
  DepthwiseSeparableConvModule separable(4, 6, 3, 2);
  const auto norm_relu = [](const Tensor& y) {  // of a new batch norm in training
    return relu(div(sub(y, mean(y, {0, 1, 2}, true)), sqrt(var(y, {0, 1, 2}, false, true) + 1e-5)));
  };
  const Tensor expected = norm_relu(conv2d(x, module.conv().weight(), {}, Conv2dOptions().padding(2).dilation(2)));
  check_close(module(x), expected, 1e-5);
  const std::vector<Tensor> weights = separable.parameters();
  REQUIRE(weights[0].shape() == Shape{4, 3, 3, 1});
  const Tensor deep = norm_relu(conv2d(x, weights[0], {}, Conv2dOptions().padding(2).dilation(2).set_groups(4)));
  check_close(separable(x), norm_relu(conv2d(deep, weights[3], {}, {})), 1e-4);
}

TEST_CASE("an activation needs a function", "[layers]") {
  CHECK_THROWS_WITH(Activation(nullptr, "mine"), Catch::Contains("no function") && Catch::Contains("mine"));
}
