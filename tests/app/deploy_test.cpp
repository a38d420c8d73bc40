// What leaves for other programs, and what comes from them.
#include <nlohmann/json.hpp>

#include "command.h"
#include "core/safetensors.h"

using namespace eq;
using namespace eq::test;

namespace {

struct Run {
  Run() : config((folder.path() / "tiny.json").string()), out((folder.path() / "run").string()) {
    write_file(config, tiny_recipe());
    REQUIRE(equiscale("train " + config + " --out " + out + " --set equalizer.mode=explicit").status == 0);
  }
  std::string path(const std::string& name) const { return (folder.path() / name).string(); }
  TemporaryFolder folder;
  std::string config, out;
};

}  // namespace

TEST_CASE("export writes an ONNX model of a run, and says what it takes and gives", "[app]") {
  const Run run;
  const CommandResult plain = equiscale("export " + run.out + " --out " + run.path("a.onnx"));
  INFO(plain.output);
  CHECK(plain.status == 0);
  CHECK(plain.output.find("from picture: uint8 [N, 64, 64, 3]") != std::string::npos);
  CHECK(plain.output.find("to   scores: float32 [N, 8, 64, 64]") != std::string::npos);
  CHECK(std::filesystem::file_size(run.path("a.onnx")) > 10'000);

  const auto report = [&](const std::string& options) {
    return nlohmann::json::parse(equiscale("export " + run.out + " --json --out " + run.path("b.onnx") + options).output);
  };
  const auto sized = report(" --size 96 128 --batch 2 --normalized --labels"), folded = report(" --fold");
  CHECK(sized["input"] == "image: float32 [2, 3, 96, 128]");
  CHECK(sized["output"] == "labels: uint8 [2, 96, 128]");
  CHECK(folded["operators"] < report("")["operators"]);

  check_error(equiscale("eval " + run.path("a.onnx")), 3, "an ONNX model, not a file of weights");
  check_error(equiscale("export " + run.out + " --out " + run.path("c.pb")), 2, ".onnx");
  check_error(equiscale("export " + run.out + " --out " + run.path("c.onnx") + " --batch 1000000000"), 5,
              "no memory for");  // its tensors, which are counted
  check_error(equiscale("export " + run.out + " --out " + run.path("c.onnx") + " --size 64"), 2, "--size");
  check_error(equiscale("export " + run.path("none") + " --out " + run.path("c.onnx")), 3, "none");
  check_error(equiscale("export " + run.out + " --out " + run.path("none") + "/c.onnx"), 3, "none");
  CHECK_FALSE(std::filesystem::exists(run.path("c.onnx")));
}

TEST_CASE("recalibrate-bn writes weights that differ in running statistics alone", "[app]") {
  const Run run;
  const std::string file = run.path("again.safetensors"), command = "recalibrate-bn " + run.out + " --batches 3 --out ";
  const CommandResult result = equiscale(command + file);
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(result.output.find("layer: the means that moved most") != std::string::npos);
  CHECK(result.output.find("of 34 batch norms") != std::string::npos);
  const auto before = read_safetensors(run.out + "/model.safetensors").tensors, after = read_safetensors(file).tensors;
  REQUIRE(before.size() == after.size());
  for (const auto& [name, tensor] : after) {
    CAPTURE(name);
    if (name.find("running") == std::string::npos && name.find("tracked") == std::string::npos) CHECK(bit_equal(tensor, before.at(name)));
  }
  const auto report = nlohmann::json::parse(equiscale(command + file + " --json --split val").output);
  CHECK(report["layers"].size() > 10);
  CHECK(report["layers"][0]["variance_ratio"].size() == 2);
  // The table counts and sorts what the JSON lists.
  const auto shifts = nlohmann::json::parse(equiscale(command + file + " --json").output)["layers"];
  int far = 0;
  nlohmann::json most = shifts[0];
  for (const auto& shift : shifts) {
    const double mean = shift["mean_shift_in_std"], low = shift["variance_ratio"][0], high = shift["variance_ratio"][1];
    far += mean > 0.1 || high > 1.2 || low < 1 / 1.2;
    if (mean > most["mean_shift_in_std"].get<double>()) most = shift;
  }
  CHECK(result.output.starts_with(std::to_string(far) + " of 34 batch norms"));
  CHECK(result.output.find("new / old\n" + most["layer"].get<std::string>() + " ") != std::string::npos);
  CHECK(equiscale("eval " + file).status == 0);
  check_error(equiscale(command + run.path("again.pth")), 2, "again.safetensors");
  check_error(equiscale(command + run.out + "/model.safetensors"), 2, "would replace what it is made from");
  check_error(equiscale(command + file + " --batches 0"), 2, "--batches");
}

TEST_CASE("convert takes over a file that does not say what it is of", "[app]") {
  const Run run;
  const std::string foreign = run.path("foreign.safetensors"), converted = run.path("converted.safetensors");
  write_safetensors(foreign, read_safetensors(run.out + "/model.safetensors").tensors);
  check_error(equiscale("eval " + foreign), 3, "equiscale convert");
  const std::string command = "convert " + run.config + " " + foreign + " --set equalizer.mode=explicit --out ";
  const CommandResult result = equiscale(command + converted);
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(result.output.find("8 classes") != std::string::npos);
  const auto miou = [&](const std::string& path) { return nlohmann::json::parse(equiscale("eval " + path + " --json").output)["miou"]; };
  CHECK(miou(converted) == miou(run.out));
  check_error(equiscale(command + run.path("converted.pth")), 2, ".safetensors");
  check_error(equiscale(command + foreign), 2, "would replace what it is made from");
  check_error(equiscale("convert " + run.config + " " + foreign + " --set equalizer.mode=off --out " + converted), 3, "unexpected");
}
