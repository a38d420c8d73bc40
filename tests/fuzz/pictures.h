#pragma once
// Small picture files made in the test, with every knob that a decoder must look at. JPEG through libjpeg; the others
// by hand, so that they do not share code with what is tested.

#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include <jpeglib.h>

namespace eq::test {

using Bytes = std::vector<uint8_t>;

inline std::span<const uint8_t> span_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
inline std::string text_of(const Bytes& bytes) { return std::string(bytes.begin(), bytes.end()); }

inline void put_big32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += char(value >> shift);
}
inline void put_little(std::string& out, uint32_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += char(value >> 8 * i);
}

// --- PNG

inline std::string png_chunk(const std::string& type, const std::string& data) {
  std::string out;
  put_big32(out, uint32_t(data.size()));
  const std::string body = type + data;
  out += body;
  put_big32(out, uint32_t(crc32(0, reinterpret_cast<const Bytef*>(body.data()), uInt(body.size()))));
  return out;
}

struct PngParts {
  uint32_t width = 1, height = 1;
  int bits = 8, color = 0;      // colour type: 0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA
  bool interlaced = false;
  std::string palette;          // RGB triples
  std::string before_data;      // whole chunks
  std::string rows;             // packed rows, without filter bytes; with `interlaced`, of all seven passes
  size_t row_bytes = 0;         // of a row that is not interlaced
  std::vector<size_t> pass_row_bytes;  // when interlaced: bytes of each row, in order
};

inline std::string make_png(const PngParts& parts) {
  std::string header, filtered;
  put_big32(header, parts.width);
  put_big32(header, parts.height);
  header += {char(parts.bits), char(parts.color), 0, 0, char(parts.interlaced)};
  size_t at = 0, row = 0;
  while (at < parts.rows.size()) {
    const size_t bytes = parts.interlaced ? parts.pass_row_bytes.at(row++) : parts.row_bytes;
    filtered += '\0' + parts.rows.substr(at, bytes);
    at += bytes;
  }
  uLongf size = compressBound(uLong(filtered.size()));
  std::string data(size, '\0');
  if (compress(reinterpret_cast<Bytef*>(data.data()), &size, reinterpret_cast<const Bytef*>(filtered.data()),
               uLong(filtered.size())) != Z_OK) {
    std::abort();
  }
  data.resize(size);
  return "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header) +
         (parts.palette.empty() ? "" : png_chunk("PLTE", parts.palette)) + parts.before_data + png_chunk("IDAT", data) +
         png_chunk("IEND", "");
}

// --- EXIF

// A TIFF structure whose only tag is the orientation.
inline std::string make_exif(int orientation, bool big_endian) {
  auto number = [&](uint32_t value, int bytes) {
    std::string out;
    put_little(out, value, bytes);
    return big_endian ? std::string(out.rbegin(), out.rend()) : out;
  };
  return (big_endian ? "MM" : "II") + number(42, 2) + number(8, 4) + number(1, 2) + number(0x0112, 2) + number(3, 2) +
         number(1, 4) + number(uint32_t(orientation), 2) + number(0, 2) + number(0, 4);
}

// --- JPEG

struct JpegOptions {
  int components = 3;  // 1 gray, 3 RGB, 4 CMYK as Adobe writes it
  int quality = 100;
  bool progressive = false;
  bool subsample = false;
  std::string exif;
};

inline std::string make_jpeg(int height, int width, const Bytes& values, const JpegOptions& options = {}) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_width = JDIMENSION(width);
  info.image_height = JDIMENSION(height);
  info.input_components = options.components;
  info.in_color_space = options.components == 1 ? JCS_GRAYSCALE : options.components == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (!options.subsample) info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
  if (options.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  if (!options.exif.empty()) {
    const std::string marker = std::string("Exif\0\0", 6) + options.exif;
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(marker.data()), unsigned(marker.size()));
  }
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPROW>(values.data() + size_t(info.next_scanline) * size_t(width * options.components));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  const std::string result(reinterpret_cast<char*>(memory), size);
  std::free(memory);
  return result;
}

// --- BMP, TGA, PNM

// `palette` (4 bytes an entry: B, G, R, 0) for 1, 4, 8 bits; `rows` padded to 4 bytes, from the bottom.
inline std::string make_bmp(int width, int height, int bits, const std::string& palette, const std::string& rows) {
  std::string out = "BM";
  put_little(out, uint32_t(54 + palette.size() + rows.size()), 4);
  put_little(out, 0, 4);
  put_little(out, uint32_t(54 + palette.size()), 4);
  put_little(out, 40, 4);
  put_little(out, uint32_t(width), 4);
  put_little(out, uint32_t(height), 4);
  put_little(out, 1, 2);
  put_little(out, uint32_t(bits), 2);
  for (int i = 0; i < 6; ++i) put_little(out, 0, 4);
  return out + palette + rows;
}

// `descriptor` 0x20: rows from the top. `type` 2 RGB, 3 gray, 1 palette; + 8 for runs.
inline std::string make_tga(int width, int height, int type, int bits, const std::string& palette, int palette_bits,
                            const std::string& data, int descriptor = 0x20) {
  std::string out = {0, char(palette.empty() ? 0 : 1), char(type), 0, 0};
  put_little(out, palette.empty() ? 0 : uint32_t(palette.size() * 8 / size_t(palette_bits)), 2);
  out += char(palette_bits);
  put_little(out, 0, 4);
  put_little(out, uint32_t(width), 2);
  put_little(out, uint32_t(height), 2);
  out += {char(bits), char(descriptor)};
  return out + palette + data;
}

}  // namespace eq::test
