// A layer made of operators, and an operator with a backward of its own, both checked against central differences.
#include "programs.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/gradcheck.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "layers/layers.h"

using namespace eq;

namespace {

// Squeeze and excitation (Hu et al., 2018): channels weighted by what the whole picture says.
class SqueezeExcite : public Layer {
 public:
  SqueezeExcite(int64_t channels, int64_t reduced)
      : down_(register_module<Linear>("down", channels, reduced)), up_(register_module<Linear>("up", reduced, channels)) {}
  Tensor forward(const Tensor& x) override { return x * sigmoid(up_(relu(down_(mean(x, {1, 2}, true))))); }

 private:
  Linear& down_;
  Linear& up_;
};

// y = x - t where x > t, x + t where x < -t, else 0.
struct SoftThresholdBackward final : Node {
  explicit SoftThresholdBackward(const Tensor& y) : Node("soft_threshold"), y_(save(y)) {}
  TensorList backward(const TensorList& grads) override {
    const Tensor& y = y_.get();
    Tensor grad_x = Tensor::empty_like(y);
    dispatch_floating(y.dtype(), name(), [&]<typename T>() {
      const T *values = y.data<T>(), *grad = grads[0].data<T>();
      T* out = grad_x.data<T>();
      for (int64_t i = 0; i < y.numel(); ++i) out[i] = values[i] != 0 ? grad[i] : 0;
    });
    return {grad_x};  // one for each recorded input
  }
  SavedTensor& y_;  // released after its turn
};

Tensor soft_threshold(const Tensor& x, double t) {
  check::floating("soft_threshold", {"x", x});
  Tensor y = Tensor::empty_like(x);
  dispatch_floating(x.dtype(), "soft_threshold", [&]<typename T>() {
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(x.numel(), 16384, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = in[i] > T(t) ? in[i] - T(t) : in[i] < -T(t) ? in[i] + T(t) : T(0);
    });
  });
  record<SoftThresholdBackward>(y, {x}, y);
  return y;
}

Tensor noise(const Shape& shape) {
  Tensor x = Tensor::empty(shape, DType::kFloat64);
  init::normal_(x, 0, 1);
  return x.set_requires_grad();
}

}  // namespace

void extend_autograd(const std::filesystem::path&) {
  const InitRandom in_float64(3, DType::kFloat64);
  SqueezeExcite layer(6, 2);
  std::vector<Tensor> inputs = layer.parameters();  // the layer reads them itself
  inputs.insert(inputs.begin(), noise({2, 3, 3, 6}));
  const GradcheckResult of_layer = gradcheck([&](const std::vector<Tensor>& in) { return layer(in[0]); }, inputs);
  expect(of_layer.ok, of_layer.message);
  const GradcheckResult of_operator = gradcheck([](const std::vector<Tensor>& in) { return soft_threshold(in[0], 0.5); }, {noise({40})});
  expect(of_operator.ok, of_operator.message);
}
