// Every operator against PyTorch: values and gradients from tests/golden, which tools/make_goldens.py wrote in float64.
// Inputs are multiples of 1/1024, so the same answers also test float32.
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/functional.h"
#include "core/safetensors.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using nlohmann::json;

namespace {

// Of the largest value of the expected tensor.
constexpr double kDoubleTolerance = 1e-10;
constexpr double kFloatTolerance = 1e-4;

class Case {
 public:
  Case(std::string name, const json& options, std::map<std::string, Tensor> tensors, DType dtype)
      : options(options), name_(std::move(name)), tensors_(std::move(tensors)), dtype_(dtype) {}

  bool has(const std::string& key) const { return tensors_.count(key) != 0; }

  // The named input, in the tested type; a leaf if the file has a gradient for it; undefined if the case has no such input.
  Tensor operator()(const std::string& key) {
    if (!has(key)) return {};
    Tensor value = constant(key);
    if (!has("grad_" + key)) return value;
    auto [entry, is_new] = leaves_.emplace(key, value);
    if (is_new) entry->second.set_requires_grad();
    return entry->second;
  }
  // A copy that needs no gradient. Integers keep their type.
  Tensor constant(const std::string& key) const {
    const auto found = tensors_.find(key);
    if (found == tensors_.end()) return {};
    return (is_floating(found->second.dtype()) ? found->second.to(dtype_) : found->second).clone();
  }
  void expect(const Tensor& actual, const std::string& key) const {
    INFO(name_ << ": " << key << " in " << name_of(dtype_));
    const Tensor& expected = tensors_.at(key);
    REQUIRE(actual.defined());
    CHECK((!is_floating(actual.dtype()) || actual.dtype() == dtype_));
    REQUIRE(actual.shape() == expected.shape());
    double scale = 0, worst = 0;
    for (int64_t i = 0; i < expected.numel(); ++i) scale = std::max(scale, std::abs(expected.value_at(i)));
    for (int64_t i = 0; i < expected.numel(); ++i) {
      const double difference = std::abs(actual.value_at(i) - expected.value_at(i));
      worst = difference <= worst ? worst : difference;  // NaN becomes the worst and stays
      if (std::isnan(difference)) break;
    }
    const double tolerance = dtype_ == DType::kFloat64 ? kDoubleTolerance : kFloatTolerance;
    INFO("largest difference " << worst << ", largest value " << scale);
    CHECK(worst <= tolerance * scale);
  }
  // The result of the operator and, through backward(), the gradient of every input.
  void check(const Tensor& output) {
    expect(output, "output");
    if (!has("grad_output")) return;
    output.backward(constant("grad_output"));
    for (const auto& [key, unused] : tensors_) {
      if (key.rfind("grad_", 0) != 0 || key == "grad_output") continue;
      const auto leaf = leaves_.find(key.substr(5));
      if (leaf == leaves_.end()) FAIL(name_ << ": the test does not give the operator " << key.substr(5));
      expect(leaf->second.grad(), key);
    }
  }

  json options;

