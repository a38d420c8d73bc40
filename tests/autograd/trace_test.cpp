// What a trace notes, and what it refuses.
#include "autograd/trace.h"

#include <cstring>
#include <optional>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

std::vector<std::string> names(const Trace& trace) {
  std::vector<std::string> list;
  for (const TracedOperation& operation : trace.operations()) list.push_back(operation.op);
  return list;
}

// An operator that says nothing.
struct SilentBackward final : Node {
  SilentBackward() : Node("silent") {}
  TensorList backward(const TensorList& grads) override { return grads; }
};
Tensor silent(const Tensor& x) {
  const Tensor y = x.clone();
  record<SilentBackward>(y, {x});
  return y;
}

}  // namespace

TEST_CASE("a trace has operators, values and constants in their order", "[autograd][trace]") {
  const Tensor x = random_tensor({2, 3}, 1), weight = random_leaf({4, 3}, 2);
  Trace trace({x});
  const Tensor doubled = mul(weight, 2);  // of constants alone: a constant
  const Tensor y = relu(add(linear(x, doubled), linear(x, doubled)));
  trace.end();
  const Tensor after = relu(x);
  CHECK(names(trace) == std::vector<std::string>{"linear", "linear", "add", "relu"});
  CHECK(trace.find(x) == 0);
  CHECK(trace.find(y) == trace.operations().back().output);
  CHECK(trace.find(weight) == -1);
  CHECK(trace.find(after) == -1);
  const TracedOperation& first = trace.operations()[0];
  CHECK(first.inputs == std::vector<int>{0, 1, -1});
  CHECK(trace.operations()[1].inputs == first.inputs);  // one constant
  CHECK(trace.values()[1].constant.is_same(doubled));
  CHECK(trace.values().size() == 6);
  CHECK(trace.values()[size_t(first.output)].shape == Shape{2, 4});
}

TEST_CASE("parts of one memory are values of their own in a trace", "[autograd][trace]") {
  const Tensor x = random_tensor({2, 3}, 1), both = random_tensor({2, 3}, 2);
  const Tensor first = both.alias({1, 3}), second = slice(both, 0, 1, 2);
  Trace trace({x});
  const Tensor a = slice(x, 0, 0, 1), b = slice(x, 0, 1, 2);
  add(a, first);
  add(b, second);
  add(second, b);
  mul(a, both);
  add(b, both.alias({3}));
  trace.end();
  CHECK(trace.find(a) == trace.operations()[0].output);
  CHECK(trace.find(b) == trace.operations()[1].output);
  CHECK(trace.operations()[2].inputs[1] != trace.operations()[3].inputs[1]);
  CHECK(trace.operations()[4].inputs == std::vector<int>{trace.operations()[3].inputs[1], trace.find(b)});
  CHECK(trace.operations()[5].inputs[1] != trace.operations()[6].inputs[1]);
}

TEST_CASE("a trace that has ended keeps no results, and ends no other", "[autograd][trace]") {
  NoGradGuard no_grad;
  const Tensor x = random_tensor({2, 3}, 1);
  std::optional<Trace> first(std::in_place, std::vector<Tensor>{x});
  exp(x);
  first->end();
  CHECK_FALSE(first->values().back().constant.defined());
  const Trace second({x});
  first.reset();
  CHECK(tracing());
}

TEST_CASE("operators that do the work of several are traced as these", "[autograd][trace]") {
  NoGradGuard no_grad;
  const Tensor x = random_tensor({1, 6, 6, 2}, 1), weight = random_tensor({3, 3, 3, 2}, 2), both = random_tensor({3, 1, 1, 4}, 3);
  const InferenceNorm norm{.running_mean = random_tensor({3}, 4), .running_var = abs(random_tensor({3}, 5)), .relu = true};
  const FuseLevelsOptions levels{.out_h = 12, .out_w = 12};
  const auto run = [&] {
    const Tensor a = conv2d_batch_norm(x, weight, {}, Conv2dOptions().padding(1), norm, random_tensor({1, 6, 6, 3}, 6));
    const Tensor b = fused_conv2d_batch_norm({x, max_pool2d(x, {})}, both, {}, levels, {}, norm);
    return std::pair(a, b);
  };
  Trace trace({x});
  const auto traced = run();
  trace.end();
  CHECK(names(trace) ==
        std::vector<std::string>{"conv2d", "batch_norm", "add", "relu", "max_pool2d", "fuse_levels", "conv2d", "batch_norm"});
  CHECK(trace.operations()[1].as<BatchNormOptions>().relu == false);
  CHECK(trace.operations()[7].as<BatchNormOptions>().relu == true);
  CHECK(trace.operations()[5].as<TracedLevels>().out_h == 12);
  CHECK(trace.operations()[5].inputs.size() == 7);  // two branches, no constants and no border
  CHECK(trace.operations()[5].same_options(trace.operations()[5]));
  CHECK(!trace.operations()[5].same_options(trace.operations()[0]));
  const auto usual = run();
  check_close(traced.first, usual.first, 1e-12);
  check_close(traced.second, usual.second, 1e-12);
}

TEST_CASE("a trace refuses what it could not follow", "[autograd][trace]") {
  NoGradGuard no_grad;
  const Tensor x = random_tensor({2, 3}, 1);
  {
    Trace trace({x});
    CHECK_THROWS_AS(Trace({x}), AutogradError);
    CHECK(tracing());
  }
  CHECK(!tracing());
  {
    Trace trace({x});
    const Tensor y = exp(x);
    CHECK_THROWS_WITH(exp(y.alias({3, 2})), Catch::Contains("another shape"));
    CHECK_NOTHROW(exp(y.detach()));  // the same values in the same shape
    std::memset(y.raw_data(), 0, y.bytes());
    y.bump_version();
    CHECK_THROWS_WITH(exp(y), Catch::Contains("changed in place"));
  }
  {
    Trace trace({x});
    CHECK_THROWS_WITH(silent(x), Catch::Contains("says nothing to a trace"));
    CHECK_NOTHROW(silent(random_tensor({2}, 2)));
    CHECK_THROWS_AS(dropout(x, 0.5, 1, 2), AutogradError);
  }
  CHECK_NOTHROW(silent(x));
}

TEST_CASE("values that depend on a trace's inputs are not read or changed outside of operators while it lasts", "[autograd][trace]") {
  NoGradGuard no_grad;
  const Tensor x = random_tensor({2, 3}, 1), constant = random_tensor({3}, 2);
  const auto refused = Catch::Contains("outside of operators");
  Trace trace({x});
  Tensor y = exp(mul(x, constant));
  const Tensor one = mean(y);
  CHECK_THROWS_WITH(one.item(), refused);
  for (const Tensor& traced : {x, y}) {
    CHECK_THROWS_WITH(traced.value_at(1), refused);
    CHECK_THROWS_WITH(traced.to_vector<double>(), refused);
    CHECK_THROWS_WITH(traced.data<double>(), refused);
    CHECK_THROWS_WITH(traced.to(DType::kFloat32), refused);
  }
  CHECK_THROWS_WITH(y.add_(x), refused);
  CHECK_THROWS_AS(exp(Tensor()), UsageError);  // an operator that did not come to its end
  CHECK_NOTHROW(mul(y, y));
  CHECK_THROWS_WITH(one.item(), refused);
  CHECK_NOTHROW(exp(constant).to_vector<double>());
  CHECK_NOTHROW(cast(y, DType::kFloat32));
  CHECK_THROWS_AS(x.data<float>(), AutogradError);
  trace.end();
  CHECK_NOTHROW(y.add_(x));
  CHECK(one.item() == one.value_at(0));
}
