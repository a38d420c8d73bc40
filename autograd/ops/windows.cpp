#include "core/kernels/windows.h"

#include <string>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

struct SplitWindowsBackward final : Node {
  SplitWindowsBackward(const Shape& image, const WindowGrid& grid) : Node("split_windows"), image_(image), grid_(grid) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_image = Tensor::empty(image_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), join_windows(grads[0], grid_, grad_image));
    return {grad_image};
  }
  Shape image_;
  WindowGrid grid_;
};

struct JoinWindowsBackward final : Node {
  JoinWindowsBackward(const Shape& windows, const WindowGrid& grid) : Node("join_windows"), windows_(windows), grid_(grid) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_windows = Tensor::empty(windows_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), split_windows(grads[0], grid_, grad_windows));
    return {grad_windows};
  }
  Shape windows_;
  WindowGrid grid_;
};

constexpr int64_t kMostSide = int64_t{1} << 30;  // of images and windows: sums of cells stay far from overflow

WindowGrid checked_grid(const char* op, const Shape& image, int64_t size, int64_t shift) {
  const std::string what = std::string(op) + ": windows of " + std::to_string(size) + " shifted by " + std::to_string(shift) +
                           ", the image is " + to_string(image);
  if (size < 1 || size > kMostSide || shift < 0 || shift >= size) {
    throw ShapeError(what, op, "give a size of 1 or more and a shift from 0 to size - 1");
  }
  if (image.rank() != 4 || image[1] < 1 || image[2] < 1 || image[1] > kMostSide || image[2] > kMostSide) {
    throw ShapeError(what, op, "images are [N, H, W, C] with one row and column at least");
  }
  return WindowGrid(image, size, shift);
}

}  // namespace

Tensor split_windows(const Tensor& image, int64_t size, int64_t shift) {
  constexpr const char* kOp = "split_windows";
  check::defined(kOp, {"image", image});
  const WindowGrid grid = checked_grid(kOp, image.shape(), size, shift);
  Tensor windows = Tensor::empty(grid.windows(image.shape()), image.dtype(), image.device());
  EQ_RUN(image.device(), split_windows(image, grid, windows));
  trace(kOp, windows, {image}, grid);
  record<SplitWindowsBackward>(windows, {image}, image.shape(), grid);
  return windows;
}

Tensor join_windows(const Tensor& windows, const Shape& image, int64_t size, int64_t shift) {
  constexpr const char* kOp = "join_windows";
  check::defined(kOp, {"windows", windows});
  const WindowGrid grid = checked_grid(kOp, image, size, shift);
  if (!(windows.shape() == grid.windows(image))) {
    throw ShapeError(
        "join_windows: windows is " + describe(windows) + ", an image " + to_string(image) + " has " + to_string(grid.windows(image)), kOp,
        "give the shape, size and shift that split_windows was called with");
  }
  Tensor result = Tensor::empty(image, windows.dtype(), windows.device());
  EQ_RUN(windows.device(), join_windows(windows, grid, result));
  trace(kOp, result, {windows}, grid);
  record<JoinWindowsBackward>(result, {windows}, windows.shape(), grid);
  return result;
}

}  // namespace eq
