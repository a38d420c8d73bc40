// The decode heads: mmsegmentation's parameter counts, fusion sites, sizes, and what they refuse.
#include <set>
#include <string>

#include "autograd/node.h"
#include "layers/calibration.h"
#include "models/heads/aspp_head.h"
#include "models/heads/fcn_head.h"
#include "models/heads/psp_head.h"
#include "models/heads/uper_head.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

const std::vector<int64_t> kResNet50{256, 512, 1024, 2048}, kW18{18, 36, 72, 144};

ModelOptions classes(int64_t count, const char* equalizer = "off") {
  ModelOptions options;
  options.num_classes = count;
  options.equalizer.mode = equalizer;
  return options;
}

HeadOptions fcn_hrnet() {
  return {.type = "fcn",
          .channels = 270,
          .input_transform = "resize_concat",
          .num_convs = 1,
          .kernel_size = 1,
          .concat_input = false,
          .dropout = -1};
}

int64_t count_under(const Module& module, const std::string& prefix) {
  int64_t total = 0;
  for (const auto& parameter : module.named_parameters()) {
    if (parameter.name.starts_with(prefix)) total += parameter.tensor.numel();
  }
  return total;
}

// Of mmcv's ConvModule and DepthwiseSeparableConvModule: filters, then gamma and beta.
constexpr int64_t conv_module(int64_t in, int64_t out, int64_t kernel) { return in * out * kernel * kernel + 2 * out; }
constexpr int64_t separable(int64_t in, int64_t out) { return 9 * in + 2 * in + conv_module(in, out, 1); }
constexpr int64_t kClassifier150 = 512 * 150 + 150;

using Names = std::vector<std::string>;

// "site: branch, branch up" in the order of use; "up": upsampled.
Names sites_of(Module& head) {
  Names sites;
  for (const auto& entry : head.named_modules()) {
    const auto* site = dynamic_cast<FusionSite*>(entry.module);
    if (!site) continue;
    std::string text = entry.name;
    for (const auto& branch : site->branches()) {
      text += (&branch == &site->branches()[0] ? ": " : ", ") + branch.name + (branch.upsampled ? " up" : "");
    }
    sites.push_back(text);
  }
  return sites;
}

}  // namespace

TEST_CASE("PSPHead has mmsegmentation's parameter counts", "[models][heads]") {
  PSPHead head({.type = "psp"}, kResNet50, classes(150));
  CHECK(count_under(head, "psp_modules.") == 4198400);
  CHECK(count_under(head, "bottleneck.") == 18875392);
  CHECK(head.parameter_count() == 4198400 + 18875392 + kClassifier150);
  CHECK(head.parameter_count() == 23150742);  // tools/torch_heads.py's
}

TEST_CASE("ASPPHead has mmsegmentation's parameter counts", "[models][heads]") {
  ASPPHead head({.type = "aspp"}, kResNet50, classes(150));
  CHECK(count_under(head, "image_pool.") == conv_module(2048, 512, 1));
  CHECK(count_under(head, "aspp_modules.") == conv_module(2048, 512, 1) + 3 * conv_module(2048, 512, 3));
  CHECK(count_under(head, "bottleneck.") == conv_module(2560, 512, 3));
  CHECK(head.parameter_count() == 42288278);
}

TEST_CASE("DepthwiseSeparableASPPHead has mmsegmentation's parameter counts", "[models][heads]") {
  DepthwiseSeparableASPPHead head({.type = "sep_aspp"}, kResNet50, classes(150));
  CHECK(count_under(head, "aspp_modules.") == conv_module(2048, 512, 1) + 3 * separable(2048, 512));
  CHECK(count_under(head, "c1_bottleneck.") == conv_module(256, 48, 1));
  CHECK(count_under(head, "sep_bottleneck.") == separable(512 + 48, 512) + separable(512, 512));
  CHECK(head.parameter_count() == 17765126);
  const auto state = head.state_dict();
  CHECK(state.at("aspp_modules.1.depthwise_conv.conv.weight").shape() == Shape{2048, 1, 3, 3});
  CHECK(state.at("aspp_modules.1.pointwise_conv.bn.weight").shape() == Shape{512});
  CHECK(state.at("sep_bottleneck.1.pointwise_conv.conv.weight").shape() == Shape{512, 512, 1, 1});
}

TEST_CASE("FCNHead on HRNet has mmsegmentation's parameter counts", "[models][heads]") {
  FCNHead head(fcn_hrnet(), kW18, classes(19));
  CHECK(count_under(head, "convs.0.") == conv_module(270, 270, 1));
  CHECK(head.parameter_count() == conv_module(270, 270, 1) + 270 * 19 + 19);
}

