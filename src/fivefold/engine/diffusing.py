"""The decoder of a request for a diffusion model that is loaded.

Which models these are is said by their rules; the engine asks here once for each request, and then drives the
decoder as any other.
"""

from __future__ import annotations

from fivefold.core.decoder import Decoder
from fivefold.core.request import Caching, Request
from fivefold.decode.diffusion import Denoiser, Place, diffusion_decoder

from .described import require_decoding
from .loader import LoadedModel


def decoder_for(
    loaded: LoadedModel, sequence: int, request: Request, denoiser: Denoiser | None = None,
    caching: Caching = "none",
) -> Decoder:  # fmt: skip
    """A decoder by diffusion; the model's own denoiser unless another is given, and the exact passes.

    UnsupportedError if the model is not one that is decoded so, InputError if the request cannot be served.
    """
    rules = loaded.model.diffusion
    require_decoding("diffusion", loaded.model, loaded.path)
    assert rules is not None
    context = min(loaded.context, loaded.runner.figures().longest)
    vocabulary = loaded.vocabulary
    place = Place(vocabulary.size, vocabulary.end_tokens, context, loaded.runner.max_rows)
    return diffusion_decoder(sequence, request, rules, place, denoiser, caching)
