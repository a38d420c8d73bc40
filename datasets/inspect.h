#pragma once
// What is in a data set's files, and whether it can be what the configuration says: the analysis behind `equiscale
// inspect data` and the checks before training. Labels that are silently all "ignore", off by one or out of range waste
// whole runs.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/errors.h"
#include "datasets/dataset.h"

namespace eq {

struct InspectOptions {
  int64_t samples = 0;  // evenly spread over the set; 0: all (256 of an endless one)
  // After those, goes on with others while a class has not been seen, up to this many in all. They are looked at for
  // their labels: of their pictures only the header is read.
  int64_t extend_to = 0;
  std::function<void(int64_t done, int64_t all)> on_progress = {};  // after every few samples
};

struct DataProblem {
  enum class Kind { kUnreadable, kSizeMismatch, kLabelOutOfRange };
  Kind kind;
  std::string file;
  std::string message;       // one line, complete
  std::string hint;          // what to try
  int64_t x = -1, y = -1;    // first pixel, for labels out of range
  int value = -1;            // its value in the file
  int64_t pixels = 0;        // how many pixels of the file are out of range
};

// Sums of the pixels of pictures, exact.
struct PixelSums {
  int64_t count = 0;
  std::array<uint64_t, 3> sum{}, squares{};  // R, G, B
  void add(const PixelSums& other);
  std::array<double, 3> mean() const;  // on 0 to 255; NaN of no pixel
  std::array<double, 3> std() const;
};

struct DataReport {
  int64_t size = 0;       // of the set (Dataset::kEndless if so)
  int64_t inspected = 0;
  std::vector<std::string> class_names;
  std::vector<int64_t> class_pixels;   // after the label map
  std::vector<int64_t> class_samples;  // samples in which the class occurs
  std::vector<int64_t> class_surroundings;  // labelled pixels of the samples in which the class occurs
  int64_t ignored_pixels = 0, total_pixels = 0;
  bool ignores_255 = true;             // the label map does not make it a class
  PixelSums pixels;                    // of the pictures that were decoded
  std::array<int64_t, 256> file_values{};         // pixels by the value in the file; of generated sets by class
  std::map<std::string, int64_t> image_modes;     // files by "jpeg RGB 8 bits"
  std::map<std::string, int64_t> label_modes;     // files by "png indexed 8 bits"
  std::map<std::array<int64_t, 2>, int64_t> sizes;  // samples by width and height
  std::vector<DataProblem> problems;              // in the set's order, the first kMaxProblems
  int64_t problem_count = 0;

  static constexpr size_t kMaxProblems = 100;
  std::vector<int64_t> absent_classes() const;
  double ignored_share() const { return total_pixels > 0 ? double(ignored_pixels) / double(total_pixels) : 0; }
};

// A weight for each class that evens out how much of the loss is its (Eigen and Fergus 2015, "median frequency balancing"): the median of
// all classes' frequencies by its own, a frequency being the share among the labelled pixels of the samples that show the class. 1 for a
// class that never occurs.
std::vector<double> balancing_weights(const DataReport& report);

// Never throws for what is wrong with the files: that is in the report. Uses all threads of parallel_for.
DataReport inspect_dataset(const Dataset& dataset, const InspectOptions& options = {});

// What is odd about the classes though no file is bad: one does not occur in the inspected sample, or more than 95 % of the pixels are
// ignored.
std::optional<DataError> odd_classes(const DataReport& report);
// The checks before training: throws DataError when a file has a problem, and what odd_classes says.
void check_report(const DataReport& report);
// inspect_dataset of 128 samples, up to 4096 while classes are missing, then check_report. Returns the report. Decoding the 128
// pictures costs little (a hundred of 480 x 360: 0.2 s on one core), all 4096 might take longer than is good before a training.
// With DataChecks::kFiles only files are refused.
DataReport check_before_training(const Dataset& dataset, DataChecks checks = DataChecks::kAll);
// Of what a run will be evaluated on, so that a bad file is not met at its end: 512 samples' files, whatever classes they show. Throws
// DataError. Returns the report.
DataReport check_before_evaluation(const Dataset& dataset);

}  // namespace eq