TEST_CASE("every fusion of the heads is a site, its branches in mmsegmentation's order", "[models][heads]") {
  const ModelOptions model = classes(4, "explicit");
  PSPHead psp({.type = "psp", .channels = 8}, {4, 8}, model);
  CHECK(sites_of(psp) == Names{"ppm_fusion: level 1, pool 1 up, pool 2 up, pool 3 up, pool 6 up"});
  ASPPHead aspp({.type = "aspp", .channels = 8, .dilations = {1, 6}}, {4, 8}, model);
  CHECK(sites_of(aspp) == Names{"aspp_fusion: image pool up, dilation 1, dilation 6"});
  DepthwiseSeparableASPPHead sep({.type = "sep_aspp", .channels = 8, .dilations = {1}, .c1_channels = 2}, {4, 8}, model);
  CHECK(sites_of(sep) == Names{"aspp_fusion: image pool up, dilation 1", "c1_fusion: pyramid up, level 0"});
  FCNHead fcn({.type = "fcn", .channels = 8, .input_transform = "resize_concat", .concat_input = true}, {4, 8}, model);
  CHECK(sites_of(fcn) == Names{"input_fusion: level 0, level 1 up", "concat_fusion: level 0, level 1 up, convs"});
  FCNHead single({.type = "fcn", .channels = 8}, {4, 8}, model);
  CHECK(sites_of(single) == Names{"concat_fusion: level 1, convs"});
  CHECK(modules_of<ScaleEqualizer>(single).empty());
  for (Module* head : std::initializer_list<Module*>{&psp, &aspp, &sep, &fcn}) {
    size_t branches = 0;
    for (const FusionSite* site : modules_of<FusionSite>(*head)) branches += site->branches().size();
    CHECK(modules_of<ScaleEqualizer>(*head).size() == branches);
  }
}

TEST_CASE("equalizer.sites: the others are left alone, a name that is none is refused", "[models][heads]") {
  for (const char* mode : {"explicit", "folded_lr", "batch_norm"}) {
    ModelOptions options = classes(3, mode);
    options.backbone.width = 4;
    options.decode_head = {.type = "uper", .channels = 4};
    options.auxiliary_head = {.type = "psp", .channels = 4};
    options.equalizer.sites = {"ppm_fusion"};
    const InitRandom random(3);
    EncoderDecoder model(options);
    for (const FusionSite* site : modules_of<FusionSite>(model)) {
      CAPTURE(mode, site->path());
      const bool named = site->path().ends_with("ppm_fusion");
      CHECK(site->equalizes(site->branches()[0]) == named);
    }
    const CalibrationReport report = calibrate_equalizers(model, [&](int64_t i) { model.forward(random_tensor({2, 64, 64, 3}, i).to(DType::kFloat32)); });
    CHECK(report.branches.size() == (std::string(mode) == "batch_norm" ? 0 : 10));  // five of each head
    options.equalizer.sites = {"ppm_fusion", "top_up"};
    CHECK_THROWS_WITH(EncoderDecoder(options), Catch::Contains("top_up") && Catch::Contains("top_down"));
  }
}

TEST_CASE("the sums of a top-down path are equalized where equalizer.sites names them, and only there", "[models][heads]") {
  ModelOptions options = classes(3, "explicit");
  options.backbone.width = 4;
  options.decode_head = {.type = "uper", .channels = 4};
  options.equalizer.measure = "in_turn";
  options.equalizer.batches = 1;
  const auto state = [](const ModelOptions& of) {
    const InitRandom random(3);
    std::set<std::string> names;
    for (const auto& [name, value] : EncoderDecoder(of).state_dict()) names.insert(name);
    return names;
  };
  const std::set<std::string> plain = state(options);
  options.equalizer.sites = {"ppm_fusion", "top_down", "fpn_fusion"};
  const std::set<std::string> with_sums = state(options);
  std::set<std::string> wanted = plain;
  for (const char* sum : {"0", "1", "2"}) {
    for (const char* branch : {"0", "1"}) {
      for (const char* constant : {"mean", "std"}) {
        wanted.insert(std::string("decode_head.top_down.") + sum + ".equalizers." + branch + "." + constant);
      }
    }
  }
  CHECK(with_sums == wanted);

  const InitRandom random(3);
  EncoderDecoder model(options);
  const Tensor images = random_tensor({2, 64, 64, 3}, 4).to(DType::kFloat32);
  const CalibrationReport report = calibrate_equalizers(model, [&](int64_t) { model.forward(images); });
  std::vector<std::string> order;
  for (const auto& branch : report.branches) {
    if (order.empty() || order.back() != branch.site) order.push_back(branch.site);
  }
  CHECK(order == std::vector<std::string>{"decode_head.ppm_fusion", "decode_head.top_down.2", "decode_head.top_down.1",
                                          "decode_head.top_down.0", "decode_head.fpn_fusion"});
  options.equalizer.mode = "folded";
  CHECK_THROWS_WITH(EncoderDecoder(options), Catch::Contains("leave sums out of equalizer.sites"));
}

