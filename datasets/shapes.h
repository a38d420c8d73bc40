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

#include <memory>
#include <string>

#include "datasets/dataset.h"

namespace eq {

inline constexpr uint64_t kShapesSeed = 8;  // of the set that make_dataset gives; what is trained on it has seeds of its own

class ShapesDataset final : public Dataset {
 public:
  // `split` is train, val or test. Throws UsageError for another split, a size outside 64 .. 256 and count < 1.
  ShapesDataset(uint64_t seed, const std::string& split, int64_t size, int64_t count);
  int64_t size() const override { return count_; }
  RawSample load(int64_t index) const override;
  std::string describe(int64_t index) const override;

 private:
  uint64_t seed_;
  std::string split_;
  uint64_t split_tag_;
  int64_t side_, count_;
};

std::unique_ptr<Dataset> make_shapes(const DataOptions& options, const std::string& split);

}  // namespace eq
