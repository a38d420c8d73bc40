#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

std::vector<double> grad_of(const Tensor& x) { return x.grad().to_vector<double>(); }
Tensor leaf(std::vector<double> values) {
  const int64_t count = int64_t(values.size());
  return Tensor::from(values, {count}).set_requires_grad();
}

}  // namespace

TEST_CASE("a hook sees the complete gradient of an inner value, once", "[hooks]") {
  Tensor x = leaf({2});
  const Tensor y = x * x;
  int calls = 0;
  double seen = 0;
  register_hook(y, [&](const Tensor& grad) {
    ++calls;
    seen = grad.item();
    return Tensor();
  });
  (y * 3.0 + y * 4.0).backward();
  CHECK(calls == 1);
  CHECK(seen == 7);
  CHECK(grad_of(x) == std::vector<double>{28});
}

TEST_CASE("a hook on a leaf sees all uses together, before they accumulate", "[hooks]") {
  Tensor x = leaf({2});
  std::vector<double> seen;
  register_hook(x, [&](const Tensor& grad) {
    seen.push_back(grad.item());
    return Tensor();
  });
  (x * 3.0 + x * 4.0).backward();
  (x * 5.0).backward();
  CHECK(seen == std::vector<double>{7, 5});
  CHECK(grad_of(x) == std::vector<double>{12});
}

TEST_CASE("a hook that captures a detached tensor does not keep the graph", "[hooks]") {
  const size_t before = allocator().stats().active_bytes;
  {
    Tensor x = leaf({2, 3});
    const Tensor y = x * x;
    double seen = 0;
    register_hook(y, [values = y.detach(), &seen](const Tensor&) {
      seen = values.value_at(1);
      return Tensor();
    });
    sum(y).backward();
    CHECK(seen == 9);
  }
  CHECK(allocator().stats().active_bytes == before);
}

TEST_CASE("what a hook returns flows on", "[hooks]") {
  Tensor x = leaf({2});
  const Tensor y = x * x;
  register_hook(y, [](const Tensor& grad) { return grad * 10.0; });
  register_hook(y, [](const Tensor& grad) { return grad + 1.0; });  // in the order of registration
  (y * 3.0).backward();
  CHECK(grad_of(x) == std::vector<double>{31 * 4});
  register_hook(x, [](const Tensor& grad) { return grad * 0.0; });
  (x * 5.0).backward();
  CHECK(grad_of(x) == std::vector<double>{31 * 4});
}

TEST_CASE("a replaced gradient stays the hook's own", "[hooks]") {
  Tensor x = leaf({2, 3});
  const Tensor constant = Tensor::from<double>({5, 6}, {2});
  register_hook(x, [&](const Tensor&) { return constant; });
  sum(x).backward();
  sum(x).backward();
  CHECK(grad_of(x) == std::vector<double>{10, 12});
  CHECK(constant.to_vector<double>() == std::vector<double>{5, 6});
}

TEST_CASE("removed hooks are silent", "[hooks]") {
  Tensor x = leaf({2});
  const Tensor y = x * 1.0;
  int on_leaf = 0, on_value = 0;
  const int first = register_hook(x, [&](const Tensor&) { return ++on_leaf, Tensor(); });
  const int second = register_hook(y, [&](const Tensor&) { return ++on_value, Tensor(); });
  y.backward({}, true);
  remove_hook(x, first);
  remove_hook(y, second);
  remove_hook(y, 12345);  // unknown: nothing happens
  y.backward({}, true);
  CHECK(on_leaf == 1);
  CHECK(on_value == 1);

  int once = 0, id = 0;
  id = register_hook(x, [&](const Tensor&) {
    remove_hook(x, id);
    return ++once, Tensor();
  });
  y.backward({}, true);
  y.backward();
  CHECK(once == 1);
}

TEST_CASE("hooks do not record and are not called without a gradient", "[hooks]") {
  Tensor x = leaf({2});
  const Tensor y = x * x, unused = exp(x);
  bool recorded = true, called = false;
  register_hook(y, [&](const Tensor& grad) {
    recorded = (grad * x).requires_grad();
    return Tensor();
  });
  register_hook(unused, [&](const Tensor&) { return called = true, Tensor(); });
  y.backward();
  CHECK_FALSE(recorded);
  CHECK_FALSE(called);
}

TEST_CASE("hooks run on the root and on one output among several uses", "[hooks]") {
  Tensor x = leaf({1, 2});
  const Tensor y = x * 2.0;
  register_hook(y, [](const Tensor& grad) { return grad * -1.0; });
  y.backward(Tensor::from<double>({1, 10}, {2}));
  CHECK(grad_of(x) == std::vector<double>{-2, -20});
}

TEST_CASE("a hook may not change the kind of a gradient", "[hooks]") {
  Tensor x = leaf({1, 2});
  const Tensor y = x * 2.0;
  register_hook(y, [](const Tensor&) { return Tensor::zeros({3}, DType::kFloat64); });
  CHECK_THROWS_WITH(sum(y).backward(), Catch::Contains("hook") && Catch::Contains("[3]") && Catch::Contains("[2]"));
  Tensor z = leaf({1, 2});
  register_hook(z, [](const Tensor&) { return Tensor::zeros({2}); });
  CHECK_THROWS_AS(sum(z).backward(), AutogradError);
}

TEST_CASE("hooks need a gradient to watch, and their errors arrive", "[hooks]") {
  CHECK_THROWS_AS(register_hook(Tensor::zeros({1}), [](const Tensor&) { return Tensor(); }), AutogradError);
  Tensor x = leaf({1});
  CHECK_THROWS_AS(register_hook(x, {}), AutogradError);
  register_hook(x, [](const Tensor&) -> Tensor { throw NumericalError("the gradient is not finite", "conv1", ""); });
  CHECK_THROWS_AS((x * 2.0).backward(), NumericalError);
  CHECK_FALSE(x.grad().defined());
}

TEST_CASE("a hook that changes what it gets in place is an error: another operator may have the same gradient", "[hooks]") {
  Tensor x = leaf({1, 2});
  const Tensor y = x * 2.0;
  const int changing = register_hook(y, [](const Tensor& grad) {
    Tensor same = grad;
    return same.mul_(0);
  });
  CHECK_THROWS_WITH(sum(y + x).backward(), Catch::Contains("changed a gradient in place"));
  CHECK_FALSE(x.grad().defined());
  remove_hook(y, changing);
  sum(x * 2.0 + x).backward();
  CHECK(grad_of(x) == std::vector<double>{3, 3});
}
