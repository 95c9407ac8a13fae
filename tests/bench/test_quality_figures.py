"""Figures of a text: against plain float64 definitions, whole and in pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivefold.bench import log_softmax
from fivefold.bench.quality import Moments, Tallies, Tally, compare_distributions, model_hash
from fivefold.core.batch import Float32


def logits(rows: int, words: int, scale: float, seed: int) -> Float32:
    return (np.random.default_rng(seed).standard_normal((rows, words)) * scale).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 17])
@pytest.mark.parametrize("apart", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("scale", [0.01, 3.0, 40.0])
def test_kl_and_losses_are_those_of_the_definition(rows: int, apart: float, scale: float) -> None:
    """Relative 1e-6 at each position, whatever the size of KL; where float64 has that many digits of it."""
    base = logits(rows, 1000, scale, 1)
    models = [base + logits(rows, 1000, apart, seed) for seed in (2, 3)]
    targets = np.random.default_rng(4).integers(0, 1000, rows)
    found, reference = compare_distributions(models, base, targets)
    against = log_softmax(base)
    places = np.arange(rows)
    np.testing.assert_allclose(reference.losses, -against[places, targets], rtol=1e-12)
    for each, model in zip(found, models, strict=True):
        plain = log_softmax(model)
        distance = np.sum(np.exp(against) * (against - plain), axis=1)
        np.testing.assert_allclose(each.distances, distance, rtol=1e-6, atol=1e-13)
        np.testing.assert_allclose(each.losses, -plain[places, targets], rtol=1e-12)
        assert (each.firsts == model.argmax(axis=1)).all()
        assert (each.distances >= 0).all()


def test_a_model_is_at_no_distance_from_itself() -> None:
    base = logits(9, 500, 5.0, 7)
    found, _ = compare_distributions([base], base, np.zeros(9, np.int64))
    assert (found[0].distances == 0).all()


def test_losses_do_not_depend_on_a_reference() -> None:
    model, targets = logits(9, 500, 5.0, 7), np.arange(9)
    alone, nothing = compare_distributions([model], None, targets)
    beside, _ = compare_distributions([model], logits(9, 500, 5.0, 8), targets)
    assert (alone[0].losses == beside[0].losses).all()
    assert not nothing.losses.any() and not alone[0].distances.any()


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=20), min_size=1, max_size=6))
def test_moments_of_pieces_are_those_of_the_whole(pieces: list[list[float]]) -> None:
    moments = Moments()
    for piece in pieces:
        moments.add(np.array(piece))
    whole = np.array([value for piece in pieces for value in piece])
    assert moments.count == len(whole)
    if len(whole) > 1:
        size = float(np.abs(whole).max())
        assert moments.mean == pytest.approx(whole.mean(), rel=1e-9, abs=1e-9 * size)
        error = whole.std(ddof=1) / np.sqrt(len(whole))
        assert moments.error == pytest.approx(error, rel=1e-6, abs=1e-9 * size)


def tallied(rows: int, models: int) -> tuple[Tallies, list[tuple[Float32, ...]]]:
    """Tallies of two windows, and their logits with the reference's last."""
    tallies = Tallies([Tally() for _ in range(models)])
    seen = []
    for window in range(2):
        base = logits(rows, 300, 3.0, 10 * window)
        owns = [
            base + logits(rows, 300, 0.2 * number, 10 * window + number) for number in range(1, models + 1)
        ]
        found, reference = compare_distributions(owns, base, np.arange(rows))
        for tally, each in zip(tallies.models, found, strict=True):
            tally.add(each, reference)
        tallies.reference.add(reference.losses)
        tallies.windows += 1
        seen.append((*owns, base))
    return tallies, seen


def test_figures_are_those_of_all_positions_together() -> None:
    """Each figure as its definition says: the ratio's error is that of paired differences, as
    llama-perplexity's, whose formula by variances and covariance gives the same."""
    rows = 60
    tallies, seen = tallied(rows, 2)
    base = np.concatenate([log_softmax(window[-1]) for window in seen])
    targets = np.tile(np.arange(rows), 2)
    places = np.arange(2 * rows)
    root = np.sqrt(2 * rows)
    for number, tally in enumerate(tallies.models):
        own = np.concatenate([log_softmax(window[number]) for window in seen])
        loss, against = -own[places, targets], -base[places, targets]
        kl = np.sum(np.exp(base) * (base - own), axis=1)
        same = (own.argmax(axis=1) == base.argmax(axis=1)).astype(float)
        found = tally.figures(tallies.reference)
        assert found.positions == 2 * rows
        assert found.perplexity == pytest.approx(np.exp(loss.mean()), rel=1e-12)
        assert found.perplexity_error == pytest.approx(np.exp(loss.mean()) * loss.std(ddof=1) / root)
        assert found.reference_perplexity == pytest.approx(np.exp(against.mean()), rel=1e-12)
        assert found.mean_kl == pytest.approx(kl.mean(), rel=1e-9)
        assert found.mean_kl_error == pytest.approx(kl.std(ddof=1) / root, rel=1e-9)
        shown = (found.median_kl, found.p99_kl, found.p99_9_kl, found.max_kl)
        assert shown == pytest.approx(np.percentile(kl, [50, 99, 99.9, 100]), rel=1e-6)
        assert found.top1_agreement == pytest.approx(same.mean())
        assert found.top1_agreement_error == pytest.approx(
            np.sqrt(same.mean() * (1 - same.mean()) / (2 * rows - 1))
        )
        assert found.log_ratio == pytest.approx(np.log(found.perplexity / found.reference_perplexity))
        spread = np.cov(loss, against)
        paired = np.sqrt((spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]) / (2 * rows))
        assert found.log_ratio_error == pytest.approx(paired, rel=1e-9)


def test_tallies_survive_their_arrays_bit_by_bit() -> None:
    tallies, _ = tallied(7, 3)
    again = Tallies.of(tallies.arrays())
    assert (again.windows, again.positions, again.reference) == (2, 14, tallies.reference)
    for one, other in zip(tallies.models, again.models, strict=True):
        assert one.moments == other.moments
        assert one.figures(tallies.reference) == other.figures(again.reference)


def test_a_models_hash_is_that_of_all_its_files(tmp_path: Path) -> None:
    """Of one file its own; of a folder or of parts it changes with any of them, and with their names."""
    one = tmp_path / "one.gguf"
    one.write_bytes(b"x")
    assert model_hash(one) == hashlib.sha256(b"x").hexdigest()
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (folder / name).write_bytes(b"x")
    first = model_hash(folder)
    (folder / "README.md").write_bytes(b"y")
    assert model_hash(folder) == first
    (folder / "model.safetensors").write_bytes(b"y")
    assert model_hash(folder) != first
    parts = [tmp_path / f"a-0000{number}-of-00002.gguf" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"x")
    first = model_hash(parts[0])
    assert first not in {hashlib.sha256(b"x").hexdigest(), hashlib.sha256(b"xx").hexdigest()}
    parts[1].write_bytes(b"y")
    assert model_hash(parts[0]) != first
