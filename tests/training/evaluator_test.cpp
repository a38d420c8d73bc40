#include "training/evaluator.h"

#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "core/parallel.h"
#include "core/random.h"
#include "layers/layers.h"
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
  CHECK_THROWS_WITH(slide_windows(64, 64, {.mode = "whole", .crop = {32, 32}, .stride = {33, 32}}),
                    Contains("evaluate.stride"));  // whoever asks
}

TEST_CASE("options out of range are refused, whoever asks", "[evaluate]") {
  const auto model = tiny_model();
  const Tensor images = random_tensor({1, 64, 64, 3}, 1, DType::kFloat32);
  const double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::pair<EvaluateOptions, const char*> wrong[] = {
      {slide(32, 32, 0, 32), "evaluate.stride[0] must be"}, {slide(0, 0, 0, 0), "evaluate.crop[0] must be"},
      {slide(32, 32, 32, 32, 0), "evaluate.batch_size"},    {{.mode = "tiled"}, "evaluate.mode"},
      {{.scales = {0}}, "evaluate.scales[0]"},              {{.scales = {1, kNan}}, "evaluate.scales[1]"},
      {{.scales = {1e9}}, "evaluate.scales[0]"},
  };
  for (const auto& [options, key] : wrong) {
    CAPTURE(key);
    CHECK_THROWS_WITH(predict_scores(*model, images, options), Contains(key));
    CHECK_THROWS_WITH(prepare_views(Image{8, 8, std::vector<uint8_t>(192)}, {}, options), Contains(key));
    CHECK_THROWS_WITH(slide_windows(64, 64, options), Contains(key));
  }
}

