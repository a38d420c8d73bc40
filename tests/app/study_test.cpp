// Studies through the command.
#include <nlohmann/json.hpp>

#include "command.h"

using namespace eq::test;
namespace fs = std::filesystem;

namespace {

nlohmann::json study_of(const fs::path& folder) { return nlohmann::json::parse(read_file(folder / "study.json")); }

}  // namespace

TEST_CASE("study theory measures, writes and ends well; claims read it", "[app]") {
  TemporaryFolder folder;
  const std::string out = (folder.path() / "theory").string();
  const CommandResult theory = equiscale("study theory --samples 65536 --out " + out);
  INFO(theory.output);
  REQUIRE(theory.status == 0);
  CHECK(theory.output.find(" 0 failed") != std::string::npos);
  CHECK(study_of(out)["failed"] == 0);
  CHECK(fs::exists(out + "/report.html"));
  CHECK(study_of(out)["command"] == "equiscale study theory --samples 65536 --out " + out);
  const CommandResult claims = equiscale("study claims " + folder.path().string());
  INFO(claims.output);
  REQUIRE(claims.status == 0);
  CHECK(claims.output.find("does not hold  Stronger upsampling") != std::string::npos);
  CHECK(study_of(folder.path() / "claims")["kind"] == "claims");
  check_error(equiscale("study theory --samples 5"), 2, "--samples");
  check_error(equiscale("study theory --device cuda"), 2, "--device cuda");
  check_error(equiscale("study claims " + out + "/nowhere"), 3, "nowhere");
}

TEST_CASE("SIGTERM ends a paired study with a checkpoint, and the same command goes on", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string();
  write_file(config, tiny_recipe());
  const auto command = [&](const std::string& name) {
    return "study run " + config + " --arms off,explicit --seeds 2 --set train.iterations=40 --out " + (folder.path() / name).string();
  };
  REQUIRE(equiscale(command("whole")).status == 0);
  const std::string second = (folder.path() / "stopped" / "explicit" / "3" / "metrics.csv").string();
  const CommandResult stopped =
      run_command(EQ_BINARY_DIR "/equiscale " + command("stopped") + " & pid=$!; for i in $(seq 1 2000); do [ -s " + second +
                  " ] && break; sleep 0.01; done; kill -TERM $pid; wait $pid");
  INFO(stopped.output);
  CHECK(stopped.status == 130);
  CHECK(stopped.output.find("the same command goes on") != std::string::npos);
  CHECK(study_of(folder.path() / "stopped")["finished"] == false);
  REQUIRE(equiscale(command("stopped")).status == 0);
  const auto a = study_of(folder.path() / "whole"), b = study_of(folder.path() / "stopped");
  REQUIRE(a["runs"].size() == 4);
  CHECK(fs::exists(folder.path() / "stopped" / "report.html"));
  CHECK(fs::exists(folder.path() / "stopped" / "off" / "3" / "report.html"));
  for (size_t i = 0; i < 4; ++i) CHECK(a["runs"][i]["weights_sha256"] == b["runs"][i]["weights_sha256"]);
  check_error(equiscale(command("whole") + " --set optimizer.lr=0.5"), 2, "optimizer.lr");
  check_error(equiscale("study run " + config + " --arms off --out x"), 2, "--arms");
}

TEST_CASE("SIGTERM ends a study with runs, and the same command goes on", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), out = (folder.path() / "scales").string();
  write_file(config, tiny_recipe());
  const std::string command = "study scales " + config + " --batches 1 --every 20 --out " + out + " --iterations ";
  const std::string begun = out + "/uper-off/probes.csv";
  const CommandResult stopped = run_command(EQ_BINARY_DIR "/equiscale " + command + "60 & pid=$!; for i in $(seq 1 2000); do [ -s " +
                                            begun + " ] && break; sleep 0.01; done; kill -TERM $pid; wait $pid");
  INFO(stopped.output);
  CHECK(stopped.status == 130);
  CHECK(stopped.output.find("the same command goes on") != std::string::npos);
  CHECK(!fs::exists(out + "/uper-explicit"));
  CHECK(study_of(out)["finished"] == false);
  REQUIRE(equiscale(command + "60").status == 0);
  CHECK(study_of(out)["finished"] == true);
  CHECK(study_of(out)["records"].size() == 2 + 2 * 4);  // iterations 0, 20, 40, 59
  const std::string page = read_file(out + "/report.html");
  CHECK(page.find("On the way") != std::string::npos);
  CHECK(page.find("href=\"uper-explicit/report.html\"") != std::string::npos);
}

TEST_CASE("study ablation reads runs and leaves a page", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), run = (folder.path() / "run").string(),
                    out = (folder.path() / "ablation").string();
  write_file(config, tiny_recipe());
  REQUIRE(equiscale("train " + config + " --out " + run + " --set train.iterations=2").status == 0);
  const CommandResult ablation = equiscale("study ablation " + run + " --limit 1 --out " + out);
  INFO(ablation.output);
  REQUIRE(ablation.status == 0);
  CHECK(ablation.output.find("decode_head.fpn_fusion (concat)") != std::string::npos);
  CHECK(study_of(out)["runs"][0]["pictures"] == 1);
  CHECK(fs::exists(out + "/report.html"));
  check_error(equiscale("study ablation " + run + "/nowhere"), 3, "nowhere");
  const CommandResult second = equiscale("study ablation " + run + " " + run + "/nowhere --limit 1");
  check_error(second, 3, "nowhere");
  CHECK(second.output.find("fpn_fusion") == std::string::npos);  // nothing was measured before
  check_error(equiscale("study ablation " + run + " --out " + run), 2, "training run");
}

