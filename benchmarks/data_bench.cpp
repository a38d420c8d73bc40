// What prepares pictures for training, at ADE20K's sizes (683 x 512, mmsegmentation's pipeline with crops of 512 x 512). Seconds for a
// picture, on one thread: a loader's threads (train.loader_threads) work side by side.

#include <benchmark/benchmark.h>

#include <cmath>

#include "core/random.h"
#include "datasets/transforms.h"

namespace {

using namespace eq;

constexpr int64_t kHeight = 512, kWidth = 683;
constexpr int kClasses = 150;

// Shades with noise, and regions of some hundred pixels.
RawSample example() {
  RawSample sample{{kHeight, kWidth, {}}, {kHeight, kWidth, {}}, "example"};
  for (int64_t y = 0; y < kHeight; ++y) {
    for (int64_t x = 0; x < kWidth; ++x) {
      for (int c = 0; c < 3; ++c) {
        const double shade = 128 + 80 * std::sin(0.01 * double((c + 1) * x + (3 - c) * y)),
                     noise = 30 * uniform_at(1, 0, uint64_t(3 * (y * kWidth + x) + c));
        sample.image.pixels.push_back(uint8_t(shade + noise));
      }
      sample.labels.labels.push_back(uint8_t((y / 97 * 7 + x / 131) * 13 % kClasses));
    }
  }
  return sample;
}

PipelineOptions pipeline() {
  PipelineOptions options;
  options.resize = ResizeOptions{.scale = {2048, 512}, .ratio_range = {0.5, 2.0}};
  options.crop = {512, 512};
  options.max_class_share = 0.75;
  return options;
}

void augment_pictures(benchmark::State& state, bool photometric) {
  const RawSample sample = example();
  PipelineOptions options = pipeline();
  options.photometric = photometric;
  uint64_t position = 0;
  for (auto _ : state) {
    const RawSample ready = augment(sample, options, Random(0).fork(position++));
    benchmark::DoNotOptimize(ready.image.pixels.data());
  }
}
BENCHMARK_CAPTURE(augment_pictures, geometry, false)->Name("data/augment/resize, crop, flip")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(augment_pictures, all, true)->Name("data/augment/and photometric distortion")->Unit(benchmark::kMillisecond);

void map_labels(benchmark::State& state) {
  const RawSample sample = example();
  const LabelMapper mapper({}, kClasses);
  for (auto _ : state) {
    LabelMap labels = sample.labels;
    benchmark::DoNotOptimize(mapper.map(labels));
  }
}
BENCHMARK(map_labels)->Name("data/map labels")->Unit(benchmark::kMillisecond);

void normalize(benchmark::State& state) {
  const RawSample ready = augment(example(), pipeline(), Random(0));
  Tensor images = Tensor::empty({512, 512, 3});
  for (auto _ : state) {
    normalize_into(ready.image, pipeline(), {512, 512}, images.data<float>());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(normalize)->Name("data/normalize")->Unit(benchmark::kMillisecond);

}  // namespace
