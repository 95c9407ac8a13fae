"""`bench kernels`: figures that follow from each other, under documented keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fivefold.cli.app import status
from fivefold.executor import Probes, choose_isa

PAGE = Path(__file__).parents[2] / "docs" / "bench.md"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert status(["bench", "kernels", *arguments]) == 0
    return capsys.readouterr().out


def test_figures_follow_from_the_times(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ("--formats", "q4_0,f32", "--rows", "1,4,16", "--size", "2", "--rounds", "1", "--threads", "2")
    answer: dict[str, Any] = json.loads(
        told(capsys, *asked, "--json", "-", "--picture", str(tmp_path / "k.png"))
    )
    assert (tmp_path / "k.png").stat().st_size > 1000
    assert list(answer["formats"]) == ["q4_0", "f32"]
    assert [answer["formats"][form]["numbers"] for form in answer["formats"]] == ["int8", "float"]
    weights = 2048 * 2048
    for found in answer["formats"].values():
        copies = round(found["weight_bytes"] / (weights * (0.5625 if found["numbers"] == "int8" else 4)))
        assert [line["rows"] for line in found["rows"]] == [1, 4, 16]
        for line in found["rows"]:
            seconds = line["seconds"]
            assert seconds > 0
            assert line["bytes_per_second"] == pytest.approx(found["weight_bytes"] / seconds, rel=1e-3)
            products = weights * copies * line["rows"] / seconds / found["clock"] / 2
            assert line["products_per_cycle"] == pytest.approx(products, rel=0.01, abs=0.01)
            least = max(
                found["weight_bytes"] / found["read_bandwidth"],
                weights * copies * line["rows"] / (found["peak_products_per_cycle"] * 2 * found["clock"]),
            )
            assert line["share_of_roofline"] == pytest.approx(least / seconds, rel=0.02, abs=0.002)
        assert found["rows"][0]["over_one_row"] == 1.0
    words = PAGE.read_text()
    line_keys = answer["formats"]["f32"]["rows"][0]
    for key in (*answer, *answer["formats"]["f32"], *line_keys):
        assert f"`{key}`" in words, f"docs/bench.md does not tell of {key}"


def test_the_table_names_each_number_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "--formats", "q8_0", "--rows", "1,2", "--size", "1", "--rounds", "1").splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--formats", "q9"], "'q9' is not known"),
        (["--rows", "2,4"], "'2,4' are no rising numbers"),
        (["--rows", "1,1"], "'1,1' are no rising numbers"),
        (["--rows", "1,x"], "'1,x' are no rising numbers"),
        (["--rows", "1,100000"], "from 1 to 4096"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["bench", "kernels", *arguments]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_the_limits_are_plausible() -> None:
    """A wider instruction set makes no fewer products; a clock is between 100 MHz and 10 GHz."""
    probes = Probes(choose_isa("auto"), 1, "int8")
    assert 1e8 < probes.clock() < 1e10
    assert probes.peak("int8") > 1e8
    assert probes.peak("float") > 1e8
    with pytest.raises(ValueError, match="numbers"):
        probes.peak("bf16")
