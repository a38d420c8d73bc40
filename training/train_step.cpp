#include "training/train_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "core/nearest.h"
#include "core/words.h"
#include "layers/layers.h"
#include "layers/moments.h"

namespace eq {
namespace {

const Config& in_range(const Config& config) {
  check_config(config);
  return config;
}

// Those that a configuration names.
std::vector<Module*> named_in(Module& model, const std::vector<std::string>& names, const char* key) {
  std::vector<Module*> found;
  const std::vector<Module::NamedModule> all = model.named_modules();
  for (const std::string& name : names) {
    const auto match = std::find_if(all.begin() + 1, all.end(), [&](const Module::NamedModule& entry) { return entry.name == name; });
    if (match == all.end()) {
      std::vector<std::string> known;
      std::transform(all.begin() + 1, all.end(), std::back_inserter(known), [](const Module::NamedModule& entry) { return entry.name; });
      const std::string nearest = nearest_name(name, known);
      throw UsageError("there is no module \"" + name + "\" in the model", key,
                       (nearest.empty() ? "" : "did you mean \"" + nearest + "\"? ") +
                           std::string("give names as `equiscale summary CONFIG` lists them, whole or up to a dot: \"backbone\", \"backbone.layer1\""));
    }
    found.push_back(match->module);
  }
  return found;
}

void hold_still(EncoderDecoder& model, const TrainOptions& options) {
  for (Module* part : named_in(model, options.norm_eval, "train.norm_eval")) {
    for (BatchNorm2d* norm : modules_of<BatchNorm2d>(*part)) norm->stay_in_eval();
  }
  for (Module* part : named_in(model, options.freeze, "train.freeze")) part->freeze();
  const std::vector<Tensor> all = model.parameters();
  if (std::none_of(all.begin(), all.end(), [](const Tensor& parameter) { return parameter.requires_grad(); })) {
    throw UsageError("every parameter is frozen: nothing would be learned", "train.freeze", "leave out what shall learn");
  }
}

void refuse_unused(const TrainOptions& options) {
  const TrainOptions plain;
  const std::pair<const char*, bool> changed[] = {{"class_weights", !options.class_weights.empty()},
                                                  {"reduction", options.reduction != plain.reduction},
                                                  {"ohem", options.ohem.has_value()},
                                                  {"dice_weight", options.dice_weight != plain.dice_weight}};
  for (const auto& [key, is_changed] : changed) {
    if (!is_changed) continue;
    throw UsageError("a loss of one's own does not read train." + std::string(key), std::string("train.") + key,
                     "leave it out, and let the loss do it");
  }
}

NonFiniteReport::LayerValues look_at(const Layer& layer, const Tensor& output) {
  NonFiniteReport::LayerValues values{layer.path(), layer.description()};
  double sum = 0;
  const Tensor here = host_values(output);
  dispatch_floating(here.dtype(), "finite check", [&]<class T>() {
    const T* data = here.template data<T>();
    for (int64_t i = 0; i < here.numel(); ++i) {
      const double magnitude = std::abs(double(data[i]));
      if (!std::isfinite(magnitude)) {
        ++values.bad;
      } else {
        values.largest = std::max(values.largest, magnitude);
        sum += magnitude;
      }
    }
  });
  values.mean = output.numel() > values.bad ? sum / double(output.numel() - values.bad) : 0;
  return values;
}

}  // namespace

NonFiniteError::NonFiniteError(NonFiniteReport report, const std::string& more)
    : NumericalError(fmt::format("the {} is not finite at iteration {}: {}", std::isfinite(report.loss) ? "gradient" : "loss",
                                 report.iteration, report.first_bad),
                     "pictures " + some_of(report.pictures),
                     "lower optimizer.lr, set train.clip_norm (10, say) or a warm-up" + more),
      report_(std::move(report)) {}

TrainStep::TrainStep(EncoderDecoder& model, const Config& config, HeadLoss loss)
    : model_(model),
      seed_(uint64_t(in_range(config).seed)),
      options_(config.train),
      own_loss_(std::move(loss)),
      optimizer_(make_optimizer(optimizer_parameters(model), config.optimizer)),
      schedule_(config.schedule, config.optimizer.lr, config.train.iterations) {
  if (own_loss_) refuse_unused(options_);
  hold_still(model, options_);
  const std::vector<double>& weights = options_.class_weights;
  if (!weights.empty()) {
    if (int64_t(weights.size()) != model.options().num_classes) {
      throw UsageError(fmt::format("there are {} class weights for {} classes", weights.size(), model.options().num_classes),
                       "train.class_weights", "give one for each class, or none");
    }
    if (std::none_of(weights.begin(), weights.end(), [](double weight) { return weight > 0; })) {
      throw UsageError("all class weights are 0: nothing would be learned", "train.class_weights", "give a class a positive weight");
    }
    cross_entropy_.class_weights =
        Tensor::from<double>(weights, {int64_t(weights.size())}).to(model.parameters().at(0).dtype()).to(model.device());
  }
  cross_entropy_.reduction =
      options_.reduction == "mean_valid" ? CrossEntropyOptions::Reduction::kMeanValid : CrossEntropyOptions::Reduction::kMeanAll;
  model.set_precision(options_.precision == "bf16" ? DType::kBFloat16 : DType::kFloat32);
  if (options_.ema > 0) ema_ = std::make_unique<Ema>(model, options_.ema);
}

Tensor TrainStep::loss_of(const Tensor& logits, const Tensor& labels) const {
  const Tensor scores = resize_bilinear(logits, labels.size(1), labels.size(2), model_.align_corners());
  if (own_loss_) {
    const Tensor loss = own_loss_(scores, labels);
    if (loss.defined() && loss.numel() == 1) return loss;
    const std::string gave = loss.defined() ? describe(loss) : "nothing";
    throw ShapeError("a loss of one's own gave " + gave + " for scores " + describe(scores), "TrainStep", "give one value: a mean() or sum()");
  }
  Tensor hard = labels;
  if (const auto& ohem = options_.ohem) {
    hard = hard_examples(scores, labels, {.threshold = ohem->threshold, .min_kept = ohem->min_kept * labels.size(0)});
  }
  const Tensor loss = cross_entropy(scores, hard, cross_entropy_);
  // An overlap is one of all pixels, the easy ones too.
  return options_.dice_weight > 0 ? loss + options_.dice_weight * dice_loss(scores, labels) : loss;
}

TrainStep::Losses TrainStep::forward(const Batch& batch, int64_t pass) {
  model_.set_step(seed_, uint64_t(pass));
  const SegmentorOutput output = model_.forward(batch.images);
  const Tensor labels = batch.labels.to(output.logits.device());
  Losses losses;
  losses.main = loss_of(output.logits, labels);
  losses.total = losses.main;
  if (output.aux_logits.defined()) {
    losses.aux = loss_of(output.aux_logits, labels);
    losses.total = losses.main + options_.aux_weight * losses.aux;
  }
  return losses;
}

StepReport TrainStep::run(int64_t iteration, const std::function<Batch()>& next_batch, StepObserver* observer) {
  model_.train();
  model_.zero_grad();
  StepReport report{.iteration = iteration, .lr = schedule_.lr(iteration)};
  const double share = 1.0 / double(options_.accumulate);
  Batch batch;
  std::vector<std::string> pictures;  // of all passes
  PendingGradientNorm pending;
  for (int64_t i = 0; i < options_.accumulate; ++i) {
    const int64_t pass = iteration * options_.accumulate + i;
    batch = next_batch();
    pictures.insert(pictures.end(), batch.names.begin(), batch.names.end());
    if (observer && i == 0) observer->before_forward(batch);
    const Losses losses = forward(batch, pass);
    (options_.accumulate == 1 ? losses.total : losses.total * share).backward();
    if (i + 1 == options_.accumulate) pending = start_gradient_norm(optimizer_->parameters());
    const double loss = losses.total.item();  // a GPU is waited for here, nowhere else
    if (!std::isfinite(loss)) explain(batch, iteration, pass, loss, 0);
    report.loss += share * loss;
    report.main_loss += share * losses.main.item();
    if (losses.aux.defined()) report.aux_loss += share * losses.aux.item();
  }
  const GradientNorm gradient = pending.wait(report.loss);
  report.grad_norm = gradient.norm;
  if (!gradient.finite) {
    batch.names = std::move(pictures);  // any pass may have spoilt it
    explain(batch, iteration, iteration * options_.accumulate + options_.accumulate - 1, report.loss, gradient.norm);
  }
  if (observer) observer->after_backward();
  optimizer_->step(report.lr, clip_factor(gradient.norm, options_.clip_norm));
  if (observer) observer->after_update();
  model_.zero_grad();
  if (ema_) ema_->update(iteration);
  return report;
}

void TrainStep::explain(const Batch& batch, int64_t iteration, int64_t pass, double loss, double grad_norm) {
  NonFiniteReport report{.iteration = iteration, .pictures = batch.names, .loss = loss, .grad_norm = grad_norm};
  {
    NoGradGuard no_grad;
    LayerObserver observer([&](Layer& layer, const Tensor&, const Tensor& output) {
      report.layers.push_back(look_at(layer, output));
      const NonFiniteReport::LayerValues& values = report.layers.back();
      if (values.bad == 0 || !report.first_bad.empty()) return;
      report.first_bad = fmt::format("the first bad values are in the output of the layer \"{}\" ({}): {} of {}", values.name,
                                     values.description.empty() ? "a block" : values.description, values.bad, output.numel());
    });
    const Losses losses = forward(batch, pass);
    if (report.first_bad.empty() && !std::isfinite(losses.total.item())) report.first_bad = "every layer is finite, the loss overflows";
  }
  // A finite forward pass: the gradient went bad on its way back, so the last layer in order comes first.
  const auto& parameters = optimizer_->parameters();
  for (size_t i = parameters.size(); i-- > 0 && report.first_bad.empty();) {
    if (!gradient_norm({parameters[i]}).finite) {
      report.first_bad =
          "the forward pass is finite; seen from the loss, the first bad gradient is that of the parameter \"" + parameters[i].name + "\"";
    }
  }
  if (report.first_bad.empty()) report.first_bad = "the sum of the gradients' squares overflows";
  throw NonFiniteError(std::move(report));
}

}  // namespace eq
