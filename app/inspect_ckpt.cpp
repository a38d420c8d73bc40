// equiscale inspect ckpt: list a file of weights, or hold it against another.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "app/inspect.h"
#include "core/json.h"
#include "core/weights_file.h"
#include "core/words.h"
#include "models/pretrained.h"
#include "models/weights_comparison.h"
#include "training/checkpoint.h"

namespace eq::app {
namespace {

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
  if (found.empty()) {
    throw DataError("there are no weights in this folder", path.string(), "give a .safetensors or .pth file or the folder of a run");
  }
  if (found.size() > 1) {
    throw DataError(fmt::format("there are {} .safetensors files in this folder", found.size()), path.string(),
                    "give one of them, such as " + std::min_element(found.begin(), found.end())->string());
  }
  return found[0];
}

void list(const std::filesystem::path& file, bool json) {
  const WeightsFile content = read_weights(file);
  nlohmann::json tensors = nlohmann::json::array();
  int64_t values = 0;
  for (const auto& [name, tensor] : content.tensors) {
    values += tensor.numel();
    tensors.push_back({{"name", name}, {"dtype", name_of(tensor.dtype())}, {"shape", to_string(tensor.shape())}});
  }
  if (json) {
    print_json({{"file", file.string()}, {"metadata", content.metadata}, {"tensors", tensors}, {"values", values}});
    return;
  }
  fmt::print("{}\n", file.string());
  for (const auto& [key, value] : content.metadata) {
    fmt::print("  {} = {}\n", printable(key), printable(value.size() > 200 ? value.substr(0, 200) + "..." : value));
  }
  for (const auto& tensor : tensors) {
    fmt::print("  {:<60} {:<8} {}\n", printable(tensor["name"].get<std::string>()), tensor["dtype"].get<std::string>(),
               tensor["shape"].get<std::string>());
  }
  fmt::print("{} tensors, {} values\n", content.tensors.size(), values);
}

std::string names_of(const SharedTensor& pair) {
  return printable(pair.name) + (pair.other_name == pair.name ? "" : " = " + printable(pair.other_name));
}

std::string verdict(const WeightsComparison& comparison) {
  const size_t all = comparison.shared.size(), extra = comparison.only_first.size() + comparison.only_other.size();
  if (all == 0) return "two networks: no tensor is in both files";
  const bool same = extra == 0 && comparison.misfits() == 0;
  const std::string what = same ? fmt::format("the same {}", counted(int64_t(all), "tensor"))
                                : fmt::format("other tensors: {} in both files, {} of them of another shape, {} in one file alone", all,
                                              comparison.misfits(), extra);
  if (same && comparison.bit_equal() == int64_t(all)) return what + ", equal to the bit";
  const SharedTensor* most = comparison.most_apart();
  const std::string equal = fmt::format("; {} equal to the bit", comparison.bit_equal());
  if (most == nullptr) {
    return what + equal + (comparison.bit_equal() + comparison.misfits() < int64_t(all) ? ", the others equal in value" : "");
  }
  return what + equal +
         fmt::format(", the others apart by up to {:.2g} times their largest value ({})", most->relative, printable(most->name));
}

nlohmann::json to_json(const WeightsComparison& comparison, const std::filesystem::path& first, const std::filesystem::path& other) {
  nlohmann::json shared = nlohmann::json::array();
  for (const SharedTensor& pair : comparison.shared) {
    nlohmann::json row = {{"name", pair.name},
                          {"other_name", pair.other_name},
                          {"dtype", name_of(pair.dtype)},
                          {"other_dtype", name_of(pair.other_dtype)},
                          {"shape", to_string(pair.shape)},
                          {"other_shape", to_string(pair.other_shape)},
                          {"bit_equal", pair.bit_equal}};
    row["largest_difference"] = pair.comparable ? number_or_null(pair.absolute) : nullptr;
    row["largest_relative_difference"] = pair.comparable ? number_or_null(pair.relative) : nullptr;
    shared.push_back(std::move(row));
  }
  return {{"file", first.string()},
          {"other_file", other.string()},
          {"naming", comparison.naming},
          {"only_in_file", comparison.only_first},
          {"only_in_other_file", comparison.only_other},
          {"shared", shared},
          {"bit_equal", comparison.bit_equal()},
          {"other_shapes", comparison.misfits()},
          {"verdict", verdict(comparison)}};
}

// A title and its lines; of many only the first, unless all are wanted.
void print_lines(const std::string& title, const std::vector<std::string>& lines, bool all) {
  constexpr size_t kShown = 10;
  if (lines.empty()) return;
  fmt::print("\n{} ({})\n", title, lines.size());
  const size_t shown = all ? lines.size() : std::min(lines.size(), kShown);
  for (size_t i = 0; i < shown; ++i) fmt::print("  {}\n", lines[i]);
  if (shown < lines.size()) fmt::print("  ... and {} more (--all)\n", lines.size() - shown);
}

void print(const WeightsComparison& comparison, bool all) {
  if (!comparison.naming.empty()) fmt::print("{}\n", comparison.naming);
  const auto names = [](const std::vector<std::string>& raw) {
    std::vector<std::string> lines;
    for (const std::string& name : raw) lines.push_back(printable(name));
    return lines;
  };
  print_lines("only in the file", names(comparison.only_first), all);
  print_lines("only in the other file", names(comparison.only_other), all);
  std::vector<std::string> shapes, types, apart;
  std::vector<const SharedTensor*> differing;
  for (const SharedTensor& pair : comparison.shared) {
    if (!pair.comparable) {
      shapes.push_back(fmt::format("{:<60} {} | {}", names_of(pair), to_string(pair.shape), to_string(pair.other_shape)));
    }
    if (pair.other_type()) types.push_back(fmt::format("{:<60} {} | {}", names_of(pair), name_of(pair.dtype), name_of(pair.other_dtype)));
    if (pair.relative > 0) differing.push_back(&pair);
  }
  std::stable_sort(differing.begin(), differing.end(), [](const SharedTensor* a, const SharedTensor* b) { return farther_apart(*a, *b); });
  for (const SharedTensor* pair : differing) {
    apart.push_back(fmt::format("{:<60} {:>10.3g} {:>10.3g}", names_of(*pair), pair->absolute, pair->relative));
  }
  print_lines("of another shape", shapes, all);
  print_lines("of another type", types, all);
  print_lines("of other values: the largest difference, and how many times the tensor's largest value that is; the furthest apart first",
              apart, all);
  fmt::print("\n{}\n", verdict(comparison));
}

}  // namespace

