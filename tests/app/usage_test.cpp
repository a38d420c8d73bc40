// What the command says of itself, and how it refuses nonsense.
#include <nlohmann/json.hpp>

#include "command.h"

using namespace eq::test;

TEST_CASE("every subcommand has help with an example", "[app]") {
  const char* commands[] = {"doctor",       "demo",
                            "train",        "eval",
                            "predict",      "fold",
                            "convert",      "export",
                            "inspect data", "inspect ckpt",
                            "inspect run",  "data init",
                            "data make",    "data stats",
                            "data view",    "summary",
                            "report",       "bench train",
                            "study theory", "study upsampling",
                            "study scales", "study gradients",
                            "study run",    "study claims"};
  for (const char* command : commands) {
    const CommandResult result = equiscale(std::string(command) + " --help");
    INFO(command << "\n" << result.output);
    CHECK(result.status == 0);
    CHECK(result.output.find("Example:\n  equiscale ") != std::string::npos);
  }
  CHECK(equiscale("--version").output.rfind("equiscale ", 0) == 0);
}

TEST_CASE("doctor ends well and speaks JSON", "[app]") {
  const CommandResult text = equiscale("doctor");
  INFO(text.output);
  CHECK(text.status == 0);
  CHECK(text.output.find("conv2d               ok") != std::string::npos);
  const CommandResult json = equiscale("doctor --json");
  CHECK(json.status == 0);
  CHECK(json.output.find("\"picture_side\": 32768") != std::string::npos);
}

TEST_CASE("wrong usage is refused with status 2", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string();
  write_file(config, tiny_recipe());
  check_error(equiscale("trian"), 2, "trian");
  check_error(equiscale(""), 2, "equiscale");
  check_error(equiscale("train --helpp"), 2, "there is no option '--helpp'");
  check_error(equiscale("study run --sedes 3"), 2, "did you mean '--seeds'");
  check_error(equiscale("study scales " + config + " --iterations -1"), 2, "equiscale study scales --help");
  check_error(equiscale("study scales " + config + " --every -3"), 2, "--every");
  check_error(equiscale("bench train " + config + " --no-train --no-inference"), 2, "nothing is left");
  check_error(equiscale("eval " + config), 3, "a JSON text, not a file of weights");
  check_error(equiscale("summary " + config + " --set model.auxiliary_head.kernel_size=2"), 2, "even kernel");
  CHECK(equiscale("summary " + config + " > /dev/full").status == 3);
  for (const char* text : {"--help", "summary --help", "--version"}) {
    INFO(text);
    CHECK(equiscale(std::string(text) + " > /dev/full").status == 3);
    CHECK(equiscale(text).status == 0);
  }
  check_error(equiscale("summary " + config + " --device gpu"), 2, "'gpu'");
  check_error(equiscale("summary " + config + " --threads 0x"), 2, "threads");
  check_error(equiscale("summary " + config + " --set train.iteratoins=5"), 2, "iterations");
  check_error(equiscale("summary " + config + " --set train.batch_size=many"), 2, "train.batch_size");
  check_error(equiscale("summary " + config + " --set model.backbone.depth=19"), 2, "19");
  check_error(equiscale("summary " + config + " --seed -1"), 2, "--seed");
  check_error(equiscale("summary " + config + " --seed 99999999999999999999"), 2, "--seed");
  check_error(equiscale("study theory --samples 1 --seed -1"), 2, "--seed");
  check_error(equiscale("data make --out " + (folder.path() / "made").string() + " --seed -1"), 2, "--seed");
  check_error(equiscale("summary " + config + " --device cuda:99"), 5, "cuda:99");
}

TEST_CASE("a path that cannot be used is a file error", "[app]") {
  TemporaryFolder folder;
  const std::string loop = (folder.path() / "loop").string();
  std::filesystem::create_symlink("loop", loop);
  for (const std::string& path : {loop, std::string(300, 'a')}) {
    for (const char* command : {"eval ", "report "}) check_error(equiscale(command + path), 3, "where: " + path);
  }
  check_error(equiscale("report " + (folder.path() / "nowhere").string()), 3, "there is no such folder");
  for (const char* command : {"summary ", "train --resume "}) {
    check_error(equiscale(command + folder.path().string()), 3, "this folder holds no run: there is no config.json in it");
  }
}

