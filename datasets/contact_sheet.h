#pragma once
// Pictures beside their coloured labels on one sheet, for a look at what a data set holds or what training sees.

#include <cstdint>
#include <vector>

#include "datasets/dataset.h"
#include "datasets/loader.h"

namespace eq {

// `count` samples evenly spread over the set, all of a smaller one; of an endless set its first ones.
std::vector<RawSample> spread_samples(const Dataset& dataset, int64_t count);

// The first `count` samples of a training with these options, in its order: cropped, flipped, distorted, with padding in the mean's colour,
// and back from normalised values to pixels.
std::vector<RawSample> training_samples(const Dataset& dataset, const PipelineOptions& pipeline, const LoaderOptions& loader,
                                        int64_t count);

// Rows of `columns` pairs. Each picture's longer side becomes `side` pixels, labels by nearest neighbour; 0: as it is. Throws UsageError
// for no sample.
Image contact_sheet(const std::vector<RawSample>& samples, const Palette& palette, int ignore_index, int64_t columns, int64_t side);

}  // namespace eq
