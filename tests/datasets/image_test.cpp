#include "datasets/image.h"

#include <sys/stat.h>

#include <set>

#include "core/errors.h"
#include "core/file.h"
#include "core/random.h"
#include "fuzz/pictures.h"
#include "pictures.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

Image image_of(const std::string& bytes) { return decode_image(span_of(bytes), "test.picture"); }
LabelMap labels_of(const std::string& bytes, const Palette& colors = {}) {
  return decode_label_map(span_of(bytes), "test.picture", colors);
}

PictureInfo info_of(const std::string& bytes) {
  TemporaryFolder folder;
  write_file(folder.path() / "p", bytes);
  return probe_picture(folder.path() / "p");
}

void check_info(const std::string& bytes, const std::string& format, const std::string& mode, int64_t height,
                int64_t width, int bits) {
  const PictureInfo info = info_of(bytes);
  CHECK(info.format == format);
  CHECK(info.mode == mode);
  CHECK(info.height == height);
  CHECK(info.width == width);
  CHECK(info.bits == bits);
}

// Smooth, so that JPEG keeps it within a few steps.
Bytes smooth(int height, int width, int components) {
  Bytes values;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < components; ++c) values.push_back(uint8_t(40 + 3 * y + 2 * x + 30 * c));
    }
  }
  return values;
}

int largest_difference(const Bytes& a, const Bytes& b) {
  if (a.size() != b.size()) return 256;
  int worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(int(a[i]) - int(b[i])));
  return worst;
}

Bytes repeated(const Bytes& gray) {
  Bytes rgb;
  for (uint8_t value : gray) rgb.insert(rgb.end(), 3, value);
  return rgb;
}

}  // namespace

