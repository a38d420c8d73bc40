// Two traces beside each other: what follows the batch, and what must not differ.
#include "onnx/translation.h"

#include <functional>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "onnx/external.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

using Function = std::function<Tensor(const Tensor& x)>;

// The bytes of y = function(x), x [N,3,4].
std::string translated(const Function& function, int64_t batch = 1, int64_t other_batch = 2) {
  NoGradGuard no_grad;
  const Tensor x = random_tensor({batch, 3, 4}, 1, DType::kFloat32), other = random_tensor({other_batch, 3, 4}, 2, DType::kFloat32);
  Trace trace({x});
  const int result = trace.find(function(x));
  trace.end();
  Trace beside({other});
  function(other);
  beside.end();
  OnnxGraph graph("test");
  OnnxTranslation to(graph, trace, beside, {});
  to.name_last(0, graph.input("x", DType::kFloat32, to.extents(0)));
  to.run();
  graph.add("Identity", {to.last(result)}, {}, "y");
  graph.output("y", DType::kFloat32, to.extents(result));
  return graph.bytes();
}

}  // namespace

TEST_CASE("onnx: extents that follow the batch stay open", "[onnx]") {
  const auto flat = [](const Tensor& x) { return reshape(x, {x.size(0) * 3, 4}); };
  const std::string open = translated(flat), fixed = translated(flat, 2, 2);
  CHECK(open.find("batch") != std::string::npos);
  CHECK(fixed.find("batch") == std::string::npos);
  CHECK_NOTHROW(check_onnx(open));
  CHECK_NOTHROW(check_onnx(fixed));
}

TEST_CASE("onnx: what slipped past the operators is an error, not a constant", "[onnx]") {
  const auto smuggled = [](const Tensor& x) {  // the mean of a picture, computed by hand and from a copy, so that no trace sees it
    double sum = 0;
    for (const float value : x.clone().to_vector<float>()) sum += value;
    return mul(x, Tensor::full({1}, sum));
  };
  CHECK_THROWS_WITH(translated(smuggled), Catch::Contains("differ in more than the batch"));
  CHECK_THROWS_WITH(translated(smuggled, 2, 2), Catch::Contains("differ in more than the batch"));
  const auto by_number = [](const Tensor& x) { return mul(x, x.clone().value_at(0)); };
  CHECK_THROWS_WITH(translated(by_number), Catch::Contains("differ in more than the batch"));
  const auto by_place = [](const Tensor& x) { return slice(x, 1, x.clone().value_at(0) > x.clone().value_at(1), 2); };
  CHECK_THROWS_WITH(translated([=](const Tensor& x) { return by_place(x.size(0) == 1 ? neg(x) : neg(x)); }, 1, 1),
                    Catch::Contains("differ"));
  const auto branching = [](const Tensor& x) { return x.size(0) == 1 ? exp(x) : neg(x); };
  CHECK_THROWS_WITH(translated(branching), Catch::Contains("differ in more than the batch"));
  const auto longer = [](const Tensor& x) { return x.size(0) == 1 ? exp(x) : neg(exp(x)); };
  CHECK_THROWS_WITH(translated(longer), Catch::Contains("differ in more than the batch"));
}

TEST_CASE("onnx: a result that did not come through operators is an error", "[onnx]") {
  const Function untraced[] = {[](const Tensor& x) { return exp(x).clone(); },
                               [](const Tensor& x) { return Tensor::zeros(x.shape()); }};
  for (const Function& function : untraced) {
    CHECK_THROWS_WITH(translated(function), Catch::Contains("did not come from the input through operators"));
  }
  NoGradGuard no_grad;
  Trace trace({Tensor::zeros({1, 3})});
  trace.end();
  OnnxGraph graph("test");
  OnnxTranslation to(graph, trace, trace, {});
  CHECK_THROWS_AS(to.first(-1), UsageError);
  CHECK_THROWS_AS(to.shape(-1), UsageError);
  CHECK_THROWS_AS(to.extents(-1), UsageError);
  CHECK_THROWS_AS(to.last(1), UsageError);
}

