#include "datasets/shapes.h"

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