TEST_CASE("PNG of every colour type and depth is decoded", "[image]") {
  SECTION("gray, 1 to 8 bits") {
    check_info(make_png({8, 1, 1, 0, false, "", "", "\xA5", 1}), "png", "gray", 1, 8, 1);
    CHECK(image_of(make_png({8, 1, 1, 0, false, "", "", "\xA5", 1})).pixels ==
          repeated({255, 0, 255, 0, 0, 255, 0, 255}));
    CHECK(labels_of(make_png({8, 1, 1, 0, false, "", "", "\xA5", 1})).labels == Bytes{1, 0, 1, 0, 0, 1, 0, 1});
    CHECK(image_of(make_png({3, 1, 2, 0, false, "", "", "\x6C", 1})).pixels == repeated({85, 170, 255}));
    CHECK(labels_of(make_png({3, 1, 2, 0, false, "", "", "\x6C", 1})).labels == Bytes{1, 2, 3});
    CHECK(image_of(make_png({3, 1, 4, 0, false, "", "", "\x1F\xA0", 2})).pixels == repeated({17, 255, 170}));
    CHECK(labels_of(make_png({3, 1, 4, 0, false, "", "", "\x1F\xA0", 2})).labels == Bytes{1, 15, 10});
    CHECK(labels_of(make_png({2, 2, 8, 0, false, "", "", "\x01\x02\xFE\xFF", 2})).labels == Bytes{1, 2, 254, 255});
    CHECK(image_of(make_png({2, 2, 8, 0, false, "", "", "\x01\x02\xFE\xFF", 2})).pixels == repeated({1, 2, 254, 255}));
  }
  SECTION("gray, 16 bits: the high byte as a picture, small values as labels") {
    const std::string fits = make_png({2, 1, 16, 0, false, "", "", std::string("\x00\x07\x00\xFF", 4), 4});
    check_info(fits, "png", "gray", 1, 2, 16);
    CHECK(labels_of(fits).labels == Bytes{7, 255});
    const std::string large =
        make_png({2, 2, 16, 0, false, "", "", std::string("\x00\x07\x00\x08\x00\x09\x12\x34", 8), 4});
    CHECK(image_of(large).pixels == repeated({0, 0, 0, 0x12}));
    CHECK_THROWS_AS(labels_of(large), DataError);
    CHECK_THROWS_WITH(labels_of(large), Contains("test.picture, row 1, column 1") && Contains("4660"));
  }
  SECTION("gray and alpha") {
    const std::string bytes = make_png({2, 1, 8, 4, false, "", "", std::string("\x05\x00\x06\xFF", 4), 4});
    check_info(bytes, "png", "gray+alpha", 1, 2, 8);
    CHECK(image_of(bytes).pixels == repeated({5, 6}));
    CHECK(labels_of(bytes).labels == Bytes{5, 6});
    const std::string wide = make_png({1, 1, 16, 4, false, "", "", std::string("\x00\x05\x00\x00", 4), 4});
    CHECK(labels_of(wide).labels == Bytes{5});
  }
  SECTION("RGB and RGBA, 8 and 16 bits") {
    check_info(make_png({2, 1, 8, 2, false, "", "", "abcdef", 6}), "png", "RGB", 1, 2, 8);
    CHECK(text_of(image_of(make_png({2, 1, 8, 2, false, "", "", "abcdef", 6})).pixels) == "abcdef");
    CHECK(text_of(image_of(make_png({2, 1, 16, 2, false, "", "", "a0b1c2d3e4f5", 12})).pixels) == "abcdef");
    check_info(make_png({2, 1, 8, 6, false, "", "", "abc0def1", 8}), "png", "RGBA", 1, 2, 8);
    CHECK(text_of(image_of(make_png({2, 1, 8, 6, false, "", "", "abc0def1", 8})).pixels) == "abcdef");
  }
  SECTION("palette: colours as a picture, indices as labels") {
    const std::string palette("\x01\x02\x03\x04\x05\x06\x07\x08\x09", 9);
    const std::string bytes = make_png({3, 1, 4, 3, false, palette, "", std::string("\x12\x00", 2), 2});
    check_info(bytes, "png", "indexed", 1, 3, 4);
    CHECK(image_of(bytes).pixels == Bytes{4, 5, 6, 7, 8, 9, 1, 2, 3});
    CHECK(labels_of(bytes).labels == Bytes{1, 2, 0});
    // An index that the palette lacks is a fine label and no colour.
    const std::string beyond = make_png({3, 1, 8, 3, false, palette, "", "\x01\x02\xFF", 3});
    CHECK(labels_of(beyond).labels == Bytes{1, 2, 255});
    CHECK_THROWS_WITH(image_of(beyond), Contains("index 255") && Contains("row 0, column 2"));
  }
  SECTION("interlaced") {
    // 3 x 2: Adam7 sends (0,0) in pass 1, (2,0) in pass 4, (1,0) in pass 6 and row 1 in pass 7.
    const std::string bytes = make_png({3, 2, 8, 0, true, "", "", "\x01\x03\x02\x04\x05\x06", 0, {1, 1, 1, 3}});
    CHECK(labels_of(bytes).labels == Bytes{1, 2, 3, 4, 5, 6});
    CHECK(image_of(bytes).pixels == repeated({1, 2, 3, 4, 5, 6}));
  }
  SECTION("unused chunks are skipped") {
    const std::string extra = png_chunk("tEXt", "Comment\0hello") + png_chunk("zTXt", "rubbish") +
                              png_chunk("gAMA", "\x01") + png_chunk("prVt", "x");
    CHECK(labels_of(make_png({2, 1, 8, 0, false, "", extra, "\x01\x02", 2})).labels == Bytes{1, 2});
  }
}

TEST_CASE("JPEG of every colour space is decoded", "[image]") {
  const bool progressive = GENERATE(false, true);
  JpegOptions options;
  options.progressive = progressive;
  const std::string color = make_jpeg(20, 30, smooth(20, 30, 3), options);
  check_info(color, "jpeg", "RGB", 20, 30, 8);
  CHECK(largest_difference(image_of(color).pixels, smooth(20, 30, 3)) <= 3);
  options.subsample = true;
  CHECK(largest_difference(image_of(make_jpeg(20, 30, smooth(20, 30, 3), options)).pixels, smooth(20, 30, 3)) <= 6);
  options.components = 1;
  const std::string gray = make_jpeg(20, 30, smooth(20, 30, 1), options);
  check_info(gray, "jpeg", "gray", 20, 30, 8);
  CHECK(largest_difference(image_of(gray).pixels, repeated(smooth(20, 30, 1))) <= 2);
  // Adobe's CMYK is the complement: red = C K / 255.
  options.components = 4;
  Bytes ink;
  for (int i = 0; i < 16 * 16; ++i) ink.insert(ink.end(), {200, 100, 50, 128});
  const std::string cmyk = make_jpeg(16, 16, ink, options);
  check_info(cmyk, "jpeg", "CMYK", 16, 16, 8);
  const Image image = image_of(cmyk);
  CHECK(largest_difference(Bytes(image.pixels.begin(), image.pixels.begin() + 3), {100, 50, 25}) <= 2);
}

