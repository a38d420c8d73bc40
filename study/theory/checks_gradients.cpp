// Gradients at a fusion layer and behind it.
#include <fmt/format.h>

#include <cmath>

#include "autograd/functional.h"
#include "layers/moments.h"
#include "study/theory/closed_forms.h"
#include "study/theory/lab.h"

namespace eq {
namespace {

constexpr int64_t kSide = 32, kChannels = 32, kOutputs = 32;
const std::vector<int64_t> kRatios = {1, 2, 4, 8};

double mean_square(const float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double(values[i]) * double(values[i]);
  return sum / double(count);
}

struct Fusion {
  int64_t images = 0;
  bool equalized = false, normed = false;
  // Batch norm centres by the batch's own mean, whose variance is that of one cell over the number of cells.
  MeanVariance input(int64_t ratio) const {
    const double factor = std::pow(bilinear_variance_factor(kSide / ratio, kSide, false), 2);
    const double cells = double(images * kSide * kSide / (ratio * ratio));
    const double centred = normed ? factor - 1 / cells : factor;
    if (equalized) return {0, centred / factor};
    return {kRectifiedNormalMean, kRectifiedNormalVariance * centred};
  }
  double predicted(int64_t ratio) const {
    double total = 0;
    for (const int64_t other : kRatios) total += double(kChannels) * input(other).variance;
    return normed ? weight_gradient_moment_before_norm(input(ratio), total) : weight_gradient_moment(input(ratio));
  }
  std::string name() const {
    return fmt::format("{}, {}", equalized ? "equalized" : "as they are", normed ? "batch norm behind" : "no norm behind");
  }
};

// Branches of rectified noise at every ratio, fused: [images,32,32,4*32].
Tensor fused_branches(Lab& lab, int64_t images, bool equalized) {
  FuseLevelsOptions options{.out_h = kSide, .out_w = kSide};
  std::vector<Tensor> branches;
  for (const int64_t ratio : kRatios) {
    branches.push_back(relu(lab.normal({images, kSide / ratio, kSide / ratio, kChannels})));
    if (!equalized) continue;
    const double factor = std::pow(bilinear_variance_factor(kSide / ratio, kSide, false), 2);
    options.shift.push_back(Tensor::full({1}, kRectifiedNormalMean));
    options.scale.push_back(Tensor::full({1}, 1 / std::sqrt(kRectifiedNormalVariance * factor)));
  }
  return fuse_levels(branches, options);
}

// Gradient of the layer's output: white noise, through batch norm's backward where there is one.
Tensor output_gradient(Lab& lab, const Tensor& y, bool normed) {
  const Tensor noise = lab.normal(y.shape());
  if (!normed) return noise;
  Tensor leaf = y.detach().clone().set_requires_grad();
  Tensor running_mean = Tensor::zeros({kOutputs}), running_var = Tensor::full({kOutputs}, 1);
  batch_norm(leaf, {}, {}, running_mean, running_var, {.update_running = false}).backward(noise);
  return leaf.grad();
}

// One backward pass; adds E[(dL/dW)^2] / (N E[delta^2]) of each branch's slice.
void add_pass(Lab& lab, const Fusion& fusion, std::vector<BatchSums>& sums) {
  const int64_t inputs = kChannels * int64_t(kRatios.size());
  Tensor weight = (lab.normal({kOutputs, 1, 1, inputs}) * std::sqrt(2.0 / double(kOutputs))).set_requires_grad();
  const Tensor y = conv2d(fused_branches(lab, fusion.images, fusion.equalized), weight, {}, {});
  const Tensor delta = output_gradient(lab, y, fusion.normed);
  y.backward(delta);
  const double scale = double(y.numel() / kOutputs) * mean_square(delta.data<float>(), delta.numel());
  const Tensor gradient = weight.grad();
  for (size_t branch = 0; branch < kRatios.size(); ++branch) {
    double total = 0;
    for (int64_t o = 0; o < kOutputs; ++o) {
      total += mean_square(gradient.data<float>() + o * inputs + int64_t(branch) * kChannels, kChannels);
    }
    sums[branch].add(total / double(kOutputs), scale);
  }
}

}  // namespace

void check_weight_gradients(Lab& lab) {
  // More samples go into larger batches: what a batch's own chance correlations take from the prediction falls with its size.
  constexpr int kPasses = 40;
  const int64_t images = std::clamp<int64_t>(lab.request().samples >> 16, 8, 512);
  for (const Fusion fusion :
       {Fusion{images, false, false}, Fusion{images, false, true}, Fusion{images, true, false}, Fusion{images, true, true}}) {
    std::vector<BatchSums> sums(kRatios.size());
    for (int pass = 0; pass < kPasses; ++pass) add_pass(lab, fusion, sums);
    for (size_t i = 0; i < kRatios.size(); ++i) {
      lab.equal("weight gradient", fmt::format("{}, r={}", fusion.name(), kRatios[i]), fusion.predicted(kRatios[i]), sums[i].estimate(),
                0.1);
    }
  }
}

void check_input_gradients(Lab& lab) {
  constexpr int64_t kCells = 64;
  for (const int64_t ratio : {2, 4, 8}) {
    const int64_t out = kCells * ratio, channels = 8;
    BatchSums sums;
    for (int64_t done = 0; done < lab.maps(kCells); done += channels) {
      Tensor x = Tensor::zeros({1, kCells, kCells, channels}).set_requires_grad();
      const Tensor grad = lab.normal({1, out, out, channels});
      resize_bilinear(x, out, out, false).backward(grad);
      const auto outside = second_moments(grad, 0), inside = second_moments(x.grad(), 0);
      for (size_t c = 0; c < inside.size(); ++c) sums.add(inside[c], outside[c]);
    }
    lab.equal("input gradient", fmt::format("white output gradients, n={} r={}", kCells, ratio),
              std::pow(adjoint_second_moment(kCells, out, false), 2), sums.estimate(), 0.03);
    Tensor x = Tensor::zeros({1, kCells, kCells, 1}).set_requires_grad();
    resize_bilinear(x, out, out, false).backward(Tensor::full({1, out, out, 1}, 1));
    lab.exact("input gradient", fmt::format("equal output gradients, n={} r={}", kCells, ratio), std::pow(double(ratio), 4),
              second_moments(x.grad(), 0)[0], 1e-5);
  }
}

// y = BN(w * x) of one channel stays as it is when x is k times itself; so does the loss as a function of w, and its gradient.
void check_depthwise_gradients(Lab& lab) {
  constexpr int64_t kCells = 16, kDepth = 8;
  const Tensor x = lab.normal({2, kCells, kCells, kDepth}, DType::kFloat64), noise = lab.normal(x.shape(), DType::kFloat64);
  Tensor weight = lab.normal({kDepth, 3, 3, 1}, DType::kFloat64).set_requires_grad();
  const auto gradient = [&](double k) {
    weight.set_grad({});
    Tensor running_mean = Tensor::zeros({kDepth}, DType::kFloat64), running_var = Tensor::full({kDepth}, 1, DType::kFloat64);
    const Tensor y = conv2d(x * k, weight, {}, Conv2dOptions().padding(1).set_groups(kDepth));
    batch_norm(y, {}, {}, running_mean, running_var, {.eps = 1e-12, .update_running = false}).backward(noise);
    return second_moments(weight.grad(), 0)[0];
  };
  const double plain = gradient(1);
  for (const double k : {0.25, 4.0}) {
    lab.exact("weight gradient", fmt::format("of a depthwise filter, batch norm behind, inputs times {:g}", k), 1, gradient(k) / plain, 1e-9);
  }
}

}  // namespace eq
