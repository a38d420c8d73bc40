#pragma once
// The two backends. A card declares its kernels once, for both:
//   EQ_KERNELS(void softmax_forward(const Tensor& x, bool logarithm, Tensor& y);)
// declares cpu::softmax_forward and cuda::softmax_forward, of the same meaning, and an operator calls the one of its device:
//   EQ_RUN(x.device(), softmax_forward(x, logarithm, y));
// Arguments of a kernel are on one device: check::alike has seen to it. On the CPU denormal numbers are flushed to zero meanwhile.

#include "core/device.h"
#include "core/parallel.h"

#define EQ_KERNELS(...)           \
  namespace cpu { __VA_ARGS__ }   \
  namespace cuda { __VA_ARGS__ }

// A build without CUDA does not refer to the cuda function, so nothing needs to define it.
#define EQ_RUN(device, ...)             \
  do {                                  \
    if constexpr (kBuiltWithCuda) {     \
      if ((device).is_cuda()) {         \
        cuda::__VA_ARGS__;              \
        break;                          \
      }                                 \
    }                                   \
    EQ_RUN_ON_CPU(__VA_ARGS__);         \
  } while (false)

// For kernels that only the CPU has.
#define EQ_RUN_ON_CPU(...)              \
  do {                                  \
    const FlushDenormals flush;         \
    cpu::__VA_ARGS__;                   \
  } while (false)
