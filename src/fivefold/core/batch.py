"""One step of work, first as the scheduler means it, then as the executors see it.

`Span` and `Step` are logical: rows of a sequence with a position and a visible interval each (or a
small bit mask for trees), and which of them need logits. Prefill chunk, decode step, verification
of a draft, denoising of a block are all spans. Which rows are kept is said afterwards, as a
`Commit`. `Batch` is physical: the same rows with page tables and slots in place of positions;
`cache` makes it from a step. Neither knows which algorithm asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

Array = TypeVar("Array", Int32, Float32)

ALL = "all"
"""The row set of all rows of a step."""

LOGITS = "logits"
"""The row set of the rows whose logits are wanted."""

OBSERVERS = "observers"
"""The row set of the rows whose attention to each slot is summed: what eviction is decided by."""

PEAK_OBSERVERS = "peak_observers"
"""The same, of which the largest attention to each slot is kept."""

LOOKAHEAD = "lookahead"
"""The row set of lookahead rows: learned inputs in place of tokens, and low-rank parts of their own. It is
also the name of the input that gives them, (n, hidden)."""

CANVAS = "canvas"
"""The row set of rows of a canvas: noise that becomes text, and whose input some models make otherwise."""

SHARES = "shares"
"""The row set of rows for which the model's last guess is known. It is also the name of the input that gives
it: (n, V) probabilities of the tokens."""


def joined(parts: Sequence[Array]) -> Array:
    """Arrays behind one another; a single one as it is."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one sequence in one step (T rows).

    tokens     (T,) ids; ignored on rows whose embedding is given.
    positions  (T,) logical positions; they choose the rotary angle, and the entries' order.
    visible    (T, 2) the logical positions [start, stop) that a row sees, the rows of this span
               included when their position falls inside.
    mask       (T, T) or None: when given, row i sees row j of this span only where mask[i, j].
    row_sets   named subsets as indices into the span, `logits` among them.
    inputs     rows of numbers that stand in for computed ones, by the Program's input name:
               (n, width), one for each row of the row set of that input.
    window_at  (T,) or None: the positions that windows and chunks of attention are counted from, where these
               are not the rows' own.
    draft      its commit may keep a beginning of the rows only. Models without recurrent states need not be
               told; of others the state after each row is kept until then.
    """

    sequence: int
    tokens: Int32
    positions: Int32
    visible: Int32
    mask: Bool | None = None
    row_sets: Mapping[str, Int32] = field(default_factory=dict)
    inputs: Mapping[str, Float32] = field(default_factory=dict)
    draft: bool = False
    window_at: Int32 | None = None

    @staticmethod
    def causal(
        sequence: int, tokens: Int32, start: int, logits: Int32 | None = None, draft: bool = False
    ) -> Span:
        """A plain span: T tokens from position `start` on, each seeing itself and all before."""
        count = len(tokens)
        positions = np.arange(start, start + count, dtype=np.int32)
        visible = np.zeros((count, 2), np.int32)
        visible[:, 1] = positions
        visible[:, 1] += 1
        wanted = np.array([count - 1], np.int32) if logits is None else logits
        return Span(sequence, tokens, positions, visible, row_sets={LOGITS: wanted}, draft=draft)


@dataclass(frozen=True, slots=True)
class Step:
    """The spans that run together. A sequence has at most one span in a step."""

    spans: tuple[Span, ...]

    @property
    def rows(self) -> int:
        """N, the rows of all spans together."""
        return sum(len(span.tokens) for span in self.spans)


@dataclass(frozen=True, slots=True)
class Commit:
    """After a step: which rows of a sequence's span stay in the cache, as ascending indices.

    It may be empty, and it need not be a prefix. The rows left out are forgotten.

    until  all entries of the sequence at this logical position and after it are forgotten then; None: they
           stay.
    """

    sequence: int
    rows: Int32
    until: int | None = None


@dataclass(frozen=True, slots=True)
class GroupView:
    """Where one cache group's entries lie for the rows of a batch (N rows, B sequences, T tables).

    tables  (B, T, P) page numbers of each sequence and table; -1 where there is no page.
    start   (N, T) first slot a row sees; stop (N, T) the slot after the last one.
    write   (N, T) slot the row's own entry is stored in, -1 to store nothing.
    mask    (N, W) uint64 words or None: within [start, stop), a slot at or after `mask_from` is
            seen only if bit (slot - mask_from) is set. mask_from (N, T).
    """

    tables: Int32
    start: Int32
    stop: Int32
    write: Int32
    mask: npt.NDArray[np.uint64] | None = None
    mask_from: Int32 | None = None


@dataclass(frozen=True, slots=True)
class StateView:
    """Where recurrent states lie, in all state groups alike (N rows, B sequences).

    read   (B,) slot of the state before a sequence's first row; -1 is a state of zeros.
    write  (N,) slot to which the state after a row goes, -1 for nowhere; a sequence's last row has one.
    """

    read: Int32
    write: Int32


@dataclass(frozen=True, slots=True)
class Batch:
    """A step as the executors see it.

    Rows of one sequence lie together and in order. `row_sets` hold indices into the N rows.
    `states` is there if the model has some.
    `inputs` are given rows of numbers by the Program's input name, (rows of its row set, width).
    """

    tokens: Int32  # (N,)
    positions: Int32  # (N,)
    sequence: Int32  # (N,) index of the row's sequence, 0 to B-1
    row_sets: Mapping[str, Int32]
    groups: Mapping[str, GroupView]
    states: StateView | None = None
    inputs: Mapping[str, Float32] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.tokens)
