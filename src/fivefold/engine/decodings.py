"""How the tokens of requests are written: what the engine was told, and what a request asks for itself.

"auto" checks guesses where the logits of a row have the same bits for any number of rows in the step, so
that the tokens are those of plain decoding: with native Programs and the reference. Torch promises no
such thing, so there it is plain; guesses can be asked for. A model that has rules of diffusion is decoded by
them under "auto", and others never.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from fivefold.core.decoder import Decoder
from fivefold.core.errors import InputError
from fivefold.core.request import Decoding, Request
from fivefold.decode import AutoregressiveDecoder, SpeculativeDecoder

from .described import TRANSFORMERS, require_decoding
from .diffusing import decoder_for
from .loader import LoadedModel

AUTO: Decoding = "auto"

DECODINGS: tuple[Decoding, ...] = get_args(Decoding)
"""All names."""

_DECODERS: dict[str, Callable[..., Decoder]] = {
    "autoregressive": AutoregressiveDecoder.for_request,
    "speculative": SpeculativeDecoder.for_request,
}


def decoding_named(name: str) -> Decoding:
    """The decoding of that name; InputError if there is none."""
    for known in DECODINGS:
        if name == known:
            return known
    raise InputError(
        f"there is no decoding {name!r:.60}", where="decoding", remedy=f"choose of {', '.join(DECODINGS)}"
    )


class Decodings:
    """Decoders of one engine's requests. UnsupportedError if its default cannot be served."""

    def __init__(self, loaded: LoadedModel, default: Decoding) -> None:
        self._loaded = loaded
        self._default = self._chosen(default)

    def decoder(self, sequence: int, request: Request, room: int) -> Decoder:
        """The decoder of a request, with room for so many tokens.

        InputError for a prompt that cannot be used, UnsupportedError for a decoding that the model has not.
        """
        name = self._default if request.decoding is None else self._chosen(request.decoding)
        if name == "diffusion":
            return decoder_for(self._loaded, sequence, request)
        vocabulary = self._loaded.vocabulary
        return _DECODERS[name](sequence, request, vocabulary.size, vocabulary.end_tokens, room)

    def _chosen(self, name: Decoding) -> Decoding:
        """What a name means for this model."""
        chosen = decoding_named(name)
        if chosen == AUTO:
            if self._loaded.model.diffusion is not None:
                return "diffusion"
            return "autoregressive" if self._loaded.backend == TRANSFORMERS else "speculative"
        require_decoding(chosen, self._loaded.model, self._loaded.path)
        return chosen
