"""Check the ARM kernels and count their instructions on a machine that has no ARM processor.

    apt-get install g++-aarch64-linux-gnu qemu-user llvm-19
    .venv/bin/python scripts/arm_kernels.py check
    .venv/bin/python scripts/arm_kernels.py measure bench/arm/kernels.json
    .venv/bin/python scripts/arm_kernels.py table bench/arm/kernels.json

`check` builds the native core for 64-bit ARM into build/aarch64 and runs every kernel in an emulator: all
must give the bits of the portable kernels. `measure` counts instructions a weight and row: the emulator logs
each one of a kernel. "plain" is a loop over stored blocks that the compiler makes vectors of by itself
(tests/native/run_plain.cc), "plain_dotprod" the same where it may use dot products. Cycles are llvm-mca's
estimate for the loop over blocks, as if all data lay in the first cache.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TREE = ROOT / "build" / "aarch64"
PROGRAMS = TREE / "tests" / "native"
EMULATOR = "qemu-aarch64"
CORES = ("cortex-a72", "neoverse-n1", "max")
"""Emulated: without dot products, with them, with all that there is."""
KERNELS = ("portable", "neon", "dotprod")
PLAIN = ("plain", "plain_dotprod")
FORMATS = (
    "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs",
)  # fmt: skip
ROWS = (1, 8)
OUTPUTS, COLUMNS = 16, 1024
SYMBOLS = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1", "q4_k": "Q4_K"}
"""Formats that have a plain loop and whose loops are given to llvm-mca, by their C++ names."""
TOGETHER = {"neon": 2, "dotprod": 4}
"""Rows that a loop takes at most."""
MULTIPLIES = {"neon": ("smull|smlal", 8), "dotprod": ("sdot", 16)}
"""Of the kernels whose loops are estimated the instruction that multiplies, and its products."""
RATIOS = (("portable", "neon"), ("portable", "dotprod"), ("plain", "neon"), ("plain", "dotprod"))
JUMP = r"(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+, #\d+,)\s+([0-9a-f]+)$"
ITERATIONS = 200


def output(*command: str | Path) -> str:
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def build() -> None:
    """Build the programs of tests/native for 64-bit ARM."""
    beside = Path(sys.executable).parent
    cmake = shutil.which("cmake", path=str(beside)) or "cmake"
    ninja = shutil.which("ninja", path=str(beside)) or shutil.which("ninja") or "ninja"
    output(
        cmake, "-S", ROOT, "-B", TREE, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DFIVEFOLD_CHECKS=ON",
        f"-DCMAKE_TOOLCHAIN_FILE={ROOT / 'tests' / 'native' / 'aarch64.cmake'}",
    )  # fmt: skip
    output(cmake, "--build", TREE)


def check(core: str) -> tuple[bool, str]:
    """Whether all kernels that the emulated core has give the same bits, and what was printed."""
    command = [EMULATOR, "-cpu", core, str(PROGRAMS / "check_kernels")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


def executed(symbols: str, program: str, *words: str) -> int:
    """Instructions that a program of tests/native executes in functions whose names match."""
    listed = output("aarch64-linux-gnu-nm", "-S", "-C", PROGRAMS / program).splitlines()
    found = [line.split()[:2] for line in listed if re.search(symbols, line)]
    places = ",".join(f"0x{start}+0x{size}" for start, size in found)
    command = [EMULATOR, "-cpu", "max", "-singlestep", "-d", "exec,nochain", "-dfilter", places]
    lines = 0
    with subprocess.Popen([*command, PROGRAMS / program, *words], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while part := process.stderr.read(1 << 20):
            lines += part.count(b"\n")
    if process.returncode != 0:
        raise SystemExit(f"{program} {' '.join(words)} failed")
    return lines


def instructions(kernels: str, name: str, rows: int) -> float:
    """Instructions for one weight and row."""
    sizes = (str(rows), str(OUTPUTS), str(COLUMNS), "1")
    if kernels.startswith("plain"):
        count = executed(rf"plain_rows|::{name}\(", f"run_{kernels}", name, *sizes)
    else:
        count = executed(r"linear_int8", "run_linear", kernels, name, "int8", *sizes)
    return round(count / (rows * OUTPUTS * COLUMNS), 4)


def inner_loops(kernels: str, symbol: str) -> Iterator[list[str]]:
    """The loops of a format's linear kernel that hold no other loop, as assembly."""
    file = TREE / "CMakeFiles" / "fivefold_core.dir" / "native" / f"kernels_{kernels}.cc.o"
    text = output("aarch64-linux-gnu-objdump", "-d", "-C", "--no-show-raw-insn", file)
    name = rf"linear_int8(?:_rows)?<[^\n]*::{symbol}(?:, \d)?>"
    for function in re.finditer(rf"^\w+ <[^\n]*{name}\([^\n]*:\n(.*?)(?:\n\n|\Z)", text, re.M | re.S):
        lines = [line.split("\t", 1) for line in function[1].splitlines() if "\t" in line]
        code = {int(place.strip(" :"), 16): re.split(" <| +//", line)[0] for place, line in lines}
        jumps = [(int(found[1], 16), at) for at, line in code.items() if (found := re.match(JUMP, line))]
        loops = [(low, high) for low, high in jumps if min(code) <= low < high]
        for low, high in loops:
            if not any(low <= a and b <= high and (a, b) != (low, high) for a, b in loops):
                yield [line for at, line in code.items() if low <= at <= high]


