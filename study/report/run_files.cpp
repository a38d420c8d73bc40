#include "study/report/run_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/csv.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/limits.h"
#include "study/report/chart.h"
#include "training/checkpoint.h"
#include "training/config_fields.h"
#include "training/evaluation_files.h"

namespace eq::report {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTryDelete = "delete the file: the report does without";

std::vector<Calibrated> read_branches(const Fields& measurement) {
  std::vector<Calibrated> branches;
  for (const Fields& b : measurement.objects("branches")) {
    branches.push_back({b.words("site"), b.words("branch"), b.number("mean"), b.number("std"), b.number("std_error"), b.flag("equalized"),
                        b.flag("floored"), b.number("growth")});
  }
  return branches;
}

void read_calibration(const fs::path& path, RunFiles& run) {
  if (!fs::exists(path)) return;
  const json calibration = read_json(path);
  const Fields fields(calibration, path.string());
  run.calibration_batches = fields.number("batches");
  run.calibrated = read_branches(fields);
  for (const Fields& refresh : fields.objects("refreshes")) run.refreshes.push_back({refresh.number("iteration"), read_branches(refresh)});
}

EvaluationRow evaluation_of(const Fields& row) {
  EvaluationRow evaluation{.iteration = row.number("iteration"),
                           .miou = row.number("miou"),
                           .macc = row.number("macc"),
                           .aacc = row.number("aacc"),
                           .mdice = row.number("mdice"),
                           .cross_entropy = row.number("cross_entropy"),
                           .pictures = row.number("pictures"),
                           .seconds = row.number("evaluation_seconds"),
                           .classes = {}};
  for (const Fields& c : row.objects("per_class")) {
    evaluation.classes.push_back(
        {c.words("name"), c.number("iou"), c.number("acc"), c.number("dice"), c.number("precision"), c.number("pixels")});
  }
  return evaluation;
}

void read_metrics(const fs::path& path, RunFiles& run) {
  for (const json& line : read_json_lines(path)) {
    const Fields row(line, path.string());
    if (row.words("type") == "train") {
      run.train.push_back({row.number("iteration"), row.number("loss"), row.number("main_loss"), row.number("aux_loss"), row.number("lr"),
                           row.number("grad_norm"), row.number("images_per_second"), row.number("data_wait"), row.number("memory_bytes"),
                           row.number("seconds")});
    } else if (row.words("type") == "evaluate") {
      run.evaluations.push_back(evaluation_of(row));
    }
  }
}

void read_probes(const fs::path& path, RunFiles& run) {
  for (const json& line : read_json_lines(path)) {
    const Fields row(line, path.string());
    ProbeRecord probe;
    const double iteration = row.number("iteration");
    probe.iteration = iteration >= 0 && iteration < 1e15 ? int64_t(iteration) : 0;
    for (const Fields& site : row.objects("sites")) probe.sites.push_back(read_site(site));
    for (const Fields& layer : row.objects("layers")) {
      probe.layers.push_back({layer.words("name"), layer.number("grad"), layer.number("weight"), layer.number("update_ratio")});
    }
    run.probes.push_back(std::move(probe));
  }
}

std::vector<std::vector<std::string>> read_csv(const fs::path& path) {
  std::vector<std::vector<std::string>> rows;
  if (!fs::exists(path)) return rows;
  const std::string text = read_text(path, limits::kListFileBytes);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) {
      rows.push_back(csv_fields(text.substr(begin, end - begin), path.string() + ", row " + std::to_string(rows.size() + 1)));
    }
    begin = end + 1;
  }
  return rows;
}

double field_number(const std::string& field, const fs::path& path) {
  if (field.empty()) return kNone;
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size()) {
    throw DataError("a number was expected in a field", path.string(), kTryDelete);
  }
  return value;
}

// Before its rows had names, the table had no corner either.
std::optional<Confusion> read_confusion(const fs::path& path) {
  auto rows = read_csv(path);
  if (rows.empty()) return std::nullopt;
  if (!rows[0].empty() && rows[0][0] == kConfusionCorner) {
    for (auto& row : rows) row.erase(row.begin());
  }
  Confusion confusion{rows[0], {}};
  const size_t classes = rows[0].size();
  if (rows.size() != classes + 1 || classes > 256) {
    throw DataError("the table is not one row and one column for each class", path.string(), kTryDelete);
  }
  for (size_t r = 1; r < rows.size(); ++r) {
    if (rows[r].size() != classes) {
      throw DataError("row " + std::to_string(r + 1) + " has another number of fields", path.string(),
                      kTryDelete);
    }
    std::vector<double> counts;
    for (const std::string& field : rows[r]) counts.push_back(field_number(field, path));
    confusion.counts.push_back(std::move(counts));
  }
  return confusion;
}

