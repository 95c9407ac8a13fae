"""The plain decoder: the prompt in chunks, then one token a step.

It keeps every row it runs. Only the last known token's row needs logits, so a chunk that ends
before it asks for none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fivefold.core.batch import Commit, Float32, Span
from fivefold.core.decoder import Decision
from fivefold.core.errors import InputError
from fivefold.core.request import Request
from fivefold.decode.sampling import Sampler
from fivefold.decode.stopping import Stopping


class AutoregressiveDecoder:
    """One sequence, decoded token by token. See `core.decoder.Decoder` for the contract."""

    def __init__(self, sequence: int, prompt: Sequence[int], sampler: Sampler, stopping: Stopping) -> None:
        self._sequence = sequence
        self._tokens = list(prompt)
        self._prompt_length = len(prompt)
        self._sampler = sampler
        self._stopping = stopping
        self._committed = 0
        self._proposed = 0

    @staticmethod
    def for_request(
        sequence: int, request: Request, vocabulary_size: int, end_tokens: Collection[int], context: int
    ) -> AutoregressiveDecoder:
        """A decoder for `request` on a model with these end tokens and room for `context` tokens.

        InputError if the prompt is empty, too long, or not of this vocabulary.
        """
        strange = next((token for token in request.prompt if not 0 <= token < vocabulary_size), None)
        if strange is not None:
            raise InputError(
                f"token {strange} is not in the vocabulary",
                where="prompt",
                remedy=f"give tokens from 0 to {vocabulary_size - 1}",
            )
        stopping = Stopping.of(request.sampling, end_tokens, len(request.prompt), context)
        sampler = Sampler(request.sampling, vocabulary_size, request.prompt, end_tokens)
        return AutoregressiveDecoder(sequence, request.prompt, sampler, stopping)

    @property
    def tokens(self) -> Sequence[int]:
        """Prompt and output so far."""
        return self._tokens

    @property
    def committed(self) -> int:
        """Tokens whose entries are in the cache: all but the last, once the prompt is through."""
        return self._committed

    @property
    def least_rows(self) -> int:
        """One row is always enough."""
        return 1

    def resume(self, cached: int) -> int:
        """Build on `cached` entries, or on one fewer than there are tokens if that is less."""
        if cached < 0:
            raise ValueError(f"{cached} cached entries")
        self._committed = min(cached, len(self._tokens) - 1)
        self._proposed = 0
        return self._committed

    def propose(self, limit: int) -> Span | None:
        """The tokens not yet in the cache, as many as `limit` allows."""
        if limit < 1:
            return None
        chunk = np.array(self._tokens[self._committed : self._committed + limit], np.int32)
        self._proposed = len(chunk)
        last = self._committed + len(chunk) == len(self._tokens)
        wanted = np.array([len(chunk) - 1] if last else [], np.int32)
        return Span.causal(self._sequence, chunk, self._committed, wanted)

    def decide(self, logits: Float32) -> Decision:
        """Keep all rows; choose a token from (1, V) logits, none from (0, V)."""
        if self._proposed == 0:
            raise RuntimeError("decide without propose")
        last = self._committed + self._proposed == len(self._tokens)
        if len(logits) != int(last):
            raise ValueError(f"{len(logits)} rows of logits, {int(last)} were asked for")
        commit = Commit(self._sequence, np.arange(self._proposed, dtype=np.int32))
        chosen = self._sampler.sample(logits[0]) if last else None
        self._committed += self._proposed
        self._proposed = 0
        if chosen is None:
            return Decision(commit)
        token, logprob = chosen
        self._tokens.append(token)
        reason = self._stopping.after(token, len(self._tokens) - self._prompt_length)
        logprobs = () if logprob is None else (logprob,)
        return Decision(commit, (token,), logprobs, reason, self._stopping.stop_token(token, reason))
