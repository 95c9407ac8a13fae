"""Training a side drafter: a step is several conversations, in each of which it guesses behind many tokens.

The model is frozen; what it wrote and its hidden states are stored, so a step runs the drafter alone. Behind
which tokens is drawn anew in each epoch. Everything follows from the settings and the number of the step: its
conversations, their anchors, its rate. Each conversation runs on one thread, several of them beside each
other, and their gradients are added in order, so a run that was stopped goes on to the same bits. Rates and
the decay of the loss are DFlash's (arXiv 2602.06036), sizes are for a small model on a CPU.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fivefold.core.batch import Float32, Int32
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.drafter import Drafter, DrafterOrigin, DrafterShape, Form
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.files import model_fingerprint, write_drafter
from fivefold.program import Model, packed_weight
from fivefold.train.optimizer import Adam, Schedule
from fivefold.train.running import Places, Stepped, workers

from .begin import begin, frequent_tokens
from .conversations import HELD_OUT, Conversation, Shard, list_shards, read_shard
from .loss import UNKNOWN, Hits, decayed, divergence, targets, worth
from .network import SLOTS, Frame, Network
from .picture import panels

BEGUN_BY = 512
"""Conversations that the first numbers are found by."""

LOOKED_AT = 24
"""Blocks of each conversation that is held out, evenly over what the model wrote."""


@dataclass(frozen=True, slots=True)
class Training:
    """The settings of a run.

    steps          0 for as many as `epochs` of all conversations take.
    taps           of those that are stored; empty for all of them.
    kv_heads, ffn  0 for the model's own.
    vocabulary     tokens that the head knows: those that the model wrote most often.
    conversations  of a step; `density` guesses for each token that was written, at most `most` of them.
    states         what the distance to the model's last states counts beside the divergence.
    alone          of the form "serial", the share of steps that train the first guess alone, behind more
                   tokens: what comes next is the same question in each slot.
    rate           of the optimizer at its height, after the share `warm_up` of all steps.
    gamma          slots over which the weight of a guess falls by a factor e.
    every          steps after which what is held out is looked at, `held_out` conversations of it.
    """

    steps: int = 0
    epochs: int = 6
    seed: int = 0
    form: Form = "block"
    layers: int = 1
    slots: int = 4
    vocabulary: int = 8192
    taps: tuple[int, ...] = ()
    kv_heads: int = 0
    ffn: int = 0
    conversations: int = 8
    density: float = 1.0
    most: int = 160
    states: float = 1.0
    alone: float = 0.7
    rate: float = 6e-4
    warm_up: float = 0.04
    clip: float = 1.0
    gamma: float = 2.5
    every: int = 200
    held_out: int = 96


class Run(Stepped):
    """One run, ready to step. InputError, FileError or UnsupportedError say what does not fit.

    Torch is set to one thread for each operation in the whole process; `threads` conversations run at once.
    """

    def __init__(
        self, model: Model, checkpoint: Checkpoint, places: Places, training: Training, threads: int = 1,
        resume: bool = False,
    ) -> None:  # fmt: skip
        self.places, self.training = places, training
        places.check()
        self._pool = workers(threads)
        self._model, self._fingerprint = model, model_fingerprint(model, checkpoint)
        shards = [self._shard(read_shard(path)) for path in list_shards(places.examples)]
        self._names = [shard.name for shard in shards]
        other = next((shard.name for shard in shards if shard.taps != shards[0].taps), None)
        if other is not None:
            raise InputError(
                f"{other} has hidden states of other layers than {shards[0].name}",
                where=str(places.examples), remedy="keep conversations of other --taps in another folder",
            )  # fmt: skip
        self._trained = [one for shard in shards if not _apart(shard) for one in shard.conversations]
        looked = [one for shard in shards if _apart(shard) for one in shard.conversations]
        self._held_out = looked[: training.held_out]
        if not self._trained or not self._held_out:
            raise InputError(
                f"{len(self._trained)} conversations to train with and {len(self._held_out)} held out",
                where=str(places.examples), remedy="write more of them: fivefold train conversations",
            )  # fmt: skip
        self.shape = self._shape(shards[0].taps)
        self._taps = [shards[0].taps.index(tap) for tap in self.shape.taps]
        self._last = self._last_layer(shards[0].taps)
        frame = Frame.of(model, checkpoint)
        self._tokens = frequent_tokens(self._trained, model.shape.vocabulary, self.shape.vocabulary)
        self._rows: Int32 = np.full(model.shape.vocabulary, UNKNOWN, np.int32)
        self._rows[self._tokens] = np.arange(len(self._tokens))
        self.network = Network(self.shape, frame, frame.head[self._tokens])
        first = [(one.tokens, self._hidden(one, len(one.hidden)).numpy()) for one in self._trained[:BEGUN_BY]]
        weights = begin(self.shape, frame, first, training.seed)
        self._sizes = torch.from_numpy(weights[f"tap.{len(self.shape.taps) - 1}"].copy())
        optimizer = Adam(self.network.plan.joined(weights), training.clip)
        count = training.steps or -(-training.epochs * len(self._trained) // training.conversations)
        self._alone = round(training.alone * count) if self.shape.form == "serial" else 0
        self._schedule = Schedule(training.rate, max(round(training.warm_up * count), 1), count)
        super().__init__(places, optimizer, self._described(), (count, training.every), resume)

    def save(self, model_name: str = "", command: str = "") -> Drafter:
        """Write the state, the drafter as it is now, and the picture; the drafter."""
        self._save_state()
        made = self.drafter(model_name, command)
        write_drafter(self.places.module, made)
        self._curves.draw(self.places.picture, panels(self._curves.lines))
        return made

    def drafter(self, model_name: str = "", command: str = "") -> Drafter:
        """The drafter after the steps that are done."""
        parts = self.network.plan.parts(self._optimizer.vector.detach())
        numbers: dict[str, Float32] = {name: part.numpy().copy() for name, part in parts.items()}
        slots = numbers.pop(SLOTS, np.zeros((0, self.shape.hidden), np.float32))
        weights = {name: packed_weight(name, values) for name, values in numbers.items()}
        origin = DrafterOrigin(
            model_name, self._fingerprint, self._model.shape.family, self.written, self.training.seed,
            self.done, command,
        )  # fmt: skip
        return Drafter(self.shape, weights, slots, self._tokens, origin)

    @property
    def written(self) -> int:
        """Tokens that the model wrote, of the conversations that are trained with."""
        return sum(len(one.tokens) - one.prompt for one in self._trained)

    def looked_at(self) -> dict[str, Any]:
        """The loss and the figures of `worth` over the conversations held out."""
        looks = list(self._pool.map(self._look, self._held_out))
        return {"loss": float(np.mean([loss for loss, _ in looks])), **worth([hits for _, hits in looks])}

    def _look(self, conversation: Conversation) -> tuple[float, Hits]:
        first, last = conversation.prompt, len(conversation.tokens) - 1
        ends = (first, last - 1) if last > first else (max(first - 1, 1),) * 2
        places = np.linspace(*ends, min(LOOKED_AT, ends[1] - ends[0] + 1))
        with torch.no_grad():
            anchors = np.unique(places.astype(np.int32))
            loss, logits, right = self._guessed(conversation, anchors, self.shape.slots)
            return float(loss), Hits.of(logits, right)

    def _step(self, number: int) -> dict[str, Any]:
        each = self.training.conversations
        turns = [divmod(turn, len(self._trained)) for turn in range((number - 1) * each, number * each)]
        slots = 1 if number <= self._alone else self.shape.slots
        return self._moved(number, list(self._pool.map(lambda turn: self._derived(turn, slots), turns)))

    def _derived(self, turn: tuple[int, int], slots: int) -> tuple[float, Tensor]:
        """The loss of the conversation whose turn it is in an epoch, and its gradient."""
        around, place = turn
        order = np.random.default_rng([self.training.seed, around]).permutation(len(self._trained))
        conversation = self._trained[int(order[place])]
        random = np.random.default_rng([self.training.seed, around, place])
        first, last = conversation.prompt, len(conversation.tokens) - 1
        choice = np.arange(first, last) if last > first else np.array([max(first - 1, 1)])
        rows = min(max(round(len(choice) * self.training.density), 1), self.training.most)
        anchors = np.sort(random.permutation(choice)[: max(rows // slots, 1)]).astype(np.int32)
        loss, _, _ = self._guessed(conversation, anchors, slots)
        (gradient,) = torch.autograd.grad(loss, self._optimizer.vector)
        return float(loss.detach()), gradient

    def _guessed(
        self, conversation: Conversation, anchors: Int32, slots: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss behind these anchors, logits (A, k, F), and the rows of the head that are right."""
        parts, first = self.network.plan.parts(self._optimizer.vector), int(anchors[0])
        blocks = self.network.blocks(conversation.tokens, anchors, slots)
        rows = self.network.rows(parts, self._hidden(conversation, int(anchors[-1])), blocks)
        logits = self.network.logits(parts, rows)
        right = targets(conversation.tokens, self._rows, anchors, slots)
        states = torch.from_numpy(conversation.hidden[first:, self._last].astype(np.float32))
        places = np.minimum(anchors[:, None] + np.arange(slots), len(conversation.hidden) - 1) - first
        with torch.no_grad():
            model = self.network.model_logits(states)[places]
        each = divergence(logits, model) + self.training.states * self.network.apart(
            rows, states[places], self._sizes
        )
        return decayed(each, right, self.training.gamma), logits, right

    def _hidden(self, conversation: Conversation, count: int) -> Tensor:
        """(C, taps, hidden) float32 of the first tokens."""
        states = np.asarray(conversation.hidden[:count][:, self._taps])
        return torch.from_numpy(states.astype(np.float32))

    def _last_layer(self, stored: tuple[int, ...]) -> int:
        """Where the states of the model's last layer are stored, which say what the model would guess."""
        last = self._model.shape.layers - 1
        if last not in stored:
            raise InputError(
                f"the states of the last layer, {last}, are not stored", where=str(self.places.examples),
                remedy=f"write conversations with --taps ...,{last}",
            )  # fmt: skip
        return stored.index(last)

    def _shape(self, stored: tuple[int, ...]) -> DrafterShape:
        training, own = self.training, self._model.shape
        taps = training.taps or stored
        missing = [tap for tap in taps if tap not in stored]
        if missing:
            raise InputError(
                f"layer {missing[0]} is not stored", where="--taps",
                remedy=f"choose of {', '.join(map(str, stored))}, or write other conversations",
            )  # fmt: skip
        return DrafterShape(
            taps, training.layers, own.hidden, own.heads, training.kv_heads or own.kv_heads, own.head_size,
            training.ffn or own.ffn, training.slots, min(training.vocabulary, own.vocabulary), training.form,
        )  # fmt: skip

    def _shard(self, shard: Shard) -> Shard:
        """The shard, if it is the model's."""
        if shard.model != self._fingerprint:
            raise UnsupportedError(
                "these conversations were written by another model", where=shard.name,
                remedy="write some with this one: fivefold train conversations",
            )  # fmt: skip
        return shard

    def _described(self) -> dict[str, Any]:
        """What another run differs in."""
        names = hashlib.sha256("\n".join(self._names).encode()).hexdigest()
        settings = asdict(self.training) | {"taps": list(self.training.taps)}
        return {**settings, "model": self._fingerprint, "conversations_of": names}


def _apart(shard: Shard) -> bool:
    return shard.name.startswith(HELD_OUT)
