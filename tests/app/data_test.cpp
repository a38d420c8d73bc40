// data make, stats and view through the command.
#include <nlohmann/json.hpp>

#include "command.h"
#include "datasets/image.h"

using namespace eq;
using namespace eq::test;

TEST_CASE("data make writes a set that trains to the bits of the built-in one", "[app]") {
  const TemporaryFolder folder;
  const std::string set = (folder.path() / "set").string(), recipe = set + "/recipe.json";
  const CommandResult made = equiscale("data make --train 6 --val 4 --size 64 --out " + set);
  INFO(made.output);
  REQUIRE(made.status == 0);
  CHECK(made.output.ends_with(recipe + "\n"));
  const auto weights = [&](const std::string& name, const std::string& more) {
    const std::string out = (folder.path() / name).string();
    const CommandResult trained = equiscale("train " + recipe + " --out " + out +
                                            " --set train.iterations=2 --set train.batch_size=2 --set data.checks=false " + more);
    INFO(trained.output);
    REQUIRE(trained.status == 0);
    return nlohmann::json::parse(read_file(out + "/summary.json"))["weights_sha256"];
  };
  const std::string built_in = R"(--set 'data={"type": "shapes", "size": 64, "train_images": 6, "val_images": 4, "checks": false}')";
  CHECK(weights("files", "") == weights("built_in", built_in));
  check_error(equiscale("data make --out " + set), 2, "something here already");
  check_error(equiscale("data make --size 20 --out " + set + "2"), 2, "64 to 256");
  check_error(equiscale("data make --train 0 --out " + set + "2"), 2, "--train");
  check_error(equiscale("data make --wrong-labels upside --out " + set + "2"), 2, "upside");
  CHECK_FALSE(std::filesystem::exists(set + "2"));
  CHECK(equiscale("data make --train 12 --val 2 --wrong-labels shift --out " + set + "3").status == 0);
  check_error(equiscale("inspect data " + set + "3/recipe.json"), 3, "label 8 at pixel");
}

TEST_CASE("data make's folder may be moved", "[app]") {
  const TemporaryFolder folder;
  const std::filesystem::path before = folder.path() / "before", after = folder.path() / "after";
  std::filesystem::create_directory(before);
  const std::string program = EQ_BINARY_DIR "/equiscale ";
  REQUIRE(run_command("cd " + before.string() + " && " + program + "data make --train 12 --val 2 --size 64 --out set").status == 0);
  std::filesystem::rename(before, after);
  const CommandResult moved = run_command("cd " + after.string() + " && " + program + "inspect data set/recipe.json --json");
  INFO(moved.output);
  CHECK(moved.output.find("\"inspected\": 12") != std::string::npos);
}

TEST_CASE("the configuration for pictures of one's own works as the document has it", "[app]") {
  const TemporaryFolder folder;
  const std::string text = read_file(EQ_SOURCE_DIR "/docs/config.md"), fence = "```json\n";
  const size_t begin = text.find(fence) + fence.size();
  write_file(folder.path() / "own.json", text.substr(begin, text.find("```", begin) - begin));
  for (const char* name : {"images", "masks"}) std::filesystem::create_directories(folder.path() / "pictures" / name);
  for (int i = 0; i < 10; ++i) {
    const std::string name = std::to_string(i) + ".png";
    LabelMap labels{130, 140, std::vector<uint8_t>(130 * 140)};
    for (size_t p = 0; p < labels.labels.size(); ++p) labels.labels[p] = p % 3 == 2 ? 255 : uint8_t(p % 3);
    write_png(folder.path() / "pictures/images" / name, {130, 140, std::vector<uint8_t>(3 * 130 * 140, uint8_t(20 * i))});
    write_indexed_png(folder.path() / "pictures/masks" / name, labels, voc_palette());
  }
  const std::string there = "cd " + folder.path().string() + " && " + EQ_BINARY_DIR "/equiscale ";
  const CommandResult inspected = run_command(there + "inspect data own.json"), tried = run_command(there + "train own.json --dry-run");
  INFO(inspected.output << tried.output);
  CHECK(inspected.status == 0);
  CHECK(inspected.output.find("no problems found") != std::string::npos);
  CHECK(tried.status == 0);
  CHECK(tried.output.find("8 pictures to train on (2000 epochs), 2 to evaluate on\n2 of 10 pictures were drawn to evaluate on") !=
        std::string::npos);
}

TEST_CASE("data stats gives numbers that a configuration takes", "[app]") {
  const TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string();
  write_file(config, tiny_recipe());
  const CommandResult text = equiscale("data stats " + config + " --samples 20");
  INFO(text.output);
  CHECK(text.status == 0);
  CHECK(text.output.starts_with("20 pictures of train, 81.92 k pixels\n"));
  CHECK(text.output.find("\"pipeline\": {\"mean\": [") != std::string::npos);
  for (const char* command : {"data stats ", "inspect data "}) check_error(equiscale(command + config + " --samples -5"), 2, "--samples");
  const nlohmann::json json = nlohmann::json::parse(equiscale("data stats " + config + " --samples 20 --json").output);
  REQUIRE(json["classes"].size() == 8);
  CHECK(json["classes"][6]["weight"] > json["classes"][0]["weight"]);
  // What it prints is taken.
  const size_t begin = text.output.find("\"pipeline\""), end = text.output.find("\n\n", begin);
  const nlohmann::json printed = nlohmann::json::parse("{" + text.output.substr(begin, end - begin) + "}");
  CHECK(equiscale("summary " + config + " --no-memory --set 'pipeline.mean=" + printed["pipeline"]["mean"].dump() +
                  "' --set 'pipeline.std=" + printed["pipeline"]["std"].dump() +
                  "' --set 'train.class_weights=" + printed["train"]["class_weights"].dump() + "'")
            .status == 0);
}

