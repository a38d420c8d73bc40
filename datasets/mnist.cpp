#include "datasets/mnist.h"

#include <zlib.h>

#include <algorithm>

#include "core/errors.h"
#include "core/file.h"
#include "core/limits.h"
#include "core/random.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

constexpr int kMostAxes = 4;
constexpr uint64_t kMostValues = limits::kPictureFileBytes;
constexpr uint64_t kLargestRatio = 1032;  // deflate cannot expand more, so a small file never makes us allocate much
constexpr uint64_t kHeldBytes = 16;       // of input that zlib may have taken and not yet used

[[noreturn]] void refuse(const std::string& name, const std::string& what) {
  throw DataError(what, name, "download the file again");
}

// The bytes of an IDX file one after the other, out of a gzip stream or as they are.
class ByteSource {
 public:
  ByteSource(std::span<const uint8_t> bytes, const std::string& name) : rest_(bytes), name_(name) {
    compressed_ = bytes.size() >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
    if (!compressed_) return;
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw OutOfMemoryError("zlib cannot start", name, "free some memory");
    stream_.next_in = const_cast<Bytef*>(bytes.data());
    stream_.avail_in = uInt(bytes.size());
  }
  ~ByteSource() {
    if (compressed_) inflateEnd(&stream_);
  }
  ByteSource(const ByteSource&) = delete;

  // At most this many bytes can come.
  uint64_t most() const { return compressed_ ? kLargestRatio * (uint64_t(stream_.avail_in) + kHeldBytes) : rest_.size(); }

  void read(uint8_t* out, size_t count) {
    if (take(out, count) != count) refuse(name_, "the file is cut off");
  }
  void require_end() {
    uint8_t extra;
    if (take(&extra, 1) != 0 || (compressed_ && stream_.avail_in > 0)) {
      refuse(name_, "the file goes on after its last value");
    }
    if (compressed_ && !ended_) refuse(name_, "the file is cut off");  // in the checksum
  }

 private:
  // How many bytes came; fewer than `count` at the end only.
  size_t take(uint8_t* out, size_t count) {
    if (!compressed_) {
      const size_t taken = std::min(count, rest_.size());
      std::copy_n(rest_.begin(), taken, out);
      rest_ = rest_.subspan(taken);
      return taken;
    }
    stream_.next_out = out;
    stream_.avail_out = uInt(count);
    while (!ended_ && stream_.avail_out > 0) {
      const int status = inflate(&stream_, Z_NO_FLUSH);
      ended_ = status == Z_STREAM_END;
      if (status == Z_BUF_ERROR) break;  // no input is left
      if (status == Z_OK || ended_) continue;
      refuse(name_, std::string("damaged gzip data") + (stream_.msg ? std::string(": ") + stream_.msg : ""));
    }
    return count - stream_.avail_out;
  }

  std::span<const uint8_t> rest_;
  const std::string& name_;
  bool compressed_ = false, ended_ = false;
  z_stream stream_{};
};

std::string existing(const fs::path& folder, const std::string& name) {
  for (const char* suffix : {"", ".gz"}) {
    if (fs::exists(folder / (name + suffix))) return name + suffix;
  }
  throw IoError("there is no " + name + " and no " + name + ".gz", folder.string(),
                "give the folder that holds the four files of MNIST");
}

}  // namespace

