#include <doctest/doctest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "engine/window.h"
#include "io/expect_error.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

std::vector<int32_t> numbered(size_t n, int32_t first = 0) {
  std::vector<int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}
std::span<const int32_t> first_of(std::span<const int32_t> tokens, size_t n) { return tokens.first(n); }
std::vector<int32_t> seen_by(const Window& window) { return {window.tokens().begin(), window.tokens().end()}; }

// Computes the next n tokens: their slots of a page are marked with their number.
void compute(Window& window, size_t n) {
  REQUIRE(window.reserve(window.computed() + n));
  for (size_t i = window.computed(); i < window.computed() + n; ++i)
    window.table()[i / kBlockPositions][i % kBlockPositions] = static_cast<std::byte>(window.tokens()[i]);
  window.advance(n);
}
bool intact(const Window& window) {
  for (size_t i = 0; i < window.computed(); ++i)
    if (window.table()[i / kBlockPositions][i % kBlockPositions] != static_cast<std::byte>(window.tokens()[i])) return false;
  return true;
}

constexpr size_t kPage = 64;

}  // namespace

TEST_CASE("window: what is seen under shift depends on the number of tokens alone") {
  for (size_t context : {1, 2, 3, 7, 8, 16, 40, 64}) {
    CAPTURE(context);
    Pages pages(kPage, 1 << 20);
    const std::vector<int32_t> tokens = numbered(5 * context + 3);
    Window window(first_of(tokens, 1), context, Overflow::shift, pages);
    for (size_t n = 2; n <= tokens.size(); ++n) {
      CHECK(window.push(tokens[n - 1]));
      const Window direct(first_of(tokens, n), context, Overflow::shift, pages);
      REQUIRE(seen_by(window) == seen_by(direct));
      const std::vector<int32_t> seen = seen_by(window);
      REQUIRE(seen.size() <= context);
      REQUIRE(seen.back() == tokens[n - 1]);
      if (n > context) {
        const size_t first = ShiftedWindow::first(context);
        REQUIRE(std::equal(seen.begin(), seen.begin() + static_cast<ptrdiff_t>(first), tokens.begin()));
        REQUIRE(seen.size() > first + ShiftedWindow::last(context));
        for (size_t i = first + 1; i < seen.size(); ++i) REQUIRE(seen[i] == seen[i - 1] + 1);
      }
    }
  }
}

TEST_CASE("window: under stop the context is the end") {
  Pages pages(kPage, 1 << 20);
  const std::vector<int32_t> tokens = numbered(9);
  expect_error(Code::context_full, {"9 tokens", "8", "1 tokens"}, [&] { Window(tokens, 8, Overflow::stop, pages); });
  Window window(first_of(tokens, 7), 8, Overflow::stop, pages);
  CHECK(window.push(7));
  CHECK_FALSE(window.push(8));
  CHECK(seen_by(window) == numbered(8));
}

TEST_CASE("window: whole pages are shared, a part of a page is copied, and the last token is always computed") {
  Pages pages(kPage, 1 << 20);
  std::vector<int32_t> tokens = numbered(40);
  Window first(tokens, 100, Overflow::stop, pages);
  compute(first, 40);
  CHECK(first.pages() == 3);

  Window same(tokens, 100, Overflow::stop, pages);
  CHECK(same.shareable(SIZE_MAX) == 32);
  same.share(SIZE_MAX);
  CHECK(same.computed() == 32);
  CHECK(same.table()[1] == first.table()[1]);
  same.copy_part(SIZE_MAX);
  CHECK(same.computed() == 32);  // the third page is still the first one's own
  first.let_go();
  same.copy_part(SIZE_MAX);
  CHECK(same.computed() == 39);  // not 40: its logits are wanted
  CHECK(intact(same));

  tokens[35] = 99;
  Window other(tokens, 100, Overflow::stop, pages);
  other.share(20);
  CHECK(other.computed() == 16);  // no more than was asked
  other.let_go();
  other.share(SIZE_MAX);
  other.copy_part(SIZE_MAX);
  CHECK(other.computed() == 35);
  compute(other, 5);
  CHECK(intact(other));
  CHECK(intact(same));  // nobody writes into another one's page
  CHECK(pages.pool().used() == 5);  // two shared, the first one's third, and one each
}

TEST_CASE("window: two that compute the same at the same time end with one page") {
  Pages pages(kPage, 1 << 20);
  const std::vector<int32_t> tokens = numbered(20);
  Window a(tokens, 100, Overflow::stop, pages), b(tokens, 100, Overflow::stop, pages);
  compute(a, 17);
  CHECK(pages.pool().used() == 2);
  compute(b, 17);
  CHECK(a.table()[0] == b.table()[0]);
  CHECK(a.table()[1] != b.table()[1]);
  CHECK(pages.pool().used() == 3);
  CHECK(intact(b));
}

TEST_CASE("window: memory is what nobody holds, and never more than the budget") {
  Pages pages(kPage, 4 * kPage);
  const std::vector<int32_t> tokens = numbered(100);
  Window a(tokens, 100, Overflow::stop, pages);
  compute(a, 60);
  CHECK(pages.available() == 0);
  const std::vector<int32_t> others = numbered(30, 50);
  Window b(others, 100, Overflow::stop, pages);
  CHECK_FALSE(b.reserve(1));
  a.let_go();
  CHECK(pages.available() == 4);
  CHECK(pages.pool().used() == 4);  // kept, while nobody needs the memory
  compute(b, 30);
  CHECK(pages.pool().used() == 4);
  a.share(SIZE_MAX);
  CHECK(a.computed() == 32);  // the later pages went first
  CHECK(intact(a));
  CHECK(intact(b));
}

TEST_CASE("window: room for a copy is not made of the page that is to be copied") {
  Pages pages(kPage, kPage);
  const std::vector<int32_t> tokens = numbered(12);
  Window a(tokens, 100, Overflow::stop, pages);
  compute(a, 10);
  a.let_go();
  Window b(tokens, 100, Overflow::stop, pages);
  b.copy_part(SIZE_MAX);
  CHECK(b.computed() == 0);
  CHECK(pages.prefixes().reclaimable() == 1);
  compute(b, 12);
  CHECK(intact(b));
}

TEST_CASE("window: under shift the first tokens are found again") {
  Pages pages(kPage, 1 << 20);
  const std::vector<int32_t> tokens = numbered(127);
  Window window(tokens, 128, Overflow::shift, pages);
  compute(window, 127);
  CHECK(window.push(127));
  CHECK(window.push(128));  // shifted: the first 16 and the last 64
  CHECK(window.tokens().size() == 16 + 64 + 1);
  CHECK(window.computed() == 16);
  CHECK(intact(window));
}
