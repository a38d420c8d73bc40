#pragma once
// Checks that the operators on images share.

#include <string>

#include "autograd/checks.h"

namespace eq::check {

// Both sides of an image and of the wanted result are 1 to `limit`.
inline void sides(const char* op, const Tensor& x, int64_t out_h, int64_t out_w, int64_t limit) {
  const int64_t h = x.size(1), w = x.size(2);
  if (h < 1 || w < 1 || h > limit || w > limit) {
    throw ShapeError(std::string(op) + ": x must have 1 to " + std::to_string(limit) + " rows and columns, it is " + describe(x), op,
                     "images and features are [N, H, W, C]");
  }
  if (out_h < 1 || out_w < 1 || out_h > limit || out_w > limit) {
    throw ShapeError(std::string(op) + ": the wanted size is " + std::to_string(out_h) + " x " + std::to_string(out_w) + ", x is " +
                         describe(x),
                     op, "give a height and a width of 1 to " + std::to_string(limit));
  }
}

inline Shape with_sides(const Shape& image, int64_t out_h, int64_t out_w) { return {image[0], out_h, out_w, image[3]}; }

}  // namespace eq::check