TEST_CASE("several views: probabilities are averaged, and mirrored pictures get mirrored predictions", "[evaluate]") {
  const auto model = tiny_model();
  Image image{64, 96, std::vector<uint8_t>(64 * 96 * 3)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = uint8_t(255 * uniform_at(3, 0, i));
  Image mirrored = image;
  flip_horizontally(mirrored);
  const PipelineOptions pipeline;
  const auto classes = [&](const Image& from, const EvaluateOptions& options) {
    return predict_classes(*model, prepare_views(from, pipeline, options), 64, 96, options);
  };
  const auto count_equal = [](const Tensor& a, const Tensor& b) {
    int64_t equal = 0;
    for (int64_t i = 0; i < a.numel(); ++i) equal += a.data<uint8_t>()[i] == b.data<uint8_t>()[i];
    return equal;
  };
  const auto mirror_of = [](const Tensor& a) {
    LabelMap labels{64, 96, a.to_vector<uint8_t>()};
    flip_horizontally(labels);
    return Tensor::from(labels.labels, a.shape());
  };

  const EvaluateOptions flip{.flip = true}, once;
  CHECK(bit_equal(mirror_of(classes(image, flip)), classes(mirrored, flip)));
  CHECK_FALSE(bit_equal(mirror_of(classes(image, once)), classes(mirrored, once)));  // the network alone is not symmetric
  CHECK(bit_equal(classes(image, once), classes(image, {.scales = {1, 1}})));

  // By hand: what the network says of the picture at half and at one and a half times its size.
  const EvaluateOptions scales{.scales = {0.5, 1.5}};
  const auto views = prepare_views(image, pipeline, scales);
  REQUIRE(views.size() == 2);
  CHECK(views[0].shape() == Shape{1, 32, 48, 3});
  CHECK(views[1].shape() == Shape{1, 96, 144, 3});
  const auto probabilities = [&](const Tensor& view) { return softmax(resize_bilinear(model->predict(view), 64, 96, false)); };
  const Tensor expected = argmax_classes(add(probabilities(views[0]), probabilities(views[1])));
  CHECK(bit_equal(classes(image, scales), expected));
  CHECK(count_equal(classes(image, scales), classes(image, once)) < 64 * 96);

  CHECK_THROWS_WITH(prepare_views(image, pipeline, {.scales = {}}), Contains("evaluate.scales"));

  PipelineOptions fitted;
  fitted.test_scale = {48, 48};
  CHECK(prepare_views(image, fitted, {.scales = {2}})[0].shape() == Shape{1, 64, 96, 3});
  CHECK(evaluation_size({360, 480}, fitted, 0.5) == Size{18, 24});

  // A data set, pictures in one forward pass or one at a time.
  const auto dataset = make_dataset(tiny_config().data, "val");
  EvalRequest request{.options = {.mode = "slide", .crop = {40, 40}, .stride = {30, 30}, .scales = {0.75, 1}, .flip = true}};
  const EvalResult sliding = evaluate(*model, *dataset, request);
  CHECK(sliding.pictures == 5);
  request.options.mode = "whole";
  const EvalResult one = evaluate(*model, *dataset, request);
  request.options.batch_size = 2;
  CHECK(evaluate(*model, *dataset, request).metrics.aacc == Approx(one.metrics.aacc).margin(1e-3));
}

TEST_CASE("one window as large as the picture equals the whole picture", "[evaluate]") {
  const auto model = tiny_model();
  const Tensor images = random_tensor({2, 64, 96, 3}, 1, DType::kFloat32);
  // Picture by picture, as the windows are: the algorithm of a convolution, and with it the last bits, may depend on the batch.
  const auto alone = [&](int64_t n) { return predict_scores(*model, slice(images, 0, n, n + 1), {.mode = "whole"}); };
  const Tensor whole = concat({alone(0), alone(1)}, 0);
  CHECK(bit_equal(predict_scores(*model, images, slide(64, 96, 64, 96)), whole));
  CHECK(bit_equal(predict_scores(*model, images, slide(500, 500, 100, 100)), whole));
  check_close(predict_scores(*model, images, {.mode = "whole"}), whole, 1e-5);
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
  ConfusionMatrix all(8, 255);
  request.on_picture = [&](const EvaluatedPicture& picture) {
    seen.push_back(picture.index);
    CHECK(picture.labels.shape() == Shape{64, 64});
    CHECK(picture.predictions.shape() == Shape{64, 64});
    all.add(picture.confusion);
    ConfusionMatrix recounted(8, 255);
    recounted.add(picture.labels, picture.predictions);
    for (int64_t i = 0; i < 64; ++i) CHECK(picture.confusion.count(i / 8, i % 8) == recounted.count(i / 8, i % 8));
  };
  const EvalResult one = evaluate(*model, *dataset, request);
  CHECK(all.metrics(dataset->class_names()).miou == one.metrics.miou);
  REQUIRE(one.counts.size() == 5);
  std::vector<int64_t> both(8), labelled(8);
  for (const auto& picture : one.counts) {
    for (const ClassCounts& counts : picture) both[size_t(counts.index)] += counts.both, labelled[size_t(counts.index)] += counts.labelled;
  }
  for (size_t c = 0; c < 8; ++c) {
    CHECK(both[c] == all.count(int64_t(c), int64_t(c)));
    CHECK(labelled[c] == one.metrics.classes[c].pixels);
  }
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
  struct Nothing : Dataset {
    explicit Nothing(const Dataset& like) : Dataset(like.class_names(), {}) {}
    int64_t size() const override { return 0; }
    std::string describe(int64_t) const override { return ""; }
    RawSample load(int64_t) const override { return {}; }
  };
  CHECK_THROWS_WITH(evaluate(*model, Nothing(*endless), {.pipeline = config.pipeline}),
                    Contains("no pictures to evaluate on"));
}

TEST_CASE("an evaluation leaves each module in the mode that it was in", "[evaluate]") {
  const auto model = tiny_model();
  model->train();
  const std::vector<BatchNorm2d*> norms = modules_of<BatchNorm2d>(*model);
  norms.front()->eval();  // frozen
  const Config config = tiny_config();
  evaluate(*model, *make_dataset(config.data, "val"), {.options = config.evaluate, .pipeline = config.pipeline, .limit = 1});
  CHECK(model->is_training());
  CHECK_FALSE(norms.front()->is_training());
  CHECK(norms.back()->is_training());
}

TEST_CASE("predictions have the label's size when the picture was resized", "[evaluate]") {
  const auto model = tiny_model();
  Config config = tiny_config({"pipeline.test_scale=[40, 40]"});
  const auto dataset = make_dataset(config.data, "val");
  EvalRequest request{.options = {}, .pipeline = config.pipeline, .limit = 1};
  bool called = false;
  request.on_picture = [&](const EvaluatedPicture& picture) {
    called = true;
    CHECK(picture.predictions.shape() == Shape{64, 64});
  };
  evaluate(*model, *dataset, request);
  CHECK(called);
}

TEST_CASE("a network in training mode predicts nothing: it would take these pictures' statistics, and keep them", "[evaluate]") {
  const auto model = tiny_model();
  model->train();
  const auto before = model->state_dict();
  CHECK_THROWS_WITH(predict_scores(*model, random_tensor({2, 64, 64, 3}, 1, DType::kFloat32), {}), Contains("training mode"));
  for (const auto& [name, tensor] : model->state_dict()) CHECK(bit_equal(tensor, before.at(name)));
}

TEST_CASE("scores that are not finite end an evaluation", "[evaluate]") {
  const auto model = tiny_model();
  for (const auto& parameter : model->named_parameters()) {
    if (parameter.name == "decode_head.conv_seg.bias") parameter.tensor.data<float>()[0] = std::numeric_limits<float>::infinity();
  }
  CHECK_THROWS_AS(predict_scores(*model, random_tensor({1, 64, 64, 3}, 1, DType::kFloat32), {}), NumericalError);
}

TEST_CASE("the cross-entropy of an evaluation is that of its probabilities, over labelled pixels", "[evaluate]") {
  const auto model = tiny_model();
  // Picture 1 has no label at all, picture 3 has few: pixels count, not pictures.
  struct Unlabelled final : Dataset {
    explicit Unlabelled(const Dataset& whole) : Dataset(whole.class_names(), whole.palette()), whole(whole) {}
    int64_t size() const override { return whole.size(); }
    std::string describe(int64_t index) const override { return whole.describe(index); }
    RawSample load(int64_t index) const override {
      RawSample sample = whole.load(index);
      const int64_t kept = index == 1 ? 0 : index == 3 ? 100 : int64_t(sample.labels.labels.size());
      std::fill(sample.labels.labels.begin() + kept, sample.labels.labels.end(), uint8_t(255));
      return sample;
    }
    const Dataset& whole;
  };
  const Config config = tiny_config();
  const auto whole = make_dataset(config.data, "val");
  const Unlabelled dataset(*whole);
  const auto check = [&](const EvaluateOptions& options) {
    std::vector<double> expected;
    double sum = 0, count = 0;
    for (int64_t index = 0; index < dataset.size(); ++index) {
      const RawSample sample = dataset.load(index);
      const Tensor p = predict_probabilities(*model, prepare_views(sample.image, config.pipeline, options), 64, 64, options);
      double of_picture = 0, labelled = 0;
      for (size_t i = 0; i < sample.labels.labels.size(); ++i) {
        const uint8_t label = sample.labels.labels[i];
        if (label == 255) continue;
        of_picture -= std::log(p.value_at(int64_t(i) * 8 + label));
        labelled += 1;
      }
      expected.push_back(of_picture / labelled);
      sum += of_picture;
      count += labelled;
    }
    std::vector<double> found;
    EvalRequest request{.options = options, .pipeline = config.pipeline};
    request.on_picture = [&](const EvaluatedPicture& picture) { found.push_back(picture.cross_entropy); };
    CHECK(evaluate(*model, dataset, request).metrics.cross_entropy == Approx(sum / count).epsilon(1e-5));
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      CAPTURE(i);
      if (i == 1)
        CHECK(std::isnan(found[i]));
      else
        CHECK(found[i] == Approx(expected[i]).epsilon(1e-5));
    }
  };
  check({});
  check({.batch_size = 3});
  check({.mode = "slide", .crop = {40, 40}, .stride = {30, 30}});
  check({.scales = {0.75, 1.25}});
  check({.flip = true});
}