TEST_CASE("equalizers of every head's sites fold into the weights", "[models][heads]") {
  const InitRandom random(3, DType::kFloat64);
  NoGradGuard no_grad;
  for (const HeadOptions& head : std::initializer_list<HeadOptions>{{.type = "psp", .channels = 4},
                                                                    {.type = "aspp", .channels = 4, .dilations = {1, 3}},
                                                                    {.type = "sep_aspp", .channels = 4, .dilations = {1, 3}},
                                                                    {.type = "fcn", .channels = 4, .input_transform = "resize_concat"}}) {
    INFO(head.type);
    ModelOptions options = classes(3, "explicit");
    options.backbone.width = 4;
    options.decode_head = head;
    EncoderDecoder model(options);
    double value = 0.3;
    for (FusionSite* site : modules_of<FusionSite>(model)) {
      std::vector<BranchConstants> constants;
      for (size_t i = 0; i < site->branches().size(); ++i, value += 0.1) constants.push_back({{value}, {1 / value}});
      site->set_constants(constants);
    }
    model.eval();
    const Tensor images = random_tensor({1, 67, 45, 3}, 5);
    const Tensor before = model.forward(images).logits;
    for (FusionSite* site : modules_of<FusionSite>(model)) site->fold();
    check_close(model.forward(images).logits, before, 1e-12);
    CHECK(modules_of<ScaleEqualizer>(model).empty());
  }
}

TEST_CASE("heads give scores at their finest level's size, for pictures of any size", "[models][heads]") {
  struct Case {
    HeadOptions head;
    bool finest;  // reads level 0
  };
  const Case cases[] = {{{.type = "psp", .channels = 8}, false},
                        {{.type = "aspp", .channels = 8}, false},
                        {{.type = "sep_aspp", .channels = 8}, true},
                        {{.type = "uper", .channels = 8}, true},
                        {{.type = "fcn", .channels = 8, .input_transform = "resize_concat"}, true},
                        {{.type = "fcn", .channels = 8, .in_index = {-2}}, false}};
  NoGradGuard no_grad;
  for (const char* backbone : {"resnet", "mobilenet_v1", "hrnet", "swin", "twins"}) {
    for (const Case& c : cases) {
      INFO(backbone << " " << c.head.type);
      ModelOptions options = classes(5);
      options.backbone.type = backbone;
      options.backbone.width = 4;
      if (options.backbone.type != "resnet" && options.backbone.type != "hrnet") options.backbone.multiplier = 0.125;
      options.decode_head = c.head;
      EncoderDecoder model(options);
      const Tensor images = random_tensor({2, 67, 45, 3}, 1, DType::kFloat32);
      const auto logits = model.forward(images).logits;
      if (c.finest) CHECK(logits.shape() == Shape{2, 17, 12, 5});
      if (c.head.type == "psp") CHECK(logits.shape() == Shape{2, 3, 2, 5});
      model.eval();
      CHECK(model.predict(images).shape() == Shape{2, 67, 45, 5});
    }
  }
}

TEST_CASE("a pooled branch that batch norm cannot normalise is named", "[models][heads]") {
  // One picture: the branch pooled to 1x1 has a single value per channel.
  const std::pair<const char*, const char*> cases[] = {{"aspp", "decode_head.image_pool.1.bn"},
                                                       {"sep_aspp", "decode_head.image_pool.1.bn"},
                                                       {"psp", "decode_head.psp_modules.0.1.bn"},
                                                       {"uper", "decode_head.psp_modules.0.1.bn"}};
  for (const auto& [type, layer] : cases) {
    ModelOptions options = classes(3);
    options.backbone.width = 4;
    options.decode_head = {.type = type, .channels = 4};
    EncoderDecoder model(options);
    const Tensor image = random_tensor({1, 64, 64, 3}, 1, DType::kFloat32);
    try {
      model.forward(image);
      FAIL("nothing was thrown");
    } catch (const UsageError& error) {
      CHECK_THAT(error.where(), Catch::Contains(layer) && Catch::Contains("N*H*W = 1"));
      CHECK_THAT(error.try_this(), Catch::Contains("larger batch"));
    }
    model.eval();
    CHECK_NOTHROW(model.forward(image));
  }
}

