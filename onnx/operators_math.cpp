// Elementwise operators, products, reductions and softmax.
#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/reduce.h"
#include "onnx/translation.h"

namespace eq {
namespace {

using Operation = const TracedOperation&;

void unary(OnnxTranslation& to, Operation operation, const std::string& type, const OnnxGraph::Attributes& attributes = {}) {
  const int x = operation.inputs[0];
  to.name(operation.output, to.is_first(x), to.graph().add(type, {to.as_it_is(x)}, attributes));
}
#define EQ_SAME(op, type) {#op, [](OnnxTranslation& to, Operation operation) { unary(to, operation, type); }}

void rsqrt(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0];
  to.name(operation.output, to.is_first(x), to.graph().add("Reciprocal", {to.graph().add("Sqrt", {to.as_it_is(x)})}));
}

void square(OnnxTranslation& to, Operation operation) {
  const std::string x = to.as_it_is(operation.inputs[0]);
  to.name(operation.output, to.is_first(operation.inputs[0]), to.graph().add("Mul", {x, x}));
}

void relu6(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0];
  to.name(operation.output, to.is_first(x), to.graph().add("Clip", {to.as_it_is(x), to.number(0, x), to.number(6, x)}));
}

void clamp(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0];
  const auto& numbers = operation.as<UnaryNumbers>();
  to.name(operation.output, to.is_first(x), to.graph().add("Clip", {to.as_it_is(x), to.number(numbers.p, x), to.number(numbers.q, x)}));
}

// x/2 * (1 + erf(x / sqrt 2)): Gelu is an operator from operator set 20 on.
void gelu(OnnxTranslation& to, Operation operation) {
  const int value = operation.inputs[0];
  const std::string x = to.as_it_is(value);
  const std::string erf = to.graph().add("Erf", {to.graph().add("Mul", {x, to.number(std::sqrt(0.5), value)})});
  const std::string half = to.graph().add("Mul", {x, to.number(0.5, value)});
  to.name(operation.output, to.is_first(value), to.graph().add("Mul", {half, to.graph().add("Add", {erf, to.number(1, value)})}));
}

void silu(OnnxTranslation& to, Operation operation) {
  const std::string x = to.as_it_is(operation.inputs[0]);
  to.name(operation.output, to.is_first(operation.inputs[0]), to.graph().add("Mul", {x, to.graph().add("Sigmoid", {x})}));
}

void leaky_relu(OnnxTranslation& to, Operation operation) {
  unary(to, operation, "LeakyRelu", {{"alpha", float(operation.as<UnaryNumbers>().p)}});
}

// Of two tensors, or of a tensor and a number.
template <class Type>
void binary(OnnxTranslation& to, Operation operation, Type type) {
  const int a = operation.inputs[0];
  if (operation.inputs.size() == 1) {
    to.name(operation.output, to.is_first(a), to.graph().add(type, {to.as_it_is(a), to.number(operation.as<UnaryNumbers>().p, a)}));
    return;
  }
  const int b = operation.inputs[1];
  // Of images and constants, in the images' order; a computed value that is no image broadcasts from the last axis.
  const auto fits = [&](int value) { return to.is_constant(value) || to.shape(value).rank() == 4; };
  const bool first = to.shape(operation.output).rank() == 4 && fits(a) && fits(b) && (to.is_first(a) || to.is_first(b));
  to.name(operation.output, first, to.graph().add(type, {to.operand(a, first), to.operand(b, first)}));
}

#define EQ_BINARY(op, type) {#op, [](OnnxTranslation& to, Operation operation) { binary(to, operation, type); }}

void matmul(OnnxTranslation& to, Operation operation) {
  to.name_last(operation.output, to.graph().add("MatMul", {to.last(operation.inputs[0]), to.last(operation.inputs[1])}));
}

void linear(OnnxTranslation& to, Operation operation) {
  const int x = operation.inputs[0], weight = operation.inputs[1], bias = operation.inputs[2];
  const std::string layer = to.module_of(weight);
  if (to.shape(x).rank() == 2 && bias >= 0) {
    to.name_last(operation.output, to.graph().add("Gemm", {to.last(x), to.last(weight), to.last(bias)}, {{"transB", int64_t{1}}}, layer));
    return;
  }
  const Tensor transposed = transpose(to.constant(weight), 0, 1);
  std::string y = to.graph().add("MatMul", {to.last(x), to.graph().constant(transposed, to.name_of(weight))}, {}, layer);
  if (bias >= 0) y = to.graph().add("Add", {y, to.last(bias)});
  to.name_last(operation.output, y);
}

