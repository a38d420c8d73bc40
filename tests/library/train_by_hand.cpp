// A training loop and a data set of one's own, without the Trainer; stopped, and gone on with to the same bits.
#include "programs.h"

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "datasets/loader.h"
#include "layers/layers.h"
#include "training/metrics.h"
#include "training/optimizer.h"
#include "training/schedule.h"

using namespace eq;

namespace {

// Discs on plain ground.
class Discs : public Dataset {
 public:
  Discs() : Dataset({"ground", "disc"}, {{40, 40, 40}, {230, 120, 30}}) {}
  int64_t size() const override { return 64; }
  std::string describe(int64_t index) const override { return "disc " + std::to_string(index); }
  RawSample load(int64_t index) const override {  // called from several threads
    check_index(index);
    Random random(7, uint64_t(index));  // a function of the index: every run sees the same
    RawSample sample{.image = {kSide, kSide, {}}, .labels = {kSide, kSide, {}}, .name = std::to_string(index)};
    const int64_t x0 = random.uniform_int(8, 24), y0 = random.uniform_int(8, 24), r = random.uniform_int(4, 8);
    for (int64_t y = 0; y < kSide; ++y) {
      for (int64_t x = 0; x < kSide; ++x) {
        const bool inside = (x - x0) * (x - x0) + (y - y0) * (y - y0) < r * r;
        sample.labels.labels.push_back(inside);
        for (int c = 0; c < 3; ++c) sample.image.pixels.push_back(uint8_t((inside ? 120 : 90) + random.uniform_int(0, 60)));
      }
    }
    return sample;
  }

 private:
  static constexpr int64_t kSide = 32;
};

class Net : public Layer {
 public:
  explicit Net(int64_t classes)
      : body_(register_module<Sequential>("body")), classifier_(register_module<Conv2d>("classifier", 16, classes, Conv2dLayerOptions{})) {
    body_.append<ConvModule>(3, 16, 3);  // convolution, batch norm, ReLU
    body_.append<ConvModule>(16, 16, 3);
  }
  Tensor forward(const Tensor& x) override { return classifier_(body_(x)); }  // [N,H,W,3] to scores [N,H,W,classes]

 private:
  Sequential& body_;
  Conv2d& classifier_;
};

constexpr int64_t kIterations = 60;
const PipelineOptions kPipeline{.photometric = false};

// Goes on from a checkpoint in `folder` if there is one, and leaves one after iteration `last`.
double train(Net& net, const Discs& discs, int64_t first, int64_t last, const std::filesystem::path& folder) {
  const auto optimizer = make_optimizer(optimizer_parameters(net), {.type = "adamw", .lr = 0.01});
  const Schedule schedule({.type = "cosine"}, 0.01, kIterations);
  if (first > 0) {
    const std::filesystem::path model = folder / "model.safetensors", state = folder / "optimizer.safetensors";
    net.load_state_dict(read_safetensors(model).tensors, true, model.string());
    optimizer->load_state(read_safetensors(state).tensors, state.string());
  }
  DataLoader loader(discs, kPipeline, {.batch_size = 8, .threads = 2});
  loader.seek(first);
  net.train();
  double last_loss = 0;
  for (int64_t i = first; i < last; ++i) {
    const Batch batch = loader.next();
    const Tensor loss = cross_entropy(net(batch.images), batch.labels);
    net.zero_grad();
    loss.backward();
    const GradientNorm norm = gradient_norm(optimizer->parameters(), loss.item());
    if (!norm.finite) throw NumericalError("the loss is not finite", "iteration " + std::to_string(i), "lower the rate");
    optimizer->step(schedule.lr(i), clip_factor(norm.norm, 5));
    last_loss = loss.item();
  }
  write_safetensors(folder / "model.safetensors", net.state_dict());
  write_safetensors(folder / "optimizer.safetensors", optimizer->state());
  return last_loss;
}

double mean_iou(Net& net, const Discs& discs) {
  const NoGradGuard no_grad;
  net.eval();
  ConfusionMatrix confusion(discs.num_classes(), discs.ignore_index());
  for (int64_t i = 0; i < discs.size(); ++i) {
    const Sample sample = load_for_evaluation(discs, i, kPipeline);
    confusion.add(sample.labels, reshape(argmax_classes(net(sample.image)), sample.labels.shape()), discs.describe(i));
  }
  return confusion.metrics(discs.class_names()).miou;
}

}  // namespace

void train_by_hand(const std::filesystem::path& folder) {
  const Discs discs;
  const InitRandom weights(1);
  Net whole(discs.num_classes()), begun(discs.num_classes()), gone_on(discs.num_classes());
  whole.load_state_dict(begun.state_dict());
  const double loss = train(whole, discs, 0, kIterations, folder);
  train(begun, discs, 0, 25, folder);
  expect(train(gone_on, discs, 25, kIterations, folder) == loss, "a resumed training has the same loss, to the bit");
  expect(mean_iou(whole, discs) > 0.8, "it has learnt");
}
