#include "core/device.h"

#include "core/errors.h"

namespace eq {

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}

Device Device::parse(const std::string& text) {
  if (text == "cpu") return cpu();
  const bool looks_like_cuda =
      text == "cuda" || (text.rfind("cuda:", 0) == 0 && text.size() > 5 && text.size() < 8 &&
                         text.find_first_not_of("0123456789", 5) == std::string::npos);
  if (!looks_like_cuda) {
    throw UsageError("there is no device called '" + text + "'", "--device", "use cpu, cuda or cuda:<index>");
  }
  throw DeviceError("this build has no CUDA backend", "device " + text, "use --device cpu");
}

}  // namespace eq