TEST_CASE("EXIF orientation turns the picture upright", "[image]") {
  const int orientation = GENERATE(range(1, 9));
  const bool big_endian = GENERATE(false, true);
  // Stored: 16 rows of 24, with one bright corner block of 8 x 8 at the top left; where must it be seen?
  Bytes values(16 * 24, 20);
  for (int y = 0; y < 8; ++y) {
    for (int x = 0; x < 8; ++x) values[size_t(y * 24 + x)] = 220;
  }
  JpegOptions options;
  options.components = 1;
  options.exif = make_exif(orientation, big_endian);
  const std::string bytes = make_jpeg(16, 24, values, options);
  const Image image = image_of(bytes);
  const bool swapped = orientation >= 5;
  CHECK(image.height == (swapped ? 24 : 16));
  CHECK(image.width == (swapped ? 16 : 24));
  check_info(bytes, "jpeg", "gray", image.height, image.width, 8);
  // EXIF 2.3: where row 0 and column 0 are seen: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top, 6
  // right top, 7 right bottom, 8 left bottom.
  const bool at_bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool at_right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  for (int64_t y = 0; y < image.height; ++y) {
    for (int64_t x = 0; x < image.width; ++x) {
      const bool bright = (at_bottom ? image.height - 1 - y : y) < 8 && (at_right ? image.width - 1 - x : x) < 8;
      REQUIRE((image.pixels[size_t((y * image.width + x) * 3)] > 120) == bright);
    }
  }
  // In a PNG as well, for pictures and labels alike, with every pixel in its place.
  const std::string png =
      make_png({3, 2, 8, 0, false, "", png_chunk("eXIf", options.exif), "\x01\x02\x03\x04\x05\x06", 3});
  const std::vector<Bytes> upright = {{1, 2, 3, 4, 5, 6}, {3, 2, 1, 6, 5, 4}, {6, 5, 4, 3, 2, 1}, {4, 5, 6, 1, 2, 3},
                                      {1, 4, 2, 5, 3, 6}, {4, 1, 5, 2, 6, 3}, {6, 3, 5, 2, 4, 1}, {3, 6, 2, 5, 1, 4}};
  CHECK(image_of(png).pixels == repeated(upright[size_t(orientation - 1)]));
  CHECK(labels_of(png).labels == upright[size_t(orientation - 1)]);
  CHECK(image_of(png).height == (swapped ? 3 : 2));
}

TEST_CASE("damaged EXIF data leaves the picture as it is", "[image]") {
  const std::string sound = make_exif(6, false);
  auto orientation_used = [](const std::string& exif) {
    JpegOptions options;
    options.exif = exif;
    return image_of(make_jpeg(8, 16, smooth(8, 16, 3), options)).height == 16;
  };
  CHECK(orientation_used(sound));
  for (size_t length = 1; length < sound.size() - 6; ++length) CHECK_FALSE(orientation_used(sound.substr(0, length)));
  for (const auto& [at, value] : std::vector<std::pair<size_t, int>>{
           {0, 'X'}, {1, 'M'}, {2, 43}, {4, 255}, {7, 255}, {8, 0}, {12, 4}, {14, 2}, {18, 9}, {18, 0}}) {
    std::string broken = sound;
    broken[at] = char(value);
    INFO(at << " " << value);
    CHECK_FALSE(orientation_used(broken));
  }
}

