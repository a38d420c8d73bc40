#include "core/allocator.h"

#include <csignal>
#include <cstdlib>
#include <cstring>

#include "core/tensor.h"
#include "in_child.h"
#include "support.h"

using namespace eq;
using eq::test::in_child;

namespace {

// A device of its own with a counted and limited supply of memory.
struct Supply {
  size_t capacity = SIZE_MAX;
  size_t given = 0;
  int blocks = 0;
  std::map<void*, size_t> sizes;

  RawMemory raw() {
    return {[this](size_t bytes) -> void* {
              if (given + bytes > capacity) return nullptr;
              void* block = std::aligned_alloc(64, bytes);
              sizes[block] = bytes;
              given += bytes;
              ++blocks;
              return block;
            },
            [this](void* block) {
              given -= sizes.at(block);
              sizes.erase(block);
              --blocks;
              std::free(block);
            }};
  }
};

}  // namespace

TEST_CASE("blocks are aligned to 64 bytes and never null", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  std::vector<void*> blocks;
  for (const size_t bytes : {0, 1, 63, 64, 65, 1000, 4097, 100000, 1 << 20}) {
    blocks.push_back(memory.allocate(bytes));
    REQUIRE(blocks.back() != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(blocks.back()) % 64 == 0);
    std::memset(blocks.back(), 1, bytes);
  }
  memory.set_guards(true);
  blocks.push_back(memory.allocate(100));
  CHECK(reinterpret_cast<uintptr_t>(blocks.back()) % 64 == 0);
  for (void* block : blocks) memory.free(block);
  memory.free(nullptr);
}

TEST_CASE("blocks of about the same size are used again", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  void* first = memory.allocate(1000);
  const size_t active = memory.stats().active_bytes;
  CHECK(active >= 1000);
  CHECK(active <= 1125);
  memory.free(first);
  CHECK(memory.stats().active_bytes == 0);
  CHECK(memory.stats().cached_bytes == active);
  CHECK(memory.allocate(990) == first);
  CHECK(memory.stats().reused == 1);
  CHECK(memory.stats().allocations == 2);
  CHECK(memory.stats().cached_bytes == 0);
  memory.free(first);
  void* other = memory.allocate(5000);
  CHECK(other != first);
  CHECK(supply.blocks == 2);  // there was memory enough to keep what is cached
  memory.free(other);
  memory.release_cached();
  CHECK(supply.blocks == 0);
  CHECK(memory.stats().cached_bytes == 0);
}

TEST_CASE("rounding wastes at most an eighth", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  for (size_t bytes = 1; bytes < (size_t{1} << 24); bytes = bytes * 5 / 4 + 1) {
    const size_t before = memory.stats().active_bytes;
    void* block = memory.allocate(bytes);
    const size_t taken = memory.stats().active_bytes - before;
    if (taken < bytes || taken > bytes + std::max<size_t>(64, bytes / 8 + 1)) FAIL_CHECK(bytes << " takes " << taken);
    memory.free(block);
  }
}

TEST_CASE("the peak is the highest use since the last reset", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  void* a = memory.allocate(1024);
  void* b = memory.allocate(2048);
  memory.free(b);
  memory.free(memory.allocate(64));
  CHECK(memory.stats().peak_bytes == 3072);
  CHECK(memory.stats().active_bytes == 1024);
  memory.reset_peak();
  CHECK(memory.stats().peak_bytes == 1024);
  b = memory.allocate(512);
  CHECK(memory.stats().peak_bytes == 1536);
  memory.free(a);
  memory.free(b);
}

TEST_CASE("a limit counts active and cached memory, and the cache gives way", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  memory.set_limit(4096);
  CHECK(memory.limit() == 4096);
  void* a = memory.allocate(2048);
  void* b = memory.allocate(1024);
  memory.free(b);
  void* c = memory.allocate(2048);  // fits only without the cached block
  CHECK(memory.stats().cached_bytes == 0);
  CHECK(supply.blocks == 2);
  CHECK_THROWS_AS(memory.allocate(64), OutOfMemoryError);
  memory.free(c);
  CHECK_NOTHROW(memory.free(memory.allocate(1024)));
  memory.set_limit(0);
  CHECK_NOTHROW(memory.free(memory.allocate(1 << 20)));
  memory.free(a);
}

