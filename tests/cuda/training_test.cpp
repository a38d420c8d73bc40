#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "core/kernels/optimizer_step.h"
#include "core/parallel.h"
#include "cuda/parity.h"
#include "datasets/loader.h"
#include "layers/calibration.h"
#include "layers/moments.h"
#include "training/checkpoint.h"
#include "training/evaluator.h"
#include "training/onnx_export.h"
#include "training/optimizer.h"
#include "training/recalibrate.h"
#include "training/refresh.h"
#include "training/tiny.h"
#ifdef EQ_CUDA_SIMULATED
#include <cuda_runtime.h>
#endif

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

// Networks built in this scope live on the GPU.
struct OnCuda {
  OnCuda() { set_compute_device(Device::cuda()); }
  ~OnCuda() { set_compute_device(Device::cpu()); }
};

std::vector<double> losses_of(const std::vector<std::string>& settings, int64_t steps, StepSetup* keep = nullptr) {
  StepSetup own(settings);
  StepSetup& setup = keep != nullptr ? *keep : own;
  std::vector<double> losses;
  for (int64_t i = 0; i < steps; ++i) {
    const StepReport report = setup.run(i);
    losses.push_back(report.loss);
    losses.push_back(report.grad_norm);
  }
  return losses;
}

std::string message_of(const std::function<void()>& fn) {
  try {
    fn();
  } catch (const Error& error) {
    return std::string(error.what_happened()) + " | " + error.try_this();
  }
  return "nothing was thrown";
}

#ifdef EQ_CUDA_SIMULATED
constexpr int64_t kSmallParameters = 30;  // more than one launch takes
#else
constexpr int64_t kSmallParameters = 800;
#endif

// Random updates on both devices: the same values, state and norms. Large and small parameters, some without elements, without a
// gradient, of two groups, not on their alignment.
void check_optimizer(OptimizerOptions options, bool units) {
  options.groups = {{.pattern = "odd", .lr_mult = 0.5, .decay_mult = 2}};
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    std::vector<OptimizerParameter> there, here = {
        {"weight", random_leaf({6, 3, 3, 5}, 1, dtype)},  {"bias", random_leaf({40001}, 2, dtype)},
        {"grouped", random_leaf({8, 3, 3, 8}, 3, dtype)}, {"none", random_leaf({0}, 4, dtype)},
        {"idle", random_leaf({7}, 5, dtype)},             {"view", random_leaf({4099}, 6, dtype)}};
    for (int64_t i = 0; i < kSmallParameters; ++i) {
      here.push_back({(i % 2 == 0 ? "even " : "odd ") + std::to_string(i), random_leaf({i % 9 + 1}, uint64_t(100 + i), dtype)});
    }
    here.push_back({"last", random_leaf({8192 + 4}, 7, dtype)});
    if (units) {
      here[0].unit = Tensor::from<double>({0.5, 2, 1, 3, 0.25}, {5}).to(dtype);
      here[2].unit = exp(random_tensor({16}, 8)).to(dtype);
      here[2].groups = 2;
    }
    const auto off_alignment = [](const Tensor& x) {
      Tensor whole = Tensor::zeros({x.numel() + 1}, x.dtype(), Device::cuda()), part = whole.alias(x.shape(), 1);
      return part.copy_(x);
    };
    for (const OptimizerParameter& parameter : here) {
      there.push_back(parameter);
      const Tensor& value = parameter.tensor;
      Tensor moved = parameter.name == "view" ? off_alignment(value.detach()) : value.detach().to(Device::cuda());
      there.back().tensor = moved.set_requires_grad();
      if (parameter.unit.defined()) there.back().unit = parameter.unit.to(Device::cuda());
    }
    const auto a = make_optimizer(here, options), b = make_optimizer(there, options);
    const double tolerance = dtype == DType::kFloat64 ? 1e-12 : 1e-5;
    for (uint64_t step = 0; step < 3; ++step) {
      for (size_t i = 0; i < here.size(); ++i) {
        if (here[i].name == "idle") continue;
        const Tensor grad = random_tensor(here[i].tensor.shape(), 1000 * step + i, dtype);
        here[i].tensor.set_grad(grad);
        there[i].tensor.set_grad(grad.to(Device::cuda()));
      }
      CHECK(gradient_norm(there).norm == Approx(gradient_norm(here).norm).epsilon(1e-12));
      CHECK(gradient_norm(there).norm == gradient_norm(there).norm);
      a->step(0.1, 0.5);
      b->step(0.1, 0.5);
      for (size_t i = 0; i < here.size(); ++i) check_close(there[i].tensor.to(Device::cpu()), here[i].tensor, tolerance);
    }
    const auto state_a = a->state(), state_b = b->state();
    for (const auto& [name, value] : state_a) {
      check_close(state_b.at(name).to(Device::cpu()).to(DType::kFloat64), value.to(DType::kFloat64), tolerance);
    }
  }
}

