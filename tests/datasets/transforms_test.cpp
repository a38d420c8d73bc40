#include "datasets/transforms.h"

#include <cmath>
#include <set>

#include "core/errors.h"
#include "pictures.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

LabelMap random_labels(int64_t height, int64_t width, int classes, uint64_t seed) {
  LabelMap labels{height, width, std::vector<uint8_t>(size_t(height * width))};
  Random random(seed);
  for (uint8_t& value : labels.labels) value = uint8_t(random.uniform_int(0, classes));
  return labels;
}

// Slow and obvious: the formula in float64.
double bilinear_oracle(const Image& image, Size size, int64_t y, int64_t x, int c) {
  const double sy = std::max(0.0, (double(y) + 0.5) * double(image.height) / double(size.height) - 0.5);
  const double sx = std::max(0.0, (double(x) + 0.5) * double(image.width) / double(size.width) - 0.5);
  const int64_t y0 = std::min(int64_t(sy), image.height - 1), x0 = std::min(int64_t(sx), image.width - 1);
  const int64_t y1 = std::min(y0 + 1, image.height - 1), x1 = std::min(x0 + 1, image.width - 1);
  const double ty = sy - double(y0), tx = sx - double(x0);
  auto pixel = [&](int64_t py, int64_t px) { return double(image.pixels[size_t(3 * (py * image.width + px) + c)]); };
  return (1 - ty) * ((1 - tx) * pixel(y0, x0) + tx * pixel(y0, x1)) + ty * ((1 - tx) * pixel(y1, x0) + tx * pixel(y1, x1));
}

struct Hsv {
  double h, s, v;
};

Hsv to_hsv(double r, double g, double b) {
  const double v = std::max({r, g, b}), c = v - std::min({r, g, b});
  if (c == 0) return {0, 0, v};
  double h = v == r ? (g - b) / c : v == g ? 2 + (b - r) / c : 4 + (r - g) / c;
  return {h < 0 ? h + 6 : h, c / v, v};
}

std::array<double, 3> to_rgb(const Hsv& hsv) {
  const double c = hsv.v * hsv.s, m = hsv.v - c;
  const int sector = int(hsv.h) % 6;
  const double x = c * (1 - std::abs(std::fmod(hsv.h, 2.0) - 1));
  const double table[6][3] = {{c, x, 0}, {x, c, 0}, {0, c, x}, {0, x, c}, {x, 0, c}, {c, 0, x}};
  return {table[sector][0] + m, table[sector][1] + m, table[sector][2] + m};
}

// The documented procedure, slowly; the largest difference that truncation to 8 bits may make is a matter of the caller.
std::vector<double> distort_oracle(const Image& image, Random random) {
  std::vector<double> p(image.pixels.begin(), image.pixels.end());
  auto cut = [&] { for (double& v : p) v = std::floor(std::clamp(v, 0.0, 255.0)); };
  auto contrast = [&] {
    if (random.uniform() >= 0.5) return;
    const double f = random.uniform(0.5, 1.5);
    for (double& v : p) v *= f;
    cut();
  };
  if (random.uniform() < 0.5) {
    const double d = random.uniform(-32, 32);
    for (double& v : p) v += d;
    cut();
  }
  const bool first = random.uniform() < 0.5;
  if (first) contrast();
  if (random.uniform() < 0.5) {
    const double f = random.uniform(0.5, 1.5);
    for (size_t i = 0; i < p.size(); i += 3) {
      Hsv hsv = to_hsv(p[i], p[i + 1], p[i + 2]);
      hsv.s = std::min(1.0, hsv.s * f);
      const auto rgb = to_rgb(hsv);
      std::copy(rgb.begin(), rgb.end(), p.begin() + int64_t(i));
    }
    for (double& v : p) v += 1e-9;  // an exact integer must not fall below itself
    cut();
  }
  if (random.uniform() < 0.5) {
    const double turn = double(random.uniform_int(-18, 18)) / 30;
    for (size_t i = 0; i < p.size(); i += 3) {
      Hsv hsv = to_hsv(p[i], p[i + 1], p[i + 2]);
      hsv.h = std::fmod(hsv.h + turn + 6, 6.0);
      const auto rgb = to_rgb(hsv);
      std::copy(rgb.begin(), rgb.end(), p.begin() + int64_t(i));
    }
    for (double& v : p) v = std::floor(v + 0.5);
  }
  if (!first) contrast();
  return p;
}

}  // namespace

