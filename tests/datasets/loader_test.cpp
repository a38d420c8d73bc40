#include "datasets/loader.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <stdexcept>
#include <thread>

#include "core/errors.h"
#include "datasets/shapes.h"
#include "support.h"

using namespace eq;
using Catch::Contains;
using eq::test::bit_equal;

namespace {

// Pictures of one colour each, which is their index; some of them broken or slow.
class FakeDataset final : public Dataset {
 public:
  FakeDataset(int64_t size, Size picture) : Dataset({"a", "b", "c"}, {{1, 1, 1}, {2, 2, 2}, {3, 3, 3}}), size_(size), picture_(picture) {}
  int64_t size() const override { return size_; }
  RawSample load(int64_t index) const override {
    ++loads;
    if (slow_index == index) std::this_thread::sleep_for(std::chrono::milliseconds(30));
    if (slower_index == index) std::this_thread::sleep_for(std::chrono::milliseconds(90));
    if (broken.contains(index)) throw DataError("the label 200 is out of range", describe(index), "correct it");
    if (hopeless == index) throw std::runtime_error("surprise");
    const Size size = index == odd_one ? Size{picture_.height + 1, picture_.width} : picture_;
    const size_t pixels = size_t(size.height * size.width);
    return {{size.height, size.width, std::vector<uint8_t>(3 * pixels, uint8_t(index))},
            {size.height, size.width, std::vector<uint8_t>(pixels, uint8_t(index % 3))},
            "p" + std::to_string(index)};
  }
  std::string describe(int64_t index) const override { return "file-" + std::to_string(index) + ".png"; }

  std::set<int64_t> broken;
  int64_t hopeless = -1, odd_one = -1, slow_index = -1, slower_index = -1;
  mutable std::atomic<int64_t> loads{0};

 private:
  int64_t size_;
  Size picture_;
};

PipelineOptions plain() {
  PipelineOptions options;
  options.flip = 0;
  options.photometric = false;
  options.mean = {0, 0, 0};
  options.std = {1, 1, 1};
  return options;
}

PipelineOptions full() {
  PipelineOptions options;
  options.resize = ResizeOptions{{80, 80}, {0.5, 2.0}};
  options.crop = {48, 56};
  return options;
}

bool equal(const Batch& a, const Batch& b) {
  return bit_equal(a.images, b.images) && bit_equal(a.labels, b.labels) && a.names == b.names && a.indices == b.indices &&
         a.iteration == b.iteration;
}

}  // namespace

TEST_CASE("the sampler shuffles every epoch anew and can start anywhere", "[loader]") {
  Sampler sampler(7, 3);
  std::vector<int64_t> order;
  for (int64_t position = 0; position < 21; ++position) order.push_back(sampler.index_at(position));
  for (int epoch = 0; epoch < 3; ++epoch) {
    const std::set<int64_t> seen(order.begin() + 7 * epoch, order.begin() + 7 * epoch + 7);
    CHECK(seen.size() == 7);
    CHECK(*seen.rbegin() == 6);
  }
  CHECK(!std::equal(order.begin(), order.begin() + 7, order.begin() + 7));
  for (int64_t position : {20, 3, 13, 0}) CHECK(Sampler(7, 3).index_at(position) == order[size_t(position)]);
  CHECK(sampler.index_at(5) == order[5]);  // back to an earlier epoch
  Sampler other(7, 4);
  std::vector<int64_t> different;
  for (int64_t position = 0; position < 21; ++position) different.push_back(other.index_at(position));
  CHECK(different != order);
  // Every place is as likely: the first of many epochs.
  std::array<int, 5> first{};
  Sampler many(5, 1);
  for (int64_t epoch = 0; epoch < 2000; ++epoch) ++first[size_t(many.index_at(5 * epoch))];
  for (int count : first) CHECK(std::abs(count - 400) < 90);  // 5 standard deviations
  Sampler endless(Dataset::kEndless, 1);
  std::set<int64_t> distinct;
  for (int64_t position = 0; position < 100; ++position) distinct.insert(endless.index_at(position));
  CHECK(distinct.size() == 100);
  CHECK(*distinct.begin() >= 0);
  CHECK_THROWS_AS(Sampler(0, 1), UsageError);
  CHECK_THROWS_AS(sampler.index_at(-1), UsageError);
  CHECK_THROWS_AS(endless.index_at(-1), UsageError);
}

