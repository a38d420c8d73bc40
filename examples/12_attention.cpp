// Lesson 12: attention.
//
// A convolution mixes neighbours, with weights that are the same everywhere. Attention mixes what is alike, wherever it
// lies, with weights that the picture itself makes. Each pixel (a "token") has three vectors: a query, what it looks
// for; a key, what others find it by; and a value, what it has to say. Then, for a query q,
//
//   weight of token j = exp(q . k_j / sqrt(d)) / sum of the same over all tokens       result = sum over j of weight_j v_j
//
// For all tokens at once that is softmax(Q K^T / sqrt(d)) V: two products and a softmax. In transformers (Swin and Twins
// among the backbones) linear layers make Q, K and V, and learn how. Four facts:
//
// 1. Places are forgotten. Shuffle the tokens and the results are shuffled, no more. So transformers add to the scores
//    a number for each distance, or to the tokens a vector for each place.
// 2. Why sqrt(d). A dot product of d independent pairs of variance 1 has the variance d. Undivided, scores grow with d
//    until softmax gives all weight to one token, p = 1. A weight answers to its score by p (1 - p), which is then 0:
//    such queries are deaf, nothing teaches them.
// 3. Nothing need be learnt for attention to be of use. Let the query and the key of a pixel be the 3 x 3 colours around
//    it and its value its own colour: each pixel becomes the mean of those that look like it. That is the non-local
//    means filter (Buades, Coll and Morel, 2005). It takes away noise, as a blur does, and leaves edges alone, as a blur
//    does not. Likeness is a distance there: -|a - b|^2 / 2 = a . b - |b|^2 / 2 - |a|^2 / 2. The last term is the same
//    for all keys and drops out of the softmax; for the one before it the key has one number more, and the query a 1.
// 4. It is dear. n tokens have n^2 weights: twice the side, sixteen times the work. Swin therefore attends within
//    windows of 7 x 7, and moves them by half a window in every other layer, so that news cross their borders. Here, in
//    the last table, a sixty-fourth of the weights costs a seventh more error: what is alike is often near.
//
// The picture shows the scene with noise, blurred, and after attention.
//
// Exercise: make kLikeness 1, then 1000. What does attention become at either end?
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/file.h"
#include "core/random.h"
#include "datasets/shapes.h"
#include "datasets/transforms.h"

using namespace eq;

constexpr int64_t kSide = 64;
constexpr double kNoise = 12, kLikeness = 36;  // gray levels: three times the noise

Tensor noise(const Shape& shape, uint64_t seed, double deviation = 1) {
  Random random(seed);
  std::vector<double> values(size_t(shape.numel()));
  for (double& value : values) value = deviation * random.normal();
  return Tensor::from(values, shape);
}

double largest_difference(const Tensor& a, const Tensor& b) { return max(abs(reshape(a - b, {a.numel()})), 0).item(); }

// Of [..., n, d] queries with [..., m, d] keys and [..., m, c] values: [..., n, c].
Tensor attend(const Tensor& query, const Tensor& key, const Tensor& value, double scale) {
  return matmul(softmax(matmul(query, key, true) * scale), value);
}

bool the_formula() {
  constexpr int64_t kTokens = 6, kDepth = 4;
  const Tensor q = noise({kTokens, kDepth}, 1), k = noise({kTokens, kDepth}, 2), v = noise({kTokens, kDepth}, 3);
  Tensor by_hand = Tensor::zeros({kTokens, kDepth}, DType::kFloat64);
  for (int64_t i = 0; i < kTokens; ++i) {
    double weight[kTokens], sum = 0;
    for (int64_t j = 0; j < kTokens; ++j) {
      double score = 0;
      for (int64_t c = 0; c < kDepth; ++c) score += q.value_at(i * kDepth + c) * k.value_at(j * kDepth + c);
      sum += weight[j] = std::exp(score / std::sqrt(double(kDepth)));
    }
    for (int64_t j = 0; j < kTokens; ++j)
      for (int64_t c = 0; c < kDepth; ++c) by_hand.data<double>()[i * kDepth + c] += weight[j] / sum * v.value_at(j * kDepth + c);
  }
  const double scale = 1 / std::sqrt(double(kDepth)), difference = largest_difference(attend(q, k, v, scale), by_hand);
  // Tokens in another order: row i of the permutation has its 1 in column (5 i + 2) mod 6.
  Tensor order = Tensor::zeros({kTokens, kTokens}, DType::kFloat64);
  for (int64_t i = 0; i < kTokens; ++i) order.data<double>()[i * kTokens + (5 * i + 2) % kTokens] = 1;
  const Tensor shuffled = attend(matmul(order, q), matmul(order, k), matmul(order, v), scale);
  const double moved = largest_difference(shuffled, matmul(order, attend(q, k, v, scale)));
  std::printf("loops and products differ by %.0e; shuffled tokens, and the results shuffled, by %.0e\n", difference, moved);
  return difference < 1e-14 && moved < 1e-14;
}

