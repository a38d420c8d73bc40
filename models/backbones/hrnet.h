#pragma once
// HRNet (Wang et al., 2020) with mmsegmentation's structure and names: a stem to stride 4, bottlenecks ("layer1"), then stages of parallel
// branches at strides 4, 8, 16, 32 that exchange features after every few blocks. Upsampling inside is bilinear with align_corners off,
// always.

#include "models/segmentor.h"

namespace eq {

// What flows into each branch of a stage: "transition1" .. "transition3". A new branch comes from the coarsest one before it.
class HRTransition : public Module {
 public:
  HRTransition(const std::vector<int64_t>& channels_before, const std::vector<int64_t>& channels_after);
  std::vector<Tensor> forward(const std::vector<Tensor>& branches);

 private:
  std::vector<Sequential*> paths_;  // by branch; null: it goes on as it is
};

// One row of "fuse_layers": the sum of all branches at the size of one of them. Children are named by the branch they read.
class HRFuseRow : public Module {
 public:
  HRFuseRow(size_t target, const std::vector<int64_t>& channels);
  Tensor forward(const std::vector<Tensor>& branches);

 private:
  size_t target_;
  std::vector<Sequential*> paths_;  // null: the target itself
};

// Residual blocks on every branch ("branches.<i>"), then the exchange ("fuse_layers.<i>").
class HRModule : public Module {
 public:
  HRModule(const std::vector<int64_t>& channels, int blocks);
  std::vector<Tensor> forward(std::vector<Tensor> branches);

 private:
  ModuleList<Sequential>& branches_;
  ModuleList<HRFuseRow>& fuse_layers_;
};

class HRNet : public Backbone {
 public:
  // Throws UsageError for a variant that does not exist.
  explicit HRNet(const BackboneOptions& options);
  std::vector<Tensor> forward(const Tensor& images) override;  // strides 4, 8, 16, 32
  std::vector<int64_t> level_channels() const override { return level_channels_; }

 private:
  struct Stage {
    HRTransition* transition;
    ModuleList<HRModule>* modules;
  };
  std::vector<Layer*> stem_;  // conv1, bn1, conv2, bn2, layer1
  std::vector<Stage> stages_;
  std::vector<int64_t> level_channels_;
};

}  // namespace eq
