#include "core/limits.h"
#include "datasets/image.h"
#include "fuzz/mutate.h"
#include "fuzz/pictures.h"

using namespace eq;
using namespace eq::test;

namespace {

std::vector<std::string> png_seeds() {
  const std::string exif = png_chunk("eXIf", make_exif(6, false)), text = png_chunk("tEXt", std::string("k\0v", 3));
  return {make_png({5, 4, 8, 2, false, "", text, std::string(60, 'p'), 15}),
          make_png({3, 2, 4, 3, false, "abcdefghi", exif, std::string("\x12\x00\x01\x20", 4), 2}),
          make_png({3, 2, 8, 0, true, "", "", "\x01\x03\x02\x04\x05\x06", 0, {1, 1, 1, 3}}),
          make_png({2, 2, 16, 4, false, "", "", std::string(16, '\0'), 8}),
          make_png({9, 2, 1, 0, false, "", "", "abcd", 2})};
}

// The checksum of every chunk, as far as the chunks can be followed.
void repair_png(std::string& bytes) {
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  for (size_t at = 8; at + 12 <= bytes.size();) {
    const size_t length =
        size_t(data[at]) << 24 | size_t(data[at + 1]) << 16 | size_t(data[at + 2]) << 8 | data[at + 3];
    if (length > bytes.size() - at - 12) return;
    std::string sum;
    put_big32(sum, uint32_t(crc32(0, data + at + 4, uInt(length + 4))));
    bytes.replace(at + 8 + length, 4, sum);
    data = reinterpret_cast<const uint8_t*>(bytes.data());
    at += 12 + length;
  }
}

std::vector<std::string> jpeg_seeds() {
  std::vector<std::string> seeds;
  Bytes values(16 * 16 * 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = uint8_t(i * i);
  for (int components : {1, 3, 4}) {
    for (bool progressive : {false, true}) {
      JpegOptions options;
      options.components = components;
      options.quality = 30;
      options.progressive = progressive;
      options.subsample = progressive;
      if (components == 3) options.exif = make_exif(5, progressive);
      seeds.push_back(make_jpeg(16, 16, values, options));
    }
  }
  return seeds;
}

std::vector<std::string> simple_seeds() {
  std::string palette;
  for (int i = 0; i < 16; ++i) palette += {char(i), char(2 * i), char(3 * i), 0};
  return {"P5 # c\n3 2\n255\nabcdef",
          "P6 2 1 65535\nabcdefghijkl",
          make_bmp(3, 2, 24, "", std::string(24, 'b')),
          make_bmp(3, -2, 4, palette, std::string(8, 'b')),
          make_bmp(2, 2, 32, "", std::string(16, 'b')),
          make_tga(2, 2, 2, 24, "", 0, "abcdefghijkl"),
          make_tga(5, 1, 11, 8, "", 0, "\x82\x09\x01\x01\x02"),
          make_tga(2, 1, 1, 8, "abcdef", 24, std::string("\x01\x00", 2)),
          make_tga(4, 1, 10, 16, "", 0, "\x81\x09\x01\x01\x02\x03\x04\x05")};
}

void check_image(const std::string& input) {
  const Image image = decode_image(span_of(input), "fuzz");
  if (image.height < 1 || image.width < 1 || image.height * image.width > limits::kPicturePixels ||
      image.pixels.size() != size_t(image.height * image.width * 3)) {
    throw std::runtime_error("the size does not fit the values");
  }
}

void check_labels(const std::string& input, const Palette& colors) {
  const LabelMap map = decode_label_map(span_of(input), "fuzz", colors);
  if (map.labels.size() != size_t(map.height * map.width)) throw std::runtime_error("the size does not fit the values");
}

}  // namespace

TEST_CASE("mutated PNG files give a picture or an error", "[fuzz][image]") {
  fuzz(png_seeds(), 4000, 1, check_image, repair_png);
  const std::vector<std::string> seeds = png_seeds();
  fuzz(
      {seeds.begin() + 1, seeds.end()}, 3000, 2, [](const std::string& input) { check_labels(input, {}); }, repair_png);
}

TEST_CASE("mutated JPEG files give a picture or an error", "[fuzz][image]") {
  fuzz(jpeg_seeds(), 3000, 3, check_image);
}

TEST_CASE("mutated PNM, BMP and TGA files give a picture or an error", "[fuzz][image]") {
  fuzz(simple_seeds(), 6000, 4, check_image);
  // Labels: the table has the seeds' grays, so few of the others are accepted.
  Palette colors;
  for (const uint8_t gray : {'a', 'b', 'c', 'd', 'e', 'f', '\x09', '\x01', '\x02'}) colors.push_back({gray, gray, gray});
  fuzz({simple_seeds()[0], simple_seeds()[6], simple_seeds()[2]}, 3000, 5, [&](const std::string& input) { check_labels(input, colors); });
}