 private:
  std::string name_;
  std::map<std::string, Tensor> tensors_;
  DType dtype_;
  std::map<std::string, Tensor> leaves_;
};

// Runs `run` on every case of the file whose options name `op` (every case if empty), in both precisions.
template <class Run>
void check_golden(const std::string& file, const std::string& op, Run run) {
  const WeightsFile golden = read_safetensors(EQ_GOLDEN_DIR "/" + file + ".safetensors");
  int checked = 0;
  for (const auto& [name, text] : golden.metadata) {
    const json options = json::parse(text);
    if (!op.empty() && options.at("op") != op) continue;
    std::map<std::string, Tensor> tensors;
    for (const auto& [key, tensor] : golden.tensors) {
      if (key.rfind(name + ".", 0) == 0) tensors[key.substr(name.size() + 1)] = tensor;
    }
    for (DType dtype : {DType::kFloat64, DType::kFloat32}) {
      INFO(file << ": " << name << " in " << name_of(dtype));
      Case one(name, options, tensors, dtype);
      one.check(run(one));
    }
    ++checked;
  }
  INFO(file << " " << op);
  REQUIRE(checked > 0);
}

template <class Run>
void check_golden(const std::string& file, Run run) { check_golden(file, "", run); }

std::vector<int> axes_of(const json& options) { return options.at("axes").get<std::vector<int>>(); }

Shape shape_of(const json& extents) { return Shape(extents.get<std::vector<int64_t>>()); }

std::vector<Tensor> branches(Case& c) {
  std::vector<Tensor> inputs;
  for (int i = 0; c.has("x" + std::to_string(i)); ++i) inputs.push_back(c("x" + std::to_string(i)));
  return inputs;
}

Conv2dOptions conv_options(const json& o) {
  Conv2dOptions options;
  options.stride_h = o["stride"][0], options.stride_w = o["stride"][1];
  options.dilation_h = o["dilation"][0], options.dilation_w = o["dilation"][1];
  options.pad_top = o["pad"][0], options.pad_bottom = o["pad"][1];
  options.pad_left = o["pad"][2], options.pad_right = o["pad"][3];
  options.groups = o["groups"];
  return options;
}

Pool2dOptions pool_options(const json& o) {
  Pool2dOptions options;
  options.kernel_h = o["kernel"][0], options.kernel_w = o["kernel"][1];
  options.stride_h = o["stride"][0], options.stride_w = o["stride"][1];
  options.pad_h = o["pad"][0], options.pad_w = o["pad"][1];
  options.ceil_mode = o["ceil_mode"];
  options.count_include_pad = o.value("count_include_pad", true);
  return options;
}

}  // namespace

TEST_CASE("golden: binary operators", "[golden]") {
  check_golden("binary", "add", [](Case& c) { return add(c("a"), c("b")); });
  check_golden("binary", "sub", [](Case& c) { return sub(c("a"), c("b")); });
  check_golden("binary", "mul", [](Case& c) { return mul(c("a"), c("b")); });
  check_golden("binary", "div", [](Case& c) { return div(c("a"), c("b")); });
  check_golden("binary", "maximum", [](Case& c) { return maximum(c("a"), c("b")); });
  check_golden("binary", "minimum", [](Case& c) { return minimum(c("a"), c("b")); });
}

TEST_CASE("golden: unary operators", "[golden]") {
  const struct {
    const char* name;
    Tensor (*function)(const Tensor&);
  } operators[] = {{"neg", neg},   {"exp", exp},         {"log", log},           {"sqrt", sqrt},           {"rsqrt", rsqrt},
                   {"abs", abs},   {"square", square},   {"sin", sin},           {"cos", cos},             {"tanh", tanh},
                   {"relu", relu}, {"sigmoid", sigmoid}, {"softplus", softplus}, {"hardswish", hardswish}, {"relu6", relu6},
                   {"gelu", gelu}, {"silu", silu},       {"reciprocal", reciprocal}};
  for (const auto& [name, function] : operators) {
    check_golden("unary", name, [function = function](Case& c) { return function(c("x")); });
  }
}

TEST_CASE("golden: unary operators with a parameter", "[golden]") {
  check_golden("unary", "leaky_relu", [](Case& c) { return leaky_relu(c("x"), c.options["slope"]); });
  check_golden("unary", "clamp", [](Case& c) { return clamp(c("x"), c.options["low"], c.options["high"]); });
  check_golden("unary", "pow", [](Case& c) { return pow(c("x"), c.options["value"].get<double>()); });
  check_golden("unary", "add_scalar", [](Case& c) { return add(c("x"), c.options["value"].get<double>()); });
  check_golden("unary", "mul_scalar", [](Case& c) { return mul(c("x"), c.options["value"].get<double>()); });
}

TEST_CASE("golden: reductions", "[golden]") {
  check_golden("reduce", "sum", [](Case& c) { return sum(c("x"), axes_of(c.options), c.options["keepdim"]); });
  check_golden("reduce", "mean", [](Case& c) { return mean(c("x"), axes_of(c.options), c.options["keepdim"]); });
  check_golden("reduce", "var",
               [](Case& c) { return var(c("x"), axes_of(c.options), c.options["unbiased"], c.options["keepdim"]); });
  check_golden("reduce", "max", [](Case& c) { return max(c("x"), c.options["axis"], c.options["keepdim"]); });
  check_golden("reduce", "argmax", [](Case& c) { return argmax(c("x"), c.options["axis"]); });
}

