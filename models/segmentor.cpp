#include "models/segmentor.h"

#include <algorithm>
#include <optional>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/nearest.h"
#include "core/words.h"
#include "layers/fusion.h"
#include "models/backbones/convnext.h"
#include "models/backbones/hrnet.h"
#include "models/backbones/mobilenet_v1.h"
#include "models/backbones/resnet.h"
#include "models/backbones/swin.h"
#include "models/backbones/twins.h"
#include "models/heads/aspp_head.h"
#include "models/heads/fcn_head.h"
#include "models/heads/psp_head.h"
#include "models/heads/uper_head.h"
#include "models/initial_weights.h"
#include "models/pretrained.h"

namespace eq {
namespace {

// The names behind "type". A new backbone or head adds its line here.
struct BackboneEntry {
  const char* name;
  std::unique_ptr<Backbone> (*make)(const BackboneOptions&);
};
template <class B>
std::unique_ptr<Backbone> make_backbone(const BackboneOptions& o) {
  return std::make_unique<B>(o);
}
const BackboneEntry kBackbones[] = {
    {"resnet", make_backbone<ResNet>},        {"mobilenet_v1", make_backbone<MobileNetV1>}, {"hrnet", make_backbone<HRNet>},
    {"swin", make_backbone<SwinTransformer>}, {"convnext", make_backbone<ConvNeXt>},        {"twins", make_backbone<Twins>},
};

struct HeadEntry {
  const char* name;
  std::unique_ptr<Head> (*make)(const HeadOptions&, const std::vector<int64_t>& level_channels, const ModelOptions&);
};
template <class H>
std::unique_ptr<Head> make_head(const HeadOptions& o, const std::vector<int64_t>& level_channels, const ModelOptions& m) {
  return std::make_unique<H>(o, level_channels, m);
}
const HeadEntry kHeads[] = {
    {"uper", make_head<UPerHead>},
    {"psp", make_head<PSPHead>},
    {"aspp", make_head<ASPPHead>},
    {"sep_aspp", make_head<DepthwiseSeparableASPPHead>},
    {"fcn", make_head<FCNHead>},
};

std::unique_ptr<Head> make_head(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model,
                                const char* key) {
  return find_named(kHeads, options.type, "type", key).make(options, level_channels, model);
}

void check_classes(const ModelOptions& options) {
  if (options.num_classes == 1) {
    throw UsageError(
        "with one class there is nothing to learn: every pixel is of it, whatever the network says", "model",
        "name two in data.classes, background and foreground, say, and bring the label files' values to 0 and 1 with data.label_map");
  }
  if (options.num_classes < 1 || options.num_classes > 255) {
    throw UsageError("the number of classes must be 2 to 255, not " + std::to_string(options.num_classes), "model",
                     "check the data set's classes");
  }
}

// Each name in equalizer.sites must be that of a fusion site.
void check_sites(Module& network, const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const LevelSite* site : modules_of<LevelSite>(network)) {
    std::string path = site->path();  // of one in a list without its number: "decode_head.top_down.0"
    if (const size_t end = path.find_last_not_of("0123456789"); end != std::string::npos && path[end] == '.') path.resize(end);
    const std::string name = path.substr(path.rfind('.') + 1);
    if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw UsageError("there is no fusion site \"" + name + "\" in the network", "equalizer.sites", known_names_hint(name, known));
  }
}

}  // namespace

std::string backbone_name(const BackboneOptions& options) {
  if (options.type == "resnet") return options.type + std::to_string(options.depth);
  const bool mobilenet = options.type == "mobilenet_v1";
  std::string name = options.type, multiplier = std::to_string(options.multiplier);
  if (!mobilenet && !options.variant.empty()) name += "_" + options.variant;
  if (options.type == "hrnet" || (!mobilenet && options.multiplier == 1)) return name;
  const size_t end = std::max(multiplier.find_last_not_of('0') + 1, multiplier.find('.') + 2);  // "0.25", "1.0"
  return name + "_" + multiplier.substr(0, end);
}

std::unique_ptr<Backbone> make_backbone(const BackboneOptions& options) {
  return find_named(kBackbones, options.type, "type", "model.backbone.type").make(options);
}

std::unique_ptr<Head> make_head(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model) {
  return make_head(options, level_channels, model, "model.decode_head.type");
}

EncoderDecoder::EncoderDecoder(const ModelOptions& options) : options_(options), backbone_words_(options.backbone.type) {
  check_classes(options);
  if (!options.init_from.empty() && !options.backbone.pretrained.empty()) {
    throw UsageError("both model.init_from and model.backbone.pretrained name weights", "model.init_from",
                     "leave one of them empty: --set model.backbone.pretrained= for the whole network's");
  }
  auto backbone = make_backbone(options.backbone);
  const std::vector<int64_t> levels = backbone->level_channels();
  auto decode_head = make_head(options.decode_head, levels, options);
  std::unique_ptr<Head> auxiliary_head;
  if (!options.auxiliary_head.type.empty()) {
    auxiliary_head = make_head(options.auxiliary_head, levels, options, "model.auxiliary_head.type");
  }
  adopt(std::move(backbone), std::move(decode_head), std::move(auxiliary_head));
  check_sites(*this, options.equalizer.sites);
  if (!options.backbone.pretrained.empty()) {
    pretrained_note_ =
        options.backbone.pretrained + ": " + load_pretrained(*backbone_, options.backbone.pretrained, options.backbone.load_mode);
  }
  if (!options.init_from.empty()) {
    const InitialWeights taken = load_initial_weights(*this, options.init_from);
    pretrained_note_ = options.init_from + ": " + taken.note;
    has_constants_ = taken.equalizers;
  }
}

