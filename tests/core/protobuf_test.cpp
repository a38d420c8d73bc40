#include "core/protobuf.h"

#include <limits>
#include <vector>

#include "support.h"

using namespace eq;

namespace {

// "08 96 01"
std::string hex_of(const ProtobufMessage& message) {
  std::string text;
  for (const char c : message.data()) {
    const auto byte = static_cast<unsigned char>(c);
    text += text.empty() ? "" : " ";
    for (const int digit : {byte >> 4, byte & 15}) text += "0123456789abcdef"[digit];
  }
  return text;
}

template <class Write>
std::string encoded(const Write& write) {
  ProtobufMessage message;
  write(message);
  return hex_of(message);
}

}  // namespace

// The examples of https://protobuf.dev/programming-guides/encoding where it has one.
TEST_CASE("each type of field has the bytes that protobuf's documentation gives it", "[protobuf]") {
  CHECK(encoded([](auto&) {}) == "");
  CHECK(encoded([](auto& m) { m.varint(1, 150); }) == "08 96 01");
  CHECK(encoded([](auto& m) { m.bytes(2, "testing"); }) == "12 07 74 65 73 74 69 6e 67");
  CHECK(encoded([](auto& m) { m.varint(1, uint64_t(int64_t{-2})); }) == "08 fe ff ff ff ff ff ff ff ff 01");
  CHECK(encoded([](auto& m) { m.packed(6, std::vector<int64_t>{3, 270, 86942}); }) == "32 06 03 8e 02 9e a7 05");
  CHECK(encoded([](auto& m) { m.fixed32(1, 1.0f); }) == "0d 00 00 80 3f");
  CHECK(encoded([](auto& m) { m.fixed64(1, -1.0); }) == "09 00 00 00 00 00 00 f0 bf");
  CHECK(encoded([](auto& m) {
          ProtobufMessage inner;
          inner.varint(1, 150);
          m.message(3, inner);
        }) == "1a 03 08 96 01");
}

TEST_CASE("protobuf's edges: zero, the largest values, nothing, bytes of any value, high field numbers", "[protobuf]") {
  CHECK(encoded([](auto& m) { m.varint(1, 0); }) == "08 00");
  CHECK(encoded([](auto& m) { m.varint(1, 127); }) == "08 7f");
  CHECK(encoded([](auto& m) { m.varint(1, 128); }) == "08 80 01");
  CHECK(encoded([](auto& m) { m.varint(1, std::numeric_limits<uint64_t>::max()); }) == "08 ff ff ff ff ff ff ff ff ff 01");
  CHECK(encoded([](auto& m) { m.packed(1, std::vector<int64_t>{-1, 0}); }) == "0a 0b ff ff ff ff ff ff ff ff ff 01 00");
  CHECK(encoded([](auto& m) { m.packed(1, {}); }) == "");
  CHECK(encoded([](auto& m) { m.bytes(1, ""); }) == "0a 00");
  CHECK(encoded([](auto& m) { m.message(1, {}); }) == "0a 00");
  CHECK(encoded([](auto& m) { m.bytes(1, std::string_view("\0\xff", 2)); }) == "0a 02 00 ff");
  CHECK(encoded([](auto& m) { m.varint(16, 1); }) == "80 01 01");
  ProtobufMessage twice;  // a repeated field, its length in two bytes
  twice.bytes(1, std::string(200, 'a'));
  twice.bytes(1, "b");
  CHECK(twice.data() == "\x0a\xc8\x01" + std::string(200, 'a') + "\x0a\x01" "b");
}