TEST_CASE("batches hold the pictures of the sampler, in order", "[loader]") {
  const FakeDataset dataset(10, {4, 6});
  DataLoader loader(dataset, plain(), {.batch_size = 4, .threads = 3, .prefetch = 3, .seed = 5});
  Sampler sampler(10, 5);
  for (int64_t iteration = 0; iteration < 12; ++iteration) {
    CHECK(loader.iteration() == iteration);
    const Batch batch = loader.next();
    REQUIRE(batch.images.shape() == Shape{4, 4, 6, 3});
    REQUIRE(batch.labels.shape() == Shape{4, 4, 6});
    REQUIRE(batch.labels.dtype() == DType::kUInt8);
    CHECK(batch.iteration == iteration);
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t index = sampler.index_at(4 * iteration + i);
      CHECK(batch.indices[size_t(i)] == index);
      CHECK(batch.names[size_t(i)] == "p" + std::to_string(index));
      CHECK(batch.images.data<float>()[72 * i + 71] == float(index));
      CHECK(batch.labels.data<uint8_t>()[24 * i] == index % 3);
    }
  }
}

TEST_CASE("batches do not depend on threads, prefetching or the cache", "[loader]") {
  const ShapesDataset endless(1, "train", 64, Dataset::kEndless), small(1, "train", 64, 9);
  for (const Dataset* dataset : {static_cast<const Dataset*>(&endless), static_cast<const Dataset*>(&small)}) {
    DataLoader one(*dataset, full(), {.batch_size = 3, .threads = 1, .prefetch = 1, .seed = 2, .cache_bytes = 0});
    DataLoader many(*dataset, full(), {.batch_size = 3, .threads = 4, .prefetch = 5, .seed = 2});
    DataLoader other(*dataset, full(), {.batch_size = 3, .threads = 4, .prefetch = 5, .seed = 3});
    for (int i = 0; i < 8; ++i) {
      const Batch batch = one.next();
      CHECK(equal(batch, many.next()));
      CHECK_FALSE(bit_equal(batch.images, other.next().images));
    }
  }
}

TEST_CASE("seeking equals running", "[loader]") {
  const ShapesDataset dataset(1, "train", 64, 11);
  const LoaderOptions options{.batch_size = 4, .threads = 2, .prefetch = 2, .seed = 8};
  DataLoader running(dataset, full(), options), seeking(dataset, full(), options);
  std::vector<Batch> batches;
  for (int i = 0; i < 9; ++i) batches.push_back(running.next());
  for (int64_t target : {5, 0, 7, 8, 8, 2}) {
    seeking.seek(target);
    CHECK(seeking.iteration() == target);
    CHECK(equal(seeking.next(), batches[size_t(target)]));
    if (target < 8) CHECK(equal(seeking.next(), batches[size_t(target + 1)]));
  }
  CHECK_THROWS_AS(seeking.seek(-1), UsageError);
}

TEST_CASE("a loader whose threads could not be started says so again, and goes on when they can", "[loader]") {
  const FakeDataset dataset(10, {4, 6});
  DataLoader loader(dataset, plain(), {.batch_size = 4, .seed = 5}), other(dataset, plain(), {.batch_size = 4, .seed = 5});
  pthread_attr_t before, large;
  pthread_getattr_default_np(&before);
  pthread_attr_init(&large);
  pthread_attr_setstacksize(&large, size_t{1} << 46);  // more than there are addresses
  pthread_setattr_default_np(&large);
  CHECK_THROWS_WITH(loader.seek(3), Contains("thread"));
  CHECK_THROWS_WITH(loader.next(), Contains("thread"));
  pthread_setattr_default_np(&before);
  CHECK(loader.iteration() == 3);
  other.seek(3);
  CHECK(equal(loader.next(), other.next()));
}

