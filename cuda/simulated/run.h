#pragma once
// Runs kernels on the host, thread by thread: each thread of a block is a fiber that goes on until it meets a barrier. Slow and exact.
//
// Between barriers the threads of a block, and the blocks of a grid, run one after another, in one of several orders. A kernel without
// races gives the same bits in every order; the tests compare them (Order). A barrier that some threads miss ends the program
// with a message. Dynamic shared memory begins as NaNs, and so does what cudaMalloc gives.

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>

namespace eq::cuda::simulated {

enum class Order { kForward, kBackward, kShuffled };
void set_order(Order order);
Order order();

void run(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()>& kernel);
unsigned char* shared_memory();

// Inlined into two loops, a body may be compiled into two roundings.
template <class Body>
[[gnu::noinline, gnu::noclone]] void call(const Body& body, int64_t i) { body(i); }

// Items that do not communicate.
template <class Body>
void for_each(int64_t count, const Body& body) {
  const DeviceAccess access;
  if (order() == Order::kForward) {
    for (int64_t i = 0; i < count; ++i) call(body, i);
  } else {
    for (int64_t i = count - 1; i >= 0; --i) call(body, i);
  }
}

}  // namespace eq::cuda::simulated
