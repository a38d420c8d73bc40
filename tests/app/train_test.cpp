// Training through the command: determinism, interruption, resuming, evaluation, prediction.
#include <nlohmann/json.hpp>

#include "command.h"
#include "core/safetensors.h"
#include "datasets/image.h"

using namespace eq;
using namespace eq::test;

namespace {

struct Tiny {
  Tiny() : config((folder.path() / "tiny.json").string()) { write_file(config, tiny_recipe()); }
  std::string run(const std::string& name) const { return (folder.path() / name).string(); }
  CommandResult train(const std::string& name, const std::string& more = "") const {
    return equiscale("train " + config + " --out " + run(name) + " " + more);
  }
  nlohmann::json summary(const std::string& name) const {
    return nlohmann::json::parse(read_file(std::filesystem::path(run(name)) / "summary.json"));
  }
  TemporaryFolder folder;
  std::string config;
};

}  // namespace

TEST_CASE("a run leaves everything it promises, and threads do not change a bit", "[app]") {
  Tiny tiny;
  const CommandResult one = tiny.train("one", "--threads 1");
  INFO(one.output);
  REQUIRE(one.status == 0);
  REQUIRE(tiny.train("two", "--threads 2").status == 0);
  const auto a = tiny.summary("one"), b = tiny.summary("two");
  for (const char* key : {"miou", "aacc", "iterations", "seconds", "peak_bytes", "weights_sha256", "seed", "threads"}) {
    INFO(key);
    CHECK(a.contains(key));
  }
  CHECK(a["weights_sha256"] == b["weights_sha256"]);
  CHECK(a["miou"] == b["miou"]);
  CHECK(a["threads"] == 1);
  CHECK(b["threads"] == 2);
  for (const char* name : {"config.json", "metrics.jsonl", "metrics.csv", "summary.json", "model.safetensors", "checkpoint", "overlays"}) {
    INFO(name);
    CHECK(std::filesystem::exists(tiny.run("one") + "/" + name));
  }
  CHECK_FALSE(std::filesystem::is_empty(tiny.run("one") + "/overlays"));
  CHECK(tiny.train("three", "--seed 4").status == 0);
  CHECK(tiny.summary("three")["weights_sha256"] != a["weights_sha256"]);
}

TEST_CASE("no progress lines but the last, where none are asked for", "[app]") {
  const Tiny tiny;
  const CommandResult result = tiny.train("quiet", "--set train.log_every=0");
  INFO(result.output);
  REQUIRE(result.status == 0);
  const size_t first = result.output.find("\niter ");
  CHECK(result.output.find("\niter ", first + 1) == std::string::npos);
  CHECK(result.output.find("\niter  8/8 ", first) == first);
}

TEST_CASE("a killed run resumes to the same bits", "[app]") {
  Tiny tiny;
  REQUIRE(tiny.train("whole", "--set train.iterations=40").status == 0);
  // Killed without warning as soon as a checkpoint is there.
  const std::string out = tiny.run("killed");
  const std::string script = "( " EQ_BINARY_DIR "/equiscale train " + tiny.config + " --out " + out +
                             " --set train.iterations=40 & pid=$!; "
                             "for i in $(seq 1 2000); do [ -e " + out + "/checkpoint/manifest.json ] && break; sleep 0.01; done; "
                             "kill -9 $pid; wait $pid ) ";
  run_command(script);
  REQUIRE(std::filesystem::exists(out + "/checkpoint/manifest.json"));
  REQUIRE_FALSE(std::filesystem::exists(out + "/summary.json"));
  const CommandResult resumed = tiny.train("killed", "--set train.iterations=40 --resume");
  INFO(resumed.output);
  REQUIRE(resumed.status == 0);
  CHECK(tiny.summary("killed")["weights_sha256"] == tiny.summary("whole")["weights_sha256"]);
}

