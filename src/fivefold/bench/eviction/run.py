"""A measurement of eviction's quality from a loaded model to the answer of the command."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fivefold import __version__
from fivefold.backends import NativeRunner
from fivefold.bench.machine import describe_machine
from fivefold.bench.report import model_figures
from fivefold.cache.eviction import POLICIES, Policy, Scored, policy_named
from fivefold.chat import ChatTemplate
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.lookahead import LookaheadModule
from fivefold.engine import LoadedModel
from fivefold.engine.evictions import policy_with
from fivefold.engine.selecting import Evicted
from fivefold.engine.servable import needs_module
from fivefold.exercises import Rendering, Text
from fivefold.program import split_layers

from .answers import ANSWER_TOKENS, Answering
from .figures import figures
from .measuring import LAST, Bench, measure_document, needs_statistics, own_tables
from .prompts import AskedDocument, Selected, documents
from .queries import Queries
from .state import State

UNPOOLED, TWICE = "-unpooled", ("laq", "snapkv")
"""Policies whose source pools scores, measured without that too, and how that form is named."""
Tell = Callable[[AskedDocument, int, int], None]


@dataclass(frozen=True, slots=True)
class Quality:
    """What is asked for: policies by name (none: all that there can be), budgets, prompts, a state file."""

    policies: tuple[str, ...]
    budgets: tuple[int, ...]
    selected: Selected
    state: Path | None = None


def measure_quality(loaded: LoadedModel, texts: Sequence[Text], asked: Quality, tell: Tell) -> dict[str, Any]:
    """All figures under the keys of docs/bench.md; `tell` is called before each document."""
    policies, notes = measurable(loaded, asked.policies)
    machine = describe_machine()
    model = model_figures(loaded.checkpoint.path)
    identity = {
        **model, "module": module_hash(loaded.lookahead), "policies": [policy.name for policy in policies],
        "budgets": list(asked.budgets), "seed": asked.selected.seed, "answer_tokens": ANSWER_TOKENS,
        "instruction_set": loaded.settings.isa, "cache_format": loaded.settings.cache_format,
        "activations": loaded.settings.activations, "version": __version__,
    }  # fmt: skip
    state = State(asked.state, identity)
    bench = opened(loaded, policies, asked.budgets)
    rendering = Rendering(ChatTemplate.of(loaded.checkpoint, loaded.vocabulary), loaded.vocabulary)
    done = state.documents()
    wanted = [f"{name}.{n}" for n in range(asked.selected.count) for name in asked.selected.sets]
    for number, document in enumerate(documents(asked.selected, texts, rendering, done)):
        tell(document, number + 1, sum(name not in done for name in wanted))
        state.add(list(measure_document(bench, document)))
    records = [record for record in state.records.values() if record["document"] in set(wanted)]
    return {
        "work": "eviction", **identity, "processor": machine["processor"], "machine": machine,
        "threads": loaded.settings.threads, "notes": notes,
        "lookahead_rows": None if loaded.lookahead is None else loaded.lookahead.rows,
        **figures(records, [policy.name for policy in policies], asked.budgets), "records": records,
    }  # fmt: skip


def measurable(loaded: LoadedModel, names: Sequence[str]) -> tuple[tuple[Policy, ...], list[str]]:
    """The policies of these names, or all that can be measured and a line for each that cannot.

    One that is named and cannot be measured is an UnsupportedError.
    """
    found: list[Policy] = []
    notes: list[str] = []
    for name in names or (*POLICIES, *(f"{name}{UNPOOLED}" for name in TWICE)):
        policy = as_measured(name, loaded.lookahead)
        why = _why_not(policy, loaded.lookahead)
        if why and names:
            raise UnsupportedError(
                f"{name} cannot be measured: {why}", where="--policies", remedy="leave it out"
            )
        if why:
            notes.append(f"{name} is left out: {why}")
        else:
            found.append(policy)
    return tuple(found), notes


def check_measured(name: str) -> None:
    """InputError if no policy is measured under that name."""
    known = (*POLICIES, *(f"{one}{UNPOOLED}" for one in TWICE))
    if name not in known:
        raise InputError(
            f"there is no eviction policy {name!r:.60}",
            where="--policies",
            remedy=f"choose of {', '.join(known)}",
        )


def as_measured(name: str, module: LookaheadModule | None) -> Policy:
    """A policy or a form of one by its name, with the last 32 entries kept; scores are pooled as its source
    says, those of learned rows as their module says. InputError if there is none of that name.
    """
    base = name.removesuffix(UNPOOLED)
    policy = policy_named(base if base in TWICE else name)
    if not isinstance(policy, Scored):
        return policy
    policy = policy_with(policy, module)
    if name != policy.name:
        policy = replace(policy, name=name, pool=1)
    return replace(policy, window=LAST)


def _why_not(policy: Policy, module: LookaheadModule | None) -> str:
    if needs_module(policy) and module is None:
        return "there is no lookahead module for this model"
    return ""


def opened(loaded: LoadedModel, policies: tuple[Policy, ...], budgets: tuple[int, ...]) -> Bench:
    """The model once more with room for forks, with tables for each layer and head if a policy needs them."""
    model = loaded.model
    if own_tables(policies):
        model = split_layers(model)
    more = sum(2 * budget + ANSWER_TOKENS + 2 * PAGE_SIZE for budget in budgets)
    entries = loaded.context + loaded.settings.max_rows + 4 * ANSWER_TOKENS + more
    runner = NativeRunner(model, loaded.checkpoint, loaded.settings, entries)
    runner.lookahead = loaded.lookahead
    evicted = Evicted(runner, model.layout)
    queries = Queries(runner, model.main) if any(map(needs_statistics, policies)) else None
    return Bench(
        evicted, Answering(evicted, loaded.vocabulary), policies, budgets, loaded.lookahead, loaded.context,
        queries,
    )  # fmt: skip


def module_hash(module: LookaheadModule | None) -> str | None:
    """SHA-256 of a module's numbers."""
    if module is None:
        return None
    digest = hashlib.sha256(module.embeddings.tobytes())
    for name, (down, up) in sorted(module.pairs.items()):
        digest.update(name.encode() + down.tobytes() + up.tobytes())
    digest.update(f"{module.alpha} {module.rank} {module.pooling}".encode())
    return digest.hexdigest()
