#include "training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>

#include "core/allocator.h"
#include "core/cuda_device.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/progress_line.h"
#include "core/words.h"
#include "datasets/inspect.h"
#include "datasets/loader.h"
#include "training/evaluation_files.h"
#include "training/evaluator.h"
#include "training/probes.h"
#include "training/refresh.h"
#include "training/row_files.h"
#include "training/run_folder.h"
#include "training/run_log.h"
#include "training/signals.h"
#include "training/tensorboard.h"
#include "training/trained_model.h"

namespace eq {
namespace {

namespace fs = std::filesystem;

double now_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct StoppedEarly {};  // by a signal, before there was anything to save

class Run {
 public:
  Run(const Config& config, const TrainRequest& request, std::optional<Checkpoint> checkpoint);
  TrainResult train_and_evaluate();
  TrainResult try_out();

 private:
  void check_sizes(const DataReport& report) const;
  void remark(const DataReport& report, const std::string& of_what);
  void start_or_restore();
  void say_pictures();
  void say_own_parts();
  void say_what_was_loaded();
  void calibrate();
  void refresh();
  void loop();
  void report_progress(bool last_of_interval);
  void evaluate_now(bool last);
  void find_best();
  void keep_if_best(double miou);
  void save();
  ModelCard card() const;
  int64_t refreshes_left() const;
  std::string last_good() const;  // for the end of an error's advice
  double seconds() const { return seconds_before_ + now_seconds() - start_; }
  bool stopping() const { return request_.handle_signals && StopSignals::requested(); }