TEST_CASE("SIGTERM writes a checkpoint, and the run goes on from there", "[app]") {
  Tiny tiny;
  const std::string out = tiny.run("stopped");
  const std::string settings = " --set train.iterations=60 --set train.checkpoint_every=0";
  REQUIRE(tiny.train("whole", settings).status == 0);
  run_command("( " EQ_BINARY_DIR "/equiscale train " + tiny.config + " --out " + out + settings +
              " & pid=$!; for i in $(seq 1 2000); do [ -s " + out +
              "/metrics.jsonl ] && break; sleep 0.01; done; kill -TERM $pid; wait $pid )");
  REQUIRE(std::filesystem::exists(out + "/checkpoint/manifest.json"));
  REQUIRE(tiny.train("stopped", settings + " --resume").status == 0);
  CHECK(tiny.summary("stopped")["weights_sha256"] == tiny.summary("whole")["weights_sha256"]);
}

TEST_CASE("SIGTERM ends predicting behind a picture, and the same command then replaces what is there", "[app]") {
  const Tiny tiny;
  REQUIRE(tiny.train("run", "--set train.iterations=1").status == 0);
  const std::filesystem::path pictures = tiny.folder.path() / "pictures", out = tiny.run("predicted");
  std::filesystem::create_directory(pictures);
  constexpr int kPictures = 300;
  for (int i = 0; i < kPictures; ++i) {
    write_png(pictures / (std::to_string(i) + ".png"), Image{64, 64, std::vector<uint8_t>(64 * 64 * 3, uint8_t(i))});
  }
  const std::string predict = "predict " + tiny.run("run") + " " + pictures.string() + " --out " + out.string();
  const CommandResult stopped = run_command("( " EQ_BINARY_DIR "/equiscale " + predict + " & pid=$!; for i in $(seq 1 2000); do [ -e " +
                                            out.string() + "/0.png ] && break; sleep 0.01; done; kill -TERM $pid; wait $pid )");
  INFO(stopped.output);
  CHECK(stopped.status == 130);
  CHECK(stopped.output.find(" of 300 pictures were left out") != std::string::npos);
  int labels = 0, overlays = 0;
  for (const auto& entry : std::filesystem::directory_iterator(out)) {
    ++(entry.path().filename().string().find("_overlay") == std::string::npos ? labels : overlays);
  }
  CHECK(labels == overlays);
  CHECK(labels < kPictures);
  CHECK(equiscale(predict).status == 0);
}

TEST_CASE("a finished run is not overwritten, and resuming refuses another model", "[app]") {
  Tiny tiny;
  REQUIRE(tiny.train("run").status == 0);
  check_error(tiny.train("run"), 2, "run");
  const CommandResult other = tiny.train("run", "--resume --set model.decode_head.channels=16");
  INFO(other.output);
  CHECK(other.status != 0);
}

