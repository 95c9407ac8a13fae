"""What the two forms of a twin learn from a part of records, and what they are asked when looked at.

Both are asked about the same tokens: those that are written, and the end. Rows are what a record costs: the
form `blocks` runs those of its written blocks twice, with masks and clean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import log
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fivefold.core.batch import Int32

from .corpus import Records, Tokens
from .network import Network, Rows
from .noise import Blocks, Bool, Masked

SURE = 0.9
"""The probability from which a first guess counts as sure where a twin is looked at."""
Parts = Mapping[str, Tensor]


class Form(ABC):
    """How a twin learns. `name` is the word of the command."""

    name: ClassVar[str]

    def __init__(self, network: Network, tokens: Tokens, block: int) -> None:
        self.network, self.tokens, self.block = network, tokens, block

    @abstractmethod
    def rows(self, records: Records) -> Int32:
        """(R,) rows that each record takes in a step."""

    @abstractmethod
    def loss(
        self, parts: Parts, records: Records, part: Sequence[int], random: np.random.Generator
    ) -> Tensor:
        """The mean of the cross-entropy, in nats, over what is asked of these records."""

    @abstractmethod
    def look(self, parts: Parts, records: Records, part: Sequence[int]) -> dict[str, float]:
        """Sums over these records: `tokens` that are asked for, `nats` that they take one after the other,
        and whatever else the form tells."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The keys of config.json that are the form's own."""


class Autoregressive(Form):
    """Each row tells the next token."""

    name = "autoregressive"

    def rows(self, records: Records) -> Int32:
        """One for each token."""
        return records.lengths

    def loss(
        self, parts: Parts, records: Records, part: Sequence[int], random: np.random.Generator
    ) -> Tensor:
        """Nothing is drawn."""
        del random
        logits, right = self._asked(parts, records, part)
        return functional.cross_entropy(logits, right)

    def look(self, parts: Parts, records: Records, part: Sequence[int]) -> dict[str, float]:
        """Also `sure` tokens, whose likeliest guess is above the bound, and `sure_right` among them."""
        logits, right = self._asked(parts, records, part)
        nats = float(functional.cross_entropy(logits, right, reduction="sum"))
        return {"tokens": float(len(right)), "nats": nats, **_sure(logits, right)}

    def config(self) -> dict[str, Any]:
        """Plain Qwen3."""
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}

    def _asked(self, parts: Parts, records: Records, part: Sequence[int]) -> tuple[Tensor, Tensor]:
        held = [records[number] for number in part]
        longest = max(map(len, held))
        tokens = np.full((len(held), longest), self.tokens.end, np.int64)
        asked = np.zeros((len(held), longest), bool)
        for line, record, known in zip(range(len(held)), held, records.given[list(part)], strict=True):
            tokens[line, : len(record)] = record
            asked[line, known - 1 : len(record) - 1] = True
        rows = Rows(torch.from_numpy(tokens), torch.arange(longest), None, longest)
        where = torch.from_numpy(np.flatnonzero(asked))
        states = self.network.states(parts, rows).flatten(0, 1)[where]
        right = torch.from_numpy(np.roll(tokens, -1, 1).reshape(-1))[where]
        return self.network.logits(parts, states), right


class Blockwise(Form):
    """Masks in blocks are told from what is before the block and what is filled in it."""

    name = "blocks"

    def rows(self, records: Records) -> Int32:
        """Those of its blocks, and those of its written blocks once more."""
        whole = -(-records.lengths // self.block) * self.block
        found: Int32 = 2 * whole - records.given // self.block * self.block
        return found

    def loss(
        self, parts: Parts, records: Records, part: Sequence[int], random: np.random.Generator
    ) -> Tensor:
        """Over masks that are drawn."""
        blocks = self._blocks(records, part)
        return functional.cross_entropy(
            *self._asked(parts, blocks.masked(blocks.drawn(random), self.tokens.mask))
        )

    def look(self, parts: Parts, records: Records, part: Sequence[int]) -> dict[str, float]:
        """One token after the other, those behind it masked: a true likelihood, in that order. Also the
        `sure` tokens, and `sure_right` among them, where all of a block is masked."""
        blocks = self._blocks(records, part)
        found = {
            "tokens": float(sum(len(records[one]) - int(records.given[one]) for one in part)),
            "nats": 0.0,
        }
        place = np.arange(blocks.positions.shape[1]) % self.block
        ends = np.array([len(records[one]) for one in part])
        for slot in range(self.block):
            masks = np.broadcast_to(place >= slot, blocks.positions.shape)
            masked = blocks.masked(masks, self.tokens.mask)
            logits, right = self._asked(parts, masked)
            line, row = np.divmod(masked.where.numpy(), blocks.positions.shape[1])
            counts = blocks.positions[line, row] < ends[line]
            if slot == 0:
                every = torch.from_numpy(counts)
                found |= _sure(logits[every], right[every])
            first = torch.from_numpy(counts & (self._first_open(blocks, masks)[line, row]))
            found["nats"] += float(functional.cross_entropy(logits[first], right[first], reduction="sum"))
        return found

    def config(self) -> dict[str, Any]:
        """SDAR's."""
        return {"architectures": ["SDARForCausalLM"], "model_type": "sdar", "block_size": self.block,
                "mask_token_id": self.tokens.mask}  # fmt: skip

    def _first_open(self, blocks: Blocks, masks: Bool) -> Bool:
        """(B, R): what is at the slot itself, and open."""
        slot = self.block - int(masks[0, : self.block].sum())
        found: Bool = blocks.open & (np.arange(masks.shape[1]) % self.block == slot)
        return found

    def _blocks(self, records: Records, part: Sequence[int]) -> Blocks:
        held = [records[number] for number in part]
        given = [int(records.given[number]) for number in part]
        return Blocks.of(held, given, self.block, self.tokens.end)

    def _asked(self, parts: Parts, masked: Masked) -> tuple[Tensor, Tensor]:
        states = self.network.states(parts, masked.rows).flatten(0, 1)[masked.where]
        return self.network.logits(parts, states), masked.right


def _sure(logits: Tensor, right: Tensor) -> dict[str, float]:
    value, guess = logits.softmax(-1).max(-1)
    sure = value > SURE
    return {"sure": float(sure.sum()), "sure_right": float((sure & (guess == right)).sum()),
            "right": float((guess == right).sum())}  # fmt: skip


FORMS: Mapping[str, type[Form]] = {form.name: form for form in (Autoregressive, Blockwise)}
"""By their names."""


def figures(sums: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a look at several parts comes to: bits a token, the share that is right and that is sure, and how
    many of the sure ones are right."""
    total = {key: sum(one[key] for one in sums) for key in sums[0]}
    return {
        "bits": total["nats"] / log(2) / total["tokens"], "right": total["right"] / total["tokens"],
        "sure": total["sure"] / total["tokens"], "sure_right": total["sure_right"] / max(total["sure"], 1.0),
    }  # fmt: skip