// Many small values, large ones, one without elements, one not on its alignment: as two operators compute them.
void check_averages(DType dtype) {
  std::vector<SteppedParameter> averages;
  std::vector<Tensor> expected;
  const AverageUpdate<double> update{0.9, 1 - 0.9};
  for (int64_t i = 0; i < kSmallParameters + 3; ++i) {
    const int64_t count = i == 1 ? 0 : i == 2 ? 40001 : i == kSmallParameters ? 8192 + 4 : i % 9 + 1;
    const Tensor average = random_tensor({count}, uint64_t(2 * i), dtype), value = random_tensor({count + 1}, uint64_t(2 * i + 1), dtype);
    const Tensor there = value.to(Device::cuda()).alias({count}, i % 2);
    averages.push_back({average.to(Device::cuda()), there});
    expected.push_back(average.clone().mul_(update.decay).add_(value.alias({count}, i % 2), update.rest));
  }
  if constexpr (kBuiltWithCuda) cuda::average_step(update, averages);
  for (size_t i = 0; i < averages.size(); ++i) {
    check_close(averages[i].value.to(Device::cpu()), expected[i], dtype == DType::kFloat64 ? 1e-15 : 1e-7);
  }
}

}  // namespace

TEST_CASE("cuda: averages of many tensors at once", "[cuda][training]") {
  EQ_NEED_CUDA();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) check_averages(dtype);
  if constexpr (kBuiltWithCuda) cuda::average_step({0.9, 0.1}, {});
}

TEST_CASE("cuda: optimizers step as on the CPU", "[cuda][training]") {
  EQ_NEED_CUDA();
  const std::vector<OptimizerParameter> parted = {{"here", random_leaf({3}, 1)},
                                                  {"there", random_tensor({3}, 2).to(Device::cuda()).set_requires_grad()}};
  CHECK_THROWS_WITH(make_optimizer(parted, OptimizerOptions{}),
                    Catch::Contains("on one device, this one on cuda:0, the first on cpu") && Catch::Contains("there"));
  check_optimizer({.type = "sgd", .momentum = 0}, false);
  check_optimizer({.type = "sgd", .momentum = 0.9, .weight_decay = 0.01}, true);
  check_optimizer({.type = "sgd", .momentum = 0.9, .nesterov = true}, false);
  check_optimizer({.type = "adamw", .weight_decay = 0.05}, true);
}

TEST_CASE("cuda: a network trains as on the CPU, and twice to the same bits", "[cuda][training]") {
  EQ_NEED_CUDA();
  const std::vector<double> here = losses_of({}, 3);
  const OnCuda scope;
  const std::vector<double> there = losses_of({}, 3), again = losses_of({}, 3);
  CHECK(there == again);
  for (size_t i = 0; i < here.size(); ++i) {
    INFO("number " << i << ": loss and norm of gradients in turn");
    CHECK(there[i] == Approx(here[i]).epsilon(2e-3));  // float32 through ReLU and batch norm amplifies other orders of summation
  }
}

TEST_CASE("cuda: in bfloat16 a network takes nearly the same steps, with float32 weights", "[cuda][training]") {
  EQ_NEED_CUDA();
  const OnCuda scope;
  const std::vector<double> full = losses_of({}, 2);
  StepSetup setup({"train.precision=bf16"});
  const std::vector<double> reduced = losses_of({}, 2, &setup);
  CHECK(reduced[0] == Approx(full[0]).epsilon(0.02));
  CHECK(reduced[2] == Approx(full[2]).epsilon(0.05));
  CHECK(reduced[0] != full[0]);
  for (const Tensor& parameter : setup.model->parameters()) CHECK(parameter.dtype() == DType::kFloat32);
  set_compute_device(Device::cpu());
  CHECK_THAT(message_of([] { StepSetup refused({"train.precision=bf16"}); }), Contains("bfloat16") && Contains("--device cuda"));
}

TEST_CASE("cuda: with hard examples and the Dice loss a network takes the same steps as on the CPU", "[cuda][training]") {
  EQ_NEED_CUDA();
  const std::vector<std::string> settings{"train.ohem.threshold=0.1", "train.ohem.min_kept=1000", "train.dice_weight=0.5"};
  const std::vector<double> here = losses_of(settings, 2);
  const OnCuda scope;
  const std::vector<double> there = losses_of(settings, 2);
  for (size_t i = 0; i < here.size(); ++i) CHECK(there[i] == Approx(here[i]).epsilon(2e-3));
}

