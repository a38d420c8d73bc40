// Lesson 7: batch normalisation.
//
// For each channel c, over all pixels of all pictures of the batch (m numbers):
//
//   xhat = (x - mean_c) / sqrt(var_c + eps)          y = gamma_c xhat + beta_c
//
// So every channel leaves with mean beta and deviation gamma, whatever the layers before it do. Four consequences:
//
// 1. A picture's result depends on the other pictures of its batch. In use there may be no others, so running
//    averages of mean and variance are kept, running = 0.9 running + 0.1 batch, and eval() uses those. After k
//    batches the start's share is 0.9^k: with too few batches train() and eval() disagree, and a good network seems
//    broken.
// 2. A batch of one 1x1 map (global pooling does that) has one number per channel: its deviation is 0 and nothing is
//    left. The library refuses and names the layer, because otherwise the branch would silently output beta for ever.
// 3. The scale of what comes in is forgotten: 1000 x gives the same y. That is how convolution weights lose their
//    scale, and why this engine's equalizers act behind normalisation, where upsampling has changed the scale again
//    (lesson 13).
// 4. The gradient has three terms, because x also moves the mean and the variance:
//
//      dx = gamma / sqrt(var + eps) * ( dy  -  mean(dy)  -  xhat mean(dy xhat) )
//
//    The second takes out what shifting all x together would do (nothing: the mean follows), the third what stretching
//    them would do. Leave them out, treating mean and variance as constants, and the gradient is plainly wrong.
//
// Exercise: feed the layer batches whose mean moves by 1 each time. How far behind are the running statistics?
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/errors.h"
#include "core/random.h"
#include "layers/layers.h"

using namespace eq;

constexpr int64_t kChannels = 3;

Tensor random_features(const Shape& shape, uint64_t seed, double mean, double deviation) {
  Random random(seed);
  std::vector<double> values(size_t(shape.numel()));
  for (double& value : values) value = mean + deviation * random.normal();
  return Tensor::from(values, shape);
}

double largest_difference(const Tensor& a, const Tensor& b) {
  double largest = 0;
  for (int64_t i = 0; i < a.numel(); ++i) largest = std::max(largest, std::abs(a.value_at(i) - b.value_at(i)));
  return largest;
}

bool normalises_and_forgets_scale() {
  BatchNorm2d norm(kChannels);
  const Tensor x = random_features({4, 6, 6, kChannels}, 1, 5, 3), y = norm(x);
  const double middle = mean(y).item(), deviation = std::sqrt(var(y, {}, false).item());
  const double change = largest_difference(norm(x * 1000), y);
  std::printf("in: mean 5, deviation 3; out: mean %.1e, deviation %.6f\n", middle, deviation);
  std::printf("out for 1000 x: the same to %.1e\n", change);
  return std::abs(middle) < 1e-9 && std::abs(deviation - 1) < 1e-4 && change < 1e-4;
}

// Trains on batches of mean 5 and deviation 3; prints how far evaluation is from training.
bool running_statistics_catch_up() {
  BatchNorm2d norm(kChannels);
  double gap = 0, first = 0;
  std::printf("batches seen   largest |train() - eval()|   0.9^k\n");
  for (int k = 1; k <= 64; ++k) {
    const Tensor x = random_features({8, 16, 16, kChannels}, uint64_t(k), 5, 3);
    norm.train();
    const Tensor trained = norm(x);
    norm.eval();
    gap = largest_difference(trained, norm(x));
    if (k == 1) first = gap;
    if ((k & (k - 1)) == 0) std::printf("%8d       %16.4f %19.4f\n", k, gap, std::pow(0.9, k));
  }
  return first > 1 && gap < 0.2;
}

bool the_batch_matters() {
  BatchNorm2d norm(kChannels);
  const Tensor picture = random_features({1, 4, 4, kChannels}, 1, 0, 1);
  const Tensor near = random_features({1, 4, 4, kChannels}, 2, 0, 1);
  const Tensor far = random_features({1, 4, 4, kChannels}, 3, 6, 1);
  auto result_beside = [&](const Tensor& other) { return slice(norm(concat({picture, other}, 0)), 0, 0, 1); };
  const double change = largest_difference(result_beside(near), result_beside(far));
  std::printf("the same picture beside another one: its values change by up to %.2f\n", change);
  norm.assign_paths("image_pool.bn");
  try {
    norm(random_features({1, 1, 1, kChannels}, 4, 0, 1));
  } catch (const Error& error) {
    std::printf("a batch of one 1x1 map: %s (%s)\n", error.what_happened().c_str(), error.where().c_str());
    return change > 0.5;
  }
  return false;
}

bool three_terms() {
  const Tensor x = random_features({2, 4, 4, kChannels}, 5, 5, 3).set_requires_grad();
  const Tensor dy = random_features({2, 4, 4, kChannels}, 6, 1, 1);
  BatchNorm2d norm(kChannels);
  const Tensor xhat = norm(x);  // gamma is 1 and beta 0 at the start
  xhat.backward(dy);
  const std::vector<int> all_but_channels = {0, 1, 2};
  const Tensor inverse = rsqrt(var(x.detach(), all_but_channels, false) + 1e-5), h = xhat.detach();
  const Tensor one = dy * inverse;
  const Tensor two = (dy - mean(dy, all_but_channels)) * inverse;
  const Tensor three = (dy - mean(dy, all_but_channels) - h * mean(dy * h, all_but_channels)) * inverse;
  double errors[3];
  const Tensor* ways[3] = {&one, &two, &three};
  for (int i = 0; i < 3; ++i) {
    errors[i] = largest_difference(*ways[i], x.grad());
    std::printf("gradient by hand with %d of 3 terms: off by %.1e\n", i + 1, errors[i]);
  }
  return errors[0] > 0.1 && errors[1] > 0.01 && errors[2] < 1e-12;
}

int main() {
  const InitRandom in_float64(0, DType::kFloat64);
  bool ok = normalises_and_forgets_scale();
  ok &= running_statistics_catch_up();
  ok &= the_batch_matters();
  ok &= three_terms();
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
