"""Training twins: the network is the folder's model, masks are what writing by blocks sees, runs go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from twin_corpus import make_tiny_corpus

torch = pytest.importorskip("torch")

from fivefold.backends import ReferenceRunner  # noqa: E402
from fivefold.core.batch import LOGITS, Float32, Span, Step  # noqa: E402
from fivefold.core.errors import FileError, InputError  # noqa: E402
from fivefold.core.request import SamplingParams  # noqa: E402
from fivefold.engine import Engine, LoadOptions, load  # noqa: E402
from fivefold.files import open_checkpoint  # noqa: E402
from fivefold.models import load_model  # noqa: E402
from fivefold.train.running import Places, train  # noqa: E402
from fivefold.train.twins.corpus import read_split  # noqa: E402
from fivefold.train.twins.folder import read_weights  # noqa: E402
from fivefold.train.twins.forms import FORMS  # noqa: E402
from fivefold.train.twins.network import Network, Rows  # noqa: E402
from fivefold.train.twins.noise import Blocks  # noqa: E402
from fivefold.train.twins.run import Run, Training  # noqa: E402
from fivefold.train.twins.shape import TwinShape  # noqa: E402

TINY = Training(
    rows=6000, room=512, every=4, held_out=4, hidden=24, layers=2, heads=4, kv_heads=2, head_size=8, ffn=32
)
END, MASK = 0, 1


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_corpus(tmp_path_factory.mktemp("twins"))


def begun(corpus: Path, out: Path, form: str, resume: bool = False, **changes: Any) -> Run:
    out.mkdir(exist_ok=True)
    return Run(Places(corpus, out / "model.safetensors"), replace(TINY, form=form, **changes), 2, resume)


def taken(run: Run, until: int) -> None:
    for progress in run.steps():
        if progress.step == until:
            return


@pytest.mark.parametrize("form", FORMS)
def test_the_network_is_the_model_of_the_folder(form: str, corpus: Path, tmp_path: Path) -> None:
    run = begun(corpus, tmp_path / "twin", form)
    taken(run, 2)
    run.save()
    checkpoint = open_checkpoint(tmp_path / "twin")
    runner = ReferenceRunner(load_model(checkpoint), checkpoint, 64)
    tokens = np.random.default_rng(1).integers(2, 300, 15).astype(np.int32)
    tokens[13:] = MASK
    rows = np.arange(len(tokens), dtype=np.int32)
    sees = np.tri(len(tokens), dtype=bool)
    if form == "blocks":
        sees = rows[None] // 4 <= rows[:, None] // 4
    visible = np.stack([0 * rows, sees.sum(axis=1).astype(np.int32)], axis=1)
    span = Span(runner.open(), tokens, rows, visible, row_sets={LOGITS: rows})
    found: Float32 = runner.run(Step((span,)))
    weights = run.shape.joined(read_weights(tmp_path / "twin", run.shape))
    ours = logits(run.shape, torch.from_numpy(weights), tokens, torch.from_numpy(sees))
    assert np.abs(found - ours).max() < 1e-5 * np.abs(ours).max()


def logits(shape: TwinShape, vector: Any, tokens: Any, sees: Any) -> Float32:
    """(T, V) of one record at positions from 0."""
    network, parts = Network(shape), shape.parts(vector)
    rows = Rows(
        torch.as_tensor(tokens, dtype=torch.int64)[None], torch.arange(len(tokens)), sees, len(tokens)
    )
    found: Float32 = network.logits(parts, network.states(parts, rows))[0].detach().numpy()
    return found


def test_masked_rows_are_what_writing_block_by_block_sees() -> None:
    shape = TwinShape(40, 24, 2, 4, 2, 8, 32)
    vector = torch.from_numpy(8 * shape.begin(1))
    random = np.random.default_rng(2)
    records = [random.integers(2, 40, size).astype(np.int32) for size in (11, 18, 7)]
    given = [5, 9, 1]
    blocks = Blocks.of(records, given, 4, END)
    masks = blocks.drawn(random)
    masked = blocks.masked(masks, MASK)
    network, parts = Network(shape), shape.parts(vector)
    states = network.states(parts, masked.rows).flatten(0, 1)[masked.where]
    found = network.logits(parts, states).numpy()
    at = 0
    for number, (record, known) in enumerate(zip(records, given, strict=True)):
        text = np.full(-(-len(record) // 4) * 4, END, np.int32)
        text[: len(record)] = record
        for first in range(known // 4 * 4, len(text), 4):
            row = first - known // 4 * 4
            places = [i for i in range(4) if masks[number, row + i] and first + i >= known]
            canvas = text[: first + 4].copy()
            canvas[[first + i for i in places]] = MASK
            grid = torch.arange(first + 4) // 4
            wanted = logits(shape, vector, canvas, grid <= grid[:, None])[[first + i for i in places]]
            assert np.abs(found[at : at + len(places)] - wanted).max(initial=0) < 1e-4
            assert masked.right[at : at + len(places)].tolist() == [text[first + i] for i in places]
            assert masked.slots[at : at + len(places)].tolist() == places
            at += len(places)
    assert at == len(found) > 10


def test_what_is_given_is_never_masked_and_half_of_the_blocks_are_wholly() -> None:
    random = np.random.default_rng(0)
    records = [np.arange(2, 2 + 400, dtype=np.int32) for _ in range(8)]
    blocks = Blocks.of(records, [8] * 8, 4, END)
    masks = blocks.drawn(random) & blocks.open
    counts = masks.reshape(8, -1, 4).sum(axis=2)
    assert counts.min() == 1
    assert (counts == 4).mean() == pytest.approx(0.5 + 0.5 / 4, abs=0.05)
    assert masks.reshape(8, -1, 4).mean(axis=(0, 1)) == pytest.approx(0.8125, abs=0.05)
    inside = Blocks.of(records, [10] * 8, 4, END)
    assert not inside.open[:, :2].any() and inside.positions[0, 0] == 8


def test_a_likelihood_in_order_is_that_of_one_token_after_the_other(corpus: Path, tmp_path: Path) -> None:
    run = begun(corpus, tmp_path / "twin", "blocks")
    taken(run, 2)
    vector, records = run._optimizer.vector.detach(), read_split(corpus, "validation")
    with torch.no_grad():
        found = run.form.look(run.shape.parts(vector), records, [0, 1])
    nats = tokens = 0.0
    for number in (0, 1):
        record = records[number].astype(np.int64)
        for place in range(int(records.given[number]), len(record)):
            canvas = np.full((place // 4 + 1) * 4, MASK)
            canvas[:place] = record[:place]
            grid = torch.arange(len(canvas)) // 4
            row = logits(run.shape, vector, canvas, grid <= grid[:, None])[place].astype(np.float64)
            nats += np.log(np.exp(row - row.max()).sum()) + row.max() - row[record[place]]
            tokens += 1
    assert found["tokens"] == tokens
    assert found["nats"] == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(form: str, corpus: Path, tmp_path: Path) -> None:
    whole = begun(corpus, tmp_path / "whole", form)
    assert train(whole, lambda progress: None, whole.save)
    stopped = begun(corpus, tmp_path / "stopped", form)
    taken(stopped, 3)
    stopped.save()
    again = begun(corpus, tmp_path / "stopped", form, resume=True)
    assert again.done == 3
    assert train(again, lambda progress: None, again.save)
    for name in ("model.safetensors", "config.json", "twin.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
    with pytest.raises(InputError, match="the run was begun otherwise: rate is"):
        begun(corpus, tmp_path / "stopped", form, resume=True, rate=1e-3)
    with pytest.raises(InputError, match="the state of another run lies there"):
        begun(corpus, tmp_path / "stopped", form)


@pytest.mark.parametrize("form", FORMS)
def test_a_twin_learns(form: str, corpus: Path, tmp_path: Path) -> None:
    run = begun(corpus, tmp_path / "twin", form, rows=40_000, rate=1e-2)
    before = run.looked_at()
    taken(run, run.count)
    after = run.looked_at()
    assert after["bits"] < before["bits"] - 2 and after["right"] > before["right"]
    lines = (tmp_path / "twin" / "model.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["held_out"] == after


def test_a_twin_begins_from_another(corpus: Path, tmp_path: Path) -> None:
    trunk = begun(corpus, tmp_path / "trunk", "autoregressive")
    taken(trunk, trunk.count)
    trunk.save("the command")
    twin = begun(corpus, tmp_path / "twin", "blocks", begin=str(tmp_path / "trunk"))
    stored = read_weights(tmp_path / "trunk", trunk.shape)
    assert (twin._optimizer.vector.detach().numpy() == twin.shape.joined(stored)).all()
    assert twin.rows == trunk.rows >= TINY.rows - TINY.room * TINY.parts
    taken(twin, twin.count)
    twin.save()
    made = json.loads((tmp_path / "twin" / "twin.json").read_text())
    assert made["rows_before"] == trunk.rows and made["rows"] > trunk.rows + TINY.rows / 2
    with pytest.raises(FileError, match="this is no twin"):
        begun(corpus, tmp_path / "other", "blocks", begin=str(tmp_path))
    with pytest.raises(FileError, match="begin from a twin of the same sizes"):
        begun(corpus, tmp_path / "other", "blocks", begin=str(tmp_path / "trunk"), ffn=40)


@pytest.mark.parametrize("form", FORMS)
def test_the_engine_writes_with_a_twin(form: str, corpus: Path, tmp_path: Path) -> None:
    run = begun(corpus, tmp_path / "twin", form)
    taken(run, 2)
    run.save()
    loaded = load(tmp_path / "twin", LoadOptions(threads=1))
    engine = Engine(loaded)
    try:
        prompt = tuple(loaded.vocabulary.encode("Package: libamber1-dev"))
        (result,) = engine.generate([prompt], SamplingParams(max_tokens=9, temperature=0.0, ignore_eos=True))
    finally:
        engine.close()
    assert len(result.tokens) == 9 and MASK not in result.tokens
    assert (loaded.model.diffusion is not None) == (form == "blocks")
    assert loaded.vocabulary.end_tokens == (END,)


def test_sizes_and_forms_that_do_not_fit_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="heads share KV heads evenly"):
        begun(corpus, tmp_path / "twin", "blocks", heads=3)
    with pytest.raises(InputError, match="the form 'other' is not known"):
        begun(corpus, tmp_path / "twin", "other")
