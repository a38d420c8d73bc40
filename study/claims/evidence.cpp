// Finding and reading study.json files.
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "core/errors.h"
#include "core/json.h"
#include "core/words.h"
#include "study/claims/rules.h"
#include "study/report/fields.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kDepth = 8;
constexpr std::string_view kEqualizer = "equalizer.";  // what its settings begin with

double number(const json& value) { return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN(); }

std::optional<double> number_if_any(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

TheoryEvidence read_theory(const json& study, const std::string& file) {
  TheoryEvidence result{file, {}};
  for (const json& c : study.at("checks")) {
    TheoryCheck check;
    check.name = c.at("name").get<std::string>();
    check.setting = c.at("setting").get<std::string>();
    check.predicted = number(c.at("predicted"));
    check.measured = number(c.at("measured"));
    check.standard_error = number(c.at("standard_error"));
    check.pass = c.at("pass").get<bool>();
    result.checks.push_back(std::move(check));
  }
  return result;
}

// `batches`: of the record over those of the calibration.
BranchEvidence read_branch(const json& b, double batches) {
  BranchEvidence branch;
  branch.name = b.at("name").get<std::string>();
  branch.upsampled = b.at("upsampled").get<bool>();
  branch.channels = number(b.at("channels"));
  branch.resized_std = number(b.at("resized").at("std"));
  branch.fused_mean = number(b.at("fused").at("mean"));
  branch.fused_std = number(b.at("fused").at("std"));
  branch.weight_grad = number_if_any(b, "weight_grad");
  if (const json& calibrated = b.value("calibrated", json::object()); batches > 0) {
    const double std = number_if_any(calibrated, "std").value_or(0), spread = std::sqrt(1 + 1 / batches);
    if (std > 0) branch.mean_error = number_if_any(calibrated, "mean_error").value_or(0) / std * spread;
    if (std > 0) branch.std_error = number_if_any(calibrated, "std_error").value_or(0) / std * spread;
  }
  return branch;
}

// equalizer.mode of an arm; "changed <mode>" where other settings make another equalizer of it than the paper's, or levels are not resized
// bilinearly: of these it claims nothing.
std::string mode_of(const json& arm, const json& config) {
  json equalizer = config.at("equalizer"), upsampling = config.value("model", json::object()).value("upsampling", json("bilinear"));
  for (const json& setting : arm.at("settings")) {
    const std::string text = setting.get<std::string>();
    const size_t equals = text.find('=');
    if (equals == std::string::npos) continue;
    const std::string key = text.substr(0, equals), given = text.substr(equals + 1);
    const json parsed = json::parse(given, nullptr, false), value = parsed.is_discarded() ? json(given) : parsed;
    if (key.starts_with(kEqualizer)) equalizer[key.substr(kEqualizer.size())] = value;
    if (key == "model.upsampling") upsampling = value;
  }
  const std::string mode = equalizer.at("mode").get<std::string>();
  if (upsampling != json("bilinear")) return "changed " + mode;
  const bool changed = !equalizer.value("sites", json::array()).empty() || equalizer.value("inputs", json("all")) != json("all") ||
                       equalizer.value("constants", json("measured")) != json("measured") ||
                       equalizer.value("center", json(true)) != json(true) || equalizer.value("exponent", json(1)) != json(1) ||
                       equalizer.value("refresh", json(0)) != json(0);
  return changed && mode != "off" ? "changed " + mode : mode;
}

// What it sets besides the equalizer.
std::set<std::string> other_settings(const json& arm) {
  std::set<std::string> others;
  for (const json& setting : arm.at("settings")) {
    const std::string text = setting.get<std::string>();
    if (!text.starts_with(kEqualizer)) others.insert(text);
  }
  return others;
}

RecordEvidence read_records(const json& study, const std::string& file) {
  RecordEvidence result{file, {}};
  std::map<std::string, std::string> modes;
  for (const json& arm : study.value("arms", json::array())) modes[arm.at("name").get<std::string>()] = mode_of(arm, study.at("config"));
  // With several seeds the records are their means.
  const json& seeds = study.value("by_seed", json::array());
  for (const json& record : seeds.empty() ? study.at("records") : seeds) {
    if (record.at("iteration") != 0 || record.value("source", "") == "run") continue;  // a run's record is of a single batch
    const double calibrated = number_if_any(record, "calibration_batches").value_or(0);
    const double batches = calibrated > 0 ? record.value("batches", 0.0) / calibrated : 0;
    for (const json& s : record.at("sites")) {
      if (s.at("kind") != "concat") continue;
      SiteEvidence site;
      site.head = record.value("head", "");
      const std::string arm = record.at("arm").get<std::string>();
      site.mode = modes.contains(arm) ? modes[arm] : arm;  // without a list of arms, the names are modes
      site.site = s.at("site").get<std::string>();
      site.depthwise = s.value("depthwise", false);
      site.grad_ratio = number_if_any(s, "grad_ratio");
      for (const json& b : s.at("branches")) site.branches.push_back(read_branch(b, batches));
      result.sites.push_back(std::move(site));
    }
  }
  return result;
}

RunEvidence read_runs(const json& study, const std::string& file) {
  RunEvidence result;
  result.file = file;
  for (const json& arm : study.at("arms")) {
    result.arms[arm.at("name").get<std::string>()] = {mode_of(arm, study.at("config")), other_settings(arm)};
  }
  for (const json& run : study.at("runs")) {
    if (!run.at("shared_from").is_null()) continue;
    const std::optional<int64_t> seed = whole_number(run.at("seed"));
    if (!seed) throw DataError("the seed of a run is no whole number", file, "run the study again, or delete the file");
    const double cpu = run.value("cpu_seconds", 0.0);
    result.runs[run.at("arm").get<std::string>()][*seed] = {number(run.at("miou")), number(run.at("loss_tail")),
                                                            cpu > 0 ? cpu : number(run.at("seconds")),
                                                            run.value("weights_sha256", ""), run.value("loss_tail_from", 0.0)};
  }
  return result;
}

void read_study(const fs::path& path, const std::string& name, Evidence& evidence) {
  const json study = report::read_json(path);
  try {
    const std::string kind = study.at("kind").get<std::string>();
    if (kind == "theory") evidence.theory.push_back(read_theory(study, name));
    if (kind == "scales") evidence.scales.push_back(read_records(study, name));
    if (kind == "gradients") evidence.gradients.push_back(read_records(study, name));
    if (kind == "run") evidence.runs.push_back(read_runs(study, name));
  } catch (const json::exception& error) {
    throw DataError("the study lacks what its kind promises: " + json_reason(error.what()), path.string(),
                    "run the study again, or delete the file");
  }
}

}  // namespace

Evidence read_evidence(const fs::path& folder) {
  if (!fs::is_directory(folder)) throw IoError("there is no such folder", folder.string(), "name a folder that holds studies");
  std::vector<fs::path> files;
  for (auto entry = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied); entry != fs::end(entry);
       ++entry) {
    if (entry.depth() >= kDepth) entry.disable_recursion_pending();
    if (entry->path().filename() == "study.json" && entry->is_regular_file()) files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  Evidence evidence;
  for (const fs::path& file : files) read_study(file, fs::relative(file, folder).string(), evidence);
  return evidence;
}

std::string once_each(const std::vector<std::string>& files) {
  std::vector<std::string> unlike;
  for (const std::string& file : files) {
    if (std::find(unlike.begin(), unlike.end(), file) == unlike.end()) unlike.push_back(file);
  }
  return joined(unlike);
}

}  // namespace eq
