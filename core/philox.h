#pragma once
// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), on host and device, and what a kernel
// draws from it.

#include <array>
#include <cstdint>

#include "core/host_device.h"

namespace eq {

// Ten rounds over a 128-bit counter under a 64-bit key.
EQ_HOST_DEVICE inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = kMultiplier0 * counter[0], p1 = kMultiplier1 * counter[2];
    counter = {uint32_t(p1 >> 32) ^ counter[1] ^ key[0], uint32_t(p1), uint32_t(p0 >> 32) ^ counter[3] ^ key[1],
               uint32_t(p0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// Block `block` of four draws of a stream: numbers 4 * block to 4 * block + 3.
EQ_HOST_DEVICE inline std::array<uint32_t, 4> random_block(uint64_t seed, uint64_t stream, uint64_t block) {
  return philox({uint32_t(block), uint32_t(block >> 32), uint32_t(stream), uint32_t(stream >> 32)},
                {uint32_t(seed), uint32_t(seed >> 32)});
}

// A draw as a number in [0, 1) with 24 bits.
EQ_HOST_DEVICE inline float uniform_of(uint32_t draw) { return float(draw >> 8) * 0x1p-24f; }

}  // namespace eq