TEST_CASE("PNM is decoded, with its largest value", "[image]") {
  const std::string gray = "P5 # a comment\n3\t1\n255\n\x01\x02\xFF";
  check_info(gray, "pnm", "gray", 1, 3, 8);
  CHECK(labels_of(gray).labels == Bytes{1, 2, 255});
  CHECK(image_of(gray).pixels == repeated({1, 2, 255}));
  CHECK(image_of("P5 2 1 3 \x01\x03").pixels == repeated({85, 255}));
  CHECK(labels_of("P5 2 1 3 \x01\x03").labels == Bytes{1, 3});
  CHECK_THROWS_WITH(image_of("P5 2 1 3 \x01\x04"), Contains("above the largest"));
  check_info("P6 2 1 255\nabcdef", "pnm", "RGB", 1, 2, 8);
  CHECK(text_of(image_of("P6 2 1 255\nabcdef").pixels) == "abcdef");
  const std::string wide("P5 2 1 65535\n\x00\x09\x12\x34", 17);
  CHECK(image_of(wide).pixels == repeated({0, 0x12}));
  CHECK_THROWS_WITH(labels_of(wide), Contains("4660"));
  CHECK(labels_of(std::string("P5 2 1 65535\n\x00\x09\x00\xFF", 17)).labels == Bytes{9, 255});
}

TEST_CASE("BMP and TGA are decoded", "[image]") {
  // Two rows from the bottom, B G R, padded to 4 bytes.
  const std::string bmp = make_bmp(1, 2, 24, "", std::string("\x03\x02\x01\x00\x06\x05\x04\x00", 8));
  check_info(bmp, "bmp", "RGB", 2, 1, 8);
  CHECK(image_of(bmp).pixels == Bytes{4, 5, 6, 1, 2, 3});
  CHECK(image_of(make_bmp(1, -2, 24, "", std::string("\x03\x02\x01\x00\x06\x05\x04\x00", 8))).pixels ==
        Bytes{1, 2, 3, 4, 5, 6});
  std::string palette;
  for (int i = 0; i < 256; ++i) palette += {char(i), char(255 - i), 7, 0};
  const std::string indexed = make_bmp(2, 1, 8, palette, std::string("\x05\xFF\x00\x00", 4));
  check_info(indexed, "bmp", "indexed", 1, 2, 8);
  CHECK(image_of(indexed).pixels == Bytes{7, 250, 5, 7, 0, 255});
  CHECK_THROWS_WITH(labels_of(indexed), Contains("bmp") && Contains("colours"));
  CHECK(labels_of(indexed, {{7, 250, 5}, {7, 0, 255}}).labels == Bytes{0, 1});

  CHECK(image_of(make_tga(2, 1, 2, 24, "", 0, "\x03\x02\x01\x06\x05\x04")).pixels == Bytes{1, 2, 3, 4, 5, 6});
  CHECK(image_of(make_tga(1, 2, 2, 24, "", 0, "\x03\x02\x01\x06\x05\x04", 0)).pixels == Bytes{4, 5, 6, 1, 2, 3});
  check_info(make_tga(2, 1, 3, 8, "", 0, "\x09\x0A"), "tga", "gray", 1, 2, 8);
  CHECK(labels_of(make_tga(2, 1, 3, 8, "", 0, "\x09\x0A")).labels == Bytes{9, 10});
  // Runs: three of 9, then 1 and 2 as they are.
  CHECK(labels_of(make_tga(5, 1, 11, 8, "", 0, "\x82\x09\x01\x01\x02")).labels == Bytes{9, 9, 9, 1, 2});
  CHECK(image_of(make_tga(2, 1, 1, 8, "\x03\x02\x01\x06\x05\x04", 24, std::string("\x01\x00", 2))).pixels ==
        Bytes{4, 5, 6, 1, 2, 3});
}

TEST_CASE("a picture written is the picture read", "[image]") {
  TemporaryFolder folder;
  const auto path = folder.path() / "a.png";
  for (const auto& [height, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 5}, {64, 33}}) {
    const Image image = random_image(height, width, uint64_t(height));
    write_png(path, image);
    CHECK(read_image(path).pixels == image.pixels);
    CHECK(read_image(path).height == height);
    CHECK(text_of(encode_png(image)) == read_file(path));
    LabelMap labels{height, width, Bytes(size_t(height * width))};
    for (size_t i = 0; i < labels.labels.size(); ++i) labels.labels[i] = uint8_t(i % 11 == 0 ? 255 : i);
    write_indexed_png(path, labels, voc_palette());
    CHECK(probe_picture(path).mode == "indexed");
    CHECK(read_label_map(path).labels == labels.labels);
    CHECK(read_image(path).pixels == colorize(labels, voc_palette(), 255).pixels);
    // The same through colours.
    write_png(path, read_image(path));
    CHECK(read_label_map(path, voc_palette()).labels == labels.labels);
  }
}

