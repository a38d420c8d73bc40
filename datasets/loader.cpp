#include "datasets/loader.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>
#include <unordered_map>

#include "core/errors.h"
#include "core/parallel.h"

namespace eq {
namespace {

// Streams of the run's seed.
constexpr uint64_t kOrderStream = 0x4F52444552;    // "ORDER"
constexpr uint64_t kAugmentStream = 0x4155474D54;  // "AUGMT"
constexpr uint64_t kOwnStream = 0x4F574E;          // "OWN": of LoaderOptions::augment

void check_range(int64_t value, int64_t low, int64_t high, const char* key) {
  if (value < low || value > high) {
    throw UsageError("the value " + std::to_string(value) + " is out of range", key,
                     "use " + std::to_string(low) + " to " + std::to_string(high));
  }
}

// LoaderOptions::augment, whose results are held to what a data set promises.
void augment_by_caller(RawSample& sample, const LoaderOptions& options, const Dataset& dataset, int64_t index, int64_t position) {
  Random random = Random(options.seed, kOwnStream).fork(uint64_t(position));
  options.augment(sample, random);
  check_sample(dataset, index, sample);
}

Size batch_size_of(const Dataset& dataset, const PipelineOptions& pipeline, const LoaderOptions& options) {
  if (pipeline.crop) return {(*pipeline.crop)[0], (*pipeline.crop)[1]};
  if (pipeline.resize && pipeline.resize->ratio_range[0] != pipeline.resize->ratio_range[1]) {
    throw UsageError("pictures of random sizes do not make a batch", "pipeline.resize without pipeline.crop", "set pipeline.crop");
  }
  RawSample first = load_checked(dataset, 0);
  if (options.augment) augment_by_caller(first, options, dataset, 0, 0);
  const Size size{first.image.height, first.image.width};
  return pipeline.resize ? fitted_size(size, pipeline.resize->scale, pipeline.resize->ratio_range[0]) : size;
}

}  // namespace

Sampler::Sampler(int64_t size, uint64_t seed) : size_(size), seed_(seed) {
  if (size < 1) throw UsageError("the data set has no samples", "DataLoader", "check the split's list");
}

int64_t Sampler::index_at(int64_t position) {
  if (position < 0) throw UsageError("there is no position " + std::to_string(position), "Sampler", "they begin with 0");
  if (size_ == Dataset::kEndless) return int64_t(Random(seed_, kOrderStream).fork(uint64_t(position)).next_u64() >> 1);
  const int64_t epoch = position / size_;
  if (epoch != epoch_) {
    permutation_.resize(size_t(size_));
    std::iota(permutation_.begin(), permutation_.end(), int64_t{0});
    Random random = Random(seed_, kOrderStream).fork(uint64_t(epoch));
    for (int64_t i = size_ - 1; i > 0; --i) std::swap(permutation_[size_t(i)], permutation_[size_t(random.uniform_int(0, i + 1))]);
    epoch_ = epoch;
  }
  return permutation_[size_t(position % size_)];
}

// Work is handed out sample by sample in order of position. Batch b lives in slot b % prefetch, from the hand-out of
// its first sample until next() takes it; the mutex guards everything but the slices of a slot's tensors that workers
// own.
struct DataLoader::State {
  struct Slot {
    Batch batch;
    int64_t left = 0;  // samples not yet done; meaningful while the slot is in use
    bool used = false;
    std::exception_ptr error;
    int64_t error_sample = 0;
  };

  State(const Dataset& set, const PipelineOptions& options, const LoaderOptions& loader)
      : dataset(set), pipeline(options), options(loader), sampler(set.size(), loader.seed) {}

  void start(int64_t iteration);
  void stop();
  void work();
  std::shared_ptr<const RawSample> load(int64_t index);
  void make_sample(Slot& slot, int64_t sample, int64_t position);

  const Dataset& dataset;
  const PipelineOptions pipeline;
  const LoaderOptions options;
  Size size;

  std::mutex mutex;
  std::condition_variable work_there, batch_done;
  Sampler sampler;
  std::vector<Slot> slots;
  std::vector<std::thread> threads;
  bool stopping = false;
  int64_t next_position = 0;   // to hand out
  int64_t next_iteration = 0;  // that next() returns
  double wait_seconds = 0;

