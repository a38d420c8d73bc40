// Operators on images, and norms.
#include <algorithm>

#include "autograd/functional.h"
#include "core/kernels/group_norm.h"
#include "onnx/translation.h"

namespace eq {
namespace {

using Operation = const TracedOperation&;
using Integers = std::vector<int64_t>;

void conv2d(OnnxTranslation& to, Operation operation) {
  const auto& o = operation.as<Conv2dOptions>();
  const int x = operation.inputs[0], weight = operation.inputs[1], bias = operation.inputs[2];
  const Tensor& values = to.constant(weight);
  std::vector<std::string> inputs = {to.first(x), to.graph().constant(permute(values, {0, 3, 1, 2}), to.name_of(weight))};
  if (bias >= 0) inputs.push_back(to.last(bias));
  to.name_first(operation.output, to.graph().add("Conv", inputs,
                                                 {{"kernel_shape", Integers{values.size(1), values.size(2)}},
                                                  {"strides", Integers{o.stride_h, o.stride_w}},
                                                  {"pads", Integers{o.pad_top, o.pad_left, o.pad_bottom, o.pad_right}},
                                                  {"dilations", Integers{o.dilation_h, o.dilation_w}},
                                                  {"group", o.groups}},
                                                 to.module_of(weight)));
}

// [C], where an optional one is not given: `otherwise`.
std::string vector_of(OnnxTranslation& to, int value, int64_t channels, double otherwise, int like) {
  return value >= 0 ? to.last(value) : to.graph().constant(Tensor::full({channels}, otherwise, to.dtype(like)));
}

void batch_norm(OnnxTranslation& to, Operation operation) {
  const auto& o = operation.as<BatchNormOptions>();
  const int x = operation.inputs[0], gamma = operation.inputs[1], y = operation.output;
  if (o.training) {
    throw UsageError("batch norm in training has no translation to ONNX", to.module_of(gamma), "call eval() on the network first");
  }
  const int64_t channels = to.shape(x).at(-1);
  const bool image = to.shape(x).rank() == 4;
  // Of rows [..., C] their last axis becomes ONNX's second one.
  const std::string input = image ? to.first(x) : to.graph().add("Reshape", {to.last(x), to.graph().constant(Integers{-1, channels})});
  std::string result = to.graph().add("BatchNormalization",
                                      {input, vector_of(to, gamma, channels, 1, x), vector_of(to, operation.inputs[2], channels, 0, x),
                                       to.last(operation.inputs[3]), to.last(operation.inputs[4])},
                                      {{"epsilon", float(o.eps)}}, to.module_of(gamma));
  if (o.relu) result = to.graph().add("Relu", {result});
  if (image) return to.name_first(y, result);
  to.name_last(y, to.graph().add("Reshape", {result, to.graph().constant(to.extents(y))}));
}

void layer_norm(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0];
  const int64_t channels = to.shape(x).at(-1);
  to.name_last(
      operation.output,
      to.graph().add("LayerNormalization",
                     {to.last(x), vector_of(to, operation.inputs[1], channels, 1, x), vector_of(to, operation.inputs[2], channels, 0, x)},
                     {{"axis", int64_t{-1}}, {"epsilon", float(operation.as<double>())}}, to.module_of(operation.inputs[1])));
}

// The instance norm of [N, groups, values of a group], then the channels' own factors.
void group_norm(OnnxTranslation& to, Operation operation) {
  const auto& o = operation.as<GroupNormOptions>();
  const int x = operation.inputs[0], gamma = operation.inputs[1], beta = operation.inputs[2], y = operation.output;
  if (to.shape(x).rank() != 4) {
    throw UsageError("group norm of " + to_string(to.shape(x)) + " has no translation to ONNX", to.module_of(gamma),
                     "norm images [N,H,W,C]");
  }
  const Integers extents = to.extents(y);
  const auto all_groups = [&](double value) { return to.graph().constant(Tensor::full({o.groups}, value, to.dtype(x))); };
  const std::string grouped = to.graph().add("Reshape", {to.first(x), to.graph().constant(Integers{0, o.groups, -1})});
  const std::string normed =
      to.graph().add("InstanceNormalization", {grouped, all_groups(1), all_groups(0)}, {{"epsilon", float(o.eps)}}, to.module_of(gamma));
  std::string result = to.graph().add("Reshape", {normed, to.graph().constant(Integers{extents[0], extents[3], extents[1], extents[2]})});
  if (gamma >= 0) result = to.graph().add("Mul", {result, to.operand(gamma, true)});
  if (beta >= 0) result = to.graph().add("Add", {result, to.operand(beta, true)});
  to.name_first(y, result);
}

void pool(OnnxTranslation& to, Operation operation, const std::string& type, OnnxGraph::Attributes attributes = {}) {
  const auto& o = operation.as<Pool2dOptions>();
  const OnnxGraph::Attributes window = {{"kernel_shape", Integers{o.kernel_h, o.kernel_w}},
                                        {"strides", Integers{o.stride_h, o.stride_w}},
                                        {"pads", Integers{o.pad_h, o.pad_w, o.pad_h, o.pad_w}},
                                        {"ceil_mode", int64_t{o.ceil_mode}}};
  attributes.insert(attributes.end(), window.begin(), window.end());
  to.name_first(operation.output, to.graph().add(type, {to.first(operation.inputs[0])}, attributes));
}

void max_pool2d(OnnxTranslation& to, Operation operation) { pool(to, operation, "MaxPool"); }
void avg_pool2d(OnnxTranslation& to, Operation operation) {
  pool(to, operation, "AveragePool", {{"count_include_pad", int64_t{operation.as<Pool2dOptions>().count_include_pad}}});
}

// [in, out]: column i averages the cells of bin i.
Tensor bins(int64_t in, int64_t out, DType type) {
  std::vector<double> weights(size_t(in * out), 0);
  for (int64_t bin = 0; bin < out; ++bin) {
    const int64_t begin = adaptive_bin_begin(bin, in, out), end = adaptive_bin_end(bin, in, out);
    for (int64_t cell = begin; cell < end; ++cell) weights[size_t(cell * out + bin)] = 1 / double(end - begin);
  }
  return Tensor::from(weights, {in, out}).to(type);
}

// ONNX pools into windows of one size: bins that differ are products, of the columns and, turned round, of the rows. The constant is on the
// right: on the left OpenCV does not read it.
void adaptive_avg_pool2d(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0], y = operation.output;
  const int64_t in_h = to.shape(x)[1], in_w = to.shape(x)[2], out_h = to.shape(y)[1], out_w = to.shape(y)[2];
  const std::string image = to.first(x);
  if (out_h == 1 && out_w == 1) return to.name_first(y, to.graph().add("GlobalAveragePool", {image}));
  if (in_h % out_h == 0 && in_w % out_w == 0) {
    const Integers size = {in_h / out_h, in_w / out_w};
    return to.name_first(y, to.graph().add("AveragePool", {image}, {{"kernel_shape", size}, {"strides", size}}));
  }
  const auto binned = [&](const std::string& cells, int64_t in, int64_t out) {
    return to.graph().add("MatMul", {cells, to.graph().constant(bins(in, out, to.dtype(x)))});
  };
  const auto turned = [&](const std::string& cells) { return to.graph().add("Transpose", {cells}, {{"perm", Integers{0, 1, 3, 2}}}); };
  to.name_first(y, turned(binned(turned(binned(image, in_w, out_w)), in_h, out_h)));
}

