"""Who runs and who waits: by pages for the whole text, in the order of arrival.

A request begins to run when the cache has room for its whole prompt and the first token after it, so
no two prompts can starve each other half read. What it writes later takes pages as it grows; when there are
none, the request that came last gives its own back and begins anew (recomputation; its published
pages stay for as long as nobody needs them). A request whose prompt begins like one that is being read
right now waits for that, and then finds it in the cache; others pass it meanwhile.
"""

from __future__ import annotations

from collections import deque

from fivefold.core.errors import FivefoldError, OverloadedError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.runner import Runner

from .figures import EngineOptions, Totals
from .task import Task, common_prefix


class Admission:
    """The waiting and the running requests of an engine, both in the order of arrival."""

    def __init__(self, runner: Runner, options: EngineOptions, totals: Totals) -> None:
        self.waiting: deque[Task] = deque()
        self.running: list[Task] = []
        self._runner = runner
        self._options = options
        self._totals = totals
        self._full = False

    @property
    def has_room(self) -> bool:
        """Whether one more request may wait, beside those that the next step will let run."""
        soon = max(self._options.max_sequences - len(self.running), 0)
        return len(self.waiting) < self._options.max_queue + soon

    def enqueue(self, task: Task) -> None:
        """Let a new request wait. OverloadedError if too many do."""
        if not self.has_room:
            raise OverloadedError(
                f"{len(self.waiting)} requests are waiting", remedy="try again later",
                retry_after=max(1.0, self._totals.last_step_seconds * len(self.waiting)),
            )  # fmt: skip
        self.waiting.append(task)

    def admit(self) -> None:
        """Let those run for whom there is room."""
        if self._full or not self.waiting:
            return
        for task in list(self.waiting):
            if len(self.running) >= self._options.max_sequences:
                return
            if self._twin_is_read(task):
                continue
            if not self._fits(task):
                self._full = True  # until somebody gives pages back; those behind must not pass
                return
            self.waiting.remove(task)
            self._run(task)

    def remove(self, task: Task) -> None:
        """A request has ended: its pages are free."""
        (self.running if task in self.running else self.waiting).remove(task)
        task.released()
        self._runner.close(task.sequence)
        self._full = False

    def preempt_last(self) -> Task:
        """Take the pages of the running request that came last; it waits before all others."""
        return self.preempt(self.running[-1])

    def preempt(self, task: Task) -> Task:
        """Take the pages of a running request, which begins anew."""
        self.running.remove(task)
        task.released()
        self._runner.truncate(task.sequence, 0)
        task.preempted()
        self.waiting.appendleft(task)
        self._totals.preemptions += 1
        self._full = True
        return task

    def _run(self, task: Task) -> None:
        """Into the running requests, at its place by arrival."""
        after = [place for place, other in enumerate(self.running) if other.sequence > task.sequence]
        self.running.insert(after[0] if after else len(self.running), task)

    def _fits(self, task: Task) -> bool:
        """Attach what the cache has of a request's text, and reserve the rest; both or nothing.

        A part of a page has to be copied, for which there may be no page; without it the page that has it
        can be given up.
        """
        tokens = task.decoder.tokens
        found = 0
        if self._options.prefix_cache:
            found = self._runner.attach(task.sequence, tokens, task.request.salt)
        cached = task.decoder.resume(found)
        for count in dict.fromkeys((cached, cached // PAGE_SIZE * PAGE_SIZE)):
            task.decoder.resume(count)
            if count < found:
                self._runner.truncate(task.sequence, count)
            if self._runner.reserve(task.sequence, len(tokens) + 1) and self._leaves_room():
                if task.cached is None:
                    self._totals.prompt_tokens += len(task.prompt)
                    self._totals.cached_tokens += count
                task.admitted(count)
                return True
        self._runner.truncate(task.sequence, 0)
        task.decoder.resume(0)
        if not self.running:
            raise FivefoldError(
                f"the text of {len(tokens)} tokens does not fit the cache", where=task.request.identity,
                remedy="give the cache more memory or shorten the text",
            )  # fmt: skip
        return False

    def _leaves_room(self) -> bool:
        """Whether each running request could still take a page: else the newcomer would be thrown out."""
        figures = self._runner.figures()
        return figures.free + figures.kept >= PAGE_SIZE * len(self.running)

    def _twin_is_read(self, task: Task) -> bool:
        """Whether a running request is about to fill pages that this one can share."""
        if not self._options.prefix_cache:
            return False
        for other in self.running:
            if other.reading and other.request.salt == task.request.salt:
                pages = common_prefix(task.prompt, other.prompt) // PAGE_SIZE
                if pages * PAGE_SIZE > other.decoder.committed:
                    return True
        return False
