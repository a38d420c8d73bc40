#include "training/optimizer.h"

#include <cmath>
#include <limits>

#include "core/errors.h"
#include "core/parallel.h"
#include "layers/module.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

// PyTorch's formulas for one number, written step by step.
struct ScalarSgd {
  double p, b = 0;
  void step(double g, double lr, double wd, double mu, bool nesterov, bool first) {
    g += wd * p;
    if (mu != 0) {
      b = first ? g : mu * b + g;
      g = nesterov ? g + mu * b : b;
    }
    p -= lr * g;
  }
};
struct ScalarAdamW {
  double p, m = 0, v = 0;
  void step(double g, double lr, double wd, double b1, double b2, double eps, int t) {
    p *= 1 - lr * wd;
    m = b1 * m + (1 - b1) * g;
    v = b2 * v + (1 - b2) * g * g;
    const double m_hat = m / (1 - std::pow(b1, t)), v_hat = v / (1 - std::pow(b2, t));
    p -= lr * m_hat / (std::sqrt(v_hat) + eps);
  }
};

std::vector<OptimizerParameter> two_parameters(DType dtype) {
  return {{"backbone.conv.weight", random_leaf({3, 5}, 1, dtype)}, {"backbone.bn1.weight", random_leaf({40000}, 2, dtype), true}};
}

void set_grads(const std::vector<OptimizerParameter>& parameters, uint64_t seed) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    Tensor tensor = parameters[i].tensor;
    tensor.set_grad(random_tensor(tensor.shape(), seed * 10 + i, tensor.dtype()));
  }
}

}  // namespace

TEST_CASE("sgd follows PyTorch's formula", "[optimizer]") {
  struct Case {
    double momentum, decay;
    bool nesterov;
  };
  const Case c = GENERATE(Case{0, 0, false}, Case{0, 0.1, false}, Case{0.9, 0, false}, Case{0.9, 0.01, false}, Case{0.9, 0.01, true});
  CAPTURE(c.momentum, c.decay, c.nesterov);
  for (DType dtype : {DType::kFloat64, DType::kFloat32}) {
    OptimizerOptions options;
    options.momentum = c.momentum;
    options.weight_decay = c.decay;
    options.nesterov = c.nesterov;
    options.groups = {{"norm", 2.0, 0.0}};
    const auto parameters = two_parameters(dtype);
    std::vector<Tensor> expected;
    std::vector<std::vector<ScalarSgd>> oracle(2);
    for (int i = 0; i < 2; ++i) {
      for (int64_t j = 0; j < parameters[i].tensor.numel(); ++j) oracle[i].push_back({parameters[i].tensor.value_at(j)});
    }
    auto optimizer = make_optimizer(parameters, options);
    for (int step = 0; step < 4; ++step) {
      set_grads(parameters, 7 + step);
      for (int i = 0; i < 2; ++i) {
        for (size_t j = 0; j < oracle[i].size(); ++j) {
          oracle[i][j].step(0.5 * parameters[i].tensor.grad().value_at(j), i == 1 ? 0.2 : 0.1, i == 1 ? 0 : c.decay, c.momentum,
                            c.nesterov, step == 0);
        }
      }
      optimizer->step(0.1, 0.5);
    }
    for (int i = 0; i < 2; ++i) {
      std::vector<double> values;
      for (const ScalarSgd& o : oracle[i]) values.push_back(o.p);
      check_close(parameters[i].tensor, Tensor::from<double>(values, parameters[i].tensor.shape()),
                  dtype == DType::kFloat64 ? 1e-13 : 1e-5);
    }
  }
}

