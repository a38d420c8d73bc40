#pragma once
// FusionSite: the one place where feature levels meet. It knows its branches by name and channel range, resizes them to one
// size, equalizes and concatenates them in one pass over memory, and applies the convolution that follows. Calibration,
// probes, folding and reports attach here.

#include <functional>
#include <string>
#include <vector>

#include "layers/layers.h"
#include "layers/scale_equalizer.h"

namespace eq {

class FusionSite : public Module {
 public:
  struct Branch {
    std::string name;         // "level 0", "pool 3", ...
    int64_t channels = 0;
    bool upsampled = false;   // reaches the site at a coarser size
    int64_t first_channel = 0;  // in the concatenation; set by the site
    ScaleEqualizer* equalizer = nullptr;  // null: this branch is not equalized
  };

  // `fusion` is the layer applied to the concatenation; its parent owns it, under mmsegmentation's name. Equalizers are
  // children "equalizers.<branch index>" and exist only where `options` asks for them, so that without them the state dict is
  // mmsegmentation's.
  FusionSite(std::vector<Branch> branches, bool align_corners, const EqualizerOptions& options, Layer& fusion);

  // features[i]: [N,h_i,w_i,branches()[i].channels], to fusion(concat) at out_h x out_w. Throws ShapeError for another number of features
  // or channels.
  Tensor forward(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w);

  const std::vector<Branch>& branches() const { return branches_; }
  int64_t total_channels() const;
  Layer& fusion() { return fusion_; }

  // While set, sees each forward: the branches as they arrive and the concatenation resized but not equalized (which
  // costs a second pass). Set an empty one to stop.
  using Observer = std::function<void(const FusionSite& site, const std::vector<Tensor>& features, const Tensor& resized)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }

 private:
  std::vector<Branch> branches_;
  bool align_corners_;
  Layer& fusion_;
  Observer observer_;
};

}  // namespace eq
