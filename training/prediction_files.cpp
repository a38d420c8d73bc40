#include "training/prediction_files.h"

#include <algorithm>
#include <set>
#include <string>

#include "autograd/functional.h"
#include "core/file.h"
#include "core/safetensors.h"
#include "core/words.h"
#include "datasets/folders.h"
#include "training/metrics.h"
#include "training/prediction.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffixes[] = {".jpg", ".jpeg", ".png", ".bmp", ".tga", ".ppm", ".pgm", ".pnm"};

bool looks_like_picture(const fs::path& path) {
  const std::string suffix = lower(path.extension().string());
  return std::find(std::begin(kSuffixes), std::end(kSuffixes), suffix) != std::end(kSuffixes);
}

PredictedFiles files_of(const fs::path& picture, const fs::path& folder, const std::string& stem, const PredictionFileOptions& options) {
  return {picture, folder / (stem + ".png"), folder / (stem + "_overlay.png"),
          options.probabilities ? folder / (stem + "_probabilities.safetensors") : fs::path()};
}

// A prediction is written over nothing but an earlier one, which has both pictures: a picture's own folder may hold its label map under
// that name.
void check_targets(const std::vector<PredictedFiles>& all, const fs::path& folder) {
  const auto folder_of = [](const fs::path& file) { return fs::weakly_canonical(fs::absolute(file).parent_path()); };
  for (const PredictedFiles& files : all) {
    if (folder_of(files.picture) == folder_of(files.labels)) {
      throw UsageError("predictions beside their pictures could overwrite these or their label maps", files.picture.string(),
                       "write them into another folder than " + folder.string());
    }
    const bool labels = fs::exists(files.labels), both = labels && fs::exists(files.overlay);
    for (const fs::path& file : {files.labels, files.overlay, files.probabilities}) {
      if (both || !fs::exists(file)) continue;
      throw UsageError(
          "the prediction of " + files.picture.string() + " would overwrite a file that is no earlier prediction: those come in pairs",
          file.string(), "write into another folder, or delete this file: a prediction that was killed leaves such a one, too");
    }
  }
}

// What a class is written as, and its colour there.
struct FileValues {
  std::vector<uint8_t> of_class;  // empty: the index
  Palette palette;
};

FileValues file_values(const TrainedModel& trained, const PredictionFileOptions& options) {
  if (!options.label_values) return {{}, trained.card.palette};
  FileValues values{LabelMapper(label_map_of(trained.config.data), int64_t(trained.card.class_names.size())).values(), {}};
  values.palette.resize(size_t(*std::max_element(values.of_class.begin(), values.of_class.end())) + 1);
  for (size_t k = 0; k < values.of_class.size(); ++k) values.palette[values.of_class[k]] = trained.card.palette[k];
  return values;
}

struct Prediction {
  Image image;
  LabelMap labels;
  Tensor probabilities;  // [H,W,K]; undefined where they are not asked for
};

Prediction predict_picture(TrainedModel& trained, const fs::path& picture, bool probabilities) {
  Prediction prediction{read_image(picture), {}, {}};
  const Image& image = prediction.image;
  naming_picture([&] { return picture.string(); }, [&] {
    if (!probabilities) {
      prediction.labels = predict_labels(trained, image);
      return;
    }
    const std::vector<Tensor> views = prepare_views(image, trained.config.pipeline, trained.config.evaluate);
    const Tensor all = predict_probabilities(*trained.model, views, image.height, image.width, trained.config.evaluate);
    prediction.labels = {image.height, image.width, argmax_classes(all).to_vector<uint8_t>()};
    prediction.probabilities = reshape(all, {image.height, image.width, all.size(3)});
  });
  return prediction;
}

void write_prediction(const TrainedModel& trained, const Prediction& prediction, const FileValues& values, const PredictedFiles& files) {
  make_folder(files.labels.parent_path());
  LabelMap labels = prediction.labels;
  if (!values.of_class.empty()) {
    for (uint8_t& label : labels.labels) label = values.of_class[label];
  }
  write_indexed_png(files.labels, labels, values.palette);
  write_png(files.overlay, overlay(prediction.image, prediction.labels, trained.card.palette, kIgnoreIndex));
  if (files.probabilities.empty()) return;
  std::string names;
  for (const std::string& name : trained.card.class_names) names += (names.empty() ? "" : "\n") + name;
  write_safetensors(files.probabilities, {{"probabilities", permute(prediction.probabilities, {2, 0, 1})}}, {{"classes", names}});
}

}  // namespace

PictureList list_pictures(const std::vector<fs::path>& paths, const fs::path& predictions) {
  const auto is_below = [](const fs::path& path, const fs::path& folder) {
    const fs::path a = fs::weakly_canonical(fs::absolute(folder)), b = fs::weakly_canonical(fs::absolute(path));
    return a != b && std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first == a.end();
  };
  PictureList list;
  for (const fs::path& path : paths) {
    if (!fs::exists(path)) throw IoError("there is no such file or folder", path.string(), "check the path");
    if (!fs::is_directory(path)) {
      list.pictures.emplace_back(path);
      continue;
    }
    const size_t before = list.pictures.size();
    const bool holds_predictions = !predictions.empty() && is_below(predictions, path);
    for (const fs::path& name : files_below(path)) {
      const fs::path file = path / name;
      if (holds_predictions && is_below(file, predictions)) continue;
      if (fs::is_regular_file(file) && looks_like_picture(file)) {
        list.pictures.emplace_back(file, name.parent_path());
      } else {
        list.left_out.push_back(file);
      }
    }
    if (list.pictures.size() == before) {
      throw DataError("there are no pictures in this folder", path.string(), "give pictures, or a folder with .jpg or .png files in it");
    }
  }
  return list;
}

std::vector<PredictedFiles> predict_files(TrainedModel& trained, const std::vector<PictureFile>& pictures, const fs::path& folder,
                                          const PredictionFileOptions& options, const OnPredicted& done) {
  if (folder.empty()) throw UsageError("predictions need a folder", "--out", "for example --out predicted");
  const FileValues values = file_values(trained, options);
  std::vector<PredictedFiles> files;
  std::set<fs::path> used;
  for (const auto& [file, below] : pictures) {
    // Two pictures of one name (in two folders, or of two formats) must not overwrite each other's result.
    std::string stem = file.stem().string();
    for (int i = 2; !used.insert(below / stem).second || !used.insert(below / (stem + "_overlay")).second; ++i) {
      stem = file.stem().string() + "-" + std::to_string(i);
    }
    files.push_back(files_of(file, folder / below, stem, options));
  }
  check_targets(files, folder);
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (options.stop && options.stop()) {
      files.resize(i);
      break;
    }
    Prediction prediction;
    try {
      prediction = predict_picture(trained, pictures[i].file, options.probabilities);
    } catch (const DataError& error) {
      if (!done) throw;
      done(files[i], &error);
      continue;
    }
    write_prediction(trained, prediction, values, files[i]);
    if (done) done(files[i], nullptr);
  }
  return files;
}

}  // namespace eq