TEST_CASE("a label map of colours needs a colour table that has them", "[image]") {
  const std::string bytes = make_png({2, 2, 8, 2, false, "", "", "abcdefabcxyz", 6});
  const Palette two = {{'d', 'e', 'f'}, {'a', 'b', 'c'}};
  CHECK_THROWS_AS(labels_of(bytes), DataError);
  CHECK_THROWS_WITH(labels_of(bytes), Contains("test.picture") && Contains("RGB") && Contains("convert"));
  CHECK_THROWS_WITH(labels_of(bytes, two), Contains("(120, 121, 122)") && Contains("row 1, column 1"));
  Palette three = two;
  three.push_back({'x', 'y', 'z'});
  three.push_back({'a', 'b', 'c'});  // the first entry of equal colours counts
  CHECK(labels_of(bytes, three).labels == Bytes{1, 0, 1, 2});
  CHECK_THROWS_AS(labels_of(bytes, Palette(257)), UsageError);
  CHECK_THROWS_WITH(labels_of(make_jpeg(8, 8, Bytes(64, 3), {1})), Contains("JPEG cannot hold labels"));
}

TEST_CASE("labels that are colours are looked up by colour, however the file stores them", "[image]") {
  const Palette table = {{7, 8, 9}, {1, 2, 3}, {4, 5, 6}};
  const std::string palette("\x01\x02\x03\x04\x05\x06\x07\x08\x09", 9);  // another order than the table's
  const std::string indexed = make_png({3, 1, 4, 3, false, palette, "", std::string("\x12\x00", 2), 2});
  CHECK(labels_of(indexed).labels == Bytes{1, 2, 0});
  CHECK(labels_of(indexed, table).labels == Bytes{2, 0, 1});
  CHECK_THROWS_WITH(labels_of(indexed, {{7, 8, 9}, {1, 2, 3}}), Contains("(4, 5, 6)") && Contains("row 0, column 0"));
  const Palette black_and_white = {{255, 255, 255}, {0, 0, 0}};
  CHECK(labels_of(make_png({3, 1, 8, 0, false, "", "", std::string("\xFF\x00\xFF", 3), 3}), black_and_white).labels == Bytes{0, 1, 0});
  CHECK(labels_of(make_png({8, 1, 1, 0, false, "", "", "\xA5", 1}), black_and_white).labels == Bytes{0, 1, 0, 1, 1, 0, 1, 0});
  CHECK_THROWS_AS(labels_of(make_png({2, 1, 8, 0, false, "", "", "\x01\x02", 2}), black_and_white), DataError);
}

TEST_CASE("the VOC palette is that of the development kit", "[image]") {
  const Palette palette = voc_palette();
  REQUIRE(palette.size() == 256);
  const Palette first = {{0, 0, 0},     {128, 0, 0},     {0, 128, 0},    {128, 128, 0},   {0, 0, 128},  {128, 0, 128},
                         {0, 128, 128}, {128, 128, 128}, {64, 0, 0},     {192, 0, 0},     {64, 128, 0}, {192, 128, 0},
                         {64, 0, 128},  {192, 0, 128},   {64, 128, 128}, {192, 128, 128}, {0, 64, 0},   {128, 64, 0},
                         {0, 192, 0},   {128, 192, 0},   {0, 64, 128}};
  CHECK(Palette(palette.begin(), palette.begin() + 21) == first);
  CHECK(palette[255] == Color{224, 224, 192});
  CHECK(std::set<Color>(palette.begin(), palette.end()).size() == 256);
}

