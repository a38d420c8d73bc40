#ifdef EQ_CUDA_SIMULATED
// The devices' memory: one range of addresses, of which nothing can be read or written unless a DeviceAccess exists. Large pages where the
// kernel has them: opening and closing a few of these takes microseconds, and every kernel and copy does it.
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

namespace eq::cuda::simulated {
namespace {

#ifdef __SANITIZE_ADDRESS__  // which sees more of memory that is its own
constexpr bool kGuarded = false;
#else
constexpr bool kGuarded = true;
#endif
constexpr size_t kAlign = 256, kPage = size_t{2} << 20, kReserved = size_t{1} << 36;

[[noreturn]] void give_up(const char* words) {
  std::fprintf(stderr, "simulated CUDA: %s\n", words);
  std::abort();
}

class Memory {
 public:
  void* allocate(size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (begin_ == nullptr) reserve();
    if (bytes > kReserved) return nullptr;
    const size_t size = std::max((bytes + kAlign - 1) / kAlign, size_t{1}) * kAlign;
    const auto hole = std::find_if(free_.begin(), free_.end(), [&](const auto& of) { return of.second >= size; });
    if (hole == free_.end()) return nullptr;
    const auto [offset, room] = *hole;
    free_.erase(hole);
    if (room > size) free_[offset + size] = room - size;
    taken_[offset] = size;
    const size_t needed = (offset + size + kPage - 1) / kPage * kPage;
    if (users_ > 0 && needed > used_) protect(used_, needed, PROT_READ | PROT_WRITE);
    used_ = std::max(used_, needed);
    return begin_ + offset;
  }

  void release(void* block) {
    const std::lock_guard lock(mutex_);
    const auto found = taken_.find(size_t(static_cast<unsigned char*>(block) - begin_));
    if (found == taken_.end()) give_up("cudaFree of what cudaMalloc did not give");
    auto [offset, size] = *found;
    taken_.erase(found);
    const auto next = free_.lower_bound(offset);
    if (next != free_.end() && offset + size == next->first) size += next->second, free_.erase(next);
    const auto after = free_.lower_bound(offset);
    if (after != free_.begin() && std::prev(after)->first + std::prev(after)->second == offset) {
      std::prev(after)->second += size;
    } else {
      free_[offset] = size;
    }
  }

  void open() {
    const std::lock_guard lock(mutex_);
    if (users_++ == 0) protect(0, used_, PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    if (--users_ == 0) protect(0, used_, PROT_NONE);
  }

 private:
  void reserve() {
    void* whole = mmap(nullptr, kReserved + kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (whole == MAP_FAILED) give_up("no addresses for the device's memory");
    begin_ = static_cast<unsigned char*>(whole);
    begin_ += (kPage - reinterpret_cast<uintptr_t>(begin_) % kPage) % kPage;
    madvise(begin_, kReserved, MADV_HUGEPAGE);
    free_[0] = kReserved;
  }
  void protect(size_t from, size_t to, int how) {
    if (from < to && mprotect(begin_ + from, to - from, how) != 0) give_up("mprotect failed");
  }

  std::mutex mutex_;
  unsigned char* begin_ = nullptr;
  std::map<size_t, size_t> taken_, free_;  // offset: size
  size_t used_ = 0;                        // nothing beyond was ever taken
  int users_ = 0;
};

Memory& memory() {
  static Memory& only = *new Memory;  // blocks are given back until the program's very end
  return only;
}

}  // namespace

void* allocate(size_t bytes) {
  void* block = kGuarded             ? memory().allocate(bytes)
                : bytes <= kReserved ? std::aligned_alloc(kAlign, (bytes + kAlign - 1) / kAlign * kAlign)
                                     : nullptr;
  const DeviceAccess access;
  return block == nullptr ? nullptr : std::memset(block, 0xff, bytes);  // NaNs: what is read before it is written shows
}

void release(void* block) {
  if (block == nullptr) return;
  kGuarded ? memory().release(block) : std::free(block);
}

DeviceAccess::DeviceAccess() {
  if (kGuarded) memory().open();
}
DeviceAccess::~DeviceAccess() {
  if (kGuarded) memory().close();
}

}  // namespace eq::cuda::simulated
#endif
