// equiscale convert CONFIG WEIGHTS --out FILE.safetensors.
#include <fmt/format.h>

#include <memory>

#include "app/common.h"
#include "training/convert.h"

namespace eq::app {

void add_convert(CLI::App& app) {
  CLI::App* command = add_command(app, "convert", "Take over a network that was trained elsewhere, under mmsegmentation's names: evaluate, predict, export it",
                                  "equiscale convert recipes/ade20k_upernet_swin_tiny.json upernet_swin_tiny.pth --out swin.safetensors --set equalizer.mode=off --set data.root=ADEChallengeData2016");
  struct Options {
    MachineOptions machine;
    ConfigOptions config;
    std::string weights, out;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  options->config.add_to(command);
  command->add_option("weights", options->weights, "PyTorch's file (.pth, .pt, .bin) or safetensors, of the whole network")->required();
  command->add_option("--out", options->out, "The new weights file, .safetensors; `eval`, `predict`, `fold` and `export` take it as they take a run")->required();
  command->add_flag("--json", options->json, "Print JSON");
  options->machine.add_to(command);
  command->callback([options] {
    options->machine.apply();
    if (std::filesystem::path(options->out).extension() != ".safetensors") {
      throw UsageError("the new file's name must end in .safetensors", options->out, "for example --out network.safetensors");
    }
    const ConvertedModel converted = convert_weights(options->config.load(), options->weights);
    const std::string sha256 = save_weights(options->out, *converted.trained.model, converted.trained.card);
    if (options->json) {
      print_json({{"file", options->out}, {"classes", converted.trained.card.class_names.size()}, {"left_out", converted.left_out}, {"weights_sha256", sha256}});
      return;
    }
    fmt::print("{}: {} parameters, {} classes\n", options->out, converted.trained.model->parameter_count(), converted.trained.card.class_names.size());
    if (!converted.left_out.empty()) fmt::print("left out of {}: {}\n", options->weights, converted.left_out);
  });
}

}  // namespace eq::app
