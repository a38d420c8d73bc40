#include "training/train_step.h"

#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "core/errors.h"
#include "core/parallel.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

Tensor named(Module& model, const std::string& name) {
  for (const auto& parameter : model.named_parameters()) {
    if (parameter.name == name) return parameter.tensor;
  }
  for (const auto& buffer : model.named_buffers()) {
    if (buffer.name == name) return buffer.tensor;
  }
  throw std::runtime_error("no " + name);
}

}  // namespace

TEST_CASE("a step's loss is the sum of its parts and its update is the optimizer's", "[train_step]") {
  StepSetup setup({"optimizer.momentum=0", "optimizer.weight_decay=0", "train.clip_norm=0.01"});
  setup.model->train();
  const Batch batch = setup.loader->next();
  setup.loader->seek(0);
  // The same forward pass by hand.
  setup.model->set_step(uint64_t(setup.config.seed), 0);
  const SegmentorOutput output = setup.model->forward(batch.images);
  const Tensor main = cross_entropy(resize_bilinear(output.logits, 64, 64, false), batch.labels);
  const Tensor aux = cross_entropy(resize_bilinear(output.aux_logits, 64, 64, false), batch.labels);
  (main + 0.4 * aux).backward();
  const Tensor weight = named(*setup.model, "decode_head.conv_seg.weight");
  const Tensor before = weight.detach().clone(), grad = weight.grad();
  double squares = 0;
  for (const Tensor& p : setup.model->parameters()) {
    if (!p.grad().defined()) continue;
    for (int64_t i = 0; i < p.numel(); ++i) squares += std::pow(p.grad().value_at(i), 2);
  }
  const StepReport report = setup.run(0);
  CHECK(report.main_loss == main.item());
  CHECK(report.aux_loss == aux.item());
  CHECK(report.loss == Approx(main.item() + 0.4 * aux.item()));
  CHECK(report.lr == 0.01);
  CHECK(report.grad_norm == Approx(std::sqrt(squares)).epsilon(1e-9));
  CHECK(report.grad_norm > 0.01);
  for (int64_t i = 0; i < 5; ++i) {
    CHECK(weight.value_at(i) == Approx(before.value_at(i) - 0.01 * grad.value_at(i) * 0.01 / (report.grad_norm + 1e-6)).epsilon(1e-6));
  }
}

TEST_CASE("a step refuses a configuration that no file could have", "[train_step]") {
  StepSetup setup;
  const auto refused = [&](const Config& config) { CHECK_THROWS_AS(TrainStep(*setup.model, config), UsageError); };
  Config config = setup.config;
  config.train.accumulate = 0;
  refused(config);
  config = setup.config;
  config.train.reduction = "mean";
  refused(config);
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(train(config, {.out = folder.path() / "run", .log = nullptr}), Contains("train.reduction"));
  CHECK_FALSE(std::filesystem::exists(folder.path() / "run"));
}

TEST_CASE("hard examples and the Dice loss join the loss of each head", "[train_step]") {
  StepSetup setup({"train.ohem.threshold=0.1", "train.ohem.min_kept=1000", "train.dice_weight=0.5"});
  setup.model->train();
  const Batch batch = setup.loader->next();
  setup.loader->seek(0);
  setup.model->set_step(uint64_t(setup.config.seed), 0);
  const SegmentorOutput output = setup.model->forward(batch.images);
  const auto by_hand = [&](const Tensor& logits) {
    const Tensor scores = resize_bilinear(logits, 64, 64, false);
    const Tensor hard = hard_examples(scores, batch.labels, {.threshold = 0.1, .min_kept = 2000});
    CHECK_FALSE(bit_equal(hard, batch.labels));
    return cross_entropy(scores, hard) + 0.5 * dice_loss(scores, batch.labels);
  };
  const Tensor main = by_hand(output.logits), aux = by_hand(output.aux_logits);
  const StepReport report = setup.run(0);
  CHECK(report.main_loss == main.item());
  CHECK(report.aux_loss == aux.item());
}

