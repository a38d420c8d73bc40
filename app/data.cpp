// equiscale data make|stats|view (init: data_init.cpp): the built-in pictures as files, numbers for a configuration, and a look at what is
// trained on.
#include <fmt/format.h>

#include <filesystem>

#include "app/inspect.h"
#include "core/file.h"
#include "core/json.h"
#include "core/words.h"
#include "datasets/contact_sheet.h"
#include "datasets/shapes.h"
#include "datasets/shapes_files.h"
#include "demo_recipe.h"  // generated: recipes/shapes_upernet_resnet18.json as kDemoRecipe

namespace eq::app {
namespace {

using nlohmann::ordered_json;

// The demo's recipe, on these files.
std::string recipe_for(const DataOptions& files, int64_t side) {
  ordered_json recipe = ordered_json::parse(kDemoRecipe, nullptr, true, true);
  ordered_json folders = {{"image_suffix", files.image_suffix}};
  for (const auto& [split, pair] : files.folders) folders[split] = {{"images", pair.images}, {"labels", pair.labels}};
  recipe["data"] = {
      {"type", files.type}, {"root", files.root}, {"folders", folders}, {"classes", files.classes}, {"palette", files.palette}};
  recipe["pipeline"]["crop"] = {side, side};
  std::string text;  // a line for each section
  for (const auto& [section, value] : recipe.items()) {
    text += (text.empty() ? "{\n" : ",\n") + fmt::format("  \"{}\": {}", section, json_text(value));
  }
  return text + "\n}\n";
}

void add_make(CLI::App& parent) {
  CLI::App* command = add_command(parent, "make",
                                  "Write the built-in pictures (Shapes-8) as files, train and val, with a configuration that trains on "
                                  "them: a data set of folders to learn with, or to spoil",
                                  "equiscale data make --out shapes --train 500\n  equiscale train shapes/recipe.json --out runs/shapes");
  struct Options {
    std::string out;
    DataOptions shapes;
    uint64_t seed = kShapesSeed;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  options->shapes.train_images = 500;
  DataOptions& shapes = options->shapes;
  command->add_option("--out", options->out, "A new folder")->required();
  command->add_option("--train", shapes.train_images, "Training pictures")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--val", shapes.val_images, "Pictures to evaluate on")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  command->add_option("--size", shapes.size, "Side in pixels, 64 to 256")->capture_default_str();
  command->add_option("--seed", options->seed, "Of the pictures; with this one they are those that data.type shapes gives")
      ->capture_default_str()
      ->check(any_seed());
  command->add_option("--noise", shapes.difficulty.noise, "Gray levels of noise, 0 to 128")->capture_default_str();
  command->add_option("--contrast", shapes.difficulty.contrast, "Share of the contrast that is left, 0.05 to 1")->capture_default_str();
  command->add_option("--blur", shapes.difficulty.blur, "Radius of a box filter in pixels, 0 to 8")->capture_default_str();
  command->add_option("--wrong-labels", shapes.wrong_labels,
                      "Spoil the labels as real sets often are: shift (every class one too high), binary (0 and 255), swapped (colours "
                      "read as blue, green, red); "
                      "inspect data shows what it finds");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    const std::filesystem::path out = options->out, recipe = out / "recipe.json";
    const DataOptions files = write_shapes(options->shapes, options->seed, out);
    write_text_atomically(recipe, recipe_for(files, options->shapes.size));
    const int64_t train = options->shapes.train_images, val = options->shapes.val_images;
    if (options->json) return print_json({{"folder", files.root}, {"recipe", recipe.string()}, {"train", train}, {"val", val}});
    fmt::print("{} to train on and {} to evaluate on, {} x {} pixels\n{}\n", counted(train, "picture"), val, options->shapes.size,
               options->shapes.size, recipe.string());
  });
}

// "[1.5, 2]", as a configuration takes it.
template <class Values>
std::string as_list(const Values& values, const char* number) {
  return fmt::format(fmt::runtime(std::string("[") + number + "]"), fmt::join(values, ", "));
}

void add_stats(CLI::App& parent) {
  CLI::App* command = add_command(parent, "stats",
                                  "Class shares, mean and standard deviation of the pixels, and weights that even out the classes, as a "
                                  "configuration takes them. What is wrong with files: equiscale inspect data",
                                  "equiscale data stats recipes/camvid_upernet_resnet18.json --set data.root=path/to/camvid");
  auto options = std::make_shared<LookOptions>();
  options->add_to(command);
  command->callback([options] {
    options->machine.apply();
    const Config config = options->config.load();
    const DataReport report = inspect_shown(*make_dataset(config.data, options->split), options->samples);
    if (report.pixels.count == 0) {
      throw DataError("no picture could be read", report.problems.empty() ? "the data set" : report.problems[0].file,
                      "see what inspect data says of the files");
    }
    if (report.problem_count > 0) {
      fmt::print(stderr, "note: {} with files, which are left out here: see equiscale inspect data\n",
                 counted(report.problem_count, "problem"));
    }
    const std::vector<double> weights = balancing_weights(report);
    const auto mean = report.pixels.mean(), std = report.pixels.std();
    if (options->json) {
      nlohmann::json classes = nlohmann::json::array();
      for (size_t c = 0; c < weights.size(); ++c) {
        classes.push_back({{"index", c},
                           {"name", report.class_names[c]},
                           {"pixels", report.class_pixels[c]},
                           {"pictures", report.class_samples[c]},
                           {"share", double(report.class_pixels[c]) / double(std::max<int64_t>(1, report.total_pixels))},
                           {"weight", weights[c]}});
      }
      return print_json({{"pictures", report.inspected},
                         {"pixels", report.pixels.count},
                         {"mean", mean},
                         {"std", std},
                         {"ignored_share", report.ignored_share()},
                         {"classes", classes}});
    }
    fmt::print("{} of {}, {} pixels\n", counted(report.inspected, "picture"), options->split, human_count(double(report.pixels.count)));
    print_classes(report, weights);
    fmt::print("\n\"pipeline\": {{\"mean\": {}, \"std\": {}}},\n\"train\": {{\"class_weights\": {}}}\n\n", as_list(mean, "{:.3f}"),
               as_list(std, "{:.3f}"), as_list(weights, "{:.3g}"));
    fmt::print(
        "A backbone with pretrained weights wants the mean and std that it was trained with. The weights are by median frequency: 1 for a "
        "class\n"
        "with the median share of the pictures that show it, more for rarer ones: a proposal, to be tried against none.\n");
  });
}

void add_view(CLI::App& parent) {
  CLI::App* command = add_command(
      parent, "view", "Draw pictures beside their coloured labels on one sheet, as they are in the files or as training sees them",
      "equiscale data view recipes/camvid_upernet_resnet18.json --set data.root=path/to/camvid --augmented --out sheet.png");
  struct Options {
    ConfigOptions config;
    std::string split = "train", out;
    int64_t samples = 12, columns = 3, side = 256;
    bool augmented = false, json = false;
  };
  auto options = std::make_shared<Options>();
  options->config.add_to(command);
  command->add_option("--out", options->out, "The sheet, a .png")->required();
  add_split(command, options->split);
  command->add_flag("--augmented", options->augmented,
                    "The first pictures of the training, cropped, flipped, distorted (pipeline), in its order (seed); else pictures evenly "
                    "spread over the set");
  command->add_option("--samples", options->samples, "How many")->capture_default_str()->check(CLI::Range(1, 400));
  command->add_option("--columns", options->columns, "Pairs of picture and labels in a row")
      ->capture_default_str()
      ->check(CLI::Range(1, 40));
  command->add_option("--side", options->side, "Pixels of a picture's longer side; 0: as it is")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options] {
    if (std::filesystem::path(options->out).extension() != ".png") {
      throw UsageError("the sheet's name must end in .png", options->out, "for example --out sheet.png");
    }
    const Config config = options->config.load();
    const auto dataset = make_dataset(config.data, options->split);
    const LoaderOptions loader{.batch_size = config.train.batch_size, .seed = uint64_t(config.seed), .cache_bytes = 0};
    const std::vector<RawSample> samples = options->augmented ? training_samples(*dataset, config.pipeline, loader, options->samples)
                                                              : spread_samples(*dataset, options->samples);
    write_png(options->out, contact_sheet(samples, dataset->palette(), dataset->ignore_index(), options->columns, options->side));
    nlohmann::json names = nlohmann::json::array(), classes = nlohmann::json::array();
    for (const RawSample& sample : samples) names.push_back(sample.name);
    for (size_t c = 0; c < dataset->class_names().size(); ++c) {
      classes.push_back({{"index", c}, {"name", dataset->class_names()[c]}, {"color", hex_text(dataset->palette()[c])}});
    }
    if (options->json) return print_json({{"file", options->out}, {"pictures", names}, {"classes", classes}});
    const Image ignored = colorize({1, 1, {kIgnoreIndex}}, dataset->palette(), dataset->ignore_index());
    classes.push_back({{"index", size_t(kIgnoreIndex)},
                       {"name", "ignored"},
                       {"color", hex_text({ignored.pixels[0], ignored.pixels[1], ignored.pixels[2]})}});
    for (const auto& row : classes) {
      fmt::print("{:>5}  {}  {}\n", row["index"].get<size_t>(), row["color"].get<std::string>(), printable(row["name"].get<std::string>()));
    }
    for (size_t i = 0; i < samples.size(); ++i) {
      const bool first = i % size_t(options->columns) == 0;
      fmt::print("{}{}", i == 0 ? "row by row: " : first ? "\n            " : ", ", printable(samples[i].name));
    }
    fmt::print("\n{}\n", options->out);
  });
}

}  // namespace

void add_data(CLI::App& app) {
  CLI::App* command = add_command(
      app, "data", "Describe a folder of pictures, make a data set, measure one, look at one (equiscale inspect data: check one)",
      "equiscale data view CONFIG --out sheet.png");
  command->require_subcommand(1);
  add_data_init(*command);
  add_make(*command);
  add_stats(*command);
  add_view(*command);
}

}  // namespace eq::app
