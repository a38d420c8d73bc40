#include "core/protobuf.h"

#include <bit>

namespace eq {
namespace {

enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };

// Seven bits a byte, the lowest first; all bytes but the last have the high bit set.
void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += char(value | 0x80);
  out += char(value);
}

void append_tag(std::string& out, int field, WireType type) { append_varint(out, uint64_t(field) << 3 | type); }

template <class Bits>
void append_little_endian(std::string& out, Bits bits) {
  for (size_t i = 0; i < sizeof bits; ++i) out += char(bits >> (8 * i));
}

}  // namespace

void ProtobufMessage::varint(int field, uint64_t value) {
  append_tag(data_, field, kVarint);
  append_varint(data_, value);
}

void ProtobufMessage::fixed32(int field, float value) {
  append_tag(data_, field, kFixed32);
  append_little_endian(data_, std::bit_cast<uint32_t>(value));
}

void ProtobufMessage::fixed64(int field, double value) {
  append_tag(data_, field, kFixed64);
  append_little_endian(data_, std::bit_cast<uint64_t>(value));
}

void ProtobufMessage::bytes(int field, std::string_view value) {
  append_tag(data_, field, kLengthDelimited);
  append_varint(data_, value.size());
  data_ += value;
}

void ProtobufMessage::message(int field, const ProtobufMessage& value) { bytes(field, value.data_); }

void ProtobufMessage::packed(int field, std::span<const int64_t> values) {
  if (values.empty()) return;
  std::string elements;
  for (const int64_t value : values) append_varint(elements, uint64_t(value));
  bytes(field, elements);
}

}  // namespace eq
