#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "cuda/block_memory.h"

using namespace tinyzh;
using namespace tinyzh::cuda;

TEST_CASE("block memory: blocks are apart from each other, and come back") {
  BlockMemory memory(256, 3);
  const Allocator allocator = memory.allocator();
  std::set<void*> seen;
  std::vector<void*> blocks;
  for (int i = 0; i < 7; ++i) {
    void* const block = allocator.allocate(allocator.user, 256, 64);
    std::memset(block, i, 256);
    blocks.push_back(block);
    seen.insert(block);
  }
  CHECK(seen.size() == 7);
  for (int i = 0; i < 7; ++i)
    for (int k = 0; k < 256; ++k) REQUIRE(static_cast<unsigned char*>(blocks[static_cast<size_t>(i)])[k] == i);
  for (void* block : blocks) allocator.release(allocator.user, block, 256);
  for (int i = 0; i < 9; ++i) seen.insert(allocator.allocate(allocator.user, 256, 64));
  CHECK(seen.size() == 9);  // two that were there and not given out before
  CHECK(allocator.allocate(allocator.user, 128, 64) == nullptr);
}

TEST_CASE("block memory: less at once where there is not enough, and none at the end") {
  size_t left = 6 * 256;
  const Allocator little{[](void* user, size_t size, size_t alignment) -> void* {
                           size_t& rest = *static_cast<size_t*>(user);
                           if (size > rest) return nullptr;
                           rest -= size;
                           return Allocator::system().allocate(nullptr, size, alignment);
                         },
                         [](void*, void* block, size_t size) { Allocator::system().release(nullptr, block, size); }, &left};
  BlockMemory memory(256, 8, little);
  const Allocator allocator = memory.allocator();
  for (int i = 0; i < 6; ++i) CHECK(allocator.allocate(allocator.user, 256, 64) != nullptr);  // 4 and 2
  CHECK(left == 0);
  CHECK(allocator.allocate(allocator.user, 256, 64) == nullptr);
}

TEST_CASE("block memory: threads take blocks and give them back at once") {
  BlockMemory memory(256, 2);
  const Allocator allocator = memory.allocator();
  std::vector<int> shared(4);  // blocks that somebody else wrote to, by thread
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        auto* const block = static_cast<unsigned char*>(allocator.allocate(allocator.user, 256, 64));
        std::memset(block, t, 256);
        for (int k = 0; k < 256; ++k) shared[static_cast<size_t>(t)] += block[k] != t;
        allocator.release(allocator.user, block, 256);
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(shared == std::vector<int>(4));
}
