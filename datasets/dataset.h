#pragma once
// Dataset: pictures with their label maps, by index.

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "datasets/image.h"
#include "datasets/label_map.h"
#include "datasets/options.h"

namespace eq {

struct RawSample {
  Image image;
  LabelMap labels;   // classes 0 .. C-1 and kIgnoreIndex; the size of the image
  std::string name;  // file name without folder and suffix; for generated samples their index
};

struct SampleFiles {
  std::filesystem::path image, labels;
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  Dataset(const Dataset&) = delete;
  Dataset& operator=(const Dataset&) = delete;

  // Number of samples, or kEndless: then every int64 is an index.
  virtual int64_t size() const = 0;
  static constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

  // Safe to call from many threads, and the same sample each time. Throws IoError or DataError naming the file (unreadable, damaged, image
  // and labels of different sizes, a label out of range with its pixel) and UsageError for an index outside 0 .. size-1.
  virtual RawSample load(int64_t index) const = 0;
  // What errors and reports call the sample: the image's path, or "shapes train 17".
  virtual std::string describe(int64_t index) const = 0;

  const std::vector<std::string>& class_names() const { return class_names_; }
  const Palette& palette() const { return palette_; }  // one colour for each class, at least
  int64_t num_classes() const { return int64_t(class_names_.size()); }
  int ignore_index() const { return kIgnoreIndex; }

  // What of its folders it does not use: a sentence each. For the log.
  virtual std::vector<std::string> left_out() const { return {}; }

  // For inspection. nullptr when samples do not come from files.
  virtual const SampleFiles* files(int64_t /*index*/) const { return nullptr; }
  virtual const LabelMapper* mapper() const { return nullptr; }
  // The labels as the file has them, or would have them. Throws UsageError for a generated set that does not say so.
  virtual LabelMap load_file_labels(int64_t index) const;

 protected:
  // An empty palette is PASCAL VOC's. Throws UsageError for one with fewer colours than classes, and for names that are not plain UTF-8.
  Dataset(std::vector<std::string> class_names, Palette palette);
  void check_index(int64_t index) const;  // throws UsageError

 private:
  std::vector<std::string> class_names_;
  Palette palette_;
};

// dataset.load(index), held to what it promises: throws DataError or UsageError naming the sample where it is something else, and DataError
// for an exception that is no eq::Error. The loader and the evaluation load so, because a data set may be someone else's and nothing behind
// them looks at sizes again.
RawSample load_checked(const Dataset& dataset, int64_t index);
// The same of what was made of that sample.
void check_sample(const Dataset& dataset, int64_t index, const RawSample& sample);

// `palette`, or PASCAL VOC's where it is empty. Throws UsageError when it has fewer colours than there are classes.
Palette palette_for(Palette palette, size_t classes);

// The names make_dataset knows: the values of data.type.
std::vector<std::string> dataset_names();

// Without a look at files; 0 if it needs one.
int64_t class_count(const DataOptions& options);

// How label files, and predictions that are submitted to a benchmark, write the classes: data.label_map, or what the set's own files have;
// without a look at these.
LabelMapOptions label_map_of(const DataOptions& options);

// Throws UsageError (options that make no sense, unknown type or split) and IoError or DataError naming the file
// (missing folder, empty or malformed list, image without label).
std::unique_ptr<Dataset> make_dataset(const DataOptions& options, const std::string& split);

}  // namespace eq
