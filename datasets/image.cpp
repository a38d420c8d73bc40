#include "datasets/image.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>
#include <unordered_map>

#include "core/file.h"
#include "core/limits.h"
#include "datasets/image_decoders.h"

namespace eq {
namespace detail {

void refuse_picture(const std::string& name, const std::string& what) {
  throw DataError(what, name, "open it with a viewer; if it is sound, save it again as PNG");
}

void check_picture(const std::string& name, int64_t height, int64_t width, uint64_t file_bytes, uint64_t least_bytes) {
  const std::string size = std::to_string(width) + " x " + std::to_string(height) + " pixels";
  if (height < 1 || width < 1) refuse_picture(name, "the picture declares " + size);
  if (height > limits::kPictureSide || width > limits::kPictureSide || height * width > limits::kPicturePixels) {
    throw DataError("the picture declares " + size + "; at most " + std::to_string(limits::kPictureSide) +
                        " a side and " + std::to_string(limits::kPicturePixels) + " in all are read",
                    name, "cut it into tiles or scale it down");
  }
  if (file_bytes < least_bytes) {
    refuse_picture(name, "the picture declares " + size + " but its file has only " + std::to_string(file_bytes) +
                             " bytes: it is truncated");
  }
}

std::vector<uint8_t> narrowed_labels(const std::vector<uint8_t>& big_endian, int64_t width, const std::string& name) {
  std::vector<uint8_t> labels(big_endian.size() / 2);
  for (size_t i = 0; i < labels.size(); ++i) {
    if (big_endian[2 * i] != 0) {
      throw DataError(
          "a label of this 16-bit picture does not fit in 8 bits: " +
              std::to_string(big_endian[2 * i] * 256 + big_endian[2 * i + 1]),
          name + ", row " + std::to_string(int64_t(i) / width) + ", column " + std::to_string(int64_t(i) % width),
          "an instance or depth map is of no use; if these are classes, number them 0 to 254 and save the picture in 8 bits");
    }
    labels[i] = big_endian[2 * i + 1];
  }
  return labels;
}

int exif_orientation(std::span<const uint8_t> tiff) {
  if (tiff.size() < 8) return 1;
  const bool big = tiff[0] == 'M';
  if (tiff[0] != (big ? 'M' : 'I') || tiff[1] != tiff[0]) return 1;
  auto number = [&](size_t at, size_t bytes) {  // the caller has checked the bounds
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= uint32_t(tiff[at + i]) << 8 * (big ? bytes - 1 - i : i);
    return value;
  };
  const uint64_t directory = number(4, 4);
  if (number(2, 2) != 42 || directory + 2 > tiff.size()) return 1;
  const uint32_t entries = number(size_t(directory), 2);
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t entry = directory + 2 + 12 * i;
    if (entry + 12 > tiff.size()) return 1;
    const auto at = size_t(entry);
    constexpr uint32_t kOrientationTag = 0x0112, kShort = 3;
    if (number(at, 2) != kOrientationTag) continue;
    const uint32_t value = number(at + 8, 2);
    const bool sound = number(at + 2, 2) == kShort && number(at + 4, 4) == 1 && value >= 1 && value <= 8;
    return sound ? int(value) : 1;
  }
  return 1;
}

}  // namespace detail

