#include "datasets/shapes.h"

#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "core/errors.h"
#include "core/parallel.h"
#include "core/sha256.h"
#include "support.h"

using namespace eq;
using Catch::Contains;

namespace {

std::string hash_of(const Dataset& dataset, const std::vector<int64_t>& indices) {
  Sha256 hash;
  for (int64_t index : indices) {
    const RawSample sample = dataset.load(index);
    hash.update(sample.image.pixels.data(), sample.image.pixels.size());
    hash.update(sample.labels.labels.data(), sample.labels.labels.size());
  }
  return hash.hex().substr(0, 16);
}

}  // namespace

TEST_CASE("Shapes-8 is the same bytes on every machine", "[shapes]") {
  // A change of these numbers changes everybody's data set and voids every number measured on it.
  const std::vector<int64_t> some = {0, 1, 2, 199}, far = {-1, int64_t{1} << 62, 123456789};
  CHECK(hash_of(ShapesDataset(kShapesSeed, "train", 64, Dataset::kEndless), some) == "39152c28ae416672");
  CHECK(hash_of(ShapesDataset(kShapesSeed, "train", 96, Dataset::kEndless), some) == "c35972bc1562a6a7");
  CHECK(hash_of(ShapesDataset(kShapesSeed, "train", 96, Dataset::kEndless), far) == "a99fc7bcdd5ea6d7");
  CHECK(hash_of(ShapesDataset(kShapesSeed, "val", 96, 200), some) == "201f28467f962ca4");
  CHECK(hash_of(ShapesDataset(kShapesSeed, "val", 256, 200), some) == "7c176397bd598ca4");
  CHECK(hash_of(ShapesDataset(kShapesSeed, "test", 96, 200), some) == "99d785ba982c09a6");
}

TEST_CASE("a scene depends on seed, split, index and size, and on nothing else", "[shapes]") {
  const ShapesDataset dataset(1, "train", 64, Dataset::kEndless);
  const std::vector<uint8_t> pixels = dataset.load(5).image.pixels;
  CHECK(ShapesDataset(1, "train", 64, 10).load(5).image.pixels == pixels);
  CHECK(dataset.load(6).image.pixels != pixels);
  CHECK(ShapesDataset(2, "train", 64, 10).load(5).image.pixels != pixels);
  CHECK(ShapesDataset(1, "val", 64, 10).load(5).image.pixels != pixels);
  std::vector<std::vector<uint8_t>> parallel(16);
  parallel_for(16, 1, [&](int64_t begin, int64_t) { parallel[size_t(begin)] = dataset.load(begin).image.pixels; });
  for (int64_t i = 0; i < 16; ++i) CHECK(parallel[size_t(i)] == dataset.load(i).image.pixels);
}

TEST_CASE("Shapes-8 holds what its table says", "[shapes]") {
  for (const int64_t side : {64, 96, 256}) {
    const ShapesDataset dataset(kShapesSeed, "train", side, Dataset::kEndless);
    const int samples = side == 256 ? 40 : 200;
    std::array<double, 256> share{};
    int warm = 0, cool = 0;
    double warmth_of_warm = 0, warmth_of_cool = 0;
    for (int index = 0; index < samples; ++index) {
      const RawSample sample = dataset.load(index);
      REQUIRE(sample.image.height == side);
      REQUIRE(sample.image.pixels.size() == size_t(3 * side * side));
      REQUIRE(sample.labels.labels.size() == size_t(side * side));
      std::set<int> present;
      double warmth = 0;
      for (size_t i = 0; i < sample.labels.labels.size(); ++i) {
        const int label = sample.labels.labels[i];
        present.insert(label);
        share[size_t(label)] += 1.0 / double(samples * side * side);
        if (label == 0) warmth += double(sample.image.pixels[3 * i]) - sample.image.pixels[3 * i + 2];
      }
      CHECK((present.count(2) == 0 || present.count(7) == 0));  // the cue is of the whole scene
      warm += present.count(2) != 0;
      cool += present.count(7) != 0;
      if (present.count(2) != 0) warmth_of_warm += warmth;
      if (present.count(7) != 0) warmth_of_cool += warmth;
    }
    INFO("side " << side);
    CHECK(warm > samples / 4);
    CHECK(cool > samples / 4);
    CHECK(warmth_of_warm > 0);
    CHECK(warmth_of_cool < 0);
    CHECK(share[0] > 0.5);
    CHECK(share[0] < 0.75);
    CHECK(share[1] > 0.10);
    for (int c = 1; c < 8; ++c) {
      INFO("class " << c << " " << dataset.class_names()[size_t(c)]);
      CHECK(share[size_t(c)] > 0.01);
    }
    CHECK(share[255] > 0.01);
    CHECK(share[255] < 0.10);
    double sum = share[255];
    for (int c = 0; c < 8; ++c) sum += share[size_t(c)];
    CHECK(sum == Approx(1));
  }
}

