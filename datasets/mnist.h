#pragma once
// IDX files, the format of MNIST (LeCun, Cortes, Burges), plain or compressed by gzip: two zero bytes, the type of the
// values (8: bytes), the number of axes, each extent as a big-endian 32-bit number, the values.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace eq {

struct IdxArray {
  std::vector<int64_t> extents;
  std::vector<uint8_t> values;  // row-major
};

// By content, whatever the name. The values may take as many bytes as a picture file (core/limits.h). Throws IoError
// (cannot be read) and DataError naming the file: not IDX, values other than bytes, an extent of 0, too large, cut off,
// damaged (gzip's checksum is verified), or bytes after the end.
IdxArray read_idx(const std::filesystem::path& path);
IdxArray decode_idx(std::span<const uint8_t> bytes, const std::string& name);

struct DigitSet {  // gray pictures of one size with a class each
  int64_t count = 0, height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [count, height, width], 0 is paper
  std::vector<uint8_t> labels;  // [count], 0 .. 9
};

// train-images-idx3-ubyte and train-labels-idx1-ubyte, or t10k-… for "test", with or without ".gz". Throws UsageError
// for another split, IoError and DataError as above, and when pictures and labels are not equally many or a label is
// above 9 (naming the file and its index).
DigitSet read_mnist(const std::filesystem::path& folder, const std::string& split);

// A stand-in where MNIST is absent: 28x28, digits of 3x5 squares, shifted a little, of uneven ink, on noisy paper. A
// function of (seed, index) in integers: the same bytes on every machine.
DigitSet draw_digits(int64_t count, uint64_t seed);

}  // namespace eq
