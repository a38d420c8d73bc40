// equiscale convert CONFIG WEIGHTS --out FILE.safetensors.
#include <fmt/format.h>

#include <memory>

#include "app/common.h"
#include "training/convert.h"

namespace eq::app {

void add_convert(CLI::App& app) {
  CLI::App* command = add_command(
      app, "convert", "Take over a network that was trained elsewhere, under mmsegmentation's names: evaluate, predict, export it",
      "equiscale convert recipes/ade20k_upernet_swin_tiny.json upernet_swin_tiny.pth --out swin.safetensors "
      "--set equalizer.mode=off --set data.root=ADEChallengeData2016");
  struct Options {
    std::string config, weights, out;
    std::vector<std::string> settings;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("config", options->config, "Configuration file of the network, such as recipes/ade20k_upernet_swin_tiny.json")
      ->required();
  command->add_option("weights", options->weights, "PyTorch's file (.pth, .pt, .bin) or safetensors, of the whole network")->required();
  command
      ->add_option("--out", options->out,
                   "The new weights file, .safetensors; `eval`, `predict`, `fold` and `export` take it as they take a run")
      ->required();
  add_settings(command, options->settings, "Change a key, e.g. --set equalizer.mode=off (may be repeated)");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    check_weights_name(options->out);
    check_not_source(options->out, options->weights);
    const ConvertedModel converted = convert_weights(load_config(options->config, options->settings), options->weights);
    const std::string sha256 = save_weights(options->out, *converted.trained.model, converted.trained.card);
    if (options->json) {
      print_json({{"file", options->out},
                  {"classes", converted.trained.card.class_names.size()},
                  {"left_out", converted.left_out},
                  {"weights_sha256", sha256}});
      return;
    }
    fmt::print("{}: {} parameters, {} classes\n", options->out, converted.trained.model->parameter_count(),
               converted.trained.card.class_names.size());
    if (!converted.left_out.empty()) fmt::print("left out of {}: {}\n", options->weights, converted.left_out);
  });
}

}  // namespace eq::app
