#include "study/paired/run.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/progress_line.h"
#include "core/words.h"
#include "study/report/report.h"
#include "training/signals.h"
#include "training/trainer.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

// Keys that may differ between the parts of one study: they say where files are and what is reported.
constexpr const char* kPairedFreeKeys[] = {"data.root",      "train.loader_threads", "train.log_every", "train.checkpoint_every",
                                           "train.overlays", "train.tensorboard"};

double cpu_seconds_now() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return double(t.tv_sec) + 1e-6 * double(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void check_same_configuration(const fs::path& folder, const Config& wanted) {
  const fs::path file = folder / "config.json";
  if (!fs::exists(file)) return;
  const std::vector<std::string> different = differences_but_for(kPairedFreeKeys, load_config(file), wanted);
  if (different.empty()) return;
  throw UsageError("the folder holds a run of another configuration: " + joined(different), folder.string(),
                   "give the study the configuration it was begun with, another --out, or delete this folder");
}

// Processor time of all parts of a run, kept beside it.
void add_cost(const fs::path& folder, double cpu_seconds) {
  const fs::path file = folder / "cost.json";
  double before = 0;
  if (fs::exists(file)) {
    const auto value = nlohmann::json::parse(read_text(file, limits::kJsonBytes), nullptr, false);
    if (value.is_object() && value.contains("cpu_seconds") && value["cpu_seconds"].is_number()) before = value["cpu_seconds"];
  }
  write_text_atomically(file, nlohmann::json({{"cpu_seconds", before + cpu_seconds}}).dump() + "\n");
}

class Session {
 public:
  explicit Session(const PairedRequest& request) : request_(request) {
    study_.arms = resolve_arms(request.config, request.settings, request.arms, request.seeds);
  }
  PairedStudy run();

 private:
  struct Job {
    size_t arm, seed;
  };
  const Arm& arm_of(const Job& job) const { return study_.arms.arms[job.arm]; }
  fs::path folder_of(const Job& job) const;
  bool is_done(const Job& job) const { return fs::exists(folder_of(job) / "summary.json"); }
  bool train_one(const Job& job);
  void begin_seed(size_t seed);
  const PairedRun& finished_run(const Job& job);
  std::optional<DivergedRun> diverged(const Job& job) const;
  void collect();
  void write_results() const;
  double expected_seconds(const Job& job) const;
  std::string remaining() const;
  void say(const std::string& text) const;

  const PairedRequest& request_;
  PairedStudy study_;
  std::vector<Job> jobs_;                                // seed by seed, so that what is there at any time are pairs
  std::map<std::string, std::vector<double>> seconds_;  // of finished runs, by arm
  std::map<fs::path, PairedRun> read_;                  // of finished runs, by folder
};

void Session::say(const std::string& text) const {
  if (request_.log == nullptr) return;
  std::fputs((text + "\n").c_str(), request_.log);
  std::fflush(request_.log);
}

fs::path Session::folder_of(const Job& job) const {
  const Arm& arm = arm_of(job);
  const std::string& owner = arm.same_as < 0 ? arm.spec.name : study_.arms.arms[size_t(arm.same_as)].spec.name;
  return request_.out / owner / std::to_string(study_.arms.seeds[job.seed]);
}

double Session::expected_seconds(const Job& job) const {
  const auto found = seconds_.find(arm_of(job).spec.name);
  if (found != seconds_.end()) return mean_of(found->second);
  std::vector<double> all;
  for (const auto& [arm, seconds] : seconds_) all.insert(all.end(), seconds.begin(), seconds.end());
  return mean_of(all);
}

std::string Session::remaining() const {
  double seconds = 0;
  int64_t runs = 0;
  for (const Job& job : jobs_) {
    if (is_done(job)) continue;
    seconds += expected_seconds(job);
    ++runs;
  }
  if (runs == 0) return "all runs are done";
  return fmt::format("{} run{} left", runs, runs == 1 ? "" : "s") + (seconds > 0 ? ", about " + human_duration(seconds) : "");
}

void Session::begin_seed(size_t seed) {
  study_.initial_weights.push_back(compare_initial_weights(study_.arms, seed));
  const WeightsOfSeed& weights = study_.initial_weights.back();
  if (weights.equal) return;
  say(fmt::format("note: with seed {} the arms do not begin with the same weights ({}): pairs share only the data's order", weights.seed,
                  weights.first_difference));
}

// Whether the run came to its end.
bool Session::train_one(const Job& job) {
  const fs::path folder = folder_of(job);
  const bool resume = holds_run(folder);
  make_folder(folder);
  const double cpu = cpu_seconds_now();
  const TrainResult result = train(arm_of(job).configs[job.seed], {.out = folder, .resume = resume, .log = nullptr});
  add_cost(folder, cpu_seconds_now() - cpu);
  if (result.finished) write_run_report(folder);
  return result.finished;
}

// Read once: those with probes are long.
const PairedRun& Session::finished_run(const Job& job) {
  const auto [place, is_new] = read_.try_emplace(folder_of(job));
  if (is_new) place->second = read_paired_run(place->first, &study_.class_names);
  return place->second;
}

// Nothing, unless the run ended so the last time that it was tried.
std::optional<DivergedRun> Session::diverged(const Job& job) const {
  const fs::path file = folder_of(job) / "nan_report.json";
  if (is_done(job) || !fs::exists(file)) return std::nullopt;
  const auto report = nlohmann::json::parse(read_text(file, limits::kJsonBytes), nullptr, false);
  const auto iteration = report.is_object() ? whole_number(report.value("iteration", nlohmann::json())) : std::nullopt;
  return DivergedRun{arm_of(job).spec.name, study_.arms.seeds[job.seed], iteration.value_or(0),
                     fs::relative(folder_of(job), request_.out).string()};
}

void Session::collect() {
  study_.runs.clear();
  study_.diverged.clear();
  seconds_.clear();
  for (size_t seed = 0; seed < study_.arms.seeds.size(); ++seed) {
    for (size_t i = 0; i < study_.arms.arms.size(); ++i) {
      const Job job{i, seed};
      if (!is_done(job)) continue;
      PairedRun run = finished_run(job);
      const Arm& arm = arm_of(job);
      run.arm = arm.spec.name;
      run.seed = study_.arms.seeds[seed];
      run.folder = fs::relative(folder_of(job), request_.out).string();
      if (arm.same_as >= 0) run.shared_from = study_.arms.arms[size_t(arm.same_as)].spec.name;
      else seconds_[run.arm].push_back(run.seconds);
      study_.runs.push_back(std::move(run));
    }
  }
  for (const Job& job : jobs_) {
    if (auto run = diverged(job)) study_.diverged.push_back(std::move(*run));
  }
  study_.comparisons = compare_arms(study_);
  study_.finished = study_.runs.size() == study_.arms.arms.size() * study_.arms.seeds.size();
}

void Session::write_results() const {
  write_text_atomically(request_.out / "study.json", paired_study_json(study_, request_.command));
  write_study_report(request_.out);
}

PairedStudy Session::run() {
  for (size_t seed = 0; seed < study_.arms.seeds.size(); ++seed) {
    for (size_t i = 0; i < study_.arms.arms.size(); ++i) {
      if (study_.arms.arms[i].same_as < 0) jobs_.push_back({i, seed});
    }
  }
  for (const Job& job : jobs_) check_same_configuration(folder_of(job), arm_of(job).configs[job.seed]);
  for (const Arm& arm : study_.arms.arms) {
    if (arm.same_as >= 0) {
      say(fmt::format("{} is the same configuration as {}: it is run once", arm.spec.name,
                      study_.arms.arms[size_t(arm.same_as)].spec.name));
    }
  }
  begin_seed(0);
  if (request_.dry_run) {
    say(fmt::format("dry run: {} arms x {} seeds, {} runs of {} iterations", study_.arms.arms.size(), study_.arms.seeds.size(),
                    jobs_.size(), study_.arms.arms.front().configs.front().train.iterations));
    return study_;
  }
  make_folder(request_.out);
  collect();
  say(fmt::format("{} arms x {} seeds: {}", study_.arms.arms.size(), study_.arms.seeds.size(), remaining()));
  const StopSignals signals;
  std::vector<std::string> diverged;  // what to say of such runs
  for (size_t i = 0; i < jobs_.size(); ++i) {
    const Job& job = jobs_[i];
    if (i > 0 && job.seed != jobs_[i - 1].seed) begin_seed(job.seed);
    if (is_done(job)) continue;
    const std::string title = fmt::format("[{}/{}] {} seed {}", i + 1, jobs_.size(), arm_of(job).spec.name, study_.arms.seeds[job.seed]);
    say(title + (holds_run(folder_of(job)) ? ": going on" : ": begins"));
    if (StopSignals::requested()) break;
    try {
      if (!train_one(job)) break;
    } catch (const NonFiniteError& error) {  // the others can still be compared
      diverged.push_back(fmt::format("{} ({})", title, folder_of(job).string()));
      say(fmt::format("{}: diverged: {}", title, error.what_happened()));
      collect();
      write_results();
      continue;
    }
    collect();
    write_results();
    const PairedRun& run = finished_run(job);
    say(fmt::format("{}: mIoU {:.4f}, loss {:.4f}, {}; {}", title, run.miou, run.loss_tail, human_duration(run.seconds), remaining()));
  }
  // Also where nothing was left to run: arms and seeds may be other ones than before.
  if (!study_.runs.empty() || !study_.diverged.empty()) write_results();
  if (!diverged.empty()) {
    say("\n" + paired_study_table(study_));
    throw NumericalError("runs diverged: " + joined(diverged), request_.out.string(),
                         "give these arms a lower optimizer.lr, or leave them out; the study has the other runs");
  }
  return study_;
}

}  // namespace

PairedStudy run_paired_study(const PairedRequest& request) {
  if (request.out.empty() && !request.dry_run) throw UsageError("a study needs a folder", "--out", "for example --out studies/equalizers");
  return Session(request).run();
}

}  // namespace eq
