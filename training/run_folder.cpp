#include "training/run_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <nlohmann/json.hpp>

#include "core/errors.h"
#include "core/file.h"
#include "core/json.h"
#include "core/limits.h"
#include "core/parallel.h"
#include "core/sha256.h"
#include "core/temporary_name.h"
#include "core/words.h"
#include "training/row_files.h"
#include "training/run_log.h"
#include "training/trained_model.h"

namespace eq {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Keys that a resumed run may change without becoming another run.
constexpr const char* kFreeKeys[] = {"train.iterations",
                                     "train.log_every",
                                     "train.evaluate_every",
                                     "train.checkpoint_every",
                                     "train.overlays",
                                     "train.tensorboard",
                                     "train.loader_threads",
                                     "train.on_nan",
                                     "train.keep_best",
                                     "evaluate.",
                                     "probes.",
                                     "data.root",
                                     "data.checks",
                                     "data.val_images",
                                     "pipeline.test_scale",
                                     "model.backbone.pretrained",
                                     "model.backbone.load_mode",
                                     "model.init_from"};

// The keys with what two configurations say of them: "optimizer.lr (0.01 then, 0.02 now)". Of long values, and of a section that one of the
// two has switched off, the key alone.
std::vector<std::string> then_and_now(const std::vector<std::string>& keys, const Config& then, const Config& now) {
  constexpr size_t kLongest = 60;  // characters
  const auto values_of = [](const Config& config) {
    const auto flat = flattened(ordered_json::parse(to_json_text(config)));
    return std::map<std::string, std::string>(flat.begin(), flat.end());
  };
  const auto had = values_of(then), has = values_of(now);
  std::vector<std::string> words;
  for (const std::string& key : keys) {
    const auto old = had.find(key), current = has.find(key);
    const bool shown = old != had.end() && current != has.end() && old->second.size() <= kLongest && current->second.size() <= kLongest;
    words.push_back(shown ? fmt::format("{} ({} then, {} now)", key, old->second, current->second) : key);
  }
  return words;
}

// Throws unless a run that began with the configuration in `began` may go on with this one.
void check_same_run(const std::string& began, const std::string& where, const Config& config) {
  const Config had = parse_config(began, where);
  const std::vector<std::string> different = differences_but_for(kFreeKeys, had, config);
  if (different.empty()) return;
  throw UsageError("the configuration is not the one the run was started with: " + some_of(then_and_now(different, had, config)), where,
                   "leave that as it was (docs/config.md lists what a resumed run may change), or start a new run in another folder");
}

// A run without a checkpoint may begin again only if it was killed before its first one: whoever lost the folder keeps the rest.
void check_never_saved(const fs::path& out) {
  std::string sign;
  for (const char* name : {"summary.json", "model.safetensors", kBestWeights}) {
    if (fs::exists(out / name)) sign = std::string("it has a ") + name;
  }
  if (sign.empty() && fs::exists(out / "config.json")) {
    const int64_t every = load_config(out / "config.json").train.checkpoint_every, rows = last_row(out, "metrics");
    if (every > 0 && rows > every) sign = fmt::format("its metrics go to iteration {}, and it wrote one every {}", rows, every);
  }
  if (sign.empty()) return;
  throw UsageError("the run's checkpoint is missing: " + sign, (out / "checkpoint" / "manifest.json").string(),
                   "restore checkpoint/ from a copy, or train in another folder: starting over here would replace what the run has left");
}

ordered_json branches_value(const CalibrationReport& report) {
  ordered_json branches = ordered_json::array();
  for (const auto& b : report.branches) {
    branches.push_back({{"site", b.site},
                        {"branch", b.branch},
                        {"mean", number_or_null(b.mean)},
                        {"std", number_or_null(b.std)},
                        {"mean_error", number_or_null(b.mean_error)},
                        {"std_error", number_or_null(b.std_error)},
                        {"equalized", b.equalized},
                        {"floored", b.floored}});
  }
  return branches;
}

}  // namespace

bool holds_run(const fs::path& folder) { return fs::exists(folder / "config.json"); }

void check_run_folder(const TrainRequest& request) {
  const fs::path& out = request.out;
  if (!request.resume) {
    if (request.dry_run) return;
    for (const char* name : {"config.json", "checkpoint", "summary.json", "model.safetensors", kBestWeights}) {
      if (fs::exists(out / name)) {
        throw UsageError("the folder already holds a run (" + std::string(name) + ")", out.string(),
                         "go on with it by --resume, choose another folder, or delete this one");
      }
    }
    if (fs::exists(out / "study.json")) throw UsageError("the folder holds a study (study.json)", out.string(), "choose another folder");
    return;
  }
  if (!fs::is_directory(out)) throw UsageError("there is no run to resume", out.string(), "check the folder, or start without --resume");
}