TEST_CASE("bilinear resizing agrees with the formula", "[transforms]") {
  const Size from{7, 10};
  for (const Size to : {Size{14, 20}, Size{5, 3}, Size{7, 23}, Size{1, 1}, Size{31, 10}}) {
    INFO(to.height << "x" << to.width);
    const Image image = random_image(from.height, from.width, 3);
    const Image resized = resize_bilinear(image, to);
    REQUIRE(resized.height == to.height);
    REQUIRE(resized.width == to.width);
    double worst = 0;
    for (int64_t y = 0; y < to.height; ++y) {
      for (int64_t x = 0; x < to.width; ++x) {
        for (int c = 0; c < 3; ++c) {
          worst = std::max(worst, std::abs(resized.pixels[size_t(3 * (y * to.width + x) + c)] - bilinear_oracle(image, to, y, x, c)));
        }
      }
    }
    CHECK(worst <= 0.5 + 255.0 / 2048);  // rounding, and the weights' 11 bits in each direction
  }
}

TEST_CASE("a window of a resized picture equals the cut-out of the whole", "[transforms]") {
  const Image image = random_image(23, 31, 5);
  const LabelMap labels = random_labels(23, 31, 9, 6);
  for (const Size to : {Size{40, 54}, Size{12, 16}, Size{23, 31}}) {
    const Window window{3, 2, 8, 13};
    const Image whole = resize_bilinear(image, to), part = resize_bilinear(image, to, window);
    const LabelMap all = resize_nearest(labels, to), some = resize_nearest(labels, to, window);
    for (int64_t y = 0; y < window.height; ++y) {
      for (int64_t x = 0; x < window.width; ++x) {
        const int64_t there = (window.top + y) * to.width + window.left + x, here = y * window.width + x;
        REQUIRE(all.labels[size_t(there)] == some.labels[size_t(here)]);
        for (int64_t c = 0; c < 3; ++c) REQUIRE(whole.pixels[size_t(3 * there + c)] == part.pixels[size_t(3 * here + c)]);
      }
    }
  }
  CHECK(resize_bilinear(image, {23, 31}).pixels == image.pixels);
}

TEST_CASE("labels stay where the picture's pixels go", "[transforms]") {
  // A picture and labels of the same two halves: after resizing, each side's labels match the colour away from the border.
  Image image{6, 10, std::vector<uint8_t>(180)};
  LabelMap labels{6, 10, std::vector<uint8_t>(60)};
  for (int64_t i = 0; i < 60; ++i) {
    const uint8_t right = i % 10 >= 5;
    labels.labels[size_t(i)] = right;
    for (int64_t c = 0; c < 3; ++c) image.pixels[size_t(3 * i + c)] = uint8_t(right * 200);
  }
  for (const Size to : {Size{9, 30}, Size{6, 15}, Size{3, 4}, Size{5, 7}}) {
    const Image big = resize_bilinear(image, to);
    const LabelMap map = resize_nearest(labels, to);
    for (int64_t i = 0; i < to.height * to.width; ++i) {
      if (big.pixels[size_t(3 * i)] == 100) continue;  // halfway
      CHECK((big.pixels[size_t(3 * i)] > 100) == (map.labels[size_t(i)] == 1));
    }
  }
}

TEST_CASE("fitted sizes follow mmcv's rule", "[transforms]") {
  const std::array<int64_t, 2> base = {2048, 512};
  CHECK((fitted_size({360, 480}, base) == Size{512, 683}));
  CHECK((fitted_size({480, 360}, base) == Size{683, 512}));
  CHECK((fitted_size({100, 1000}, base) == Size{205, 2048}));
  CHECK((fitted_size({360, 480}, base, 0.5) == Size{256, 341}));
  CHECK((fitted_size({1, 30000}, {64, 64}) == Size{1, 64}));
  // Integers first: 512 * 0.7509 = 384.46 -> 384.
  CHECK((fitted_size({512, 512}, base, 0.7509) == Size{384, 384}));
}

