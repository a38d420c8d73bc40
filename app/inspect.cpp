// equiscale inspect data|ckpt: look into a data set or a file of weights.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "app/common.h"
#include "core/json.h"
#include "core/weights_file.h"
#include "core/words.h"
#include "datasets/inspect.h"
#include "training/checkpoint.h"

namespace eq::app {
namespace {

// What is odd though no file is bad; empty if nothing. Whether training would refuse the set is asked of its own check, which
// looks at other pictures than the report.
std::string remark_on(const DataReport& report, const Dataset& dataset, bool trained_on) {
  if (report.problem_count > 0) return "";
  try {
    check_report(report);
    return "";
  } catch (const DataError& odd) {
    const std::string remark = fmt::format("remark: {} ({})", odd.what_happened(), odd.where());
    if (!trained_on) return remark;
    try {
      check_before_training(dataset);
      return remark + "; the check before training finds nothing wrong with this set";
    } catch (const DataError& refusal) {
      return fmt::format("training would refuse this set: {} ({})", refusal.what_happened(), refusal.where());
    }
  }
}

std::map<std::string, int64_t> sizes_of(const DataReport& report) {
  std::map<std::string, int64_t> sizes;
  for (const auto& [extent, count] : report.sizes) sizes[fmt::format("{}x{}", extent[0], extent[1])] = count;
  return sizes;
}

nlohmann::json to_json(const DataReport& report, const std::vector<std::string>& left_out, const std::string& remark) {
  nlohmann::json classes = nlohmann::json::array(), problems = nlohmann::json::array(), values = nlohmann::json::object();
  for (size_t c = 0; c < report.class_names.size(); ++c) {
    classes.push_back({{"index", c}, {"name", report.class_names[c]}, {"pixels", report.class_pixels[c]}, {"pictures", report.class_samples[c]}});
  }
  for (const DataProblem& problem : report.problems) {
    problems.push_back({{"file", problem.file}, {"message", problem.message}, {"x", problem.x}, {"y", problem.y}, {"value", problem.value}, {"pixels", problem.pixels}});
  }
  for (int value = 0; value < 256; ++value) {
    if (report.file_values[value] > 0) values[std::to_string(value)] = report.file_values[value];
  }
  return {{"inspected", report.inspected}, {"classes", classes}, {"ignored_share", report.ignored_share()}, {"file_values", values},
          {"image_modes", report.image_modes}, {"label_modes", report.label_modes}, {"sizes", sizes_of(report)},
          {"problem_count", report.problem_count}, {"problems", problems}, {"left_out", left_out}, {"remark", remark}};
}

void print_counts(const char* title, const std::map<std::string, int64_t>& counts) {
  if (counts.empty()) return;
  fmt::print("{}\n", title);
  for (const auto& [name, count] : counts) fmt::print("  {:>8}  {}\n", count, name);
}

void print(const DataReport& report, const std::vector<std::string>& left_out, const std::string& remark) {
  fmt::print("{} inspected\n", counted(report.inspected, "picture"));
  for (const std::string& sentence : left_out) fmt::print("{}\n", sentence);
  print_counts("pictures", report.image_modes);
  print_counts("label files", report.label_modes);
  print_counts("sizes", sizes_of(report));
  fmt::print("{:>5}  {:<20} {:>12} {:>8} {:>9}\n", "class", "name", "pixels", "share", "pictures");
  for (size_t c = 0; c < report.class_names.size(); ++c) {
    const double share = report.total_pixels > 0 ? 100.0 * double(report.class_pixels[c]) / double(report.total_pixels) : 0;
    fmt::print("{:>5}  {:<20} {:>12} {:>7.2f}% {:>9}{}\n", c, report.class_names[c], report.class_pixels[c], share, report.class_samples[c],
               report.class_pixels[c] == 0 ? "  never occurs" : "");
  }
  fmt::print("ignored: {:.2f} % of the pixels\n", 100 * report.ignored_share());
  if (report.problem_count == 0) {
    fmt::print("{}\n", remark.empty() ? "no problems found" : remark);
    return;
  }
  const bool all = report.problem_count == int64_t(report.problems.size());
  fmt::print("{} problems{}\n", report.problem_count, all ? "" : fmt::format(", the first {}", report.problems.size()));
  for (const DataProblem& problem : report.problems) fmt::print("  {}: {}\n", problem.file, problem.message);
}

void add_inspect_data(CLI::App& parent) {
  CLI::App* command = add_command(parent, "data", "Check every picture and label map of a data set: modes, sizes, label values, class shares",
                                  "equiscale inspect data recipes/camvid_upernet_resnet18.json --set data.root=path/to/camvid");
  auto config_options = std::make_shared<ConfigOptions>();
  auto machine = std::make_shared<MachineOptions>();
  auto split = std::make_shared<std::string>("train");
  auto samples = std::make_shared<int64_t>(0);
  auto json = std::make_shared<bool>(false);
  config_options->add_to(command);
  machine->add_to(command);
  command->add_option("--split", *split, "train, val or test")->capture_default_str();
  command->add_option("--samples", *samples, "How many pictures, evenly spread; 0: all (256 of an endless set)")->capture_default_str();
  command->add_flag("--json", *json, "Print JSON");
  command->callback([=] {
    machine->apply();
    const Config config = config_options->load();
    const auto dataset = make_dataset(config.data, *split);
    const DataReport report = inspect_dataset(*dataset, {.samples = *samples});
    const std::string remark = remark_on(report, *dataset, *split == "train" && config.data.checks);
    if (*json) {
      print_json(to_json(report, dataset->left_out(), remark));
    } else {
      print(report, dataset->left_out(), remark);
    }
    if (report.problem_count > 0) {
      throw DataError(fmt::format("{} problems in {} pictures, the first: {}", report.problem_count, report.inspected, report.problems[0].message),
                      report.problems[0].file, "mend or remove these files, or set data.label_map to what their values mean");
    }
  });
}

// A run's folder, its checkpoint folder or a file of weights.
std::filesystem::path weights_file(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) return path;
  if (fs::exists(path / "model.safetensors", error)) return path / "model.safetensors";
  for (const fs::path& folder : {path / "checkpoint", path}) {
    if (has_checkpoint(folder)) return checkpoint_weights_file(folder);
  }
  std::vector<fs::path> found;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") found.push_back(entry->path());
  }
  if (error) throw IoError("the folder cannot be read: " + error.message(), path.string(), "check its permissions");
  if (found.empty()) throw DataError("there are no weights in this folder", path.string(), "give a .safetensors or .pth file or the folder of a run");
  if (found.size() > 1) {
    throw DataError(fmt::format("there are {} .safetensors files in this folder", found.size()), path.string(),
                    "give one of them, such as " + std::min_element(found.begin(), found.end())->string());
  }
  return found[0];
}

