// Networks against PyTorch with weights that are functions of their names (tools/network_goldens.py writes tests/golden): names of
// the state, scores, loss, every gradient and every running statistic, without and with scale equalizers. In float64.
#include <nlohmann/json.hpp>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/safetensors.h"
#include "hashed_weights.h"
#include "models/segmentor.h"
#include "support.h"
#include "training/config.h"

using namespace eq;
using namespace eq::test;

namespace {

constexpr int64_t kBatch = 3, kHeight = 72, kWidth = 40, kClasses = 5;
constexpr double kAuxWeight = 0.4;

Tensor to_nhwc(const Tensor& x) { return permute(x, {0, 2, 3, 1}); }

struct Golden {
  explicit Golden(const std::string& name) : file(read_safetensors(EQ_GOLDEN_DIR "/" + name + ".safetensors")) {
    const auto section = nlohmann::json::parse(file.metadata.at("model"));
    options = parse_config(nlohmann::json{{"model", section}}.dump(), name).model;
    options.num_classes = kClasses;
  }
  WeightsFile file;
  ModelOptions options;
};

std::unique_ptr<EncoderDecoder> build(const ModelOptions& options) {
  const InitRandom random(1, DType::kFloat64);
  auto model = std::make_unique<EncoderDecoder>(options);
  auto state = model->state_dict();
  for (auto& [name, value] : state) {
    if (is_floating(value.dtype())) value = initial_value(name, value.shape());
  }
  model->load_state_dict(state);
  return model;
}

struct Batch {
  Tensor images = to_nhwc(4.0 * hashed("images", {kBatch, 3, kHeight, kWidth}) - 2.0);
  Tensor labels = Tensor::empty({kBatch, kHeight, kWidth}, DType::kUInt8);
  Batch() {
    const Tensor classes = hashed("labels", labels.shape()), ignored = hashed("ignored", labels.shape());
    for (int64_t i = 0; i < labels.numel(); ++i) {
      labels.data<uint8_t>()[i] = ignored.value_at(i) < 0.1 ? 255 : uint8_t(classes.value_at(i) * kClasses);
    }
  }
};

// Norm, and the product with numbers that depend on the name.
std::array<double, 2> digest(const std::string& name, const Tensor& value) {
  const Tensor weights = hashed(name + "#", value.shape());
  double squares = 0, product = 0;
  for (int64_t i = 0; i < value.numel(); ++i) {
    squares += value.value_at(i) * value.value_at(i);
    product += value.value_at(i) * (weights.value_at(i) - 0.5);
  }
  return {std::sqrt(squares), product};
}

// `values` by name against the file's rows in the names' order. Rounding is measured on the scale of a value's norm, or on a small share of
// the largest norm where that is more: a gradient may be zero but for rounding.
void check_digests(const std::map<std::string, Tensor>& values, const Tensor& expected, double tolerance) {
  REQUIRE(expected.size(0) == int64_t(values.size()));
  double largest = 0;
  for (int64_t row = 0; row < expected.size(0); ++row) largest = std::max(largest, expected.value_at(2 * row));
  int64_t row = 0;
  for (const auto& [name, value] : values) {
    INFO(name);
    REQUIRE(value.defined());
    const auto [norm, product] = digest(name, value);
    const double expected_norm = expected.value_at(2 * row), scale = std::max(expected_norm, 1e-5 * largest);
    CHECK(expected_norm > 0);  // whatever is there takes part
    CHECK(std::abs(norm - expected_norm) <= tolerance * scale);
    CHECK(std::abs(product - expected.value_at(2 * row + 1)) <= tolerance * scale * std::sqrt(double(value.numel())));
    ++row;
  }
}

Tensor loss_of(const EncoderDecoder& model, const SegmentorOutput& output, const Tensor& labels) {
  const auto part = [&](const Tensor& logits) {
    return cross_entropy(resize_bilinear(logits, kHeight, kWidth, model.align_corners()), labels);
  };
  return output.aux_logits.defined() ? part(output.logits) + kAuxWeight * part(output.aux_logits) : part(output.logits);
}

void check_pass(const Golden& golden, EncoderDecoder& model, const std::string& prefix) {
  const auto expected = [&](const std::string& key) { return golden.file.tensors.at(prefix + key); };
  const Batch batch;
  {
    NoGradGuard no_grad;
    model.eval();
    check_close(model.forward(batch.images).logits, to_nhwc(expected("eval_logits")), 1e-9);
    model.train();
  }
  const SegmentorOutput output = model.forward(batch.images);
  check_close(output.logits, to_nhwc(expected("logits")), 1e-9);
  REQUIRE(output.aux_logits.defined() == (golden.file.tensors.count(prefix + "aux_logits") == 1));
  if (output.aux_logits.defined()) check_close(output.aux_logits, to_nhwc(expected("aux_logits")), 1e-9);
  const Tensor loss = loss_of(model, output, batch.labels);
  check_close(loss, expected("loss"), 1e-10);
  loss.backward();

  std::map<std::string, Tensor> gradients, buffers;
  for (const auto& parameter : model.named_parameters()) {
    const Tensor gradient = parameter.tensor.grad();
    gradients[parameter.name] =
        gradient.defined() && parameter.layout == FileLayout::kConvWeight ? permute(gradient, {0, 3, 1, 2}) : gradient;
  }
  for (const auto& buffer : model.named_buffers()) {
    if (buffer.name.ends_with("running_mean") || buffer.name.ends_with("running_var")) buffers[buffer.name] = buffer.tensor;
  }
  check_digests(gradients, expected("grad_digests"), 1e-6);
  check_digests(buffers, expected("buffer_digests"), 1e-9);
}

}  // namespace

TEST_CASE("golden: heads and backbones against PyTorch", "[models][golden]") {
  for (const char* name : {"psp_resnet18_d8", "aspp_resnet18_d16", "sep_aspp_mobilenet_d8", "sep_aspp_without_c1", "upernet_mobilenet",
                           "fcn_hrnet_w18_small", "fcn_resize_concat", "upernet_swin", "fcn_swin_base", "upernet_convnext",
                           "upernet_twins_svt", "fcn_twins_pcpvt"}) {
    INFO(name);
    const Golden golden(name);
    auto model = build(golden.options);
    std::string names;
    for (const auto& [key, value] : model->state_dict()) names += (names.empty() ? "" : " ") + key;
    CHECK(names == golden.file.metadata.at("state_names"));
    check_pass(golden, *model, "");

    ModelOptions equalized = golden.options;
    equalized.equalizer.mode = "explicit";
    check_pass(golden, *build(equalized), "equalized.");
  }
}
