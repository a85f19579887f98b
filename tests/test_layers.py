"""What lies below never knows what lies above, and only some files know POSIX."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[1] / "csrc"

# From the foundation up: a directory may include itself and those before it.  kernels comes before
# quant, since an int8 matrix is laid out for the kernels and made of their types
# (kernels/kernels.h); quant comes after io, since converting a checkpoint reads and writes one;
# sample comes before model, since a device may draw tokens itself.
ORDER = ["base", "io", "kernels", "quant", "sample", "model", "cuda", "text", "engine"]
ORDER += ["capi", "bindings"]

POSIX_HEADERS = re.compile(
    r"(unistd|fcntl|sched|pthread|dirent|dlfcn|poll|signal|termios|ucontext)\.h|(sys|netinet|arpa)/\w+\.h"
)
# Names that only POSIX has, however they are called; and names that C++ code may have for itself,
# which are the system's when they begin with ::.
POSIX_CALLS = re.compile(
    r"(?<![\w.>])(?:(?:mmap|munmap|mprotect|madvise|mlock|fstat|lstat|fsync|ftruncate|mkstemps?|fork"
    r"|getpid|sysconf|nanosleep|usleep|sched_\w+|pthread_\w+|setenv|unsetenv)"
    r"|(?<!\w)::(?:open|close|read|write|stat|rename|unlink|fdopen|chmod|access|kill|signal))\s*\("
)


def sources() -> list[Path]:
    return sorted(p for p in CSRC.rglob("*") if p.suffix in {".h", ".cc", ".cu", ".cuh"})


def includes(text: str) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.MULTILINE)


def code(text: str) -> str:
    """The text without comments and the insides of strings."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
    return re.sub(pattern, lambda m: '""' if m[0][0] == '"' else " ", text, flags=re.DOTALL)


def upward_includes(directory: str, text: str) -> list[str]:
    below = ORDER[: ORDER.index(directory) + 1]
    project = [name for name in includes(text) if name.split("/")[0] in ORDER]
    return [name for name in project if name.split("/")[0] not in below]


def posix_uses(text: str) -> list[str]:
    headers = [name for name in includes(text) if POSIX_HEADERS.fullmatch(name)]
    return headers + [match[0] for match in POSIX_CALLS.finditer(code(text))]


def test_the_order_names_every_directory() -> None:
    assert sorted(ORDER) == sorted(p.name for p in CSRC.iterdir() if p.is_dir())
    assert len(sources()) > 40


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(CSRC)))
def test_includes_point_downwards(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert upward_includes(path.relative_to(CSRC).parts[0], text) == []
    quoted = re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE)
    missing = [name for name in quoted if not (CSRC / name).exists()]
    assert missing == [], "a header of the project is included by its path from csrc/"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(CSRC)))
def test_posix_stays_in_its_files(path: Path) -> None:
    uses = posix_uses(path.read_text(encoding="utf-8"))
    if path.name.endswith("_posix.cc"):
        assert uses, "a _posix.cc file without anything of POSIX does not need the name"
    else:
        assert uses == [], f"move what needs the system to a {path.stem}_posix.cc"


def test_an_include_that_points_upwards_is_seen() -> None:
    text = '#include "base/error.h"\n# include <engine/engine.h>\n#include <vector>\n'
    assert upward_includes("model", text) == ["engine/engine.h"]
    assert upward_includes("bindings", text) == []
    assert upward_includes("kernels", '#include "quant/q8.h"\n') == ["quant/q8.h"]
    assert upward_includes("quant", '#include "kernels/kernels.h"\n') == []


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("#include <unistd.h>\n", ["unistd.h"]),
        ("#include <sys/mman.h>\n", ["sys/mman.h"]),
        ("void* p = ::mmap(nullptr, n, 1, 2, fd, 0);", ["::mmap("]),
        ("if (fstat(fd, &s) != 0) return;", ["fstat("]),
        ("sched_getaffinity(0, sizeof set, &set);", ["sched_getaffinity("]),
        ("int fd = ::open(path, 0);", ["::open("]),
        ("file.open(path); engine.close(); this->close(); close();", []),
        ("Engine::close() { std::rename(a, b); }", []),
        ('// mmap(0) is elsewhere\nfail("mmap(", x);', []),
        ("#include <cstdio>\n#include <thread>\n", []),
    ],
)
def test_what_counts_as_posix(text: str, uses: list[str]) -> None:
    assert [u.removeprefix("::") for u in posix_uses(text)] == [u.removeprefix("::") for u in uses]
