#include "datasets/contact_sheet.h"

#include <algorithm>
#include <cmath>

#include "datasets/transforms.h"

namespace eq {
namespace {

constexpr int64_t kPairGap = 2, kGap = 12;

RawSample sample_of(const Batch& batch, int64_t i, const PipelineOptions& pipeline) {
  const int64_t height = batch.images.size(1), width = batch.images.size(2), pixels = height * width;
  RawSample sample{{height, width, {}}, {height, width, {}}, batch.names[size_t(i)]};
  const float* values = batch.images.data<float>() + i * pixels * 3;
  for (int64_t k = 0; k < pixels * 3; ++k) {
    const size_t c = size_t(k % 3);
    sample.image.pixels.push_back(uint8_t(std::clamp<long>(std::lround(double(values[k]) * pipeline.std[c] + pipeline.mean[c]), 0, 255)));
  }
  const uint8_t* labels = batch.labels.data<uint8_t>() + i * pixels;
  sample.labels.labels.assign(labels, labels + pixels);
  return sample;
}

}  // namespace

std::vector<RawSample> spread_samples(const Dataset& dataset, int64_t count) {
  std::vector<RawSample> samples;
  const bool endless = dataset.size() == Dataset::kEndless;
  const int64_t shown = std::min(count, dataset.size());
  for (int64_t i = 0; i < shown; ++i) samples.push_back(dataset.load(endless ? i : i * dataset.size() / shown));
  return samples;
}

std::vector<RawSample> training_samples(const Dataset& dataset, const PipelineOptions& pipeline, const LoaderOptions& loader,
                                        int64_t count) {
  DataLoader batches(dataset, pipeline, loader);
  std::vector<RawSample> samples;
  while (int64_t(samples.size()) < count) {
    const Batch batch = batches.next();
    for (int64_t i = 0; i < batch.images.size(0) && int64_t(samples.size()) < count; ++i) samples.push_back(sample_of(batch, i, pipeline));
  }
  return samples;
}

Image contact_sheet(const std::vector<RawSample>& samples, const Palette& palette, int ignore_index, int64_t columns, int64_t side) {
  std::vector<Image> rows, pairs;
  for (size_t i = 0; i < samples.size(); ++i) {
    const RawSample& sample = samples[i];
    const Size own{sample.image.height, sample.image.width}, size = side > 0 ? fitted_size(own, {side, side}) : own;
    pairs.push_back(side_by_side(
        {resize_bilinear(sample.image, size), colorize(resize_nearest(sample.labels, size), palette, ignore_index)}, kPairGap));
    if (int64_t(pairs.size()) < columns && i + 1 < samples.size()) continue;
    rows.push_back(side_by_side(pairs, kGap));
    pairs.clear();
  }
  return stacked(rows, kGap);
}

}  // namespace eq
