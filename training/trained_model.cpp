#include "training/trained_model.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "core/errors.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "core/sha256.h"
#include "core/words.h"
#include "datasets/label_map.h"
#include "datasets/transforms.h"
#include "training/evaluator.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCardKey = "equiscale";
constexpr const char* kSuffixes[] = {".jpg", ".jpeg", ".png", ".bmp", ".tga", ".ppm", ".pgm", ".pnm"};

bool looks_like_picture(const fs::path& path) {
  const std::string suffix = lower(path.extension().string());
  return std::find(std::begin(kSuffixes), std::end(kSuffixes), suffix) != std::end(kSuffixes);
}

TrainedModel build(ModelCard card, const TensorMap& state, const std::string& source, const std::vector<std::string>& settings) {
  TrainedModel trained;
  trained.config = parse_config(card.config, source, settings);
  trained.config.model.num_classes = int64_t(card.class_names.size());
  trained.model = untrained_model(trained.config.model);
  load_weights(*trained.model, state, source);
  trained.model->eval();
  trained.card = std::move(card);
  trained.source = source;
  return trained;
}

TrainedModel load_folder(const fs::path& folder, const std::vector<std::string>& settings) {
  Checkpoint checkpoint = load_checkpoint(folder);
  return build(std::move(checkpoint.card), checkpoint.ema.empty() ? checkpoint.model : checkpoint.ema, folder.string(), settings);
}

}  // namespace

std::unique_ptr<EncoderDecoder> untrained_model(const ModelOptions& options) {
  const InitZeros zeros;
  return std::make_unique<EncoderDecoder>(without_pretrained(options));
}

TrainedModel load_trained_model(const fs::path& path, const std::vector<std::string>& settings) {
  if (fs::is_directory(path)) {
    if (fs::exists(path / "model.safetensors")) return load_trained_model(path / "model.safetensors", settings);
    if (has_checkpoint(path / "checkpoint")) return load_folder(path / "checkpoint", settings);
    if (has_checkpoint(path)) return load_folder(path, settings);
    throw IoError("there is no trained network in this folder", path.string(),
                  "give the folder of a run (with model.safetensors or checkpoint/ in it), or a weights file");
  }
  SafetensorsFile file = read_safetensors(path);
  const auto card = file.metadata.find(kCardKey);
  if (card == file.metadata.end()) {
    throw DataError("the file does not say which network its weights belong to", path.string(),
                    "use a model.safetensors that `equiscale train` wrote; a network from elsewhere goes through `equiscale convert`");
  }
  return build(read_card(card->second, path.string()), file.tensors, path.string(), settings);
}

std::string save_weights(const fs::path& path, const Module& model, const ModelCard& card) {
  const TensorMap state = model.state_dict();
  write_safetensors(path, state, {{kCardKey, write_card(card)}, {"format", "pt"}});
  return sha256_hex(state);
}

LabelMap predict_labels(TrainedModel& trained, const Image& image) {
  const std::vector<Tensor> views = prepare_views(image, trained.config.pipeline, trained.config.evaluate);
  const Tensor classes = predict_classes(*trained.model, views, image.height, image.width, trained.config.evaluate);
  return {image.height, image.width, classes.to_vector<uint8_t>()};
}

PictureList list_pictures(const std::vector<fs::path>& paths) {
  PictureList list;
  for (const fs::path& path : paths) {
    if (!fs::exists(path)) throw IoError("there is no such file or folder", path.string(), "check the path");
    if (!fs::is_directory(path)) {
      list.pictures.push_back(path);
      continue;
    }
    std::vector<fs::path> found, others;
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_directory() || entry.path().filename().string().starts_with(".")) continue;
      (entry.is_regular_file() && looks_like_picture(entry.path()) ? found : others).push_back(entry.path());
    }
    if (found.empty()) throw DataError("there are no pictures in this folder", path.string(), "give pictures, or a folder with .jpg or .png files in it");
    std::sort(found.begin(), found.end());
    std::sort(others.begin(), others.end());
    list.pictures.insert(list.pictures.end(), found.begin(), found.end());
    list.left_out.insert(list.left_out.end(), others.begin(), others.end());
  }
  return list;
}

namespace {

PredictedFiles files_of(const fs::path& picture, const fs::path& folder, const std::string& stem) {
  return {picture, folder / (stem + ".png"), folder / (stem + "_overlay.png")};
}

// A prediction is written over nothing but an earlier one, which has both files: a picture's own folder may hold its label map under that name.
void check_targets(const std::vector<PredictedFiles>& all, const fs::path& folder) {
  const fs::path target = fs::weakly_canonical(fs::absolute(folder));
  for (const PredictedFiles& files : all) {
    if (fs::weakly_canonical(fs::absolute(files.picture).parent_path()) == target) {
      throw UsageError("predictions beside their pictures could overwrite these or their label maps", files.picture.string(),
                       "write them into another folder than " + folder.string());
    }
    if (const bool labels = fs::exists(files.labels); labels != fs::exists(files.overlay)) {
      throw UsageError("the prediction of " + files.picture.string() + " would overwrite a file that is no earlier prediction: those come in pairs",
                       (labels ? files.labels : files.overlay).string(), "write into another folder, or delete this file");
    }
  }
}

struct Prediction {
  Image image;
  LabelMap labels;
};

Prediction predict_picture(TrainedModel& trained, const fs::path& picture) {
  Prediction prediction{read_image(picture), {}};
  prediction.labels = naming_picture([&] { return picture.string(); }, [&] { return predict_labels(trained, prediction.image); });
  return prediction;
}

void write_prediction(const TrainedModel& trained, const Prediction& prediction, const PredictedFiles& files) {
  const auto& [image, labels] = prediction;
  make_folder(files.labels.parent_path());
  write_indexed_png(files.labels, labels, trained.card.palette);
  write_png(files.overlay, overlay(image, labels, trained.card.palette, kIgnoreIndex));
}

}  // namespace

std::vector<PredictedFiles> predict_files(TrainedModel& trained, const std::vector<fs::path>& pictures, const fs::path& folder,
                                          const OnPredicted& done) {
  if (folder.empty()) throw UsageError("predictions need a folder", "--out", "for example --out predicted");
  std::vector<PredictedFiles> files;
  std::set<std::string> used;
  for (const fs::path& picture : pictures) {
    // Two pictures of one name (in two folders, or of two formats) must not overwrite each other's result.
    std::string stem = picture.stem().string();
    for (int i = 2; !used.insert(stem).second || !used.insert(stem + "_overlay").second; ++i) stem = picture.stem().string() + "-" + std::to_string(i);
    files.push_back(files_of(picture, folder, stem));
  }
  check_targets(files, folder);
  for (size_t i = 0; i < pictures.size(); ++i) {
    Prediction prediction;
    try {
      prediction = predict_picture(trained, pictures[i]);
    } catch (const DataError& error) {
      if (!done) throw;
      done(files[i], &error);
      continue;
    }
    write_prediction(trained, prediction, files[i]);
    if (done) done(files[i], nullptr);
  }
  return files;
}

}  // namespace eq