std::vector<int64_t> axes_of(const Reduction& reduction) {
  std::vector<int64_t> axes;
  for (int axis = 0; axis < kMaxRank; ++axis) {
    if (reduction.axes >> axis & 1) axes.push_back(axis);
  }
  return axes;
}

std::string sum_over(OnnxTranslation& to, const std::string& x, const std::vector<int64_t>& axes, bool keepdim) {
  return to.graph().add("ReduceSum", {x, to.graph().constant(axes)}, {{"keepdims", int64_t{keepdim}}});
}

void sum(OnnxTranslation& to, Operation operation) {
  const auto& reduction = operation.as<Reduction>();
  to.name_last(operation.output, sum_over(to, to.last(operation.inputs[0]), axes_of(reduction), reduction.keepdim));
}

void reduced(OnnxTranslation& to, Operation operation, const std::string& type) {
  const auto& reduction = operation.as<Reduction>();
  to.name_last(operation.output, to.graph().add(type, {to.last(operation.inputs[0])},
                                                {{"axes", axes_of(reduction)}, {"keepdims", int64_t{reduction.keepdim}}}));
}

void var(OnnxTranslation& to, Operation operation) {
  const auto& reduction = operation.as<Reduction>();
  const int x = operation.inputs[0];
  const std::string mean = to.graph().add("ReduceMean", {to.last(x)}, {{"axes", axes_of(reduction)}});
  const std::string centred = to.graph().add("Sub", {to.last(x), mean});
  const std::string sum = sum_over(to, to.graph().add("Mul", {centred, centred}), axes_of(reduction), reduction.keepdim);
  to.name_last(operation.output, to.graph().add("Div", {sum, to.number(reduction.divisor, x)}));
}

void argmax(OnnxTranslation& to, Operation operation) {
  const auto& reduction = operation.as<Reduction>();
  to.name_last(operation.output,
               to.graph().add("ArgMax", {to.last(operation.inputs[0])}, {{"axis", axes_of(reduction)[0]}, {"keepdims", int64_t{0}}}));
}

void softmax(OnnxTranslation& to, Operation operation) {
  const std::string type = operation.op == "softmax" ? "Softmax" : "LogSoftmax";
  const int x = operation.inputs[0];
  const bool first = to.is_first(x);
  to.name(operation.output, first, to.graph().add(type, {to.as_it_is(x)}, {{"axis", int64_t{first ? 1 : -1}}}));
}

}  // namespace

std::vector<OnnxOperator> onnx_math_operators() {
  return {EQ_SAME(neg, "Neg"),
          EQ_SAME(exp, "Exp"),
          EQ_SAME(log, "Log"),
          EQ_SAME(sqrt, "Sqrt"),
          EQ_SAME(reciprocal, "Reciprocal"),
          EQ_SAME(abs, "Abs"),
          EQ_SAME(sin, "Sin"),
          EQ_SAME(cos, "Cos"),
          EQ_SAME(tanh, "Tanh"),
          EQ_SAME(sigmoid, "Sigmoid"),
          EQ_SAME(softplus, "Softplus"),
          EQ_SAME(relu, "Relu"),
          EQ_SAME(hardswish, "HardSwish"),
          {"rsqrt", rsqrt},
          {"square", square},
          {"relu6", relu6},
          {"clamp", clamp},
          {"gelu", gelu},
          {"silu", silu},
          {"leaky_relu", leaky_relu},
          EQ_BINARY(add, "Add"),
          EQ_BINARY(sub, "Sub"),
          EQ_BINARY(mul, "Mul"),
          EQ_BINARY(div, "Div"),
          EQ_BINARY(maximum, "Max"),
          EQ_BINARY(minimum, "Min"),
          EQ_BINARY(pow, "Pow"),
          {"matmul", matmul},
          {"linear", linear},
          {"sum", sum},
          {"mean", [](OnnxTranslation& to, Operation operation) { reduced(to, operation, "ReduceMean"); }},
          {"max", [](OnnxTranslation& to, Operation operation) { reduced(to, operation, "ReduceMax"); }},
          {"var", var},
          {"argmax", argmax},
          {"softmax", softmax},
          {"log_softmax", softmax}};
}

}  // namespace eq
