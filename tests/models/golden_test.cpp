// Whole networks against PyTorch (tests/golden, written by tools/make_goldens.py): the same weights, pictures and labels must
// give the same scores, loss, gradients, running statistics and, over ten SGD steps, losses.
#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/safetensors.h"
#include "models/segmentor.h"
#include "support.h"
#include "training/optimizer.h"

using namespace eq;
using namespace eq::test;
using nlohmann::json;

namespace {

constexpr double kAuxWeight = 0.4;

HeadOptions head_options(const json& o) {
  HeadOptions head;
  head.type = o.at("type");
  head.channels = o.at("channels");
  head.dropout = o.at("dropout");
  head.in_index = o.value("in_index", head.in_index);
  head.pool_scales = o.value("pool_scales", head.pool_scales);
  head.num_convs = o.value("num_convs", head.num_convs);
  head.kernel_size = o.value("kernel_size", head.kernel_size);
  head.concat_input = o.value("concat_input", head.concat_input);
  return head;
}

ModelOptions model_options(const json& o) {
  ModelOptions options;
  options.num_classes = o.at("num_classes");
  options.align_corners = o.at("align_corners");
  options.backbone.depth = o.at("backbone").at("depth");
  options.backbone.stem = o.at("backbone").at("stem");
  options.backbone.width = o.at("backbone").at("width");
  options.backbone.output_stride = o.at("backbone").at("output_stride");
  options.decode_head = head_options(o.at("decode_head"));
  if (o.contains("auxiliary_head")) options.auxiliary_head = head_options(o.at("auxiliary_head"));
  return options;
}

Tensor to_nhwc(const Tensor& x) { return permute(x, {0, 2, 3, 1}); }

// One file, and the part of it that concerns the network with or without equalizers.
class Golden {
 public:
  Golden(const std::string& name, bool equalized)
      : file_(read_safetensors(EQ_GOLDEN_DIR "/" + name + ".safetensors")), prefix_(equalized ? "equalized." : "") {
    options_ = model_options(json::parse(file_.metadata.at("model")));
    if (equalized) options_.equalizer.mode = "explicit";
  }

  std::unique_ptr<EncoderDecoder> model(DType dtype) const {
    const InitRandom random(1, dtype);
    auto model = std::make_unique<EncoderDecoder>(options_);
    auto state = under("state.");
    if (!prefix_.empty()) state.merge(under(prefix_ + "state."));
    model->load_state_dict(state);
    return model;
  }
  Tensor images(DType dtype) const { return to_nhwc(file_.tensors.at("images")).to(dtype); }
  const Tensor& labels() const { return file_.tensors.at("labels"); }

  bool has(const std::string& key) const { return file_.tensors.count(prefix_ + key) != 0; }
  const Tensor& operator[](const std::string& key) const { return file_.tensors.at(prefix_ + key); }
  std::map<std::string, Tensor> all(const std::string& group) const { return under(prefix_ + group); }

 private:
  std::map<std::string, Tensor> under(const std::string& prefix) const {
    std::map<std::string, Tensor> found;
    for (const auto& [key, tensor] : file_.tensors) {
      if (key.rfind(prefix, 0) == 0) found[key.substr(prefix.size())] = tensor;
    }
    return found;
  }

