#include "core/safetensors.h"

#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "core/limits.h"
#include "support.h"

using namespace eq;
using Catch::Contains;
using test::TemporaryFolder;

namespace {

std::string file_of(const std::string& header, const std::string& data, uint64_t declared) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &declared, 8);
  return bytes + header + data;
}
std::string file_of(const std::string& header, const std::string& data) { return file_of(header, data, header.size()); }

std::string braced(const std::string& inside) { return fmt::format("{{{}}}", inside); }

WeightsFile parse(const std::string& bytes) {
  return parse_safetensors({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, "weights.safetensors");
}

void check_refused(const std::string& bytes, const std::string& tensor, const std::string& reason) {
  INFO(bytes.substr(0, 200));
  CHECK_THROWS_AS(parse(bytes), DataError);
  CHECK_THROWS_WITH(parse(bytes), Contains("weights.safetensors") && Contains(tensor) && Contains(reason));
}

std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, type, shape, offsets);
}

std::map<std::string, Tensor> one_of_each() {
  std::map<std::string, Tensor> tensors;
  tensors["f32"] = test::random_tensor({2, 3, 4}, 1, DType::kFloat32);
  tensors["f64"] = test::random_tensor({5}, 2);
  tensors["i32"] = Tensor::from<int32_t>({-2147483647 - 1, 2147483647}, {2});
  tensors["i64"] = Tensor::from<int64_t>({std::numeric_limits<int64_t>::min(), 7, -1}, {3, 1});
  tensors["u8"] = Tensor::from<uint8_t>({0, 1, 254, 255}, {2, 2});
  tensors["bool"] = Tensor::from<bool>({true, false, true}, {3});
  tensors["scalar"] = Tensor::scalar(0.25);
  tensors["empty"] = Tensor::empty({3, 0, 2});
  tensors["deep"] = test::random_tensor({1, 2, 1, 2, 1, 2, 1, 2}, 3);
  return tensors;
}

}  // namespace

TEST_CASE("safetensors come back as they were written", "[safetensors]") {
  TemporaryFolder folder;
  const auto tensors = one_of_each();
  write_safetensors(folder.path() / "a", tensors, {{"format", "pt"}, {"note", "caf\xc3\xa9 \"quoted\"\n"}});
  const WeightsFile file = read_safetensors(folder.path() / "a");
  CHECK(file.metadata == std::map<std::string, std::string>{{"format", "pt"}, {"note", "caf\xc3\xa9 \"quoted\"\n"}});
  REQUIRE(file.tensors.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    INFO(name);
    CHECK(test::bit_equal(file.tensors.at(name), tensor));
    CHECK(reinterpret_cast<uintptr_t>(file.tensors.at(name).raw_data()) % 64 == 0);
  }
  const std::string bytes = test::read_file(folder.path() / "a");
  const WeightsFile parsed = parse(bytes);
  for (const auto& [name, tensor] : tensors) CHECK(test::bit_equal(parsed.tensors.at(name), tensor));
  // NaN and infinity are values like others.
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const Tensor odd = Tensor::from<float>({nan, infinity, -0.0f}, {3});
  write_safetensors(folder.path() / "b", {{"odd", odd}});
  CHECK(test::bit_equal(read_safetensors(folder.path() / "b").tensors.at("odd"), odd));
}

TEST_CASE("a file of no tensors is a file", "[safetensors]") {
  TemporaryFolder folder;
  write_safetensors(folder.path() / "a", {});
  CHECK(read_safetensors(folder.path() / "a").tensors.empty());
  write_safetensors(folder.path() / "a", {}, {{"k", "v"}});
  CHECK(read_safetensors(folder.path() / "a").metadata.at("k") == "v");
}