TEST_CASE("golden: operators on shapes", "[golden]") {
  check_golden("shape", "reshape", [](Case& c) { return reshape(c("x"), c.options["extents"].get<std::vector<int64_t>>()); });
  check_golden("shape", "permute", [](Case& c) { return permute(c("x"), axes_of(c.options)); });
  check_golden("shape", "transpose", [](Case& c) { return transpose(c("x"), c.options["a"], c.options["b"]); });
  check_golden("shape", "expand", [](Case& c) { return expand(c("x"), shape_of(c.options["shape"])); });
  check_golden("shape", "slice",
               [](Case& c) { return slice(c("x"), c.options["axis"], c.options["begin"], c.options["end"]); });
  check_golden("shape", "concat", [](Case& c) { return concat(branches(c), c.options["axis"].get<int>()); });
  check_golden("shape", "split", [](Case& c) {  // two of the parts, joined the other way round
    const std::vector<Tensor> parts = split(c("x"), c.options["extents"].get<std::vector<int64_t>>(), c.options["axis"]);
    return concat({parts[2], parts[0]}, c.options["axis"].get<int>());
  });
  check_golden("shape", "pad2d", [](Case& c) {
    const json& o = c.options;
    return pad2d(c("x"), o["top"], o["bottom"], o["left"], o["right"], o["value"]);
  });
  check_golden("shape", "split_windows", [](Case& c) { return split_windows(c("x"), c.options["size"], c.options["shift"]); });
}

TEST_CASE("golden: matmul", "[golden]") {
  check_golden("matmul", [](Case& c) { return matmul(c("a"), c("b"), c.options.value("transpose_b", false)); });
}

TEST_CASE("golden: linear", "[golden]") {
  check_golden("linear", [](Case& c) { return linear(c("x"), c("weight"), c("bias")); });
}

TEST_CASE("golden: conv2d", "[golden]") {
  check_golden("conv2d", [](Case& c) { return conv2d(c("x"), c("weight"), c("bias"), conv_options(c.options)); });
}

TEST_CASE("golden: conv2d in groups", "[golden]") {
  check_golden("conv2d_grouped", [](Case& c) { return conv2d(c("x"), c("weight"), c("bias"), conv_options(c.options)); });
}

TEST_CASE("golden: max_pool2d", "[golden]") {
  check_golden("pool2d", "max", [](Case& c) { return max_pool2d(c("x"), pool_options(c.options)); });
}

TEST_CASE("golden: avg_pool2d", "[golden]") {
  check_golden("pool2d", "avg", [](Case& c) { return avg_pool2d(c("x"), pool_options(c.options)); });
}

TEST_CASE("golden: adaptive_avg_pool2d", "[golden]") {
  check_golden("pool2d", "adaptive",
               [](Case& c) { return adaptive_avg_pool2d(c("x"), c.options["out"][0], c.options["out"][1]); });
}

TEST_CASE("golden: resize_bilinear", "[golden]") {
  check_golden("resize", "bilinear", [](Case& c) {
    return resize_bilinear(c("x"), c.options["out"][0], c.options["out"][1], c.options["align_corners"]);
  });
}

TEST_CASE("golden: resize_nearest", "[golden]") {
  check_golden("resize", "nearest", [](Case& c) { return resize_nearest(c("x"), c.options["out"][0], c.options["out"][1]); });
}

TEST_CASE("golden: fuse_levels", "[golden]") {
  check_golden("fuse_levels", [](Case& c) {
    const std::vector<Tensor> inputs = branches(c);
    FuseLevelsOptions options;
    options.out_h = c.options["out"][0], options.out_w = c.options["out"][1];
    options.align_corners = c.options["align_corners"];
    bool equalized = false;
    for (size_t i = 0; i < inputs.size(); ++i) equalized |= c.has("shift" + std::to_string(i));
    for (size_t i = 0; equalized && i < inputs.size(); ++i) {
      options.shift.push_back(c.constant("shift" + std::to_string(i)));
      options.scale.push_back(c.constant("scale" + std::to_string(i)));
    }
    return fuse_levels(inputs, options);
  });
}

