#pragma once
// The places where feature levels meet. A site knows its branches by name, resizes them to one size and can be observed:
// calibration, probes and reports attach here, and no head knows of them. What puts the branches on one scale is a site's, too
// (EqualizerOptions). There are two kinds, layers/fusion.h: FusionSite concatenates, AdditiveSite sums.

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
    std::string name;  // "level 0", "pool 3", ...; the site calls a second one of a name "pool 3 (2)"
    int64_t channels = 0;
    bool upsampled = false;                // reaches the site at a coarser size
    int64_t first_channel = 0;             // in the concatenation of all branches; set by the site
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
    // The same, equalized: what the fusion layer gets, without border, or what is summed. Computed by each call; undefined where it is
    // resized().
    Tensor fused() const;
    const std::function<Tensor()>& fuse;  // makes it
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

  const EqualizerOptions& options() const { return options_; }
  bool equalizes(const Branch& branch) const { return options_.mode != "off" && (options_.inputs == "all" || branch.upsampled); }

  // One entry per branch; those of branches that are not equalized are not looked at. Throws, before anything changes: ShapeError for
  // another number of entries or of values, NumericalError for a mean that is not finite or a standard deviation that is not finite and
  // positive.
  virtual void set_constants(const std::vector<BranchConstants>& constants);
  // Of explicit and learnable equalizers. Empty entries elsewhere.
  virtual std::vector<BranchConstants> constants() const;
  virtual void reset();  // equalizers back to the identity

 protected:
  // What equalizing adds are children "equalizers.<branch index>" (or the parameter "weights"). Throws UsageError for a way of resizing
  // that does not exist, and for options that do not exist or do not go together.
  LevelSite(std::vector<Branch> branches, const Upsampling& upsampling, const EqualizerOptions& options);

  bool observed() const { return bool(observer_); }
  std::vector<Tensor> arrive(const std::vector<Tensor>& features) const;  // checked and replaced; views where someone observes
  // What `options` asks for, applied to each branch, which may still have to be resized. Without `constants` those of explicit equalizers
  // are left to the caller.
  std::vector<Tensor> equalize(std::vector<Tensor> arriving, int64_t out_h, int64_t out_w, bool constants) const;
  void notify(const std::vector<Tensor>& features, int64_t out_h, int64_t out_w, const std::function<Tensor()>& fuse) const;
  std::string where() const;  // the path, for errors
  void check_fit(const std::vector<BranchConstants>& constants) const;

  std::vector<Branch> branches_;
  Upsampling upsampling_;
  EqualizerOptions options_;

 private:
  Tensor weights_;  // "weighted": [branches]
  Observer observer_;
  std::vector<Tensor> replacements_;  // one a branch
};

}  // namespace eq
