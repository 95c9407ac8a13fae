"""Bytes as tokens write them, and reading bytes that may not be UTF-8.

Byte-level BPE works on text in which every byte is written as one printable character; other
vocabularies have 256 tokens like <0x0A>, for what they cannot spell. The lenient reading is llama.cpp's,
so that any input gives the ids it gives there: it accepts over-long forms and lone surrogates and takes
every other bad byte for U+FFFD. Python's own `errors="replace"` groups bad bytes, and so gives other ids.

Sources: byte_encoder in GPT-2's encoder.py; unicode_cpts_from_utf8 in llama.cpp's src/unicode.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Container

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SPACE_MARK = "▁"
"""Stands for a space in the tokens of vocabularies that are not byte-level."""
SURROGATE = re.compile("([\ud800-\udfff])")
"""A lone surrogate; a Python text may hold some, and UTF-8 may not."""

_SEQUENCE = re.compile(
    rb"[\x00-\x7f]+|[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3}|.", re.DOTALL
)
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_LEAD_BITS = {2: 0x1F, 3: 0x0F, 4: 0x07}


def _alphabet() -> str:
    """One character for each byte: itself where it can be seen, else the next one from U+0100."""
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    unseen = [byte for byte in range(256) if byte not in seen]
    return "".join(chr(byte) if byte in seen else chr(256 + unseen.index(byte)) for byte in range(256))


BYTE_CHARACTERS = _alphabet()
"""Character number b stands for byte b."""

_CHARACTER_BYTES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def characters_of(data: bytes) -> str:
    """Bytes in the byte alphabet."""
    return data.decode("latin-1").translate(BYTE_CHARACTERS)


def bytes_of(text: str) -> bytes | None:
    """The bytes that a text in the byte alphabet stands for; None if a character is not in it."""
    try:
        return bytes([_CHARACTER_BYTES[character] for character in text])
    except KeyError:
        return None


def byte_token(byte: int) -> str:
    """The token that stands for a byte where the vocabulary is not byte-level."""
    return f"<0x{byte:02X}>"


def byte_of(token: str) -> bytes | None:
    """The byte that a token like <0x0A> stands for; None for other tokens."""
    found = _BYTE_TOKEN.fullmatch(token)
    return None if found is None else bytes.fromhex(found.group(1))


def token_like(spelled: str, tokens: Container[str]) -> str:
    """A text as a token: itself, or the token of its byte if it is one byte and no token by itself."""
    data = spelled.encode("utf-8", "surrogatepass")
    return byte_token(data[0]) if len(data) == 1 and spelled not in tokens else spelled


def lenient_text(data: bytes) -> str:
    """Bytes as text, read as llama.cpp does. Lone surrogates stay, as lone surrogates."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(_sequence_text(match.group()) for match in _SEQUENCE.finditer(data))


def _sequence_text(sequence: bytes) -> str:
    if sequence[0] < 0x80:
        return sequence.decode("ascii")
    if len(sequence) == 1:
        return REPLACEMENT
    point = sequence[0] & _LEAD_BITS[len(sequence)]
    for byte in sequence[1:]:
        point = point << 6 | byte & 0x3F
    # Above the last code point nothing can be written back: llama.cpp stops there, we replace.
    return chr(point) if point <= 0x10FFFF else REPLACEMENT * len(sequence)
