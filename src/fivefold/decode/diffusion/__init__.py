"""Diffusion decoding: blocks of tokens that are filled in any order, several in one pass.

Four decoders, by how a family's rows see each other, and one folder of denoisers, the rules by which
places are filled. All fulfil `core.decoder.Decoder`: to the engine they are like any other.
"""

from .block import Block
from .block_decoder import BlockDecoder
from .canvas_decoder import CanvasDecoder
from .denoisers import DENOISERS, Denoiser, chosen_denoiser, denoiser_named
from .guesses import Guesser, Guesses
from .making import CACHINGS, Place, caching_named, check_caching, diffusion_decoder
from .whole_decoder import WholeDecoder
from .window_decoder import WindowDecoder

__all__ = [
    "CACHINGS", "DENOISERS", "Block", "BlockDecoder", "CanvasDecoder", "Denoiser", "Guesser", "Guesses",
    "Place", "WholeDecoder", "WindowDecoder", "caching_named", "check_caching", "chosen_denoiser",
    "denoiser_named", "diffusion_decoder",
]  # fmt: skip
