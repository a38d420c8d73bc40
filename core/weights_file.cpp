#include "core/weights_file.h"

#include <algorithm>
#include <array>

#include "core/file.h"
#include "core/safetensors.h"
#include "core/torch_file.h"

namespace eq {

WeightsFile read_weights(const std::filesystem::path& path) {
  FileReader reader(path);
  std::array<uint8_t, 16> beginning{};
  reader.read_at(0, beginning.data(), size_t(std::min<uint64_t>(beginning.size(), reader.size())));
  if (!is_torch_file(beginning)) return read_safetensors(reader);
  return read_torch_file({.name = path.string(),
                          .size = reader.size(),
                          .read_at = [&](uint64_t offset, void* data, size_t bytes) { reader.read_at(offset, data, bytes); }});
}

}  // namespace eq
