#pragma once
// A configuration small enough to train in a second.

#include <memory>
#include <string>
#include <vector>

#include "training/train_step.h"

namespace eq::test {

inline Config tiny_config(const std::vector<std::string>& settings = {}) {
  return parse_config(R"({
    "seed": 3,
    "data": {"type": "shapes", "size": 64, "val_images": 5, "checks": false},
    "pipeline": {"resize": null, "crop": [64, 64]},
    "model": {
      "backbone": {"type": "resnet", "depth": 18, "width": 4},
      "decode_head": {"type": "uper", "channels": 8},
      "auxiliary_head": {"type": "fcn", "channels": 8, "num_convs": 1, "concat_input": false, "in_index": [2]}
    },
    "equalizer": {"mode": "explicit", "batches": 2},
    "train": {"iterations": 6, "batch_size": 2, "checkpoint_every": 3, "log_every": 2, "overlays": 2},
    "optimizer": {"type": "sgd", "lr": 0.01, "groups": [{"pattern": "norm", "decay_mult": 0}]}
  })", "tiny.json", settings);
}

// What takes its steps.
struct StepSetup {
  explicit StepSetup(const std::vector<std::string>& settings = {}) : config(tiny_config(settings)) {
    dataset = make_dataset(config.data, "train");
    config.model.num_classes = dataset->num_classes();
    InitRandom random{uint64_t(config.seed)};
    model = std::make_unique<EncoderDecoder>(config.model);
    step = std::make_unique<TrainStep>(*model, config);
    loader = std::make_unique<DataLoader>(*dataset, config.pipeline, LoaderOptions{.batch_size = config.train.batch_size, .seed = 1});
  }
  StepReport run(int64_t iteration) {
    return step->run(iteration, [&] { return loader->next(); });
  }
  Config config;
  std::unique_ptr<Dataset> dataset;
  std::unique_ptr<EncoderDecoder> model;
  std::unique_ptr<TrainStep> step;
  std::unique_ptr<DataLoader> loader;
};

}  // namespace eq::test
