// equiscale data init: a configuration for a folder of pictures and label files that has none yet.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "app/inspect.h"
#include "core/file.h"
#include "core/json.h"
#include "core/words.h"
#include "datasets/discover.h"

namespace eq::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int64_t kLongestSide = 1024, kLargestCrop = 256;

void check_new(const fs::path& file) {
  if (fs::exists(file)) throw UsageError("there is a file of this name", file.string(), "choose another --out, or remove it");
}

// "[480, 360]": on one line, with a blank after each comma.
std::string short_text(const ordered_json& value) {
  if (!value.is_structured()) return json_text(value);
  std::vector<std::string> parts;
  for (const auto& [key, part] : value.items()) {
    parts.push_back((value.is_object() ? json_text(ordered_json(key)) + ": " : "") + short_text(part));
  }
  return (value.is_object() ? "{" : "[") + joined(parts) + (value.is_object() ? "}" : "]");
}

ordered_json data_section(const FoundData& found, const std::map<std::string, std::string>& lists) {
  const DataOptions& options = found.options;
  ordered_json data = {{"type", options.type}, {"root", options.root}};
  if (options.type != "folders") return data;
  if (!lists.empty()) {
    data["list"] = lists;
  } else {
    if (!options.list.empty()) data["list"] = options.list;
    for (const char* split : {"train", "val", "test"}) {
      const auto pair = options.folders.find(split);
      if (pair != options.folders.end()) data["folders"][split] = {{"images", pair->second.images}, {"labels", pair->second.labels}};
    }
    data["folders"]["image_suffix"] = options.image_suffix;
    data["folders"]["label_suffix"] = options.label_suffix;
  }
  if (options.val_fraction > 0) data["val_fraction"] = options.val_fraction;
  data["classes"] = options.classes;
  if (!options.palette.empty()) data["palette"] = options.palette;
  if (options.label_colors) data["label_colors"] = true;
  for (const auto& [value, to] : options.label_map.entries) {
    data["label_map"][std::to_string(value)] = to == LabelMapOptions::kIgnore ? ordered_json("ignore") : ordered_json(to);
  }
  if (options.checks == DataChecks::kFiles) data["checks"] = "files";
  if (!options.label_map.entries.empty() && options.label_map.other != "error") data["label_map"]["other"] = options.label_map.other;
  return data;
}

// The size in the middle, by area, made smaller where it is large; and a crop that fits.
ordered_json pipeline_section(const FoundData& found) {
  std::vector<std::array<int64_t, 2>> sizes;
  for (const auto& [size, count] : found.sizes) sizes.insert(sizes.end(), size_t(count), size);
  std::stable_sort(sizes.begin(), sizes.end(), [](const auto& a, const auto& b) { return a[0] * a[1] < b[0] * b[1]; });
  const auto [width, height] = sizes[sizes.size() / 2];
  const double shrink = std::min(1.0, double(kLongestSide) / double(std::max(width, height)));
  const auto shrunk = [&](int64_t side) { return std::max<int64_t>(1, int64_t(double(side) * shrink + 0.5)); };
  const auto crop = [&](int64_t side) { return std::clamp<int64_t>(shrunk(side) / 32 * 32, 32, kLargestCrop); };
  ordered_json pipeline = {{"resize", {{"scale", {shrunk(width), shrunk(height)}}, {"ratio_range", {0.75, 1.75}}}},
                           {"crop", {crop(height), crop(width)}}};
  if (shrink < 1) pipeline["test_scale"] = {shrunk(width), shrunk(height)};
  return pipeline;
}

std::string config_text(const FoundData& found, const std::map<std::string, std::string>& lists, const fs::path& config) {
  const int64_t pictures = int64_t(found.pairs.at("train").size());
  const ordered_json section = data_section(found, lists);
  std::string data;
  for (const auto& [key, value] : section.items()) {
    data += (data.empty() ? "" : ",\n") + fmt::format("    \"{}\": {}", key, short_text(value));
  }
  return fmt::format(R"(// UPerNet-ResNet-18 from random weights. Every key: docs/config.md.
//   equiscale inspect data {0}
//   equiscale train {0} --out runs/{1}
// data.root is as the command was told it: run the commands from the same folder, or change it.
// Classes that are rare: equiscale data stats {0} proposes train.class_weights.
{{
  "data": {{
{2}
  }},
  "pipeline": {3},
  "model": {{
    "backbone": {{"type": "resnet", "depth": 18}},
    "decode_head": {{"type": "uper", "channels": 64}},
    "auxiliary_head": {{"type": "fcn", "channels": 64}}
  }},
  "equalizer": {{"mode": "explicit"}},
  "train": {{"iterations": 1200, "batch_size": {4}}},
  "optimizer": {{"type": "adamw", "lr": 1e-3, "weight_decay": 0.01, "groups": [{{"pattern": "norm", "decay_mult": 0}}]}},
  "schedule": {{"type": "poly", "power": 0.9, "warmup_iterations": 50}}
}}
)",
                     config.generic_string(), config.stem().string(), data, short_text(pipeline_section(found)),
                     std::clamp<int64_t>(pictures, 2, 8));
}

