// Recognising files that were given by mistake, by how they begin.  This only chooses the words of an error
// message: nothing is read further because of it, and a wrong guess costs nobody a file that works.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tinyzh {

struct Foreign {
  std::string_view kind;    // "an HTML or XML page, …"; empty: nothing known
  std::string_view remedy;  // what to do about it
  bool always = false;      // the remedy is right whatever file was wanted; otherwise only where a model was
};

Foreign what_is(std::span<const std::byte> bytes);

// "KIND; REMEDY" where a model was wanted; empty when it is nothing known.
std::string describe_foreign(std::span<const std::byte> bytes);

}  // namespace tinyzh
