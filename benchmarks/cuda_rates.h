#pragma once
// Measuring kernels of a CUDA device: the time of a launch, what it moves or computes, and the share of what the
// device can do.

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace eq::bench {

struct Rate {
  std::string family, kernel, size;
  std::string by = "own";  // or "cuDNN", "cuBLAS", "runtime"
  DType type = DType::kFloat32;
  double bytes = 0;  // that must move: every array once for each pass that has to read or write it
  double flops = 0;  // multiply-adds counted as two, zero padding included; 0: the kernel is judged by its bytes
  double seconds = 0, fastest = 0;  // of one launch: median and best of the repetitions
  double share = 0;                 // of the device's own copy rate or cuBLAS's product rate; 0 where that was not measured
  std::string failure;              // why there is no time
};

struct Settings {
  bool smoke = false;  // each kernel once on tiny tensors: that the program runs
  std::string filter;  // only families or kernels whose name contains it
  std::string json;    // file for all numbers, rewritten after each row
  int64_t batch = 8;
};

// Sizes shrink to a few rows and channels under --smoke, where the question is whether the program runs.
struct Sizes {
  bool smoke;
  int64_t batch;
  int64_t side(int64_t pixels) const { return smoke ? std::max<int64_t>(2, pixels / 32) : pixels; }
  int64_t channels(int64_t count) const { return smoke && count > 32 ? std::max<int64_t>(8, count / 32) : count; }
  Shape features(int64_t pixels, int64_t count) const {
    return {smoke ? 1 : batch, side(pixels), side(pixels), channels(count)};
  }
};
inline constexpr int64_t kClasses = 19;

inline double bytes_of(const Shape& shape, DType type) { return double(shape.numel()) * double(size_of(type)); }
// Tensors on the device: uninitialised, and of values in [-1, 1) (one block of them, repeated).
inline Tensor like(const Shape& shape, DType type) { return Tensor::empty(shape, type, Device::cuda()); }
Tensor values(const Shape& shape, DType type);

class Rates {
 public:
  explicit Rates(const Settings& settings);
  const Settings& settings() const { return settings_; }

  using Launch = std::function<void()>;
  // Times `make(...)()` and prints its row. Each call of `make` prepares arguments of their own, `bytes` of them; several
  // sets take turns, so that the device's cache does not hold what the next launch reads.
  void measure(Rate rate, const std::function<Launch()>& make);

  int failures() const { return failures_; }

 private:
  bool wanted(const Rate& rate) const;
  void time(Rate& rate, const std::function<Launch()>& make) const;
  void report(const Rate& rate);
  void write_json() const;

  Settings settings_;
  std::vector<Rate> rates_;
  int failures_ = 0;
};

void measure_convolutions(Rates& rates, const Sizes& sizes, DType type);  // cuda_conv2d.cpp

}  // namespace eq::bench
