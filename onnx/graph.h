#pragma once
// An ONNX model in the making: nodes in the order of their use, constants, inputs and outputs, and the bytes of its file.
//
// The file is a protocol buffer (https://github.com/onnx/onnx, onnx/onnx.proto). Operator set 17, format version 8: what ONNX 1.12 and
// everything since reads.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/protobuf.h"
#include "core/tensor.h"

namespace eq {

// Values are referred to by name; "" is an optional input that is not given.
class OnnxGraph {
 public:
  static constexpr int kOperatorSet = 17, kFormat = 8;
  static constexpr int64_t kAnyBatch = -1;  // as an extent of an input or output: "batch", whatever it is

  using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>>;
  using Attributes = std::vector<std::pair<std::string, Attribute>>;

  explicit OnnxGraph(std::string name) : name_(std::move(name)) {}

  std::string input(const std::string& name, DType type, const std::vector<int64_t>& extents);
  void output(const std::string& name, DType type, const std::vector<int64_t>& extents);
  // A node with one result, called `name`, or what is like it and not taken yet; empty: by its type. Returns the result's name.
  std::string add(const std::string& type, const std::vector<std::string>& inputs, const Attributes& attributes = {},
                  const std::string& name = "");
  // The values of a tensor, from any device: float32, float64, int64, int32 or uint8 (throws DTypeError).
  std::string constant(const Tensor& values, const std::string& name = "constant");
  std::string constant(const std::vector<int64_t>& values);  // 1-dimensional; one for all who ask for the same
  void describe(const std::string& key, const std::string& value);  // metadata

  static int element_type(DType type);  // the format's number; throws DTypeError for a type that is not written
  int64_t nodes() const { return nodes_; }
  // The model. Throws UsageError where it would exceed the 2 GiB of a protocol buffer.
  std::string bytes() const;

 private:
  std::string unused(const std::string& name);

  std::string name_;
  ProtobufMessage graph_, metadata_;
  uint64_t constant_bytes_ = 0;
  int64_t nodes_ = 0;
  std::map<std::string, int> used_;
  std::map<std::vector<int64_t>, std::string> integers_;
};

}  // namespace eq
