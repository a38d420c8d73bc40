#include "app/common.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>

#include "core/allocator.h"
#include "core/cuda_device.h"
#include "core/device.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/kernels/conv2d.h"
#include "core/parallel.h"
#include "training/trainer.h"
#include "training/unread_keys.h"

namespace eq::app {

CLI::App* add_command(CLI::App& app, const std::string& name, const std::string& what_it_does, const std::string& example) {
  CLI::App* command = app.add_subcommand(name, what_it_does);
  command->footer("Example:\n  " + example);
  return command;
}

std::string printable(const std::string& text) {
  const bool plain = std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  return plain ? text : quoted_for_message(text);
}

void add_settings(CLI::App* command, std::vector<std::string>& settings, const std::string& what_it_does) {
  command->add_option("--set", settings, what_it_does)->take_all()->allow_extra_args(false);
}

void add_split(CLI::App* command, std::string& split, const std::string& more) {
  command->add_option("--split", split, "train, val or test" + more)->capture_default_str();
}

void MachineOptions::add_to(CLI::App* command) {
  command->add_option("--device", device, "cpu, cuda or cuda:<index>")->capture_default_str();
  command
      ->add_option("--convolution", convolution,
                   "auto; on a CPU direct: without Winograd's algorithm; on a GPU own: never cuDNN, or cudnn: wherever it can")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "direct", "own", "cudnn"}));
  command->add_flag("--tf32", tf32, "On a GPU: float32 products with factors of 10 bits; faster");
  command
      ->add_option("--threads", threads,
                   "Threads that compute; 0: OMP_NUM_THREADS where that is set, else one per core. Results do not depend on it")
      ->capture_default_str();
}

void ViewOptions::add_to(CLI::App* command) {
  command->add_flag("--slide", slide, "Average over sliding windows (evaluate.crop, evaluate.stride) instead of whole pictures");
  command->add_flag("--tta", many,
                    "Average over six sizes, 0.5 to 1.75, of each picture and its mirror image (evaluate.scales, evaluate.flip): slower, a "
                    "little better. A --set of these keys counts instead");
}

std::vector<std::string> ViewOptions::settings() const {
  std::vector<std::string> all;
  if (slide) all.push_back("evaluate.mode=slide");
  if (many) {
    all.push_back("evaluate.scales=[0.5,0.75,1,1.25,1.5,1.75]");  // mmsegmentation's
    all.push_back("evaluate.flip=true");
  }
  return all;
}

void check_weights_name(const std::filesystem::path& out) {
  if (out.extension() == ".safetensors") return;
  throw UsageError("the new file's name must end in .safetensors", out.string(),
                   "for example --out " + (out.stem().empty() ? "network" : out.stem().string()) + ".safetensors");
}

void check_not_source(const std::filesystem::path& out, const std::filesystem::path& source) {
  std::error_code ignored;  // a new file
  const bool of_folder = std::filesystem::is_directory(source, ignored) && std::filesystem::equivalent(out.parent_path(), source, ignored);
  if (!of_folder && !std::filesystem::equivalent(out, source, ignored)) return;
  throw UsageError("the new file would replace what it is made from", out.string(), "give it a name or a folder of its own");
}

CLI::Validator from_zero(int64_t most) {
  const auto refuse = [most](const std::string& text) -> std::string {
    int64_t value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size() && value >= 0 && value <= most) return "";
    return fmt::format("{} is not a whole number from 0 to {}", text, most);
  };
  return CLI::Validator(refuse, fmt::format("0 to {}", most));
}

size_t available_memory() {
  const auto number_in = [](const char* path, const std::string& key) {  // the number behind the word `key`; -1: none
    std::ifstream file(path);
    std::string word = key;
    long long number = -1;
    while (!key.empty() && file >> word && word != key) {}
    return file >> number ? number : -1;
  };
  long long available = number_in("/proc/meminfo", "MemAvailable:") * 1024;
  const long long most = number_in("/sys/fs/cgroup/memory.max", ""), used = number_in("/sys/fs/cgroup/memory.current", "");
  if (most > 0 && used >= 0) available = std::min(available, std::max<long long>(1, most - used));
  return available > 0 ? size_t(available) : 0;
}

