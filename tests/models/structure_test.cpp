// Structure against mmsegmentation: parameter counts, key names, level sizes.
#include "autograd/node.h"
#include "models/backbones/resnet.h"
#include "models/heads/fcn_head.h"
#include "models/heads/uper_head.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

int64_t count_under(const Module& module, const std::string& prefix) {
  int64_t total = 0;
  for (const auto& parameter : module.named_parameters()) {
    if (parameter.name.rfind(prefix, 0) == 0) total += parameter.tensor.numel();
  }
  return total;
}

ModelOptions classes(int64_t count) {
  ModelOptions options;
  options.num_classes = count;
  return options;
}

}  // namespace

TEST_CASE("UPerHead has mmsegmentation's parameter counts", "[models]") {
  // Swin-T levels, 150 classes.
  UPerHead head({.type = "uper", .channels = 512}, {96, 192, 384, 768}, classes(150));
  CHECK(count_under(head, "psp_modules.") == 1576960);
  CHECK(count_under(head, "bottleneck.") == 12977152);
  CHECK(count_under(head, "lateral_convs.") == 347136);
  CHECK(count_under(head, "fpn_convs.") == 7080960);
  CHECK(count_under(head, "fpn_bottleneck.") == 9438208);
  CHECK(count_under(head, "conv_seg.") == 76950);
  CHECK(head.parameter_count() == 31497366);
}

TEST_CASE("ResNets have the published parameter counts without the classifier", "[models]") {
  // torchvision's totals less the 1000-way classifier.
  const std::pair<int, int64_t> published[] = {
      {18, 11689512 - 513000}, {34, 21797672 - 513000}, {50, 25557032 - 2049000}, {101, 44549160 - 2049000}};
  for (const auto& [depth, count] : published) {
    CHECK(ResNet({.depth = depth, .stem = "v1"}).parameter_count() == count);
  }
  // v1c: three 3x3 convolutions 3-32-32-64 with norms instead of one 7x7 with a norm.
  const int64_t v1_stem = 7 * 7 * 3 * 64 + 128, v1c_stem = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 2 * (32 + 32 + 64);
  CHECK(ResNet({.depth = 18}).parameter_count() == 11689512 - 513000 - v1_stem + v1c_stem);
}

TEST_CASE("key names are mmsegmentation's", "[models]") {
  ModelOptions options = classes(5);
  options.backbone.width = 8;
  options.decode_head.channels = 16;
  options.auxiliary_head = {.type = "fcn", .channels = 8, .in_index = {2}, .num_convs = 1, .concat_input = false};
  EncoderDecoder model(options);
  const auto state = model.state_dict();
  for (const char* key :
       {"backbone.stem.0.weight", "backbone.stem.1.running_mean", "backbone.stem.6.weight", "backbone.stem.7.bias",
        "backbone.layer1.0.conv1.weight", "backbone.layer2.0.downsample.0.weight", "backbone.layer2.0.downsample.1.num_batches_tracked",
        "backbone.layer4.1.bn2.weight", "decode_head.psp_modules.0.1.conv.weight", "decode_head.psp_modules.3.1.bn.running_var",
        "decode_head.bottleneck.conv.weight", "decode_head.lateral_convs.2.bn.weight", "decode_head.fpn_convs.0.conv.weight",
        "decode_head.fpn_bottleneck.bn.bias", "decode_head.conv_seg.weight", "decode_head.conv_seg.bias",
        "auxiliary_head.convs.0.conv.weight", "auxiliary_head.conv_seg.bias"}) {
    INFO(key);
    CHECK(state.count(key) == 1);
  }
  for (const auto& [name, tensor] : state) CHECK(name.find("fusion.") == std::string::npos);  // no keys of our own
  CHECK(state.at("decode_head.fpn_bottleneck.conv.weight").shape() == Shape{16, 64, 3, 3});
}

