// Pages of runs and studies, from their folders.
#include "study/report/report.h"

#include "core/errors.h"
#include "report_samples.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

// A finished run, trained once for all tests of this file.
const fs::path& tiny_run() {
  static const TemporaryFolder folder;
  static const fs::path run = [] {
    TrainRequest request;
    request.out = folder.path() / "tiny";
    request.log = nullptr;
    train(tiny_config({"train.evaluate_every=3"}), request);
    return request.out;
  }();
  return run;
}

// A copy without the weights, to be changed.
fs::path copy_of_run(const TemporaryFolder& folder) {
  const fs::path copy = folder.path() / "run";
  fs::copy(tiny_run(), copy, fs::copy_options::recursive);
  fs::remove(copy / "model.safetensors");
  return copy;
}

std::string report_of(const fs::path& folder) { return read_file(write_report(folder)); }

void check_self_contained(const std::string& html) {
  CHECK(html.find("<script") == std::string::npos);
  CHECK(html.find("http://") == std::string::npos);
  CHECK(html.find("https://") == std::string::npos);
  for (const char* attribute : {"src=\"", "href=\"", "url("}) {
    for (size_t at = html.find(attribute); at != std::string::npos; at = html.find(attribute, at + 1)) {
      const std::string target = html.substr(at + std::strlen(attribute), 16);
      CAPTURE(target);
      CHECK((target.starts_with("data:image/png") || target.starts_with("#") || target.starts_with("./") || target.starts_with("../")));
    }
  }
}

}  // namespace

TEST_CASE("a run's report has all its parts", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  write_file(run / "probes.jsonl", sample_probes(5, 100, true));
  const std::string html = report_of(run);
  check_self_contained(html);
  for (const char* id : {"learning", "classes", "confusion", "pictures", "scales", "gradients", "layers", "provenance"}) {
    CHECK_THAT(html, Contains("<section id=\"" + std::string(id) + "\">") && Contains("href=\"#" + std::string(id) + "\""));
  }
  for (const char* title :
       {"Loss", "Learning rate", "Gradient norm", "Throughput", "Accuracy on the validation pictures", "IoU of each class",
        "Where the pixels of each class go", "Variance kept by resizing", "Scale as fused", "Gradient of the fusion weight",
        "Imbalance of the fusion gradients", "Gradient norm by layer and time", "Update over weight by layer and time"}) {
    CHECK_THAT(html, Contains("<strong>" + std::string(title) + "</strong>"));
  }
  CHECK_THAT(html, !Contains("Not here: "));
  CHECK_THAT(html, Contains("Mean cross-entropy between records; on the validation pictures the plain cross-entropy"));
  CHECK_THAT(html, Contains("white noise") && Contains("errors in red") && Contains("SHA-256 of the weights") && Contains("<details>"));
  // The two best and the two worst of five pictures, four panels each.
  size_t images = 0;
  for (size_t at = html.find("<img "); at != std::string::npos; at = html.find("<img ", at + 1)) ++images;
  CHECK(images == 16);
  const auto summary = json::parse(read_file(run / "summary.json"));
  CHECK_THAT(html, Contains(summary["weights_sha256"].get<std::string>()));
}

TEST_CASE("a run's report says which loss it shows", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  json config = json::parse(read_file(run / "config.json"));
  config["train"]["ohem"] = {{"threshold", 0.7}, {"min_kept", 100000}};
  config["train"]["dice_weight"] = 0.5;
  write_file(run / "config.json", config.dump());
  const std::string html = report_of(run);
  CHECK_THAT(html,
             Contains("Mean cross-entropy of the hard pixels plus 0.5 times the Dice loss between records;") && !Contains("loss (nats)"));
}

TEST_CASE("a run from before the cross-entropy was measured has its report without", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  CHECK_THAT(report_of(run), Contains("mean over labelled pixels"));
  std::string older;
  std::istringstream lines(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    json row = json::parse(line);
    row.erase("cross_entropy");
    older += row.dump() + "\n";
  }
  write_file(run / "metrics.jsonl", older);
  write_file(run / "eval" / "pictures.csv", "index,name,miou,accuracy\n0,first,0.25,0.5\n");
  const std::string html = report_of(run);
  check_self_contained(html);
  CHECK_THAT(html, Contains("Mean cross-entropy between records.") && !Contains("mean over labelled pixels"));
}

