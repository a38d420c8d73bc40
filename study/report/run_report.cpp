// report.html of a training run: the headline, and the order of its parts.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "study/report/report.h"
#include "study/report/run_account.h"
#include "study/report/run_sections.h"
#include "study/report/ticks.h"
#include "training/evaluation_files.h"
#include "training/trainer.h"

namespace eq {
namespace report {
namespace {

namespace fs = std::filesystem;
std::string equalizer_words(const Fields& config) {
  const Fields equalizer = config.object("equalizer");
  const std::string mode = equalizer.words("mode");
  if (mode.empty() || mode == "off") return "none";
  const double refresh = equalizer.number("refresh");
  return fmt::format("{} inputs, per {}{}", equalizer.words("inputs"), equalizer.words("granularity") == "channel" ? "channel" : "branch",
                     refresh > 0 ? fmt::format(", anew every {:.0f}", refresh) : "");
}

// "13.9 M"
std::string rounded_count(double count) {
  if (std::isnan(count) || count < 1e4) return short_number(count);
  return count < 1e6 ? fmt::format("{:.1f} k", count / 1e3) : fmt::format("{:.1f} M", count / 1e6);
}

Markup headline(const RunFiles& run, const Fields& config) {
  const std::string mode = config.object("equalizer").words("mode"), summary_file = (run.folder / "summary.json").string();
  std::vector<Tile> all;
  if (!run.evaluations.empty()) {
    const EvaluationRow& last = run.evaluations.back();
    const auto in_mean = std::count_if(last.classes.begin(), last.classes.end(), [](const ClassRow& c) { return !std::isnan(c.iou); });
    all.push_back({"mIoU", percent(last.miou, 2),
                   (size_t(in_mean) < last.classes.size() ? fmt::format("over {} of ", in_mean) : "") +
                       fmt::format("{} classes", last.classes.size())});
    all.push_back({"aAcc", percent(last.aacc, 2), "pixels that are right"});
    all.push_back({"mAcc", percent(last.macc, 2), "mean over classes"});
    if (!std::isnan(last.mdice)) all.push_back({"mDice", percent(last.mdice, 2), "F1, mean over classes"});
    if (!std::isnan(last.cross_entropy)) all.push_back(cross_entropy_tile(last));
  }
  const double planned = config.object("train").number("iterations"), done = iterations_done(run);
  const std::string state = run.diverged ? "diverged" : "not finished";
  all.push_back({"Iterations", whole_number(done), done < planned ? fmt::format("of {:.0f}: {}", planned, state) : ""});
  if (!run.train.empty()) {
    const TrainRow& last = run.train.back();
    all.push_back({"Training time", duration(last.seconds), "h:mm:ss"});
    if (run.summary) {
      all.push_back({"Speed", short_number(Fields(*run.summary, summary_file).number("images_per_second")), "pictures a second"});
    }
  }
  all.push_back({"Equalizers", mode.empty() ? "off" : mode, equalizer_words(config)});
  if (run.summary) all.push_back({"Parameters", rounded_count(Fields(*run.summary, summary_file).number("parameters")), ""});
  return tiles(all);
}

std::string folder_name(const fs::path& folder) {
  const fs::path whole = fs::weakly_canonical(folder);
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

std::string run_page(const RunFiles& run) {
  const Fields config(*run.config, (run.folder / "config.json").string());
  const std::string subtitle = fmt::format("Training run: {}, {} data, seed {:.0f}", network_words(config),
                                           config.object("data").words("type"), config.number("seed"));
  return page(folder_name(run.folder), text(subtitle), headline(run, config),
              {learning_section(run), classes_section(run), confusion_section(run), pictures_section(run), scales_section(run),
               gradients_section(run), layers_section(run), provenance_section(run)});
}

}  // namespace

}  // namespace report

std::filesystem::path write_run_report(const std::filesystem::path& folder) {
  const std::string html = report::run_page(report::read_run(folder));
  write_text_atomically(folder / "report.html", html);
  return folder / "report.html";
}

std::filesystem::path write_report(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "study.json")) return write_study_report(folder);
  if (holds_run(folder)) return write_run_report(folder);
  if (std::filesystem::exists(folder / kEvaluationSummary)) return write_evaluation_report(folder);
  if (!std::filesystem::exists(folder)) throw IoError("there is no such folder", folder.string(), "check the path");
  throw IoError("this folder holds neither a run (config.json), a study (study.json) nor an evaluation (evaluation.json)", folder.string(),
                "give the folder that --out of `equiscale train`, of a study or of `equiscale eval` has named");
}

}  // namespace eq
