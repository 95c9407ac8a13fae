"""Parallel decoding measured on a tiny model: the figures' keys and arithmetic, prompts of all domains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fivefold.bench import draw
from fivefold.bench.parallel import DOMAINS, Parallel, domain_prompts, measure_parallel, parallel_lines
from fivefold.chat import ChatTemplate
from fivefold.core.errors import InputError
from fivefold.engine import LoadedModel, LoadOptions, load
from fivefold.exercises import Text

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
SMALL = Parallel(tokens=12, requests=4, rounds=1, rows=4, few=2, draws=60, tested=2)
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(TINY, LoadOptions(threads=1, entries=512))


def test_figures_of_all_parts(loaded: LoadedModel, tmp_path: Path) -> None:
    prompts = {
        "general": [(5, 9, 7), (11, 3), (8, 8, 8, 8)],
        "quoting": [(5, 6, 7, 8, 5, 6, 7, 8, 5, 6)] * 2,
    }
    answer = json.loads(json.dumps(measure_parallel(loaded, prompts, SMALL)))
    assert answer["work"] == "parallel"
    assert list(answer["rows"]) == ["1", "2", "3", "4"]
    assert answer["rows"]["1"]["over_one"] == 1
    assert set(answer["domains"]) == {"general", "quoting"}
    for name, one in {**answer["domains"], "sampled": answer["sampled"]}.items():
        assert one["identical"] == one["prompts"] == (3 if name == "general" else 2)
        assert one["low"] <= one["speedup"] <= one["high"]
        assert 1 <= one["tokens_a_round"] <= 16
        assert all(each["accepted"] <= each["guessed"] for each in one["places"])
    assert answer["batch"]["requests"] == 4
    test = answer["chi_square"]
    assert (test["draws"], len(test["prompts"])) == (60, 2)
    assert test["degrees"] == sum(one["degrees"] for one in test["prompts"]) > 0
    assert 0.001 < test["chance"] <= 1
    assert any("chi-square" in line for line in parallel_lines(answer))
    assert any("identical" in line for line in parallel_lines(answer))
    draw(answer, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    loaded.runner.check_integrity()
    assert loaded.runner.figures().used == 0


def test_answers_that_do_not_fit_are_refused(loaded: LoadedModel) -> None:
    with pytest.raises(InputError, match="more than the context of 96"):
        measure_parallel(loaded, {"general": [(5,) * 90]}, SMALL)


def test_prompts_of_all_domains(loaded: LoadedModel) -> None:
    prose = "\n\n".join(f"Paragraph {n} tells what the clerk found in drawer {n}." for n in range(900))
    code = "\n".join(f"value_{n} = compute({n})  # line {n}" for n in range(2000))
    texts = [
        Text(package="p", path="a.rst", kind="prose", side="held_out", text=prose),
        Text(package="p", path="a.py", kind="code", side="held_out", text=code),
    ]
    template = ChatTemplate(PLAIN)
    found = domain_prompts(texts, template, loaded.vocabulary, 4, 1)
    assert list(found) == list(DOMAINS)
    assert all(len(each) == 4 for each in found.values())
    assert found == domain_prompts(texts, template, loaded.vocabulary, 4, 1)
    assert found["quoting"] != domain_prompts(texts, template, loaded.vocabulary, 4, 2)["quoting"]
    assert found["general"] == domain_prompts(texts, template, loaded.vocabulary, 4, 2)["general"]
    with pytest.raises(InputError, match="general prompts"):
        domain_prompts(texts, template, loaded.vocabulary, 400, 1)
