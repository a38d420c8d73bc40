// Receptive fields against gradients: of one cell with respect to the image, they are zero outside of the field, and for plain convolutions
// nowhere zero within.
#include "autograd/receptive_field.h"

#include "autograd/functional.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

using Function = std::function<Tensor(const Tensor&)>;

Tensor positive(const Shape& shape, uint64_t seed) { return abs(random_tensor(shape, seed)); }

// Weights without zeros or signs: nothing that is read cancels out.
Tensor conv(const Tensor& x, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation = 1) {
  return conv2d(x, positive({2, kernel, kernel, x.size(3)}, uint64_t(kernel)), {},
                Conv2dOptions().stride(stride).padding(padding).dilation(dilation));
}

struct Traced {
  explicit Traced(const Function& fn, const Shape& shape) : x(positive(shape, 7).set_requires_grad()), trace({x}), y(fn(x)) {
    trace.end();
    fields.emplace(trace);
  }
  std::optional<ReceptiveField> field() const { return fields->of(trace.find(y)); }
  Tensor x;
  Trace trace;
  Tensor y;
  std::optional<ReceptiveFields> fields;
};

// Of each cell of the result. `exact`: the gradient has no zero within the field.
void check_support(const std::string& name, const Function& fn, bool exact, const Shape& shape = {1, 23, 30, 2}) {
  CAPTURE(name);
  Traced traced(fn, shape);
  REQUIRE(traced.y.rank() == 4);
  const int value = traced.trace.find(traced.y);
  REQUIRE(traced.fields->of(value).has_value());
  for (int64_t row = 0; row < traced.y.size(1); row += 2) {
    for (int64_t column = 0; column < traced.y.size(2); column += 3) {
      traced.x.set_grad({});
      sum(slice(slice(traced.y, 1, row, row + 1), 2, column, column + 1)).backward({}, true);
      const std::vector<double> gradient = sum(abs(traced.x.grad()), {3}).to_vector<double>();
      const CellRange rows = traced.fields->reads(value, 0, row), columns = traced.fields->reads(value, 1, column);
      bool outside = false, gap = false;
      for (int64_t i = 0; i < shape[1]; ++i) {
        for (int64_t j = 0; j < shape[2]; ++j) {
          const bool within =
              (rows.everywhere || (rows.first <= i && i <= rows.last)) && (columns.everywhere || (columns.first <= j && j <= columns.last));
          const bool reads = gradient[size_t(i * shape[2] + j)] != 0;
          outside = outside || (reads && !within);
          gap = gap || (within && !reads);
        }
      }
      CAPTURE(row, column, rows.first, rows.last, columns.first, columns.last);
      CHECK_FALSE(outside);
      if (exact) CHECK_FALSE(gap);
    }
  }
}

void check_field(const Function& fn, int64_t rows, int64_t columns, double stride, const Shape& shape = {1, 64, 64, 2}) {
  const auto field = Traced(fn, shape).field();
  REQUIRE(field.has_value());
  CHECK(field->rows == rows);
  CHECK(field->columns == columns);
  CHECK(field->row_stride == stride);
  CHECK(field->column_stride == stride);
}

constexpr int64_t kGlobal = ReceptiveField::kGlobal;

}  // namespace

TEST_CASE("the field of stacked convolutions is the textbook's, and exactly the gradient's support", "[autograd]") {
  // Field: the sum over the layers of (kernel - 1) * dilation * stride so far, plus 1.
  check_field([](const Tensor& x) { return conv(x, 3, 1, 1); }, 3, 3, 1);
  check_field([](const Tensor& x) { return conv(conv(conv(x, 7, 2, 3), 3, 2, 1), 3, 1, 1); }, 19, 19, 4);
  check_field([](const Tensor& x) { return conv(conv(x, 3, 2, 1), 3, 1, 2, 2); }, 11, 11, 2);
  check_support("3x3", [](const Tensor& x) { return conv(x, 3, 1, 1); }, true);
  check_support("strides", [](const Tensor& x) { return conv(conv(conv(x, 5, 2, 2), 3, 2, 1), 3, 1, 1); }, true);
  check_support("no padding", [](const Tensor& x) { return conv(conv(x, 4, 3, 0), 2, 1, 0); }, true);
  check_support("uneven", [](const Tensor& x) {
    Conv2dOptions options;
    options.pad_top = 3, options.pad_right = 1, options.stride_h = 2, options.dilation_w = 2;
    return conv(conv2d(x, positive({2, 3, 2, 2}, 1), {}, options), 3, 1, 1);
  }, false);
  check_support("average pooling", [](const Tensor& x) { return avg_pool2d(conv(x, 3, 1, 1), Pool2dOptions::square(3, 2, 1)); }, true);
}

