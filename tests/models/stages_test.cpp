// Swin and ConvNeXt: published parameter counts, level sizes, masks, stochastic depth, refusals. Whole networks: network_golden_test.cpp.
#include <thread>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "backbone_support.h"
#include "core/errors.h"
#include "core/kernels/windows.h"
#include "models/backbones/convnext.h"
#include "models/backbones/swin.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

BackboneOptions staged(const char* type, const std::string& variant, double multiplier) {
  return {.type = type, .multiplier = multiplier, .variant = variant};
}

template <class Network>
std::string refusal_of(const BackboneOptions& options) {
  try {
    Network network(options);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("Swin and ConvNeXt have the published parameter counts without the classifier", "[models]") {
  // timm's totals without a classifier, with the levels' four norms in place of the last one.
  const auto level_norms = [](int64_t first) { return 2 * first * (15 - 8); };
  const std::tuple<const char*, int64_t, int64_t> swin[] = {{"tiny", 27519354, 96}, {"small", 48837258, 96}, {"base", 86743224, 128}};
  for (const auto& [variant, total, first] : swin) {
    CHECK(published_count<SwinTransformer>(staged("swin", variant, 1)) == total + level_norms(first));
  }
  const std::tuple<const char*, int64_t, int64_t> convnext[] = {{"tiny", 27820128, 96}, {"small", 49454688, 96}, {"base", 87566464, 128}};
  for (const auto& [variant, total, first] : convnext) {
    CHECK(published_count<ConvNeXt>(staged("convnext", variant, 1)) == total + level_norms(first));
  }
}

TEST_CASE("Swin's levels are rounded up, ConvNeXt's down", "[models]") {
  SwinTransformer swin(staged("swin", "", 0.0625));
  CHECK(level_shapes(swin, 67, 45) == std::vector<Shape>{{1, 17, 12, 6}, {1, 9, 6, 12}, {1, 5, 3, 24}, {1, 3, 2, 48}});
  CHECK(level_shapes(swin, 1, 1) == std::vector<Shape>{{1, 1, 1, 6}, {1, 1, 1, 12}, {1, 1, 1, 24}, {1, 1, 1, 48}});
  ConvNeXt convnext(staged("convnext", "", 0.0625));
  CHECK(level_shapes(convnext, 67, 45) == std::vector<Shape>{{1, 16, 11, 6}, {1, 8, 5, 12}, {1, 4, 2, 24}, {1, 2, 1, 48}});
  CHECK(level_shapes(convnext, 32, 32)[3] == Shape{1, 1, 1, 48});
}

TEST_CASE("a picture that is too small for its backbone is refused in a user's words", "[models]") {
  const NoGradGuard no_grad;
  for (const auto& [type, side] : {std::pair<const char*, int64_t>{"convnext", 32}, {"twins", 29}, {"swin", 1}}) {
    ModelOptions options;
    options.backbone = staged(type, "", 0.0625);
    options.decode_head = {.type = "fcn", .channels = 4};
    options.num_classes = 2;
    EncoderDecoder network(options);
    network.eval();
    CHECK_NOTHROW(network.forward(Tensor::zeros({1, side, side + 3, 3})));
    if (side == 1) continue;
    CHECK_THROWS_WITH(
        network.forward(Tensor::zeros({1, side - 1, 64, 3})),
        Catch::Contains("64 x " + std::to_string(side - 1)) && Catch::Contains("needs " + std::to_string(side) + " pixels a side"));
  }
}

TEST_CASE("Swin's shifted windows mask what was not near before the roll", "[models]") {
  // The test of the definition: two cells of a window may attend to each other where their pixels, of the padded image, are as near as
  // their cells.
  constexpr int64_t kSize = WindowConstants::kSize, kShift = WindowConstants::kShift, kCells = WindowConstants::kCells;
  WindowConstants constants;
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{14, 21}, {9, 7}, {5, 30}}) {
    INFO(height << " x " << width);
    const Shape image{2, height, width, 3};
    const WindowGrid grid(image, kSize, kShift);
    const Tensor mask = constants.mask(Tensor::zeros({1}), image);
    REQUIRE(mask.shape() == Shape{grid.h.count * grid.w.count, 1, kCells, kCells});
    bool right = true;
    for (int64_t at = 0; at < mask.numel(); ++at) {
      const int64_t window = at / (kCells * kCells), query = at / kCells % kCells, key = at % kCells;
      const auto near = [&](const WindowAxis& axis, int64_t first, int64_t a, int64_t b) {
        return axis.pixel(first + a) - axis.pixel(first + b) == a - b;
      };
      const bool together = near(grid.h, window / grid.w.count * kSize, query / kSize, key / kSize) &&
                            near(grid.w, window % grid.w.count * kSize, query % kSize, key % kSize);
      right = right && mask.value_at(at) == (together ? 0 : -100);
    }
    CHECK(right);
    CHECK(constants.mask(Tensor::zeros({1}), image).raw_data() == mask.raw_data());  // kept
    CHECK(constants.mask(Tensor::zeros({1}, DType::kFloat64), image).dtype() == DType::kFloat64);
  }
}