namespace {

using detail::Purpose;
using detail::Samples;

enum class Format { kJpeg, kPng, kPnm, kBmp, kTga };

constexpr size_t kHeadBytes = 32;  // enough to tell the formats

bool begins(std::span<const uint8_t> bytes, std::string_view signature, size_t at = 0) {
  return bytes.size() >= at + signature.size() &&
         std::memcmp(bytes.data() + at, signature.data(), signature.size()) == 0;
}

const char* foreign_format(std::span<const uint8_t> bytes) {
  using namespace std::string_view_literals;
  if (begins(bytes, "GIF8")) return "GIF";
  if (begins(bytes, "RIFF") && begins(bytes, "WEBP", 8)) return "WebP";
  if (begins(bytes, "II*\0"sv) || begins(bytes, "MM\0*"sv)) return "TIFF";
  if (begins(bytes, "ftyp", 4)) return "HEIF or AVIF";
  if (begins(bytes, "8BPS")) return "Photoshop";
  if (begins(bytes, "\x76\x2f\x31\x01")) return "OpenEXR";
  if (begins(bytes, "\0\0\0\x0cjP  "sv)) return "JPEG 2000";
  if (bytes.size() > 2 && bytes[0] == 'P' && std::strchr("12347", bytes[1]) != nullptr &&
      std::strchr(" \t\r\n", bytes[2]) != nullptr) {
    return "Netpbm P1, P2, P3, P4 or P7";
  }
  return nullptr;
}

Format format_of(std::span<const uint8_t> bytes, const std::string& name) {
  using namespace std::string_view_literals;
  if (bytes.empty()) throw DataError("the file is empty", name, "copy or download it again");
  if (begins(bytes, "\xff\xd8\xff")) return Format::kJpeg;
  if (begins(bytes, "\x89PNG\r\n\x1a\n")) return Format::kPng;
  if (bytes.size() > 2 && bytes[0] == 'P' && (bytes[1] == '5' || bytes[1] == '6') &&
      (bytes[2] == '#' || bytes[2] <= ' ')) {
    return Format::kPnm;
  }
  if (begins(bytes, "BM")) return Format::kBmp;
  if (detail::looks_like_tga(bytes)) return Format::kTga;
  if (const char* foreign = foreign_format(bytes)) {
    throw DataError(std::string("this is a ") + foreign + " file, which is not read", name,
                    "convert it to PNG or JPEG");
  }
  throw DataError("this is not a picture of a known format", name, "PNG, JPEG, PPM/PGM (P5, P6), BMP and TGA are read");
}

// The bytes of a file that begins like a picture. Another file is refused before it is read whole.
std::vector<uint8_t> picture_bytes(const std::filesystem::path& path) {
  FileReader reader(path);
  reader.require_at_most(limits::kPictureFileBytes);
  std::vector<uint8_t> bytes(size_t(std::min<uint64_t>(reader.size(), kHeadBytes)));
  reader.read(bytes.data(), bytes.size());
  format_of(bytes, path.string());
  const size_t head = bytes.size();
  bytes.resize(size_t(reader.size()));
  reader.read(bytes.data() + head, bytes.size() - head);
  return bytes;
}

// Pictures within the limits can still be too large for a small machine.
template <class Fn>
auto with_memory_errors(const std::string& name, Fn&& fn) {
  try {
    return fn();
  } catch (const std::bad_alloc&) {
    throw OutOfMemoryError("there is no memory for this picture", name, "cut it into tiles or scale it down");
  }
}

PictureInfo probe(std::span<const uint8_t> bytes, const std::string& name) {
  switch (format_of(bytes, name)) {
    case Format::kJpeg: return detail::probe_jpeg(bytes, name);
    case Format::kPng: return detail::probe_png(bytes, name);
    case Format::kPnm: return detail::probe_pnm(bytes, name);
    case Format::kBmp: return detail::probe_bmp(bytes, name);
    case Format::kTga: break;
  }
  return detail::probe_tga(bytes, name);
}

Samples decode(std::span<const uint8_t> bytes, const std::string& name, Purpose purpose) {
  switch (format_of(bytes, name)) {
    case Format::kJpeg: return detail::decode_jpeg(bytes, name);
    case Format::kPng: return detail::decode_png(bytes, name, purpose);
    case Format::kPnm: return detail::decode_pnm(bytes, name, purpose);
    case Format::kBmp: return detail::decode_bmp(bytes, name);
    case Format::kTga: break;
  }
  return detail::decode_tga(bytes, name);
}

std::string pixel_text(const std::string& name, int64_t index, int64_t width) {
  return name + ", row " + std::to_string(index / width) + ", column " + std::to_string(index % width);
}

void expand_to_rgb(Samples& samples, const std::string& name) {
  if (samples.channels == 3) return;
  Palette colors = samples.palette;
  if (!samples.indexed) {
    for (int v = 0; v <= samples.largest; ++v) {
      const auto gray = uint8_t(v * 255 / samples.largest);
      colors.push_back({gray, gray, gray});
    }
  }
  std::vector<uint8_t> rgb(samples.values.size() * 3);
  for (size_t i = 0; i < samples.values.size(); ++i) {
    const size_t index = samples.values[i];
    if (index >= colors.size()) {
      throw DataError(
          "the index " + std::to_string(index) + " has no colour: the palette has " + std::to_string(colors.size()),
          pixel_text(name, int64_t(i), samples.width), "save the picture again as RGB");
    }
    std::copy(colors[index].begin(), colors[index].end(), rgb.begin() + std::ptrdiff_t(3 * i));
  }
  samples.values = std::move(rgb);
  samples.channels = 3;
}

// Turns the stored picture so that it stands upright (EXIF 2.3, tag 0x0112).
void apply_orientation(Samples& samples) {
  const int orientation = samples.orientation;
  if (orientation == 1) return;
  const bool swapped = orientation >= 5;
  const int64_t stored_height = samples.height, stored_width = samples.width, channels = samples.channels;
  const int64_t height = swapped ? stored_width : stored_height, width = swapped ? stored_height : stored_width;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  std::vector<uint8_t> turned(samples.values.size());
  uint8_t* out = turned.data();
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      int64_t row = swapped ? x : y, column = swapped ? y : x;
      if (from_bottom) row = stored_height - 1 - row;
      if (from_right) column = stored_width - 1 - column;
      const uint8_t* in = samples.values.data() + (row * stored_width + column) * channels;
      for (int64_t c = 0; c < channels; ++c) *out++ = in[c];
    }
  }
  samples.values = std::move(turned);
  samples.height = height;
  samples.width = width;
}

