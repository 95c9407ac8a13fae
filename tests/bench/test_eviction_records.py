"""Prompts, the file of records, the figures over them, their picture, and the command as people meet it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.bench.eviction import Selected, chosen_sets, draw_eviction, eviction_lines
from fivefold.bench.eviction.figures import figures
from fivefold.bench.eviction.prompts import AskedDocument, Prompt, Rendering, documents
from fivefold.bench.eviction.run import as_measured
from fivefold.bench.eviction.state import State
from fivefold.cache.eviction import POLICIES, Scored
from fivefold.chat import ChatTemplate
from fivefold.cli.app import status
from fivefold.core.errors import InputError
from fivefold.core.lookahead import LookaheadModule
from fivefold.engine import LoadOptions, load
from fivefold.exercises import FIXED_SETS, Question, Text

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
WHO = {"model": "m", "budgets": [64]}


def record(prompt: str, right: bool | None, **kl: float) -> dict[str, Any]:
    """A record of a prompt of document `prompt`, at budget 64."""
    policies = {
        name: {"64": {"kl": value, "recall": 1 - value, "agreement": 1.0, "right": right and value < 0.5,
                      "kept": 64.0}}
        for name, value in kl.items()
    }  # fmt: skip
    return {
        "prompt": f"{prompt}.0",
        "document": prompt,
        "set": "quote_2k",
        "right": right,
        "policies": policies,
    }


def test_a_stopped_measurement_goes_on_and_a_half_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    State(path, WHO).add([record("a", True, oracle=0.1)])
    with path.open("a") as file:
        file.write('{"prompt": "b.0", "docu')
    again = State(path, WHO)
    assert again.documents() == {"a"}
    again.add([record("b", None, oracle=0.2)])
    assert State(path, WHO).records == again.records
    assert len(path.read_text().splitlines()) == 3


def test_a_file_of_another_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.jsonl"
    State(path, WHO)
    with pytest.raises(InputError, match="budgets is"):
        State(path, {**WHO, "budgets": [64, 128]})
    path.write_text("no JSON\n")
    with pytest.raises(InputError, match="not a state"):
        State(path, WHO)
    with pytest.raises(InputError, match="no such folder"):
        State(tmp_path / "none" / "state.jsonl", WHO)


def test_figures_are_of_prompts_with_answers_and_compare_prompt_by_prompt() -> None:
    records = [
        record("a", True, lookahead=0.1, snapkv=0.3),
        record("b", True, lookahead=0.2, snapkv=0.6),
        record("c", False, lookahead=0.0, snapkv=0.1),
        record("d", None),
    ]
    for one in records[2:3]:
        for found in one["policies"].values():
            found["64"]["right"] = None
    found = figures(records, ("lookahead", "snapkv"), (64,))
    assert {name: found[name] for name in ("prompts", "left_out", "asked", "solved", "documents")} == {
        "prompts": 3, "left_out": 1, "asked": 3, "solved": 2, "documents": 3,
    }  # fmt: skip
    at = found["budgets"]["64"]
    ours, theirs = at["policies"]["lookahead"], at["policies"]["snapkv"]
    assert ours["kl"] == {"count": 3, "mean": 0.1, "low": 0.05, "median": 0.1, "high": 0.15}
    assert (theirs["retrieval"]["solved"], theirs["retrieval"]["of"]) == (1, 2)
    against = at["against"]["snapkv"]
    assert against["kl"]["mean"] == pytest.approx(-0.7 / 3, abs=1e-6)
    assert (against["kl"]["verdict"], against["recall"]["verdict"]) == ("above", "above")
    assert against["retrieval"]["mean"] == 0.5
    assert against["retrieval"]["verdict"] == "not worse"
    assert against["recall"]["within_2_points"] is True
    assert found["sets"]["quote_2k"]["budgets"]["64"]["snapkv"] == theirs


def test_figures_are_told_and_drawn(tmp_path: Path) -> None:
    records = [record("a", True, lookahead=0.1, snapkv=0.3, oracle=0.0, random=0.9)]
    names = ["lookahead", "snapkv", "oracle", "random"]
    about = {"model": "m.gguf", "processor": "P", "instruction_set": "avx2", "notes": ["one is left out"]}
    answer = {**about, "policies": names, **figures(records, names, (64,))}
    lines = list(eviction_lines(answer))
    assert "one is left out" in lines
    (row,) = [line for line in lines if line.startswith("snapkv")]
    assert row.split()[1:3] == ["0.700", "0.3000"]
    assert "1/1 [0.21, 1.00]" in row
    (compared,) = [line for line in lines if line.startswith("lookahead - snapkv")]
    assert "kl -0.2000 [-0.2000, -0.2000] above" in compared
    draw_eviction(answer, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_sets_are_chosen_by_kind_and_length() -> None:
    assert chosen_sets((), ()) == tuple(FIXED_SETS)
    assert chosen_sets(("multi_key",), ("1k", "2k")) == ("multi_key_1k", "multi_key_2k")
    with pytest.raises(InputError, match="'3k' is not known"):
        chosen_sets((), ("3k",))
    with pytest.raises(InputError, match="no set has these"):
        chosen_sets(("quote",), ("1k",))


def test_documents_share_their_beginning_and_those_that_are_done_are_left_out() -> None:
    loaded = load(TINY, LoadOptions(threads=1, entries=1))
    rendering = Rendering(ChatTemplate.of(loaded.checkpoint, loaded.vocabulary), loaded.vocabulary)
    prose = "\n\n".join(
        f"The {place} house of the street was painted in colour {place}. Nobody lived there, they said."
        for place in range(900)
    )
    texts = [Text("package", "text", "prose", "held_out", prose)]
    selected = Selected(("needle_prose_1k", "multi_key_1k"), 2, seed=1)
    found = list(documents(selected, texts, rendering, {"needle_prose_1k.0"}))
    assert [one.name for one in found] == ["multi_key_1k.0", "needle_prose_1k.1", "multi_key_1k.1"]
    asked = found[0]
    assert [prompt.name for prompt in asked.prompts] == ["multi_key_1k.0.0", "multi_key_1k.0.1"]
    first, second = (prompt.tokens for prompt in asked.prompts)
    assert first[: asked.shared] == second[: asked.shared]
    assert first[asked.shared] != second[asked.shared]
    text = loaded.vocabulary.decode(first, skip_special=False)
    assert text.endswith(asked.prompts[0].question.prefix)
    assert list(documents(selected, texts, rendering, {"needle_prose_1k.0"})) == found


def test_all_policies_keep_the_same_ends_and_pool_as_their_sources() -> None:
    module = LookaheadModule(np.ones((1, 4), np.float32), {}, 1.0, 1, pooling=3)
    names = (*POLICIES, "snapkv-unpooled", "laq-unpooled")
    found = {name: as_measured(name, module) for name in names}
    assert {name: policy.name for name, policy in found.items()} == {name: name for name in names}
    scored = {name: policy for name, policy in found.items() if isinstance(policy, Scored)}
    assert set(found) - set(scored) == {"window"}
    assert {policy.window for policy in scored.values()} == {32}
    assert {name for name, policy in scored.items() if policy.pool == 7} == {
        "adakv", "laq", "pyramidkv", "snapkv",
    }  # fmt: skip
    assert {name for name, policy in scored.items() if policy.pool not in (1, 7)} == {"lookahead"}
    assert scored["lookahead"].pool == 3
    assert found["laq"].observation(100) == POLICIES["laq"].observation(100)
    assert found["tova"].observation(100).window == 1
    with pytest.raises(InputError, match="no eviction policy 'h2o-unpooled'"):
        as_measured("h2o-unpooled", module)


@pytest.fixture
def few_documents(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command's documents are two short ones; the names of those that were asked for."""
    asked: list[str] = []
    loaded = load(TINY, LoadOptions(threads=1, entries=1))
    plain = [one for one in range(loaded.vocabulary.size) if not loaded.vocabulary.is_special(one)]

    def made(selected: Selected, texts: Any, rendering: Any, done: Sequence[str] = ()) -> Any:
        for number in range(selected.count):
            name = f"{selected.sets[0]}.{number}"
            if name not in done:
                asked.append(name)
                tokens = tuple(plain[(7 * place + number) % len(plain)] for place in range(80))
                yield AskedDocument(
                    name, selected.sets[0], (Prompt(f"{name}.0", tokens, Question("?", "", "", "quote")),)
                )

    monkeypatch.setattr("fivefold.bench.eviction.run.documents", made)
    monkeypatch.setattr("fivefold.cli.bench_eviction.held_texts", lambda folder, side: ())
    return asked


