"""A plan's calibration: the model of its checkpoint runs on a text, and matrices are quantized on the way.

What a recipe may ask for here: matrices by GPTQ, sweeps weighed by what inputs really are, scaling folded
into neighbours (`awq`), norms and biases that are corrected, formats by measured sensitivity in a budget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from fivefold.core.checkpoint import Float32, Tensor
from fivefold.core.errors import InputError
from fivefold.executor import Settings, allowed_threads, choose_isa, dequantize
from fivefold.files import vocabulary_of
from fivefold.models import load_model
from fivefold.program import Model

from .calibrate import Calibration, calibrate
from .choice import Calibration as Text
from .choice import Choice, Recipe, best_choice, check_calibration
from .encode import check_held, encode, largest_of
from .gptq import gptq
from .grids import grid_of
from .moments import Moments
from .plan import Item, Plan
from .scaling import fold
from .sensitivity import Candidate, choose, measure_sensitivity

TOKENS = 32768
"""Of a text, where the recipe does not say how many."""
MEASURED = 2
"""Windows that sensitivity is measured on."""
ROOM = 2.0
"""How much larger a matrix may become by making up for losses, where it shares its factor with others."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CalibratedModel:
    """What `run_plan` asks for: see `calibrated.Calibrated`."""

    stored: Mapping[str, Tensor]
    floats: Mapping[str, Tensor]
    marked: str

    def mark(self) -> str:
        """Of the text and all that was done with it."""
        return self.marked

    def values(self, name: str, values: Float32) -> Float32:
        """Scaled or corrected numbers, or the same."""
        return dequantize(self.floats[name]) if name in self.floats else values

    def changes(self, name: str) -> bool:
        """Whether they are others."""
        return name in self.floats

    def importance(self, name: str) -> Float32 | None:
        """Nothing beside what `encode` has used."""
        return None

    def encode(self, name: str, values: Float32, choice: Choice) -> Tensor | None:
        """The matrix as it was quantized on the text; None for tables of embeddings alone."""
        return self.stored.get(name)


def calibrate_plan(plan: Plan, told: Told = lambda name: None) -> tuple[Plan, CalibratedModel]:
    """The plan, with other formats where there is a budget, and what to fill it with.

    Loads the model and keeps it in memory, beside the rows of the text between two layers. `told` is given
    a line for each step. InputError without a text, or with one that is too short.
    """
    work = _Work.of(plan, told)
    if plan.recipe.budget_bits is not None:
        plan = work.within_budget(plan, plan.recipe.budget_bits)
    return plan, work.model(plan)