TEST_CASE("fields through dilation, pooling, resizing and branches hold the gradient", "[autograd]") {
  check_field([](const Tensor& x) { return max_pool2d(conv(x, 3, 1, 1), Pool2dOptions::square(2, 2)); }, 4, 4, 2);
  check_field([](const Tensor& x) { return resize_bilinear(conv(x, 4, 4, 0), 64, 64, false); }, 8, 8, 1);  // two cells of four pixels
  check_field([](const Tensor& x) { return resize_nearest(conv(x, 4, 4, 0), 64, 64); }, 4, 4, 1);
  check_field([](const Tensor& x) { return add(x, conv(x, 5, 1, 2)); }, 5, 5, 1);
  check_support("dilation", [](const Tensor& x) { return conv(conv(x, 3, 1, 3, 3), 3, 2, 1); }, false);
  check_support(
      "max pooling",
      [](const Tensor& x) {
        return conv(max_pool2d(conv(x, 3, 1, 1), {.kernel_h = 3, .kernel_w = 2, .pad_h = 1, .ceil_mode = true}), 3, 1, 1);
      },
      false);
  for (const bool align_corners : {false, true}) {
    check_support("up", [=](const Tensor& x) { return conv(resize_bilinear(conv(x, 3, 2, 1), 31, 17, align_corners), 3, 1, 1); }, false);
    check_support("down", [=](const Tensor& x) { return resize_bilinear(x, 5, 1, align_corners); }, false);
    check_support("levels", [=](const Tensor& x) {
      const Tensor coarse = conv(x, 4, 4, 0), middle = conv(x, 3, 2, 1);
      return conv(fuse_levels({x, middle, coarse}, {.out_h = 23, .out_w = 30, .align_corners = align_corners, .pad_h = 1, .pad_w = 2}), 3,
                  1, 0);
    }, false);
  }
  check_support("nearest", [](const Tensor& x) { return resize_nearest(conv(x, 3, 2, 1), 29, 31); }, false);
  check_support("bins", [](const Tensor& x) { return resize_bilinear(adaptive_avg_pool2d(x, 3, 4), 23, 30, false); }, false);
  check_support(
      "branches",
      [](const Tensor& x) {
        return concat({x, relu(conv(x, 3, 1, 2, 2)), conv(pad2d(x, 1, 0, 2, -1), 2, 1, 0)}, 3);
      },
      false);
  check_support("halves", [](const Tensor& x) {
    const std::vector<Tensor> halves = split(slice(conv(x, 3, 1, 1), 1, 4, 20), {8, 8}, 1);
    return add(halves[0], halves[1]);
  }, false);
  check_support("parts", [](const Tensor& x) { return add(slice(conv(x, 3, 1, 1), 1, 4, 20), slice(slice(x, 1, 0, 16), 3, 0, 1)); }, false);
}

