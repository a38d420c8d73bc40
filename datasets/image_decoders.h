#pragma once
// Between image.cpp and the decoder of each format; nobody else includes this. A decoder gets the whole file in memory,
// checks the declared size with check_picture() before it allocates, and throws DataError naming the file.

#include "core/errors.h"
#include "datasets/image.h"

namespace eq::detail {

enum class Purpose {
  kImage,   // 16-bit channels lose their low byte
  kLabels,  // 16-bit grays must fit in 8 bits
};

struct Samples {
  int64_t height = 0, width = 0;
  int channels = 3;           // 1 (gray, or an index) or 3 (RGB)
  int largest = 255;          // the gray value that is white
  bool indexed = false;       // the samples are indices of `palette`
  Palette palette;
  int orientation = 1;        // EXIF: 1 .. 8
  std::vector<uint8_t> values;  // [height, width, channels]
};

PictureInfo probe_jpeg(std::span<const uint8_t> bytes, const std::string& name);
PictureInfo probe_png(std::span<const uint8_t> bytes, const std::string& name);
PictureInfo probe_pnm(std::span<const uint8_t> bytes, const std::string& name);
PictureInfo probe_bmp(std::span<const uint8_t> bytes, const std::string& name);
PictureInfo probe_tga(std::span<const uint8_t> bytes, const std::string& name);

Samples decode_jpeg(std::span<const uint8_t> bytes, const std::string& name);
Samples decode_png(std::span<const uint8_t> bytes, const std::string& name, Purpose purpose);
Samples decode_pnm(std::span<const uint8_t> bytes, const std::string& name, Purpose purpose);
Samples decode_bmp(std::span<const uint8_t> bytes, const std::string& name);
Samples decode_tga(std::span<const uint8_t> bytes, const std::string& name);

// TGA has no signature: do the first 18 bytes make a consistent header of a size a picture may have?
bool looks_like_tga(std::span<const uint8_t> bytes);

// A PNG file. `values` is [height, width] indices when a palette is given, [height, width, 3] otherwise.
std::vector<uint8_t> encode_png(int64_t height, int64_t width, const uint8_t* values, const Palette* palette);

// The orientation tag of EXIF data (a TIFF structure, without the "Exif" signature of JPEG); 1 when absent or damaged.
int exif_orientation(std::span<const uint8_t> tiff);

[[noreturn]] void refuse_picture(const std::string& name, const std::string& what);

// Throws DataError unless the picture has a pixel and keeps the limits, and the file has at least `least_bytes`, which
// no file of that many pixels can be shorter than: a short file never makes us allocate much. The limits are checked
// first, so least_bytes may have been computed from any declared size (in unsigned arithmetic).
void check_picture(const std::string& name, int64_t height, int64_t width, uint64_t file_bytes, uint64_t least_bytes);

// 16-bit big-endian gray values to labels. Throws DataError with the pixel of the first value above 255.
std::vector<uint8_t> narrowed_labels(const std::vector<uint8_t>& big_endian, int64_t width, const std::string& name);

}  // namespace eq::detail