TEST_CASE("configurations with faults name the file and the place", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "bad.json").string();
  check_error(equiscale("summary " + config), 3, "bad.json");
  write_file(config, "{\"seed\": 1,");
  check_error(equiscale("summary " + config), 3, "bad.json");
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "{\"a\":";
  write_file(config, deep);
  check_error(equiscale("summary " + config), 3, "bad.json");
  write_file(config, R"({"train": {"iterations": 10}, "equaliser": {"mode": "off"}})");
  check_error(equiscale("summary " + config), 2, "did you mean 'equalizer'");
}

TEST_CASE("inspect data says what is wrong with labels", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string();
  write_file(config, tiny_recipe());
  auto inspect = [&](const std::string& labels) {
    return equiscale("inspect data " + config + " --samples 30 --set data.wrong_labels=" + labels);
  };
  check_error(inspect("shift"), 3, "the label 8 at pixel");
  CHECK(inspect("shift --set data.label_map=minus_one_zero_ignored").output.find("no problems found") != std::string::npos);
  check_error(inspect("binary --set data.checks=true --set data.train_images=100"), 3,
              "training would refuse this set: 7 of 8 classes never occur");
  CHECK(inspect("swapped").output.find("no problems found") != std::string::npos);
}

TEST_CASE("summary lists layers and totals", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string();
  write_file(config, tiny_recipe());
  const CommandResult result = equiscale("summary " + config);
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(result.output.find("decode_head.fpn_bottleneck.conv") != std::string::npos);
  CHECK(result.output.find("parameters ") != std::string::npos);
  for (const char* field : {"        7      2\n", "   global      4\n"}) CHECK(result.output.find(field) != std::string::npos);
  const nlohmann::json json = nlohmann::json::parse(equiscale("summary " + config + " --no-memory --json").output);
  CHECK(json["layers"][2]["field"] == nlohmann::json({{"height", 7}, {"width", 7}, {"stride_height", 2}, {"stride_width", 2}}));
  CHECK(json["layers"].back()["field"]["height"] == "global");
  // The table is there before memory is measured, which takes long for large networks.
  const size_t table = result.output.find("decode_head.conv_seg"), measuring = result.output.find("measuring the memory"),
               memory = result.output.find("a training step of 4 pictures holds");
  CHECK((table < measuring && measuring < memory && memory != std::string::npos));
  const CommandResult quick = equiscale("summary " + config + " --no-memory");
  CHECK(quick.output.find("decode_head.conv_seg") != std::string::npos);
  CHECK(quick.output.find("memory") == std::string::npos);
  CHECK(quick.output.find("training step") == std::string::npos);
}

TEST_CASE("what cannot be written is an error, and what stands behind -- is no option", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), made = (folder.path() / "made").string();
  write_file(config, tiny_recipe());
  CHECK(equiscale("inspect data " + config + " --samples 1 > /dev/full").status == 3);  // less than a buffer: known at the end
  check_error(run_command("ulimit -f 4; " EQ_BINARY_DIR "/equiscale data make --train 2 --val 1 --size 256 --noise 100 --out " + made), 3,
              "File too large");
  check_error(equiscale("study run --sedes=3"), 2, "there is no option '--sedes'");
  const CommandResult behind = equiscale("export run -- --odd");
  check_error(behind, 2, "--out is required");
  CHECK(behind.output.find("there is no option") == std::string::npos);
}

TEST_CASE("a summary counts each parameter once, and what more pictures take from two batches", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string();
  write_file(config, tiny_recipe());
  const auto summary = [&](const std::string& more) {
    const CommandResult result = equiscale("summary " + config + " --json " + more);
    INFO(result.output);
    REQUIRE(result.status == 0);
    return nlohmann::json::parse(result.output.substr(result.output.find('{')));  // behind the note of what is measured
  };
  const nlohmann::json alone = summary("--no-memory --set model.auxiliary_head=null");
  int64_t parameters = 0;
  for (const nlohmann::json& layer : alone["layers"]) parameters += layer["parameters"].get<int64_t>();
  CHECK(alone["parameters"] == parameters);
  const auto bytes = [&](int batch) {
    const nlohmann::json value = summary("--set train.batch_size=" + std::to_string(batch))["train_step_bytes"];
    CHECK(value.is_number_integer());
    return value.get<double>();
  };
  const double two = bytes(2), four = bytes(4), eight = bytes(8);
  CHECK((eight - four) / (four - two) == Approx(2).epsilon(0.15));
}
