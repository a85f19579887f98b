"""What nvcc makes of the kernels: registers, shared memory and spills, for every architecture.

    python tests/cuda/resources.py            compares with csrc/cuda/resources.txt
    python tests/cuda/resources.py --write    writes it

Warnings are errors. The table is that of one version of nvcc, which it names; another one's numbers
are shown beside it and compared only for spills, of which there must be none.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "csrc" / "cuda" / "resources.txt"
SOURCE = ROOT / "csrc" / "cuda" / "launch.cu"
WANTED = (75, 80, 86, 89, 90, 100, 120)
OPTIONS = ("-std=c++20", "-O3", "-fmad=false", f"-I{ROOT / 'csrc'}", "-Werror", "all-warnings")


def run(*command: str) -> str:
    """What a command prints; its failure ends the program."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def architectures() -> list[int]:
    """Those wanted that this nvcc knows."""
    known = {int(n) for n in re.findall(r"sm_(\d+)", run("nvcc", "--list-gpu-code"))}
    return [a for a in WANTED if a in known]


#: Arguments of templates as compilers write them, and what they mean here.
ARGUMENTS = {
    "f": "fp32",
    "t": "fp16",
    "a": "int8",
    "NS0_7Float16E": "fp16",
    "NS0_8Bfloat16E": "bf16",
    "Lb1E": "ordered",
    "Lb0E": "free",
    "Lj1E": "8 rows",
    "Lj4E": "32 rows",
    "Lj8E": "64 rows",
}


def name_of(symbol: str) -> str:
    """``attend fp32`` of the symbol of ``attend_kernel<float>``."""
    kernel, rest = re.findall(r"4cuda\d+([a-z_][a-z_0-9]*)_kernel(.*)", symbol)[0]
    if not rest.startswith("I"):
        return str(kernel)
    names, rest = [kernel], rest[1:]
    while not rest.startswith("E"):
        argument = next((a for a in ARGUMENTS if rest.startswith(a)), None)
        if argument is None:
            sys.exit(f"{symbol}: add the arguments of its template to {Path(__file__).name}")
        names.append(ARGUMENTS[argument])
        rest = rest.removeprefix(argument)
    return " ".join(names)


def resources() -> dict[str, str]:
    """Kernel and architecture -> registers, shared memory, spills."""
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures()]
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "launch.o"))
        text = run("nvcc", *OPTIONS, *targets, "-Xptxas", "-v", "-c", str(SOURCE), "-o", out)
    found = {}
    for part in text.split("Compiling entry function")[1:]:
        symbol, architecture = re.findall(r"'(\S+)' for 'sm_(\d+)'", part)[0]
        kernel = name_of(symbol)
        stores, loads = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part)[0]
        registers = re.findall(r"Used (\d+) registers", part)[0]
        shared = (re.findall(r"(\d+) bytes smem", part) or ["0"])[0]
        found[f"sm_{architecture:<4} {kernel:<26}"] = (
            f"{registers:>3} registers {shared:>5} shared {int(stores) + int(loads):>3} spilled"
        )
    return dict(sorted(found.items()))


def main() -> None:
    """Writes or compares the table."""
    version = re.findall(r"release (\S+),", run("nvcc", "--version"))[0]
    found = resources()
    if not found:
        sys.exit("nvcc compiled no kernel")
    table = f"nvcc {version}\n" + "".join(f"{name} {value}\n" for name, value in found.items())
    if sys.argv[1:] == ["--write"]:
        TABLE.write_text(table, encoding="utf-8")
        return
    print(table, end="")
    if any(not value.endswith("   0 spilled") for value in found.values()):
        sys.exit("registers are spilled")
    expected = TABLE.read_text(encoding="utf-8")
    if expected.splitlines()[0] != table.splitlines()[0]:
        print(f"not compared: the table is that of {expected.splitlines()[0]}")
    elif expected != table:
        sys.exit(f"differs from {TABLE.relative_to(ROOT)}; --write takes it over")


if __name__ == "__main__":
    main()