TEST_CASE("hard examples that are all kept are plain cross entropy, bit for bit", "[train_step]") {
  StepSetup plain, ohem({"train.ohem.threshold=1"}), dice({"train.dice_weight=0.5"});
  for (int i = 0; i < 2; ++i) {
    const double loss = plain.run(i).loss;
    CHECK(ohem.run(i).loss == loss);
    CHECK(dice.run(i).loss > loss);
  }
  const auto weights = ohem.model->state_dict();
  bool dice_differs = false;
  for (const auto& [name, tensor] : plain.model->state_dict()) {
    CAPTURE(name);
    CHECK(bit_equal(tensor, weights.at(name)));
    dice_differs |= !bit_equal(tensor, dice.model->state_dict().at(name));
  }
  CHECK(dice_differs);
}

TEST_CASE("a loss of one's own is each head's, at the labels' size", "[train_step]") {
  StepSetup stock, own;
  std::vector<Shape> seen;
  const auto loss = [&](const Tensor& scores, const Tensor& labels) {
    seen.push_back(scores.shape());
    return 2.0 * cross_entropy(scores, labels);
  };
  TrainStep step(*own.model, own.config, loss);
  const auto next = [&] { return own.loader->next(); };
  const StepReport twice = step.run(0, next), once = stock.run(0);
  CHECK(twice.main_loss == 2 * once.main_loss);
  CHECK(twice.aux_loss == 2 * once.aux_loss);
  CHECK(twice.grad_norm == Approx(2 * once.grad_norm));
  CHECK(seen == std::vector<Shape>(2, Shape{2, 64, 64, 8}));
  // It is asked again where it is not finite.
  TrainStep bad(*own.model, own.config, [](const Tensor& scores, const Tensor&) { return sum(scores) * std::nan(""); });
  CHECK_THROWS_WITH(bad.run(0, next), Contains("every layer is finite, the loss overflows"));

  TrainStep wide(*own.model, own.config, [](const Tensor& scores, const Tensor&) { return scores; });
  CHECK_THROWS_WITH(wide.run(0, next), Contains("a loss of one's own gave"));
  TrainStep none(*own.model, own.config, [](const Tensor&, const Tensor&) { return Tensor(); });
  CHECK_THROWS_WITH(none.run(0, next), Contains("gave nothing"));
  own.config.train.dice_weight = 1;
  CHECK_THROWS_WITH(TrainStep(*own.model, own.config, loss), Contains("train.dice_weight"));
}

TEST_CASE("the auxiliary head learns and its weight counts", "[train_step]") {
  StepSetup with({"train.aux_weight=0.4"}), without({"train.aux_weight=0"});
  const Tensor a = named(*with.model, "auxiliary_head.conv_seg.weight"), b = named(*without.model, "auxiliary_head.conv_seg.weight");
  const Tensor before = a.detach().clone();
  CHECK(bit_equal(before, b.detach().clone()));
  CHECK(with.run(0).loss > without.run(0).loss);
  CHECK_FALSE(bit_equal(a.detach(), before));
}

TEST_CASE("frozen modules stay as they are and cost no memory, the others learn", "[train_step]") {
  const std::string wide = "model.backbone.width=16", plain = "equalizer.mode=off";
  StepSetup whole({wide, plain}), part({wide, plain, "train.freeze=[\"backbone\", \"auxiliary_head\"]"});
  const auto before = part.model->state_dict();
  const auto peak_of = [](StepSetup& setup) {
    setup.run(0);  // layers in evaluation keep what they make of their weights
    allocator(Device::cpu()).reset_peak();
    const size_t held = allocator(Device::cpu()).stats().peak_bytes;
    setup.run(1);
    return allocator(Device::cpu()).stats().peak_bytes - held;
  };
  CHECK(peak_of(part) < peak_of(whole) / 2);
  for (const auto& [name, tensor] : part.model->state_dict()) {
    CAPTURE(name);
    const bool frozen = name.starts_with("backbone.") || name.starts_with("auxiliary_head.");
    CHECK(bit_equal(tensor, before.at(name)) == frozen);
  }
}

TEST_CASE("norm_eval: batch norms keep their statistics, and learn", "[train_step]") {
  StepSetup setup({"train.norm_eval=[\"backbone\"]"});
  const auto before = setup.model->state_dict();
  setup.run(0);
  const auto after = setup.model->state_dict();
  const auto same = [&](const std::string& name) { return bit_equal(before.at(name), after.at(name)); };
  CHECK(same("backbone.layer1.0.bn1.running_var"));
  CHECK(same("backbone.layer1.0.bn1.num_batches_tracked"));
  CHECK_FALSE(same("backbone.layer1.0.bn2.weight"));
  CHECK_FALSE(same("backbone.layer1.0.conv1.weight"));
  CHECK_FALSE(same("decode_head.bottleneck.bn.running_var"));
}

