// equiscale summary CONFIG: layers, shapes, parameters, multiply-adds, receptive fields, memory.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "app/common.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/receptive_field.h"
#include "core/allocator.h"
#include "core/words.h"
#include "datasets/dataset.h"
#include "models/segmentor.h"
#include "training/train_step.h"
#include "training/trained_model.h"

namespace eq::app {
namespace {

struct Row {
  std::string name, description, output;
  int64_t parameters = 0, macs = 0;
  std::optional<ReceptiveField> field;
};

int64_t own_parameters(Module& module) {
  int64_t total = 0;
  for (const auto& parameter : module.named_parameters()) {
    if (parameter.name.find('.') == std::string::npos) total += parameter.tensor.numel();
  }
  return total;
}

// One evaluation pass over one picture, seen layer by layer.
std::vector<Row> trace(EncoderDecoder& model, int64_t height, int64_t width) {
  std::vector<Row> rows;
  std::vector<int> values;  // in the trace
  model.eval();
  const Tensor picture = Tensor::zeros({1, height, width, 3}, DType::kFloat32, model.device());
  Trace trace({picture});
  LayerObserver observer([&](Layer& layer, const Tensor& input, const Tensor& output) {
    if (layer.description().empty()) return;
    rows.push_back({layer.path(), layer.description(), to_string(output.shape()), own_parameters(layer), layer.macs(input, output), {}});
    values.push_back(trace.find(output));
  });
  model.predict(picture);
  trace.end();
  const ReceptiveFields fields(trace);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].field = fields.of(values[i]);
  return rows;
}

std::string pixels(int64_t extent) { return extent == ReceptiveField::kGlobal ? "global" : std::to_string(extent); }

// "435", "96 x 120" (width x height, as pictures are given), "global"; nothing where a cell is no place in the picture.
std::string field_text(const std::optional<ReceptiveField>& field) {
  if (!field) return "";
  return field->rows == field->columns ? pixels(field->rows) : pixels(field->columns) + " x " + pixels(field->rows);
}

std::string stride_text(const std::optional<ReceptiveField>& field) {
  if (!field || field->row_stride == 0) return "";
  const std::string columns = fmt::format("{:.3g}", field->column_stride), rows = fmt::format("{:.3g}", field->row_stride);
  return rows == columns ? rows : columns + " x " + rows;
}

nlohmann::json field_json(const std::optional<ReceptiveField>& field) {
  if (!field) return nullptr;
  const auto extent = [](int64_t pixels) { return pixels == ReceptiveField::kGlobal ? nlohmann::json("global") : nlohmann::json(pixels); };
  return {{"height", extent(field->rows)},
          {"width", extent(field->columns)},
          {"stride_height", field->row_stride},
          {"stride_width", field->column_stride}};
}

// Bytes that tensors hold at most in a training step, and in one of `few` pictures, which were measured.
struct StepMemory {
  int64_t few = 0;
  double bytes = 0, few_bytes = 0;
};

// Measured by running steps. What is more with more pictures is what they take, so of a large batch a few pictures and half of them are
// run.
StepMemory measure_step(EncoderDecoder& model, Config config, int64_t height, int64_t width) {
  config.train.accumulate = 1;
  model.train();
  TrainStep step(model, config);
  const auto peak_of = [&](int64_t batch, int64_t h, int64_t w) {
    allocator(model.device()).reset_peak();
    step.run(0, [&] { return Batch{.images = Tensor::zeros({batch, h, w, 3}), .labels = Tensor::zeros({batch, h, w}, DType::kUInt8)}; });
    return double(allocator(model.device()).stats().peak_bytes);
  };
  const int64_t batch = config.train.batch_size, quick = (int64_t{1} << 18) / (height * width);
  const int64_t half = std::min(batch, std::clamp<int64_t>(quick, 2, std::max<int64_t>(2, batch / 2))),
                few = half == batch ? batch : 2 * half;
  fmt::print(stderr, "measuring the memory of a training step on {} of {} x {} (--no-memory leaves it out)\n",
             counted(half == batch ? batch : half + few, "picture"), width, height);
  peak_of(half, std::min<int64_t>(height, 64),
          std::min<int64_t>(width, 64));  // the optimizer's state is there from the first step on, whatever the pictures
  const double half_bytes = peak_of(half, height, width);
  if (half == batch) return {batch, half_bytes, half_bytes};
  const double few_bytes = peak_of(few, height, width);
  return {few, half_bytes + (few_bytes - half_bytes) * double(batch - half) / double(few - half), few_bytes};
}

void print(const std::vector<Row>& rows, const EncoderDecoder& model, int64_t height, int64_t width) {
  fmt::print("{:<44} {:<34} {:<20} {:>12} {:>10} {:>9} {:>6}\n", "layer", "what", "output", "parameters", "MACs", "field", "stride");
  int64_t macs = 0;
  for (const Row& row : rows) {
    macs += row.macs;
    fmt::print("{:<44} {:<34} {:<20} {:>12} {:>10} {:>9} {:>6}\n", row.name, row.description, row.output,
               row.parameters ? std::to_string(row.parameters) : "", row.macs ? human_count(double(row.macs)) : "", field_text(row.field),
               stride_text(row.field));
  }
  fmt::print("\nparameters {} ({}); MACs of one {} x {} picture {}\n", model.parameter_count(),
             human_bytes(double(model.parameter_count()) * 4), width, height, human_count(double(macs)));
  fmt::print(
      "field: the pixels on a side that a cell depends on; stride: pixels from a cell to the next; global: the whole picture, as after "
      "pooling to one cell\n");
}

}  // namespace

