#pragma once
// Swin Transformer (Liu et al., 2021) for dense prediction with mmsegmentation's structure and names: "patch_embed" (a 4x4 convolution of
// stride 4 and a layer norm), "stages.<i>.blocks.<block>" of attention within 7x7 windows, every other block's windows shifted by 3,
// "stages.<i>.downsample" between stages, and a fresh layer norm on each of the four levels, "norm<i>". Pictures, maps and windows that do
// not fit are padded with zeros at the bottom and right; windows are never smaller.

#include <map>
#include <mutex>
#include <utility>

#include "models/backbones/transformer.h"
#include "models/segmentor.h"

namespace eq {

// What all blocks' attention needs and no file holds: made when first needed for a map size, device and type, then kept. Threads may share
// it.
class WindowConstants {
 public:
  static constexpr int64_t kSize = 7, kShift = kSize / 2, kCells = kSize * kSize, kOffsets = (2 * kSize - 1) * (2 * kSize - 1);
  // Which entry of a bias table is that of query i and key j, [kCells, kCells], int64.
  static Tensor offsets();
  // The same as a 0/1 matrix [kCells * kCells, kOffsets]: its product with a table picks the entries, exactly, and so does its adjoint.
  Tensor picks(const Tensor& like);
  // What is added to the scores of shifted windows of an image [N,h,w,C]: -100 between cells that did not touch before the roll, else 0;
  // [windows of a picture, 1, kCells, kCells].
  Tensor mask(const Tensor& like, const Shape& image);

 private:
  std::mutex mutex_;  // of what follows
  Tensor picks_;
  std::map<std::pair<int64_t, int64_t>, Tensor> masks_;  // by rows and columns of windows
};

// Attention of several heads within windows, "attn" with its child "w_msa": softmax(q k^T / sqrt(d) + bias) v.
class WindowAttention : public Layer {
 public:
  WindowAttention(int64_t channels, int64_t heads, int64_t shift, WindowConstants& constants);
  Tensor forward(const Tensor& x) override;  // [N,h,w,C] -> the same shape
  int64_t macs(const Tensor& input, const Tensor& output) const override;  // without the children's
  std::string description() const override;

 private:
  class Projections : public Module {
   public:
    Projections(int64_t channels, int64_t heads);
    Tensor table;
    Linear& qkv;
    Linear& proj;
  };
  int64_t heads_, shift_;
  WindowConstants& constants_;
  Projections& w_msa_;
};

// Squares of 2x2 pixels as one pixel of 4 C channels, normed and reduced to 2 C. The 4 C are in the order of torch.nn.Unfold: the pixels of
// a channel are neighbours.
class PatchMerging : public Layer {
 public:
  explicit PatchMerging(int64_t channels);
  Tensor forward(const Tensor& x) override;

 private:
  LayerNorm& norm_;
  Linear& reduction_;
};

class SwinTransformer : public Backbone {
 public:
  // Throws UsageError for a variant that does not exist or a multiplier that does not leave the heads whole channels.
  explicit SwinTransformer(const BackboneOptions& options);
  std::vector<Tensor> forward(const Tensor& images) override;  // strides 4, 8, 16, 32, rounded up
  std::vector<int64_t> level_channels() const override { return level_channels_; }

 private:
  struct Stage {
    Sequential* blocks;
    PatchMerging* downsample;  // null in the last one
    LayerNorm* norm;
  };
  WindowConstants constants_;
  PatchEmbed* patch_embed_;
  std::vector<Stage> stages_;
  std::vector<int64_t> level_channels_;
};

}  // namespace eq
