// The pages in a real browser, as wide as a desk's and as narrow as a phone's. EQ_KEEP_REPORTS=folder keeps the pages to look at.
#include "study/report/report.h"

#include "report_samples.h"
#include "study/report/html.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
namespace fs = std::filesystem;

namespace {

std::string browser() {
  for (const char* name : {"chromium", "chromium-browser", "google-chrome"}) {
    if (run_command(std::string("command -v ") + name).status == 0) return name;
  }
  return "";
}

// Looks at every page, in a frame of the given width, and lists what is wrong: wider than the frame, something from outside, a script, a
// chart without title or named axes, text outside of its drawing, labels that touch.
constexpr const char* kMeasure = R"js(
const problems = [];
let charts = 0;
for (const frame of document.querySelectorAll('iframe')) {
  const page = frame.contentDocument, where = frame.title + ': ';
  if (page.documentElement.scrollWidth > frame.clientWidth) problems.push(where + 'the page is ' + page.documentElement.scrollWidth + ' wide');
  for (const entry of frame.contentWindow.performance.getEntriesByType('resource')) problems.push(where + 'fetched ' + entry.name);
  for (const e of page.querySelectorAll('[src], [srcset], [data], [poster], link[href], use, image')) if (!/^data:/.test(e.getAttribute('src'))) problems.push(where + 'refers to ' + e.outerHTML.slice(0, 60));
  if (!/default-src 'none'/.test(page.querySelector('meta[http-equiv]')?.content)) problems.push(where + 'no policy that forbids fetching');
  if (page.scripts.length) problems.push(where + 'a script');
  for (const picture of page.querySelectorAll('img')) if (picture.naturalWidth == 0) problems.push(where + 'a picture does not show');
  for (const details of page.querySelectorAll('details')) details.open = true;
  for (const figure of page.querySelectorAll('figure.chart')) {
    ++charts;
    const title = figure.querySelector('figcaption strong'), drawing = figure.querySelector(':scope > svg');
    const here = where + (title ? title.textContent : 'a figure') + ': ';
    if (!title || !title.textContent.trim()) problems.push(here + 'no title');
    if (!drawing.querySelector('title') || !drawing.querySelector('desc')) problems.push(here + 'no text alternative');
    const names = [...drawing.querySelectorAll('.axis-name')].filter(name => name.textContent.trim());
    if (names.length < 2) problems.push(here + 'axes without names');
    const frame_box = drawing.getBoundingClientRect();
    if (frame_box.width < 200) problems.push(here + 'only ' + frame_box.width + ' wide');
    const boxes = [...drawing.querySelectorAll('text')].filter(t => t.textContent && getComputedStyle(t).display != 'none').map(t => [t, t.getBoundingClientRect()]);
    for (const [t, box] of boxes) {
      if (box.left < frame_box.left - 1 || box.right > frame_box.right + 1 || box.top < frame_box.top - 1 || box.bottom > frame_box.bottom + 1) {
        problems.push(here + '"' + t.textContent + '" leaves the drawing');
      }
    }
    for (let i = 0; i < boxes.length; ++i) for (let k = i + 1; k < boxes.length; ++k) {
      const a = boxes[i][1], b = boxes[k][1];
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left), down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 4) problems.push(here + '"' + boxes[i][0].textContent + '" and "' + boxes[k][0].textContent + '" touch');
    }
  }
}
const result = document.createElement('pre');
result.id = 'result';
result.textContent = charts + ' charts\n' + problems.slice(0, 40).join('\n');
document.body.append(result);
)js";

// A page with one fault of each kind, to prove that they would be seen.
constexpr const char* kBroken =
    R"html(<!DOCTYPE html><body style="margin:0"><div style="width:500px">wide</div><script></script><img src="gone.png">
<figure class="chart"><figcaption>no strong title</figcaption><svg viewBox="0 0 100 50" width="300"><text class="axis-name" x="5" y="20">lonely</text>
<text x="7" y="21">over it</text><text x="95" y="40">far outside</text></svg></figure>)html";

struct Pages {
  TemporaryFolder temporary;
  fs::path root = std::getenv("EQ_KEEP_REPORTS") != nullptr ? fs::path(std::getenv("EQ_KEEP_REPORTS")) : temporary.path();
  std::vector<fs::path> files;

