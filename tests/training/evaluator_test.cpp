#include "training/evaluator.h"

#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "core/errors.h"
#include "core/parallel.h"
#include "support.h"
#include "training/tiny.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

std::unique_ptr<EncoderDecoder> tiny_model(int64_t classes = 8) {
  Config config = tiny_config();
  config.model.num_classes = classes;
  InitRandom random(1);
  auto model = std::make_unique<EncoderDecoder>(config.model);
  model->eval();
  return model;
}

EvaluateOptions slide(int64_t crop_h, int64_t crop_w, int64_t stride_h, int64_t stride_w, int64_t batch = 1) {
  return {.mode = "slide", .crop = {crop_h, crop_w}, .stride = {stride_h, stride_w}, .batch_size = batch};
}

}  // namespace

TEST_CASE("slide windows cover every pixel and stay inside", "[evaluate]") {
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{64, 64}, {65, 100}, {20, 200}, {10, 10}, {32, 33}}) {
    const auto windows = slide_windows(height, width, slide(32, 48, 20, 48));
    std::vector<int> covered(size_t(height * width), 0);
    for (const Window& w : windows) {
      CHECK(w.top >= 0);
      CHECK(w.left >= 0);
      REQUIRE(w.top + w.height <= height);
      REQUIRE(w.left + w.width <= width);
      CHECK(w.height == std::min<int64_t>(32, height));
      for (int64_t y = 0; y < w.height; ++y) {
        for (int64_t x = 0; x < w.width; ++x) ++covered[size_t((w.top + y) * width + w.left + x)];
      }
    }
    CHECK(*std::min_element(covered.begin(), covered.end()) >= 1);
  }
  CHECK(slide_windows(64, 64, slide(64, 64, 64, 64)).size() == 1);
  CHECK(slide_windows(65, 64, slide(64, 64, 32, 32)).size() == 2);
  CHECK_THROWS_WITH(slide_windows(64, 64, slide(32, 32, 33, 32)), Contains("evaluate.stride"));
}

TEST_CASE("one window as large as the picture equals the whole picture", "[evaluate]") {
  const auto model = tiny_model();
  const Tensor images = random_tensor({2, 64, 96, 3}, 1, DType::kFloat32);
  const Tensor whole = predict_scores(*model, images, {.mode = "whole"});
  CHECK(bit_equal(predict_scores(*model, images, slide(64, 96, 64, 96)), whole));
  CHECK(bit_equal(predict_scores(*model, images, slide(500, 500, 100, 100)), whole));
  CHECK(whole.shape() == Shape{2, 64, 96, 8});
  CHECK_FALSE(whole.requires_grad());
}

TEST_CASE("overlapping windows are averaged", "[evaluate]") {
  const auto model = tiny_model();
  const Tensor images = random_tensor({2, 64, 80, 3}, 2, DType::kFloat32);
  const EvaluateOptions options = slide(64, 64, 64, 12, 2);
  // By hand: windows at columns 0, 12 and 16.
  std::vector<Tensor> parts;
  const int64_t lefts[] = {0, 12, 16};
  for (int64_t left : lefts) parts.push_back(predict_scores(*model, slice(images, 2, left, left + 64), {.mode = "whole"}));
  Tensor expected = Tensor::zeros({2, 64, 80, 8}, DType::kFloat64);
  for (int64_t i = 0; i < expected.numel(); ++i) {
    const int64_t k = i % 8, x = i / 8 % 80, row = i / 8 / 80;
    double sum = 0, count = 0;
    for (int w = 0; w < 3; ++w) {
      if (x < lefts[w] || x >= lefts[w] + 64) continue;
      sum += parts[size_t(w)].value_at((row * 64 + x - lefts[w]) * 8 + k);
      count += 1;
    }
    expected.data<double>()[i] = sum / count;
  }
  set_num_threads(1);
  const Tensor one = predict_scores(*model, images, options);
  set_num_threads(2);
  CHECK(bit_equal(one, predict_scores(*model, images, options)));
  check_close(one.to(DType::kFloat64), expected, 1e-5);
}

TEST_CASE("evaluation counts every picture once, whatever the batch", "[evaluate]") {
  const auto model = tiny_model();
  model->train();
  const Config config = tiny_config();
  const auto dataset = make_dataset(config.data, "val");
  std::vector<int64_t> seen;
  EvalRequest request{.options = {}, .pipeline = config.pipeline};
  request.on_picture = [&](int64_t index, const Tensor& labels, const Tensor& predictions) {
    seen.push_back(index);
    CHECK(labels.shape() == Shape{64, 64});
    CHECK(predictions.shape() == Shape{64, 64});
  };
  const EvalResult one = evaluate(*model, *dataset, request);
  CHECK(seen == std::vector<int64_t>{0, 1, 2, 3, 4});
  CHECK(one.pictures == 5);
  CHECK(one.metrics.pixels + one.metrics.ignored_pixels == 5 * 64 * 64);
  CHECK(model->is_training());
  request.options.batch_size = 3;
  request.on_picture = nullptr;
  const EvalResult three = evaluate(*model, *dataset, request);
  CHECK(three.metrics.miou == one.metrics.miou);
  CHECK(three.metrics.aacc == one.metrics.aacc);
  request.limit = 2;
  CHECK(evaluate(*model, *dataset, request).pictures == 2);
  request.limit = 0;
  request.stop = [] { return true; };
  CHECK(evaluate(*model, *dataset, request).stopped);
  CHECK_THROWS_WITH(evaluate(*tiny_model(5), *dataset, request), Contains("5") && Contains("8"));
  const auto endless = make_dataset(config.data, "train");
  CHECK_THROWS_AS(evaluate(*model, *endless, {.pipeline = config.pipeline}), UsageError);
}

TEST_CASE("predictions have the label's size when the picture was resized", "[evaluate]") {
  const auto model = tiny_model();
  Config config = tiny_config({"pipeline.test_scale=[40, 40]"});
  const auto dataset = make_dataset(config.data, "val");
  EvalRequest request{.options = {}, .pipeline = config.pipeline, .limit = 1};
  bool called = false;
  request.on_picture = [&](int64_t, const Tensor&, const Tensor& predictions) {
    called = true;
    CHECK(predictions.shape() == Shape{64, 64});
  };
  evaluate(*model, *dataset, request);
  CHECK(called);
}

TEST_CASE("scores that are not finite end an evaluation", "[evaluate]") {
  const auto model = tiny_model();
  for (const auto& parameter : model->named_parameters()) {
    if (parameter.name == "decode_head.conv_seg.bias") parameter.tensor.data<float>()[0] = std::numeric_limits<float>::infinity();
  }
  CHECK_THROWS_AS(predict_scores(*model, random_tensor({1, 64, 64, 3}, 1, DType::kFloat32), {}), NumericalError);
}
