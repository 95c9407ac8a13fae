"""All policies at all budgets on one document's prompts: recall, KL, and whether the answer is still right.

A prompt is read once. Each policy then chooses for every budget; each choice is carried out on a fork, which
is fed the full cache's answer. Layers and heads have page tables of their own here if any policy has uneven
budgets; steps give the same bits either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fivefold.cache.eviction import Draft, Policy, Selection, policy_named
from fivefold.core.batch import Float32, Int32
from fivefold.core.lookahead import LookaheadModule
from fivefold.engine.selecting import Evicted

from .answers import Answering, Right, Truth
from .evidence import Evidences
from .prompts import AskedDocument, Prompt
from .queries import Queries
from .reading import Read, Reader
from .statistics import Float64

SINKS, LAST = 4, 32
"""Entries of the prompt at its two ends that recall leaves out."""
_LONG = 1 << 20
_DIGITS = 6
Record = dict[str, Any]
NOTHING: Record = {"answer_tokens": 0, "right": None, "policies": {}}


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured: policies with their numbers, at budgets, on a model with an answerer of its own."""

    evicted: Evicted
    answering: Answering
    policies: tuple[Policy, ...]
    budgets: tuple[int, ...]
    module: LookaheadModule | None = None
    context: int = _LONG
    queries: Queries | None = None

    @property
    def reader(self) -> Reader:
        """A reader of prompts with the windows that these policies want."""
        wanted = [policy.observation(_LONG).window for policy in self.policies]
        for policy in self.policies:
            probe = policy.observation(_LONG).probe
            if isinstance(probe, Draft):
                wanted.append(policy_named(probe.by).observation(_LONG).window)
        windows = [one for one in wanted if one < _LONG]
        return Reader(self.evicted, windows, len(windows) < len(wanted))


def measure_document(bench: Bench, document: AskedDocument) -> Iterator[Record]:
    """A record for each prompt of a document, under the keys of docs/bench.md.

    Prompts that are longer than the model's context, or have no answer, have a record without policies.
    """
    reader, runner = bench.reader, bench.evicted.runner
    if any(len(prompt.tokens) >= bench.context for prompt in document.prompts):
        yield from ({**_about(document, prompt), **NOTHING} for prompt in document.prompts)
        return
    shortest = min(len(prompt.tokens) for prompt in document.prompts)
    shared = min(document.shared, shortest - reader.reach)
    beginning = reader.beginning(np.array(document.prompts[0].tokens[:shared], np.int32))
    try:
        for prompt in document.prompts:
            read = reader.read(beginning, shared, np.array(prompt.tokens, np.int32))
            try:
                yield {**_about(document, prompt), **_measure(bench, prompt, read)}
            finally:
                runner.close(read.sequence)
    finally:
        runner.close(beginning[0])


def _about(document: AskedDocument, prompt: Prompt) -> Record:
    question = prompt.question
    return {
        "prompt": prompt.name, "document": document.name, "set": document.set_name, "kind": question.kind,
        "depth": None if question.depth is None else round(question.depth, 4), "tokens": len(prompt.tokens),
    }  # fmt: skip


def _measure(bench: Bench, prompt: Prompt, read: Read) -> Record:
    truth = bench.answering.truth(read.sequence, read.length, read.logits)
    if truth is None:
        return dict(NOTHING)
    question = prompt.question
    right = None if question.answer is None else question.is_right(bench.answering.text(truth.tokens))
    wanted: Right | None = question.is_right if right else None
    evidences = Evidences(bench.evicted, read, truth.importance, bench.module, bench.queries)
    mass = true_mass(truth.importance, bench.evicted.kv_heads)
    found = {
        policy.name: _policy(bench, policy, (read, truth, evidences), mass, wanted)
        for policy in bench.policies
    }
    return {"answer_tokens": len(truth.tokens), "right": right, "policies": found}


def _policy(
    bench: Bench,
    policy: Policy,
    seen: tuple[Read, Truth, Evidences],
    mass: Float64,
    right: Right | None,
) -> Record:
    """One policy at all budgets, by the budget's text."""
    read, truth, evidences = seen
    evicted, runner = bench.evicted, bench.evicted.runner
    forks: list[int] = []
    selections: list[Selection] = []
    try:
        for budget in bench.budgets:
            evidence = evidences.of(policy, budget)
            selections.append(policy.select(evidence, budget))
            forks.append(runner.fork(read.sequence))
            evicted.keep(forks[-1], selections[-1])
        fed = bench.answering.fed(forks, read.length, truth, right)
    finally:
        for fork in forks:
            runner.close(fork)
    return {
        str(budget): {
            "kl": round(one.kl, _DIGITS + 2), "agreement": round(one.agreement, _DIGITS), "right": one.right,
            "recall": round(recall(mass, selection), _DIGITS),
            "kept": round(kept_entries(selection, evicted.layers, evicted.kv_heads), 2),
        }
        for budget, one, selection in zip(bench.budgets, fed, selections, strict=True)
    }  # fmt: skip


def true_mass(importance: Float32, kv_heads: int) -> Float64:
    """(layers, KV heads, T): importance (layers, query heads, T) summed over the query heads of each KV head,
    nothing at the prompt's two ends; each sums to 1."""
    layers, _, slots = importance.shape
    mass: Float64 = importance.reshape(layers, kv_heads, -1, slots).sum(axis=2, dtype=np.float64)
    mass[..., :SINKS] = 0
    mass[..., max(slots - LAST, 0) :] = 0
    total = mass.sum(axis=-1, keepdims=True)
    np.divide(mass, total, out=mass, where=total > 0)
    return mass


def recall(mass: Float64, selection: Selection) -> float:
    """The mean over layers and KV heads of the mass that is kept."""
    layers, heads, _ = mass.shape
    found = [
        mass[layer, head][_slots(selection, layer, head)].sum() for layer, head in np.ndindex(layers, heads)
    ]
    return float(np.mean(found))


def kept_entries(selection: Selection, layers: int, kv_heads: int) -> float:
    """The mean number of entries that a layer and KV head keeps."""
    return float(np.mean([len(_slots(selection, *place)) for place in np.ndindex(layers, kv_heads)]))


def _slots(selection: Selection, layer: int, head: int) -> Int32:
    return selection[layer][head]


def needs_statistics(policy: Policy) -> bool:
    """Whether a policy wants keys and queries, which nobody reads here."""
    return policy.observation(1).statistics


def own_tables(policies: Sequence[Policy]) -> bool:
    """Whether any policy keeps different numbers in each layer and head."""
    return any(policy.ragged for policy in policies)
