"""The house's measures of C++ sources: file sizes, and which way includes may point."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
SOURCES = sorted(path for path in NATIVE.rglob("*") if path.suffix in {".h", ".cc"})
FILE_LINES = 400
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
INTRINSICS = {"immintrin.h", "x86intrin.h", "arm_neon.h"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def includes(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text())


def test_there_are_sources() -> None:
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_has_few_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_says_what_it_is(path: Path) -> None:
    """A source with a header of its own name is told about there."""
    assert (path.with_suffix(".h") in SOURCES and path.suffix == ".cc") or path.read_text().startswith("//")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_bindings_know_python(path: Path) -> None:
    python = [name for name in includes(path) if name == "Python.h" or name.startswith("nanobind/")]
    assert not python or path.stem.partition("_")[0] == "bind"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_kernels_and_formats_know_nothing_above_them(path: Path) -> None:
    """Formats and the vector wrapper lie at the bottom, kernels on them, the executor and bindings on top."""
    floor = path.relative_to(NATIVE).parts[0]
    own = [name for name in includes(path) if (NATIVE / name).exists()]
    if floor in {"formats", "simd", "simd.h"}:
        assert all(name.startswith(("formats/", "simd", "half.h")) for name in own), own
    if floor == "kernels":
        allowed = ("formats/", "kernels/", "simd", "half.h", "kernels.h")
        assert all(name.startswith(allowed) for name in own), own
    assert not any(name.startswith("bind") for name in own) or path.stem.partition("_")[0] == "bind"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_intrinsics_stay_in_their_instruction_set(path: Path) -> None:
    """A wide instruction in general code would crash a processor without it."""
    if INTRINSICS & set(includes(path)):
        assert path.relative_to(NATIVE).parts[0] in {"simd", "cpu.cc", "thread_pool.cc", "thread_pool.h"}
