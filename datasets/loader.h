#pragma once
// DataLoader: batches of augmented samples, made ahead of need by worker threads, for as long as one asks.
//
// What batch `iteration` holds is a function of (data set, options, seed, iteration) alone: sample i of it is the
// augmentation number position = iteration * batch_size + i of the picture that the epoch's permutation puts there. So
// the result depends neither on the number of threads nor on what was loaded before, and resuming is seek().

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"
#include "datasets/dataset.h"
#include "datasets/options.h"
#include "datasets/transforms.h"

namespace eq {

struct Batch {
  Tensor images;  // float32 [N, H, W, 3], normalised
  Tensor labels;  // uint8 [N, H, W]
  std::vector<std::string> names;
  std::vector<int64_t> indices;
  int64_t iteration = 0;
};

// Changes a decoded sample, picture and labels together. `random` is the sample's own draw, a function of seed and position: batches stay
// one of (seed, iteration) where the augmentation draws from nothing else. Called from several threads.
using Augmentation = std::function<void(RawSample& sample, Random& random)>;

struct LoaderOptions {
  int64_t batch_size = 8;
  int threads = 1;       // workers, 1 .. 64
  int64_t prefetch = 2;  // batches made ahead, 1 .. 64
  uint64_t seed = 0;
  // Decoded samples are kept in memory until they fill this many bytes (CamVid's 367 take 254 MB); later ones are
  // decoded each time. 0: none are kept. An endless set is never kept.
  int64_t cache_bytes = int64_t{384} << 20;
  Augmentation augment = {};  // of one's own, before the pipeline's; empty: none
};

// The order of samples: a fresh permutation of 0 .. size-1 for every epoch, a function of (seed, position); for endless
// sets an index of 63 random bits for every position.
class Sampler {
 public:
  Sampler(int64_t size, uint64_t seed);
  // Throws UsageError for a negative position. Remembers the permutation of one epoch: O(1) inside it, O(size) to change it.
  int64_t index_at(int64_t position);

 private:
  int64_t size_;
  uint64_t seed_;
  int64_t epoch_ = -1;
  std::vector<int64_t> permutation_;
};

class DataLoader {
 public:
  // The data set must outlive the loader. Throws UsageError (options), or what loading the first picture throws where
  // the batch's size depends on it (no crop).
  DataLoader(const Dataset& dataset, const PipelineOptions& pipeline, const LoaderOptions& options);
  ~DataLoader();  // ends the workers; waits for the samples they have in hand
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // The next batch, in order. Rethrows what loading one of its samples threw (naming the file), and again at each later
  // call until seek() moves elsewhere. Call from one thread.
  Batch next();
  void seek(int64_t iteration);        // throws Error where no thread can be started; next() tries again
  int64_t iteration() const;           // of the batch that next() returns
  double data_wait_seconds() const;    // time next() has spent waiting so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace eq