TEST_CASE("the sizes of Shapes-8's splits", "[shapes]") {
  const auto train = make_shapes({}, "train");
  CHECK(train->size() == Dataset::kEndless);
  CHECK(train->num_classes() == 8);
  CHECK(train->palette().size() == 8);
  CHECK(train->load(-7).name == "-7");
  CHECK(train->load(3).image.height == 96);
  const auto val = make_shapes({}, "val");
  CHECK(val->size() == 200);
  CHECK(val->load(199).name == "199");
  CHECK_THROWS_WITH(val->load(200), Contains("no sample 200"));
  CHECK_THROWS_AS(val->load(-1), UsageError);
  DataOptions options;
  options.train_images = 12;
  CHECK(make_shapes(options, "train")->size() == 12);
  options.size = 63;
  CHECK_THROWS_WITH(make_shapes(options, "train"), Contains("data.size"));
  options.size = 257;
  CHECK_THROWS_AS(make_shapes(options, "train"), UsageError);
  options.size = 64;
  options.val_images = 0;
  CHECK_THROWS_AS(make_shapes(options, "val"), UsageError);
  CHECK_THROWS_WITH(make_shapes({}, "trian"), Contains("trian"));
}

namespace {

ShapesDataset with(const std::function<void(DataOptions&)>& change) {
  DataOptions options;
  change(options);
  return ShapesDataset(kShapesSeed, "val", 64, 20, options);
}

// Mean and standard deviation of the green channel over some scenes, and the mean difference of neighbours.
struct Look {
  double mean = 0, std = 0, step = 0;
};
Look look_of(const Dataset& dataset) {
  Look look;
  double squares = 0, count = 0;
  for (int index = 0; index < 8; ++index) {
    const Image image = dataset.load(index).image;
    for (size_t i = 0; i + 1 < image.pixels.size() / 3; ++i, ++count) {
      const double value = image.pixels[3 * i + 1];
      look.mean += value;
      squares += value * value;
      look.step += std::abs(value - image.pixels[3 * i + 4]);
    }
  }
  look.mean /= count;
  look.step /= count;
  look.std = std::sqrt(squares / count - look.mean * look.mean);
  return look;
}

}  // namespace

TEST_CASE("difficulty changes the pictures and not the labels", "[shapes]") {
  const ShapesDataset plain = with([](DataOptions&) {});
  const ShapesDataset noisy = with([](DataOptions& o) { o.difficulty.noise = 40; });
  const ShapesDataset faint = with([](DataOptions& o) { o.difficulty.contrast = 0.25; });
  const ShapesDataset blurred = with([](DataOptions& o) { o.difficulty.blur = 3; });
  for (const ShapesDataset* dataset : {&noisy, &faint, &blurred}) {
    CHECK(dataset->load(3).labels.labels == plain.load(3).labels.labels);
    CHECK(dataset->load(3).image.pixels != plain.load(3).image.pixels);
  }
  const Look before = look_of(plain);
  CHECK(look_of(noisy).step > 2 * before.step);
  CHECK(look_of(noisy).mean == Approx(before.mean).margin(2));
  CHECK(look_of(faint).std < 0.5 * before.std);
  CHECK(look_of(faint).std > 0.2 * before.std);
  CHECK(std::abs(look_of(faint).mean - 128) < std::abs(before.mean - 128));
  CHECK(look_of(blurred).step < 0.8 * before.step);
  CHECK(look_of(blurred).std > 0.5 * before.std);
  CHECK(look_of(blurred).mean == Approx(before.mean).margin(2));
  CHECK(hash_of(with([](DataOptions& o) { o.difficulty = {.noise = 40, .contrast = 0.5, .blur = 2}; }), {0, 1}) == "2c86375b82d723ef");
}

