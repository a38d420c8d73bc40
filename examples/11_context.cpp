// Lesson 11: context.
//
// Classes 2 and 7 of Shapes-8 are the same disc. What tells them apart is the scene: in a warm one it is a disc, in a
// cool one its twin, and the hue varies from place to place, so a glance at the surroundings is not enough. A network
// can only use what lies in its receptive field, the input pixels that an output depends on. A k x k convolution of
// dilation d at stride s widens it by (k - 1) d s. Three networks, equal but for one thing:
//   plain     3x3 convolutions: 16 pixels, little more than a small disc itself
//   dilated   the same weights spread out with dilations 2, 4, 8 (DeepLab): 60 pixels of 64
//   pyramid   plain, and beside it the mean of the whole map and of its quarters, enlarged, concatenated (PSPNet): all
//
// The receptive field need not be believed, it can be measured: set the gradient of one output pixel to 1, go
// backwards, and see where the input's gradient is not zero. The picture shows it for the three trained networks, on
// a scale of logarithms. The dilated one is a grid, because dilated windows step over pixels. The pyramid's is bright
// in the middle and faint, but nowhere zero, around it: pooling sees everything and keeps one number of it.
//
// Exercise: try dilations {8, 8, 8}. What does the formula say, what the program, and why are discs told apart all
// the same? Look at the picture: what is missing?
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "autograd/node.h"
#include "core/errors.h"
#include "core/file.h"
#include "datasets/loader.h"
#include "datasets/shapes.h"
#include "layers/layers.h"
#include "training/metrics.h"
#include "training/optimizer.h"

using namespace eq;

constexpr int64_t kSide = 64, kChannels = 16;

class ContextNet : public Layer {
 public:
  ContextNet(const std::vector<int64_t>& dilations, const std::vector<int64_t>& pools)
      : body_(register_module<Sequential>("body")),
        pyramid_(register_module<ModuleList<Sequential>>("pyramid")),
        classifier_(register_module<Conv2d>("classifier", kChannels * int64_t(1 + pools.size()), 2, Conv2dLayerOptions{})) {
    body_.append<ConvModule>(3, kChannels, 3);
    body_.append<AvgPool2d>(2, 2);
    for (int64_t dilation : dilations) body_.append<ConvModule>(kChannels, kChannels, 3, dilation);
    for (int64_t bins : pools) {
      Sequential& branch = pyramid_.append();
      branch.append<AdaptiveAvgPool2d>(bins);
      branch.append<ConvModule>(kChannels, kChannels, 1);
    }
  }
  Tensor forward(const Tensor& x) override {
    std::vector<Tensor> branches = {body_(x)};
    const int64_t height = branches[0].size(1), width = branches[0].size(2);
    for (size_t i = 0; i < pyramid_.size(); ++i) {
      branches.push_back(resize_bilinear(pyramid_[i](branches[0]), height, width, false));
    }
    return classifier_(concat(branches, 3));
  }

 private:
  Sequential& body_;
  ModuleList<Sequential>& pyramid_;
  Conv2d& classifier_;
};

// Disc or twin? All other pixels are ignored.
Tensor disc_or_twin(const Tensor& labels) {
  Tensor result = labels.clone();
  uint8_t* values = result.data<uint8_t>();
  for (int64_t i = 0; i < result.numel(); ++i) values[i] = values[i] == 2 ? 0 : values[i] == 7 ? 1 : kIgnoreIndex;
  return result;
}

void learn(ContextNet& net, const PipelineOptions& pipeline) {
  const ShapesDataset scenes(kShapesSeed, "train", kSide, Dataset::kEndless);
  DataLoader loader(scenes, pipeline, {.batch_size = 8});
  const auto optimizer = make_optimizer(optimizer_parameters(net), {.type = "adamw"});
  constexpr int kSteps = 80;
  for (int step = 0; step < kSteps; ++step) {
    const Batch batch = loader.next();
    const Tensor scores = resize_bilinear(net(batch.images), kSide, kSide, false);
    const Tensor loss = cross_entropy(scores, disc_or_twin(batch.labels));
    net.zero_grad();
    loss.backward();
    optimizer->step(1e-2 * (1 - double(step) / kSteps));
  }
}

