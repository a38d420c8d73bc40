// Lesson 6: bilinear upsampling, and what it does to scale.
//
// Coarse features must be enlarged before they can meet fine ones. Bilinear upsampling reads the source at fractional
// places and mixes the two nearest cells of each axis: y = (1 - t) x[i] + t x[i + 1]. Where is output cell j? Two
// answers:
//   align_corners = false:  cells are areas,  s = (j + 1/2) in / out - 1/2     (the usual one)
//   align_corners = true:   cells are points, s = j (in - 1) / (out - 1)       (first and last cells meet)
// A pair [1, 2] enlarged to 4 is 1, 1.25, 1.75, 2 by the first and 1, 1.33, 1.67, 2 by the second.
//
// The adjoint. Upsampling is linear, y = A x, so the gradient flows back through A^T. There is a test of this that
// needs no formula: <A x, y> = <x, A^T y> must hold for all x and y. It checks a backward pass against its forward
// pass exactly.
//
// The scale. A mean of two independent numbers of variance 1 with weights 1-t, t has the variance (1-t)^2 + t^2 < 1.
// So upsampling shrinks variance. The factor of one axis, g, is the mean of (1-t)^2 + t^2 over the output positions,
// and that of both axes is f = g g. The authors of the scale-equalizer paper published an experiment: white
// noise of 128 x 128 keeps 0.3943, 0.4342, 0.4445 of its variance when enlarged 2, 4, 8 times. Here it is measured
// again, and computed from the weights themselves. Note the order: the factor is smallest at ratio 2, and never goes
// to zero (the limit is 4/9). The step from "not enlarged" (1) to "enlarged" (0.4) is what matters: lessons 13 and 14
// are about it.
//
// Repeatability. Each source cell sums gradients from many outputs. A GPU often lets all threads add at once
// ("atomics"), in the order in which they happen to arrive. But float addition is not associative: the sum in another
// order is another number. This engine gathers instead, each cell in one fixed order: the same bits for any number of
// threads.
//
// Exercise: real features are smooth, not white. Blur the noise first (avg_pool2d 3x3, stride 1, padding 1). How much
// of its variance does the upsampling keep now, and why?
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/kernels/resize.h"
#include "core/parallel.h"
#include "core/random.h"
#include "datasets/transforms.h"

using namespace eq;

Tensor noise(const Shape& shape, uint64_t seed, double mean, double variance, DType dtype = DType::kFloat32) {
  Random random(seed);
  std::vector<double> values(size_t(shape.numel()));
  for (double& value : values) value = mean + std::sqrt(variance) * random.normal();
  return Tensor::from(values, shape).to(dtype);
}

// The population variance of all values, as in the authors' script.
double variance_of(const Tensor& x) { return var(x, {}, false).item(); }

// g g.
double factor_from_weights(int64_t in, int64_t out, bool align_corners) {
  double sum = 0;
  for (int64_t j = 0; j < out; ++j) {
    const double t = bilinear_source(j, in, out, align_corners).upper_weight;
    sum += (1 - t) * (1 - t) + t * t;
  }
  const double g = sum / double(out);
  return g * g;
}

bool both_alignments() {
  const Tensor pair = Tensor::from<float>({1, 2}, {1, 1, 2, 1});
  const Tensor areas = resize_bilinear(pair, 1, 4, false), points = resize_bilinear(pair, 1, 4, true);
  std::printf("[1, 2] enlarged to 4 cells, as areas: %s\n", to_string(areas).c_str());
  std::printf("                          as points: %s\n", to_string(points).c_str());
  return areas.value_at(1) == 1.25 && std::abs(points.value_at(1) - 4.0 / 3) < 1e-6;
}

bool adjoint_identity() {
  double worst = 0;
  for (const bool align_corners : {false, true}) {
    const Tensor x = noise({2, 5, 7, 3}, 1, 0, 1, DType::kFloat64).set_requires_grad();
    const Tensor y = noise({2, 13, 11, 3}, 2, 0, 1, DType::kFloat64);
    const Tensor enlarged = resize_bilinear(x, 13, 11, align_corners);
    enlarged.backward(y);  // x.grad() = A^T y
    const double left = sum(enlarged.detach() * y).item(), right = sum(x.detach() * x.grad()).item();
    std::printf("<Ax, y> = %.12f   <x, A^T y> = %.12f\n", left, right);
    worst = std::max(worst, std::abs(left - right));
  }
  return worst < 1e-10;
}

bool paper_experiment() {
  constexpr struct {
    int64_t ratio;
    double published;
  } kRows[] = {{2, 0.3943}, {4, 0.4342}, {8, 0.4445}};
  const Tensor x = noise({1, 128, 128, 32}, 3, 0.3989, 0.5);  // 0.3989: the mean of relu of a standard normal
  bool ok = true;
  std::printf("ratio  measured  from the weights  published   (align_corners true: measured)\n");
  for (const auto& [ratio, published] : kRows) {
    const double areas = variance_of(resize_bilinear(x, 128 * ratio, 128 * ratio, false)) / variance_of(x);
    const double points = variance_of(resize_bilinear(x, 128 * ratio, 128 * ratio, true)) / variance_of(x);
    const double exact = factor_from_weights(128, 128 * ratio, false);
    std::printf("  %d     %.4f      %.6f        %.4f      %.4f\n", int(ratio), areas, exact, published, points);
    ok &= std::abs(areas - exact) < 2e-3 && std::abs(exact - published) < 5e-5;
    ok &= std::abs(points - factor_from_weights(128, 128 * ratio, true)) < 2e-3;
  }
  return ok;
}

bool order_matters() {
  const std::vector<float> values = noise({100000}, 4, 0, 1).to_vector<float>();
  float forwards = 0, backwards = 0;
  for (size_t i = 0; i < values.size(); ++i) forwards += values[i];
  for (size_t i = values.size(); i-- > 0;) backwards += values[i];
  std::printf("the same 100000 floats summed forwards %.6f, backwards %.6f\n", double(forwards), double(backwards));
  std::vector<Tensor> grads;
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    const Tensor x = noise({1, 16, 16, 8}, 5, 0, 1).set_requires_grad();
    resize_bilinear(x, 100, 100, false).backward(noise({1, 100, 100, 8}, 6, 0, 1));
    grads.push_back(x.grad());
  }
  const bool same = std::memcmp(grads[0].raw_data(), grads[1].raw_data(), grads[0].bytes()) == 0;
  std::printf("the gradient of an upsampling on 1 and on 2 threads: %s\n", same ? "the same bits" : "different bits");
  return forwards != backwards && same;
}

// Gray values of [1, h, w, 1], each cell as a square.
Image squares(const Tensor& x, int64_t side) {
  LabelMap cells{x.size(1), x.size(2), {}};
  for (float value : x.to_vector<float>()) cells.labels.push_back(uint8_t(std::clamp(128 + 60 * value, 0.0f, 255.0f)));
  Palette grays(256);
  for (size_t i = 0; i < 256; ++i) grays[i] = {uint8_t(i), uint8_t(i), uint8_t(i)};
  return colorize(resize_nearest(cells, {side, side}), grays, 255);
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  const Tensor coarse = noise({1, 8, 8, 1}, 7, 0, 1);
  const Tensor areas = resize_bilinear(coarse, 64, 64, false), points = resize_bilinear(coarse, 64, 64, true);
  write_png(folder + "/06_upsampling.png", side_by_side({squares(coarse, 256), squares(areas, 256), squares(points, 256)}));
  bool ok = both_alignments();
  ok &= adjoint_identity();
  ok &= paper_experiment();
  ok &= order_matters();
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
