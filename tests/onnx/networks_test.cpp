// Exported networks: the goldens' (weights that are functions of their names), with every kind of equalizer.
#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/safetensors.h"
#include "models/hashed_weights.h"
#include "onnx/external.h"
#include "support.h"
#include "training/fold.h"
#include "training/onnx_export.h"

using namespace eq;
using namespace eq::test;

namespace {

constexpr int64_t kHeight = 72, kWidth = 40, kClasses = 5;

// One of tests/golden, as if it were trained. Settings as in a configuration.
TrainedModel golden_network(const std::string& name, const std::vector<std::string>& settings = {}) {
  const WeightsFile file = read_safetensors(EQ_GOLDEN_DIR "/" + name + ".safetensors");
  nlohmann::json config = {{"model", nlohmann::json::parse(file.metadata.at("model"))}};
  config["model"].erase("num_classes");
  TrainedModel trained{.config = parse_config(config.dump(), name, settings)};
  trained.config.model.num_classes = kClasses;
  trained.card.class_names = {"sky", "road", "car", "tree", "\"quoted\" ground"};
  trained.card.palette = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}, {10, 11, 12}, {255, 255, 255}};
  trained.model = std::make_unique<EncoderDecoder>(trained.config.model);
  auto state = trained.model->state_dict();
  for (auto& [key, value] : state) {
    if (is_floating(value.dtype())) value = initial_value(key, value.shape());
  }
  trained.model->load_state_dict(state);
  trained.model->eval();
  return trained;
}

Tensor picture(int64_t batch) { return (add(hashed("picture", {batch, kHeight, kWidth, 3}), 0.0) * 255.0).to(DType::kUInt8); }

Tensor normalized(const Tensor& pixels, const PipelineOptions& pipeline) {
  const auto three = [](const std::array<double, 3>& values) {
    return Tensor::from(std::vector<float>{float(values[0]), float(values[1]), float(values[2])}, {3});
  };
  return div(sub(pixels.to(DType::kFloat32), three(pipeline.mean)), three(pipeline.std));
}

std::string export_bytes(TrainedModel& trained, OnnxExportOptions options) {
  const TemporaryFolder folder;
  if (options.height == 0) options.height = kHeight, options.width = kWidth;
  export_onnx(trained, folder.path() / "network.onnx", options);
  return read_file(folder.path() / "network.onnx");
}

// Any batch, pixels to scores: valid, and kept for ONNX Runtime with three pictures.
void check_network(const std::string& name, TrainedModel& trained) {
  CAPTURE(name);
  std::string bytes;
  REQUIRE_NOTHROW(bytes = export_bytes(trained, {}));
  CHECK_NOTHROW(check_onnx(bytes));
  const Tensor pixels = picture(3);
  keep_for_runtime(name, bytes, pixels, permute(trained.model->predict(normalized(pixels, trained.config.pipeline)), {0, 3, 1, 2}));
}

// One normalised picture, to scores.
void check_in_opencv(const std::string& name, TrainedModel& trained) {
  CAPTURE(name);
  const std::string bytes = export_bytes(trained, {.batch = 1, .normalized = true});
  const Tensor image = normalized(picture(1), trained.config.pipeline);
  Tensor scores;
  REQUIRE_NOTHROW(scores = run_in_opencv(bytes, permute(image, {0, 3, 1, 2})));
  if (scores.defined()) check_close(scores, permute(trained.model->predict(image), {0, 3, 1, 2}), 1e-4);
}

constexpr const char* kEqualizers[] = {"explicit", "learnable", "folded", "folded_lr", "batch_norm", "layer_norm", "l2_norm", "weighted"};

}  // namespace

TEST_CASE("onnx: every backbone and every head is valid, for any batch", "[onnx]") {
  for (const char* name :
       {"psp_resnet18_d8", "aspp_resnet18_d16", "sep_aspp_mobilenet_d8", "sep_aspp_without_c1", "upernet_mobilenet", "fcn_hrnet_w18_small",
        "fcn_resize_concat", "upernet_swin", "fcn_swin_base", "upernet_convnext", "upernet_twins_svt", "fcn_twins_pcpvt"}) {
    TrainedModel trained = golden_network(name),
                 equalized = golden_network(name, {"equalizer.mode=explicit", "equalizer.granularity=channel"});
    check_network(name, trained);
    check_network(std::string(name) + "_equalized", equalized);
  }
}

