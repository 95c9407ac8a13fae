"""The decoder of a request for a diffusion model that is loaded.

Which models these are is said by their rules; the engine asks here once for each request, and then drives the
decoder as any other.
"""

from __future__ import annotations

from dataclasses import replace

from fivefold.core.decoder import Decoder
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.request import Request
from fivefold.decode.diffusion import Denoiser, Place, diffusion_decoder

from .loader import LoadedModel


def kept_apart(loaded: LoadedModel, request: Request) -> Request:
    """The request under a salt of its own where it is decoded by blocks: entries of its rows, which see their
    whole block, are not those that the same text has when it is read token by token."""
    rules = loaded.model.diffusion
    if rules is None or rules.sight != "block":
        return request
    return replace(request, salt=f"{request.salt}\0diffusion")


def decoder_for(
    loaded: LoadedModel, sequence: int, request: Request, denoiser: Denoiser | None = None
) -> Decoder:  # fmt: skip
    """A decoder by diffusion; the model's own denoiser unless another is given.

    UnsupportedError if the model is not one that is decoded so, InputError if the request cannot be.
    """
    rules = loaded.model.diffusion
    if rules is None:
        raise UnsupportedError(
            "this model writes token by token", where=loaded.path.name,
            remedy="leave the choice of decoding out, or take a diffusion model",
        )  # fmt: skip
    if request.eviction is not None and request.eviction.policy != "none":
        raise InputError(
            "entries of a diffusion model are not evicted: blocks look at all of them again",
            where="eviction", remedy='leave it out, or give "none"',
        )  # fmt: skip
    context = min(loaded.context, loaded.runner.figures().longest)
    vocabulary = loaded.vocabulary
    place = Place(vocabulary.size, vocabulary.end_tokens, context, loaded.runner.max_rows)
    return diffusion_decoder(sequence, request, rules, place, denoiser)
