#include "datasets/label_map.h"

#include <algorithm>

#include "core/errors.h"
#include "core/words.h"

namespace eq {
namespace {

// Cityscapes' label id of each training class, in the order of the classes.
constexpr std::array<int, 19> kCityscapesIds = {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33};
constexpr int kCityscapesLastId = 33;

}  // namespace

LabelMapper::LabelMapper(const LabelMapOptions& options, int64_t num_classes) : num_classes_(num_classes) {
  if (num_classes < 1 || num_classes > kMaxClasses) {
    throw UsageError("a data set must have 1 to 255 classes, not " + std::to_string(num_classes), "data.classes",
                     num_classes < 1 ? "name the classes" : "labels are one byte, and 255 is the ignored one");
  }
  table_.fill(kOutOfRange);
  table_[255] = kIgnoreIndex;
  if (!options.entries.empty()) {
    if (!options.preset.empty()) {
      throw UsageError("a label map is either a preset or a table, not both", "data.label_map", "remove one of them");
    }
    const bool digits = options.other.find_first_not_of("0123456789") == std::string::npos;
    const bool rest = digits && !options.other.empty() && options.other.size() <= 3;
    if (!rest && options.other != "error" && options.other != "ignore" && options.other != "keep") {
      throw UsageError("unknown value '" + options.other + "'", "data.label_map.other", "use error, ignore, keep or a class");
    }
    if (rest && std::stoi(options.other) >= num_classes) {
      throw UsageError("other labels are mapped to class " + options.other + ", and there are " + std::to_string(num_classes) + " classes",
                       "data.label_map.other", "map them to 0-" + std::to_string(num_classes - 1) + ", or ignore or keep them");
    }
    for (int value = 0; value < 255; ++value) {
      if (rest) table_[size_t(value)] = int16_t(std::stoi(options.other));
      if (options.other == "ignore") table_[size_t(value)] = kIgnoreIndex;
      if (options.other == "keep" && value < num_classes) table_[size_t(value)] = int16_t(value);
    }
    for (const auto& [value, target] : options.entries) {
      if (value < 0 || value > 255) {
        throw UsageError("labels in files are 0 to 255, not " + std::to_string(value), "data.label_map", "correct the key");
      }
      if (target != LabelMapOptions::kIgnore && (target < 0 || target >= num_classes)) {
        throw UsageError("the label " + std::to_string(value) + " is mapped to class " + std::to_string(target) + ", and there are " +
                             std::to_string(num_classes) + " classes",
                         "data.label_map", "map to 0-" + std::to_string(num_classes - 1) + " or to \"ignore\"");
      }
      table_[size_t(value)] = int16_t(target);
    }
  } else if (options.preset.empty() || options.preset == "identity") {
    for (int value = 0; value < num_classes; ++value) table_[size_t(value)] = int16_t(value);
  } else if (options.preset == "minus_one_zero_ignored") {
    table_[0] = kIgnoreIndex;
    // With 255 classes the value 255 would be one of them and not the ignored one; no such set is known.
    for (int value = 1; value <= num_classes && value < 255; ++value) table_[size_t(value)] = int16_t(value - 1);
  } else if (options.preset == "cityscapes_ids") {
    if (num_classes != int64_t(kCityscapesIds.size())) {
      throw UsageError("the preset cityscapes_ids has 19 classes, and the data set has " + std::to_string(num_classes),
                       "data.label_map", "give a table such as {\"7\": 0, \"other\": \"ignore\"} for other classes");
    }
    for (int value = 0; value <= kCityscapesLastId; ++value) table_[size_t(value)] = kIgnoreIndex;
    for (size_t i = 0; i < kCityscapesIds.size(); ++i) table_[size_t(kCityscapesIds[i])] = int16_t(i);
  } else {
    throw UsageError("unknown label map '" + options.preset + "'", "data.label_map",
                     "use identity, minus_one_zero_ignored, cityscapes_ids or a table such as {\"7\": 0, \"other\": \"ignore\"}");
  }
}

std::optional<LabelMapper::BadPixel> LabelMapper::map(LabelMap& labels) const {
  std::array<uint8_t, 256> mapped;
  bool any_bad = false;
  std::array<bool, 256> bad{};
  for (size_t value = 0; value < 256; ++value) {
    bad[value] = table_[value] == kOutOfRange;
    any_bad |= bad[value];
    mapped[value] = uint8_t(bad[value] ? kIgnoreIndex : table_[value]);
  }
  std::optional<BadPixel> first;
  std::vector<uint8_t>& values = labels.labels;
  if (any_bad) {
    const int64_t i = std::find_if(values.begin(), values.end(), [&](uint8_t value) { return bad[value]; }) - values.begin();
    if (i < int64_t(values.size())) first = BadPixel{i % labels.width, i / labels.width, values[size_t(i)]};
  }
  for (uint8_t& value : values) value = mapped[value];
  return first;
}

std::string LabelMapper::allowed() const {
  std::vector<std::string> ranges;
  for (int value = 0; value < 256; ++value) {
    if (table_[size_t(value)] == kOutOfRange) continue;
    const int first = value;
    while (value < 255 && table_[size_t(value + 1)] != kOutOfRange) ++value;
    ranges.push_back(std::to_string(first));
    if (value > first) ranges.back().append("-").append(std::to_string(value));
  }
  return joined(ranges);
}

std::vector<uint8_t> LabelMapper::values() const {
  std::vector<uint8_t> values;
  for (int64_t k = 0; k < num_classes_; ++k) {
    const auto first = std::find(table_.begin(), table_.end(), k);
    const bool none = first == table_.end();
    if (none || std::find(first + 1, table_.end(), k) != table_.end()) {
      throw UsageError(std::string(none ? "no value" : "more than one value") + " of label files means class " + std::to_string(k),
                       "data.label_map", "give a map with one value for each class");
    }
    values.push_back(uint8_t(first - table_.begin()));
  }
  return values;
}

std::string LabelMapper::BadPixel::words() const {
  return "label " + std::to_string(value) + " at pixel x " + std::to_string(x) + ", y " + std::to_string(y);
}

void LabelMapper::map_or_throw(LabelMap& labels, const std::string& file) const {
  const auto pixel = map(labels);
  if (!pixel) return;
  throw DataError("the " + pixel->words() + " is out of range (allowed: " + allowed() + ")", file,
                  "correct the file, or say in data.label_map what the value means; inspect data shows all such files");
}

}  // namespace eq
