"""The decoder of a request for a diffusion model: checks what can be served, and chooses by how rows see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import get_args

from fivefold.core.decoder import Decoder
from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.layout import PAGE_SIZE
from fivefold.core.request import Caching, Request, chosen_name
from fivefold.decode.sampling import Sampler
from fivefold.decode.stopping import Stopping

from .answer import Answer
from .block_decoder import BlockDecoder
from .canvas_decoder import CanvasDecoder
from .denoisers import Denoiser, denoiser_named
from .edits import check_edit
from .whole_decoder import WholeDecoder
from .window_decoder import WindowDecoder

CACHINGS: tuple[Caching, ...] = get_args(Caching)
"""All names."""

_DECODERS: Mapping[str, Callable[[int, Answer], Decoder]] = MappingProxyType(
    {"block": BlockDecoder, "causal": WindowDecoder, "canvas": CanvasDecoder}
)
"""By how rows see each other, where not all see all."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a model has room for.

    vocabulary  V.
    end_tokens  the model's own.
    context     tokens of one request.
    rows        of one step.
    """

    vocabulary: int
    end_tokens: Collection[int]
    context: int
    rows: int


def caching_named(name: str) -> Caching:
    """The caching of that name; InputError if there is none."""
    return chosen_name(name, CACHINGS, "caching")


def diffusion_decoder(
    sequence: int, request: Request, rules: DiffusionRules, place: Place, denoiser: Denoiser | None = None,
    caching: Caching = "none",
) -> Decoder:  # fmt: skip
    """A decoder for `request` on a model with these rules; its family's denoiser unless another is given.

    InputError if the prompt is empty, too long, or not of this vocabulary, or if a step has too few rows;
    UnsupportedError for blocks that pages cannot hold, and for caching where rows do not see everything.
    """
    chosen = denoiser or denoiser_named(rules.denoiser, rules.numbers)
    _check(rules, chosen)
    check_caching(rules, caching)
    check_edit(request, rules, chosen, caching)
    _check_tokens(request, rules, place)
    room = _room(rules, place, len(request.prompt)) - len(request.suffix)
    stopping = Stopping.of(request.sampling, place.end_tokens, len(request.prompt), room)
    if request.sampling.max_tokens is None and (request.edited or rules.sight == "full"):
        stopping = replace(stopping, most=min(stopping.most, len(request.edited) or rules.answer))
    if stopping.most < len(request.edited):
        raise InputError(
            f"the text to rewrite has {len(request.edited)} tokens, and there is room for {stopping.most}",
            where="edited", remedy="shorten it, or what is before and behind it",
        )  # fmt: skip
    sampler = Sampler(request.sampling, place.vocabulary, request.prompt, place.end_tokens)
    answer = Answer(request, rules, chosen, sampler, stopping, place.vocabulary)
    decoder = _decoder(sequence, answer, caching)
    if decoder.least_rows > place.rows:
        raise InputError(
            f"a diffusion model runs {decoder.least_rows} rows of this request at once, and steps have "
            f"{place.rows}", where="max_tokens" if rules.sight == "full" else "max_rows",
            remedy="load the model with more max_rows, or ask for a shorter answer",
        )  # fmt: skip
    return decoder


def check_caching(rules: DiffusionRules | None, caching: Caching) -> None:
    """UnsupportedError where there is nothing that entries could be kept for a block only."""
    if caching != "none" and (rules is None or rules.sight != "full"):
        raise UnsupportedError(
            "entries are kept for the length of a block only where rows see all of the text", where="caching",
            remedy="leave it out, or choose such a model, LLaDA or Dream: others keep their entries anyway",
        )  # fmt: skip


def _decoder(sequence: int, answer: Answer, caching: Caching) -> Decoder:
    """By how rows see each other."""
    if answer.rules.sight == "full":
        return WholeDecoder(sequence, answer, caching)
    return _DECODERS[answer.rules.sight](sequence, answer)


def _room(rules: DiffusionRules, place: Place, prompt: int) -> int:
    """Tokens of prompt and answer together: whole blocks, or canvases behind the prompt, where they are run
    as a whole."""
    if rules.sight == "canvas":
        return prompt + max(place.context - prompt, 0) // rules.block * rules.block
    return place.context // rules.block * rules.block if rules.sight == "block" else place.context


def _check_tokens(request: Request, rules: DiffusionRules, place: Place) -> None:
    given = ("prompt", request.prompt), ("suffix", request.suffix), ("edited", request.edited)
    for where, tokens in given:
        strange = next((token for token in tokens if not 0 <= token < place.vocabulary), None)
        if strange is not None:
            raise InputError(
                f"token {strange} is not in the vocabulary", where=where,
                remedy=f"give tokens from 0 to {place.vocabulary - 1}",
            )  # fmt: skip
    if request.suffix and rules.sight != "full":
        raise UnsupportedError(
            "rows of this diffusion model do not see text behind their block", where="suffix",
            remedy="leave it out, or ask a model whose rows see all of the text, such as LLaDA or Dream",
        )  # fmt: skip
    if len(request.prompt) + len(request.suffix) >= place.context and request.suffix:
        raise InputError(
            f"prompt and suffix have {len(request.prompt)} and {len(request.suffix)} tokens, the context "
            f"{place.context}", where="suffix", remedy="shorten them",
        )  # fmt: skip
    if rules.sight == "canvas" and len(request.prompt) + rules.block > place.context:
        raise InputError(
            f"the prompt has {len(request.prompt)} tokens, a canvas {rules.block}, the context "
            f"{place.context}", where="prompt",
            remedy="shorten the prompt or raise the model's context",
        )  # fmt: skip


def _check(rules: DiffusionRules, denoiser: Denoiser) -> None:
    if rules.sight == "block" and PAGE_SIZE % rules.block:
        raise UnsupportedError(
            f"blocks of {rules.block} positions do not divide pages of {PAGE_SIZE}, so entries in a page "
            "would depend on tokens behind it", where="block size",
            remedy=f"choose a block size that divides {PAGE_SIZE}",
        )  # fmt: skip
    if rules.shifted and (rules.sight == "causal" or rules.block == 1):
        raise UnsupportedError("shifted logits in windows or in blocks of one", where="diffusion rules")
    if rules.sight == "causal" and (denoiser.noise or denoiser.rereads):
        raise UnsupportedError(
            f"denoiser {denoiser.name!r} changes tokens that are filled, and a causal window keeps them",
            where="denoiser", remedy="choose one that fills masks",
        )  # fmt: skip
    if rules.mask_token is None and not denoiser.noise:
        raise UnsupportedError(
            f"denoiser {denoiser.name!r} fills masks, and the model has no mask token", where="denoiser",
            remedy="choose one that renoises",
        )  # fmt: skip
