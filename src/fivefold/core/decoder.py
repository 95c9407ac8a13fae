"""The contract between the engine and a decoding algorithm.

The engine asks a decoder for the rows it wants to run next, runs them in a step with those of other
sequences, and hands back their logits; the decoder answers with the rows to keep in the cache and
the tokens that are now final. That is all the engine knows: a chunk of the prompt, one new token, a
tree of drafted tokens to verify and a block that is denoised again and again look the same to it.
A decoder in turn knows no scheduler, no cache pages and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .batch import Commit, Float32, Span
from .request import FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True)
class Decision:
    """What a decoder makes of a step.

    commit      the rows of the span to keep; the others are forgotten.
    tokens      newly final tokens in order, often none. A token that ends the request is the last.
    logprobs    one for each of `tokens` where the request asks for them, else empty.
    done        why the request ends here, or None while it goes on.
    stop_token  the token of `stop_token_ids` that ended it, if one did.
    guessed     rows of the span that held guessed tokens, and `accepted` of these were right: the first ones.
    """

    commit: Commit
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    done: FinishReason | None = None
    stop_token: int | None = None
    guessed: int = 0
    accepted: int = 0


class Decoder(Protocol):
    """The state of one sequence while it is being generated.

    The engine alternates `propose` and `decide`; `resume` may come between two such pairs. Once a
    decision is `done`, none of them is called again.
    """

    @property
    def tokens(self) -> Sequence[int]:
        """The final tokens so far, those of the prompt first. Not to be changed by the reader."""
        ...

    @property
    def committed(self) -> int:
        """The entries of `tokens[:committed]` are in the cache, at the positions 0 to committed - 1, and are
        good for others. What else it keeps there for a while is its own."""
        ...

    @property
    def least_rows(self) -> int:
        """With this limit or a higher one, `propose` always finds rows to run. It never changes."""
        ...

    def resume(self, cached: int) -> int:
        """Go on from a cache that holds the entries of `tokens[:cached]` and nothing else.

        Called before the first step when a prefix of the prompt is found in the cache, and after a
        sequence has lost its pages. Returns how many entries the decoder builds on, at most
        `cached`; the rest must be dropped. At least one row is always left to run.
        """
        ...

    def propose(self, limit: int) -> Span | None:
        """The next rows to run, at most `limit` of them; None if it cannot use so few.

        Asking again without `decide` or `resume` between gives rows for the same work, so a step
        that failed can be tried again, also under another limit.
        """
        ...

    def decide(self, logits: Float32) -> Decision:
        """Take the outcome of the span proposed last.

        logits  (n, V), a row for each index of the span's row set `logits`, in its order; (0, V)
                when it has none.

        FivefoldError when the logits cannot be used: this request has failed, others go on.
        """
        ...


Likely = tuple[int, float]
"""A guessed token, and how probable it is where those before it are right, as who guesses sees it."""


@runtime_checkable
class Guessing(Decoder, Protocol):
    """A decoder that can use more rows than it needs: rows of guessed tokens, most of which may be wrong.

    It says what these rows are worth and knows no costs. Whoever drives it weighs worth against seconds and
    proposes with a limit of one and as many as it gives.
    """

    @property
    def worth(self) -> Sequence[float]:
        """For each row beyond the first that `propose` could use next, the probability that it brings a
        token: from 0 to 1, and never rising. Empty while there is nothing to guess; else one row is enough.
        """
        ...

    @property
    def hoped(self) -> Sequence[float]:
        """The same for guesses that it would like to be offered before it is asked for rows again; empty if
        it wants none. They would take the place of those that it has.
        """
        ...

    @property
    def wanted(self) -> int:
        """How many guesses it would like to be offered: the length of `hoped`."""
        ...

    def offer(self, guesses: Sequence[Likely]) -> None:
        """Guesses of the tokens behind the last final one, for the next `propose`. Any number is welcome."""
        ...
