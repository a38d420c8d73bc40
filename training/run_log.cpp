#include "training/run_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "core/limits.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kCsvHeader =
    "iteration,loss,main_loss,aux_loss,lr,grad_norm,images_per_second,data_wait,memory_bytes,seconds,miou,macc,aacc";

// ".341": the leading zero says nothing.
std::string short_number(double value) {
  const std::string text = fmt::format("{:.3f}", value);
  return text.starts_with("0.") ? text.substr(1) : text;
}

std::string short_bytes(size_t bytes) {
  const double mega = double(bytes) / (1 << 20);
  return mega < 1024 ? fmt::format("{:.0f}M", mega) : fmt::format("{:.1f}G", mega / 1024);
}

json number_or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }
std::string csv_number(double value) { return std::isfinite(value) ? fmt::format("{:.6g}", value) : ""; }

// Keeps the lines of a file whose row is not after `iteration`.
template <class IterationOf>
void keep_rows(const fs::path& path, IterationOf iteration_of, int64_t iteration) {
  if (!fs::exists(path)) return;
  const std::string text = read_text(path, limits::kListFileBytes);
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    if (end < text.size() && iteration_of(line) <= iteration) kept += line + "\n";  // a last line without end was cut off by a kill
  }
  if (kept != text) write_text_atomically(path, kept);
}

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

int64_t json_iteration(const std::string& line) {
  const json row = json::parse(line, nullptr, false);
  return row.is_object() && row.contains("iteration") && row["iteration"].is_number_integer() ? row["iteration"].get<int64_t>() : kNever;
}

int64_t csv_iteration(const std::string& line) {
  if (line == kCsvHeader) return -1;
  const size_t digits = line.find_first_not_of("0123456789");
  return digits == 0 || digits > 18 ? kNever : std::stoll(line.substr(0, digits));
}

ordered_json metrics_value(const SegmentationMetrics& metrics) {
  ordered_json classes = ordered_json::array();
  for (const ClassMetrics& c : metrics.classes) {
    classes.push_back({{"name", c.name}, {"iou", number_or_null(c.iou)}, {"acc", number_or_null(c.acc)},
                       {"precision", number_or_null(c.precision)}, {"pixels", c.pixels}});
  }
  return {{"miou", number_or_null(metrics.miou)}, {"macc", number_or_null(metrics.macc)}, {"aacc", number_or_null(metrics.aacc)},
          {"classes_in_mean", metrics.classes_in_mean}, {"pixels", metrics.pixels}, {"ignored_pixels", metrics.ignored_pixels},
          {"per_class", classes}};
}

}  // namespace

std::string human_duration(double seconds) {
  const int64_t whole = int64_t(std::llround(std::clamp(seconds, 0.0, 1e9)));
  return fmt::format("{}:{:02d}:{:02d}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string progress_line(const Progress& p) {
  const std::string total = std::to_string(p.iterations);
  const std::string parts = p.has_aux ? fmt::format(" (main {} aux {})", short_number(p.main_loss), short_number(p.aux_loss)) : "";
  const std::string speed = p.images_per_second < 10 ? fmt::format("{:.1f}", p.images_per_second) : fmt::format("{:.0f}", p.images_per_second);
  return fmt::format("iter {:>{}}/{}  loss {:.3f}{}  lr {:.1e}  |g| {:.2f}  {} img/s  data {:.0f}%  mem {}  eta {}", p.iteration, total.size() + 1,
                     total, p.loss, parts, p.lr, p.grad_norm, speed, 100 * p.data_wait, short_bytes(p.memory_bytes),
                     human_duration(p.eta_seconds));
}

std::string metrics_json(const SegmentationMetrics& metrics) { return metrics_value(metrics).dump(); }

RunLog::RunLog(fs::path folder, std::FILE* out, int64_t resume_from)
    : folder_(std::move(folder)), out_(out), terminal_(out != nullptr && isatty(fileno(out)) == 1) {
  if (folder_.empty()) return;
  keep_rows(folder_ / "metrics.jsonl", json_iteration, resume_from);
  keep_rows(folder_ / "metrics.csv", csv_iteration, resume_from);
  if (!fs::exists(folder_ / "metrics.csv")) append_line(folder_ / "metrics.csv", kCsvHeader);
}

RunLog::~RunLog() { clear_glance(); }

void RunLog::clear_glance() {
  if (glancing_) std::fputs("\r\033[K", out_), std::fflush(out_);
  glancing_ = false;
}

void RunLog::say(const std::string& text) {
  if (!folder_.empty()) append_line(folder_ / "log.txt", text.ends_with("\n") ? text.substr(0, text.size() - 1) : text);
  if (out_ == nullptr) return;
  clear_glance();
  std::fputs((text + (text.ends_with("\n") ? "" : "\n")).c_str(), out_);
  std::fflush(out_);
}

void RunLog::glance(const Progress& progress) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - last_glance_ < std::chrono::milliseconds(500)) return;
  last_glance_ = now;
  std::fputs(("\r\033[K" + progress_line(progress)).c_str(), out_);
  std::fflush(out_);
  glancing_ = true;
}

void RunLog::progress(const Progress& p) {
  say(progress_line(p));
  if (folder_.empty()) return;
  const ordered_json row = {{"type", "train"}, {"iteration", p.iteration}, {"loss", p.loss}, {"main_loss", p.main_loss}, {"aux_loss", p.aux_loss},
                            {"lr", p.lr}, {"grad_norm", p.grad_norm}, {"images_per_second", p.images_per_second},
                            {"data_wait", p.data_wait}, {"memory_bytes", p.memory_bytes}, {"seconds", p.seconds}};
  append_line(folder_ / "metrics.jsonl", row.dump());
  append_line(folder_ / "metrics.csv",
              fmt::format("{},{},{},{},{},{},{},{},{},{},,,", p.iteration, csv_number(p.loss), csv_number(p.main_loss),
                          csv_number(p.aux_loss), csv_number(p.lr), csv_number(p.grad_norm), csv_number(p.images_per_second),
                          csv_number(p.data_wait), p.memory_bytes, csv_number(p.seconds)));
}

void RunLog::evaluation(int64_t iteration, const EvalResult& result, double seconds) {
  say(to_table(result.metrics));
  if (folder_.empty()) return;
  ordered_json row = {{"type", "evaluate"}, {"iteration", iteration}, {"pictures", result.pictures}, {"evaluation_seconds", result.seconds},
                      {"memory_bytes", result.peak_bytes}};
  row.update(metrics_value(result.metrics));
  append_line(folder_ / "metrics.jsonl", row.dump());
  append_line(folder_ / "metrics.csv", fmt::format("{},,,,,,,,{},{},{},{},{}", iteration, result.peak_bytes, csv_number(seconds),
                                                   csv_number(result.metrics.miou), csv_number(result.metrics.macc), csv_number(result.metrics.aacc)));
}

}  // namespace eq
