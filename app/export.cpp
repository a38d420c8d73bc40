// equiscale export RUN|CKPT --out FILE.onnx.
#include <fmt/format.h>

#include <memory>

#include "app/common.h"
#include "core/limits.h"
#include "training/fold.h"
#include "training/onnx_export.h"

namespace eq::app {

void add_export(CLI::App& app) {
  CLI::App* command = add_command(app, "export", "Write a trained network as an ONNX model, which other programs run without this one",
                                  "equiscale export runs/camvid --out camvid.onnx --size 360 480");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    OnnxExportOptions network;
    std::string out;
    std::vector<int64_t> size;
    bool fold = false, json = false;
  };
  auto options = std::make_shared<Options>();
  options->run.add_to(command, "pipeline.crop=[512,512]");
  command->add_option("--out", options->out, "The new file, .onnx (operator set 17)")->required();
  command
      ->add_option("--size", options->size, "Height and width of the pictures; without it those of evaluate.crop (slide) or pipeline.crop")
      ->expected(2)
      ->check(CLI::Range(int64_t{1}, limits::kPictureSide));
  command->add_option("--batch", options->network.batch, "Pictures at a time; 0: any number")->capture_default_str()->check(from_zero());
  command->add_flag("--normalized", options->network.normalized,
                    "The input is float32 [N,3,H,W], normalised by the caller, instead of RGB pixels, uint8 [N,H,W,3]");
  command->add_flag("--labels", options->network.labels,
                    "The output is the class of each pixel, uint8 [N,H,W], instead of scores, float32 [N,K,H,W]");
  command->add_flag("--fold", options->fold, "Fold the equalizers into the weights first, as `equiscale fold` does");
  command->add_flag("--json", options->json, "Print JSON");
  options->machine.add_to(command);
  command->callback([options] {
    options->machine.apply();
    if (std::filesystem::path(options->out).extension() != ".onnx") {
      throw UsageError("the new file's name must end in .onnx", options->out, "for example --out network.onnx");
    }
    if (!options->size.empty()) options->network.height = options->size[0], options->network.width = options->size[1];
    TrainedModel trained = options->run.load();
    if (options->fold) fold_equalizers(trained);
    const OnnxExportReport report = export_onnx(trained, options->out, options->network);
    if (options->json) {
      print_json({{"file", options->out},
                  {"input", report.input},
                  {"output", report.output},
                  {"operators", report.operators},
                  {"bytes", report.bytes}});
    } else {
      fmt::print("{}: {} operators, {}\n  from {}\n  to   {}\n", options->out, report.operators, human_bytes(double(report.bytes)),
                 report.input, report.output);
    }
  });
}

}  // namespace eq::app
