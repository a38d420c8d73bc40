#include "study/snapshots/snapshots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "autograd/node.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "study/report/report.h"
#include "study/snapshots/ratio_changes.h"
#include "study/snapshots/record_mean.h"
#include "study/study_head.h"
#include "training/signals.h"
#include "training/trainer.h"

namespace eq {
namespace {

using nlohmann::ordered_json;

constexpr const char* kFusingFcn[] = {"model.decode_head.input_transform=resize_concat", "model.decode_head.num_convs=1",
                                      "model.decode_head.kernel_size=1", "model.decode_head.concat_input=false"};

constexpr int64_t kFreshBatches = int64_t{1} << 20;

std::vector<std::string> settings_of(const SnapshotRequest& request, const ArmSpec& head, const ArmSpec& arm) {
  std::vector<std::string> settings = request.settings;
  settings.insert(settings.end(), head.settings.begin(), head.settings.end());
  settings.insert(settings.end(), arm.settings.begin(), arm.settings.end());
  return settings;
}

// The configuration's own head stands for itself.
std::vector<ArmSpec> heads_of(const SnapshotRequest& request) {
  if (!request.heads.empty()) return request.heads;
  return {{load_config(request.config, request.settings).model.decode_head.type, {}}};
}

ProbeRecord take(const SnapshotRequest& request, const ArmSpec& head, const ArmSpec& arm, int64_t seed, CalibrationReport& calibration) {
  Config config = load_config(request.config, settings_of(request, head, arm));
  config.seed = seed_after(config, seed);
  config.optimizer.lr = 0;  // looking, not learning
  config.schedule = {.type = "constant"};
  const auto dataset = make_dataset(config.data, "train");
  config.model.num_classes = dataset->num_classes();
  InitRandom random{uint64_t(config.seed)};
  EncoderDecoder model(config.model);
  TrainStep step(model, config);
  DataLoader loader(*dataset, config.pipeline, loader_options(config));
  model.set_step(uint64_t(config.seed), 0);
  calibration = calibrate_equalizers(model, [&](int64_t) { model.forward(loader.next().images); });
  loader.seek(kFreshBatches);  // the same for every arm, and none that a calibration saw
  RecordMean mean;
  for (int64_t i = 0; i < request.batches; ++i) {
    Probe probe(model, 0, false);
    if (request.gradients) {
      step.run(i, [&] { return loader.next(); }, &probe);
    } else {
      NoGradGuard no_grad;
      const Batch batch = loader.next();
      model.train();
      probe.before_forward(batch);
      model.forward(batch.images);
    }
    mean.add(probe.record());
  }
  return mean.result();
}

std::filesystem::path run_folder(const SnapshotRequest& request, const ArmSpec& head, const ArmSpec& arm) {
  return request.out / (head.name + "-" + arm.name);
}

// Beside each branch of a record of one network: its constants, and how far other batches would have moved them.
void add_calibration(ordered_json& record, const CalibrationReport& calibration) {
  if (calibration.branches.empty()) return;
  record["calibration_batches"] = calibration.batches;
  for (ordered_json& site : record["sites"]) {
    size_t at = 0;
    for (const CalibrationReport::Branch& branch : calibration.branches) {
      if (branch.site != site["site"].get<std::string>()) continue;
      site["branches"][at++]["calibrated"] = {
          {"mean", branch.mean}, {"std", branch.std}, {"mean_error", branch.mean_error}, {"std_error", branch.std_error}};
    }
  }
}

// What a run has recorded so far.
void append_records(ordered_json& records, const SnapshotRequest& request, const ArmSpec& head, const ArmSpec& arm) {
  const std::filesystem::path file = run_folder(request, head, arm) / "probes.jsonl";
  if (!std::filesystem::exists(file)) return;
  std::istringstream lines(read_text(file, limits::kListFileBytes));
  for (std::string line; std::getline(lines, line);) {
    const ordered_json row = ordered_json::parse(line, nullptr, false);
    if (!row.is_object()) throw DataError("a row is not JSON", file.string(), "delete the run's folder; it will be made again");
    ordered_json record = {{"head", head.name}, {"arm", arm.name}, {"source", "run"}};
    record.update(row);
    record.erase("layers");
    records.push_back(record);
  }
}

std::string number(double value, int width, int digits) {
  return std::isfinite(value) ? fmt::format("{:{}.{}f}", value, width, digits) : std::string(size_t(width) - 1, ' ') + "-";
}

std::string ratios_by_seed(const Snapshot& snapshot, const SiteRecord& site) {
  std::string text;
  for (const ProbeRecord& record : snapshot.by_seed) {
    for (const SiteRecord& of_seed : record.sites) {
      if (of_seed.site == site.site) text += fmt::format(" {:.2f}", of_seed.grad_ratio);
    }
  }
  return text;
}

}  // namespace

std::vector<ArmSpec> parse_heads(const std::string& text) {
  return parse_specs(text, "--heads", [](const std::string& name) {
    std::vector<std::string> settings{"model.decode_head.type=" + name};
    if (name == "fcn") settings.insert(settings.end(), std::begin(kFusingFcn), std::end(kFusingFcn));
    return settings;
  });
}

std::vector<Snapshot> first_step_snapshots(const SnapshotRequest& request) {
  if (request.batches < 1) throw UsageError("a snapshot needs at least one batch", "--batches", "use 32, say");
  if (request.seeds < 1) throw UsageError("a snapshot needs at least one seed", "--seeds", "use 1, or 5 for intervals over networks");
  std::vector<Snapshot> snapshots;
  for (const ArmSpec& head : heads_of(request)) {
    for (const ArmSpec& arm : request.arms) {
      Snapshot& snapshot = snapshots.emplace_back(head.name, arm.name);
      RecordMean mean;
      for (int64_t seed = 0; seed < request.seeds; ++seed) {
        mean.add(snapshot.by_seed.emplace_back(take(request, head, arm, seed, snapshot.calibrations.emplace_back())));
      }
      snapshot.record = mean.result();
      if (request.log == nullptr) continue;
      fmt::print(request.log, "{}\n", snapshot_table(snapshots.back(), request.gradients));
      std::fflush(request.log);
    }
  }
  if (request.log != nullptr && request.gradients) fmt::print(request.log, "{}", ratio_changes_table(ratio_changes(snapshots)));
  return snapshots;
}

bool train_and_record(const SnapshotRequest& request) {
  if (request.iterations == 0) return true;
  const StopSignals signals;
  for (const ArmSpec& head : heads_of(request)) {
    for (const ArmSpec& arm : request.arms) {
      const std::filesystem::path out = run_folder(request, head, arm);
      std::vector<std::string> settings = settings_of(request, head, arm);
      settings.push_back("train.iterations=" + std::to_string(request.iterations));
      settings.push_back("probes.every=" + std::to_string(request.every));
      const bool resume = holds_run(out);
      if (request.log != nullptr) {
        fmt::print(request.log, "training {} for {} iterations{}\n", out.string(), request.iterations, resume ? ": going on" : "");
      }
      if (!train(load_config(request.config, settings), {.out = out, .resume = resume, .log = nullptr}).finished) return false;
      write_run_report(out);
    }
  }
  return true;
}

std::string snapshot_study_json(const SnapshotRequest& request, const std::vector<Snapshot>& snapshots, bool finished,
                                const std::string& command, double seconds) {
  ordered_json arms = ordered_json::array(), records = ordered_json::array(), by_seed = ordered_json::array();
  const Config config = load_config(request.config, request.settings);
  for (const ArmSpec& arm : request.arms) arms.push_back({{"name", arm.name}, {"settings", arm.settings}});
  for (const Snapshot& snapshot : snapshots) {
    const auto json_of = [&](ordered_json record, const ProbeRecord& of) {
      record.update(ordered_json::parse(probe_json(of)));
      record.erase("layers");
      return record;
    };
    const ordered_json names = {{"head", snapshot.head}, {"arm", snapshot.arm}};
    ordered_json mean = names;
    mean.update(ordered_json{{"source", "first step"}, {"batches", request.batches}, {"seeds", request.seeds}});
    records.push_back(json_of(mean, snapshot.record));
    if (request.seeds == 1 && !snapshot.calibrations.empty()) add_calibration(records.back(), snapshot.calibrations[0]);
    for (size_t i = 0; request.seeds > 1 && i < snapshot.by_seed.size(); ++i) {
      ordered_json of_seed = names;
      of_seed["seed"] = config.seed + int64_t(i);
      of_seed["batches"] = request.batches;
      by_seed.push_back(json_of(of_seed, snapshot.by_seed[i]));
      if (i < snapshot.calibrations.size()) add_calibration(by_seed.back(), snapshot.calibrations[i]);
    }
  }
  if (request.iterations > 0) {
    for (const ArmSpec& head : heads_of(request)) {
      for (const ArmSpec& arm : request.arms) append_records(records, request, head, arm);
    }
  }
  ordered_json changes = ordered_json::array();
  for (const RatioChange& c : ratio_changes(snapshots)) {
    changes.push_back({{"head", c.head}, {"site", c.site}, {"baseline", c.baseline}, {"arm", c.arm}});
    changes.back().update(factor_json(c.factor));
  }
  ordered_json study = study_head(request.gradients ? "gradients" : "scales", command, seconds);
  study.update({{"finished", finished},
                {"config", ordered_json::parse(to_json_text(config))},
                {"arms", arms},
                {"records", records},
                {"by_seed", by_seed},
                {"ratio_changes", changes}});
  return file_text(study);
}

std::string snapshot_table(const Snapshot& snapshot, bool gradients) {
  const size_t seeds = snapshot.by_seed.size();
  std::string text = fmt::format("{}, equalizer {}{}\n", snapshot.head, snapshot.arm, seeds > 1 ? fmt::format(", mean of {} seeds", seeds) : "");
  for (const SiteRecord& site : snapshot.record.sites) {
    text += fmt::format("  {} ({}, {} x {})", site.site, site.kind, site.height, site.width);
    if (gradients && std::isfinite(site.grad_ratio)) {
      text += fmt::format(", largest over smallest gradient per weight {:.2f}", site.grad_ratio);
      if (seeds > 1) text += " (by seed" + ratios_by_seed(snapshot, site) + ")";
    }
    text += fmt::format("\n    {:<29} | {:>15} | {:>15} | {:>15} | {:>7} | {:>18}{}\n", "", "arriving", "resized", "fused", "lag one",
                        "variance kept", gradients ? fmt::format(" | {:>16} | {:>9}", "weight gradient", "sent back") : "");
    text += fmt::format("    {:<10} {:>8} {:>9} | {:>7} {:>7} | {:>7} {:>7} | {:>7} {:>7} | {:>7} | {:>9} {:>8}{}\n", "branch", "channels",
                        "size", "mean", "std", "mean", "std", "mean", "std", "corr.", "predicted", "measured",
                        gradients ? fmt::format(" | {:>9} {:>6} | {:>9}", "RMS", "share", "norm") : "");
    for (const BranchRecord& b : site.branches) {
      text += fmt::format("    {:<10} {:>8} {:>9} | {} {} | {} {} | {} {} | {} | {} {}", b.name, b.channels,
                          fmt::format("{} x {}", b.height, b.width), number(b.before.mean, 7, 3), number(b.before.std, 7, 3),
                          number(b.resized.mean, 7, 3), number(b.resized.std, 7, 3), number(b.fused.mean, 7, 3), number(b.fused.std, 7, 3),
                          number(b.lag_one, 7, 3), number(b.predicted_factor, 9, 3), number(b.measured_factor, 8, 3));
      if (gradients) {
        const auto known = [](double value, const std::string& shown) { return std::isfinite(value) ? shown : "-"; };
        text += fmt::format(" | {:>9} {:>6} | {:>9}", known(b.weight_grad_rms, fmt::format("{:.2e}", b.weight_grad_rms)),
                            known(b.weight_grad_share, fmt::format("{:.1f}%", 100 * b.weight_grad_share)),
                            known(b.input_grad, fmt::format("{:.2e}", b.input_grad)));
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace eq
