#pragma once
// Twins (Chu et al., 2021) for dense prediction with mmsegmentation's structure and names. SVT alternates attention within 7x7 windows and
// global attention to a subsampled map; PCPVT has the global one only. "patch_embeds.<i>" (4x4, then 2x2 pixels become one; sides that do
// not fit are padded), "layers.<i>.<block>", behind a stage's first block "position_encodings.<i>", behind the last one SVT's
// "norm_list.<i>": the normed map is the level and what the next stage reads. PCPVT's levels are not normed.
//
// Where implementations differ:
// - The padding of windows is no key: pixels attend to pixels alone. mmsegmentation's mask says the same where both sides of a map are
// padded,
//   but nothing where only one is, and then the padding's projections are keys. For timm they always are.
// - Layer norms add 1e-5, mmsegmentation's default, to the variance; timm's norm1 and norm2 add 1e-6.
// - timm has no norms behind SVT's stages, but one behind the last stage of either family.
// - A path is dropped once, as in timm. In mmsegmentation all but that of local attention are drawn for twice.

#include "models/backbones/transformer.h"
#include "models/segmentor.h"

namespace eq {

// Attention within windows ("LSA"), "qkv" and "proj". Maps that windows do not divide are padded at the bottom and right.
class LocallyGroupedSelfAttention : public Layer {
 public:
  static constexpr int64_t kWindow = 7;
  LocallyGroupedSelfAttention(int64_t channels, int64_t heads);
  Tensor forward(const Tensor& x) override;  // [N,h,w,C] -> the same shape
  int64_t macs(const Tensor& input, const Tensor& output) const override;  // without the children's
  std::string description() const override;

 private:
  int64_t heads_;
  Linear& qkv_;
  Linear& proj_;
};

// Attention of each pixel to a map of 1/ratio the size ("GSA"), by a convolution "sr" of kernel and stride `ratio`, under which a side
// loses the rest, and a layer norm "norm"; neither at ratio 1. "attn" has the projections under torch.nn.MultiheadAttention's names.
class GlobalSubsampledAttention : public Layer {
 public:
  GlobalSubsampledAttention(int64_t channels, int64_t heads, int64_t ratio);
  Tensor forward(const Tensor& x) override;  // [N,h,w,C] -> the same shape
  int64_t macs(const Tensor& input, const Tensor& output) const override;  // without the children's, but with in_proj's
  std::string description() const override;

 private:
  class Projections : public Module {
   public:
    explicit Projections(int64_t channels);
    Tensor in_weight, in_bias;  // [3 C, C] and [3 C]: of queries, keys and values
    Linear& out_proj;
  };
  int64_t heads_, ratio_;
  Conv2d* sr_ = nullptr;
  LayerNorm* norm_ = nullptr;
  Projections& attn_;
};

// x + proj(x), a depthwise 3x3 convolution (Chu et al., 2021, "Conditional Positional Encodings for Vision Transformers"): the zeros that
// it reads beyond the edge tell pixels where they are.
class ConditionalPositionEncoding : public Layer {
 public:
  explicit ConditionalPositionEncoding(int64_t channels);
  Tensor forward(const Tensor& x) override { return add(x, proj_(x)); }

 private:
  Conv2d& proj_;
};

class Twins : public Backbone {
 public:
  // Throws UsageError for a variant that does not exist or a multiplier that does not leave the heads whole channels.
  explicit Twins(const BackboneOptions& options);
  std::vector<Tensor> forward(const Tensor& images) override;  // strides 4, 8, 16, 32, rounded up
  int64_t smallest_side() const override { return 29; }        // ceil(29 / 4) = 8 is the first stage's ratio
  std::vector<std::string> order_of_use() const override;
  std::vector<int64_t> level_channels() const override { return level_channels_; }

 private:
  struct Stage {
    PatchEmbed* embed;
    ModuleList<Layer>* blocks;
    ConditionalPositionEncoding* position;
    LayerNorm* norm;  // null in PCPVT
  };
  std::vector<Stage> stages_;
  std::vector<int64_t> level_channels_;
};

}  // namespace eq
