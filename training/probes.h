#pragma once
// Probes: the scale of every branch of every fusion site and the gradient that reaches it, measured inside the training step
// itself. Where no probe is attached nothing is computed; an attached one costs a few passes over the sites' features (about the cost
// printed by `equiscale study scales`).
//
// Means and standard deviations are over all values of a branch in the batch. Theory: PAPER section 2; docs/studies.md explains each
// number.

#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/segmentor.h"
#include "training/row_files.h"
#include "training/train_step.h"

namespace eq {

inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();  // written as null

struct BranchRecord {
  struct Scale {
    double mean = kNotMeasured, std = kNotMeasured;
  };
  std::string name;
  int64_t channels = 0, height = 0, width = 0;  // as it arrives
  bool upsampled = false;
  Scale before, resized, fused;  // as it arrives; at the site's size; as the fusion layer gets it, or as it is summed
  // The variance after resizing, split by the law of total variance: over the positions of one channel of one picture, between the
  // pictures' means of a channel, between the channels' means. They sum to resized.std^2.
  double within_image = kNotMeasured, between_images = kNotMeasured, between_channels = kNotMeasured;
  double lag_one = kNotMeasured;  // correlation of neighbouring positions before resizing, mean of both directions
  // Variance after over variance before resizing: of uncorrelated pixels, from the sizes alone; predicted from the lag-one correlation for
  // the within-image part (the others do not shrink); and measured. 1 where nothing is resized.
  double white_noise_factor = kNotMeasured;
  double predicted_factor = kNotMeasured, measured_factor = kNotMeasured;
  // The branch's slice of the fusion weight: gradient norm, root mean square of the gradient, the norm's share of the sum over branches,
  // and |update| / |weight|. Not measured at sums.
  double weight_grad = kNotMeasured, weight_grad_rms = kNotMeasured, weight_grad_share = kNotMeasured, update_ratio = kNotMeasured;
  double input_grad = kNotMeasured;  // norm of the gradient that this site sends back to the branch
};

// The numbers of a branch as the files have them: a column of probes.csv, and a key of the branch in probes.jsonl, in an object of its own
// where there is a group.
struct BranchNumber {
  const char *column, *group, *key;
  double& (*of)(BranchRecord&);
};
std::span<const BranchNumber> branch_numbers();

struct SiteRecord {
  std::string site, kind;  // kind: "concat" or "sum"
  int64_t height = 0, width = 0;
  bool depthwise = false;  // each filter of the fusion convolution reads one channel: behind a batch norm its gradient does not know the scale
  double grad_ratio = kNotMeasured;  // largest over smallest weight_grad_rms: per weight, so that wide and narrow branches compare
  std::vector<BranchRecord> branches;
};

struct WeightRecord {
  std::string name;
  double grad = 0, weight = 0, update_ratio = 0;  // norms, and |update| / |weight|
};

struct ProbeRecord {
  int64_t iteration = 0;  // updates made before this one
  std::vector<SiteRecord> sites;
  std::vector<WeightRecord> layers;
};

// The numbers of a visit that need no gradient.
SiteRecord measure_site(const LevelSite::Visit& visit);

// Measures one update, told of by its three functions in order; they throw UsageError otherwise. It observes the model's sites from
// before_forward() until the first forward pass has reached them; who observed them before still does, also meanwhile. One at a time per
// model: before_forward() throws UsageError where another probe waits.
class Probe : public StepObserver {
 public:
  Probe(EncoderDecoder& model, int64_t iteration, bool layers);
  ~Probe() override;
  void before_forward(const Batch& batch) override;
  void after_backward() override;
  void after_update() override;
  const ProbeRecord& record() const { return record_; }

 private:
  struct Attached {  // what a site calls
    Probe* probe;
    size_t site;
    void operator()(const LevelSite::Visit& visit) const { probe->visit(site, visit); }
  };
  void visit(size_t site, const LevelSite::Visit& visit);
  void detach(size_t site);

  EncoderDecoder& model_;
  bool layers_;
  std::vector<LevelSite*> sites_;
  std::vector<LevelSite::Observer> others_;       // [site]: who observed before
  std::vector<std::vector<double>> input_grads_;  // [site][branch]
  std::map<std::string, Tensor> before_;          // weights before the update
  ProbeRecord record_;
};

// probes.jsonl (a record a line) and probes.csv (a row for each branch).
class ProbeLog {
 public:
  ProbeLog(const ProbeOptions& options, std::filesystem::path folder, int64_t resume_from);
  // A probe for this update if it is to be recorded, else null.
  std::unique_ptr<Probe> probe(EncoderDecoder& model, int64_t iteration, int64_t iterations) const;
  void write(const ProbeRecord& record) const;

 private:
  ProbeOptions options_;
  RowFiles rows_;
};

// The record as JSON text on one line; numbers that were not measured are null.
std::string probe_json(const ProbeRecord& record);

}  // namespace eq
