#include "core/file_type.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "core/errors.h"
#include "core/json.h"

namespace eq {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian; values are copied as they are");

float widened_half(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float value = float(mantissa) * 0x1p-24f;  // zero and subnormal numbers: exact
  return sign != 0 ? -value : value;
}

float widened_bfloat(uint16_t value) { return std::bit_cast<float>(uint32_t(value) << 16); }

}  // namespace

Tensor tensor_from_file(const FileType& type, const Shape& shape, const std::string& file, const std::string& name,
                        const std::function<void(void*, size_t)>& fill) {
  Tensor tensor = Tensor::empty(shape, type.dtype);
  const auto count = size_t(tensor.numel());
  if (type.size == 2) {
    std::vector<uint16_t> narrow(count);
    fill(narrow.data(), 2 * count);
    std::transform(narrow.begin(), narrow.end(), tensor.data<float>(), type.name[0] == 'B' ? widened_bfloat : widened_half);
    return tensor;
  }
  fill(tensor.raw_data(), tensor.bytes());
  if (tensor.dtype() == DType::kBool) {
    const auto* values = static_cast<const uint8_t*>(tensor.raw_data());
    const auto bad = std::find_if(values, values + count, [](uint8_t value) { return value > 1; });
    if (bad != values + count) {
      throw DataError("tensor " + quoted_for_message(name) + ": element " + std::to_string(bad - values) + " of a BOOL tensor is " +
                          std::to_string(*bad) + ", not 0 or 1",
                      file, "the file is damaged; copy or convert it again");
    }
  }
  return tensor;
}

}  // namespace eq
