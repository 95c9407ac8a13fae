"""Chat templates: messages to the text and the tokens that a model was taught to read.

What a user writes must stay what a user says: the text of a special token inside a message, a role or
a tool is not that token. Rendering gives one string, so the texts of special tokens in the input
are broken by a character that occurs nowhere else, the template runs, special tokens are recognised
in what is whole, and the character is taken out again. Input without such texts takes the plain
way and gives the same ids as rendering and encoding.

Which tokens end an answer, and how tool calls are written, is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2.exceptions import TemplateError, TemplateSyntaxError

from fivefold.chat.sandbox import RefusedError, compiled, line_of, render_bounded
from fivefold.core.checkpoint import CHAT_TEMPLATE, Checkpoint
from fivefold.core.errors import FileError, InputError
from fivefold.core.vocabulary import Vocabulary

MOST_MESSAGES = 4096
MOST_SOURCE = 1 << 16
"""Characters of a template: the longest ones known have a third of that."""
MOST_DEPTH = 64
MOST_SAID = 300
"""Characters of what Jinja2 or the template says of a fault."""

_ANOTHER = "mend it or take another file of the model; text completion works without it"
_BREAKERS = (range(0xFDD0, 0xFDF0), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
"""Code points that no text has a use for: noncharacters, then private ones."""

Messages = Sequence[Mapping[str, Any]]


class ChatTemplate:
    """One model's template, with the texts of its begin and end tokens."""

    def __init__(self, source: str | None, bos: str = "", eos: str = "", path: Path | None = None) -> None:
        """`path` is the model's, for errors. InputError if there is no template, FileError if it is none."""
        where = f"{path}: {CHAT_TEMPLATE}" if path else CHAT_TEMPLATE
        if not source:
            raise InputError(
                "the model has no chat template",
                where=where,
                remedy="use text completion, or a model made for chat",
            )
        if len(source) > MOST_SOURCE:
            raise FileError(
                f"the chat template is longer than {MOST_SOURCE} characters", where=where, remedy=_ANOTHER
            )
        try:
            self._code = compiled(source)
        except Exception as error:  # Jinja2's, and those of the Python that it makes of a template
            line = getattr(error, "lineno", None) if isinstance(error, TemplateSyntaxError) else None
            place = f" in line {line}" if line else ""
            raise FileError(
                f"the chat template is malformed{place} ({_said(error)})", where=where, remedy=_ANOTHER
            ) from None
        self._source = source
        self._name = path.name if path else ""
        self._marks = {"bos_token": bos, "eos_token": eos}
        self._special: tuple[Vocabulary, dict[str, int]] | None = None

    @staticmethod
    def of(checkpoint: Checkpoint, vocabulary: Vocabulary) -> ChatTemplate:
        """The template of a model file or folder. InputError if it has none."""
        source = checkpoint.metadata.get(CHAT_TEMPLATE)
        bos, ends = vocabulary.bos, vocabulary.end_tokens
        return ChatTemplate(
            source if isinstance(source, str) else None,
            "" if bos is None else vocabulary.decode([bos], skip_special=False),
            vocabulary.decode(ends[:1], skip_special=False),
            checkpoint.path,
        )

    def render(
        self,
        messages: Messages,
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> str:
        """The text of a conversation.

        `add_generation_prompt` ends it where the answer begins; `kwargs` go to the template as they
        are. InputError if the messages are not messages, or the template refuses them.
        """
        _check(messages)
        variables = {
            **self._marks,
            "documents": None,
            **kwargs,
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": add_generation_prompt,
        }
        try:
            return render_bounded(self._code, variables)
        except RefusedError as error:
            what = f"the chat template refuses these messages ({_said(error)})"
            remedy = "check their roles, order and fields"
        except Exception as error:  # whatever the template makes of the messages
            line, model = line_of(error), f" of {self._name}" if self._name else ""
            place = f"line {line} of the chat template{model}" if line else f"the chat template{model}"
            what = f"{place} fails on these messages ({_said(error)})"
            remedy = "check their fields, or use text completion"
        raise InputError(what, where="messages", remedy=remedy)

    def encode(
        self,
        vocabulary: Vocabulary,
        messages: Messages,
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Token ids of a conversation; arguments and errors as in `render`.

        Begins with `bos` if the model expects it, once, whether or not the template writes it.
        """
        _check(messages)
        special = self._special_of(vocabulary)
        given = [messages, tools, kwargs]
        texts = list(_texts(given))
        if any(token in text for token in special for text in texts):
            breaker = _unused_character([self._source, *self._marks.values(), *texts])
            messages, tools, kwargs = _broken(given, special, breaker)
        else:
            breaker = ""
        text = self.render(messages, add_generation_prompt=add_generation_prompt, tools=tools, **kwargs)
        if not breaker:
            ids = vocabulary.encode(text, special=True, add_bos=False)
        else:
            ids = []
            for piece in _partition(text, special):
                if isinstance(piece, int):
                    ids.append(piece)
                else:
                    ids.extend(vocabulary.encode(piece.replace(breaker, ""), add_bos=False))
        if vocabulary.add_bos and vocabulary.bos is not None and ids[:1] != [vocabulary.bos]:
            ids.insert(0, vocabulary.bos)
        return ids

    def _special_of(self, vocabulary: Vocabulary) -> dict[str, int]:
        """Special tokens by text, the longest first. Texts of one character cannot be broken: left out."""
        if self._special is None or self._special[0] is not vocabulary:
            tokens = [token for token in range(vocabulary.size) if vocabulary.is_special(token)]
            texts = {vocabulary.decode([token], skip_special=False): token for token in tokens}
            longest_first = sorted(texts, key=lambda text: -len(text.encode()))
            self._special = vocabulary, {text: texts[text] for text in longest_first if len(text) > 1}
        return self._special[1]


def _said(error: Exception) -> str:
    """What an error says, in a line of bounded length; its kind where the text alone would not tell."""
    if isinstance(error, RecursionError | MemoryError):
        return "it is nested too deeply"
    text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error))[: 2 * MOST_SAID].split())
    text = text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]}..."
    plain = text and isinstance(error, TemplateError | ArithmeticError | SyntaxError)
    return text if plain else f"{type(error).__name__}: {text}".removesuffix(": ")


def _check(messages: Any) -> None:
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise InputError("no messages", where="messages", remedy="give a list with at least one")
    if len(messages) > MOST_MESSAGES:
        raise InputError(
            f"there are {len(messages)} messages", where="messages", remedy=f"give at most {MOST_MESSAGES}"
        )
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise InputError("a message has no role", where=f"messages[{index}]", remedy="name its role")


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """All strings in nested lists and mappings, keys too."""
    if depth > MOST_DEPTH:
        raise InputError("the messages are nested too deeply", where="messages", remedy="flatten them")
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key, depth + 1)
            yield from _texts(inner, depth + 1)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for inner in value:
            yield from _texts(inner, depth + 1)


def _broken(value: Any, special: Mapping[str, int], breaker: str) -> Any:
    """The same value, in which no string holds the text of a special token."""
    if isinstance(value, str):
        for token in special:
            while token in value:
                value = value.replace(token, token[0] + breaker + token[1:])
        return value
    if isinstance(value, Mapping):
        return {
            _broken(key, special, breaker): _broken(inner, special, breaker) for key, inner in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_broken(inner, special, breaker) for inner in value]
    return value


def _unused_character(texts: Sequence[str]) -> str:
    used = set().union(*texts)
    for characters in _BREAKERS:
        for point in characters:
            if chr(point) not in used:
                return chr(point)
    raise InputError("the messages use every private character", where="messages", remedy="shorten them")


def _partition(text: str, special: Mapping[str, int]) -> list[str | int]:
    """Special tokens and the texts between them, the longest token first."""
    pieces: list[str | int] = [text]
    for token, number in special.items():
        if token not in text:
            continue
        cut: list[str | int] = []
        for piece in pieces:
            parts: list[str] = piece.split(token) if isinstance(piece, str) else []
            if not parts:
                cut.append(piece)
            for index, part in enumerate(parts):
                cut.extend([number, part] if index else [part])
        pieces = cut
    return [piece for piece in pieces if piece != ""]
