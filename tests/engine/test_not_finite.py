"""Weights that are NaN or infinite: refused when a model is loaded, or told by a request that meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fivefold.cli.app import status
from fivefold.core.checkpoint import Checkpoint, Tensor
from fivefold.core.errors import FileError, NotFiniteError
from fivefold.core.request import Request, SamplingParams, TokenEvent
from fivefold.engine import Engine, LoadedModel, LoadOptions, load, score
from fivefold.executor import processor
from fivefold.files import open_checkpoint, write_gguf
from fivefold.formats import FORMATS

TINY = Path(__file__).parent / "data" / "tiny.gguf"
BAD_TOKEN = 77
GREEDY = SamplingParams(temperature=0.0, max_tokens=6, ignore_eos=True)


def spoiled(folder: Path, name: str, value: float, row: int = 0, form: str = "f32") -> Path:
    """The tiny model with one number of a tensor replaced."""
    whole: Checkpoint = open_checkpoint(TINY)
    tensor = whole.tensors[name]
    count = int(np.prod(tensor.shape))
    values = FORMATS[tensor.format].unpack(np.asarray(tensor.data), count).reshape(tensor.shape).copy()
    values.reshape(len(values) if values.ndim > 1 else 1, -1)[row, 5] = value
    data = FORMATS[form].pack(values.ravel())
    path = folder / "spoiled.gguf"
    write_gguf(
        path, whole.metadata, ({**whole.tensors, name: Tensor(name, form, tensor.shape, data)}).values()
    )
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.weight", "blk.1.ffn_down.weight", "blk.1.attn_norm.weight", "output_norm.weight"]
)
def test_a_weight_that_is_not_finite_is_refused_by_its_name(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(
        FileError, match=f"spoiled.gguf: tensor {name} holds a number that is NaN or infinite"
    ):
        load(spoiled(tmp_path, name, value))


@pytest.mark.parametrize("form", ["f16", "bf16"])
def test_so_it_is_in_other_float_formats(tmp_path: Path, form: str) -> None:
    with pytest.raises(FileError, match=r"blk\.0\.ffn_up\.weight"):
        load(spoiled(tmp_path, "blk.0.ffn_up.weight", np.nan, form=form))


def with_bad_embedding(folder: Path, **options: Any) -> LoadedModel:
    """A model whose embedding of one token is NaN in one place: that is not read before it is used."""
    whole = open_checkpoint(TINY)
    head = whole.tensors.get("output.weight", whole.tensors["token_embd.weight"])
    path = spoiled(folder, "token_embd.weight", np.nan, BAD_TOKEN)
    made = open_checkpoint(path)
    untied = folder / "untied.gguf"
    own = Tensor("output.weight", head.format, head.shape, head.data)
    write_gguf(untied, made.metadata, {**made.tensors, "output.weight": own}.values())
    return load(untied, LoadOptions(entries=400, **options))


@pytest.mark.parametrize(
    ("activations", "form"),
    [
        ("int8", "f16"),
        ("float", "f16"),
        ("int8", "bf16"),
        ("int8", "int8"),
        ("float", "int8"),
        ("int8", "fp8"),
    ],
)
@pytest.mark.parametrize("isa", processor().instruction_sets)
def test_the_request_that_meets_it_fails_and_others_go_on(
    tmp_path: Path, activations: Any, form: str, isa: str
) -> None:
    """Whether its row is the last or one that later rows read from the cache, in whatever format."""
    loaded = with_bad_embedding(tmp_path, activations=activations, cache_format=form, isa=isa)
    good = {f"good {number}": tuple(range(5, 45 + number)) for number in range(3)}
    expected = {name: Engine(loaded).generate([prompt], GREEDY)[0].tokens for name, prompt in good.items()}
    engine = Engine(loaded)
    bad = {"first": (BAD_TOKEN, *range(5, 45)), "last": (*range(5, 45), BAD_TOKEN), "only": (BAD_TOKEN,)}
    for name, prompt in {**good, **bad}.items():
        engine.submit(Request(name, prompt, GREEDY))
    events: dict[str, list[TokenEvent]] = {name: [] for name in (*good, *bad)}
    while engine.busy:
        for event in engine.step():
            events[event.identity].append(event)
        engine.check_integrity()
    assert {name: tuple(t for event in events[name] for t in event.tokens) for name in good} == expected
    for name in bad:
        (event,) = events[name]
        assert event.finish_reason == "error"
        assert isinstance(event.error, NotFiniteError)
        assert str(event.error).startswith("untied.gguf: the logits are not finite: nan for token 0; ")
    with pytest.raises(NotFiniteError):
        score(loaded.runner, (5, 6, BAD_TOKEN, 7))


def test_the_command_line_names_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = with_bad_embedding(tmp_path).path
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(32, 127)) * 3)
    assert status(["perplexity", str(path), "--text", str(text), "--window", "64"]) == 1
    assert "fivefold: untied.gguf: the logits are not finite; " in capsys.readouterr().err
