"""Options that several commands take, and how a command's answer is printed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fivefold.cache.eviction import Budget
from fivefold.core.errors import InputError
from fivefold.core.request import EvictionChoice
from fivefold.engine import (
    CACHINGS,
    DECODINGS,
    NONE,
    SERVED,
    EngineOptions,
    LoadedModel,
    LoadOptions,
    caching_named,
    checked,
    chosen_denoiser,
    decoding_named,
    load,
)
from fivefold.files import default_store, resolve
from fivefold.formats import entry_format
from fivefold.quantize import LoadedFormat, loaded_format

DEFAULT_MODEL = "smollm2-135m"

ModelArgument = Annotated[str, typer.Argument(help="A pulled name, hf:owner/repo, a folder or a .gguf file.")]
Isa = Annotated[
    str,
    typer.Option(
        help="Kernels: auto, portable (to compare with; 14 times slower), avx2, avx512, neon, dotprod; "
        "`inspect cpu` lists those that work here."
    ),
]
Threads = Annotated[int, typer.Option(min=0, help="Threads; 0 is what this machine allows.")]
Context = Annotated[int, typer.Option(min=0, help="Tokens of context; 0 is the model's own, up to 8192.")]
Activations = Annotated[str, typer.Option(help="Rows that meet quantized weights: int8 or float.")]
Kv = Annotated[str, typer.Option("--kv", help="How cache entries are stored: f16, bf16, int8, fp8.")]
Format = Annotated[
    str,
    typer.Option(
        "--format", help=f"What matrices are loaded as: {', '.join(LoadedFormat.known)}; auto is as stored."
    ),
]
KvUnlessSaid = Annotated[
    str | None,
    typer.Option(
        "--kv",
        help="How cache entries are stored: f16, bf16, int8, fp8. Unless said: f16, and with the "
        "Transformers backend as the weights.",
        show_default=False,
    ),
]
Eviction = Annotated[
    str, typer.Option(help=f"Which entries of the cache stay: {', '.join(SERVED)}; with a --budget.")
]
BudgetOption = Annotated[
    str,
    typer.Option(
        "--budget", help="Entries that each KV head keeps, such as 256, or a share of the prompt, 0.1."
    ),
]
DecodingOption = Annotated[
    str,
    typer.Option(
        "--decoding",
        help=f"How tokens are written: {', '.join(DECODINGS)}; speculative checks guesses, several a step.",
    ),
]
DenoiserOption = Annotated[
    str,
    typer.Option(
        "--denoiser",
        help="By which rule a diffusion model fills places, such as confidence_threshold:threshold=0.8; "
        "the family's unless said.",
    ),
]
CachingOption = Annotated[
    str,
    typer.Option(
        "--caching",
        help=f"What LLaDA and Dream keep for the length of a block: {', '.join(CACHINGS)}; none is exact.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


def load_options(
    isa: str,
    threads: int,
    context: int,
    activations: str,
    kv: str | None,
    reference: bool = False,
    form: str = "auto",
    eviction: str = NONE,
) -> LoadOptions:
    """Load options from the command's own; InputError for a kind that is not known."""
    if kv is not None:
        entry_format(kv, "--kv")
    conversion = loaded_format(form, "--format")
    rest = LoadOptions(
        isa, threads, context=context or None, reference=reference, cache_format=kv, conversion=conversion,
        eviction=eviction,
    )  # fmt: skip
    if activations == "int8":
        return replace(rest, activations="int8")
    if activations == "float":
        return replace(rest, activations="float")
    raise InputError(f"{activations!r} is not known", where="--activations", remedy="choose int8 or float")


def eviction_choice(eviction: str, budget: str) -> EvictionChoice:
    """The eviction of a command's requests, of any length; InputError names the option that is wrong."""
    try:
        choice = EvictionChoice(eviction, Budget.parse(budget).value if budget else 0)
        checked(choice)
    except InputError as error:
        raise InputError(error.what, where=f"--{error.where}", remedy=error.remedy) from None
    return choice


def decoding_options(decoding: str, denoiser: str, caching: str) -> EngineOptions:
    """How the tokens of a command's requests are written; InputError names the option."""
    try:
        if denoiser:
            chosen_denoiser(denoiser)
        return EngineOptions(
            decoding=decoding_named(decoding), denoiser=denoiser, caching=caching_named(caching)
        )
    except InputError as error:
        raise InputError(error.what, where=f"--{error.where}", remedy=error.remedy) from None


def open_model(name: str, options: LoadOptions) -> LoadedModel:
    """Find and load the model that a command names; a line on stderr if it is not the native backend's."""
    loaded = load(find_model(name), options)
    if loaded.notice:
        typer.echo(f"fivefold: {loaded.notice}", err=True)
    return loaded


def find_model(name: str) -> Path:
    """The file or folder of the model that a command names."""
    return Path(resolve(name, default_store()))


def print_json(answer: dict[str, Any] | list[dict[str, Any]]) -> None:
    """One JSON object or list on stdout."""
    typer.echo(json.dumps(answer, ensure_ascii=False))