std::vector<PictureRow> read_pictures(const fs::path& path) {
  std::vector<PictureRow> pictures;
  const auto rows = read_csv(path);
  for (size_t r = 1; r < rows.size(); ++r) {
    constexpr size_t kFields = 5, kFieldsBefore = 4;  // before cross-entropy was among them
    if (rows[r].size() != kFields && rows[r].size() != kFieldsBefore) {
      throw DataError(fmt::format("row {} does not have {} fields", r + 1, kFields), path.string(), kTryDelete);
    }
    const double index = field_number(rows[r][0], path);
    pictures.push_back({index >= 0 && index < 1e15 ? int64_t(index) : -1, rows[r][1], field_number(rows[r][2], path),
                        field_number(rows[r][3], path), rows[r].size() == kFields ? field_number(rows[r][4], path) : kNone});
  }
  return pictures;
}

// "best_1_0042.png": rank and index. Other names are not ours.
std::optional<ShownPicture> parse_shown(const fs::path& file, const std::string& kind) {
  const std::string name = file.filename().string();
  if (!name.starts_with(kind + "_") || !name.ends_with(".png")) return std::nullopt;
  ShownPicture shown{file, 0, 0};
  const char* end = name.data() + name.size() - 4;
  const auto rank = std::from_chars(name.data() + kind.size() + 1, end, shown.rank);
  if (rank.ec != std::errc() || rank.ptr == end || *rank.ptr != '_') return std::nullopt;
  const auto index = std::from_chars(rank.ptr + 1, end, shown.index);
  return index.ec == std::errc() && index.ptr == end ? std::optional(shown) : std::nullopt;
}

std::vector<ShownPicture> list_shown(const fs::path& folder, const std::string& kind) {
  std::vector<ShownPicture> all;
  if (!fs::is_directory(folder)) return all;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (const auto shown = parse_shown(entry.path(), kind)) all.push_back(*shown);
  }
  std::sort(all.begin(), all.end(), [](const ShownPicture& a, const ShownPicture& b) { return a.rank < b.rank; });
  return all;
}

// What EvaluationFiles left.
void read_evaluated(const fs::path& folder, RunFiles& run) {
  run.confusion = read_confusion(folder / "confusion.csv");
  run.pictures = read_pictures(folder / "pictures.csv");
  run.best = list_shown(folder, "best");
  run.worst = list_shown(folder, "worst");
}

}  // namespace

RunFiles read_run_progress(const fs::path& folder) {
  RunFiles run;
  run.folder = folder;
  run.calibration_batches = kNone;
  run.config = std::make_shared<const json>(read_json(folder / "config.json"));
  if (fs::exists(folder / "summary.json")) run.summary = std::make_shared<const json>(read_json(folder / "summary.json"));
  if (fs::exists(folder / "nan_report.json")) run.diverged = std::make_shared<const json>(read_json(folder / "nan_report.json"));
  read_metrics(folder / "metrics.jsonl", run);
  if (has_checkpoint(folder / "checkpoint")) {
    const ModelCard card = load_checkpoint_card(folder / "checkpoint");
    run.checkpoint_iteration = card.iteration;
    run.class_names = card.class_names;
    run.palette = card.palette;
  }
  return run;
}

double iterations_done(const RunFiles& run) {
  double done = double(run.checkpoint_iteration.value_or(0));
  for (const TrainRow& row : run.train) done = std::max(done, row.iteration);  // std::max passes over NaN as its second argument
  if (run.diverged) {  // counted from 0
    done = std::max(done, Fields(*run.diverged, (run.folder / "nan_report.json").string()).number("iteration"));
  }
  return done;
}

RunFiles read_run(const fs::path& folder) {
  RunFiles run = read_run_progress(folder);
  read_probes(folder / "probes.jsonl", run);
  read_calibration(folder / "calibration.json", run);
  read_evaluated(folder / "eval", run);
  return run;
}

RunFiles read_evaluation(const fs::path& folder) {
  RunFiles run;
  run.folder = folder;
  const fs::path file = folder / kEvaluationSummary;
  run.config = std::make_shared<const json>(read_json(file));
  const Fields fields(*run.config, file.string());
  run.evaluations.push_back(evaluation_of(fields));
  for (const ClassRow& c : run.evaluations[0].classes) run.class_names.push_back(c.name);
  try {
    run.palette = palette_from(run.config->value("palette", json()).dump());
  } catch (const std::invalid_argument&) {
    run.class_names.clear();  // no legend
  }
  if (run.palette.size() < run.class_names.size()) run.class_names.clear();
  read_evaluated(folder, run);
  return run;
}

}  // namespace eq::report
