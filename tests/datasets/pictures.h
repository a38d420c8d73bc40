#pragma once
// Pictures of noise, and folders of pictures and label files as people have them.

#include "core/random.h"
#include "datasets/discover.h"
#include "support.h"

namespace eq::test {

inline constexpr int64_t kHeight = 6, kWidth = 9;  // of each picture

inline Image random_image(int64_t height, int64_t width, uint64_t seed) {
  Image image{height, width, std::vector<uint8_t>(size_t(3 * height * width))};
  Random random(seed);
  for (uint8_t& value : image.pixels) value = uint8_t(random.next_u32());
  return image;
}

struct OddFolder {
  TemporaryFolder temporary;
  std::filesystem::path root = temporary.path() / "set";

  void write(const std::string& name, const Image& image) const {
    std::filesystem::create_directories((root / name).parent_path());
    write_png(root / name, image);
  }
  // As a photograph is: all pixels differ.
  void picture(const std::string& name) const {
    Image image{kHeight, kWidth, std::vector<uint8_t>(3 * kHeight * kWidth)};
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = uint8_t(255 * uniform_at(7, 0, i + 1000 * name.size()));
    write(name, image);
  }
  void colors(const std::string& name, const Palette& palette) const {
    Image image{kHeight, kWidth, {}};
    for (int64_t i = 0; i < kHeight * kWidth; ++i) {
      const Color& color = palette[size_t(i) % palette.size()];
      image.pixels.insert(image.pixels.end(), color.begin(), color.end());
    }
    write(name, image);
  }
  void labels(const std::string& name, const std::vector<int>& values, const Palette& palette = voc_palette()) const {
    std::filesystem::create_directories((root / name).parent_path());
    LabelMap map{kHeight, kWidth, {}};
    for (int64_t i = 0; i < kHeight * kWidth; ++i) map.labels.push_back(uint8_t(values[size_t(i) % values.size()]));
    write_indexed_png(root / name, map, palette);
  }
  void gray(const std::string& name, const std::vector<int>& values) const {
    Palette palette;
    for (int v = 0; v < 256; ++v) palette.push_back({uint8_t(v), uint8_t(v), uint8_t(v)});
    labels(name, values, palette);
  }
};

// Loads all that the configuration describes.
inline void check_loads(const FoundData& found) {
  for (const auto& [split, pairs] : found.pairs) {
    const auto set = make_dataset(found.options, split);
    if (found.options.val_fraction == 0) CHECK(set->size() == int64_t(pairs.size()));
    for (int64_t i = 0; i < set->size(); ++i) CHECK_NOTHROW(set->load(i));
  }
}

using Names = std::vector<std::string>;

}  // namespace eq::test
