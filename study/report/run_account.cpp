#include "study/report/run_account.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "models/segmentor.h"
#include "training/trained_model.h"
#include "training/trainer.h"

namespace eq::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// "data error: ..." of the three lines that a failed run leaves last in its log; what it says after a later start is behind them.
std::string last_error(const fs::path& log) {
  if (!fs::exists(log)) return "";
  const FileReader reader(log);
  std::string end(size_t(std::min<uint64_t>(reader.size(), 16384)), '\0');
  reader.read_at(reader.size() - end.size(), end.data(), end.size());
  const size_t where = end.rfind("\n  where: "), after = end.rfind("\n  try:   ");
  if (where == std::string::npos || after == std::string::npos || after < where) return "";
  if (end.find('\n', after + 1) + 1 < end.size()) return "";
  const size_t begin = end.rfind('\n', where - 1) + 1;  // 0 where it is the first line
  return where > 0 ? end.substr(begin, where - begin) : "";
}

}  // namespace

std::string words(RunState state) {
  switch (state) {
    case RunState::kFinished: return "finished";
    case RunState::kTraining: return "training now";
    case RunState::kDiverged: return "diverged";
    case RunState::kBrokenOff: break;
  }
  return "broken off";
}

std::string network_words(const Fields& config) {
  const Fields model = config.object("model"), backbone = model.object("backbone");
  BackboneOptions options{.type = backbone.words("type"), .variant = backbone.words("variant")};
  if (const double depth = backbone.number("depth"); depth >= 0 && depth < 1e6) options.depth = int(depth);
  if (const double multiplier = backbone.number("multiplier"); std::isfinite(multiplier)) options.multiplier = multiplier;
  return model.object("decode_head").words("type") + " head on " + backbone_name(options);
}

RunAccount account_of(const fs::path& folder) {
  if (!holds_run(folder)) {
    throw IoError("this folder does not hold a run (config.json)", folder.string(),
                  "give the folder that --out of `equiscale train` has named; a study has one for each run");
  }
  RunAccount run{.files = read_run_progress(folder)};
  const Fields config(*run.files.config, (folder / "config.json").string());
  run.network = network_words(config);
  run.equalizer = config.object("equalizer").words("mode");
  run.data = config.object("data").words("type");
  run.root = config.object("data").words("root");
  run.seed = config.number("seed");
  run.planned = config.object("train").number("iterations");
  run.seconds = run.images_per_second = run.parameters = std::nan("");
  run.done = iterations_done(run.files);
  if (!run.files.train.empty()) {
    run.seconds = run.files.train.back().seconds, run.images_per_second = run.files.train.back().images_per_second;
  }
  if (run.files.summary) {
    const Fields summary(*run.files.summary, (folder / "summary.json").string());
    run.seconds = summary.number("seconds");
    run.images_per_second = summary.number("images_per_second");
    run.parameters = summary.number("parameters");
  }
  for (const EvaluationRow& row : run.files.evaluations) {
    if (std::isnan(row.miou) || std::isnan(row.iteration)) continue;
    if (!run.best || row.miou > run.best->miou) run.best = row;
    if (!run.last || row.iteration >= run.last->iteration) run.last = row;
  }
  if (fs::exists(folder / kBestWeights)) run.best_weights = read_weights_card(folder / kBestWeights).iteration;
  run.state = is_training(folder)  ? RunState::kTraining
              : run.files.diverged ? RunState::kDiverged
              : run.files.summary  ? RunState::kFinished
                                   : RunState::kBrokenOff;
  if (run.state != RunState::kFinished) run.error = last_error(folder / "log.txt");
  return run;
}

std::vector<DifferingKey> differing_keys(const std::vector<RunAccount>& runs) {
  std::map<std::string, std::vector<std::string>> table;
  for (size_t r = 0; r < runs.size(); ++r) {
    for (const auto& [key, value] : flattened(*runs[r].files.config)) {
      table[key].resize(runs.size());
      table[key][r] = value;
    }
  }
  std::vector<DifferingKey> differing;
  for (const auto& [key, values] : table) {
    if (std::any_of(values.begin(), values.end(), [&first = values[0]](const std::string& value) { return value != first; })) {
      differing.push_back({key, values});
    }
  }
  return differing;
}

}  // namespace eq::report
