#pragma once
// A trained network with all that is needed to use it: what `eval` and `predict` start from.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "datasets/image.h"
#include "models/segmentor.h"
#include "training/checkpoint.h"
#include "training/config.h"

namespace eq {

struct TrainedModel {
  Config config;
  ModelCard card;
  std::unique_ptr<EncoderDecoder> model;  // in evaluation mode
  std::string source;                     // the file or folder that it came from
};

// `path` is a run's folder (its model.safetensors, or its checkpoint/ while there is none), a checkpoint's folder, or a weights file that
// save_weights wrote. Of a checkpoint with averaged weights, these. `settings` change the configuration as in load_config. Throws IoError,
// DataError (damaged, no description inside, tensors that do not fit) and UsageError (settings).
TrainedModel load_trained_model(const std::filesystem::path& path, const std::vector<std::string>& settings = {});

// In a run's folder, with train.keep_best: the weights of the evaluation with the highest mIoU.
inline constexpr const char* kBestWeights = "model_best.safetensors";

// What a weights file says of its network. Throws as above.
ModelCard read_weights_card(const std::filesystem::path& file);

// A network whose weights are about to be replaced: zeros, in training mode, and without a look at model.backbone.pretrained.
std::unique_ptr<EncoderDecoder> untrained_model(const ModelOptions& options);

// The model's state dict as safetensors, the card in its metadata. Atomic. Returns the sha256 of the state.
std::string save_weights(const std::filesystem::path& path, const Module& model, const ModelCard& card);

// Classes of a picture of any size, at its own size, by the configuration's pipeline and evaluation mode.
LabelMap predict_labels(TrainedModel& trained, const Image& image);

}  // namespace eq