TEST_CASE("the writer pads the header, puts large elements first and then goes by name", "[safetensors]") {
  TemporaryFolder folder;
  write_safetensors(folder.path() / "a", one_of_each(), {{"k", "v"}});
  const std::string bytes = test::read_file(folder.path() / "a");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK((8 + length) % 64 == 0);
  const nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
  CHECK(header["__metadata__"] == nlohmann::json({{"k", "v"}}));
  std::map<uint64_t, std::string> order;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__" || name == "empty") continue;
    order[value["data_offsets"][0].get<uint64_t>()] = name;
    const std::string type = value["dtype"];
    const uint64_t size = type == "F64" || type == "I64" ? 8 : type == "F32" || type == "I32" ? 4 : 1;
    CHECK(value["data_offsets"][0].get<uint64_t>() % size == 0);
  }
  std::vector<std::string> names;
  for (const auto& [offset, name] : order) names.push_back(name);
  CHECK(names == std::vector<std::string>{"deep", "f64", "i64", "f32", "i32", "scalar", "bool", "u8"});
  write_safetensors(folder.path() / "b", one_of_each(), {{"k", "v"}});
  CHECK(test::read_file(folder.path() / "b") == bytes);
}

TEST_CASE("a minimal file written by hand is read, at any alignment", "[safetensors]") {
  const std::string data("\x01\x00\x00\x80\x3f\x00\x00\x00\x40", 9);
  const WeightsFile file = parse(file_of(braced(entry("b", "U8", "[1]", "[0,1]") + "," + entry("a", "F32", "[2]", "[1,9]")) + "  ", data));
  CHECK(file.tensors.at("a").to_vector<float>() == std::vector<float>{1, 2});
  CHECK(file.tensors.at("b").to_vector<uint8_t>() == std::vector<uint8_t>{1});
  CHECK(parse(file_of(braced(entry("s", "F32", "[]", "[0,4]")), data.substr(1, 4))).tensors.at("s").item() == 1);
}

TEST_CASE("half precision is widened exactly", "[safetensors]") {
  auto value_of = [](const char* type, uint16_t bits) {
    return parse(file_of(braced(entry("h", type, "[]", "[0,2]")), std::string(reinterpret_cast<char*>(&bits), 2)))
        .tensors.at("h")
        .item();
  };
  CHECK(value_of("F16", 0x3c00) == 1);
  CHECK(value_of("F16", 0xc000) == -2);
  CHECK(value_of("F16", 0x7bff) == 65504);
  CHECK(value_of("F16", 0x0400) == std::ldexp(1.0, -14));
  CHECK(value_of("F16", 0x0001) == std::ldexp(1.0, -24));
  CHECK(value_of("F16", 0x83ff) == -1023 * std::ldexp(1.0, -24));
  CHECK(std::signbit(value_of("F16", 0x8000)));
  CHECK(value_of("F16", 0xfc00) == -std::numeric_limits<double>::infinity());
  CHECK(std::isnan(value_of("F16", 0x7e00)));
  CHECK(value_of("BF16", 0x3f80) == 1);
  CHECK(value_of("BF16", 0xc049) == -3.140625);
  CHECK(std::isnan(value_of("BF16", 0x7fc0)));
  // Every finite half, against the definition: (-1)^s 2^(e-15) (1 + m/1024), or 2^-14 m/1024 for e = 0.
  std::string data;
  std::vector<double> expected;
  for (int bits = 0; bits < 65536; ++bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    if (exponent == 31) continue;
    data += char(bits & 255);
    data += char(bits >> 8);
    const double size = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    expected.push_back(bits & 0x8000 ? -size : size);
  }
  const std::string count = std::to_string(expected.size()), end = std::to_string(data.size());
  const Tensor all =
      parse(file_of(braced(entry("h", "F16", "[" + count + "]", "[0," + end + "]")), data)).tensors.at("h");
  CHECK(all.dtype() == DType::kFloat32);
  CHECK(all.to(DType::kFloat64).to_vector<double>() == expected);
}

