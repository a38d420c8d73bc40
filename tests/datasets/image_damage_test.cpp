// Pictures that are damaged, hostile or no pictures: one clear error with the file's name, quickly and without much
// memory.

#include <sys/resource.h>
#include <sys/stat.h>

#include <ctime>
#include <fstream>

#include "core/errors.h"
#include "core/limits.h"
#include "datasets/image.h"
#include "fuzz/pictures.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

// A line of /proc/self/status, in MiB.
double memory_of(const std::string& line) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == line) {
      double kibibytes = 0;
      status >> kibibytes;
      return kibibytes / 1024;
    }
  }
  return 0;
}
double peak_memory() { return memory_of("VmHWM:"); }  // resident

// Every way to read `bytes` throws DataError with this reason and the file's name, in little time and memory.
void check_refused(const std::string& bytes, const std::string& reason) {
  TemporaryFolder folder;
  const auto path = folder.path() / "photo.png";
  write_file(path, bytes);
  const double before = peak_memory();
  const std::clock_t start = std::clock();  // of this process, so that a busy machine does not matter
  CHECK_THROWS_AS(read_image(path), DataError);
  CHECK_THROWS_WITH(read_image(path), Contains(path.string()) && Contains(reason));
  CHECK_THROWS_AS(read_label_map(path), DataError);
  CHECK_THROWS_AS(decode_image(span_of(bytes), "name"), DataError);
  CHECK_THROWS_AS(decode_label_map(span_of(bytes), "name", voc_palette()), DataError);
  CHECK(double(std::clock() - start) / CLOCKS_PER_SEC < 2);
  CHECK(peak_memory() - before < 64);
}

std::string small_png() { return make_png({5, 4, 8, 2, false, "", "", std::string(60, 'p'), 15}); }

// All zero, 1 bit a pixel.
std::string blank_png(uint32_t width, uint32_t height) {
  return make_png({width, height, 1, 0, false, "", "", std::string(size_t(width) * height / 8, '\0'), width / 8});
}

Bytes noise(size_t count) {
  Bytes values(count);
  for (size_t i = 0; i < count; ++i) values[i] = uint8_t(i * i * 31 + i * 7);
  return values;
}

// Sets the size in the frame header of a JPEG.
std::string jpeg_of_size(std::string bytes, int height, int width) {
  for (size_t at = 2; at + 9 < bytes.size();) {
    const int marker = uint8_t(bytes[at + 1]);
    if (marker == 0xC0 || marker == 0xC2) {
      bytes[at + 5] = char(height >> 8);
      bytes[at + 6] = char(height);
      bytes[at + 7] = char(width >> 8);
      bytes[at + 8] = char(width);
      return bytes;
    }
    at += 2 + size_t(uint8_t(bytes[at + 2]) << 8 | uint8_t(bytes[at + 3]));
  }
  FAIL("no frame header");
  return bytes;
}

std::string png_of_size(uint32_t width, uint32_t height, int bits = 8, int color = 2) {
  return make_png({width, height, bits, color, false, color == 3 ? "abc" : "", "", std::string(60, 'p'), 15});
}

}  // namespace

TEST_CASE("what is no picture is refused by content", "[image][damage]") {
  check_refused("", "the file is empty");
  check_refused("this is a text file that was named .png by somebody\n", "not a picture");
  check_refused("P", "not a picture");
  check_refused("\xff\xd8", "not a picture");
  check_refused(std::string("\x89PNG", 4), "not a picture");
  check_refused(std::string(1000, '\0'), "not a picture");
  check_refused("GIF89a0123456789", "GIF");
  check_refused(std::string("RIFF\0\0\0\0WEBPVP8 ", 16), "WebP");
  check_refused(std::string("II*\0\x08\0\0\0", 8), "TIFF");
  check_refused(std::string("\0\0\0\x18" "ftypheic", 12), "HEIF");
  check_refused("P3 1 1 255 1 2 3", "Netpbm");
  check_refused("{\"json\": true}", "not a picture");
}

TEST_CASE("folders, pipes and missing files are refused at once", "[image][damage]") {
  TemporaryFolder folder;
  const auto pipe = folder.path() / "pipe.png";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  for (const auto& path : {folder.path(), pipe, folder.path() / "missing.png", std::filesystem::path("/dev/zero")}) {
    INFO(path);
    CHECK_THROWS_AS(read_image(path), IoError);
    CHECK_THROWS_WITH(read_image(path), Contains(path.string()));
    CHECK_THROWS_AS(read_label_map(path), IoError);
    CHECK_THROWS_AS(probe_picture(path), IoError);
  }
  // A sparse file of a terabyte is refused by its size; one that is allowed, by its first bytes.
  const auto large = folder.path() / "large.png";
  write_file(large, "text, then nothing for long");
  REQUIRE(::truncate(large.c_str(), off_t{1} << 40) == 0);
  CHECK_THROWS_WITH(read_image(large), Contains("large.png") && Contains("at most"));
  REQUIRE(::truncate(large.c_str(), off_t(limits::kPictureFileBytes)) == 0);
  const double before = peak_memory();
  CHECK_THROWS_WITH(read_image(large), Contains("not a picture"));
  CHECK(peak_memory() - before < 64);
}

