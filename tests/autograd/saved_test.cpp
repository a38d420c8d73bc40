#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

constexpr int64_t kCount = 1 << 16;  // elements of the large tensors: 256 KiB
constexpr size_t kBytes = kCount * 4;
constexpr int kDepth = 40;

size_t active() { return allocator().stats().active_bytes; }

// sin(sin(... x)): every step saves its argument.
Tensor deep_chain(const Tensor& x) {
  Tensor y = x;
  for (int i = 0; i < kDepth; ++i) y = sin(y);
  return y;
}

}  // namespace

TEST_CASE("saved values are released as backward passes them", "[saved]") {
  Tensor x = random_leaf({kCount}, 1, DType::kFloat32);
  const size_t before = active();
  Tensor y = deep_chain(x);
  const Tensor middle = y;
  CHECK(active() == before + kDepth * kBytes);
  size_t at_leaf = 0;
  const int id = register_hook(x, [&](const Tensor&) { return at_leaf = active(), Tensor(); });
  const Tensor start = Tensor::full({kCount}, 1);
  allocator().reset_peak();
  y.backward(start);
  // At the leaf only the two handles' value, the caller's gradient and the running gradient are left.
  CHECK(at_leaf <= before + 4 * kBytes);
  // And on the way the gradients never needed more than the two that a node reads and writes.
  CHECK(allocator().stats().peak_bytes <= before + (kDepth + 3) * kBytes);
  CHECK(active() == before + 3 * kBytes);
  remove_hook(x, id);
}

TEST_CASE("a retained graph keeps its values, a dropped one gives them back", "[saved]") {
  Tensor x = random_leaf({kCount}, 2, DType::kFloat32);
  const size_t before = active();
  Tensor y = sum(deep_chain(x));
  y.backward({}, true);
  CHECK(active() >= before + kDepth * kBytes);
  y.backward();
  CHECK(active() <= before + 2 * kBytes);
  y = Tensor();
  x.set_grad({});
  CHECK(active() == before);
}

TEST_CASE("operators keep only what their derivative reads", "[saved]") {
  Tensor x = random_leaf({kCount}, 3, DType::kFloat32);
  auto kept_by = [&](auto&& op) {
    const size_t before = active();
    const Tensor y = op(x * 1.0);  // an argument that nobody else holds
    return (active() - before) / kBytes;
  };
  CHECK(kept_by([](const Tensor& v) { return relu(v); }) == 1);   // its result
  CHECK(kept_by([](const Tensor& v) { return exp(v); }) == 1);
  CHECK(kept_by([](const Tensor& v) { return sin(v); }) == 2);    // its argument, and the result that we hold
  CHECK(kept_by([](const Tensor& v) { return v + 1.0; }) == 1);
  CHECK(kept_by([](const Tensor& v) { return sum(v); }) == 0);
  CHECK(kept_by([](const Tensor& v) { return reshape(v, {2, -1}); }) == 1);
}

TEST_CASE("a value changed after it was saved is found, with the operator's name", "[saved]") {
  Tensor x = random_leaf({4}, 4), w = random_leaf({4}, 5);
  Tensor y = sum(x * w);
  {
    const NoGradGuard plain;
    w.mul_(2);
  }
  CHECK_THROWS_WITH(y.backward(),
                    Catch::Contains("mul") && Catch::Contains("changed in place") && Catch::Contains("float64 [4]"));

  const Tensor base = x * 1.0;  // through another view of the same memory
  const Tensor z = sum(exp(base * 1.0) * base);
  base.alias({2}, 2).fill_(0);
  CHECK_THROWS_WITH(z.backward(), Catch::Contains("mul"));

  const Tensor a = x * 1.0;  // written by a kernel that says so
  const Tensor b = sum(sin(a));
  a.data<double>()[0] = 3;
  a.bump_version();
  CHECK_THROWS_WITH(b.backward(), Catch::Contains("sin"));
}

TEST_CASE("changes that no derivative reads are allowed", "[saved]") {
  Tensor x = random_leaf({4}, 6);
  const Tensor a = x * 2.0;
  const Tensor y = sum(a + 1.0);
  a.detach().fill_(100);
  CHECK_NOTHROW(y.backward());
  CHECK(x.grad().to_vector<double>() == std::vector<double>(4, 2));

  Tensor w = random_leaf({4}, 7);  // an optimizer's step between two runs
  for (int step = 0; step < 3; ++step) {
    sum(w * w).backward();
    const NoGradGuard plain;
    w.add_(w.grad(), -0.1);
    w.set_grad({});
  }
  CHECK(scaled_difference(w.detach(), random_tensor({4}, 7) * 0.512) < 1e-15);
}

TEST_CASE("saved tensors are handles without history", "[saved]") {
  Tensor x = random_leaf({4}, 8);
  const Tensor y = x * 2.0;
  SavedTensor saved(y, "test");
  CHECK(saved.get().raw_data() == y.raw_data());
  CHECK_FALSE(saved.get().requires_grad());
  saved.release();
  CHECK_THROWS_WITH(saved.get(), Catch::Contains("test") && Catch::Contains("retain_graph"));
  const SavedTensor nothing(Tensor(), "test");
  CHECK_FALSE(nothing.get().defined());
}

TEST_CASE("running out of memory anywhere leaves everything consistent", "[saved]") {
  Tensor x = random_leaf({64}, 9), w = random_leaf({64}, 10);
  const size_t before = active();
  int failures = 0;
  for (int allowed = 0;; ++allowed) {  // the first request fails, then the second, ...
    int left = allowed;
    allocator().set_failure_hook([&](size_t) { return left-- == 0; });
    bool done = false;
    try {
      sum(exp(x * w) * sigmoid(x) / (square(w) + 1.0)).backward();
      done = true;
    } catch (const OutOfMemoryError&) {
      ++failures;
    }
    allocator().set_failure_hook(nullptr);
    x.set_grad({});
    w.set_grad({});
    REQUIRE(active() == before);
    REQUIRE(grad_enabled());
    if (done) break;
  }
  CHECK(failures > 10);
}
