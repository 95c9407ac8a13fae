"""Which requests are evicted from, and how: what the engine was told, and what a request asks for itself.

A policy is refused where the model cannot serve it: learned rows without a module, different numbers of
entries for each head without page tables for each, keys and queries that nobody reads here.
"""

from __future__ import annotations

from fivefold.cache.eviction import Budget, LearnedRows, Policy, TrueAnswer, policy_named
from fivefold.core.decoder import Decoder
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.request import EvictionChoice, Request

from .evicting import EvictingDecoder, Eviction
from .loader import LoadedModel
from .selecting import Evicted

NONE = "none"


class Evictions:
    """Evictions of one engine's requests. InputError or UnsupportedError if its default cannot be served."""

    def __init__(self, loaded: LoadedModel, default: EvictionChoice) -> None:
        self._loaded = loaded
        self._default = default
        self._evicted: Evicted | None = None
        self.check(default)

    def check(self, choice: EvictionChoice) -> Eviction | None:
        """The eviction of a choice, None if nothing is evicted; errors say what cannot be done and why."""
        if choice.policy == NONE:
            return None
        policy = policy_named(choice.policy)
        if not choice.budget:
            raise InputError(
                f"eviction {choice.policy!r} has no budget", where="budget",
                remedy="give the entries that each KV head keeps, such as 256, or a share of the prompt, 0.1",
            )  # fmt: skip
        if self._evicted is None:
            self._evicted = Evicted(self._loaded.runner, self._loaded.model.layout)
        self._check_policy(policy, choice)
        return Eviction(policy, Budget(choice.budget), choice.every, self._loaded.lookahead)

    def around(self, decoder: Decoder, sequence: int, request: Request) -> Decoder:
        """The decoder, held back where its entries are evicted; itself if they are not."""
        choice = self._default if request.eviction is None else request.eviction
        eviction, length = self.check(choice), len(request.prompt)
        if eviction is None or length < choice.least or length <= eviction.budget.resolve(length):
            return decoder
        assert self._evicted is not None
        return EvictingDecoder(decoder, sequence, length, eviction, self._evicted)

    def _check_policy(self, policy: Policy, choice: EvictionChoice) -> None:
        assert self._evicted is not None
        observation = policy.observation(1)
        if isinstance(observation.probe, LearnedRows) and self._loaded.lookahead is None:
            raise UnsupportedError(
                "there is no lookahead module for this model", where=str(self._loaded.path),
                remedy=f"train one: fivefold train lookahead {self._loaded.path}, or choose another policy",
            )  # fmt: skip
        if policy.ragged and not self._evicted.apart:
            raise UnsupportedError(
                f"eviction {policy.name!r} keeps different numbers of entries in each layer and KV head, and "
                "this model was loaded with page tables for all of them together", where="eviction",
                remedy=f'load the model with eviction = "{policy.name}"',
            )  # fmt: skip
        if policy.ragged and choice.every:
            raise UnsupportedError(
                f"eviction {policy.name!r} is done once, behind the prompt", where="every",
                remedy="leave it out or choose a policy that keeps equally many entries in each head",
            )  # fmt: skip
        if observation.statistics or isinstance(observation.probe, TrueAnswer):
            raise UnsupportedError(
                f"eviction {policy.name!r} is for measurements alone", where="eviction",
                remedy="choose another policy",
            )  # fmt: skip