TEST_CASE("labels that every view takes for impossible cost much, but not infinitely much", "[evaluate]") {
  const auto model = tiny_model();
  for (const auto& parameter : model->named_parameters()) {
    if (parameter.name == "decode_head.conv_seg.bias") parameter.tensor.data<float>()[0] = 1000;
  }
  const Config config = tiny_config();
  const auto dataset = make_dataset(config.data, "val");
  EvalRequest request{.options = {}, .pipeline = config.pipeline, .limit = 1};
  const double once = evaluate(*model, *dataset, request).metrics.cross_entropy;
  request.options.flip = true;
  const SegmentationMetrics averaged = evaluate(*model, *dataset, request).metrics;
  const double share_of_others = 1 - double(averaged.classes[0].pixels) / double(averaged.pixels);
  REQUIRE(share_of_others > 0.2);
  CHECK(averaged.cross_entropy == Approx(std::log(2 / std::numeric_limits<float>::min()) * share_of_others));
  CHECK(once == Approx(1000 * share_of_others).epsilon(0.1));  // of the scores themselves
}

TEST_CASE("windows that overlap in rows and columns are averaged, each of them counted once", "[evaluate]") {
  const auto model = tiny_model();
  const Tensor images = random_tensor({1, 80, 96, 3}, 2, DType::kFloat32);
  const EvaluateOptions options = slide(64, 64, 12, 20);  // at rows 0, 12, 16 and columns 0, 20, 32
  Tensor expected = Tensor::zeros({1, 80, 96, 8}, DType::kFloat64);
  std::vector<int> covered(80 * 96, 0);
  for (const Window& w : slide_windows(80, 96, options)) {
    const Tensor part = slice(slice(images, 1, w.top, w.top + 64), 2, w.left, w.left + 64);
    const Tensor scores = predict_scores(*model, part, {.mode = "whole"});
    for (int64_t i = 0; i < scores.numel(); ++i) {
      const int64_t at = (w.top + i / 8 / 64) * 96 + w.left + i / 8 % 64;
      expected.data<double>()[at * 8 + i % 8] += scores.value_at(i);
      covered[size_t(at)] += i % 8 == 0;
    }
  }
  CHECK(*std::max_element(covered.begin(), covered.end()) == 9);
  for (int64_t i = 0; i < expected.numel(); ++i) expected.data<double>()[i] /= covered[size_t(i / 8)];
  check_close(predict_scores(*model, images, options).to(DType::kFloat64), expected, 1e-5);
}