TEST_CASE("a broken sample is rethrown by the batch that holds it, and by no other", "[loader]") {
  FakeDataset dataset(20, {4, 4});
  Sampler sampler(20, 0);
  // Batch 2 holds positions 8 .. 11: two broken ones, of which the earlier is reported whatever the threads do.
  const int64_t first = sampler.index_at(9), second = sampler.index_at(11);
  dataset.broken = {first, second};
  dataset.slow_index = first;
  DataLoader loader(dataset, plain(), {.batch_size = 4, .threads = 4, .prefetch = 4});
  loader.next();
  loader.next();
  for (int again = 0; again < 2; ++again) {
    CHECK_THROWS_AS(loader.next(), DataError);
    CHECK_THROWS_WITH(loader.next(), Contains("file-" + std::to_string(first) + ".png") && Contains("label 200"));
  }
  loader.seek(3);
  CHECK(loader.next().iteration == 3);
  dataset.broken.clear();
  loader.seek(2);
  CHECK(loader.next().indices[1] == first);
}

TEST_CASE("unexpected failures and odd sizes name the file too", "[loader]") {
  FakeDataset dataset(6, {4, 4});
  dataset.hopeless = 3;
  DataLoader loader(dataset, plain(), {.batch_size = 6});
  CHECK_THROWS_WITH(loader.next(), Contains("file-3.png") && Contains("surprise"));
  FakeDataset at_once(6, {4, 4});  // the first picture gives the batch its size
  at_once.hopeless = 0;
  CHECK_THROWS_WITH(DataLoader(at_once, plain(), {.batch_size = 6}), Contains("file-0.png") && Contains("surprise"));
  FakeDataset uneven(6, {4, 4});
  uneven.odd_one = 2;
  DataLoader uncropped(uneven, plain(), {.batch_size = 6});
  CHECK_THROWS_WITH(uncropped.next(), Contains("file-2.png") && Contains("pipeline.crop"));
}

TEST_CASE("pictures smaller than the crop are padded", "[loader]") {
  const FakeDataset dataset(4, {4, 4});
  PipelineOptions options = plain();
  options.crop = {6, 5};
  options.mean = {100, 100, 100};
  DataLoader loader(dataset, options, {.batch_size = 4});
  const Batch batch = loader.next();
  REQUIRE(batch.images.shape() == Shape{4, 6, 5, 3});
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t y = 0; y < 6; ++y) {
      for (int64_t x = 0; x < 5; ++x) {
        const bool inside = y < 4 && x < 4;
        CHECK(batch.images.data<float>()[3 * ((i * 6 + y) * 5 + x)] == (inside ? float(batch.indices[size_t(i)]) - 100 : 0));
        CHECK(int(batch.labels.data<uint8_t>()[(i * 6 + y) * 5 + x]) == (inside ? batch.indices[size_t(i)] % 3 : 255));
      }
    }
  }
}

TEST_CASE("the cache keeps what fits and no more", "[loader]") {
  const FakeDataset dataset(10, {4, 4});  // 64 bytes each
  auto loads_of = [&](int64_t cache_bytes) {
    dataset.loads = 0;
    DataLoader loader(dataset, plain(), {.batch_size = 10, .prefetch = 1, .cache_bytes = cache_bytes});
    for (int epoch = 0; epoch < 3; ++epoch) loader.next();
    return dataset.loads.load();
  };
  // The constructor looks at one; a worker begins with it, and is a batch ahead.
  CHECK(loads_of(0) >= 31);
  CHECK(loads_of(640) == 11);
  CHECK(loads_of(320) >= 21);
}

