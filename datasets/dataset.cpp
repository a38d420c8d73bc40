#include "datasets/dataset.h"

#include <array>

#include "core/errors.h"
#include "datasets/ade20k.h"
#include "datasets/camvid.h"
#include "datasets/cityscapes.h"
#include "datasets/folders.h"
#include "datasets/shapes.h"
#include "datasets/voc2012.h"

namespace eq {
namespace {

struct Entry {
  const char* name;
  int64_t classes;  // 0: the options say it
  std::unique_ptr<Dataset> (*make)(const DataOptions&, const std::string& split);
};

// Every data set has one line here.
constexpr Entry kDatasets[] = {
    {"shapes", 8, make_shapes},     {"folders", 0, make_folders},  {"camvid", 11, make_camvid},
    {"voc2012", 21, make_voc2012}, {"ade20k", 150, make_ade20k}, {"cityscapes", 19, make_cityscapes},
};

}  // namespace

LabelMap Dataset::load_file_labels(int64_t index) const {
  throw UsageError("this data set has no label files", describe(index), "ask only where files() is not null");
}

void Dataset::check_index(int64_t index) const {
  if (size() != kEndless && (index < 0 || index >= size())) {
    throw UsageError("there is no sample " + std::to_string(index), "a data set of " + std::to_string(size()) + " samples",
                     "use 0 to " + std::to_string(size() - 1));
  }
}

std::vector<std::string> dataset_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kDatasets) names.emplace_back(entry.name);
  return names;
}

int64_t class_count(const DataOptions& options) {
  if (!options.classes.empty()) return int64_t(options.classes.size());
  for (const Entry& entry : kDatasets) {
    if (options.type == entry.name) return entry.classes;
  }
  return 0;
}

std::unique_ptr<Dataset> make_dataset(const DataOptions& options, const std::string& split) {
  std::string known;
  for (const Entry& entry : kDatasets) {
    if (options.type == entry.name) return entry.make(options, split);
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw UsageError("unknown data set '" + options.type + "'", "data.type", "use one of " + known);
}

}  // namespace eq
