#pragma once
// The element types of files of weights, under safetensors' names and PyTorch's, and how they come into memory.

#include <cstddef>
#include <functional>
#include <string>

#include "core/tensor.h"

namespace eq {

struct FileType {
  const char* name;     // safetensors'
  const char* storage;  // torch.<storage>, which pickles name; empty: none
  const char* torch;    // torch.<torch>
  size_t size;
  DType dtype;     // in memory
  bool supported;  // the others are known, so that the message can say so
};

inline constexpr FileType kFileTypes[] = {
    {"F64", "DoubleStorage", "float64", 8, DType::kFloat64, true},
    {"I64", "LongStorage", "int64", 8, DType::kInt64, true},
    {"F32", "FloatStorage", "float32", 4, DType::kFloat32, true},
    {"I32", "IntStorage", "int32", 4, DType::kInt32, true},
    {"F16", "HalfStorage", "float16", 2, DType::kFloat32, true},
    {"BF16", "BFloat16Storage", "bfloat16", 2, DType::kFloat32, true},
    {"U8", "ByteStorage", "uint8", 1, DType::kUInt8, true},
    {"BOOL", "BoolStorage", "bool", 1, DType::kBool, true},
    {"I8", "CharStorage", "int8", 1, DType::kInt32, false},
    {"I16", "ShortStorage", "int16", 2, DType::kInt32, false},
    {"U16", "", "uint16", 2, DType::kInt32, false},
    {"U32", "", "uint32", 4, DType::kInt64, false},
    {"U64", "", "uint64", 8, DType::kInt64, false},
    {"F8_E4M3", "", "float8_e4m3fn", 1, DType::kFloat32, false},
    {"F8_E5M2", "", "float8_e5m2", 1, DType::kFloat32, false},
    {"C64", "ComplexFloatStorage", "complex64", 8, DType::kFloat32, false},
    {"C128", "ComplexDoubleStorage", "complex128", 16, DType::kFloat64, false},
    {"QI8", "QInt8Storage", "qint8", 1, DType::kInt32, false},
    {"QU8", "QUInt8Storage", "quint8", 1, DType::kInt32, false},
    {"QI32", "QInt32Storage", "qint32", 4, DType::kInt32, false},
};
inline constexpr const char* kSupportedFileTypes = "F64, F32, F16, BF16, I64, I32, U8, BOOL";

// A tensor of a supported type, whose values `fill` writes as the file has them, in their order; F16 and BF16 are then widened to float32.
// Throws DataError naming the file and the tensor for a BOOL that is neither 0 nor 1.
Tensor tensor_from_file(const FileType& type, const Shape& shape, const std::string& file, const std::string& tensor,
                        const std::function<void(void* data, size_t bytes)>& fill);

}  // namespace eq
