// Every operator that has a translation to ONNX: its nodes are valid, and where OpenCV can run them they compute the same.
#include <functional>
#include <set>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "onnx/external.h"
#include "onnx/translation.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

using Function = std::function<Tensor(const Tensor& x)>;

struct Case {
  std::string name;
  Shape shape;  // of one picture's share: [1, ...]
  Function function;
};

Tensor values(const Shape& shape, uint64_t seed) { return random_tensor(shape, seed, DType::kFloat32); }
Tensor positive(const Tensor& x) { return add(abs(x), 0.5); }

constexpr int64_t kChannels = 6;
const Shape kImage = {1, 7, 5, kChannels}, kRows = {1, 9, kChannels};

Tensor norm_image(const Tensor& x, bool relu) {
  Tensor mean = values({kChannels}, 3), var = positive(values({kChannels}, 4));
  return batch_norm(x, values({kChannels}, 1), values({kChannels}, 2), mean, var, {.eps = 1e-3, .training = false, .relu = relu});
}

FuseLevelsOptions levels(bool align_corners, int64_t padding) {
  return {.out_h = 9, .out_w = 10, .align_corners = align_corners,
          .shift = {values({kChannels}, 1), Tensor(), values({1}, 2)}, .scale = {values({kChannels}, 3), Tensor(), values({1}, 4)},
          .pad_h = padding, .pad_w = padding, .border = padding > 0 ? values({3 * kChannels}, 5) : Tensor()};
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  const auto add_case = [&](const std::string& name, const Shape& shape, Function function) {
    cases.push_back({name, shape, std::move(function)});
  };
  // Elementwise operators, of tokens and, behind a convolution, of an image whose channels come first.
  const std::pair<const char*, Function> elementwise[] = {{"neg", neg},
                                                          {"exp", [](const Tensor& x) { return exp(x); }},
                                                          {"log", [](const Tensor& x) { return log(positive(x)); }},
                                                          {"sqrt", [](const Tensor& x) { return sqrt(positive(x)); }},
                                                          {"rsqrt", [](const Tensor& x) { return rsqrt(positive(x)); }},
                                                          {"square", square},
                                                          {"reciprocal", [](const Tensor& x) { return reciprocal(positive(x)); }},
                                                          {"abs", [](const Tensor& x) { return eq::abs(x); }},
                                                          {"sin", [](const Tensor& x) { return eq::sin(x); }},
                                                          {"cos", [](const Tensor& x) { return eq::cos(x); }},
                                                          {"tanh", [](const Tensor& x) { return eq::tanh(x); }},
                                                          {"sigmoid", sigmoid},
                                                          {"softplus", softplus},
                                                          {"relu", relu},
                                                          {"relu6", [](const Tensor& x) { return relu6(mul(x, 5)); }},
                                                          {"gelu", gelu},
                                                          {"silu", silu},
                                                          {"hardswish", [](const Tensor& x) { return hardswish(mul(x, 3)); }},
                                                          {"leaky_relu", [](const Tensor& x) { return leaky_relu(x, 0.1); }},
                                                          {"clamp", [](const Tensor& x) { return clamp(x, -0.5, 0.75); }},
                                                          {"add_number", [](const Tensor& x) { return x + 2.0; }},
                                                          {"mul_number", [](const Tensor& x) { return x * -3.0; }},
                                                          {"div_number", [](const Tensor& x) { return x / 3.0; }},
                                                          {"number_sub", [](const Tensor& x) { return 1.0 - x; }},
                                                          {"number_div", [](const Tensor& x) { return 2.0 / positive(x); }},
                                                          {"pow", [](const Tensor& x) { return pow(positive(x), 1.5); }},
                                                          {"add", [](const Tensor& x) { return add(x, values({kChannels}, 1)); }},
                                                          {"sub", [](const Tensor& x) { return sub(values({kChannels}, 1), x); }},
                                                          {"mul", [](const Tensor& x) { return mul(x, exp(x)); }},
                                                          {"div", [](const Tensor& x) { return div(x, positive(x)); }},
                                                          {"maximum", [](const Tensor& x) { return maximum(x, values({1}, 1)); }},
                                                          {"minimum", [](const Tensor& x) { return minimum(x, neg(x)); }},
                                                          {"softmax", softmax},
                                                          {"log_softmax", log_softmax}};
  const auto convolved = [](const Tensor& x) { return conv2d(x, values({kChannels, 3, 3, kChannels}, 9), {}, Conv2dOptions().padding(1)); };
  for (const auto& [name, function] : elementwise) {
    add_case(name, kRows, function);
    add_case(std::string(name) + "_image", kImage, [=](const Tensor& x) { return function(mul(convolved(x), 0.1)); });
  }
  add_case("add_position", kImage, [=](const Tensor& x) { return add(convolved(x), values({1, 7, 5, 1}, 3)); });
  // Two images, one of either order; a picture's vector beside its image.
  add_case("add_orders", kImage, [=](const Tensor& x) { return add(convolved(x), layer_norm(x, {}, {}, 1e-5)); });
  add_case("mul_gate", kImage, [=](const Tensor& x) { return mul(convolved(x), sigmoid(adaptive_avg_pool2d(x, 1, 1))); });
  add_case("mul_vector", kImage, [=](const Tensor& x) { return mul(convolved(x), mean(x, {0, 1, 2})); });
  add_case("matmul", kRows, [](const Tensor& x) { return matmul(x, transpose(x, -1, -2)); });
  add_case("matmul_transposed", kRows, [](const Tensor& x) { return matmul(x, x, true); });
  add_case("linear", kRows, [](const Tensor& x) { return linear(x, values({4, kChannels}, 1), values({4}, 2)); });
  add_case("linear_without_bias", kRows, [](const Tensor& x) { return linear(x, values({4, kChannels}, 1)); });
  add_case("linear_matrix", {1, kChannels}, [](const Tensor& x) { return linear(x, values({4, kChannels}, 1), values({4}, 2)); });
  add_case("sum", kRows, [](const Tensor& x) { return sum(x, {-1}, true); });
  add_case("mean", kRows, [](const Tensor& x) { return mean(x, {1}); });
  add_case("var", kRows, [](const Tensor& x) { return var(x, {1, 2}, true, true); });
  add_case("max", kRows, [](const Tensor& x) { return max(x, 1); });
  add_case("argmax", kRows, [](const Tensor& x) { return argmax(x, 2); });
  add_case("reshape", kImage, [](const Tensor& x) { return reshape(x, {x.size(0) * 7, 5 * kChannels}); });
  add_case("permute", kRows, [](const Tensor& x) { return permute(x, {2, 0, 1}); });
  add_case("expand", {1, 1, kChannels}, [](const Tensor& x) { return expand(x, {x.size(0), 4, kChannels}); });
  add_case("slice", kRows, [](const Tensor& x) { return slice(x, 1, 2, 6); });
  add_case("split", kRows, [](const Tensor& x) { return mul(split(x, {3, x.size(1) - 3}, 1)[0], split(x, {3, 3, x.size(1) - 6}, 1)[1]); });
  add_case("slice_rows_of_image", kImage, [=](const Tensor& x) { return slice(convolved(x), 1, 2, 6); });
  add_case("slice_channels_of_image", kImage, [=](const Tensor& x) { return slice(convolved(x), 3, 1, 5); });
  add_case("concat", kImage, [=](const Tensor& x) { return concat({convolved(x), x}, 3); });
  add_case("concat_columns", kImage, [=](const Tensor& x) { return concat({x, convolved(x), x}, 2); });
  add_case("concat_rows", kRows, [](const Tensor& x) { return concat({x, exp(x)}, 1); });
  add_case("pad2d", kImage, [](const Tensor& x) { return pad2d(x, 1, 2, 3, 0, 0.5); });
  add_case("pad2d_image", kImage, [=](const Tensor& x) { return pad2d(convolved(x), -1, 2, 3, -2, 0.5); });
  add_case("cast", kRows, [](const Tensor& x) { return cast(mul(cast(x, DType::kFloat64), 1.25), DType::kFloat32); });
  for (const int64_t shift : {0, 2}) {
    add_case("split_windows_" + std::to_string(shift), kImage, [=](const Tensor& x) { return split_windows(x, 3, shift); });
    add_case("join_windows_" + std::to_string(shift), kImage,
             [=](const Tensor& x) { return join_windows(mul(split_windows(x, 3, 1), 2), x.shape(), 3, shift); });
  }
  add_case("split_windows_rows", {1, 7, 6, kChannels}, [](const Tensor& x) { return split_windows(x, 3, 0); });
  add_case("split_windows_columns", {1, 6, 5, kChannels}, [](const Tensor& x) { return split_windows(x, 3, 0); });
  add_case("conv2d", kImage, [](const Tensor& x) {
    return conv2d(
        x, values({4, 3, 2, kChannels}, 1), values({4}, 2),
        {.stride_h = 2, .stride_w = 1, .pad_top = 1, .pad_bottom = 3, .pad_left = 0, .pad_right = 3, .dilation_h = 1, .dilation_w = 2});
  });
  add_case("conv2d_depthwise", kImage, [](const Tensor& x) {
    return conv2d(x, values({kChannels, 3, 3, 1}, 1), {}, Conv2dOptions().padding(1).set_groups(kChannels));
  });
  add_case("conv2d_grouped", kImage, [](const Tensor& x) {
    return conv2d(x, values({4, 1, 1, kChannels / 2}, 1), values({4}, 2), Conv2dOptions().set_groups(2));
  });
  add_case("batch_norm", kImage, [](const Tensor& x) { return norm_image(x, false); });
  add_case("batch_norm_relu", kImage, [](const Tensor& x) { return norm_image(x, true); });
  add_case("batch_norm_rows", kRows, [](const Tensor& x) { return norm_image(x, false); });
  add_case("layer_norm", kRows, [](const Tensor& x) { return layer_norm(x, values({kChannels}, 1), values({kChannels}, 2), 1e-5); });
  add_case("layer_norm_image", kImage, [=](const Tensor& x) { return layer_norm(convolved(x), {}, {}, 1e-6); });
  add_case("group_norm", kImage, [](const Tensor& x) { return group_norm(x, 3, values({kChannels}, 1), values({kChannels}, 2), 1e-5); });
  add_case("max_pool2d", kImage, [](const Tensor& x) { return max_pool2d(x, Pool2dOptions::square(3, 2, 1)); });
  add_case("max_pool2d_ceil", {1, 8, 6, kChannels},
           [](const Tensor& x) { return max_pool2d(x, {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .ceil_mode = true}); });
  add_case("avg_pool2d", kImage, [](const Tensor& x) { return avg_pool2d(x, Pool2dOptions::square(3, 2, 1)); });
  add_case("avg_pool2d_without_padding", kImage, [](const Tensor& x) {
    return avg_pool2d(x, {.kernel_h = 3, .kernel_w = 2, .stride_h = 2, .stride_w = 1, .pad_h = 1, .pad_w = 1, .count_include_pad = false});
  });
  add_case("adaptive_avg_pool2d_1", kImage, [](const Tensor& x) { return adaptive_avg_pool2d(x, 1, 1); });
  add_case("adaptive_avg_pool2d_even", {1, 8, 6, kChannels}, [](const Tensor& x) { return adaptive_avg_pool2d(x, 4, 2); });
  add_case("adaptive_avg_pool2d_uneven_columns", {1, 8, 5, kChannels}, [](const Tensor& x) { return adaptive_avg_pool2d(x, 4, 2); });
  add_case("adaptive_avg_pool2d_row", kImage, [](const Tensor& x) { return adaptive_avg_pool2d(x, 1, 5); });
  add_case("adaptive_avg_pool2d_uneven", kImage, [](const Tensor& x) { return adaptive_avg_pool2d(x, 3, 4); });
  for (const bool align : {false, true}) {
    const std::string how = align ? "_aligned" : "";
    add_case("resize_bilinear_up" + how, kImage, [=](const Tensor& x) { return resize_bilinear(x, 15, 12, align); });
    add_case("resize_bilinear_down" + how, kImage, [=](const Tensor& x) { return resize_bilinear(x, 3, 4, align); });
    add_case("resize_bilinear_one" + how, kImage,
             [=](const Tensor& x) { return resize_bilinear(resize_bilinear(x, 1, 1, align), 4, 5, align); });
    add_case("fuse_levels" + how, kImage, [=](const Tensor& x) {
      return fuse_levels({x, adaptive_avg_pool2d(x, 2, 2), resize_bilinear(x, 9, 10, align)}, levels(align, 0));
    });
  }
  add_case("resize_bilinear_columns", kImage, [](const Tensor& x) { return resize_bilinear(x, 7, 12, false); });
  add_case("resize_nearest", kImage, [](const Tensor& x) { return resize_nearest(x, 15, 4); });
  add_case("fuse_levels_bordered", kImage, [](const Tensor& x) {
    return fuse_levels({x, adaptive_avg_pool2d(x, 2, 2), max_pool2d(x, {})}, levels(false, 2));
  });
  add_case("fuse_levels_bordered_columns", kImage, [](const Tensor& x) {
    FuseLevelsOptions options = levels(false, 2);
    options.pad_h = 0;
    return fuse_levels({x, adaptive_avg_pool2d(x, 2, 2), max_pool2d(x, {})}, options);
  });
  add_case("conv2d_batch_norm", kImage, [=](const Tensor& x) {
    return conv2d_batch_norm(x, values({kChannels, 3, 3, kChannels}, 1), {}, Conv2dOptions().padding(1),
                             {.running_mean = values({kChannels}, 3), .running_var = positive(values({kChannels}, 4)), .relu = true},
                             convolved(x));
  });
  add_case("fused_conv2d", kImage, [](const Tensor& x) {
    return fused_conv2d({x, adaptive_avg_pool2d(x, 2, 2), max_pool2d(x, {})}, values({4, 3, 3, 3 * kChannels}, 6), {}, levels(false, 0),
                        Conv2dOptions().padding(1));
  });
  return cases;
}