// Files beside the configuration, for pictures that folders alone do not tell, with their text.
std::map<fs::path, std::string> list_files(const FoundData& found, const fs::path& config, std::map<std::string, std::string>& lists) {
  std::map<fs::path, std::string> files;
  if (found.options.type != "folders" || !found.options.folders.empty()) return files;
  for (const auto& [split, pairs] : found.pairs) {
    const fs::path list = config.parent_path() / (config.stem().string() + "_" + split + ".txt");
    check_new(list);
    for (const SampleFiles& pair : pairs) {
      const std::string picture = pair.image.generic_string(), labels = pair.labels.generic_string();
      for (const std::string& name : {picture, labels}) {
        if (name.find_first_of("\t\n\r") == std::string::npos && name.front() != ' ' && name.back() != ' ') continue;
        throw DataError("a name begins or ends with a blank, or holds a tab or a line's end, and the pictures must be listed",
                        (found.options.root / fs::path(name)).string(), "rename the file");
      }
      files[list] += picture + "\t" + labels + "\n";
    }
    lists[split] = fs::proximate(fs::absolute(list), fs::absolute(found.options.root)).generic_string();
  }
  return files;
}

nlohmann::json json_of(const FoundData& found, const std::map<std::string, std::string>& lists, const std::string& config) {
  nlohmann::json pictures = nlohmann::json::object(), sizes = nlohmann::json::array(), labels = nlohmann::json::array();
  for (const auto& [split, pairs] : found.pairs) pictures[split] = pairs.size();
  for (const auto& [size, count] : found.sizes) sizes.push_back({{"width", size[0]}, {"height", size[1]}, {"pictures", count}});
  for (const FoundLabel& label : found.labels) {
    labels.push_back({{"value", label.value >= 0 ? nlohmann::json(label.value) : nlohmann::json()},
                      {"color", label.color},
                      {"class", label.name.empty() ? nlohmann::json() : nlohmann::json(label.name)},
                      {"pixels", label.pixels},
                      {"files", label.files}});
  }
  return {{"config", config}, {"type", found.options.type},       {"pictures", pictures},    {"val_fraction", found.options.val_fraction},
          {"lists", lists},   {"classes", found.options.classes}, {"labels", labels},        {"looked_into", found.looked_into},
          {"sizes", sizes},   {"unlabelled", found.unlabelled},   {"remarks", found.remarks}};
}

void print_found(const FoundData& found) {
  for (const char* split : {"train", "val", "test"}) {
    const auto pairs = found.pairs.find(split);
    if (pairs == found.pairs.end()) continue;
    const auto folders = found.options.folders.find(split);
    fmt::print("{:<6}{}{}\n", split, counted(int64_t(pairs->second.size()), "picture"),
               folders == found.options.folders.end() ? "" : " in " + folders->second.images + ", labels in " + folders->second.labels);
  }
  if (found.options.val_fraction > 0) fmt::print("val   a fifth of these, drawn (data.val_fraction)\n");
  std::vector<std::string> sizes;
  for (const auto& [size, count] : found.sizes) sizes.push_back(size_text(size[0], size[1]));
  fmt::print("sizes {}\n", some_of(sizes));
  if (found.options.type != "folders") {
    fmt::print("the layout and the files are those of {}\n", found.options.type);
    return;
  }
  int64_t pixels = 0;
  for (const FoundLabel& label : found.labels) pixels += label.pixels;
  fmt::print("\n{:>8}  {:<24} {:>8} {:>9}   (of {} label files)\n", "label", "class", "pixels", "pictures", found.looked_into);
  for (const FoundLabel& label : found.labels) {
    const std::string file = label.value >= 0 ? std::to_string(label.value) : hex_text(label.color);
    fmt::print("{:>8}  {:<24} {:>6.2f} % {:>9}\n", file, label.name.empty() ? "(ignored)" : printable(label.name),
               100 * double(label.pixels) / double(std::max<int64_t>(1, pixels)), label.files);
  }
}

}  // namespace

void add_data_init(CLI::App& parent) {
  CLI::App* command = add_command(parent, "init",
                                  "Find the pictures and label files of a folder and write a configuration that trains on them: splits, "
                                  "classes, colours, what is ignored, sizes. A proposal, to be read and changed",
                                  "equiscale data init path/to/pictures --out own.json\n  equiscale inspect data own.json\n"
                                  "  equiscale train own.json --dry-run");
  struct Options {
    std::string root, out;
    DiscoverOptions discover;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("folder", options->root, "The folder that holds pictures and label files, however deep")->required();
  command->add_option("--out", options->out, "The configuration, a new .json")->required();
  command->add_option("--images", options->discover.images, "Only pictures in this folder, below FOLDER");
  command->add_option("--labels", options->discover.labels, "Only label files in this folder, below FOLDER");
  command->add_option("--samples", options->discover.samples, "Label files to look into; 0: all")
      ->capture_default_str()
      ->check(from_zero());
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    const fs::path out = options->out;
    if (out.extension() != ".json") throw UsageError("a configuration's name ends in .json", options->out, "for example --out own.json");
    if (!is_plain_text(options->out)) throw UsageError("the name holds control characters or is not UTF-8", "--out", "choose another name");
    check_new(out);
    const FoundData found = discover_data(options->root, options->discover);
    if (!out.parent_path().empty()) make_folder(out.parent_path());
    std::map<std::string, std::string> lists;  // by split, as the configuration names them
    for (const auto& [file, text] : list_files(found, out, lists)) write_text_atomically(file, text);
    write_text_atomically(out, config_text(found, lists, out));
    if (options->json) {
      return print_json(json_of(found, lists, options->out));
    }
    print_found(found);
    fmt::print("\n");
    if (!found.unlabelled.empty()) fmt::print("without a label file, left out: {}\n", printable(some_of(found.unlabelled)));
    for (const std::string& remark : found.remarks) fmt::print("{}\n", printable(remark));
    if (!lists.empty()) fmt::print("the pictures are listed in files beside the configuration\n");
    fmt::print("{}\n", options->out);
  });
}

}  // namespace eq::app
