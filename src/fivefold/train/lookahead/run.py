"""Training a lookahead module: a step is a few documents with all of their questions.

The base model is frozen; its entries of the prompts and what the answers looked at are stored examples, so a
step runs the lookahead rows alone. Everything follows from the settings and the number of the step: which
documents it takes, its rate. Each document runs on one thread, several of them beside each other, and their
gradients are added in order. So a run that was stopped goes on to the same bits, on any number of threads,
and threads wait for each other once a step only. Rates and the rest are choices of ours where the paper
(arXiv 2603.10899) is silent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import InputError
from fivefold.core.lookahead import POOLING, LookaheadModule, Origin
from fivefold.executor import dequantize
from fivefold.files import model_fingerprint, write_lookahead_module
from fivefold.program import Model
from fivefold.train.optimizer import Adam, Schedule
from fivefold.train.running import Places, Stepped, workers

from .examples import list_documents, read_document
from .loss import Recall, Targets, divergence, recall
from .network import Network
from .parameters import Plan
from .picture import panels

BUDGETS = (64, 128)
"""Entries for each layer and KV head at which recall of the documents held out is told."""


@dataclass(frozen=True, slots=True)
class Training:
    """The settings of a run.

    rows         lookahead rows; `rank` and `alpha` are of the pairs.
    documents    of a step; more than there are threads are taken one after the other.
    rate         of the optimizer at its height, after `warm_up` steps; `clip` bounds a gradient's length.
    held_out     documents, the last by name, that are not trained with; they are looked at every `every`
                 steps.
    each_query   the loss compares each query head, and not the mean over those of a KV head.
    """

    steps: int = 1500
    seed: int = 0
    rows: int = 16
    rank: int = 8
    alpha: float = 32.0
    documents: int = 2
    rate: float = 2e-3
    warm_up: int = 50
    clip: float = 1.0
    held_out: int = 8
    every: int = 100
    each_query: bool = False


class Run(Stepped):
    """One run, ready to step. InputError, FileError or UnsupportedError say what does not fit.

    Torch is set to one thread for each operation in the whole process; `threads` documents run at once.
    """

    def __init__(
        self,
        model: Model,
        checkpoint: Checkpoint,
        places: Places,
        training: Training,
        threads: int = 1,
        resume: bool = False,
    ) -> None:
        self.places, self.training = places, training
        self._check()
        self._pool = workers(threads)
        self._model = model
        self._fingerprint = model_fingerprint(model, checkpoint)
        found = list_documents(places.examples)
        if len(found) <= training.held_out:
            raise InputError(
                f"{len(found)} documents, and {training.held_out} are held out", where=str(places.examples),
                remedy="make more examples or give a smaller --held-out",
            )  # fmt: skip
        self._trained = found[: len(found) - training.held_out]
        self._held_out = found[len(self._trained) :]
        self._network = Network(model, lambda name: dequantize(checkpoint.tensors[name]))
        self._lengths = [self._length(path) for path in found]
        self.plan = Plan(training.rows, model.shape.hidden, training.rank, self._network.linears)
        table = dequantize(checkpoint.tensors[self._network.table])
        optimizer = Adam(self.plan.begin(table, training.seed), training.clip)
        self._schedule = Schedule(training.rate, training.warm_up, training.steps)
        super().__init__(places, optimizer, self._described(), (training.steps, training.every), resume)

    def save(self, model_name: str = "", command: str = "") -> LookaheadModule:
        """Write the state, the module as it is now, and the picture; the module."""
        self._save_state()
        made = self.module(model_name, command)
        write_lookahead_module(self.places.module, made)
        self._curves.draw(self.places.picture, panels(self._curves.lines))
        return made

    def module(self, model_name: str = "", command: str = "") -> LookaheadModule:
        """The module after the steps that are done."""
        embeddings, pairs = self.plan.parts(self._optimizer.vector.detach())
        lengths = self._lengths[: len(self._trained)]
        origin = Origin(
            model_name, self._fingerprint, self._model.shape.family, self._model.shape.layers,
            (min(lengths), max(lengths)), self.training.seed, self.done, command,
        )  # fmt: skip
        return LookaheadModule(
            embeddings.numpy().copy(),
            {name: (down.numpy().copy(), up.numpy().copy()) for name, (down, up) in pairs.items()},
            self.training.alpha, self.training.rank, POOLING, origin=origin,
        )  # fmt: skip

    def looked_at(self) -> dict[str, Any]:
        """KL and recall of the documents held out, the mean over documents.

        Recall is told with scores pooled as in service, of `single` scores, and the `best` that there is.
        """
        looks = list(self._pool.map(self._look, self._held_out))
        pooled = [one for _, found, _ in looks for one in found]
        single = [one for _, _, found in looks for one in found]
        return {
            "kl": float(np.mean([kl for kl, _, _ in looks])),
            "recall": _by_budget(pooled, lambda one: one.found),
            "single": _by_budget(single, lambda one: one.found),
            "best": _by_budget(single, lambda one: one.best),
        }

    def _look(self, path: Path) -> tuple[float, list[Recall], list[Recall]]:
        with torch.no_grad():
            importance, targets = self._importance(path)
            by_heads = Targets(read_document(path), self._model.shape.kv_heads)
            pooled = [recall(importance, by_heads, budget, POOLING) for budget in BUDGETS]
            single = pooled
            if POOLING != 1:
                single = [recall(importance, by_heads, budget, 1) for budget in BUDGETS]
            return float(divergence(importance, targets)), pooled, single

    def _step(self, number: int) -> dict[str, Any]:
        paths = self._documents(number)
        names = [path.name for path in paths]
        parts = list(self._pool.map(self._derived, paths))
        return {**self._moved(number, parts, "kl", ", ".join(names)), "documents": names}

    def _derived(self, path: Path) -> tuple[float, Tensor]:
        """The loss of a document and its gradient."""
        loss = divergence(*self._importance(path))
        (gradient,) = torch.autograd.grad(loss, self._optimizer.vector)
        return float(loss.detach()), gradient

    def _importance(self, path: Path) -> tuple[Sequence[Tensor], Targets]:
        document = read_document(path)
        embeddings, pairs = self.plan.parts(self._optimizer.vector)
        scale = self.training.alpha / self.training.rank
        outcome = self._network.run(embeddings, pairs, scale, document)
        return outcome.importance, Targets(document, self._model.shape.kv_heads, self.training.each_query)

    def _length(self, path: Path) -> int:
        """Tokens of the longest prompt of a document, which is looked through so that none fails later."""
        document = read_document(path)
        self._network.require_document(document)
        return document.longest

    def _documents(self, number: int) -> list[Path]:
        """The documents of a step: all in a new order again and again."""
        each = self.training.documents
        return [self._in_turn(place) for place in range((number - 1) * each, number * each)]

    def _in_turn(self, turn: int) -> Path:
        around, place = divmod(turn, len(self._trained))
        order = np.random.default_rng([self.training.seed, around]).permutation(len(self._trained))
        return self._trained[int(order[place])]

    def _described(self) -> dict[str, Any]:
        """What another run differs in."""
        names = "\n".join(path.name for path in (*self._trained, *self._held_out))
        return {
            **asdict(self.training), "model": self._fingerprint,
            "documents_of": hashlib.sha256(names.encode()).hexdigest(),
        }  # fmt: skip

    def _check(self) -> None:
        training = self.training
        for name in ("steps", "rows", "rank", "documents", "every", "held_out"):
            if getattr(training, name) < 1:
                raise InputError(f"{getattr(training, name)}", where=f"--{name.replace('_', '-')}",
                                 remedy="give at least 1")  # fmt: skip
        self.places.check()


def _by_budget(recalls: Sequence[Recall], figure: Callable[[Recall], float]) -> dict[str, float]:
    """The mean of a figure for each budget."""
    return {
        str(budget): float(np.mean([figure(one) for one in recalls if one.budget == budget]))
        for budget in BUDGETS
    }
