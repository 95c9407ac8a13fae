"""Quality of several models on one text, beside one reference: loaded models in, figures out.

The keys of the figures are listed in docs/quality.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from fivefold import __version__
from fivefold.core.errors import InputError
from fivefold.engine import LoadedModel
from fivefold.files import part_paths

from .measure import Window, go_on, text_windows
from .state import restore, save
from .sums import Tallies, Tally

Answer = dict[str, Any]
KEPT = {".json", ".safetensors", ".model"}
"""Files of a folder that a model is made of."""


@dataclass(frozen=True, slots=True)
class TextSetup:
    """A text and how it is scored: windows of `size` tokens, of each but the first `skip` positions, at most
    `most` in all (0: all). `resume` is a file that keeps the state, `executor` how the reference runs."""

    name: str
    content: bytes
    size: int = 512
    skip: int = 0
    most: int = 0
    resume: Path | None = None
    executor: str = "native"


def measure_models(
    models: Sequence[LoadedModel],
    reference: LoadedModel | None,
    setup: TextSetup,
    progress: Callable[[int, int, int], None] = lambda windows, of, positions: None,
) -> list[Answer]:
    """Figures of each model; `progress` is told of whole windows, of how many, and of positions scored.

    InputError if the models have different vocabularies, the text is too short, or the state is of another
    measurement; NotFiniteError names the model whose logits are not finite.
    """
    everyone = [*models, *([] if reference is None else [reference])]
    size = min(setup.size, *(loaded.context for loaded in everyone))
    if setup.skip >= size - 1:
        raise InputError(f"{setup.skip} positions of windows of {size} tokens leave none", where="--skip",
                         remedy=f"give less than {size - 1}")  # fmt: skip
    text = text_windows(_tokens(everyone, setup.content), size, setup.most, setup.skip)
    about = [_about(loaded) for loaded in everyone]
    described = _described(setup, size, about[-1] if reference is not None else None)
    hows = [_how(loaded) for loaded in models]
    identity = {
        "text": described["text_sha256"], "model": [each["sha256"] for each in about[: len(models)]],
        "reference": described["reference_sha256"], "reference executor": described["reference_executor"],
        "--window": size, "--skip": setup.skip, "--positions": setup.most,
        **{name: [how[name] for how in hows] for name in hows[0]}, "version": __version__,
    }  # fmt: skip
    tallies = _tallies(models, reference, text, setup, identity, progress)
    return [
        {**each, **described, **how, **asdict(tally.figures(tallies.reference))}
        for each, how, tally in zip(about, hows, tallies.models, strict=False)
    ]


def _tallies(
    models: Sequence[LoadedModel],
    reference: LoadedModel | None,
    text: Sequence[Window],
    setup: TextSetup,
    identity: Answer,
    progress: Callable[[int, int, int], None],
) -> Tallies:
    """All windows scored: those of the state, if there is one, and the rest."""
    kept = restore(setup.resume, identity) if setup.resume else None
    tallies = kept or Tallies([Tally() for _ in models])

    def after(tallies: Tallies) -> None:
        if setup.resume:
            save(setup.resume, identity, tallies)
        progress(tallies.windows, len(text), tallies.positions)

    progress(tallies.windows, len(text), tallies.positions)
    named = [(loaded.path.name, loaded.runner) for loaded in models]
    against = None if reference is None else (reference.path.name, reference.runner)
    go_on(tallies, named, text, setup.skip, against, after)
    return tallies


def _tokens(everyone: Sequence[LoadedModel], content: bytes) -> Sequence[int]:
    """The text's tokens, which are the same for all."""
    first, *others = everyone
    tokens = first.vocabulary.encode(content)
    for loaded in others:
        where = f"{loaded.path.name} beside {first.path.name}"
        if loaded.model.shape.vocabulary != first.model.shape.vocabulary:
            raise InputError("the two models have different vocabularies", where=where,
                             remedy="compare models of one tokenizer")  # fmt: skip
        if loaded.vocabulary.encode(content) != tokens:
            raise InputError("the two models make different tokens of the text", where=where,
                             remedy="compare models of one tokenizer")  # fmt: skip
    return tokens


