#include "core/device.h"

#include "core/cuda_device.h"
#include "core/errors.h"

namespace eq {

std::string to_string(Device device) {
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}

std::string cuda::trouble_words(int driver, int runtime, const std::string& reason) {
  const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
  if (driver == 0) return "this machine has no CUDA driver";
  if (driver < runtime) {
    return "the CUDA driver (" + version(driver) + ") is older than the toolkit this was built with (" + version(runtime) + ")";
  }
  return "this machine has no CUDA device" + (reason.empty() ? reason : ": " + reason);
}

void check_exists(Device device) {
  if (device.is_cpu()) return;
  if constexpr (kBuiltWithCuda) {
    const int count = cuda::device_count();
    if (device.index >= 0 && device.index < count) return;
    if (count == 0) {
      throw DeviceError(cuda::trouble(), "device " + to_string(device),
                        "use --device cpu; `nvidia-smi` shows driver and devices, a newer driver runs older toolkits");
    }
    throw DeviceError(
        "there is no " + to_string(device) + ": this machine has " + std::to_string(count) + " CUDA device" + (count > 1 ? "s" : ""),
        "device " + to_string(device), "use cuda:0" + (count > 1 ? " to cuda:" + std::to_string(count - 1) : ""));
  } else {
    throw DeviceError("this build has no CUDA backend", "device " + to_string(device),
                      "use --device cpu, or build with the CUDA toolkit: cmake -DEQ_CUDA=ON");
  }
}

Device Device::parse(const std::string& text) {
  if (text == "cpu") return cpu();
  const bool looks_like_cuda =
      text == "cuda" || (text.rfind("cuda:", 0) == 0 && text.size() > 5 && text.size() < 8 &&
                         text.find_first_not_of("0123456789", 5) == std::string::npos);
  if (!looks_like_cuda) {
    throw UsageError("there is no device called '" + text + "'", "--device", "use cpu, cuda or cuda:<index>");
  }
  const Device device = cuda(text == "cuda" ? 0 : std::stoi(text.substr(5)));
  check_exists(device);
  return device;
}

void synchronize(Device device) {
  if constexpr (kBuiltWithCuda) {
    if (device.is_cuda()) cuda::synchronize(device.index);
  }
}

namespace {
Device chosen = Device::cpu();
}
Device compute_device() { return chosen; }
void set_compute_device(Device device) {
  check_exists(device);
  chosen = device;
}

namespace {
thread_local const char* running_operator = "";
}
void set_current_operator(const char* name) { running_operator = name; }
const char* current_operator() { return running_operator; }

}  // namespace eq
