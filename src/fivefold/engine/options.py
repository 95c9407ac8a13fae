"""What loading a model is told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fivefold.core.checkpoint import Conversion
from fivefold.core.layout import STEP_ROWS
from fivefold.core.request import Caching, Decoding


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load: 0 threads is what the machine allows; context None is the model's own, up to 8192.

    `entries` is the number of positions that the cache holds, of all requests together, fewer where layers
    have a window; None is one context and one step, which is all that a single request can use. With `memory`
    (bytes, for weights and cache together) it is what is left after the weights, at least that much and at
    most 64 contexts. `sequences` is how many of them a model with recurrent states keeps at a time; others
    keep any number.
    `cache_format` is how entries are stored: f16, bf16, int8, fp8; None is f16, and float32 with `reference`.
    `conversion` says what tensors are loaded as; None is as they are stored.
    `eviction` is the policy that requests are to be served with: one that keeps different numbers of entries
    in each layer and head needs page tables for each. Others can be asked for too, if they need none.
    `decoding` is how tokens are to be written, and `denoiser` by which rule, refused where the model cannot;
    `caching` too, what is kept for the length of a block.
    `drafter` loads the model's side drafter and its table of n-grams, if there are such. A model that is
    loaded with an eviction has no drafter: its entries are not evicted, and would fill the room that eviction
    makes.
    """

    isa: str = "auto"
    threads: int = 0
    activations: Literal["int8", "float"] = "int8"
    context: int | None = None
    entries: int | None = None
    memory: int | None = None
    max_rows: int = STEP_ROWS
    reference: bool = False
    cache_format: str | None = None
    conversion: Conversion | None = None
    sequences: int = 16
    eviction: str = "none"
    decoding: Decoding = "auto"
    denoiser: str = ""
    caching: Caching = "none"
    drafter: bool = True