TEST_CASE("adamw follows PyTorch's formula", "[optimizer]") {
  for (DType dtype : {DType::kFloat64, DType::kFloat32}) {
    OptimizerOptions options;
    options.type = "adamw";
    options.weight_decay = 0.05;
    options.betas = {0.8, 0.99};
    options.groups = {{"bn1", 1.0, 0.0}};
    const auto parameters = two_parameters(dtype);
    std::vector<std::vector<ScalarAdamW>> oracle(2);
    for (int i = 0; i < 2; ++i) {
      for (int64_t j = 0; j < parameters[i].tensor.numel(); ++j) oracle[i].push_back({parameters[i].tensor.value_at(j)});
    }
    auto optimizer = make_optimizer(parameters, options);
    for (int step = 1; step <= 5; ++step) {
      set_grads(parameters, 3 + step);
      for (int i = 0; i < 2; ++i) {
        for (size_t j = 0; j < oracle[i].size(); ++j) {
          oracle[i][j].step(parameters[i].tensor.grad().value_at(j), 0.01, i == 1 ? 0 : 0.05, 0.8, 0.99, 1e-8, step);
        }
      }
      optimizer->step(0.01);
    }
    for (int i = 0; i < 2; ++i) {
      std::vector<double> values;
      for (const ScalarAdamW& o : oracle[i]) values.push_back(o.p);
      check_close(parameters[i].tensor, Tensor::from<double>(values, parameters[i].tensor.shape()),
                  dtype == DType::kFloat64 ? 1e-13 : 1e-5);
    }
  }
}

TEST_CASE("an optimizer step has the same bits on one thread and two, and counts a version", "[optimizer]") {
  const std::string type = GENERATE("sgd", "adamw");
  std::vector<std::vector<OptimizerParameter>> runs;
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    OptimizerOptions options;
    options.type = type;
    runs.push_back(two_parameters(DType::kFloat32));
    auto optimizer = make_optimizer(runs.back(), options);
    set_grads(runs.back(), 5);
    const uint32_t version = runs.back()[0].tensor.version();
    optimizer->step(0.1, 0.7);
    CHECK(runs.back()[0].tensor.version() != version);
  }
  for (int i = 0; i < 2; ++i) CHECK(bit_equal(runs[0][i].tensor, runs[1][i].tensor));
}

TEST_CASE("an optimizer restored from its state continues with the same bits", "[optimizer]") {
  OptimizerOptions options;
  options.type = GENERATE("sgd", "adamw");
  const auto straight = two_parameters(DType::kFloat32), resumed = two_parameters(DType::kFloat32);
  auto a = make_optimizer(straight, options);
  std::map<std::string, Tensor> saved;
  {
    auto b = make_optimizer(resumed, options);
    for (int step = 0; step < 2; ++step) {
      set_grads(straight, step), set_grads(resumed, step);
      a->step(0.1), b->step(0.1);
    }
    for (const auto& [name, tensor] : b->state()) saved[name] = tensor.clone();
  }
  auto c = make_optimizer(resumed, options);
  c->load_state(saved, "state");
  CHECK(c->steps() == 2);
  set_grads(straight, 9), set_grads(resumed, 9);
  a->step(0.1), c->step(0.1);
  for (int i = 0; i < 2; ++i) CHECK(bit_equal(straight[i].tensor, resumed[i].tensor));
}

TEST_CASE("an optimizer refuses a state that is not its own", "[optimizer]") {
  const auto parameters = two_parameters(DType::kFloat32);
  auto optimizer = make_optimizer(parameters, {});
  const auto state = optimizer->state();
  CHECK_NOTHROW(optimizer->load_state(state, ""));
  auto missing = state;
  missing.erase("momentum.backbone.conv.weight");
  CHECK_THROWS_WITH(optimizer->load_state(missing, "file.safetensors"),
                    Catch::Contains("momentum.backbone.conv.weight") && Catch::Contains("file.safetensors"));
  auto more = state;
  more["exp_avg.x"] = Tensor::zeros({1});
  CHECK_THROWS_WITH(optimizer->load_state(more, ""), Catch::Contains("exp_avg.x"));
  auto other = state;
  other["momentum.backbone.conv.weight"] = Tensor::zeros({5, 3});
  CHECK_THROWS_AS(optimizer->load_state(other, ""), DataError);
  CHECK_THROWS_WITH(optimizer->load_state(other, ""), Catch::Contains("[5, 3]") && Catch::Contains("[3, 5]"));
  auto counted = state;
  counted["steps"] = Tensor::zeros({}, DType::kFloat32);
  CHECK_THROWS_AS(optimizer->load_state(counted, ""), DataError);
  counted["steps"] = Tensor::from<int64_t>({-1}, {});
  CHECK_THROWS_WITH(optimizer->load_state(counted, ""), Catch::Contains("counts -1 steps"));
}

