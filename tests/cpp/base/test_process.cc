#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/process.h"

using namespace tinyzh;

TEST_CASE("process: a forked child is another process") {
  const int64_t here = process_id();
  CHECK(here == process_id());
  std::cout.flush();  // or the child has the reporter's words, too
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(process_id() == here ? 1 : 0);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
