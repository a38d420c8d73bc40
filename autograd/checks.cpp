#include "autograd/checks.h"

#include "core/words.h"

namespace eq::check {

void defined(const char* op, Argument argument) {
  set_current_operator(op);
  if (!argument.tensor.defined()) {
    throw UsageError(std::string(op) + ": " + argument.name + " has no value", op, "pass a defined tensor");
  }
}

void floating(const char* op, Argument argument) {
  defined(op, argument);
  if (!is_floating(argument.tensor.dtype())) {
    throw DTypeError(std::string(op) + ": " + argument.name + " must be of a floating type, it is " + describe(argument.tensor),
                     op, "convert it first: x.to(DType::kFloat32)");
  }
}

namespace {

void companion(const char* op, const Argument& first, DType type, const Argument& other) {
  if (!other.tensor.defined()) return;
  if (other.tensor.dtype() != type) {
    throw DTypeError(std::string(op) + ": " + other.name + " is " + describe(other.tensor) + ", but " + first.name + " is " +
                         describe(first.tensor) +
                         (type == first.tensor.dtype() ? "" : std::string(", beside which it must be ") + name_of(type)),
                     op, kConvertOne);
  }
  if (other.tensor.device() != first.tensor.device()) {
    throw DeviceError(std::string(op) + ": " + other.name + " is on " + to_string(other.tensor.device()) + ", but " + first.name +
                          " is on " + to_string(first.tensor.device()),
                      op, kMoveOne);
  }
}

}  // namespace

void alike(const char* op, std::initializer_list<Argument> arguments) {
  const Argument& first = *arguments.begin();
  floating(op, first);
  for (const Argument& other : arguments) companion(op, first, first.tensor.dtype(), other);
}

void parameters(const char* op, Argument x, std::initializer_list<Argument> arguments) {
  floating(op, x);
  for (const Argument& other : arguments) companion(op, x, parameter_type(x.tensor.dtype()), other);
}

void rank(const char* op, Argument argument, int rank) {
  if (argument.tensor.rank() != rank) {
    throw ShapeError(std::string(op) + ": " + argument.name + " must have " + counted(rank, "axis", "axes") + ", it is " +
                         describe(argument.tensor),
                     op, rank == 4 ? "images and features are [N, H, W, C]" : "reshape it first");
  }
}

void rank_at_least(const char* op, Argument argument, int rank) {
  if (argument.tensor.rank() < rank) {
    throw ShapeError(std::string(op) + ": " + argument.name + " must have at least " + counted(rank, "axis", "axes") +
                         ", it is " + describe(argument.tensor),
                     op, "reshape it first");
  }
}

int axis(const char* op, Argument argument, int axis) {
  try {
    return argument.tensor.shape().normalized(axis);
  } catch (const ShapeError& error) {
    throw ShapeError(std::string(op) + ": there is no axis " + std::to_string(axis) + " in " + argument.name + ", which is " +
                         describe(argument.tensor),
                     op, error.try_this());
  }
}

std::string list(const std::vector<int64_t>& numbers) {
  const std::string text = joined(numbers);
  return "[" + text + "]";
}

void shape(const char* op, Argument argument, const Shape& expected, const std::string& expected_text) {
  if (!(argument.tensor.shape() == expected)) {
    throw ShapeError(std::string(op) + ": " + argument.name + " must be " +
                         (expected_text.empty() ? to_string(expected) : expected_text) + ", it is " + describe(argument.tensor),
                     op, "check the layer's channel counts");
  }
}

void that(bool ok, const char* op, const std::string& message, const std::string& hint) {
  if (!ok) throw ShapeError(std::string(op) + ": " + message, op, hint);
}

}  // namespace eq::check
