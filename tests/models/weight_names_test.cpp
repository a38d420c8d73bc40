// Weights under other libraries' names: the names, the order of patch merging, what load_pretrained says, and these libraries' own networks
// (tools/published_goldens.py writes tests/golden), whose levels a backbone with their weights must give.
#include "models/weight_names.h"

#include <nlohmann/json.hpp>
#include <set>

#include "autograd/node.h"
#include "core/safetensors.h"
#include "hashed_weights.h"
#include "models/backbones/convnext.h"
#include "models/backbones/resnet.h"
#include "models/backbones/swin.h"
#include "models/backbones/twins.h"
#include "models/pretrained.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

using State = std::map<std::string, Tensor>;

const BackboneOptions kSwin{.type = "swin", .multiplier = 0.0625}, kConvNeXt{.type = "convnext", .multiplier = 0.0625};
const BackboneOptions kResNet{.depth = 18, .stem = "v1c", .width = 8};

std::unique_ptr<Backbone> build(const BackboneOptions& options) {
  const InitRandom random(1, DType::kFloat64);
  if (options.type == "swin") return std::make_unique<SwinTransformer>(options);
  if (options.type == "convnext") return std::make_unique<ConvNeXt>(options);
  return std::make_unique<ResNet>(options);
}

bool is_level_norm(const std::string& name) { return name.starts_with("norm"); }

// What a file of ImageNet weights for `net` has under the names of `dialect`: no norms of levels, a classifier.
State imagenet_file(const Backbone& net, Dialect dialect) {
  State file;
  for (const auto& [name, value] : net.state_dict()) {
    if (!is_level_norm(name)) {
      file[name_in(dialect, name).name] = value.dtype() == DType::kFloat64 ? initial_value(name, value.shape()) : value;
    }
  }
  file["head.fc.weight"] = Tensor::zeros({2, 48});
  return file;
}

struct Loaded {
  std::string note, error;  // one of them
  State before, after;
};

Loaded load(Backbone& net, const State& state, const char* mode) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "weights.safetensors";
  write_safetensors(file, state);
  Loaded loaded;
  for (const auto& [name, value] : net.state_dict()) loaded.before[name] = value.clone();
  try {
    loaded.note = load_pretrained(net, file, mode);
  } catch (const DataError& error) {
    loaded.error = error.what();
  }
  loaded.after = net.state_dict();
  return loaded;
}

bool same_bits(const State& a, const State& b) {
  return std::all_of(a.begin(), a.end(), [&](const auto& entry) { return bit_equal(entry.second, b.at(entry.first)); });
}

}  // namespace

