#pragma once
// Shapes-8: scenes drawn by a program, so that one can train with no file at all. A scene is a function of (seed, split,
// index, size) in integer arithmetic only: any machine, any number of threads and any order give the same bytes.
//
//   0 background    smooth noise under a gradient of light: the largest share
//   1 region        large blobs with a faint green ripple: only coarse levels see their extent
//   2 disc          in warm scenes; 4 to 40 pixels wide, as are
//   3 square        (striped, turned) and
//   4 triangle      (shaded, turned); later ones lie on top of earlier ones
//   5 stroke        dark curves 1 to 2 pixels wide: only the finest level can follow them
//   6 dot           bright, 2 to 4 pixels wide
//   7 twin          the same disc in cool scenes: only the hue of the whole scene, which varies from place to place,
//                   tells it from class 2
// 255 is the ring of 1 pixel around regions, discs, squares and triangles, as in PASCAL VOC.
//
// For lessons the labels can be spoilt as real data sets often are, before data.label_map is applied:
//   shift    every class one too high, as where 0 means "unlabelled": minus_one_zero_ignored mends it
//   binary   0 and 255, a mask made for looking at; all but the background is then ignored
//   swapped  colours read as blue, green, red: squares and twins, triangles and strokes change places

#include <array>
#include <memory>
#include <string>

#include "datasets/dataset.h"

namespace eq {

inline constexpr uint64_t kShapesSeed = 8;  // of the set that make_dataset gives; what is trained on it has seeds of its own

class ShapesDataset final : public Dataset {
 public:
  // `split` is train, val or test. Of `options` it reads difficulty, wrong_labels and label_map. Throws UsageError for
  // another split, a size outside 64 .. 256, count < 1, options out of range, and classes or a palette.
  ShapesDataset(uint64_t seed, const std::string& split, int64_t size, int64_t count, const DataOptions& options = {});
  int64_t size() const override { return count_; }
  RawSample load(int64_t index) const override;
  std::string describe(int64_t index) const override;
  LabelMap load_file_labels(int64_t index) const override;  // spoilt, if so, and not mapped

 private:
  RawSample written(int64_t index) const;
  uint64_t seed_;
  std::string split_;
  uint64_t split_tag_;
  int64_t side_, count_;
  ShapesDifficulty difficulty_;
  std::array<uint8_t, 256> written_;  // what the labels hold for each class
  LabelMapper mapper_;
};

std::unique_ptr<Dataset> make_shapes(const DataOptions& options, const std::string& split);

}  // namespace eq
