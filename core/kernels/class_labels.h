#pragma once
// Labels beside logits, [...] beside [..., C]: uint8, int32 or int64, each a class (0 to C - 1) or the ignore index. What the losses that
// read them have in common. The ignore index may be a class, whose positions then do not count, or no label at all (-1); but where
// kDefaultIgnoreIndex would be a class, it is refused: nobody need have meant it.

#include "core/tensor.h"

namespace eq {

inline constexpr int64_t kDefaultIgnoreIndex = 255;

// Calls fn.template operator()<L>() with the labels' type.
template <class Fn>
decltype(auto) dispatch_labels(const Tensor& labels, const char* op, Fn&& fn) {
  switch (labels.dtype()) {
    case DType::kUInt8: return fn.template operator()<uint8_t>();
    case DType::kInt32: return fn.template operator()<int32_t>();
    case DType::kInt64: return fn.template operator()<int64_t>();
    default: break;
  }
  throw DTypeError(std::string(op) + ": labels must be uint8, int32 or int64, they are " + describe(labels), op,
                   "labels are class indices, one per position: convert them with labels.to(DType::kInt32)");
}

// What both backends say about a label that is no class.
[[noreturn]] inline void refuse_label(const std::string& op, int64_t label, int64_t position, int64_t classes, int64_t ignore_index,
                                      const Shape& labels) {
  throw DataError("the label " + std::to_string(label) + " is neither a class (0 to " + std::to_string(classes - 1) +
                      ") nor the ignore index " + std::to_string(ignore_index),
                  op + ", labels " + to_string(labels) + " at flat position " + std::to_string(position),
                  "check the data set's label map and its number of classes");
}

}  // namespace eq