TEST_CASE("a mean over some of the classes says over how many", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  CHECK_THAT(report_of(run), Contains("<small>8 classes</small>"));
  const json row = {{"type", "evaluate"},
                    {"iteration", 6},
                    {"miou", 0.5},
                    {"per_class", {{{"name", "a"}, {"iou", 0.5}}, {{"name", "b"}, {"iou", nullptr}}}}};
  write_file(run / "metrics.jsonl", row.dump() + "\n");
  CHECK_THAT(report_of(run), Contains("over 1 of 2 classes"));
}

TEST_CASE("of many classes those are shown that occur, and how many do not is said", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  json row = {{"type", "evaluate"}, {"iteration", 6}, {"miou", 0.5}, {"per_class", json::array()}};
  std::string names, table;
  for (int r = 0; r < 60; ++r) {
    row["per_class"].push_back(
        {{"name", "class " + std::to_string(r)}, {"iou", r < 20 ? json(0.5) : json(nullptr)}, {"acc", 0.5}, {"pixels", r < 20 ? 9 : 0}});
    names += (r > 0 ? ",class " : "class ") + std::to_string(r);
    for (int c = 0; c < 60; ++c) table += std::string(c > 0 ? "," : "") + (r < 20 && (c == r || c == 59) ? "8" : "0");
    table += "\n";
  }
  write_file(run / "metrics.jsonl", row.dump() + "\n");
  write_file(run / "eval" / "confusion.csv", names + "\n" + table);
  const std::string html = report_of(run);
  CHECK_THAT(html, Contains("40 classes that are neither labelled nor predicted are left out") && Contains("<strong>Found</strong>") &&
                       !Contains("places 1 to"));
  CHECK_THAT(html, Contains("40 classes without a label have no row") && Contains("20 rows, 21 columns") &&
                       Contains("class 19 → no labels: 50.0"));
}

TEST_CASE("how far constants have moved is a row for each branch", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  CHECK(report_of(run).find("Largest change at once") == std::string::npos);
  const auto branches = [](double std, json growth) {
    return json{{{"site", "fpn"}, {"branch", "level 0"}, {"mean", 0.4}, {"std", std}, {"equalized", true}, {"growth", growth}},
                {{"site", "fpn"}, {"branch", "level 1"}, {"mean", 0.1}, {"std", 0.2}, {"equalized", false}, {"growth", 1}}};
  };
  const json calibration = {
      {"batches", 2},
      {"branches", branches(0.5, nullptr)},
      {"refreshes", {{{"iteration", 100}, {"branches", branches(1.5, 3)}}, {{"iteration", 200}, {"branches", branches(1.25, 0.83)}}}}};
  write_file(run / "calibration.json", calibration.dump());
  json config = json::parse(read_file(run / "config.json"));
  config["equalizer"]["refresh"] = 100;
  write_file(run / "config.json", config.dump());
  const std::string html = report_of(run);
  check_self_contained(html);
  CHECK_THAT(html, Contains("anew 2 times, last after iteration 200") && Contains("Largest change at once") && Contains("anew every 100"));
  CHECK_THAT(html, !Contains("standard errors over the batches") && !Contains("0.500 ±"));  // this file knows of none
  json known = calibration;
  known["branches"][0]["std_error"] = 0.0123;
  write_file(run / "calibration.json", known.dump());
  CHECK_THAT(report_of(run), Contains("standard errors over the batches") && Contains("0.500 ± 0.0123"));
  const std::string table = html.substr(html.find("Largest change at once"));
  const std::string body = table.substr(0, table.find("</table>"));
  CHECK_THAT(body, Contains("level 0") && !Contains("level 1") && Contains(">2.5") && Contains(">3"));
}

TEST_CASE("what is missing is said, with the key that would make it", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  for (const char* name : {"eval", "checkpoint", "overlays", "summary.json", "calibration.json"}) fs::remove_all(run / name);
  std::string html = report_of(run);
  check_self_contained(html);
  CHECK_THAT(html, Contains("Not here: ") && Contains("eval/confusion.csv") && Contains("train.overlays") && Contains("probes.every=50") &&
                       Contains("probes.layers=true") && Contains("--resume"));
  write_file(run / "metrics.jsonl", "");
  html = report_of(run);
  CHECK_THAT(html, Contains("metrics.jsonl has no training record yet") && Contains("no evaluation has been made yet"));
  fs::remove(run / "config.json");
  CHECK_THROWS_WITH(write_report(run), Contains("neither a run"));
}

