#include "training/unread_keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "layers/scale_equalizer.h"

namespace eq {
namespace {

// Keys of a section that only this reads, and whether the configuration has it.
struct KeyReader {
  std::string section;
  std::vector<std::string> keys;
  bool is_there;
  std::string name;
};

bool fuses_inputs(const HeadOptions& head) { return !head.type.empty() && (head.type != "fcn" || !head.input_transform.empty()); }

std::vector<KeyReader> key_readers(const Config& c) {
  const EqualizerOptions& equalizer = c.model.equalizer;
  const std::string &schedule = c.schedule.type, &backbone = c.model.backbone.type;
  const bool transforms = backbone == "swin" || backbone == "convnext" || backbone == "twins";
  std::vector<KeyReader> readers = {
      {"pipeline", {"max_class_share"}, c.pipeline.crop.has_value(), "crops (pipeline.crop)"},
      {"model.backbone", {"depth", "stem", "width"}, backbone == "resnet", "a resnet"},
      {"model.backbone", {"multiplier"}, backbone == "mobilenet_v1" || transforms, "a mobilenet_v1, swin, convnext or twins"},
      {"model.backbone", {"variant"}, backbone == "hrnet" || transforms, "an hrnet, swin, convnext or twins"},
      {"model.backbone", {"drop_path"}, transforms, "a swin, convnext or twins"},
      {"model.backbone", {"output_stride"}, backbone == "resnet" || backbone == "mobilenet_v1", "a resnet or mobilenet_v1"},
      {"model.backbone", {"load_mode"}, !c.model.backbone.pretrained.empty(), "a file of weights (model.backbone.pretrained)"},
      {"model",
       {"upsampling"},
       fuses_inputs(c.model.decode_head) || fuses_inputs(c.model.auxiliary_head),
       "heads that fuse several inputs"},
      {"equalizer", {"mode"}, fuses_inputs(c.model.decode_head) || fuses_inputs(c.model.auxiliary_head), "heads that fuse several inputs"},
      {"equalizer", {"inputs", "sites"}, equalizer.mode != "off", "an equalizer (equalizer.mode)"},
      {"equalizer",
       {"granularity", "constants", "measure", "batches", "floor", "center", "exponent"},
       has_constants(equalizer),
       "an equalizer with constants (explicit, folded, learnable)"},
      {"equalizer", {"refresh"}, has_constants(equalizer), "an equalizer with constants to measure anew (explicit, folded_lr)"},
      {"equalizer", {"measure", "batches", "floor"}, equalizer.constants == "measured", "constants that are measured"},
      {"train", {"keep_best"}, c.train.evaluate_every > 0, "several evaluations (train.evaluate_every)"},
      {"train", {"aux_weight"}, !c.model.auxiliary_head.type.empty(), "an auxiliary head"},
      {"optimizer", {"momentum", "nesterov"}, c.optimizer.type == "sgd", "sgd"},
      {"optimizer", {"betas", "eps"}, c.optimizer.type == "adamw", "adamw"},
      {"schedule", {"power"}, schedule == "poly", "a poly schedule"},
      {"schedule", {"min_lr"}, schedule != "constant", "a poly or cosine schedule"},
      {"schedule", {"warmup_ratio"}, c.schedule.warmup_iterations > 0, "a warm-up (schedule.warmup_iterations)"},
      {"probes", {"layers"}, c.probes.every > 0, "probes (probes.every)"},
  };
  for (const auto& [section, head] :
       {std::pair{"model.decode_head", &c.model.decode_head}, {"model.auxiliary_head", &c.model.auxiliary_head}}) {
    const std::string& type = head->type;
    readers.push_back({section, {"pool_scales"}, type == "uper" || type == "psp", "a uper or psp head"});
    readers.push_back({section, {"dilations"}, type == "aspp" || type == "sep_aspp", "an aspp or sep_aspp head"});
    readers.push_back({section, {"c1_level", "c1_channels"}, type == "sep_aspp", "a sep_aspp head"});
    readers.push_back({section, {"input_transform", "num_convs", "kernel_size", "concat_input"}, type == "fcn", "an fcn head"});
  }
  return readers;
}

}  // namespace

std::vector<std::string> unread_keys(const Config& config) {
  const bool auxiliary = !config.model.auxiliary_head.type.empty();
  const Config defaults = parse_config(auxiliary ? R"({"model": {"auxiliary_head": {}}})" : "{}", "the defaults");
  const std::vector<KeyReader> readers = key_readers(config);
  std::vector<std::string> sentences;
  for (const std::string& key : config_differences(config, defaults)) {
    for (const KeyReader& reader : readers) {
      const bool reads =
          std::any_of(reader.keys.begin(), reader.keys.end(), [&](const std::string& own) { return key == reader.section + "." + own; });
      if (!reads || reader.is_there) continue;
      sentences.push_back(key + " has no effect here: it is for " + reader.name);
      break;
    }
  }
  return sentences;
}

std::vector<std::string> doubtful_values(const Config& config) {
  std::vector<std::string> sentences;
  const int64_t warmup = config.schedule.warmup_iterations, iterations = config.train.iterations;
  if (warmup > 0 && warmup >= iterations) {
    sentences.push_back(
        fmt::format("the warm-up (schedule.warmup_iterations {}) does not end within the run (train.iterations {}): the "
                    "learning rate never reaches optimizer.lr",
                    warmup, iterations));
  }
  if (const auto& ohem = config.train.ohem; ohem && config.pipeline.crop) {
    const auto [height, width] = *config.pipeline.crop;
    if (ohem->min_kept >= height * width) {
      sentences.push_back(
          fmt::format("train.ohem changes nothing: its min_kept {} keeps all pixels of a crop of {} x {}", ohem->min_kept, height, width));
    }
  }
  const BackboneOptions& backbone = config.model.backbone;
  const PipelineOptions imagenet;
  if (backbone.type == "mobilenet_v1" && !backbone.pretrained.empty() && config.pipeline.mean == imagenet.mean &&
      config.pipeline.std == imagenet.std) {
    sentences.push_back("MobileNet V1's published weights want pipeline.mean and pipeline.std [127.5, 127.5, 127.5], not ImageNet's");
  }
  return sentences;
}

}  // namespace eq