// What becomes of 64 weights as the vectors get longer. A weight p answers to its score by p (1 - p).
bool the_root() {
  std::printf("   d   deviation of q.k   undivided: largest weight, deaf queries   divided: largest weight, deaf queries\n");
  double deaf[2] = {};
  for (const int64_t d : {4, 16, 64, 256, 1024}) {
    const Tensor scores = matmul(noise({1000, d}, 4), noise({64, d}, 5), true);
    std::printf("%4d %18.2f", int(d), std::sqrt(var(scores, {}, false).item()));
    for (const bool divided : {false, true}) {
      const Tensor largest = max(softmax(divided ? scores / std::sqrt(double(d)) : scores), 1);
      deaf[divided] = 0;
      for (const double p : largest.to_vector<double>()) deaf[divided] += p * (1 - p) < 0.01 ? 0.1 : 0;  // percent of 1000
      std::printf("%24.3f %11.1f %%", mean(largest).item(), deaf[divided]);
    }
    std::printf("\n");
  }
  return deaf[false] > 50 && deaf[true] < 1;
}

// The 27 values of the 3 x 3 colours around each pixel of [1, H, W, 3]; the border is repeated.
Tensor patches(const Tensor& picture) {
  const int64_t height = picture.size(1), width = picture.size(2);
  std::vector<Tensor> shifted;
  for (const int64_t r : {-1, 0, 1}) {
    for (const int64_t s : {-1, 0, 1}) {
      Tensor copy = Tensor::empty_like(picture);
      for (int64_t i = 0; i < copy.numel(); ++i) {
        const int64_t row = std::clamp<int64_t>(i / 3 / width + r, 0, height - 1);
        const int64_t column = std::clamp<int64_t>(i / 3 % width + s, 0, width - 1);
        copy.data<double>()[i] = picture.value_at((row * width + column) * 3 + i % 3);
      }
      shifted.push_back(copy);
    }
  }
  return concat(shifted, 3);
}

// A noisy picture without most of its noise. Each pixel attends to those of its window.
Tensor non_local_means(const Tensor& picture, int64_t window) {
  const Tensor patch = patches(picture), one = Tensor::full({1, picture.size(1), picture.size(2), 1}, 1, DType::kFloat64);
  const Tensor query = concat({patch, one}, 3), key = concat({patch, sum(square(patch), {3}, true) * -0.5}, 3);
  const auto tokens = [&](const Tensor& image) { return split_windows(image, window, 0); };  // [windows, window * window, C]
  const Tensor result = attend(tokens(query), tokens(key), tokens(picture), 1 / (kLikeness * kLikeness));
  return join_windows(result, picture.shape(), window, 0);
}

Image to_image(const Tensor& picture) {
  Image image{picture.size(1), picture.size(2), {}};
  for (const double value : picture.to_vector<double>()) image.pixels.push_back(uint8_t(std::lround(std::clamp(value, 0.0, 255.0))));
  return resize_bilinear(image, {3 * image.height, 3 * image.width});
}

bool without_noise(const std::string& path) {
  const Image scene = ShapesDataset(kShapesSeed, "val", kSide, 4).load(3).image;
  const Tensor clean = Tensor::from(std::vector<double>(scene.pixels.begin(), scene.pixels.end()), {1, kSide, kSide, 3});
  const Tensor noisy = clean + noise(clean.shape(), 6, kNoise);
  const Tensor blurred = mean(reshape(patches(noisy), {1, kSide, kSide, 9, 3}), {3});
  const auto error = [&](const Tensor& picture) { return std::sqrt(mean(square(picture - clean)).item()); };
  std::printf("error in gray levels: noisy %.1f, blurred %.1f, after attention within windows\n", error(noisy), error(blurred));
  double whole = 0, windows = 0;
  for (const int64_t window : {64, 32, 16, 8}) {
    const Tensor attended = non_local_means(noisy, window);
    windows = error(attended);
    std::printf("  of %2d x %2d  %8d weights  %.1f\n", int(window), int(window), int(kSide * kSide * window * window), windows);
    if (window != kSide) continue;
    whole = windows;
    write_png(path, side_by_side({to_image(noisy), to_image(blurred), to_image(attended)}));
  }
  return whole < 0.7 * error(noisy) && whole < 0.7 * error(blurred) && windows < 1.2 * whole;
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  bool ok = the_formula();
  ok &= the_root();
  ok &= without_noise(folder + "/12_attention.png");
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