TEST_CASE("each library has its names for a backbone's tensors", "[models]") {
  const std::tuple<const char*, const char*, const char*, const char*> names[] = {
      {"patch_embed.projection.weight", "patch_embed.proj.weight", "patch_embed.proj.weight", "features.0.0.weight"},
      {"patch_embed.norm.bias", "patch_embed.norm.bias", "patch_embed.norm.bias", "features.0.2.bias"},
      {"stages.2.blocks.5.attn.w_msa.qkv.bias", "layers.2.blocks.5.attn.qkv.bias", "layers.2.blocks.5.attn.qkv.bias",
       "features.5.5.attn.qkv.bias"},
      {"stages.0.blocks.1.attn.w_msa.relative_position_bias_table", "layers.0.blocks.1.attn.relative_position_bias_table",
       "layers.0.blocks.1.attn.relative_position_bias_table", "features.1.1.attn.relative_position_bias_table"},
      {"stages.2.blocks.17.ffn.layers.0.0.bias", "layers.2.blocks.17.mlp.fc1.bias", "layers.2.blocks.17.mlp.fc1.bias",
       "features.5.17.mlp.0.bias"},
      {"stages.3.blocks.0.ffn.layers.1.bias", "layers.3.blocks.0.mlp.fc2.bias", "layers.3.blocks.0.mlp.fc2.bias",
       "features.7.0.mlp.3.bias"},
      {"stages.1.blocks.0.norm2.weight", "layers.1.blocks.0.norm2.weight", "layers.1.blocks.0.norm2.weight", "features.3.0.norm2.weight"},
      {"stages.0.downsample.reduction.weight", "layers.1.downsample.reduction.weight", "layers.0.downsample.reduction.weight",
       "features.2.reduction.weight"},
      {"downsample_layers.0.1.weight", "stem.1.weight", "downsample_layers.0.1.weight", "features.0.1.weight"},
      {"downsample_layers.3.0.bias", "stages.3.downsample.0.bias", "downsample_layers.3.0.bias", "features.6.0.bias"},
      {"stages.2.26.depthwise_conv.weight", "stages.2.blocks.26.conv_dw.weight", "stages.2.26.dwconv.weight",
       "features.5.26.block.0.weight"},
      {"stages.0.0.norm.bias", "stages.0.blocks.0.norm.bias", "stages.0.0.norm.bias", "features.1.0.block.2.bias"},
      {"stages.3.2.pointwise_conv1.weight", "stages.3.blocks.2.mlp.fc1.weight", "stages.3.2.pwconv1.weight", "features.7.2.block.3.weight"},
      {"stages.1.1.pointwise_conv2.bias", "stages.1.blocks.1.mlp.fc2.bias", "stages.1.1.pwconv2.bias", "features.3.1.block.5.bias"},
      {"stages.1.2.gamma", "stages.1.blocks.2.gamma", "stages.1.2.gamma", "features.3.2.layer_scale"},
      {"stem.6.weight", "conv1.6.weight", "stem.6.weight", "stem.6.weight"},
      {"stem.7.running_var", "bn1.running_var", "stem.7.running_var", "stem.7.running_var"},
      {"layer2.0.downsample.1.bias", "layer2.0.downsample.1.bias", "layer2.0.downsample.1.bias", "layer2.0.downsample.1.bias"},
      {"norm2.weight", "norm2.weight", "norm2.weight", "norm2.weight"}};
  for (const auto& [ours, timm, original, torchvision] : names) {
    CHECK(name_in(Dialect::kOurs, ours).name == ours);
    CHECK(name_in(Dialect::kTimm, ours).name == timm);
    CHECK(name_in(Dialect::kOriginal, ours).name == original);
    CHECK(name_in(Dialect::kTorchvision, ours).name == torchvision);
    CHECK(name_in(Dialect::kTimm, ours).merges_patches == std::string(ours).starts_with("stages.0.downsample"));
  }
  for (const BackboneOptions& options : {kSwin, kConvNeXt, kResNet}) {
    const auto net = build(options);
    for (const Dialect dialect : {Dialect::kTimm, Dialect::kOriginal, Dialect::kTorchvision}) {
      std::set<std::string> theirs;
      for (const auto& [name, value] : net->state_dict()) theirs.insert(name_in(dialect, name).name);
      CHECK(theirs.size() == net->state_dict().size());
      const bool has_names = options.type != "resnet" || dialect == Dialect::kTimm;
      CHECK(recognise(imagenet_file(*net, dialect), net->state_dict()) == (has_names ? dialect : Dialect::kOurs));
    }
    CHECK(recognise({}, net->state_dict()) == Dialect::kOurs);
  }
}

TEST_CASE("patch merging's channels are taken from the others' order to unfold's", "[models]") {
  constexpr int64_t kRows = 2, kChannels = 3;
  Tensor theirs = Tensor::empty({kRows, 4 * kChannels}), ours = Tensor::empty({kRows, 4 * kChannels});
  const std::pair<int, int> blocks[] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}};  // (row, column)
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t c = 0; c < kChannels; ++c) {
      for (int64_t block = 0; block < 4; ++block) {
        const auto [row, column] = blocks[block];
        const float value = float(1000 * i + 100 * c + 10 * row + column);
        theirs.data<float>()[i * 4 * kChannels + block * kChannels + c] = value;
        ours.data<float>()[i * 4 * kChannels + c * 4 + row * 2 + column] = value;
      }
    }
  }
  CHECK(bit_equal(unfold_order(theirs), ours));
  CHECK(bit_equal(unfold_order(reshape(slice(theirs, 0, 1, 2), {4 * kChannels})), reshape(slice(ours, 0, 1, 2), {4 * kChannels})));
}

