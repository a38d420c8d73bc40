#pragma once
// Writes messages of Protocol Buffers, for files of other programs that are made of them: the wire format only. A schema, here the numbers
// and types of a message's fields, is the caller's knowledge. https://protobuf.dev/programming-guides/encoding

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace eq {

// Fields are in the order of the calls; a repeated one is a call for each element. Field numbers begin at 1.
class ProtobufMessage {
 public:
  void varint(int field, uint64_t value);    // bool, enum, uint64; int32 and int64 too: negative ones are converted, and take ten bytes
  void fixed32(int field, float value);      // float
  void fixed64(int field, double value);     // double
  void bytes(int field, std::string_view value);                   // string, bytes
  void message(int field, const ProtobufMessage& value);
  void packed(int field, std::span<const int64_t> values);         // repeated int64, as proto3 writes it; none: no field
  const std::string& data() const { return data_; }

 private:
  std::string data_;
};

}  // namespace eq
