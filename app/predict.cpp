// equiscale predict CKPT IMAGE... --out DIR.
#include <fmt/format.h>

#include "app/common.h"
#include "training/trained_model.h"

namespace eq::app {

void add_predict(CLI::App& app) {
  CLI::App* command = add_command(app, "predict", "Predict pictures: an overlay and a PNG of class indices for each",
                                  "equiscale predict runs/camvid street.jpg more/pictures --out predicted");
  struct Options {
    MachineOptions machine;
    ViewOptions views;
    std::string path, out;
    std::vector<std::string> pictures;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("run", options->path, "A run's folder, its checkpoint folder, or a model.safetensors")->required();
  command->add_option("pictures", options->pictures, "Pictures, or folders of pictures")->required();
  command->add_option("--out", options->out, "Folder for <name>.png (class indices) and <name>_overlay.png")->required();
  options->machine.add_to(command);
  options->views.add_to(command);
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    options->machine.apply();
    TrainedModel trained = load_trained_model(options->path);
    options->views.apply(trained.config.evaluate);
    const std::vector<std::filesystem::path> paths(options->pictures.begin(), options->pictures.end());
    nlohmann::json written = nlohmann::json::array();
    int64_t unreadable = 0;
    const auto all = predict_files(trained, list_pictures(paths), options->out, [&](const PredictedFiles& files, const Error* error) {
      if (error) {
        ++unreadable;
        written.push_back({{"picture", files.picture.string()}, {"error", error->what_happened()}});
        if (!options->json) fmt::print("{}: {}\n", files.picture.string(), error->what_happened());
        return;
      }
      written.push_back({{"picture", files.picture.string()}, {"labels", files.labels.string()}, {"overlay", files.overlay.string()}});
      if (!options->json) fmt::print("{} -> {}\n", files.picture.string(), files.overlay.string());
    });
    if (options->json) print_json(written);
    if (unreadable > 0) {
      throw DataError(fmt::format("{} of {} pictures could not be read; the others are predicted", unreadable, all.size()), options->out,
                      "replace those that are named above");
    }
  });
}

}  // namespace eq::app