TEST_CASE("axes of length 1 are no difference, others are", "[models]") {
  CHECK(same_values({6, 1, 1}, {6}));
  CHECK(same_values({24, 6, 1, 1}, {24, 6}));
  CHECK(same_values({}, {1}));
  CHECK(!same_values({6, 24}, {24, 6}));
  CHECK(!same_values({12, 1, 1}, {6}));

  // mmpretrain's own ConvNeXt has pointwise layers as convolutions, too.
  const auto net = build(kConvNeXt);
  State file = imagenet_file(*net, Dialect::kOurs);
  for (auto& [name, value] : file) {
    if (name.find("pointwise_conv") != std::string::npos && name.ends_with("weight")) {
      value = reshape(value, {value.size(0), value.size(1), 1, 1});
    }
  }
  const Loaded loaded = load(*net, file, "backbone");
  CHECK_THAT(loaded.note, Catch::StartsWith("loaded 178/186, missing: norm0.weight"));
  const std::string name = "stages.0.0.pointwise_conv1.weight";
  CHECK(bit_equal(loaded.after.at(name).to(DType::kFloat32), initial_value(name, {24, 6})));
}

TEST_CASE("a file of ImageNet weights loads but for the levels' norms, and strictly says how", "[models]") {
  for (const BackboneOptions& options : {kSwin, kConvNeXt}) {
    const int missing = 8, all = options.type == "swin" ? 177 : 186;
    const std::string counts = "loaded " + std::to_string(all - missing) + "/" + std::to_string(all);
    for (const Dialect dialect : {Dialect::kOurs, Dialect::kTimm, Dialect::kOriginal, Dialect::kTorchvision}) {
      const std::string whose = dialect == Dialect::kOurs ? "" : " (" + owner(dialect) + " names)";
      const auto net = build(options);
      const State file = imagenet_file(*net, dialect);
      const Loaded strict = load(*net, file, "strict");
      CHECK_THAT(strict.error, Catch::Contains(counts + whose + ", missing: norm0.weight, norm0.bias, "));
      CHECK_THAT(strict.error, Catch::Contains("--load-mode backbone (model.backbone.load_mode) loads these " +
                                               std::to_string(all - missing) + "; what is"));
      CHECK(same_bits(strict.before, strict.after));
      const Loaded loaded = load(*net, file, "backbone");
      CHECK_THAT(loaded.note, Catch::StartsWith(counts + whose + ", missing: norm0.weight, "));
      CHECK_THAT(loaded.note, Catch::EndsWith("(8 in all); not used: head.fc.weight"));
      for (const auto& [name, value] : loaded.after) {
        INFO(name);
        const bool kept = is_level_norm(name) || !is_floating(value.dtype());
        CHECK(bit_equal(value, loaded.before.at(name)) == kept);
      }
    }
  }
}

