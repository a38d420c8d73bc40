#pragma once
// What a configuration says about a model. Defaults are mmsegmentation's.

#include <cstdint>
#include <string>
#include <vector>

#include "layers/scale_equalizer.h"

namespace eq {

struct BackboneOptions {
  std::string type = "resnet";
  int depth = 18;                 // 18, 34, 50, 101
  std::string stem = "v1c";       // "v1": one 7x7 convolution; "v1c": three 3x3
  int64_t width = 64;             // channels of the first stage; 64 is the standard network
  int output_stride = 32;         // 8, 16 or 32; below 32 the last stages are dilated
  std::string pretrained;         // safetensors file with the backbone's weights; empty: random
};

struct HeadOptions {
  std::string type;               // "uper", "fcn"; empty: no such head
  int64_t channels = 512;
  std::vector<int> in_index;      // backbone levels used; empty: all (uper), the last (fcn)
  std::vector<int64_t> pool_scales = {1, 2, 3, 6};
  int num_convs = 2;              // fcn
  int kernel_size = 3;            // fcn
  bool concat_input = true;       // fcn
  double dropout = 0.1;           // channel dropout before the classifier
};

struct ModelOptions {
  BackboneOptions backbone;
  HeadOptions decode_head{.type = "uper"};
  HeadOptions auxiliary_head;          // type empty: none
  bool align_corners = false;
  int64_t num_classes = 0;             // from the data set
  EqualizerOptions equalizer;
};

}  // namespace eq
