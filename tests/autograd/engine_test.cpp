#include <cmath>
#include <thread>

#include "autograd/functional.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

Tensor leaf(std::vector<double> values) {
  const int64_t count = int64_t(values.size());
  return Tensor::from(values, {count}).set_requires_grad();
}

std::vector<double> grad_of(const Tensor& x) { return x.grad().to_vector<double>(); }

Tensor ones(const Shape& shape) { return Tensor::full(shape, 1, DType::kFloat64); }

// One node with two outputs, x and 2 x, that reports which gradients came.
struct SplitBackward final : Node {
  explicit SplitBackward(std::vector<bool>* seen) : Node("split"), seen_(seen) {}
  TensorList backward(const TensorList& grads) override {
    *seen_ = {grads[0].defined(), grads[1].defined()};
    Tensor total = Tensor::zeros({2}, DType::kFloat64);
    if (grads[0].defined()) total.add_(grads[0]);
    if (grads[1].defined()) total.add_(grads[1], 2);
    return {total};
  }
  std::vector<bool>* seen_;
};

std::pair<Tensor, Tensor> split(const Tensor& x, std::vector<bool>* seen) {
  Tensor a = x.clone(), b = x.clone();
  b.mul_(2);
  record<SplitBackward>(std::vector<Tensor>{a, b}, {x}, seen);
  return {a, b};
}

// A node whose gradient has the wrong shape.
struct WrongShape final : Node {
  WrongShape() : Node("wrong_shape") {}
  TensorList backward(const TensorList&) override { return {Tensor::zeros({3}, DType::kFloat64)}; }
};

// A node with two gradients for whatever inputs it has.
struct WrongCount final : Node {
  WrongCount() : Node("wrong_count") {}
  TensorList backward(const TensorList& grads) override { return {grads[0], grads[0]}; }
};

// A node that gives nothing, though its input needs a gradient.
struct Nothing final : Node {
  Nothing() : Node("nothing") {}
  TensorList backward(const TensorList&) override { return {Tensor()}; }
};

// A node that doubles the gradient in place and passes it on.
struct SpoilBackward final : Node {
  SpoilBackward(bool quietly) : Node("spoil"), quietly_(quietly) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad = grads[0];
    if (quietly_) {
      for (int64_t i = 0; i < grad.numel(); ++i) grad.data<double>()[i] *= 2;
    } else {
      grad.mul_(2);
    }
    return {grad};
  }
  bool quietly_;
};

Tensor spoil(const Tensor& x, bool quietly) {
  Tensor y = x.clone();
  y.mul_(2);
  record<SpoilBackward>(y, {x}, quietly);
  return y;
}

// A node that fails.
struct Failing final : Node {
  Failing() : Node("failing") {}
  TensorList backward(const TensorList&) override { throw NumericalError("no gradient today", "failing", ""); }
};

}  // namespace

TEST_CASE("a chain of 150,000 nodes is built, differentiated and freed", "[engine]") {
  constexpr int kLength = 150000;
  Tensor x = leaf({0.5, -1});
  const size_t before = allocator().stats().active_bytes;
  {
    Tensor y = x;
    for (int i = 0; i < kLength; ++i) y = i % 2 == 0 ? y * 2.0 : y * 0.5;
    y.backward(ones({2}));
    CHECK(grad_of(x) == std::vector<double>{1, 1});
  }
  {
    Tensor y = x;  // with saved values, and freed without being differentiated
    for (int i = 0; i < kLength; ++i) y = sin(y);
    CHECK(allocator().stats().active_bytes > before + size_t(kLength) * 16);
  }
  x.set_grad({});
  CHECK(allocator().stats().active_bytes == before);
}

TEST_CASE("a leaf used 150,000 times gets one sum", "[engine]") {
  Tensor x = leaf({1}), total = Tensor::zeros({1}, DType::kFloat64);
  for (int i = 0; i < 150000; ++i) total = total + x;
  total.backward();
  CHECK(grad_of(x) == std::vector<double>{150000});
}

