"""A model's table of n-grams from folders of conversations, and how often its guesses are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import UnsupportedError
from fivefold.core.ngrams import NGramOrigin, NGramTable
from fivefold.files import model_fingerprint
from fivefold.program import Model
from fivefold.train.drafter.conversations import HELD_OUT, Conversation, list_shards, read_shard

from .counting import Written, ngram_table


@dataclass(frozen=True, slots=True)
class Made:
    """A table and, by kind of what was asked, how many held-out tokens it was tried at and guessed."""

    table: NGramTable
    tried: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Making:
    """How a table is made: tokens of the longest context, and what an entry must be worth at least."""

    orders: int = 5
    least: float = 0.1
    model: str = ""
    command: str = ""


def make_table(model: Model, checkpoint: Checkpoint, folders: Sequence[Path], making: Making) -> Made:
    """The table of all conversations of training; UnsupportedError for those of another model."""
    fingerprint = model_fingerprint(model, checkpoint)
    written, apart = [], list[Conversation]()
    for held_out, conversations in _stored(folders, fingerprint):
        if held_out:
            apart += conversations
        else:
            written += [Written(np.array(one.tokens), one.prompt) for one in conversations]
    tokens = sum(len(one.tokens) - one.given for one in written)
    origin = NGramOrigin(making.model, fingerprint, model.shape.family, tokens, making.command)
    table = ngram_table(written, making.orders, making.least, origin=origin)
    return Made(table, _tried(table, apart))


def _stored(folders: Sequence[Path], fingerprint: str) -> Iterator[tuple[bool, Sequence[Conversation]]]:
    """The conversations of each shard, and whether they are held out."""
    for folder in folders:
        for path in list_shards(folder):
            shard = read_shard(path)
            if shard.model != fingerprint:
                raise UnsupportedError(
                    "these conversations were written by another model", where=str(path),
                    remedy="write some with this one: fivefold train conversations",
                )  # fmt: skip
            yield shard.name.startswith(HELD_OUT), shard.conversations


def _tried(table: NGramTable, conversations: Sequence[Conversation]) -> dict[str, tuple[int, int]]:
    """By kind: tokens that the model wrote, and those that the table guesses."""
    lookup, found = table.lookup(), dict[str, tuple[int, int]]()
    for one in conversations:
        text = one.tokens.tolist()
        guessed = [
            lookup.likeliest(text[max(0, at - table.orders) : at]) for at in range(one.prompt, len(text))
        ]
        right = sum(
            guess is not None and guess[0] == token
            for guess, token in zip(guessed, text[one.prompt :], strict=True)
        )
        tried, before = found.get(one.kind, (0, 0))
        found[one.kind] = (tried + len(guessed), before + right)
    return found
