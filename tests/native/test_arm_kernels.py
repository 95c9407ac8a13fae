"""The ARM kernels, built for 64-bit ARM and run in an emulator: their bits, and their instructions."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "arm_kernels.py"
FEWER = 3.1
"""How many times fewer instructions the kernels with dot products must need."""

MISSING = [tool for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f"needs {' and '.join(MISSING)}: apt-get install g++-aarch64-linux-gnu qemu-user",
)


@pytest.fixture(scope="module")
def arm() -> ModuleType:
    """The script, after it has built the core for ARM."""
    spec = importlib.util.spec_from_file_location("arm_kernels", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    script.build()
    return script


@pytest.mark.parametrize(
    ("core", "tables"),
    [("cortex-a72", ["portable", "neon"]), ("max", ["portable", "neon", "dotprod"])],
)
def test_all_tables_that_a_core_has_give_the_same_bits(arm: ModuleType, core: str, tables: list[str]) -> None:
    same, printed = arm.check(core)
    assert same, printed
    assert re.findall(r"^(\w+): \d+ results, 0 differ$", printed, re.M) == tables


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q8_0", "q4_k"])
@pytest.mark.parametrize("baseline", ["portable", "plain"])
def test_dot_products_need_few_instructions(arm: ModuleType, name: str, baseline: str) -> None:
    """Fewer than the portable kernels, and than a plain loop of which the compiler makes vectors."""
    before, after = (arm.instructions(kernels, name, 1) for kernels in (baseline, "dotprod"))
    assert before / after >= FEWER
