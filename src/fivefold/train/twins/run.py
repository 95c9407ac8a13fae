"""Training a twin: a step is a few parts of records, whose gradients are added in order.

Parts run beside each other, each on one thread. Which records a step has, what is masked in them and its
rate follow from the settings and its number, so a run that was stopped goes on to the same bits. What is
held fixed between twins is the number of rows that were run through the network; a twin may begin from the
weights of another folder (`begin`), whose rows count as its own.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fivefold.core.batch import Float32
from fivefold.core.errors import FileError, InputError
from fivefold.train.optimizer import Adam, Schedule
from fivefold.train.running import Places, Stepped, workers

from .corpus import TOKENIZER, Records, read_split, read_tokenizer, special_tokens
from .folder import CONTEXT, MADE, WEIGHTS, read_weights, write_twin
from .forms import FORMS, figures
from .network import Network
from .picture import panels
from .shape import TwinShape
from .turns import Turns


@dataclass(frozen=True, slots=True)
class Training:
    """The settings of a run.

    form       of `FORMS`; `block` is the size of blocks in the form that has them.
    rows       to be run in all; `room` rows of a part with its filling, `parts` parts of a step.
    begin      a twin's folder whose weights it begins with; none draws them.
    rate       of the optimizer at its height, after the share `warm_up` of all steps.
    every      steps after which `held_out` records of the validation are looked at.
    """

    form: str = "autoregressive"
    block: int = 4
    rows: int = 10_000_000
    room: int = 2048
    parts: int = 2
    begin: str = ""
    seed: int = 0
    rate: float = 2e-3
    warm_up: float = 0.03
    clip: float = 1.0
    every: int = 100
    held_out: int = 128
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    ffn: int = 640


class Run(Stepped):
    """One run, ready to step; `places.examples` is a corpus's folder and `places.module` the weights' file.

    InputError or FileError say what does not fit. Torch is set to one thread for each operation in the whole
    process; `threads` parts run at once.
    """

    def __init__(self, places: Places, training: Training, threads: int = 1, resume: bool = False) -> None:
        self.places, self.training = places, training
        places.check()
        if training.form not in FORMS:
            raise InputError(f"the form {training.form!r} is not known", where="--form",
                             remedy=f"choose {' or '.join(FORMS)}")  # fmt: skip
        self._pool = workers(threads)
        tokenizer = read_tokenizer(places.examples)
        self._tokens = special_tokens(tokenizer, str(places.examples))
        self._records = read_split(places.examples, "training")
        self._looked = read_split(places.examples, "validation")
        self.shape = TwinShape(
            tokenizer.get_vocab_size(), training.hidden, training.layers, training.heads, training.kv_heads,
            training.head_size, training.ffn,
        )  # fmt: skip
        self.form = FORMS[training.form](Network(self.shape), self._tokens, training.block)
        self._turns = Turns(self.form.rows(self._records), training.room, training.seed)
        self._before, vector = self._begin()
        count = max(self._turns.reaching(training.rows) // training.parts, 1)
        self._schedule = Schedule(training.rate, max(round(training.warm_up * count), 1), count)
        super().__init__(
            places, Adam(vector, training.clip), self._described(), (count, training.every), resume
        )

    @property
    def rows(self) -> int:
        """Rows run so far, of this run and of what it began with."""
        every = self.form.rows(self._records)
        parts = range(self.done * self.training.parts)
        return self._before + sum(int(every[self._turns.part(number)].sum()) for number in parts)

    def save(self, command: str = "") -> None:
        """Write the state, the folder as the twin is now, and the picture."""
        self._save_state()
        parts = self.shape.parts(self._optimizer.vector.detach())
        weights: dict[str, Float32] = {name: part.numpy() for name, part in parts.items()}
        config = {**self.shape.config(CONTEXT), **self.form.config(), "eos_token_id": self._tokens.end}
        made = {
            "steps": self.done, "of": self.count, "rows": self.rows, "rows_before": self._before,
            "parameters": self.shape.parameters, "training": asdict(self.training) | {"begin": ""},
            "command": command,
        }  # fmt: skip
        write_twin(self.places.module.parent, weights, config, self.places.examples / TOKENIZER, made)
        self._curves.draw(self.places.picture, panels())

    def looked_at(self) -> dict[str, float]:
        """The figures over records of the validation."""
        some = _first(self._looked, self.training.held_out)
        turns = Turns(self.form.rows(some), self.training.room, 0).epoch(0)
        vector = self._optimizer.vector.detach()
        return figures(list(self._pool.map(lambda part: self._look(vector, some, part), turns)))

    def _look(self, vector: Tensor, records: Records, part: Any) -> dict[str, float]:
        with torch.no_grad():
            return self.form.look(self.shape.parts(vector), records, part.tolist())

    def _step(self, number: int) -> dict[str, Any]:
        each = self.training.parts
        parts = range((number - 1) * each, number * each)
        return self._moved(number, list(self._pool.map(self._derived, parts)))

    def _derived(self, number: int) -> tuple[float, Tensor]:
        """The loss of a part, and its gradient."""
        random = np.random.default_rng([self.training.seed, number])
        part = self._turns.part(number).tolist()
        loss = self.form.loss(self.shape.parts(self._optimizer.vector), self._records, part, random)
        (gradient,) = torch.autograd.grad(loss, self._optimizer.vector)
        return float(loss.detach()), gradient

    def _begin(self) -> tuple[int, Float32]:
        """Rows that were run before, and the vector to begin with."""
        if not self.training.begin:
            return 0, self.shape.begin(self.training.seed)
        folder = Path(self.training.begin)
        try:
            rows = int(json.loads((folder / MADE).read_text(encoding="utf-8"))["rows"])
            same = (folder / TOKENIZER).read_bytes() == (self.places.examples / TOKENIZER).read_bytes()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"this is no twin ({error})", where=str(folder),
                            remedy="give the folder of one: fivefold train twin") from None  # fmt: skip
        if not same:
            raise InputError("the twin has another tokenizer than the corpus", where=str(folder),
                             remedy="begin from one of the same corpus")  # fmt: skip
        return rows, self.shape.joined(read_weights(folder, self.shape))

    def _described(self) -> dict[str, Any]:
        """What another run differs in."""
        tokens = hashlib.sha256(self._records.tokens.tobytes()).hexdigest()
        settings = asdict(self.training)
        if self.training.begin:
            weights = (Path(self.training.begin) / WEIGHTS).read_bytes()
            settings["begin"] = hashlib.sha256(weights).hexdigest()
        return {**settings, "records": tokens}


def _first(records: Records, count: int) -> Records:
    """The first records of a split."""
    count = min(count, len(records))
    return Records(
        records.tokens[: records.starts[count]], records.starts[: count + 1], records.given[:count]
    )
