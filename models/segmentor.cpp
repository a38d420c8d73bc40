#include "models/segmentor.h"

#include <algorithm>
#include <string_view>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/nearest.h"
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
#include "models/pretrained.h"

namespace eq {
namespace {

// The names behind "type". A new backbone or head adds its line here.
struct BackboneEntry {
  const char* name;
  std::unique_ptr<Backbone> (*make)(const BackboneOptions&);
  std::string_view reads;  // of the keys that several of them share
};
template <class B>
std::unique_ptr<Backbone> make_backbone(const BackboneOptions& o) {
  return std::make_unique<B>(o);
}
const BackboneEntry kBackbones[] = {
    {"resnet", make_backbone<ResNet>, "output_stride"},
    {"mobilenet_v1", make_backbone<MobileNetV1>, "multiplier output_stride"},
    {"hrnet", make_backbone<HRNet>, "variant"},
    {"swin", make_backbone<SwinTransformer>, "multiplier variant drop_path"},
    {"convnext", make_backbone<ConvNeXt>, "multiplier variant drop_path"},
    {"twins", make_backbone<Twins>, "multiplier variant drop_path"},
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

template <class Table>
const auto& find(const Table& table, const std::string& name, const char* key) {
  std::vector<std::string> known;
  for (const auto& entry : table) {
    if (entry.name == name) return entry;
    known.push_back(entry.name);
  }
  throw UsageError("there is no type '" + name + "'", key, known_names_hint(name, known));
}

// A value that the backbone does not read would be taken for granted. Of keys that one type alone has, nobody expects that; and so
// --set model.backbone.type=... need not undo what a recipe says of its own type.
void refuse_unread(const BackboneEntry& entry, const BackboneOptions& o) {
  const BackboneOptions by_default;
  const std::pair<const char*, bool> changed[] = {{"multiplier", o.multiplier != by_default.multiplier},
                                                  {"variant", o.variant != by_default.variant},
                                                  {"drop_path", o.drop_path != by_default.drop_path},
                                                  {"output_stride", o.output_stride != by_default.output_stride}};
  for (const auto& [key, is_changed] : changed) {
    if (!is_changed || entry.reads.find(key) != std::string_view::npos) continue;
    throw UsageError(std::string(entry.name) + " has no " + key, std::string("model.backbone.") + key,
                     "leave it out; docs/config.md says which types read which keys");
  }
}

}  // namespace

std::string backbone_name(const BackboneOptions& options) {
  if (options.type == "resnet") return options.type + std::to_string(options.depth);
  const bool mobilenet = options.type == "mobilenet_v1";
  std::string name = options.type, multiplier = std::to_string(options.multiplier);
  if (!mobilenet && !options.variant.empty()) name += "_" + options.variant;
  if (!mobilenet && options.multiplier == 1) return name;
  const size_t end = std::max(multiplier.find_last_not_of('0') + 1, multiplier.find('.') + 2);  // "0.25", "1.0"
  return name + "_" + multiplier.substr(0, end);
}

EncoderDecoder::EncoderDecoder(const ModelOptions& options) : options_(options) {
  if (options.num_classes == 1) {
    throw UsageError("with one class there is nothing to learn: every pixel is of it, whatever the network says", "model",
                     "name two in data.classes, background and foreground, say, and bring the label files' values to 0 and 1 with data.label_map");
  }
  if (options.num_classes < 1 || options.num_classes > 255) {
    throw UsageError("the number of classes must be 2 to 255, not " + std::to_string(options.num_classes), "model", "check the data set's classes");
  }
  const BackboneEntry& entry = find(kBackbones, options.backbone.type, "model.backbone.type");
  refuse_unread(entry, options.backbone);
  auto backbone = entry.make(options.backbone);
  backbone_ = backbone.get();
  add_child("backbone", std::move(backbone));
  const auto level_channels = backbone_->level_channels();
  auto head = find(kHeads, options.decode_head.type, "model.decode_head.type").make(options.decode_head, level_channels, options);
  decode_head_ = head.get();
  add_child("decode_head", std::move(head));
  if (!options.auxiliary_head.type.empty()) {
    auto auxiliary = find(kHeads, options.auxiliary_head.type, "model.auxiliary_head.type").make(options.auxiliary_head, level_channels, options);
    auxiliary_head_ = auxiliary.get();
    add_child("auxiliary_head", std::move(auxiliary));
  }
  assign_paths();
  if (!options.backbone.pretrained.empty()) {
    pretrained_note_ = load_pretrained(*backbone_, options.backbone.pretrained, options.backbone.load_mode);
  }
  to(compute_device());
}

void EncoderDecoder::set_precision(DType features) {
  const bool bf16 = features == DType::kBFloat16;
  if (!bf16 && features != DType::kFloat32) throw UsageError(std::string("networks are not trained in ") + name_of(features), "train.precision", "use float32 or bf16");
  if (bf16 && device().is_cpu()) throw UsageError("bfloat16 is for GPUs", "train.precision", "use float32 here, or --device cuda");
  precision_ = features;
}

void EncoderDecoder::check_size(int64_t height, int64_t width) const {
  if (std::min(height, width) >= backbone_->smallest_side()) return;
  throw ShapeError("pictures of " + std::to_string(width) + " x " + std::to_string(height) + " are too small for " + options_.backbone.type + ", which needs " +
                       std::to_string(backbone_->smallest_side()) + " pixels a side", "model.backbone",
                   "use larger pictures, resize them (pipeline.test_scale) or enlarge the crops (pipeline.crop, evaluate.crop)");
}

SegmentorOutput EncoderDecoder::forward(const Tensor& images) {
  if (images.rank() != 4 || images.size(3) != 3) {
    throw ShapeError("the network takes pictures [N,H,W,3], not " + describe(images), "EncoderDecoder", "normalise and batch the pictures first");
  }
  check_size(images.size(1), images.size(2));
  Tensor input = images.to(device());
  const bool reduced = is_training() && precision_ == DType::kBFloat16;
  if (reduced) input = cast(input, precision_);
  const auto full = [&](const Tensor& scores) { return reduced ? cast(scores, DType::kFloat32) : scores; };
  const std::vector<Tensor> levels = backbone_->forward(input);
  SegmentorOutput output;
  output.logits = full(decode_head_->forward(levels));
  if (auxiliary_head_ && is_training()) output.aux_logits = full(auxiliary_head_->forward(levels));
  return output;
}

Tensor EncoderDecoder::predict(const Tensor& images) {
  NoGradGuard no_grad;
  return resize_bilinear(forward(images).logits, images.size(1), images.size(2), options_.align_corners);
}

void EncoderDecoder::set_step(uint64_t seed, uint64_t step) {
  uint64_t layer = 0;
  for (const NamedModule& entry : named_modules()) {
    if (auto* dropout = dynamic_cast<Dropout*>(entry.module)) dropout->set_stream(seed, (step << 16) | layer++);
  }
}

}  // namespace eq
