"""Nearness to the float32 reference executor, and to llama.cpp's greedy text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fivefold.bench import measure_quality
from fivefold.core.request import Request, SamplingParams
from fivefold.core.runner import Runner
from fivefold.engine import Engine, LoadOptions, load, score

HERE = Path(__file__).parent
RECORDED = json.loads((HERE.parents[1] / "bench" / "numeric" / "kl.json").read_text())
GREEDY = json.loads((HERE / "data" / "greedy_llama_cpp.json").read_text())


@pytest.fixture(scope="module")
def text() -> str:
    return (HERE.parents[1] / "LICENSE").read_text()


def test_float_activations_are_the_reference(default_model: Path, text: str) -> None:
    ours = load(default_model, LoadOptions(activations="float"))
    reference = load(default_model, LoadOptions(reference=True))
    found = measure_quality(ours.runner, ours.vocabulary.encode(text), 128, reference.runner, most=254)
    assert found.mean_kl is not None
    assert found.mean_kl <= 1e-5
    assert found.top1_agreement == 1.0


def test_int8_activations_are_no_worse_than_llama_cpp(default_model: Path, text: str) -> None:
    """A short text, llama-perplexity's positions: KL and top-1 agreement within two standard errors.

    `kl.json` has its figures and the command; the longer run on 8,160 positions is recorded there too.
    """
    short = RECORDED["short"]
    size, peer = short["window"], short["llama.cpp"]
    ours, reference = load(default_model), load(default_model, LoadOptions(reference=True))
    tokens = ours.vocabulary.encode(text)
    tokens = tokens[: len(tokens) // size * size]
    found = measure_quality(ours.runner, tokens, size, reference.runner, skip=size // 2)
    assert found.positions == short["positions"]
    assert found.mean_kl is not None and found.mean_kl_error is not None
    assert found.mean_kl <= peer["mean_kl"] + 2 * np.hypot(found.mean_kl_error, peer["mean_kl_error"])
    assert found.top1_agreement is not None and found.top1_agreement_error is not None
    error = np.hypot(found.top1_agreement_error, peer["top1_agreement_error"])
    assert found.top1_agreement >= peer["top1_agreement"] - 2 * error


def first_difference(engine: Engine, row: dict[str, list[int]]) -> int | None:
    """Where our greedy continuation leaves the recorded one."""
    sampling = SamplingParams(max_tokens=len(row["tokens"]), temperature=0.0, ignore_eos=True)
    events = engine.stream(Request("greedy", tuple(row["prompt"]), sampling))
    ours = [token for event in events for token in event.tokens]
    assert len(ours) == len(row["tokens"])
    return next((i for i, (a, b) in enumerate(zip(ours, row["tokens"], strict=True)) if a != b), None)


@pytest.fixture(scope="module")
def engines(default_model: Path) -> dict[str, Engine]:
    options = {"int8": LoadOptions(), "float": LoadOptions(activations="float")}
    return {kind: Engine(load(default_model, chosen)) for kind, chosen in options.items()}


@pytest.fixture(scope="module")
def reference(default_model: Path) -> Runner:
    return load(default_model, LoadOptions(reference=True)).runner


@pytest.mark.parametrize("activations", ["int8", "float"])
@pytest.mark.parametrize("number", range(len(GREEDY["prompts"])))
def test_greedy_text_leaves_llama_cpps_only_at_near_ties(
    engines: dict[str, Engine],
    reference: Runner,
    activations: str,
    number: int,
) -> None:
    """The first difference lies where the float32 reference's two best logits are less than 0.5 apart."""
    row = GREEDY["prompts"][number]
    place = first_difference(engines[activations], row)
    if place is not None:
        told = [*row["prompt"], *row["tokens"][:place]]
        best = np.sort(score(reference, [*told, 0])[-1])
        assert best[-1] - best[-2] < 0.5, f"{row['text']!r} differs at token {place}"
