"""Stored conversations: tokens that a model wrote behind prompts, and its hidden states at each of them.

A folder of conversations has one folder for each shard, found by walking it:

    shard.json   taps, the model, how it was made, and for each conversation its tokens' number, those of its
                 prompt, and its kind
    tokens.npy   (N,) int32, the conversations behind one another
    hidden.npy   (N - conversations, taps, hidden) float16: what the tapped layers gave at each token but the
                 last of each conversation, which never ran

A token takes 4 bytes and 2 for each number of its taps: 3.5 kB with three taps of 576. Shards of texts that
are held out are named so. A shard is written into a hidden folder and takes its name in one step; arrays are
mapped when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fivefold.core.batch import Int32
from fivefold.core.drafter import Float16
from fivefold.core.errors import FileError, FivefoldError
from fivefold.train.stored import whole_folder, whole_folders

FORMAT = 1
"""Version of the layout above."""

SHARD = "shard.json"
HELD_OUT = "held-out"
TRAINING = "training"

_REMEDY = "remove that folder and write the conversations again"
_KEYS = {"format", "model", "taps", "settings", "conversations"}


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """What was asked and what the model wrote (T tokens).

    tokens  (T,) ids; the first `prompt` of them are given, the others are the model's own.
    hidden  (T - 1, taps, hidden) float16.
    kind    what was asked, for figures.
    """

    tokens: Int32
    prompt: int
    hidden: Float16
    kind: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Some conversations of one model, told by its fingerprint; `taps` are the layers of their hidden states.

    `settings` say how they were made, as JSON takes them; `name` is that of the folder.
    """

    name: str
    model: str
    taps: tuple[int, ...]
    conversations: Sequence[Conversation]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """Tokens that the model wrote."""
        return sum(len(one.tokens) - one.prompt for one in self.conversations)


def write_shard(folder: Path, shard: Shard) -> Path:
    """Write one shard into a folder, which is made if need be; the shard's own folder.

    InputError if it is there already, FivefoldError if it cannot be written or a number is not finite.
    """
    target = folder / shard.name
    described = {
        "format": FORMAT, "model": shard.model, "taps": list(shard.taps), "settings": dict(shard.settings),
        "conversations": [
            {"tokens": len(one.tokens), "prompt": one.prompt, "kind": one.kind}
            for one in shard.conversations
        ],
    }  # fmt: skip
    states = np.concatenate([one.hidden for one in shard.conversations])
    if not np.isfinite(states).all():
        raise FivefoldError(
            "a hidden state is too large for float16", where=str(target), remedy="tap other layers: --taps"
        )
    with whole_folder(target, "shard") as hidden:
        np.save(hidden / "tokens.npy", np.concatenate([one.tokens for one in shard.conversations]))
        np.save(hidden / "hidden.npy", states)
        (hidden / SHARD).write_text(json.dumps(described), encoding="utf-8")
    return target


def list_shards(folder: Path) -> list[Path]:
    """The folders of all whole shards, in the order of their names; FileError if there is none."""
    remedy = "name a folder that they were written into: fivefold train conversations"
    return whole_folders(folder, SHARD, "no conversations lie here", remedy)


def read_shard(path: Path) -> Shard:
    """One shard, its arrays mapped (their pages are private: nothing is ever written back).

    FileError if something is missing or does not fit.
    """
    try:
        described = json.loads((path / SHARD).read_text(encoding="utf-8"))
        if described.keys() != _KEYS or described["format"] != FORMAT:
            raise ValueError(f"format {described.get('format')} is not {FORMAT}")
        tokens = np.load(path / "tokens.npy", mmap_mode="c", allow_pickle=False)
        hidden = np.load(path / "hidden.npy", mmap_mode="c", allow_pickle=False)
        taps = tuple(int(layer) for layer in described["taps"])
        found, first, state = [], 0, 0
        for one in described["conversations"]:
            last, ran = first + int(one["tokens"]), state + int(one["tokens"]) - 1
            found.append(Conversation(tokens[first:last], int(one["prompt"]), hidden[state:ran], one["kind"]))
            first, state = last, ran
        sizes = (tokens.dtype, hidden.dtype, len(tokens), hidden.shape[:2])
        if sizes != (np.int32, np.float16, first, (state, len(taps))):
            raise ValueError(f"tokens {tokens.shape} and hidden states {hidden.shape} do not fit")
        if any(not 0 < one.prompt < len(one.tokens) for one in found):
            raise ValueError("a conversation has no prompt or nothing that was written")
        return Shard(path.name, str(described["model"]), taps, found, described["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(
            f"the conversations cannot be read ({error})", where=str(path), remedy=_REMEDY
        ) from None
