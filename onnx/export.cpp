#include "onnx/export.h"

#include <vector>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/random.h"
#include "onnx/translation.h"

namespace eq {

TracedFunction::TracedFunction(const TensorFunction& function, const Tensor& x) : trace({x}) {
  const Tensor y = function(x);
  trace.end();
  if (y.defined()) result = trace.find(y);
}

Tensor trace_input(const Shape& shape, TraceInput which, Device device) {
  Tensor values = Tensor::empty(shape);  // not a vector, whose memory nobody limits
  const bool first = which == TraceInput::kFirst;
  const double limit = first ? 1 : -100;
  Random random(first ? 1 : 2);
  for (int64_t i = 0; i < values.numel(); ++i) values.data<float>()[i] = float(limit * random.uniform());
  return values.to(device);
}

void export_onnx(const std::filesystem::path& file, const TensorFunction& function, const Shape& input,
                 const OnnxFunctionOptions& options) {
  if (options.any_batch && input.rank() == 0) {
    throw UsageError("an input without axes has no batch to leave open", "export_onnx to " + file.string(), "set any_batch = false");
  }
  const NoGradGuard no_grad;
  Shape other = input;
  if (options.any_batch) other.set(0, input[0] + 1);
  const TracedFunction traced(function, trace_input(input, TraceInput::kFirst, options.device).to(options.dtype));
  const TracedFunction beside(function, trace_input(other, TraceInput::kSecond, options.device).to(options.dtype));

  OnnxGraph graph(file.stem().string());
  OnnxTranslation to(graph, traced.trace, beside.trace, options.names);
  const auto first = [&](int value) { return options.channels_first && to.shape(value).rank() == 4; };
  const auto extents = [&](int value) {
    const std::vector<int64_t> e = to.extents(value);
    return first(value) ? std::vector<int64_t>{e[0], e[3], e[1], e[2]} : e;
  };
  to.name(0, first(0), graph.input(options.input, to.dtype(0), extents(0)));
  to.run();
  const int y = traced.result;
  const std::string output = graph.add("Identity", {first(y) ? to.first(y) : to.last(y)}, {}, options.output);
  graph.output(output, to.dtype(y), extents(y));
  write_text_atomically(file, graph.bytes());
}

}  // namespace eq
