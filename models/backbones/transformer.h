#pragma once
// What Swin and Twins share: attention of several heads, the block around it, and patches of an image as pixels of a map.

#include <utility>
#include <vector>

#include "layers/layers.h"

namespace eq {

// [B, n, parts * heads * depth] -> `parts` tensors [B, heads, n, depth].
std::vector<Tensor> split_heads(const Tensor& x, int64_t parts, int64_t heads);

// softmax(q k^T / sqrt(depth) + bias + mask) v (Vaswani et al., 2017): query [B, heads, n, depth], key and value [B, heads, m, depth] ->
// [B, n, heads * depth]. Both terms may be undefined. The bias broadcasts to [B, heads, n, m]. The mask is that of the P windows of one
// picture, [P, 1, n or 1, m]; the pictures' windows follow each other along B.
Tensor attention(const Tensor& query, const Tensor& key, const Tensor& value, const Tensor& bias = {}, const Tensor& mask = {});

// Multiply-adds of both products of attention within windows of a map [N,h,w,C].
int64_t window_attention_macs(const Shape& map, int64_t window);

// Two linear layers with a GELU between them, under mmcv's names: "layers.0.0" and "layers.1".
class FeedForward : public Layer {
 public:
  FeedForward(int64_t channels, int64_t hidden);
  Tensor forward(const Tensor& x) override { return layers_(x); }

 private:
  Sequential& layers_;
};

// x + path(attn(norm1(x))), then x + path(ffn(norm2(x))). A is built from the channels and `attention`.
template <class A>
class TransformerBlock : public Layer {
 public:
  template <class... Args>
  TransformerBlock(int64_t channels, int64_t hidden, double drop_path, Args&&... attention)
      : norm1_(register_module<LayerNorm>("norm1", channels)),
        attn_(register_module<A>("attn", channels, std::forward<Args>(attention)...)),
        norm2_(register_module<LayerNorm>("norm2", channels)),
        ffn_(register_module<FeedForward>("ffn", channels, hidden)),
        path1_(register_module<Dropout>("attn_path", drop_path, Dropout::Kind::kSample)),
        path2_(register_module<Dropout>("ffn_path", drop_path, Dropout::Kind::kSample)) {}
  Tensor forward(const Tensor& x) override {
    const Tensor attended = add(x, path1_(attn_(norm1_(x))));
    return add(attended, path2_(ffn_(norm2_(attended))));
  }

 private:
  LayerNorm& norm1_;
  A& attn_;
  LayerNorm& norm2_;
  FeedForward& ffn_;
  Dropout& path1_;
  Dropout& path2_;
};

// Zeros at the bottom and right of [N,H,W,C], up to whole multiples of `unit`.
Tensor pad_to(const Tensor& x, int64_t unit);

// Squares of size x size pixels as one each: a convolution "projection" on the padded image and a layer norm "norm".
class PatchEmbed : public Layer {
 public:
  PatchEmbed(int64_t in_channels, int64_t channels, int64_t size);
  Tensor forward(const Tensor& x) override { return norm_(projection_(pad_to(x, size_))); }  // [N,H,W,I] -> [N,ceil(H/size),ceil(W/size),C]
  Conv2d& projection() { return projection_; }

 private:
  int64_t size_;
  Conv2d& projection_;
  LayerNorm& norm_;
};

}  // namespace eq
