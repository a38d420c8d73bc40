#include "study/ablation/ablation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/json.h"
#include "core/words.h"
#include "layers/fusion.h"
#include "layers/moments.h"
#include "study/ablation/over_seeds.h"
#include "study/report/fields.h"
#include "study/statistics/over_pictures.h"
#include "study/study_head.h"
#include "training/evaluator.h"
#include "training/signals.h"
#include "training/trained_model.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr double kSmallestLoss = 0.005;

// The mean of each channel of each branch, over all that arrives while this lives.
class ArrivingMeans {
 public:
  explicit ArrivingMeans(const std::vector<LevelSite*>& sites) : sites_(sites), moments_(sites.size()) {
    for (size_t s = 0; s < sites.size(); ++s) {
      for (const LevelSite::Branch& branch : sites[s]->branches()) moments_[s].emplace_back(branch.channels);
      sites[s]->set_observer([this, s](const LevelSite::Visit& visit) {
        for (size_t b = 0; b < visit.features.size(); ++b) {
          const auto seen = channel_moments(visit.features[b], 0, visit.features[b].size(3));
          for (size_t c = 0; c < seen.size(); ++c) moments_[s][b][c].merge(seen[c]);
        }
      });
    }
  }
  ~ArrivingMeans() {
    for (LevelSite* site : sites_) site->set_observer({});
  }
  ArrivingMeans(const ArrivingMeans&) = delete;

  Tensor of(size_t site, size_t branch, Device device) const {
    std::vector<double> means;
    for (const Moments& channel : moments_[site][branch]) means.push_back(channel.mean);
    return Tensor::from<double>(means, {int64_t(means.size())}).to(DType::kFloat32).to(device);
  }

 private:
  std::vector<LevelSite*> sites_;
  std::vector<std::vector<std::vector<Moments>>> moments_;  // [site][branch][channel]
};

TrainedModel load(const std::filesystem::path& path, const AblationRequest& request) {
  TrainedModel trained = load_trained_model(path, request.settings);
  if (modules_of<LevelSite>(*trained.model).empty()) {
    throw UsageError("this network fuses no levels", path.string(),
                     "ablate one whose head does: uper, psp, aspp, sep_aspp, or fcn with resize_concat or concat_input");
  }
  return trained;
}

// False when a signal ended it.
bool ablate(TrainedModel& trained, const AblationRequest& request, AblatedRun& run) {
  const auto dataset = make_dataset(trained.config.data, request.split);
  const EvalRequest evaluation{
      .options = trained.config.evaluate, .pipeline = trained.config.pipeline, .limit = request.limit, .stop = StopSignals::requested};
  const std::vector<LevelSite*> sites = modules_of<LevelSite>(*trained.model);
  std::vector<std::vector<Tensor>> means(sites.size());
  PictureCounts whole_counts;
  {
    const ArrivingMeans arriving(sites);
    const EvalResult whole = evaluate(*trained.model, *dataset, evaluation);
    if (whole.stopped) return false;
    run.metrics = whole.metrics;
    whole_counts = whole.counts;
    run.pictures = whole.pictures;
    for (size_t s = 0; s < sites.size(); ++s) {
      for (size_t b = 0; b < sites[s]->branches().size(); ++b) means[s].push_back(arriving.of(s, b, trained.model->device()));
    }
  }
  for (size_t s = 0; s < sites.size(); ++s) {
    run.sites.push_back({sites[s]->path(), sites[s]->kind(), {}});
    for (size_t b = 0; b < sites[s]->branches().size(); ++b) {
      sites[s]->replace(b, means[s][b]);
      const EvalResult without = evaluate(*trained.model, *dataset, evaluation);
      sites[s]->replace(b, Tensor());
      if (without.stopped) return false;
      run.sites.back().branches.push_back({sites[s]->branches()[b].name, sites[s]->branches()[b].channels, without.metrics,
                                           miou_difference_interval(without.counts, whole_counts)});
    }
  }
  return true;
}

std::string training_of(Config config) {
  config.seed = 0;
  return to_json_text(config);
}

void add_metrics(ordered_json& to, const SegmentationMetrics& metrics) {
  to["miou"] = number_or_null(metrics.miou);
  to["aacc"] = number_or_null(metrics.aacc);
  to["cross_entropy"] = number_or_null(metrics.cross_entropy);
  to["iou"] = ordered_json::array();
  for (const ClassMetrics& of_class : metrics.classes) to["iou"].emplace_back(number_or_null(of_class.iou));
}

}  // namespace

std::vector<fs::path> networks_in(const std::vector<fs::path>& paths) {
  std::vector<fs::path> networks;
  for (const fs::path& path : paths) {
    std::error_code ignored;
    const fs::path file = path / "study.json";
    if (!fs::exists(file, ignored)) {
      networks.push_back(path);
      continue;
    }
    const json study = report::read_json(file);
    const report::Fields fields(study, file.string());
    const std::vector<report::Fields> runs = fields.words("kind") == "run" ? fields.objects("runs") : std::vector<report::Fields>();
    for (const report::Fields& run : runs) {
      if (run.words("shared_from").empty()) networks.push_back(path / run.words("folder"));
    }
    if (runs.empty()) {
      throw UsageError("this study has no finished training runs", file.string(),
                       "name runs, files of weights, or the folder of `equiscale study run`");
    }
  }
  return networks;
}