TEST_CASE("overlay, colorize and side_by_side draw what they say", "[image]") {
  const Image image{1, 3, {100, 100, 100, 10, 20, 30, 50, 60, 70}};
  const LabelMap labels{1, 3, {1, 255, 0}};
  const Palette palette = {{0, 0, 0}, {200, 0, 101}};
  CHECK(overlay(image, labels, palette, 255).pixels == Bytes{150, 50, 101, 10, 20, 30, 25, 30, 35});
  CHECK(overlay(image, labels, palette, 255, 0).pixels == image.pixels);
  CHECK(overlay(image, labels, palette, 255, 1).pixels == Bytes{200, 0, 101, 10, 20, 30, 0, 0, 0});
  CHECK(colorize(labels, palette, 255).pixels == Bytes{200, 0, 101, 224, 224, 192, 0, 0, 0});
  CHECK_THROWS_AS(colorize(labels, palette, 7), UsageError);
  CHECK_THROWS_WITH(overlay(image, labels, {{0, 0, 0}}, 255), Contains("label 1") && Contains("palette has 1"));
  CHECK_THROWS_WITH(overlay(image, {3, 1, {0, 0, 0}}, palette, 255), Contains("3x1") && Contains("1x3"));
  CHECK_THROWS_AS(overlay(image, labels, palette, 255, 1.5), UsageError);

  const Image tall{2, 1, {1, 2, 3, 4, 5, 6}}, low{1, 1, {7, 8, 9}};
  CHECK(side_by_side({tall, low}, 1).pixels ==
        Bytes{1, 2, 3, 255, 255, 255, 7, 8, 9, 4, 5, 6, 255, 255, 255, 255, 255, 255});
  CHECK(side_by_side({tall}).pixels == tall.pixels);
  CHECK(side_by_side({tall, low}).width == 6);
  CHECK_THROWS_AS(side_by_side({}), UsageError);
  // Together wider than a PNG may be: reduced by the smallest whole factor that helps.
  Image wide{2, 16000, Bytes(2 * 16000 * 3, 5)};
  wide.pixels[3 * 4] = 77;
  const Image both = side_by_side({wide, wide, tall}, 4);
  CHECK(both.height == 2);
  CHECK(both.width == 2 * 16000 + 1 + 8);
  const Image three = side_by_side({wide, tall, wide, wide}, 4);
  CHECK(three.height == 1);
  CHECK(three.width == 3 * 8000 + 1 + 12);
  CHECK(three.pixels[3 * 2] == 77);
  CHECK_NOTHROW(encode_png(three));
}

TEST_CASE("an error map shows wrong pixels in red over a pale picture", "[image]") {
  const Image image{1, 4, {0, 0, 0, 255, 255, 255, 0, 255, 0, 9, 9, 9}};
  const LabelMap labels{1, 4, {1, 2, 3, 255}}, predictions{1, 4, {1, 2, 0, 0}};
  CHECK(error_map(image, labels, predictions, 255).pixels == Bytes{128, 128, 128, 255, 255, 255, 213, 40, 30, 224, 224, 192});
  CHECK_THROWS_WITH(error_map(image, labels, {4, 1, {0, 0, 0, 0}}, 255), Contains("4x1") || Contains("1x4"));
  CHECK_THROWS_AS(error_map({1, 1, {1, 2, 3}}, labels, predictions, 255), UsageError);
}

TEST_CASE("writers refuse what is no picture", "[image]") {
  TemporaryFolder folder;
  const auto path = folder.path() / "a.png";
  CHECK_THROWS_AS(write_png(path, Image{}), UsageError);
  CHECK_THROWS_AS(write_png(path, Image{2, 2, Bytes(11)}), UsageError);
  CHECK_THROWS_AS(write_png(path, Image{-1, -1, Bytes(3)}), UsageError);
  CHECK_THROWS_AS(write_indexed_png(path, {1, 1, {5}}, Palette(5)), UsageError);
  CHECK_THROWS_AS(write_indexed_png(path, {1, 1, {5}}, Palette(257)), UsageError);
  CHECK_THROWS_AS(write_indexed_png(path, {1, 1, {5}}, {}), UsageError);
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_THROWS_AS(write_png(folder.path() / "none" / "a.png", Image{1, 1, Bytes(3)}), IoError);
}

