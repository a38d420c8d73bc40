// Writing pictures, and drawing labels over them.

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/file.h"
#include "core/limits.h"
#include "datasets/image_decoders.h"

namespace eq {
namespace {

constexpr Color kVoidColor = {224, 224, 192};

void check_values(const std::string& where, int64_t height, int64_t width, size_t values, int64_t channels) {
  const bool sane = height >= 1 && width >= 1 && height <= limits::kPictureSide && width <= limits::kPictureSide;
  if (!sane || uint64_t(height * width * channels) != values) {
    throw UsageError("a picture of " + size_text(width, height) + " cannot have " + std::to_string(values) + " values",
                     where,
                     "it needs height x width x " + std::to_string(channels) + " of them, and sides of 1 to " +
                         std::to_string(limits::kPictureSide));
  }
}

// Every label but `except` must have a colour.
void check_colors(const char* where, const LabelMap& map, const Palette& palette, int except) {
  for (uint8_t label : map.labels) {
    if (label >= palette.size() && label != except) {
      throw UsageError(
          "the label " + std::to_string(label) + " has no colour: the palette has " + std::to_string(palette.size()),
          where, "give a palette with an entry for each class");
    }
  }
}

}  // namespace

void check_size(const std::string& where, const Image& image) { check_values(where, image.height, image.width, image.pixels.size(), 3); }
void check_size(const std::string& where, const LabelMap& map) { check_values(where, map.height, map.width, map.labels.size(), 1); }

std::vector<uint8_t> encode_png(const Image& image) {
  check_size("encode_png", image);
  return detail::encode_png(image.height, image.width, image.pixels.data(), nullptr);
}

void write_png(const std::filesystem::path& path, const Image& image) {
  write_file_atomically(path, encode_png(image));
}

void write_indexed_png(const std::filesystem::path& path, const LabelMap& labels, const Palette& palette) {
  constexpr const char* kWhere = "write_indexed_png";
  check_size(kWhere, labels);
  check_colors(kWhere, labels, palette, -1);
  if (palette.size() > 256) {
    throw UsageError("a palette has at most 256 colours, not " + std::to_string(palette.size()), kWhere,
                     "labels are 8 bits");
  }
  write_file_atomically(path, detail::encode_png(labels.height, labels.width, labels.labels.data(), &palette));
}

std::string hex_text(const Color& color) { return fmt::format("#{:02x}{:02x}{:02x}", color[0], color[1], color[2]); }

Palette voc_palette() {
  Palette palette(256);
  for (int index = 0; index < 256; ++index) {
    // Bits 0, 3, 6 of the index go to red, 1, 4, 7 to green, 2, 5 to blue, the lowest to the highest place.
    for (int bit = 0; bit < 8; ++bit) {
      palette[size_t(index)][size_t(bit % 3)] |= uint8_t((index >> bit & 1) << (7 - bit / 3));
    }
  }
  return palette;
}

Image overlay(const Image& image, const LabelMap& labels, const Palette& palette, int ignore_index, double opacity) {
  constexpr const char* kWhere = "overlay";
  check_size(kWhere, image);
  check_size(kWhere, labels);
  check_colors(kWhere, labels, palette, ignore_index);
  if (image.height != labels.height || image.width != labels.width) {
    throw UsageError("the picture is " + size_text(image.width, image.height) + ", the labels " +
                         size_text(labels.width, labels.height),
                     kWhere, "resize one of them");
  }
  if (!(opacity >= 0 && opacity <= 1)) throw UsageError("the opacity must be 0 to 1", kWhere, "0.5 shows both");
  Image result = image;
  for (size_t i = 0; i < labels.labels.size(); ++i) {
    if (labels.labels[i] == ignore_index) continue;
    const Color& color = palette[labels.labels[i]];
    for (size_t c = 0; c < 3; ++c) {
      uint8_t& value = result.pixels[3 * i + c];
      value = uint8_t(std::lround(value * (1 - opacity) + color[c] * opacity));
    }
  }
  return result;
}

Image colorize(const LabelMap& labels, const Palette& palette, int ignore_index) {
  constexpr const char* kWhere = "colorize";
  check_size(kWhere, labels);
  check_colors(kWhere, labels, palette, ignore_index);
  Image result{labels.height, labels.width, {}};
  result.pixels.reserve(labels.labels.size() * 3);
  for (uint8_t label : labels.labels) {
    const Color& color = label < palette.size() ? palette[label] : kVoidColor;
    result.pixels.insert(result.pixels.end(), color.begin(), color.end());
  }
  return result;
}

Image error_map(const Image& image, const LabelMap& labels, const LabelMap& predictions, int ignore_index) {
  constexpr const char* kWhere = "error_map";
  constexpr Color kWrong = {213, 40, 30};
  check_size(kWhere, image);
  check_size(kWhere, labels);
  check_size(kWhere, predictions);
  for (const LabelMap* map : {&labels, &predictions}) {
    if (image.height != map->height || image.width != map->width) {
      throw UsageError("the picture is " + size_text(image.width, image.height) + ", the labels or predictions " +
                           size_text(map->width, map->height),
                       kWhere, "resize one of them");
    }
  }
  Image result{image.height, image.width, {}};
  result.pixels.reserve(image.pixels.size());
  for (size_t i = 0; i < labels.labels.size(); ++i) {
    const uint8_t* pixel = &image.pixels[3 * i];
    // ITU-R BT.601 luma, lifted halfway to white, so that errors stand out in dark pictures too.
    const auto gray = uint8_t(128 + (299 * pixel[0] + 587 * pixel[1] + 114 * pixel[2]) / 2000);
    const bool counts = labels.labels[i] != ignore_index, wrong = counts && labels.labels[i] != predictions.labels[i];
    const Color color = wrong ? kWrong : counts ? Color{gray, gray, gray} : kVoidColor;
    result.pixels.insert(result.pixels.end(), color.begin(), color.end());
  }
  return result;
}

namespace {

// Every factor-th pixel of every factor-th row.
Image reduce(const Image& image, int64_t factor) {
  Image result{(image.height + factor - 1) / factor, (image.width + factor - 1) / factor, {}};
  result.pixels.reserve(size_t(result.height * result.width) * 3);
  for (int64_t y = 0; y < image.height; y += factor) {
    for (int64_t x = 0; x < image.width; x += factor) {
      const uint8_t* pixel = &image.pixels[size_t(y * image.width + x) * 3];
      result.pixels.insert(result.pixels.end(), pixel, pixel + 3);
    }
  }
  return result;
}

}  // namespace

Image side_by_side(const std::vector<Image>& images, int64_t gap) {
  constexpr const char* kWhere = "side_by_side";
  const int64_t gaps = gap * int64_t(images.size()) - gap;
  if (images.empty() || gap < 0 || gaps + int64_t(images.size()) > limits::kPictureSide) {
    throw UsageError("there is no picture, or the gap is negative or too wide", kWhere, "give one picture or more");
  }
  const auto width_by = [&](int64_t factor) {
    int64_t width = gaps;
    for (const Image& image : images) width += (image.width + factor - 1) / factor;
    return width;
  };
  for (const Image& image : images) check_size(kWhere, image);
  int64_t factor = 1;
  while (width_by(factor) > limits::kPictureSide) ++factor;
  if (factor > 1) {
    std::vector<Image> reduced;
    for (const Image& image : images) reduced.push_back(reduce(image, factor));
    return side_by_side(reduced, gap);
  }
  Image result;
  for (const Image& image : images) result.height = std::max(result.height, image.height);
  result.width = width_by(1);
  result.pixels.assign(size_t(result.height * result.width) * 3, 255);
  int64_t left = 0;
  for (const Image& image : images) {
    for (int64_t y = 0; y < image.height; ++y) {
      std::copy_n(image.pixels.begin() + y * image.width * 3, image.width * 3,
                  result.pixels.begin() + (y * result.width + left) * 3);
    }
    left += image.width + gap;
  }
  return result;
}

Image stacked(const std::vector<Image>& images, int64_t gap) {
  constexpr const char* kWhere = "stacked";
  Image result{-gap, 0, {}};
  for (const Image& image : images) {
    check_size(kWhere, image);
    result.height += image.height + gap;
    result.width = std::max(result.width, image.width);
  }
  if (images.empty() || gap < 0 || result.height > limits::kPictureSide) {
    throw UsageError("there is no picture, the gap is negative, or all together would be more than " +
                         std::to_string(limits::kPictureSide) + " pixels high",
                     kWhere, "give fewer or smaller pictures");
  }
  result.pixels.assign(size_t(result.height * result.width) * 3, 255);
  int64_t top = 0;
  for (const Image& image : images) {
    for (int64_t y = 0; y < image.height; ++y) {
      std::copy_n(image.pixels.begin() + y * image.width * 3, image.width * 3, result.pixels.begin() + (top + y) * result.width * 3);
    }
    top += image.height + gap;
  }
  return result;
}

}  // namespace eq