TEST_CASE("the reader refuses a damaged frame", "[safetensors]") {
  const std::string header = braced(entry("w", "F32", "[2]", "[0,8]")), good = file_of(header, std::string(8, 'x'));
  CHECK(parse(good).tensors.count("w") == 1);
  for (size_t length = 0; length < good.size(); ++length) {
    CHECK_THROWS_AS(parse(good.substr(0, length)), DataError);
  }
  check_refused("", "", "0 bytes");
  check_refused(good.substr(0, good.size() - 1), "\"w\"", "truncated");
  check_refused(good + "y", "", "1 bytes follow the last tensor");
  check_refused(file_of("{}", "y"), "", "1 bytes follow");
  check_refused(file_of(header, std::string(8, 'x'), limits::kSafetensorsHeader + 1), "", "at most 16777216");
  check_refused(file_of(header, std::string(8, 'x'), ~uint64_t{0}), "", "at most 16777216");
  check_refused(file_of(header, "", 10000), "", "truncated");
  check_refused(file_of("", ""), "", "does not begin with {");
  check_refused(file_of(" " + header, std::string(8, 'x')), "", "does not begin with {");
  check_refused(file_of("[]", ""), "", "does not begin with {");
  check_refused(std::string("PK\3\4\24\0\0\0archive/data.pkl", 24), "", "this is a zip archive");
  check_refused(file_of(header + "{}", std::string(8, 'x')), "", "not valid JSON");
  check_refused(file_of(header + std::string(1, '\0'), std::string(8, 'x')), "", "NUL");
  check_refused(file_of("{\"w\":", ""), "", "not valid JSON at byte");
}

