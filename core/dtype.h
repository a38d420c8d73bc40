#pragma once
// Element types and the run-time to compile-time step from one to the other.

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/bfloat16.h"
#include "core/errors.h"

namespace eq {

enum class DType : uint8_t { kFloat32, kFloat64, kInt32, kInt64, kUInt8, kBool, kBFloat16 };

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64: return 8;
    case DType::kFloat32:
    case DType::kInt32: return 4;
    case DType::kBFloat16: return 2;
    case DType::kUInt8:
    case DType::kBool: return 1;
  }
  return 0;
}

constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "float32";
    case DType::kFloat64: return "float64";
    case DType::kInt32: return "int32";
    case DType::kInt64: return "int64";
    case DType::kUInt8: return "uint8";
    case DType::kBool: return "bool";
    case DType::kBFloat16: return "bfloat16";
  }
  return "?";
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kBFloat16;
}

// The type of what accompanies values of type `dtype`: parameters, statistics and sums of bfloat16 values are float32.
constexpr DType parameter_type(DType dtype) { return dtype == DType::kBFloat16 ? DType::kFloat32 : dtype; }

template <class T>
struct dtype_of;  // dtype_of<float>::value
template <> struct dtype_of<float> { static constexpr DType value = DType::kFloat32; };
template <> struct dtype_of<double> { static constexpr DType value = DType::kFloat64; };
template <> struct dtype_of<int32_t> { static constexpr DType value = DType::kInt32; };
template <> struct dtype_of<int64_t> { static constexpr DType value = DType::kInt64; };
template <> struct dtype_of<uint8_t> { static constexpr DType value = DType::kUInt8; };
template <> struct dtype_of<bfloat16> { static constexpr DType value = DType::kBFloat16; };
template <> struct dtype_of<bool> { static constexpr DType value = DType::kBool; };

// Calls fn.template operator()<T>() with T = float or double: what the CPU's kernels compute in. Throws DTypeError naming `op` for any
// other type.
template <class Fn>
decltype(auto) dispatch_floating(DType dtype, const char* op, Fn&& fn) {
  if (dtype == DType::kFloat32) return fn.template operator()<float>();
  if (dtype == DType::kFloat64) return fn.template operator()<double>();
  throw DTypeError(std::string(op) + " takes float32 or float64" +
                       (dtype == DType::kBFloat16 ? "; bfloat16 is for CUDA devices" : std::string(", not ") + name_of(dtype)),
                   op, "convert the argument first: cast(x, DType::kFloat32)");
}

// The same over every element type.
template <class Fn>
decltype(auto) dispatch_all(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::kFloat32: return fn.template operator()<float>();
    case DType::kFloat64: return fn.template operator()<double>();
    case DType::kInt32: return fn.template operator()<int32_t>();
    case DType::kInt64: return fn.template operator()<int64_t>();
    case DType::kUInt8: return fn.template operator()<uint8_t>();
    case DType::kBFloat16: return fn.template operator()<bfloat16>();
    case DType::kBool: break;
  }
  return fn.template operator()<bool>();
}

}  // namespace eq
