"""Formats of cache entries: what is read back is the nearest number there is, whatever the entry holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fivefold.core.errors import InputError
from fivefold.core.layout import CacheGroup
from fivefold.formats import ENTRY_FORMATS, entry_format

SCALED = [name for name, form in ENTRY_FORMATS.items() if form.scale_bytes]


def e4m3() -> npt.NDArray[np.float64]:
    """All finite E4M3 numbers that are not negative, by their definition; the index is the code."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    found: npt.NDArray[np.float64] = np.where(exponent == 0, mantissa * 2.0**-9, normal)
    return found


CODES = {"int8": np.arange(128.0), "fp8": e4m3()}


@pytest.mark.parametrize("name", SCALED)
def test_every_code_comes_back(name: str) -> None:
    codes = np.concatenate([CODES[name], -CODES[name]]).astype(np.float32)
    np.testing.assert_array_equal(ENTRY_FORMATS[name].read_back(codes), codes)


@pytest.mark.parametrize("name", SCALED)
def test_numbers_become_the_nearest_code_and_the_even_one_at_a_tie(name: str) -> None:
    codes = CODES[name]
    middles = ((codes[1:] + codes[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middles, np.float32(side)) for side in (0, 999)]
    # The first one makes the scale 1.
    x = np.concatenate([codes[-1:], middles, *near, -middles]).astype(np.float32)
    distance = np.abs(np.abs(x[:, None].astype(np.float64)) - np.append(codes, np.inf))
    best = distance.argmin(axis=1)
    best += (distance[np.arange(len(x)), best + 1] == distance.min(axis=1)) & (best % 2 == 1)
    np.testing.assert_array_equal(ENTRY_FORMATS[name].read_back(x), np.copysign(codes[best], x))


@pytest.mark.parametrize("name", ENTRY_FORMATS)
def test_extremes(name: str) -> None:
    form = ENTRY_FORMATS[name]
    for x in (np.zeros(7), np.full(7, 1e-45)):
        assert not np.any(np.abs(form.read_back(x.astype(np.float32))) > 1e-44)
    huge = np.array([3e38, -3e38, 1e30, 0], np.float32)
    if form.scale_bytes:
        np.testing.assert_allclose(form.read_back(huge), [3e38, -3e38, 0, 0], rtol=1e-6, atol=1e35)
        small = np.array([1e-30, -5e-31, 0], np.float32)
        np.testing.assert_allclose(form.read_back(small), small, rtol=0.04)
    for wrong in (np.nan, np.inf, -np.inf):
        x = np.array([[1, wrong, 2], [1, 2, 3]], np.float32)
        found = form.read_back(x)
        assert not np.isfinite(found[0, 1])
        assert np.isfinite(found[1]).all(), "an entry does not know its neighbours"


@pytest.mark.parametrize("name", ENTRY_FORMATS)
def test_an_entry_is_rounded_alone(name: str) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1, (5, 3, 20)) * 10.0 ** rng.integers(-5, 4, (5, 3, 1))).astype(np.float32)
    form = ENTRY_FORMATS[name]
    found = form.read_back(x)
    largest = np.abs(x).max(axis=-1, keepdims=True)
    bound = {
        "f16": largest * 2.0**-11 + 2.0**-25,
        "bf16": largest * 2.0**-8,
        "int8": largest / 253,
        "fp8": largest / 27,
    }
    assert np.all(np.abs(found - x) <= bound[name])
    for index in np.ndindex(5, 3):
        np.testing.assert_array_equal(form.read_back(x[index]), found[index])


def test_bytes_of_an_entry() -> None:
    group = CacheGroup("main", (0, 1), kv_heads=3, key_width=64, value_width=64)
    latent = CacheGroup("latent", (0,), kv_heads=1, key_width=576, value_width=512, value_in_key=True)
    found = {
        name: [one.entry_bytes(form.number_bytes, form.scale_bytes) for one in (group, latent)]
        for name, form in ENTRY_FORMATS.items()
    }
    assert found == {"f16": [1536, 1152], "bf16": [1536, 1152], "int8": [816, 584], "fp8": [816, 584]}


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"--kv.*'int4'.*f16, bf16, int8, fp8"):
        entry_format("int4", "--kv")