TEST_CASE("output strides dilate the last stages", "[models]") {
  const std::pair<int, std::vector<int64_t>> expected[] = {{32, {16, 8, 4, 2}}, {16, {16, 8, 4, 4}}, {8, {16, 8, 8, 8}}};
  NoGradGuard no_grad;
  for (const auto& [stride, sizes] : expected) {
    ResNet net({.depth = 50, .width = 4, .output_stride = stride});
    const auto levels = net.forward(Tensor::zeros({2, 64, 64, 3}));
    REQUIRE(levels.size() == 4);
    for (int i = 0; i < 4; ++i) CHECK(levels[i].shape() == Shape{2, sizes[i], sizes[i], 16 << i});
  }
}

TEST_CASE("the segmentor gives scores at stride 4 and the auxiliary ones in training only", "[models]") {
  ModelOptions options = classes(5);
  options.backbone.width = 4;
  options.decode_head.channels = 8;
  options.auxiliary_head = {.type = "fcn", .channels = 8, .in_index = {2}};
  EncoderDecoder model(options);
  const Tensor images = random_tensor({2, 64, 96, 3}, 1, DType::kFloat32);
  const auto output = model.forward(images);
  CHECK(output.logits.shape() == Shape{2, 16, 24, 5});
  CHECK(output.aux_logits.shape() == Shape{2, 4, 6, 5});
  model.eval();
  CHECK_FALSE(model.forward(images).aux_logits.defined());
  CHECK_THROWS_AS(model.predict(Tensor()), ShapeError);
  const Tensor scores = model.predict(images);
  CHECK(scores.shape() == Shape{2, 64, 96, 5});
  model.train();
  model.decode_head().eval();  // a part that does not train
  const auto before = model.state_dict();
  CHECK(bit_equal(model.predict(images), scores));
  for (const auto& [name, tensor] : model.state_dict()) CHECK(bit_equal(tensor, before.at(name)));  // the running statistics, too
  CHECK(model.backbone().is_training());
  CHECK(model.auxiliary_head()->path() == "auxiliary_head");
  CHECK_FALSE(model.decode_head().is_training());
}

TEST_CASE("equalizers do not change the initial weights", "[models]") {
  auto build = [](const char* mode) {
    InitRandom random(5);
    ModelOptions options = classes(4);
    options.backbone.width = 4;
    options.decode_head.channels = 8;
    options.equalizer.mode = mode;
    return EncoderDecoder(options).named_parameters();
  };
  const auto off = build("off"), on = build("explicit");
  REQUIRE(off.size() == on.size());
  for (size_t i = 0; i < off.size(); ++i) {
    CHECK(off[i].name == on[i].name);
    CHECK(bit_equal(off[i].tensor, on[i].tensor));
  }
}

TEST_CASE("unknown names are refused with the nearest known one", "[models]") {
  ModelOptions options = classes(4);
  options.decode_head.type = "upper";
  try {
    EncoderDecoder model(options);
    FAIL("nothing was thrown");
  } catch (const UsageError& error) {
    CHECK(error.try_this().find("did you mean 'uper'") != std::string::npos);
  }
  options.decode_head.type = "uper";
  options.backbone.depth = 19;
  CHECK_THROWS_AS(EncoderDecoder(options), UsageError);
}

TEST_CASE("a network of parts that were made before is the same as one made by their names", "[models]") {
  ModelOptions options = classes(3);
  options.backbone.width = 8;
  options.decode_head.channels = 8;
  options.auxiliary_head = {.type = "fcn", .channels = 8, .num_convs = 1, .concat_input = false};
  const auto parts = [&options] {
    const InitRandom weights(4);
    auto backbone = make_backbone(options.backbone);
    const std::vector<int64_t> channels = backbone->level_channels();
    auto head = make_head(options.decode_head, channels, options);
    auto auxiliary = make_head(options.auxiliary_head, channels, options);
    ModelOptions of_parts = options;
    of_parts.backbone.pretrained = "not read.safetensors";  // the backbone has its weights
    return std::make_unique<EncoderDecoder>(of_parts, std::move(backbone), std::move(head), std::move(auxiliary));
  }();
  const InitRandom weights(4);
  EncoderDecoder whole(options);
  const auto expected = whole.state_dict(), state = parts->state_dict();
  CHECK(state.size() == expected.size());
  for (const auto& [name, tensor] : expected) {
    INFO(name);
    CHECK(bit_equal(state.at(name), tensor));
  }
  CHECK(parts->forward(random_tensor({2, 64, 64, 3}, 1, DType::kFloat32)).aux_logits.defined());
}

