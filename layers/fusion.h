#pragma once
// The places where feature levels meet. A site knows its branches by name, resizes them to one size and can be observed:
// calibration, probes and reports attach here, and no head knows of them.
//
// FusionSite concatenates: it resizes, equalizes and joins its branches in one pass over memory, and applies the layer that follows. Where
// that layer is a convolution, perhaps with a norm, the two are one operator (fused_conv2d), unless a LayerObserver wants to see each of
// them. AdditiveSite sums two levels.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "layers/layers.h"
#include "layers/scale_equalizer.h"
#include "layers/upsampling.h"

namespace eq {

class LevelSite : public Module {
 public:
  struct Branch {
    std::string name;         // "level 0", "pool 3", ...
    int64_t channels = 0;
    bool upsampled = false;   // reaches the site at a coarser size
    int64_t first_channel = 0;  // in the concatenation; set by the site
    BranchEqualizer* equalizer = nullptr;  // null: no constants of its own
    Layer* norm = nullptr;                 // a comparator, applied after the resizing
  };

  // One forward pass. The features are views of what the head passed, so that a gradient hook on one of them sees what flows
  // back to it from this site alone.
  struct Visit {
    const LevelSite& site;
    const std::vector<Tensor>& features;
    int64_t out_h, out_w;
    const Upsampling& upsampling() const { return site.upsampling_; }
    Tensor resized() const;  // [N,out_h,out_w,total_channels()]: resized and concatenated, not equalized; computed by each call
    // The values that the fusion layer gets, without border (or the sum), computed by each call; undefined where they are the resized
    // concatenation.
    Tensor fused() const;
    const std::function<Tensor()>& fuse;  // makes them
  };
  using Observer = std::function<void(const Visit& visit)>;
  Observer set_observer(Observer observer) {
    return std::exchange(observer_, std::move(observer));
  }  // there is one at a time; returns the last; empty: none

  // From now on the branch arrives as `values` [its channels] at every position of every picture, whatever the head passes, and no gradient
  // flows back to it: the network without what this branch would tell. Undefined: as it comes. Throws ShapeError.
  void replace(size_t branch, const Tensor& values);

  const std::vector<Branch>& branches() const { return branches_; }
  int64_t total_channels() const;
  virtual const Conv2d* fusion_conv() const { return nullptr; }  // the one that reads the concatenation; null where branches are added
  const char* kind() const { return fusion_conv() != nullptr ? "concat" : "sum"; }

 protected:
  LevelSite(std::vector<Branch> branches, const Upsampling& upsampling);  // throws UsageError for a way that does not exist
  bool observed() const { return bool(observer_); }
  std::vector<Tensor> arrive(const std::vector<Tensor>& features) const;  // checked and replaced; views where someone observes
  void notify(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w, const std::function<Tensor()>& fuse) const;

  std::vector<Branch> branches_;
  Upsampling upsampling_;

 private:
  Observer observer_;
  std::vector<Tensor> replacements_;  // one a branch
};

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
  // What equalizing adds are children "equalizers.<branch index>" (and the buffers "border" and "unit", or the parameter "weights"), and it
  // exists only where `options` asks for it, so that without it the state dict is mmsegmentation's. Throws UsageError for options that do
  // not exist or do not go together, and ShapeError for branches that are not what the convolution reads.
  FusionSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options, FusionLayer fusion);

  // features[i]: [N,h_i,w_i,branches()[i].channels], to fusion(concat) at out_h x out_w. Throws ShapeError for another number of features
  // or channels.
  Tensor forward(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w);

  const EqualizerOptions& options() const { return options_; }
  const FusionLayer& fusion() const { return fusion_; }
  const Conv2d* fusion_conv() const override { return fusion_.conv; }
  bool equalizes(const Branch& branch) const { return options_.mode != "off" && (options_.inputs == "all" || branch.upsampled); }

  // One entry per branch; those of branches that are not equalized are not looked at. Explicit and learnable equalizers take the constants
  // over; the folded modes fold them into the weight, which happens once. Throws, before anything changes: ShapeError for another number of
  // entries or of values, NumericalError for a mean that is not finite or a standard deviation that is not finite and positive, UsageError
  // where a fold was made.
  void set_constants(const std::vector<BranchConstants>& constants);
  // Of explicit and learnable equalizers; of "folded_lr" the units, with means of 0. Empty entries elsewhere.
  std::vector<BranchConstants> constants() const;
  void reset();  // equalizers back to the identity; throws UsageError where a fold was made

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
  void check_fit(const std::vector<BranchConstants>& constants) const;
  void set_equalizers(const std::vector<BranchConstants>& constants);
  BranchConstants of_channels(const std::vector<BranchConstants>& constants) const;
  void fold_in(const std::vector<BranchConstants>& constants);
  void absorb(const std::vector<double>& mean, const std::vector<double>& scale);

  EqualizerOptions options_;
  FusionLayer fusion_;
  Tensor weights_;        // "weighted": [branches]
  Tensor border_, unit_;  // [total_channels()]. Folded or refreshed: what the site pads with; "folded_lr": see unit()
  bool absorbed_ = false;
  int64_t pad_h_ = 0, pad_w_ = 0;
};

// fine + resize(coarse), as on the top-down path of a feature pyramid. Never equalized.
class AdditiveSite : public LevelSite {
 public:
  AdditiveSite(std::vector<Branch> branches, const Upsampling& upsampling);  // two, fine first
  Tensor forward(const Tensor& fine, const Tensor& coarse);
};

}  // namespace eq
