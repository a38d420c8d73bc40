#include "training/evaluation_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/csv.h"
#include "core/file.h"
#include "training/row_files.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

// As RawSample::name, without decoding the picture.
std::string name_of(const Dataset& dataset, int64_t index) {
  const SampleFiles* files = dataset.files(index);
  return files != nullptr ? files->image.stem().string() : std::to_string(index);
}

}  // namespace

EvaluationFiles::EvaluationFiles(const Dataset& dataset, fs::path folder, int64_t shown)
    : dataset_(dataset),
      folder_(std::move(folder)),
      shown_(size_t(std::clamp<int64_t>(dataset.size() / 2, 0, shown))),
      confusion_(dataset.num_classes(), dataset.ignore_index()) {}

// Ties go to the earlier picture, whatever the order of the calls.
bool EvaluationFiles::better(const Picture& a, const Picture& b) { return a.miou != b.miou ? a.miou > b.miou : a.index < b.index; }

void EvaluationFiles::add(const EvaluatedPicture& picture) {
  confusion_.add(picture.confusion);
  const SegmentationMetrics metrics = picture.confusion.metrics(dataset_.class_names());
  pictures_.push_back({picture.index, metrics.miou, metrics.aacc, picture.cross_entropy});
  if (std::isnan(metrics.miou)) return;
  keep(best_, pictures_.back(), true, picture.labels, picture.predictions);
  keep(worst_, pictures_.back(), false, picture.labels, picture.predictions);
}

void EvaluationFiles::keep(std::vector<Kept>& kept, const Picture& picture, bool best, const Tensor& labels,
                           const Tensor& predictions) const {
  const auto place = std::find_if(
      kept.begin(), kept.end(), [&](const Kept& other) { return best ? better(picture, other.picture) : better(other.picture, picture); });
  if (size_t(place - kept.begin()) >= shown_) return;
  const int64_t height = labels.size(0), width = labels.size(1);
  kept.insert(place, {picture, {height, width, labels.to_vector<uint8_t>()}, {height, width, predictions.to_vector<uint8_t>()}});
  if (kept.size() > shown_) kept.pop_back();
}

void EvaluationFiles::draw(const char* kind, const std::vector<Kept>& kept) const {
  for (size_t rank = 0; rank < kept.size(); ++rank) {
    const Kept& one = kept[rank];
    const Image image = dataset_.load(one.picture.index).image;
    const auto color = [&](const LabelMap& map) { return colorize(map, dataset_.palette(), dataset_.ignore_index()); };
    write_png(folder_ / fmt::format("{}_{}_{:04d}.png", kind, rank + 1, one.picture.index),
              side_by_side({image, color(one.labels), color(one.predictions),
                            error_map(image, one.labels, one.predictions, dataset_.ignore_index())}));
  }
}

namespace {

void remove_pictures(const fs::path& folder) {
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".png") && (name.starts_with("best_") || name.starts_with("worst_"))) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove(path);
}

}  // namespace

void EvaluationFiles::write() const {
  make_folder(folder_);
  if (fs::exists(folder_ / "confusion.csv")) remove_pictures(folder_);  // without an earlier evaluation's table they are someone else's
  const int64_t classes = dataset_.num_classes();
  std::vector<std::string> header = dataset_.class_names();
  header.insert(header.begin(), kConfusionCorner);
  std::string text = csv_line(header) + "\n";
  for (int64_t label = 0; label < classes; ++label) {
    std::vector<std::string> row{dataset_.class_names()[size_t(label)]};
    for (int64_t k = 0; k < classes; ++k) row.push_back(std::to_string(confusion_.count(label, k)));
    text += csv_line(row) + "\n";
  }
  write_text_atomically(folder_ / "confusion.csv", text);
  text = "index,name,miou,accuracy,cross_entropy\n";
  for (const Picture& picture : pictures_) {
    text += csv_line({std::to_string(picture.index), name_of(dataset_, picture.index), csv_number(picture.miou),
                      csv_number(picture.accuracy), csv_number(picture.cross_entropy)}) +
            "\n";
  }
  write_text_atomically(folder_ / "pictures.csv", text);
  draw("best", best_);
  draw("worst", worst_);
}

}  // namespace eq
