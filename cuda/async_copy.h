#pragma once
// Copies from global to shared memory that go on while the threads compute (cp.async, compute capability 8.0): a thread
// issues copies, closes them into a group, and waits until all but its youngest groups have arrived. What other threads
// copied is visible after the barrier that follows their wait. The simulator copies at once.

#include <cstdint>

#include "cuda/launch.h"

namespace eq::cuda {

// Copies kBytes, or writes as many zero bytes where `valid` is false (`from` is then not read). Both addresses are
// multiples of kBytes. Two bytes are below what the hardware copies: they pass through a register.
template <int kBytes>
__device__ inline void copy_async(void* to, const void* from, bool valid) {
  static_assert(kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16);
#ifdef EQ_CUDA_SIMULATED
  struct alignas(kBytes) Unit {
    unsigned char bytes[kBytes];
  };
  *static_cast<Unit*>(to) = valid ? *static_cast<const Unit*>(from) : Unit{};
#else
  if constexpr (kBytes == 2) {
    *static_cast<uint16_t*>(to) = valid ? *static_cast<const uint16_t*>(from) : uint16_t(0);
  } else {
    const uint32_t target = uint32_t(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(target), "l"(from), "n"(kBytes), "r"(valid ? kBytes : 0)
                 : "memory");
  }
#endif
}

__device__ inline void close_copies() {
#ifndef EQ_CUDA_SIMULATED
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most `kYoungest` closed groups of this thread are on their way.
template <int kYoungest>
__device__ inline void wait_for_copies() {
#ifndef EQ_CUDA_SIMULATED
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kYoungest) : "memory");
#endif
}

}  // namespace eq::cuda