// Text of a file, for the terminal: quoted and escaped where it could steer it.
std::string printable(const std::string& text) {
  const bool plain = std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  return plain ? text : quoted_for_message(text);
}

void add_inspect_ckpt(CLI::App& parent) {
  CLI::App* command = add_command(parent, "ckpt", "List the tensors and metadata of a file of weights (safetensors, PyTorch's .pth) or of a run's folder",
                                  "equiscale inspect ckpt runs/camvid/model.safetensors");
  auto path = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("file", *path, "A .safetensors file, a file of PyTorch's (.pth, .pt, .bin) or the folder of a run")->required();
  command->add_flag("--json", *json, "Print JSON");
  command->callback([=] {
    const std::filesystem::path file = weights_file(*path);
    const WeightsFile content = read_weights(file);
    nlohmann::json tensors = nlohmann::json::array();
    int64_t values = 0;
    for (const auto& [name, tensor] : content.tensors) {
      values += tensor.numel();
      tensors.push_back({{"name", name}, {"dtype", name_of(tensor.dtype())}, {"shape", to_string(tensor.shape())}});
    }
    if (*json) {
      print_json({{"file", file.string()}, {"metadata", content.metadata}, {"tensors", tensors}, {"values", values}});
      return;
    }
    fmt::print("{}\n", file.string());
    for (const auto& [key, value] : content.metadata) fmt::print("  {} = {}\n", printable(key), printable(value.size() > 200 ? value.substr(0, 200) + "..." : value));
    for (const auto& tensor : tensors) {
      fmt::print("  {:<60} {:<8} {}\n", printable(tensor["name"].get<std::string>()), tensor["dtype"].get<std::string>(), tensor["shape"].get<std::string>());
    }
    fmt::print("{} tensors, {} values\n", content.tensors.size(), values);
  });
}

}  // namespace

void add_inspect(CLI::App& app) {
  CLI::App* command = add_command(app, "inspect", "Look into a data set or a file of weights", "equiscale inspect data CONFIG");
  command->require_subcommand(1);
  add_inspect_data(*command);
  add_inspect_ckpt(*command);
}

}  // namespace eq::app
