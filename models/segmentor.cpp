#include "models/segmentor.h"

#include "autograd/node.h"
#include "core/nearest.h"
#include "core/safetensors.h"
#include "models/backbones/resnet.h"
#include "models/heads/fcn_head.h"
#include "models/heads/uper_head.h"

namespace eq {
namespace {

// The names behind "type". A new backbone or head adds its line here.
struct BackboneEntry {
  const char* name;
  std::unique_ptr<Backbone> (*make)(const BackboneOptions&);
};
const BackboneEntry kBackbones[] = {
    {"resnet", [](const BackboneOptions& o) -> std::unique_ptr<Backbone> { return std::make_unique<ResNet>(o); }},
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

}  // namespace

EncoderDecoder::EncoderDecoder(const ModelOptions& options) : options_(options) {
  if (options.num_classes < 1 || options.num_classes > 255) {
    throw UsageError("the number of classes must be 1 to 255, not " + std::to_string(options.num_classes), "model", "check the data set's classes");
  }
  auto backbone = find(kBackbones, options.backbone.type, "model.backbone.type").make(options.backbone);
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
    backbone_->load_state_dict(read_safetensors(options.backbone.pretrained).tensors, true, options.backbone.pretrained);
  }
}

SegmentorOutput EncoderDecoder::forward(const Tensor& images) {
  if (images.rank() != 4 || images.size(3) != 3) {
    throw ShapeError("the network takes pictures [N,H,W,3], not " + describe(images), "EncoderDecoder", "normalise and batch the pictures first");
  }
  const std::vector<Tensor> levels = backbone_->forward(images);
  SegmentorOutput output;
  output.logits = decode_head_->forward(levels);
  if (auxiliary_head_ && is_training()) output.aux_logits = auxiliary_head_->forward(levels);
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