TEST_CASE("modules to freeze that are not there, or all of them, are refused", "[train_step]") {
  CHECK_THROWS_WITH(StepSetup({"train.freeze=[\"backbone.layer5\"]"}), Contains("train.freeze") && Contains("backbone.layer1"));
  CHECK_THROWS_WITH(StepSetup({"train.freeze=[\"\"]"}), Contains("train.freeze"));
  CHECK_THROWS_WITH(StepSetup({"train.norm_eval=[\"stem\"]"}), Contains("train.norm_eval") && Contains("equiscale summary"));
  CHECK_THROWS_WITH(StepSetup({"train.freeze=[\"backbone\", \"decode_head\", \"auxiliary_head\"]"}), Contains("nothing would be learned"));
}

TEST_CASE("accumulated passes are the mean of their losses, and dropout differs between them", "[train_step]") {
  StepSetup one({"train.accumulate=1"}), two({"train.accumulate=2", "optimizer.lr=0", "schedule.min_lr=0"});
  const StepReport both = two.run(0);
  // One pass after the other without learning: the same batches, and the same dropout since a pass has its own number.
  StepSetup separate({"optimizer.lr=0", "schedule.min_lr=0"});
  const double first = separate.run(0).loss, second = separate.run(1).loss;
  CHECK(both.loss == Approx((first + second) / 2).epsilon(1e-12));
  CHECK(first != second);
}

TEST_CASE("two steps give the same bits on one thread and on two", "[train_step]") {
  std::vector<std::map<std::string, Tensor>> states;
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    StepSetup setup({"train.ema=0.9"});
    for (int i = 0; i < 2; ++i) setup.run(i);
    EmaScope scope(setup.step->ema());
    states.emplace_back();
    for (const auto& [name, tensor] : setup.model->state_dict()) states.back()[name] = tensor.clone();
  }
  for (const auto& [name, tensor] : states[0]) {
    CAPTURE(name);
    CHECK(bit_equal(tensor, states[1].at(name)));
  }
}

TEST_CASE("steps leave no memory behind", "[train_step]") {
  StepSetup setup;
  for (int i = 0; i < 2; ++i) setup.run(i);
  // What the loader's workers hold ahead changes from moment to moment, so the batches come from one that is kept.
  const Batch batch = setup.loader->next();
  setup.loader.reset();
  setup.step->run(2, [&] { return batch; });
  const size_t before = allocator().stats().active_bytes;
  for (int i = 3; i < 6; ++i) setup.step->run(i, [&] { return batch; });
  CHECK(allocator().stats().active_bytes == before);
}

TEST_CASE("a layer that goes bad is named, and the weights stay", "[train_step]") {
  StepSetup setup;
  setup.run(0);
  Tensor weight = named(*setup.model, "backbone.layer2.0.conv1.weight");
  const Tensor other = named(*setup.model, "decode_head.conv_seg.weight");
  weight.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
  const Tensor before = other.detach().clone();
  try {
    setup.run(1);
    FAIL("no error");
  } catch (const NonFiniteError& error) {
    CHECK_THAT(error.what_happened(), Contains("backbone.layer2.0.conv1") && Contains("iteration 1") && Contains("loss"));
    CHECK(error.exit_code() == 4);
    CHECK(error.report().pictures.size() == 2);
    REQUIRE(error.report().layers.size() > 5);
    CHECK(error.report().layers[0].bad == 0);
    CHECK(error.report().layers[0].largest > 0);
  }
  CHECK(bit_equal(other.detach(), before));
}

TEST_CASE("a gradient that goes bad on its way back is named", "[train_step]") {
  StepSetup setup;
  setup.run(0);
  const Tensor weight = named(*setup.model, "backbone.layer1.0.conv1.weight");
  const int hook = register_hook(weight, [](const Tensor& grad) {
    Tensor bad = grad.clone();
    bad.data<float>()[0] = std::numeric_limits<float>::infinity();
    return bad;
  });
  CHECK_THROWS_WITH(setup.run(1), Contains("gradient") && Contains("backbone.layer1.0.conv1.weight"));
  remove_hook(weight, hook);
  CHECK_NOTHROW(setup.run(1));
}

