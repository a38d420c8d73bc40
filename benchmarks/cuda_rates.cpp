#include "cuda_rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "core/allocator.h"
#include "core/cuda_device.h"
#include "core/file.h"
#include "core/random.h"

namespace eq::bench {
namespace {

constexpr double kBetweenUses = 512e6;  // bytes moved before a set of arguments returns: several times the largest cache
constexpr int kMaxSets = 16;
constexpr double kBatchSeconds = 5e-3;  // launches between two looks at the clock: long beside the wait for the device
constexpr int kBatches = 7;
constexpr size_t kCachedBytes = size_t{16} << 30;  // the allocator may keep this much between two kernels

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Tensor values(const Shape& shape, DType type) {
  static std::map<DType, Tensor> blocks;
  Tensor& block = blocks[type];
  if (!block.defined()) {
    Tensor here = Tensor::empty({(1 << 18) + 64});  // no power of two: neighbouring rows differ
    for (int64_t i = 0; i < here.numel(); ++i) here.data<float>()[i] = 2 * uniform_at(1, 0, uint64_t(i)) - 1;
    block = here.to(type).to(Device::cuda());
  }
  Tensor result = Tensor::empty(shape, type, Device::cuda());
  for (size_t at = 0; at < result.bytes(); at += block.bytes()) {
    cuda::copy_on_device(static_cast<char*>(result.raw_data()) + at, block.raw_data(),
                         std::min(block.bytes(), result.bytes() - at), 0);
  }
  return result;
}

Rates::Rates(const Settings& settings) : settings_(settings) {
  fmt::print("| family | kernel | size | type | by | us | rate | of the device's |\n|---|---|---|---|---|---:|---:|---:|\n");
}

bool Rates::wanted(const Rate& rate) const {
  // The device's own rates are always measured: the others are shares of them.
  return settings_.filter.empty() || rate.family == "device" ||
         (rate.family + "/" + rate.kernel).find(settings_.filter) != std::string::npos;
}

void Rates::time(Rate& rate, const std::function<Launch()>& make) const {
  const int sets =
      settings_.smoke ? 1 : int(std::clamp(std::ceil(kBetweenUses / std::max(rate.bytes, 1.0)), 1.0, double(kMaxSets)));
  std::vector<Launch> launches;
  for (int i = 0; i < sets; ++i) launches.push_back(make());
  size_t turn = 0;
  const auto timed = [&](int64_t count) {
    const double start = now();
    for (int64_t i = 0; i < count; ++i) launches[turn++ % launches.size()]();
    synchronize(Device::cuda());
    return (now() - start) / double(count);
  };
  timed(sets);  // algorithms are chosen, memory is in place
  if (settings_.smoke) {
    rate.seconds = rate.fastest = timed(1);
    return;
  }
  const double estimate = timed(sets);
  const int64_t count = std::clamp<int64_t>(int64_t(kBatchSeconds / estimate), 1, 1000);
  std::vector<double> seconds;
  for (int i = 0; i < (estimate > 0.05 ? 3 : kBatches); ++i) seconds.push_back(timed(count));
  std::sort(seconds.begin(), seconds.end());
  rate.seconds = seconds[seconds.size() / 2];
  rate.fastest = seconds.front();
}

void Rates::measure(Rate rate, const std::function<Launch()>& make) {
  if (!wanted(rate)) return;
  try {
    time(rate, make);
  } catch (const Error& error) {
    rate.failure = error.what_happened();
    ++failures_;
  }
  CachingAllocator& memory = allocator(Device::cuda());
  if (memory.stats().cached_bytes > kCachedBytes) memory.release_cached();
  const bool computes = rate.flops > 0;
  for (const Rate& device : rates_) {
    if (device.family != "device" || (device.flops > 0) != computes || (computes && device.type != rate.type)) continue;
    const double best = (computes ? device.flops : device.bytes) / device.seconds;
    if (rate.failure.empty() && device.failure.empty())
      rate.share = (computes ? rate.flops : rate.bytes) / rate.seconds / best;
  }
  rates_.push_back(rate);
  report(rate);
  write_json();
}

void Rates::report(const Rate& rate) {
  const std::string begin =
      fmt::format("| {} | {} | {} | {} | {} |", rate.family, rate.kernel, rate.size, name_of(rate.type), rate.by);
  if (!rate.failure.empty()) {
    fmt::print("{} failed | {} | |\n", begin, rate.failure);
  } else {
    const std::string speed = rate.flops > 0 ? fmt::format("{:.1f} TFLOP/s", rate.flops / rate.seconds / 1e12)
                                             : fmt::format("{:.0f} GB/s", rate.bytes / rate.seconds / 1e9);
    const std::string share = rate.share > 0 ? fmt::format("{:.0f} %", 100 * rate.share) : "";
    fmt::print("{} {:.1f} | {} | {} |\n", begin, rate.seconds * 1e6, speed, share);
  }
  std::fflush(stdout);  // of use even if the program is stopped
}

void Rates::write_json() const {
  if (settings_.json.empty()) return;
  nlohmann::json rows = nlohmann::json::array();
  for (const Rate& rate : rates_) {
    rows.push_back({{"family", rate.family},
                    {"kernel", rate.kernel},
                    {"size", rate.size},
                    {"type", name_of(rate.type)},
                    {"by", rate.by},
                    {"seconds", rate.seconds},
                    {"fastest_seconds", rate.fastest},
                    {"bytes", rate.bytes},
                    {"flops", rate.flops},
                    {"share", rate.share},
                    {"failure", rate.failure}});
  }
  write_text_atomically(settings_.json, nlohmann::json{{"device", cuda::describe_device(0)},
                                                       {"convolution", cuda::describe_convolution()},
                                                       {"smoke", settings_.smoke},
                                                       {"rows", rows}}
                                                .dump(1) +
                                            "\n");
}

}  // namespace eq::bench