TEST_CASE("evaluation and prediction work from a run's folder", "[app]") {
  Tiny tiny;
  REQUIRE(tiny.train("run", "--set optimizer.lr=0.0005").status == 0);  // before it answers background everywhere
  const CommandResult whole = equiscale("eval " + tiny.run("run"));
  INFO(whole.output);
  CHECK(whole.status == 0);
  for (const char* word : {"IoU", "Acc", "aAcc", "mIoU", "mAcc"}) CHECK(whole.output.find(word) != std::string::npos);
  const CommandResult json = equiscale("eval " + tiny.run("run") + " --json");
  CHECK(nlohmann::json::parse(json.output)["miou"] == tiny.summary("run")["miou"]);
  CHECK(equiscale("eval " + tiny.run("run") + " --slide --set evaluate.crop=[64,64] --set evaluate.stride=[32,32]").status == 0);
  const CommandResult filed = equiscale("eval " + tiny.run("run") + " --out " + tiny.run("evaluated"));
  INFO(filed.output);
  REQUIRE(filed.status == 0);
  CHECK(filed.output.find('\r') == std::string::npos);          // no progress into a pipe
  for (const char* name : {"confusion.csv", "pictures.csv"}) {  // as training has left them
    CHECK(read_file(tiny.run("evaluated") + "/" + name) == read_file(tiny.run("run") + "/eval/" + name));
  }
  const std::string page = read_file(tiny.run("evaluated") + "/report.html");
  for (const char* part : {"6 pictures of val", "Confusions", "Best and worst pictures", "errors in red"}) {
    INFO(part);
    CHECK(page.find(part) != std::string::npos);
  }
  CHECK(equiscale("report " + tiny.run("evaluated")).status == 0);
  const CommandResult itself = equiscale("eval " + tiny.run("run") + " --compare " + tiny.run("run"));
  INFO(itself.output);
  CHECK(itself.status == 0);
  CHECK(itself.output.find("+0.00 points of mIoU against " + tiny.run("run") + " on the same 6 pictures, which are too few") !=
        std::string::npos);
  const CommandResult both = equiscale("eval " + tiny.run("run") + " --json --set data.val_images=12 --compare " + tiny.run("run"));
  INFO(both.output);
  const nlohmann::json compared = nlohmann::json::parse(both.output);
  CHECK(compared["pictures"] == 12);
  CHECK(compared["miou_interval"][0].get<double>() <= compared["miou"].get<double>());
  CHECK(compared["compared"]["interval"] == nlohmann::json({0.0, 0.0}));
  const CommandResult nothing = equiscale("eval " + tiny.run("run") +
                                          R"( --json --set data.val_images=12 --set 'data.label_map={"0": "ignore", "other": "ignore"}')");
  INFO(nothing.output);
  CHECK(nlohmann::json::parse(nothing.output)["miou"].is_null());
  CHECK(nlohmann::json::parse(nothing.output)["miou_interval"].is_null());
  const std::string latin = tiny.run("caf\xe9");  // a folder's name need not be UTF-8, JSON is
  std::filesystem::copy(tiny.run("run"), latin, std::filesystem::copy_options::recursive);
  const CommandResult odd = equiscale("eval " + tiny.run("run") + " --json --compare " + latin);
  INFO(odd.output);
  CHECK(nlohmann::json::parse(odd.output)["compared"]["run"].get<std::string>().ends_with("caf\xef\xbf\xbd"));
  const std::string others = tiny.run("others"), classes = R"(["a","b","c","d","e","f","g","h"])";
  REQUIRE(equiscale("data make --train 4 --val 2 --size 64 --out " + others).status == 0);
  REQUIRE(equiscale("train " + others + "/recipe.json --out " + others +
                    "/run --set train.iterations=1 --set train.batch_size=2 "
                    "--set data.checks=false --set 'data.classes=" +
                    classes + "'")
              .status == 0);
  check_error(equiscale("eval " + tiny.run("run") + " --compare " + others + "/run"), 2, "was trained for other classes: a, b, c");
  check_error(equiscale("eval " + tiny.run("run") + " --out " + tiny.run("run")), 2, "choose another --out");
  check_error(equiscale("eval " + tiny.run("run") + " --out " + tiny.run("run/eval")), 2, "choose another --out");

  const std::string alone = " --set evaluate.scales=[1] --set evaluate.flip=false";  // beside --tta nothing of it is left
  CHECK(nlohmann::json::parse(equiscale("eval " + tiny.run("run") + " --json --tta" + alone).output)["miou"] ==
        tiny.summary("run")["miou"]);
  CHECK(nlohmann::json::parse(equiscale("eval " + tiny.run("run") + " --json --tta").output)["miou"] != tiny.summary("run")["miou"]);

  const std::filesystem::path pictures = tiny.folder.path() / "pictures";
  std::filesystem::create_directory(pictures);
  write_png(pictures / "a.png", Image{50, 70, std::vector<uint8_t>(50 * 70 * 3, 90)});
  write_png(pictures / "b.png", Image{64, 64, std::vector<uint8_t>(64 * 64 * 3, 200)});
  const CommandResult predicted = equiscale("predict " + tiny.run("run") + " " + pictures.string() + " --out " + tiny.run("predicted"));
  INFO(predicted.output);
  REQUIRE(predicted.status == 0);
  int indexed = 0, overlays = 0;
  for (const auto& entry : std::filesystem::directory_iterator(tiny.run("predicted"))) {
    const PictureInfo info = probe_picture(entry.path());
    indexed += info.mode == "indexed";
    overlays += info.mode == "RGB";
    CHECK((info.width == 70 || info.width == 64));
  }
  CHECK(equiscale("predict " + tiny.run("run") + " " + pictures.string() + " --out " + tiny.run("slid") +
                  " --slide --set evaluate.crop=[40,40] --set evaluate.stride=[20,20]")
            .status == 0);
  write_file(pictures / "notes.txt", "");
  const CommandResult again = equiscale("predict " + tiny.run("run") + " " + pictures.string() + " --out " + tiny.run("predicted"));
  CHECK(again.status == 0);
  CHECK(again.output.find("left out, by their names no pictures: " + (pictures / "notes.txt").string()) != std::string::npos);
  check_error(equiscale("predict " + tiny.run("run") + " " + (pictures / "notes.txt").string() + " --out " + tiny.run("predicted")), 3,
              "none of the pictures could be read");
  check_error(equiscale("predict " + tiny.run("run") + " " + pictures.string() + " --out " + pictures.string()), 2, "another folder");
  CHECK(indexed == 2);
  CHECK(overlays == 2);
}