Shape with_batch(Shape shape, int64_t batch) {
  shape.set(0, batch);
  return shape;
}

struct Exported {
  std::string bytes;
  Tensor input, output;
  std::set<std::string> operators;
};

// Inputs and outputs in memory order. batch 0: any; the input is then of three pictures.
Exported exported(const Case& c, int64_t batch) {
  NoGradGuard no_grad;
  const Tensor x = values(with_batch(c.shape, std::max<int64_t>(batch, 1)), 21),
               other = values(with_batch(c.shape, batch > 0 ? batch : 2), 22);
  Trace trace({x});
  const Tensor y = c.function(x);
  trace.end();
  Trace beside({other});
  c.function(other);
  beside.end();
  OnnxGraph graph(c.name);
  OnnxTranslation to(graph, trace, beside, {});
  const int result = trace.find(y);
  to.name_last(0, graph.input("x", x.dtype(), to.extents(0)));
  to.run();
  graph.add("Identity", {to.last(result)}, {}, "y");
  graph.output("y", y.dtype(), to.extents(result));
  Exported exported{.bytes = graph.bytes(), .input = batch > 0 ? x : values(with_batch(c.shape, 3), 23)};
  exported.output = c.function(exported.input);
  for (const TracedOperation& operation : trace.operations()) exported.operators.insert(operation.op);
  return exported;
}

