#include "core/random.h"

#include <cmath>
#include <numbers>

#include "core/errors.h"

namespace eq {

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
    buffer_ = random_block(seed_, stream_, block_++);
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
  return uniform_of(random_block(seed, stream, index / 4)[index % 4]);
}

}  // namespace eq
