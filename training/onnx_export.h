#pragma once
// A trained network as an ONNX model: one file that other programs run without this one.

#include <cstdint>
#include <filesystem>
#include <string>

#include "training/trained_model.h"

namespace eq {

struct OnnxExportOptions {
  int64_t height = 0,
          width = 0;  // of the pictures; 0: what the network was made for (evaluate.crop of sliding windows, else pipeline.crop)
  int64_t batch = 0;              // pictures at a time; 0: any number
  bool normalized = false;        // the input is "image", float32 [N,3,H,W] and normalised; else "picture", uint8 [N,H,W,3], RGB
  bool labels = false;            // the output is "labels", uint8 [N,H,W], the class of the highest score; else "scores", float32 [N,K,H,W]
};

struct OnnxExportReport {
  std::string input, output;  // "picture: uint8 [N, 512, 512, 3]"
  int64_t operators = 0, bytes = 0;
};

// Writes the network as evaluation applies it to a whole picture of that size: prepared pixels to scores of the picture's size. In the
// metadata: the classes and their colours, and what the pixels were normalised by. Takes a network on any device, in evaluation mode.
// Throws UsageError (no size known; batch; an operator without translation; more than 2 GiB), ShapeError (too small for the network) and
// IoError.
OnnxExportReport export_onnx(TrainedModel& trained, const std::filesystem::path& file, const OnnxExportOptions& options);

}  // namespace eq