TEST_CASE("what another library's file lacks is named in our names and in its own", "[models]") {
  const auto net = build(kSwin);
  State file = imagenet_file(*net, Dialect::kTimm);
  std::erase_if(file,
                [](const auto& entry) { return entry.first.starts_with("layers.3.") || entry.first.ends_with("relative_position_index"); });
  // As many names are the original repository's, but fewer shapes fit.
  CHECK_THAT(load(*net, file, "backbone").note, Catch::StartsWith("loaded 140/177 (timm's names), missing: stages.2.downsample.norm.weight "
                                                                  "(timm's layers.3.downsample.norm.weight), "));

  file = imagenet_file(*net, Dialect::kTorchvision);
  file["features.3.1.attn.relative_position_index"] = Tensor::zeros({2401}, DType::kInt64);  // flat there
  CHECK_THAT(load(*net, file, "backbone").note, Catch::StartsWith("loaded 169/177 (torchvision's names), missing: norm0"));
  file.erase("features.2.reduction.weight");
  const Loaded broken = load(*net, file, "strict");
  CHECK_THAT(broken.error, Catch::Contains("missing: stages.0.downsample.reduction.weight (torchvision's features.2.reduction.weight)") &&
                               Catch::Contains("up to the first missing one"));
  CHECK(same_bits(broken.before, broken.after));

  BackboneOptions wider = kSwin;
  wider.multiplier *= 2;
  const Loaded wrong = load(*build(wider), imagenet_file(*net, Dialect::kOriginal), "backbone");
  CHECK_THAT(wrong.error, Catch::Contains("(the original repository's names), of another form: patch_embed.projection.weight "
                                          "([12, 3, 4, 4]; the file's patch_embed.proj.weight has [6, 3, 4, 4])"));
  CHECK_THAT(wrong.error, Catch::Contains("check model.backbone: its type, depth, stem, multiplier or variant"));
  CHECK_THAT(load(*build(kConvNeXt), imagenet_file(*net, Dialect::kTimm), "backbone").error,
             Catch::Contains("loaded 0/186, missing: downsample_layers.0.0.weight,"));
}

TEST_CASE("a file of another network is refused however much of it fits", "[models]") {
  const auto tiny = build(kSwin);
  BackboneOptions small = kSwin;
  small.variant = "small";
  const State deeper = imagenet_file(*build(small), Dialect::kTimm), shallower = imagenet_file(*tiny, Dialect::kTimm);
  const Loaded more = load(*tiny, deeper, "backbone");
  CHECK_THAT(more.error, Catch::Contains("not used: ") && Catch::Contains("layers.2.blocks.") && Catch::Contains("check model.backbone"));
  CHECK(same_bits(more.before, more.after));
  CHECK_THAT(load(*build(small), shallower, "backbone").error,
             Catch::Contains("loaded 140/333 (timm's names), missing: stages.2.blocks.6."));

  State file = shallower;
  file["layers.0.blocks.1.attn_mask"] = Tensor::zeros({4});  // the original repository's files have such tables
  CHECK_THAT(load(*tiny, file, "backbone").note, Catch::StartsWith("loaded 169/177 (timm's names), missing: norm0.weight"));
  file["layers.1.blocks.0.norm1.weight"] = transpose(Tensor::zeros({6, 4}), 0, 1);
  CHECK_THAT(
      load(*tiny, file, "backbone").error,
      Catch::Contains("of another form: stages.1.blocks.0.norm1.weight ([12]; the file's layers.1.blocks.0.norm1.weight has [4, 6])"));
  file["layers.1.blocks.0.norm1.weight"] = Tensor::zeros({12}, DType::kInt32);
  CHECK_THAT(load(*tiny, file, "backbone").error, Catch::Contains("has int32"));
  file["layers.1.blocks.0.norm1.weight"] = Tensor::full({12}, NAN);
  CHECK_THAT(load(*tiny, file, "backbone").error, Catch::Contains("NaN or infinity: layers.1.blocks.0.norm1.weight"));
}

TEST_CASE("wrappers in front of all names are taken off", "[models]") {
  const auto net = build(kSwin);
  for (const char* wrapper : {"module.", "model.", "module.model.", "module.backbone."}) {
    State wrapped;
    for (const auto& [name, value] : imagenet_file(*net, Dialect::kOurs)) wrapped[wrapper + name] = value;
    CHECK_THAT(load(*net, wrapped, "backbone").note, Catch::StartsWith("loaded 169/177, missing: norm0.weight"));
  }
}

