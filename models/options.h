#pragma once
// What a configuration says about a model. Defaults are mmsegmentation's.

#include <cstdint>
#include <string>
#include <vector>

#include "layers/scale_equalizer.h"
#include "layers/upsampling.h"

namespace eq {

struct BackboneOptions {
  std::string type = "resnet";        // "resnet", "mobilenet_v1", "hrnet", "swin", "convnext", "twins"
  int depth = 18;                     // resnet: 18, 34, 50, 101
  std::string stem = "v1c";           // resnet: "v1": one 7x7 convolution; "v1c": three 3x3
  int64_t width = 64;                 // resnet: channels of the first stage; 64 is the standard network
  // mobilenet_v1, swin, convnext, twins: of every layer's channels; 1, 0.75, 0.5, 0.25 are MobileNet's published ones.
  double multiplier = 1;
  // hrnet: "w18_small" (if empty), "w18", "w32", "w40", "w48"; swin, convnext: "tiny" (if empty), "small", "base"; twins: "svt_small" (if
  // empty), "svt_base", "svt_large", "pcpvt_small", "pcpvt_base", "pcpvt_large".
  std::string variant = {};
  // swin, convnext, twins: probability that training leaves a block's path out, rising from 0 to this over the blocks.
  double drop_path = 0;
  int output_stride = 32;             // resnet, mobilenet_v1: 8, 16 or 32; below 32 the last stages are dilated
  std::string pretrained = {};        // safetensors file or .pth with the backbone's weights; empty: random
  std::string load_mode = "strict";   // "strict", "backbone" (models/pretrained.h)
};

struct HeadOptions {
  std::string type = {};  // "uper", "psp", "aspp", "sep_aspp", "fcn"; empty: no such head
  int64_t channels = 512;
  std::vector<int> in_index = {};                    // backbone levels used; empty: all (uper, resize_concat) or the last
  std::vector<int64_t> pool_scales = {1, 2, 3, 6};   // uper, psp
  std::vector<int64_t> dilations = {1, 12, 24, 36};  // aspp, sep_aspp
  int64_t c1_channels = 48;                          // sep_aspp: of the finer level, reduced; 0: no finer level
  int c1_level = 0;                                  // sep_aspp: which one
  std::string input_transform = {};                  // fcn: "" or "resize_concat"
  int num_convs = 2;                                 // fcn
  int kernel_size = 3;                               // fcn
  bool concat_input = true;                          // fcn
  double dropout = 0.1;                              // channel dropout before the classifier; 0 or less: none
};

inline HeadOptions head_of_type(const std::string& type) {
  HeadOptions options;
  options.type = type;
  return options;
}

struct ModelOptions {
  BackboneOptions backbone = {};
  HeadOptions decode_head = head_of_type("uper");
  HeadOptions auxiliary_head = {};     // type empty: none
  std::string init_from = {};          // weights of a whole network to begin with: a file, or a run's folder (models/initial_weights.h)
  bool align_corners = false;          // of bilinear resizing, that of the scores too
  std::string upsampling = "bilinear";  // where levels meet: "bilinear", "nearest" (layers/upsampling.h)
  int64_t num_classes = 0;             // from the data set
  EqualizerOptions equalizer = {};

  Upsampling level_upsampling() const { return {upsampling, align_corners}; }
};

// For a network whose weights come from elsewhere, or do not matter.
inline ModelOptions without_pretrained(ModelOptions options) {
  options.backbone.pretrained.clear();
  options.init_from.clear();
  return options;
}

}  // namespace eq