def estimate(kernels: str, name: str, rows: int, mca: str, core: str) -> dict[str, Any] | None:
    """llvm-mca's figures of the loop that takes `rows` rows at a time, None if no loop is of that kind."""
    kind, products = MULTIPLIES[kernels]
    weights = 8 * 32 * rows  # of a tile and block
    for loop in inner_loops(kernels, SYMBOLS[name]):
        found = sum(bool(re.match(kind, line)) for line in loop) * products
        if not weights <= found < 1.2 * weights:  # a few more are in the offsets
            continue
        body = [re.sub(r"[0-9a-f]+$", ".Lloop", line) if re.match(JUMP, line) else line for line in loop]
        command = [mca, "-mtriple=aarch64-linux-gnu", f"-mcpu={core}", f"-iterations={ITERATIONS}"]
        source = ".Lloop:\n" + "\n".join(body) + "\n"
        done = subprocess.run(command, input=source, capture_output=True, text=True, check=True)
        total = re.search(r"Total Cycles:\s+(\d+)", done.stdout)
        assert total is not None
        cycles = int(total[1]) / ITERATIONS
        rate = round(weights / cycles, 1)
        return {"instructions": len(loop), "cycles": round(cycles, 1), "products_a_cycle": rate}
    return None


def columns_of(name: str) -> tuple[str, ...]:
    """What is counted for a format."""
    return (*KERNELS, *PLAIN) if name in SYMBOLS else KERNELS


def measure(given: argparse.Namespace) -> None:
    """Count, estimate, and keep the figures."""
    build()
    names = given.formats.split(",")
    counts = {
        name: {
            str(rows): {kernels: instructions(kernels, name, rows) for kernels in columns_of(name)}
            for rows in ROWS
        }
        for name in names
    }
    answer: dict[str, Any] = {
        "compiler": output("aarch64-linux-gnu-g++", "--version").splitlines()[0],
        "emulator": output(EMULATOR, "--version").splitlines()[0],
        "outputs": OUTPUTS,
        "columns": COLUMNS,
        "instructions_a_weight_and_row": counts,
    }
    if given.mca:
        answer["mca"] = next(
            line.strip() for line in output(given.mca, "--version").splitlines() if "version" in line
        )
        answer["core"] = given.core
        answer["loops"] = {
            name: {
                kernels: {
                    str(rows): estimate(kernels, name, rows, given.mca, given.core)
                    for rows in (1, TOGETHER[kernels])
                }
                for kernels in MULTIPLIES
            }
            for name in names
            if name in SYMBOLS
        }
    given.file.parent.mkdir(parents=True, exist_ok=True)
    given.file.write_text(json.dumps(answer, indent=1) + "\n")


def table(given: argparse.Namespace) -> None:
    """Print the figures in Markdown."""
    answer = json.loads(given.file.read_text())
    heads = ["format", "rows", *KERNELS, *PLAIN, *(f"{a} / {b}" for a, b in RATIOS)]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, by_rows in answer["instructions_a_weight_and_row"].items():
        for rows, counts in by_rows.items():
            cells = [f"{counts[key]:.3f}" if key in counts else "" for key in (*KERNELS, *PLAIN)]
            cells += [f"{counts[a] / counts[b]:.1f}" if a in counts else "" for a, b in RATIOS]
            print(f"| {name} | {rows} | {' | '.join(cells)} |")
    if "loops" not in answer:
        return
    print(f"\n| format | kernels | rows | instructions | cycles, {answer['core']} | products a cycle |")
    print("|---|---|---|---|---|---|")
    for name, by_kernels in answer["loops"].items():
        for kernels, by_rows in by_kernels.items():
            for rows, found in by_rows.items():
                if found is not None:
                    print(f"| {name} | {kernels} | {rows} |", " | ".join(map(str, found.values())), "|")


def check_all(given: argparse.Namespace) -> None:
    """Build, and compare bits on each emulated core."""
    build()
    right = True
    for core in given.cores.split(","):
        same, printed = check(core)
        print(f"{core}:\n{printed}", end="")
        right = right and same
    raise SystemExit(not right)


def main() -> None:
    """Check, measure or print, as the command line says."""
    options = argparse.ArgumentParser(description="ARM kernels, emulated.")
    parts = options.add_subparsers(required=True)
    run = parts.add_parser("check")
    run.add_argument("--cores", default=",".join(CORES))
    run.set_defaults(act=check_all)
    run = parts.add_parser("measure")
    run.add_argument("file", type=Path)
    run.add_argument("--formats", default=",".join(FORMATS))
    run.add_argument("--mca", default="llvm-mca-19", help="the program, or nothing to leave cycles out")
    run.add_argument("--core", default="neoverse-n1", help="the core that cycles are estimated for")
    run.set_defaults(act=measure)
    show = parts.add_parser("table")
    show.add_argument("file", type=Path)
    show.set_defaults(act=table)
    given = options.parse_args()
    given.act(given)


if __name__ == "__main__":
    main()