TEST_CASE("diamonds are walked once per node, not once per path", "[engine]") {
  Tensor x = leaf({3});
  const Tensor a = x * 2.0, b = x + 1.0;
  (a * b).backward();  // 2x (x + 1)
  CHECK(grad_of(x) == std::vector<double>{4 * 3 + 2});

  Tensor z = leaf({1}), y = z;
  for (int i = 0; i < 60; ++i) y = y + y;  // 2^60 paths
  y.backward();
  CHECK(grad_of(z) == std::vector<double>{0x1p60});

  Tensor w = leaf({2}), early = exp(w), late = early;  // a short and a long way to the same value
  for (int i = 0; i < 10; ++i) late = late + 1.0;
  (late * early).backward();
  CHECK(grad_of(w)[0] == Approx(std::exp(2) * (2 * std::exp(2) + 10)));
}

TEST_CASE("leaves accumulate over backward calls", "[engine]") {
  Tensor x = leaf({1, 2});
  sum(x * x).backward();
  CHECK(grad_of(x) == std::vector<double>{2, 4});
  const Tensor held = x.grad();
  sum(x * 3.0).backward();
  CHECK(grad_of(x) == std::vector<double>{5, 7});
  CHECK(held.is_same(x.grad()));
  x.set_grad({});
  CHECK_FALSE(x.grad().defined());
  sum(x).backward();
  CHECK(grad_of(x) == std::vector<double>{1, 1});
}

TEST_CASE("the caller's gradient is not taken over by a leaf", "[engine]") {
  Tensor x = leaf({1, 2});
  const Tensor given = Tensor::from<double>({3, 4}, {2});
  x.backward(given);
  x.backward(given);
  CHECK(grad_of(x) == std::vector<double>{6, 8});
  CHECK(given.to_vector<double>() == std::vector<double>{3, 4});
  Tensor a = leaf({1}), b = leaf({2});  // add hands one gradient to both
  const Tensor y = a + b;
  y.backward();
  a.grad().fill_(7);
  CHECK(grad_of(b) == std::vector<double>{1});
}

TEST_CASE("a graph is walked twice only when retained", "[engine]") {
  Tensor x = leaf({2});
  const Tensor y = x * x, z = y * y;  // x^4
  z.backward({}, true);
  z.backward({}, true);
  CHECK(grad_of(x) == std::vector<double>{64});
  z.backward();
  CHECK(grad_of(x) == std::vector<double>{96});
  CHECK_THROWS_WITH(z.backward(), Catch::Contains("already freed") && Catch::Contains("retain_graph"));
  CHECK_THROWS_AS(y.backward(), AutogradError);
  CHECK(grad_of(x) == std::vector<double>{96});
  const Tensor linear = x + 1.0;  // nothing saved, freed all the same
  linear.backward();
  CHECK_THROWS_AS(linear.backward(), AutogradError);
}

TEST_CASE("an unused output has no gradient", "[engine]") {
  std::vector<bool> seen;
  Tensor x = leaf({1, 2});
  {
    const auto [a, b] = split(x, &seen);
    sum(b).backward();
    CHECK(seen == std::vector<bool>{false, true});
    CHECK(grad_of(x) == std::vector<double>{2, 2});
  }
  const auto [a, b] = split(x, &seen);
  x.set_grad({});
  sum(a + b).backward();
  CHECK(seen == std::vector<bool>{true, true});
  CHECK(grad_of(x) == std::vector<double>{3, 3});

  Tensor p = leaf({1}), q = leaf({1});  // a branch that nothing flows into
  const Tensor unused = exp(q);
  (p * 2.0).backward();
  CHECK_FALSE(q.grad().defined());
  CHECK(unused.requires_grad());
}

TEST_CASE("behind a node that gives nothing, nothing is differentiated", "[engine]") {
  Tensor x = leaf({1, 2}), y = leaf({3, 4});
  const Tensor inner = exp(y), cut = inner.clone();
  record<Nothing>(cut, {inner});
  sum(x * cut).backward();
  CHECK(grad_of(x) == cut.to_vector<double>());
  CHECK_FALSE(y.grad().defined());
}

