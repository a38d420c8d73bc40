#include "core/random.h"

#include <cmath>
#include <numbers>

#include "core/errors.h"

namespace eq {

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
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

namespace {

std::array<uint32_t, 4> block_at(uint64_t seed, uint64_t stream, uint64_t block) {
  return philox({uint32_t(block), uint32_t(block >> 32), uint32_t(stream), uint32_t(stream >> 32)},
                {uint32_t(seed), uint32_t(seed >> 32)});
}

}  // namespace

Random Random::fork(uint64_t tag) const {
  // A different key space from the draws: the counter's top half carries the tag.
  const auto mixed = philox({uint32_t(tag), uint32_t(tag >> 32), uint32_t(stream_), uint32_t(stream_ >> 32)},
                            {uint32_t(seed_) ^ 0x5EEDF0A5, uint32_t(seed_ >> 32)});
  return Random(seed_, uint64_t(mixed[0]) | uint64_t(mixed[1]) << 32);
}

void Random::seek_block(uint64_t block) {
  block_ = block;
  left_ = 0;
  has_spare_ = false;
}

uint32_t Random::next_u32() {
  if (left_ == 0) {
    buffer_ = block_at(seed_, stream_, block_++);
    left_ = 4;
  }
  return buffer_[4 - left_--];
}

uint64_t Random::next_u64() {
  const uint64_t low = next_u32();
  return low | uint64_t(next_u32()) << 32;
}

double Random::uniform() { return double(next_u64() >> 11) * 0x1p-53; }

double Random::uniform(double low, double high) { return low + (high - low) * uniform(); }

int64_t Random::uniform_int(int64_t low, int64_t high) {
  if (low >= high) {
    throw UsageError("there is no integer in [" + std::to_string(low) + ", " + std::to_string(high) + ")",
                     "Random::uniform_int", "low must be less than high");
  }
  const uint64_t range = uint64_t(high) - uint64_t(low);
  const uint64_t unbiased = UINT64_MAX - UINT64_MAX % range;  // the largest multiple of range
  uint64_t draw = next_u64();
  while (draw >= unbiased) draw = next_u64();
  return int64_t(uint64_t(low) + draw % range);
}

double Random::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));
  const double angle = 2 * std::numbers::pi * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

float uniform_at(uint64_t seed, uint64_t stream, uint64_t index) {
  return float(block_at(seed, stream, index / 4)[index % 4] >> 8) * 0x1p-24f;
}

}  // namespace eq
