"""Changes of GGUF files that keep most of their structure: it is walked, and one thing in it is changed."""

from __future__ import annotations

import contextlib
import random
import struct
from dataclasses import dataclass, field

from fivefold.files.ggml_types import GGML_TYPES
from fivefold.files.tokenizer_pre import PRE_TOKENIZERS

WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ODD = (
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    33,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63,
    2**64 - 1,
)
ODD_FLOATS = (0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"), 10000.0, 1.0000001)
KEYS = [
    "general.architecture", "general.alignment", "general.name", "split.count", "split.no",
    "split.tensors.count",
    *(f"llama.{name}" for name in (
        "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
        "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
        "attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count",
        "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
        "rope.scaling.finetuned", "rope.scaling.attn_factor", "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow", "rope.scale_linear")),
    *(f"tokenizer.ggml.{name}" for name in (
        "model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id",
        "eot_token_id", "eom_token_id", "unknown_token_id", "add_bos_token", "add_space_prefix",
        "remove_extra_whitespaces", "precompiled_charsmap", "normalizer.lowercase",
        "normalizer.strip_accents")),
    "tokenizer.chat_template",
]  # fmt: skip
TEXTS = [
    "", "a", "llama", "qwen2", "gpt2", "gemma4", "whitespace", "t5", "bert", "none", "linear", "yarn", "phi3",
    "token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight", "blk.0.attn_q.weight",
    "blk.0.attn_q.bias", "<0x0A>", "<|end|>", "\u2581", "\u2581a", "a b", "ab c", "\U0001f680", "\x1b[2J\n",
    "[MASK]", "</s>", "\u0301", "x" * 300, *PRE_TOKENIZERS, *KEYS,
]  # fmt: skip


@dataclass
class Map:
    """Where things lie: numbers as (place, width), texts as (place, length), whole pairs and entries."""

    numbers: list[tuple[int, int]] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    texts: list[tuple[int, int]] = field(default_factory=list)
    arrays: list[tuple[int, int, int]] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    entries: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0


class _Walk:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.map = data, 0, Map()

    def number(self, width: int) -> int:
        if self.at + width > len(self.data):
            raise EOFError
        self.map.numbers.append((self.at, width))
        self.at += width
        return int.from_bytes(self.data[self.at - width : self.at], "little")

    def text(self) -> None:
        length = self.number(8)
        if self.at + length > len(self.data):
            raise EOFError
        self.map.texts.append((self.at, length))
        self.at += length

    def value(self, kind: int, depth: int = 0) -> None:
        if kind == 8:
            self.text()
        elif kind == 9 and depth < 5:
            self.map.kinds.append(self.at)
            inner = self.number(4)
            place = self.at
            count = self.number(8)
            if inner in WIDTHS:
                size = count * WIDTHS[inner]
                if self.at + size > len(self.data):
                    raise EOFError
                self.map.arrays.append((place, count, WIDTHS[inner]))
                self.map.numbers.extend(
                    (self.at + i * WIDTHS[inner], WIDTHS[inner]) for i in range(min(count, 4))
                )
                self.at += size
                return
            for _ in range(count):
                self.value(inner, depth + 1)
        else:
            self.number(WIDTHS.get(kind, 1 << 60))

    def whole(self) -> None:
        self.at = 4
        self.number(4)
        entries, pairs = self.number(8), self.number(8)
        for _ in range(pairs):
            begin = self.at
            self.text()
            self.map.kinds.append(self.at)
            self.value(self.number(4))
            self.map.pairs.append((begin, self.at))
        for _ in range(entries):
            begin = self.at
            self.text()
            for _ in range(min(self.number(4), 8)):
                self.number(8)
            self.map.kinds.append(self.at)
            self.number(4)
            self.number(8)
            self.map.entries.append((begin, self.at))


def walk(data: bytes) -> Map:
    """The map of a file, as far as it can be walked."""
    walker = _Walk(data)
    with contextlib.suppress(EOFError):
        walker.whole()
    walker.map.end = walker.at
    return walker.map


def change(data: bytes, chosen: random.Random) -> bytes:
    """A file with one to three things changed."""
    for _ in range(chosen.choice((1, 1, 1, 2, 3))):
        found = walk(data)
        data = chosen.choice(_CHANGES)(bytearray(data), found, chosen)
    return data


def _number(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    if not found.numbers:
        return bytes(data)
    place, width = chosen.choice(found.numbers)
    old = int.from_bytes(data[place : place + width], "little")
    roll = chosen.random()
    if roll < 0.4:
        new = old + chosen.choice((-32, -2, -1, 1, 2, 32))
    elif roll < 0.6 and width >= 4:
        form, value = ("<f", chosen.choice(ODD_FLOATS)) if width == 4 else ("<d", chosen.choice(ODD_FLOATS))
        data[place : place + width] = struct.pack(form, value)
        return bytes(data)
    else:
        new = chosen.choice(ODD) if roll < 0.9 else chosen.getrandbits(8 * width)
    data[place : place + width] = (new % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(data)


def _kind(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    if found.kinds:
        place = chosen.choice(found.kinds)
        number = chosen.choice((*range(14), *GGML_TYPES, 31, 77))
        data[place : place + 4] = number.to_bytes(4, "little")
    return bytes(data)


def _text(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    if found.texts:
        place, length = chosen.choice(found.texts)
        new = chosen.choice(TEXTS).encode()
        if chosen.random() < 0.15:
            new = chosen.choice(
                (b"\xff", b"\xc3", b"\xed\xa0\x80", new * 3, bytes(data[place : place + length]) * 2)
            )
        data[place - 8 : place + length] = struct.pack("<Q", len(new)) + new
    return bytes(data)


def _array(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    """Elements more or fewer, with the count as it should be."""
    if found.arrays:
        place, count, width = chosen.choice(found.arrays)
        begin, end = place + 8, place + 8 + count * width
        new = chosen.choice((0, 1, count - 1, count + 1, chosen.randrange(300)))
        kept = bytes(data[begin:end])[: max(new, 0) * width]
        kept += chosen.randbytes(max(new, 0) * width - len(kept))
        data[place:end] = struct.pack("<Q", max(new, 0)) + kept
    return bytes(data)


def _spans(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    """A key or an entry taken out, put in twice, or moved."""
    spans, count_at = (found.pairs, 16) if chosen.random() < 0.6 or not found.entries else (found.entries, 8)
    if not spans:
        return bytes(data)
    begin, end = chosen.choice(spans)
    count = int.from_bytes(data[count_at : count_at + 8], "little")
    one = bytes(data[begin:end])
    roll = chosen.random()
    if roll < 0.4:
        data[begin:end] = b""
        count -= 1
    elif roll < 0.8:
        place = chosen.choice(spans)[0]
        data[place:place] = one
        count += 1
    else:
        key = chosen.choice(KEYS).encode()
        value = chosen.choice((
            struct.pack("<II", 4, chosen.choice((0, 1, 2, 8, 32, 260))), struct.pack("<I?", 7, True),
            struct.pack("<If", 6, chosen.choice(ODD_FLOATS)), struct.pack("<IIQ", 9, 8, 0),
            struct.pack("<IQ", 8, 4) + b"gpt2", struct.pack("<Id", 12, chosen.choice(ODD_FLOATS)),
            struct.pack("<IIQIQ", 9, 9, 1, 4, 0),
        ))  # fmt: skip
        data[begin:begin] = struct.pack("<Q", len(key)) + key + value
        count += 1
    data[count_at : count_at + 8] = (count % 2**64).to_bytes(8, "little")
    return bytes(data)


def _raw(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    del found
    for _ in range(chosen.randrange(1, 4)):
        if data:
            data[chosen.randrange(len(data))] = chosen.getrandbits(8)
    return bytes(data)


def _length(data: bytearray, found: Map, chosen: random.Random) -> bytes:
    if chosen.random() < 0.5:
        return bytes(data[: chosen.randrange(len(data) + 1)])
    return bytes(data) + bytes(chosen.choice((1, 31, 32, 1024, 4096))) * (found.end > 0)


_CHANGES = (_number, _number, _number, _kind, _text, _text, _array, _spans, _spans, _raw, _length)