void add_summary(CLI::App& app) {
  CLI::App* command = add_command(app, "summary", "Show a model's layers, shapes, parameters, multiply-adds, receptive fields and memory",
                                  "equiscale summary recipes/shapes_upernet_resnet18.json");
  auto config_options = std::make_shared<ConfigOptions>();
  auto machine = std::make_shared<MachineOptions>();
  auto json = std::make_shared<bool>(false), no_memory = std::make_shared<bool>(false);
  config_options->add_to(command);
  machine->add_to(command);
  command->add_flag("--no-memory", *no_memory,
                    "Do not measure the memory of a training step: for large pictures that takes a minute, the rest a second");
  command->add_flag("--json", *json, "Print JSON");
  command->callback([=] {
    machine->apply();
    Config config = config_options->load();
    note_unread_keys(config);
    config.model.num_classes = class_count(config.data);
    if (config.model.num_classes == 0) config.model.num_classes = make_dataset(config.data, "train")->num_classes();
    const auto model = untrained_model(config.model);
    const auto [height, width] = config.pipeline.crop.value_or(config.data.type == "shapes" ? std::array{config.data.size, config.data.size}
                                                                                            : std::array<int64_t, 2>{512, 512});
    const std::vector<Row> rows = trace(*model, height, width);
    if (*json) {
      nlohmann::json layers = nlohmann::json::array();
      int64_t macs = 0;
      for (const Row& row : rows) {
        macs += row.macs;
        layers.push_back({{"name", row.name},
                          {"what", row.description},
                          {"output", row.output},
                          {"parameters", row.parameters},
                          {"macs", row.macs},
                          {"field", field_json(row.field)}});
      }
      nlohmann::json all = {
          {"layers", layers}, {"parameters", model->parameter_count()}, {"macs", macs}, {"height", height}, {"width", width}};
      if (!*no_memory) all["train_step_bytes"] = int64_t(measure_step(*model, config, height, width).bytes);
      print_json(all);
      return;
    }
    print(rows, *model, height, width);
    if (*no_memory) return;
    std::fflush(stdout);  // to be read while memory is measured
    const StepMemory memory = measure_step(*model, config, height, width);
    fmt::print("a training step of {} holds about {} of tensors, the optimizer's state included{}\n",
               counted(config.train.batch_size, "picture"), human_bytes(memory.bytes),
               memory.few == config.train.batch_size ? "" : fmt::format(" (with {}: {})", memory.few, human_bytes(memory.few_bytes)));
  });
}

}  // namespace eq::app
