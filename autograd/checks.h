#pragma once
// The one layer of argument checks. Every operator calls these before any work; each throws an error that names the
// operator, the argument and the shapes.

#include <initializer_list>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace eq::check {

// What to try. Beside a recorded operator nobody may learn too late that these convert and move outside of the graph.
inline constexpr const char* kConvertOne = "convert one of them: cast(x, DType); x.to(DType) passes no gradient on";
inline constexpr const char* kMoveOne = "move one of them: x.to(Device), which passes no gradient on";

struct Argument {
  const char* name;
  const Tensor& tensor;
};

// All defined arguments are floating, of one type and on one device; the first must be defined.
void alike(const char* op, std::initializer_list<Argument> arguments);
// The same for what accompanies `x`: parameters and statistics, which are float32 beside bfloat16 values.
void parameters(const char* op, Argument x, std::initializer_list<Argument> arguments);
void defined(const char* op, Argument argument);
void floating(const char* op, Argument argument);
void rank(const char* op, Argument argument, int rank);
void rank_at_least(const char* op, Argument argument, int rank);
// The axis counted from the front; negative ones count from the end. It must exist.
int axis(const char* op, Argument argument, int axis);
// "[2, -1]", for messages: a Shape refuses negative numbers.
std::string list(const std::vector<int64_t>& numbers);
// `expected` in words, for the message: "[O] = [64]".
void shape(const char* op, Argument argument, const Shape& expected, const std::string& expected_text = "");
// Throws ShapeError(op, message, hint) unless `ok`. Keep the message cheap: it is built on each call.
void that(bool ok, const char* op, const std::string& message, const std::string& hint = "");

}  // namespace eq::check
