#pragma once
// One caching allocator policy for every device. Blocks are aligned to 64 bytes, reused by size, and given back only
// on release_cached() or when an allocation would otherwise fail: first touch of fresh pages costs more than reuse.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/device.h"

namespace eq {

struct MemoryStats {
  size_t active_bytes = 0;  // in use by tensors
  size_t cached_bytes = 0;  // held for reuse
  size_t peak_bytes = 0;    // highest active_bytes since the last reset_peak()
  uint64_t allocations = 0; // requests served
  uint64_t reused = 0;      // of these, from the cache
};

// Where the blocks come from: malloc on the CPU, cudaMalloc on a GPU. allocate returns nullptr when there is no memory.
struct RawMemory {
  std::function<void*(size_t bytes)> allocate;
  std::function<void(void*)> free;
};

class CachingAllocator {
 public:
  CachingAllocator(Device device, RawMemory raw);
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  // Never returns nullptr (a request of 0 bytes gets a block too). Throws OutOfMemoryError with the amounts.
  void* allocate(size_t bytes);
  void free(void* block);  // keeps the block for reuse

  MemoryStats stats() const;
  void reset_peak();
  void release_cached();           // gives every cached block back
  void set_limit(size_t bytes);    // of active + cached; 0: none
  size_t limit() const;

  // For tests. The hook sees each request before it is served; returning true makes it fail as if memory had run out.
  void set_failure_hook(std::function<bool(size_t bytes)> hook);
  // Surrounds every later block with guard bytes and checks them when it is freed (std::abort with a message).
  void set_guards(bool on);

 private:
  struct Block {
    size_t bytes;      // usable size
    bool guarded;
    size_t requested;  // of guarded blocks: the guard behind begins here
  };
  void* take_cached(size_t bytes, bool guarded);
  void* allocate_raw(size_t bytes, bool guarded);
  void release_cached_locked();

  mutable std::mutex mutex_;
  Device device_;
  RawMemory raw_;
  std::unordered_map<void*, Block> active_;
  std::multimap<size_t, std::pair<void*, Block>> cached_;
  MemoryStats stats_;
  size_t limit_ = 0;
  bool guards_ = false;
  std::function<bool(size_t)> failure_hook_;
};

// The process-wide allocator of a device. It outlives every tensor. The library sets no limit: where the system promises more memory than
// it has (Linux does), a program that takes too much is ended without a word. The command sets that of the CPU to most of what is available
// when it starts; a program of your own that would rather get an OutOfMemoryError does so with set_limit().
CachingAllocator& allocator(Device device = Device::cpu());

}  // namespace eq
