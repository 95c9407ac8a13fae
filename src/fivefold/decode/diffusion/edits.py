"""Edits of a span: the canvas begins with the text that stands there now, not with masks.

A denoiser that rereads what is filled (token-to-token editing, LLaDA2.1) puts right what it is sure is
another; one of noise renoises what it is not sure of, as DiffusionGemma does with a canvas that it is given.
For those that fill masks only, a share of the span is opened: the places whose tokens the model holds least
likely, by one pass that sees all of the text as it stands. (LLaDA's remasking of low confidence, arXiv
2502.09992, begun at a text instead of at nothing.) Which requests can be served so is said here too.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fivefold.core.diffusion import DiffusionRules
from fivefold.core.errors import InputError, UnsupportedError
from fivefold.core.request import Caching, Request

from .block import Block
from .denoisers import Denoiser
from .denoisers.denoiser import surest
from .guesses import Guesses


def opened(block: Block, guesses: Guesses, share: float, mask_token: int) -> Block:
    """A block with its least likely tokens open, that share of them and at least one; `guesses` are for all
    places that are not given."""
    standing = np.flatnonzero(~block.masked[guesses.places])
    likely = guesses.raw.of(block.tokens[guesses.places])[standing]
    chosen = guesses.places[standing[surest(-likely, math.ceil(share * len(standing)))]]
    tokens, masked = block.tokens.copy(), block.masked.copy()
    tokens[chosen], masked[chosen] = mask_token, True
    return replace(block, tokens=tokens, masked=masked, masks=int(masked.sum()), unread=False)


def check_edit(request: Request, rules: DiffusionRules, denoiser: Denoiser, caching: Caching) -> None:
    """InputError or UnsupportedError for an edit that this model, denoiser or caching cannot do."""
    share, standing = request.rewritten, len(request.edited)
    if not 0 <= share <= 1:
        raise InputError(f"rewritten is {share}", where="rewritten", remedy="give a share from 0 to 1")
    if not standing:
        if share:
            raise InputError(
                "there is no text to rewrite", where="rewritten", remedy="give it as edited, or leave it out"
            )
        return
    if rules.sight == "causal" or (rules.sight == "block" and rules.shifted):
        raise UnsupportedError(
            "this diffusion model does not see the text that it would rewrite", where="edited",
            remedy="leave it out, or ask a model whose rows see all of the text or all of their block",
        )  # fmt: skip
    if caching != "none":
        raise UnsupportedError(
            "edits run whole passes only", where="caching", remedy="leave it out, or give none"
        )
    if not (share or denoiser.rereads or denoiser.noise):
        raise InputError(
            f"denoiser {denoiser.name!r} leaves tokens as they stand", where="rewritten",
            remedy="give the share that is to be rewritten, or the denoiser editing",
        )  # fmt: skip
    if share and denoiser.noise:
        raise UnsupportedError(
            f"denoiser {denoiser.name!r} chooses by itself what it rewrites", where="rewritten",
            remedy="leave it out",
        )  # fmt: skip
    most = request.sampling.max_tokens
    if most is not None and most < standing:
        raise InputError(
            f"the text to rewrite has {standing} tokens, and the answer may have {most}", where="max_tokens",
            remedy="leave it out, or give at least as many",
        )  # fmt: skip
