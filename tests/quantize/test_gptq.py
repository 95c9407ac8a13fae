"""Grids, moments and GPTQ against brute force, least squares and what plain rounding loses."""

from __future__ import annotations

import numpy as np
import pytest

from fivefold.core.errors import InputError
from fivefold.executor import dequantize
from fivefold.formats import FORMATS, e2m1
from fivefold.quantize.choice import Choice
from fivefold.quantize.gptq import gptq
from fivefold.quantize.grids import GRIDS, grid_of, round_e2m1
from fivefold.quantize.moments import Moments, moments_of

FORMS = sorted(GRIDS)


def inputs(count: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows whose columns are mixed with each other and of different size."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((count, columns)) @ random.standard_normal((columns, columns)) * 0.1
    mixed += random.standard_normal((count, 1)) * random.uniform(0, 1, columns)
    return (mixed * random.lognormal(0, 1, columns)).astype(np.float32)


def matrix(rows: int, columns: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.standard_t(4, (rows, columns)) * 0.02).astype(np.float32)


def rounded(form: str, values: np.ndarray, factor: float | None = None) -> np.ndarray:
    if factor is None:
        factor = np.abs(values).max() / 2688 if form == "nvfp4" else 1.0
    row = FORMATS[form]
    stored = row.pack((values / factor).astype(np.float32).reshape(-1))
    return row.unpack(stored, values.size).reshape(values.shape) * np.float32(factor)


def test_levels_are_those_of_the_format() -> None:
    x = np.linspace(-9, 9, 20001).astype(np.float32)
    np.testing.assert_array_equal(round_e2m1(x), e2m1.VALUES[e2m1.nearest(x)])
    halves = (e2m1.VALUES[:7] + e2m1.VALUES[1:8]) / 2
    np.testing.assert_array_equal(round_e2m1(halves), e2m1.VALUES[e2m1.nearest(halves)])


@pytest.mark.parametrize("form", FORMS)
def test_a_grid_s_tensor_is_its_levels_times_its_scales(form: str) -> None:
    grid = grid_of(Choice(form, "gptq"), "")
    left = matrix(40, 128).T
    factor = grid.factor(left)
    scales = np.stack(
        [grid.candidates(left[at : at + grid.part] / factor)[1] for at in range(0, 128, grid.part)]
    )
    levels = grid.round(left / factor / np.repeat(scales, grid.part, axis=0))
    tensor = grid.tensor("t", levels, scales, factor)
    assert tensor.format == form and tensor.shape == (40, 128)
    want = (levels * np.repeat(scales, grid.part, axis=0)).T
    np.testing.assert_array_equal(dequantize(tensor), want * factor if tensor.scales else want)


@pytest.mark.parametrize("form", FORMS)
def test_candidates_hold_the_plain_scale_and_never_zero(form: str) -> None:
    grid = grid_of(Choice(form, "gptq"), "")
    part = matrix(50, grid.part, 3).T / grid.factor(matrix(50, grid.part, 3))
    part[:, 0] = 0.0
    part[:, 1] = 1e-30
    tried = grid.candidates(part.astype(np.float32))
    assert (tried != 0).all() and np.isfinite(tried).all()
    assert np.isfinite(grid.round(part / tried[0])).all()


def slow_gptq(values: np.ndarray, moments: Moments, form: str, damping: float) -> np.ndarray:
    """Row by row and column by column, in float64, each scale of a part tried to its end."""
    grid = grid_of(Choice(form, "gptq"), "")
    factor = grid.factor(values)
    inverse = np.linalg.inv(moments.own + moments.ridge(damping))
    upper = np.linalg.cholesky(inverse).T
    out = np.zeros(values.shape)
    for m, row in enumerate(values.astype(np.float64) / factor):
        left = row.copy()
        for begin in range(0, len(row), grid.part):
            best = (np.inf, left, left)
            for scale in grid.candidates(left[begin : begin + grid.part, None].astype(np.float32))[:, 0]:
                trial, found, loss = left.copy(), np.zeros(grid.part), 0.0
                for j in range(begin, begin + grid.part):
                    level = float(grid.round(np.array([trial[j] / scale], np.float32))[0])
                    found[j - begin] = level * scale
                    error = (trial[j] - level * scale) / upper[j, j]
                    loss += error**2
                    trial[j + 1 :] -= error * upper[j, j + 1 :]
                if loss < best[0]:
                    best = (loss, trial, found)
            left, out[m, begin : begin + grid.part] = best[1], best[2]
    return out * factor


@pytest.mark.parametrize("form", FORMS)
def test_gptq_is_the_slow_definition(form: str) -> None:
    values = matrix(6, 128)
    moments = moments_of([inputs(300, 128)])
    fast = dequantize(gptq("w", values, moments, grid_of(Choice(form, "gptq"), "")))
    slow = slow_gptq(values, moments, form, 0.01)
    # A near tie may fall to the other side in float32, and then the rest of that row differs.
    same = np.isclose(fast, slow, rtol=1e-6, atol=1e-9).mean(axis=1)
    assert np.sort(same)[1] == 1.0
    assert moments.error(values, fast) == pytest.approx(
        moments.error(values, slow.astype(np.float32)), rel=0.05
    )


@pytest.mark.parametrize("form", FORMS)
def test_gptq_loses_far_less_than_rounding(form: str) -> None:
    values = matrix(64, 256)
    moments = moments_of([inputs(2000, 256)])
    lost = moments.error(values, dequantize(gptq("w", values, moments, grid_of(Choice(form, "gptq"), ""))))
    assert lost < 0.5 * moments.error(values, rounded(form, values))
    fresh = moments_of([inputs(2000, 256)[::-1][:1000] * 1.1])
    assert fresh.error(
        values, dequantize(gptq("w", values, moments, grid_of(Choice(form, "gptq"), "")))
    ) < 0.6 * fresh.error(values, rounded(form, values))


@pytest.mark.parametrize("form", FORMS)
def test_without_correlations_it_is_the_best_scale_of_each_part(form: str) -> None:
    """No column can make up for another, so that nothing is lost against rounding in any part."""
    values = matrix(30, 128)
    stored = dequantize(gptq("w", values, Moments(np.eye(128)), grid_of(Choice(form, "gptq"), "")))
    plain = rounded(form, values, grid_of(Choice(form, "gptq"), "").factor(values))
    size = grid_of(Choice(form, "gptq"), "").part

    def losses(found: np.ndarray) -> np.ndarray:
        return ((found - values) ** 2).reshape(30, -1, size).sum(axis=2)

    assert (losses(stored) <= 1.0001 * losses(plain) + 1e-12).all()
    assert losses(stored).sum() < losses(plain).sum()


@pytest.mark.parametrize("form", FORMS)
def test_zeros_dead_columns_and_one_huge_number(form: str) -> None:
    x = inputs(200, 128)
    x[:, 5] = 0.0
    x[:, 64:96] = 0.0
    moments = moments_of([x])
    assert (
        dequantize(gptq("w", np.zeros((4, 128), np.float32), moments, grid_of(Choice(form, "gptq"), ""))) == 0
    ).all()
    assert np.isfinite(
        dequantize(
            gptq("w", matrix(4, 128), Moments(np.zeros((128, 128))), grid_of(Choice(form, "gptq"), ""))
        )
    ).all()
    huge = matrix(4, 128)
    huge[2, 7] = 1000.0
    found = dequantize(gptq("w", huge, moments, grid_of(Choice(form, "gptq"), "")))
    assert abs(found[2, 7] - 1000) < 100 and np.isfinite(found).all()


def test_columns_that_fill_no_part_are_refused() -> None:
    with pytest.raises(InputError, match="w: 40 columns do not fill whole parts of 16"):
        gptq("w", matrix(4, 40), Moments(np.eye(40)), grid_of(Choice("nvfp4", "gptq"), ""))


def test_the_target_makes_up_for_other_inputs() -> None:
    """Least squares: what comes nearest to W x' from x."""
    before = inputs(500, 32, 5)
    after = before + 0.3 * inputs(500, 32, 6)
    moments = moments_of([after[:200], after[200:]], [before[:200], before[200:]])
    values = matrix(7, 32)
    wanted, *_ = np.linalg.lstsq(after.astype(np.float64), before.astype(np.float64) @ values.T, rcond=None)
    np.testing.assert_allclose(moments.target(values, 1e-9), wanted.T, rtol=2e-3, atol=1e-6)
    assert moments.target(values, 1e9) == pytest.approx(values, rel=1e-3)
    np.testing.assert_allclose(moments.mean, after.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moments.plain_mean, before.mean(axis=0), rtol=1e-4, atol=1e-5)


def test_scaled_moments_are_those_of_scaled_inputs() -> None:
    before, after = inputs(100, 16, 1), inputs(100, 16, 2)
    factors = np.linspace(0.5, 2, 16)
    scaled = moments_of([after], [before]).scaled(factors)
    want = moments_of([(after * factors).astype(np.float32)], [before])
    np.testing.assert_allclose(scaled.own, want.own, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scaled.cross, want.cross, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(scaled.mean, want.mean, rtol=1e-4, atol=1e-4)