TEST_CASE("a loader ends cleanly at any moment", "[loader]") {
  const ShapesDataset dataset(1, "train", 64, Dataset::kEndless);
  for (int taken = 0; taken < 3; ++taken) {
    DataLoader loader(dataset, full(), {.batch_size = 2, .threads = 3, .prefetch = 4});
    for (int i = 0; i < taken; ++i) loader.next();
    CHECK(loader.data_wait_seconds() >= 0);
  }
}

TEST_CASE("waiting for data is measured", "[loader]") {
  FakeDataset dataset(1, {4, 4});
  DataLoader loader(dataset, plain(), {.batch_size = 1, .prefetch = 1, .cache_bytes = 0});
  loader.next();
  const double before = loader.data_wait_seconds();
  dataset.slow_index = 0;
  loader.seek(5);
  loader.next();
  CHECK(loader.data_wait_seconds() - before > 0.015);
}

namespace {

// A data set of someone who has not read what load() promises.
struct CarelessDataset final : Dataset {
  CarelessDataset() : Dataset({"a", "b"}, {{1, 1, 1}, {2, 2, 2}}) {}
  int64_t size() const override { return 4; }
  RawSample load(int64_t) const override { return sample; }
  std::string describe(int64_t index) const override { return "careless " + std::to_string(index); }
  RawSample sample{{4, 6, std::vector<uint8_t>(72, 9)}, {4, 6, std::vector<uint8_t>(24, 1)}, "x"};
};

}  // namespace

TEST_CASE("a sample that is not what a data set promises is named", "[loader]") {
  const auto refused = [](const auto& spoil, const std::string& words) {
    CarelessDataset dataset;
    PipelineOptions cropped = plain();
    cropped.crop = {4, 4};
    CHECK_NOTHROW(DataLoader(dataset, cropped, {.batch_size = 2}).next());
    spoil(dataset.sample);
    DataLoader later(dataset, cropped, {.batch_size = 2});
    CHECK_THROWS_WITH(later.next(), Contains(words) && Contains("careless"));
    CHECK_THROWS_WITH(DataLoader(dataset, plain(), {.batch_size = 2}), Contains(words) && Contains("careless 0"));
    CHECK_THROWS_WITH(load_for_evaluation(dataset, 1, plain()), Contains(words) && Contains("careless 1"));
  };
  refused([](RawSample& s) { s.image.pixels.resize(24); }, "6x4 cannot have 24 values");  // gray
  refused([](RawSample& s) { s.labels.labels.pop_back(); }, "cannot have 23 values");
  refused([](RawSample& s) { s.labels = {6, 4, s.labels.labels}; }, "the picture is 6x4, its label map 4x6");
  refused([](RawSample& s) { s.image = {}; }, "cannot have 0 values");
  refused([](RawSample& s) { s.labels.labels[8] = 2; }, "the label 2 at pixel x 2, y 1");
}

TEST_CASE("loader options that make no sense are refused", "[loader]") {
  const FakeDataset dataset(4, {4, 4});
  CHECK_THROWS_WITH(DataLoader(dataset, plain(), {.batch_size = 0}), Contains("train.batch_size"));
  CHECK_THROWS_WITH(DataLoader(dataset, plain(), {.threads = 0}), Contains("train.loader_threads"));
  PipelineOptions uncropped = plain();
  uncropped.resize = ResizeOptions{};
  CHECK_THROWS_WITH(DataLoader(dataset, uncropped, {}), Contains("pipeline.crop"));
  uncropped.resize->scale = {8, 8};
  uncropped.resize->ratio_range = {1, 1};
  CHECK(DataLoader(dataset, uncropped, {.batch_size = 2}).next().images.shape() == Shape{2, 8, 8, 3});
}