// What OpenCV 4.6 does not read (limits as operands, the maximum with a constant, axes as an operand, cropping, float64, layer norm), or
// takes for something else: the sum of a convolution and one value per pixel for a bias, and an average that counts the padding for one
// that does not.
const std::set<std::string> kNotForOpenCv = {"relu6",      "relu6_image",  "clamp",       "clamp_image", "maximum",    "maximum_image",
                                             "sum",        "var",          "pad2d_image", "cast",        "layer_norm", "layer_norm_image",
                                             "add_orders", "add_position", "avg_pool2d"};

}  // namespace

TEST_CASE("onnx: every operator is valid, for any batch", "[onnx]") {
  std::set<std::string> seen;
  for (const Case& c : all_cases()) {
    CAPTURE(c.name);
    const Exported any = exported(c, 0);
    CHECK_NOTHROW(check_onnx(any.bytes));
    keep_for_runtime(c.name, any.bytes, any.input, any.output);
    seen.insert(any.operators.begin(), any.operators.end());
  }
  for (const auto& list : {onnx_math_operators(), onnx_shape_operators(), onnx_image_operators()}) {
    for (const OnnxOperator& entry : list) {
      INFO(entry.op << " has a case");
      CHECK(seen.count(entry.op) == 1);
    }
  }
  if (!can_check_onnx()) WARN("SKIPPED: libonnx-dev is not installed");
}