std::optional<Checkpoint> load_run_checkpoint(const TrainRequest& request, const Config& config) {
  if (!request.resume) return std::nullopt;
  if (!has_checkpoint(request.out / "checkpoint")) {
    check_never_saved(request.out);
    const fs::path began = request.out / "config.json";
    if (fs::exists(began)) check_same_run(read_text(began, limits::kJsonBytes), began.string(), config);
    return std::nullopt;
  }
  return load_checkpoint(request.out / "checkpoint");
}

SplitPrint print_of(const Dataset& dataset) {
  SplitPrint print{.pictures = dataset.size(), .names = ""};
  if (dataset.size() == 0 || dataset.size() == Dataset::kEndless || dataset.files(0) == nullptr) return print;
  std::string names;  // without their folders, so that a set may move
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const SampleFiles& files = *dataset.files(i);
    names += files.image.filename().string() + '\0' + files.labels.filename().string() + '\0';
  }
  print.names = sha256_hex(names.data(), names.size());
  return print;
}

bool same_pictures(const Dataset& a, const Dataset& b) {
  if (a.size() != b.size() || a.size() == 0 || a.size() == Dataset::kEndless) return false;
  for (int64_t i = 0; i < a.size(); ++i) {
    const SampleFiles *one = a.files(i), *other = b.files(i);
    if (one == nullptr || other == nullptr || one->image.lexically_normal() != other->image.lexically_normal()) return false;
  }
  return true;
}

void check_continues(const Checkpoint& checkpoint, const Config& config, const Dataset& dataset, const fs::path& folder) {
  const std::string where = folder.string();
  const int64_t had = int64_t(checkpoint.card.class_names.size());
  if (had != dataset.num_classes()) {
    throw DataError(fmt::format("the checkpoint is of a network with {} classes, the data set has {} (tensor decode_head.conv_seg.weight)",
                                had, dataset.num_classes()),
                    where, "resume with the data that the run was started with, or start a new run");
  }
  check_same_run(checkpoint.card.config, where, config);
  const auto had_data = checkpoint.data.find("train");
  const SplitPrint print = print_of(dataset);
  if (had_data != checkpoint.data.end() && (had_data->second.names != print.names || had_data->second.pictures != print.pictures)) {
    throw DataError(fmt::format("the run was trained on other pictures: {} then, {} now{}", had_data->second.pictures, print.pictures,
                                had_data->second.pictures == print.pictures ? ", but not of the same names or in the same order" : ""),
                    config.data.root, "restore the data, or start a new run");
  }
  if (checkpoint.card.iteration > config.train.iterations) {
    throw UsageError(fmt::format("the run has already made {} updates, more than train.iterations {}", checkpoint.card.iteration,
                                 config.train.iterations),
                     where, "raise train.iterations, or start a new run");
  }
}

std::vector<std::string> own_parts_of(const TrainRequest& request) {
  std::vector<std::string> parts;
  if (request.loss) parts.emplace_back("loss");
  if (request.augment) parts.emplace_back("augmentation");
  if (request.train_set != nullptr) parts.emplace_back("data");
  return parts;
}

void check_own_parts(const Checkpoint& checkpoint, const std::vector<std::string>& parts, const fs::path& folder) {
  const std::vector<std::string>& had = checkpoint.card.own_parts;
  if (had == parts) return;
  const auto words = [](const std::vector<std::string>& names) { return names.empty() ? std::string("none") : some_of(names); };
  throw UsageError(fmt::format("of a program's own the run has had: {}; now: {}", words(had), words(parts)), folder.string(),
                   "resume it by the program that began it (TrainRequest), or start a new run");
}