// Of an image whose channels come first, to height x width.
std::string resized(OnnxTranslation& to, int x, int64_t height, int64_t width, const OnnxGraph::Attributes& attributes) {
  if (to.shape(x)[1] == height && to.shape(x)[2] == width) return to.first(x);
  const std::string image = to.first(x), sizes = to.extents_tensor(x, {to.extents(x)[0], to.shape(x)[3], height, width});
  return to.graph().add("Resize", {image, "", "", sizes}, attributes);
}

std::string resized_bilinearly(OnnxTranslation& to, int x, int64_t height, int64_t width, bool align_corners) {
  return resized(to, x, height, width,
                 {{"mode", "linear"}, {"coordinate_transformation_mode", align_corners ? "align_corners" : "half_pixel"}});
}

void resize_bilinear(OnnxTranslation& to, Operation operation) {
  const Shape size = to.shape(operation.output);
  to.name_first(operation.output, resized_bilinearly(to, operation.inputs[0], size[1], size[2], operation.as<bool>()));
}

void resize_nearest(OnnxTranslation& to, Operation operation) {
  const Shape size = to.shape(operation.output);
  to.name_first(operation.output,
                resized(to, operation.inputs[0], size[1], size[2],
                        {{"mode", "nearest"}, {"coordinate_transformation_mode", "asymmetric"}, {"nearest_mode", "floor"}}));
}

// Each branch resized, then equalized where it has constants; all of them joined, in their border if there is one.
void fuse_levels(OnnxTranslation& to, Operation operation) {
  const auto& o = operation.as<TracedLevels>();
  const size_t count = (operation.inputs.size() - 1) / 3;
  std::vector<std::string> branches;
  for (size_t i = 0; i < count; ++i) {
    const int shift = operation.inputs[count + i], scale = operation.inputs[2 * count + i];
    std::string y = resized_bilinearly(to, operation.inputs[i], o.out_h, o.out_w, o.align_corners);
    if (shift >= 0) y = to.graph().add("Sub", {y, to.operand(shift, true)});
    if (scale >= 0) y = to.graph().add("Mul", {y, to.operand(scale, true)});
    branches.push_back(y);
  }
  std::string joined = branches.size() == 1 ? branches[0] : to.graph().add("Concat", branches, {{"axis", int64_t{1}}});
  if (o.pad_h > 0 || o.pad_w > 0) {
    // The border's values differ from channel to channel, Pad's do not: it pads what remains without them.
    const int values = operation.inputs.back();
    const std::string border = values >= 0 ? to.operand(values, true) : "";
    if (!border.empty()) joined = to.graph().add("Sub", {joined, border});
    const Integers amounts = {0, 0, o.pad_h, o.pad_w, 0, 0, o.pad_h, o.pad_w};
    joined = to.graph().add("Pad", {joined, to.graph().constant(amounts), to.number(0, operation.inputs[0])}, {{"mode", "constant"}});
    if (!border.empty()) joined = to.graph().add("Add", {joined, border});
  }
  to.name_first(operation.output, joined);
}

}  // namespace

std::vector<OnnxOperator> onnx_image_operators() {
  return {{"conv2d", conv2d},
          {"batch_norm", batch_norm},
          {"layer_norm", layer_norm},
          {"group_norm", group_norm},
          {"max_pool2d", max_pool2d},
          {"avg_pool2d", avg_pool2d},
          {"adaptive_avg_pool2d", adaptive_avg_pool2d},
          {"resize_bilinear", resize_bilinear},
          {"resize_nearest", resize_nearest},
          {"fuse_levels", fuse_levels}};
}

}  // namespace eq