TEST_CASE("onnx: OpenCV computes what the operators do", "[onnx]") {
  int run = 0;
  for (const Case& c : all_cases()) {
    if (kNotForOpenCv.count(c.name) > 0) continue;
    CAPTURE(c.name);
    const Exported one = exported(c, 1);
    Tensor output;
    CHECK_NOTHROW(output = run_in_opencv(one.bytes, one.input));
    if (!output.defined()) continue;
    ++run;
    if (output.numel() == one.output.numel()) output = output.alias(one.output.shape());  // OpenCV drops and adds axes of one element
    check_close(output, one.output, 2e-5);
  }
  if (run == 0) WARN("SKIPPED: libopencv-dnn-dev is not installed");
}

TEST_CASE("onnx: what OpenCV does not compute is in the file as it was asked for", "[onnx]") {
  const auto bytes_of = [](const std::string& name) {
    for (const Case& c : all_cases()) {
      if (c.name == name) return exported(c, 1).bytes;
    }
    throw std::logic_error("no case " + name);
  };
  const auto attribute = [](const std::string& name, int value) { return name + '\x18' + char(value); };  // field 3, a number
  const auto value = [](float number) { return std::string(reinterpret_cast<const char*>(&number), 4); };
  const auto has = [&](const std::string& name, const std::string& part) { return bytes_of(name).find(part) != std::string::npos; };
  CHECK(has("avg_pool2d", attribute("count_include_pad", 1)));
  CHECK(has("avg_pool2d_without_padding", attribute("count_include_pad", 0)));
  CHECK(has("sum", attribute("keepdims", 1)));
  CHECK(has("mean", attribute("keepdims", 0)));
  CHECK(has("var", value(9 * kChannels - 1)));  // unbiased
  const auto [low, high] = std::pair{value(-0.5f), value(0.75f)};
  const std::string clamped = bytes_of("clamp");
  CHECK(clamped.find(low) < clamped.find(high));  // constants in the order of the operands
  CHECK(clamped.find(high) != std::string::npos);
  CHECK(has("layer_norm", "epsilon\x15" + value(1e-5f)));
  CHECK(has("layer_norm_image", "epsilon\x15" + value(1e-6f)));
}
