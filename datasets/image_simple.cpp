// PNM, BMP and TGA. BMP and TGA go through stb_image, which trusts its input in places: it goes on past the end of a
// short file, leaves colours undefined that a short BMP palette lacks, and asserts on sizes. So the whole frame is
// checked here first, and what cannot be checked is refused. PNM is decoded here: after the check of its header nothing
// but a copy is left, and stb_image ignores the header's largest value.

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>

#include "core/limits.h"
#include "datasets/image_decoders.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_JPEG
#define STBI_NO_PNG
#define STBI_NO_GIF
#define STBI_NO_PSD
#define STBI_NO_PIC
#define STBI_NO_HDR
#define STBI_NO_PNM
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS 32768
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

static_assert(eq::limits::kPictureSide == STBI_MAX_DIMENSIONS);

namespace eq::detail {
namespace {

uint32_t little16(std::span<const uint8_t> bytes, size_t at) { return bytes[at] | uint32_t(bytes[at + 1]) << 8; }
uint32_t little32(std::span<const uint8_t> bytes, size_t at) {
  return little16(bytes, at) | little16(bytes, at + 2) << 16;
}

// --- PNM: "P5" or "P6", width, height and largest value in decimal between white space and # comments, one white
// space, values.

struct PnmHeader {
  int64_t height = 0, width = 0;
  int largest = 255, channels = 1;
  size_t data = 0;  // where the values begin
  int bytes_each() const { return largest > 255 ? 2 : 1; }
};

PnmHeader pnm_header(std::span<const uint8_t> bytes, const std::string& name) {
  size_t at = 2;
  auto is_space = [](uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  auto number = [&]() -> int64_t {
    while (at < bytes.size() && (is_space(bytes[at]) || bytes[at] == '#')) {
      if (bytes[at] == '#') {
        while (at < bytes.size() && bytes[at] != '\n') ++at;
      } else {
        ++at;
      }
    }
    int64_t value = 0;
    const size_t begin = at;
    for (; at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9'; ++at) {
      value = std::min<int64_t>(value * 10 + (bytes[at] - '0'),
                                int64_t{1} << 32);  // no overflow; refused as too large below
    }
    if (at == begin) refuse_picture(name, "damaged PNM: a number is missing in the header");
    return value;
  };
  PnmHeader header;
  header.channels = bytes[1] == '6' ? 3 : 1;
  header.width = number();
  header.height = number();
  const int64_t largest = number();
  if (largest < 1 || largest > 65535) refuse_picture(name, "damaged PNM: the largest value must be 1 to 65535");
  header.largest = int(largest);
  if (at >= bytes.size() || !is_space(bytes[at])) refuse_picture(name, "damaged PNM: the header does not end");
  header.data = at + 1;
  const uint64_t values =
      uint64_t(header.height) * uint64_t(header.width) * uint64_t(header.channels * header.bytes_each());
  check_picture(name, header.height, header.width, bytes.size(), header.data + values);
  return header;
}

// --- BMP

struct BmpHeader {
  int64_t height = 0, width = 0;
  int bits = 0;
};

BmpHeader bmp_header(std::span<const uint8_t> bytes, const std::string& name) {
  auto need = [&](bool ok, const char* what) {
    if (!ok) refuse_picture(name, std::string("BMP that is damaged or not supported: ") + what);
  };
  need(bytes.size() >= 54, "the file ends in its header");
  const uint64_t offset = little32(bytes, 10), header_bytes = little32(bytes, 14);
  need(header_bytes == 40 || header_bytes == 56 || header_bytes == 108 || header_bytes == 124,
       "the kind of its header");
  BmpHeader header;
  header.width = int32_t(little32(bytes, 18));
  header.height = int32_t(little32(bytes, 22));
  if (header.height < 0) header.height = -header.height;  // rows from the top
  header.bits = int(little16(bytes, 28));
  need(little32(bytes, 30) == 0, "compression, or colour masks");
  need(header.bits == 1 || header.bits == 4 || header.bits == 8 || header.bits == 24 || header.bits == 32,
       "the bits of a pixel");
  const uint64_t colors = header.bits <= 8 ? uint64_t{1} << header.bits : 0;
  need(offset == 14 + header_bytes + 4 * colors, "the palette must be complete, and the pixels follow it");
  const uint64_t stride = (uint64_t(header.width) * uint64_t(header.bits) + 31) / 32 * 4;
  check_picture(name, header.height, header.width, bytes.size(), offset + stride * uint64_t(header.height));
  return header;
}

// --- TGA

struct TgaHeader {
  int64_t height = 0, width = 0;
  bool indexed = false, gray = false;
  int bits = 0;
};

TgaHeader tga_header(std::span<const uint8_t> bytes, const std::string& name) {
  TgaHeader header;
  header.indexed = bytes[1] == 1;
  const bool packed = bytes[2] >= 8;
  header.gray = (bytes[2] & 7) == 3;
  header.width = little16(bytes, 12);
  header.height = little16(bytes, 14);
  header.bits = header.indexed ? bytes[7] : bytes[16];
  uint64_t at = 18 + uint64_t(bytes[0]);
  if (header.indexed) {
    if (little16(bytes, 3) != 0) refuse_picture(name, "TGA with a palette that does not begin at 0 is not supported");
    at += uint64_t(little16(bytes, 5)) * ((bytes[7] + 7) / 8);
  }
  const uint64_t each = (bytes[16] + 7) / 8, pixels = uint64_t(header.width) * uint64_t(header.height);
  check_picture(name, header.height, header.width, bytes.size(), packed ? at + pixels / 128 : at + pixels * each);
  if (packed) {
    // Runs: a byte with the count - 1, and in its high bit whether one value follows or one for each pixel.
    for (uint64_t done = 0; done < pixels;) {
      if (at >= bytes.size()) refuse_picture(name, "damaged TGA: the file ends too early");
      const uint64_t count = (bytes[at] & 127) + 1;
      at += 1 + each * (bytes[at] & 128 ? 1 : count);
      done += count;
    }
    if (at > bytes.size()) refuse_picture(name, "damaged TGA: the file ends too early");
  }
  return header;
}

Samples decode_with_stb(std::span<const uint8_t> bytes, const std::string& name, int channels) {
  int width = 0, height = 0, stored = 0;
  const std::unique_ptr<uint8_t, void (*)(void*)> pixels(
      stbi_load_from_memory(bytes.data(), int(bytes.size()), &width, &height, &stored, channels), stbi_image_free);
  if (pixels == nullptr) refuse_picture(name, "damaged picture");
  Samples samples;
  samples.height = height;
  samples.width = width;
  samples.channels = channels;
  samples.values.assign(pixels.get(), pixels.get() + int64_t{height} * width * channels);
  return samples;
}

}  // namespace

PictureInfo probe_pnm(std::span<const uint8_t> bytes, const std::string& name) {
  const PnmHeader header = pnm_header(bytes, name);
  return {"pnm", header.channels == 1 ? "gray" : "RGB", header.height, header.width,
          int(std::bit_width(unsigned(header.largest)))};
}

Samples decode_pnm(std::span<const uint8_t> bytes, const std::string& name, Purpose purpose) {
  const PnmHeader header = pnm_header(bytes, name);
  const auto count = size_t(header.height * header.width) * size_t(header.channels);
  const uint8_t* data = bytes.data() + header.data;
  Samples samples;
  samples.height = header.height;
  samples.width = header.width;
  samples.channels = header.channels;
  if (purpose == Purpose::kLabels) {
    samples.values.assign(data, data + count * size_t(header.bytes_each()));
    if (header.bytes_each() == 2) samples.values = narrowed_labels(samples.values, header.width, name);
    return samples;
  }
  samples.values.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const uint32_t value = header.bytes_each() == 1 ? data[i] : uint32_t(data[2 * i]) << 8 | data[2 * i + 1];
    if (value > uint32_t(header.largest)) {
      refuse_picture(name, "damaged PNM: the value " + std::to_string(value) + " is above the largest, " +
                               std::to_string(header.largest));
    }
    // Full 16 bits lose their low byte, as in PNG; other ranges are scaled.
    const uint32_t scaled = (value * 255 + uint32_t(header.largest) / 2) / uint32_t(header.largest);
    samples.values[i] = uint8_t(header.largest == 65535 ? value >> 8 : scaled);
  }
  return samples;
}

PictureInfo probe_bmp(std::span<const uint8_t> bytes, const std::string& name) {
  const BmpHeader header = bmp_header(bytes, name);
  return {"bmp", header.bits <= 8 ? "indexed" : header.bits == 24 ? "RGB" : "RGBA", header.height, header.width,
          header.bits <= 8 ? header.bits : 8};
}

Samples decode_bmp(std::span<const uint8_t> bytes, const std::string& name) {
  bmp_header(bytes, name);
  return decode_with_stb(bytes, name, 3);
}

bool looks_like_tga(std::span<const uint8_t> bytes) {
  if (bytes.size() < 18 || bytes[1] > 1) return false;
  const uint8_t type = bytes[2], palette_bits = bytes[7], bits = bytes[16];
  if (bytes[1] == 1) {
    if ((type != 1 && type != 9) || (bits != 8 && bits != 16) || little16(bytes, 5) == 0) return false;
    if (palette_bits != 15 && palette_bits != 16 && palette_bits != 24 && palette_bits != 32) return false;
  } else {
    const bool gray = type == 3 || type == 11;
    if (!gray && type != 2 && type != 10) return false;
    if (gray ? bits != 8 : bits != 15 && bits != 16 && bits != 24 && bits != 32) return false;
  }
  return little16(bytes, 12) > 0 && little16(bytes, 14) > 0 &&
         (bytes[17] & 0xd0) == 0;  // not from the right, not interleaved
}

PictureInfo probe_tga(std::span<const uint8_t> bytes, const std::string& name) {
  const TgaHeader header = tga_header(bytes, name);
  const char* mode = header.indexed ? "indexed" : header.gray ? "gray" : header.bits == 32 ? "RGBA" : "RGB";
  return {"tga", mode, header.height, header.width,
          header.indexed                      ? int(bytes[16])
          : header.bits <= 16 && !header.gray ? 5
                                              : 8};
}

Samples decode_tga(std::span<const uint8_t> bytes, const std::string& name) {
  return decode_with_stb(bytes, name, tga_header(bytes, name).gray ? 1 : 3);
}

}  // namespace eq::detail