  Config config_;
  const TrainRequest& request_;
  double start_ = now_seconds();
  double seconds_before_ = 0;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Dataset> made_train_set_, made_val_set_;  // of the configuration
  const Dataset *train_set_, *val_set_;                     // these, or the request's
  std::unique_ptr<EncoderDecoder> model_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<DataLoader> loader_;
  std::unique_ptr<RunLog> log_;
  std::unique_ptr<ProbeLog> probes_;
  std::unique_ptr<TensorBoardLog> tensorboard_;  // null unless asked for
  int64_t iteration_ = 0, first_iteration_ = 0, saved_at_ = -1;
  std::vector<std::string> remarks_;        // on the data, by its checks
  std::map<std::string, SplitPrint> data_;  // which pictures; every checkpoint says so
  double refresh_seconds_ = 0;  // of the latest
  int64_t lost_ = 0;  // rows of a run that was killed before its first checkpoint
  TrainResult result_;
  StepTimes times_;        // over all resumptions
  LossInterval interval_;  // since the last progress line
  StepReport last_;  // the latest
};

Run::Run(const Config& config, const TrainRequest& request, std::optional<Checkpoint> checkpoint)
    : config_(config), request_(request), checkpoint_(std::move(checkpoint)) {
  if (request_.train_set == nullptr) {
    made_train_set_ = make_dataset(config_.data, "train");
    made_val_set_ = make_dataset(config_.data, "val");
  }
  train_set_ = made_train_set_ ? made_train_set_.get() : request_.train_set;
  val_set_ = made_val_set_ ? made_val_set_.get() : request_.val_set;
  data_ = {{"train", print_of(*train_set_)}, {"val", print_of(*val_set_)}};
  config_.model.num_classes = train_set_->num_classes();
  result_.own_parts = own_parts_of(request_);
  if (checkpoint_) {
    check_own_parts(*checkpoint_, result_.own_parts, request_.out / "checkpoint");
    check_continues(*checkpoint_, config_, *train_set_, request_.out / "checkpoint");
  }
  check_evaluate(config_.evaluate);  // now, not after training
  {
    InitRandom random{uint64_t(config_.seed)};
    std::optional<InitZeros> zeros;
    if (checkpoint_) zeros.emplace();  // start_or_restore() brings the weights
    model_ = std::make_unique<EncoderDecoder>(checkpoint_ ? without_pretrained(config_.model) : config_.model);
  }
  check_evaluable(*model_, *val_set_);
  step_ = std::make_unique<TrainStep>(*model_, config_, request_.loss);
  if (config_.data.checks != DataChecks::kNone && !checkpoint_) {
    remark(check_before_training(*train_set_, config_.data.checks), "");
    const DataReport evaluated = check_before_evaluation(*val_set_);
    check_sizes(evaluated);
    const bool all = evaluated.inspected == val_set_->size();  // a part may lack what others show
    if (all && !same_pictures(*train_set_, *val_set_)) remark(evaluated, "of the pictures to evaluate on, ");
  }
  LoaderOptions loading = loader_options(config_);
  loading.augment = request_.augment;
  loader_ = std::make_unique<DataLoader>(*train_set_, config_.pipeline, loading);
}

// Of what will be evaluated: a picture that is too small for the network is named now, not at the run's end.
void Run::check_sizes(const DataReport& report) const {
  const double smallest = *std::min_element(config_.evaluate.scales.begin(), config_.evaluate.scales.end());
  for (const auto& [extent, count] : report.sizes) {
    const Size size = evaluation_size({extent[1], extent[0]}, config_.pipeline, smallest);
    const Window window = config_.evaluate.mode == "slide" ? slide_windows(size.height, size.width, config_.evaluate).front()
                                                           : Window{0, 0, size.height, size.width};
    naming_picture([&, at = extent] { return fmt::format("pictures of {} x {} that the run would be evaluated on", at[0], at[1]); },
                   [&] { model_->check_size(window.height, window.width); });
  }
}

void Run::remark(const DataReport& report, const std::string& of_what) {
  if (const auto odd = odd_classes(report))
    remarks_.push_back(fmt::format("WARNING: {}{} ({})", of_what, odd->what_happened(), odd->where()));
}

void Run::say_pictures() {
  const int64_t pictures = train_set_->size(), batch = config_.train.batch_size * config_.train.accumulate;
  const bool endless = pictures == Dataset::kEndless;
  log_->say(fmt::format("{} to train on{}, {} to evaluate on", endless ? "endlessly many pictures" : counted(pictures, "picture"),
                        endless ? "" : fmt::format(" ({:.4g} epochs)", double(config_.train.iterations * batch) / double(pictures)),
                        val_set_->size()));
  for (const Dataset* set : {train_set_, val_set_}) {
    for (const std::string& sentence : set->left_out()) log_->say(sentence);
  }
  for (const std::string& sentence : remarks_) log_->say(sentence);
  if (same_pictures(*train_set_, *val_set_)) log_->say("note: the pictures to evaluate on are those that are trained on");
}

void Run::say_own_parts() {
  if (!result_.own_parts.empty()) log_->say("of the program's own, not in config.json: " + some_of(result_.own_parts));
}

void Run::say_what_was_loaded() {
  if (!model_->pretrained_note().empty()) log_->say(model_->pretrained_note());
  int64_t learning = 0;
  for (const Tensor& parameter : model_->parameters()) learning += parameter.requires_grad() ? parameter.numel() : 0;
  if (learning < model_->parameter_count()) {
    log_->say(fmt::format("frozen: {}; {} of {} parameters learn", some_of(config_.train.freeze), learning, model_->parameter_count()));
  }
}

ModelCard Run::card() const {
  return {
      .config = to_json_text(config_), .class_names = train_set_->class_names(), .palette = train_set_->palette(), .iteration = iteration_,
      .own_parts = result_.own_parts};
}

void Run::start_or_restore() {
  log_->say(fmt::format("{} on {} ({} classes), {} parameters, {}, {}, seed {}",
                        config_.model.decode_head.type + "-" + backbone_name(config_.model.backbone),
                        request_.train_set == nullptr ? config_.data.type : "data of the program's own",
                        config_.model.num_classes, model_->parameter_count(), to_string(model_->device()), counted(num_threads(), "thread"),
                        config_.seed));
  say_pictures();
  say_own_parts();
  if constexpr (kBuiltWithCuda) {
    if (model_->device().is_cuda()) {
      log_->say(cuda::describe_device(model_->device().index) + "; convolutions by " + cuda::describe_convolution() + "; precision " +
                config_.train.precision);
    }
  }
  if (!checkpoint_) {
    say_what_was_loaded();
    if (request_.resume) {
      log_->say("no checkpoint in " + request_.out.string() + " yet: starting from the beginning" +
                (lost_ > 0 ? fmt::format("; what was recorded to iteration {} is thrown away", lost_) : ""));
    }
    calibrate();
    return;
  }
  const std::string source = (request_.out / "checkpoint").string();
  if (step_->ema() != nullptr) {
    load_weights(*model_, checkpoint_->ema.empty() ? checkpoint_->model : checkpoint_->ema, source);
    step_->ema()->take_from_model();
  }
  load_weights(*model_, checkpoint_->model, source);
  step_->optimizer().load_state(checkpoint_->optimizer, source);
  iteration_ = first_iteration_ = saved_at_ = checkpoint_->card.iteration;
  seconds_before_ = checkpoint_->seconds;
  times_ = checkpoint_->times;
  interval_ = checkpoint_->interval;
  log_->say(fmt::format("resuming after iteration {}", iteration_));
  find_best();
  const auto evaluated = checkpoint_->data.find("val");
  if (evaluated != checkpoint_->data.end() && evaluated->second != data_.at("val")) {
    log_->say(
        fmt::format("WARNING: the pictures to evaluate on are others than before ({} then, {} now): earlier evaluations are not comparable",
                    evaluated->second.pictures, val_set_->size()));
    result_.best.reset();
  }
  checkpoint_.reset();  // its tensors
}

void Run::calibrate() {
  const EqualizerOptions& options = config_.model.equalizer;
  if (!has_constants(options) || model_->has_constants()) return;
  log_->say(options.constants == "analytic" ? "equalizing by the scales that white noise would have"
                                            : "measuring feature scales over " + counted(options.batches, "batch", "batches"));
  model_->set_step(uint64_t(config_.seed), 0);
  result_.calibration = calibrate_equalizers(*model_, [&](int64_t) {
    if (stopping()) throw StoppedEarly();
    model_->forward(loader_->next().images);
  });
  if (step_->ema() != nullptr) step_->ema()->take_from_model();  // it began before there were constants
  for (const auto& branch : result_.calibration.branches) {
    const std::string error = std::isfinite(branch.std_error) ? fmt::format(" ± {:.4f}", branch.std_error) : "";
    log_->say(fmt::format("  {:<24} {:<10} mean {:9.4f}  std {:8.4f}{}{}{}", branch.site, branch.branch, branch.mean, branch.std, error,
                          branch.equalized ? "" : "  not equalized", branch.floored ? "  raised to the floor" : ""));
  }
  if (!request_.out.empty()) write_calibration(request_.out / "calibration.json", result_.calibration);
}

// On the batches that come next, as they are augmented and dropped out there: a function of the iteration, whatever happened before.
void Run::refresh() {
  const int64_t next = iteration_ * config_.train.accumulate;
  const double begin = now_seconds();
  loader_->seek(next);
  CalibrationReport report;
  try {
    report = refresh_equalizers(*model_, step_->optimizer(), step_->ema(), [&](int64_t i) {
      if (stopping()) throw StoppedEarly();
      model_->set_step(uint64_t(config_.seed), uint64_t(next + i));
      model_->forward(loader_->next().images);
    });
  } catch (const NumericalError& error) {
    throw NumericalError(fmt::format("{}, after iteration {}", error.what_happened(), iteration_), error.where(),
                         error.try_this() + last_good());
  }
  loader_->seek(next);
  refresh_seconds_ = now_seconds() - begin;
  if (const CalibrationReport::Branch* most = farthest(report)) {
    log_->say(fmt::format(
        "after iteration {}: feature scales measured anew; changed most: {} {}, std {:.4f}, {:.3f} times what it was divided by",
        iteration_, most->site, most->branch, most->std, most->growth));
  }
  for (const CalibrationReport::Branch& branch : report.branches) {
    if (branch.floored)
      log_->say(fmt::format("  {} {}: nearly constant, in a channel or as a whole, and left as it was there", branch.site, branch.branch));
  }
  write_refresh(request_.out / "calibration.json", iteration_, report);
}

int64_t Run::refreshes_left() const {
  const EqualizerOptions& equalizer = config_.model.equalizer;
  if (!refreshes(equalizer)) return 0;
  return (config_.train.iterations - 1) / equalizer.refresh - std::max<int64_t>(0, iteration_ - 1) / equalizer.refresh;
}

std::string Run::last_good() const {
  return saved_at_ >= 0 ? fmt::format("; the last good checkpoint is that of iteration {}", saved_at_) : "";
}

void Run::report_progress(bool last_of_interval) {
  const double count = double(std::max<int64_t>(1, interval_.steps));
  const double images = count * double(config_.train.batch_size * config_.train.accumulate);
  Progress progress{
      .iteration = iteration_,
      .iterations = config_.train.iterations,
      .loss = interval_.loss / count,
      .main_loss = interval_.main_loss / count,
      .aux_loss = interval_.aux_loss / count,
      .has_aux = !config_.model.auxiliary_head.type.empty(),
      .lr = last_.lr,
      .grad_norm = last_.grad_norm,
      .images_per_second = images / std::max(1e-9, interval_.seconds),
      .data_wait = interval_.wait / std::max(1e-9, interval_.seconds),
      .memory_bytes = allocator(model_->device()).stats().peak_bytes,
      .seconds = seconds(),
      .eta_seconds = times_.seconds / double(std::max<int64_t>(1, times_.steps)) * double(config_.train.iterations - iteration_) +
                     refresh_seconds_ * double(refreshes_left())};
  if (!last_of_interval) return log_->glance(progress);
  log_->progress(progress);
  if (tensorboard_) tensorboard_->progress(progress);
  interval_ = {};
}

void Run::loop() {
  const TrainOptions& options = config_.train;
  loader_->seek(iteration_ * options.accumulate);
  allocator(model_->device()).reset_peak();
  const auto evaluates = [&] {
    return options.evaluate_every > 0 && iteration_ % options.evaluate_every == 0 && iteration_ < options.iterations;
  };
  if (iteration_ > 0 && evaluates() && !log_->has_evaluation(iteration_)) evaluate_now(false);  // the earlier part was stopped before it
  if (iteration_ > 0 && iteration_ < options.iterations) retire_results(request_.out);
  const EqualizerOptions& equalizer = config_.model.equalizer;
  while (iteration_ < options.iterations && !stopping()) {
    // In front of the step, not behind the last one: a checkpoint of this iteration is always one without it.
    if (refreshes(equalizer) && iteration_ > 0 && iteration_ % equalizer.refresh == 0) refresh();
    const double begin = now_seconds(), waited = loader_->data_wait_seconds();
    const std::unique_ptr<Probe> probe = probes_->probe(*model_, iteration_, options.iterations);
    const StepReport report = step_->run(iteration_, [&] { return loader_->next(); }, probe.get());
    if (probe) {
      probes_->write(probe->record());
      if (tensorboard_) tensorboard_->probe(probe->record());
    }
    const double took = now_seconds() - begin, wait = loader_->data_wait_seconds() - waited;
    ++iteration_;
    times_.steps += 1;
    times_.seconds += took;
    times_.wait += wait;
    interval_.steps += 1;
    interval_.loss += report.loss;
    interval_.main_loss += report.main_loss;
    interval_.aux_loss += report.aux_loss;
    interval_.seconds += took;
    interval_.wait += wait;
    last_ = report;
    if (request_.on_step) request_.on_step(report);
    report_progress((options.log_every > 0 && iteration_ % options.log_every == 0) || iteration_ == options.iterations);
    if (stopping()) return;
    if (options.checkpoint_every > 0 && iteration_ % options.checkpoint_every == 0) save();
    if (evaluates()) evaluate_now(false);
  }
}

void Run::evaluate_now(bool last) {
  result_.train_peak_bytes = std::max(result_.train_peak_bytes, allocator(model_->device()).stats().peak_bytes);
  std::optional<EmaScope> averaged(step_->ema());
  EvalRequest request{.options = config_.evaluate, .pipeline = config_.pipeline};
  request.stop = [this] { return stopping(); };
  ProgressLine line(request_.log);
  request.on_progress = [&](int64_t done, int64_t all) { line.count("evaluating", done, all); };
  const int64_t overlays = config_.train.overlays;
  EvaluationFiles files(*val_set_, request_.out / "eval", std::min(overlays, kExtremePictures));
  if (last) {
    const auto written = [this](int64_t index, const Image& picture, std::span<const uint8_t> png) {
      if (tensorboard_) tensorboard_->overlay(iteration_, index, picture.height, picture.width, png);
    };
    request.on_picture = [&files,
                          draw = OverlayWriter(*val_set_, request_.out / "overlays", overlays, written)](const EvaluatedPicture& picture) {
      draw(picture.index, picture.labels, picture.predictions);
      files.add(picture);
    };
  }
  log_->say(fmt::format("evaluating {} after iteration {}", counted(val_set_->size(), "picture"), iteration_));
  const EvalResult evaluation = evaluate(*model_, *val_set_, request);
  line.clear();
  allocator(model_->device()).reset_peak();
  result_.eval_peak_bytes = std::max(result_.eval_peak_bytes, evaluation.peak_bytes);
  if (evaluation.stopped) return;
  result_.metrics = evaluation.metrics;
  averaged.reset();
  keep_if_best(evaluation.metrics.miou);
  if (tensorboard_) tensorboard_->evaluation(iteration_, evaluation.metrics);  // first: what is in the rows is not made again
  log_->evaluation(iteration_, evaluation, seconds());
  if (last) files.write();
}

// What an earlier part of the run has kept. A file from behind the checkpoint is of another course: somebody has restored an older one.
void Run::find_best() {
  const fs::path file = request_.out / kBestWeights;
  if (!config_.train.keep_best || !fs::exists(file)) return;
  const ModelCard kept = read_weights_card(file);
  if (kept.miou && kept.iteration <= iteration_) result_.best = {kept.iteration, *kept.miou};
}

// The checkpoint comes first: a run goes on from there or later, so that what it kept is always of its own past; and the evaluation's row
// last, without which it is made again.
void Run::keep_if_best(double miou) {
  if (!config_.train.keep_best || !(miou > (result_.best ? result_.best->miou : -1))) return;
  save();
  const EmaScope averaged(step_->ema());
  ModelCard kept = card();
  kept.miou = miou;
  save_weights(request_.out / kBestWeights, *model_, kept);
  result_.best = {iteration_, miou};
  log_->say(fmt::format("the best mIoU so far: its weights are in {}", kBestWeights));
}

void Run::save() {
  if (saved_at_ == iteration_) return;
  Checkpoint checkpoint{.card = card(), .seconds = seconds(), .times = times_, .interval = interval_, .data = data_,
                        .model = model_->state_dict(), .optimizer = step_->optimizer().state(), .ema = {}};
  if (step_->ema() != nullptr) {
    const EmaScope averaged(step_->ema());
    checkpoint.ema = model_->state_dict();
  }
  save_checkpoint(request_.out / "checkpoint", checkpoint);
  saved_at_ = iteration_;
}

TrainResult Run::train_and_evaluate() {
  make_folder(request_.out);
  remove_unfinished(request_.out);
  std::error_code ignored;  // where nothing can be removed, nothing can be written, and the next line says that
  fs::remove(request_.out / "nan_report.json", ignored);  // of an earlier part, which is made again
  write_text_atomically(request_.out / "config.json", to_json_text(config_));
  const int64_t resume_from = checkpoint_ ? checkpoint_->card.iteration : -1;
  if (!checkpoint_) lost_ = last_row(request_.out, "metrics");
  log_ = std::make_unique<RunLog>(request_.out, request_.log, resume_from);
  probes_ = std::make_unique<ProbeLog>(config_.probes, request_.out,
                                       std::max<int64_t>(-1, resume_from - 1));  // the next record's number is resume_from
  if (config_.train.tensorboard) {
    const bool keeps_evaluation = log_->has_evaluation(resume_from) && resume_from < config_.train.iterations;
    tensorboard_ = std::make_unique<TensorBoardLog>(request_.out / "tensorboard", resume_from, keeps_evaluation);
  }
  bool stopped = false;
  try {
    start_or_restore();
    loop();
  } catch (const StoppedEarly&) {
    stopped = true;
  } catch (const NonFiniteError& error) {
    std::string good = last_good();
    const bool dump = config_.train.on_nan == "dump";
    write_non_finite_report(request_.out / "nan_report.json", error.report(), dump);
    if (dump) good += "; the values of every layer are in " + (request_.out / "nan_report.json").string();
    throw NonFiniteError(error.report(), good);
  }
  stopped |= stopping();
  if (!stopped || iteration_ > first_iteration_) save();
  result_.train_peak_bytes = std::max(result_.train_peak_bytes, allocator(model_->device()).stats().peak_bytes);
  if (!stopped) {
    evaluate_now(true);
    stopped = stopping();
  }
  result_.iterations = iteration_;
  const int64_t images = times_.steps * config_.train.batch_size * config_.train.accumulate;
  result_.images_per_second = double(images) / std::max(1e-9, times_.seconds);
  result_.data_wait = times_.wait / std::max(1e-9, times_.seconds);
  result_.seconds = seconds();
  constexpr double kMuchWaiting = 0.2, kLongSeconds = 60;
  if (result_.data_wait > kMuchWaiting && times_.seconds > kLongSeconds) {
    log_->say(fmt::format(
        "{:.0f} % of the training time went by waiting for pictures: raise train.loader_threads (now {}) if there are idle cores",
        100 * result_.data_wait, loader_options(config_).threads));
  }
  if (result_.best && !stopped) {
    log_->say(fmt::format("best mIoU {:.2f} after iteration {} ({})", 100 * result_.best->miou, result_.best->iteration, kBestWeights));
  }
  if (stopped) {
    log_->say(fmt::format("stopped after iteration {} of {}; go on with --resume", iteration_, config_.train.iterations));
    return result_;
  }
  {
    const EmaScope averaged(step_->ema());
    result_.weights_sha256 = save_weights(request_.out / "model.safetensors", *model_, card());
  }
  result_.finished = true;
  result_.seconds = seconds();
  write_text_atomically(request_.out / "summary.json", summary_json(config_, result_, model_->parameter_count()));
  return result_;
}

TrainResult Run::try_out() {
  log_ = std::make_unique<RunLog>(fs::path(), request_.log, -1);
  say_pictures();
  say_own_parts();
  say_what_was_loaded();
  allocator(model_->device()).reset_peak();
  const double begin = now_seconds();
  step_->run(0, [&] { return loader_->next(); });
  const double step_seconds = now_seconds() - begin;
  result_.train_peak_bytes = allocator(model_->device()).stats().peak_bytes;
  const EvalResult evaluation = evaluate(*model_, *val_set_, {.options = config_.evaluate, .pipeline = config_.pipeline, .limit = 1});
  result_.eval_peak_bytes = evaluation.peak_bytes;
  constexpr double kMega = 1 << 20;
  log_->say(fmt::format(
      "dry run: {} parameters; a training step takes {:.2f} s and {:.0f} MiB of tensors, evaluation of one picture {:.2f} s and "
      "{:.0f} MiB; {} iterations would take about {}",
      model_->parameter_count(), step_seconds, double(result_.train_peak_bytes) / kMega, evaluation.seconds,
      double(result_.eval_peak_bytes) / kMega, config_.train.iterations, human_duration(step_seconds * double(config_.train.iterations))));
  result_.seconds = seconds();
  return result_;
}

}  // namespace

TrainResult train(const Config& config, const TrainRequest& request) {
  if (request.out.empty() && !request.dry_run) throw UsageError("a run needs a folder", "--out", "for example --out runs/first");
  if ((request.train_set == nullptr) != (request.val_set == nullptr)) {
    throw UsageError("one data set is given, the other is not", "TrainRequest", "give both, to train and to evaluate on, or neither");
  }
  if (request.train_set != nullptr && request.train_set->class_names() != request.val_set->class_names()) {
    throw UsageError("the pictures to evaluate on have other classes than those to train on", "TrainRequest",
                     "give both data sets the same class names, in the same order");
  }
  check_config(config);  // before anything is written that could not be read again
  if (request.threads != 0) set_num_threads(request.threads);
  const FlushDenormals flush;
  const StopSignals signals(request.handle_signals);
  check_run_folder(request);
  const RunLock lock(request.dry_run ? fs::path() : request.out);
  Run run(config, request, load_run_checkpoint(request, config));
  if (request.dry_run) return run.try_out();
  try {
    return run.train_and_evaluate();
  } catch (const Error& error) {
    log_error(request.out, error);
    throw;
  }
}

}  // namespace eq