TEST_CASE("damaged files are named, and a killed run's last line is passed over", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  const std::string metrics = read_file(run / "metrics.jsonl");
  write_file(run / "metrics.jsonl", metrics + "{\"type\": \"tr");
  CHECK_NOTHROW(write_report(run));
  const auto refuses = [&](const char* file, const std::string& content, const std::string& where) {
    CAPTURE(file, content);
    const std::string before = fs::exists(run / file) ? read_file(run / file) : "";
    write_file(run / file, content);
    try {
      write_report(run);
      FAIL_CHECK("no error");
    } catch (const DataError& error) {
      CHECK_THAT(error.where(), Contains(where));
      CHECK_FALSE(error.try_this().empty());
    }
    if (before.empty()) {
      fs::remove(run / file);
    } else {
      write_file(run / file, before);
    }
  };
  refuses("metrics.jsonl", "nonsense\n" + metrics, "metrics.jsonl, row 1");
  refuses("metrics.jsonl", "[1]\n", "metrics.jsonl");
  refuses("metrics.jsonl", "{\"type\": \"train\", \"iteration\": \"ten\"}\n", "metrics.jsonl");
  refuses("config.json", "{}}", "config.json");
  refuses("config.json", R"({"model": 3})", "config.json");
  refuses("summary.json", "[]", "summary.json");
  refuses("summary.json", R"({"images_per_second": "fast"})", "summary.json");
  refuses("summary.json", R"({"parameters": {}})", "summary.json");
  refuses("calibration.json", R"({"branches": {}})", "calibration.json");
  refuses("probes.jsonl",
          R"({"iteration": 1, "sites": [{"branches": 3}]})"
          "\n",
          "probes.jsonl");
  refuses("eval/confusion.csv", "a,b\n1,2\n", "confusion.csv");
  refuses("eval/confusion.csv", "a,b\n1,2\n1,x\n", "confusion.csv");
  refuses("eval/confusion.csv", "label \\ prediction (pixels),a,b\na,1,2\nb,1\n", "confusion.csv");
  refuses("eval/pictures.csv", "index,name,miou,accuracy\n1,\"a\n", "pictures.csv");
  refuses("eval/best_1_0000.png", "not a picture", "best_1_0000.png");
  // Sizes that no map has cost nothing.
  json site = sample_site("huge", 0, false);
  site["height"] = 1e18;
  site["branches"][1]["height"] = -5;
  write_file(run / "probes.jsonl", json({{"iteration", 0}, {"sites", {site}}}).dump() + "\n{\"iteration\": 5}\n");
  CHECK_NOTHROW(write_report(run));
  json summary = json::parse(read_file(run / "summary.json"));
  summary.erase("eval_peak_bytes");  // as of another version
  write_file(run / "summary.json", summary.dump());
  CHECK_THAT(report_of(run), Contains(" MiB in training, – MiB in evaluation"));
}

TEST_CASE("hostile names stay text", "[report]") {
  TemporaryFolder folder;
  const fs::path run = copy_of_run(folder);
  const std::string evil = "<script>alert(1)</script>\"'";
  json evaluation = {
      {"type", "evaluate"}, {"iteration", 6}, {"miou", 0.5}, {"per_class", {{{"name", evil}, {"iou", 0.5}, {"pixels", 10}}}}};
  write_file(run / "metrics.jsonl", evaluation.dump() + "\n");
  write_file(run / "eval" / "confusion.csv", "\"<script>alert(1)</script>\"\"'\",b\n5,0\n1,4\n");
  write_file(run / "eval" / "pictures.csv", "index,name,miou,accuracy\n0,<img src=x onerror=alert(1)>,0.5,0.5\n");
  write_file(run / "probes.jsonl", json({{"iteration", 0}, {"sites", {sample_site(evil, 0, true, evil)}}}).dump() + "\n");
  json config = json::parse(read_file(run / "config.json"));
  config["data"]["type"] = evil;
  config["equalizer"]["mode"] = evil;
  write_file(run / "config.json", config.dump());
  const std::string html = report_of(run);
  check_self_contained(html);
  CHECK_THAT(html, Contains("&lt;script&gt;alert(1)") && !Contains("<img src=x"));

  json paired = sample_paired({evil, "javascript:alert(1)"});
  fs::create_directories(folder.path() / "study" / "javascript:alert(1)" / "seed0");
  write_file(folder.path() / "study" / "javascript:alert(1)" / "seed0" / "report.html", "");
  write_file(folder.path() / "study" / "study.json", paired.dump());
  const std::string study = report_of(folder.path() / "study");
  check_self_contained(study);
  CHECK_THAT(study, Contains("href=\"./javascript:alert(1)/seed0/report.html\""));
}

