// An Error of one code whose message holds all of some words.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

#include "base/error.h"

namespace tinyzh::testing {

template <class Action>
void expect_error(Code code, std::initializer_list<std::string> words, const Action& action) {
  std::string message;
  try {
    action();
    FAIL_CHECK("nothing was thrown");
    return;
  } catch (const Error& error) {
    CHECK(error.code() == code);
    message = error.what();
  }
  INFO(message);
  for (const std::string& word : words) {
    CAPTURE(word);
    CHECK(message.find(word) != std::string::npos);
  }
}

}  // namespace tinyzh::testing
