"""Answers as clients read them: chat messages and completions, whole or in pieces.

One object for each choice of a request. It takes the engine's events, gives what is to be streamed now,
and in the end the whole choice; the joined pieces are the whole. Text is shown only when it is committed:
what may still become a stop string or a tool call is held back by the rooms below. Drafts of a block in
flight stand beside the text, in a field of their own, so that the joined text stays the answer.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

from fivefold.chat import AnswerParser, Piece
from fivefold.core.request import Draft, TokenEvent, TokenLogprob
from fivefold.core.vocabulary import Vocabulary

Object = dict[str, Any]

LEAST_LOGPROB = -9999.0
"""What stands for minus infinity, which JSON has no number for."""


class Choice(Protocol):
    """One answer of a request while it comes."""

    def first(self) -> list[Object]:
        """Chunks before any event."""
        ...

    def push(self, event: TokenEvent) -> list[Object]:
        """The chunks that an event brings."""
        ...

    def whole(self) -> Object:
        """The complete choice, after the last event."""
        ...


class ChatChoice:
    """One assistant message: content, reasoning and tool calls as the model's dialect tells them apart."""

    def __init__(
        self, index: int, vocabulary: Vocabulary, parser: AnswerParser, token_ids: bool,
        show_reasoning: bool, diffusing: bool = False,
    ) -> None:  # fmt: skip
        """`diffusing`: blocks in flight are told too, and of each chunk whether it is final."""
        self._index = index
        self._vocabulary = vocabulary
        self._parser = parser
        self._token_ids: list[int] | None = [] if token_ids else None
        self._show_reasoning = show_reasoning
        self._final: Object = {"final": True} if diffusing else {}
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []  # id, name, parts of the arguments
        self._logprobs: list[Object] = []
        self._reason: str | None = None
        self._stop: str | int | None = None

    def first(self) -> list[Object]:
        """The role, before anything is said."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def push(self, event: TokenEvent) -> list[Object]:
        """Deltas; the first has the event's log probabilities, the last the reason for the end."""
        pieces = self._parser.push(event.text) if event.text else []
        if event.finish_reason is not None:
            pieces += self._parser.finish()
        deltas = [delta for piece in pieces if (delta := self._delta(piece)) is not None]
        logprobs = [_chat_logprob(self._vocabulary, entry) for entry in event.logprobs]
        self._logprobs += logprobs
        if event.finish_reason is not None:
            called = self._parser.called and event.finish_reason == "stop"
            self._reason = "tool_calls" if called else event.finish_reason
            self._stop = event.stop_reason
        if self._token_ids is not None:
            self._token_ids += event.tokens
        only_draft = event.draft is not None and not event.tokens
        if not deltas and (logprobs or self._token_ids is not None or self._reason is not None):
            deltas = [] if only_draft else [{}]
        chunks = [self._chunk(delta) for delta in deltas]
        if chunks and logprobs:
            chunks[0]["logprobs"] = {"content": logprobs}
        if chunks and self._token_ids is not None:
            chunks[0]["token_ids"] = list(event.tokens)
        if self._reason is not None:
            chunks[-1].update(finish_reason=self._reason, stop_reason=self._stop)
        return chunks if event.draft is None else [*chunks, self._drafted(event.draft)]

    def whole(self) -> Object:
        """The message; its content is null when it only calls tools."""
        text = "".join(self._content)
        message: Object = {"role": "assistant", "content": None if self._calls and not text else text}
        if self._reasoning:
            message["reasoning"] = message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = [
                {"id": identity, "type": "function", "function": {"name": name, "arguments": "".join(parts)}}
                for identity, name, parts in self._calls
            ]
        return {
            "index": self._index,
            "message": message,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
            "finish_reason": self._reason,
            "stop_reason": self._stop,
            **({} if self._token_ids is None else {"token_ids": self._token_ids}),
        }

    def _chunk(self, delta: Object) -> Object:
        return {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None, **self._final}

    def _drafted(self, draft: Draft) -> Object:
        """A chunk without a delta, whose draft says how content and reasoning would go on."""
        parser = copy.deepcopy(self._parser)
        texts = {"text": "", "reasoning": ""}
        for piece in [*parser.push(draft.text), *parser.finish()]:
            if piece.kind in ("text", "reasoning"):
                texts[piece.kind] += piece.text
        if not self._show_reasoning:
            del texts["reasoning"]
        return {**self._chunk({}), **_told_draft(draft, texts)}

    def _delta(self, piece: Piece) -> Object | None:
        """What a committed piece adds to the message."""
        if piece.kind == "text":
            self._content.append(piece.text)
            return {"content": piece.text}
        if piece.kind == "reasoning":
            if not self._show_reasoning:
                return None
            self._reasoning.append(piece.text)
            return {"reasoning": piece.text, "reasoning_content": piece.text}
        if piece.kind == "tool_call":
            function = {"name": piece.name, "arguments": ""}
            self._calls.append((piece.identity, piece.name, []))
            call = {"index": piece.call, "id": piece.identity, "type": "function", "function": function}
            return {"tool_calls": [call]}
        self._calls[piece.call][2].append(piece.text)
        return {"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}


class CompletionChoice:
    """One completion: text as it comes. Where token ids are asked for, `prompt` stands in its first chunk."""

    def __init__(
        self, index: int, vocabulary: Vocabulary, logprobs: bool, prompt: Sequence[int] | None,
        diffusing: bool = False,
    ) -> None:  # fmt: skip
        """`diffusing`: blocks in flight are told too, and of each chunk whether it is final."""
        self._index = index
        self._vocabulary = vocabulary
        self._with_logprobs = logprobs
        self._final: Object = {"final": True} if diffusing else {}
        self._prompt = prompt
        self._token_ids: list[int] | None = None if prompt is None else []
        self._text: list[str] = []
        self._entries: list[TokenLogprob] = []
        self._offset = 0
        self._reason: str | None = None
        self._stop: str | int | None = None

    def first(self) -> list[Object]:
        """Nothing comes before the text."""
        return []

    def push(self, event: TokenEvent) -> list[Object]:
        """A chunk of what is final, if there is anything to tell, and one of the block in flight."""
        self._reason, self._stop = event.finish_reason, event.stop_reason
        self._text.append(event.text)
        self._entries += event.logprobs
        first = not self._token_ids
        if self._token_ids is not None:
            self._token_ids += event.tokens
        chunks: list[Object] = []
        with_ids = bool(event.tokens) and self._token_ids is not None
        if event.text or event.finish_reason or event.logprobs or with_ids:
            chunks.append(self._told(event.text, event.logprobs, event.tokens, first))
        if event.draft is not None:
            empty: Object = {"index": self._index, "text": "", "logprobs": None, "finish_reason": None}
            chunks.append({**empty, **_told_draft(event.draft, {"text": event.draft.text})})
        return chunks

    def whole(self) -> Object:
        """The whole text."""
        self._offset = 0
        return self._told("".join(self._text), self._entries, self._token_ids or (), True)

    def _told(
        self, text: str, entries: Sequence[TokenLogprob], tokens: Sequence[int], with_prompt: bool
    ) -> Object:
        told: Object = {
            "index": self._index,
            "text": text,
            "logprobs": self._logprobs(entries) if self._with_logprobs else None,
            "finish_reason": self._reason,
            "stop_reason": self._stop,
            **self._final,
        }
        if self._token_ids is not None:
            told["token_ids"] = list(tokens)
            if with_prompt:
                told["prompt_token_ids"] = self._prompt
        return told

    def _logprobs(self, entries: Sequence[TokenLogprob]) -> Object:
        texts = [_token_text(self._vocabulary, entry.token) for entry in entries]
        offsets: list[int] = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        top = [
            {_token_text(self._vocabulary, t): _finite(p) for t, p in _with_chosen(entry)}
            for entry in entries
        ]
        return {
            "text_offset": offsets,
            "token_logprobs": [_finite(entry.logprob) for entry in entries],
            "tokens": texts,
            "top_logprobs": top,
        }


def _told_draft(draft: Draft, texts: dict[str, str]) -> Object:
    """What a chunk says of a block in flight."""
    open_ = sum(token is None for token in draft.tokens)
    told = {"position": draft.position, "tokens": len(draft.tokens), "open": open_, **texts}
    return {"final": False, "draft": told}


def _chat_logprob(vocabulary: Vocabulary, entry: TokenLogprob) -> Object:
    """A token's log probability in chat's form, with the likeliest tokens at its place."""
    pairs = dict(entry.top)
    return {
        **_token(vocabulary, entry.token, entry.logprob),
        "top_logprobs": [_token(vocabulary, token, logprob) for token, logprob in pairs.items()],
    }


def _with_chosen(entry: TokenLogprob) -> list[tuple[int, float]]:
    """The likeliest tokens and, as completions have it, the chosen one even where it is none of them."""
    chosen = (entry.token, entry.logprob)
    return [*entry.top, *([] if any(token == entry.token for token, _ in entry.top) else [chosen])]


def _token(vocabulary: Vocabulary, token: int, logprob: float) -> Object:
    return {
        "token": _token_text(vocabulary, token),
        "logprob": _finite(logprob),
        "bytes": list(vocabulary.token_bytes(token)),
    }


def _token_text(vocabulary: Vocabulary, token: int) -> str:
    return vocabulary.decode([token], skip_special=False)


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
