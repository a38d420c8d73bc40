#pragma once
// Running the built command on tiny configurations.

#include <filesystem>
#include <string>

#include "support.h"

namespace eq::test {

// `equiscale ARGUMENTS`, both streams captured.
inline CommandResult equiscale(const std::string& arguments) { return run_command(EQ_BINARY_DIR "/equiscale " + arguments); }

// A recipe small enough to train in a second: 64-pixel pictures, a network of a few thousand weights.
inline std::string tiny_recipe(const std::string& data = R"({"type": "shapes", "size": 64, "val_images": 6, "checks": false})",
                               const std::string& classes_note = "") {
  return classes_note + R"({
    "seed": 3,
    "data": )" + data + R"(,
    "pipeline": {"resize": null, "crop": [64, 64], "photometric": true},
    "model": {
      "backbone": {"type": "resnet", "depth": 18, "width": 4},
      "decode_head": {"type": "uper", "channels": 8},
      "auxiliary_head": {"type": "fcn", "channels": 8, "num_convs": 1, "concat_input": false, "in_index": [2]}
    },
    "equalizer": {"mode": "explicit", "batches": 2},
    "train": {"iterations": 8, "batch_size": 4, "checkpoint_every": 2, "log_every": 1, "overlays": 2},
    "optimizer": {"type": "sgd", "lr": 0.01}
  })";
}

// What a three-line error must be: a status, a first line, the file or key it is about, and something to try.
inline void check_error(const CommandResult& result, int status, const std::string& names) {
  INFO(result.output);
  CHECK(result.status == status);
  CHECK(result.output.find(names) != std::string::npos);
  CHECK(result.output.find("\n  try:   ") != std::string::npos);
  CHECK(result.output.find("Sanitizer") == std::string::npos);
}

}  // namespace eq::test