def _about(loaded: LoadedModel) -> Answer:
    """What a model is: the bytes and numbers of what its Programs use of its file."""
    used = {name for program in loaded.model.programs.values() for name in program.tensors}
    held = loaded.checkpoint.tensors
    tensors = [held[name] for name in sorted(used) if name in held]
    stored = sum(tensor.stored_bytes for tensor in tensors)
    numbers = sum(prod(tensor.shape) for tensor in tensors)
    return {
        "model": loaded.checkpoint.path.name, "sha256": model_hash(loaded.checkpoint.path),
        "weight_bytes": stored, "bits_per_weight": round(8 * stored / max(numbers, 1), 4),
    }  # fmt: skip


def _how(loaded: LoadedModel) -> Answer:
    """How a model ran."""
    settings = loaded.settings
    return {
        "activations": settings.activations, "cache_format": settings.cache_format,
        "instruction_set": settings.isa,
    }  # fmt: skip


def _described(setup: TextSetup, size: int, reference: Answer | None) -> Answer:
    """What all figures are of."""
    return {
        "text": setup.name, "text_sha256": hashlib.sha256(setup.content).hexdigest(), "window": size,
        "skip": setup.skip, "reference": reference and reference["model"],
        "reference_sha256": reference and reference["sha256"],
        "reference_executor": setup.executor if reference else None,
    }  # fmt: skip


def model_hash(path: Path) -> str:
    """SHA-256 of a model's file; of several parts or a folder, that of the names and hashes of its files."""
    if path.is_file():
        files = part_paths(path) or [path]
    else:
        files = [each for each in sorted(path.iterdir()) if each.suffix in KEPT and each.is_file()]
    hashes = [_file_hash(each) for each in files]
    if len(files) == 1 and path.is_file():
        return hashes[0]
    named = "".join(f"{each.name} {found}\n" for each, found in zip(files, hashes, strict=True))
    return hashlib.sha256(named.encode()).hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quality_lines(answers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The figures for people: of one model all that there are, of several a table."""
    if len(answers) == 1:
        for key, value in answers[0].items():
            if value is not None:
                yield f"{key:<28}{value:.6g}" if isinstance(value, float) else f"{key:<28}{value}"
        return
    first = answers[0]
    yield f"{first['text']}, {first['positions']} positions, windows of {first['window']}"
    compared = first["reference"] is not None
    if compared:
        perplexity, error = first["reference_perplexity"], first["reference_perplexity_error"]
        yield (
            f"reference {first['reference']} ({first['reference_executor']}): "
            f"perplexity {perplexity:.4f} +- {error:.4f}"
        )
    ways = [f"{answer['activations']}, {answer['cache_format']}" for answer in answers]
    names = [
        f"{answer['model']} ({way})" if len(set(ways)) > 1 else str(answer["model"])
        for answer, way in zip(answers, ways, strict=True)
    ]
    wide = max(map(len, ("model", *names)))
    head = f"{'model':<{wide}}{'MB':>9}  {'perplexity':>22}"
    yield head + (f"  {'ln of the ratio':>21}  {'mean KL':>20}{'p99 KL':>11}{'top-1':>9}" if compared else "")
    for name, answer in zip(names, answers, strict=True):
        yield f"{name:<{wide}}" + _row(answer, compared)


def _row(answer: Mapping[str, Any], compared: bool) -> str:
    perplexity = f"{answer['perplexity']:.4f} +- {answer['perplexity_error']:.4f}"
    line = f"{answer['weight_bytes'] / 1e6:>9.1f}  {perplexity:>22}"
    if not compared:
        return line
    ratio = f"{answer['log_ratio']:+.5f} +- {answer['log_ratio_error']:.5f}"
    distance = f"{answer['mean_kl']:.6f} +- {answer['mean_kl_error']:.6f}"
    return line + f"  {ratio:>21}  {distance:>20}  {answer['p99_kl']:>9.5f}{answer['top1_agreement']:>9.2%}"
