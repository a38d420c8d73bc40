#pragma once
// Pictures and label maps in memory, and their files. Decoding is by content, never by file name; limits are those of
// core/limits.h, checked on the header before any allocation. Every error names the file.

#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace eq {

struct Image {  // 8-bit RGB, row-major [height, width, 3]
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;
};

// As messages say it: "640x480".
inline std::string size_text(int64_t width, int64_t height) { return std::to_string(width) + "x" + std::to_string(height); }

struct LabelMap {  // class indices as stored in the file, row-major [height, width]
  int64_t height = 0, width = 0;
  std::vector<uint8_t> labels;
};

using Color = std::array<uint8_t, 3>;
using Palette = std::vector<Color>;

std::string hex_text(const Color& color);  // "#00ff7f"

// Throw UsageError where the values are not as many as the sides say, or the sides are none of a picture's. What takes pictures from
// programs asks; what says "unchecked" does not.
void check_size(const std::string& where, const Image& image);
void check_size(const std::string& where, const LabelMap& labels);

struct PictureInfo {  // from the header only; height and width as read_image gives them, turned by the EXIF orientation
  std::string format;   // "jpeg", "png", "pnm", "bmp", "tga"
  std::string mode;     // "gray", "gray+alpha", "indexed", "RGB", "RGBA", "CMYK"
  int64_t height = 0, width = 0;
  int bits = 8;         // per channel or index
  bool turned = false;  // the EXIF orientation exchanges the file's height and width
};

PictureInfo probe_picture(const std::filesystem::path& path);

// Any picture as RGB: EXIF orientation applied, gray repeated, alpha dropped (as OpenCV's IMREAD_COLOR does), 16-bit
// channels by their high byte, palettes expanded. Throws IoError (cannot be read) or DataError (not a picture, damaged,
// too large).
Image read_image(const std::filesystem::path& path);
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

// A label map: gray (1 to 8 bits, low-bit grays unscaled) or PNG palette indices (not their colours). 16-bit gray is
// accepted when every value fits in 8 bits. RGB pictures throw DataError that says how to convert; palettes of BMP and
// TGA count as RGB. Where `colors` gives the colour of each label, every picture is looked up by its colours, as read_image
// has them: programs that save space turn colour masks into palette or gray files, whose indices are their own. An unknown
// colour throws DataError with the pixel. JPEG throws DataError in any case: it does not keep values.
LabelMap read_label_map(const std::filesystem::path& path, const Palette& colors = {});
LabelMap decode_label_map(std::span<const uint8_t> bytes, const std::string& name, const Palette& colors = {});

// Written atomically. PNG. Throw UsageError when sizes and values do not agree, or a label has no colour in the
// palette.
void write_png(const std::filesystem::path& path, const Image& image);
std::vector<uint8_t> encode_png(const Image& image);  // the bytes of the file, for reports
void write_indexed_png(const std::filesystem::path& path, const LabelMap& labels, const Palette& palette);

// The PASCAL VOC colour of every index 0 .. 255 (bits of the index spread over R, G, B); 255 is (224, 224, 192).
Palette voc_palette();
// Blend of the labels' colours over the image (by `opacity`); labels equal to ignore_index stay unpainted.
Image overlay(const Image& image, const LabelMap& labels, const Palette& palette, int ignore_index, double opacity = 0.5);
// Colours only; ignore_index gets its colour in the palette, or VOC's void colour (224, 224, 192) if the palette has
// none.
Image colorize(const LabelMap& labels, const Palette& palette, int ignore_index);
// Where a prediction is wrong: the picture, pale and grey, with wrong pixels in red (213, 40, 30) and those that do not count in
// VOC's void colour. Labels equal to ignore_index do not count. Throws UsageError for unequal sizes.
Image error_map(const Image& image, const LabelMap& labels, const LabelMap& predictions, int ignore_index);
// Pictures of one height side by side (smaller ones padded with white), with `gap` white pixels between.
Image side_by_side(const std::vector<Image>& images, int64_t gap = 4);
// One below the other, at the left (narrower ones padded with white). Throws UsageError for no picture, and for a higher one than there may
// be.
Image stacked(const std::vector<Image>& images, int64_t gap = 4);

}  // namespace eq
