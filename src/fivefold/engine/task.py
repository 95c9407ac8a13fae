"""One request under way: its decoder, its sequence in the cache, its text, and what it took.

A task turns a decoder's decisions into the events that people see. It runs nothing and plans nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fivefold.chat import StreamDecoder
from fivefold.core.batch import Int32
from fivefold.core.decoder import Decision, Decoder, Guessing
from fivefold.core.diffusion import Diffusing
from fivefold.core.errors import FivefoldError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.request import Draft, FinishReason, Request, Timings, TokenEvent

from .evicting import EvictingDecoder


class Task:
    """A request with its decoder and the number of its sequence. `clock` gives seconds.

    Sequences are numbered in the order of arrival, so the number also tells who came first.
    """

    def __init__(
        self,
        request: Request,
        decoder: Decoder,
        sequence: int,
        text: StreamDecoder,
        clock: Callable[[], float],
    ) -> None:
        self.decoder = decoder
        self.diffusing = decoder if isinstance(decoder, Diffusing) else None
        if self.diffusing is not None and self.diffusing.apart:
            # no pages of other readers, nor for them
            request = replace(request, salt=f"{request.salt}\0blocks")
        self.request = request
        self.guessing = decoder if isinstance(decoder, Guessing) else None
        self.sequence = sequence
        self.prompt: Int32 = np.array(request.prompt, np.int32)
        self.published = 0
        self.cached: int | None = None
        self.preemptions = 0
        self.output_tokens = 0
        self.rounds = 0
        self.guessed = 0
        self.accepted = 0
        self._text = text
        self._clock = clock
        self._arrived = clock()
        self._started: float | None = None
        self._first: float | None = None
        self._told: Draft | None = None

    @property
    def backlog(self) -> int:
        """Tokens that are known and not in the cache: 1 while it writes, more while it reads its prompt."""
        return len(self.decoder.tokens) - self.decoder.committed

    @property
    def reading(self) -> bool:
        """Whether it still reads its prompt, or again what a preemption has lost."""
        return self.backlog > 1 if self.diffusing is None else self.diffusing.reading

    def admitted(self, cached: int) -> None:
        """It runs from now on; `cached` tokens of its text were found in the cache."""
        self.published = cached // PAGE_SIZE
        if self.cached is None:
            self.cached = cached
            self._started = self._clock()

    def settle(self) -> int:
        """Its rows are committed: evict what is to be evicted. OutOfPagesError if it must begin anew.

        How many entries each layer and KV head has given up.
        """
        return self.decoder.settle() if isinstance(self.decoder, EvictingDecoder) else 0

    def released(self) -> None:
        """Its sequence is about to be given up."""
        if isinstance(self.decoder, EvictingDecoder):
            self.decoder.drop()

    def preempted(self) -> None:
        """It has lost its pages and will read its text again."""
        self.preemptions += 1
        self.published = 0
        self.decoder.resume(0)

    def newly_whole(self) -> int | None:
        """How many tokens make whole pages that are not published yet; None when there is none."""
        pages = self.decoder.committed // PAGE_SIZE
        if pages <= self.published:
            return None
        self.published = pages
        return pages * PAGE_SIZE

    def event(self, decision: Decision) -> TokenEvent | None:
        """What a decision brought, if there is anything to tell."""
        if not decision.tokens and decision.done is None:
            draft = self._draft()
            return None if draft is None else TokenEvent(self.request.identity, (), "", draft=draft)
        if self._first is None:
            self._first = self._clock()
        self.rounds += 1
        self.guessed += decision.guessed
        # A token that ended the request has no text.
        shown = decision.tokens[:-1] if decision.done == "stop" else decision.tokens
        tokens, logprobs, text = decision.tokens, decision.logprobs, ""
        for place, token in enumerate(shown):
            text += self._text.push(token)
            if self._text.matched is not None:  # what came with the same step is not part of the answer
                tokens, logprobs = tokens[: place + 1], logprobs[: place + 1]
                break
        self.output_tokens += len(tokens)
        self.accepted += min(decision.accepted, len(tokens))
        matched = self._text.matched
        reason: FinishReason | None = "stop" if matched is not None else decision.done
        if reason is not None and matched is None:
            text += self._text.finish()
        stop = matched if matched is not None else decision.stop_token
        timings = None if reason is None else self._timings()
        draft = self._draft() if reason is None else None
        return TokenEvent(self.request.identity, tokens, text, logprobs, reason, stop, timings, draft=draft)

    def ended(self, reason: FinishReason, error: FivefoldError | None = None) -> TokenEvent:
        """The last event of a request that ends before its decoder says so."""
        return TokenEvent(
            self.request.identity, (), self._text.finish(), (), reason, None, self._timings(), error
        )

    def _draft(self) -> Draft | None:
        """The block in flight, where the request wants it and it is another than was told last."""
        if self.diffusing is None or not self.request.drafts:
            return None
        block, known = self.diffusing.provisional, len(self.decoder.tokens)
        if block is None:
            return None
        places = zip(block.tokens, block.masked, strict=True)
        tokens = tuple(None if masked else token for token, masked in places)[known - block.start :]
        draft = Draft(known - len(self.prompt), tokens, self._text.preview(tokens))
        if draft == self._told:
            return None
        self._told = draft
        return draft

    def _timings(self) -> Timings:
        now = self._clock()
        started = now if self._started is None else self._started
        first = now if self._first is None else self._first
        return Timings(
            queue_seconds=started - self._arrived,
            prefill_seconds=first - started,
            decode_seconds=now - first,
            prompt_tokens=len(self.prompt) + len(self.request.suffix) + len(self.request.edited),
            cached_tokens=min(self.cached or 0, len(self.prompt)),
            output_tokens=self.output_tokens,
            preemptions=self.preemptions,
            kept_tokens=self.decoder.kept if isinstance(self.decoder, EvictingDecoder) else None,
            rounds=self.rounds,
            guessed_tokens=self.guessed,
            accepted_tokens=self.accepted,
        )


def common_prefix(ours: Int32, theirs: Int32) -> int:
    """How many tokens both begin with."""
    count = min(len(ours), len(theirs))
    differ = ours[:count] != theirs[:count]
    return int(differ.argmax()) if differ.any() else count
