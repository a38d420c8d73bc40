#include "core/parallel.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <limits>
#include <mutex>
#include <set>
#include <thread>

#include "core/errors.h"
#include "support.h"

using namespace eq;

namespace {

std::set<std::pair<int64_t, int64_t>> chunks_of(int64_t count, int64_t grain) {
  std::set<std::pair<int64_t, int64_t>> chunks;
  std::mutex mutex;
  parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    std::lock_guard lock(mutex);
    if (!chunks.emplace(begin, end).second) FAIL_CHECK("chunk " << begin << " ran twice");
  });
  return chunks;
}

}  // namespace

TEST_CASE("chunks depend on the work, not on the threads", "[parallel]") {
  for (const int threads : {1, 2, 5}) {
    set_num_threads(threads);
    CHECK(chunks_of(10, 4) == std::set<std::pair<int64_t, int64_t>>{{0, 4}, {4, 8}, {8, 10}});
    CHECK(chunks_of(8, 4).size() == 2);
    CHECK(chunks_of(3, 100) == std::set<std::pair<int64_t, int64_t>>{{0, 3}});
    CHECK(chunks_of(3, 0).size() == 3);
    CHECK(chunks_of(0, 4).empty());
    CHECK(chunks_of(-5, 4).empty());
    CHECK(chunks_of(1000, 1).size() == 1000);
  }
  set_num_threads(2);
}

TEST_CASE("a reduction adds the parts in order", "[parallel]") {
  std::vector<float> values(100000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = 1.0f / float(i + 1);
  auto total = [&] {
    return parallel_reduce(
        int64_t(values.size()), 777, 0.0f,
        [&](int64_t begin, int64_t end) {
          float part = 0;
          for (int64_t i = begin; i < end; ++i) part += values[size_t(i)];
          return part;
        },
        [](float a, float b) { return a + b; });
  };
  set_num_threads(1);
  const float one = total();
  set_num_threads(2);
  CHECK(one == total());
  set_num_threads(7);
  CHECK(one == total());
  const auto count = [](int64_t begin, int64_t end) { return end - begin; };
  CHECK(parallel_reduce(int64_t{9}, 0, int64_t{0}, count, std::plus<>()) == 9);  // a grain of 0 is 1, as in parallel_for
  set_num_threads(2);
  CHECK(one == Approx(12.0901));
  CHECK(parallel_reduce(0, 8, 5, [](int64_t, int64_t) { return 1; }, [](int a, int b) { return a + b; }) == 5);
}

TEST_CASE("the exception of the lowest chunk arrives, whatever the threads", "[parallel]") {
  for (const int threads : {1, 2, 4}) {
    set_num_threads(threads);
    for (int round = 0; round < 20; ++round) {
      try {
        parallel_for(64, 1, [](int64_t begin, int64_t) {
          if (begin >= 3) throw DataError("bad item " + std::to_string(begin), "", "");
        });
        FAIL("nothing was thrown");
      } catch (const DataError& error) {
        CHECK(error.what_happened() == "bad item 3");
      }
    }
    std::atomic<int> ran = 0;  // the pool is as good as new afterwards
    parallel_for(10, 1, [&](int64_t, int64_t) { ++ran; });
    CHECK(ran == 10);
  }
  set_num_threads(2);
}

TEST_CASE("nested calls run in place", "[parallel]") {
  set_num_threads(2);
  std::vector<int> counts(16 * 32, 0);
  std::atomic<int> strangers = 0;
  parallel_for(16, 1, [&](int64_t outer, int64_t) {
    const auto self = std::this_thread::get_id();
    parallel_for(32, 1, [&](int64_t inner, int64_t) {
      if (std::this_thread::get_id() != self) ++strangers;
      ++counts[size_t(outer * 32 + inner)];
    });
  });
  CHECK(strangers == 0);
  CHECK(counts == std::vector<int>(16 * 32, 1));
}

TEST_CASE("a serial scope keeps everything on its thread", "[parallel]") {
  set_num_threads(2);
  const auto self = std::this_thread::get_id();
  bool stranger = false;
  {
    const SerialScope serial;
    parallel_for(32, 1, [&](int64_t, int64_t) {
      stranger = stranger || std::this_thread::get_id() != self;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // time for another thread to come
    });
  }
  CHECK_FALSE(stranger);
}

TEST_CASE("denormal numbers are flushed in every worker", "[parallel]") {
#if defined(__SSE__)
  set_num_threads(2);
  std::atomic<int> kept = 0;
  parallel_for(64, 1, [&](int64_t, int64_t) {
    volatile float tiny = std::numeric_limits<float>::min();
    if (tiny * 0.25f != 0) ++kept;
  });
  CHECK(kept == 0);
#endif
}

TEST_CASE("the caller's denormal numbers come back", "[parallel]") {
#if defined(__SSE__)
  const auto keeps = [] {
    volatile float tiny = std::numeric_limits<float>::min();
    return tiny * 0.25f != 0;
  };
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    parallel_for(64, 1, [](int64_t, int64_t) {});
    CHECK(keeps());
    CHECK_THROWS_AS(parallel_for(64, 1, [](int64_t, int64_t) { throw DataError("", "", ""); }), DataError);
    CHECK(keeps());
  }
  {
    const FlushDenormals flush;
    parallel_for(64, 1, [](int64_t, int64_t) {});
    CHECK_FALSE(keeps());
  }
  CHECK(keeps());
  set_num_threads(2);
#endif
}

TEST_CASE("OMP_NUM_THREADS is the default where it is a number of threads", "[parallel]") {
  const char* set = std::getenv("OMP_NUM_THREADS");
  const std::string before = set == nullptr ? "" : set;
  const auto with = [](const char* text) {
    setenv("OMP_NUM_THREADS", text, 1);
    return default_threads();
  };
  unsetenv("OMP_NUM_THREADS");
  const int cores = default_threads();
  CHECK(cores >= 1);
  CHECK(with("7") == 7);
  CHECK(with("3,2") == 3);
  for (const char* text : {"", "0", "-1", "1025", "4x", "many", "99999999999999999999"}) CHECK(with(text) == cores);
  set == nullptr ? unsetenv("OMP_NUM_THREADS") : setenv("OMP_NUM_THREADS", before.c_str(), 1);
}

TEST_CASE("the number of threads is checked", "[parallel]") {
  CHECK_THROWS_AS(set_num_threads(0), UsageError);
  CHECK_THROWS_AS(set_num_threads(-1), UsageError);
  CHECK_THROWS_AS(set_num_threads(1025), UsageError);
  set_num_threads(3);
  CHECK(num_threads() == 3);
  set_num_threads(2);
}

TEST_CASE("grains make chunks worth the target", "[parallel]") {
  CHECK(grain_for(16, 1600) == 100);
  CHECK(grain_for(1 << 30) == 1);
  CHECK(grain_for(0, 5) == 5);
}
