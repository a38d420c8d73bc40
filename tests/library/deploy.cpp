// A trained run on a picture's file, and a module of one's own as an ONNX model.
#include "programs.h"

#include "core/file.h"
#include "datasets/image.h"
#include "layers/layers.h"
#include "onnx/export.h"
#include "training/trained_model.h"
#include "training/trainer.h"

using namespace eq;

namespace {

void predict(const std::filesystem::path& run, const std::filesystem::path& picture, const std::filesystem::path& out) {
  TrainedModel trained = load_trained_model(run);
  const Image image = read_image(picture);
  const LabelMap labels = predict_labels(trained, image);
  write_png(out / "overlay.png", overlay(image, labels, trained.card.palette, kIgnoreIndex));
  write_indexed_png(out / "labels.png", labels, trained.card.palette);
}

void export_layer(Layer& layer, const std::filesystem::path& file) {
  layer.eval();
  export_onnx(file, [&](const Tensor& x) { return layer(x); }, {1, 64, 64, 3}, {.names = layer.memory_names()});
}

}  // namespace

void deploy(const std::filesystem::path& folder) {
  const std::filesystem::path run = folder / "run";
  std::filesystem::remove_all(run);
  Config config = parse_config(R"({
    "data": {"size": 64, "val_images": 2},
    "model": {"backbone": {"width": 8}, "decode_head": {"type": "fcn", "channels": 8}},
    "train": {"iterations": 2, "batch_size": 2}})", "deploy");
  train(config, {.out = run, .log = nullptr});
  write_png(folder / "picture.png", {40, 70, std::vector<uint8_t>(40 * 70 * 3, 128)});
  predict(run, folder / "picture.png", folder);
  expect(probe_picture(folder / "labels.png").width == 70, "predictions have the picture's size");

  Sequential layers;
  layers.append<ConvModule>(3, 8, 3);
  layers.append<Conv2d>(8, 4, Conv2dLayerOptions{});
  export_layer(layers, folder / "layers.onnx");
  expect(std::filesystem::file_size(folder / "layers.onnx") > 1000, "the model is there");
}
