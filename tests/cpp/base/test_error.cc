#include <doctest/doctest.h>

#include <locale>
#include <string>

#include "base/error.h"
#include "io/expect_error.h"

using namespace tinyzh;
using namespace tinyzh::testing;

TEST_CASE("error: a code, and a message of the parts") {
  expect_error(Code::queue_full, {"3 of 4.5 x"}, [] { fail(Code::queue_full, 3, " of ", 4.5, " x"); });
}

TEST_CASE("error: numbers in messages do not follow the process's locale") {
  struct Grouped : std::numpunct<char> {
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
    char do_decimal_point() const override { return ','; }
  };
  const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Grouped));
  const std::string text = concat(1234567, " ", 0.5);
  std::locale::global(before);
  CHECK(text == "1234567 0.5");
}
