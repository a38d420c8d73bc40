// equiscale inspect run RUN...: what a run is and has reached, or several beside each other.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "app/inspect.h"
#include "core/json.h"
#include "core/progress_line.h"
#include "study/report/run_account.h"
#include "training/trained_model.h"

namespace eq::app {
namespace {

using report::ClassRow;
using report::EvaluationRow;
using report::RunAccount;
using report::RunState;

std::string in_percent(double share) { return std::isnan(share) ? "-" : fmt::format("{:.2f}", 100 * share); }
std::string whole(double number) { return std::isnan(number) ? "?" : fmt::format("{:.0f}", number); }
std::string cut(const std::string& text, size_t length) { return text.size() > length ? text.substr(0, length - 3) + "..." : text; }

// Columns as wide as they need to be, the first to the left, the others to the right.
void print_table(const std::vector<std::vector<std::string>>& rows, size_t left = 1) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()), 0);
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line = " ";
    for (size_t i = 0; i < row.size(); ++i) {
      line += i < left ? fmt::format(" {:<{}} ", row[i], widths[i]) : fmt::format(" {:>{}} ", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

std::string nats(double value) { return std::isnan(value) ? "-" : fmt::format("{:.4f}", value); }

std::string score_at(const std::optional<EvaluationRow>& row) { return row ? in_percent(row->miou) + " at " + whole(row->iteration) : "-"; }

std::string data_words(const RunAccount& run) {
  std::string text = printable(run.data) + (run.root.empty() ? "" : " in " + printable(run.root));
  const size_t classes = run.files.class_names.empty() && run.last ? run.last->classes.size() : run.files.class_names.size();
  return classes > 0 ? text + fmt::format(", {} classes", classes) : text;
}

// All classes of a few, of many the best and the worst.
void print_classes(std::vector<ClassRow> classes) {
  constexpr size_t kAll = 20, kEnds = 8;
  std::vector<std::vector<std::string>> rows{{"class", "IoU", "Acc", "Dice", "Precision"}};
  const bool ends = classes.size() > kAll;
  if (ends) {
    std::erase_if(classes, [](const ClassRow& c) { return std::isnan(c.iou); });
    std::stable_sort(classes.begin(), classes.end(), [](const ClassRow& a, const ClassRow& b) { return a.iou > b.iou; });
  }
  for (size_t i = 0; i < classes.size(); ++i) {
    const bool left_out = ends && i >= kEnds && i + kEnds < classes.size();
    if (left_out && i == kEnds) rows.push_back({fmt::format("... {} more", classes.size() - 2 * kEnds)});
    if (!left_out) {
      rows.push_back({printable(classes[i].name), in_percent(classes[i].iou), in_percent(classes[i].acc), in_percent(classes[i].dice),
                      in_percent(classes[i].precision)});
    }
  }
  fmt::print("\n");
  print_table(rows);
}

void print_one(const RunAccount& run) {
  fmt::print("{}: {}\n", run.files.folder.string(), words(run.state));
  if (!run.error.empty()) fmt::print("  the log ends with: {}\n", printable(run.error));
  fmt::print("  network     {}{}, equalizers {}\n", printable(run.network),
             std::isnan(run.parameters) ? "" : ", " + human_count(run.parameters) + " parameters", printable(run.equalizer));
  fmt::print("  data        {}\n  seed        {}\n", data_words(run), whole(run.seed));
  const bool resumable = run.state != RunState::kFinished && run.files.checkpoint_iteration;
  fmt::print("  iterations  {} of {}{}\n", whole(run.done), whole(run.planned),
             resumable ? fmt::format(", a checkpoint of {}", *run.files.checkpoint_iteration) : "");
  if (!std::isnan(run.seconds)) {
    fmt::print("  time        {}, {:.3g} pictures a second in training steps\n", human_duration(run.seconds), run.images_per_second);
  }
  if (!run.files.train.empty()) fmt::print("  loss        {:.4g}\n", run.files.train.back().loss);
  if (!run.last) {
    fmt::print("  mIoU        not evaluated yet\n");
    return;
  }
  fmt::print("  mIoU        last {}, best {}\n", score_at(run.last), score_at(run.best));
  if (run.best_weights) fmt::print("  kept        {}, the best weights, of iteration {}\n", kBestWeights, *run.best_weights);
  fmt::print("  aAcc, mAcc  {}, {}; mDice {}{}\n", in_percent(run.last->aacc), in_percent(run.last->macc), in_percent(run.last->mdice),
             std::isnan(run.last->cross_entropy) ? "" : fmt::format("; cross-entropy {:.4f}", run.last->cross_entropy));
  if (run.files.evaluations.size() > 1) {
    std::vector<std::vector<std::string>> rows{{"iteration", "mIoU", "aAcc", "mAcc", "cross-entropy"}};
    for (const EvaluationRow& row : run.files.evaluations) {
      rows.push_back({whole(row.iteration), in_percent(row.miou), in_percent(row.aacc), in_percent(row.macc), nats(row.cross_entropy)});
    }
    fmt::print("\n");
    print_table(rows, 0);
  }
  print_classes(run.last->classes);
}

std::vector<std::string> headed(const std::string& first, size_t runs) {
  std::vector<std::string> row{first};
  for (size_t r = 1; r <= runs; ++r) row.push_back(std::to_string(r));
  return row;
}

// One row for each key that any run has, one column for each run.
using Columns = std::map<double, std::vector<std::string>>;
Columns curves(const std::vector<RunAccount>& runs) {
  Columns table;
  for (size_t r = 0; r < runs.size(); ++r) {
    for (const EvaluationRow& row : runs[r].files.evaluations) {
      if (std::isnan(row.iteration)) continue;
      table[row.iteration].resize(runs.size(), "");
      table[row.iteration][r] = in_percent(row.miou);
    }
  }
  return table;
}

bool same_classes(const std::vector<RunAccount>& runs) {
  const auto names = [](const RunAccount& run) {
    std::vector<std::string> all;
    for (const ClassRow& c : run.last->classes) all.push_back(c.name);
    return all;
  };
  return std::all_of(runs.begin(), runs.end(),
                     [&](const RunAccount& run) { return run.last && runs[0].last && names(run) == names(runs[0]); });
}

void print_several(const std::vector<RunAccount>& runs) {
  std::vector<std::vector<std::string>> rows{
      {"", "run", "state", "iterations", "last mIoU", "best mIoU", "aAcc", "mAcc", "cross-entropy", "loss", "time"}};
  for (size_t r = 0; r < runs.size(); ++r) {
    const RunAccount& run = runs[r];
    rows.push_back({std::to_string(r + 1), run.files.folder.string(), words(run.state), whole(run.done) + "/" + whole(run.planned),
                    score_at(run.last), score_at(run.best), run.last ? in_percent(run.last->aacc) : "-",
                    run.last ? in_percent(run.last->macc) : "-", run.last ? nats(run.last->cross_entropy) : "-",
                    run.files.train.empty() ? "-" : fmt::format("{:.4g}", run.files.train.back().loss),
                    std::isnan(run.seconds) ? "-" : human_duration(run.seconds)});
  }
  print_table(rows, 3);
  for (size_t r = 0; r < runs.size(); ++r) {
    if (!runs[r].error.empty()) fmt::print("  the log of {} ends with: {}\n", r + 1, printable(runs[r].error));
  }
  const std::vector<report::DifferingKey> keys = differing_keys(runs);
  if (keys.empty()) {
    fmt::print("\nthe configurations are the same\n");
  } else {
    rows = {headed("what differs", runs.size())};
    for (const report::DifferingKey& key : keys) {
      rows.push_back({printable(key.key)});
      for (const std::string& value : key.values) rows.back().push_back(value.empty() ? "-" : cut(value, 32));
    }
    fmt::print("\n");
    print_table(rows);
  }
  rows = {headed("mIoU after", runs.size())};
  for (const auto& [iteration, scores] : curves(runs)) {
    rows.push_back({whole(iteration)});
    rows.back().insert(rows.back().end(), scores.begin(), scores.end());
  }
  if (rows.size() > 1) {
    fmt::print("\n");
    print_table(rows, 0);
  }
  constexpr size_t kMostClasses = 40;
  if (!same_classes(runs) || runs[0].last->classes.size() > kMostClasses) return;
  rows = {headed("last IoU of", runs.size())};
  for (size_t c = 0; c < runs[0].last->classes.size(); ++c) {
    rows.push_back({printable(runs[0].last->classes[c].name)});
    for (const RunAccount& run : runs) rows.back().push_back(in_percent(run.last->classes[c].iou));
  }
  fmt::print("\n");
  print_table(rows);
}

// What counts, read as a double.
nlohmann::json count_or_null(double count) { return std::abs(count) < 1e15 ? nlohmann::json(int64_t(count)) : nlohmann::json(); }

nlohmann::json to_json(const EvaluationRow& row, bool with_classes) {
  nlohmann::json value = {{"iteration", count_or_null(row.iteration)}, {"miou", number_or_null(row.miou)},
                          {"macc", number_or_null(row.macc)},          {"aacc", number_or_null(row.aacc)},
                          {"mdice", number_or_null(row.mdice)},        {"cross_entropy", number_or_null(row.cross_entropy)}};
  if (!with_classes) return value;
  value["per_class"] = nlohmann::json::array();
  for (const ClassRow& c : row.classes) {
    value["per_class"].push_back({{"name", c.name},
                                  {"iou", number_or_null(c.iou)},
                                  {"acc", number_or_null(c.acc)},
                                  {"dice", number_or_null(c.dice)},
                                  {"precision", number_or_null(c.precision)}});
  }
  return value;
}

nlohmann::json to_json(const std::vector<RunAccount>& runs) {
  nlohmann::json all = nlohmann::json::array(), differing = nlohmann::json::object();
  for (const RunAccount& run : runs) {
    nlohmann::json evaluations = nlohmann::json::array();
    for (const EvaluationRow& row : run.files.evaluations) evaluations.push_back(to_json(row, false));
    all.push_back({{"run", run.files.folder.string()},
                   {"state", words(run.state)},
                   {"error", run.error},
                   {"network", run.network},
                   {"equalizer", run.equalizer},
                   {"data", run.data},
                   {"root", run.root},
                   {"seed", count_or_null(run.seed)},
                   {"iterations", count_or_null(run.done)},
                   {"iterations_planned", count_or_null(run.planned)},
                   {"seconds", number_or_null(run.seconds)},
                   {"images_per_second", number_or_null(run.images_per_second)},
                   {"parameters", count_or_null(run.parameters)},
                   {"evaluations", evaluations}});
    nlohmann::json& value = all.back();
    value["checkpoint"] = run.files.checkpoint_iteration ? nlohmann::json(*run.files.checkpoint_iteration) : nullptr;
    value["loss"] = run.files.train.empty() ? nullptr : number_or_null(run.files.train.back().loss);
    value["last"] = run.last ? to_json(*run.last, true) : nullptr;
    value["best_weights"] =
        run.best_weights ? nlohmann::json({{"file", kBestWeights}, {"iteration", *run.best_weights}}) : nlohmann::json();
    value["best"] = run.best ? to_json(*run.best, false) : nullptr;
  }
  for (const report::DifferingKey& key : differing_keys(runs)) {
    for (const std::string& value : key.values) differing[key.key].push_back(value.empty() ? nullptr : nlohmann::json::parse(value));
  }
  return {{"runs", all}, {"differing_keys", differing}};
}

}  // namespace

void add_inspect_run(CLI::App& inspect) {
  CLI::App* command = add_command(inspect, "run",
                                  "Say what a run is and what it has reached, also while it trains or after it broke off; of several: what "
                                  "sets their configurations apart, and "
                                  "their scores side by side. For one page with everything: equiscale report",
                                  "equiscale inspect run runs/camvid\n  equiscale inspect run runs/camvid runs/camvid_seed1");
  auto folders = std::make_shared<std::vector<std::string>>();
  auto json = std::make_shared<bool>(false);
  command->add_option("run", *folders, "Folders of runs, as --out of `equiscale train` named them")->required();
  command->add_flag("--json", *json, "Print JSON");
  command->callback([=] {
    std::vector<RunAccount> runs;
    for (const std::string& folder : *folders) runs.push_back(report::account_of(folder));
    if (*json) return print_json(to_json(runs));
    runs.size() == 1 ? print_one(runs[0]) : print_several(runs);
  });
}

}  // namespace eq::app
