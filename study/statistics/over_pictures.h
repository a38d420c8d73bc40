#pragma once
// How sure a mean IoU is, over the pictures that it was measured on: the pictures are drawn anew, with replacement, and scored together as
// an evaluation scores a data set (Efron 1979). Seeds of training vary the weights, this varies the data: it says nothing about how else
// the network might have come out.
//
// A class that the drawn pictures lack is left out of their mean, as an evaluation leaves it out, and pictures without a labelled pixel are
// left out of the draw: they say nothing of a network. Pictures are taken for independent: of
// frames of one drive the interval is too narrow. So it is of few pictures: of 10, 20, 60 and 200 of a made world it covered the truth in
// 88, 92, 95 and 95 % of 1,000 samples. Of 2,000 pictures with 10 of 150 classes each it takes 0.4 s.

#include <cstdint>
#include <optional>
#include <vector>

#include "study/statistics/paired.h"
#include "training/metrics.h"

namespace eq {

using PictureCounts = std::vector<std::vector<ClassCounts>>;  // of each picture: EvalResult::counts

// The 95 % percentile interval of the mean IoU of these pictures, a function of the counts and `seed` alone. None for fewer than ten.
std::optional<Interval> miou_interval(const PictureCounts& pictures, uint64_t seed = 0);

// The same of what `arm` has more than `baseline`, on the same pictures: each draw is one of pairs, so that what is hard about a picture
// for both does not count. Throws UsageError for another number of pictures.
std::optional<Interval> miou_difference_interval(const PictureCounts& baseline, const PictureCounts& arm, uint64_t seed = 0);

}  // namespace eq