TEST_CASE("the drawn ratio fills its range", "[transforms]") {
  Random random(1);
  const ResizeOptions options{{1000, 1000}, {0.5, 2.0}};
  int64_t smallest = 10000, largest = 0;
  for (int i = 0; i < 2000; ++i) {
    const Size size = draw_size({100, 100}, options, random);
    CHECK(size.height == size.width);
    smallest = std::min(smallest, size.height);
    largest = std::max(largest, size.height);
  }
  CHECK(smallest >= 500);
  CHECK(smallest < 510);
  CHECK(largest <= 2000);
  CHECK(largest > 1990);
}

TEST_CASE("crops reach every place and no other", "[transforms]") {
  const LabelMap labels = random_labels(5, 8, 4, 2);
  Random random(7);
  std::set<std::pair<int64_t, int64_t>> seen;
  for (int i = 0; i < 500; ++i) {
    const Window window = draw_crop(labels, {5, 8}, {3, 6}, 1, random);
    CHECK(window.height == 3);
    CHECK(window.width == 6);
    seen.insert({window.top, window.left});
  }
  CHECK(seen.size() == 9);  // 3 x 3
  CHECK(seen.begin()->first == 0);
  CHECK(seen.rbegin()->first == 2);
  CHECK(draw_crop(labels, {5, 8}, {16, 4}, 1, random).height == 5);
}

TEST_CASE("crops of one class are drawn again, ten times at most", "[transforms]") {
  // Class 1 in the left quarter, ignored in the last columns, class 0 elsewhere.
  LabelMap labels{8, 40, std::vector<uint8_t>(320, 0)};
  for (int64_t y = 0; y < 8; ++y) {
    for (int64_t x = 0; x < 10; ++x) labels.labels[size_t(y * 40 + x)] = 1;
    for (int64_t x = 30; x < 40; ++x) labels.labels[size_t(y * 40 + x)] = 255;
  }
  auto share = [&](const Window& w) {  // of class 0 among the labelled
    std::array<double, 256> counts{};
    for (int64_t y = 0; y < w.height; ++y) {
      for (int64_t x = 0; x < w.width; ++x) counts[labels.labels[size_t((w.top + y) * 40 + w.left + x)]] += 1;
    }
    return std::max(counts[0], counts[1]) / (counts[0] + counts[1]);
  };
  int mixed = 0, plain_mixed = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed), same(seed), plain(seed);
    const Window window = draw_crop(labels, {8, 40}, {8, 8}, 0.75, random);
    mixed += share(window) < 0.75;
    plain_mixed += share(draw_crop(labels, {8, 40}, {8, 8}, 1, plain)) < 0.75;
    // The rule, spelled out.
    Window expected{0, 0, 8, 8};
    for (int draw = 0; draw < 11; ++draw) {
      expected.top = same.uniform_int(0, 1);
      expected.left = same.uniform_int(0, 33);
      if (share(expected) < 0.75) break;
    }
    CHECK((window == expected));
  }
  CHECK(plain_mixed < 80);  // 3 places of 33
  CHECK(mixed > 200);       // 1 - (30/33)^11 = 0.65
  // Nothing to find: ends, inside.
  const LabelMap flat{8, 40, std::vector<uint8_t>(320, 3)};
  Random random(1);
  CHECK(draw_crop(flat, {8, 40}, {8, 8}, 0.75, random).width == 8);
}

TEST_CASE("flipping twice is nothing, once is a mirror", "[transforms]") {
  const Image image = random_image(3, 5, 1);
  const LabelMap labels = random_labels(3, 5, 9, 2);
  Image a = image;
  LabelMap b = labels;
  flip_horizontally(a);
  flip_horizontally(b);
  for (int64_t y = 0; y < 3; ++y) {
    for (int64_t x = 0; x < 5; ++x) {
      CHECK(b.labels[size_t(y * 5 + x)] == labels.labels[size_t(y * 5 + 4 - x)]);
      for (int64_t c = 0; c < 3; ++c) CHECK(a.pixels[size_t(3 * (y * 5 + x) + c)] == image.pixels[size_t(3 * (y * 5 + 4 - x) + c)]);
    }
  }
  flip_horizontally(a);
  flip_horizontally(b);
  CHECK(a.pixels == image.pixels);
  CHECK(b.labels == labels.labels);
}

