// What pages are made of: text, numbers, charts.
#include "study/report/chart.h"
#include "study/report/html.h"
#include "study/report/pictures.h"
#include "study/report/ticks.h"

#include <cmath>

#include "core/csv.h"
#include "core/errors.h"
#include "support.h"

using namespace eq;
using namespace eq::report;
using Catch::Contains;

namespace {

size_t count_of(const std::string& text, const std::string& word) {
  size_t count = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

LineChart two_lines() {
  return {.title = "A <title>",
          .caption = "Caption & more",
          .x = {.name = "iteration", .whole = true},
          .y = {.name = "loss", .unit = "nats"},
          .series = {{.name = "one", .x = {0, 10, 20}, .y = {2, 1, kNone}},
                     {.name = "two\"", .x = {0, 10, 20}, .y = {1, 0.5, 0.25}, .color = 1, .dashed = true}}};
}

}  // namespace

TEST_CASE("nothing reaches a page unescaped", "[report]") {
  CHECK(escaped("<script>alert('x' & \"y\")</script>") == "&lt;script&gt;alert(&#39;x&#39; &amp; &quot;y&quot;)&lt;/script&gt;");
  CHECK(escaped("Straße 道 🚗\n") == "Straße 道 🚗\n");
  const std::string broken = "\xEF\xBF\xBD";
  CHECK(escaped(std::string("a\0b", 3)) == "a" + broken + "b");
  CHECK(escaped("\x80"
                "x") == broken + "x");
  CHECK(escaped("\xC0\xAF") == broken + broken);               // overlong
  CHECK(escaped("\xED\xA0\x80") == broken + broken + broken);  // a surrogate
  CHECK(escaped("\xF0\x9F\x9A") == broken + broken + broken);  // cut off
  CHECK(element("p", {{"title", "\"><b>"}}, text("<b>")).html() == "<p title=\"&quot;&gt;&lt;b&gt;\">&lt;b&gt;</p>");
  CHECK(element("img", {{"src", "x"}}).html() == "<img src=\"x\"/>");
  CHECK(element("td", Attributes()).html() == "<td></td>");
}

TEST_CASE("ticks are round numbers that enclose the data", "[report]") {
  const auto at = [](double low, double high, int wanted, bool whole = false) { return linear_ticks(low, high, wanted, whole).labels; };
  CHECK(at(0, 1, 5) == std::vector<std::string>{"0", "0.5", "1.0"});
  CHECK(at(0, 0.93, 6) == std::vector<std::string>{"0", "0.2", "0.4", "0.6", "0.8", "1.0"});
  CHECK(at(10, 220, 5) == std::vector<std::string>{"0", "100", "200", "300"});
  CHECK(at(0, 160000, 5) == std::vector<std::string>{"0", "50k", "100k", "150k", "200k"});
  CHECK(at(0, 3, 10, true) == std::vector<std::string>{"0", "1", "2", "3"});
  CHECK(at(-1, 1, 5) == std::vector<std::string>{"−1.0", "−0.5", "0", "0.5", "1.0"});
  const Ticks small = linear_ticks(0, 6e-5, 4);
  CHECK(small.multiplier == "×10⁻⁵");
  CHECK(small.labels == std::vector<std::string>{"0", "2", "4", "6"});
  // Whatever the range: some ticks, ascending, around the data.
  for (const auto& [low, high] : {std::pair{5.0, 5.0},
                                  {0.0, 0.0},
                                  {-3.0, -3.0},
                                  {1e300, 1.5e300},
                                  {1e-300, 2e-300},
                                  {3.0, -3.0},
                                  {0.3, 0.300001},
                                  {NAN, 1.0},
                                  {0.0, INFINITY}}) {
    CAPTURE(low, high);
    const Ticks ticks = linear_ticks(low, high, 5);
    REQUIRE(ticks.at.size() >= 2);
    CHECK(ticks.at.size() <= 12);
    CHECK(ticks.labels.size() == ticks.at.size());
    CHECK(std::is_sorted(ticks.at.begin(), ticks.at.end()));
    if (std::isfinite(low) && std::isfinite(high)) {
      CHECK(ticks.at.front() <= std::min(low, high) * (low < 0 ? 0.999999 : 1.000001));
      CHECK(ticks.at.back() >= std::max(low, high) * (high < 0 ? 1.000001 : 0.999999));
    }
  }
  CHECK(log_ticks(0.001, 1).labels == std::vector<std::string>{"0.001", "0.01", "0.1", "1"});
  CHECK(log_ticks(1, 40).labels == std::vector<std::string>{"1", "2", "5", "10", "20"});
  CHECK(log_ticks(1e-12, 1e-2).labels.size() <= 7);
  CHECK(log_ticks(1e-6, 1e-4).labels == std::vector<std::string>{"10⁻⁶", "2·10⁻⁶", "5·10⁻⁶", "10⁻⁵", "2·10⁻⁵", "5·10⁻⁵", "10⁻⁴"});
}

TEST_CASE("numbers are written for people", "[report]") {
  CHECK(short_number(0.58382) == "0.584");
  CHECK(short_number(-12.345) == "−12.3");
  CHECK(short_number(13879862) == "1.39×10⁷");
  CHECK(short_number(12345) == "12\u202f345");
  CHECK(short_number(1.5e-5) == "1.5×10⁻⁵");
  CHECK(short_number(0) == "0");
  CHECK(short_number(NAN) == "–");
  CHECK(grouped(1234567) == "1\u202f234\u202f567");
  CHECK(percent(0.5834, 2) == "58.34\u202f%");
  CHECK(percent(NAN) == "–");
}

TEST_CASE("a line chart says what it shows", "[report]") {
  const std::string html = line_chart(two_lines()).html();
  CHECK_THAT(html,
             Contains("<figcaption><strong>A &lt;title&gt;</strong>Caption &amp; more") && Contains("<title>A &lt;title&gt;</title>"));
  CHECK_THAT(html, Contains(">iteration</text>") && Contains(">loss (nats)</text>") && Contains("two&quot;"));
  CHECK_THAT(html, Contains("<desc>loss (nats) over iteration. one: from 2.00 to 1.00, lowest 1.00, highest 2.00."));
  CHECK(count_of(html, "class=\"axis-name\"") == 2);
  CHECK(count_of(html, "<path") >= 2);
  CHECK(html.find("nan") == std::string::npos);
}

TEST_CASE("a chart without a value is a sentence", "[report]") {
  LineChart lines = two_lines();
  lines.y.log = true;
  for (Series& series : lines.series) series.y = {kNone, -1, 0};
  CHECK_THAT(line_chart(lines).html(), Contains("class=\"missing\"") && !Contains("<svg"));
  CHECK_THAT(line_chart({.title = "t", .caption = "", .x = {}, .y = {}, .series = {}}).html(), Contains("missing") && !Contains("<svg"));
  CHECK_THAT(bar_chart({.title = "t", .caption = "", .rows = "class", .value = {}, .bars = {{"a", kNone, "absent"}}}).html(),
             Contains("missing"));
  CHECK_THAT(dot_plot({.title = "t", .caption = "", .row_name = "arm", .rows = {"a"}, .value = {}, .groups = {{"", {kNone}}}}).html(),
             Contains("missing"));
  CHECK_THAT(heat_map({.title = "t", .caption = "", .x = {}, .y = {}, .value = {}, .rows = {}, .columns = {}, .values = {}}).html(),
             Contains("missing"));
}

TEST_CASE("long series are thinned by means, and the caption says so", "[report]") {
  LineChart chart{.title = "t", .caption = "", .x = {.name = "x"}, .y = {.name = "y"}, .series = {{}}};
  for (int i = 0; i < 100'000; ++i) {
    chart.series[0].x.push_back(i);
    chart.series[0].y.push_back(i % 2);
  }
  const std::string html = line_chart(chart).html();
  CHECK(html.size() < 12'000);
  CHECK_THAT(html, Contains("Each point is the mean of 334 records."));
}

TEST_CASE("bars, dots and heat maps name their axes and every value", "[report]") {
  const std::string bars =
      bar_chart({.title = "IoU",
                 .caption = "",
                 .rows = "class",
                 .value = {.name = "IoU", .unit = "%", .low = 0, .high = 100},
                 .bars = {{"<script>", 40, "40.0"}, {"a class with a very long name indeed", 90, "90.0"}, {"gone", kNone, "absent"}}})
          .html();
  CHECK_THAT(bars, Contains("&lt;script&gt;") && Contains("IoU (%)") && Contains(">class</text>") && Contains("…") &&
                       Contains("a class with a very long name indeed: 90.0"));
  CHECK_THAT(bars, Contains(">absent</text>"));
  CHECK(count_of(bars, "<rect") == 2);

  const std::string dots = dot_plot({.title = "mIoU",
                                     .caption = "",
                                     .row_name = "arm",
                                     .rows = {"off", "on"},
                                     .value = {.name = "mIoU", .unit = "%"},
                                     .groups = {{"seed 0", {58, 58.5}, Mark::kDot, 0, true}},
                                     .intervals = {{1, 57, 59, true, 1}},
                                     .thick_name = "t",
                                     .thin_name = "",
                                     .zero = 58})
                               .html();
  CHECK_THAT(dots, Contains("mIoU (%)") && Contains(">arm</text>") && Contains("on, seed 0: 58.5"));

  const HeatMap confusion{.title = "Confusion",
                          .caption = "",
                          .x = {.name = "predicted"},
                          .y = {.name = "labelled"},
                          .value = {.name = "share", .unit = "%"},
                          .rows = {"a", "b"},
                          .columns = {"a", "b"},
                          .values = {{0.9, 0.1}, {0, 1}},
                          .root = true,
                          .as_percent = true};
  const std::string heat = heat_map(confusion).html();
  CHECK_THAT(heat, Contains("predicted →") && Contains("labelled ↓") && Contains("share (%)") && Contains("a → b: 10.0"));
  // 150 classes: no words for each cell, but still a readable size, and fewer labels.
  HeatMap large = confusion;
  large.rows = large.columns = std::vector<std::string>(150, "some class");
  large.values.assign(150, std::vector<double>(150, 0.001));
  for (size_t i = 0; i < 150; ++i) large.values[i][i] = 0.9;
  const std::string many = heat_map(large).html();
  CHECK(many.size() < 150'000);
  CHECK(count_of(many, ">some class</text>") < 100);
}

TEST_CASE("base64", "[report]") {
  const auto encoded = [](const std::string& s) { return base64({s.begin(), s.end()}); };  // RFC 4648
  CHECK(encoded("") == "");
  CHECK(encoded("f") == "Zg==");
  CHECK(encoded("fo") == "Zm8=");
  CHECK(encoded("foobar") == "Zm9vYmFy");
  CHECK(base64({0xFF, 0xEF}) == "/+8=");
}

TEST_CASE("CSV fields survive commas, quotes and line ends", "[report]") {
  const std::vector<std::string> fields = {"plain", "a,b", "say \"so\"", "", "two\nlines"};
  CHECK(csv_line(fields) == "plain,\"a,b\",\"say \"\"so\"\"\",,two lines");
  CHECK(csv_fields(csv_line(fields), "x.csv") == std::vector<std::string>{"plain", "a,b", "say \"so\"", "", "two lines"});
  CHECK(csv_line({"\xe9t\xc3\xa9"}) == "\xef\xbf\xbdt\xc3\xa9");  // a file's name need not be UTF-8, the table is
  CHECK(csv_fields("1,2\r", "x.csv") == std::vector<std::string>{"1", "2"});
  CHECK_THROWS_WITH(csv_fields("1,\"2", "x.csv, row 3"), Contains("quote"));
}
