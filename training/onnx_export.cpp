#include "training/onnx_export.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/file.h"
#include "onnx/export.h"
#include "onnx/translation.h"

namespace eq {
namespace {

void choose_size(const Config& config, OnnxExportOptions& options) {
  if (options.height == 0 && config.evaluate.mode == "slide") {
    options.height = config.evaluate.crop[0], options.width = config.evaluate.crop[1];
  }
  if (options.height == 0 && config.pipeline.crop) options.height = (*config.pipeline.crop)[0], options.width = (*config.pipeline.crop)[1];
  if (options.height < 1 || options.width < 1) {
    throw UsageError("an exported network is for pictures of one size, and the configuration names none", "export",
                     "give it, for example --size 512 512");
  }
  if (options.batch < 0) {
    throw UsageError("there is no batch of " + std::to_string(options.batch) + " pictures", "export",
                     "give 1 or more, or 0 for any number");
  }
}

// From the file's input to the network's: a picture's pixels, normalised.
void begin_graph(OnnxTranslation& to, const PipelineOptions& pipeline, const OnnxExportOptions& options, int64_t batch) {
  OnnxGraph& graph = to.graph();
  if (options.normalized) return to.name_first(0, graph.input("image", DType::kFloat32, {batch, 3, options.height, options.width}));
  const std::string pixels = graph.input("picture", DType::kUInt8, {batch, options.height, options.width, 3});
  const auto constant = [&](const std::array<double, 3>& values, bool inverse, const char* name) {
    std::vector<float> three;
    for (double value : values) three.push_back(float(inverse ? 1 / value : value));
    return graph.constant(Tensor::from(three, {3}), name);
  };
  const std::string numbers = graph.add("Cast", {pixels}, {{"to", int64_t{OnnxGraph::element_type(DType::kFloat32)}}});
  const std::string centred = graph.add("Sub", {numbers, constant(pipeline.mean, false, "pixel.mean")});
  to.name_last(0, graph.add("Mul", {centred, constant(pipeline.std, true, "pixel.inverse_std")}));
}

void end_graph(OnnxTranslation& to, int scores, const OnnxExportOptions& options, int64_t batch) {
  OnnxGraph& graph = to.graph();
  const int64_t classes = to.shape(scores)[3];
  if (options.labels) {
    const std::string best = graph.add("ArgMax", {to.first(scores)}, {{"axis", int64_t{1}}, {"keepdims", int64_t{0}}});
    graph.add("Cast", {best}, {{"to", int64_t{OnnxGraph::element_type(DType::kUInt8)}}}, "labels");
    graph.output("labels", DType::kUInt8, {batch, options.height, options.width});
  } else {
    graph.add("Identity", {to.first(scores)}, {}, "scores");
    graph.output("scores", DType::kFloat32, {batch, classes, options.height, options.width});
  }
}

void describe(OnnxGraph& graph, const TrainedModel& trained) {
  nlohmann::ordered_json palette = nlohmann::ordered_json::array();
  for (const auto& color : trained.card.palette) palette.push_back(color);
  graph.describe("classes", nlohmann::json(trained.card.class_names).dump());
  graph.describe("palette", palette.dump());
  graph.describe("mean", nlohmann::json(trained.config.pipeline.mean).dump());
  graph.describe("std", nlohmann::json(trained.config.pipeline.std).dump());
  graph.describe("iteration", std::to_string(trained.card.iteration));
}

std::string size_text(int64_t batch, std::initializer_list<int64_t> rest) {
  return fmt::format("[{}, {}]", batch == OnnxGraph::kAnyBatch ? "N" : std::to_string(batch), fmt::join(rest, ", "));
}

}  // namespace

OnnxExportReport export_onnx(TrainedModel& trained, const std::filesystem::path& file, const OnnxExportOptions& asked) {
  OnnxExportOptions options = asked;
  choose_size(trained.config, options);
  EncoderDecoder& model = *trained.model;
  if (model.is_training()) throw UsageError("the network is in training mode", trained.source, "call model->eval() before it is exported");
  NoGradGuard no_grad;
  const auto traced = [&](int64_t batch, TraceInput which) {
    return TracedFunction([&](const Tensor& x) { return model.predict(x); },
                          trace_input({batch, options.height, options.width, 3}, which, model.device()));
  };
  const TracedFunction network = traced(std::max<int64_t>(options.batch, 1), TraceInput::kFirst);
  const TracedFunction beside = traced(options.batch > 0 ? options.batch : 2, TraceInput::kSecond);

  OnnxGraph graph(trained.config.model.decode_head.type + "-" + backbone_name(trained.config.model.backbone));
  OnnxTranslation to(graph, network.trace, beside.trace, model.memory_names());
  const int64_t batch = options.batch > 0 ? options.batch : OnnxGraph::kAnyBatch, classes = to.shape(network.result)[3];
  begin_graph(to, trained.config.pipeline, options, batch);
  to.run();
  end_graph(to, network.result, options, batch);
  describe(graph, trained);
  const std::string bytes = graph.bytes();
  write_text_atomically(file, bytes);
  return {.input = options.normalized ? "image: float32 " + size_text(batch, {3, options.height, options.width})
                                      : "picture: uint8 " + size_text(batch, {options.height, options.width, 3}),
          .output = options.labels ? "labels: uint8 " + size_text(batch, {options.height, options.width})
                                   : "scores: float32 " + size_text(batch, {classes, options.height, options.width}),
          .operators = graph.nodes(),
          .bytes = int64_t(bytes.size())};
}

}  // namespace eq