TEST_CASE("a run's best weights are used where asked for", "[app]") {
  Tiny tiny;
  REQUIRE(tiny.train("plain").status == 0);
  check_error(equiscale("eval " + tiny.run("plain") + " --weights best"), 3, "model_best.safetensors");
  REQUIRE(tiny.train("run", "--set train.keep_best=true --set train.evaluate_every=1 --set optimizer.lr=0.001").status == 0);
  const nlohmann::json best = tiny.summary("run")["best"];
  REQUIRE(best["miou"] != tiny.summary("run")["miou"]);
  CHECK(nlohmann::json::parse(equiscale("eval " + tiny.run("run") + " --json --weights best").output)["miou"] == best["miou"]);
  CHECK(nlohmann::json::parse(equiscale("eval " + tiny.run("run") + " --json").output)["miou"] == tiny.summary("run")["miou"]);
  CHECK(equiscale("export " + tiny.run("run") + " --weights best --out " + tiny.run("best.onnx")).status == 0);
  const CommandResult inspected = equiscale("inspect run " + tiny.run("run"));
  INFO(inspected.output);
  CHECK(inspected.output.find("best weights") != std::string::npos);
  const nlohmann::json account = nlohmann::json::parse(equiscale("inspect run --json " + tiny.run("run")).output);
  CHECK(account["runs"][0]["best_weights"]["iteration"] == best["iteration"]);
}

TEST_CASE("a run's folder stands for its configuration", "[app]") {
  Tiny tiny;
  REQUIRE(tiny.train("run", "--set train.iterations=4").status == 0);
  CHECK(equiscale("summary --no-memory " + tiny.run("run")).status == 0);
  CHECK(equiscale("study scales " + tiny.run("run") + " --batches 1").status == 0);
  CHECK(equiscale("study run " + tiny.run("run") + " --dry-run --out " + tiny.run("study")).status == 0);
  const std::string sum = tiny.summary("run")["weights_sha256"];
  REQUIRE(tiny.train("long", "--set train.iterations=6").status == 0);
  // Begun as a run of four iterations, gone on with to six without a word about anything else.
  REQUIRE(equiscale("train --resume " + tiny.run("run") + " --set train.iterations=6").status == 0);
  CHECK(tiny.summary("run")["iterations"] == 6);
  CHECK(tiny.summary("run")["weights_sha256"] != sum);
  check_error(equiscale("train --resume " + tiny.config), 2, "--out");
  check_error(equiscale("train --resume " + tiny.run("none")), 3, "none");
  check_error(equiscale("train " + tiny.run("run")), 2, "goes on with the run");
}