TEST_CASE("cuda: transformers and ConvNeXt train as on the CPU, and in bfloat16", "[cuda][training]") {
  EQ_NEED_CUDA();
  for (const char* type : {"swin", "twins", "convnext"}) {
    INFO(type);
    const std::vector<std::string> settings{std::string("model.backbone.type=") + type, "model.backbone.multiplier=0.0625",
                                            "model.backbone.drop_path=0.5"};
    const std::vector<double> here = losses_of(settings, 1);
    const OnCuda scope;
    const std::vector<double> there = losses_of(settings, 1);
    for (size_t i = 0; i < here.size(); ++i) CHECK(there[i] == Approx(here[i]).epsilon(2e-3));
    std::vector<std::string> reduced = settings;
    reduced.push_back("train.precision=bf16");
    const std::vector<double> rounded = losses_of(reduced, 1);
    CHECK(rounded[0] == Approx(here[0]).epsilon(0.02));
    CHECK(rounded[1] == Approx(here[1]).epsilon(0.05));
  }
}

TEST_CASE("cuda: frozen modules, kept statistics, repeated values and a loss of one's own train as on the CPU", "[cuda][training]") {
  EQ_NEED_CUDA();
  const HeadLoss squares = [](const Tensor& scores, const Tensor& labels) {
    return mean(square(scores - labels.to(scores.dtype()).alias({labels.size(0), labels.size(1), labels.size(2), 1}) * 0.01));
  };
  const std::pair<std::vector<std::string>, HeadLoss> choices[] = {
      {{"train.freeze=[\"backbone.stem\", \"backbone.layer1\"]", "train.norm_eval=[\"backbone\"]"}, {}},
      {{"model.upsampling=nearest"}, {}},
      {{}, squares},
  };
  const Tensor images = random_tensor({2, 64, 64, 3}, 5, DType::kFloat32);
  for (const auto& [settings, loss] : choices) {
    INFO((settings.empty() ? "a loss of one's own" : settings.back()));
    const auto make = [&, &settings = settings, &loss = loss] {
      auto setup = std::make_unique<StepSetup>(settings);
      if (loss) setup->step = std::make_unique<TrainStep>(*setup->model, setup->config, loss);
      return setup;
    };
    const auto here = make();
    const std::vector<double> expected = losses_of(settings, 2, here.get());
    const OnCuda scope;
    const auto there = make();
    const std::vector<double> actual = losses_of(settings, 2, there.get());
    for (size_t i = 0; i < expected.size(); ++i) CHECK(actual[i] == Approx(expected[i]).epsilon(2e-3));
    load_weights(*there->model, here->model->state_dict(), "here");
    here->model->eval(), there->model->eval();
    const NoGradGuard no_grad;
    check_close(there->model->forward(images).logits.to(Device::cpu()), here->model->forward(images).logits, 1e-4);
  }
}

TEST_CASE("cuda: equalizers are measured and applied as on the CPU", "[cuda][training]") {
  EQ_NEED_CUDA();
  auto calibrate = [](StepSetup& setup) {
    setup.loader->seek(0);
    return calibrate_equalizers(*setup.model, [&](int64_t) { setup.model->forward(setup.loader->next().images); });
  };
  const std::vector<std::string> choices[] = {
      {"equalizer.mode=explicit"}, {"equalizer.mode=folded_lr"}, {"equalizer.mode=explicit", "model.upsampling=nearest"}};
  for (const std::vector<std::string>& settings : choices) {
    StepSetup here(settings);
    const CalibrationReport expected = calibrate(here);
    const OnCuda scope;
    StepSetup there(settings);
    const CalibrationReport actual = calibrate(there);
    REQUIRE(actual.branches.size() == expected.branches.size());
    for (size_t i = 0; i < expected.branches.size(); ++i) {
      CHECK(actual.branches[i].mean == Approx(expected.branches[i].mean).margin(1e-4));
      CHECK(actual.branches[i].std == Approx(expected.branches[i].std).epsilon(1e-3));
    }
    CHECK(there.run(0).loss == Approx(here.run(0).loss).epsilon(2e-3));
  }
}

