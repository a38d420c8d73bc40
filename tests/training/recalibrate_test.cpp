// Running statistics of batch norm, measured anew.
#include "training/recalibrate.h"

#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "core/errors.h"
#include "layers/layers.h"
#include "support.h"
#include "training/tiny.h"
#include "training/trainer.h"

using namespace eq;
using namespace eq::test;

namespace {

// A norm, dropout that would spoil it, a second norm, and one that no pass reaches.
struct TwoNorms : Layer {
  TwoNorms()
      : first(register_module<BatchNorm2d>("first", 2)),
        dropout(register_module<Dropout>("dropout", 0.5)),
        second(register_module<BatchNorm2d>("second", 2)),
        unused(register_module<BatchNorm2d>("unused", 2)) {}
  Tensor forward(const Tensor& x) override { return second(dropout(first(x))); }
  BatchNorm2d& first;
  Dropout& dropout;
  BatchNorm2d &second, &unused;
};

const std::vector<std::vector<float>> kBatches = {
    {1, 10, 3, 30}, {5, -10, 9, 10}, {-2, 0, 2, 8}};  // [1,1,2,2]: two values for each of two channels

std::map<std::string, std::vector<float>> statistics(const Module& model) {
  std::map<std::string, std::vector<float>> found;
  for (const auto& buffer : model.named_buffers()) {
    if (buffer.tensor.dtype() == DType::kFloat32) found[buffer.name] = buffer.tensor.to_vector<float>();
  }
  return found;
}

}  // namespace

TEST_CASE("running statistics become the plain averages of the batches'", "[recalibrate]") {
  InitRandom random(1);
  TwoNorms net;
  net.first.set_momentum(0.01);
  net.second.train(false);
  net.unused.running_mean().fill_(7);
  const auto shifts = recalibrate_batch_norm(net, 3, [&](int64_t i) { net(Tensor::from(kBatches[size_t(i)], {1, 1, 2, 2})); });

  // Means of the batches 2, 7, 0 and 20, 0, 4; unbiased variances 2, 8, 8 and 200, 200, 32.
  CHECK(net.first.running_mean().to_vector<float>()[0] == Approx(3));
  CHECK(net.first.running_mean().to_vector<float>()[1] == Approx(8));
  CHECK(net.first.running_var().to_vector<float>()[0] == Approx(6));
  CHECK(net.first.running_var().to_vector<float>()[1] == Approx(144));
  CHECK(net.first.batches_tracked() == 3);
  // The second saw normalised values: mean 0, and 1 for the biased variance of two values, 2 for the unbiased.
  CHECK(net.second.running_mean().to_vector<float>()[0] == Approx(0).margin(1e-6));
  CHECK(net.second.running_var().to_vector<float>()[1] == Approx(2).epsilon(1e-4));
  CHECK(net.unused.running_mean().to_vector<float>()[0] == 7);

  REQUIRE(shifts.size() == 2);
  CHECK(shifts[0].layer == "first");
  CHECK(shifts[0].mean == Approx(3 / std::sqrt(6)).epsilon(1e-4));
  CHECK(shifts[0].lowest_ratio == Approx(6).epsilon(1e-4));
  CHECK(shifts[0].highest_ratio == Approx(144).epsilon(1e-4));
  CHECK(shifts[1].layer == "second");
  CHECK(shifts[1].mean == Approx(0).margin(1e-6));

  CHECK(net.is_training());
  CHECK_FALSE(net.second.is_training());
  CHECK(net.first.momentum() == 0.01);
}

TEST_CASE("a recalibration that fails leaves everything as it was", "[recalibrate]") {
  InitRandom random(1);
  TwoNorms net;
  net(Tensor::from(kBatches[0], {1, 1, 2, 2}));
  const auto before = statistics(net);
  const auto pass = [&](int64_t i) {
    if (i == 1) throw DataError("no more pictures", "", "");
    net(Tensor::from(kBatches[0], {1, 1, 2, 2}));
  };
  CHECK_THROWS_AS(recalibrate_batch_norm(net, 2, pass), DataError);
  const auto infinite = [&](int64_t) { net(Tensor::from<float>({1, 2, HUGE_VALF, 4}, {1, 1, 2, 2})); };
  CHECK_THROWS_AS(recalibrate_batch_norm(net, 1, infinite), NumericalError);
  CHECK_THROWS_AS(recalibrate_batch_norm(net, 0, pass), UsageError);
  CHECK_THROWS_AS(recalibrate_batch_norm(net, 1, [](int64_t) {}), UsageError);
  LayerNorm without(4);
  CHECK_THROWS_AS(recalibrate_batch_norm(without, 1, [](int64_t) {}), UsageError);
  CHECK(statistics(net) == before);
  CHECK(net.first.batches_tracked() == 1);
  CHECK(net.is_training());
}

TEST_CASE("a trained network is recalibrated from its data set, and can be kept", "[recalibrate]") {
  const TemporaryFolder folder;
  TrainRequest request{.out = folder.path() / "run"};
  request.log = nullptr;
  train(tiny_config(), request);
  TrainedModel trained = load_trained_model(request.out), again = load_trained_model(request.out);
  const auto before = statistics(*trained.model);
  int64_t told = 0;
  const auto shifts = recalibrate_batch_norm(trained, 4, "train", [&](int64_t i) { CHECK(i == told++); });
  CHECK(told == 4);
  recalibrate_batch_norm(again, 4, "train");
  const auto after = statistics(*trained.model);
  CHECK(statistics(*again.model) == after);  // the same batches, the same bits
  CHECK_FALSE(trained.model->is_training());
  CHECK_FALSE(shifts.empty());
  for (const auto& [name, values] : after) {
    CAPTURE(name);
    const bool kept =
        name.starts_with("auxiliary_head") || name.find("equalizers") != std::string::npos;  // evaluation does not use the former
    CHECK((values == before.at(name)) == kept);
  }
  // Six steps of momentum 0.1 leave half of the initial mean 0 and variance 1: the averages are elsewhere.
  CHECK(std::any_of(shifts.begin(), shifts.end(), [](const NormShift& shift) { return shift.mean > 0.1; }));
  const auto file = folder.path() / "recalibrated.safetensors";
  save_weights(file, *trained.model, trained.card);
  CHECK(statistics(*load_trained_model(file).model) == after);
}

TEST_CASE("what a recalibration says covers every channel, those without any spread, too", "[recalibrate]") {
  InitRandom random(1);
  TwoNorms net;
  // Unbiased variances 200 and 0 from 1: the largest ratio comes first; the mean of the constant channel moves by 3 in units of eps alone.
  const auto shifts = recalibrate_batch_norm(net, 1, [&](int64_t) { net(Tensor::from<float>({20, 3, 0, 3}, {1, 1, 2, 2})); });
  CHECK(shifts[0].highest_ratio == Approx(200).epsilon(1e-4));
  CHECK(shifts[0].lowest_ratio == Approx(1e-5).epsilon(1e-2));
  CHECK(shifts[0].mean == Approx(3 / std::sqrt(1e-5)).epsilon(1e-4));
  // A variance can overflow where the mean does not.
  const auto huge = [&](int64_t) { net(Tensor::from<float>({1e30f, 1, 3e30f, 2}, {1, 1, 2, 2})); };
  CHECK_THROWS_WITH(recalibrate_batch_norm(net, 1, huge), Catch::Contains("channel 0 are not finite"));
  CHECK_THROWS_WITH(recalibrate_batch_norm(net, 0, huge), Catch::Contains("no batches"));
}
