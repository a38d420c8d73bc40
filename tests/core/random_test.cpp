#include "core/random.h"

#include <cmath>
#include <set>

#include "core/errors.h"
#include "support.h"

using namespace eq;

TEST_CASE("philox gives the numbers its authors published", "[random]") {
  // The known-answer vectors of Random123 for philox4x32-10.
  using Block = std::array<uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("a sequence is a pure function of seed and stream", "[random]") {
  Random a(7, 3), b(7, 3), other_seed(8, 3), other_stream(7, 4);
  int same_seed = 0, same_stream = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint32_t value = a.next_u32();
    CHECK(value == b.next_u32());
    same_seed += value == other_seed.next_u32();
    same_stream += value == other_stream.next_u32();
  }
  CHECK(same_seed < 3);
  CHECK(same_stream < 3);
  CHECK(Random(0, 0).next_u32() == 0x6627e8d5);
  Random copy = a;
  CHECK(copy.next_u64() == a.next_u64());
  CHECK(Random(5, 9).seed() == 5);
  CHECK(Random(5, 9).stream() == 9);
  // All 64 bits of both count.
  CHECK(Random(uint64_t{1} << 63).next_u64() != Random(0).next_u64());
  CHECK(Random(0, uint64_t{1} << 63).next_u64() != Random(0, 0).next_u64());
}

TEST_CASE("forks are repeatable and do not meet", "[random]") {
  const Random parent(11, 2);
  std::set<uint64_t> seen;
  int draws = 0;
  auto draw_from = [&](Random random) {
    for (int i = 0; i < 200; ++i, ++draws) seen.insert(random.next_u64());
  };
  draw_from(parent);
  for (uint64_t tag = 0; tag < 100; ++tag) {
    draw_from(parent.fork(tag));
    draw_from(parent.fork(tag).fork(0));
    CHECK(parent.fork(tag).next_u64() == Random(11, 2).fork(tag).next_u64());
  }
  draw_from(Random(12, 2).fork(0));
  draw_from(Random(11, 3).fork(0));
  draw_from(parent.fork(uint64_t{1} << 40));
  CHECK(seen.size() == size_t(draws));

  Random moved(11, 2);  // drawing from the parent does not change its forks
  moved.next_u64();
  CHECK(moved.fork(5).next_u64() == parent.fork(5).next_u64());

  // Neighbouring forks are not correlated.
  Random a = parent.fork(0), b = parent.fork(1);
  double product = 0;
  constexpr int kCount = 20000;
  for (int i = 0; i < kCount; ++i) product += (a.uniform() - 0.5) * (b.uniform() - 0.5);
  CHECK(std::abs(product / kCount) < 4.0 / 12 / std::sqrt(double(kCount)));
}

TEST_CASE("uniform numbers fill their interval evenly", "[random]") {
  Random random(1);
  constexpr int kCount = 64000, kBins = 16;
  int bins[kBins] = {};
  for (int i = 0; i < kCount; ++i) {
    const double value = random.uniform();
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    ++bins[int(value * kBins)];
  }
  double chi = 0;
  for (const int n : bins) chi += std::pow(n - kCount / kBins, 2) / (kCount / kBins);
  CHECK(chi < 37.7);  // 15 degrees of freedom, 0.1 %
  int upper_half = 0;
  for (int i = 0; i < 1000; ++i) {
    const double value = random.uniform(-2, 3);
    REQUIRE(value >= -2);
    REQUIRE(value < 3);
    upper_half += value > 0.5;
  }
  CHECK(std::abs(upper_half - 500) < 80);
}

TEST_CASE("uniform integers are unbiased over any range", "[random]") {
  Random random(2);
  for (const int range : {1, 2, 3, 7, 10, 64}) {
    std::vector<int> counts(range, 0);
    const int draws = 3000 * range;
    for (int i = 0; i < draws; ++i) ++counts.at(size_t(random.uniform_int(-3, range - 3) + 3));
    double chi = 0;
    for (const int n : counts) chi += std::pow(n - 3000, 2) / 3000;
    CHECK(chi < range - 1 + 5 * std::sqrt(2.0 * range));
  }
  // Over 3/4 of all 64-bit numbers, plain remainders would hit the lower third twice as often as the rest.
  const int64_t low = INT64_MIN, high = int64_t{1} << 62;
  int lower_third = 0;
  for (int i = 0; i < 6000; ++i) lower_third += random.uniform_int(low, high) < low / 2;
  CHECK(std::abs(lower_third - 2000) < 200);
  CHECK(random.uniform_int(5, 6) == 5);
  CHECK_THROWS_AS(random.uniform_int(5, 5), UsageError);
  CHECK_THROWS_AS(random.uniform_int(5, 4), UsageError);
}

TEST_CASE("normal numbers have the normal moments", "[random]") {
  Random random(3);
  constexpr int kCount = 100000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.normal();
    REQUIRE(std::isfinite(x));
    m1 += x, m2 += x * x, m3 += x * x * x, m4 += x * x * x * x;
  }
  CHECK(m1 / kCount == Approx(0).margin(0.015));
  CHECK(m2 / kCount == Approx(1).margin(0.02));
  CHECK(m3 / kCount == Approx(0).margin(0.05));
  CHECK(m4 / kCount == Approx(3).margin(0.15));
}

TEST_CASE("bernoulli keeps to its probability", "[random]") {
  Random random(4);
  int hits = 0;
  for (int i = 0; i < 10000; ++i) hits += random.bernoulli(0.3);
  CHECK(std::abs(hits - 3000) < 200);
  CHECK_FALSE(random.bernoulli(0));
  CHECK(random.bernoulli(1));
}

TEST_CASE("uniform_at is the same for any order", "[random]") {
  double total = 0;
  std::set<float> distinct;
  for (uint64_t i = 0; i < 10000; ++i) {
    const float value = uniform_at(9, 1, i);
    REQUIRE(value >= 0);
    REQUIRE(value < 1);
    total += value;
    distinct.insert(value);
  }
  CHECK(total / 10000 == Approx(0.5).margin(0.02));
  CHECK(distinct.size() > 9980);
  CHECK(uniform_at(9, 1, 1234) == uniform_at(9, 1, 1234));
  CHECK(uniform_at(9, 1, 1234) != uniform_at(9, 2, 1234));
  CHECK(uniform_at(9, 1, uint64_t{1} << 40) != uniform_at(9, 1, 0));
}

TEST_CASE("seeking to a block gives the numbers that follow there", "[random]") {
  Random all(5, 6), later(5, 6);
  for (int i = 0; i < 14; ++i) all.normal();
  later.normal();  // they come in pairs, and the other one is not among those that follow
  later.seek_block(7);
  for (int i = 0; i < 5; ++i) CHECK(later.normal() == all.normal());
}

TEST_CASE("forks and normal numbers are the same in every version: runs go on with them", "[random]") {
  // By ten lines of Python over the same rounds: every half of seed, stream and tag counts.
  const Random parent(0x123456789abcdef0, 0xfedcba9876543210);
  CHECK(parent.fork(0x0f1e2d3c4b5a6978).next_u64() == 0xc283fe0c64d140ac);
  Random normal = parent;
  CHECK(normal.normal() == Approx(-0.5127497557637771).epsilon(1e-12));
  CHECK(normal.normal() == Approx(-0.35562632593010957).epsilon(1e-12));
}

TEST_CASE("seeking drops what was left of a block", "[random]") {
  Random fresh(5, 6), used(5, 6);
  used.next_u32();
  used.seek_block(0);
  CHECK(used.next_u32() == fresh.next_u32());
}