TEST_CASE("cuda: constants are measured anew as on the CPU", "[cuda][training]") {
  EQ_NEED_CUDA();
  const auto next_loss = [](StepSetup& setup) {
    const auto run_forward = [&](int64_t) { setup.model->forward(setup.loader->next().images); };
    setup.loader->seek(0);
    calibrate_equalizers(*setup.model, run_forward);
    setup.run(0);
    const CalibrationReport report = refresh_equalizers(*setup.model, setup.step->optimizer(), setup.step->ema(), run_forward);
    return std::pair(farthest(report)->growth, setup.run(1).loss);
  };
  for (const char* mode : {"equalizer.mode=explicit", "equalizer.mode=folded_lr"}) {
    const std::vector<std::string> settings{mode, "equalizer.refresh=1", "train.ema=0.9"};
    StepSetup here(settings);
    const auto [growth, loss] = next_loss(here);
    const OnCuda scope;
    StepSetup there(settings);
    const auto [growth_there, loss_there] = next_loss(there);
    CHECK(growth_there == Approx(growth).epsilon(2e-3));
    CHECK(loss_there == Approx(loss).epsilon(2e-3));
    const std::map<std::string, Tensor> state = there.step->optimizer().state();
    for (const auto& [name, value] : here.step->optimizer().state()) {
      if (name.find("fpn_bottleneck.conv") == std::string::npos) continue;
      INFO(name);
      check_close(state.at(name).to(Device::cpu()).to(DType::kFloat64), value.to(DType::kFloat64), 0.02);
    }
  }
}

TEST_CASE("cuda: weights are averaged as on the CPU", "[cuda][training]") {
  EQ_NEED_CUDA();
  StepSetup here({"train.ema=0.9"});
  const OnCuda scope;
  StepSetup there({"train.ema=0.9"});
  std::map<std::string, Tensor> weights;
  for (int64_t i = 0; i < 2; ++i) {
    there.run(i);
    weights = there.model->state_dict();
    load_weights(*here.model, weights, "there");  // so that both average the same
    here.step->ema()->update(i);
  }
  {
    const EmaScope averaged_here(here.step->ema()), averaged_there(there.step->ema());
    const std::map<std::string, Tensor> expected = here.model->state_dict();
    int64_t differ = 0;
    for (const auto& [name, tensor] : there.model->state_dict()) {
      INFO(name);
      check_close(tensor, expected.at(name), 1e-6);
      differ += !bit_equal(tensor, weights.at(name));
    }
    CHECK(differ > 0);
  }
  for (const auto& [name, tensor] : there.model->state_dict()) CHECK(bit_equal(tensor, weights.at(name)));
}

TEST_CASE("cuda: weights and optimizer state move between devices", "[cuda][training]") {
  EQ_NEED_CUDA();
  TemporaryFolder folder;
  std::map<std::string, Tensor> saved;
  {
    const OnCuda scope;
    StepSetup there;
    there.run(0);
    ModelCard card;
    card.config = to_json_text(there.config);
    card.class_names = there.dataset->class_names();
    card.palette = there.dataset->palette();
    saved = there.model->state_dict();
    for (const auto& [name, tensor] : saved) CHECK(tensor.device().is_cpu());
    save_checkpoint(folder.path() / "checkpoint", {.card = card, .model = saved, .optimizer = there.step->optimizer().state()});
  }
  const Checkpoint checkpoint = load_checkpoint(folder.path() / "checkpoint");
  StepSetup here;
  load_weights(*here.model, checkpoint.model, "checkpoint");
  here.step->optimizer().load_state(checkpoint.optimizer, "checkpoint");
  for (const auto& [name, tensor] : here.model->state_dict()) CHECK(bit_equal(tensor, saved.at(name)));
  const OnCuda scope;
  StepSetup back;
  load_weights(*back.model, checkpoint.model, "checkpoint");
  back.step->optimizer().load_state(checkpoint.optimizer, "checkpoint");
  back.loader->seek(1);
  here.loader->seek(1);
  CHECK(back.run(1).loss == Approx(here.run(1).loss).epsilon(2e-3));
}

TEST_CASE("cuda: predictions agree with the CPU's", "[cuda][training]") {
  EQ_NEED_CUDA();
  StepSetup here;
  const std::unique_ptr<Dataset> val = make_dataset(here.config.data, "val");
  here.config.evaluate.crop = {48, 48};
  here.config.evaluate.stride = {32, 32};
  for (const std::string mode : {"whole", "slide", "views"}) {
    here.config.evaluate.mode = mode == "slide" ? "slide" : "whole";
    here.config.evaluate.flip = mode == "views";
    const EvalRequest request{.options = here.config.evaluate, .pipeline = here.config.pipeline, .limit = 2};
    const EvalResult expected = evaluate(*here.model, *val, request);
    const OnCuda scope;
    StepSetup there;
    const EvalResult actual = evaluate(*there.model, *val, request);
    CHECK(actual.metrics.aacc == Approx(expected.metrics.aacc).margin(0.01));
    CHECK(actual.metrics.cross_entropy == Approx(expected.metrics.cross_entropy).epsilon(1e-3));
    there.model->eval();
    const Tensor images = random_tensor({1, 64, 64, 3}, 5).to(DType::kFloat32);  // on the host or there, the same network's answer
    const Tensor classes = predict_classes(*there.model, {images}, 64, 64, here.config.evaluate);
    CHECK(bit_equal(predict_classes(*there.model, {images.to(Device::cuda())}, 64, 64, here.config.evaluate), classes));
  }
}

