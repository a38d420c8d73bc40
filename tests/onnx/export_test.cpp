// One call from a function to a file.
#include "onnx/export.h"

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "layers/layers.h"
#include "onnx/external.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

TEST_CASE("onnx: the example of docs/onnx.md is what is compiled here, and its file is right", "[onnx]") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "model.onnx";
  // begin
  eq::Sequential model;
  model.append<eq::Conv2d>(3, 8, eq::Conv2dLayerOptions{.kernel_size = 3, .padding = 1});
  model.append<eq::BatchNorm2d>(8, eq::BatchNorm2dOptions{.relu = true});
  model.eval();
  const auto function = [&](const eq::Tensor& x) { return mean(model(x), {1, 2}); };
  eq::export_onnx(file, function, {1, 64, 64, 3}, {.names = model.memory_names()});
  // end
  const std::string source = read_file(std::filesystem::path(EQ_SOURCE_DIR) / "tests/onnx/export_test.cpp");
  const std::string doc = read_file(std::filesystem::path(EQ_SOURCE_DIR) / "docs/onnx.md");
  std::istringstream lines(source.substr(source.find("  // begin\n") + 11));
  for (std::string line; std::getline(lines, line) && line != "  // end";) {
    CHECK(doc.find("\n" + line.substr(2) + "\n") != std::string::npos);
  }

  const std::string bytes = read_file(file);
  CHECK_NOTHROW(check_onnx(bytes));
  for (const char* part : {"batch", "0.weight", "1.running_var", "input", "output"}) CHECK(bytes.find(part) != std::string::npos);
  const NoGradGuard no_grad;
  const Tensor x = random_tensor({1, 64, 64, 3}, 1, DType::kFloat32);
  if (const Tensor y = run_in_opencv(bytes, permute(x, {0, 3, 1, 2})); y.defined()) check_close(reshape(y, {1, 8}), function(x), 1e-5);
}

TEST_CASE("onnx: a function's file says its batch, its order and its names as asked", "[onnx]") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "function.onnx";
  const auto written = [&](const TensorFunction& function, const Shape& input, const OnnxFunctionOptions& options) {
    export_onnx(file, function, input, options);
    const std::string bytes = read_file(file);
    CHECK_NOTHROW(check_onnx(bytes));
    return bytes;
  };
  const auto pooled = [](const Tensor& x) { return max_pool2d(x, Pool2dOptions::square(2, 2)); };
  const std::string first = written(pooled, {2, 8, 6, 3}, {});
  CHECK(first.find("Transpose") == std::string::npos);
  CHECK(first.find("batch") != std::string::npos);
  const std::string last =
      written(pooled, {2, 8, 6, 3}, {.input = "picture", .output = "pooled", .any_batch = false, .channels_first = false});
  CHECK(last.find("Transpose") != std::string::npos);
  CHECK(last.find("batch") == std::string::npos);
  CHECK(last.find("picture") != std::string::npos);
  CHECK(last.find("pooled") != std::string::npos);
  written([](const Tensor& x) { return x; }, {3}, {.dtype = DType::kFloat64});
  written([](const Tensor& x) { return argmax(1.0 - x / 3.0, 0); }, {3, 4}, {.any_batch = false});
}

TEST_CASE("onnx: a function that cannot be exported is an error, and leaves no file", "[onnx]") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "function.onnx";
  CHECK_THROWS_WITH(export_onnx(file, [](const Tensor& x) { return exp(x).clone(); }, {2, 3}),
                    Catch::Contains("did not come from the input through operators"));
  CHECK_THROWS_WITH(export_onnx(file, [](const Tensor&) { return Tensor(); }, {2, 3}),
                    Catch::Contains("did not come from the input through operators"));
  CHECK_THROWS_WITH(export_onnx(file, [](const Tensor& x) { return x.to(DType::kFloat64).to(DType::kFloat32); }, {2, 3}),
                    Catch::Contains("outside of operators"));
  CHECK_THROWS_WITH(export_onnx(file, [](const Tensor& x) { return exp(x); }, {}), Catch::Contains("any_batch"));
  CHECK_FALSE(std::filesystem::exists(file));
}

TEST_CASE("onnx: a function that decides by a value of its input is an error, also where both of its calls decide alike", "[onnx]") {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "function.onnx";
  const auto exported = [&](const std::function<bool(const Tensor& x)>& condition) {
    export_onnx(file, [&](const Tensor& x) { return condition(x) ? x + x : x * x; }, {2, 3});
  };
  const auto refused = Catch::Contains("outside of operators");
  CHECK_THROWS_WITH(exported([](const Tensor& x) { return mean(exp(x)).item() > 1e6; }), refused);
  CHECK_THROWS_WITH(exported([](const Tensor& x) { return exp(x).to_vector<float>()[1] > 1e6; }), refused);
  CHECK_THROWS_WITH(exported([](const Tensor& x) { return x.data<float>()[2] > 1e6; }), refused);
  // A copy leaves no trace: what is decided by its sign or size differs all the same.
  const auto differ = Catch::Contains("differ in more than the batch");
  CHECK_THROWS_WITH(exported([](const Tensor& x) { return mean(x).clone().item() > 0; }), differ);
  CHECK_THROWS_WITH(exported([](const Tensor& x) { return square(x).clone().value_at(0) > 1; }), differ);
  CHECK_FALSE(std::filesystem::exists(file));
}
