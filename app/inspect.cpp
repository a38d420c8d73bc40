// equiscale inspect data: look through a data set; ckpt and run are inspect_*.cpp.
#include <fmt/format.h>

#include <optional>

#include "app/common.h"
#include "app/inspect.h"
#include "core/progress_line.h"
#include "core/words.h"
#include "datasets/inspect.h"

namespace eq::app {
namespace {

// What is odd though no file is bad: in one line, and the error that training would end with, if it would. That is asked of training's own
// check, which looks at other pictures than the report.
struct Remark {
  std::string line;
  std::optional<DataError> refusal;
};

Remark remark_on(const DataReport& report, const Dataset& dataset, bool trained_on) {
  const auto odd = report.problem_count > 0 ? std::nullopt : odd_classes(report);
  if (!odd) return {};
  const std::string remark = fmt::format("remark: {} ({})", odd->what_happened(), odd->where());
  if (!trained_on) return {remark, {}};
  try {
    check_before_training(dataset);
    return {remark + "; the check before training finds nothing wrong with this set", {}};
  } catch (const DataError& refusal) {
    return {fmt::format("training would refuse this set: {} ({})", refusal.what_happened(), refusal.where()), refusal};
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
    classes.push_back(
        {{"index", c}, {"name", report.class_names[c]}, {"pixels", report.class_pixels[c]}, {"pictures", report.class_samples[c]}});
  }
  for (const DataProblem& problem : report.problems) {
    problems.push_back({{"file", problem.file},
                        {"message", problem.message},
                        {"hint", problem.hint},
                        {"x", problem.x},
                        {"y", problem.y},
                        {"value", problem.value},
                        {"pixels", problem.pixels}});
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
  print_classes(report);
  if (report.problem_count == 0) {
    fmt::print("{}\n", remark.empty() ? "no problems found" : remark);
    return;
  }
  const bool all = report.problem_count == int64_t(report.problems.size());
  fmt::print("{}{}\n", counted(report.problem_count, "problem"), all ? "" : fmt::format(", the first {}", report.problems.size()));
  for (const DataProblem& problem : report.problems) fmt::print("  {}: {}\n", problem.file, problem.message);
}

void add_inspect_data(CLI::App& parent) {
  CLI::App* command = add_command(parent, "data",
                                  "Check every picture and label map of a data set: modes, sizes, label values, class shares (equiscale "
                                  "data: statistics for the configuration, pictures to look at)",
                                  "equiscale inspect data recipes/camvid_upernet_resnet18.json --set data.root=path/to/camvid");
  auto options = std::make_shared<LookOptions>();
  options->add_to(command);
  command->callback([options] {
    options->machine.apply();
    const Config config = options->config.load();
    const auto dataset = make_dataset(config.data, options->split);
    const DataReport report = inspect_shown(*dataset, options->samples);
    const Remark remark = remark_on(report, *dataset, options->split == "train" && config.data.checks == DataChecks::kAll);
    if (options->json) {
      print_json(to_json(report, dataset->left_out(), remark.line));
    } else {
      print(report, dataset->left_out(), remark.line);
    }
    if (report.problem_count > 0) {
      throw DataError(fmt::format("{} in {}, the first: {}", counted(report.problem_count, "problem"), counted(report.inspected, "picture"),
                                  report.problems[0].message),
                      report.problems[0].file, report.problems[0].hint);
    }
    if (remark.refusal) throw *remark.refusal;
  });
}

}  // namespace

void LookOptions::add_to(CLI::App* command) {
  config.add_to(command);
  machine.add_to(command);
  add_split(command, split);
  command->add_option("--samples", samples, "How many pictures, evenly spread; 0: all (256 of an endless set)")
      ->capture_default_str()
      ->check(from_zero());
  command->add_flag("--json", json, "Print JSON");
}

DataReport inspect_shown(const Dataset& dataset, int64_t samples) {
  ProgressLine line;
  return inspect_dataset(
      dataset, {.samples = samples, .on_progress = [&](int64_t done, int64_t all) { line.count("reading pictures", done, all); }});
}

void print_classes(const DataReport& report, const std::vector<double>& weights) {
  fmt::print("{:>5}  {:<20} {:>12} {:>8} {:>9}{}\n", "class", "name", "pixels", "share", "pictures", weights.empty() ? "" : "    weight");
  for (size_t c = 0; c < report.class_names.size(); ++c) {
    const double share = report.total_pixels > 0 ? 100.0 * double(report.class_pixels[c]) / double(report.total_pixels) : 0;
    fmt::print("{:>5}  {:<20} {:>12} {:>7.2f}% {:>9}{}{}\n", c, report.class_names[c], report.class_pixels[c], share,
               report.class_samples[c], weights.empty() ? "" : fmt::format("{:>10.3g}", weights[c]),
               report.class_pixels[c] == 0 ? "  never occurs" : "");
  }
  fmt::print("ignored: {:.2f} % of the pixels\n", 100 * report.ignored_share());
}

void add_inspect(CLI::App& app) {
  CLI::App* command = add_command(app, "inspect", "Look into a data set, a file of weights or runs", "equiscale inspect data CONFIG");
  command->require_subcommand(1);
  add_inspect_data(*command);
  add_inspect_ckpt(*command);
  add_inspect_run(*command);
}

}  // namespace eq::app
