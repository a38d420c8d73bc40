#pragma once
// Checkpoints: a folder with the tensors in safetensors files and a manifest that says which files count.
//
//   manifest.json                                  what is written last, by renaming: it makes the others valid
//   model-00000500-<hash>.safetensors              parameters and buffers, PyTorch's names and layouts
//   optimizer-00000500-<hash>.safetensors, ema-…   the optimizer's state (our memory order), the averaged weights
//
// File names carry a hash of their content, so no file that a manifest names is ever overwritten by another content, and old files are
// deleted only after the new manifest is in place: whenever the machine stops or the disk fills, the manifest that is there names complete
// files. Loading verifies a checksum for every tensor.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "datasets/image.h"
#include "layers/module.h"

namespace eq {

using TensorMap = std::map<std::string, Tensor>;

// What a network needs to be used again, besides its weights.
struct ModelCard {
  std::string config;  // resolved, JSON
  std::vector<std::string> class_names;
  Palette palette;     // a colour for each class
  int64_t iteration = 0;  // updates made
  std::vector<std::string> own_parts;  // of its training, which no configuration says (TrainRequest)
  std::optional<double> miou;   // of the evaluation that these weights were kept for
  std::string library_version;  // of the writer; set when saved
};

// Sums over the steps since the last row of metrics, which a resumed run goes on with.
struct LossInterval {
  int64_t steps = 0;
  double loss = 0, main_loss = 0, aux_loss = 0, seconds = 0, wait = 0;
};

// Time of training steps: without checks, calibration, evaluation and writing.
struct StepTimes {
  int64_t steps = 0;
  double seconds = 0, wait = 0;  // of these, for the loader
};

// Which pictures a split had; no names: they were generated.
struct SplitPrint {
  int64_t pictures = 0;
  std::string names;  // a hash of the files' names, in the set's order; empty where there are no files
  bool operator==(const SplitPrint&) const = default;
};

struct Checkpoint {
  ModelCard card;
  double seconds = 0;  // so far, evaluation and all else included
  StepTimes times;
  LossInterval interval;
  std::map<std::string, SplitPrint> data;  // "train", "val"; older checkpoints have none
  TensorMap model, optimizer;
  TensorMap ema;  // may be empty
};

// Whether `folder` holds a checkpoint (its manifest), readable or not: also where that cannot be told, and reading it says why.
bool has_checkpoint(const std::filesystem::path& folder);

// Replaces the checkpoint in `folder`, which is made if missing. Throws IoError (disk full, ...): the one that was there is then untouched.
void save_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint);

// Throws IoError, or DataError naming the file and the tensor: a manifest of another kind or version, missing, damaged or foreign tensors.
Checkpoint load_checkpoint(const std::filesystem::path& folder);

// The file of the weights that count: the averaged ones where there are such, else the model.
std::filesystem::path checkpoint_weights_file(const std::filesystem::path& folder);

// The manifest alone.
ModelCard load_checkpoint_card(const std::filesystem::path& folder);

// The card as text and back, for the metadata of a weights file. read throws DataError naming `source`.
std::string write_card(const ModelCard& card);
ModelCard read_card(const std::string& text, const std::string& source);

// load_state_dict (strict); but when the classifier has another number of classes, the error names both counts and the tensor.
void load_weights(Module& model, const TensorMap& state, const std::string& source);

}  // namespace eq
