// Lesson 4: a network that learns.
//
// Two spirals of points wind around each other; which one does a point belong to? No straight line answers that. A
// multilayer perceptron bends space first: each layer computes h = tanh(W x + b), and a last linear layer gives one
// score for each class. softmax turns scores z into probabilities, p_c = exp(z_c) / sum exp(z), and the loss is cross
// entropy: minus the logarithm of the probability that the right class got. Learning is lesson 2 repeated: forward,
// loss, backward, a small step.
//
// How long a step? SGD with momentum walks along b, a running sum of gradients:   b = 0.9 b + g,   w = w - lr b AdamW
// divides each weight's step by the usual size of that weight's gradient:   w = w - lr mean(g) / sqrt(mean(g^2)) so
// every weight moves at about the same pace, whether its gradient is large or tiny. That helps where gradients differ
// by orders of magnitude, as between the layers here. (It is also why the scale of features, lesson 11, matters less
// to it.)
//
// Both start from the same weights and see the same points. The picture shows what each network answers everywhere.
//
// Then the same training code learns to read: the 60,000 handwritten digits of MNIST where they are there (a folder
// as second argument), else digits that the library draws. One pass over the training set is enough to read some 19
// of 20 digits that it has never seen.
//
// Exercise: make the network narrower, 32 -> 4. Look at the picture: which boundaries can it still draw?
#include <cmath>
#include <cstdio>
#include <numbers>

#include "core/errors.h"
#include "core/file.h"
#include "core/random.h"
#include "datasets/image.h"
#include "datasets/mnist.h"
#include "layers/layers.h"
#include "training/metrics.h"
#include "training/optimizer.h"

using namespace eq;

struct Examples {
  Tensor x, labels;  // [N, features], [N]
};

void build(Sequential& net, const std::vector<int64_t>& sizes, Tensor (*activation)(const Tensor&)) {
  for (size_t i = 0; i + 1 < sizes.size(); ++i) {
    net.append<Linear>(sizes[i], sizes[i + 1]);
    if (i + 2 < sizes.size()) net.append<Activation>(activation);
  }
}

double accuracy(Sequential& net, const Examples& data) {
  NoGradGuard no_grad;
  const Tensor answers = argmax_classes(net(data.x));
  int64_t right = 0;
  for (int64_t i = 0; i < answers.numel(); ++i) right += answers.value_at(i) == data.labels.value_at(i);
  return double(right) / double(answers.numel());
}

void learn(Sequential& net, const Examples& data, const OptimizerOptions& options, int64_t batch, int64_t steps) {
  const auto optimizer = make_optimizer(optimizer_parameters(net), options);
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t begin = step * batch % (data.x.size(0) - batch + 1);
    const Tensor scores = net(slice(data.x, 0, begin, begin + batch));
    const Tensor loss = cross_entropy(scores, slice(data.labels, 0, begin, begin + batch));
    net.zero_grad();
    loss.backward();
    optimizer->step(options.lr);
    if (step + 1 == steps || (step + 1) % (steps / 3) == 0) {
      std::printf("  %-6s step %4d  loss %.4f\n", options.type.c_str(), int(step + 1), loss.item());
    }
  }
}

Examples spirals(int64_t count) {
  std::vector<float> points;
  std::vector<uint8_t> labels;
  Random random(1);
  for (int64_t i = 0; i < count; ++i) {
    const double along = std::sqrt(random.uniform()), angle = std::numbers::pi * (3.5 * along + double(i % 2));
    points.push_back(float(along * std::cos(angle) + 0.015 * random.normal()));
    points.push_back(float(along * std::sin(angle) + 0.015 * random.normal()));
    labels.push_back(uint8_t(i % 2));
  }
  return {Tensor::from(points, {count, 2}), Tensor::from(labels, {count})};
}

// The probability of class 1 everywhere in [-1.1, 1.1]^2, from blue to orange, and the points on top.
Image decision_map(Sequential& net, const Examples& data) {
  constexpr int64_t kSide = 240;
  std::vector<float> grid;
  for (int64_t i = 0; i < kSide * kSide; ++i) {
    for (int64_t place : {i % kSide, i / kSide}) grid.push_back(float(place) / float(kSide - 1) * 2.2f - 1.1f);
  }
  NoGradGuard no_grad;
  const Tensor p = softmax(net(Tensor::from(grid, {kSide * kSide, 2})));
  Image image{kSide, kSide, {}};
  for (int64_t i = 0; i < kSide * kSide; ++i) {
    const double warm = p.value_at(2 * i + 1);
    for (double color : {60 + 180 * warm, 120 + 50 * warm, 220 - 160 * warm}) image.pixels.push_back(uint8_t(color));
  }
  for (int64_t i = 0; i < data.labels.numel(); ++i) {
    const int64_t column = std::lround((data.x.value_at(2 * i) + 1.1) / 2.2 * (kSide - 1));
    const int64_t row = std::lround((data.x.value_at(2 * i + 1) + 1.1) / 2.2 * (kSide - 1));
    for (int64_t pixel : {row * kSide + column, row * kSide + column + 1, (row + 1) * kSide + column}) {
      for (size_t c = 0; c < 3; ++c) image.pixels[size_t(3 * pixel) + c] = data.labels.value_at(i) == 1 ? 255 : 0;
    }
  }
  return image;
}

Examples to_examples(const DigitSet& set) {
  std::vector<float> values(set.pixels.begin(), set.pixels.end());
  return {Tensor::from(values, {set.count, set.height * set.width}) / 255, Tensor::from(set.labels, {set.count})};
}

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : ".", mnist = argc > 2 ? argv[2] : "mnist";
  make_folder(folder);
  const Examples points = spirals(600);
  std::vector<Image> maps;
  std::vector<double> right;
  for (const OptimizerOptions& options : {OptimizerOptions{.type = "sgd", .lr = 0.1, .weight_decay = 0},
                                              OptimizerOptions{.type = "adamw", .lr = 0.01, .weight_decay = 0}}) {
    const InitRandom same_weights(0);
    Sequential net;
    build(net, {2, 32, 32, 2}, tanh);
    learn(net, points, options, points.x.size(0), 600);
    right.push_back(accuracy(net, points));
    std::printf("  %-6s answers %.1f %% of the points right\n", options.type.c_str(), 100 * right.back());
    maps.push_back(decision_map(net, points));
  }
  write_png(folder + "/04_two_spirals.png", side_by_side(maps));

  Examples train, test;
  try {
    train = to_examples(read_mnist(mnist, "train"));
    test = to_examples(read_mnist(mnist, "test"));
    std::printf("%d handwritten digits of MNIST\n", int(train.x.size(0)));
  } catch (const IoError&) {
    train = to_examples(draw_digits(20000, 1));
    test = to_examples(draw_digits(2000, 2));
    std::printf("there is no MNIST in '%s': %d drawn digits\n", mnist.c_str(), int(train.x.size(0)));
  }
  const InitRandom weights(0);
  Sequential reader;
  build(reader, {train.x.size(1), 64, 10}, relu);
  learn(reader, train, {.type = "adamw", .lr = 2e-3}, 100, train.x.size(0) / 100);
  const double read = accuracy(reader, test);
  std::printf("  reads %.1f %% of %d digits that it has not seen\n", 100 * read, int(test.x.size(0)));
  const bool ok = right[1] > 0.99 && read > 0.9;
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
}
