#pragma once
// The safetensors format: u64 header length, JSON header, raw little-endian values. The reader is strict (see
// limits.h): offsets without gap or overlap, products checked in 64 bits, no duplicate keys, the file ends where the
// data ends. Values are copied into aligned storage of our own, whatever their alignment in the file.

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "core/weights_file.h"

namespace eq {

class FileReader;

// F32, F64, I32, I64, U8 and BOOL become tensors; F16 and BF16 are widened to float32; another type throws DataError
// naming the tensor. Throws IoError or DataError naming the file, the tensor and the rule broken.
WeightsFile read_safetensors(const std::filesystem::path& path);
WeightsFile read_safetensors(FileReader& reader);  // from where it is: the start
WeightsFile parse_safetensors(std::span<const uint8_t> bytes, const std::string& name);  // `name` for messages

// Data begins on a 64-byte boundary, larger element types first, then by name. Written atomically.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace eq
