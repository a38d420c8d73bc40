#pragma once
// Deterministic mutations of valid files, for the fuzz tests. Input i of a run is a pure function of (seed, i).

#include <ctime>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "core/errors.h"
#include "core/random.h"
#include "support.h"

namespace eq::test {

inline std::string mutated(std::string bytes, const std::vector<std::string>& others, Random& random) {
  static const std::vector<uint64_t> kOdd = {0,
                                             1,
                                             2,
                                             0x7f,
                                             0x80,
                                             0xff,
                                             0x7fff,
                                             0x8000,
                                             0xffff,
                                             0x7fffffff,
                                             0x80000000,
                                             0xffffffff,
                                             0x7fffffffffffffff,
                                             0x8000000000000000,
                                             0xffffffffffffffff};
  auto place = [&](size_t end) { return size_t(random.uniform_int(0, int64_t(end) + 1)); };
  const int64_t changes = random.uniform_int(1, 6);
  for (int64_t change = 0; change < changes; ++change) {
    const size_t at = place(bytes.size()), length = std::min(bytes.size() - at, place(16));
    switch (random.uniform_int(0, 8)) {
      case 0:  // one bit
        if (at < bytes.size()) bytes[at] = char(bytes[at] ^ (1 << random.uniform_int(0, 8)));
        break;
      case 1:  // one byte
        if (at < bytes.size()) bytes[at] = char(random.next_u32());
        break;
      case 2: {  // a number at a limit, of 1, 2, 4 or 8 bytes, either end first
        std::string number;
        const uint64_t value = kOdd[size_t(random.uniform_int(0, int64_t(kOdd.size())))];
        for (int i = 0, count = 1 << random.uniform_int(0, 4); i < count; ++i) number += char(value >> 8 * i);
        if (random.bernoulli(0.5)) number.assign(number.rbegin(), number.rend());
        bytes.replace(at, std::min(number.size(), bytes.size() - at), number);
        break;
      }
      case 3: bytes.erase(at, length); break;
      case 4: bytes.insert(place(bytes.size()), bytes.substr(at, length)); break;  // a piece twice
      case 5: bytes.resize(at); break;                                            // the end lost
      case 6: {                                                                   // a piece of another file
        const std::string& other = others[size_t(random.uniform_int(0, int64_t(others.size())))];
        const size_t from = place(other.size());
        bytes.replace(at, length, other.substr(from, place(64)));
        break;
      }
      default: {  // a digit, for texts
        const size_t digit = bytes.find_first_of("0123456789", at);
        if (digit != std::string::npos) bytes[digit] = char('0' + random.uniform_int(0, 10));
      }
    }
  }
  return bytes;
}

// Calls read(input) for `count` mutations of `seeds` (each also once unchanged). Fails when one ends in anything but a
// value or an eq::Error, when one takes more than two seconds of this thread, or when all were accepted or all refused.
// `repair` may mend an input's checksums, so that mutations get past them.
inline void fuzz(const std::vector<std::string>& seeds, int count, uint64_t seed,
                 const std::function<void(const std::string&)>& read,
                 const std::function<void(std::string&)>& repair = nullptr) {
  auto seconds = [] {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
  };
  int accepted = 0, refused = 0;
  double slowest = 0;
  std::set<std::string> reasons;
  for (int i = -int(seeds.size()); i < count; ++i) {
    Random random(seed, uint64_t(i) + seeds.size());
    std::string input = seeds[size_t(i < 0 ? -i - 1 : random.uniform_int(0, int64_t(seeds.size())))];
    if (i >= 0) {
      input = mutated(std::move(input), seeds, random);
      if (repair != nullptr && random.bernoulli(0.8)) repair(input);
    }
    const double start = seconds();
    std::string failure;
    try {
      read(input);
      ++accepted;
    } catch (const Error& error) {
      if (i < 0) failure = error.what();
      reasons.insert(error.what_happened());
      ++refused;
    } catch (const std::exception& error) {
      failure = error.what();
    }
    slowest = std::max(slowest, seconds() - start);
    if (!failure.empty()) FAIL("input " << i << " of seed " << seed << ", " << input.size() << " bytes: " << failure);
  }
  INFO(accepted << " accepted, " << refused << " refused for " << reasons.size() << " reasons, slowest " << slowest
                << " s");
  CHECK(accepted > int(seeds.size()));
  CHECK(refused > 0);
  CHECK(reasons.size() > 5);
  CHECK(slowest < 2);
}

}  // namespace eq::test
