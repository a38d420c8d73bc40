#pragma once
// Pickles as torch.save writes them, made by hand: with every number that a reader must look at.

#include <cstring>
#include <string>
#include <vector>

#include "core/torch_file.h"

namespace eq::test {

using namespace std::string_literals;

inline std::string pickle_of(const std::string& program) { return "\x80\2"s + program + "."; }

// 8 bytes, whatever the value is.
inline std::string long_of(int64_t value) {
  std::string bytes = "\x8a\x08"s + std::string(8, '\0');
  std::memcpy(bytes.data() + 2, &value, 8);
  return bytes;
}

inline std::string text_of(const std::string& text) {
  std::string bytes = "X"s + std::string(4, '\0') + text;
  const auto length = uint32_t(text.size());
  std::memcpy(bytes.data() + 1, &length, 4);
  return bytes;
}

inline std::string tuple_of(const std::vector<int64_t>& values) {
  std::string program = "(";
  for (const int64_t value : values) program += long_of(value);
  return program + "t";
}

struct TensorBytes {
  std::string name = "w", key = "0", storage = "torch\nFloatStorage\n";
  int64_t elements = 0, offset = 0;
  std::vector<int64_t> shape, strides;
  std::string view = "";  // of the storage: a sixth part of what it is known by
};

// The arguments of a call that makes a tensor, with `more` behind those that a reader needs.
inline std::string arguments_of(const TensorBytes& tensor, const std::string& more = "\x89N") {
  return "(("s + text_of("storage") + "c" + tensor.storage + text_of(tensor.key) + text_of("cpu") + long_of(tensor.elements) + tensor.view +
         "tQ" + long_of(tensor.offset) + tuple_of(tensor.shape) + tuple_of(tensor.strides) + more + "t";
}

inline std::string tensor_of(const TensorBytes& tensor) { return "ctorch._utils\n_rebuild_tensor_v2\n" + arguments_of(tensor) + "R"; }

// A mapping of names to these tensors.
inline std::string state_of(const std::vector<TensorBytes>& tensors) {
  std::string program = "}(";
  for (const TensorBytes& tensor : tensors) program += text_of(tensor.name) + tensor_of(tensor);
  return program + "u";
}

inline WeightsFile read_torch(const std::string& bytes) {
  return read_torch_file({.name = "weights.pth", .size = bytes.size(), .read_at = [&](uint64_t offset, void* data, size_t count) {
                            if (count > 0) std::memcpy(data, bytes.data() + offset, count);
                          }});
}

}  // namespace eq::test