TEST_CASE("the odd pictures of the shared data are read as documented", "[image]") {
  EQ_NEED_SHARED_DATA();
  const auto folder = shared_data() / "edge_images";
  struct Expected {
    const char* file;
    const char* format;
    const char* mode;
    int64_t height, width;
    int bits;
  };
  const std::vector<Expected> all = {
      {"mmcv_color.jpg", "jpeg", "RGB", 300, 400, 8},      {"mmcv_color_exif.jpg", "jpeg", "RGB", 400, 300, 8},
      {"mmcv_grayscale.jpg", "jpeg", "gray", 300, 400, 8}, {"mmcv_grayscale_dim3.jpg", "jpeg", "gray", 300, 400, 8},
      {"mmseg_gray.jpg", "jpeg", "gray", 288, 512, 8},     {"mmcv_gray_alpha.png", "png", "gray+alpha", 400, 500, 8},
      {"mmcv_sparse_flow.png", "png", "RGB", 25, 25, 16},  {"mmseg_seg.png", "png", "indexed", 288, 512, 4},
      {"mmseg_00000_img.jpg", "jpeg", "RGB", 128, 256, 8}, {"mmseg_00000_gt.png", "png", "indexed", 128, 256, 4},
      {"mmseg_00003_img.jpg", "jpeg", "RGB", 128, 256, 8}, {"mmseg_00003_gt.png", "png", "indexed", 128, 256, 4},
  };
  for (const Expected& expected : all) {
    INFO(expected.file);
    const PictureInfo info = probe_picture(folder / expected.file);
    CHECK(info.format == expected.format);
    CHECK(info.mode == expected.mode);
    CHECK(info.height == expected.height);
    CHECK(info.width == expected.width);
    CHECK(info.bits == expected.bits);
    const Image image = read_image(folder / expected.file);
    CHECK(image.height == expected.height);
    CHECK(image.width == expected.width);
    CHECK(image.pixels.size() == size_t(expected.height * expected.width * 3));
  }
  auto values_in = [&](const char* file) {
    const LabelMap map = read_label_map(folder / file);
    return std::set<int>(map.labels.begin(), map.labels.end());
  };
  CHECK(values_in("mmseg_seg.png") == std::set<int>{0, 1});
  CHECK(values_in("mmseg_00000_gt.png") == std::set<int>{0, 2});
  CHECK(values_in("mmseg_00003_gt.png") == std::set<int>{0, 3});
  CHECK_THROWS_AS(read_label_map(folder / "mmcv_sparse_flow.png"), DataError);

  // The turned file equals the stored one turned by hand: orientation 6 shows the first column as the top row, from its
  // bottom.
  std::string bytes = read_file(folder / "mmcv_color_exif.jpg");
  const Image turned = image_of(bytes);
  const size_t exif = bytes.find(std::string("Exif\0\0", 6));
  REQUIRE(exif != std::string::npos);
  bytes[exif] = 'X';  // no longer EXIF
  const Image stored = image_of(bytes);
  REQUIRE(stored.height == 300);
  Bytes by_hand;
  for (int64_t y = 0; y < 400; ++y) {
    for (int64_t x = 0; x < 300; ++x) {
      const auto* pixel = stored.pixels.data() + ((299 - x) * 400 + y) * 3;
      by_hand.insert(by_hand.end(), pixel, pixel + 3);
    }
  }
  CHECK(turned.pixels == by_hand);
}

TEST_CASE("VOC and ADE20K samples keep their label values", "[image]") {
  EQ_NEED_SHARED_DATA();
  std::set<int> voc;
  const auto folder = shared_data() / "voc2012_sample" / "VOCdevkit" / "VOC2012" / "SegmentationClass";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const LabelMap map = read_label_map(entry.path());
    voc.insert(map.labels.begin(), map.labels.end());
    CHECK(read_image(entry.path()).pixels == colorize(map, voc_palette(), 255).pixels);
  }
  CHECK(voc == std::set<int>{0, 3, 8, 12, 15, 16, 18, 255});
  const auto ade = shared_data() / "ade20k_sample" / "ADEChallengeData2016";
  const LabelMap map = read_label_map(ade / "annotations" / "validation" / "ADE_val_00000001.png");
  CHECK(map.height == 512);
  CHECK(map.width == 683);
  CHECK(*std::max_element(map.labels.begin(), map.labels.end()) <= 150);
}
