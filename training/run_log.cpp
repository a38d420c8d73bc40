#include "training/run_log.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/file.h"
#include "core/json.h"

namespace eq {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kCsvHeader =
    "iteration,loss,main_loss,aux_loss,lr,grad_norm,images_per_second,data_wait,memory_bytes,seconds,miou,macc,aacc,mdice,cross_entropy";

// ".341": the leading zero says nothing.
std::string short_number(double value) {
  const std::string text = fmt::format("{:.3f}", value);
  return text.starts_with("0.") ? text.substr(1) : text;
}

std::string short_bytes(size_t bytes) {
  const double mega = double(bytes) / (1 << 20);
  return mega < 1024 ? fmt::format("{:.0f}M", mega) : fmt::format("{:.1f}G", mega / 1024);
}

ordered_json metrics_value(const SegmentationMetrics& metrics) {
  ordered_json classes = ordered_json::array();
  for (const ClassMetrics& c : metrics.classes) {
    classes.push_back({{"name", c.name},
                       {"iou", number_or_null(c.iou)},
                       {"acc", number_or_null(c.acc)},
                       {"dice", number_or_null(c.dice)},
                       {"precision", number_or_null(c.precision)},
                       {"pixels", c.pixels}});
  }
  return {{"miou", number_or_null(metrics.miou)},
          {"macc", number_or_null(metrics.macc)},
          {"aacc", number_or_null(metrics.aacc)},
          {"mdice", number_or_null(metrics.mdice)},
          {"cross_entropy", number_or_null(metrics.cross_entropy)},
          {"classes_in_mean", metrics.classes_in_mean},
          {"pixels", metrics.pixels},
          {"ignored_pixels", metrics.ignored_pixels},
          {"per_class", classes}};
}

// How the row of an evaluation begins in metrics.jsonl.
std::string evaluation_begin(int64_t iteration) { return fmt::format(R"({{"type":"evaluate","iteration":{},)", iteration); }

}  // namespace

std::string progress_line(const Progress& p) {
  const std::string total = std::to_string(p.iterations);
  const std::string parts = p.has_aux ? fmt::format(" (main {} aux {})", short_number(p.main_loss), short_number(p.aux_loss)) : "";
  const std::string speed =
      p.images_per_second < 10 ? fmt::format("{:.1f}", p.images_per_second) : fmt::format("{:.0f}", p.images_per_second);
  return fmt::format("iter {:>{}}/{}  loss {:.3f}{}  lr {:.1e}  |g| {:.2f}  {} img/s  data {:.0f}%  mem {}  eta {}", p.iteration,
                     total.size() + 1, total, p.loss, parts, p.lr, p.grad_norm, speed, 100 * p.data_wait, short_bytes(p.memory_bytes),
                     human_duration(p.eta_seconds));
}

std::string metrics_json(const SegmentationMetrics& metrics) { return metrics_value(metrics).dump(); }

RunLog::RunLog(std::filesystem::path folder, std::FILE* out, int64_t resume_from)
    : folder_(folder), rows_(std::move(folder), "metrics", kCsvHeader, resume_from), out_(out), line_(out) {}

void RunLog::say(const std::string& text) {
  if (!folder_.empty()) append_line(folder_ / "log.txt", text.ends_with("\n") ? text.substr(0, text.size() - 1) : text);
  if (out_ == nullptr) return;
  line_.clear();
  std::fputs((text + (text.ends_with("\n") ? "" : "\n")).c_str(), out_);
  std::fflush(out_);
}

void RunLog::glance(const Progress& progress) {
  if (line_.due()) line_.show(progress_line(progress));
}

void RunLog::progress(const Progress& p) {
  say(progress_line(p));
  const ordered_json row = {{"type", "train"},          {"iteration", p.iteration},
                            {"loss", p.loss},           {"main_loss", p.main_loss},
                            {"aux_loss", p.aux_loss},   {"lr", p.lr},
                            {"grad_norm", p.grad_norm}, {"images_per_second", p.images_per_second},
                            {"data_wait", p.data_wait}, {"memory_bytes", p.memory_bytes},
                            {"seconds", p.seconds}};
  rows_.append(row.dump(), {fmt::format("{},{},{},{},{},{},{},{},{},{},,,,,", p.iteration, csv_number(p.loss), csv_number(p.main_loss),
                                        csv_number(p.aux_loss), csv_number(p.lr), csv_number(p.grad_norm), csv_number(p.images_per_second),
                                        csv_number(p.data_wait), p.memory_bytes, csv_number(p.seconds))});
}

bool RunLog::has_evaluation(int64_t iteration) const { return rows_.has(evaluation_begin(iteration)); }

void RunLog::evaluation(int64_t iteration, const EvalResult& result, double seconds) {
  say(to_table(result.metrics));
  ordered_json row = {{"type", "evaluate"}, {"iteration", iteration}, {"pictures", result.pictures}, {"evaluation_seconds", result.seconds},
                      {"memory_bytes", result.peak_bytes}};
  row.update(metrics_value(result.metrics));
  rows_.remove(evaluation_begin(iteration), fmt::format("{},,,,,,,,", iteration));
  rows_.append(row.dump(), {fmt::format("{},,,,,,,,{},{},{},{},{},{},{}", iteration, result.peak_bytes, csv_number(seconds),
                                        csv_number(result.metrics.miou), csv_number(result.metrics.macc), csv_number(result.metrics.aacc),
                                        csv_number(result.metrics.mdice), csv_number(result.metrics.cross_entropy))});
}

}  // namespace eq
