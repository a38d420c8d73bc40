#pragma once
// What untrusted files may ask for. Checked before allocation; printed by `equiscale doctor`.

#include <cstddef>
#include <cstdint>

namespace eq::limits {

inline constexpr int64_t kPictureSide = 32768;
inline constexpr int64_t kPicturePixels = int64_t{1} << 27;
inline constexpr int kJpegScans = 256;
inline constexpr uint64_t kSafetensorsHeader = uint64_t{16} << 20;
inline constexpr size_t kSafetensorsTensors = 65536;
// PyTorch's files. A pickle is a program for a stack machine: its length bounds texts, its steps bound all other memory. Tensors and the
// storages that they lie in may together have `growth` times the bytes of the file (and 1 MiB): strides of 0 repeat values, deflated zeros
// are nearly nothing.
inline constexpr uint64_t kPickleBytes = uint64_t{128} << 20;
inline constexpr size_t kPickleSteps = size_t{1} << 21;
inline constexpr size_t kPickleMemo = size_t{1} << 20;
inline constexpr size_t kPickleDepth = 1000;
inline constexpr size_t kZipEntries = size_t{1} << 18;
inline constexpr size_t kTorchTensors = 65536;
inline constexpr size_t kTorchNameBytes = 1000;
inline constexpr uint64_t kTorchGrowth = 16;
inline constexpr size_t kJsonBytes = size_t{1} << 20;
inline constexpr int kJsonDepth = 32;
inline constexpr size_t kListFileBytes = size_t{256} << 20;
inline constexpr size_t kPictureFileBytes = size_t{1} << 30;

}  // namespace eq::limits