TEST_CASE("golden: batch_norm", "[golden]") {
  check_golden("batch_norm", [](Case& c) {
    BatchNormOptions options;
    options.eps = c.options["eps"];
    options.momentum = c.options["momentum"];
    options.training = c.options["training"];
    options.relu = c.options["relu"];
    Tensor mean = c.constant("running_mean"), var = c.constant("running_var");
    const Tensor y = batch_norm(c("x"), c("gamma"), c("beta"), mean, var, options);
    c.expect(mean, "running_mean_after");
    c.expect(var, "running_var_after");
    return y;
  });
}

TEST_CASE("golden: layer_norm", "[golden]") {
  check_golden("layer_and_group_norm", "layer",
               [](Case& c) { return layer_norm(c("x"), c("gamma"), c("beta"), c.options["eps"]); });
}

TEST_CASE("golden: group_norm", "[golden]") {
  check_golden("layer_and_group_norm", "group",
               [](Case& c) { return group_norm(c("x"), c.options["groups"], c("gamma"), c("beta"), c.options["eps"]); });
}

TEST_CASE("golden: softmax and log_softmax", "[golden]") {
  check_golden("softmax", "softmax", [](Case& c) { return softmax(c("x")); });
  check_golden("softmax", "log_softmax", [](Case& c) { return log_softmax(c("x")); });
}

TEST_CASE("golden: cross_entropy", "[golden]") {
  const std::map<std::string, CrossEntropyOptions::Reduction> reductions = {
      {"mean_all", CrossEntropyOptions::Reduction::kMeanAll},
      {"mean_valid", CrossEntropyOptions::Reduction::kMeanValid},
      {"sum", CrossEntropyOptions::Reduction::kSum}};
  check_golden("cross_entropy", [&](Case& c) {
    CrossEntropyOptions options;
    options.ignore_index = c.options["ignore_index"];
    options.reduction = reductions.at(c.options["reduction"]);
    options.class_weights = c.constant("class_weights");
    return cross_entropy(c("logits"), c("labels"), options);
  });
}

TEST_CASE("golden: dice_loss", "[golden]") {
  check_golden("dice_loss", [](Case& c) {
    DiceLossOptions options{.ignore_index = c.options["ignore_index"], .mean = DiceLossOptions::Mean::kAll, .smooth = c.options["smooth"]};
    return dice_loss(c("logits"), c("labels"), options);
  });
}

TEST_CASE("golden: hard_examples", "[golden]") {
  check_golden("hard_examples", [](Case& c) {
    const Tensor logits = c("logits");
    const int64_t min_kept = c.options["min_kept"];
    return hard_examples(
        logits, c("labels"),
        {.threshold = c.options["threshold"], .min_kept = min_kept * logits.size(0), .ignore_index = c.options["ignore_index"]});
  });
}

TEST_CASE("golden: every case of every operator's file is one that a test runs", "[golden]") {
  // The tests above select cases by "op": a case with a name that no test asks for would silently go unchecked.
  const std::map<std::string, std::set<std::string>> known = {
      {"binary", {"add", "sub", "mul", "div", "maximum", "minimum"}},
      {"unary", {"neg", "exp", "log", "sqrt", "rsqrt", "square", "abs", "sin", "cos", "tanh", "sigmoid", "softplus", "relu",
                 "relu6", "gelu", "silu", "hardswish", "reciprocal", "leaky_relu", "clamp", "pow", "add_scalar", "mul_scalar"}},
      {"reduce", {"sum", "mean", "var", "max", "argmax"}},
      {"shape", {"reshape", "permute", "transpose", "expand", "slice", "concat", "split", "pad2d", "split_windows"}},
      {"pool2d", {"max", "avg", "adaptive"}},
      {"resize", {"bilinear", "nearest"}},
      {"layer_and_group_norm", {"layer", "group"}},
      {"softmax", {"softmax", "log_softmax"}}};
  for (const auto& [file, operators] : known) {
    for (const auto& [name, text] : read_safetensors(EQ_GOLDEN_DIR "/" + file + ".safetensors").metadata) {
      INFO(file << ": " << name);
      CHECK(operators.count(json::parse(text).at("op")) == 1);
    }
  }
}
