#pragma once
// split_windows, join_windows: square windows of an image as rows of a matrix, for attention within them (Liu et al. 2021, "Swin
// Transformer").
//
//   split:  y[(n*rows + i)*columns + j, r*size + s, c] = x[n, p, q, c]  with p = (i*size + r + shift) mod (rows*size), rows = ceil(H /
//   size),
//           and q likewise; 0 where p >= H or q >= W. That is: padded at the bottom and right to whole windows, rolled by -shift, cut.
//   join:   the inverse; what lies outside the image is dropped.
//   Each is the other's adjoint.
//
// Shapes: image [N,H,W,C], windows [N*rows*columns, size*size, C]; 0 <= shift < size. Any element type; exact, one pass over memory.

#include "core/backend.h"
#include "core/host_device.h"
#include "core/tensor.h"

namespace eq {

// One axis: `extent` pixels in `count` windows of `size`.
struct WindowAxis {
  int64_t extent, size, shift, count;
  WindowAxis(int64_t pixels, int64_t window, int64_t roll) : extent(pixels), size(window), shift(roll), count((pixels + window - 1) / window) {}
  EQ_HOST_DEVICE int64_t cells() const { return count * size; }
  // The pixel in a cell, counted over all windows; it may lie outside the image.
  EQ_HOST_DEVICE int64_t pixel(int64_t cell) const { return cell + shift < cells() ? cell + shift : cell + shift - cells(); }
  EQ_HOST_DEVICE int64_t cell(int64_t pixel) const { return pixel >= shift ? pixel - shift : pixel - shift + cells(); }
  bool operator==(const WindowAxis&) const = default;
};

struct WindowGrid {
  WindowAxis h, w;
  WindowGrid(const Shape& image, int64_t size, int64_t shift) : h(image[1], size, shift), w(image[2], size, shift) {}
  bool operator==(const WindowGrid&) const = default;
  Shape windows(const Shape& image) const { return {image[0] * h.count * w.count, h.size * w.size, image[3]}; }
  // The row of the windows' matrix, of all pictures, that holds a cell.
  EQ_HOST_DEVICE int64_t row(int64_t n, int64_t i, int64_t j) const {
    return (((n * h.count + i / h.size) * w.count + j / w.size) * h.size + i % h.size) * w.size + j % w.size;
  }
};

EQ_KERNELS(
void split_windows(const Tensor& image, const WindowGrid& grid, Tensor& windows);
void join_windows(const Tensor& windows, const WindowGrid& grid, Tensor& image);
)

}  // namespace eq
