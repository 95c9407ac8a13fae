"""How the tokens of requests are written: what the engine was told, and what a request asks for itself.

"auto" checks guesses where the logits of a row have the same bits for any number of rows in the step, so
that the tokens are those of plain decoding: with native Programs and the reference. Torch promises no
such thing, so there it is plain; guesses can be asked for. A model that has rules of diffusion is decoded by
them under "auto", and others never.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, get_args

from fivefold.core.decoder import Decoder
from fivefold.core.errors import UnsupportedError
from fivefold.core.request import Caching, Decoding, Request, chosen_name
from fivefold.decode import AutoregressiveDecoder, Hope, SpeculativeDecoder
from fivefold.decode.diffusion import chosen_denoiser
from fivefold.decode.guesses import require_sources, sources_of

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
    return chosen_name(name, DECODINGS, "decoding")


class Decodings:
    """Decoders of one engine's requests. UnsupportedError if its default cannot be served."""

    def __init__(
        self, loaded: LoadedModel, default: Decoding, denoiser: str = "", caching: Caching = "none",
        guesses: Set[str] | None = None,
    ) -> None:  # fmt: skip
        """`denoiser` and `caching` are those of requests which name none; empty: the family's. `guesses` are
        the sources of guesses that are asked, None for all; InputError for one that is not known."""
        if guesses is not None:
            require_sources(guesses)
        self._guesses = guesses
        self._hopes: dict[str, Hope] = {}
        self._loaded = loaded
        self._default = self._chosen(default)
        require_decoding(self._default, loaded.model, loaded.path, denoiser, caching)
        self._denoiser, self._caching = denoiser, caching

    def decoder(self, sequence: int, request: Request, room: int) -> Decoder:
        """The decoder of a request, with room for so many tokens.

        InputError for a prompt that cannot be used, UnsupportedError for what only diffusion does, or this
        model's does not.
        """
        name = self._default if request.decoding is None else self._chosen(request.decoding)
        model = self._loaded.model
        require_decoding(name, model, self._loaded.path, request.denoiser or "", request.caching or "none")
        if name == "diffusion":
            line = self._denoiser if request.denoiser is None else request.denoiser
            denoiser = chosen_denoiser(line, model.diffusion) if line else None
            default = "none" if request.edited else self._caching
            caching = default if request.caching is None else request.caching
            return decoder_for(self._loaded, sequence, request, denoiser, caching)
        self._refuse_blocks(request)
        vocabulary = self._loaded.vocabulary
        more: dict[str, Any] = {}
        if name == "speculative":
            more = {
                "sources": sources_of(self._loaded.ngrams, self._guesses), "hopes": self._hopes
            }  # fmt: skip
        return _DECODERS[name](sequence, request, vocabulary.size, vocabulary.end_tokens, room, **more)

    def _refuse_blocks(self, request: Request) -> None:
        """Refuse what only a request has that is written by diffusion."""
        if request.drafts:
            raise UnsupportedError(
                f"{self._loaded.path.name} writes no blocks here, so there are no drafts of them",
                where="diffusing", remedy="leave it out, or ask a diffusion model",
            )  # fmt: skip
        if request.edited or request.rewritten:
            raise UnsupportedError(
                f"{self._loaded.path.name} writes no blocks here, so it cannot rewrite a text in its place",
                where="edited" if request.edited else "rewritten",
                remedy="leave it out, or ask a diffusion model",
            )  # fmt: skip
        if request.suffix:
            raise UnsupportedError(
                f"{self._loaded.path.name} does not see text behind the answer", where="suffix",
                remedy="leave it out, or ask a diffusion model whose rows see all of the text",
            )  # fmt: skip

    def _chosen(self, name: Decoding) -> Decoding:
        """What a name means for this model."""
        chosen = decoding_named(name)
        if chosen == AUTO:
            if self._loaded.model.diffusion is not None:
                return "diffusion"
            return "autoregressive" if self._loaded.backend == TRANSFORMERS else "speculative"
        return chosen
