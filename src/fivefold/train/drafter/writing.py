"""Conversations written by the model itself: many at once, each token chosen from its own logits.

Sequences that are done make room for the next, so that steps have many rows to the end. What the tapped
layers give is taken from the very steps that read the prompts and write the answers: nothing runs twice. A
row's bits do not depend on its company, so neither does what is written. Which prompts there are is not
decided here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fivefold.backends import NativeRunner
from fivefold.core.batch import LOGITS, Commit, Float32, Span, Step
from fivefold.core.drafter import Float16

from .conversations import Conversation


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked. `temperature` 0 takes the likeliest token, others are drawn by `seed`."""

    tokens: tuple[int, ...]
    kind: str
    temperature: float = 0.0
    seed: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Writing:
    """How conversations are written.

    taps    buffers of the model's Program that are kept, (N, hidden) each; `logits` is its output.
    answer  tokens of an answer at most; it ends before with one of `end_tokens`, which belongs to it.
    batch   sequences that run at once.
    """

    runner: NativeRunner
    taps: tuple[str, ...]
    logits: str
    end_tokens: frozenset[int]
    answer: int = 256
    batch: int = 32


@dataclass(slots=True, eq=False)
class _Writer:
    """One conversation under way: its tokens, how many of them ran, and their hidden states."""

    place: int
    prompt: Prompt
    sequence: int
    tokens: list[int]
    random: np.random.Generator
    ran: int = 0
    hidden: list[Float16] = field(default_factory=list)

    def span(self, most: int) -> Span:
        """The next rows, at most so many; the last token's want logits."""
        part = np.array(self.tokens[self.ran : self.ran + most], np.int32)
        whole = self.ran + len(part) == len(self.tokens)
        wanted = np.arange(len(part) - 1 if whole else len(part), len(part), dtype=np.int32)
        return Span.causal(self.sequence, part, self.ran, wanted)

    def choose(self, logits: Float32) -> int:
        """The next token."""
        if not self.prompt.temperature:
            return int(logits.argmax())
        weights = np.exp((logits - logits.max()) / np.float32(self.prompt.temperature))
        heights = np.cumsum(weights, dtype=np.float64)
        place = int(np.searchsorted(heights, self.random.random() * heights[-1], side="right"))
        return min(place, len(logits) - 1)


def write_conversations(
    writing: Writing, prompts: Sequence[Prompt], told: Callable[[int], None] = lambda rows: None
) -> list[Conversation]:
    """A conversation for each prompt, in their order. `told` is given the rows of each step."""
    runner = writing.runner
    waiting, going = deque(enumerate(prompts)), list[_Writer]()
    done: dict[int, Conversation] = {}
    try:
        while waiting or going:
            while waiting and len(going) < writing.batch:
                place, prompt = waiting.popleft()
                random = np.random.default_rng(prompt.seed)
                going.append(_Writer(place, prompt, runner.open(), list(prompt.tokens), random))
            told(_step(writing, going))
            for one in [one for one in going if _ended(writing, one)]:
                going.remove(one)
                runner.close(one.sequence)
                tokens, hidden = np.array(one.tokens, np.int32), np.concatenate(one.hidden)
                done[one.place] = Conversation(tokens, len(one.prompt.tokens), hidden, one.prompt.kind)
    finally:
        for one in going:
            runner.close(one.sequence)
    return [done[place] for place in range(len(prompts))]


def _ended(writing: Writing, one: _Writer) -> bool:
    written = len(one.tokens) - len(one.prompt.tokens)
    return written >= writing.answer or (written > 0 and one.tokens[-1] in writing.end_tokens)


def _step(writing: Writing, going: Sequence[_Writer]) -> int:
    """One step: a row of each who writes, and prompts in the room beside them."""
    room, chosen = writing.runner.max_rows, list[tuple[_Writer, Span]]()
    for one in sorted(going, key=lambda one: len(one.tokens) - one.ran):
        if room:
            span = one.span(room)
            room -= len(span.tokens)
            chosen.append((one, span))
    found = writing.runner.run_tapped(Step(tuple(span for _, span in chosen)), writing.taps)
    rows = [np.arange(len(span.tokens), dtype=np.int32) for _, span in chosen]
    commits = [Commit(span.sequence, all_of) for (_, span), all_of in zip(chosen, rows, strict=True)]
    writing.runner.commit(commits)
    with np.errstate(over="ignore"):  # what is too large is refused when it is stored
        states = np.stack([found[tap].astype(np.float16) for tap in writing.taps], 1)
    first = wanted = 0
    for one, span in chosen:
        last = first + len(span.tokens)
        one.hidden.append(states[first:last].copy())
        one.ran, first = one.ran + len(span.tokens), last
        if len(span.row_sets[LOGITS]):
            one.tokens.append(one.choose(found[writing.logits][wanted]))
            wanted += 1
    return first
