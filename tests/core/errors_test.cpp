#include "core/errors.h"

#include "core/device.h"
#include "support.h"

using namespace eq;

TEST_CASE("an error says what, where and what to try", "[errors]") {
  const DataError error("the picture is truncated", "train/cat.png, row 12", "copy the file again");
  CHECK(error.what_happened() == "the picture is truncated");
  CHECK(error.where() == "train/cat.png, row 12");
  CHECK(error.try_this() == "copy the file again");
  CHECK(std::string(error.what()) ==
        "the picture is truncated\n  where: train/cat.png, row 12\n  try:   copy the file again");
  CHECK(std::string(Error("only this", "", "").what()) == "only this");
  CHECK(std::string(Error("this", "", "that").what()) == "this\n  try:   that");
}

TEST_CASE("no name can look like another line of an error, or steer a terminal", "[errors]") {
  const DataError error("no class a\tb", "new\nline\x1b[2J\x7f.png", "rename it\r");
  CHECK(error.what_happened() == "no class a?b");
  CHECK(error.where() == "new?line?[2J?.png");
  CHECK(std::string(error.what()) == "no class a?b\n  where: new?line?[2J?.png\n  try:   rename it?");
  CHECK(DataError("\xc3\xa9", "\xff", "").what() == std::string("\xc3\xa9\n  where: \xff"));
}

TEST_CASE("each kind of error has its exit code and name", "[errors]") {
  auto check_kind = [](const Error& error, int code, const std::string& kind) {
    CHECK(error.exit_code() == code);
    CHECK(error.kind() == kind);
  };
  check_kind(Error("", "", ""), 1, "error");
  check_kind(UsageError("", "", ""), 2, "usage error");
  check_kind(ShapeError("", "", ""), 2, "shape error");
  check_kind(DTypeError("", "", ""), 2, "dtype error");
  check_kind(AutogradError("", "", ""), 2, "autograd error");
  check_kind(DataError("", "", ""), 3, "data error");
  check_kind(IoError("", "", ""), 3, "file error");
  check_kind(NumericalError("", "", ""), 4, "numerical error");
  check_kind(DeviceError("", "", ""), 5, "device error");
  check_kind(OutOfMemoryError("", "", ""), 5, "out of memory");
}

TEST_CASE("errors are caught by their families", "[errors]") {
  CHECK_THROWS_AS(throw ShapeError("", "", ""), UsageError);
  CHECK_THROWS_AS(throw IoError("", "", ""), DataError);
  CHECK_THROWS_AS(throw OutOfMemoryError("", "", ""), DeviceError);
  CHECK_THROWS_AS(throw NumericalError("", "", ""), std::runtime_error);
}

TEST_CASE("devices are parsed strictly", "[device]") {
  CHECK(Device::parse("cpu") == Device::cpu());
  CHECK(to_string(Device::cpu()) == "cpu");
  CHECK(to_string(Device{Device::Kind::kCuda, 1}) == "cuda:1");
  for (const char* text : {"", "CPU", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1234567890", "cpu:0", "cuda1"}) {
    INFO(text);
    CHECK_THROWS_AS(Device::parse(text), UsageError);
  }
  if (!kBuiltWithCuda) {
    CHECK_THROWS_AS(Device::parse("cuda"), DeviceError);
    CHECK_THROWS_AS(Device::parse("cuda:0"), DeviceError);
  }
}
