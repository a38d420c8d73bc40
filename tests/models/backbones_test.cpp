// MobileNet V1 and HRNet: published parameter counts, level sizes, pretrained weights.
#include <map>
#include <string>

#include "autograd/node.h"
#include "backbone_support.h"
#include "core/safetensors.h"
#include "datasets/image.h"
#include "models/backbones/hrnet.h"
#include "models/backbones/mobilenet_v1.h"
#include "models/backbones/resnet.h"
#include "models/pretrained.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

BackboneOptions mobilenet(double multiplier, int output_stride = 32) {
  return {.type = "mobilenet_v1", .multiplier = multiplier, .output_stride = output_stride};
}

std::string refusal(MobileNetV1& net, const std::filesystem::path& file, const char* mode) {
  try {
    load_pretrained(net, file, mode);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("MobileNet V1 has the published parameter counts without the classifier", "[models]") {
  // Keras's totals less the running statistics, 21888 at width 1.
  const std::pair<double, int64_t> published[] = {
      {1, 3228864 - 21888}, {0.75, 1832976 - 16416}, {0.5, 829536 - 10944}, {0.25, 218544 - 5472}};
  for (const auto& [multiplier, count] : published) CHECK(MobileNetV1(mobilenet(multiplier)).parameter_count() == count);
  CHECK_THROWS_AS(MobileNetV1(mobilenet(0.01)), UsageError);
  CHECK_THROWS_AS(MobileNetV1(mobilenet(1, 64)), UsageError);
}

TEST_CASE("MobileNet V1 gives levels at strides 4 to 32, dilated below the output stride", "[models]") {
  MobileNetV1 net(mobilenet(0.25));
  CHECK(level_shapes(net, 67, 45) == std::vector<Shape>{{1, 17, 12, 32}, {1, 9, 6, 64}, {1, 5, 3, 128}, {1, 3, 2, 256}});
  MobileNetV1 sixteen(mobilenet(0.125, 16)), eight(mobilenet(0.125, 8));
  CHECK(level_shapes(sixteen, 64, 64) == std::vector<Shape>{{1, 16, 16, 16}, {1, 8, 8, 32}, {1, 4, 4, 64}, {1, 4, 4, 128}});
  CHECK(level_shapes(eight, 64, 64) == std::vector<Shape>{{1, 16, 16, 16}, {1, 8, 8, 32}, {1, 8, 8, 64}, {1, 8, 8, 128}});
}

TEST_CASE("SAME padding puts an odd share at the bottom and right", "[models]") {
  // A filter that picks its centre shows where the windows lie: at stride 2 an even axis starts one further than an odd one.
  Conv2d conv(1, 1, {.kernel_size = 3, .stride = 2, .bias = false, .same = true});
  Tensor weight = conv.weight();
  NoGradGuard no_grad;
  weight.fill_(0);
  weight.data<float>()[4] = 1;
  const auto picked = [&](int64_t size) {
    Tensor x = Tensor::empty({1, size, size, 1});
    for (int64_t i = 0; i < size * size; ++i) x.data<float>()[i] = float(i % size);
    return slice(conv(x), 1, 0, 1).to_vector<float>();
  };
  CHECK(picked(6) == std::vector<float>{1, 3, 5});
  CHECK(picked(5) == std::vector<float>{0, 2, 4});
}

TEST_CASE("HRNets have mmsegmentation's parameter counts and levels", "[models]") {
  // tools/torch_backbones.py's; with FCNHead and 19 classes 9.64 million, as published for W18.
  const InitZeros quickly;
  for (const auto& [variant, count] :
       std::map<std::string, int64_t>{{"w18", 9562260}, {"w32", 29305536}, {"w40", 45521216}, {"w48", 65325120}}) {
    CHECK(HRNet({.type = "hrnet", .variant = variant}).parameter_count() == count);  // timm's too, without its classifier
  }
  HRNet small({.type = "hrnet", .variant = "w18_small"});
  CHECK(small.parameter_count() == 3860720);
  CHECK(level_shapes(small, 64, 96) == std::vector<Shape>{{1, 16, 24, 18}, {1, 8, 12, 36}, {1, 4, 6, 72}, {1, 2, 3, 144}});
  CHECK(level_shapes(small, 67, 45) == std::vector<Shape>{{1, 17, 12, 18}, {1, 9, 6, 36}, {1, 5, 3, 72}, {1, 3, 2, 144}});
  CHECK_THROWS_AS(HRNet({.type = "hrnet", .variant = "w20"}), UsageError);
}

TEST_CASE("pretrained weights load strictly, or up to the first layer that is missing", "[models]") {
  TemporaryFolder folder;
  const auto file = folder.path() / "weights.safetensors";
  MobileNetV1 source(mobilenet(0.125));
  auto state = source.state_dict();
  for (auto& [name, value] : state) value.fill_(0.5);
  std::erase_if(state, [](const auto& entry) { return entry.first.ends_with("num_batches_tracked"); });  // as Keras's
  const auto net = [] { return std::make_unique<MobileNetV1>(mobilenet(0.125)); };

  write_safetensors(file, state, {});
  CHECK(load_pretrained(*net(), file, "strict") == "loaded 135/135");
  CHECK_THROWS_AS(load_pretrained(*net(), file, "loose"), UsageError);

  state["conv_preds.bias"] = Tensor::zeros({7});
  write_safetensors(file, state, {});
  CHECK_THAT(refusal(*net(), file, "strict"), Catch::Contains("not used: conv_preds.bias") && Catch::Contains("--load-mode backbone"));
  CHECK(load_pretrained(*net(), file, "backbone") == "loaded 135/135; not used: conv_preds.bias");

  state.erase("conv_preds.bias");
  state.erase("conv_pw_12.weight");
  write_safetensors(file, state, {});
  auto partial = net();
  CHECK_THAT(refusal(*partial, file, "strict"), Catch::Contains("missing: conv_pw_12.weight"));
  CHECK_THAT(load_pretrained(*partial, file, "backbone"),
             Catch::Contains("loaded 120/135, missing: conv_pw_12.weight; behind it, left at their initial values: conv_pw_12_bn.weight") &&
                 Catch::Contains("(14 in all)"));
  const auto loaded = partial->state_dict(), fresh = net()->state_dict();
  CHECK(loaded.at("conv_dw_12_bn.running_var").value_at(0) == 0.5);
  CHECK(loaded.at("conv_pw_12_bn.running_var").value_at(0) == 1);
  CHECK(loaded.at("conv_dw_13.weight").value_at(0) != 0.5);

  CHECK_THAT(refusal(*std::make_unique<MobileNetV1>(mobilenet(0.25)), file, "backbone"),
             Catch::Contains("loaded 0/") && Catch::Contains("conv1.weight"));
}

TEST_CASE("a whole network's file starts a backbone", "[models]") {
  TemporaryFolder folder;
  const auto file = folder.path() / "network.safetensors";
  ModelOptions options;
  options.num_classes = 3;
  options.backbone = mobilenet(0.125);
  options.decode_head = {.type = "fcn", .channels = 4};
  const InitRandom random(7);
  EncoderDecoder network(options);
  write_safetensors(file, network.state_dict(), {});
  options.backbone.pretrained = file.string();
  options.decode_head = {.type = "psp", .channels = 4};
  EncoderDecoder other(options);
  CHECK(other.pretrained_note() == file.string() + ": loaded 162/162");
  CHECK(bit_equal(other.state_dict().at("backbone.conv_pw_13.weight"), network.state_dict().at("backbone.conv_pw_13.weight")));
}

TEST_CASE("ImageNet's MobileNet V1 weights give PyTorch's features on a real picture", "[models][golden]") {
  EQ_NEED_SHARED_DATA();
  const WeightsFile golden = read_safetensors(EQ_GOLDEN_DIR "/mobilenet_v1_picture.safetensors");
  const Image picture = read_image(shared_data() / golden.metadata.at("picture"));
  Tensor images = Tensor::empty({1, picture.height, picture.width, 3}, DType::kFloat64);
  for (int64_t i = 0; i < images.numel(); ++i) images.data<double>()[i] = double(picture.pixels[size_t(i)]) / 127.5 - 1;

  const std::tuple<const char*, double, const char*, const char*> files[] = {
      {"mobilenet_v1_0.25_224_imagenet_no_top", 0.25, "strict", "loaded 135/135"},
      {"mobilenet_v1_1.0_224_imagenet_no_pw13", 1, "backbone", "loaded 130/135, missing: conv_pw_13.weight; behind it"}};
  size_t compared = 0;
  for (const auto& [weights, multiplier, mode, note] : files) {
    INFO(weights);
    const InitRandom random(0, DType::kFloat64);
    MobileNetV1 net(mobilenet(multiplier));
    const auto file = shared_data() / "pretrained" / (std::string(weights) + ".safetensors");
    if (std::string(mode) == "backbone") CHECK_THAT(refusal(net, file, "strict"), Catch::Contains("missing: conv_pw_13.weight"));
    CHECK_THAT(load_pretrained(net, file, mode), Catch::StartsWith(note));
    net.eval();
    NoGradGuard no_grad;
    const auto levels = net.forward(images);
    for (size_t i = 0; i < levels.size(); ++i) {
      const auto expected = golden.tensors.find(std::string(weights) + ".level" + std::to_string(i));
      if (expected == golden.tensors.end()) continue;  // behind the missing layer
      const Tensor level = permute(levels[i], {0, 3, 1, 2});
      const int64_t channels = level.size(1), height = level.size(2), width = level.size(3);
      REQUIRE(expected->second.shape() == Shape{channels, (height + 22) / 23, (width + 22) / 23});
      double worst = 0;
      int64_t at = 0;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t h = 0; h < height; h += 23) {
          for (int64_t w = 0; w < width; w += 23) {
            worst = std::max(worst, std::abs(level.value_at((c * height + h) * width + w) - expected->second.value_at(at++)));
          }
        }
      }
      CHECK(worst < 1e-9);
      ++compared;
    }
  }
  CHECK(compared == 7);
}

