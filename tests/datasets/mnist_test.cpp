#include "datasets/mnist.h"

#include <zlib.h>

#include <algorithm>
#include <filesystem>

#include "core/errors.h"
#include "core/sha256.h"
#include "fuzz/mutate.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

std::string idx(const std::vector<uint32_t>& extents, const std::string& values, char type = 8) {
  std::string bytes = {0, 0, type, char(extents.size())};
  for (uint32_t extent : extents) bytes += {char(extent >> 24), char(extent >> 16), char(extent >> 8), char(extent)};
  return bytes + values;
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = uInt(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

IdxArray decode(const std::string& bytes) {
  return decode_idx({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "some.idx");
}

const std::string kPictures = "aaaabbbbccccddddeeeeffff";  // 4 of 2x3

void write_set(const fs::path& folder, const std::string& labels, const std::string& suffix = "") {
  auto packed = [&](const std::string& bytes) { return suffix.empty() ? bytes : gzip(bytes); };
  write_file(folder / ("train-images-idx3-ubyte" + suffix), packed(idx({4, 2, 3}, kPictures)));
  write_file(folder / ("train-labels-idx1-ubyte" + suffix), packed(idx({uint32_t(labels.size())}, labels)));
}

}  // namespace

TEST_CASE("IDX, plain and compressed", "[mnist]") {
  for (const std::string& bytes : {idx({4, 2, 3}, kPictures), gzip(idx({4, 2, 3}, kPictures))}) {
    const IdxArray array = decode(bytes);
    CHECK(array.extents == std::vector<int64_t>{4, 2, 3});
    CHECK(std::string(array.values.begin(), array.values.end()) == kPictures);
  }
  // Zeros reach deflate's best ratio: the bound on what a small file may claim must let them pass.
  const std::string zeros(3'000'000, '\0');
  const std::string packed = gzip(idx({3000, 1000}, zeros));
  CHECK(zeros.size() / packed.size() > 900);
  CHECK(decode(packed).values == std::vector<uint8_t>(zeros.size(), 0));
}

TEST_CASE("a cut off IDX file is refused at every length", "[mnist]") {
  for (const std::string& bytes : {idx({4, 2, 3}, kPictures), gzip(idx({4, 2, 3}, kPictures))}) {
    for (size_t length = 0; length < bytes.size(); ++length) {
      CAPTURE(length, bytes.size());
      CHECK_THROWS_AS(decode(bytes.substr(0, length)), DataError);
    }
    CHECK_THROWS_WITH(decode(bytes.substr(0, bytes.size() - 1)), Contains("cut off") && Contains("some.idx"));
    CHECK_THROWS_WITH(decode(bytes + "x"), Contains("goes on"));
    CHECK_THROWS_WITH(decode(bytes + bytes), Contains("goes on"));
  }
}

TEST_CASE("damaged gzip data never gives other values", "[mnist]") {
  const std::string good = gzip(idx({4, 2, 3}, kPictures));
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = char(bytes[bit / 8] ^ (1 << bit % 8));
    CAPTURE(bit);
    try {  // the time stamp and the name of the system, and unused bits of the last byte of data, may be anything
      const IdxArray array = decode(bytes);
      CHECK(std::string(array.values.begin(), array.values.end()) == kPictures);
      const size_t byte = bit / 8;
      CHECK(((byte >= 3 && byte < 10) || byte == good.size() - 9));
    } catch (const DataError&) {
    }
  }
  CHECK_THROWS_WITH(decode(good.substr(0, good.size() - 8) + std::string(8, 'x')), Contains("gzip"));
}

TEST_CASE("IDX headers that claim too much or the wrong thing", "[mnist]") {
  CHECK_THROWS_WITH(decode("PK\x03\x04"), Contains("not an IDX file"));
  CHECK_THROWS_WITH(decode(idx({2}, std::string(8, 'f'), 0x0d)), Contains("not bytes"));
  CHECK_THROWS_WITH(decode(idx({}, "")), Contains("axes"));
  CHECK_THROWS_WITH(decode(idx({1, 1, 1, 1, 1}, "a")), Contains("axes"));
  CHECK_THROWS_WITH(decode(idx({2, 0}, "")), Contains("axis 1"));
  const uint32_t most = 0xffffffff;
  CHECK_THROWS_WITH(decode(idx({most, most, most, most}, "abc")), Contains("more than"));
  CHECK_THROWS_WITH(decode(idx({32768, 32768}, "abc")), Contains("too short"));
  CHECK_THROWS_WITH(decode(gzip(idx({32768, 32768}, "abc"))), Contains("too short"));  // a gigabyte is never allocated
}

TEST_CASE("MNIST's folder", "[mnist]") {
  TemporaryFolder folder;
  CHECK_THROWS_WITH(read_mnist(folder.path(), "train"), Contains("train-images-idx3-ubyte"));
  CHECK_THROWS_AS(read_mnist(folder.path() / "missing", "train"), IoError);
  CHECK_THROWS_AS(read_mnist(folder.path(), "val"), UsageError);
  const std::string suffix = GENERATE("", ".gz");
  const std::string labels = {0, 9, 3, 3};
  write_set(folder.path(), labels, suffix);
  const DigitSet set = read_mnist(folder.path(), "train");
  CHECK(set.count == 4);
  CHECK(set.height == 2);
  CHECK(set.width == 3);
  CHECK(set.pixels.size() == 24);
  CHECK(set.labels == std::vector<uint8_t>{0, 9, 3, 3});
  CHECK_THROWS_WITH(read_mnist(folder.path(), "test"), Contains("t10k-images"));
  write_set(folder.path(), {0, 9, 10, 3}, suffix);
  CHECK_THROWS_WITH(read_mnist(folder.path(), "train"), Contains("label 2 is 10") && Contains("train-labels"));
  write_set(folder.path(), {0, 9, 3}, suffix);
  CHECK_THROWS_WITH(read_mnist(folder.path(), "train"), Contains("3 labels and 4 pictures"));
  write_file(folder.path() / ("train-images-idx3-ubyte" + suffix), idx({4, 6}, kPictures));
  CHECK_THROWS_WITH(read_mnist(folder.path(), "train"), Contains("3 axes"));
}

TEST_CASE("drawn digits are the same bytes on every machine", "[mnist]") {
  const DigitSet set = draw_digits(300, 7);
  REQUIRE(set.pixels.size() == 300 * 28 * 28);
  CHECK(sha256_hex(set.pixels.data(), set.pixels.size()) == "ffdc87ff6581097e0460d60af683755847522db3e6fda4e0b32ece37a0ffcff4");
  for (int digit = 0; digit < 10; ++digit) CHECK(std::count(set.labels.begin(), set.labels.end(), digit) > 10);
  const DigitSet fewer = draw_digits(2, 7);
  CHECK(std::equal(fewer.pixels.begin(), fewer.pixels.end(), set.pixels.begin()));
  CHECK(draw_digits(2, 8).pixels != fewer.pixels);
}

TEST_CASE("IDX survives mutation", "[mnist][fuzz]") {
  fuzz({idx({4, 2, 3}, kPictures), gzip(idx({4, 2, 3}, kPictures)), idx({3}, "abc")}, 4000, 6, [](const std::string& bytes) {
    const IdxArray array = decode(bytes);
    int64_t values = 1;
    for (int64_t extent : array.extents) values *= extent;
    if (int64_t(array.values.size()) != values) throw std::runtime_error("the extents do not fit the values");
  });
}

TEST_CASE("the real MNIST", "[mnist][shared]") {
  EQ_NEED_SHARED_DATA();
  const DigitSet train = read_mnist(shared_data() / "mnist", "train"), test = read_mnist(shared_data() / "mnist", "test");
  CHECK(train.count == 60000);
  CHECK(test.count == 10000);
  CHECK(test.height == 28);
  CHECK(test.width == 28);
  CHECK(std::vector<int>(train.labels.begin(), train.labels.begin() + 10) == std::vector<int>{5, 0, 4, 1, 9, 2, 1, 3, 1, 4});
  CHECK(std::count(train.labels.begin(), train.labels.end(), 1) == 6742);
  CHECK(std::count(test.labels.begin(), test.labels.end(), 1) == 1135);
}