EncoderDecoder::EncoderDecoder(const ModelOptions& options, std::unique_ptr<Backbone> backbone, std::unique_ptr<Head> decode_head,
                               std::unique_ptr<Head> auxiliary_head)
    : options_(options), backbone_words_("the backbone") {
  check_classes(options);
  if (!backbone || !decode_head) {
    throw UsageError("a network needs a backbone and a decode head", "EncoderDecoder", "give both, or make it from its options alone");
  }
  adopt(std::move(backbone), std::move(decode_head), std::move(auxiliary_head));
}

void EncoderDecoder::adopt(std::unique_ptr<Backbone> backbone, std::unique_ptr<Head> decode_head, std::unique_ptr<Head> auxiliary_head) {
  backbone_ = backbone.get();
  decode_head_ = decode_head.get();
  auxiliary_head_ = auxiliary_head.get();
  add_child("backbone", std::move(backbone));
  add_child("decode_head", std::move(decode_head));
  if (auxiliary_head) add_child("auxiliary_head", std::move(auxiliary_head));
  to(compute_device());
}

void EncoderDecoder::set_precision(DType features) {
  const bool bf16 = features == DType::kBFloat16;
  if (!bf16 && features != DType::kFloat32) {
    throw UsageError(std::string("networks are not trained in ") + name_of(features), "train.precision", "use float32 or bf16");
  }
  if (bf16 && device().is_cpu()) throw UsageError("bfloat16 is for GPUs", "train.precision", "use float32 here, or --device cuda");
  precision_ = features;
}

void EncoderDecoder::check_size(int64_t height, int64_t width) const {
  if (std::min(height, width) >= backbone_->smallest_side()) return;
  throw ShapeError("pictures of " + std::to_string(width) + " x " + std::to_string(height) + " are too small for " + backbone_words_ +
                       ", which needs " + std::to_string(backbone_->smallest_side()) + " pixels a side",
                   "model.backbone",
                   "use larger pictures, resize them (pipeline.test_scale) or enlarge the crops (pipeline.crop, evaluate.crop)");
}

SegmentorOutput EncoderDecoder::forward(const Tensor& images) {
  if (!images.defined() || images.rank() != 4 || images.size(3) != 3) {
    throw ShapeError("the network takes pictures [N,H,W,3], not " + describe(images), "EncoderDecoder",
                     "normalise and batch the pictures first");
  }
  check_size(images.size(1), images.size(2));
  Tensor input = images.to(device());
  const bool reduced = is_training() && precision_ == DType::kBFloat16;
  if (reduced) input = cast(input, precision_);
  const auto full = [&](const Tensor& scores) { return reduced ? cast(scores, DType::kFloat32) : scores; };
  const std::vector<Tensor> levels = backbone_->forward(input);
  if (levels.size() != backbone_->level_channels().size()) {  // heads read them by their numbers
    throw ShapeError("the backbone gave " + counted(int64_t(levels.size()), "level") + ", not the " +
                         std::to_string(backbone_->level_channels().size()) + " of its level_channels()",
                     "backbone", "its forward() gives one feature map for each");
  }
  const std::vector<int64_t> promised = backbone_->level_channels();
  for (size_t i = 0; i < levels.size(); ++i) {
    if (levels[i].defined() && levels[i].rank() == 4 && levels[i].size(3) == promised[i]) continue;
    throw ShapeError("the backbone's level " + std::to_string(i) + " is " + (levels[i].defined() ? describe(levels[i]) : "not there") +
                         ", not [N,h,w," + std::to_string(promised[i]) + "] as its level_channels() say",
                     "backbone", "let forward() and level_channels() agree");
  }
  const auto scores_of = [&](Head& head, const char* name) {
    const Tensor scores = head.forward(levels);
    if (scores.defined() && scores.rank() == 4 && scores.size(3) == options_.num_classes) return full(scores);
    throw ShapeError("the head gave " + describe(scores) + ", not scores [N,h,w," + std::to_string(options_.num_classes) + "]", name,
                     "let its forward() give one score for each class");
  };
  SegmentorOutput output;
  output.logits = scores_of(*decode_head_, "decode_head");
  if (auxiliary_head_ && is_training()) output.aux_logits = scores_of(*auxiliary_head_, "auxiliary_head");
  return output;
}

Tensor EncoderDecoder::predict(const Tensor& images) {
  NoGradGuard no_grad;
  std::optional<ModeScope> modes;
  if (is_training()) {  // else nothing is written: several threads may share a network in evaluation
    modes.emplace(*this);
    eval();
  }
  const Tensor logits = forward(images).logits;  // first: it says what is no batch of pictures
  return resize_bilinear(logits, images.size(1), images.size(2), options_.align_corners);
}

void EncoderDecoder::set_step(uint64_t seed, uint64_t step) {
  uint64_t layer = 0;
  for (const NamedModule& entry : named_modules()) {
    if (auto* dropout = dynamic_cast<Dropout*>(entry.module)) dropout->set_stream(seed, (step << 16) | layer++);
  }
}

}  // namespace eq