std::string color_text(const uint8_t* rgb) {
  return "(" + std::to_string(rgb[0]) + ", " + std::to_string(rgb[1]) + ", " + std::to_string(rgb[2]) + ")";
}

LabelMap labels_from_colors(const Image& image, const std::string& name, const Palette& colors) {
  auto packed = [](const uint8_t* rgb) { return uint32_t(rgb[0]) << 16 | uint32_t(rgb[1]) << 8 | rgb[2]; };
  std::unordered_map<uint32_t, uint8_t> index_of;
  for (size_t i = 0; i < colors.size(); ++i)
    index_of.emplace(packed(colors[i].data()), uint8_t(i));  // the first of equals
  LabelMap map{image.height, image.width, std::vector<uint8_t>(image.pixels.size() / 3)};
  uint32_t last_color = packed(colors[0].data());  // neighbours are mostly alike
  uint8_t last_label = 0;
  for (size_t i = 0; i < map.labels.size(); ++i) {
    const uint8_t* rgb = image.pixels.data() + 3 * i;
    if (packed(rgb) != last_color) {
      const auto found = index_of.find(packed(rgb));
      if (found == index_of.end()) {
        throw DataError("the colour " + color_text(rgb) + " is not in the colour table of " +
                            std::to_string(colors.size()) + " classes",
                        pixel_text(name, int64_t(i), image.width),
                        "add it to the table, or check that the table is that of this data set");
      }
      last_color = found->first;
      last_label = found->second;
    }
    map.labels[i] = last_label;
  }
  return map;
}

}  // namespace

PictureInfo probe_picture(const std::filesystem::path& path) {
  return with_memory_errors(path.string(), [&] { return probe(picture_bytes(path), path.string()); });
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  return with_memory_errors(name, [&] {
    Samples samples = decode(bytes, name, Purpose::kImage);
    expand_to_rgb(samples, name);
    apply_orientation(samples);
    return Image{samples.height, samples.width, std::move(samples.values)};
  });
}

Image read_image(const std::filesystem::path& path) {
  return with_memory_errors(path.string(), [&] { return decode_image(picture_bytes(path), path.string()); });
}

LabelMap decode_label_map(std::span<const uint8_t> bytes, const std::string& name, const Palette& colors) {
  if (colors.size() > 256) {
    throw UsageError("a colour table has at most 256 entries, not " + std::to_string(colors.size()), "decode_label_map",
                     "labels are 8 bits");
  }
  return with_memory_errors(name, [&] {
    const PictureInfo info = probe(bytes, name);
    if (info.format == "jpeg") {
      throw DataError("a JPEG cannot hold labels: its compression changes values", name,
                      "take the original masks, stored as PNG");
    }
    if (!colors.empty()) return labels_from_colors(decode_image(bytes, name), name, colors);
    const bool has_indices =
        info.mode == "gray" || info.mode == "gray+alpha" || (info.mode == "indexed" && info.format == "png");
    if (!has_indices) {
      throw DataError(
          info.mode == "indexed" ? "this label map has a palette (" + info.format + "), of which only the colours are read, not the indices"
                                 : "this label map is stored as colours (" + info.format + ", " + info.mode + "), not as class indices",
          name,
          "set data.label_colors to true and name the colour of each class in data.palette, or convert it to an 8-bit gray or palette PNG");
    }
    Samples samples = decode(bytes, name, Purpose::kLabels);
    apply_orientation(samples);
    return LabelMap{samples.height, samples.width, std::move(samples.values)};
  });
}

LabelMap read_label_map(const std::filesystem::path& path, const Palette& colors) {
  return with_memory_errors(path.string(),
                            [&] { return decode_label_map(picture_bytes(path), path.string(), colors); });
}

}  // namespace eq