TEST_CASE("turns and vertical flips move labels with their pixels, bit for bit", "[transforms]") {
  LabelMap labels{2, 3, {1, 2, 3, 4, 5, 6}};
  LabelMap once = labels, flipped = labels;
  turn(once, 1);
  CHECK(once.height == 3);
  CHECK(once.width == 2);
  CHECK(once.labels == std::vector<uint8_t>{4, 1, 5, 2, 6, 3});  // clockwise
  flip_vertically(flipped);
  CHECK(flipped.labels == std::vector<uint8_t>{4, 5, 6, 1, 2, 3});
  for (const auto& [quarters, back] : {std::pair{1, 3}, {2, 2}, {3, 1}, {0, 0}}) {
    LabelMap there = labels;
    turn(there, quarters);
    turn(there, back);
    CHECK(there.height == 2);
    CHECK(there.labels == labels.labels);
  }
  // Each pixel of the picture carries its label: whatever is drawn, they stay together.
  RawSample sample{{9, 14, {}}, random_labels(9, 14, 5, 3), "x"};
  for (const uint8_t label : sample.labels.labels) sample.image.pixels.insert(sample.image.pixels.end(), {label, uint8_t(label + 10), 7});
  PipelineOptions options{.crop = std::array<int64_t, 2>{4, 6}, .photometric = false};
  options.vertical_flip = options.rotate90 = 0.5;
  std::set<std::vector<uint8_t>> seen;
  const auto draw = [&](uint64_t seed) {
    const RawSample result = augment(sample, options, Random(seed));
    for (size_t i = 0; i < result.labels.labels.size(); ++i) {
      CHECK(result.image.pixels[3 * i] == result.labels.labels[i]);
      CHECK(result.image.pixels[3 * i + 1] == result.labels.labels[i] + 10);
    }
    return result;
  };
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const RawSample result = draw(seed);
    CHECK(result.image.height == 4);
    CHECK(result.image.width == 6);
    CHECK(draw(seed).labels.labels == result.labels.labels);
  }
  // Whole pictures of unequal sides keep them; square ones are turned all ways.
  options.crop.reset();
  options.rotate90 = 1;
  for (uint64_t seed = 0; seed < 10; ++seed) CHECK(draw(seed).labels.height == 9);
  sample.image = {2, 2, {1, 11, 7, 2, 12, 7, 3, 13, 7, 4, 14, 7}};
  sample.labels = {2, 2, {1, 2, 3, 4}};
  options.flip = options.vertical_flip = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) seen.insert(draw(seed).labels.labels);
  CHECK(seen == std::set<std::vector<uint8_t>>{{3, 1, 4, 2}, {4, 3, 2, 1}, {2, 4, 1, 3}});
}

TEST_CASE("photometric distortion follows the documented draws", "[transforms]") {
  int changed = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    INFO("seed " << seed);
    const Image image = random_image(6, 9, seed + 100);
    Image distorted = image;
    Random random(seed);
    distort_photometrically(distorted, random);
    const std::vector<double> expected = distort_oracle(image, Random(seed));
    // float32 against float64 may cut to neighbouring bytes, and a later contrast multiplies that by at most 1.5.
    double worst = 0, sum = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const double difference = std::abs(double(distorted.pixels[i]) - expected[i]);
      worst = std::max(worst, difference);
      sum += difference;
    }
    CHECK(worst <= 3);
    CHECK(sum / double(expected.size()) < 0.2);
    changed += distorted.pixels != image.pixels;
  }
  CHECK(changed > 45);
  CHECK(changed < 60);  // 1 in 16 draws nothing
}

TEST_CASE("gray stays gray under saturation and hue", "[transforms]") {
  Image image{1, 256, std::vector<uint8_t>(768)};
  for (size_t i = 0; i < 768; ++i) image.pixels[i] = uint8_t(i / 3);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Image distorted = image;
    Random random(seed);
    distort_photometrically(distorted, random);
    for (size_t i = 0; i < 768; i += 3) {
      REQUIRE(distorted.pixels[i] == distorted.pixels[i + 1]);
      REQUIRE(distorted.pixels[i] == distorted.pixels[i + 2]);
    }
  }
}

