#pragma once
// The mean of probe records of one network over several batches of equal size; of records without layers.

#include "training/probes.h"

namespace eq {

class RecordMean {
 public:
  void add(const ProbeRecord& record);
  // Means and deviations of the batches together (the batches' means differ: that part of the variance counts as between images); gradients
  // as root mean squares; correlations and factors as means; update ratios are not measured.
  ProbeRecord result() const;

 private:
  std::vector<ProbeRecord> records_;
};

}  // namespace eq
