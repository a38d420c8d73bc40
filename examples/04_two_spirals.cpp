// Lesson 4: a network that learns.
//
// Two spirals of points wind around each other; which one does a point belong to? No straight line answers that. A
// multilayer perceptron bends space first: each layer computes h = tanh(W x + b), and a last linear layer gives one
// score for each class. softmax turns scores z into probabilities, p_c = exp(z_c) / sum exp(z), and the loss is cross
// entropy: minus the logarithm of the probability that the right class got. Learning is lesson 2 repeated: forward,
// loss, backward, a small step.
//
// How long a step? Two rules; lr is the learning rate, g a weight's gradient:
//   SGD with momentum:   b = 0.9 b + g                             w = w - lr b
//   AdamW:               m, v = running means of g and g^2         w = w - lr m / sqrt(v)
// (Left out: AdamW's m and v begin at 0 and are scaled up for it, and both rules can let weights decay.) AdamW
// divides by the usual size of the gradient, so every weight moves at about the same pace, whether its gradient is
// large or tiny. (So the scale of features, lesson 13, matters less to it.) The rate must be found by trying, for
// both. The table does so, always from the same weights: both learn at some rates, AdamW at more of them. The
// picture shows what both answer everywhere at rate 0.1.
//
// Then the same code learns to read: MNIST's 60,000 handwritten digits if their folder is the second argument, else
// digits that the library draws. Once through them, and it reads 94 of 100 that it has never seen (98 of the drawn
// ones).
//
// Exercise: make the network narrower, 32 -> 4. Look at the picture: which boundaries can it still draw?
#include <cmath>
#include <cstdio>
#include <numbers>

#include "autograd/node.h"
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

// Returns the last loss.
double learn(Sequential& net, const Examples& data, const OptimizerOptions& options, int64_t batch, int64_t steps) {
  double last = 0;
  const auto optimizer = make_optimizer(optimizer_parameters(net), options);
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t begin = step * batch % (data.x.size(0) - batch + 1);
    const Tensor scores = net(slice(data.x, 0, begin, begin + batch));
    const Tensor loss = cross_entropy(scores, slice(data.labels, 0, begin, begin + batch));
    net.zero_grad();
    loss.backward();
    optimizer->step(options.lr);
    last = loss.item();
  }
  return last;
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

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  const Examples points = spirals(600);
  std::vector<Image> maps;
  int learnt_at[2] = {0, 0};  // number of rates: SGD, AdamW
  std::printf("   rate     SGD: loss, right   AdamW: loss, right\n");
  for (const double lr : {0.003, 0.01, 0.03, 0.1, 0.3, 1.0}) {
    std::printf("  %5g", lr);
    for (const bool adamw : {false, true}) {
      const InitRandom same_weights(0);
      Sequential net;
      build(net, {2, 32, 32, 2}, tanh);
      const OptimizerOptions options{.type = adamw ? "adamw" : "sgd", .lr = lr, .weight_decay = 0};
      const double loss = learn(net, points, options, points.x.size(0), 600), right = accuracy(net, points);
      std::printf("  %12.4f  %5.1f %%", loss, 100 * right);
      learnt_at[adamw] += right > 0.97;
      if (lr == 0.1) maps.push_back(decision_map(net, points));
    }
    std::printf("\n");
  }
  write_png(folder + "/04_two_spirals.png", side_by_side(maps));

  const bool real = argc > 2;
  const Examples train = to_examples(real ? read_mnist(argv[2], "train") : draw_digits(20000, 1));
  const Examples test = to_examples(real ? read_mnist(argv[2], "test") : draw_digits(2000, 2));
  std::printf("%d %s\n", int(train.x.size(0)), real ? "digits of MNIST" : "drawn digits (no folder of MNIST was given)");
  const InitRandom weights(0);
  Sequential reader;
  build(reader, {train.x.size(1), 64, 10}, relu);
  learn(reader, train, {.type = "adamw", .lr = 2e-3}, 100, train.x.size(0) / 100);  // every example once
  const double read = accuracy(reader, test);
  std::printf("reads %.1f %% of %d digits that it has not seen\n", 100 * read, int(test.x.size(0)));
  const bool ok = learnt_at[0] > 0 && learnt_at[1] > learnt_at[0] && read > 0.9;
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
