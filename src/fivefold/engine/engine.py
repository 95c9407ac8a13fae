"""The engine: many requests at once on one loaded model, step by step.

Each step mixes rows of all running requests, so that one pass over the weights serves them all: writers
first, then parts of prompts, as many rows as the pace allows. The engine drives decoders without
knowing the algorithm: propose rows, run them, hand the logits back, keep what the decoder keeps. A
request's tokens are the same alone and among others, bit for bit, since rows do not know each other.

Not thread safe; `AsyncEngine` runs one on a thread of its own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence

from fivefold.chat import StreamDecoder
from fivefold.core.errors import FivefoldError, InputError, NotFiniteError
from fivefold.core.request import EvictionChoice, FinishReason, Request, SamplingParams, TokenEvent

from .admission import Admission
from .decodings import Decodings
from .evictions import Evictions
from .figures import EngineFigures, EngineOptions, Totals
from .generation import Generation, joined
from .loader import LoadedModel
from .stepping import Stepping
from .task import Task

_LOG = logging.getLogger("fivefold.engine")
_FAULT = "the step failed by a fault of the engine"
_SEE_LOG = "its log says more; requests that come later are answered"


class Engine:
    """Continuous batching over one model. Events of a request come from `step`, or from its `stream`."""

    def __init__(
        self,
        loaded: LoadedModel,
        options: EngineOptions | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.loaded = loaded
        self._options = options or EngineOptions()
        self._runner = loaded.runner
        self._clock = clock
        self._totals = Totals()
        self._admission = Admission(loaded.runner, self._options, self._totals)
        self._stepping = Stepping(
            loaded.runner, loaded.vocabulary.size, self._admission, self._options, self._totals, clock
        )
        self._evictions = Evictions(loaded, self._options.eviction)
        self._decodings = Decodings(
            loaded, self._options.decoding, self._options.denoiser, self._options.caching,
            self._options.guesses,
        )  # fmt: skip
        self._tasks: dict[str, Task] = {}
        self._cancelled: list[str] = []
        self._unclaimed: list[TokenEvent] = []
        self._streams: dict[str, deque[TokenEvent]] = {}
        self._numbers = 0

    @property
    def busy(self) -> bool:
        """Whether any request is waiting or running, or an event waits for the next step."""
        return bool(self._tasks or self._unclaimed)

    @property
    def eviction(self) -> EvictionChoice:
        """Of requests that say nothing of it."""
        return self._evictions.default

    def submit(self, request: Request) -> None:
        """Take a request; its events come from the steps that follow.

        InputError if its prompt or its eviction cannot be used or its identity is under way, UnsupportedError
        for a decoding, drafts, a suffix or an edit that the model has not, OverloadedError if too many wait
        already.
        """
        if request.identity in self._tasks:
            raise InputError("a request of this name is under way", where=request.identity,
                             remedy="give each request a name of its own")  # fmt: skip
        self._end_cancelled()  # their places may be what this one needs
        sequence = self._runner.open()
        try:
            task = self._task(request, sequence)
            self._admission.enqueue(task)
        except BaseException:
            self._runner.close(sequence)
            raise
        self._tasks[request.identity] = task

    def cancel(self, identity: str) -> None:
        """End a request at the next step; nothing happens if it has ended."""
        if identity in self._tasks:
            self._cancelled.append(identity)

    def step(self) -> list[TokenEvent]:
        """Run one step of all running requests; the events of those that have no `stream`."""
        self._advance()
        events, self._unclaimed = self._unclaimed, []
        return events

    def stream(self, request: Request) -> Generator[TokenEvent, None, None]:
        """Events of one request, stepping all of them; raises the request's error.

        The request begins when the first event is asked for, and ends when the iterator is left.
        """
        self.submit(request)
        mine = self._streams[request.identity] = deque()
        try:
            while True:
                while not mine:
                    self._advance()
                event = mine.popleft()
                if event.error is not None:
                    raise event.error
                yield event
                if event.finish_reason is not None:
                    return
        finally:
            del self._streams[request.identity]
            if request.identity in self._tasks:
                self._finish(self._tasks[request.identity])

    def generate(
        self, prompts: Sequence[Sequence[int] | str], sampling: SamplingParams | Sequence[SamplingParams]
    ) -> list[Generation]:
        """Whole answers to some prompts (token ids, or text as it stands), in their order.

        One `sampling` for all, or one for each. The first request that fails raises its error, and the
        others end.
        """
        if isinstance(prompts, str):
            raise InputError("one text was given, not a list of prompts", where="prompts",
                             remedy="put it into a list")  # fmt: skip
        each = [sampling] * len(prompts) if isinstance(sampling, SamplingParams) else list(sampling)
        if len(each) != len(prompts):
            raise InputError(f"{len(prompts)} prompts and {len(each)} sampling parameters",
                             where="sampling", remedy="give one for all or one for each")  # fmt: skip
        requests = [self._request(prompt, one) for prompt, one in zip(prompts, each, strict=True)]
        found: dict[str, list[TokenEvent]] = {request.identity: [] for request in requests}
        left = deque(requests)
        try:
            while left or any(name in self._tasks for name in found):
                while left and self._admission.has_room:
                    request = left.popleft()
                    self._streams[request.identity] = deque()
                    self.submit(request)
                self._advance()
                for name in found:
                    found[name] += self._take(name)
        finally:
            for name in found:
                self._streams.pop(name, None)
                if name in self._tasks:
                    self._finish(self._tasks[name])
        return [joined(request, found[request.identity]) for request in requests]

    def figures(self) -> EngineFigures:
        """A snapshot of what is under way and of what has been done."""
        totals = self._totals
        return EngineFigures(
            running=len(self._admission.running),
            waiting=len(self._admission.waiting),
            cache=self._runner.figures(),
            steps=totals.steps,
            preemptions=totals.preemptions,
            prompt_tokens=totals.prompt_tokens,
            cached_tokens=totals.cached_tokens,
            output_tokens=totals.output_tokens,
            last_step_rows=totals.last_step_rows,
            last_step_seconds=totals.last_step_seconds,
            evictions=totals.evictions,
            evicted_entries=totals.evicted_entries,
            guessed_by_place=totals.guessed_by_place,
            accepted_by_place=totals.accepted_by_place,
        )

    def row_seconds(self) -> dict[int, float]:
        """Seconds of a step that only writes, for each number of rows that was measured."""
        return self._stepping.guesswork.costs.table()

    def check_integrity(self) -> None:
        """AssertionError unless cache and requests fit together."""
        self._runner.check_integrity()
        held = [*self._admission.running, *self._admission.waiting]
        assert sorted(map(id, held)) == sorted(map(id, self._tasks.values())), (
            "a request is lost or held twice"
        )

    def close(self) -> None:
        """End all requests without a word and give their pages back. The engine can be used again."""
        for task in list(self._tasks.values()):
            self._finish(task)
        self._cancelled.clear()
        self._unclaimed.clear()

    def _request(self, prompt: Sequence[int] | str, sampling: SamplingParams) -> Request:
        self._numbers += 1
        tokens = self.loaded.vocabulary.encode(prompt) if isinstance(prompt, str) else prompt
        return Request(f"generate-{self._numbers}", tuple(tokens), sampling)

    def _task(self, request: Request, sequence: int) -> Task:
        vocabulary, sampling = self.loaded.vocabulary, request.sampling
        room = min(self.loaded.context, self._runner.figures().longest)
        decoder = self._decodings.decoder(sequence, request, room)
        text = StreamDecoder(
            vocabulary, sampling.stop, sampling.include_stop_str_in_output, request.shown, sampling.min_tokens
        )
        evicting = self._evictions.around(decoder, sequence, request)
        return Task(request, evicting, sequence, text, self._clock)

    def _advance(self) -> None:
        """One step, its events given to whom they belong. If it is interrupted, they are told so."""
        self._end_cancelled()
        try:
            self._admit()
            outcome = self._stepping.step()
        except BaseException as error:
            # Decoders and cache may no longer agree about anything that was in the step.
            reason = error if isinstance(error, FivefoldError) else FivefoldError(_FAULT, remedy=_SEE_LOG)
            if isinstance(error, Exception) and reason is not error:
                _LOG.exception("a step failed")
            # Nothing runs if it failed before that: then whoever waits would meet the same fault for ever.
            for task in list(self._admission.running or self._admission.waiting):
                self._end(task, "error", reason)
            if isinstance(error, Exception):
                return
            raise
        for task, failure in outcome.failed:
            if isinstance(failure, NotFiniteError):
                failure = failure.of(self.loaded.path.name)  # noqa: PLW2901
            self._end(task, "error", failure)
        for task, event in outcome.events:
            self._emit(event)
            if event.finish_reason is not None:
                self._finish(task)

    def _end_cancelled(self) -> None:
        """End those that were to be cancelled."""
        names, self._cancelled = dict.fromkeys(self._cancelled), []
        for name in names:
            if name in self._tasks:
                self._end(self._tasks[name], "cancelled")

    def _admit(self) -> None:
        """Let requests run; one whose text can never fit ends with the error."""
        try:
            self._admission.admit()
        except FivefoldError as error:
            self._end(self._admission.waiting[0], "error", error)

    def _end(self, task: Task, reason: FinishReason, error: FivefoldError | None = None) -> None:
        self._emit(task.ended(reason, error))
        self._finish(task)

    def _finish(self, task: Task) -> None:
        """The one way out for a request: its pages are free."""
        del self._tasks[task.request.identity]
        self._admission.remove(task)

    def _emit(self, event: TokenEvent) -> None:
        self._streams.get(event.identity, self._unclaimed).append(event)

    def _take(self, identity: str) -> list[TokenEvent]:
        """What has come for a request of `generate`; raises its error."""
        stream = self._streams.get(identity)
        if not stream:
            return []
        events = list(stream)
        stream.clear()
        if events[-1].error is not None:
            raise events[-1].error
        return events
