"""The bytes of single tokens, read off the "decoder" of a tokenizer.json.

A decoder of the library turns a list of tokens into text. Text is shown here while tokens come, so
every token must have bytes of its own: the library's steps are taken one token at a time. Two things
cannot be done so, and are left: the library drops the space before the first word of a text, and may
take spaces away before punctuation (`cleanup`). A text that goes on after another needs that space.
The library has read the file before, so that the parts of a step are known to be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, decoders

from fivefold.core.errors import UnsupportedError
from fivefold.files.tokenizer_bytes import byte_of, bytes_of
from fivefold.files.tokenizer_json_files import TOKENIZER

Step = Callable[[str], str]
"""One step of a decoder; None in a list of them is the one that turns tokens like <0x0A> into bytes."""


class TokenBytes:
    """What tokens stand for."""

    def __init__(self, folder: Path, decoder: Mapping[str, Any] | None) -> None:
        """UnsupportedError for a decoder that is not known."""
        self.byte_level = False
        """Whether tokens are written in the byte alphabet."""
        self._steps: list[Step | None] = [] if decoder is not None else [lambda token: " " + token]
        fused = False
        for step in _flat(decoder):
            kind: str = step["type"]
            if kind == "ByteLevel":
                self.byte_level = True
            elif kind == "ByteFallback":
                self._steps.append(None)
            elif kind == "Fuse":
                fused = True
            elif kind == "Strip" and fused:
                pass  # what goes off a whole text: the space before its first word
            elif kind in _STEPS:
                self._steps.append(_STEPS[kind](step))
            else:
                raise UnsupportedError(
                    f"key 'decoder': the kind {kind!r} is not known",
                    where=str(folder / TOKENIZER),
                    remedy="use a model whose tokenizer decodes by bytes, metaspaces or word pieces",
                )

    def of(self, token: str) -> bytes:
        """The bytes of a token that is not special."""
        for step in self._steps:
            if step is not None:
                token = step(token)
            elif (byte := byte_of(token)) is not None:
                return byte
        spelled = bytes_of(token) if self.byte_level else None
        return token.encode() if spelled is None else spelled


def _flat(decoder: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The steps of a decoder, sequences in sequences undone."""
    if decoder is not None and decoder["type"] == "Sequence":
        for step in decoder["decoders"]:
            yield from _flat(step)
    elif decoder is not None:
        yield decoder


def _replace(decoder: Mapping[str, Any]) -> Step:
    pattern, content = decoder["pattern"], decoder["content"]
    if "String" in pattern:
        return lambda token: token.replace(pattern["String"], content)
    library = decoders.Replace(Regex(pattern["Regex"]), content)
    return lambda token: str(library.decode([token]))


def _strip(decoder: Mapping[str, Any]) -> Step:
    library = decoders.Strip(decoder["content"], decoder["start"], decoder["stop"])
    return lambda token: str(library.decode([token]))


def _metaspace(decoder: Mapping[str, Any]) -> Step:
    return lambda token: token.replace(decoder["replacement"], " ")


def _wordpiece(decoder: Mapping[str, Any]) -> Step:
    prefix = decoder["prefix"]
    return lambda token: token[len(prefix) :] if token.startswith(prefix) else " " + token


def _suffix(decoder: Mapping[str, Any]) -> Step:
    return lambda token: token.replace(decoder["suffix"], " ")


_STEPS: dict[str, Callable[[Mapping[str, Any]], Step]] = {
    "Replace": _replace,
    "Strip": _strip,
    "Metaspace": _metaspace,
    "WordPiece": _wordpiece,
    "BPEDecoder": _suffix,
}
