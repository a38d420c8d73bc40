#pragma once
// What the last evaluation leaves in a run's folder, for people and for the report: eval/confusion.csv (a row for each label, a column for
// each prediction), eval/pictures.csv (mean IoU and accuracy of each picture) and eval/best_*.png, eval/worst_*.png (picture | label |
// prediction | errors).

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/tensor.h"
#include "datasets/dataset.h"
#include "training/evaluator.h"

namespace eq {

inline constexpr int64_t kExtremePictures = 3;  // of the best and of the worst, drawn after an evaluation

// In a folder of `equiscale eval --out`, beside these: {"run", "split", "pictures", "palette"} and the metrics (metrics_json).
inline constexpr const char* kEvaluationSummary = "evaluation.json";

// The first cell of confusion.csv: what its rows and columns are, and what it counts.
inline constexpr const char* kConfusionCorner = "label \\ prediction (pixels)";

class EvaluationFiles {
 public:
  // `shown`: how many of the best and of the worst pictures to draw, at the most half of the set each. Their predictions are kept until
  // write().
  EvaluationFiles(const Dataset& dataset, std::filesystem::path folder, int64_t shown);

  void add(const EvaluatedPicture& picture);
  void write() const;  // replaces the pictures of an earlier evaluation; throws IoError

 private:
  struct Picture {
    int64_t index = 0;
    double miou = 0, accuracy = 0, cross_entropy = 0;  // miou over the classes in its labels or prediction; NaN where nothing is labelled
  };
  struct Kept {
    Picture picture;
    LabelMap labels, predictions;
  };
  static bool better(const Picture& a, const Picture& b);
  void keep(std::vector<Kept>& kept, const Picture& picture, bool best, const Tensor& labels, const Tensor& predictions) const;
  void draw(const char* kind, const std::vector<Kept>& kept) const;

  const Dataset& dataset_;
  std::filesystem::path folder_;
  size_t shown_;
  ConfusionMatrix confusion_;
  std::vector<Picture> pictures_;
  std::vector<Kept> best_, worst_;  // the most extreme first
};

}  // namespace eq