TEST_CASE("labels spoilt on purpose", "[shapes]") {
  const ShapesDataset plain = with([](DataOptions&) {});
  auto labels = [](const Dataset& dataset) {
    std::vector<uint8_t> all;
    for (int index = 0; index < 20; ++index) {
      const std::vector<uint8_t> some = dataset.load(index).labels.labels;
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  };
  const std::vector<uint8_t> truth = labels(plain);

  SECTION("shift is out of range, and the preset mends it") {
    const ShapesDataset shifted = with([](DataOptions& o) { o.wrong_labels = "shift"; });
    CHECK_THROWS_WITH(labels(shifted), Contains("label 8") && Contains("shapes val") && Contains("data.label_map"));
    CHECK(labels(with([](DataOptions& o) {
            o.wrong_labels = "shift";
            o.label_map.preset = "minus_one_zero_ignored";
          })) == truth);
  }
  SECTION("binary leaves the background, and a label map makes a second class of the rest") {
    std::vector<uint8_t> expected = truth;
    for (uint8_t& value : expected) value = value == 0 ? 0 : 255;
    CHECK(labels(with([](DataOptions& o) { o.wrong_labels = "binary"; })) == expected);
    for (uint8_t& value : expected) value = value == 0 ? 0 : 1;
    CHECK(labels(with([](DataOptions& o) {
            o.wrong_labels = "binary";
            o.label_map.entries = {{0, 0}, {255, 1}};
          })) == expected);
  }
  SECTION("swapped is what the nearest colour of the palette gives when red and blue are exchanged") {
    const Palette& palette = plain.palette();
    std::array<uint8_t, 256> swapped;
    swapped[255] = 255;
    for (size_t c = 0; c < palette.size(); ++c) {
      int nearest = 1 << 30;
      for (size_t other = 0; other < palette.size(); ++other) {
        const int r = palette[c][2] - palette[other][0], g = palette[c][1] - palette[other][1], b = palette[c][0] - palette[other][2];
        const int distance = r * r + g * g + b * b;
        if (distance < nearest) {
          nearest = distance;
          swapped[c] = uint8_t(other);
        }
      }
    }
    std::vector<uint8_t> expected = truth;
    for (uint8_t& value : expected) value = swapped[value];
    CHECK(expected != truth);
    CHECK(labels(with([](DataOptions& o) { o.wrong_labels = "swapped"; })) == expected);
  }
}

TEST_CASE("options of the built-in shapes out of range", "[shapes]") {
  CHECK_THROWS_WITH(with([](DataOptions& o) { o.wrong_labels = "mirrored"; }), Contains("mirrored") && Contains("swapped"));
  CHECK_THROWS_WITH(with([](DataOptions& o) { o.difficulty.noise = 129; }), Contains("data.difficulty.noise"));
  CHECK_THROWS_AS(with([](DataOptions& o) { o.difficulty.noise = -1; }), UsageError);
  CHECK_THROWS_WITH(with([](DataOptions& o) { o.difficulty.contrast = 0; }), Contains("data.difficulty.contrast"));
  CHECK_THROWS_WITH(with([](DataOptions& o) { o.difficulty.blur = 9; }), Contains("data.difficulty.blur"));
  CHECK_THROWS_AS(with([](DataOptions& o) { o.label_map.preset = "cityscapes_ids"; }), UsageError);
  CHECK_THROWS_WITH(with([](DataOptions& o) { o.classes = {"a", "b"}; }), Contains("data.classes") && Contains("data.type"));
  CHECK_THROWS_WITH(with([](DataOptions& o) { o.palette = {{1, 2, 3}}; }), Contains("data.palette"));
}
