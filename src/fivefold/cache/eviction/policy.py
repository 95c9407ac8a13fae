"""What a policy is: which rows it wants to observe, and which entries it keeps by what they saw.

An engine runs the prompt, and the rows that `observation` asks for; their attention comes back as `Evidence`,
and `select` says which entries each layer and KV head keeps. A policy is numbers and a choice: it runs no
model and moves no entry. The same is done again in mid-decode, where the entries of the answer count as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from fivefold.core.batch import Float32, Int32
from fivefold.core.errors import InputError, NotFiniteError


@dataclass(frozen=True, slots=True)
class LearnedRows:
    """Rows that were learned for this model observe, after the prompt; as many as its module has."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The model itself writes `tokens` tokens on a copy evicted by the policy `by`, and these observe.

    They see the full cache. The prompt's last rows that `Observation.window` asks for observe beside them.
    What `by` needs is observed before.
    """

    tokens: int
    by: str


@dataclass(frozen=True, slots=True)
class Repetition:
    """The prompt is read once more after itself, `chunk` tokens at a time, and these rows observe.

    They see the full cache and their own chunk, and leave nothing in the cache.
    """

    chunk: int


@dataclass(frozen=True, slots=True)
class TrueAnswer:
    """The rows of the answer that the full cache gives observe. Only measurements have it."""


Probe = LearnedRows | Draft | Repetition | TrueAnswer
"""Rows that are not the prompt's own."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Which rows observe.

    window      so many last rows of the prompt; 0 for none.
    probe       rows besides, or None.
    reduce      whether attention is added up over the rows, or its maximum is taken.
    statistics  whether keys, the lengths of values, and the queries' statistics are wanted.
    """

    window: int = 0
    probe: Probe | None = None
    reduce: Literal["sum", "max"] = "sum"
    statistics: bool = False


@dataclass(frozen=True, slots=True)
class QueryStatistics:
    """Queries of a prompt before their rotation (L layers, H query heads, D numbers).

    mean        (L, H, D) over the prompt's rows, without the first few.
    covariance  (L, H, D, D) of the same, divided by their count.
    rotation    (L, D, D) or (D, D): the mean of the rotations at the positions to come, so that
                rotation @ mean is the mean query of the answer.
    """

    mean: Float32
    covariance: Float32
    rotation: Float32


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was observed of a sequence's entries (L layers, H query heads, S slots).

    All layers that are to share a budget are given together, also those of several cache groups.

    kv_heads     KV head h is that of the query heads from h * share on, share = H / kv_heads.
    slots        S, entries that there are; slots in the order of their tables.
    importance   (L, H, S) attention that the observing rows paid to each slot, or None if nothing observes.
    keys         (L, KV heads, S, D) as they lie in the cache, rotated; where statistics are asked for.
    value_norms  (L, KV heads, S) lengths of the values; likewise.
    queries      likewise.
    """

    layers: int
    kv_heads: int
    slots: int
    importance: Float32 | None = None
    keys: Float32 | None = None
    value_norms: Float32 | None = None
    queries: QueryStatistics | None = None

    def observed(self) -> Float32:
        """The importance (L, KV heads, share, S); errors unless it is there, of that shape and finite."""
        if self.importance is None:
            raise InputError("nothing was observed", where="eviction", remedy="run the rows that it asks for")
        layers, heads, slots = self.importance.shape
        if layers != self.layers or slots != self.slots or heads % self.kv_heads:
            raise InputError(
                f"importance {self.importance.shape} is not that of {self.layers} layers, heads of "
                f"{self.kv_heads} KV heads and {self.slots} slots", where="eviction",
            )  # fmt: skip
        if not np.isfinite(self.importance).all():
            raise NotFiniteError("the attention of a row that observes is not finite", where="eviction")
        return self.importance.reshape(layers, self.kv_heads, -1, slots)


Selection = Int32 | tuple[tuple[Int32, ...], ...]
"""Slots to keep: (layers, KV heads, B), or for each layer and each KV head (B of that head,); ascending."""


class Policy(Protocol):
    """One way to choose. Policies are frozen dataclasses, whose fields are their numbers."""

    @property
    def name(self) -> str:
        """As people write it."""
        ...

    @property
    def ragged(self) -> bool:
        """Whether layers and heads keep different numbers of entries, budget on average."""
        ...

    def observation(self, length: int) -> Observation:
        """Which rows are to observe, where there are `length` entries."""
        ...

    def select(self, evidence: Evidence, budget: int) -> Selection:
        """The slots to keep, `budget` of them in each layer and KV head; all if there are no more.

        A policy that is `ragged` keeps so many on average.
        """
        ...
