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
inline constexpr size_t kJsonBytes = size_t{1} << 20;
inline constexpr int kJsonDepth = 32;
inline constexpr size_t kListFileBytes = size_t{256} << 20;
inline constexpr size_t kPictureFileBytes = size_t{1} << 30;

}  // namespace eq::limits
