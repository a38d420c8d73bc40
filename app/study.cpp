// equiscale study theory|run|scales|gradients|ablation|claims; upsampling is in study_upsampling.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>

#include "app/common.h"
#include "core/file.h"
#include "core/words.h"
#include "study/ablation/ablation.h"
#include "study/claims/claims.h"
#include "study/paired/run.h"
#include "study/report/fields.h"
#include "study/report/report.h"
#include "study/snapshots/snapshots.h"
#include "study/theory/study.h"
#include "training/trainer.h"

namespace eq::app {
namespace {

// What was typed, as the kernel has it.
std::string typed_command() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string command;
  for (std::string word; std::getline(file, word, '\0');) {
    if (command.empty()) word = "equiscale";
    command += (command.empty() ? "" : " ") + (word.find_first_of(" ;|&\"$*(){}[]") == std::string::npos ? word : "'" + word + "'");
  }
  return command;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A folder keeps one study: throws UsageError where another kind has left its result. One that cannot be read is no loss.
void check_folder(const std::filesystem::path& out, const std::string& kind) {
  const std::filesystem::path file = out / "study.json";
  if (out.empty()) return;
  if (holds_run(out)) throw UsageError("the folder holds a training run", out.string(), "choose another --out");
  if (!std::filesystem::exists(file)) return;
  std::string there;
  try {
    const nlohmann::json study = report::read_json(file);
    there = report::Fields(study, file.string()).words("kind");
  } catch (const DataError&) {
    return;
  }
  if (there == kind) return;
  throw UsageError("the folder holds a study of another kind: " + there, out.string(), "choose another --out");
}

// Makes the folder before anything is computed: one that cannot be written is known at once.
void prepare_folder(const std::filesystem::path& out, const std::string& kind) {
  check_folder(out, kind);
  if (out.empty()) return;
  make_folder(out);
  require_writable(out / "study.json");
}

// Where a study leaves its result and its page; nothing without a folder.
void write_study(const std::filesystem::path& out, const std::string& text) {
  if (out.empty()) return;
  write_text_atomically(out / "study.json", text);
  write_study_report(out);
}

[[noreturn]] void stopped(std::FILE* log) {
  fmt::print(log, "stopped; the same command goes on\n");
  throw CLI::RuntimeError(130);
}

void print_check(std::FILE* log, const TheoryCheck& check, std::string& group) {
  if (check.name != group) fmt::print(log, "\n{:<76} {:>10} {:>10} {:>8} {:>6}\n", check.name, "predicted", "measured", "error", "z");
  group = check.name;
  const std::string error = check.standard_error > 0 ? fmt::format(" {:8.2g} {:+6.2f}", check.standard_error, check.z) : "";
  fmt::print(log, "  {:<73}{} {:10.5g} {:10.5g}{}{}\n", check.setting, check.at_most ? "<" : " ", check.predicted, check.measured, error,
             check.pass ? "" : "  FAILS");
  std::fflush(log);
}

void add_theory(CLI::App& study) {
  CLI::App* command = add_command(study, "theory", "Measure every closed form with the engine's own kernels; exit status 4 when one fails",
                                  "equiscale study theory --out studies/theory");
  struct Options {
    MachineOptions machine;
    TheoryRequest request;
    std::string out;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  options->machine.add_to(command);
  command->add_option("--out", options->out, "Folder for study.json and report.html");
  command->add_option("--seed", options->request.seed, "Seed of all random fields")->capture_default_str()->check(any_seed());
  command->add_option("--samples", options->request.samples, "Random cells per setting")->capture_default_str();
  command->add_flag("--full", options->request.full,
                    "The authors' experiment in its published size: 99 variances, 16 x 256 maps of 128 x 128 (long)");
  command->add_flag("--json", options->json, "Print study.json on standard output, the table on standard error");
  command->callback([options] {
    if (options->machine.device != "cpu") {
      throw UsageError("this study measures the CPU's kernels", "--device " + options->machine.device,
                       "leave --device out; a GPU's kernels are compared with the CPU's by test_cuda");
    }
    options->machine.apply();
    prepare_folder(options->out, "theory");
    std::FILE* log = options->json ? stderr : stdout;
    std::string group;
    options->request.on_check = [&](const TheoryCheck& check) { print_check(log, check, group); };
    const TheoryReport report = run_theory_study(options->request);
    const std::string text = theory_study_json(report, options->request, typed_command());
    write_study(options->out, text);
    fmt::print(log, "\n{}", learning_table(report));
    fmt::print(log, "\n{} checks, {} failed, {:.1f} s\n", report.checks.size(), report.failed(), report.seconds);
    if (options->json) fmt::print("{}", text);
    if (report.failed() > 0) throw CLI::RuntimeError(4);
  });
}

void add_run(CLI::App& study) {
  CLI::App* command =
      add_command(study, "run", "Train the same seeds under several arms and compare them pair by pair with the first one",
                  "equiscale study run recipes/shapes_upernet_resnet18.json --arms off,explicit,folded --seeds 10 --out studies/shapes");
  struct Options {
    ConfigOptions config;
    MachineOptions machine;
    std::string arms = "off,explicit", out;
    long long seeds = 3;
    bool dry_run = false, json = false;
  };
  auto options = std::make_shared<Options>();
  options->config.add_to(command);
  options->machine.add_to(command);
  command
      ->add_option("--arms", options->arms,
                   "Modes of the equalizer (docs/config.md), or name:key=value;key=value; the first one is the baseline")
      ->capture_default_str();
  command->add_option("--seeds", options->seeds, "How many, from the configuration's on")->capture_default_str();
  command->add_option("--out", options->out, "The study's folder; finished runs in it are kept, an interrupted one goes on")->required();
  command->add_flag("--dry-run", options->dry_run, "Check all arms and their initial weights, run nothing");
  command->add_flag("--json", options->json, "Print study.json on standard output, progress on standard error");
  command->callback([options] {
    options->machine.apply();
    prepare_folder(options->out, "run");
    std::FILE* log = options->json ? stderr : stdout;
    PairedRequest request;
    request.config = options->config.file();
    request.settings = options->config.all_settings();
    request.arms = parse_arms(options->arms);
    request.seeds = options->seeds;
    request.out = options->out;
    request.command = typed_command();
    request.dry_run = options->dry_run;
    request.log = log;
    const PairedStudy study = run_paired_study(request);
    if (options->dry_run) return;
    fmt::print(log, "\n{}", paired_study_table(study));
    if (options->json) fmt::print("{}", paired_study_json(study, request.command));
    if (!study.finished) stopped(log);
  });
}

void add_claims(CLI::App& study) {
  CLI::App* command = add_command(study, "claims", "The paper's claims: what the studies below a folder measured, and a verdict for each",
                                  "equiscale study claims studies");
  struct Options {
    std::string folder, out;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command->add_option("folder", options->folder, "Folder with studies (every study.json below it)")->required();
  command->add_option("--out", options->out, "Folder for study.json and report.html (default: FOLDER/claims)");
  command->add_flag("--json", options->json, "Print study.json on standard output, the table on standard error");
  command->callback([options] {
    const std::filesystem::path folder = options->folder,
                                out = options->out.empty() ? folder / "claims" : std::filesystem::path(options->out);
    check_folder(out, "claims");
    const auto start = std::chrono::steady_clock::now();
    const auto claims = judge_claims(folder);
    const std::string text = claims_json(claims, typed_command(), seconds_since(start));
    std::FILE* log = options->json ? stderr : stdout;
    fmt::print(log, "{}", claims_table(claims));
    if (std::all_of(claims.begin(), claims.end(), [](const Claim& c) { return c.verdict == Verdict::kNotMeasured; })) {
      fmt::print(log, "no study below {} measures any of these: nothing is written\n", folder.string());
    } else {
      make_folder(out);
      write_study(out, text);
    }
    if (options->json) fmt::print("{}", text);
  });
}

void add_snapshots(CLI::App& study, bool gradients) {
  const std::string name = gradients ? "gradients" : "scales";
  CLI::App* command = add_command(
      study, name,
      gradients ? "The gradient of each branch's slice of the fusion weights and at each branch, for each head, with and without equalizers"
                : "The scale of each branch at every fusion site, before and after resizing and equalizing, for each head",
      "equiscale study " + name +
          " recipes/camvid_upernet_resnet18.json --set data.root=path/to/camvid --heads uper,psp,fcn --out studies/" + name);
  struct Options {
    ConfigOptions config;
    MachineOptions machine;
    SnapshotRequest request;
    std::string heads, arms = "off,explicit", out;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  options->request.gradients = gradients;
  options->config.add_to(command);
  options->machine.add_to(command);
  command->add_option("--heads", options->heads,
                      "Decode heads (uper, psp, aspp, sep_aspp, fcn), or name:key=value;... (default: the configuration's)");
  command->add_option("--arms", options->arms, "Modes of the equalizer (docs/config.md), or name:key=value;...")->capture_default_str();
  command->add_option("--batches", options->request.batches, "Training batches to look at")->capture_default_str();
  command->add_option("--seeds", options->request.seeds, "Networks of each head and arm, from the configuration's seed on; --iterations trains the first")
      ->capture_default_str();
  command->add_option("--iterations", options->request.iterations, "Also train each so long and record on the way; needs --out")
      ->capture_default_str()
      ->check(from_zero());
  command->add_option("--every", options->request.every, "Iterations between those records")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_option("--out", options->out, "Folder for study.json and report.html");
  command->add_flag("--json", options->json, "Print study.json on standard output, the tables on standard error");
  command->callback([options, name] {
    options->machine.apply();
    SnapshotRequest& request = options->request;
    if (request.iterations > 0 && options->out.empty()) throw UsageError("the runs need a folder", "--iterations", "add --out DIR");
    request.config = options->config.file();
    request.settings = options->config.all_settings();
    if (!options->heads.empty()) request.heads = parse_heads(options->heads);
    request.arms = arm_specs(options->arms);
    request.out = options->out;
    request.log = options->json ? stderr : stdout;
    prepare_folder(request.out, name);
    const auto start = std::chrono::steady_clock::now();
    const std::vector<Snapshot> snapshots = first_step_snapshots(request);
    const bool finished = train_and_record(request);
    const double seconds = seconds_since(start);
    const std::string text = snapshot_study_json(request, snapshots, finished, typed_command(), seconds);
    write_study(request.out, text);
    if (options->json) fmt::print("{}", text);
    if (!finished) stopped(request.log);
  });
}

void add_ablation(CLI::App& study) {
  CLI::App* command =
      add_command(study, "ablation",
                  "How much trained networks use each branch: the accuracy without it, replaced by its mean; several networks side by side",
                  "equiscale study ablation demo/off demo/explicit --out studies/ablation");
  struct Options {
    MachineOptions machine;
    AblationRequest request;
    std::vector<std::string> runs;
    std::string out;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  command
      ->add_option("runs", options->runs, "Folders or weights files of trained networks; or the folder of a `study run`: all its networks")
      ->required();
  add_settings(command, options->request.settings, "Change a key of all of them, e.g. --set data.root=elsewhere (may be repeated)");
  options->machine.add_to(command);
  add_split(command, options->request.split);
  command->add_option("--limit", options->request.limit, "Only the first N pictures; 0: all")->capture_default_str()->check(from_zero());
  command->add_option("--out", options->out, "Folder for study.json and report.html");
  command->add_flag("--json", options->json, "Print study.json on standard output, the tables on standard error");
  command->callback([options] {
    options->machine.apply();
    prepare_folder(options->out, "ablation");
    AblationRequest& request = options->request;
    request.runs = networks_in({options->runs.begin(), options->runs.end()});
    request.log = options->json ? stderr : stdout;
    const auto start = std::chrono::steady_clock::now();
    const auto text = [&](const Ablation& ablation) { return ablation_json(ablation, request, typed_command(), seconds_since(start)); };
    request.on_run = [&](const Ablation& so_far) { write_study(options->out, text(so_far)); };
    const Ablation ablation = run_ablation(request);
    if (options->json) fmt::print("{}", text(ablation));
    if (!ablation.finished) {
      fmt::print(request.log, "stopped; {} of {} measured\n", ablation.runs.size(), counted(int64_t(request.runs.size()), "network"));
      throw CLI::RuntimeError(130);
    }
  });
}

}  // namespace

void add_study(CLI::App& app) {
  CLI::App* study = add_command(app, "study",
                                "Check the paper's claims: formulas, scales and gradients of real features, paired training runs, what "
                                "each branch contributes, all claims as a table",
                                "equiscale study theory");
  study->require_subcommand(1);
  add_theory(*study);
  add_study_upsampling(*study);
  add_run(*study);
  add_snapshots(*study, false);
  add_snapshots(*study, true);
  add_ablation(*study);
  add_claims(*study);
}

}  // namespace eq::app
