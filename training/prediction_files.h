#pragma once
// Predictions of picture files, as files: what `predict` writes.

#include <filesystem>
#include <functional>
#include <vector>

#include "core/errors.h"
#include "training/trained_model.h"

namespace eq {

struct PictureFile {
  PictureFile(std::filesystem::path of, std::filesystem::path in = {}) : file(std::move(of)), below(std::move(in)) {}
  std::filesystem::path file;
  std::filesystem::path below;  // where its prediction goes in the folder of predictions
};

// The pictures that `paths` name: files as they are, folders by their pictures (by suffix, sorted, however deep; `below` as they are
// there). The folders' other files are `left_out`, hidden ones apart, and what is in `predictions`, which may lie in such a folder, is
// neither. Throws IoError for what does not exist and DataError for a folder without pictures.
struct PictureList {
  std::vector<PictureFile> pictures;
  std::vector<std::filesystem::path> left_out;
};
PictureList list_pictures(const std::vector<std::filesystem::path>& paths, const std::filesystem::path& predictions = {});

struct PredictionFileOptions {
  bool label_values =
      false;  // in the label maps, instead of class indices: what the data set's label files have, as benchmarks want them (label_map_of)
  bool probabilities = false;  // also write <stem>_probabilities.safetensors: float32 "probabilities" [K,H,W] of the picture's size, the
                               // class names in its metadata
  std::function<bool()> stop = {};  // asked before each picture; true: the others are not predicted
};

struct PredictedFiles {
  std::filesystem::path picture, labels, overlay, probabilities;  // the last one is empty where it is not asked for
};
// Reads each picture and writes <stem>.png (class indices, with the palette) and <stem>_overlay.png into `folder` / below, made if
// missing; stems are the pictures' own, made distinct. Throws UsageError, before any work, where that would overwrite what no prediction
// wrote: the folder is a picture's own, or one of the two files is there without the other. `done`, if there is one, is called after each
// picture; one that cannot be read, or is too small, is then no reason to stop: it comes with its error. What cannot be written always is.
// Returns the files of the pictures that it came to.
using OnPredicted = std::function<void(const PredictedFiles& files, const Error* error)>;
std::vector<PredictedFiles> predict_files(TrainedModel& trained, const std::vector<PictureFile>& pictures,
                                          const std::filesystem::path& folder, const PredictionFileOptions& options = {},
                                          const OnPredicted& done = {});

}  // namespace eq
