// Twins: published parameter counts, level sizes, what attention sees, refusals. Whole networks: network_golden_test.cpp.
#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "backbone_support.h"
#include "core/errors.h"
#include "models/backbones/twins.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

BackboneOptions twins(const std::string& variant, double multiplier) {
  return {.type = "twins", .multiplier = multiplier, .variant = variant};
}

// The attention of a window's pixels to each other and to nothing else, head by head: x [1, h, w, C] of one window, padded nowhere.
Tensor attended(Layer& layer, const Tensor& x, int64_t heads) {
  const auto weights = layer.state_dict();
  const int64_t pixels = x.size(1) * x.size(2), channels = x.size(3), depth = channels / heads;
  const Tensor qkv = linear(reshape(x, {pixels, channels}), weights.at("qkv.weight"), weights.at("qkv.bias"));
  std::vector<Tensor> mixed;
  for (int64_t head = 0; head < heads; ++head) {
    const auto part = [&](int64_t i) { return slice(qkv, 1, i * channels + head * depth, i * channels + (head + 1) * depth); };
    mixed.push_back(matmul(softmax(matmul(part(0), transpose(part(1), 0, 1)) / std::sqrt(double(depth))), part(2)));
  }
  return reshape(linear(concat(mixed, 1), weights.at("proj.weight"), weights.at("proj.bias")), x.shape());
}

Tensor part_of(const Tensor& map, int64_t top, int64_t bottom, int64_t left, int64_t right) {
  return slice(slice(map, 1, top, bottom), 2, left, right);
}

std::string refusal(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("Twins has the published parameter counts without the classifier", "[models]") {
  // timm's totals less the 1000-way classifier and the norm before it; SVT with mmsegmentation's norms of the stages, of 1 + 2 + 4 + 8
  // times the first stage's channels.
  const std::tuple<const char*, int64_t, int64_t, int64_t> published[] = {
      {"svt_small", 24060776, 512, 64}, {"svt_base", 56070952, 768, 96}, {"svt_large", 99271400, 1024, 128},
      {"pcpvt_small", 24106216, 512, 0}, {"pcpvt_base", 43828456, 512, 0}, {"pcpvt_large", 60989672, 512, 0}};
  for (const auto& [variant, total, last, first] : published) {
    INFO(variant);
    CHECK(published_count<Twins>(twins(variant, 1)) == total - 1000 * (last + 1) - 2 * last + 2 * 15 * first);
  }
}

TEST_CASE("Twins gives levels at strides 4 to 32, rounded up", "[models]") {
  const NoGradGuard no_grad;
  const std::pair<const char*, std::vector<int64_t>> families[] = {{"svt_small", {4, 8, 16, 32}}, {"pcpvt_small", {4, 8, 20, 32}}};
  for (const auto& [variant, channels] : families) {
    Twins net(twins(variant, 0.0625));
    net.eval();
    CHECK(net.level_channels() == channels);
    const auto check_sizes = [&, &channels = channels](int64_t height, int64_t width,
                                                       const std::vector<std::pair<int64_t, int64_t>>& sizes) {
      const std::vector<Tensor> levels = net.forward(Tensor::zeros({2, height, width, 3}));
      for (size_t i = 0; i < 4; ++i) CHECK(levels[i].shape() == Shape{2, sizes[i].first, sizes[i].second, channels[i]});
    };
    check_sizes(67, 45, {{17, 12}, {9, 6}, {5, 3}, {3, 2}});
    check_sizes(29, 224, {{8, 56}, {4, 28}, {2, 14}, {1, 7}});
    CHECK(net.smallest_side() == 29);
  }
}

TEST_CASE("local attention sees the pixels of its window and no padding", "[models]") {
  const InitRandom random(5, DType::kFloat64);
  const int64_t heads = 2, channels = 8;
  LocallyGroupedSelfAttention layer(channels, heads);
  const NoGradGuard no_grad;
  uint64_t seed = 7;
  for (Tensor value : layer.parameters()) value.copy_(random_tensor(value.shape(), ++seed));
  // Padded nowhere, on one side, on both.
  const std::pair<int64_t, int64_t> sizes[] = {{7, 14}, {14, 10}, {10, 14}, {3, 7}, {10, 9}, {2, 3}};
  for (const auto& [height, width] : sizes) {
    INFO(height << " x " << width);
    const Tensor x = random_tensor({2, height, width, channels}, 3), y = layer(x);
    REQUIRE(y.shape() == x.shape());
    for (int64_t n = 0; n < 2; ++n) {
      for (int64_t top = 0; top < height; top += 7) {
        for (int64_t left = 0; left < width; left += 7) {
          const auto window = [&](const Tensor& map) {
            return part_of(slice(map, 0, n, n + 1), top, std::min(top + 7, height), left, std::min(left + 7, width));
          };
          check_close(window(y), attended(layer, window(x), heads), 1e-12);
        }
      }
    }
  }
}

TEST_CASE("global attention reads a pixel through the subsampled map alone", "[models]") {
  // With one key for the whole map every pixel gets the same value; the rest that the stride leaves is not read.
  const InitRandom random(6);
  const NoGradGuard no_grad;
  GlobalSubsampledAttention layer(8, 2, 4);
  const Tensor x = random_tensor({1, 6, 7, 8}, 1, DType::kFloat32), y = layer(x);
  check_close(y, expand(part_of(y, 0, 1, 0, 1), y.shape()), 1e-6);
  Tensor other = random_tensor({1, 6, 7, 8}, 2, DType::kFloat32);
  const Tensor square = part_of(x, 0, 4, 0, 4);
  const Tensor around = concat({concat({square, part_of(other, 0, 4, 4, 7)}, 2), part_of(other, 4, 6, 0, 7)}, 1);
  check_close(layer(around), y, 1e-6);
  CHECK(scaled_difference(layer(other), y) > 1e-4);
}

TEST_CASE("Twins refuses what it does not know", "[models]") {
  CHECK_THAT(refusal([] { Twins net(twins("svt_smal", 1)); }),
             Catch::Contains("there is no twins 'svt_smal'") && Catch::Contains("model.backbone.variant") &&
                 Catch::Contains("did you mean 'svt_small'"));
  CHECK_THAT(refusal([] { Twins net(twins("svt_base", 0.015625)); }),
             Catch::Contains("leaves the first stage 2 channels") && Catch::Contains("model.backbone.multiplier") &&
                 Catch::Contains("multiple of 3"));
  CHECK(backbone_name(twins("pcpvt_base", 1)) == "twins_pcpvt_base");
}
