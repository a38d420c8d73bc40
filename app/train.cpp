// equiscale train CONFIG --out DIR.
#include <fmt/format.h>

#include "app/common.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/parallel.h"
#include "study/report/report.h"
#include "training/trainer.h"

namespace eq::app {

void add_train(CLI::App& app) {
  CLI::App* command = add_command(app, "train", "Train a network as a configuration says; the folder holds everything the run leaves",
                                  "equiscale train recipes/camvid_upernet_resnet18.json --out runs/camvid --set data.root=path/to/camvid");
  struct Options {
    ConfigOptions config;
    MachineOptions machine;
    std::string out, load_mode;
    bool resume = false, dry_run = false, json = false;
  };
  auto options = std::make_shared<Options>();
  options->config.add_to(command);
  options->machine.add_to(command);
  command->add_option(
      "--out", options->out,
      "The run's folder: checkpoint/, metrics, tensorboard/ (with --set train.tensorboard=true), overlays/, eval/, model.safetensors, "
      "model_best.safetensors (with --set train.keep_best=true), summary.json, report.html; not needed with --dry-run");
  command
      ->add_option("--load-mode", options->load_mode,
                   "Of model.backbone.pretrained: strict (the file has the whole backbone), or backbone (its layers up to the first one "
                   "that the file lacks)")
      ->check(CLI::IsMember({"strict", "backbone"}));
  command->add_flag("--resume", options->resume,
                    "Go on from the folder's last checkpoint, to the same bits as an uninterrupted run; with the run's own configuration: "
                    "train --resume RUN");
  command->add_flag("--dry-run", options->dry_run, "Check configuration, data, shapes and memory with one step, write nothing");
  command->add_flag("--json", options->json, "Print the summary as JSON on standard output, progress on standard error");
  command->callback([options] {
    options->machine.apply();
    if (!options->load_mode.empty()) options->config.settings.push_back("model.backbone.load_mode=" + options->load_mode);
    const Config config = options->config.load();
    note_unread_keys(config);
    TrainRequest request;
    request.out = options->out;
    request.resume = options->resume;
    const bool run_alone = options->out.empty() && holds_run(options->config.path);
    if (run_alone && options->resume) request.out = options->config.path;
    if (run_alone && !options->resume && !options->dry_run) {
      throw UsageError("this is a run's folder, and a new run needs one of its own", options->config.path,
                       "equiscale train --resume RUN goes on with the run; --out another folder begins a new one with its configuration");
    }
    request.dry_run = options->dry_run;
    request.log = options->json ? stderr : stdout;
    TrainResult result;
    try {
      result = train(config, request);
    } catch (const NumericalError&) {
      if (!options->dry_run) write_run_report(request.out);  // which shows where it diverged
      throw;
    }
    if (options->dry_run) return;
    if (!result.finished) throw CLI::RuntimeError(130);  // stopped by a signal, as shells report it
    fmt::print(request.log, "report: {}\n", write_run_report(request.out).string());
    if (options->json) fmt::print("{}\n", read_text(request.out / "summary.json", size_t{1} << 24));
  });
}

}  // namespace eq::app
