#pragma once
// A configuration small enough to train in a second.

#include <string>
#include <vector>

#include "training/config.h"

namespace eq::test {

inline Config tiny_config(const std::vector<std::string>& settings = {}) {
  return parse_config(R"({
    "seed": 3,
    "data": {"type": "shapes", "size": 64, "val_images": 5, "checks": false},
    "pipeline": {"resize": null, "crop": [64, 64]},
    "model": {
      "backbone": {"type": "resnet", "depth": 18, "width": 4},
      "decode_head": {"type": "uper", "channels": 8},
      "auxiliary_head": {"type": "fcn", "channels": 8, "num_convs": 1, "concat_input": false, "in_index": [2]}
    },
    "equalizer": {"mode": "explicit", "batches": 2},
    "train": {"iterations": 6, "batch_size": 2, "checkpoint_every": 3, "log_every": 2, "overlays": 2},
    "optimizer": {"type": "sgd", "lr": 0.01, "groups": [{"pattern": "norm", "decay_mult": 0}]}
  })", "tiny.json", settings);
}

}  // namespace eq::test