TEST_CASE("parameters without a gradient stay as they are", "[optimizer]") {
  const auto parameters = two_parameters(DType::kFloat64);
  const Tensor before = parameters[0].tensor.detach().clone();
  auto optimizer = make_optimizer(parameters, {});
  Tensor second = parameters[1].tensor;
  second.set_grad(random_tensor(second.shape(), 3));
  optimizer->step(0.1);
  CHECK(bit_equal(parameters[0].tensor, before));
}

TEST_CASE("groups multiply and a pattern that matches nothing is refused", "[optimizer]") {
  auto parameters = two_parameters(DType::kFloat32);
  assign_groups(parameters, {{"backbone", 0.1, 1.0}, {"norm", 1.0, 0.0}, {"conv.", 10.0, 0.5}});
  CHECK(parameters[0].lr_mult == Approx(1.0));
  CHECK(parameters[0].decay_mult == 0.5);
  CHECK(parameters[1].lr_mult == Approx(0.1));
  CHECK(parameters[1].decay_mult == 0.0);
  CHECK_THROWS_WITH(assign_groups(parameters, {{"backbone", 1, 1}, {"decode_haed", 1, 1}}),
                    Catch::Contains("decode_haed") && Catch::Contains("groups[1]"));
}

TEST_CASE("unknown optimizers and values out of range are refused", "[optimizer]") {
  OptimizerOptions options;
  options.type = "adam";
  CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("adam") && Catch::Contains("adamw"));
  options = {};
  options.momentum = 1;
  CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("optimizer.momentum"));
  options = {};
  options.momentum = 0, options.nesterov = true;
  CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("nesterov"));
  for (const double bad : {-1.0, std::nan(""), double(INFINITY)}) {
    options = {};
    options.weight_decay = bad;
    CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("optimizer.weight_decay"));
    CHECK_THROWS_WITH(make_optimizer({}, {.lr = bad}), Catch::Contains("optimizer.lr"));
    CHECK_THROWS_WITH(make_optimizer({}, {.groups = {{.pattern = "norm", .lr_mult = bad}}}), Catch::Contains("lr_mult"));
    for (int i = 0; i < 2; ++i) {
      options = {};
      options.betas[i] = bad;
      CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("optimizer.betas"));
      options.betas[i] = 1;
      CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("optimizer.betas"));
    }
    options = {};
    options.eps = bad;
    CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("optimizer.eps"));
  }
  options.eps = 0;
  CHECK_THROWS_WITH(make_optimizer({}, options), Catch::Contains("optimizer.eps"));
}

TEST_CASE("a step with a rate that is no number is refused before it changes anything", "[optimizer]") {
  const auto parameters = two_parameters(DType::kFloat32);
  const Tensor before = parameters[0].tensor.detach().clone();
  auto optimizer = make_optimizer(parameters, {});
  set_grads(parameters, 1);
  for (const double bad : {-0.1, std::nan(""), double(INFINITY)}) CHECK_THROWS_WITH(optimizer->step(bad), Catch::Contains("learning rate"));
  CHECK_THROWS_AS(optimizer->step(0.1, std::nan("")), UsageError);
  CHECK(optimizer->steps() == 0);
  CHECK(bit_equal(parameters[0].tensor, before));
  optimizer->step(0);  // a schedule may end there
  CHECK(optimizer->steps() == 1);
  CHECK(bit_equal(parameters[0].tensor, before));
}

TEST_CASE("the factors of groups that share a parameter multiply, and begin with 1", "[optimizer]") {
  auto parameters = two_parameters(DType::kFloat32);
  const std::string& name = parameters[0].name;
  const std::vector<ParameterGroup> groups = {{.pattern = name, .lr_mult = 2, .decay_mult = 0.5},
                                              {.pattern = name, .lr_mult = 3, .decay_mult = 0.25}};
  for (int times = 0; times < 2; ++times) {
    assign_groups(parameters, groups);
    CHECK(parameters[0].lr_mult == 6);
    CHECK(parameters[0].decay_mult == 0.125);
  }
  CHECK_THROWS_WITH(assign_groups(parameters, {{.pattern = ""}}), Catch::Contains("matches no parameter"));
}

