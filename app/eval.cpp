// equiscale eval RUN|CKPT.
#include <fmt/format.h>

#include <optional>

#include "app/common.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/progress_line.h"
#include "core/words.h"
#include "study/report/report.h"
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

}  // namespace

void add_eval(CLI::App& app) {
  CLI::App* command =
      add_command(app, "eval", "Evaluate a trained network: IoU, accuracy and Dice (F1) of every class, aAcc, mIoU, mAcc, mDice",
                  "equiscale eval runs/camvid --split test");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    ViewOptions views;
    std::string split = "val", out;
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
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    options->machine.apply();
    TrainedModel trained = options->run.load(options->views.settings());
    if (!options->out.empty()) prepare_evaluation_folder(options->out);
    const auto dataset = make_dataset(trained.config.data, options->split);
    EvalRequest request{.options = trained.config.evaluate, .pipeline = trained.config.pipeline, .limit = options->limit};
    std::optional<EvaluationFiles> files;
    if (!options->out.empty()) {
      files.emplace(*dataset, options->out, kExtremePictures);
      request.on_picture = [&](int64_t index, const Tensor& labels, const Tensor& predictions) { files->add(index, labels, predictions); };
    }
    ProgressLine line;
    request.on_progress = [&](int64_t done, int64_t all) { line.count("evaluating", done, all); };
    const EvalResult result = evaluate(*trained.model, *dataset, request);
    line.clear();
    if (files) {
      files->write();
      nlohmann::ordered_json summary = {
          {"run", trained.source}, {"split", options->split}, {"pictures", result.pictures}, {"palette", dataset->palette()}};
      summary.update(nlohmann::ordered_json::parse(metrics_json(result.metrics)));
      write_text_atomically(std::filesystem::path(options->out) / kEvaluationSummary, file_text(summary));
      fmt::print(options->json ? stderr : stdout, "report: {}\n", write_evaluation_report(options->out).string());
    }
    if (options->json) {
      fmt::print("{}\n", metrics_json(result.metrics));
    } else {
      fmt::print("{}{} of {} in {:.1f} s, peak {} of tensors\n", to_table(result.metrics), counted(result.pictures, "picture"),
                 options->split, result.seconds, human_bytes(double(result.peak_bytes)));
    }
  });
}

}  // namespace eq::app