TEST_CASE("drop path leaves out a picture's whole path, in training only", "[models]") {
  Dropout path(0.25, Dropout::Kind::kSample);
  const Tensor x = Tensor::full({400, 2, 3, 2}, 3, DType::kFloat64).set_requires_grad();
  path.set_stream(7, 1);
  const Tensor y = path(x);
  int kept = 0;
  for (int64_t n = 0; n < 400; ++n) {
    const double first = y.value_at(n * 12);
    kept += first != 0;
    CHECK((first == 0 || first == 3 / 0.75));
    for (int64_t i = 1; i < 12; ++i) REQUIRE(y.value_at(n * 12 + i) == first);
  }
  CHECK(kept > 270);
  CHECK(kept < 330);
  sum(y).backward();
  check_close(3.0 * x.grad(), y, 1e-15);
  CHECK(bit_equal(path(x), y));
  path.set_stream(7, 2);
  CHECK(!bit_equal(path(x), y));
  path.eval();
  CHECK(bit_equal(path(x), x));
}

TEST_CASE("stochastic depth rises evenly over the blocks", "[models]") {
  BackboneOptions options = staged("convnext", "tiny", 0.0625);
  options.drop_path = 0.34;
  ConvNeXt net(options);
  std::vector<std::string> rates;
  for (const Dropout* path : modules_of<Dropout>(net)) rates.push_back(path->description());
  REQUIRE(rates.size() == 18);
  CHECK(rates[0] == "");  // never
  CHECK(rates[1] == "drop path 0.02");
  CHECK(rates[9] == "drop path 0.18");
  CHECK(rates[17] == "drop path 0.34");
}

TEST_CASE("threads share a Swin in evaluation, also where it meets a size for the first time", "[models]") {
  const auto make = [] {
    const InitRandom weights(2);
    auto net = std::make_unique<SwinTransformer>(staged("swin", "", 0.0625));
    net->eval();
    return net;
  };
  const auto level = [](SwinTransformer& net, int64_t side) {
    const NoGradGuard no_grad;
    return net.forward(random_tensor({1, side, side, 3}, uint64_t(side), DType::kFloat32))[3];
  };
  const std::vector<int64_t> sides{32, 64, 96, 128, 160, 192};
  const auto shared = make(), alone = make();
  std::vector<Tensor> levels(sides.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < sides.size(); ++i) threads.emplace_back([&, i] { levels[i] = level(*shared, sides[i]); });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < sides.size(); ++i) CHECK(bit_equal(levels[i], level(*alone, sides[i])));
}

TEST_CASE("a key of several backbones changes nothing in one that does not read it", "[models]") {
  ModelOptions options;
  options.decode_head = {.type = "fcn", .channels = 4};
  options.num_classes = 2;
  for (const auto& [plain, more] :
       {std::pair{staged("swin", "", 0.0625), BackboneOptions{.output_stride = 8}},
        std::pair{BackboneOptions{.depth = 18, .width = 8}, BackboneOptions{.variant = "tiny", .drop_path = 0.2}}}) {
    options.backbone = plain;
    const InitRandom random(1);
    const auto before = EncoderDecoder(options).state_dict();
    options.backbone.output_stride = more.output_stride == 8 ? 8 : plain.output_stride;
    options.backbone.drop_path = more.drop_path;
    if (!more.variant.empty()) options.backbone.variant = more.variant;
    CHECK(backbone_name(options.backbone) == backbone_name(plain));
    const InitRandom again(1);
    const auto after = EncoderDecoder(options).state_dict();
    REQUIRE(after.size() == before.size());
    for (const auto& [name, value] : before) CHECK(bit_equal(after.at(name), value));
  }
}

TEST_CASE("Swin and ConvNeXt refuse what they do not know", "[models]") {
  CHECK_THAT(refusal_of<SwinTransformer>(staged("swin", "tinny", 1)), Catch::Contains("there is no swin 'tinny'") &&
                                                                          Catch::Contains("model.backbone.variant") &&
                                                                          Catch::Contains("did you mean 'tiny'"));
  CHECK_THAT(refusal_of<SwinTransformer>(staged("swin", "", 0.01)), Catch::Contains("leaves the first stage 1 channels") &&
                                                                        Catch::Contains("model.backbone.multiplier") &&
                                                                        Catch::Contains("multiple of 3"));
  CHECK_THAT(refusal_of<ConvNeXt>(staged("convnext", "large", 1)), Catch::Contains("there is no convnext 'large'"));
  CHECK_THAT(refusal_of<ConvNeXt>(staged("convnext", "", 0.001)), Catch::Contains("leaves the first stage 0 channels"));
}