void MachineOptions::apply() const {
  set_compute_device(Device::parse(device));
  // Otherwise the system would end the process without a word.
  if (allocator().limit() == 0) allocator().set_limit(available_memory() / 20 * 19);
  cpu::allow_winograd(convolution != "direct");
  if constexpr (kBuiltWithCuda) {
    using cuda::ConvolutionBackend;
    cuda::set_allow_tf32(tf32);
    cuda::set_convolution_backend(convolution == "cudnn"  ? ConvolutionBackend::kCudnn
                                  : convolution == "auto" ? ConvolutionBackend::kAuto
                                                          : ConvolutionBackend::kOwn);
  }
  if (threads != 0) set_num_threads(threads);
}

void ConfigOptions::add_to(CLI::App* command) {
  command
      ->add_option("config", path,
                   "Configuration file (JSON with // comments), such as recipes/shapes_upernet_resnet18.json, or a run's folder, whose "
                   "configuration is taken")
      ->required();
  add_settings(command, settings, "Change a key, e.g. --set train.iterations=200 (may be repeated)");
  command->add_option("--seed", seed, "Seed of weights, data order and augmentation (default: the configuration's)")->check(any_seed());
}

std::vector<std::string> ConfigOptions::all_settings() const {
  std::vector<std::string> all = settings;
  if (seed >= 0) all.push_back("seed=" + std::to_string(seed));
  return all;
}

std::filesystem::path ConfigOptions::file() const {
  const std::filesystem::path given = path;
  if (holds_run(given)) return given / "config.json";
  std::error_code ignored;
  if (std::filesystem::is_directory(given, ignored)) {
    throw IoError("this folder holds no run: there is no config.json in it", path,
                  "give a configuration file, or the folder that --out of `equiscale train` has named");
  }
  return given;
}

Config ConfigOptions::load() const { return load_config(file(), all_settings()); }

void RunOptions::add_to(CLI::App* command, const std::string& example) {
  command->add_option("run", path, "A run's folder, its checkpoint folder, or a model.safetensors")->required();
  command->add_option("--weights", weights, "Of a run's folder: last, or best: those of the best evaluation (train.keep_best)")
      ->capture_default_str()
      ->check(CLI::IsMember({"last", "best"}));
  add_settings(command, settings, "Change a key of the run's configuration, e.g. --set " + example);
}

TrainedModel RunOptions::load(std::vector<std::string> first) const {
  first.insert(first.end(), settings.begin(), settings.end());
  if (weights == "last") return load_trained_model(path, first);
  const std::filesystem::path best = std::filesystem::path(path) / kBestWeights;
  std::error_code ignored;
  if (!std::filesystem::exists(best, ignored)) {
    throw IoError("the best weights are not there: the run did not keep them, or has not been evaluated yet", best.string(),
                  "train with --set train.keep_best=true and train.evaluate_every, or leave --weights out");
  }
  return load_trained_model(best, first);
}

void note_unread_keys(const Config& config) {
  for (const auto& sentences : {unread_keys(config), doubtful_values(config)}) {
    for (const std::string& sentence : sentences) fmt::print(stderr, "note: {}\n", sentence);
  }
}

void print_json(const nlohmann::json& value) { std::printf("%s\n", json_text(value, 2).c_str()); }

std::string human_bytes(double bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) bytes /= 1024, ++unit;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, units[unit]);
}

std::string human_count(double count) {
  const char* units[] = {"", " k", " M", " G", " T"};
  int unit = 0;
  while (count >= 1000 && unit < 4) count /= 1000, ++unit;
  return fmt::format("{:.{}f}{}", count, unit == 0 ? 0 : 2, units[unit]);
}

}  // namespace eq::app