def test_the_command_measures_and_goes_on(
    few_documents: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "bench", "eviction", str(TINY), "--budgets", "64,70", "--kinds", "quote", "--lengths", "2k",
        "--threads", "1", "--state", str(tmp_path / "s.jsonl"), "--json", str(tmp_path / "a.json"),
    ]  # fmt: skip
    assert status([*command, "--count", "1"]) == 0
    assert status([*command, "--count", "2", "--picture", str(tmp_path / "p.png")]) == 0
    assert few_documents == ["quote_2k.0", "quote_2k.1"]
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["prompts"] == 2
    assert answer["solved"] == 2
    assert set(answer["budgets"]) == {"64", "70"}
    assert [note.split()[0] for note in answer["notes"]] == ["lookahead"]
    assert {one["document"] for one in answer["records"]} == set(few_documents)
    assert (tmp_path / "p.png").exists()
    output = capsys.readouterr().out
    assert "budget 70" in output
    assert "oracle" in output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budgets", "32"), "no rising numbers from 64"),
        (("--policies", "best"), "there is no eviction policy 'best'"),
        (("--policies", "lookahead"), "no lookahead module"),
        (("--kinds", "riddle"), "'riddle' is not known"),
        (("--policies", "snapkv,snapkv"), "are no names"),
        (("--cost",), "more than the context of 96"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    few_documents: list[str], arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(["bench", "eviction", str(TINY), *arguments]) != 0
    assert said in capsys.readouterr().err
    assert not few_documents


def test_a_document_of_one_prompt_shares_all_of_it() -> None:
    prompt = Prompt("p", (1, 2, 3), Question("?", None, "", "quote"))
    assert AskedDocument("d", "s", (prompt,)).shared == 3
    assert AskedDocument("d", "s", (prompt, replace(prompt, tokens=(1, 2, 4)))).shared == 2
