#pragma once
// Any function of one tensor that is made of operators, as an ONNX file in one call.
//
//   model.eval();
//   export_onnx("model.onnx", [&](const Tensor& x) { return model(x); }, {1, 224, 224, 3}, {.names = model.memory_names()});

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "autograd/trace.h"

namespace eq {

using TensorFunction = std::function<Tensor(const Tensor& x)>;

struct OnnxFunctionOptions {
  std::string input = "input", output = "output";  // what the file calls them
  std::map<uint64_t, std::string> names;           // of parameters, by Tensor::memory_id(): Module::memory_names()
  bool any_batch = true;                           // the input's first extent stays open
  bool channels_first = true;  // input and output of rank 4 are [N,C,H,W] in the file, as its readers expect; else [N,H,W,C]
  DType dtype = DType::kFloat32;                   // of the input
  Device device = Device::cpu();                   // where the function computes
};

// Writes the function as it is applied to an input of that shape, [N,H,W,C] for images. It is called twice, with noise of two kinds (and
// two sizes of batch), and must apply the same operators each time: networks are in evaluation mode. Throws AutogradError where the calls
// differ in more than the batch, or the function reads a value that depends on x; UsageError for a result that did not come from x through
// operators, or an operator without translation; and IoError.
void export_onnx(const std::filesystem::path& file, const TensorFunction& function, const Shape& input,
                 const OnnxFunctionOptions& options = {});

// --- for who writes more than the function into the file (training/onnx_export.h), with OnnxTranslation ---

// What a function did with x, and where its result is in the trace (-1: nowhere).
struct TracedFunction {
  TracedFunction(const TensorFunction& function, const Tensor& x);
  Trace trace;
  int result = -1;
};

// Noise to trace with, float32: [0, 1) for the first trace, (-100, 0] for the second. What a function computes or decides by their values
// is then likely to differ, also where Trace cannot see it read them.
enum class TraceInput { kFirst, kSecond };
Tensor trace_input(const Shape& shape, TraceInput which, Device device = Device::cpu());

}  // namespace eq