void add_inspect_ckpt(CLI::App& inspect) {
  CLI::App* command =
      add_command(inspect, "ckpt",
                  "List the tensors and metadata of a file of weights (safetensors, PyTorch's .pth) or of a run's folder, or compare them "
                  "with another's. "
                  "Files that differ are no error: the exit code is 0",
                  "equiscale inspect ckpt runs/camvid/model.safetensors\n  equiscale inspect ckpt runs/camvid --compare runs/camvid_seed1");
  struct Options {
    std::string path, other;
    bool all = false, json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("file", options->path, "A .safetensors file, a file of PyTorch's (.pth, .pt, .bin) or the folder of a run")
      ->required();
  CLI::Option* compare =
      command->add_option("--compare", options->other,
                          "Another such file: tensors in one of them alone, other shapes and types, largest differences of values. "
                          "A backbone may have timm's, torchvision's or its authors' names in one of them");
  command->add_flag("--all", options->all, "With --compare: every line of every list, not the first ten")->needs(compare);
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, compare] {
    const std::filesystem::path file = weights_file(options->path);
    if (compare->empty()) return list(file, options->json);
    const std::filesystem::path other = weights_file(options->other);
    const WeightsComparison comparison = compare_weights(read_network_weights(file), read_network_weights(other));
    if (options->json) return print_json(to_json(comparison, file, other));
    fmt::print("file        {}\nother file  {}\n", file.string(), other.string());
    print(comparison, options->all);
  });
}

}  // namespace eq::app
