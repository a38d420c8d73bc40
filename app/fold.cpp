// equiscale fold RUN|CKPT --out FILE.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "app/common.h"
#include "core/words.h"
#include "training/fold.h"

namespace eq::app {

void add_fold(CLI::App& app) {
  CLI::App* command = add_command(
      app, "fold", "Turn the equalizers of a trained network into weights: the same predictions, nothing left to compute for them",
      "equiscale fold runs/camvid --out camvid_folded.safetensors --check 101");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    std::string out, split = "val";
    int64_t check = 0;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  options->run.add_to(command, "data.root=elsewhere");
  command->add_option("--out", options->out, "The new weights file, .safetensors; `eval` and `predict` take it as they take a run")
      ->required();
  command->add_option("--check", options->check, "Compare the predictions on so many pictures")->capture_default_str()->check(from_zero());
  add_split(command, options->split, ", for --check");
  command->add_flag("--json", options->json, "Print JSON");
  options->machine.add_to(command);
  command->callback([options] {
    options->machine.apply();
    check_weights_name(options->out);
    TrainedModel trained = options->run.load();
    check_not_source(options->out, trained.source);
    const int64_t sites = fold_equalizers(trained);
    std::optional<TrainedModel> before;
    std::unique_ptr<Dataset> dataset;
    if (options->check > 0) {
      before = options->run.load();
      dataset = make_dataset(before->config.data, options->split);
    }
    const std::string sha256 = save_weights(options->out, *trained.model, trained.card);
    nlohmann::ordered_json report = {{"sites", sites}, {"file", options->out}, {"weights_sha256", sha256}};
    if (!options->json) fmt::print("folded {} fusion sites into {}\n", sites, options->out);
    if (before) {
      TrainedModel after = load_trained_model(options->out, options->run.settings);
      const PredictionDifference difference = compare_predictions(*before, after, *dataset, options->check);
      report["check"] = {{"pictures", difference.pictures}, {"pixels", difference.pixels}, {"largest_difference", difference.largest},
                         {"changed_pixels", difference.changed_pixels}};
      if (!options->json) {
        fmt::print("{} of {}: the scores differ by at most {:.2g}, the class of {} of {} pixels\n", counted(difference.pictures, "picture"),
                   options->split, difference.largest, difference.changed_pixels, difference.pixels);
      }
    }
    if (options->json) print_json(report);
  });
}

}  // namespace eq::app
