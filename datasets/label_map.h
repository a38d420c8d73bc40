#pragma once
// From values in label files to classes: one table of 256 entries, applied once, when a label map is loaded.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "datasets/image.h"
#include "datasets/options.h"

namespace eq {

inline constexpr int kIgnoreIndex = 255;  // of labels in memory, in every data set
inline constexpr int64_t kMaxClasses = 255;

class LabelMapper {
 public:
  // Presets:
  //   identity                0 .. C-1 are the classes; 255 is ignored
  //   minus_one_zero_ignored  0 and 255 are ignored; 1 .. C are the classes 0 .. C-1 (ADE20K)
  //   cityscapes_ids          the 19 training classes of Cityscapes' label ids; its other ids (0 .. 33) and 255 are ignored
  // A custom map says where each value goes; 255 is ignored unless it is named, also where `other` is a class. All other values are out
  // of range.
  // Throws UsageError for an unknown preset, classes outside 0 .. num_classes-1, and num_classes outside 1 .. 255.
  LabelMapper(const LabelMapOptions& options, int64_t num_classes);

  struct BadPixel {
    int64_t x, y;
    int value;  // as in the file
    std::string words() const;  // "label 8 at pixel x 43, y 0"
  };
  // Maps in place; pixels out of range become kIgnoreIndex, and the first of them is returned.
  std::optional<BadPixel> map(LabelMap& labels) const;
  // The same, but throws DataError naming the file, the pixel, the value and the allowed values.
  void map_or_throw(LabelMap& labels, const std::string& file) const;

  int operator[](int value) const { return table_[size_t(value)]; }  // class, kIgnoreIndex or kOutOfRange
  std::string allowed() const;                                       // "0-10, 255", for messages
  // The way back: the value that files have for each class. Throws UsageError for a class with several values, or none.
  std::vector<uint8_t> values() const;

  static constexpr int kOutOfRange = -1;

 private:
  std::array<int16_t, 256> table_;
  int64_t num_classes_;
};

}  // namespace eq
