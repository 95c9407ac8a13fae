"""What a twin that writes by blocks learns from: rows with masks beside the clean rows of the same record.

A record's rows stand twice in one pass, after BD3-LM (arXiv 2503.09573): first those of all blocks that have
something to write, with masks in them, then all of them clean. A row with masks around it sees the clean
rows of earlier blocks and its own block as it is masked; a clean row sees clean blocks up to its own. That is
what the blocks are one after the other when they are written, each after a clean pass of those before.

Half of the blocks have nothing but masks, as each has in its first pass. In the others the number of masks
is drawn evenly and so are their places: an even loss over these, without the weight 1 / t of a bound, whose
few rows with nearly nothing masked would cost most of the signal (arXiv 2503.09573 clips it for that). What
is given is never masked. Behind the end a block is filled with end tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fivefold.core.batch import Int32

from .network import Rows

ALL_MASKED = 0.5
"""The share of blocks in which everything is masked that is to be written."""
Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Masked:
    """Records with masks.

    rows     for the network.
    where    (M,) flat places, among the wanted rows, of masks that are to be guessed, and `right` (M,) what
             they are; `slots` (M,) their places in their blocks.
    """

    rows: Rows
    where: Tensor
    right: Tensor
    slots: Int64


@dataclass(frozen=True, slots=True)
class Blocks:
    """B records cut into blocks, before anything is masked.

    clean      (B, C) tokens, filled up with end tokens.
    positions  (B, R) of the rows that may be masked, from each record's first block with something to write.
    open       (B, R) which of them are written and not given or behind the record's last block.
    """

    clean: Int64
    positions: Int64
    open: Bool
    size: int

    @staticmethod
    def of(records: Sequence[Int32], given: Sequence[int], size: int, end: int) -> Blocks:
        """Of records that end with the end token, the first `given` tokens of which are given."""
        lengths = np.array([-(-len(record) // size) * size for record in records])
        begins = np.array([known // size * size for known in given])
        clean = np.full((len(records), int(lengths.max())), end, np.int64)
        for row, record in zip(clean, records, strict=True):
            row[: len(record)] = record
        places = begins[:, None] + np.arange(int((lengths - begins).max()))
        wanted = (places >= np.array(given)[:, None]) & (places < lengths[:, None])
        return Blocks(clean, np.minimum(places, clean.shape[1] - 1), wanted, size)

    def drawn(self, random: np.random.Generator) -> Bool:
        """(B, R): masks for training."""
        blocks = (len(self.clean), self.positions.shape[1] // self.size)
        count = random.integers(1, self.size, blocks, endpoint=True)
        count[random.random(blocks) < ALL_MASKED] = self.size
        order = random.random((*blocks, self.size)).argsort(2).argsort(2)
        return (order < count[..., None]).reshape(self.positions.shape)

    def masked(self, masks: Bool, mask_token: int) -> Masked:
        """The rows with these masks, but for what is not open."""
        masks = masks & self.open
        there = np.take_along_axis(self.clean, self.positions, 1)
        noised = np.where(masks, mask_token, there)
        where = np.flatnonzero(masks)
        columns = np.arange(self.clean.shape[1])
        rows = Rows(
            torch.from_numpy(np.concatenate([noised, self.clean], 1)),
            torch.from_numpy(np.concatenate([self.positions, np.broadcast_to(columns, self.clean.shape)], 1)),
            torch.from_numpy(self._sees())[:, None], self.positions.shape[1],
        )  # fmt: skip
        slots = np.broadcast_to(np.arange(self.positions.shape[1]) % self.size, masks.shape)
        return Masked(rows, torch.from_numpy(where), torch.from_numpy(there.reshape(-1)[where]),
                      slots.reshape(-1)[where])  # fmt: skip

    def _sees(self) -> Bool:
        """(B, R + C, R + C), row by column."""
        noised, (count, clean) = self.positions.shape[1], self.clean.shape
        own, every = np.arange(noised) // self.size, np.arange(clean) // self.size
        at = self.positions[:, :1] // self.size + own  # rows behind a record's end stay behind it
        sees = np.zeros((count, noised + clean, noised + clean), bool)
        sees[:, :noised, :noised] = own[:, None] == own
        sees[:, :noised, noised:] = every < at[..., None]
        sees[:, noised:, noised:] = every <= every[:, None]
        return sees
