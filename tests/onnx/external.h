#pragma once
// Other people's readers of ONNX files, where they are installed: what they say of ours is what counts.
//   libonnx (libonnx-dev): is the file what the specification says? Every node against its operator's schema, types and shapes inferred
//   from end to end. OpenCV (libopencv-dnn-dev): what does it compute? Version 4.6 knows no LayerNormalization: convolutional networks
//   only. ONNX Runtime, which knows all: tools/check_onnx.py, over the files of a test run with EQ_ONNX_FOLDER set to an empty folder.

#include <string>

#include "core/tensor.h"

namespace eq::test {

// Throws std::exception with the reason unless the model is valid, its shapes included. Does nothing without the library.
void check_onnx(const std::string& bytes);
bool can_check_onnx();

// The first output for the first input, both float32. Throws std::exception; undefined without OpenCV.
Tensor run_in_opencv(const std::string& bytes, const Tensor& input);

// Writes <name>.onnx and <name>.safetensors (its "input" and "output") into EQ_ONNX_FOLDER, if that is set.
void keep_for_runtime(const std::string& name, const std::string& bytes, const Tensor& input, const Tensor& output);

}  // namespace eq::test