TEST_CASE("tied weights are stepped and counted once", "[optimizer]") {
  struct Tied : Module {
    Tied() : a(register_parameter("a", Tensor::full({100000}, 1))) {
      register_parameter("b", a);
    }
    Tensor a;
  } tied;
  CHECK(tied.parameter_count() == 100000);
  CHECK(tied.state_dict().size() == 2);
  const auto parameters = optimizer_parameters(tied);
  REQUIRE(parameters.size() == 1);
  tied.a.set_grad(Tensor::full({100000}, 1));
  CHECK(gradient_norm(parameters).norm == Approx(std::sqrt(1e5)));
  OptimizerOptions plain;
  plain.momentum = plain.weight_decay = 0;
  make_optimizer(parameters, plain)->step(0.25);
  CHECK(bit_equal(tied.a.detach(), Tensor::full({100000}, 0.75)));

  auto state = tied.state_dict();
  state["a"] = state["b"] = Tensor::full({100000}, 5);
  CHECK(tied.load_state_dict(state).loaded.size() == 2);
  CHECK(tied.a.value_at(99999) == 5);
}

TEST_CASE("an optimizer refuses parameters that share a name or memory", "[optimizer]") {
  const Tensor x = random_leaf({8, 3}, 1);
  const auto make = [](std::vector<OptimizerParameter> parameters) { return make_optimizer(std::move(parameters), {}); };
  CHECK_THROWS_WITH(make({{"w", x}, {"w", random_leaf({2}, 2)}}), Catch::Contains("one name") && Catch::Contains("w"));
  CHECK_THROWS_WITH(make({{"a", x}, {"b", x}}), Catch::Contains("share memory") && Catch::Contains("a and b"));
  CHECK_THROWS_WITH(make({{"a", x}, {"b", x.alias({3}, 21)}}), Catch::Contains("share memory"));
  CHECK_NOTHROW(make({{"b", x.alias({4, 3}, 12)}, {"a", x.alias({4, 3})}, {"none", Tensor::zeros({0})}, {"no", Tensor::zeros({0})}}));
}

TEST_CASE("the gradient norm is a double sum, finds one bad value, and does not depend on threads", "[optimizer]") {
  const auto parameters = two_parameters(DType::kFloat32);
  set_grads(parameters, 4);
  double squares = 0;
  for (const auto& p : parameters) {
    const Tensor grad = p.tensor.grad();
    for (int64_t i = 0; i < grad.numel(); ++i) squares += grad.value_at(i) * grad.value_at(i);
  }
  set_num_threads(1);
  const GradientNorm one = gradient_norm(parameters, 1.0);
  set_num_threads(2);
  const GradientNorm two = gradient_norm(parameters, 1.0);
  CHECK(one.norm == Approx(std::sqrt(squares)).epsilon(1e-12));
  CHECK(one.norm == two.norm);
  CHECK(one.finite);
  CHECK_FALSE(gradient_norm(parameters, std::nan("")).finite);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Tensor grad = parameters[1].tensor.grad();
    const float before = grad.data<float>()[39999];
    grad.data<float>()[39999] = bad;
    CHECK_FALSE(gradient_norm(parameters, 1.0).finite);
    grad.data<float>()[39999] = before;
  }
  Tensor gain = Tensor::zeros({}, DType::kFloat32).set_requires_grad();
  gain.set_grad(Tensor::scalar(3, DType::kFloat32));
  CHECK(gradient_norm({{"gain", gain}}, 1.0).norm == 3);
  CHECK(clip_factor(10, 2) == Approx(0.2));
  CHECK(clip_factor(3e-6, 1e-6) == Approx(0.25));
  CHECK(clip_factor(1, 2) == 1);
  CHECK(clip_factor(1e9, 0) == 1);
}