TEST_CASE("onnx: what ONNX cannot say of any batch can be said of one", "[onnx]") {
  const Function impossible[] = {
      [](const Tensor& x) { return slice(x, 0, 0, 1); },
      [](const Tensor& x) { return expand(reshape(mean(x, {0}), {1, 3, 4}), {x.size(0), 3, 4}); },
      [](const Tensor& x) { return resize_nearest(reshape(permute(x, {1, 0, 2}), {1, 3, x.size(0), 4}), 6, 2 * x.size(0)); }};
  for (const Function& function : impossible) {
    CHECK_THROWS_WITH(translated(function), Catch::Contains("export for one size of batch"));
    CHECK_NOTHROW(check_onnx(translated(function, 2, 2)));
  }
}

TEST_CASE("onnx: the builder refuses what the format has no place for", "[onnx]") {
  OnnxGraph graph("test");
  CHECK_THROWS_AS(graph.constant(Tensor::zeros({2}, DType::kBFloat16)), DTypeError);
  CHECK(graph.add("Relu", {"x"}) == "Relu");
  CHECK(graph.add("Relu", {"x"}) == "Relu_1");
  CHECK(graph.add("Relu", {"x"}, {}, "Relu_1") == "Relu_1_1");
  CHECK(graph.constant({1, 2, 3}) == graph.constant({1, 2, 3}));
  graph.constant(Tensor::empty({int64_t{1} << 31}, DType::kUInt8));  // never touched
  CHECK_THROWS_WITH(graph.bytes(), Catch::Contains("2 GiB"));
}

TEST_CASE("onnx: traces that differ in wiring, ranks or views of one constant differ in more than the batch", "[onnx]") {
  const Tensor table = random_tensor({2, 4}, 3, DType::kFloat32);
  const Function unlike[] = {
      [](const Tensor& x) {
        const Tensor a = exp(x), b = neg(x);
        return x.size(0) == 1 ? sub(a, b) : sub(b, a);
      },
      [](const Tensor& x) { return x.size(0) == 1 ? reshape(x, {12}) : reshape(x, {2, 12}); },
      [=](const Tensor& x) { return add(x, table.alias({4}, x.size(0) == 1 ? 0 : 4)); }};  // a row of the table, chosen by hand
  for (const Function& function : unlike) CHECK_THROWS_WITH(translated(function), Catch::Contains("differ in more than the batch"));
  CHECK_NOTHROW(translated([=](const Tensor& x) { return add(x, table.alias({4}, 4)); }));
  CHECK_THROWS_WITH(translated([](const Tensor& x) { return expand(mean(x, {0}), {x.size(0), 3, 4}); }),
                    Catch::Contains("export for one size of batch"));
}

TEST_CASE("onnx: batch norm in training is refused", "[onnx]") {
  Tensor mean = Tensor::zeros({4}), var = Tensor::full({4}, 1);
  const auto training = [&](const Tensor& x) {
    return batch_norm(x, {}, {}, mean, var, {.training = true});
  };
  CHECK_THROWS_WITH(translated(training), Catch::Contains("call eval() on the network first"));
}

TEST_CASE("onnx: a weight that is computed from the picture is refused", "[onnx]") {
  const auto computed = [](const Tensor& x) { return linear(x, reshape(mean(x, {0, 1}), {1, 4}), {}); };
  CHECK_THROWS_WITH(translated(computed), Catch::Contains("a weight that is computed from the picture"));
}

TEST_CASE("onnx: neither two extents nor a constant may follow the batch", "[onnx]") {
  const auto between_pictures = [](const Tensor& x) {
    const Tensor rows = reshape(x, {x.size(0), 12});
    return matmul(rows, rows, true);
  };
  CHECK_THROWS_WITH(translated(between_pictures), Catch::Contains("several extents of a value follow the batch"));
  CHECK_NOTHROW(check_onnx(translated(between_pictures, 2, 2)));
  // As large as the batch that was traced: the values are equal as far as the smaller one goes.
  const auto as_large = [](const Tensor& x) { return add(x, Tensor::full({x.size(0), 1, 1}, 0.5)); };
  CHECK_THROWS_WITH(translated(as_large), Catch::Contains("differ in more than the batch"));
}