TEST_CASE("onnx: every kind of equalizer is valid", "[onnx]") {
  for (const char* mode : kEqualizers) {
    TrainedModel trained = golden_network("upernet_mobilenet", {std::string("equalizer.mode=") + mode});
    check_network(std::string("equalizer_") + mode, trained);
  }
}

// Not those with ReLU6, whose limits OpenCV 4.6 does not read.
TEST_CASE("onnx: OpenCV computes the scores of convolutional networks", "[onnx]") {
  for (const char* name : {"psp_resnet18_d8", "aspp_resnet18_d16", "upernet_resnet18", "fcn_hrnet_w18_small"}) {
    for (const char* setting : {"equalizer.mode=off", "equalizer.mode=explicit", "model.upsampling=nearest"}) {
      TrainedModel trained = golden_network(name, {setting});
      check_in_opencv(name, trained);
    }
  }
  TrainedModel folded = golden_network("upernet_resnet18", {"equalizer.mode=explicit"});
  fold_equalizers(folded);
  check_in_opencv("folded", folded);
}

TEST_CASE("onnx: labels are the classes of the highest scores", "[onnx]") {
  TrainedModel trained = golden_network("upernet_mobilenet", {"equalizer.mode=explicit"});
  const std::string bytes = export_bytes(trained, {.batch = 2, .labels = true});
  CHECK_NOTHROW(check_onnx(bytes));
  const Tensor pixels = picture(2);
  keep_for_runtime("labels", bytes, pixels,
                   argmax(trained.model->predict(normalized(pixels, trained.config.pipeline)), 3).to(DType::kUInt8));
}

TEST_CASE("onnx: a file says what it is for", "[onnx]") {
  TrainedModel trained = golden_network("upernet_mobilenet", {"equalizer.mode=explicit"});
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.onnx";
  const OnnxExportReport report = export_onnx(trained, file, {.height = 64, .width = 96});
  CHECK(report.input == "picture: uint8 [N, 64, 96, 3]");
  CHECK(report.output == "scores: float32 [N, 5, 64, 96]");
  CHECK(report.bytes == int64_t(std::filesystem::file_size(file)));
  const std::string bytes = read_file(file);
  for (const char* text :
       {"[\"sky\",\"road\",\"car\",\"tree\",\"\\\"quoted\\\" ground\"]", "[[1,2,3],[4,5,6],[7,8,9],[10,11,12],[255,255,255]]",
        "decode_head.fpn_bottleneck.conv.weight", "decode_head.ppm_fusion.equalizers.0.mean", "uper-mobilenet"}) {
    CAPTURE(text);
    CHECK(bytes.find(text) != std::string::npos);
  }
  // The same network, the same bytes.
  export_onnx(trained, folder.path() / "b.onnx", {.height = 64, .width = 96});
  CHECK(read_file(folder.path() / "b.onnx") == bytes);
  // A size from the configuration.
  trained.config.pipeline.crop = {{48, 80}};
  CHECK(export_onnx(trained, file, {.normalized = true, .labels = true}).input == "image: float32 [N, 3, 48, 80]");
  trained.config.evaluate.mode = "slide";
  trained.config.evaluate.crop = {64, 32};
  CHECK(export_onnx(trained, file, {.batch = 4, .labels = true}).output == "labels: uint8 [4, 64, 32]");
}

TEST_CASE("onnx: what cannot be exported says why, and leaves the file that was there", "[onnx]") {
  TrainedModel trained = golden_network("upernet_mobilenet");
  const TemporaryFolder folder;
  const auto file = folder.path() / "a.onnx";
  write_file(file, "as before");
  trained.config.pipeline.crop.reset();
  CHECK_THROWS_WITH(export_onnx(trained, file, {}), Catch::Contains("the configuration names none"));
  CHECK_THROWS_WITH(export_onnx(trained, file, {.height = 64, .width = 64, .batch = -1}), Catch::Contains("batch of -1"));
  trained.model->train();
  CHECK_THROWS_WITH(export_onnx(trained, file, {.height = 64, .width = 64}), Catch::Contains("training mode"));
  CHECK(read_file(file) == "as before");
}
