"""Which requests are evicted from, and how: what the engine was told, and what a request asks for itself.

A policy is refused where the model cannot serve it: learned rows without a module, different numbers of
entries for each head without page tables for each, keys and queries that nobody reads here.
"""

from __future__ import annotations

from typing import TypeVar

from fivefold.cache.eviction import Budget, Policy, Scored
from fivefold.core.decoder import Decoder
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.lookahead import LookaheadModule
from fivefold.core.request import EvictionChoice, Request

from .described import TRANSFORMERS
from .evicting import EvictingDecoder, Eviction
from .loader import LoadedModel
from .selecting import Evicted
from .servable import checked, needs_module, require_entries, require_module, require_tables

AnyPolicy = TypeVar("AnyPolicy", bound=Policy)


class Evictions:
    """Evictions of one engine's requests. InputError or UnsupportedError if its default cannot be served."""

    def __init__(self, loaded: LoadedModel, default: EvictionChoice) -> None:
        self._loaded = loaded
        self._default = default
        self._evicted: Evicted | None = None
        self.check(default)

    @property
    def default(self) -> EvictionChoice:
        """Of requests that say nothing of it."""
        return self._default

    def check(self, choice: EvictionChoice) -> Eviction | None:
        """The eviction of a choice, None if nothing is evicted; errors say what cannot be done and why."""
        policy, loaded = checked(choice), self._loaded
        if policy is None:
            return None
        if loaded.model.diffusion is not None:
            raise UnsupportedError(
                "entries of a diffusion model are not evicted: blocks look at all of them again",
                where="eviction", remedy='leave it out, or give "none"',
            )  # fmt: skip
        require_entries(loaded.model.layout, loaded.backend != TRANSFORMERS)
        require_tables(policy, loaded.model.layout)
        require_module(policy, loaded.sought, loaded.path)
        module = loaded.lookahead if needs_module(policy) else None
        if self._evicted is None:
            self._evicted = Evicted(loaded.runner, loaded.model.layout)
        return Eviction(policy_with(policy, module), Budget(choice.budget), choice.every, module)

    def around(self, decoder: Decoder, sequence: int, request: Request) -> Decoder:
        """The decoder, held back where its entries are evicted; itself if they are not."""
        choice = self._default if request.eviction is None else request.eviction
        eviction, length = self.check(choice), len(request.prompt)
        first = None if eviction is None else _first_point(eviction, length, choice.least)
        if eviction is None or first is None:
            return decoder
        assert self._evicted is not None
        evicting = EvictingDecoder(decoder, sequence, (length, first), eviction, self._evicted)
        if evicting.least_rows > self._loaded.runner.max_rows:
            raise InputError(
                f"eviction {choice.policy!r} needs {evicting.least_rows} rows in one step, and steps have "
                f"{self._loaded.runner.max_rows}", where="eviction",
                remedy="load the model with more max_rows or choose another policy",
            )  # fmt: skip
        return evicting


def _first_point(eviction: Eviction, prompt: int, least: int) -> int | None:
    """Behind which position something is evicted first: the prompt's end, or a point of the answer where the
    prompt is too short. None if nothing ever is.
    """
    enough = max(eviction.budget.resolve(prompt) + 1, least)
    if prompt >= enough or not eviction.every:
        return prompt if prompt >= enough else None
    return prompt + -(-(enough - prompt) // eviction.every) * eviction.every


def policy_with(policy: AnyPolicy, module: LookaheadModule | None) -> AnyPolicy:
    """The policy with the pooling that a module was made for, if it observes by the module's rows."""
    if module is None or not isinstance(policy, Scored) or not needs_module(policy):
        return policy
    return policy.pooled_over(module.pooling)