  WeightsFile file_;
  std::string prefix_;
  ModelOptions options_;
};

// mmsegmentation's: at the labels' size, ignored pixels counting in the mean.
Tensor loss_of(const EncoderDecoder& model, const SegmentorOutput& output, const Tensor& labels) {
  auto part = [&](const Tensor& logits) {
    return cross_entropy(resize_bilinear(logits, labels.size(1), labels.size(2), model.align_corners()), labels);
  };
  const Tensor loss = part(output.logits);
  return output.aux_logits.defined() ? add(loss, mul(part(output.aux_logits), kAuxWeight)) : loss;
}

// Largest |a - b| as a share of the largest |b|, or of `floor` where that is larger.
double relative_difference(const Tensor& a, const Tensor& b, double floor = 1e-300) {
  if (!a.defined() || !(a.shape() == b.shape())) return INFINITY;
  double scale = floor, worst = 0;
  for (int64_t i = 0; i < b.numel(); ++i) {
    const double difference = std::abs(a.value_at(i) - b.value_at(i));
    if (std::isnan(difference)) return INFINITY;
    worst = std::max(worst, difference);
    scale = std::max(scale, std::abs(b.value_at(i)));
  }
  return worst / scale;
}

// One training step's values and gradients, then evaluation. `value` and `gradient`: tolerances.
void check_step(const Golden& golden, DType dtype, double value, double gradient) {
  auto model = golden.model(dtype);
  {
    NoGradGuard no_grad;
    model->eval();
    CHECK(relative_difference(model->forward(golden.images(dtype)).logits, to_nhwc(golden["eval_logits"])) <= value);
    model->train();
  }
  const SegmentorOutput output = model->forward(golden.images(dtype));
  CHECK(output.logits.dtype() == dtype);
  CHECK(relative_difference(output.logits, to_nhwc(golden["logits"])) <= value);
  REQUIRE(output.aux_logits.defined() == golden.has("aux_logits"));
  if (output.aux_logits.defined()) CHECK(relative_difference(output.aux_logits, to_nhwc(golden["aux_logits"])) <= value);
  const Tensor loss = loss_of(*model, output, golden.labels());
  CHECK(relative_difference(loss, golden["loss"]) <= value);
  loss.backward();

  double largest = 0;  // a gradient that is zero but for rounding is compared on this scale
  const auto gradients = golden.all("grad.");
  for (const auto& [name, expected] : gradients) {
    for (int64_t i = 0; i < expected.numel(); ++i) largest = std::max(largest, std::abs(expected.value_at(i)));
  }
  size_t compared = 0;
  for (const auto& parameter : model->named_parameters()) {
    const auto expected = gradients.find(parameter.name);
    if (expected == gradients.end()) continue;
    INFO(parameter.name);
    REQUIRE(parameter.tensor.grad().defined());
    const bool is_filter = parameter.layout == FileLayout::kConvWeight;
    const Tensor wanted = is_filter ? to_nhwc(expected->second) : expected->second;
    CHECK(relative_difference(parameter.tensor.grad(), wanted, 1e-4 * largest) <= gradient);
    ++compared;
  }
  CHECK(compared == gradients.size());

  const auto state = model->state_dict();
  const auto after = golden.all("after.");
  CHECK(after.size() > 30);
  for (const auto& [name, expected] : after) {
    INFO(name);
    CHECK(relative_difference(state.at(name), expected) <= value);
  }
}

// The losses before each of `steps` SGD steps (the file holds ten).
void check_trajectory(const Golden& golden, DType dtype, int64_t steps, double tolerance) {
  auto model = golden.model(dtype);
  const Tensor images = golden.images(dtype);
  OptimizerOptions options;
  options.type = "sgd";
  options.momentum = 0.9;
  options.weight_decay = 5e-4;
  auto optimizer = make_optimizer(optimizer_parameters(*model), options);
  const Tensor& losses = golden["losses"];
  REQUIRE(losses.numel() == 10);
  CHECK(losses.value_at(9) < 0.95 * losses.value_at(0));  // it does learn: the steps are not no-ops
  for (int64_t step = 0; step < steps; ++step) {
    model->zero_grad();
    const Tensor loss = loss_of(*model, model->forward(images), golden.labels());
    INFO("step " << step << ": " << loss.item() << ", PyTorch " << losses.value_at(step));
    CHECK(std::abs(loss.item() / losses.value_at(step) - 1) <= tolerance);
    loss.backward();
    optimizer->step(0.01);
  }
}

}  // namespace

TEST_CASE("golden: UPerNet-ResNet-18, one step in float64", "[models][golden]") {
  check_step(Golden("upernet_resnet18", false), DType::kFloat64, 1e-9, 1e-6);
}

TEST_CASE("golden: UPerNet-ResNet-18 with scale equalizers, one step in float64", "[models][golden]") {
  check_step(Golden("upernet_resnet18", true), DType::kFloat64, 1e-9, 1e-6);
}

TEST_CASE("golden: FCN-ResNet-18 at output stride 8, one step in float64", "[models][golden]") {
  check_step(Golden("fcn_resnet18_d8", false), DType::kFloat64, 1e-9, 1e-6);
}

TEST_CASE("golden: FCN-ResNet-50 at output stride 16, one step in float64", "[models][golden]") {
  check_step(Golden("fcn_resnet50_d16", false), DType::kFloat64, 1e-9, 1e-6);
}

TEST_CASE("golden: UPerNet-ResNet-18, one step in float32", "[models][golden]") {
  check_step(Golden("upernet_resnet18", false), DType::kFloat32, 1e-4, 1e-2);
}

TEST_CASE("golden: UPerNet-ResNet-18, ten SGD steps", "[models][golden]") {
  const Golden golden("upernet_resnet18", false);
  check_trajectory(golden, DType::kFloat64, 3, 1e-8);
  check_trajectory(golden, DType::kFloat32, 10, 1e-4);
}

TEST_CASE("golden: UPerNet-ResNet-18 with scale equalizers, ten SGD steps", "[models][golden]") {
  check_trajectory(Golden("upernet_resnet18", true), DType::kFloat32, 10, 1e-4);
}
