#include "training/fold.h"

#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/errors.h"
#include "datasets/transforms.h"

namespace eq {

int64_t fold_equalizers(TrainedModel& trained) {
  EqualizerOptions& options = trained.config.model.equalizer;
  if (options.mode != "explicit" && options.mode != "learnable") {
    throw UsageError("the network's equalizers are \"" + options.mode + "\": there is nothing to fold", trained.source,
                     "leave the folding out; networks trained with equalizer.mode explicit or learnable can be folded");
  }
  for (const AdditiveSite* site : modules_of<AdditiveSite>(*trained.model)) {
    if (!has_constants(site->options())) continue;
    throw UsageError("a sum has no weights that could take its equalizers over", site->path(),
                     "use the network as it is: folding is for networks without sums in equalizer.sites");
  }
  int64_t folded = 0;
  for (FusionSite* site : modules_of<FusionSite>(*trained.model)) {
    if (!has_constants(site->options())) continue;  // a site that no level reaches upsampled is never equalized
    site->fold();
    ++folded;
  }
  options.mode = "folded";
  options.refresh = 0;
  trained.card.config = to_json_text(trained.config);
  return folded;
}

PredictionDifference compare_predictions(TrainedModel& a, TrainedModel& b, const Dataset& dataset, int64_t limit,
                                         const std::function<void(int64_t, int64_t)>& on_picture) {
  NoGradGuard no_grad;
  const int64_t count = limit > 0 ? std::min(limit, dataset.size()) : dataset.size();
  if (count == Dataset::kEndless) {
    throw UsageError("an endless data set has no last picture", "fold", "limit the pictures, or take the split val");
  }
  PredictionDifference difference;
  for (int64_t i = 0; i < count; ++i) {
    const Tensor image = prepare_image(dataset.load(i).image, a.config.pipeline);
    const Tensor scores = a.model->predict(image), others = b.model->predict(image);
    const Tensor largest = max(reshape(abs(sub(scores, others)), {-1}), 0);
    difference.largest = std::max(difference.largest, largest.item());
    const Tensor classes = argmax(scores, -1).to(Device::cpu()), other_classes = argmax(others, -1).to(Device::cpu());
    for (int64_t k = 0; k < classes.numel(); ++k) {
      difference.changed_pixels += classes.data<int64_t>()[k] != other_classes.data<int64_t>()[k];
    }
    difference.pixels += classes.numel();
    difference.pictures += 1;
    if (on_picture) on_picture(i, count);
  }
  return difference;
}

}  // namespace eq