TEST_CASE("when the device has no more, the cache is flushed and the request tried again", "[allocator]") {
  Supply supply;
  supply.capacity = 4096;
  CachingAllocator memory(Device::cpu(), supply.raw());
  memory.free(memory.allocate(3072));
  CHECK(supply.given == 3072);
  void* block = memory.allocate(2048);
  CHECK(supply.given == 2048);
  CHECK_THROWS_AS(memory.allocate(4096), OutOfMemoryError);
  CHECK(memory.stats().active_bytes == 2048);
  memory.free(block);
}

TEST_CASE("an out-of-memory error tells the amounts", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  memory.set_limit(size_t{3} << 20);
  void* block = memory.allocate(size_t{2} << 20);
  try {
    memory.allocate(size_t{5} << 19);
    FAIL("nothing was thrown");
  } catch (const OutOfMemoryError& error) {
    CHECK_THAT(error.what_happened(), Catch::Contains("2.5 MiB") && Catch::Contains("cpu"));
    CHECK_THAT(error.where(), Catch::Contains("2.0 MiB active") && Catch::Contains("0.0 MiB cached") &&
                                  Catch::Contains("limit 3.0 MiB"));
    CHECK_FALSE(error.try_this().empty());
    CHECK(error.exit_code() == 5);
  }
  CHECK_THROWS_AS(memory.allocate(SIZE_MAX), OutOfMemoryError);
  CHECK_THROWS_AS(memory.allocate(SIZE_MAX - 100), OutOfMemoryError);
  memory.free(block);
}

TEST_CASE("a failure hook makes chosen requests fail", "[allocator]") {
  std::vector<size_t> requests;
  allocator().set_failure_hook([&](size_t bytes) {
    requests.push_back(bytes);
    return bytes == 400;
  });
  CHECK_NOTHROW(Tensor::empty({50}));
  CHECK_THROWS_AS(Tensor::empty({100}), OutOfMemoryError);
  const size_t active = allocator().stats().active_bytes;
  CHECK_THROWS_AS(Tensor::zeros({100}), OutOfMemoryError);
  CHECK(allocator().stats().active_bytes == active);
  allocator().set_failure_hook(nullptr);
  CHECK(requests == std::vector<size_t>{200, 400, 400});
  CHECK_NOTHROW(Tensor::empty({100}));
}

TEST_CASE("guards find writes outside a block", "[allocator]") {
  auto write_at = [](size_t size, ptrdiff_t where) {
    return in_child([=] {
      Supply supply;
      CachingAllocator memory(Device::cpu(), supply.raw());
      memory.set_guards(true);
      memory.free(memory.allocate(size - size / 10));  // a cached block of the same class, with another end
      auto* block = static_cast<volatile unsigned char*>(memory.allocate(size));
      block[where] = 0;
      memory.free(const_cast<unsigned char*>(block));
    });
  };
  for (const size_t size : {100, 64, 1000}) {
    INFO("a block of " << size << " bytes");
    CHECK(write_at(size, 0).first == 0);
    CHECK(write_at(size, ptrdiff_t(size) - 1).first == 0);
    for (const ptrdiff_t where : {ptrdiff_t(-1), ptrdiff_t(-64), ptrdiff_t(size), ptrdiff_t(size) + 40}) {
      const auto [status, text] = write_at(size, where);
      INFO("a write at " << where);
      CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
      CHECK_THAT(text,
                 Catch::Contains(where < 0 ? "before" : "behind") && Catch::Contains(std::to_string(size) + " bytes"));
    }
  }
}

TEST_CASE("freeing twice is found", "[allocator]") {
  const auto [status, text] = in_child([] {
    Supply supply;
    CachingAllocator memory(Device::cpu(), supply.raw());
    void* block = memory.allocate(100);
    memory.free(block);
    memory.free(block);
  });
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
  CHECK_THAT(text, Catch::Contains("freed twice"));
}

TEST_CASE("tensors give their memory back", "[allocator]") {
  const size_t before = allocator().stats().active_bytes;
  {
    const Tensor x = Tensor::zeros({1000});
    const Tensor view = x.alias({10});
    CHECK(allocator().stats().active_bytes >= before + 4000);
  }
  CHECK(allocator().stats().active_bytes == before);
}

TEST_CASE("guarded and bare blocks are not taken for each other", "[allocator]") {
  Supply supply;
  CachingAllocator memory(Device::cpu(), supply.raw());
  void* bare = memory.allocate(100);
  memory.free(bare);
  memory.set_guards(true);
  void* guarded = memory.allocate(100);
  CHECK(guarded != bare);
  CHECK(memory.stats().reused == 0);
  memory.free(guarded);
  memory.set_guards(false);
  void* again = memory.allocate(100);
  CHECK(again == bare);
  memory.free(again);
}