TEST_CASE("a gradient of several passes that is bad names the pictures of all of them", "[train_step]") {
  StepSetup setup({"train.accumulate=2"});
  std::vector<std::string> first;
  {
    StepSetup same;
    first = same.loader->next().names;
  }
  const Tensor weight = named(*setup.model, "backbone.layer1.0.conv1.weight");
  int passes = 0;
  register_hook(weight, [&passes](const Tensor& grad) {
    Tensor bad = grad.clone();
    if (++passes == 1) bad.data<float>()[0] = std::numeric_limits<float>::infinity();
    return bad;
  });
  try {
    setup.run(0);
    FAIL("no error");
  } catch (const NonFiniteError& error) {
    REQUIRE(error.report().pictures.size() == 4);
    CHECK(std::equal(first.begin(), first.end(), error.report().pictures.begin()));
  }
}

TEST_CASE("class weights must fit the classes", "[train_step]") {
  CHECK_THROWS_WITH(StepSetup({"train.class_weights=[1, 2]"}), Contains("train.class_weights") && Contains("8"));
  CHECK_THROWS_WITH(StepSetup({"train.class_weights=[0, 0, 0, 0, 0, 0, 0, 0]"}), Contains("nothing would be learned"));
  StepSetup plain, weighted({"train.class_weights=[0, 0, 0, 0, 0, 0, 0, 1e-30]"});
  CHECK(weighted.run(0).loss < 1e-20);
  CHECK(plain.run(0).loss > 0);
}

TEST_CASE("parameters of normalisation layers are found whatever they are called", "[train_step]") {
  StepSetup setup;
  int norms = 0, convolutions = 0;
  for (const OptimizerParameter& parameter : setup.step->optimizer().parameters()) {
    if (parameter.is_norm) CHECK(parameter.tensor.rank() == 1);
    if (parameter.tensor.rank() == 4) CHECK_FALSE(parameter.is_norm);
    CHECK(parameter.decay_mult == (parameter.is_norm ? 0 : 1));
    norms += parameter.is_norm;
    convolutions += parameter.tensor.rank() == 4;
  }
  CHECK(norms > 40);
  CHECK(convolutions > 20);
}

TEST_CASE("a loss of one's own refuses each setting of the stock loss, and class weights must be as many as classes", "[train_step]") {
  const HeadLoss own = [](const Tensor& scores, const Tensor&) { return mean(scores); };
  const std::pair<const char*, const char*> settings[] = {{"train.reduction=mean_valid", "train.reduction"},
                                                          {"train.ohem.threshold=0.7", "train.ohem"},
                                                          {"train.class_weights=[1,1,1,1,1,1,1,1]", "train.class_weights"},
                                                          {"train.dice_weight=0.5", "train.dice_weight"}};
  StepSetup setup;
  for (const auto& [setting, key] : settings) {
    CAPTURE(setting);
    CHECK_THROWS_WITH(TrainStep(*setup.model, tiny_config({setting}), own), Catch::Contains(key) && Catch::Contains("one's own"));
  }
  for (const char* weights : {"[1,1,1,1,1,1,1]", "[1,1,1,1,1,1,1,1,1]"}) {
    CHECK_THROWS_WITH(TrainStep(*setup.model, tiny_config({std::string("train.class_weights=") + weights})),
                      Catch::Contains("class weights for 8 classes"));
  }
}

TEST_CASE("each pass of each update has a number of its own, and an observer is told of an update once", "[train_step]") {
  struct Count : StepObserver {
    int forwards = 0, backwards = 0, updates = 0;
    void before_forward(const Batch&) override { ++forwards; }
    void after_backward() override { ++backwards; }
    void after_update() override { ++updates; }
  } count;
  StepSetup setup({"train.accumulate=2", "optimizer.lr=0", "schedule.min_lr=0"}), separate({"optimizer.lr=0", "schedule.min_lr=0"});
  std::vector<double> losses;
  for (int64_t pass = 0; pass < 4; ++pass) losses.push_back(separate.run(pass).loss);
  setup.step->run(0, [&] { return setup.loader->next(); }, &count);
  CHECK(count.forwards == 1);
  CHECK(count.backwards == 1);
  CHECK(count.updates == 1);
  CHECK(setup.run(1).loss == Approx((losses[2] + losses[3]) / 2).epsilon(1e-12));  // passes 2 and 3, as their dropout shows
}
