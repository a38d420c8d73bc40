#pragma once
// EncoderDecoder: backbone, decode head, optional auxiliary head, by their names in a configuration ("type") or of one's own; and the table
// of these names.

#include <memory>
#include <string>
#include <vector>

#include "layers/fusion.h"
#include "layers/module.h"
#include "models/options.h"

namespace eq {

// A network from pictures [N,H,W,3] to one feature map per level, finest first, [N,h_i,w_i,C_i].
class Backbone : public Module {
 public:
  virtual std::vector<Tensor> forward(const Tensor& images) = 0;
  virtual std::vector<int64_t> level_channels() const = 0;
  virtual int64_t smallest_side() const { return 1; }  // of pictures
  // Beginnings of the names of weights in the order of their use; what begins otherwise comes behind them. Empty: they are registered in
  // that order.
  virtual std::vector<std::string> order_of_use() const { return {}; }
};

// From the backbone's levels to class scores [N,h,w,num_classes] at the head's own resolution.
class Head : public Module {
 public:
  virtual Tensor forward(const std::vector<Tensor>& levels) = 0;
};

// By options.type. Throw UsageError for an unknown name, with the nearest known one, and for values that this type does not know; options
// that it does not read are let pass (training/unread_keys.h names them). The weights are InitRandom's.
std::unique_ptr<Backbone> make_backbone(const BackboneOptions& options);
std::unique_ptr<Head> make_head(const HeadOptions& options, const std::vector<int64_t>& level_channels, const ModelOptions& model);

// For messages: "resnet50", "mobilenet_v1_0.25", "hrnet_w18", "swin_tiny", "twins_svt_small".
std::string backbone_name(const BackboneOptions& options);

struct SegmentorOutput {
  Tensor logits;      // [N,h,w,K]
  Tensor aux_logits;  // [N,h',w',K]; undefined without an auxiliary head or in evaluation
};

class EncoderDecoder : public Module {
 public:
  // On compute_device(), with weights drawn from InitRandom (throws what make_backbone and make_head throw).
  // With weights for the backbone (models/pretrained.h) or for all of it (models/initial_weights.h) where the options name a file. Throws
  // UsageError where they name both.
  explicit EncoderDecoder(const ModelOptions& options);
  // Of parts that were made before, stock ones or of one's own; what the options say of those is not read. Throws UsageError where the
  // backbone or the decode head is missing. Its weights alone go into a file (Module::state_dict): a run's folder can only name stock
  // parts.
  EncoderDecoder(const ModelOptions& options, std::unique_ptr<Backbone> backbone, std::unique_ptr<Head> decode_head,
                 std::unique_ptr<Head> auxiliary_head = nullptr);

  // Pictures of any device; they are taken to the network's. Throws ShapeError for what is no batch of pictures, or too small for the
  // backbone, and where a part of one's own gives something else than it says: levels, scores [N,h,w,num_classes].
  SegmentorOutput forward(const Tensor& images);
  // Throws ShapeError where pictures of this size are too small for the backbone.
  void check_size(int64_t height, int64_t width) const;
  // Scores resized to the pictures' size, [N,H,W,K]; no gradient. In evaluation mode: a network in training is in it for this call, and keeps
  // its running statistics.
  Tensor predict(const Tensor& images);
  // What every Dropout drops, drop paths too, is a function of these two: set before each training step.
  void set_step(uint64_t seed, uint64_t step);

  Backbone& backbone() { return *backbone_; }
  Head& decode_head() { return *decode_head_; }
  Head* auxiliary_head() { return auxiliary_head_; }  // null without one

  const ModelOptions& options() const { return options_; }
  // While training, features between the pictures and the scores are of this type: float32, or bfloat16 on a GPU. Parameters, statistics,
  // scores and losses are not affected. Throws UsageError for another type, and for bfloat16 on the CPU.
  void set_precision(DType features);

  bool align_corners() const { return options_.align_corners; }
  const std::string& pretrained_note() const { return pretrained_note_; }  // what was loaded from where, in a line; empty: nothing
  bool has_constants() const { return has_constants_; }                    // its equalizers came with its weights (init_from)

 private:
  void adopt(std::unique_ptr<Backbone> backbone, std::unique_ptr<Head> decode_head, std::unique_ptr<Head> auxiliary_head);

  ModelOptions options_;
  std::string backbone_words_;  // for messages
  std::string pretrained_note_;
  bool has_constants_ = false;
  Backbone* backbone_ = nullptr;
  Head* decode_head_ = nullptr;
  Head* auxiliary_head_ = nullptr;
  DType precision_ = DType::kFloat32;
};

}  // namespace eq
