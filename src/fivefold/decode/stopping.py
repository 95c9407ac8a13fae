"""When a request ends by its tokens: an end token, a stop token, or no room for more.

Stop strings need the text and are not known here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fivefold.core.errors import InputError
from fivefold.core.request import FinishReason, SamplingParams


@dataclass(frozen=True, slots=True)
class Stopping:
    """The rule for one request.

    end_tokens   the model's own end tokens; empty under `ignore_eos`.
    stop_tokens  the request's `stop_token_ids`.
    least, most  tokens to put out before any of those counts, and at most.
    """

    end_tokens: frozenset[int]
    stop_tokens: frozenset[int]
    least: int
    most: int

    @staticmethod
    def of(params: SamplingParams, end_tokens: Collection[int], prompt_length: int, context: int) -> Stopping:
        """The rule of `params` for a prompt of that length, where `context` tokens is all there is room for.

        InputError if the prompt is empty or leaves no room for a single token.
        """
        room = context - prompt_length
        if prompt_length < 1:
            raise InputError("the prompt is empty", where="prompt", remedy="give at least one token")
        if room < 1:
            raise InputError(
                f"the prompt has {prompt_length} tokens, the context {context}",
                where="prompt",
                remedy="shorten the prompt or raise the model's context",
            )
        return Stopping(
            end_tokens=frozenset() if params.ignore_eos else frozenset(end_tokens),
            stop_tokens=frozenset(params.stop_token_ids),
            least=params.min_tokens,
            most=room if params.max_tokens is None else min(room, params.max_tokens),
        )

    def after(self, token: int, count: int) -> FinishReason | None:
        """Why the request ends with `token` as its output token number `count` (from 1), or None."""
        if count >= self.least and (token in self.end_tokens or token in self.stop_tokens):
            return "stop"
        return "length" if count >= self.most else None

    def stop_token(self, token: int, reason: FinishReason | None) -> int | None:
        """The token if it is a stop token of the request that ended it, not the model's own end."""
        stopped = reason == "stop" and token not in self.end_tokens
        return token if stopped else None
