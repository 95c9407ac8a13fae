"""Which backend runs a checkpoint, and what is known of its model before a weight is read.

A family takes its architecture, or else, for a folder of Hugging Face, Transformers does. A family that
refuses a config is not passed by: what it refuses would then run as somebody did not expect.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fivefold.backends import MissingExtraError, Outline, drafter_bytes, transformers_backend
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.drafter import Drafter
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.ngrams import NGramTable
from fivefold.core.request import Caching, Decoding
from fivefold.decode.diffusion import check_caching, chosen_denoiser
from fivefold.executor import grown_bytes
from fivefold.files import found_drafter, found_ngrams
from fivefold.formats import ENTRY_FORMATS, UNROUNDED, EntryFormat, entry_format, format_of
from fivefold.models import architecture_of, load_model
from fivefold.program import Model, head_of, with_drafter

from .options import LoadOptions
from .servable import laid_out, served_policy

NATIVE, REFERENCE, TRANSFORMERS = "native", "reference", "transformers"
_TORCH_ENTRIES = ("f16", "bf16")
"""Formats of cache entries that may be asked of the Transformers backend."""


@dataclass(frozen=True, slots=True)
class Described:
    """A model, the backend that runs it, the bytes of its weights, and how its cache entries are stored.

    `checkpoint` has the tensors as they are loaded; the Program is made of the stored ones. `outline` is what
    the Transformers backend knows of it, None for the others. `model` has the Programs of its `drafter`.
    """

    model: Model
    checkpoint: Checkpoint
    backend: str
    weights: int
    entries: EntryFormat
    outline: Outline | None = None
    notice: str = ""
    drafter: Drafter | None = None
    ngrams: NGramTable | None = None


def as_loaded(checkpoint: Checkpoint, options: LoadOptions) -> Checkpoint:
    """The checkpoint with the tensors that are to be loaded."""
    return checkpoint if options.conversion is None else options.conversion.of(checkpoint)


def require_decoding(
    name: Decoding, model: Model, path: Path, denoiser: str = "", caching: Caching = "none"
) -> None:
    """UnsupportedError for a decoding, a denoiser or a caching that needs another kind of model than the one
    at `path`, InputError for a denoiser that there is not."""
    rules = model.diffusion
    if rules is not None and rules.sight == "full" and name in ("autoregressive", "speculative"):
        raise UnsupportedError(
            f"rows of {path.name} look at all of the answer, which then cannot be written token by token",
            where="decoding", remedy="choose auto or diffusion",
        )  # fmt: skip
    if name == "diffusion" and rules is None:
        raise UnsupportedError(
            f"{path.name} is not a diffusion model", where="decoding",
            remedy="choose auto, speculative or autoregressive, or load a diffusion model",
        )  # fmt: skip
    if denoiser:
        chosen_denoiser(denoiser, rules)
        if rules is None or name not in ("auto", "diffusion"):
            raise UnsupportedError(
                f"{path.name} is not written by diffusion, and a denoiser is given", where="denoiser",
                remedy="leave it out, or choose a diffusion model and decoding auto or diffusion",
            )  # fmt: skip
    check_caching(rules if name in ("auto", "diffusion") else None, caching)


def described(checkpoint: Checkpoint, options: LoadOptions) -> Described:
    """The model of a stored checkpoint under these options.

    InputError, FileError or UnsupportedError say what is wrong.
    """
    architecture, native = architecture_of(checkpoint)
    if not native and checkpoint.kind == "huggingface":
        return _by_transformers(checkpoint, options, architecture)
    family = load_model(checkpoint)
    policy = served_policy(options.eviction)
    model = laid_out(family, policy)
    require_decoding(options.decoding, model, checkpoint.path, options.denoiser, options.caching)
    loaded = as_loaded(checkpoint, options)
    _check_formats(model, loaded)
    names = {name for program in model.programs.values() for name in program.tensors}
    weights = sum(loaded.tensors[name].stored_bytes for name in names if name in loaded.tensors)
    for program in model.programs.values():
        weights += sum(grown_bytes(one, loaded.tensors.__getitem__) for one in program.weights.values())
    form = UNROUNDED if options.reference else ENTRY_FORMATS["f16"]
    if options.cache_format is not None:
        form = entry_format(options.cache_format, "--kv")
    drafter = found_drafter(family, checkpoint) if options.drafter and policy is None else None
    if drafter is not None:
        model = with_drafter(model, drafter.shape)
        weights += sum(drafter_bytes(drafter, head_of(model)).values())
    ngrams = found_ngrams(family, checkpoint) if options.drafter else None
    backend = REFERENCE if options.reference else NATIVE
    return Described(model, loaded, backend, weights, form, drafter=drafter, ngrams=ngrams)


def _by_transformers(checkpoint: Checkpoint, options: LoadOptions, architecture: str) -> Described:
    """A model without a family here."""
    where = f"{checkpoint.path}: {architecture}"
    if options.reference:
        raise UnsupportedError(
            "there is no family for this architecture, so the reference executor has no Program", where=where,
            remedy="leave the reference out: the Transformers backend runs it",
        )  # fmt: skip
    if options.isa != "auto":
        raise InputError(
            "torch chooses its kernels itself", where="--isa", remedy="leave it out for this model"
        )
    if options.conversion is not None:
        raise UnsupportedError(
            f"the Transformers backend loads weights as they are stored, not as {options.conversion.format}",
            where=where, remedy="leave the format out, or auto, for this model",
        )  # fmt: skip
    try:
        backend = transformers_backend()
    except MissingExtraError as error:
        raise MissingExtraError(
            f"there is no family for this architecture, and {error.what}", where=where, remedy=error.remedy
        ) from None
    outline = backend.outline(checkpoint)
    require_decoding(options.decoding, outline.model, checkpoint.path, options.denoiser, options.caching)
    laid_out(outline.model, served_policy(options.eviction), native=False)
    form = UNROUNDED if outline.number == UNROUNDED.name else ENTRY_FORMATS[outline.number]
    if options.cache_format is not None:
        if options.cache_format not in _TORCH_ENTRIES:
            raise InputError(
                f"the Transformers backend stores no entries as {options.cache_format:.50}", where="--kv",
                remedy=f"choose {', '.join(_TORCH_ENTRIES)}, or leave it out for {form.name}",
            )  # fmt: skip
        form = entry_format(options.cache_format, "--kv")
    notice = f"no family here takes {architecture}: it runs on the Transformers backend ({outline.versions})"
    weights = outline.weight_bytes
    return Described(outline.model, checkpoint, TRANSFORMERS, weights, form, outline, notice)


def _check_formats(model: Model, checkpoint: Checkpoint) -> None:
    """Each weight that is used has a format that this build knows; the others do not matter."""
    for program in model.programs.values():
        for name in program.tensors:
            format_of(checkpoint.tensors[name].format, where=f"{checkpoint.path}: tensor {name}")
