#include "study/report/pictures.h"

#include <algorithm>

namespace eq::report {
namespace {

constexpr int64_t kGap = 4;  // of side_by_side

Image cut(const Image& image, int64_t left, int64_t width) {
  Image out{image.height, width, {}};
  out.pixels.reserve(size_t(image.height * width * 3));
  for (int64_t y = 0; y < image.height; ++y) {
    const auto begin = image.pixels.begin() + (y * image.width + left) * 3;
    out.pixels.insert(out.pixels.end(), begin, begin + width * 3);
  }
  return out;
}

// Means over whole blocks of pixels, so that thin errors become pale and do not vanish.
Image reduced(const Image& image, int64_t largest_width) {
  const int64_t factor = (image.width + largest_width - 1) / largest_width;
  if (factor <= 1) return image;
  Image out{std::max<int64_t>(1, image.height / factor), image.width / factor, {}};
  out.pixels.reserve(size_t(out.height * out.width * 3));
  for (int64_t y = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        int64_t sum = 0, count = 0;
        for (int64_t v = y * factor; v < std::min(image.height, (y + 1) * factor); ++v) {
          for (int64_t u = x * factor; u < (x + 1) * factor; ++u, ++count) sum += image.pixels[size_t((v * image.width + u) * 3 + c)];
        }
        out.pixels.push_back(uint8_t((sum + count / 2) / count));
      }
    }
  }
  return out;
}

Markup embedded(const Image& image, const std::string& description) {
  constexpr int64_t kSmall = 160;  // shown enlarged: as pixels, not blurred
  return element("img", {{"class", image.width < kSmall ? "small" : "large"},
                         {"src", "data:image/png;base64," + base64(encode_png(image))},
                         {"alt", description},
                         {"width", std::to_string(image.width)},
                         {"height", std::to_string(image.height)}});
}

}  // namespace

std::string base64(const std::vector<uint8_t>& bytes) {
  constexpr const char* kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k) out += k <= count ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

Markup panels(const std::filesystem::path& file, const std::vector<std::string>& names, const std::string& what, int64_t largest_width) {
  const Image image = read_image(file);
  const int64_t count = int64_t(names.size()), inner = image.width - kGap * (count - 1);
  Markup all;
  if (inner < count || inner % count != 0) {
    all = embedded(reduced(image, 2 * largest_width), what);
  } else {
    for (int64_t i = 0; i < count; ++i) {
      const Image panel = reduced(cut(image, i * (inner / count + kGap), inner / count), largest_width);
      all += element("div", element("span", text(names[size_t(i)])) + embedded(panel, what + ": " + names[size_t(i)]));
    }
  }
  return element("div", {{"class", "panels"}}, all);
}

Markup class_legend(const std::vector<std::string>& names, const Palette& palette) {
  Markup entries;
  for (size_t i = 0; i < std::min(names.size(), palette.size()); ++i) {
    const std::string color = "background:" + hex_text(palette[i]);
    entries += element("li", element("i", {{"style", color}}) + text(names[i]));
  }
  return element("ul", {{"class", "legend"}}, entries);
}

}  // namespace eq::report