TEST_CASE("normalising and padding", "[transforms]") {
  PipelineOptions options;
  options.mean = {10, 20, 30};
  options.std = {2, 4, 5};
  const Image image{1, 2, {10, 24, 20, 14, 20, 255}};
  std::vector<float> out(2 * 3 * 3, -1);
  normalize_into(image, options, {2, 3}, out.data());
  const std::vector<float> expected = {0, 1, -2, 2, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  for (size_t i = 0; i < out.size(); ++i) CHECK(out[i] == Approx(expected[i]));
  std::vector<uint8_t> labels(6, 1);
  pad_labels_into({1, 2, {7, 8}}, {2, 3}, labels.data());
  CHECK(labels == std::vector<uint8_t>{7, 8, 255, 255, 255, 255});
  const Tensor prepared = prepare_image(image, options);
  CHECK(prepared.shape() == Shape{1, 1, 2, 3});
  CHECK(prepared.data<float>()[5] == Approx(45));
  options.test_scale = {4, 4};
  CHECK(prepare_image(image, options).shape() == Shape{1, 2, 4, 3});
}

TEST_CASE("each part of the augmentation has draws of its own", "[transforms]") {
  const RawSample sample{random_image(40, 50, 1), random_labels(40, 50, 5, 2), "x"};
  PipelineOptions options;
  options.resize = ResizeOptions{{60, 60}, {0.5, 2.0}};
  options.crop = {24, 28};
  const RawSample all = augment(sample, options, Random(9));
  CHECK(augment(sample, options, Random(9)).image.pixels == all.image.pixels);
  CHECK(augment(sample, options, Random(10)).image.pixels != all.image.pixels);
  options.photometric = false;
  CHECK(augment(sample, options, Random(9)).labels.labels == all.labels.labels);
  options.flip = 0;
  RawSample unflipped = augment(sample, options, Random(9));
  options.flip = 1;
  RawSample flipped = augment(sample, options, Random(9));
  flip_horizontally(flipped.image);
  flip_horizontally(flipped.labels);
  CHECK(flipped.image.pixels == unflipped.image.pixels);
  CHECK(flipped.labels.labels == unflipped.labels.labels);
}

TEST_CASE("what is no picture is not read", "[transforms]") {
  CHECK_THROWS_WITH(prepare_image({4, 4, std::vector<uint8_t>(16)}, {}), Contains("4x4 cannot have 16 values"));
  CHECK_THROWS_WITH(prepare_image({}, {}), Contains("prepare_image"));
  CHECK_THROWS_WITH(labels_tensor({4, 4, std::vector<uint8_t>(48)}), Contains("labels_tensor"));
  Image image{4, 4, {1, 2}};
  LabelMap labels{4, 4, {}};
  Random random(1);
  const auto refuses = [](const char* name, const auto& call) { CHECK_THROWS_WITH(call(), Contains("4x4 cannot have") && Contains(name)); };
  refuses("resize_bilinear", [&] { resize_bilinear(image, {2, 2}); });
  refuses("resize_nearest", [&] { resize_nearest(labels, {2, 2}); });
  refuses("draw_crop", [&] { draw_crop(labels, {4, 4}, {2, 2}, 0.75, random); });
  refuses("flip_horizontally", [&] { flip_horizontally(image); });
  refuses("flip_horizontally", [&] { flip_horizontally(labels); });
  refuses("flip_vertically", [&] { flip_vertically(image); });
  refuses("flip_vertically", [&] { flip_vertically(labels); });
  refuses("turn", [&] { turn(image, 1); });
  refuses("turn", [&] { turn(labels, 1); });
  refuses("distort_photometrically", [&] { distort_photometrically(image, random); });
}

TEST_CASE("windows lie inside, and turns are right angles", "[transforms]") {
  Image image = random_image(4, 4, 1);
  LabelMap labels = random_labels(4, 4, 3, 2);
  Random random(1);
  for (const Window& outside : {Window{-1, 0, 2, 2}, Window{0, 7, 2, 2}, Window{0, 0, 9, 2}, Window{0, 0, 0, 2}, Window{INT64_MAX, 0, 2, 2}}) {
    CHECK_THROWS_WITH(resize_bilinear(image, {8, 8}, outside), Contains("resize_bilinear"));
    CHECK_THROWS_WITH(resize_nearest(labels, {8, 8}, outside), Contains("resize_nearest"));
  }
  CHECK_THROWS_AS(resize_bilinear(image, {0, 4}), UsageError);
  CHECK_THROWS_AS(resize_bilinear(image, {4, int64_t{1} << 40}), UsageError);
  CHECK_THROWS_AS(draw_crop(labels, {4, 4}, {0, 2}, 1, random), UsageError);
  CHECK_THROWS_AS(turn(image, 4), UsageError);
  CHECK_THROWS_AS(turn(labels, -1), UsageError);
}

TEST_CASE("pipelines that make no sense are refused by name", "[transforms]") {
  PipelineOptions options;
  check_pipeline(options);
  auto refused = [&](auto change, const char* key) {
    PipelineOptions changed = options;
    change(changed);
    CHECK_THROWS_WITH(check_pipeline(changed), Contains(key));
  };
  refused([](auto& o) { o.crop = {0, 10}; }, "pipeline.crop");
  refused([](auto& o) { o.crop = {10, 40000}; }, "pipeline.crop");
  refused([](auto& o) { o.resize = ResizeOptions{{0, 10}, {1, 1}}; }, "pipeline.resize.scale");
  refused([](auto& o) { o.resize = ResizeOptions{{30000, 10}, {1, 2}}; }, "pipeline.resize.scale");
  refused([](auto& o) { o.resize = ResizeOptions{{10, 10}, {2, 1}}; }, "ratio_range");
  refused([](auto& o) { o.resize = ResizeOptions{{10, 10}, {0, 1}}; }, "ratio_range");
  refused([](auto& o) { o.resize = ResizeOptions{{10, 10}, {std::nan(""), 1}}; }, "ratio_range");
  refused([](auto& o) { o.resize = ResizeOptions{{10, 10}, {1, 65}}; }, "ratio_range");
  refused([](auto& o) { o.resize = ResizeOptions{{20000, 20000}, {1, 1}}; }, "pipeline.resize.scale");  // each side fits, both do not
  refused([](auto& o) { o.test_scale = {-1, 1}; }, "pipeline.test_scale");
  refused([](auto& o) { o.max_class_share = 0; }, "max_class_share");
  refused([](auto& o) { o.max_class_share = 1.5; }, "max_class_share");
  refused([](auto& o) { o.flip = 1.5; }, "pipeline.flip");
  refused([](auto& o) { o.vertical_flip = -1; }, "pipeline.vertical_flip");
  refused([](auto& o) { o.rotate90 = 2; }, "pipeline.rotate90");
  refused([](auto& o) { o.std[1] = 0; }, "pipeline.std");
  refused([](auto& o) { o.std[2] = HUGE_VAL; }, "pipeline.std");
  refused([](auto& o) { o.mean[0] = std::nan(""); }, "pipeline.mean");
}

TEST_CASE("with a crop, pictures that are not square are turned by one right angle, too", "[transforms]") {
  LabelMap rows{4, 8, {}};
  for (int64_t i = 0; i < 32; ++i) rows.labels.push_back(uint8_t(i / 8));
  PipelineOptions options;
  options.crop = {4, 4};
  options.flip = 0;
  options.rotate90 = options.max_class_share = 1;
  int sideways = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const LabelMap turned = augment({random_image(4, 8, 1), rows, "x"}, options, Random(seed)).labels;
    sideways += turned.labels[0] != turned.labels[1];
  }
  CHECK(sideways > 5);
  CHECK(sideways < 20);
}

TEST_CASE("the size to evaluate at follows the scale, with test_scale and without", "[transforms]") {
  PipelineOptions options;
  CHECK(evaluation_size({5, 9}, options, 0.5) == Size{3, 5});  // halves are rounded up
  CHECK(evaluation_size({1, 1}, options, 0.25) == Size{1, 1});
  options.test_scale = {200, 100};
  CHECK(evaluation_size({10, 20}, options, 1) == Size{100, 200});
  CHECK(evaluation_size({10, 20}, options, 0.5) == Size{50, 100});
}
