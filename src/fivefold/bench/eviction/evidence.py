"""What each policy is shown before it chooses: attention of the prompt's rows, of probes, of the true answer.

Everything runs on the prompt that has been read once, and leaves nothing in its cache. A probe that does not
depend on the budget runs once for all of them; a draft is written anew on a fork of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from fivefold.backends.cached import CachedRunner
from fivefold.cache.eviction import (
    Draft,
    Evidence,
    LearnedRows,
    Observation,
    Policy,
    Repetition,
    TrueAnswer,
    policy_named,
)
from fivefold.core.batch import Commit, Float32, Step
from fivefold.core.lookahead import LookaheadModule
from fivefold.engine.observing import Observed, learned_rows
from fivefold.engine.probes import Drafting, Probing, repeating
from fivefold.engine.selecting import Evicted

from .queries import Queries
from .reading import Read


class Evidences:
    """Evidence for policies about one prompt. `truth` is what the true answer's rows paid, (L, H, T)."""

    def __init__(
        self, evicted: Evicted, read: Read, truth: Float32, module: LookaheadModule | None = None,
        queries: Queries | None = None,
    ) -> None:  # fmt: skip
        self._evicted, self._read, self._truth, self._module = evicted, read, truth, module
        self._queries = queries
        self._statistics: Evidence | None = None
        self._known: dict[str, Float32] = {}
        self._drafts: dict[tuple[Observation, int], Float32] = {}

    def of(self, policy: Policy, budget: int) -> Evidence:
        """What a policy is shown at a budget."""
        importance = self.importance(policy, budget)
        evidence = Evidence(self._evicted.layers, self._evicted.kv_heads, self._read.length, importance)
        if not policy.observation(self._read.length).statistics:
            return evidence
        assert self._queries is not None
        if self._statistics is None:
            found = [self._entries(group.name) for group in self._evicted.groups]
            keys, values = (np.concatenate([one[which] for one in found]) for which in (0, 1))
            queries = self._queries.statistics(self._read.tokens)
            self._statistics = replace(
                evidence, keys=keys, value_norms=np.linalg.norm(values, axis=-1), queries=queries
            )
        return self._statistics

    def _entries(self, group: str) -> tuple[Float32, Float32]:
        runner = self._evicted.runner
        assert isinstance(runner, CachedRunner)
        return runner.entries(self._read.sequence, group)

    def importance(self, policy: Policy, budget: int) -> Float32 | None:
        """(L, H, T) as the policy's observation says, None if nothing observes."""
        observation = policy.observation(self._read.length)
        if observation.probe is None:
            return self._read.windows[observation.window] if observation.window else None
        return _PROBES[type(observation.probe)](self, policy, budget)

    def _learned(self, policy: Policy, budget: int) -> Float32:
        """Rows of the module behind the prompt."""
        if policy.name not in self._known:
            assert self._module is not None
            sequence = self._read.sequence
            self._evicted.runner.run(Step((learned_rows(sequence, self._read.length, self._module),)))
            self._known[policy.name] = self._evicted.importance(sequence).copy()
            self._evicted.runner.commit([Commit(sequence, _NONE)])
        return self._known[policy.name]

    def _drafted(self, policy: Policy, budget: int) -> Float32:
        """A draft on a fork that another policy has evicted to the same budget, beside the last rows."""
        observation = policy.observation(self._read.length)
        probe, key = observation.probe, (observation, budget)
        if key in self._drafts:
            return self._drafts[key]
        assert isinstance(probe, Draft)
        fork = self._evicted.runner.fork(self._read.sequence)
        by = policy_named(probe.by)
        try:
            self._evicted.evict(fork, by, self.importance(by, budget), budget)
        except BaseException:
            self._evicted.runner.close(fork)
            raise
        first = int(self._read.logits.argmax())
        sequences = (self._read.sequence, fork)
        drafting = Drafting(self._evicted, sequences, self._read.length, (first, probe.tokens))
        self._drafts[key] = self._probed(policy, drafting)
        return self._drafts[key]

    def _repeated(self, policy: Policy, budget: int) -> Float32:
        """The prompt once more behind itself."""
        if policy.name not in self._known:
            probe = policy.observation(self._read.length).probe
            assert isinstance(probe, Repetition)
            probing = repeating(self._evicted, self._read.sequence, self._read.tokens, probe.chunk)
            self._known[policy.name] = self._probed(policy, probing)
        return self._known[policy.name]

    def _true(self, policy: Policy, budget: int) -> Float32:
        return self._truth

    def _probed(self, policy: Policy, probing: Probing) -> Float32:
        """All steps of a probe, and what it and the policy's window have seen."""
        observation, runner = policy.observation(self._read.length), self._evicted.runner
        seen = Observed(self._read.length, (observation.window,), observation.reduce)
        if observation.window:
            seen.add(self._read.windows[observation.window], self._read.length - observation.window)
        try:
            while not probing.finished:
                span = probing.propose(runner.max_rows)
                assert span is not None
                runner.commit([probing.decide(runner.run(Step((span,))))])
                probing.settle(seen)
        finally:
            probing.drop()
        found = seen.window(observation.window)
        assert found is not None
        return found


_NONE = np.zeros(0, np.int32)
_PROBES: Mapping[type[Any], Callable[[Evidences, Policy, int], Float32]] = MappingProxyType(
    {
        LearnedRows: Evidences._learned,
        Draft: Evidences._drafted,
        Repetition: Evidences._repeated,
        TrueAnswer: Evidences._true,
    }
)