TEST_CASE("fold writes a file that predicts the same, and refuses what it cannot fold", "[app]") {
  Tiny tiny;
  REQUIRE(tiny.train("run").status == 0);
  const std::string fold = "fold " + tiny.run("run") + " --out " + tiny.run("folded.safetensors");
  check_error(equiscale(fold + " --check 2 --split nonsense"), 2, "nonsense");
  CHECK_FALSE(std::filesystem::exists(tiny.run("folded.safetensors")));
  const CommandResult folded = equiscale(fold + " --check 2 --json");
  INFO(folded.output);
  REQUIRE(folded.status == 0);
  const nlohmann::json report = nlohmann::json::parse(folded.output);
  CHECK(report["sites"] == 2);
  CHECK(report["check"]["pictures"] == 2);
  CHECK(report["check"]["largest_difference"] < 1e-4);
  CHECK(report["check"]["largest_difference"] > 0);  // they are two networks
  CHECK(equiscale("eval " + tiny.run("folded.safetensors") + " --limit 1").status == 0);
  check_error(equiscale("fold " + tiny.run("folded.safetensors") + " --out " + tiny.run("x.safetensors")), 2, "nothing to fold");
  check_error(equiscale("fold " + tiny.run("none") + " --out " + tiny.run("x.safetensors")), 3, "none");
  check_error(equiscale("fold " + tiny.run("run") + " --out " + tiny.config), 2, "tiny.json");
  for (const char* source : {"run", "run/model.safetensors"}) {
    check_error(equiscale("fold " + tiny.run(source) + " --out " + tiny.run("run/model.safetensors")), 2,
                "would replace what it is made from");
  }
  CHECK(read_file(tiny.config) == tiny_recipe());
}

TEST_CASE("a run that diverges says so in its folder", "[app]") {
  Tiny tiny;
  check_error(tiny.train("run", "--set optimizer.lr=1e30 --set schedule.min_lr=0 --set train.log_every=100"), 4,
              "is not finite at iteration");
  const std::string log = read_file(tiny.run("run") + "/log.txt"), html = read_file(tiny.run("run") + "/report.html");
  CHECK(log.find("\nnumerical error: the ") != std::string::npos);
  CHECK(html.find("Diverged at iteration ") != std::string::npos);
  const std::string at = "at iteration ";  // no row of metrics says how far it came
  const char iteration = log[log.find("is not finite " + at) + 14 + at.size()];
  CHECK(iteration > '0');
  CHECK(html.find(iteration + std::string("<small>of 8: diverged")) != std::string::npos);
}

TEST_CASE("a dry run checks everything and leaves nothing", "[app]") {
  Tiny tiny;
  const CommandResult result = tiny.train("dry", "--dry-run");
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK_FALSE(std::filesystem::exists(tiny.run("dry") + "/summary.json"));
  CHECK(equiscale("train " + tiny.config + " --dry-run").status == 0);
  check_error(equiscale("train " + tiny.config), 2, "--out");
}

TEST_CASE("--load-mode says how much of a weights file a backbone needs", "[app]") {
  Tiny tiny;
  const std::string common = "--set model.backbone.type=mobilenet_v1 --set model.backbone.multiplier=0.125 --set train.iterations=2 ";
  REQUIRE(tiny.train("source", common).status == 0);
  const std::string file = tiny.run("part.safetensors");
  WeightsFile weights = read_safetensors(tiny.run("source") + "/model.safetensors");
  weights.tensors.erase("backbone.conv_pw_13.weight");
  write_safetensors(file, weights.tensors);

  const std::string pretrained = common + "--dry-run --set model.backbone.pretrained=" + file;
  check_error(tiny.train("strict", pretrained), 3, "missing: conv_pw_13.weight");
  const CommandResult result = tiny.train("partial", pretrained + " --load-mode backbone");
  INFO(result.output);
  CHECK(result.status == 0);
  CHECK(result.output.find("part.safetensors: loaded 156/162, missing: conv_pw_13.weight; behind it") != std::string::npos);
  check_error(tiny.train("wrong", pretrained + " --load-mode loose"), 2, "load-mode");

  // Who resumes has all weights in the checkpoint.
  const std::string run = common + "--load-mode backbone --set model.backbone.pretrained=" + file;
  REQUIRE(tiny.train("moved", run).status == 0);
  std::filesystem::remove(file);
  CHECK(tiny.train("moved", run + " --resume --set train.iterations=3").status == 0);
}