RunLock::RunLock(const fs::path& folder) {
  if (folder.empty()) return;
  make_folder(folder);
  file_ = open((folder / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  // A file system without locks does not keep anyone from training. The second try is for a lock that was held by is_training.
  for (int tries = 0; tries < 2; ++tries) {
    if (file_ < 0 || flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
    usleep(20000);
  }
  close(file_);
  throw UsageError("another process is training in this folder", folder.string(), "wait until it ends, or stop it; then use --resume");
}

RunLock::~RunLock() {
  if (file_ >= 0) close(file_);
}

bool is_training(const fs::path& folder) {
  const int file = open((folder / ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool held = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(file);
  return held;
}

void remove_unfinished(const fs::path& folder) {
  std::vector<fs::path> unfinished;
  std::error_code ignored;  // nothing depends on it
  for (const fs::path& part : {folder, folder / "eval", folder / "overlays"}) {
    for (auto entry = fs::directory_iterator(part, ignored); entry != fs::directory_iterator(); entry.increment(ignored)) {
      if (is_temporary_name(entry->path().filename().string())) unfinished.push_back(entry->path());
    }
  }
  for (const fs::path& path : unfinished) fs::remove(path, ignored);
}

void retire_results(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "summary.json"}) {
    std::error_code ignored;
    fs::remove(folder / name, ignored);
  }
}

void write_calibration(const fs::path& path, const CalibrationReport& report) {
  write_text_atomically(path, ordered_json({{"batches", report.batches}, {"branches", branches_value(report)}}).dump(1) + "\n");
}

void write_refresh(const fs::path& path, int64_t iteration, const CalibrationReport& report) {
  ordered_json calibration, refreshes = ordered_json::array();
  try {
    calibration = ordered_json::parse(read_text(path, limits::kListFileBytes));
    for (const ordered_json& earlier : calibration.value("refreshes", ordered_json::array())) {
      if (whole_number(earlier.at("iteration")).value_or(iteration) < iteration) refreshes.push_back(earlier);
    }
  } catch (const ordered_json::exception&) {  // spoilt by others: no reason to end a training
    calibration = ordered_json::object();
  } catch (const IoError&) {
    calibration = ordered_json::object();
  }
  ordered_json branches = branches_value(report);
  for (size_t i = 0; i < branches.size(); ++i) branches[i]["growth"] = number_or_null(report.branches[i].growth);
  refreshes.push_back({{"iteration", iteration}, {"branches", std::move(branches)}});
  calibration["refreshes"] = std::move(refreshes);
  write_text_atomically(path, calibration.dump(1) + "\n");
}

void write_non_finite_report(const fs::path& path, const NonFiniteReport& report, bool all_layers) {
  ordered_json layers = ordered_json::array();
  for (const auto& layer : report.layers) {
    layers.push_back({{"name", layer.name},
                      {"description", layer.description},
                      {"largest", layer.largest},
                      {"mean", layer.mean},
                      {"bad_values", layer.bad}});
  }
  ordered_json value = {{"iteration", report.iteration},     {"pictures", report.pictures},
                        {"loss", number_or_null(report.loss)}, {"grad_norm", number_or_null(report.grad_norm)},
                        {"first_bad", report.first_bad}};
  if (all_layers) value["layers"] = layers;
  write_text_atomically(path, file_text(value));
}

void log_error(const fs::path& folder, const Error& error) {
  try {
    append_line(folder / "log.txt",
                fmt::format("{}: {}\n  where: {}\n  try:   {}", error.kind(), error.what_happened(), error.where(), error.try_this()));
  } catch (const Error&) {  // the first error is the one to report
  }
}

OverlayWriter::OverlayWriter(const Dataset& dataset, fs::path folder, int64_t count, Written written)
    : dataset_(dataset), folder_(std::move(folder)), count_(count), written_(std::move(written)) {
  if (count_ > 0) make_folder(folder_);
}

void OverlayWriter::operator()(int64_t index, const Tensor& labels, const Tensor& predictions) const {
  if (index >= count_) return;
  const RawSample sample = dataset_.load(index);
  const int64_t height = labels.size(0), width = labels.size(1);
  const LabelMap truth{height, width, labels.to_vector<uint8_t>()}, predicted{height, width, predictions.to_vector<uint8_t>()};
  std::string name = fmt::format("{:04d}_{}", index, sample.name);
  size_t end = std::min<size_t>(name.size(), 120);
  while (end > 0 && end < name.size() && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;  // not inside a character
  name.resize(end);
  for (char& c : name) {
    if (c == '/' || c == '\\' || static_cast<unsigned char>(c) < 32) c = '_';
  }
  const Image picture = side_by_side({sample.image, colorize(truth, dataset_.palette(), dataset_.ignore_index()),
                                      colorize(predicted, dataset_.palette(), dataset_.ignore_index())});
  const std::vector<uint8_t> png = encode_png(picture);
  write_file_atomically(folder_ / (name + ".png"), png);
  if (written_) written_(index, picture, png);
}

std::string summary_json(const Config& config, const TrainResult& result, int64_t parameters) {
  ordered_json summary = ordered_json::parse(metrics_json(result.metrics));
  const ordered_json per_class = summary["per_class"];
  summary.erase("per_class");
  summary["iterations"] = result.iterations;
  summary["seconds"] = result.seconds;
  summary["images_per_second"] = result.images_per_second;
  summary["data_wait"] = result.data_wait;
  summary["peak_bytes"] = result.train_peak_bytes;
  summary["eval_peak_bytes"] = result.eval_peak_bytes;
  if (result.best) summary["best"] = {{"iteration", result.best->iteration}, {"miou", result.best->miou}};
  summary["parameters"] = parameters;
  summary["weights_sha256"] = result.weights_sha256;
  summary["seed"] = config.seed;
  summary["threads"] = num_threads();
  summary["device"] = to_string(compute_device());
  if (!result.own_parts.empty()) summary["own_parts"] = result.own_parts;
  summary["equalizer"] = config.model.equalizer.mode;
  summary["library_version"] = EQ_VERSION;
  summary["per_class"] = per_class;
  return file_text(summary);
}

}  // namespace eq