TEST_CASE("a truncated PNG is refused wherever it ends", "[image][damage]") {
  const std::string whole = small_png(),
                    interlaced = make_png({3, 2, 8, 0, true, "", "", "\x01\x03\x02\x04\x05\x06", 0, {1, 1, 1, 3}});
  for (const std::string& bytes : {whole, interlaced}) {
    CHECK(decode_image(span_of(bytes), "x").height > 0);
    for (size_t length = 0; length < bytes.size(); ++length) {
      INFO(length);
      CHECK_THROWS_AS(decode_image(span_of(bytes.substr(0, length)), "x"), DataError);
    }
  }
  check_refused(whole.substr(0, whole.size() / 2), "");
  check_refused(whole.substr(0, whole.size() - 12), "ends too early");
}

TEST_CASE("a PNG with a wrong byte in a critical chunk is refused", "[image][damage]") {
  const std::string whole = small_png();
  // Up to the checksum of the last chunk, which has no data: libpng 1.6.48 looks at that no longer.
  for (size_t at = 8; at + 4 < whole.size(); ++at) {
    std::string broken = whole;
    broken[at] = char(broken[at] ^ 0x10);
    INFO(at);
    CHECK_THROWS_AS(decode_image(span_of(broken), "x"), DataError);
  }
}

TEST_CASE("a truncated JPEG is refused wherever it ends", "[image][damage]") {
  JpegOptions options;
  options.progressive = GENERATE(false, true);
  options.quality = 60;
  const std::string bytes = make_jpeg(24, 40, noise(24 * 40 * 3), options);
  CHECK(decode_image(span_of(bytes), "x").height == 24);
  for (size_t length = 0; length < bytes.size(); length += 1 + length / 50) {
    INFO(length << " of " << bytes.size());
    CHECK_THROWS_AS(decode_image(span_of(bytes.substr(0, length)), "x"), DataError);
  }
  check_refused(bytes.substr(0, bytes.size() / 2), "damaged JPEG: Premature end of JPEG file");
  check_refused(bytes.substr(0, 30), "damaged JPEG");
  // The middle of the data replaced by an early end.
  check_refused(bytes.substr(0, bytes.size() / 2) + "\xff\xd9", "damaged JPEG");
}

TEST_CASE("declared sizes beyond the limits are refused before anything is allocated", "[image][damage]") {
  check_refused(png_of_size(100000, 100000), "100000 x 100000 pixels");
  check_refused(png_of_size(0xFFFFFFFF, 0xFFFFFFFF), "4294967295 x 4294967295");
  check_refused(png_of_size(32769, 1), "32769 x 1");
  check_refused(png_of_size(32768, 32768), "32768 x 32768");
  check_refused(png_of_size(0, 5), "0 x 5 pixels");
  check_refused(png_of_size(5, 0), "5 x 0");
  const std::string jpeg = make_jpeg(16, 16, noise(16 * 16 * 3));
  check_refused(jpeg_of_size(jpeg, 65535, 65535), "65");
  check_refused(jpeg_of_size(jpeg, 65000, 65000), "65000 x 65000 pixels");
  check_refused(jpeg_of_size(jpeg, 0, 16), "JPEG");
  check_refused("P6 100000 100000 255\nabc", "100000 x 100000");
  check_refused("P6 99999999999999999999999 3 255\nabc", "at most 32768");
  check_refused("P6 0 3 255\nabc", "0 x 3");
  check_refused("P6 -1 3 255\nabc", "a number is missing");
  check_refused(make_bmp(100000, 100000, 24, "", "abc"), "100000 x 100000");
  check_refused(make_bmp(-5, 5, 24, "", std::string(100, 'a')), "-5 x 5");
  check_refused(make_bmp(5, -2147483647 - 1, 24, "", std::string(100, 'a')), "5 x 2147483648");
  check_refused(make_tga(65535, 65535, 2, 24, "", 0, "abc"), "65535 x 65535");
}