TEST_CASE("what lies behind a missing layer is what uses it, whatever the order of registration", "[models]") {
  const auto behind = [](const BackboneOptions& options, const char* lost) {
    std::unique_ptr<Backbone> net;
    if (options.type == "twins") net = std::make_unique<Twins>(options);
    else net = std::make_unique<ConvNeXt>(options);
    State file;
    for (const auto& [name, value] : net->state_dict()) file[name] = Tensor::full(value.shape(), 7);
    file.erase(lost);
    const Loaded loaded = load(*net, file, "backbone");
    CHECK_THAT(loaded.note, Catch::Contains(std::string("missing: ") + lost));
    return [state = loaded.after](const char* name) { return state.at(name).value_at(0) != 7; };
  };
  const auto convnext = behind(kConvNeXt, "stages.2.8.gamma");
  for (const char* before : {"downsample_layers.2.0.weight", "stages.1.2.gamma", "stages.2.7.gamma"}) CHECK_FALSE(convnext(before));
  for (const char* later : {"downsample_layers.3.0.weight", "stages.3.0.gamma", "norm0.weight"}) CHECK(convnext(later));
  const auto twins = behind({.type = "twins", .multiplier = 0.0625}, "layers.3.3.norm2.weight");
  for (const char* before : {"position_encodings.3.proj.weight", "norm_list.2.weight", "layers.3.2.norm2.weight"}) {
    CHECK_FALSE(twins(before));
  }
  for (const char* later : {"norm_list.3.weight", "layers.3.3.ffn.layers.1.weight"}) CHECK(twins(later));
}

TEST_CASE("golden: other libraries' weights give their networks' levels", "[models][golden]") {
  const std::tuple<const char*, BackboneOptions, const char*> networks[] = {
      {"timm_swin", kSwin, "loaded 169/177 (timm's names), missing: norm0.weight"},
      {"original_swin", kSwin, "loaded 169/177 (the original repository's names), missing: norm0.weight"},
      {"torchvision_swin", kSwin, "loaded 169/177 (torchvision's names), missing: norm0.weight"},
      {"timm_convnext", kConvNeXt, "loaded 178/186 (timm's names), missing: norm0.weight"},
      {"original_convnext", kConvNeXt, "loaded 178/186 (the original repository's names), missing: norm0.weight"},
      {"torchvision_convnext", kConvNeXt, "loaded 178/186 (torchvision's names), missing: norm0.weight"},
      {"timm_resnet", kResNet, "loaded 132/132 (timm's names); not used: fc.bias, fc.weight"}};
  for (const auto& [name, options, note] : networks) {
    INFO(name);
    const WeightsFile golden = read_safetensors(std::string(EQ_GOLDEN_DIR "/") + name + ".safetensors");
    State file;
    const auto listed = nlohmann::json::parse(golden.metadata.at("state"));
    for (const auto& [theirs, extents] : listed.items()) {
      const Shape shape(extents.get<std::vector<int64_t>>());
      const bool is_integer = theirs.ends_with("relative_position_index") || theirs.ends_with("num_batches_tracked");
      file[theirs] = is_integer ? Tensor::zeros(shape, DType::kInt64) : initial_value(theirs, shape);
    }
    const auto net = build(options);
    CHECK_THAT(load(*net, file, "backbone").note, Catch::StartsWith(note));

    const NoGradGuard no_grad;
    net->eval();
    const int64_t height = std::stoll(golden.metadata.at("height")), width = std::stoll(golden.metadata.at("width"));
    const std::vector<Tensor> levels = net->forward(permute(4.0 * hashed("images", {1, 3, height, width}) - 2.0, {0, 2, 3, 1}));
    REQUIRE(levels.size() == 4);
    for (size_t i = 0; i < levels.size(); ++i) {
      const Tensor& expected = golden.tensors.at("level" + std::to_string(i));
      const int64_t channels = levels[i].size(3);
      REQUIRE(expected.shape() == Shape{(levels[i].size(1) + 4) / 5, (levels[i].size(2) + 4) / 5, channels});
      Tensor picked = Tensor::empty(expected.shape(), DType::kFloat64);  // every fifth pixel
      for (int64_t at = 0; at < picked.numel(); ++at) {
        const int64_t h = at / channels / picked.size(1) * 5, w = at / channels % picked.size(1) * 5;
        picked.data<double>()[at] = levels[i].value_at((h * levels[i].size(2) + w) * channels + at % channels);
      }
      INFO("level " << i);
      check_close(picked, expected, 1e-9);
    }
  }
}