TEST_CASE("a level is upsampled where it arrives smaller, not where its number is larger", "[models][heads]") {
  const HeadOptions heads[] = {{.type = "uper", .channels = 8, .pool_scales = {1, 2}},
                               {.type = "uper", .channels = 8, .in_index = {2, 3}, .pool_scales = {1, 2}},
                               {.type = "sep_aspp", .channels = 8, .dilations = {1, 2}, .c1_level = 1},
                               {.type = "fcn", .channels = 8, .in_index = {1, 2, 3}, .input_transform = "resize_concat"}};
  NoGradGuard no_grad;
  for (const int stride : {8, 16, 32}) {
    for (const HeadOptions& head : heads) {
      INFO(head.type << ", output stride " << stride);
      ModelOptions options = classes(3);
      options.backbone.width = 4;
      options.backbone.output_stride = stride;
      options.decode_head = head;
      options.equalizer = {.mode = "explicit", .inputs = "upsampled"};
      EncoderDecoder model(options);
      int seen = 0;
      for (LevelSite* site : modules_of<LevelSite>(model)) {
        site->set_observer([&](const LevelSite::Visit& visit) {
          ++seen;
          for (size_t i = 0; i < visit.features.size(); ++i) {
            INFO(visit.site.path() << ", " << visit.site.branches()[i].name);
            CHECK(visit.site.branches()[i].upsampled == (visit.features[i].size(1) < visit.out_h));
          }
        });
      }
      model.forward(random_tensor({2, 128, 128, 3}, 1, DType::kFloat32));
      CHECK(seen > 0);
    }
  }
}

TEST_CASE("heads refuse options that do not fit them", "[models][heads]") {
  const ModelOptions model = classes(3);
  CHECK_THROWS_AS(PSPHead({.type = "psp", .in_index = {0, 1}}, kW18, model), UsageError);
  CHECK_THROWS_AS(ASPPHead({.type = "aspp", .in_index = {4}}, kW18, model), UsageError);
  CHECK_THROWS_AS(DepthwiseSeparableASPPHead({.type = "sep_aspp", .c1_level = 4}, kW18, model), UsageError);
  CHECK_THROWS_AS(FCNHead({.type = "fcn", .in_index = {0, 1}}, kW18, model), UsageError);
  CHECK_THROWS_WITH(UPerHead({.type = "uper", .channels = 8, .in_index = {3, 2, 1, 0}}, kW18, model), Catch::Contains("in_index"));
  CHECK_THROWS_AS(UPerHead({.type = "uper", .channels = 8, .in_index = {0, 0, 0}}, kW18, model), UsageError);
  CHECK_NOTHROW(UPerHead({.type = "uper", .channels = 8, .in_index = {0, -1}}, kW18, model));
  CHECK_THROWS_AS(FCNHead({.type = "fcn", .input_transform = "multiple_select"}, kW18, model), UsageError);
  CHECK_THROWS_AS(FCNHead({.type = "fcn", .channels = 270, .input_transform = "resize_concat", .num_convs = 0}, kW18, model), UsageError);
}

TEST_CASE("model.upsampling is that of every site of every head", "[models][heads]") {
  const InitRandom random(3);
  for (const HeadOptions& head : std::initializer_list<HeadOptions>{{.type = "uper", .channels = 4},
                                                                    {.type = "psp", .channels = 4},
                                                                    {.type = "aspp", .channels = 4, .dilations = {1, 3}},
                                                                    {.type = "sep_aspp", .channels = 4, .dilations = {1, 3}},
                                                                    {.type = "fcn", .channels = 4, .input_transform = "resize_concat"}}) {
    CAPTURE(head.type);
    ModelOptions options = classes(3);
    options.backbone.width = 4;
    options.decode_head = head;
    options.upsampling = "nearest";
    EncoderDecoder model(options);
    size_t visited = 0;
    for (LevelSite* site : modules_of<LevelSite>(model)) {
      site->set_observer([&](const LevelSite::Visit& visit) { visited += visit.upsampling().is_nearest(); });
    }
    model.eval();
    model.forward(random_tensor({1, 64, 64, 3}, 5).to(DType::kFloat32));
    CHECK(visited == modules_of<LevelSite>(model).size());
    options.upsampling = "nearst";
    CHECK_THROWS_WITH(EncoderDecoder(options), Catch::Contains("there is no choice 'nearst'") && Catch::Contains("did you mean 'nearest'"));
  }
}