TEST_CASE("allowed sizes that the file is too short for are refused before anything is allocated", "[image][damage]") {
  check_refused(png_of_size(32768, 4096), "truncated");
  check_refused(png_of_size(16384, 8192, 16, 6), "truncated");
  check_refused(png_of_size(32768, 4096, 1, 0), "truncated");
  check_refused(jpeg_of_size(make_jpeg(16, 16, noise(16 * 16 * 3)), 8192, 16384), "truncated");
  check_refused("P6 16384 8192 255\nabc", "truncated");
  check_refused("P5 2 2 255\nabc", "truncated");
  check_refused("P5 2 2 65535\nabcdefg", "truncated");
  check_refused(make_bmp(16384, 8192, 24, "", "abc"), "truncated");
  check_refused(make_bmp(1, 2, 24, "", "abcdefg"), "truncated");
  check_refused(make_tga(16384, 8192, 2, 24, "", 0, "abc"), "truncated");
  check_refused(make_tga(2, 2, 2, 24, "", 0, "abcdefghijk"), "truncated");
  check_refused(make_tga(16384, 8192, 10, 24, "", 0, "abc"), "truncated");
  check_refused(make_tga(20, 1, 11, 8, "", 0, "\x82\x09\x85\x01"), "ends too early");
  check_refused(make_tga(20, 1, 11, 8, "", 0, "\x13" "abc"), "ends too early");
}

TEST_CASE("other damage is named", "[image][damage]") {
  check_refused("P5 2 2 70000\nabcdefg", "largest value");
  check_refused("P5 2 2 0\nabcdefg", "largest value");
  check_refused("P5 2 2", "a number is missing");
  check_refused("P5 2 2 255", "header does not end");
  check_refused("P5 # only a comment", "a number is missing");
  check_refused(make_bmp(2, 2, 8, std::string(100, 'p'), std::string(100, 'x')), "palette must be complete");
  check_refused(make_bmp(2, 2, 16, "", std::string(100, 'x')), "bits of a pixel");
  check_refused(std::string("BM") + std::string(20, '\0'), "ends in its header");
  std::string packed = make_bmp(2, 2, 24, "", std::string(100, 'x'));
  packed[30] = 1;
  check_refused(packed, "compression");
  check_refused(make_png({3, 1, 4, 3, false, "", "", "ab", 2}), "damaged PNG");  // no palette
  check_refused(make_png({3, 1, 3, 0, false, "", "", "ab", 2}), "damaged PNG");  // no such depth
  check_refused(make_png({3, 1, 8, 5, false, "", "", "abc", 3}), "damaged PNG");  // no such colour type
  check_refused(make_png({3, 2, 8, 0, false, "", "", "abc", 3}), "damaged PNG");  // one row of two
  JpegOptions cmyk;
  cmyk.components = 4;
  check_refused(make_jpeg(8, 8, noise(256), cmyk).substr(0, 300), "damaged JPEG");
}

TEST_CASE("a PNG that would inflate a chunk without end is refused or the chunk is skipped", "[image][damage]") {
  // A text chunk of 16 MiB of zeros, compressed to 16 KiB.
  const std::string zeros(16 << 20, '\0');
  uLongf size = compressBound(uLong(zeros.size()));
  std::string packed(size, '\0');
  REQUIRE(compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(zeros.data()),
                   uLong(zeros.size())) == Z_OK);
  packed.resize(size);
  const double before = peak_memory();
  for (const char* type : {"zTXt", "iCCP"}) {
    const std::string bytes =
        make_png({2, 1, 8, 0, false, "", png_chunk(type, std::string("k\0\0", 3) + packed), "\x01\x02", 2});
    CHECK(decode_label_map(span_of(bytes), "x").labels == Bytes{1, 2});
  }
  CHECK(peak_memory() - before < 8);
}

TEST_CASE("a JPEG of many scans is refused", "[image][damage]") {
  JpegOptions options;
  options.progressive = true;
  const std::string bytes = make_jpeg(16, 16, noise(16 * 16 * 3), options);
  const size_t first = bytes.find("\xff\xda"), second = bytes.find("\xff\xda", first + 2);
  REQUIRE(second != std::string::npos);
  std::string scans;
  for (int i = 0; i < limits::kJpegScans + 1; ++i) scans += bytes.substr(first, second - first);
  check_refused(bytes.substr(0, first) + scans + bytes.substr(first), "more than 256 scans");
}

TEST_CASE("a large picture that compresses well is decoded", "[image][damage]") {
  const LabelMap map = decode_label_map(span_of(blank_png(4096, 4096)), "x");
  CHECK(map.labels.size() == size_t{4096} * 4096);
}

#ifndef __SANITIZE_ADDRESS__  // the sanitizer needs all of the address space
TEST_CASE("a picture that finds no memory is an error, not the end", "[image][damage]") {
  const std::string bytes = blank_png(16384, 8192);  // 128 MiB of labels, as large as the limits allow
  struct rlimit before;
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  struct rlimit small = before;
  small.rlim_cur = rlim_t((memory_of("VmSize:") + 64) * (1 << 20));
  REQUIRE(setrlimit(RLIMIT_AS, &small) == 0);
  std::string message;
  try {
    decode_label_map(span_of(bytes), "large.png");
  } catch (const OutOfMemoryError& error) {
    message = error.what();
  }
  REQUIRE(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK_THAT(message, Contains("no memory") && Contains("large.png"));
}
#endif
