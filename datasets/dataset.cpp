#include "datasets/dataset.h"

#include <algorithm>
#include <array>
#include <exception>
#include <string_view>
#include <utility>

#include "core/errors.h"
#include "core/json.h"
#include "core/nearest.h"
#include "core/words.h"
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
  std::string_view reads;  // of the keys that not all of them read
  const char* label_map = "identity";
};

// Every data set has one line here.
constexpr Entry kDatasets[] = {
    {"shapes", 8, make_shapes, "size train_images val_images difficulty wrong_labels"},
    {"folders", 0, make_folders, "root list folders val_fraction split_seed label_colors"},
    {"camvid", 11, make_camvid, "root label_colors"},
    {"voc2012", 21, make_voc2012, "root label_colors augmented_list"},
    {"ade20k", 150, make_ade20k, "root label_colors", "minus_one_zero_ignored"},
    {"cityscapes", 19, make_cityscapes, "root label_colors", "cityscapes_ids"},
};

bool reads(const Entry& entry, const std::string& key) {
  std::string words = " ";
  words.append(entry.reads).append(" ");
  return words.find(" " + key + " ") != std::string::npos;
}

// A value that the data set does not read would be taken for granted: pictures of one's own, say, and shapes are trained on.
void refuse_unread(const Entry& entry, const DataOptions& o) {
  const DataOptions d;
  const bool hard =
      o.difficulty.noise != d.difficulty.noise || o.difficulty.contrast != d.difficulty.contrast || o.difficulty.blur != d.difficulty.blur;
  const bool suffixes = o.image_suffix != d.image_suffix || o.label_suffix != d.label_suffix;
  const std::pair<const char*, bool> changed[] = {{"root", o.root != d.root},
                                                  {"list", !o.list.empty()},
                                                  {"folders", !o.folders.empty() || suffixes},
                                                  {"val_fraction", o.val_fraction != d.val_fraction},
                                                  {"split_seed", o.split_seed != d.split_seed},
                                                  {"label_colors", o.label_colors},
                                                  {"augmented_list", o.augmented_list},
                                                  {"size", o.size != d.size},
                                                  {"train_images", o.train_images != d.train_images},
                                                  {"val_images", o.val_images != d.val_images},
                                                  {"difficulty", hard},
                                                  {"wrong_labels", o.wrong_labels != d.wrong_labels}};
  for (const auto& [key, is_changed] : changed) {
    if (!is_changed || reads(entry, key)) continue;
    std::vector<std::string> types;
    for (const Entry& other : kDatasets) {
      if (reads(other, key)) types.push_back(other.name);
    }
    throw UsageError("the data set " + std::string(entry.name) + " does not read data." + key, std::string("data.") + key,
                     "leave it out, or set data.type to what reads it: " + joined(types));
  }
}

}  // namespace

LabelMap Dataset::load_file_labels(int64_t index) const {
  throw UsageError("this data set has no label files", describe(index), "ask only where files() is not null");
}

RawSample load_checked(const Dataset& dataset, int64_t index) {
  RawSample sample;
  try {
    sample = dataset.load(index);
  } catch (const Error&) {
    throw;  // it names the file
  } catch (const std::exception& error) {
    throw DataError(std::string("the sample could not be loaded: ") + error.what(), dataset.describe(index),
                    "see what the data set's load() does with it, and whether the machine has memory left");
  }
  check_sample(dataset, index, sample);
  return sample;
}

void check_sample(const Dataset& dataset, int64_t index, const RawSample& sample) {
  const std::string name = dataset.describe(index);
  const Image& image = sample.image;
  const LabelMap& map = sample.labels;
  check_size(name, image);
  check_size(name, map);
  if (map.height != image.height || map.width != image.width) {
    throw DataError("the picture is " + size_text(image.width, image.height) + ", its label map " + size_text(map.width, map.height),
                    name, "give a label for each pixel");
  }
  const int classes = int(dataset.num_classes());
  const auto is_bad = [classes](uint8_t label) { return (label >= classes) & (label != kIgnoreIndex); };
  int64_t bad = 0;  // counted first: without a branch, at the speed of memory
  for (uint8_t label : map.labels) bad += is_bad(label);
  if (bad == 0) return;
  const int64_t first = std::find_if(map.labels.begin(), map.labels.end(), is_bad) - map.labels.begin();
  const LabelMapper::BadPixel pixel{first % map.width, first / map.width, map.labels[size_t(first)]};
  throw DataError("the " + pixel.words() + " is none of the " + std::to_string(classes) + " classes", name,
                  "labels are 0 to " + std::to_string(classes - 1) + ", or " + std::to_string(kIgnoreIndex) + " for what does not count");
}

Dataset::Dataset(std::vector<std::string> class_names, Palette palette)
    : class_names_(std::move(class_names)), palette_(palette_for(std::move(palette), class_names_.size())) {
  for (const std::string& name : class_names_) {
    if (is_plain_text(name)) continue;
    throw UsageError("a class name is not UTF-8 or has control characters: " + quoted_for_message(name), "Dataset",
                     "name the classes in plain text");
  }
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

Palette palette_for(Palette palette, size_t classes) {
  if (palette.empty()) palette = voc_palette();
  if (palette.size() < classes) {
    throw UsageError("there are " + std::to_string(palette.size()) + " colours for " + std::to_string(classes) + " classes", "data.palette",
                     "give a colour for each class, or none at all");
  }
  return palette;
}

int64_t class_count(const DataOptions& options) {
  if (!options.classes.empty()) return int64_t(options.classes.size());
  for (const Entry& entry : kDatasets) {
    if (options.type == entry.name) return entry.classes;
  }
  return 0;
}

LabelMapOptions label_map_of(const DataOptions& options) {
  if (options.label_map.is_given()) return options.label_map;
  LabelMapOptions map;
  for (const Entry& entry : kDatasets) {
    if (options.type == entry.name) map.preset = entry.label_map;
  }
  return map;
}

std::unique_ptr<Dataset> make_dataset(const DataOptions& options, const std::string& split) {
  const Entry& entry = find_named(kDatasets, options.type, "data set", "data.type");
  refuse_unread(entry, options);
  return entry.make(options, split);
}

}  // namespace eq
