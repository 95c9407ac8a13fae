"""Carrying a plan out: tensor by tensor, each read, encoded, written and let go.

Memory holds one tensor as float32 and its bytes. An interruption leaves the tensors that are done beside the
target (`files.filling`), and a resumed run gives the same file to the last byte.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from fivefold.core.checkpoint import Checkpoint, Float32, Tensor
from fivefold.core.errors import FileError, InputError
from fivefold.files import Filling, give_back, part_paths
from fivefold.quantize.calibrated import Calibrated
from fivefold.quantize.choice import Choice, best_choice
from fivefold.quantize.encode import check_finite, encode, largest_of
from fivefold.quantize.pieces import float_values
from fivefold.quantize.plan import Item, Plan

_FLOATS = ("f32", "f16", "bf16")

Report = Callable[[str, int, int], None]
"""Told before each tensor and at the end: its name, numbers done, numbers in all."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run made: numbers of the model, bytes of its tensors before and after, bits of a number with its
    share of all scales, bytes by format, and how many tensors an earlier run had done already."""

    numbers: int
    source_bytes: int
    bytes: int
    bits_per_weight: float
    bytes_by_format: dict[str, int]
    resumed: int = 0


def summary_of(plan: Plan, resumed: int = 0) -> Summary:
    """The figures of a plan, which are those of its run."""
    forms: Counter[str] = Counter()
    for item in plan.items:
        forms[item.format] += plan.bytes_of(item)
    total = sum(forms.values())
    before = sum(item.source.stored_bytes for item in plan.items)
    return Summary(plan.numbers, before, total, 8 * total / plan.numbers, dict(forms), resumed)


def run_plan(
    plan: Plan,
    target: Path,
    *,
    resume: bool = False,
    calibrated: Calibrated | None = None,
    report: Report | None = None,
) -> Summary:
    """Write the plan's output to `target`, which appears there when it is whole.

    Raises InputError for a target that is the source or a folder with something in it, and for unfinished
    work that does not fit when resuming; FileError for a tensor that cannot be quantized, FivefoldError if
    writing fails.
    """
    check_target(plan, target)
    total, done = plan.numbers, 0
    with Filling(
        target, plan.layout, mark_of(plan, calibrated), resume=resume, folder=plan.output.is_folder
    ) as filling:
        resumed = len(filling.finished)
        shared: dict[str, float] = {}
        for item in plan.items:
            if report is not None:
                report(item.name, done, total)
            if item.name not in filling.finished:
                try:
                    tensor = _made(plan, item, calibrated, shared)
                except FileError:
                    filling.discard()  # another source, or another recipe, begins anew
                    raise
                filling.put(item.name, plan.output.pieces(item, tensor))
                give_back([item.source])
            done += item.numbers
        if report is not None:
            report("", done, total)
        filling.complete(lambda folder: plan.output.finish(folder, plan.items))
    return summary_of(plan, resumed)


def check_target(plan: Plan, target: Path) -> None:
    """InputError unless the output can go there."""
    where, source = str(target), plan.checkpoint.path
    if target.exists() and target.resolve() in {path.resolve() for path in (source, *_parts(source))}:
        raise InputError("the target is the source", where=where, remedy="name another target")
    if not target.parent.is_dir():
        raise InputError("its folder does not exist", where=where, remedy="make the folder first")
    if plan.output.is_folder and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            "there is something already", where=where, remedy="delete it, or name another target"
        )
    if not plan.output.is_folder and target.is_dir():
        raise InputError("this is a folder", where=where, remedy="name a .gguf file")


def mark_of(plan: Plan, calibrated: Calibrated | None) -> str:
    """What tells this work from any other: the source's files, choices, the output's headers, the program."""
    files = []
    for path in _source_files(plan.checkpoint):
        state = path.stat()
        files.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
    items = [[item.name, item.choice and asdict(item.choice)] for item in plan.items]
    heads = {name: hashlib.sha256(head).hexdigest() for name, head in plan.layout.heads.items()}
    mark = calibrated.mark() if calibrated is not None else ""
    text = json.dumps([version("fivefold"), files, items, heads, mark], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _source_files(checkpoint: Checkpoint) -> list[Path]:
    if checkpoint.kind == "gguf":
        return _parts(checkpoint.path)
    return sorted(path for path in checkpoint.path.iterdir() if path.suffix in (".safetensors", ".json"))


def _parts(source: Path) -> list[Path]:
    return part_paths(source) or [source]


def _copied(tensor: Tensor) -> Tensor:
    """The source's own tensor; FileError if it is in floats and one is none."""
    if tensor.format in _FLOATS and tensor.data.size:
        values = float_values(tensor)
        check_finite(tensor.name, values.reshape(-1, values.shape[-1] if values.ndim else 1))
    return tensor


def _made(plan: Plan, item: Item, calibrated: Calibrated | None, shared: dict[str, float]) -> Tensor:
    """The tensor that an item becomes; `shared` keeps the largest magnitudes of those that share a factor."""
    choice = item.choice
    if choice is None and (calibrated is None or not calibrated.changes(item.name)):
        return _copied(item.source)
    if choice is not None and choice.format == "nvfp4":
        sharing, tensors = plan.output.sharing(item.name), plan.checkpoint.tensors
        largest = largest_of(sharing, lambda name: _values(tensors[name], calibrated), shared)
        choice = replace(choice, largest=largest)
    values = _values(item.source, calibrated)
    flat = values.reshape(-1, values.shape[-1])  # a stack of matrices as one, all rows below each other
    if choice is None:
        made = encode(item.name, flat, best_choice(item.source.format))
    elif calibrated is None:
        made = encode(item.name, flat, choice)
    else:
        made = _calibrated(item.name, flat, choice, calibrated)
    return replace(made, shape=item.source.shape)


def _calibrated(name: str, values: Float32, choice: Choice, calibrated: Calibrated) -> Tensor:
    """As the text wants it. Matrices of experts are seen by some rows only and not calibrated: they get what
    is best without."""
    found = calibrated.encode(name, values, choice)
    if found is not None:
        return found
    without = replace(best_choice(choice.format), factor=choice.factor, largest=choice.largest)
    return encode(name, values, without if choice.method == "gptq" else choice, calibrated.importance(name))


def _values(tensor: Tensor, calibrated: Calibrated | None) -> Float32:
    values = float_values(tensor)
    return values if calibrated is None else calibrated.values(tensor.name, values)