TEST_CASE("a backbone in evaluation computes each convolution and its norm at once: the same bits", "[models]") {
  const InitRandom random(4);
  const std::pair<const char*, std::shared_ptr<Backbone>> all[] = {
      {"ResNet-18", std::make_shared<ResNet>(BackboneOptions{.depth = 18, .stem = "v1", .width = 8})},
      {"ResNet-50", std::make_shared<ResNet>(BackboneOptions{.depth = 50, .width = 8, .output_stride = 8})},
      {"MobileNet V1", std::make_shared<MobileNetV1>(mobilenet(0.25))},
      {"HRNet", std::make_shared<HRNet>(BackboneOptions{.type = "hrnet", .variant = "w18_small"})}};
  for (const auto& [name, net] : all) {
    INFO(name);
    const NoGradGuard no_grad;
    const Tensor images = random_tensor({2, 64, 96, 3}, 5, DType::kFloat32);
    net->train();
    for (int i = 0; i < 3; ++i) net->forward(images);  // running statistics other than 0 and 1
    net->eval();
    const auto check_same = [&, &net = net] {
      const std::vector<Tensor> first = net->forward(images);
      const std::vector<Tensor> again = net->forward(images);  // with what was kept of the weights
      int layers = 0;
      const LayerObserver observer([&](Layer&, const Tensor&, const Tensor&) { ++layers; });
      const std::vector<Tensor> one_by_one = net->forward(images);
      CHECK(layers > 20);
      for (size_t i = 0; i < first.size(); ++i) {
        CHECK(bit_equal(first[i], one_by_one[i]));
        CHECK(bit_equal(again[i], one_by_one[i]));
      }
      return first[0];
    };
    const Tensor before = check_same();
    for (Tensor parameter : net->parameters()) parameter.mul_(1.25);
    CHECK(!bit_equal(check_same(), before));
  }
}
