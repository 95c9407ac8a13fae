"""The plain decoder: the prompt in chunks, then one token a step.

It keeps every row it runs. Only the last known token's row needs logits, so a chunk that ends before it
asks for none.

Behind the last known token there may be guessed ones, each with a row that has logits. Then the sampler
is asked row by row, as it would be without them: a guess is right if it is what the sampler chooses, and
the first that differs ends the round with the sampler's own token. So guesses change how many tokens a
step brings, and never which. Who guesses is not known here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from fivefold.core.batch import Commit, Float32, Span
from fivefold.core.decoder import Decision
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.request import FinishReason, Request, TokenLogprob
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
        self._guesses: tuple[int, ...] = ()

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
    def room(self) -> int:
        """Tokens that may still come."""
        return self._stopping.most - (len(self._tokens) - self._prompt_length)

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
        return self.propose_with((), limit)

    def propose_with(self, guesses: Sequence[int], limit: int) -> Span | None:
        """The same with guessed tokens behind the last known one, as many as there is still room for.

        There must be fewer guesses than `room`, for each row with logits may bring a token.
        """
        if limit < 1:
            return None
        chunk = self._tokens[self._committed : self._committed + limit]
        last = self._committed + len(chunk) == len(self._tokens)
        self._guesses = tuple(guesses[: limit - len(chunk)]) if last else ()
        self._proposed = len(chunk)
        rows = np.array([*chunk, *self._guesses], np.int32)
        wanted = np.arange(len(chunk) - 1 if last else len(rows), len(rows), dtype=np.int32)
        return Span.causal(self._sequence, rows, self._committed, wanted, draft=bool(self._guesses))

    def decide(self, logits: Float32) -> Decision:
        """Keep the rows of known tokens and of right guesses; choose tokens from (n, V) logits.

        n is 0 for a chunk that ends before the last known token, else 1 and the number of guesses.
        """
        if self._proposed == 0:
            raise RuntimeError("decide without propose")
        last = self._committed + self._proposed == len(self._tokens)
        wanted = 1 + len(self._guesses) if last else 0
        if len(logits) != wanted:
            raise ValueError(f"{len(logits)} rows of logits, {wanted} were asked for")
        chosen, logprobs, reason = self._choose(logits)
        kept = self._proposed + max(len(chosen) - 1, 0)
        guesses, self._guesses, self._proposed = self._guesses, (), 0
        self._committed += kept
        right = sum(token == guess for token, guess in zip(chosen, guesses, strict=False))
        stop = self._stopping.stop_token(chosen[-1], reason) if chosen else None
        commit = Commit(self._sequence, np.arange(kept, dtype=np.int32))
        return Decision(commit, tuple(chosen), tuple(logprobs), reason, stop, len(guesses), right)

    def _choose(self, logits: Float32) -> tuple[list[int], list[TokenLogprob], FinishReason | None]:
        """The tokens of a round: right guesses and one more, fewer where the request ends or logits fail."""
        chosen: list[int] = []
        logprobs: list[TokenLogprob] = []
        reason: FinishReason | None = None
        for row, guess in zip(logits, (*self._guesses, None), strict=False):
            try:
                token, logprob = self._sampler.sample(row)
            except FivefoldError:
                if not chosen:
                    raise
                break  # the token before it is known now: its row runs again, and fails alone
            chosen.append(token)
            self._tokens.append(token)
            if logprob is not None:
                logprobs.append(logprob)
            reason = self._stopping.after(token, len(self._tokens) - self._prompt_length)
            if reason is not None or token != guess:
                break
        return chosen, logprobs, reason