IdxArray decode_idx(std::span<const uint8_t> bytes, const std::string& name) {
  ByteSource source(bytes, name);
  uint8_t head[4];
  source.read(head, sizeof head);
  if (head[0] != 0 || head[1] != 0) refuse(name, "not an IDX file");
  if (head[2] != 8) refuse(name, "the values of this IDX file are not bytes (type " + std::to_string(head[2]) + ")");
  const int axes = head[3];
  if (axes < 1 || axes > kMostAxes) refuse(name, "this IDX file has " + std::to_string(axes) + " axes; 1 to 4 are read");
  IdxArray array;
  uint64_t values = 1;
  for (int axis = 0; axis < axes; ++axis) {
    uint8_t extent[4];
    source.read(extent, sizeof extent);
    const uint64_t cells = uint64_t(extent[0]) << 24 | uint64_t(extent[1]) << 16 | uint64_t(extent[2]) << 8 | extent[3];
    if (cells == 0) refuse(name, "axis " + std::to_string(axis) + " has no cells");
    array.extents.push_back(int64_t(cells));
    values *= cells;  // below 2^30 before, so below 2^62
    if (values > kMostValues) refuse(name, "the values would take more than " + std::to_string(kMostValues) + " bytes");
  }
  if (values > source.most()) refuse(name, "the file is cut off: it is too short for " + std::to_string(values) + " values");
  array.values.resize(values);
  source.read(array.values.data(), array.values.size());
  source.require_end();
  return array;
}

IdxArray read_idx(const fs::path& path) { return decode_idx(read_file(path, limits::kPictureFileBytes), path.string()); }

DigitSet read_mnist(const fs::path& folder, const std::string& split) {
  if (split != "train" && split != "test") {
    throw UsageError("MNIST has no split '" + split + "'", "read_mnist", "use train or test");
  }
  const std::string stem = split == "train" ? "train" : "t10k";
  const fs::path image_file = folder / existing(folder, stem + "-images-idx3-ubyte");
  const fs::path label_file = folder / existing(folder, stem + "-labels-idx1-ubyte");
  IdxArray images = read_idx(image_file), labels = read_idx(label_file);
  auto number = [](int64_t value) { return std::to_string(value); };
  auto axes = [](const IdxArray& array) { return int64_t(array.extents.size()); };
  if (axes(images) != 3) refuse(image_file.string(), "pictures have 3 axes, this file has " + number(axes(images)));
  if (axes(labels) != 1) refuse(label_file.string(), "labels have 1 axis, this file has " + number(axes(labels)));
  if (images.extents[0] != labels.extents[0]) {
    refuse(label_file.string(), "there are " + number(labels.extents[0]) + " labels and " + number(images.extents[0]) + " pictures");
  }
  const auto bad = std::find_if(labels.values.begin(), labels.values.end(), [](uint8_t label) { return label > 9; });
  if (bad != labels.values.end()) {
    refuse(label_file.string(), "label " + number(bad - labels.values.begin()) + " is " + number(*bad) + "; digits are 0 to 9");
  }
  return {images.extents[0], images.extents[1], images.extents[2], std::move(images.values), std::move(labels.values)};
}

DigitSet draw_digits(int64_t count, uint64_t seed) {
  constexpr int kFont[10] = {0b111'101'101'101'111, 0b010'110'010'010'111, 0b111'001'111'100'111, 0b111'001'111'001'111,
                             0b101'101'111'001'001, 0b111'100'111'001'111, 0b111'100'111'101'111, 0b111'001'001'001'001,
                             0b111'101'111'101'111, 0b111'101'111'001'111};
  constexpr int kSide = 28, kSquare = 4, kColumns = 3, kRows = 5;
  DigitSet set{count, kSide, kSide, {}, {}};
  for (int64_t i = 0; i < count; ++i) {
    Random random(seed, uint64_t(i));
    const int digit = int(random.uniform_int(0, 10));
    const int top = int(random.uniform_int(3, 6)), left = int(random.uniform_int(6, 11));
    set.labels.push_back(uint8_t(digit));
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) {
        const bool inside = y >= top && x >= left && y < top + kRows * kSquare && x < left + kColumns * kSquare;
        const int square = (y - top) / kSquare * kColumns + (x - left) / kSquare;  // row by row, the first is the highest bit
        const bool ink = inside && (kFont[digit] >> (kRows * kColumns - 1 - square) & 1) != 0;
        set.pixels.push_back(uint8_t(ink ? random.uniform_int(120, 256) : random.uniform_int(0, 140)));
      }
    }
  }
  return set;
}

}  // namespace eq
