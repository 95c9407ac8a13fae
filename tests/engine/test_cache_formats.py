"""Models with each format of cache entries: near the reference that rounds alike, the same bits always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from guessed import Clock

from fivefold.core.errors import InputError
from fivefold.core.request import SamplingParams
from fivefold.engine import Engine, EngineOptions, LoadedModel, LoadOptions, load, score
from fivefold.executor import processor
from fivefold.formats import ENTRY_FORMATS

TINY = Path(__file__).parent / "data" / "tiny.gguf"
TOKENS = tuple(int(token) for token in np.random.default_rng(5).integers(2, 258, 90))
FORMS = list(ENTRY_FORMATS)


def logits(form: str | None, **options: object) -> np.ndarray:
    loaded = load(TINY, LoadOptions(activations="float", cache_format=form, **options))  # type: ignore[arg-type]
    return score(loaded.runner, TOKENS)


@pytest.mark.parametrize("form", FORMS)
def test_near_the_reference_that_rounds_alike(form: str) -> None:
    """A number that lies between two codes may get another one here than there, which later rows see."""
    ours, alike, exact = logits(form), logits(form, reference=True), logits(None, reference=True)
    apart = np.abs(ours - alike)
    # int8: queries have 15 bits there, which moves a weight now and then to another of its 255 steps.
    assert np.median(apart) <= (2e-3 if form == "int8" else 1e-5)
    assert apart.max() < 0.3 * np.abs(ours - exact).max()


@pytest.mark.parametrize("form", FORMS)
def test_instruction_sets_threads_and_cuts_give_the_same_bits(form: str) -> None:
    expected = logits(form, threads=1)
    for isa in processor().instruction_sets:
        for threads, rows in ((1, 7), (2, 512), (2, 33)):
            assert np.array_equal(logits(form, isa=isa, threads=threads, max_rows=rows), expected)


@pytest.mark.parametrize("form", FORMS)
def test_shared_prefixes_and_preemption_change_no_token(form: str) -> None:
    """A crowd in a cache too small for it, pages shared and copied, against each request alone."""
    rng = np.random.default_rng(3)
    begin = rng.integers(2, 258, 50).tolist()
    prompts = [[*begin[: 12 * (n % 4)], *rng.integers(2, 258, 1 + n % 5).tolist()] for n in range(12)]
    sampling = SamplingParams(max_tokens=52, temperature=0.7, seed=1, ignore_eos=True, logprobs=1)

    def told(loaded: LoadedModel, together: bool) -> list[object]:
        engine = Engine(loaded, EngineOptions(prefix_cache=together), Clock())
        if together:
            found = engine.generate(prompts, sampling)
            assert engine.figures().preemptions > 0
            assert engine.figures().cached_tokens > 0
        else:
            found = [engine.generate([prompt], sampling)[0] for prompt in prompts]
        engine.check_integrity()
        return [(one.tokens, one.logprobs) for one in found]

    alone = told(load(TINY, LoadOptions(cache_format=form)), False)
    assert told(load(TINY, LoadOptions(entries=224, cache_format=form)), True) == alone


def test_formats_differ_and_f16_is_the_default() -> None:
    found = {form: logits(form) for form in FORMS}
    assert np.array_equal(found["f16"], logits(None))
    for form in FORMS[1:]:
        assert not np.array_equal(found[form], found["f16"])


def test_the_same_memory_holds_more_of_smaller_entries() -> None:
    held = {
        form: load(TINY, LoadOptions(memory=200_000, context=32, max_rows=16, cache_format=form))
        .runner.figures()
        .capacity
        for form in FORMS
    }
    assert held["f16"] == held["bf16"]
    assert held["int8"] == held["fp8"] > 1.3 * held["f16"]


@pytest.mark.parametrize("reference", [False, True])
def test_an_unknown_format_is_refused(reference: bool) -> None:
    with pytest.raises(InputError, match=r"--kv.*'f8'.*choose f16, bf16, int8, fp8"):
        load(TINY, LoadOptions(cache_format="f8", reference=reference))
