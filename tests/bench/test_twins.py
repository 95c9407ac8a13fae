"""Twins compared: scores by hand, a comparison of two tiny models, and that many at once change no text."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from diffusion_models import make_diffusion_model

from fivefold.bench.twins import Compared, Question, Twins, measure_twins, read_questions, twins_lines
from fivefold.bench.twins.scores import difference, f1, fields, rates_ratio, score
from fivefold.bench.twins.writing import Answer, Writer, bits
from fivefold.cli.app import status
from fivefold.core.drafter import DrafterOrigin
from fivefold.core.errors import FileError, InputError
from fivefold.decode.guesses.repeats import Repeats
from fivefold.engine import Engine, EngineOptions, LoadOptions, load
from fivefold.files import model_fingerprint, open_checkpoint, write_drafter
from fivefold.models import load_model

ASKED = Question("amber", "Package: a", "\nMaintainer: M\nSection: libs\nPriority: optional")


def answered(text: str, ended: bool = True) -> Answer:
    return Answer((1, 2), text, ended)


def test_fields_are_right_to_the_letter() -> None:
    assert fields("\nA: 1\nB: 2: 3\nnone\nA: 4") == {"A": "1", "B": "2: 3"}
    whole = score(ASKED, answered("\nMaintainer: M\nSection: libs\nPriority: optional"))
    assert (whole.there, whole.written, whole.right, whole.whole) == (3, 3, 3, True)
    other = score(ASKED, answered("\nMaintainer: m\nSection: libs\nTag: x\nPriority: optional\nMore: 1"))
    assert (other.written, other.right, other.whole) == (5, 2, True)
    assert f1([whole, other]) == 2 * 5 / (3 + 3 + 3 + 5)


@pytest.mark.parametrize("text", ["", "\nSection: libs\nno field", "\nSection: libs\nSection: libs"])
def test_an_answer_with_lines_that_are_no_fields_is_not_whole(text: str) -> None:
    assert not score(ASKED, answered(text)).whole


def test_an_answer_that_did_not_end_is_not_whole() -> None:
    assert not score(ASKED, answered("\nSection: libs", ended=False)).whole


def test_differences_are_paired_and_drawn_by_source() -> None:
    texts = ["\nMaintainer: M\nSection: libs\nPriority: optional", "\nMaintainer: M", "\nSection: x"]
    questions = [Question(f"s{n // 2}", "", ASKED.written) for n in range(60)]
    scores = [score(q, answered(texts[n % 3])) for n, q in enumerate(questions)]
    same = difference(scores, scores)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = [score(q, answered("\nSection: libs")) for q in questions]
    gap = difference(worse, scores)
    assert gap.value == f1(worse) - f1(scores) and gap.low < gap.value < gap.high
    turned = difference(scores, worse)
    assert (turned.low, turned.high) == pytest.approx((-gap.high, -gap.low))
    one = [score(Question("s", "", ASKED.written), answered(texts[n % 3])) for n in range(60)]
    alone = difference([score(Question("s", "", ASKED.written), answered(""))] * 60, one)
    assert alone.low == alone.high == alone.value  # there is one source to draw


def test_the_ratio_of_rates_has_an_interval_over_records() -> None:
    random = np.random.default_rng(0)
    tokens, seconds = random.integers(20, 90, 50).astype(float), random.uniform(1, 2, 50)
    found = rates_ratio((tokens, tokens), (seconds / 2, seconds))
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    found = rates_ratio((tokens, tokens), (random.uniform(0.5, 1, 50), seconds))
    assert found.low < found.value < found.high


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    """A model of each kind with the same weights."""
    folder = tmp_path_factory.mktemp("twins")
    make_diffusion_model("sdar", folder / "blocks", max_position_embeddings=512)
    changes = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "max_position_embeddings": 512}
    make_diffusion_model("sdar", folder / "plain", **changes)
    config = json.loads((folder / "plain" / "config.json").read_text())
    own = ("auto_map", "mask_token_id", "block_size", "fuse_cross_entropy", "debug")
    kept = {key: value for key, value in config.items() if key not in own}
    (folder / "plain" / "config.json").write_text(json.dumps(kept))
    options = LoadOptions(threads=1, entries=1024)
    return Twins(load(folder / "plain", options), load(folder / "blocks", options))


QUESTIONS = [Question(f"s{n // 2}", f"Package: p{n}", f"\nSection: s{n}\nPriority: p") for n in range(4)]


def test_a_comparison_has_all_figures(twins: Twins) -> None:
    asked = Compared(chosen_on=2, timed=2, rounds=1, batches=(2,), thresholds=(0.5, 0.9), most=12)
    answer = json.loads(json.dumps(measure_twins(twins, QUESTIONS, QUESTIONS, asked)))
    assert answer["work"] == "twins"
    assert list(answer["chosen"]["settings"]) == [f"confidence_threshold:threshold={t}" for t in (0.5, 0.9)]
    assert answer["chosen"]["denoiser"] in answer["chosen"]["settings"]
    passes = [one["passes"] for one in answer["chosen"]["settings"].values()]
    assert passes[0] <= passes[1]
    assert answer["test"]["records"] == 4 and answer["test"]["sources"] == 2
    assert answer["test"]["bits"] > 1 and answer["verdict"]["hard_enough"]
    assert answer["alone"]["sides"]["autoregressive"]["tokens_a_pass"] <= 1.0
    assert answer["alone"]["sides"]["blocks"]["tokens_a_pass"] > 0
    low, high = (answer["alone"]["ratio"][end] for end in ("low", "high"))
    assert low <= answer["alone"]["ratio"]["value"] <= high
    assert set(answer["together"]["2"]["sides"]) == {"autoregressive", "blocks", "speculative"}
    assert answer["verdict"]["holds"] == all(
        answer["verdict"][name] for name in ("hard_enough", "equal", "faster")
    )
    lines = list(twins_lines(answer))
    assert any("<- chosen" in line for line in lines) and any(line.startswith("2 at once") for line in lines)
    for loaded in (twins.autoregressive, twins.blocks):
        loaded.runner.check_integrity()
        assert loaded.runner.figures().used == 0


@pytest.fixture
def drafted(twins: Twins, random_drafter: Any, tmp_path: Path) -> Twins:
    """The autoregressive one, and the same with a drafter beside it."""
    folder = tmp_path / "plain"
    shutil.copytree(twins.autoregressive.path, folder)
    checkpoint = open_checkpoint(folder)
    model = load_model(checkpoint)
    origin = DrafterOrigin("plain", model_fingerprint(model, checkpoint))
    write_drafter(folder / "drafter.safetensors", replace(random_drafter(model, taps=(0,)), origin=origin))
    return Twins(twins.autoregressive, load(folder, LoadOptions(threads=1, entries=1024)))


def test_blocks_that_are_checked_are_the_same_text(drafted: Twins) -> None:
    asked = Compared(chosen_on=2, timed=2, rounds=1, batches=(2,), most=12)
    answer = json.loads(json.dumps(measure_twins(drafted, [], QUESTIONS, asked)))
    assert answer["chosen"]["settings"] == {} and answer["blocks"]["drafter"]["slots"] > 0
    assert answer["alone"]["identical"] == answer["alone"]["records"] == 2
    assert answer["test"]["identical"] == answer["test"]["records"] == 4
    assert answer["test"]["difference"] == {"value": 0, "low": 0, "high": 0}
    assert answer["test"]["holds"]["fields"] and answer["test"]["holds"]["whole"]
    ways = {"autoregressive", "blocks", "speculative", "blocks, speculative"}
    assert set(answer["alone"]["sides"]) == ways == set(answer["together"]["2"]["sides"])
    assert answer["alone"]["sides"]["blocks"]["tokens_a_pass"] > 0
    lines = list(twins_lines(answer))
    assert "  4 of 4 answers identical" in lines and not any(line.startswith("validation") for line in lines)


def test_each_way_asks_its_own_sources(drafted: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, set[str]] = {"drafter": set(), "repetition": set()}
    runner: Any = drafted.blocks.runner
    draft, guess = runner.draft, Repeats.guess
    way = ""
    monkeypatch.setattr(runner, "draft", lambda each: asked["drafter"].add(way) or draft(each))
    monkeypatch.setattr(
        Repeats, "guess", lambda self, most: asked["repetition"].add(way) or guess(self, most)
    )
    ways = drafted.ways("")
    for name in ways:
        way = name
        with Writer(ways[name], 24) as writer:
            writer.one((5, 6, 7, 5, 6, 7, 5, 6))
    assert asked["drafter"] == {"blocks", "blocks, speculative"}
    assert asked["repetition"] == {"speculative", "blocks, speculative"}


@pytest.mark.parametrize(("form", "of", "line"), [
    ("serial", "plain", "has a drafter that fills blocks"), ("block", "0" * 64, "is of another model"),
])  # fmt: skip
def test_a_drafter_must_fill_blocks_of_the_first_twin(form: str, of: str, line: str, drafted: Twins) -> None:
    own = drafted.blocks.drafter
    assert own is not None
    fingerprint = own.origin.fingerprint if of == "plain" else of
    other = SimpleNamespace(
        shape=replace(own.shape, form=form), origin=replace(own.origin, fingerprint=fingerprint)
    )
    with pytest.raises(InputError, match=line):
        Twins(drafted.autoregressive, replace(drafted.blocks, drafter=other))


@pytest.mark.parametrize("name", ["autoregressive", "blocks"])
def test_many_at_once_write_what_each_writes_alone(name: str, twins: Twins) -> None:
    way = twins.ways("confidence_threshold:threshold=0.5")[name]
    prompts = twins.prompts(QUESTIONS)
    with Writer(way, 12) as writer:
        alone = [writer.one(prompt).tokens for prompt in prompts]
    with Writer(way, 12, 3) as writer:
        answers, seconds = writer.all(prompts)
    assert [one.tokens for one in answers] == alone and seconds > 0


def test_bits_are_those_of_one_token_after_the_other(twins: Twins) -> None:
    prompt, more = (5, 6, 7), (8, 9, 10, 11)
    parts = [bits(twins.autoregressive, (*prompt, *more[:n]), more[n : n + 1]) for n in range(len(more))]
    assert bits(twins.autoregressive, prompt, more) == pytest.approx(sum(parts), rel=1e-6)
    assert bits(twins.autoregressive, prompt, ()) == 0


def test_twins_in_the_wrong_order_are_refused(twins: Twins) -> None:
    with pytest.raises(InputError, match="the first twin writes token by token"):
        Twins(twins.blocks, twins.autoregressive)
    with pytest.raises(InputError, match="the second twin writes by diffusion, or has a drafter"):
        Twins(twins.autoregressive, twins.autoregressive)


def test_a_source_that_nobody_knows_is_refused(twins: Twins) -> None:
    with pytest.raises(InputError, match="no source of guesses 'ofered'"):
        Engine(twins.autoregressive, EngineOptions(guesses=frozenset({"ofered"})))


def test_the_command_takes_one_twin_with_its_drafter(
    drafted: Twins, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"source": q.source, "given": q.given, "written": q.written}) for q in QUESTIONS]
    (tmp_path / "test.jsonl").write_text("\n".join(lines) + "\n")
    given = ["bench", "twins", str(drafted.blocks.path), "--questions", str(tmp_path), "--count", "2",
             "--batch", "2", "--rounds", "1", "--longest", "8", "--threads", "1"]  # fmt: skip
    assert status(given) == 0
    assert "answers identical by all ways that are checked" in capsys.readouterr().out
    bare = str(drafted.autoregressive.path)
    assert status([*given[:2], bare, *given[3:]]) == 2
    assert "has a drafter that fills blocks" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{}\n", '{"source": 1, "given": "", "written": ""}\n', "[]\n"])
def test_questions_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(FileError, match="questions"):
        read_questions(tmp_path / "test.jsonl")
