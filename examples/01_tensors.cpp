// Lesson 1: tensors.
//
// A tensor is a row of numbers in memory and a shape that says how to count through them. The shape [2, 3, 4] means:
// 2 blocks of 3 rows of 4 numbers. Memory is row-major, the last index moves fastest, so element (i, j, k) lies
//
//   i * 12 + j * 4 + k * 1
//
// steps after the first. The numbers 12, 4, 1 are the strides: how far one step along each axis jumps. The stride of
// an axis is the product of all extents to its right. Pictures are [N, H, W, C] here: picture, row, column, colour,
// so the three colours of a pixel are neighbours in memory.
//
// Three things to know about every tensor library:
//  - Who owns the numbers? Copying a Tensor copies the handle: both names mean the same memory. clone() copies the
//    numbers.
//  - What is a view? A reshape only counts the same memory differently and costs nothing. A transposition changes the
//    order of the numbers; this engine keeps memory contiguous always, so it copies (others keep the memory and
//    exchange the strides).
//  - What is broadcasting? Write both shapes right-aligned; an axis that is 1 or missing in one of them is repeated
//    to fit the other:
//      [128, 1, 1] * [3]  ->  [128, 1, 3]        [128, 1, 3] + [1, 192, 3]  ->  [128, 192, 3]
//    Nothing is repeated in memory. The picture of this lesson is one such line.
//
// Plain memory has a second advantage: any other library can look at it. An Eigen::Map is a matrix that owns nothing.
//
// Exercise: paint a dark disc into the picture. From y [128, 1, 1] and x [1, 192, 1], both counted from the middle,
// broadcasting gives the squared distance of every pixel at once; clamp it and multiply.
#include <Eigen/Core>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/file.h"
#include "datasets/image.h"

using namespace eq;

// 0, 1, ..., count - 1 in the given shape.
Tensor counting(const Shape& shape) {
  std::vector<float> values(size_t(shape.numel()));
  std::iota(values.begin(), values.end(), 0.0f);
  return Tensor::from(values, shape);
}

bool strides_lead_to_elements() {
  const Tensor t = counting({2, 3, 4});
  int64_t strides[3], product = 1;
  for (int axis = 2; axis >= 0; --axis) {
    strides[axis] = product;
    product *= t.size(axis);
  }
  const int64_t i = 1, j = 2, k = 3, offset = i * strides[0] + j * strides[1] + k * strides[2];
  std::printf("shape %s has strides %d, %d, %d; element (1, 2, 3) lies %d steps in and is %g\n",
              to_string(t.shape()).c_str(), int(strides[0]), int(strides[1]), int(strides[2]), int(offset),
              t.value_at(offset));
  // slice() takes the same path: cell 1 of axis 0, then 2 of axis 1, then 3 of axis 2.
  const Tensor cell = slice(slice(slice(t, 0, i, i + 1), 1, j, j + 1), 2, k, k + 1);
  return t.value_at(offset) == cell.item();
}

bool handles_views_and_copies() {
  const Tensor t = counting({2, 3});
  const Tensor handle = t, view = reshape(t, {3, 2}), turned = transpose(t, 0, 1), copy = t.clone();
  t.data<float>()[1] = 100;
  std::printf("after t[1] = 100:  t         %s\n", to_string(t).c_str());
  std::printf("                   handle    %s\n", to_string(handle).c_str());
  std::printf("                   reshape   %s\n", to_string(view).c_str());
  std::printf("                   transpose %s\n", to_string(turned).c_str());
  std::printf("                   clone     %s\n", to_string(copy).c_str());
  return handle.value_at(1) == 100 && view.value_at(1) == 100 && turned.value_at(2) == 1 && copy.value_at(1) == 1;
}

bool broadcasting_paints(const std::string& folder) {
  const int64_t height = 128, width = 192;
  const Tensor down = counting({height, 1, 1}) / double(height), across = counting({1, width, 1}) / double(width);
  const Tensor red = Tensor::from<float>({230, 60, 20}, {3}), blue = Tensor::from<float>({20, 120, 235}, {3});
  const Tensor picture = down * red + across * blue;
  std::printf("%s * %s + %s * %s -> %s\n", to_string(down.shape()).c_str(), to_string(red.shape()).c_str(),
              to_string(across.shape()).c_str(), to_string(blue.shape()).c_str(), to_string(picture.shape()).c_str());
  Image image{height, width, {}};
  for (float value : clamp(picture, 0, 255).to_vector<float>()) image.pixels.push_back(uint8_t(value));
  write_png(folder + "/01_tensors.png", image);
  // Pixel (96, 48), green: three quarters down, one quarter across.
  return std::abs(picture.value_at((96 * width + 48) * 3 + 1) - (0.75 * 60 + 0.25 * 120)) < 1e-4;
}

bool eigen_sees_the_same_memory() {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Tensor a = counting({3, 4}), b = counting({4, 2});
  const Tensor product = matmul(a, b);
  const Eigen::Map<const Matrix> a_map(a.data<float>(), 3, 4), b_map(b.data<float>(), 4, 2);
  const Eigen::Map<const Matrix> product_map(product.data<float>(), 3, 2);
  const float difference = (a_map * b_map - product_map).cwiseAbs().maxCoeff();
  std::printf("matmul: %s\n", to_string(product).c_str());
  std::printf("Eigen's product of the same memory differs by %g\n", double(difference));
  return difference == 0;
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  bool ok = strides_lead_to_elements();
  ok &= handles_views_and_copies();
  ok &= broadcasting_paints(folder);
  ok &= eigen_sees_the_same_memory();
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
