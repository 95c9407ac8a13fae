"""Which evictions can be served: what people ask for, and what a model allows, known before it is loaded.

Keys of a configuration, fields of requests and options of commands all come to the same `EvictionChoice`, and
what is wrong with one is said here in the same words: `where` is eviction, budget or eviction_every.
Who evicts, and when, is in `evicting`.
"""

from __future__ import annotations

from pathlib import Path

from fivefold.cache.eviction import POLICIES, Budget, LearnedRows, Policy, TrueAnswer, policy_named
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import CacheLayout
from fivefold.core.lookahead import LookaheadModule, Sought
from fivefold.core.request import EvictionChoice
from fivefold.program import Model, split_layers

from .selecting import apart, evicted_groups

NONE = "none"


def _measures(policy: Policy) -> bool:
    """Whether it needs what only measurements have: the answer itself, or statistics of queries."""
    observation = policy.observation(1)
    return observation.statistics or isinstance(observation.probe, TrueAnswer)


SERVED = (NONE, *(name for name, policy in POLICIES.items() if not _measures(policy)))
"""Names that requests may ask for; which of them a model allows is another question."""


def served_policy(name: str) -> Policy | None:
    """The policy of that name, None for "none".

    InputError if there is none, UnsupportedError if it is for measurements alone.
    """
    if name == NONE:
        return None
    if name not in POLICIES:
        raise InputError(
            f"there is no eviction policy {name!r:.60}", where="eviction",
            remedy=f"choose of {', '.join(SERVED)}",
        )  # fmt: skip
    policy = policy_named(name)
    if _measures(policy):
        raise UnsupportedError(
            f"eviction {name!r} is for measurements alone", where="eviction",
            remedy=f"choose of {', '.join(SERVED)}",
        )  # fmt: skip
    return policy


def checked(choice: EvictionChoice) -> Policy | None:
    """The policy of a choice, None if nothing is evicted; errors for what no model could be served with."""
    policy = served_policy(choice.policy)
    if policy is None:
        for where, value in (("budget", choice.budget), ("eviction_every", choice.every)):
            if value:
                raise InputError(
                    f"{value} is given, and nothing is evicted", where=where,
                    remedy="choose an eviction too, such as 'snapkv', or leave it out",
                )  # fmt: skip
        return None
    if not choice.budget:
        raise InputError(
            f"eviction {choice.policy!r} has no budget", where="budget",
            remedy="give the entries that each KV head keeps, such as 256, or a share of the prompt, 0.1",
        )  # fmt: skip
    Budget(choice.budget)
    if choice.every < 0:
        raise InputError(
            f"it is {choice.every}", where="eviction_every",
            remedy="give tokens of the answer after which it is done again, or 0",
        )  # fmt: skip
    if policy.ragged and choice.every:
        raise UnsupportedError(
            f"eviction {policy.name!r} is done once, behind the prompt", where="eviction_every",
            remedy="leave it out or choose a policy that keeps equally many entries in each head",
        )  # fmt: skip
    return policy


def require_entries(layout: CacheLayout, native: bool) -> None:
    """UnsupportedError unless a model with this layout can be evicted from; `native`: with a Program."""
    if not native:
        raise UnsupportedError(
            "entries of a model of the Transformers backend cannot be evicted", where="eviction",
            remedy=f'write eviction = "{NONE}"',
        )  # fmt: skip
    evicted_groups(layout)


def require_tables(policy: Policy, layout: CacheLayout) -> None:
    """UnsupportedError where a policy keeps different numbers in heads that share a page table."""
    if policy.ragged and not apart(evicted_groups(layout)):
        raise UnsupportedError(
            f"eviction {policy.name!r} keeps different numbers of entries in each layer and KV head, and "
            "this model was loaded with page tables for all of them together", where="eviction",
            remedy=f'load the model with eviction = "{policy.name}"',
        )  # fmt: skip


def require_module(policy: Policy | None, sought: Sought, path: Path) -> None:
    """UnsupportedError where learned rows are to observe and the model at `path` has none; it is looked for
    only then."""
    if policy is not None and needs_module(policy) and sought() is None:
        raise UnsupportedError(
            "there is no lookahead module for this model", where="eviction",
            remedy=f"train one: fivefold train lookahead {path} --data EXAMPLES --out FILE (fivefold train "
            "examples makes the examples), or choose another policy",
        )  # fmt: skip


def needs_module(policy: Policy) -> bool:
    """Whether rows observe that were learned for one model."""
    return isinstance(policy.observation(1).probe, LearnedRows)


def laid_out(model: Model, policy: Policy | None, native: bool = True) -> Model:
    """The model with the page tables that a policy needs; UnsupportedError if it cannot be evicted from."""
    if policy is None:
        return model
    require_entries(model.layout, native)
    return split_layers(model) if policy.ragged else model


def allowed(model: Model, native: bool, module: LookaheadModule | None) -> tuple[str, ...]:
    """Names of what a model can be served with; page tables are made as a policy needs them."""
    try:
        require_entries(model.layout, native)
    except UnsupportedError:
        return (NONE,)
    has_rows = module is not None
    return tuple(name for name in SERVED if name == NONE or has_rows or not needs_module(POLICIES[name]))
