"""The house's measures of Python sources: sizes, docstrings, names, and the one door to the compiled core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "fivefold"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 8
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.Module) -> list[Function]:
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def parameters(function: Function) -> int:
    arguments = function.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in named if name not in {"self", "cls"}])


def is_command(function: Function) -> bool:
    """A command of the terminal: its parameters are its options, bounded by people's patience instead."""
    return any("command" in ast.unparse(decorator) for decorator in function.decorator_list)


def imported(tree: ast.Module) -> set[str]:
    """Every module or member that the file imports, as a full dotted name where it gives one."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module or ''}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_a_file_has_few_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for function in functions(tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{function.name} has {lines} lines"
        assert is_command(function) or parameters(function) <= PARAMETERS, (
            f"{function.name} takes {parameters(function)} parameters"
        )


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "the file opens without a docstring"


def test_no_room_has_an_empty_name() -> None:
    named = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}
    assert not named & BANNED_NAMES


def test_only_the_executor_touches_the_compiled_core() -> None:
    """Import contracts see no compiled modules, so this one is kept here."""
    touching = {
        path.relative_to(PACKAGE).parts[0]
        for path in SOURCES
        if any("_native" in name.split(".") for name in imported(ast.parse(path.read_text())))
    }
    assert touching <= {"executor"}


def test_the_environment_changes_nothing() -> None:
    """Configuration is decided once; only the model store asks where the user's cache folder is."""
    readers = {
        path.relative_to(PACKAGE).parts[0]
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
    }
    assert readers <= {"files"}


def test_test_files_have_names_of_their_own() -> None:
    """Tests are imported without packages, so two files of one name would be told apart by nothing."""
    names = [path.name for path in TESTS if path.name != "conftest.py"]
    assert len(names) == len(set(names))
