#pragma once
// A trained network with all that is needed to use it: what `eval` and `predict` start from.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/errors.h"
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

// A network whose weights are about to be replaced: zeros, in training mode, and without a look at model.backbone.pretrained.
std::unique_ptr<EncoderDecoder> untrained_model(const ModelOptions& options);

// The model's state dict as safetensors, the card in its metadata. Atomic. Returns the sha256 of the state.
std::string save_weights(const std::filesystem::path& path, const Module& model, const ModelCard& card);

// Classes of a picture of any size, at its own size, by the configuration's pipeline and evaluation mode.
LabelMap predict_labels(TrainedModel& trained, const Image& image);

// The pictures that `paths` name: files as they are, folders by their pictures (by suffix, sorted, not deeper); the folders' other files are `left_out`,
// hidden ones apart. Throws IoError for what does not exist and DataError for a folder without pictures.
struct PictureList {
  std::vector<std::filesystem::path> pictures, left_out;
};
PictureList list_pictures(const std::vector<std::filesystem::path>& paths);

struct PredictedFiles {
  std::filesystem::path picture, labels, overlay;
};
// Reads each picture and writes <stem>.png (class indices, with the palette) and <stem>_overlay.png into `folder`, which is made if missing; stems are the
// pictures' own, made distinct. Throws UsageError, before any work, where that would overwrite what no prediction wrote: the folder is a picture's own, or one of
// the two files is there without the other. `done`, if there is one, is called after each picture; one that cannot be read, or is too small, is then
// no reason to stop: it comes with its error. What cannot be written always is.
using OnPredicted = std::function<void(const PredictedFiles& files, const Error* error)>;
std::vector<PredictedFiles> predict_files(TrainedModel& trained, const std::vector<std::filesystem::path>& pictures,
                                          const std::filesystem::path& folder, const OnPredicted& done = {});

}  // namespace eq