@dataclass(frozen=True, slots=True)
class _Work:
    """A model, a text and what is asked. `tensors` are the model's, with the `scaled` ones in place."""

    recipe: Recipe
    network: Model
    tensors: Mapping[str, Tensor]
    scaled: Mapping[str, Tensor]
    windows: Sequence[Sequence[int]]
    settings: Settings
    marked: str
    told: Told = field(repr=False)

    @staticmethod
    def of(plan: Plan, told: Told) -> _Work:
        recipe, checkpoint = plan.recipe, plan.checkpoint
        check_calibration(recipe)
        assert recipe.calibration is not None
        content = _read(recipe.calibration)
        windows = cut(vocabulary_of(checkpoint).encode(content), recipe.calibration)
        settings = Settings(choose_isa("auto"), allowed_threads(), "int8", 512, "f16")
        network, source = load_model(checkpoint), dict(checkpoint.tensors)
        scaled: dict[str, Tensor] = {}
        if recipe.awq:
            told("scaling folded into neighbours")
            kept = frozenset(item.name for item in plan.items if item.choice is None and item.role != "rest")
            scaled = fold(network, source, windows, settings, _plainly(recipe.default), kept)
        said = [asdict(recipe.calibration), recipe.awq, recipe.norm_correction, recipe.budget_bits]
        mark = hashlib.sha256(repr(said).encode() + content).hexdigest()
        tensors = {**source, **scaled}
        return _Work(recipe, network, tensors, scaled, windows, settings, f"{mark} {settings.isa}", told)

    def model(self, plan: Plan) -> CalibratedModel:
        """All matrices of the plan, quantized."""
        compensate = any(each.method == "gptq" for each in self.recipe.choices)
        done = self._run(plan, compensate, self.recipe.norm_correction)
        chosen = {item.name for item in plan.items if item.choice is not None}
        floats = {**self.scaled, **{name: each for name, each in done.items() if each.format == "f32"}}
        return CalibratedModel(
            {name: each for name, each in done.items() if name in chosen},
            {name: each for name, each in floats.items() if name not in chosen},
            self.marked,
        )

    def within_budget(self, plan: Plan, bits: float) -> Plan:
        """The plan with more bits for the matrices that need them most: `bits` a number of the model."""
        choices = {item.name: item for item in plan.items if item.choice is not None}
        errors: dict[str, dict[str, float]] = {}

        def compare(name: str, moments: Moments, made: Tensor) -> None:
            values = self._values(name)
            found = {"": moments.error(values, dequantize(made))}
            for finer in plan.output.fine:
                stored = _made(name, values, moments, finer)
                found[finer.format] = moments.error(values, dequantize(stored))
            errors[name] = found

        done = self._run(plan, False, False, compare)
        quantized = {name: done[name] for name in errors}
        self.told("how far each matrix moves the answers")
        distances = measure_sensitivity(
            self.network, self.tensors, quantized, self.windows[:MEASURED], self.settings, self.told
        )
        finer = {
            name: {
                choice.format: plan.output.fitting(replace(choices[name], choice=choice))
                for choice in plan.output.fine
            }
            for name in quantized
        }
        spent = {item.name: plan.bytes_of(item) for item in plan.items}
        options = {
            name: [
                Candidate("", spent[name], distances[name]),
                *(
                    Candidate(form, plan.size_as(item), _share(distances[name], errors[name], form))
                    for form, item in items.items()
                ),
            ]
            for name, items in finer.items()
        }
        fixed = sum(size for name, size in spent.items() if name not in quantized)
        picked = choose(options, plan.bytes_in(bits) - fixed)
        chosen = {name: finer[name][each.form] for name, each in picked.items() if each.form}
        items = [chosen.get(item.name, item) for item in plan.items]
        return Plan.of(plan.checkpoint, plan.recipe, plan.output, items)

    def _values(self, name: str) -> Float32:
        return dequantize(self.tensors[name])

    def _run(
        self,
        plan: Plan,
        compensate: bool,
        correct: bool,
        seen: Callable[[str, Moments, Tensor], None] | None = None,
    ) -> dict[str, Tensor]:
        items = {item.name: item for item in plan.items}
        shared: dict[str, float] = {}

        def quantize(name: str, values: Float32, moments: Moments) -> Tensor:
            made = self._quantized(plan, items[name], values, moments, shared)
            if seen is not None and items[name].choice is not None:
                seen(name, moments, made)
            return made

        kept = frozenset(name for name, item in items.items() if item.choice is None) - set(self.scaled)
        calibration = Calibration(self.windows, self.settings, compensate, correct, kept)
        return calibrate(self.network, self.tensors, calibration, quantize, self.told)

    def _quantized(
        self, plan: Plan, item: Item, values: Float32, moments: Moments, shared: dict[str, float]
    ) -> Tensor:
        """A matrix as its choice wants it."""
        choice = item.choice
        if choice is None:
            return encode(item.name, values, best_choice(item.source.format))
        sharing = plan.output.sharing(item.name)
        choice = replace(choice, largest=largest_of(sharing, self._values, shared))
        return _made(item.name, values, moments, choice)


def cut(tokens: Sequence[int], text: Text) -> list[Sequence[int]]:
    """Windows of a text, from all over it; InputError if it does not fill one."""
    count = min((text.tokens or TOKENS) // text.window, len(tokens) // text.window)
    if count < 1:
        raise InputError(
            f"{len(tokens)} tokens of text do not fill a window of {text.window}", where=str(text.text),
            remedy="give more text",
        )  # fmt: skip
    step = len(tokens) // count
    return [tokens[begin * step : begin * step + text.window] for begin in range(count)]


def _read(text: Text) -> bytes:
    try:
        return text.text.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=str(text.text), remedy="name a text file"
        ) from None


def _plainly(choice: Choice) -> Callable[[Float32], Float32]:
    """What a format's rounding leaves of a matrix."""
    plain = replace(choice, method="round")
    return lambda values: dequantize(encode("scaled", values, plain))


def _made(name: str, values: Float32, moments: Moments, choice: Choice) -> Tensor:
    """A matrix in a format, by whatever method."""
    if choice.method == "gptq":
        choice = replace(choice, largest=choice.largest * ROOM)
        made = gptq(name, values, moments, grid_of(choice, name))
        check_held(values, made)
        return made
    return encode(name, values, choice, moments.importance)


def _share(distance: float, errors: Mapping[str, float], form: str) -> float:
    """The distance to expect of another format, by the errors of outputs."""
    return distance * errors[form] / errors[""] if errors[""] else 0.0