Ablation run_ablation(const AblationRequest& request) {
  const StopSignals signals;
  Ablation ablation;
  // One that cannot be loaded is better known before the others have taken their time.
  for (size_t i = 1; i < request.runs.size(); ++i) load(request.runs[i], request);
  for (const std::filesystem::path& path : request.runs) {
    TrainedModel trained = load(path, request);
    AblatedRun run{.run = path.generic_string(),
                   .head = trained.config.model.decode_head.type,
                   .equalizer = trained.config.model.equalizer.mode,
                   .seed = trained.config.seed,
                   .training = training_of(trained.config)};
    if (!ablate(trained, request, run)) return ablation;
    if (request.log != nullptr) {
      fmt::print(request.log, "{}\n", ablation_table(run));
      std::fflush(request.log);
    }
    ablation.runs.push_back(std::move(run));
    ablation.finished = ablation.runs.size() == request.runs.size();
    if (request.on_run) request.on_run(ablation);
  }
  if (request.log != nullptr) fmt::print(request.log, "{}", ablated_seeds_table(ablated_seeds(ablation.runs)));
  return ablation;
}

std::vector<ClassLoss> largest_losses(const SegmentationMetrics& whole, const SegmentationMetrics& without, size_t count) {
  std::vector<ClassLoss> losses;
  for (size_t c = 0; c < whole.classes.size(); ++c) {
    const double loss = whole.classes[c].iou - without.classes[c].iou;
    if (loss >= kSmallestLoss) losses.push_back({whole.classes[c].name, loss});
  }
  std::stable_sort(losses.begin(), losses.end(), [](const ClassLoss& a, const ClassLoss& b) { return a.loss > b.loss; });
  if (losses.size() > count) losses.resize(count);
  return losses;
}

std::string ablation_table(const AblatedRun& run) {
  std::string text = fmt::format("{}: {}, equalizer {}, mIoU {:.2f} on {}\n", run.run, run.head, run.equalizer, 100 * run.metrics.miou,
                                 counted(run.pictures, "picture"));
  for (const AblatedSite& site : run.sites) {
    text += fmt::format("  {} ({})\n    {:<12} {:>8} {:>8} {:>8}  {:<18}{:>9}  classes that lose most\n", site.site, site.kind, "without",
                        "channels", "mIoU", "lost", "over pictures", "+ nats");
    for (const AblatedBranch& branch : site.branches) {
      const std::string sure = branch.lost ? fmt::format("{:.2f} to {:.2f}", 100 * (*branch.lost)[0], 100 * (*branch.lost)[1]) : "";
      text += fmt::format("    {:<12} {:>8} {:>8.2f} {:>8.2f}  {:<18}{:>+9.4f} ", branch.name, branch.channels, 100 * branch.metrics.miou,
                          100 * (run.metrics.miou - branch.metrics.miou), sure, branch.metrics.cross_entropy - run.metrics.cross_entropy);
      for (const ClassLoss& lost : largest_losses(run.metrics, branch.metrics, 3)) {
        text += fmt::format(" {} {:.1f}", lost.name, 100 * lost.loss);
      }
      while (text.back() == ' ') text.pop_back();
      text += "\n";
    }
  }
  return text;
}

std::string ablation_json(const Ablation& ablation, const AblationRequest& request, const std::string& command, double seconds) {
  ordered_json runs = ordered_json::array();
  for (const AblatedRun& run : ablation.runs) {
    ordered_json names = ordered_json::array(), sites = ordered_json::array();
    for (const ClassMetrics& of_class : run.metrics.classes) names.push_back(of_class.name);
    for (const AblatedSite& site : run.sites) {
      ordered_json branches = ordered_json::array();
      for (const AblatedBranch& branch : site.branches) {
        ordered_json entry = {{"name", branch.name},
                              {"channels", branch.channels},
                              {"lost", number_or_null(run.metrics.miou - branch.metrics.miou)},
                              {"lost_interval", interval_json(branch.lost)}};
        add_metrics(entry, branch.metrics);
        branches.push_back(entry);
      }
      sites.push_back({{"site", site.site}, {"kind", site.kind}, {"branches", branches}});
    }
    ordered_json entry = {{"run", run.run},   {"head", run.head},         {"equalizer", run.equalizer},
                          {"seed", run.seed}, {"pictures", run.pictures}, {"classes", names}};
    add_metrics(entry, run.metrics);
    entry["sites"] = sites;
    runs.push_back(entry);
  }
  ordered_json study = study_head("ablation", command, seconds);
  study.update({{"finished", ablation.finished},
                {"split", request.split},
                {"runs", runs},
                {"over_seeds", ablated_seeds_json(ablated_seeds(ablation.runs))}});
  return file_text(study);
}

}  // namespace eq
