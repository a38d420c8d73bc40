// equiscale eval RUN|CKPT.
#include <fmt/format.h>

#include "app/common.h"
#include "core/words.h"
#include "training/evaluator.h"
#include "training/run_log.h"

namespace eq::app {

void add_eval(CLI::App& app) {
  CLI::App* command = add_command(app, "eval", "Evaluate a trained network: IoU and accuracy of every class, aAcc, mIoU, mAcc",
                                  "equiscale eval runs/camvid --split test");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    ViewOptions views;
    std::string split = "val";
    bool slide = false, json = false;
    int64_t limit = 0;
  };
  auto options = std::make_shared<Options>();
  options->run.add_to(command, "data.root=elsewhere");
  options->machine.add_to(command);
  command->add_option("--split", options->split, "train, val or test")->capture_default_str();
  command->add_flag("--slide", options->slide, "Average over sliding windows (evaluate.crop, evaluate.stride) instead of whole pictures");
  options->views.add_to(command);
  command->add_option("--limit", options->limit, "Only the first N pictures; 0: all")->capture_default_str()->check(from_zero());
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    options->machine.apply();
    TrainedModel trained = options->run.load();
    if (options->slide) trained.config.evaluate.mode = "slide";
    options->views.apply(trained.config.evaluate);
    const auto dataset = make_dataset(trained.config.data, options->split);
    EvalRequest request{.options = trained.config.evaluate, .pipeline = trained.config.pipeline, .limit = options->limit};
    const EvalResult result = evaluate(*trained.model, *dataset, request);
    if (options->json) {
      fmt::print("{}\n", metrics_json(result.metrics));
    } else {
      fmt::print("{}{} of {} in {:.1f} s, peak {} of tensors\n", to_table(result.metrics), counted(result.pictures, "picture"),
                 options->split, result.seconds, human_bytes(double(result.peak_bytes)));
    }
  });
}

}  // namespace eq::app