TEST_CASE("every kind of study has its page", "[report]") {
  TemporaryFolder folder;
  const auto page = [&](const json& study) {
    write_file(folder.path() / "study.json", study.dump());
    const std::string html = report_of(folder.path());
    check_self_contained(html);
    return html;
  };
  CHECK_THAT(page(sample_theory()), Contains("Measured against predicted") && Contains("Checks that agree") &&
                                        Contains("title=\"agrees\">✓<") && Contains("≤ 1.0000") && Contains("ratio 4"));
  CHECK_THAT(page(sample_theory()),
             Contains("How fast each level is learned") && Contains("SGD, folded") && Contains("22 / 23") && Contains("137 / –"));
  json without_learning = sample_theory();
  without_learning.erase("learning");
  CHECK_THAT(page(without_learning), !Contains("How fast each level is learned"));
  CHECK_THAT(page(sample_probe_study("scales")), Contains("Scale of each branch") && Contains("Arm explicit") && Contains("white noise"));
  json sums = sample_probe_study("scales");
  for (json& record : sums["records"]) record["sites"][0]["kind"] = "sum";
  CHECK_THAT(page(sums), Contains("resized, as added") && Contains("resized, and so fused"));
  CHECK_THAT(page(sample_probe_study("scales")), !Contains("as added"));
  CHECK_THAT(page(sample_probe_study("gradients")), Contains("gradient per weight") && Contains("off: largest / smallest"));
  CHECK_THAT(page(sample_paired()), Contains("mIoU, every seed") && Contains("explicit − off") && Contains("start from the same values") &&
                                        Contains("bicyclist") && Contains("&lt; 0.001") && Contains(">0.062<") &&
                                        Contains("the interval covers zero") && Contains("95 % interval (t)"));
  CHECK_THAT(page(sample_ablation()), Contains("mIoU lost") && Contains("demo/explicit") && Contains("without level 3") &&
                                          Contains("+1.00") && Contains("-3.00 … 25.00") && Contains("+0.0250") &&
                                          Contains("intervals over the pictures") && !Contains("Means over seeds"));
  json ablation = sample_ablation();
  json& groups = ablation["over_seeds"] = ablation["runs"];  // sites and branches have the same keys
  for (json& group : groups) {
    group["name"] = group["equalizer"];
    group["seeds"] = {0, 1, 2};
    json& branch = group["sites"][0]["branches"][0];
    branch["change"] = 0.0123;
    branch["change_interval"] = {-0.0456, 0.0789};
  }
  CHECK_THAT(page(ablation), Contains("Means over seeds") && Contains("Less what off loses") && Contains("-4.56 … 7.89") &&
                                 Contains("1.23") && Contains("intervals over the networks") && !Contains("intervals over the pictures."));
  fs::create_directories(folder.path() / "pages" / "theory");
  write_file(folder.path() / "pages" / "theory" / "report.html", "");
  fs::create_directories(folder.path() / "pages" / "claims");
  json claims = sample_claims();
  claims["claims"][0]["evidence"] = "theory/study.json, gone/study.json";
  write_file(folder.path() / "pages" / "claims" / "study.json", claims.dump());
  CHECK_THAT(report_of(folder.path() / "pages" / "claims"),
             Contains("<a href=\"../theory/report.html\">theory/study.json</a>, gone/study.json<"));
  CHECK_THAT(page(sample_claims()), Contains("✓ holds") && Contains("✗ does not hold") && Contains("Theorem 3.2") &&
                                        Contains(">Verdict</th>"));
  // Empty ones say what would fill them.
  for (const char* kind : {"theory", "scales", "gradients", "run", "ablation", "claims"}) {
    CHECK_THAT(page({{"kind", kind}}), Contains("Not here: "));
  }
  write_file(folder.path() / "study.json", R"({"kind": "else"})");
  CHECK_THROWS_AS(write_report(folder.path()), DataError);
  write_file(folder.path() / "study.json", R"({"kind": "theory", "checks": [3]})");
  CHECK_THROWS_AS(write_report(folder.path()), DataError);
}
