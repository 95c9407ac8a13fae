"""Number formats against GGUF's own quantizer, against arithmetic done by hand, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fivefold.core.errors import FivefoldError, InputError, UnsupportedError
from fivefold.formats import FORMATS, e2m1, e4m3, format_of, nvfp4

NAMES = sorted(FORMATS)
BLOCKED = [name for name in NAMES if FORMATS[name].quantized]
SAME_BYTES = ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"]
"""Formats whose plain rounding gguf-py has too."""


def samples() -> np.ndarray:
    """Blocks of many scales, with zero, constant, tied and integer ones among them."""
    random = np.random.default_rng(7)
    values = random.standard_normal((512, 32)) * np.exp(2 * random.standard_normal((512, 1)))
    values[0] = 0.0
    values[1] = 1.5
    values[2] = -3.25
    values[3] = np.arange(32) - 16
    values[4] = np.tile([2.0, -2.0], 16)
    values[5, 0] = 1000.0
    return values.astype(np.float32).reshape(-1)


def fitting(name: str) -> np.ndarray:
    """The same, such that the format can hold them without a factor for all."""
    largest = {"f8_e4m3": 448.0, "nvfp4": 2688.0}.get(name)
    return samples() if largest is None else np.clip(samples(), -largest, largest)


@pytest.mark.parametrize("name", SAME_BYTES)
def test_same_bytes_and_values_as_gguf(name: str) -> None:
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[name.upper()]
    row, values = FORMATS[name], samples()
    theirs = gguf.quants.quantize(values.reshape(-1, 32), kind).view(np.uint8).reshape(-1)
    ours = row.pack(values)
    np.testing.assert_array_equal(ours, theirs)
    read = gguf.quants.dequantize(theirs.reshape(-1, row.bytes_for(32)), kind).reshape(-1)
    np.testing.assert_array_equal(row.unpack(ours, values.size), read)


def test_recorded_blocks() -> None:
    """The bytes of one small ramp, recorded, so that no peer is needed to notice a change."""
    ramp = (np.arange(32, dtype=np.float32) - 12) / 8
    recorded = {
        "q8_0": "ca24b0b6bdc4cbd1d8dfe5ecf3f900070d141b21282f353c434a50575e646b72787f",
        "q4_0": "c0b46d6d5c5c5b4b4b3a3a39292818180707",
        "q4_1": "223400be80809191a2a2b3b3c4c4d5d5e6e6f7f7",
        "q5_0": "c0b0ff1f0000dac9b8a89786857463534231302f1e0d",
        "q5_1": "003000be0000ffff00112233445566778899aabbccddeeff",
        "iq4_nl": "caa46e5d5d4c4c3c3b3b2a2a191818170706",
    }
    for name, expected in recorded.items():
        assert FORMATS[name].pack(ramp).tobytes().hex() == expected


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name: str) -> None:
    row = FORMATS[name]
    values = fitting(name)
    data = row.pack(values)
    assert data.dtype == np.uint8 and data.shape == (row.bytes_for(values.size),)
    read = row.unpack(data, values.size)
    assert read.dtype == np.float32 and read.shape == values.shape
    assert row.bits == 8 * data.size / values.size
    assert row.pack(values[:0]).size == 0 and row.unpack(data[:0], 0).size == 0
    with pytest.raises(InputError, match=name):
        row.unpack(data[:-1], values.size)
    if row.block > 1:
        with pytest.raises(InputError, match=f"blocks of {row.block}"):
            row.bytes_for(row.block + 1)
        with pytest.raises(InputError, match="whole blocks"):
            row.pack(values[: row.block + 1])


@pytest.mark.parametrize("name", NAMES)
def test_packing_what_was_unpacked_changes_no_number(name: str) -> None:
    row = FORMATS[name]
    once = row.unpack(row.pack(fitting(name)), samples().size)
    twice = row.unpack(row.pack(once), once.size)
    # A part's smallest code may move by one where its scale is a rounded multiple of the block's.
    rounded = {"q2_k": 0.4, "q3_k": 0.1, "q4_k": 0.1, "q5_k": 0.05, "q6_k": 0.02, "iq4_xs": 0.1}
    tolerance = rounded.get(name, 2e-3 if FORMATS[name].quantized else 0.0)
    size = max(FORMATS[name].block, 32)
    largest = np.abs(once.reshape(-1, size)).max(axis=1, keepdims=True)
    assert (np.abs(once - twice).reshape(-1, size) <= tolerance * largest).all()


@pytest.mark.parametrize(
    ("name", "steps"), [("q8_0", 127), ("q4_0", 8), ("q4_1", 15), ("q5_0", 16), ("q5_1", 31)]
)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_error_is_at_most_half_a_step(name: str, steps: int, data: st.DataObject) -> None:
    exponent = data.draw(st.integers(-3, 8))
    numbers = st.floats(-1, 1, width=32, allow_subnormal=False)
    values = data.draw(hnp.arrays(np.float32, 32, elements=numbers)) * np.float32(2.0**exponent)
    row = FORMATS[name]
    error = np.abs(row.unpack(row.pack(values), 32).astype(np.float64) - values)
    largest = float(np.abs(values).max())
    span = float(values.max() - values.min()) if name in {"q4_1", "q5_1"} else largest
    # q4_0 has no code for +8, so the end opposite to its largest number may be a whole step off; q5_0 alike.
    share = 1.0 if name in {"q4_0", "q5_0"} else 0.5
    assert error.max() <= share * span / steps + largest * 2.0**-10 + 2.0**-24 * (steps + 1)


def test_unpack_by_hand() -> None:
    half = np.array([0.5], "<f2").view(np.uint8)
    minus = np.array([-3.0], "<f2").view(np.uint8)
    codes = np.arange(32) % 16
    packed = (codes[:16] | codes[16:] << 4).astype(np.uint8)
    four = FORMATS["q4_0"].unpack(np.concatenate([half, packed]), 32)
    np.testing.assert_array_equal(four, 0.5 * (codes - 8))
    above = FORMATS["q4_1"].unpack(np.concatenate([half, minus, packed]), 32)
    np.testing.assert_array_equal(above, 0.5 * codes - 3.0)
    signed = np.arange(-16, 16).astype(np.int8)
    eight = FORMATS["q8_0"].unpack(np.concatenate([half, signed.view(np.uint8)]), 32)
    np.testing.assert_array_equal(eight, 0.5 * signed)


def test_unpack_does_not_look_into_its_source() -> None:
    """Numbers read are a copy: a mapped file stays as it is, and unaligned views are fine."""
    values = np.clip(samples()[:256], -448, 448)
    for row in FORMATS.values():
        stored = np.concatenate([np.zeros(1, np.uint8), row.pack(values)])
        stored.flags.writeable = False
        read = row.unpack(stored[1:], 256)
        before = read.copy()
        read += 1.0
        np.testing.assert_array_equal(row.unpack(stored[1:], 256), before)


def test_all_half_and_brain_floats_survive() -> None:
    bits = np.arange(65536, dtype="<u2").view(np.uint8)
    for name in ("f16", "bf16"):
        values = FORMATS[name].unpack(bits, 65536)
        again = FORMATS[name].pack(values)
        finite = ~np.isnan(values)
        np.testing.assert_array_equal(again.view("<u2")[finite], bits.view("<u2")[finite])
        assert np.isnan(FORMATS[name].unpack(again, 65536)[~finite]).all()


def test_brain_floats_round_to_nearest_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x7F7F8000, 0xBF808000], np.uint32)
    stored = FORMATS["bf16"].pack(bits.view(np.float32)).view("<u2")
    assert stored.tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F81, 0x7F80, 0xBF80]


def test_floats_keep_what_is_not_finite() -> None:
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0], np.float32)
    nan_low_bits = np.array([0x7F800001], np.uint32).view(np.float32)
    for name in ("f32", "f16", "bf16"):
        read = FORMATS[name].unpack(FORMATS[name].pack(odd), 5)
        np.testing.assert_array_equal(read, odd)
        np.testing.assert_array_equal(np.signbit(read), np.signbit(odd))
        assert np.isnan(FORMATS[name].unpack(FORMATS[name].pack(nan_low_bits), 1)).all()


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantized_blocks_refuse_what_is_not_finite(name: str, bad: float) -> None:
    values = samples()
    values[70] = bad
    with pytest.raises(FivefoldError, match="number 70 is"):
        FORMATS[name].pack(values)


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.filterwarnings("error")
def test_extreme_blocks(name: str) -> None:
    row = FORMATS[name]
    size = row.block
    assert (row.unpack(row.pack(np.zeros(2 * size, np.float32)), 2 * size) == 0).all()
    tiny = np.full(size, 1e-41, np.float32)
    tiny[0] = -1e-40
    np.testing.assert_array_equal(row.unpack(row.pack(tiny), size), np.zeros(size))
    huge = np.full(size, 3e38, np.float32)
    huge[0] = -3e38
    if name == "mxfp4":  # whose powers of two go as far as float32
        np.testing.assert_array_equal(
            row.unpack(row.pack(huge), size), np.sign(huge) * np.float32(6 * 2.0**125)
        )
        return
    with pytest.raises(FivefoldError, match=r"more than (f16|E4M3) can hold"):
        row.pack(huge)


def test_all_numbers_of_e4m3_survive() -> None:
    codes = np.arange(256, dtype=np.uint8)
    values = FORMATS["f8_e4m3"].unpack(codes, 256)
    known = ~np.isnan(values)
    assert np.flatnonzero(~known).tolist() == [0x7F, 0xFF]
    np.testing.assert_array_equal(FORMATS["f8_e4m3"].pack(values[known]), codes[known])
    by_definition = [
        (-1) ** (c >> 7)
        * (2.0**-6 * (c & 7) / 8 if c >> 3 & 15 == 0 else 2.0 ** ((c >> 3 & 15) - 7) * (1 + (c & 7) / 8))
        for c in codes[known].tolist()
    ]
    np.testing.assert_array_equal(values[known], by_definition)


@settings(max_examples=200, deadline=None)
@given(value=st.floats(0, 464, width=32))
def test_e4m3_takes_the_nearest_number_the_even_code_on_ties(value: float) -> None:
    """Also between 256 and 448, and from the largest subnormal number to the least normal one."""
    numbers = e4m3.VALUES[:127].astype(np.float64)
    distances = np.abs(numbers - value)
    best = np.flatnonzero(distances == distances.min())
    code = int(e4m3.nearest(np.array([value], np.float32))[0])
    assert code in best
    assert len(best) == 1 or code % 2 == 0


@pytest.mark.parametrize("bad", [465.0, -1e9, np.nan, np.inf])
def test_e4m3_refuses_what_it_cannot_hold(bad: float) -> None:
    with pytest.raises(FivefoldError, match="number 1 is"):
        FORMATS["f8_e4m3"].pack(np.array([1.0, bad], np.float32))


@settings(max_examples=200, deadline=None)
@given(value=st.floats(-8, 8, width=32))
def test_e2m1_takes_the_nearest_number_the_even_code_on_ties(value: float) -> None:
    distances = np.abs(e2m1.VALUES.astype(np.float64) - value)
    best = np.flatnonzero(distances == distances.min())
    code = int(e2m1.nearest(np.array([value], np.float32))[0])
    assert code in best
    assert code != 8
    assert len(best) == 1 or code % 2 == 0 or value == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_part_of_nvfp4_is_its_numbers_over_its_scale(data: st.DataObject) -> None:
    numbers = st.floats(-2600, 2600, width=32, allow_subnormal=False)
    values = data.draw(hnp.arrays(np.float32, 64, elements=numbers))
    row = FORMATS["nvfp4"]
    stored = row.pack(values)
    np.testing.assert_array_equal(nvfp4.join(*nvfp4.split(stored.reshape(1, -1))), stored)
    read = row.unpack(stored, 64).reshape(4, 16)
    largest = np.abs(values).reshape(4, 16).max(axis=1)
    error = np.abs(read - values.reshape(4, 16)).max(axis=1)
    # The scale is off by at most 1/16; a step between 4 and 6 is 2 scales wide. Subnormal scales are coarser.
    assert (error <= largest / 6 * 1.4 + 6 * 2.0**-10).all()


def test_scales_of_four_bit_floats_at_their_ends() -> None:
    stored = np.zeros(17, np.uint8)
    stored[1] = 0x17  # 6 and 0.5
    for code, power in ((0, 2.0**-127), (1, 2.0**-126), (127, 1.0), (254, 2.0**127)):
        stored[0] = code
        read = FORMATS["mxfp4"].unpack(stored, 32)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(
                read[[0, 16]], np.array([6 * power, 0.5 * power]).astype(np.float32)
            )
    stored[0] = 255
    assert np.isnan(FORMATS["mxfp4"].unpack(stored, 32)).any()
    part = np.zeros(36, np.uint8)
    part[:4], part[4] = [1, 0x7E, 0x80 | 0x38, 0x7F], 0x17
    part[12] = part[20] = part[28] = 0x17
    read = FORMATS["nvfp4"].unpack(part, 64).reshape(4, 16)
    np.testing.assert_array_equal(read[:3, 0], [6 * 2.0**-9, 6 * 448, 6])  # a scale's sign is ignored
    assert np.isnan(read[3, 0])


def test_table() -> None:
    assert {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl"} <= set(FORMATS)
    assert {"q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"} <= set(FORMATS)
    assert all(name == row.name for name, row in FORMATS.items())
    assert format_of("q4_1") is FORMATS["q4_1"]
    with pytest.raises(UnsupportedError) as caught:
        format_of("q9_z", where="model.gguf: blk.0.attn_q.weight")
    line = str(caught.value)
    assert "'q9_z'" in line and "model.gguf: blk.0.attn_q.weight" in line and "q4_1" in line