TEST_CASE("nothing is recorded under NoGradGuard", "[engine]") {
  Tensor x = leaf({1});
  {
    const NoGradGuard outer;
    CHECK_FALSE(grad_enabled());
    {
      const NoGradGuard inner;
      CHECK_FALSE((x * 2.0).requires_grad());
    }
    CHECK_FALSE(grad_enabled());
    CHECK_FALSE(exp(x).requires_grad());
    std::thread([] { CHECK(grad_enabled()); }).join();
  }
  CHECK(grad_enabled());
  CHECK(exp(x).requires_grad());
  CHECK_FALSE(exp(Tensor::scalar(1)).requires_grad());
}

TEST_CASE("detach shares the memory and stops the gradient", "[engine]") {
  Tensor x = leaf({3});
  const Tensor y = x * x, cut = y.detach();
  CHECK(cut.raw_data() == y.raw_data());
  CHECK_FALSE(cut.requires_grad());
  (y + cut * x).backward();  // x^2 + 9 x
  CHECK(grad_of(x) == std::vector<double>{6 + 9});
  Tensor fresh = y.detach();
  fresh.set_requires_grad();
  (fresh * 5.0).backward();
  CHECK(grad_of(fresh) == std::vector<double>{5});
  CHECK(grad_of(x) == std::vector<double>{15});
}

TEST_CASE("derivatives of derivatives are a clear error", "[engine]") {
  Tensor x = leaf({3});
  (x * x).backward();
  CHECK_FALSE(x.grad().requires_grad());
  CHECK_THROWS_AS(x.grad().backward(), AutogradError);
  CHECK_THROWS_WITH(x.grad().backward(),
                    Catch::Contains("nothing to differentiate") && Catch::Contains("derivatives of derivatives"));

  const Tensor other = x * 2.0, y = x * 3.0;
  register_hook(y, [&](const Tensor& grad) {
    other.backward();
    return grad;
  });
  CHECK_THROWS_WITH(y.backward(), Catch::Contains("within backward") && Catch::Contains("derivatives of derivatives"));
  CHECK_NOTHROW((x * 2.0).backward());
}

