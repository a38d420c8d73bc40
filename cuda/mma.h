#pragma once
// Tensor cores: c += a * b of 16x8 float32 by 16x16 and 16x8 bfloat16 (mma.sync.m16n8k16, compute capability 8.0), and
// the loads of their fragments from shared memory (ldmatrix). All 32 lanes of a warp take part. In the simulator the
// lanes exchange what they hold, so a wrong fragment gives a wrong result there too.
//
// Fragments, as the PTX ISA lays them out, with group = lane / 4, pair = 2 * (lane % 4); each register holds two
// neighbours along k:
//   a (16 rows of 16 k)        [0] row group, k pair    [1] row group + 8, k pair    [2], [3] the same rows, k pair + 8
//   b (16 k of 8 columns)      [0] k pair, column group    [1] k pair + 8, column group
//   c (16 rows of 8 columns)   [0], [1] row group, columns pair, pair + 1    [2], [3] row group + 8

#include <cstdint>
#include <cstring>

#include "core/bfloat16.h"
#include "cuda/launch.h"

namespace eq::cuda {

// Four 8x8 matrices: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, on 16 bytes) and receives of matrix
// i, in registers[i], row l / 4, columns 2 * (l % 4) and the next; transposed: rows 2 * (l % 4) and the next of column l
// / 4.
template <bool kTransposed>
__device__ inline void load_matrices(const bfloat16* row, uint32_t (&registers)[4]) {
#ifdef EQ_CUDA_SIMULATED
  const bfloat16* rows[32];
  simulated::exchange(&row, sizeof row, rows);
  const int group = simulated::lane() / 4, pair = 2 * (simulated::lane() % 4);
  for (int i = 0; i < 4; ++i) {
    const bfloat16* const* matrix = rows + 8 * i;
    const uint32_t low = kTransposed ? matrix[pair][group].bits : matrix[group][pair].bits;
    const uint32_t high = kTransposed ? matrix[pair + 1][group].bits : matrix[group][pair + 1].bits;
    registers[i] = low | high << 16;
  }
#else
  const uint32_t address = uint32_t(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

__device__ inline void multiply_add(const uint32_t (&a)[4], const uint32_t (&b)[2], float (&c)[4]) {
#ifdef EQ_CUDA_SIMULATED
  struct Registers {
    uint32_t a[4], b[2];
  } own, all[32];
  std::memcpy(own.a, a, sizeof own.a);
  std::memcpy(own.b, b, sizeof own.b);
  simulated::exchange(&own, sizeof own, all);
  const int group = simulated::lane() / 4, pair = 2 * (simulated::lane() % 4);
  const auto value = [](uint32_t word, int half) { return std::bit_cast<float>(half == 0 ? word << 16 : word & 0xffff0000u); };
  for (int k = 0; k < 16; ++k) {
    const int holder = k % 8 / 2, half = k % 2, upper = k / 8;  // the lane of a group, and where it holds k
    const uint32_t* from = all[4 * group + holder].a;
    const float rows[2] = {value(from[2 * upper], half), value(from[2 * upper + 1], half)};
    for (int j = 0; j < 2; ++j) {
      const float column = value(all[4 * (pair + j) + holder].b[upper], half);
      c[j] += rows[0] * column;
      c[2 + j] += rows[1] * column;
    }
  }
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

}  // namespace eq::cuda
