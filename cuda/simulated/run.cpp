#ifdef EQ_CUDA_SIMULATED
#undef _FORTIFY_SOURCE  // its longjmp refuses to change stacks
#include "cuda/simulated/run.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace eq::cuda::simulated {
namespace {

constexpr size_t kStackBytes = 128 << 10, kMostShared = 227 << 10;

enum class Waiting { kNo, kBlock, kWarp };

struct Fiber {
  ucontext_t context;
  jmp_buf resumed;  // where it goes on; from its first wait on
  bool entered = false;
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
  uint3 index;
  Waiting waiting = Waiting::kNo;
  bool ended = false;
  int turn = 0;  // exchanges alternate between two sets of slots: whoever writes one has seen all lanes leave it
  void* fake_stack = nullptr;  // of the address sanitizer
};

// The block that is running.
struct Block {
  ucontext_t scheduler;
  jmp_buf scheduler_resumed;
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept from block to block: stacks are reused
  size_t count = 0;
  size_t current = 0;
  const std::function<void()>* kernel = nullptr;
  unsigned char* shared = nullptr;
  unsigned char exchanged[2][32][32][64];  // [turn][warp][lane]
  const void* scheduler_stack = nullptr;
  size_t scheduler_stack_bytes = 0;
};

Block block;
Order current_order = Order::kForward;

[[noreturn]] void give_up(const char* words) {
  std::fprintf(stderr, "simulated CUDA: %s (block %u, %u, %u)\n", words, blockIdx.x, blockIdx.y, blockIdx.z);
  std::abort();
}

// Dynamic shared memory ends, to 16 bytes, where no address can be used: a kernel that was given too little ends with a segmentation fault.
unsigned char* new_shared_memory(size_t bytes) {
  static unsigned char* const end = [] {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), room = (kMostShared + page - 1) / page * page;
    void* whole = mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char* behind = static_cast<unsigned char*>(whole) + room;
    if (whole == MAP_FAILED || mprotect(behind, page, PROT_NONE) != 0) give_up("no addresses for shared memory");
    return behind;
  }();
  unsigned char* begin = end - (bytes + 15) / 16 * 16;
  std::memset(begin, 0xff, bytes);
  return begin;
}

void to_scheduler(bool ending) {
  Fiber& fiber = *block.fibers[block.current];
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(ending ? nullptr : &fiber.fake_stack, block.scheduler_stack, block.scheduler_stack_bytes);
  swapcontext(&fiber.context, &block.scheduler);
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &block.scheduler_stack, &block.scheduler_stack_bytes);
#else
  (void)ending;
  if (_setjmp(fiber.resumed) == 0) _longjmp(block.scheduler_resumed, 1);
#endif
}

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_bytes);
#endif
  (*block.kernel)();
  block.fibers[block.current]->ended = true;
  to_scheduler(true);
}

void resume(size_t which) {
  Fiber& fiber = *block.fibers[which];
  block.current = which;
  threadIdx = fiber.index;
#ifdef __SANITIZE_ADDRESS__
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.get(), kStackBytes);
  swapcontext(&block.scheduler, &fiber.context);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
  // swapcontext saves and restores the signal mask, two system calls each way; jumps between the stacks do not.
  if (_setjmp(block.scheduler_resumed) != 0) return;
  if (fiber.entered) _longjmp(fiber.resumed, 1);
  fiber.entered = true;
  setcontext(&fiber.context);
#endif
}

void start_fibers(dim3 threads) {
  block.count = size_t(threads.x) * threads.y * threads.z;
  if (block.count > 1024) give_up("a block has at most 1024 threads");
  while (block.fibers.size() < block.count) block.fibers.push_back(std::make_unique<Fiber>());
  for (size_t i = 0; i < block.count; ++i) {
    Fiber& fiber = *block.fibers[i];
    fiber.index = {unsigned(i % threads.x), unsigned(i / threads.x % threads.y), unsigned(i / threads.x / threads.y)};
    fiber.waiting = Waiting::kNo;
    fiber.ended = false;
    fiber.turn = 0;
    fiber.entered = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStackBytes;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_main, 0);
  }
}

