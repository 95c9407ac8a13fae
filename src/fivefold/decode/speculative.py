"""Guessed tokens, checked by the model itself: several tokens a step, and the same ones.

The rows of a step are the last known token and guesses of those that follow. They are judged as the plain
decoder judges them (`autoregressive`): by the sampler, row by row. For a guess that is a single token,
with no distribution of its own, that is the acceptance rule of speculative sampling (arXiv 2211.17192,
2302.01318): token x is accepted with the model's probability of x, and otherwise the draw is one from the
other tokens.

Of several sources the one whose guesses promise most tokens is used. What they are worth comes from how
often such guesses were right in this request; how many rows are spent on them is for the engine to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from fivefold.core.batch import Float32, Span
from fivefold.core.decoder import Decision, Likely
from fivefold.core.request import Request
from fivefold.decode.acceptance import Acceptance, Hope
from fivefold.decode.autoregressive import AutoregressiveDecoder
from fivefold.decode.guesses import NOTHING, Guess, Source, sources_of

MOST_GUESSES = 15
"""Guesses of one step: with the known token they fill a tile of rows."""

LEAST_WORTH = 0.02
"""A guess that brings a token less often is no guess."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """The guesses of one source and what they are worth; `source` is "" where nobody guesses."""

    guess: Guess = NOTHING
    worth: tuple[float, ...] = ()
    source: str = ""


class SpeculativeDecoder:
    """One sequence, several tokens a step where guesses are right. See `core.decoder.Guessing`."""

    def __init__(
        self, plain: AutoregressiveDecoder, sources: Mapping[str, Source] | None = None,
        hopes: MutableMapping[str, Hope] | None = None,
    ) -> None:  # fmt: skip
        """`plain` decides which tokens come; without `sources` there is one of each kind. `hopes` by source
        are those of all requests."""
        self._plain = plain
        self._sources = sources_of() if sources is None else sources
        self._acceptance = {name: Acceptance(one.prior) for name, one in self._sources.items()}
        hopes = {} if hopes is None else hopes
        self._hope = {name: hopes.setdefault(name, Hope()) for name in self._sources}
        self._told = 0
        self._draft: _Draft | None = None
        self._done = False

    @staticmethod
    def for_request(
        sequence: int, request: Request, vocabulary_size: int, end_tokens: Collection[int], context: int,
        sources: Mapping[str, Source] | None = None, hopes: MutableMapping[str, Hope] | None = None,
    ) -> SpeculativeDecoder:  # fmt: skip
        """As `AutoregressiveDecoder.for_request` makes a decoder, with these sources of guesses, and what
        all requests hope of them."""
        return SpeculativeDecoder(
            AutoregressiveDecoder.for_request(sequence, request, vocabulary_size, end_tokens, context),
            sources, hopes,
        )  # fmt: skip

    @property
    def tokens(self) -> Sequence[int]:
        """Prompt and output so far."""
        return self._plain.tokens

    @property
    def committed(self) -> int:
        """Tokens whose entries are in the cache: all but the last, once the prompt is through."""
        return self._plain.committed

    @property
    def least_rows(self) -> int:
        """One row is always enough."""
        return 1

    @property
    def worth(self) -> Sequence[float]:
        """What each row of a guess is worth; none while the prompt is read."""
        return self._drafted().worth

    @property
    def hoped(self) -> Sequence[float]:
        """What guesses are worth that somebody else could make, if that is more than what is there."""
        if self._most() < 1:
            return ()
        best: Sequence[float] = ()
        have = sum(self._drafted().worth)
        for name, source in self._sources.items():
            usual = self._hope[name].worth(source.wanted(self._most()))
            worth = [value for value in usual if value >= LEAST_WORTH]
            if sum(worth) > max(have, sum(best)):
                best = worth
        return best

    @property
    def wanted(self) -> int:
        """How many guesses somebody else should make."""
        return len(self.hoped)

    def offer(self, guesses: Sequence[Likely]) -> None:
        """Guesses of the next tokens; nothing happens where nobody asked for any."""
        self._tell()
        for name, source in self._sources.items():
            if source.wanted(MOST_GUESSES):
                source.offer(guesses)
                self._hope[name].observe(self._acceptance[name].worth(source.guess(MOST_GUESSES).classes))
        self._draft = None

    def resume(self, cached: int) -> int:
        """Build on what is cached. The tokens are the same, and so are the guesses."""
        return self._plain.resume(cached)

    def propose(self, limit: int) -> Span | None:
        """A chunk of the prompt, or the last token and guesses."""
        draft = self._drafted() if limit > 1 else _Draft()
        return self._plain.propose_with(draft.guess.tokens[: len(draft.worth)], limit)

    def decide(self, logits: Float32) -> Decision:
        """The plain decoder's decision; and which guesses were right, also of those that were not run.

        Where nobody asked what guesses are worth, none were made, and there is nothing to learn.
        """
        draft = self._draft or _Draft()
        decision = self._plain.decide(logits)
        self._done = decision.done is not None
        if not decision.tokens:
            return decision
        for token, guess, number in zip(decision.tokens, draft.guess.tokens, draft.guess.classes):  # noqa: B905
            self._acceptance[draft.source].observe(number, token == guess)
            if token != guess:
                break
        self._draft = None
        return decision

    def _most(self) -> int:
        """Guesses that may be made now: none while the prompt is read, or for the last token of all."""
        if self._done or len(self.tokens) - self.committed != 1:
            return 0
        return min(MOST_GUESSES, self._plain.room - 1)

    def _drafted(self) -> _Draft:
        """The guesses for the next step, the same until a token has come."""
        most = self._most()
        if most < 1:
            return _Draft()
        if self._draft is None:
            self._tell()
            self._draft = _Draft()
            for name, source in self._sources.items():
                guess = source.guess(most)
                worth = [w for w in self._acceptance[name].worth(guess.classes) if w >= LEAST_WORTH]
                if sum(worth) > sum(self._draft.worth):
                    self._draft = _Draft(guess, tuple(worth), name)
        return self._draft

    def _tell(self) -> None:
        """Let the sources know the tokens that have come."""
        new = self.tokens[self._told :]
        if new:
            self._told += len(new)
            for source in self._sources.values():
                source.extend(new)
