// equiscale doctor: what was built in, what the machine offers, which limits hold, and a quick self-test.
#include <fmt/format.h>
#include <sys/sysinfo.h>

#include <fstream>

#include "app/common.h"
#include "autograd/functional.h"
#include "autograd/gradcheck.h"
#include "core/cuda_device.h"
#include "core/device.h"
#include "core/limits.h"
#include "core/parallel.h"
#include "core/random.h"

namespace eq::app {
namespace {

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const size_t name = line.find_first_not_of(" \t", line.find(':') + 1);
    return name == std::string::npos ? "unknown" : line.substr(name);
  }
  return "unknown";
}

double total_memory() {
  struct sysinfo info {};
  return sysinfo(&info) == 0 ? double(info.totalram) * info.mem_unit : 0;
}

Tensor random_leaf(const Shape& shape, uint64_t seed) {
  Tensor x = Tensor::empty(shape, DType::kFloat64);
  Random random(seed);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = random.normal();
  return x.set_requires_grad();
}

struct SelfTest {
  const char* name;
  std::function<Tensor(const std::vector<Tensor>&)> fn;
  std::vector<Tensor> inputs;
};

std::vector<SelfTest> self_tests() {
  auto x = [](uint64_t seed) { return random_leaf({2, 5, 6, 4}, seed); };
  BatchNormOptions norm;
  norm.update_running = false;
  const Tensor labels = Tensor::from<uint8_t>({0, 1, 2, 255, 3, 0}, {6});
  return {
      {"conv2d", [](const auto& in) { return conv2d(in[0], in[1], in[2], Conv2dOptions().stride(2).padding(1)); },
       {x(1), random_leaf({3, 3, 3, 4}, 2), random_leaf({3}, 3)}},
      {"batch_norm", [norm](const auto& in) {
         Tensor mean = Tensor::zeros({4}, DType::kFloat64), var = Tensor::full({4}, 1, DType::kFloat64);
         return batch_norm(in[0], in[1], in[2], mean, var, norm);
       }, {x(4), random_leaf({4}, 5), random_leaf({4}, 6)}},
      {"resize_bilinear", [](const auto& in) { return resize_bilinear(in[0], 9, 11, false); }, {x(7)}},
      {"adaptive_avg_pool2d", [](const auto& in) { return adaptive_avg_pool2d(in[0], 3, 2); }, {x(8)}},
      {"fuse_levels", [](const auto& in) {
         FuseLevelsOptions options{.out_h = 5, .out_w = 6};
         options.shift = {Tensor::full({1}, 0.5, DType::kFloat64), {}};
         options.scale = {Tensor::full({1}, 2, DType::kFloat64), {}};
         return fuse_levels(in, options);
       }, {x(9), random_leaf({2, 2, 3, 3}, 10)}},
      {"linear", [](const auto& in) { return linear(in[0], in[1]); }, {x(11), random_leaf({3, 4}, 12)}},
      {"cross_entropy", [labels](const auto& in) { return cross_entropy(in[0], labels); }, {random_leaf({6, 4}, 13)}},
      {"dice_loss", [labels](const auto& in) { return dice_loss(in[0], labels); }, {random_leaf({6, 4}, 15)}},
      {"gelu", [](const auto& in) { return gelu(in[0]); }, {x(14)}},
  };
}

// What was built in, and what of it this machine has.
std::string cuda_words() {
  if constexpr (kBuiltWithCuda) {
    if (cuda::device_count() == 0) return "built in; " + cuda::trouble();
    std::string words = "built in";
    for (int i = 0; i < cuda::device_count(); ++i) words += "; " + to_string(Device::cuda(i)) + " is " + cuda::describe_device(i);
    return words;
  } else {
    return "not built in: cmake -DEQ_CUDA=ON, with nvcc on the path";
  }
}

std::string convolution_words() {
  if constexpr (kBuiltWithCuda) {
    return "direct and Winograd's on the CPU; on GPUs " + cuda::describe_convolution();
  } else {
    return "direct and Winograd's";
  }
}

nlohmann::json facts() {
  return {
      {"version", EQ_VERSION},
      {"compiler", "GCC-compatible " __VERSION__},
      {"cpu", cpu_model()},
      {"threads", num_threads()},
      {"memory_bytes", total_memory()},
      {"cuda", cuda_words()},
      {"convolution", convolution_words()},
      {"pictures_in", "JPEG, PNG, PNM, BMP, TGA"},
      {"limits",
       {{"picture_side", limits::kPictureSide},
        {"picture_pixels", limits::kPicturePixels},
        {"picture_file_bytes", limits::kPictureFileBytes},
        {"jpeg_scans", limits::kJpegScans},
        {"safetensors_header_bytes", limits::kSafetensorsHeader},
        {"safetensors_tensors", limits::kSafetensorsTensors},
        {"pickle_bytes", limits::kPickleBytes},
        {"pickle_steps", limits::kPickleSteps},
        {"pickle_memo", limits::kPickleMemo},
        {"pickle_depth", limits::kPickleDepth},
        {"zip_entries", limits::kZipEntries},
        {"torch_tensors", limits::kTorchTensors},
        {"torch_name_bytes", limits::kTorchNameBytes},
        {"torch_growth", limits::kTorchGrowth},
        {"tensor_rank", kMaxRank},
        {"json_bytes", limits::kJsonBytes},
        {"json_depth", limits::kJsonDepth},
        {"list_file_bytes", limits::kListFileBytes}}},
  };
}

}  // namespace

void add_doctor(CLI::App& app) {
  CLI::App* command =
      add_command(app, "doctor", "Show what was built in and found, the limits on files, and run a quick self-test", "equiscale doctor");
  auto machine = std::make_shared<MachineOptions>();
  auto json = std::make_shared<bool>(false);
  machine->add_to(command);
  command->add_flag("--json", *json, "Print JSON");
  command->callback([=] {
    machine->apply();
    nlohmann::json report = facts();
    bool all_ok = true;
    for (const SelfTest& test : self_tests()) {
      const GradcheckResult result = gradcheck(test.fn, test.inputs);
      report["self_test"][test.name] = {{"ok", result.ok}, {"worst", result.worst}, {"message", result.message}};
      all_ok = all_ok && result.ok;
    }
    if (*json) {
      print_json(report);
    } else {
      fmt::print("equiscale {}\n", report["version"].get<std::string>());
      for (const char* key : {"compiler", "cpu", "cuda", "convolution", "pictures_in"}) {
        fmt::print("  {:<12} {}\n", key, report[key].get<std::string>());
      }
      fmt::print("  {:<12} {}\n  {:<12} {}\n", "threads", num_threads(), "memory",
                 human_bytes(total_memory()) + ", " + human_bytes(double(available_memory())) + " of it free");
      fmt::print("limits on files\n");
      for (const auto& [name, value] : report["limits"].items()) fmt::print("  {:<26} {}\n", name, value.dump());
      fmt::print("self-test: gradients against central differences in float64\n");
      for (const auto& [name, result] : report["self_test"].items()) {
        fmt::print("  {:<20} {}  worst {:.1e}\n", name, result["ok"].get<bool>() ? "ok" : "WRONG: " + result["message"].get<std::string>(),
                   result["worst"].get<double>());
      }
    }
    if (!all_ok) throw NumericalError("the self-test found a wrong gradient", "equiscale doctor", "rebuild from a clean folder");
  });
}

}  // namespace eq::app