double accuracy(ContextNet& net, const PipelineOptions& pipeline) {
  const NoGradGuard no_grad;
  const ShapesDataset unseen(kShapesSeed, "val", kSide, 100);
  ConfusionMatrix confusion(2, kIgnoreIndex);
  for (int64_t i = 0; i < unseen.size(); ++i) {
    const Sample sample = load_for_evaluation(unseen, i, pipeline);
    const Tensor scores = resize_bilinear(net(sample.image), kSide, kSide, false);
    confusion.add(disc_or_twin(sample.labels), reshape(argmax_classes(scores), {kSide, kSide}));
  }
  return confusion.metrics({"disc", "twin"}).macc;
}

// |gradient| of one score in the middle by every input pixel, summed over scenes; `extent`: how wide it is not zero.
Image receptive_field(ContextNet& net, const PipelineOptions& pipeline, int64_t& extent) {
  const ShapesDataset unseen(kShapesSeed, "val", kSide, 16);
  std::vector<double> field(kSide * kSide);
  for (int64_t i = 0; i < unseen.size(); ++i) {
    const Tensor image = load_for_evaluation(unseen, i, pipeline).image.set_requires_grad();
    const Tensor scores = net(image);
    Tensor seed = Tensor::zeros(scores.shape());
    seed.data<float>()[(scores.size(1) / 2 * scores.size(2) + scores.size(2) / 2) * 2] = 1;
    scores.backward(seed);
    for (int64_t p = 0; p < image.grad().numel(); ++p) field[size_t(p / 3)] += std::abs(image.grad().value_at(p));
  }
  const double largest = *std::max_element(field.begin(), field.end());
  int64_t first = kSide, last = 0;
  Image picture{kSide, kSide, {}};
  for (int64_t p = 0; p < kSide * kSide; ++p) {
    const double value = field[size_t(p)];
    if (value > 0) first = std::min(first, p % kSide), last = std::max(last, p % kSide);
    const double bright = value > 0 ? std::clamp(1 + std::log10(value / largest) / 4, 0.05, 1.0) : 0;  // four decades
    for (double color : {255 * bright, 200 * bright * bright, 60 + 60 * bright}) picture.pixels.push_back(uint8_t(color));
  }
  extent = last - first + 1;
  return resize_bilinear(picture, {3 * kSide, 3 * kSide});
}

int main(int argc, char** argv) try {
  const std::string folder = argc > 1 ? argv[1] : ".";
  make_folder(folder);
  PipelineOptions pipeline;
  pipeline.photometric = false;
  const struct {
    const char* name;
    std::vector<int64_t> dilations, pools;
  } kinds[] = {{"plain", {1, 1, 1}, {}}, {"dilated", {2, 4, 8}, {}}, {"pyramid", {1, 1, 1}, {1, 2}}};
  std::vector<Image> fields;
  std::vector<double> right;
  std::vector<int64_t> extents;
  for (const auto& kind : kinds) {
    const InitRandom weights(0);
    ContextNet net(kind.dilations, kind.pools);
    learn(net, pipeline);
    net.eval();
    right.push_back(accuracy(net, pipeline));
    fields.push_back(receptive_field(net, pipeline, extents.emplace_back()));
    std::printf("%-8s %5d weights, receptive field %2d pixels, mean accuracy of disc and twin %.1f %%\n", kind.name,
                int(net.parameter_count()), int(extents.back()), 100 * right.back());
  }
  write_png(folder + "/11_receptive_field.png", side_by_side(fields));
  const bool ok = extents[0] == 16 && extents[1] == 60 && extents[2] == kSide && right[1] > right[0] && right[2] > right[0];
  std::printf("self-check: %s\n", ok ? "passed" : "FAILED");
  return ok ? 0 : 1;
} catch (const Error& error) {  // what, where, what to try
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
