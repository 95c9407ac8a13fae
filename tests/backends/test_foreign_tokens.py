"""Models without a family here write what Transformers' own `generate` writes: alone, and eight at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_models import BYTES, WINDOW, greedy, save_foreign
from guessed import Clock

from fivefold.backends import Room, transformers_backend
from fivefold.core.batch import LOGITS, Commit, Span, Step
from fivefold.core.request import Request, SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load, need_of
from fivefold.files import open_checkpoint

Folder = Callable[[str], Path]
WRITTEN = 64
GREEDY = SamplingParams(max_tokens=WRITTEN, temperature=0.0, ignore_eos=True)


def prompts(count: int = 8) -> list[list[int]]:
    """Of 45 to 150 tokens, longer than three windows; all begin alike, over whole pages or parts of one."""
    draws = np.random.default_rng(5)
    shared = draws.integers(0, BYTES, 70).tolist()
    return [
        (shared[: 40 + 3 * place] if place % 2 else shared[:64])
        + draws.integers(0, BYTES, 5 + 11 * place).tolist()
        for place in range(count)
    ]


def small(folder: Path) -> LoadedModel:
    """Steps of 24 rows, pages for fewer than eight texts: prompts are read in parts, some must wait."""
    return load(folder, LoadOptions(threads=1, entries=640, max_rows=24))


def written_together(engine: Engine, texts: list[list[int]]) -> list[list[int]]:
    """What is written by requests of which one more comes every third step."""
    found: dict[str, list[int]] = {str(place): [] for place in range(len(texts))}
    waiting = list(enumerate(texts))
    steps = 0
    while waiting or engine.busy:
        if waiting and steps % 3 == 0:
            place, text = waiting.pop(0)
            engine.submit(Request(str(place), tuple(text), GREEDY))
        for event in engine.step():
            assert event.error is None
            found[event.identity] += event.tokens
        steps += 1
    return list(found.values())


@pytest.mark.parametrize("name", ["olmo3", "gpt-neox", "cohere2"])
def test_tokens_are_those_of_generate(name: str, foreign: Folder) -> None:
    """Windows of 12 tokens on three layers of four, half of each head rotated, layers in parallel."""
    texts, pair = prompts(), [[(7 * row + place) % BYTES for row in range(60)] for place in range(2)]
    expected = greedy(foreign(name), texts + pair, WRITTEN)
    assert len({token for text in expected for token in text}) > 15, "the model repeats itself"
    engine = Engine(small(foreign(name)))
    alone = Engine(load(foreign(name), LoadOptions(threads=1)))
    assert list(alone.generate(texts[-1:], GREEDY)[0].tokens) == expected[7]
    assert written_together(engine, texts) == expected[:8]
    assert engine.figures().cached_tokens > 64, "no prefix was shared"
    engine.check_integrity()
    tight = Engine(load(foreign(name), LoadOptions(threads=1, entries=192, max_rows=24)), clock=Clock())
    assert [list(answer.tokens) for answer in tight.generate(pair, GREEDY)] == expected[8:]
    # Where a window makes its pool the smaller one, the second waits for the first.
    waited = name != "gpt-neox"
    assert waited or tight.figures().preemptions > 0, "both found room"
    tight.check_integrity()


def test_windows_are_groups_and_no_logits_are_made_that_nobody_wants(foreign: Folder) -> None:
    loaded = small(foreign("olmo3"))
    assert [(group.window, group.layers) for group in loaded.model.layout.groups] == [
        (WINDOW, (0, 1, 2)), (None, (3,)),
    ]  # fmt: skip
    runner = loaded.runner
    sequence = runner.open()
    span = Span.causal(sequence, np.arange(5, dtype=np.int32), 0)
    assert runner.run(Step((span,))).shape == (1, BYTES)
    silent = Span(
        sequence, span.tokens, span.positions, span.visible, row_sets={LOGITS: np.zeros(0, np.int32)}
    )
    assert runner.run(Step((silent,))).shape == (0, BYTES)


@pytest.mark.parametrize("name", ["olmo3", "gpt-neox"])
def test_rows_of_a_tree_see_their_own_branch_only(name: str, foreign: Folder) -> None:
    """Two rows at one position, each hidden from the other, and one of them kept."""
    runner = small(foreign(name)).runner
    text = np.array([7, 90, 3, 55, 128, 4, 99, 200, 31, 62, 17, 5, 80, 211, 34], np.int32)
    branches = np.array([9, 144], np.int32)
    count = len(text)

    def read(tokens: np.ndarray, start: int, sequence: int) -> np.ndarray:
        every = np.arange(len(tokens), dtype=np.int32)
        logits = runner.run(Step((Span.causal(sequence, tokens, start, every),)))
        runner.commit([Commit(sequence, every)])
        return logits

    straight = [
        read(np.append(text, [branch, 40]).astype(np.int32), 0, runner.open())[-2:] for branch in branches
    ]
    sequence = runner.open()
    read(text, 0, sequence)
    visible = np.array([[0, count + 1]] * 2, np.int32)
    both = Span(
        sequence, branches, np.full(2, count, np.int32), visible, np.eye(2, dtype=bool),
        {LOGITS: np.arange(2, dtype=np.int32)},
    )  # fmt: skip
    logits = runner.run(Step((both,)))
    assert np.allclose(logits, [each[0] for each in straight], atol=1e-4)
    runner.commit([Commit(sequence, np.array([1], np.int32))])
    after = read(np.array([40], np.int32), count + 1, sequence)
    assert np.allclose(after[0], straight[1][1], atol=1e-4)
    assert not np.allclose(after[0], straight[0][1], atol=1e-2)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("gpt2", [(4, 12, 12, None)]),
        ("gemma2", [(2, 16, 16, WINDOW), (2, 16, 16, None)]),
        ("gpt-oss", [(2, 16, 16, WINDOW), (2, 16, 16, None)]),
        ("deepseek3", [(4, 24, 16, None)]),
    ],
)
def test_learned_positions_caps_sinks_and_uneven_widths(
    name: str, groups: list[Any], foreign: Folder
) -> None:
    """Loading holds the logits of two texts against plain attention. Two of these have a family here, which
    is passed by: what matters is what their attention asks for."""
    checkpoint = open_checkpoint(foreign(name))
    backend = transformers_backend()
    outline = backend.outline(checkpoint)
    found = outline.model.layout.groups
    assert [(g.kv_heads, g.key_width, g.value_width, g.window) for g in found] == groups
    runner = backend.open_runner(outline, checkpoint, Room(1, 32, 64, "f32"))
    assert runner.max_rows == 32


def test_weights_in_bf16_stay_so(foreign: Folder, tmp_path: Path) -> None:
    """Entries as well. Answers of Transformers in bf16 differ with the way of it, so none is compared."""
    save_foreign("olmo3", tmp_path, brain=True)
    need, whole = need_of(tmp_path, LoadOptions()), need_of(foreign("olmo3"), LoadOptions())
    entries = need.least_bytes - need.weights
    assert (2 * entries, 1.9 * need.weights < whole.weights) == (whole.least_bytes - whole.weights, True)
    loaded = load(tmp_path, LoadOptions(threads=1, entries=128))
    assert loaded.settings.cache_format == "bf16"
    assert len(Engine(loaded).generate([[1, 2, 3]], GREEDY)[0].tokens) == WRITTEN


def test_entries_in_half_the_bytes_stay_near(foreign: Folder) -> None:
    folder = foreign("gpt-neox")
    exact = load(folder, LoadOptions(threads=1, entries=128)).runner
    rounded = load(folder, LoadOptions(threads=1, entries=128, cache_format="f16")).runner
    step = np.arange(40, dtype=np.int32) * 5
    every = np.arange(40, dtype=np.int32)
    logits = [runner.run(Step((Span.causal(runner.open(), step, 0, every),))) for runner in (exact, rounded)]
    apart = np.linalg.norm(logits[0] - logits[1]) / np.linalg.norm(logits[0])
    assert 0 < apart < 5e-3


def test_guesses_are_checked_where_they_are_asked_for(foreign: Folder) -> None:
    """Torch promises no bits, so by itself nothing is guessed. A text in circles has no near ties."""
    loaded = small(foreign("olmo3"))
    texts = prompts(2)
    sampling = SamplingParams(max_tokens=WRITTEN, temperature=0.0, ignore_eos=True, frequency_penalty=-2.0)
    plain = Engine(loaded, clock=Clock())
    expected = [one.tokens for one in plain.generate(texts, sampling)]
    assert plain.figures().guessed_tokens == 0
    guessing = Engine(loaded, EngineOptions(decoding="speculative"), Clock())
    assert [one.tokens for one in guessing.generate(texts, sampling)] == expected
    assert guessing.figures().accepted_tokens > 20
    guessing.check_integrity()
