// How a run went, layer by layer too, and where it came from.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "study/report/chart.h"
#include "study/report/run_sections.h"
#include "study/report/ticks.h"

namespace eq::report {
namespace {

template <class Row, class Value>
Series series_of(const std::string& name, const std::vector<Row>& rows, int color, Value value) {
  Series series{.name = name, .color = color};
  for (const Row& row : rows) {
    series.x.push_back(row.iteration);
    series.y.push_back(value(row));
  }
  return series;
}

Markup loss_chart(const RunFiles& run) {
  const Fields train = Fields(*run.config, (run.folder / "config.json").string()).object("train");
  const double dice = train.has("dice_weight") ? train.number("dice_weight") : 0;
  const auto evaluated = std::count_if(run.evaluations.begin(), run.evaluations.end(),
                                       [](const EvaluationRow& row) { return !std::isnan(row.cross_entropy); });
  const bool validated = evaluated > 1;
  LineChart chart{.title = "Loss",
                  .caption = fmt::format("Mean cross-entropy{}{} between records{}.", train.has("ohem") ? " of the hard pixels" : "",
                                         dice > 0 ? fmt::format(" plus {:g} times the Dice loss", dice) : "",
                                         validated ? "; on the validation pictures the plain cross-entropy of their labelled pixels" : ""),
                  .x = kIterations,
                  .y = {.name = "loss", .unit = dice > 0 ? "" : "nats", .low = 0}};
  const bool auxiliary =
      std::any_of(run.train.begin(), run.train.end(), [](const TrainRow& row) { return row.aux_loss != 0 && std::isfinite(row.aux_loss); });
  chart.series.push_back(series_of("total", run.train, 4, [](const TrainRow& row) { return row.loss; }));
  if (auxiliary) {
    chart.series.push_back(series_of("decode head", run.train, 0, [](const TrainRow& row) { return row.main_loss; }));
    chart.series.push_back(series_of("auxiliary head", run.train, 1, [](const TrainRow& row) { return row.aux_loss; }));
  }
  if (validated) {
    chart.series.push_back(series_of("validation", run.evaluations, 2, [](const EvaluationRow& row) { return row.cross_entropy; }));
  }
  return line_chart(chart);
}

Markup accuracy_chart(const RunFiles& run) {
  LineChart chart{.title = "Accuracy on the validation pictures",
                  .caption = "On " + whole_number(run.evaluations.back().pictures) + " pictures.",
                  .x = kIterations,
                  .y = {.name = "share", .unit = "%", .low = 0, .high = 100}};
  chart.series = {series_of("mIoU", run.evaluations, 0, [](const EvaluationRow& row) { return 100 * row.miou; }),
                  series_of("mAcc", run.evaluations, 1, [](const EvaluationRow& row) { return 100 * row.macc; }),
                  series_of("aAcc", run.evaluations, 2, [](const EvaluationRow& row) { return 100 * row.aacc; })};
  return line_chart(chart);
}

// Layers of one part of the network together, so that there are few enough rows to read.
constexpr size_t kMostRows = 40, kMostColumns = 80;

std::string prefix(const std::string& name, int parts) {
  size_t end = 0;
  for (int i = 0; i < parts; ++i) {
    end = name.find('.', end == 0 ? 0 : end + 1);
    if (end == std::string::npos) return name;
  }
  return name.substr(0, end);
}

std::vector<std::string> groups_of(const std::vector<WeightRecord>& layers, int parts) {
  std::vector<std::string> names;
  for (const WeightRecord& layer : layers) {
    const std::string name = prefix(layer.name, parts);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

struct LayerMaps {
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> grad, update;
  int parts = 0;
};

LayerMaps layer_maps(const std::vector<const ProbeRecord*>& records) {
  LayerMaps maps;
  const std::vector<WeightRecord>& names = records.back()->layers;
  for (maps.parts = 8; maps.parts > 1 && groups_of(names, maps.parts).size() > kMostRows; --maps.parts) {
  }
  maps.rows = groups_of(names, maps.parts);
  std::map<std::string, size_t> row_of;
  for (size_t i = 0; i < maps.rows.size(); ++i) row_of[maps.rows[i]] = i;
  const size_t columns = std::min(kMostColumns, records.size());
  maps.grad.assign(maps.rows.size(), std::vector<double>(columns, kNone));
  maps.update = maps.grad;
  for (size_t c = 0; c < columns; ++c) {
    const ProbeRecord& record = *records[columns == 1 ? records.size() - 1 : c * (records.size() - 1) / (columns - 1)];
    maps.columns.push_back(std::to_string(record.iteration));
    struct Sums {
      double grad = 0, weight = 0, update = 0;
    };
    std::vector<Sums> sums(maps.rows.size());
    for (const WeightRecord& layer : record.layers) {
      const auto row = row_of.find(prefix(layer.name, maps.parts));
      if (row == row_of.end()) continue;
      Sums& sum = sums[row->second];
      const double update = layer.update_ratio * layer.weight;
      if (std::isfinite(layer.grad)) sum.grad += layer.grad * layer.grad;
      if (std::isfinite(update)) sum.update += update * update, sum.weight += layer.weight * layer.weight;
    }
    for (size_t r = 0; r < sums.size(); ++r) {
      if (sums[r].grad > 0) maps.grad[r][c] = std::sqrt(sums[r].grad);
      if (sums[r].weight > 0) maps.update[r][c] = std::sqrt(sums[r].update / sums[r].weight);
    }
  }
  return maps;
}

// Short enough to stand beside a heat map.
std::string short_layer_name(const std::string& name) {
  for (const auto& [from, to] : {std::pair{"backbone.", ""}, {"decode_head.", "head."}, {"auxiliary_head.", "aux."}}) {
    if (name.starts_with(from)) return to + name.substr(std::string(from).size());
  }
  return name;
}

}  // namespace

std::string train_with(const std::string& key, const std::string& value) { return "Train with --set " + key + "=" + value + "."; }

Tile cross_entropy_tile(const EvaluationRow& scores) {
  return {"Cross-entropy", fmt::format("{:.4f}", scores.cross_entropy), "nats, mean over labelled pixels"};
}

Section learning_section(const RunFiles& run) {
  Section section{"learning", "Learning", {}};
  if (run.diverged) {
    const Fields report(*run.diverged, (run.folder / "nan_report.json").string());
    section.body =
        element("p", {{"class", "missing"}},
                element("strong", text(fmt::format("Diverged at iteration {:.0f}: ", report.number("iteration")))) +
                    text(report.words("first_bad") + ". Lower optimizer.lr, set train.clip_norm (10, say) or a warm-up, and train again."));
  }
  if (run.train.empty()) {
    section.body += missing("metrics.jsonl has no training record yet.", "The trainer writes one every train.log_every iterations.");
    return section;
  }
  std::vector<Markup> figures = {loss_chart(run)};
  if (run.evaluations.size() > 1) figures.push_back(accuracy_chart(run));
  figures.push_back(line_chart({.title = "Learning rate",
                                .caption = "Of the last step before each record.",
                                .x = kIterations,
                                .y = {.name = "learning rate", .low = 0},
                                .series = {series_of("", run.train, 0, [](const TrainRow& row) { return row.lr; })}}));
  figures.push_back(line_chart({.title = "Gradient norm",
                                .caption = "Of all parameters together, at the last step before each record.",
                                .x = kIterations,
                                .y = {.name = "gradient norm", .low = 0},
                                .series = {series_of("", run.train, 0, [](const TrainRow& row) { return row.grad_norm; })}}));
  figures.push_back(line_chart({.title = "Throughput",
                                .caption = "Without evaluation.",
                                .x = kIterations,
                                .y = {.name = "pictures a second", .low = 0},
                                .series = {series_of("", run.train, 0, [](const TrainRow& row) { return row.images_per_second; })}}));
  figures.push_back(line_chart({.title = "Waiting for data",
                                .caption = "Share of the time in which training waited for the loader.",
                                .x = kIterations,
                                .y = {.name = "waiting", .unit = "%", .low = 0, .high = 1},
                                .series = {series_of("", run.train, 0, [](const TrainRow& row) { return 100 * row.data_wait; })}}));
  section.body += gallery(figures);
  if (run.evaluations.empty()) section.body += missing("no evaluation has been made yet.", "It follows the last iteration.");
  if (run.evaluations.size() == 1) {
    section.body += missing("mIoU over time: this run was evaluated once, at its end.", train_with("train.evaluate_every", "200"));
  }
  return section;
}

Section layers_section(const RunFiles& run) {
  Section section{"layers", "Layer by layer", {}};
  std::vector<const ProbeRecord*> records;
  for (const ProbeRecord& probe : run.probes) {
    if (!probe.layers.empty()) records.push_back(&probe);
  }
  if (records.empty()) {
    section.body = missing("probes.jsonl has no records of layers.", train_with("probes.every", "50 --set probes.layers=true"));
    return section;
  }
  LayerMaps maps = layer_maps(records);
  for (std::string& row : maps.rows) row = short_layer_name(row);
  const std::string caption = fmt::format(
      "{} tensors in {} parts of the network, in the order of the forward pass; a part's norm is the root of the sum of squares. Colours "
      "are logarithmic.",
      records.back()->layers.size(), maps.rows.size());
  HeatMap grad{.title = "Gradient norm by layer and time",
               .caption = caption,
               .x = kIterations,
               .y = {.name = "layer"},
               .value = {.name = "gradient norm", .log = true},
               .rows = maps.rows,
               .columns = maps.columns,
               .values = maps.grad};
  HeatMap update = grad;
  update.title = "Update over weight by layer and time";
  update.caption = "Norm of one step's update over the norm of the weights it changes.";
  update.value.name = "update / weight";
  update.values = maps.update;
  section.body = gallery({heat_map(grad), heat_map(update)});
  return section;
}

Section provenance_section(const RunFiles& run) {
  const Fields config(*run.config, (run.folder / "config.json").string());
  std::vector<std::vector<Cell>> rows;
  const auto add = [&](const std::string& name, const std::string& value) {
    if (!value.empty() && value != "–") rows.push_back({cell(name), cell(value)});
  };
  add("Seed", whole_number(config.number("seed")));
  add("Data", config.object("data").words("type") +
                  (config.object("data").words("root").empty() ? "" : ", " + config.object("data").words("root")));
  if (run.summary) {
    const Fields summary(*run.summary, (run.folder / "summary.json").string());
    add("Version", "equiscale " + summary.words("library_version"));
    add("Device", summary.words("device"));
    add("Threads", whole_number(summary.number("threads")));
    add("SHA-256 of the weights", summary.words("weights_sha256"));
    add("Memory of tensors, at most",
        whole_number(summary.number("peak_bytes") / 1048576) + " MiB in training, " +
            whole_number(summary.number("eval_peak_bytes") / 1048576) + " MiB in evaluation");
    add("Pixels evaluated",
        whole_number(summary.number("pixels")) + ", and " + whole_number(summary.number("ignored_pixels")) + " not labelled");
  }
  Section section{"provenance", "Where it came from", {}};
  if (!run.summary) section.body += missing("summary.json: the run has not finished.", "Go on with --resume.");
  section.body += table("The same seed, data and version give the same weights, whatever the number of threads.", {"", ""}, rows);
  section.body += element("details", element("summary", text("The whole configuration (config.json)")) +
                                         element("pre", element("code", text(run.config->dump(2)))));
  return section;
}

}  // namespace eq::report