TEST_CASE("an augmentation of one's own draws the same whatever the threads, and from anywhere", "[loader]") {
  const FakeDataset set(7, {6, 8});
  PipelineOptions pipeline = full();
  pipeline.resize.reset();
  // Mirrors some, moves the labels along, and brightens by what it drew.
  const Augmentation augment = [](RawSample& sample, Random& random) {
    if (random.uniform_int(0, 2) == 1) {
      flip_horizontally(sample.image);
      flip_horizontally(sample.labels);
    }
    for (uint8_t& value : sample.image.pixels) value = uint8_t(value + random.uniform_int(0, 100));
    sample.labels.labels[0] = kIgnoreIndex;
  };
  const auto batches = [&](int threads, int64_t cache, int64_t from) {
    DataLoader loader(set, pipeline, {.batch_size = 3, .threads = threads, .seed = 5, .cache_bytes = cache, .augment = augment});
    loader.seek(from);
    std::vector<Batch> result;
    while (loader.iteration() < 6) result.push_back(loader.next());
    return result;
  };
  const std::vector<Batch> one = batches(1, 0, 0), three = batches(3, 1 << 20, 0), late = batches(2, 1 << 20, 4);
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(equal(one[i], three[i]));  // and nothing was augmented twice: the cache keeps what was decoded
    if (i >= 4) CHECK(equal(one[i], late[i - 4]));
  }
  DataLoader without(set, pipeline, {.batch_size = 3, .seed = 5});
  CHECK_FALSE(equal(one[0], without.next()));

  // It comes before the pipeline, decides the size where there is no crop, and is held to what a data set promises.
  const auto with = [&](Augmentation own) { return DataLoader(set, plain(), {.batch_size = 3, .augment = std::move(own)}).next(); };
  const Batch cut = with([](RawSample& sample, Random&) {
    sample.image = {2, 4, std::vector<uint8_t>(24, 9)};
    sample.labels = {2, 4, std::vector<uint8_t>(8, 1)};
  });
  CHECK(cut.images.shape() == Shape{3, 2, 4, 3});
  CHECK(cut.images.value_at(5) == 9);
  CHECK_THROWS_WITH(with([](RawSample& sample, Random&) { sample.labels.labels[3] = 200; }), Contains("200") && Contains("file-0.png"));
  pipeline.crop = {4, 4};
  DataLoader loader(set, pipeline, {.batch_size = 3, .augment = [](RawSample&, Random&) { throw std::runtime_error("surprise"); }});
  CHECK_THROWS_WITH(loader.next(), Contains("augmentation of one's own") && Contains("surprise"));
}

TEST_CASE("of several broken samples the batch's first is told, and a seek to the failed batch reads it again", "[loader]") {
  FakeDataset dataset(20, {4, 4});
  Sampler sampler(20, 0);
  const int64_t first = sampler.index_at(1), second = sampler.index_at(3);
  dataset.broken = {first, second};
  dataset.slow_index = first;    // 30 ms, so that the other is on its way
  dataset.slower_index = second;  // and fails last
  PipelineOptions cropped = plain();
  cropped.crop = {4, 4};  // so that the batch's size is known without a picture
  DataLoader loader(dataset, cropped, {.batch_size = 4, .threads = 4, .prefetch = 1});
  CHECK_THROWS_WITH(loader.next(), Contains("file-" + std::to_string(first) + ".png"));
  dataset.broken.clear();
  loader.seek(0);
  CHECK(loader.next().indices[1] == first);
}

TEST_CASE("without a crop a picture of another width is refused, too", "[loader]") {
  const FakeDataset dataset(6, {4, 4});
  const Augmentation widen = [](RawSample& sample, Random&) {
    if (sample.name != "p2") return;
    sample.image = {4, 5, std::vector<uint8_t>(60, 1)};
    sample.labels = {4, 5, std::vector<uint8_t>(20, 1)};
  };
  DataLoader loader(dataset, plain(), {.batch_size = 6, .augment = widen});
  CHECK_THROWS_WITH(loader.next(), Contains("the picture is 5x4 where the first one is 4x4") && Contains("file-2.png"));
}