  void add_study(const std::string& name, const json& study) {
    fs::create_directories(root / name);
    write_file(root / name / "study.json", study.dump());
    files.push_back(write_report(root / name));
  }
  void add_run(const std::string& name, const std::vector<std::string>& settings, bool probes, int64_t many_classes = 0) {
    fs::remove_all(root / name);
    TrainRequest request;
    request.out = root / name;
    request.log = nullptr;
    train(tiny_config(settings), request);
    if (probes) write_file(root / name / "probes.jsonl", sample_probes(30, 100, true));
    if (many_classes > 0) write_classes(root / name, many_classes);
    files.push_back(write_report(root / name));
  }
  static void write_classes(const fs::path& run, int64_t count) {
    json classes = json::array();
    std::string names, rows;
    for (int64_t k = 0; k < count; ++k) {
      classes.push_back({{"name", "traffic light " + std::to_string(k)},
                         {"iou", k % 7 == 6 ? json(nullptr) : json(1.0 / double(k + 1))},
                         {"acc", 0.5},
                         {"precision", 0.5},
                         {"pixels", 100}});
      names += (k > 0 ? "," : "") + classes.back()["name"].get<std::string>();
      for (int64_t j = 0; j < count; ++j) rows += (j > 0 ? "," : "") + std::to_string(j == k ? 900 : (j * k) % 5);
      rows += "\n";
    }
    write_file(run / "eval" / "confusion.csv", names + "\n" + rows);
    write_file(
        run / "metrics.jsonl",
        read_file(run / "metrics.jsonl") +
            json({{"type", "evaluate"}, {"iteration", 6}, {"miou", 0.1}, {"macc", 0.2}, {"aacc", 0.3}, {"per_class", classes}}).dump() +
            "\n");
  }
};

}  // namespace

TEST_CASE("a browser shows every page whole, at 1280 and at 390 pixels", "[report][browser]") {
  const std::string chromium = browser();
  if (chromium.empty()) {
    WARN("SKIPPED: there is no Chromium (Debian's package chromium) to open the reports in");
    return;
  }
  Pages pages;
  pages.add_run("full", {"train.evaluate_every=2"}, true);
  pages.add_run("bare", {"equalizer.mode=off", "train.overlays=0"}, false);
  pages.add_run("twenty", {}, false, 20);
  pages.add_run("many", {}, false, 150);
  pages.add_study("theory", sample_theory());
  pages.add_study("scales", sample_probe_study("scales"));
  pages.add_study("gradients", sample_probe_study("gradients"));
  pages.add_study("paired", sample_paired());
  pages.add_study("ablation", sample_ablation());
  pages.add_study("claims", sample_claims());
  std::string frames;
  for (const fs::path& file : pages.files) {
    for (const int width : {1280, 390}) {
      frames += "<iframe width=" + std::to_string(width) + " height=900 style=\"border:0\" title=\"" +
                file.parent_path().filename().string() + " at " + std::to_string(width) + "\" srcdoc=\"" +
                report::escaped(read_file(file)) + "\"></iframe>\n";
    }
  }
  frames += "<iframe width=390 height=900 style=\"border:0\" title=\"broken\" srcdoc=\"" + report::escaped(kBroken) + "\"></iframe>\n";
  const fs::path wrapper = pages.temporary.path() / "frames.html";
  write_file(wrapper, "<!DOCTYPE html><meta charset=utf-8><body>" + frames + "<script>onload = () => {" + kMeasure + "}</script>");
  const CommandResult shown = run_command(
      "(HOME=" + pages.temporary.path().string() + " timeout 100 " + chromium +
      " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --virtual-time-budget=20000 --user-data-dir=" +
      (pages.temporary.path() / "profile").string() + " --dump-dom file://" + wrapper.string() + " 2>/dev/null)");
  const std::string open = "<pre id=\"result\">";
  const size_t begin = shown.output.find(open), end = shown.output.find("</pre>", begin);
  INFO(shown.output.substr(0, 2000));
  REQUIRE(begin != std::string::npos);
  const std::string result = shown.output.substr(begin + open.size(), end - begin - open.size());
  std::istringstream lines(result);
  std::string line, of_pages, of_broken;
  std::getline(lines, line);
  CHECK(std::stoi(line) > 200);  // charts that were looked at
  while (std::getline(lines, line)) (line.starts_with("broken: ") ? of_broken : of_pages) += line + "\n";
  CHECK(of_pages == "");
  for (const char* fault : {"500 wide", "refers to &lt;img", "no policy", "a script", "does not show", "no title", "no text alternative",
                            "axes without names", "leaves the drawing", "touch"}) {
    CHECK_THAT(of_broken, Catch::Contains(fault));
  }
}