// Lets everyone go who waits for this barrier, if all who can come have come. A warp's or block's threads that ended do not count.
bool open_barrier(size_t begin, size_t end, Waiting kind) {
  bool any = false;
  for (size_t i = begin; i < end; ++i) {
    if (block.fibers[i]->ended) continue;
    if (block.fibers[i]->waiting != kind) return false;
    any = true;
  }
  for (size_t i = begin; i < end && any; ++i) block.fibers[i]->waiting = Waiting::kNo;
  return any;
}

void run_block(dim3 threads, const std::vector<size_t>& sequence) {
  start_fibers(threads);
  for (;;) {
    bool moved = false, alive = false;
    for (const size_t i : sequence) {
      Fiber& fiber = *block.fibers[i];
      if (fiber.ended) continue;
      alive = true;
      if (fiber.waiting != Waiting::kNo) continue;
      resume(i);
      moved = true;
    }
    if (!alive) return;
    if (moved) continue;
    for (size_t begin = 0; begin < block.count; begin += 32) {
      moved |= open_barrier(begin, std::min(begin + 32, block.count), Waiting::kWarp);
    }
    if (!moved) moved = open_barrier(0, block.count, Waiting::kBlock);
    if (!moved) give_up("threads wait at different barriers");
  }
}

std::vector<size_t> sequence_of(size_t count) {
  std::vector<size_t> sequence(count);
  for (size_t i = 0; i < count; ++i) sequence[i] = i;
  if (current_order == Order::kBackward) std::reverse(sequence.begin(), sequence.end());
  if (current_order == Order::kShuffled) {
    uint64_t state = 88172645463325252ull;  // xorshift: the same order in each run
    for (size_t i = count; i > 1; --i) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      std::swap(sequence[i - 1], sequence[state % i]);
    }
  }
  return sequence;
}

}  // namespace

void set_order(Order order) {
  static std::optional<DeviceAccess> access;  // host code is watched in the first order, which saves the others the time
  if (order == Order::kForward) {
    access.reset();
  } else if (!access) {
    access.emplace();
  }
  current_order = order;
}
Order order() { return current_order; }
unsigned char* shared_memory() { return block.shared; }
int lane() { return int(block.current % 32); }

void exchange(const void* value, size_t bytes, void* values_of_all_lanes) {
  if (bytes > 64) give_up("a value exchanged in a warp has at most 64 bytes");
  int& turn = block.fibers[block.current]->turn;
  unsigned char(*slots)[64] = block.exchanged[turn][block.current / 32];
  turn = 1 - turn;
  std::memcpy(slots[block.current % 32], value, bytes);
  __syncwarp();
  for (int i = 0; i < 32; ++i) std::memcpy(static_cast<unsigned char*>(values_of_all_lanes) + size_t(i) * bytes, slots[i], bytes);
}

void run(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()>& kernel) {
  if (blocks.y > 65535 || blocks.z > 65535) give_up("a grid has at most 65535 blocks in y and z");
  if (shared_bytes > kMostShared) give_up("a block has at most 227 KiB of shared memory");
  gridDim = blocks, blockDim = threads;
  block.kernel = &kernel;
  const DeviceAccess access;
  const std::vector<size_t> sequence = sequence_of(size_t(threads.x) * threads.y * threads.z);
  const std::vector<size_t> block_sequence = sequence_of(size_t(blocks.x) * blocks.y * blocks.z);
  for (const size_t b : block_sequence) {
    blockIdx = {unsigned(b % blocks.x), unsigned(b / blocks.x % blocks.y), unsigned(b / blocks.x / blocks.y)};
    block.shared = new_shared_memory(shared_bytes);
    run_block(threads, sequence);
  }
}

}  // namespace eq::cuda::simulated

namespace {
void wait(eq::cuda::simulated::Waiting kind) {
  using namespace eq::cuda::simulated;
  block.fibers[block.current]->waiting = kind;
  to_scheduler(false);
}
}  // namespace
void __syncthreads() { wait(eq::cuda::simulated::Waiting::kBlock); }
void __syncwarp(unsigned) { wait(eq::cuda::simulated::Waiting::kWarp); }
#endif
