#pragma once
// Where a tensor lives. A run-time value, never part of a type.

#include <cstdint>
#include <string>

namespace eq {

#ifdef EQ_WITH_CUDA
inline constexpr bool kBuiltWithCuda = true;
#else
inline constexpr bool kBuiltWithCuda = false;
#endif

struct Device {
  enum class Kind : uint8_t { kCpu, kCuda };
  Kind kind = Kind::kCpu;
  int index = 0;

  static Device cpu() { return {}; }
  static Device cuda(int index = 0) { return {Kind::kCuda, index}; }
  // "cpu", "cuda" or "cuda:1". Throws UsageError for anything else and DeviceError for a device this build or
  // machine does not have.
  static Device parse(const std::string& text);

  bool is_cpu() const { return kind == Kind::kCpu; }
  bool is_cuda() const { return kind == Kind::kCuda; }
  bool operator==(const Device&) const = default;
};

std::string to_string(Device device);  // "cpu", "cuda:0"
void check_exists(Device device);      // throws DeviceError saying why this build or machine does not have it
void synchronize(Device device);       // waits for the work queued on it (a CPU has none); throws DeviceError if that failed

// Where networks are built: the command's --device. Of the process, like the number of threads; at the start the CPU.
Device compute_device();
void set_compute_device(Device device);  // throws DeviceError where there is no such device

// The operator that is running on this thread, or ran last, for the message of an out-of-memory error; a string that lives forever.
// The argument checks and the engine set it; nothing takes it back.
void set_current_operator(const char* name);
const char* current_operator();

}  // namespace eq
