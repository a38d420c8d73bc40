// equiscale demo: trains the built-in recipe without and then with scale equalizers, from the same initial weights and in the
// same data order, and shows both. One that was interrupted goes on.
#include <fmt/format.h>

#include "app/common.h"
#include "core/file.h"
#include "core/parallel.h"
#include "demo_recipe.h"  // generated: recipes/shapes_upernet_resnet18.json as kDemoRecipe
#include "study/report/report.h"
#include "training/trained_model.h"
#include "training/trainer.h"

namespace eq::app {
namespace {

constexpr const char* kArms[] = {"off", "explicit"};
constexpr int64_t kRows = 8, kZoom = 2;

Image enlarged(const Image& image) {
  Image out{image.height * kZoom, image.width * kZoom, {}};
  out.pixels.resize(size_t(out.height * out.width * 3));
  for (int64_t y = 0; y < out.height; ++y) {
    for (int64_t x = 0; x < out.width; ++x) {
      const uint8_t* from = &image.pixels[size_t(((y / kZoom) * image.width + x / kZoom) * 3)];
      std::copy(from, from + 3, &out.pixels[size_t((y * out.width + x) * 3)]);
    }
  }
  return out;
}

// Rows of picture | labels | prediction without equalizers | prediction with them.
void write_comparison(const std::filesystem::path& out, const Config& config) {
  const auto dataset = make_dataset(config.data, "val");
  std::vector<TrainedModel> models;
  for (const char* arm : kArms) models.push_back(load_trained_model(out / arm));
  std::vector<Image> rows;
  for (int64_t i = 0; i < std::min(kRows, dataset->size()); ++i) {
    const RawSample sample = dataset->load(i);
    std::vector<Image> row{sample.image, colorize(sample.labels, dataset->palette(), dataset->ignore_index())};
    for (TrainedModel& model : models) {
      row.push_back(colorize(predict_labels(model, sample.image), dataset->palette(), dataset->ignore_index()));
    }
    for (Image& image : row) image = enlarged(image);
    rows.push_back(side_by_side(row));
  }
  write_png(out / "comparison.png", stacked(rows));
}

}  // namespace

void add_demo(CLI::App& app) {
  CLI::App* command = add_command(app, "demo", "Train UPerNet on the built-in pictures without and with scale equalizers (a few minutes)",
                                  "equiscale demo --out demo");
  struct Options {
    MachineOptions machine;
    std::string out = "demo";
    std::vector<std::string> settings;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("--out", options->out, "Folder for both runs and the pictures")->capture_default_str();
  options->machine.add_to(command);
  add_settings(command, options->settings, "Change a key of the recipe, e.g. --set train.iterations=100");
  command->add_flag("--json", options->json, "Print both summaries as JSON on standard output, progress on standard error");
  command->callback([options] {
    options->machine.apply();
    std::FILE* log = options->json ? stderr : stdout;
    const std::filesystem::path out = options->out;
    Config config;
    nlohmann::json summaries = nlohmann::json::object();
    std::vector<double> miou;
    for (const std::string arm : kArms) {
      std::vector<std::string> settings = options->settings;
      settings.push_back("equalizer.mode=" + arm);
      config = parse_config(kDemoRecipe, "the built-in recipe", settings);
      fmt::print(log, "\n== scale equalizers: {} ==\n", arm);
      std::fflush(log);
      const TrainResult result = train(config, {.out = out / arm, .resume = holds_run(out / arm), .log = log});
      if (!result.finished) throw CLI::RuntimeError(130);
      fmt::print(log, "report: {}\n", write_run_report(out / arm).string());
      miou.push_back(result.metrics.miou);
      summaries[arm] = nlohmann::json::parse(read_text(out / arm / "summary.json", size_t{1} << 24));
    }
    write_comparison(out, config);
    fmt::print(log, "\nmIoU without equalizers {:.4f}, with equalizers {:.4f} (one seed each: a difference this size may be chance)\n",
               miou[0], miou[1]);
    if (options->json) print_json(summaries);
    fmt::print(log, "picture | labels | without | with:\n{}\n", (out / "comparison.png").string());
  });
}

}  // namespace eq::app