TEST_CASE("cuda: running statistics are measured anew as on the CPU, and an exported network is the same file", "[cuda][training]") {
  EQ_NEED_CUDA();
  const auto trained = [] {
    StepSetup setup;
    return TrainedModel{.config = setup.config, .model = std::move(setup.model)};
  };
  TrainedModel here = trained();
  const std::vector<NormShift> expected = recalibrate_batch_norm(here, 2, "train");
  const OnCuda scope;
  TrainedModel there = trained();
  const std::vector<NormShift> actual = recalibrate_batch_norm(there, 2, "train");
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    INFO(expected[i].layer);
    CHECK(actual[i].layer == expected[i].layer);
    CHECK(actual[i].mean == Approx(expected[i].mean).epsilon(2e-3).margin(1e-4));
    CHECK(actual[i].lowest_ratio == Approx(expected[i].lowest_ratio).epsilon(2e-3));
    CHECK(actual[i].highest_ratio == Approx(expected[i].highest_ratio).epsilon(2e-3));
  }
  load_weights(*there.model, here.model->state_dict(), "here");
  const TemporaryFolder folder;
  for (TrainedModel* model : {&here, &there}) {
    model->model->eval();
    export_onnx(*model, folder.path() / (model == &here ? "here.onnx" : "there.onnx"), {});
  }
  CHECK(read_file(folder.path() / "there.onnx") == read_file(folder.path() / "here.onnx"));
}

#ifdef EQ_CUDA_SIMULATED
TEST_CASE("cuda: a kernel's fault while something is measured is reported, though nothing can be put back then", "[cuda][training]") {
  const OnCuda scope;
  StepSetup setup({"equalizer.mode=explicit", "equalizer.refresh=1"});
  const auto run_forward = [&](int64_t) {
    const Tensor images = setup.loader->next().images;
    simulated_fault = true;
    setup.model->forward(images);
  };
  const std::function<void()> measures[] = {
      [&] { calibrate_equalizers(*setup.model, run_forward); },
      [&] { refresh_equalizers(*setup.model, setup.step->optimizer(), setup.step->ema(), run_forward); },
      [&] { recalibrate_batch_norm(*setup.model, 1, run_forward); },
  };
  for (const auto& measure : measures) {
    const std::string message = message_of(measure);
    simulated_fault = false;
    CHECK_THAT(message, Contains("CUDA: "));
    CHECK(setup.model->is_training());  // what is not on the device is as before
  }
  setup.loader->seek(0);
  CHECK(std::isfinite(setup.run(0).loss));
}
#endif

TEST_CASE("cuda: moments of channels are those of the host", "[cuda][training]") {
  EQ_NEED_CUDA();
  const Tensor x = add(random_tensor({3, 5, 7, 12}, 4, DType::kFloat32), 3.0);
  const auto expected = channel_moments(x, 2, 9), actual = channel_moments(x.to(Device::cuda()), 2, 9);
  REQUIRE(actual.size() == 7);
  for (size_t c = 0; c < 7; ++c) {
    CHECK(actual[c].count == expected[c].count);
    CHECK(actual[c].mean == Approx(expected[c].mean).epsilon(1e-6));
    CHECK(actual[c].standard_deviation() == Approx(expected[c].standard_deviation()).epsilon(1e-5));
  }
}

TEST_CASE("cuda: a GPU gets its pictures from all threads but one, eight at most", "[cuda][training]") {
  EQ_NEED_CUDA();
  const OnCuda on;
  const int before = num_threads();
  Config config;
  for (const auto& [threads, loaders] : {std::pair{1, 1}, {2, 1}, {3, 2}, {9, 8}, {64, 8}}) {
    set_num_threads(threads);
    CHECK(loader_options(config).threads == loaders);
  }
  config.train.loader_threads = 3;
  CHECK(loader_options(config).threads == 3);
  set_num_threads(before);
}