TEST_CASE("backward says what it cannot do", "[engine]") {
  Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH(Tensor::scalar(1).backward(), Catch::Contains("nothing to differentiate"));
  CHECK_THROWS_WITH((x * 2.0).backward(), Catch::Contains("grad_output") && Catch::Contains("[2]"));
  CHECK_THROWS_WITH((x * 2.0).backward(ones({3})), Catch::Contains("wrong shape") && Catch::Contains("[3]"));
  CHECK_THROWS_AS((x * 2.0).backward(Tensor::zeros({2})), AutogradError);
  CHECK_THROWS_AS(Tensor().backward(), Error);
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("a node that gives a wrong gradient is named", "[engine]") {
  Tensor x = leaf({1, 2}), y = x.clone();
  record<WrongShape>(y, {x});
  CHECK_THROWS_WITH(sum(y).backward(),
                    Catch::Contains("wrong_shape") && Catch::Contains("[3]") && Catch::Contains("[2]"));
  Tensor z = x.clone(), sum_of_three = x.clone();
  record<WrongCount>(z, {x});
  CHECK_THROWS_WITH(sum(z).backward(), Catch::Contains("wrong_count") && Catch::Contains("2 gradients for 1 input"));
  record<WrongCount>(sum_of_three, {x, x, Tensor()});
  CHECK_THROWS_WITH(sum(sum_of_three).backward(), Catch::Contains("wrong_count") && Catch::Contains("2 gradients for 3 inputs"));
}

TEST_CASE("an error inside a node ends the walk and leaves the engine ready", "[engine]") {
  Tensor x = leaf({1, 2}), y = x.clone();
  record<Failing>(y, {x});
  CHECK_THROWS_AS(sum(y).backward(), NumericalError);
  CHECK(grad_enabled());
  CHECK_FALSE(x.grad().defined());
  sum(x).backward();
  CHECK(grad_of(x) == std::vector<double>{1, 1});
}

TEST_CASE("an error for want of memory names the operator, also in backward", "[engine]") {
  Tensor x = leaf({1, 2});
  const Tensor y = sum(x * x);
  struct NoMemory {
    NoMemory() { allocator().set_failure_hook([](size_t) { return true; }); }
    ~NoMemory() { allocator().set_failure_hook(nullptr); }
  };
  const auto refused = [](auto run) {
    const NoMemory none;
    run();
  };
  CHECK_THROWS_WITH(refused([&] { exp(x); }), Catch::Contains("the last operator was exp"));
  const Tensor one = ones({});
  CHECK_THROWS_WITH(refused([&] { y.backward(one); }), Catch::Contains("the last operator was sum"));
}

TEST_CASE("leaves are what one may mark and change", "[engine]") {
  Tensor x = leaf({1});
  Tensor y = x * 2.0;
  CHECK_THROWS_WITH(y.set_requires_grad(false), Catch::Contains("leaves only") && Catch::Contains("mul"));
  CHECK_THROWS_AS(Tensor::zeros({1}, DType::kInt32).set_requires_grad(), DTypeError);
  CHECK_NOTHROW(Tensor::zeros({1}, DType::kInt32).set_requires_grad(false));
  struct Rounding : Node {
    Rounding() : Node("rounding") {}
    TensorList backward(const TensorList& grads) override { return grads; }
  };
  CHECK_THROWS_WITH(record<Rounding>(Tensor::zeros({1}, DType::kInt32), {x}), Catch::Contains("rounding records as its result"));
  CHECK_THROWS_WITH(x.fill_(1), Catch::Contains("fill_") && Catch::Contains("leaf"));
  CHECK_THROWS_WITH(y.mul_(2), Catch::Contains("mul_ would change a recorded value"));
  CHECK_THROWS_AS(y.add_(y), AutogradError);
  CHECK_THROWS_AS(x.copy_(Tensor::zeros({1}, DType::kFloat64)), AutogradError);
  {
    const NoGradGuard plain;
    CHECK_NOTHROW(x.fill_(4));
  }
  CHECK(x.item() == 4);
  CHECK_THROWS_AS(x.set_grad(Tensor::zeros({2}, DType::kFloat64)), ShapeError);
  CHECK_THROWS_AS(x.set_grad(Tensor::zeros({1}, DType::kFloat32)), ShapeError);
  x.set_grad(ones({1}));
  CHECK(grad_of(x) == std::vector<double>{1});
  CHECK_FALSE(Tensor::zeros({1}).grad().defined());
  x.set_requires_grad(false);
  CHECK_FALSE((x * 2.0).requires_grad());
  (x * leaf({3})).backward();
  CHECK(grad_of(x) == std::vector<double>{1});  // nothing came
  CHECK_NOTHROW(x.fill_(5));
}

TEST_CASE("in-place changes take no values that require a gradient, unless gradients are off", "[engine]") {
  Tensor w = leaf({2, 3}), total = Tensor::zeros({2}, DType::kFloat64);
  const std::vector<double> untouched(2, 0);
  CHECK_THROWS_WITH(total.add_(square(w)), Catch::Contains("add_") && Catch::Contains("requires a gradient") && Catch::Contains("NoGradGuard"));
  CHECK_THROWS_AS(total.copy_(w), AutogradError);
  CHECK(total.to_vector<double>() == untouched);
  CHECK_NOTHROW(total.add_(w.detach()));
  const NoGradGuard plain;
  total.copy_(w);
  CHECK(total.to_vector<double>() == std::vector<double>{2, 3});
}

TEST_CASE("errors say what cuts a graph", "[engine]") {
  Tensor w = leaf({1, 2, 3});
  CHECK_THROWS_WITH(sum(w.clone()).backward(), Catch::Contains("nothing to differentiate") && Catch::Contains("clone(), to(), detach()"));
  const Tensor single = Tensor::zeros({3});
  CHECK_THROWS_WITH(w * single, Catch::Contains("cast(x, DType)") && Catch::Contains("no gradient"));
  CHECK_THROWS_WITH(concat({w, single}, 0), Catch::Contains("cast(x, DType)") && Catch::Contains("no gradient"));
  const Tensor h = square(w), y = sum(square(h));
  h.detach().mul_(2);
  CHECK_THROWS_WITH(y.backward(), Catch::Contains("changed in place") && Catch::Contains("no gradient on"));
}

TEST_CASE("only leaves keep a gradient, and who asks another tensor is told what does", "[engine]") {
  Tensor x = leaf({1, 2}), h = x * 2.0;
  sum(h).backward();
  CHECK_THROWS_WITH(h.grad(), Catch::Contains("only leaves") && Catch::Contains("mul") && Catch::Contains("register_hook"));
  CHECK_THROWS_AS(h.set_grad(ones({2})), AutogradError);
  CHECK_NOTHROW(h.set_grad({}));
  CHECK_FALSE(h.detach().grad().defined());
}

TEST_CASE("a node may change a gradient only where nobody else has it", "[engine]") {
  Tensor x = leaf({1, 2});
  const Tensor c = x * 1.0, t = c + 0.0;  // both uses of c + spoil(x) get the sum's gradient itself
  CHECK_THROWS_WITH(sum(spoil(x, false) + t).backward(), Catch::Contains("spoil") && Catch::Contains("not its own"));
  x.set_grad({});
  sum(exp(spoil(x, false))).backward();  // its own: made by exp's node
  CHECK(grad_of(x)[0] == Approx(2 * std::exp(2.0)));
  for (const bool quietly : {false, true}) {
    Tensor y = leaf({1, 2});
    const auto last = [&](const std::vector<Tensor>& in) { return spoil(in[0], quietly); };
    const auto inside = [&](const std::vector<Tensor>& in) { return exp(spoil(in[0], quietly)); };
    CHECK_THROWS_WITH(gradcheck(last, {y}), Catch::Contains("spoil"));
    CHECK_THROWS_WITH(gradcheck(inside, {y}), Catch::Contains("spoil"));
  }
}

TEST_CASE("graphs of different threads do not meet", "[engine]") {
  std::vector<double> results(4);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&results, t] {
      Tensor x = Tensor::scalar(double(t), DType::kFloat64).set_requires_grad(), y = x;
      for (int i = 0; i < 1000; ++i) y = y + x;
      y.backward();
      results[t] = x.grad().item();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(results == std::vector<double>(4, 1001));
}

TEST_CASE("threads may share leaves: each has its graph, and every gradient arrives", "[engine]") {
  Tensor shared = leaf({1});
  constexpr int kThreads = 4, kTimes = 20000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kTimes; ++i) (shared * 2.0).backward();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(grad_of(shared) == std::vector<double>{2.0 * kThreads * kTimes});
}

TEST_CASE("an operator records for a result of its own, once", "[engine]") {
  std::vector<bool> seen;
  Tensor x = leaf({1, 2});
  const Tensor inner = x * 3.0;
  for (const Tensor& argument : {x, inner}) {  // its own argument as a result would be its own past
    CHECK_THROWS_WITH(record<SplitBackward>(argument, {argument}, &seen), Catch::Contains("split") && Catch::Contains("history"));
  }
  Tensor y = x.clone();
  record<WrongCount>(y, {x});
  CHECK_THROWS_AS(record<WrongCount>(y, {x}), AutogradError);
  sum(inner).backward();  // nothing has changed
  CHECK(grad_of(x) == std::vector<double>{3, 3});
}

TEST_CASE("gradients are the same bits in each run", "[engine]") {
  auto run = [] {
    Tensor x = random_leaf({50}, 1, DType::kFloat32), total = x;
    for (int i = 0; i < 50; ++i) total = total + tanh(x * (0.1 * i)) * sigmoid(total);
    sum(total).backward();
    return x.grad();
  };
  const Tensor first = run();
  for (int i = 0; i < 3; ++i) CHECK(bit_equal(first, run()));
}