TEST_CASE("another network is compared as it was trained, and leaves no files", "[app]") {
  Tiny tiny;
  const std::string run = tiny.run("run"), other = tiny.run("other");
  REQUIRE(tiny.train("run", "--set optimizer.lr=0.0005").status == 0);
  REQUIRE(tiny.train("other", "--set optimizer.lr=0.001 --set pipeline.mean=[60,60,60] --set evaluate.flip=true --seed 0").status == 0);
  CHECK(tiny.summary("other")["seed"] == 0);
  const auto eval = [](const std::string& arguments) {
    const CommandResult result = equiscale("eval " + arguments + " --json");
    INFO(result.output);
    REQUIRE(result.status == 0);
    return nlohmann::json::parse(result.output);
  };
  const double own = eval(run)["miou"], others = eval(other)["miou"];
  REQUIRE(own != others);
  const nlohmann::json both = eval(run + " --compare " + other);
  CHECK(both["miou"] == own);
  CHECK(both["compared"]["miou"] == others);
  CHECK(both["compared"]["difference"].get<double>() == Approx(own - others));
  CHECK(eval(run + " --limit 2")["pictures"] == 2);
  for (const char* limit : {"3x", "-1", "99999999999999999999"}) {
    check_error(equiscale("eval " + run + " --limit " + limit), 2, "--limit");
  }
  CHECK(eval(run + " --slide --set evaluate.crop=[32,32] --set evaluate.stride=[32,32]")["miou"] != own);
  CHECK(eval(run + " --tta")["miou"] == eval(run + " --set 'evaluate.scales=[0.5,0.75,1,1.25,1.5,1.75]' --set evaluate.flip=true")["miou"]);

  // A folder within the run's is the evaluation's own, which a later one replaces; another report's is not.
  const std::string out = " --out " + run + "/beside";
  CHECK(equiscale("eval " + run + " --compare " + other + out).status == 0);
  for (const char* name : {"/pictures.csv", "/confusion.csv"}) CHECK(read_file(run + "/beside" + name) == read_file(run + "/eval" + name));
  CHECK(equiscale("eval " + run + out).status == 0);
  std::filesystem::create_directory(tiny.run("page"));
  write_file(tiny.run("page") + "/report.html", "of a study");
  check_error(equiscale("eval " + run + " --out " + tiny.run("page")), 2, "choose another --out");
  check_error(equiscale("fold " + run + "/checkpoint --out " + run + "/checkpoint/x.safetensors"), 2, "would replace what it is made from");

  const std::filesystem::path pictures = tiny.folder.path() / "pictures";
  std::filesystem::create_directory(pictures);
  write_png(pictures / "a.png", Image{64, 64, std::vector<uint8_t>(64 * 64 * 3, 90)});
  const std::string predict = "predict " + run + " " + pictures.string() + " --out " + tiny.run("predicted");
  const nlohmann::json written = nlohmann::json::parse(equiscale(predict + " --probabilities --json").output);
  CHECK(std::filesystem::exists(written[0]["probabilities"].get<std::string>()));
  write_file(pictures / "b.png", "no picture");
  check_error(equiscale(predict), 3, "1 of 2 pictures could not be read; the others are predicted");
}
