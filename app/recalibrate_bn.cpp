// equiscale recalibrate-bn RUN|CKPT --out FILE.
#include <fmt/format.h>

#include <algorithm>

#include "app/common.h"
#include "core/progress_line.h"
#include "core/words.h"
#include "training/recalibrate.h"

namespace eq::app {
namespace {

// Running means that are this far off, or variances by this factor, change what a network computes.
constexpr double kFar = 0.1, kFarRatio = 1.2;

bool is_far(const NormShift& shift) { return shift.mean > kFar || shift.highest_ratio > kFarRatio || shift.lowest_ratio < 1 / kFarRatio; }

void print(std::vector<NormShift> shifts) {
  const auto far = std::count_if(shifts.begin(), shifts.end(), is_far);
  fmt::print(
      "{} of {} had a channel whose running mean was off by more than {} standard deviations or its variance by more than a factor of {}\n",
      far, counted(int64_t(shifts.size()), "batch norm"), kFar, kFarRatio);
  std::stable_sort(shifts.begin(), shifts.end(), [](const NormShift& a, const NormShift& b) { return a.mean > b.mean; });
  shifts.resize(std::min<size_t>(shifts.size(), 10));
  fmt::print("\n{:<44} {:>20} {:>24}\n", "layer: the means that moved most", "mean, in std", "variance, new / old");
  for (const NormShift& shift : shifts) {
    fmt::print("{:<44} {:>20.4f} {:>12.4f} .. {:>8.4f}\n", shift.layer, shift.mean, shift.lowest_ratio, shift.highest_ratio);
  }
}

}  // namespace

void add_recalibrate_bn(CLI::App& app) {
  CLI::App* command =
      add_command(app, "recalibrate-bn", "Measure the running statistics of batch norm anew, as plain averages over training batches",
                  "equiscale recalibrate-bn runs/camvid --out recalibrated.safetensors");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    std::string out, split = "train";
    int64_t batches = 64;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  options->run.add_to(command, "train.batch_size=16");
  command->add_option("--out", options->out, "The new weights file, .safetensors; `eval` and `predict` take it as they take a run")
      ->required();
  command->add_option("--batches", options->batches, "How many batches of train.batch_size augmented pictures")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
  add_split(command, options->split, ": where the pictures are from; their labels are not looked at");
  command->add_flag("--json", options->json, "Print JSON");
  options->machine.add_to(command);
  command->callback([options] {
    options->machine.apply();
    check_weights_name(options->out);
    TrainedModel trained = options->run.load();
    check_not_source(options->out, trained.source);
    ProgressLine line;
    const std::vector<NormShift> shifts = recalibrate_batch_norm(
        trained, options->batches, options->split, [&](int64_t i) { line.count("measuring batches", i + 1, options->batches); });
    line.clear();
    const std::string sha256 = save_weights(options->out, *trained.model, trained.card);
    if (!options->json) {
      print(shifts);
      fmt::print("\nwritten: {}\n", options->out);
      return;
    }
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const NormShift& shift : shifts) {
      layers.push_back(
          {{"layer", shift.layer}, {"mean_shift_in_std", shift.mean}, {"variance_ratio", {shift.lowest_ratio, shift.highest_ratio}}});
    }
    print_json(nlohmann::ordered_json{{"layers", layers}, {"file", options->out}, {"weights_sha256", sha256}});
  });
}

}  // namespace eq::app