TEST_CASE("strides that leave gaps along one axis are refused by whoever slides", "[evaluate]") {
  const auto model = tiny_model();
  const Tensor images = random_tensor({1, 64, 64, 3}, 1, DType::kFloat32);
  for (const EvaluateOptions& options : {slide(32, 32, 33, 32), slide(32, 32, 32, 33)}) {
    CHECK_THROWS_WITH(slide_windows(64, 64, options), Contains("evaluate.stride"));
    CHECK_THROWS_WITH(predict_scores(*model, images, options), Contains("leaves gaps"));
    CHECK_THROWS_WITH(check_evaluate(options), Contains("evaluate.stride"));
  }
}

TEST_CASE("scores are brought to the asked size along either axis, by the corners where the network aligns them", "[evaluate]") {
  const auto model = tiny_model();
  for (const Shape& shape : {Shape{1, 64, 48, 3}, Shape{1, 32, 96, 3}}) {
    const Tensor view = random_tensor(shape, 4, DType::kFloat32);
    CHECK(predict_classes(*model, {view}, 64, 96, {}).shape() == Shape{1, 64, 96});
  }
  Config config = tiny_config({"model.align_corners=true"});
  config.model.num_classes = 8;
  InitRandom random(1);
  EncoderDecoder aligned(config.model);
  aligned.eval();
  const Tensor view = random_tensor({1, 64, 64, 3}, 5, DType::kFloat32);
  NoGradGuard no_grad;
  const Tensor scores = resize_bilinear(aligned.forward(view).logits, 64, 64, true);
  check_close(predict_scores(aligned, view, {}), scores, 1e-6);
  check_close(predict_probabilities(aligned, {view}, 80, 80, {}), softmax(resize_bilinear(scores, 80, 80, true)), 1e-6);
}

TEST_CASE("pictures of several sizes share no forward pass, though they be resized to one", "[evaluate]") {
  struct Sizes final : Dataset {
    Sizes() : Dataset(std::vector<std::string>{"a", "b", "c", "d", "e", "f", "g", "h"}, Palette(8)) {}
    int64_t size() const override { return 4; }
    RawSample load(int64_t index) const override {
      const int64_t side = index % 2 == 0 ? 64 : 96;
      RawSample sample{{side, side, std::vector<uint8_t>(size_t(3 * side * side))}, {side, side, {}}, "p" + std::to_string(index)};
      for (size_t i = 0; i < sample.image.pixels.size(); ++i) sample.image.pixels[i] = uint8_t(255 * uniform_at(5, uint64_t(index), i));
      for (int64_t i = 0; i < side * side; ++i) sample.labels.labels.push_back(uint8_t(i % 8));
      return sample;
    }
    std::string describe(int64_t index) const override { return "picture " + std::to_string(index); }
  } dataset;
  const auto model = tiny_model();
  for (const bool resized : {false, true}) {
    EvalRequest request;
    if (resized) request.pipeline.test_scale = {64, 64};
    const EvalResult one = evaluate(*model, dataset, request);
    request.options.batch_size = 4;
    request.on_picture = [](const EvaluatedPicture& picture) { CHECK(picture.labels.size(0) == (picture.index % 2 == 0 ? 64 : 96)); };
    const EvalResult four = evaluate(*model, dataset, request);
    CHECK(four.metrics.miou == one.metrics.miou);
    CHECK(four.metrics.pixels == 2 * (64 * 64 + 96 * 96));
  }
  // As many as there are, whatever the limit; each group is told of.
  std::vector<int64_t> told;
  EvalRequest request{.limit = 100};
  request.on_progress = [&](int64_t done, int64_t all) { told.insert(told.end(), {done, all}); };
  CHECK(evaluate(*model, dataset, request).pictures == 4);
  CHECK(told == std::vector<int64_t>{1, 4, 2, 4, 3, 4, 4, 4});
}
