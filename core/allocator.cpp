#include "core/allocator.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/cuda_device.h"
#include "core/errors.h"

namespace eq {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kGuardBytes = 64;  // on each side; keeps the alignment
constexpr unsigned char kGuardValue = 0xA5;

// Sizes are rounded up so that requests of nearly the same size share blocks: to 64 bytes when small, to 1/8 of the
// leading power of two when large. At most 12.5 % is wasted.
size_t rounded(size_t bytes) {
  size_t step = kAlignment;
  while (step * 16 <= bytes) step *= 2;
  return std::max(kAlignment, (bytes + step - 1) / step * step);
}

// The guard behind a block begins at its first unused byte and so reaches up to `bytes` + kGuardBytes.
void write_guards(void* user, size_t requested, size_t bytes) {
  std::memset(static_cast<char*>(user) - kGuardBytes, kGuardValue, kGuardBytes);
  std::memset(static_cast<char*>(user) + requested, kGuardValue, bytes - requested + kGuardBytes);
}

void check_guards(const void* user, size_t requested, size_t bytes) {
  auto intact = [](const unsigned char* guard, size_t count) {
    return std::all_of(guard, guard + count, [](unsigned char value) { return value == kGuardValue; });
  };
  const auto* block = static_cast<const unsigned char*>(user);
  const bool before = intact(block - kGuardBytes, kGuardBytes),
             behind = intact(block + requested, bytes - requested + kGuardBytes);
  if (before && behind) return;
  std::fprintf(stderr, "equiscale: memory was written outside a block of %zu bytes (%s it)\n", requested,
               before ? "behind" : "before");
  std::abort();
}

std::string mebibytes(size_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", double(bytes) / (1 << 20));
  return text;
}

RawMemory host_memory() {
  return {[](size_t bytes) { return std::aligned_alloc(kAlignment, bytes); }, [](void* block) { std::free(block); }};
}

}  // namespace

CachingAllocator::CachingAllocator(Device device, RawMemory raw) : device_(device), raw_(std::move(raw)) {}

CachingAllocator::~CachingAllocator() { release_cached(); }

void* CachingAllocator::take_cached(size_t bytes, bool guarded) {
  auto it = cached_.lower_bound(bytes);
  while (it != cached_.end() && it->first == bytes && it->second.second.guarded != guarded) ++it;
  if (it == cached_.end() || it->first != bytes) return nullptr;
  auto [block, info] = it->second;
  cached_.erase(it);
  stats_.cached_bytes -= info.bytes;
  ++stats_.reused;
  active_[block] = info;
  return block;
}

void* CachingAllocator::allocate_raw(size_t bytes, bool guarded) {
  const size_t total = bytes + (guarded ? 2 * kGuardBytes : 0);
  auto* base = static_cast<char*>(raw_.allocate(total));
  if (base == nullptr) return nullptr;
  void* user = guarded ? base + kGuardBytes : base;
  active_[user] = {bytes, guarded, bytes};
  return user;
}

void* CachingAllocator::allocate(size_t requested) {
  std::lock_guard lock(mutex_);
  const bool guarded = guards_ && device_.is_cpu();
  const bool refused = (failure_hook_ && failure_hook_(requested)) || requested > (size_t{1} << 62);
  const size_t bytes = refused ? requested : rounded(requested);
  void* block = nullptr;
  if (!refused) {
    block = take_cached(bytes, guarded);
    auto over_limit = [&] { return limit_ != 0 && stats_.active_bytes + stats_.cached_bytes + bytes > limit_; };
    if (block == nullptr && !over_limit()) block = allocate_raw(bytes, guarded);
    if (block == nullptr) {
      release_cached_locked();
      if (!over_limit()) block = allocate_raw(bytes, guarded);
    }
  }
  if (block == nullptr) {
    throw OutOfMemoryError("no memory for " + mebibytes(requested) + " on " + to_string(device_) +
                               (current_operator()[0] != 0 ? std::string(" (the last operator was ") + current_operator() + ")" : ""),
                           to_string(device_) + ": " + mebibytes(stats_.active_bytes) + " active, " + mebibytes(stats_.cached_bytes) +
                               " cached, limit " + (limit_ == 0 ? "none" : mebibytes(limit_)),
                           "a smaller batch (train.batch_size), crop or network, or evaluation in sliding windows (evaluate.mode; --slide of the command)");
  }
  stats_.active_bytes += bytes;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.active_bytes);
  ++stats_.allocations;
  if (guarded) {
    active_.at(block).requested = requested;
    write_guards(block, requested, bytes);
  }
  return block;
}

void CachingAllocator::free(void* block) {
  if (block == nullptr) return;
  std::lock_guard lock(mutex_);
  auto it = active_.find(block);
  if (it == active_.end()) {
    std::fprintf(stderr, "equiscale: a block was freed twice or is not ours\n");
    std::abort();
  }
  const Block info = it->second;
  if (info.guarded) check_guards(block, info.requested, info.bytes);
  active_.erase(it);
  stats_.active_bytes -= info.bytes;
  stats_.cached_bytes += info.bytes;
  cached_.emplace(info.bytes, std::make_pair(block, info));
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak_bytes = stats_.active_bytes;
}

void CachingAllocator::release_cached() {
  std::lock_guard lock(mutex_);
  release_cached_locked();
}

void CachingAllocator::release_cached_locked() {
  for (auto& [bytes, entry] : cached_) {
    auto& [block, info] = entry;
    raw_.free(info.guarded ? static_cast<char*>(block) - kGuardBytes : block);
  }
  cached_.clear();
  stats_.cached_bytes = 0;
}

void CachingAllocator::set_limit(size_t bytes) {
  std::lock_guard lock(mutex_);
  limit_ = bytes;
}

size_t CachingAllocator::limit() const {
  std::lock_guard lock(mutex_);
  return limit_;
}

void CachingAllocator::set_failure_hook(std::function<bool(size_t)> hook) {
  std::lock_guard lock(mutex_);
  failure_hook_ = std::move(hook);
}

void CachingAllocator::set_guards(bool on) {
  std::lock_guard lock(mutex_);
  guards_ = on;
}

CachingAllocator& allocator(Device device) {
  // Never destroyed: tensors may be static.
  if (device.is_cuda()) {
    if constexpr (kBuiltWithCuda) {
      static std::mutex mutex;
      static auto* devices = new std::map<int, std::unique_ptr<CachingAllocator>>;
      std::lock_guard lock(mutex);
      std::unique_ptr<CachingAllocator>& entry = (*devices)[device.index];
      if (!entry) {
        check_exists(device);
        entry = std::make_unique<CachingAllocator>(device, cuda::memory(device.index));
      }
      return *entry;
    }
    check_exists(device);
  }
  static auto* host = new CachingAllocator(Device::cpu(), host_memory());
  return *host;
}

}  // namespace eq
