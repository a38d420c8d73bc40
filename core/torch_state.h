#pragma once
// What the pickle of a torch.save says of tensors: which it has, under which names, and how they lie in their storages.

#include <string>
#include <string_view>
#include <vector>

#include "core/file_type.h"
#include "core/pickle.h"
#include "core/shape.h"

namespace eq {

// What an error of either says to try: core/torch_state.cpp finds the tensors, core/torch_file.cpp their bytes.
inline constexpr const char* kTorchAdvice = "the file is damaged or was not written by torch.save: copy or download it again";

// An array of elements in the file, by the name of which views are made.
struct TorchStorage {
  std::string key;
  uint64_t bytes = 0;
};

// Elements of `type` in a storage: `offset` and `strides` in elements. They are within the storage and the shape's count times 8 bytes does
// not overflow. The stride of an extent of 1 is never stepped by, and anything in the file.
struct TorchTensor {
  std::string name;
  const FileType* type = nullptr;
  TorchStorage storage;
  uint64_t offset = 0;
  Shape shape;
  std::vector<uint64_t> strides;
};

struct TorchState {
  std::vector<TorchTensor> tensors;   // of different names
  std::string taken_from;             // the keys that led to them, such as "state_dict"; empty: none
  std::vector<std::string_view> left_out;  // of the pickle: keys that were passed on the way, and names of what are no tensors
};

// The state dict: at the top, or behind keys that training programs put it under (state_dict, model_state_dict, model_state, model, module:
// the first of them that is a mapping, and so on within it). Parameters are tensors. What is no tensor there (a number, a sparse or a
// quantized tensor, an object) is left out. Throws DataError naming `file` and the tensor: no state dict, a type that is not supported, a
// tensor outside its storage.
TorchState find_torch_state(const PickleValue& root, const std::string& file);

// The storage that a persistent id stands for, and the type of its elements (an untyped one: bytes, U8). Throws DataError.
struct TypedStorage {
  TorchStorage storage;
  const FileType* type = nullptr;
};
TypedStorage torch_storage(const PickleValue& persistent, const std::string& file, const std::string& whose);

}  // namespace eq
