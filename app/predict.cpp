// equiscale predict CKPT IMAGE... --out DIR.
#include <fmt/format.h>

#include <csignal>

#include "app/common.h"
#include "core/words.h"
#include "training/prediction_files.h"
#include "training/signals.h"

namespace eq::app {

void add_predict(CLI::App& app) {
  CLI::App* command = add_command(app, "predict", "Predict pictures: an overlay and a PNG of class indices for each",
                                  "equiscale predict runs/camvid street.jpg more/pictures --out predicted");
  struct Options {
    RunOptions run;
    MachineOptions machine;
    ViewOptions views;
    std::string out;
    std::vector<std::string> pictures;
    bool json = false;
    PredictionFileOptions files;
  };
  auto options = std::make_shared<Options>();
  options->run.add_to(command, "evaluate.crop=[512,512]");
  command->add_option("pictures", options->pictures, "Pictures, or folders of pictures, however deep; predictions keep the subfolders")
      ->required();
  command
      ->add_option("--out", options->out,
                   "Folder for <name>.png (class indices) and <name>_overlay.png. Earlier predictions, which have both, are replaced; it "
                   "must not be a picture's own folder, and "
                   "where only one of the two files is there, nothing is written")
      ->required();
  options->machine.add_to(command);
  options->views.add_to(command);
  command->add_flag("--label-values", options->files.label_values,
                    "Class indices become the values of the data set's label files, as benchmarks want them: data.label_map backwards "
                    "(ADE20K: 1 to 150; Cityscapes: its ids)");
  command->add_flag("--probabilities", options->files.probabilities,
                    "Also write <name>_probabilities.safetensors: float32 \"probabilities\" [classes, height, width]");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    options->machine.apply();
    TrainedModel trained = options->run.load(options->views.settings());
    const std::vector<std::filesystem::path> paths(options->pictures.begin(), options->pictures.end());
    const PictureList list = list_pictures(paths, options->out);
    if (!list.left_out.empty()) {
      std::vector<std::string> names;
      for (const std::filesystem::path& path : list.left_out) names.push_back(path.string());
      fmt::print(stderr, "left out, by their names no pictures: {}\n", printable(some_of(names)));
    }
    // A picture's files are written as a pair or not at all; who reads no more of what is printed ends this as any program.
    const StopSignals signals;
    std::signal(SIGPIPE, SIG_DFL);
    options->files.stop = [] { return StopSignals::requested(); };
    nlohmann::json written = nlohmann::json::array();
    int64_t unreadable = 0;
    const auto all =
        predict_files(trained, list.pictures, options->out, options->files, [&](const PredictedFiles& files, const Error* error) {
          if (error) {
            ++unreadable;
            written.push_back({{"picture", files.picture.string()}, {"error", error->what_happened()}});
            if (!options->json) fmt::print("{}: {}\n", printable(files.picture.string()), error->what_happened());
            return;
          }
          written.push_back({{"picture", files.picture.string()}, {"labels", files.labels.string()}, {"overlay", files.overlay.string()}});
          if (!files.probabilities.empty()) written.back()["probabilities"] = files.probabilities.string();
          if (!options->json) fmt::print("{} -> {}\n", printable(files.picture.string()), printable(files.overlay.string()));
        });
    if (options->json) print_json(written);
    if (all.size() < list.pictures.size()) {
      fmt::print(stderr, "stopped: {} of {} were left out\n", list.pictures.size() - all.size(),
                 counted(int64_t(list.pictures.size()), "picture"));
      throw CLI::RuntimeError(130);
    }
    if (unreadable > 0) {
      const bool none = unreadable == int64_t(all.size());
      throw DataError(none ? "none of the pictures could be read"
                           : fmt::format("{} of {} pictures could not be read; the others are predicted", unreadable, all.size()),
                      none ? all.front().picture.string() : options->out, "replace those that are named above");
    }
  });
}

}  // namespace eq::app
