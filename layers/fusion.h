#pragma once
// The two kinds of sites where levels meet (layers/level_site.h).
//
// FusionSite concatenates: it resizes, equalizes and joins its branches in one pass over memory, and applies the layer that follows. Where
// that layer is a convolution, perhaps with a norm, the two are one operator (fused_conv2d), unless a LayerObserver wants to see each of
// them. AdditiveSite sums two levels.

#include <string>
#include <vector>

#include "layers/layers.h"
#include "layers/level_site.h"
#include "layers/scale_equalizer.h"
#include "layers/upsampling.h"

namespace eq {

// What a FusionSite applies to the concatenation.
struct FusionLayer {
  Layer* layer;                 // its parent owns it, under mmsegmentation's name
  Conv2d* conv;                 // the convolution in it that reads the concatenation
  BatchNorm2d* norm = nullptr;  // right behind that convolution; null: the convolution has a bias
  bool whole = true;            // `layer` is these two and nothing else
  FusionLayer(Conv2d& alone) : layer(&alone), conv(&alone) {}                                    // NOLINT: converts on purpose
  FusionLayer(ConvModule& module) : layer(&module), conv(&module.conv()), norm(&module.bn()) {}  // NOLINT
  // `all` begins with `first`, and does more.
  FusionLayer(Layer& all, Conv2d& first) : layer(&all), conv(&first), whole(false) {}
  FusionLayer(Layer& all, ConvModule& first) : layer(&all), conv(&first.conv()), norm(&first.bn()), whole(false) {}
};

class FusionSite : public LevelSite {
 public:
  // What equalizing adds (LevelSite's, and the buffers "border" and "unit") exists only where `options` asks for it, so that without it
  // the state dict is mmsegmentation's. Throws as LevelSite does, and ShapeError for branches that are not what the convolution reads.
  FusionSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options, FusionLayer fusion);

  // features[i]: [N,h_i,w_i,branches()[i].channels], to fusion(concat) at out_h x out_w. Throws ShapeError for another number of features
  // or channels.
  Tensor forward(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w);

  const FusionLayer& fusion() const { return fusion_; }
  const Conv2d* fusion_conv() const override { return fusion_.conv; }

  // Explicit and learnable equalizers take the constants over; the folded modes fold them into the weight, which happens once. Throws also
  // UsageError where a fold was made.
  void set_constants(const std::vector<BranchConstants>& constants) override;
  // Of "folded_lr" the units, with means of 0.
  std::vector<BranchConstants> constants() const override;
  void reset() override;  // throws UsageError where a fold was made

  // Other constants, the same function, for sites whose options ask for it (`refreshes`). Explicit: the fusion weight takes sigma_new /
  // sigma_old, the norm behind it (or the bias) what the means add, and the border, zero at first, is translated as the features are, which
  // makes it exact up to the edge. "folded_lr": the unit alone changes. Returns sigma_new / sigma_old of each channel [total_channels()]:
  // by so much the weight in the equalizer's units has grown, and its gradients have shrunk. Throws as set_constants does, and UsageError
  // for other sites.
  std::vector<double> refresh(const std::vector<BranchConstants>& constants);

  // Turns explicit or learnable equalizers into a folded site that computes the same function: the fusion weight takes 1 / sigma, the
  // norm behind it (or the bias) the means, and the border, zero after equalizing, becomes the mean. Throws UsageError in other modes.
  void fold();

  // "folded_lr": the unit in which the optimizer steps each input channel of the fusion weight, sigma [total_channels()]; else undefined.
  const Tensor& unit() const { return unit_; }

 private:
  void pad_by_itself();
  void check_not_folded() const;
  BranchConstants of_channels(const std::vector<BranchConstants>& constants) const;
  void fold_in(const std::vector<BranchConstants>& constants);
  void absorb(const std::vector<double>& mean, const std::vector<double>& scale);

  FusionLayer fusion_;
  Tensor border_, unit_;  // [total_channels()]. Folded or refreshed: what the site pads with; "folded_lr": see unit()
  bool absorbed_ = false;
  int64_t pad_h_ = 0, pad_w_ = 0;
};

// fine + resize(coarse), as on the top-down path of a feature pyramid. The paper leaves sums alone; here they can be equalized, as an
// extension of it: a lateral level and what comes down to it then have one scale, and with "weighted" the sum is BiFPN's.
class AdditiveSite : public LevelSite {
 public:
  // Two branches, fine first. Throws ShapeError for others, and as LevelSite does; UsageError also for the folded modes and for a refresh,
  // because no weight reads a branch alone, and for constants that are analytic or not measured "in_turn", because a sum passes its scale
  // on to the next one.
  AdditiveSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options = {});
  Tensor forward(const Tensor& fine, const Tensor& coarse);
};

}  // namespace eq
