#include "training/unread_keys.h"

#include <algorithm>

#include "support.h"

using namespace eq;

namespace {

std::vector<std::string> unread(const std::vector<std::string>& settings) { return unread_keys(parse_config("{}", "test", settings)); }

}  // namespace

TEST_CASE("a key that has no effect is named, with what it is for", "[config]") {
  const std::vector<std::string> psp = unread({"model.decode_head.type=psp", "model.decode_head.input_transform=resize_concat"});
  REQUIRE(psp.size() == 1);
  CHECK(psp[0] == "model.decode_head.input_transform has no effect here: it is for an fcn head");
  CHECK(unread({"model.decode_head.type=fcn", "model.decode_head.input_transform=resize_concat"}).empty());

  const std::vector<std::vector<std::string>> cases = {
      {"pipeline.max_class_share=0.5", "pipeline.crop=null"},
      {"model.backbone.stem=v1", "model.backbone.type=swin"},
      {"model.backbone.depth=50", "model.backbone.type=mobilenet_v1"},
      {"model.backbone.drop_path=0.2", "model.backbone.type=resnet"},
      {"model.backbone.multiplier=0.5", "model.backbone.type=hrnet"},
      {"model.backbone.variant=w18", "model.backbone.type=resnet"},
      {"model.backbone.output_stride=8", "model.backbone.type=swin"},
      {"train.keep_best=true", "train.evaluate_every=0"},
      {"model.backbone.load_mode=backbone", "model.backbone.pretrained="},
      {"equalizer.mode=explicit", "model.decode_head.type=fcn"},
      {"model.upsampling=nearest", "model.decode_head.type=fcn"},
      {"equalizer.inputs=upsampled", "equalizer.mode=off"},
      {"equalizer.granularity=channel", "equalizer.mode=l2_norm"},
      {"equalizer.batches=4", "equalizer.mode=explicit", "equalizer.constants=analytic"},
      {"equalizer.refresh=100", "equalizer.mode=off"},
      {"train.aux_weight=0.5", "model.auxiliary_head=null"},
      {"optimizer.nesterov=true", "optimizer.type=adamw"},
      {"optimizer.eps=1e-6", "optimizer.type=sgd"},
      {"schedule.power=1", "schedule.type=cosine"},
      {"schedule.min_lr=0", "schedule.type=constant"},
      {"schedule.warmup_ratio=0.1", "schedule.warmup_iterations=0"},
      {"probes.layers=false", "probes.every=0"},
      {"model.decode_head.pool_scales=[1]", "model.decode_head.type=aspp"},
      {"model.decode_head.dilations=[1]", "model.decode_head.type=psp"},
      {"model.decode_head.c1_channels=8", "model.decode_head.type=aspp"},
      {"model.auxiliary_head.num_convs=3", "model.auxiliary_head.type=psp"},
  };
  for (const std::vector<std::string>& settings : cases) {
    // The first setting is the one without effect.
    const std::vector<std::string> sentences = unread(settings);
    INFO(settings[0]);
    REQUIRE(sentences.size() == 1);
    CHECK(sentences[0].starts_with(settings[0].substr(0, settings[0].find('=')) + " has no effect"));
  }
}

TEST_CASE("values that are hardly meant are named", "[config]") {
  const auto doubtful = [](const std::vector<std::string>& settings) { return doubtful_values(parse_config("{}", "test", settings)); };
  CHECK(doubtful({"schedule.warmup_iterations=999"}).empty());
  REQUIRE(doubtful({"schedule.warmup_iterations=1000"}).size() == 1);
  CHECK(doubtful({"schedule.warmup_iterations=1000"})[0].find("does not end within the run (train.iterations 1000)") != std::string::npos);
  CHECK(doubtful({"train.ohem={}"}).empty());  // whole pictures, of any size
  CHECK(doubtful({"train.ohem.min_kept=100", "pipeline.crop=[10,11]"}).empty());
  REQUIRE(doubtful({"train.ohem={}", "pipeline.crop=[256,256]"}).size() == 1);
  CHECK(doubtful({"train.ohem={}", "pipeline.crop=[256,256]"})[0] ==
        "train.ohem changes nothing: its min_kept 100000 keeps all pixels of a crop of 256 x 256");
  const std::vector<std::string> mobilenet = {"model.backbone.type=mobilenet_v1", "model.backbone.pretrained=m.pth"};
  REQUIRE(doubtful(mobilenet).size() == 1);
  CHECK(doubtful(mobilenet)[0].find("127.5") != std::string::npos);
  std::vector<std::string> right = mobilenet;
  right.insert(right.end(), {"pipeline.mean=[127.5,127.5,127.5]", "pipeline.std=[127.5,127.5,127.5]"});
  CHECK(doubtful(right).empty());
}

TEST_CASE("the recipes have no key without effect", "[config]") {
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(EQ_SOURCE_DIR) / "recipes")) {
    if (entry.path().extension() != ".json") continue;
    INFO(entry.path());
    CHECK(unread_keys(load_config(entry.path())).empty());
    CHECK(doubtful_values(load_config(entry.path())).empty());
  }
}

TEST_CASE("keys that somebody reads are not named", "[config]") {
  const std::vector<std::vector<std::string>> cases = {
      {"equalizer.mode=explicit", "model.decode_head.type=fcn", "model.auxiliary_head.type=psp"},
      {"model.upsampling=nearest", "model.decode_head.type=fcn", "model.auxiliary_head.type=psp"},
      {"model.backbone.multiplier=0.5", "model.backbone.type=mobilenet_v1"},
      {"model.backbone.multiplier=0.5", "model.backbone.variant=tiny", "model.backbone.type=swin"},
      {"model.backbone.output_stride=8", "model.backbone.type=mobilenet_v1"},
      {"model.backbone.output_stride=8", "model.backbone.type=resnet"},
      {"model.decode_head.pool_scales=[1]", "model.decode_head.type=psp"},
      {"model.decode_head.pool_scales=[1]", "model.decode_head.type=uper"},
      {"model.decode_head.dilations=[1]", "model.decode_head.type=aspp"},
      {"model.decode_head.dilations=[1]", "model.decode_head.type=sep_aspp"},
  };
  for (const std::vector<std::string>& settings : cases) {
    CAPTURE(settings);
    CHECK(unread(settings).empty());
  }
  // MobileNet's numbers matter to its published weights only.
  const auto doubtful = [](const std::vector<std::string>& settings) { return doubtful_values(parse_config("{}", "test", settings)); };
  CHECK(doubtful({"model.backbone.type=mobilenet_v1"}).empty());
  CHECK(doubtful({"model.backbone.type=mobilenet_v1", "model.backbone.pretrained=m.pth", "pipeline.mean=[1,2,3]"}).empty());
}