TEST_CASE("a folder that cannot be written is known before anything is computed", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), run = (folder.path() / "run").string(), out = config + "/out";
  write_file(config, tiny_recipe());
  REQUIRE(equiscale("train " + config + " --out " + run + " --set train.iterations=2").status == 0);
  for (const std::string& work : {std::string("study theory --samples 65536 --out "), "study scales " + config + " --out ",
                                  "study gradients " + config + " --out ", "study ablation " + run + " --out ", "eval " + run + " --out ",
                                  "bench train " + config + " --size 32 --batch 1 --steps 1 --json "}) {
    CAPTURE(work);
    const CommandResult result = equiscale(work + out);
    check_error(result, 3, out);
    CHECK(std::count(result.output.begin(), result.output.end(), '\n') <= 4);  // the error alone
  }
}

TEST_CASE("claims without any study are a list of what to run, and nothing is written", "[app]") {
  TemporaryFolder folder;
  const CommandResult claims = equiscale("study claims " + folder.path().string());
  REQUIRE(claims.status == 0);
  CHECK(claims.output.find("nothing is written") != std::string::npos);
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a study does not overwrite one of another kind", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), out = (folder.path() / "study").string();
  write_file(config, tiny_recipe());
  fs::create_directories(out);
  write_file(out + "/study.json", R"({"kind": "run"})");
  for (const std::string& study : {std::string("theory --samples 65536"), "scales " + config, "gradients " + config, "claims " + out}) {
    check_error(equiscale("study " + study + " --out " + out), 2, "run");
  }
  write_file(out + "/study.json", R"({"kind": "theory"})");
  check_error(equiscale("study run " + config + " --out " + out), 2, "theory");
  CHECK(read_file(out + "/study.json") == R"({"kind": "theory"})");
}

TEST_CASE("study upsampling says what resizing leaves, for sizes of one's own", "[app]") {
  const CommandResult text = equiscale("study upsampling 16:64 8x16:16x48 1:512");
  INFO(text.output);
  REQUIRE(text.status == 0);
  CHECK(text.output.find("8x16") != std::string::npos);
  const CommandResult json = equiscale("study upsampling 16:64 8x16:16x48 1:512 --json");
  REQUIRE(json.status == 0);
  const auto rows = nlohmann::json::parse(json.output)["resizings"];
  const double g4 = 2.0 / 3 - 1.0 / 96, whole4 = (1 + 15 * g4) / 16;  // an even whole ratio, 16 cells
  CHECK(rows[0]["variance_kept"].get<double>() == Approx(whole4 * whole4).epsilon(1e-12));
  CHECK(rows[0]["deviation_kept"].get<double>() == Approx(whole4).epsilon(1e-12));
  CHECK(rows[0]["gradient_second_moment"].get<double>() == Approx(16 * whole4 * whole4).epsilon(1e-12));
  const double g2 = 2.0 / 3 - 1.0 / 24, g3 = 2.0 / 3 + 1.0 / 27;
  CHECK(rows[1]["variance_kept_rows"].get<double>() == Approx((1 + 7 * g2) / 8).epsilon(1e-12));
  CHECK(rows[1]["variance_kept_columns"].get<double>() == Approx((1 + 15 * g3) / 16).epsilon(1e-12));
  CHECK(rows[2]["variance_kept"] == 1);
  const auto related = nlohmann::json::parse(equiscale("study upsampling 16:64 --correlation 0.5 --json").output)["resizings"][0];
  CHECK(related["deviation_kept"].get<double>() == Approx(whole4 + (1 - whole4) / 2).epsilon(1e-12));
  const auto corners = nlohmann::json::parse(equiscale("study upsampling 16:24 --align-corners --json").output);
  CHECK(corners["align_corners"] == true);
  CHECK(corners["resizings"][0]["variance_kept"].get<double>() == Approx(0.463978).epsilon(1e-5));
  for (const char* sizes : {"16", "16:", ":4", "0:4", "16x:4", "axb:4", "4:-1", "4:4:4", "4x4x4:8", "99999999999999999999:4"}) {
    check_error(equiscale(std::string("study upsampling ") + sizes), 2, "16x32:64x128");
  }
  check_error(equiscale("study upsampling 1:99999999"), 2, "16777216");
  check_error(equiscale("study upsampling 4:8 --correlation 2"), 2, "--correlation");
}

TEST_CASE("a spoilt study is made again, and its command can be typed again", "[app]") {
  TemporaryFolder folder;
  const std::string config = (folder.path() / "tiny.json").string(), out = (folder.path() / "study").string();
  write_file(config, tiny_recipe());
  fs::create_directories(out);
  write_file(out + "/study.json", "{\"kind\":");
  const CommandResult result = equiscale("study scales " + config + " --batches 1 --arms off --set pipeline.crop=[64,64] --out " + out);
  INFO(result.output);
  REQUIRE(result.status == 0);
  CHECK(study_of(out)["command"] ==
        "equiscale study scales " + config + " --batches 1 --arms off --set 'pipeline.crop=[64,64]' --out " + out);
}
