// What goes wrong is an error with a type and three lines: what, where, what to try. Nothing crashes, and what threw can go on.
#include <cstdio>
#include <thread>
#include <vector>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/safetensors.h"
#include "layers/layers.h"
#include "programs.h"

using namespace eq;

namespace {

// fn() throws an E.
template <class E, class Fn>
void expect_error(const char* mistake, Fn fn) {
  try {
    fn();
  } catch (const E& error) {
    const Error& three_lines = error;
    expect(!three_lines.what_happened().empty() && !three_lines.where().empty() && !three_lines.try_this().empty(), mistake);
    return;
  }
  expect(false, std::string(mistake) + " is an error");
}

void in_graphs() {
  Tensor x = Tensor::full({2}, 3).set_requires_grad();
  const Tensor h = x * 2.0, loss = sum(square(h));
  expect_error<AutogradError>("a value changed in place after it was saved", [&] {
    const Tensor y = sum(square(h));
    const NoGradGuard no_grad;
    Tensor(h).mul_(1);
    y.backward();
  });
  expect_error<AutogradError>("backward twice", [&] {
    const Tensor y = sum(square(x));
    y.backward();
    y.backward();
  });
  expect_error<AutogradError>("the gradient of what is no leaf", [&] { h.grad(); });
  expect_error<AutogradError>("values added in place that require a gradient", [&] { Tensor::zeros({2}).add_(h); });
  expect_error<AutogradError>("nothing recorded", [&] {
    const NoGradGuard no_grad;
    sum(square(x)).backward();
  });
  expect_error<AutogradError>("a hook that changes its gradient", [&] {
    const Tensor y = x * 2.0;
    register_hook(y, [](const Tensor& grad) { return Tensor(grad).mul_(0); });
    sum(y + x).backward();
  });
  register_hook(h, [](const Tensor&) -> Tensor { throw DataError("not now", "a hook of one's own", "try again"); });
  expect_error<DataError>("an error in a hook arrives at who called backward()", [&] { sum(h).backward(); });
  x.set_grad({});
  sum(square(x)).backward();  // a graph without the hook
  expect(x.grad().value_at(0) == 6, "the engine goes on");
}

void in_arguments(const std::filesystem::path& folder) {
  Conv2d conv(3, 8, {.kernel_size = 3});
  expect_error<ShapeError>("PyTorch's layout", [&] { conv(Tensor::zeros({1, 3, 32, 32})); });  // here [N,H,W,C]
  expect_error<DTypeError>("another type", [&] { conv(Tensor::zeros({1, 32, 32, 3}, DType::kFloat64)); });
  expect_error<DeviceError>("a device that is not there", [] { Device::parse("cuda:77"); });
  auto state = conv.state_dict();
  state.erase("bias");
  write_safetensors(folder / "partial.safetensors", state);
  const auto partial = read_safetensors(folder / "partial.safetensors").tensors;
  expect_error<DataError>("missing keys", [&] { conv.load_state_dict(partial); });
  expect(conv.load_state_dict(partial, false).missing == std::vector<std::string>{"bias"}, "or a report of them");
}

// One network in several threads: each records, or does not, for itself.
void in_threads() {
  ConvModule net(3, 8, 3);
  net.eval();
  const Tensor x = Tensor::full({1, 16, 16, 3}, 1);
  const auto forward = [&net, &x] {
    const NoGradGuard no_grad;  // of this thread
    return net(x).to_vector<float>();
  };
  const std::vector<float> expected = forward();
  std::vector<std::vector<float>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results) threads.emplace_back([&] { result = forward(); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) expect(result == expected, "the same bits in every thread");
}

}  // namespace

void make_mistakes(const std::filesystem::path& folder) {
  in_graphs();
  in_arguments(folder);
  in_threads();
}