TEST_CASE("the reader refuses each broken rule of the header", "[safetensors]") {
  auto refused = [](const std::string& inside, size_t bytes, const std::string& tensor, const std::string& reason) {
    check_refused(file_of(braced(inside), std::string(bytes, '\0')), tensor, reason);
  };
  // The data: overlap, gap, order, end.
  refused(entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[4]", "[2,6]"), 6, "\"b\"", "overlap");
  refused(entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[4]", "[0,4]"), 4, "\"b\"", "overlap");
  refused(entry("a", "U8", "[4]", "[0,4]") + "," + entry("b", "U8", "[4]", "[5,9]"), 9, "\"b\"", "gap of 1 bytes");
  refused(entry("a", "U8", "[4]", "[1,5]"), 5, "\"a\"", "gap of 1 bytes");
  refused(entry("a", "U8", "[4]", "[4,0]"), 4, "\"a\"", "backwards");
  refused(entry("a", "U8", "[5]", "[0,5]"), 4, "\"a\"", "truncated");
  refused(entry("a", "U8", "[4]", "[0,5]"), 5, "\"a\"", "the shape needs 4 bytes, data_offsets give 5");
  refused(entry("a", "U8", "[4]", "[18446744073709551612,18446744073709551616]"), 4, "\"a\"", "data_offsets contains");
  refused(entry("a", "U8", "[4]", "[18446744073709551611,18446744073709551615]"), 4, "\"a\"", "truncated");
  refused(entry("a", "U8", "[0]", "[3,3]"), 0, "\"a\"", "truncated");
  // Shapes.
  refused(entry("a", "F32", "[4611686018427387904,4611686018427387904]", "[0,0]"), 0, "\"a\"", "overflows");
  refused(entry("a", "F32", "[4294967296,4294967296]", "[0,0]"), 0, "\"a\"", "overflows");
  refused(entry("a", "F64", "[2305843009213693952]", "[0,0]"), 0, "\"a\"", "overflows");
  refused(entry("a", "F32", "[0,9223372036854775808]", "[0,0]"), 0, "\"a\"", "overflows");
  refused(entry("a", "F32", "[0,4611686018427387904,4]", "[0,0]"), 0, "\"a\"", "overflows");
  refused(entry("a", "F32", "[18446744073709551616]", "[0,0]"), 0, "\"a\"", "whole number");
  refused(entry("a", "F32", "[-1]", "[0,4]"), 4, "\"a\"", "negative number -1");
  refused(entry("a", "F32", "[1.0]", "[0,4]"), 4, "\"a\"", "whole number");
  refused(entry("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "\"a\"", "more than 8 axes");
  refused(entry("a", "F32", "[[1]]", "[0,4]"), 4, "\"a\"", "a list");
  refused(entry("a", "F32", "[\"1\"]", "[0,4]"), 4, "\"a\"", "the text");
  refused(entry("a", "F32", "[null]", "[0,4]"), 4, "\"a\"", "null");
  refused(entry("a", "F32", "[true]", "[0,4]"), 4, "\"a\"", "true or false");
  refused(entry("a", "F32", "1", "[0,4]"), 4, "\"a\"", "shape");
  refused(entry("a", "F32", "[1]", "[-4,0]"), 4, "\"a\"", "negative number -4");
  refused(entry("a", "F32", "[1]", "[0,4,4]"), 4, "\"a\"", "more than two");
  refused(entry("a", "F32", "[1]", "[4]"), 4, "\"a\"", "two numbers");
  refused(entry("a", "F32", "[1]", "{}"), 4, "\"a\"", "an object");
  // Types.
  refused(entry("a", "F33", "[1]", "[0,4]"), 4, "\"a\"", "unknown element type \"F33\"");
  refused(entry("a", "U16", "[1]", "[0,2]"), 2, "\"a\"", "U16 is not supported");
  refused(entry("a", "F8_E4M3", "[1]", "[0,1]"), 1, "\"a\"", "F8_E4M3 is not supported");
  refused("\"a\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}", 4, "\"a\"", "dtype cannot be");
  // Fields and names.
  refused("\"a\":{\"dtype\":\"F32\",\"shape\":[1]}", 4, "\"a\"", "data_offsets");
  refused("\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}", 4, "\"a\"", "dtype is missing");
  refused("\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}", 4, "\"a\"", "shape is missing");
  refused("\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4, "\"a\"",
          "occurs twice");
  refused("\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}", 4, "\"a\"", "unknown field \"x\"");
  refused("\"a\":3", 0, "\"a\"", "must be an object");
  refused("\"a\":[]", 0, "\"a\"", "must be an object");
  refused(entry("a", "U8", "[1]", "[0,1]") + "," + entry("a", "U8", "[1]", "[1,2]"), 2, "\"a\"", "twice");
  refused("\"__metadata__\":{\"k\":1}", 0, "\"k\"", "text only");
  refused("\"__metadata__\":{\"k\":{}}", 0, "\"k\"", "text only");
  refused("\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}", 0, "\"k\"", "twice");
  refused("\"__metadata__\":\"text\"", 0, "__metadata__", "must be an object");
  refused("\"a\xff\":{}", 0, "", "UTF-8");
  // Deep nesting, and a name that is too long for a message.
  refused("\"a\":" + std::string(100000, '['), 0, "\"a\"", "must be an object");
  refused("\"a\":{\"shape\":" + std::string(100000, '['), 0, "\"a\"", "a list");
  try {
    parse(file_of("{\"" + std::string(100000, 'n') + "\":3}", ""));
    FAIL("accepted");
  } catch (const DataError& error) {
    CHECK(std::string(error.what()).size() < 500);
  }
  // A BOOL is 0 or 1.
  check_refused(file_of(braced(entry("a", "BOOL", "[2]", "[0,2]")), std::string("\x01\x02", 2)), "\"a\"",
                "element 1 of a BOOL tensor is 2");
}

TEST_CASE("the reader counts tensors", "[safetensors]") {
  std::string header = "{\"__metadata__\":{}";
  for (size_t i = 0; i < limits::kSafetensorsTensors; ++i) {
    header += ",\"" + std::to_string(i) + "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}";
  }
  CHECK(parse(file_of(header + "}", "")).tensors.size() == limits::kSafetensorsTensors);
  check_refused(file_of(header + ",\"more\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", ""), "",
                "more than 65536 tensors");
}

TEST_CASE("files that are no safetensors are refused by name", "[safetensors]") {
  TemporaryFolder folder;
  CHECK_THROWS_AS(read_safetensors(folder.path() / "missing.safetensors"), IoError);
  CHECK_THROWS_WITH(read_safetensors(folder.path() / "missing.safetensors"), Contains("missing.safetensors"));
  CHECK_THROWS_AS(read_safetensors(folder.path()), IoError);
  test::write_file(folder.path() / "text", "this is a text file that is longer than eight bytes");
  CHECK_THROWS_WITH(read_safetensors(folder.path() / "text"), Contains("text") && Contains("at most"));
}

TEST_CASE("the writer refuses what could not be read again", "[safetensors]") {
  TemporaryFolder folder;
  const auto path = folder.path() / "a";
  CHECK_THROWS_AS(write_safetensors(path, {{"__metadata__", Tensor::scalar(1)}}), UsageError);
  CHECK_THROWS_AS(write_safetensors(path, {{"w", Tensor()}}), UsageError);
  CHECK_THROWS_WITH(write_safetensors(path, {{"w\xff", Tensor::scalar(1)}}), Contains("UTF-8"));
  CHECK_THROWS_AS(write_safetensors(path, {}, {{"k", "\xff"}}), UsageError);
  CHECK_THROWS_AS(write_safetensors(path, {}, {{"k", std::string(17 << 20, 'v')}}), UsageError);
  CHECK_FALSE(std::filesystem::exists(path));
  write_safetensors(path, {{"w", Tensor::scalar(1)}});
  set_file_failure_hook([](const char* operation, const std::filesystem::path&) {
    return operation == std::string("write") ? ENOSPC : 0;
  });
  CHECK_THROWS_AS(write_safetensors(path, {{"w", Tensor::scalar(2)}}), IoError);
  set_file_failure_hook(nullptr);
  CHECK(read_safetensors(path).tensors.at("w").item() == 1);
}

TEST_CASE("pretrained weights written by another program are read", "[safetensors]") {
  EQ_NEED_SHARED_DATA();
  const auto folder = test::shared_data() / "pretrained";
  const WeightsFile large = read_safetensors(folder / "mobilenet_v1_1.0_224_imagenet_no_pw13.safetensors");
  const WeightsFile small = read_safetensors(folder / "mobilenet_v1_0.25_224_imagenet_no_top.safetensors");
  CHECK(large.tensors.size() == 136);
  CHECK(small.tensors.size() == 135);
  auto values = [](const WeightsFile& file) {
    int64_t count = 0;
    for (const auto& [name, tensor] : file.tensors) count += tensor.numel();
    return count;
  };
  CHECK(values(large) == 3205288);
  CHECK(values(small) == 218544);
  CHECK(large.tensors.at("conv1.weight").shape() == Shape{32, 3, 3, 3});
  CHECK(large.tensors.at("conv_dw_1.weight").shape() == Shape{32, 1, 3, 3});
  CHECK(small.tensors.at("conv_pw_13.weight").shape() == Shape{256, 256, 1, 1});
  for (float variance : small.tensors.at("conv1_bn.running_var").to_vector<float>()) CHECK(variance > 0);
}

TEST_CASE("the reader believes no length, and the writer gives no name away", "[safetensors]") {
  const std::string header = braced(entry("w", "F32", "[2]", "[0,8]"));
  check_refused(file_of(header, "", header.size() + 4), "", "it is truncated");
  check_refused(file_of(braced(entry("w", "F32", "[2]", "[0,4]")), "1234"), "\"w\"", "the shape needs 8 bytes, data_offsets give 4");
  std::string padded = header;  // whose length has an archive's first two bytes, "PK"
  padded.resize(0x4b50, ' ');
  CHECK(parse(file_of(padded, std::string(8, '\0'))).tensors.count("w") == 1);

  TemporaryFolder folder;
  CHECK_THROWS_WITH(write_safetensors(folder.path() / "a", {{"w", Tensor()}}), Contains("tensor \"w\" has no value"));
  std::map<std::string, Tensor> many;
  for (size_t i = 0; i <= limits::kSafetensorsTensors; ++i) many[std::to_string(i)] = Tensor();
  CHECK_THROWS_WITH(write_safetensors(folder.path() / "a", many), Contains("65537 tensors are too many for one file"));
}