TEST_CASE("fields go through tokens, blocks and windows", "[autograd]") {
  const auto tokens = [](const Tensor& x) {
    const Tensor rows = reshape(conv(x, 3, 1, 1), {1, x.size(1) * x.size(2), 2});
    return reshape(layer_norm(linear(rows, positive({4, 2}, 1)), {}, {}, 1e-5), {1, x.size(1), x.size(2), 4});
  };
  check_field(tokens, 3, 3, 1);
  check_support("tokens", tokens, false);
  const auto blocks = [](const Tensor& x) {
    const Tensor squares = permute(reshape(conv(x, 3, 1, 1), {1, x.size(1) / 2, 2, x.size(2) / 3, 3, 2}), {0, 1, 3, 5, 2, 4});
    return reshape(squares, {1, x.size(1) / 2, x.size(2) / 3, 12});
  };
  check_support("blocks", blocks, true, {1, 22, 30, 2});
  const auto field = Traced(blocks, {1, 22, 30, 2}).field();
  CHECK((field->rows == 4 && field->columns == 5 && field->row_stride == 2 && field->column_stride == 3));
  const auto mixed_in = [](const Tensor& image, int64_t size, int64_t shift) {
    const Tensor split = split_windows(image, size, shift);
    return join_windows(add(split, matmul(matmul(split, transpose(split, 1, 2)), split)), image.shape(), size, shift);
  };
  check_field([&](const Tensor& x) { return mixed_in(x, 8, 0); }, 8, 8, 1);
  check_field([&](const Tensor& x) { return mixed_in(mixed_in(x, 8, 0), 8, 4); }, 16, 16, 1);
  check_support("windows", [&](const Tensor& x) { return conv(mixed_in(conv(x, 3, 2, 1), 5, 0), 3, 1, 1); }, false);
  // Within windows a cell is no place in the image.
  CHECK_FALSE(Traced([](const Tensor& x) { return relu(split_windows(x, 8, 0)); }, {1, 16, 16, 2}).field().has_value());
  CHECK(Traced([](const Tensor& x) { return join_windows(split_windows(x, 8, 0), x.shape(), 8, 4); }, {1, 16, 16, 2}).field()->global());
}

TEST_CASE("what reads the whole image is global", "[autograd]") {
  check_field([](const Tensor& x) { return resize_bilinear(adaptive_avg_pool2d(conv(x, 3, 2, 1), 1, 1), 64, 64, false); }, kGlobal, kGlobal,
              1);
  check_field([](const Tensor& x) { return mul(conv(x, 3, 2, 1), sigmoid(mean(x, {1, 2}, true))); }, kGlobal, kGlobal, 2);
  check_field([](const Tensor& x) { return add(x, adaptive_avg_pool2d(x, 1, 64)); }, kGlobal, 1, 1);
  check_field([](const Tensor& x) { return group_norm(x, 1, {}, {}, 1e-5); }, kGlobal, kGlobal, 0);
  const auto attention = [](const Tensor& x) {
    const Tensor rows = reshape(x, {1, x.size(1) * x.size(2), 2});
    return reshape(matmul(softmax(matmul(rows, transpose(rows, 1, 2))), rows), x.shape());
  };
  check_field(attention, kGlobal, kGlobal, 0, {1, 6, 8, 2});
  check_field([&](const Tensor& x) { return add(x, attention(x)); }, kGlobal, kGlobal, 1, {1, 6, 8, 2});
  check_support("attention", [&](const Tensor& x) { return add(x, attention(x)); }, false, {1, 6, 8, 2});
  check_support("sums", [](const Tensor& x) { return reshape(sum(x, {2}), {1, 23, 1, 2}); }, false);
  // Not of the image at all.
  const Traced constant([](const Tensor&) { return random_tensor({1, 4, 4, 1}, 1); }, {1, 4, 4, 1});
  CHECK_FALSE(constant.field().has_value());
  CHECK(constant.fields->of(0)->rows == 1);
}