namespace {

struct OneLevel : Backbone {
  std::vector<Tensor> forward(const Tensor& images) override { return {images}; }
  std::vector<int64_t> level_channels() const override { return {3, 3}; }
  int64_t smallest_side() const override { return 4; }
};

}  // namespace

TEST_CASE("a backbone of one's own is held to what it says of itself", "[models]") {
  const ModelOptions options = classes(3);
  CHECK_THROWS_WITH(EncoderDecoder(options, std::make_unique<OneLevel>(), nullptr), Catch::Contains("decode head"));
  CHECK_THROWS_WITH(EncoderDecoder(options, nullptr, make_head({.type = "fcn", .channels = 4}, {3}, options)), Catch::Contains("backbone"));
  EncoderDecoder model(options, std::make_unique<OneLevel>(), make_head({.type = "fcn", .channels = 4}, {3, 3}, options));
  CHECK_THROWS_WITH(model.forward(Tensor::zeros({1, 8, 8, 3})), Catch::Contains("gave 1 level, not the 2"));
  struct Narrow : OneLevel {
    std::vector<Tensor> forward(const Tensor& images) override { return {images, slice(images, 3, 0, 2)}; }
  };
  EncoderDecoder narrow(options, std::make_unique<Narrow>(), make_head({.type = "fcn", .channels = 4}, {3, 3}, options));
  CHECK_THROWS_WITH(narrow.forward(Tensor::zeros({1, 8, 8, 3})), Catch::Contains("level 1 is") && Catch::Contains("not [N,h,w,3]"));
  CHECK_THROWS_WITH(model.forward(Tensor::zeros({1, 2, 8, 3})), Catch::Contains("too small for the backbone"));
}

TEST_CASE("a head of one's own gives a score for each class", "[models]") {
  struct Scores : Head {
    int64_t count;
    explicit Scores(int64_t count) : count(count) {}
    Tensor forward(const std::vector<Tensor>& levels) override {
      return count == 0 ? Tensor() : sum(levels[0], {3}, true) * Tensor::zeros({count});
    }
  };
  const auto forward = [](int64_t count, int64_t auxiliary) {
    ModelOptions options = classes(3);
    options.backbone.width = 8;
    EncoderDecoder model(options, make_backbone(options.backbone), std::make_unique<Scores>(count), std::make_unique<Scores>(auxiliary));
    return model.forward(Tensor::zeros({2, 64, 64, 3})).logits;
  };
  CHECK(forward(3, 3).shape() == Shape{2, 16, 16, 3});
  CHECK_THROWS_WITH(forward(7, 3), Catch::Contains("the head gave float32 [2, 16, 16, 7]") && Catch::Contains("not scores [N,h,w,3]"));
  CHECK_THROWS_WITH(forward(0, 3), Catch::Contains("the head gave undefined"));
  CHECK_THROWS_WITH(forward(3, 2), Catch::Contains("auxiliary_head"));
}

TEST_CASE("one class is refused: softmax over it learns nothing", "[models]") {
  CHECK_THROWS_WITH(EncoderDecoder(classes(1)), Catch::Contains("one class"));
  CHECK_THROWS_WITH(EncoderDecoder(classes(256)), Catch::Contains("2 to 255"));
}
