#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "engine/prefix_cache.h"

using namespace tinyzh;

namespace {

constexpr size_t kPositions = 4;

struct Cache : PrefixCache {
  Cache() : PrefixCache(kPositions) {}
};

using Tokens = std::vector<int32_t>;

}  // namespace

TEST_CASE("page_pool: never more pages than the budget, and none is lost") {
  PagePool pool(64, 200);
  CHECK(pool.limit() == 3);
  CHECK(pool.allocated() == 0);
  {
    Page a = pool.take(), b = pool.take(), c = pool.take(), d = pool.take();
    CHECK(a);
    CHECK(b);
    CHECK(c);
    CHECK_FALSE(d);
    CHECK(a.data() != b.data());
    CHECK(pool.used() == 3);
    std::byte* const place = a.data();
    Page e = std::move(a);
    CHECK(e.data() == place);
    CHECK(pool.used() == 3);
    b = std::move(e);  // what b had goes when e goes
  }
  CHECK(pool.used() == 0);
  CHECK(pool.allocated() == 3);
  const Page again = pool.take();
  CHECK(pool.allocated() == 3);
}

TEST_CASE("prefix_cache: finds what was put in, by its tokens and what came before") {
  PagePool pool(64, 6400);
  Cache cache;
  auto* one = cache.insert(cache.root(), Tokens{1, 2, 3, 4}, pool.take());
  auto* two = cache.insert(one, Tokens{1, 2, 3, 4}, pool.take());
  REQUIRE(one != nullptr);
  CHECK(one != two);
  CHECK(cache.find(cache.root(), Tokens{1, 2, 3, 4}) == one);
  CHECK(cache.find(one, Tokens{1, 2, 3, 4}) == two);
  CHECK(cache.find(two, Tokens{1, 2, 3, 4}) == nullptr);
  CHECK(cache.find(cache.root(), Tokens{1, 2, 3, 5}) == nullptr);
  CHECK(pool.used() == 2);
  // The same tokens again: the first page stays, the second goes.
  std::byte* const page = one->page();
  CHECK(cache.insert(cache.root(), Tokens{1, 2, 3, 4}, pool.take()) == one);
  CHECK(one->page() == page);
  CHECK(pool.used() == 2);
  CHECK(cache.pages() == 2);
}

TEST_CASE("prefix_cache: pages that are not full, and the longest common beginning") {
  PagePool pool(64, 6400);
  Cache cache;
  auto* root = cache.root();
  cache.insert(root, Tokens{7, 8}, pool.take());
  CHECK(cache.insert(root, Tokens{7}, pool.take()) == nullptr);  // part of what is there
  CHECK(pool.used() == 1);
  auto* longer = cache.insert(root, Tokens{7, 8, 9}, pool.take());  // instead of the shorter one
  CHECK(pool.used() == 1);
  cache.insert(root, Tokens{7, 9, 9, 9}, pool.take());
  cache.insert(root, Tokens{1, 1, 1, 1}, pool.take());
  CHECK(cache.find_part(root, Tokens{7, 8, 9, 5}).node == longer);
  CHECK(cache.find_part(root, Tokens{7, 8, 9, 5}).count == 3);
  CHECK(cache.find_part(root, Tokens{7, 8}).count == 2);
  CHECK(cache.find_part(root, Tokens{7, 9, 8, 8}).count == 2);
  CHECK(cache.find_part(root, Tokens{7, 5, 5, 5}).count == 1);
  CHECK(cache.find_part(root, Tokens{6, 8, 9, 5}).count == 0);
  CHECK(cache.find_part(root, Tokens{}).count == 0);
}

TEST_CASE("prefix_cache: what is held stays with all before it; the rest goes, the least recently used first") {
  PagePool pool(64, 6400);
  Cache cache;
  auto* a = cache.insert(cache.root(), Tokens{1, 1, 1, 1}, pool.take());
  auto* b = cache.insert(a, Tokens{2, 2, 2, 2}, pool.take());
  auto* c = cache.insert(a, Tokens{3, 3, 3, 3}, pool.take());
  auto* d = cache.insert(cache.root(), Tokens{4, 4, 4, 4}, pool.take());
  for (auto* node : {c, b, d}) {  // used in this order
    cache.hold(node);
    cache.release(node);
  }
  cache.hold(b);
  CHECK(cache.reclaimable() == 2);
  CHECK(cache.evict());
  CHECK(cache.find(a, Tokens{3, 3, 3, 3}) == nullptr);
  CHECK(cache.evict());
  CHECK(cache.find(cache.root(), Tokens{4, 4, 4, 4}) == nullptr);
  CHECK_FALSE(cache.evict());
  CHECK(cache.reclaimable() == 0);
  CHECK(pool.used() == 2);
  cache.hold(b);
  cache.release(b);
  CHECK_FALSE(cache.evict());  // held twice
  cache.release(b);
  CHECK(cache.reclaimable() == 2);
  CHECK(cache.evict());
  CHECK(cache.find(cache.root(), Tokens{1, 1, 1, 1}) == a);  // the last page first
  CHECK(cache.evict());
  CHECK(pool.used() == 0);
  CHECK_FALSE(cache.evict());
}

TEST_CASE("prefix_cache: a random life agrees with a plain list of what is held") {
  std::mt19937 random(4);
  PagePool pool(64, 64 * 1000);
  Cache cache;
  std::vector<PrefixCache::Node*> held;
  for (int step = 0; step < 5000; ++step) {
    const unsigned what = random() % 4;
    if (what < 2) {  // a walk of full pages, held at its end
      auto* at = cache.root();
      for (unsigned depth = random() % 4 + 1; depth > 0; --depth) {
        const Tokens tokens(kPositions, static_cast<int32_t>(random() % 3));
        auto* next = cache.find(at, tokens);
        if (!next) next = cache.insert(at, tokens, pool.take());
        cache.hold(next);
        cache.release(at);
        at = next;
      }
      held.push_back(at);
    } else if (what == 2 && !held.empty()) {
      const size_t i = random() % held.size();
      cache.release(held[i]);
      held.erase(held.begin() + static_cast<ptrdiff_t>(i));
    } else {
      const size_t before = cache.reclaimable();
      CHECK(cache.evict() == (before > 0));
      CHECK(cache.reclaimable() == before - (before > 0));
    }
    REQUIRE(cache.pages() == pool.used());
    if (held.empty()) REQUIRE(cache.reclaimable() == cache.pages());
  }
  for (auto* node : held) cache.release(node);
  while (cache.evict()) {
  }
  CHECK(pool.used() == 0);
}