TEST_CASE("fields of maps that are broadcast, cut, turned or joined hold the gradient", "[autograd]") {
  const auto third_row = [](const Tensor& x) { return slice(x, 1, 3, 4); };
  check_support("a row for all", [&](const Tensor& x) { return add(x, third_row(x)); }, false);
  check_support("a row repeated", [&](const Tensor& x) { return add(third_row(x), positive({1, 23, 30, 2}, 1)); }, false);
  check_field([](const Tensor& x) { return add(adaptive_avg_pool2d(x, 1, 64), x); }, kGlobal, 1, 1);
  check_field([](const Tensor& x) { return add(adaptive_avg_pool2d(x, 64, 1), x); }, 1, kGlobal, 1);
  check_field([](const Tensor& x) { return add(slice(x, 2, 0, 32), slice(x, 2, 32, 64)); }, 1, 33, 1, {1, 16, 64, 2});
  check_support("columns", [](const Tensor& x) { return slice(conv(x, 3, 1, 1), 2, 4, 20); }, true);
  check_support("padded", [](const Tensor& x) { return conv(pad2d(x, 2, 0, 0, 3), 3, 1, 0); }, false);
  const Shape square = {1, 12, 12, 2};
  const auto turned = [](const Tensor& x) { return permute(x, {0, 2, 1, 3}); };
  check_support("turned and added", [&](const Tensor& x) { return add(x, turned(x)); }, false, square);
  check_support("turned beside", [&](const Tensor& x) { return concat({x, turned(x)}, 3); }, false, square);
  check_support("below each other", [](const Tensor& x) { return concat({x, x}, 1); }, false);
  const auto tokens = [](const Tensor& x) { return reshape(x, {1, 690, 2}); };
  check_support("a row of tokens", [&](const Tensor& x) { return reshape(slice(tokens(x), 1, 30, 60), {1, 1, 30, 2}); }, false);
  check_support("tokens cut elsewhere", [&](const Tensor& x) { return reshape(tokens(x), {1, 30, 23, 2}); }, false);
  check_field([](const Tensor& x) { return conv(mean(x, {3}, true), 3, 1, 1); }, 3, 3, 1);
  const auto blocks = [](const Tensor& x) {
    return reshape(permute(reshape(x, {1, 32, 2, 32, 2, 2}), {0, 1, 3, 5, 2, 4}), {1, 32, 32, 8});
  };
  check_field([&](const Tensor& x) { return relu(conv(blocks(x), 3, 1, 1)); }, 6, 6, 2);
  check_field([&](const Tensor& x) { return add(blocks(x), blocks(x)); }, 2, 2, 2);
  check_field([](const Tensor& x) { return resize_bilinear(conv(x, 3, 1, 1), 1, 1, true); }, 3, 3, 64);
}

TEST_CASE("fields through weights that are computed, and sums over positions, hold the gradient", "[autograd]") {
  check_support("softmax of columns", [](const Tensor& x) { return permute(softmax(permute(x, {0, 1, 3, 2})), {0, 1, 3, 2}); }, false);
  check_support("a computed linear map", [](const Tensor& x) { return linear(x, mean(x, {1, 2}), {}); }, false);
  check_support("computed filters", [](const Tensor& x) { return conv2d(x, reshape(mean(x, {1, 2}), {1, 1, 1, 2}), {}, {}); }, false);
  check_field([](const Tensor& x) {
    Tensor mean = Tensor::zeros({2}, x.dtype()), var = positive({2}, 1);
    return batch_norm(x, {}, {}, mean, var, {.training = true});
  }, kGlobal, kGlobal, 0);
  check_field([](const Tensor& x) {  // the mean comes last, the range joins it
    const Tensor near = conv(x, 3, 1, 1);
    return add(near, mean(x, {1, 2}, true));
  }, kGlobal, kGlobal, 1);
  // Windows that are shifted by 4: each cell reads those of its own.
  const Traced shifted([](const Tensor& x) {
    const Tensor split = split_windows(x, 8, 4);
    return join_windows(add(split, split), x.shape(), 8, 4);
  }, {1, 16, 16, 2});
  const int value = shifted.trace.find(shifted.y);
  for (const auto& [cell, first] : {std::pair<int64_t, int64_t>{3, -4}, {4, 4}, {11, 4}, {12, 12}}) {
    CHECK(shifted.fields->reads(value, 0, cell).first == first);
    CHECK(shifted.fields->reads(value, 1, cell).last == first + 7);
  }
}
