// equiscale eval RUN|CKPT.
#include <fmt/format.h>

#include <optional>

#include "app/common.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/progress_line.h"
#include "core/words.h"
#include "study/comparison.h"
#include "study/report/report.h"
#include "study/statistics/over_pictures.h"
#include "study/study_head.h"
#include "training/evaluation_files.h"
#include "training/evaluator.h"
#include "training/run_log.h"
#include "training/trainer.h"

namespace eq::app {
namespace {

namespace fs = std::filesystem;

// Makes the folder before anything is computed: one that cannot be written is known at once. An evaluation's folder is its own: a run's or a
// study's would lose its report.
void prepare_evaluation_folder(const fs::path& out) {
  const fs::path whole = fs::weakly_canonical(out);
  const bool others = fs::exists(whole / "report.html") && !fs::exists(whole / kEvaluationSummary);
  if (holds_run(whole) || (whole.filename() == "eval" && holds_run(whole.parent_path())) || others) {
    throw UsageError("the folder is a run's or another report's", out.string(), "choose another --out");
  }
  make_folder(out);
  require_writable(out / kEvaluationSummary);
}

// `interval`: between what the mean IoU would come out on other pictures of this kind.
nlohmann::ordered_json result_json(const EvalResult& result, const std::optional<Interval>& interval) {
  nlohmann::ordered_json value = nlohmann::ordered_json::parse(metrics_json(result.metrics));
  value["pictures"] = result.pictures;
  value["miou_interval"] = interval_json(interval);
  return value;
}

std::string interval_line(const EvalResult& result, const std::optional<Interval>& interval) {
  if (!interval) return "";
  return fmt::format("mIoU {:.2f}, 95 % interval {:.2f} to {:.2f} over pictures\n", 100 * result.metrics.miou, 100 * (*interval)[0],
                     100 * (*interval)[1]);
}

void check_same_classes(const TrainedModel& other, const Dataset& dataset) {
  if (other.card.class_names == dataset.class_names()) return;
  throw UsageError(
      "this network was trained for other classes: " + joined(other.card.class_names) + ", not " + joined(dataset.class_names()),
      other.source, "compare networks of the same classes");
}

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command = add_command(
      app, "eval", "Evaluate a trained network: IoU, accuracy and Dice (F1) of every class, aAcc, mIoU, mAcc, mDice, cross-entropy",
      "equiscale eval runs/camvid --split test");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    ViewOptions views;
    std::string split = "val", out, compare;
    bool json = false;
    int64_t limit = 0;
  };
  auto options = std::make_shared<Options>();
  options->run.add_to(command, "data.root=elsewhere");
  options->machine.add_to(command);
  add_split(command, options->split);
  options->views.add_to(command);
  command->add_option("--limit", options->limit, "Only the first N pictures; 0: all")->capture_default_str()->check(from_zero());
  command->add_option(
      "--out", options->out,
      "Folder for what training leaves of its last evaluation: confusion.csv, pictures.csv, the best and the worst pictures "
      "with error maps; and evaluation.json and report.html. An earlier evaluation there is replaced");
  command->add_option("--compare", options->compare,
                      "Another trained network: both on the same pictures, and the interval of their difference over pictures. --set and "
                      "--weights are for both");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    options->machine.apply();
    TrainedModel trained = options->run.load(options->views.settings());
    std::optional<TrainedModel> other;
    if (!options->compare.empty()) {
      RunOptions beside = options->run;
      beside.path = options->compare;
      other = beside.load(options->views.settings());
    }
    if (!options->out.empty()) prepare_evaluation_folder(options->out);
    const auto dataset = make_dataset(trained.config.data, options->split);
    if (other) check_same_classes(*other, *dataset);
    EvalRequest request{.options = trained.config.evaluate, .pipeline = trained.config.pipeline, .limit = options->limit};
    std::optional<EvaluationFiles> files;
    if (!options->out.empty()) {
      files.emplace(*dataset, options->out, kExtremePictures);
      request.on_picture = [&](const EvaluatedPicture& picture) { files->add(picture); };
    }
    ProgressLine line;
    request.on_progress = [&](int64_t done, int64_t all) { line.count("evaluating", done, all); };
    const EvalResult result = evaluate(*trained.model, *dataset, request);
    std::optional<EvalResult> others;
    if (other) {  // on the same pictures, each sized and normalised as it was trained
      request.options = other->config.evaluate;
      request.pipeline = other->config.pipeline;
      request.on_picture = nullptr;
      others = evaluate(*other->model, *dataset, request);
    }
    line.clear();
    const auto interval = miou_interval(result.counts);
    if (files) {
      files->write();
      nlohmann::ordered_json summary = {{"run", trained.source}, {"split", options->split}, {"palette", dataset->palette()}};
      summary.update(result_json(result, interval));
      write_text_atomically(std::filesystem::path(options->out) / kEvaluationSummary, file_text(summary));
      fmt::print(options->json ? stderr : stdout, "report: {}\n", write_evaluation_report(options->out).string());
    }
    const auto comparison = others ? std::optional(compare_networks(options->run.path, result, options->compare, *others)) : std::nullopt;
    if (options->json) {
      nlohmann::ordered_json value = result_json(result, interval);
      if (comparison) {
        value["compared"] = {{"run", options->compare},
                             {"miou", number_or_null(others->metrics.miou)},
                             {"cross_entropy", number_or_null(others->metrics.cross_entropy)},
                             {"difference", number_or_null(comparison->difference)},
                             {"interval", interval_json(comparison->interval)}};
      }
      fmt::print("{}\n", json_text(value));
    } else {
      fmt::print("{}{}{} of {} in {:.1f} s, peak {} of tensors\n", to_table(result.metrics), interval_line(result, interval),
                 counted(result.pictures, "picture"), options->split, result.seconds, human_bytes(double(result.peak_bytes)));
      if (comparison)
        fmt::print("{}: mIoU {:.2f}, cross-entropy {:.4f}\n{}\n", options->compare, 100 * others->metrics.miou,
                   others->metrics.cross_entropy, comparison->words);
    }
  });
}

}  // namespace eq::app
