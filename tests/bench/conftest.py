"""What the tests of this room share: the fake server, and programs that pretend to be peers."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def fake_server() -> ModuleType:
    """The module `fake_server.py` beside this file."""
    spec = importlib.util.spec_from_file_location("fake_server", HERE / "fake_server.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a program of a name in a folder of its own; its text is a shell script."""

    def make(name: str, text: str) -> Path:
        path = tmp_path / "tools" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def interpreter(tmp_path: Path, program: Callable[[str, str], Path]) -> Callable[..., Path]:
    """Makes a Python interpreter in which modules of the given texts can be imported."""

    def make(**modules: str) -> Path:
        folder = tmp_path / "packages"
        folder.mkdir(exist_ok=True)
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(text)
        return program("python", f'exec env PYTHONPATH="{folder}" "{sys.executable}" "$@"')

    return make
