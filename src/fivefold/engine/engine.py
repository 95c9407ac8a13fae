"""A simple engine: one sequence at a time, from a request to its events.

It drives a decoder without knowing the algorithm: propose rows, run them, hand the logits back, keep
what the decoder keeps. The sequence of the last request stays in the cache, and a prompt that
begins as it does goes on from there, so a chat reads only what is new.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fivefold.chat import StreamDecoder
from fivefold.core.batch import Step
from fivefold.core.decoder import Decision, Decoder
from fivefold.core.errors import FivefoldError
from fivefold.core.request import FinishReason, Request, TokenEvent
from fivefold.decode import AutoregressiveDecoder

from .loader import LoadedModel


@dataclass(slots=True)
class Figures:
    """What the last request took: tokens and seconds, prompt and output apart."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    prompt_seconds: float = 0.0
    output_seconds: float = 0.0


class Engine:
    """Generates for one request at a time on a loaded model. The last sequence is kept until `close`."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.figures = Figures()
        self._sequence: int | None = None
        self._held: tuple[int, ...] = ()
        self._turn = 0

    def generate(self, request: Request) -> Iterator[TokenEvent]:
        """Events of one request, the last one with its finish reason. Errors leave the engine usable."""
        sequence = self._sequence_for(request.prompt)
        vocabulary = self.loaded.vocabulary
        decoder = AutoregressiveDecoder.for_request(
            sequence, request, self.loaded.model.shape.vocabulary, vocabulary.end_tokens, self.loaded.context
        )
        cached = decoder.resume(_common(self._held, request.prompt))
        self.loaded.runner.truncate(sequence, cached)
        self._held = self._held[:cached]
        self.figures = Figures(len(request.prompt), cached)
        self._turn += 1
        turn = self._turn
        try:
            for event in self._events(request, decoder):
                yield event
                if turn != self._turn:
                    raise FivefoldError(
                        "another request began on this engine", where=request.identity, remedy="end one first"
                    )
        finally:
            if turn == self._turn and self._sequence is not None:
                self._held = tuple(decoder.tokens[: decoder.committed])

    def _sequence_for(self, prompt: Sequence[int]) -> int:
        """The kept sequence, or a new one."""
        if self._sequence is None:
            self._sequence = self.loaded.runner.open()
            self._held = ()
        return self._sequence

    def close(self) -> None:
        """Give the pages of the kept sequence back; the engine can be used again.

        Also after a step that broke off, when decoder and cache may no longer agree.
        """
        if self._sequence is not None:
            self.loaded.runner.close(self._sequence)
        self._sequence, self._held = None, ()

    def _events(self, request: Request, decoder: Decoder) -> Iterator[TokenEvent]:
        stream = StreamDecoder(
            self.loaded.vocabulary, request.sampling.stop, request.sampling.include_stop_str_in_output
        )
        while True:
            decision = self._step(decoder)
            if not decision.tokens and decision.done is None:
                continue
            text = "".join(stream.push(token) for token in self._shown(decision))
            reason: FinishReason | None = "stop" if stream.matched is not None else decision.done
            if reason is not None and stream.matched is None:
                text += stream.finish()
            stop = stream.matched if stream.matched is not None else decision.stop_token
            yield TokenEvent(request.identity, decision.tokens, text, decision.logprobs, reason, stop)
            if reason is not None:
                return

    def _shown(self, decision: Decision) -> tuple[int, ...]:
        """The tokens whose text is shown: all but one that ended the request."""
        if decision.done != "stop" or not decision.tokens:
            return decision.tokens
        return decision.tokens[:-1]

    def _step(self, decoder: Decoder) -> Decision:
        """One step of the decoder's sequence."""
        runner = self.loaded.runner
        span = decoder.propose(runner.max_rows)
        if span is None:
            raise FivefoldError("the decoder needs more rows than a step has", remedy="raise max_rows")
        began = time.perf_counter()
        try:
            logits = runner.run(Step((span,)))
            decision = decoder.decide(logits)
            runner.commit((decision.commit,))
        except BaseException:
            self.close()
            raise
        took = time.perf_counter() - began
        if self.figures.output_tokens == 0:
            self.figures.prompt_seconds += took
        else:
            self.figures.output_seconds += took
        self.figures.output_tokens += len(decision.tokens)
        return decision


def _common(held: Sequence[int], prompt: Sequence[int]) -> int:
    """How many tokens both begin with."""
    count = 0
    for ours, theirs in zip(held, prompt, strict=False):
        if ours != theirs:
            break
        count += 1
    return count