TEST_CASE("data view draws a sheet", "[app]") {
  const TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), sheet = (folder.path() / "sheet.png").string();
  write_file(config, tiny_recipe());
  const CommandResult text = equiscale("data view " + config + " --split val --samples 4 --columns 2 --side 0 --out " + sheet);
  INFO(text.output);
  CHECK(text.status == 0);
  CHECK(text.output.find("    2  #c846be  disc\n") != std::string::npos);
  CHECK(text.output.ends_with("row by row: 0, 1\n            3, 4\n" + sheet + "\n"));
  CHECK(probe_picture(sheet).width == 2 * (2 * 64 + 2) + 12);
  const auto augmented = [&](const std::string& more) {
    REQUIRE(equiscale("data view " + config + " --augmented --samples 4 --out " + sheet + more).status == 0);
    return read_file(sheet);
  };
  const std::string first = augmented("");
  CHECK(augmented("") == first);
  CHECK(augmented(" --seed 99") != first);
  check_error(equiscale("data view " + config + " --out " + (folder.path() / "sheet.jpg").string()), 2, ".png");
  check_error(equiscale("data view " + config + " --samples 0 --out " + sheet), 2, "--samples");
  check_error(equiscale("data view " + config + " --out " + (folder.path() / "none" / "sheet.png").string()), 3, "none");
}

TEST_CASE("data init writes a configuration that trains, of folders and of lists", "[app]") {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, bool label) {
    const std::filesystem::path path = folder.path() / "my pictures" / name;
    std::filesystem::create_directories(path.parent_path());
    LabelMap labels{70, 90, std::vector<uint8_t>(70 * 90)};
    for (size_t p = 0; p < labels.labels.size(); ++p) labels.labels[p] = uint8_t(p / 7 % 3);
    if (label) return write_indexed_png(path, labels, voc_palette());
    Image image{70, 90, std::vector<uint8_t>(3 * 70 * 90)};
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = uint8_t(i * 37 % 251);
    write_png(path, image);
  };
  for (int i = 0; i < 10; ++i) {
    write("images/a \"" + std::to_string(i) + "\".jpg", false);
    write("masks/a \"" + std::to_string(i) + "\".png", true);
  }
  write_file(folder.path() / "my pictures/classes.txt", "soil\nthe \"leaf\"\nstem\n");
  const std::string there = "cd " + folder.path().string() + " && " + EQ_BINARY_DIR "/equiscale ";
  const auto check = [&](const std::string& config) {
    const CommandResult made = run_command(there + "data init 'my pictures' --out " + config);
    INFO(made.output);
    REQUIRE(made.status == 0);
    CHECK(made.output.find("train 10 pictures") == 0);
    CHECK(made.output.find("the \"leaf\"") != std::string::npos);
    CHECK(made.output.ends_with(config + "\n"));
    const CommandResult inspected = run_command(there + "inspect data " + config),
                        tried = run_command(there + "train " + config + " --dry-run");
    INFO(inspected.output << tried.output);
    CHECK(inspected.status == 0);
    CHECK(inspected.output.find("no problems found") != std::string::npos);
    CHECK(tried.status == 0);
    CHECK(tried.output.find("8 pictures to train on") != std::string::npos);
    return made.output;
  };
  CHECK(check("own.json").find("labels in masks") != std::string::npos);
  check_error(run_command(there + "data init 'my pictures' --out own.json"), 2, "a file of this name");
  check_error(run_command(there + "data init 'my pictures' --out own"), 2, ".json");
  write("images/unlabelled.jpg", false);
  const std::string listed = check("configs/own.json");
  CHECK(listed.find("without a label file, left out: images/unlabelled.jpg") != std::string::npos);
  CHECK(std::filesystem::exists(folder.path() / "configs/own_train.txt"));
  write_file(folder.path() / "third_train.txt", "mine");
  check_error(run_command(there + "data init 'my pictures' --out third.json"), 2, "third_train.txt");
  CHECK_FALSE(std::filesystem::exists(folder.path() / "third.json"));
  std::filesystem::remove(folder.path() / "third_train.txt");
  const CommandResult json = run_command(there + "data init 'my pictures' --json --out third.json");
  const auto said = nlohmann::json::parse(json.output);
  CHECK(said["pictures"]["train"] == 10);
  CHECK(said["unlabelled"] == nlohmann::json({"images/unlabelled.jpg"}));
  CHECK(said["classes"][2] == "stem");
  CHECK(said["labels"][2]["class"] == "stem");
  CHECK(said["labels"][2]["value"] == 2);
  CHECK(said["labels"][2]["pixels"] == 10 * 70 * 90 / 3);
  CHECK(said["labels"][2]["files"] == 10);
  CHECK(said["sizes"] == nlohmann::json({{{"width", 90}, {"height", 70}, {"pictures", 10}}}));
  CHECK(said["lists"]["train"].get<std::string>().ends_with("third_train.txt"));
  CHECK(said["val_fraction"] == 0.2);
  CHECK(said["looked_into"] == 10);
}

TEST_CASE("data make's recipe crops to the pictures' side", "[app]") {
  const TemporaryFolder folder;
  const std::string set = (folder.path() / "set").string();
  REQUIRE(equiscale("data make --train 1 --val 1 --size 96 --out " + set).status == 0);
  CHECK(nlohmann::json::parse(read_file(set + "/recipe.json"))["pipeline"]["crop"] == nlohmann::json({96, 96}));
}