  std::mutex cache_mutex;
  std::unordered_map<int64_t, std::shared_ptr<const RawSample>> cache;
  int64_t cached_bytes = 0;
};

void DataLoader::State::start(int64_t iteration) {
  slots.clear();
  slots.resize(size_t(options.prefetch));
  next_iteration = iteration;
  next_position = iteration * options.batch_size;
  stopping = false;
  try {
    for (int i = 0; i < options.threads; ++i) threads.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    stop();
    throw Error(std::string("a loader thread could not be started: ") + error.what(), "DataLoader", "lower train.loader_threads");
  }
}

void DataLoader::State::stop() {
  {
    std::lock_guard lock(mutex);
    stopping = true;
  }
  work_there.notify_all();
  for (std::thread& thread : threads) thread.join();
  threads.clear();
}

void DataLoader::State::work() {
  const SerialScope serial;
  const FlushDenormals flush;
  std::unique_lock lock(mutex);
  while (true) {
    work_there.wait(lock, [&] { return stopping || next_position / options.batch_size < next_iteration + options.prefetch; });
    if (stopping) return;
    const int64_t position = next_position++;
    const int64_t iteration = position / options.batch_size, sample = position % options.batch_size;
    Slot& slot = slots[size_t(iteration % options.prefetch)];
    try {
      if (sample == 0) {
        slot = {};
        slot.used = true;
        slot.left = options.batch_size;
        slot.batch.iteration = iteration;
        slot.batch.names.resize(size_t(options.batch_size));
        slot.batch.indices.resize(size_t(options.batch_size));
        slot.batch.images = Tensor::empty({options.batch_size, size.height, size.width, 3});
        slot.batch.labels = Tensor::empty({options.batch_size, size.height, size.width}, DType::kUInt8);
      }
      const bool hopeless = slot.error != nullptr;
      if (!hopeless) slot.batch.indices[size_t(sample)] = sampler.index_at(position);
      lock.unlock();
      if (!hopeless) make_sample(slot, sample, position);
      lock.lock();
    } catch (...) {
      if (!lock.owns_lock()) lock.lock();
      // The first of the batch, whichever thread came first.
      if (!slot.error || sample < slot.error_sample) {
        slot.error = std::current_exception();
        slot.error_sample = sample;
      }
    }
    if (--slot.left == 0) batch_done.notify_all();
  }
}

std::shared_ptr<const RawSample> DataLoader::State::load(int64_t index) {
  const bool caching = options.cache_bytes > 0 && dataset.size() != Dataset::kEndless;
  if (caching) {
    std::lock_guard lock(cache_mutex);
    if (const auto found = cache.find(index); found != cache.end()) return found->second;
  }
  auto sample = std::make_shared<const RawSample>(load_checked(dataset, index));
  const int64_t bytes = int64_t(sample->image.pixels.size() + sample->labels.labels.size());
  if (caching) {
    std::lock_guard lock(cache_mutex);
    if (cached_bytes + bytes <= options.cache_bytes && cache.emplace(index, sample).second) cached_bytes += bytes;
  }
  return sample;
}

void DataLoader::State::make_sample(Slot& slot, int64_t sample, int64_t position) {
  const int64_t index = slot.batch.indices[size_t(sample)];
  try {
    auto raw = load(index);
    if (options.augment) {
      auto own = std::make_shared<RawSample>(*raw);  // the cache keeps what was decoded
      augment_by_caller(*own, options, dataset, index, position);
      raw = std::move(own);
    }
    const RawSample ready = augment(*raw, pipeline, Random(options.seed, kAugmentStream).fork(uint64_t(position)));
    const bool fits = pipeline.crop ? ready.image.height <= size.height && ready.image.width <= size.width
                                    : ready.image.height == size.height && ready.image.width == size.width;
    if (!fits) {
      throw DataError("the picture is " + size_text(ready.image.width, ready.image.height) +
                          " where the first one is " + size_text(size.width, size.height),
                      dataset.describe(index), "set pipeline.crop, so that all have one size");
    }
    const int64_t pixels = size.height * size.width;
    normalize_into(ready.image, pipeline, size, slot.batch.images.data<float>() + 3 * pixels * sample);
    pad_labels_into(ready.labels, size, slot.batch.labels.data<uint8_t>() + pixels * sample);
    slot.batch.names[size_t(sample)] = ready.name;
  } catch (const Error&) {
    throw;  // it names the file
  } catch (const std::exception& error) {
    throw DataError(std::string("the sample could not be prepared: ") + error.what(), dataset.describe(index),
                    "see what the data set's load(), or an augmentation of one's own, does with it, and whether the machine has memory "
                    "left");
  }
}

DataLoader::DataLoader(const Dataset& dataset, const PipelineOptions& pipeline, const LoaderOptions& options) {
  check_pipeline(pipeline);
  check_range(options.batch_size, 1, 65536, "train.batch_size");
  check_range(options.threads, 1, 64, "train.loader_threads");
  check_range(options.prefetch, 1, 64, "LoaderOptions::prefetch");
  state_ = std::make_unique<State>(dataset, pipeline, options);
  state_->size = batch_size_of(dataset, pipeline, options);
  state_->start(0);
}

DataLoader::~DataLoader() { state_->stop(); }

Batch DataLoader::next() {
  State& s = *state_;
  if (s.threads.empty()) s.start(s.next_iteration);  // after a seek() that could start none
  std::unique_lock lock(s.mutex);
  State::Slot& slot = s.slots[size_t(s.next_iteration % s.options.prefetch)];
  const auto begin = std::chrono::steady_clock::now();
  s.batch_done.wait(lock, [&] { return slot.used && slot.batch.iteration == s.next_iteration && slot.left == 0; });
  s.wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (slot.error) std::rethrow_exception(slot.error);
  Batch batch = std::move(slot.batch);
  slot = {};
  ++s.next_iteration;
  lock.unlock();
  s.work_there.notify_all();
  return batch;
}

void DataLoader::seek(int64_t iteration) {
  State& s = *state_;
  check_range(iteration, 0, Dataset::kEndless / s.options.batch_size - s.options.prefetch, "DataLoader::seek");
  if (iteration == s.next_iteration && !s.threads.empty()) {
    std::lock_guard lock(s.mutex);
    const State::Slot& slot = s.slots[size_t(iteration % s.options.prefetch)];
    if (!slot.error) return;  // already there
  }
  s.stop();
  s.start(iteration);
}

int64_t DataLoader::iteration() const { return state_->next_iteration; }

double DataLoader::data_wait_seconds() const { return state_->wait_seconds; }

}  // namespace eq
