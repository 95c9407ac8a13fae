"""Denoisers: one file for each rule by which the positions of a block are filled.

A file that has a `DENOISER` is in the table; nothing else is to be done. Which rows run is not here but in
the decoders beside this folder.
"""

from .choice import chosen_denoiser
from .denoiser import Denoiser
from .table import DENOISERS, denoiser_named

__all__ = ["DENOISERS", "Denoiser", "chosen_denoiser", "denoiser_named"]
