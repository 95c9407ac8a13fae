"""A side drafter: a tiny model beside a frozen one, which guesses the tokens that the model will choose next.

It reads the model's hidden states: what some layers gave (its taps) is joined for each row that the model
keeps, and becomes keys and values of the drafter's own layers, in a cache group of their own. To guess, a few
rows behind the last token attend to these entries and to each other; its head is rows of the model's own, of
the most frequent tokens alone. What it guesses is verified by the model itself, so a poor guess costs time
and changes nothing.

After DFlash (arXiv 2602.06036), EAGLE (arXiv 2401.15077) and, for the head, FR-Spec (arXiv 2502.14856). Ours
differs from DFlash in two ways that a CPU asks for. A row sees the rows of its block up to itself, for later
ones know nothing that it does not: so fewer guesses cost fewer rows and are the same. And each row begins as
the embedding of the last token plus a vector of its slot: through the keys and values of one narrow layer
that token would reach it poorly. Here is what a drafter is and whether it fits a model; Programs, files,
running and training are for other rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from .batch import Float32, Int32
from .checkpoint import Tensor
from .errors import InputError, UnsupportedError

DRAFTER = "drafter"
"""The name of the drafter's Program and of its cache group."""

SLOTS = "slots"
"""The input of the Program of form "block": what is added to each row's embedding, (N, hidden)."""

Float16 = npt.NDArray[np.float16]
FEATURE = "feature"
"""The input of the Program: what is known of the token before each row's, (N, hidden); and the output of the
form "serial" that says it of the row's own token."""

Form = Literal["block", "serial"]
FORMS: tuple[Form, ...] = ("block", "serial")
"""block   the rows of all guesses run at once, each of the last token, plus the vector of its slot.
serial  they run one after the other, each of the guess before it and of what that row says of it."""

_TRAIN = "train one for this model: fivefold train drafter"


@dataclass(frozen=True, slots=True)
class DrafterShape:
    """The sizes of a drafter.

    taps        layers of the model, from 0 and ascending, whose outputs are joined.
    hidden      the model's; `heads` and `kv_heads` of `head_size` numbers and `ffn` are of its own layers.
    slots       most guesses at a time, as it was trained.
    vocabulary  tokens that its head knows.
    """

    taps: tuple[int, ...]
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    slots: int
    vocabulary: int
    form: Form = "block"

    def __post_init__(self) -> None:
        sizes = (self.layers, self.hidden, self.heads, self.kv_heads, self.head_size, self.ffn, self.slots,
                 self.vocabulary)  # fmt: skip
        _require(min(sizes) > 0, f"its sizes {sizes} are not above 0")
        _require(self.heads % self.kv_heads == 0, f"{self.heads} heads do not share {self.kv_heads}")
        _require(bool(self.taps) and list(self.taps) == sorted(set(self.taps)) and self.taps[0] >= 0,
                 f"its taps {self.taps} do not ascend")  # fmt: skip
        _require(self.form in FORMS, f"the form {self.form!r} is not known")

    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its weights, matrices as (M, K); slots are apart, and the head is the model's.

        `tap.i` are norms of the taps, `fc` joins them, `context` is the norm of what comes of that.
        `embed` is the norm of embeddings: where these are the head too, a row would else begin with its own
        token as the likeliest.
        """
        hidden, kv = self.hidden, self.kv_heads * self.head_size
        q = self.heads * self.head_size
        found: dict[str, tuple[int, ...]] = {f"tap.{number}": (hidden,) for number in range(len(self.taps))}
        found |= {"fc": (hidden, len(self.taps) * hidden), "context": (hidden,), "embed": (hidden,)}
        found |= {"last": (hidden, hidden), "token": (hidden, hidden)}
        if self.form == "serial":
            found["feature"] = (hidden,)
        for layer in range(self.layers):
            found |= {
                f"{layer}.attn_norm": (hidden,), f"{layer}.q": (q, hidden), f"{layer}.k": (kv, hidden),
                f"{layer}.v": (kv, hidden), f"{layer}.o": (hidden, q), f"{layer}.ffn_norm": (hidden,),
                f"{layer}.gate": (self.ffn, hidden), f"{layer}.up": (self.ffn, hidden),
                f"{layer}.down": (hidden, self.ffn),
            }  # fmt: skip
        return found | {"norm": (hidden,)}


@dataclass(frozen=True, slots=True)
class DrafterOrigin:
    """What a drafter was made for and how.

    model    name of the model, for people; `fingerprint` tells it from others.
    tokens   that the model wrote and the drafter learned from; `steps` of training, and the `command`.
    """

    model: str = ""
    fingerprint: str = ""
    family: str = ""
    tokens: int = 0
    seed: int = 0
    steps: int = 0
    command: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Drafter:
    """The numbers of a drafter; InputError if they do not fit each other.

    weights  by the names of `DrafterShape.weights`, as they run: matrices packed, vectors float32.
    slots    (slots, hidden) float32, one vector for each; (0, hidden) in the form "serial".
    tokens   (F,) those that its head knows: the head is their rows of the model's own, or, where they are all
             of its tokens (ascending then), that head itself.
    """

    shape: DrafterShape
    weights: Mapping[str, Tensor]
    slots: Float32
    tokens: Int32
    origin: DrafterOrigin = field(default_factory=DrafterOrigin)

    def __post_init__(self) -> None:
        shape, wanted = self.shape, self.shape.weights()
        other = sorted(wanted.keys() ^ self.weights.keys())
        _require(not other, f"the weight {other[0] if other else ''} is missing or not known")
        for name, dimensions in wanted.items():
            found = self.weights[name].shape
            _require(found == dimensions, f"the weight {name} is {found} and not {dimensions}")
        rows = shape.slots if shape.form == "block" else 0
        _require(self.slots.shape == (rows, shape.hidden), f"slots {self.slots.shape} are not {rows} rows")
        _require(
            self.tokens.shape == (shape.vocabulary,), f"{len(self.tokens)} tokens have a row of the head"
        )
        _require(len(np.unique(self.tokens)) == len(self.tokens) and int(self.tokens.min()) >= 0,
                 "a token has two rows of the head, or is below 0")  # fmt: skip
        _require(bool(np.isfinite(self.slots).all()), "some of its numbers are not finite")

    def require_fit(self, hidden: int, layers: int, vocabulary: int, where: str = "") -> None:
        """UnsupportedError unless a model of these sizes can have it."""
        shape = self.shape
        for holds, what in (
            (shape.hidden == hidden, f"rows of {shape.hidden}, the model of {hidden}"),
            (shape.taps[-1] < layers, f"a tap behind layer {shape.taps[-1]}, the model has {layers} layers"),
            (int(self.tokens.max()) < vocabulary,
             f"a row for token {int(self.tokens.max())}, the model has {vocabulary} tokens"),
            (shape.vocabulary < vocabulary or bool((np.diff(self.tokens) > 0).all()),
             "all tokens of the model in another order"),
        ):  # fmt: skip
            if not holds:
                raise UnsupportedError(f"the drafter has {what}", where=where, remedy=_TRAIN)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise InputError(what, where="a side drafter", remedy=_TRAIN)
