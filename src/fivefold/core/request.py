"""What a user asks for and what comes back: sampling parameters, requests, token events.

Field names and ranges follow the OpenAI API and vLLM's extras, so that the server can pass them
through. Nothing here chooses a token; `decode` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from .errors import FivefoldError, InputError

MOST_BIAS = 100.0
"""A `logit_bias` lies between this and its negative, where people give it."""
MOST_BIASES = 1024

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen, and when to stop.

    temperature 0 is greedy. `top_k` 0 or -1, `top_p` 1, `min_p` 0 and penalties at 0 (repetition
    at 1) switch a filter off. `seed` None draws a fresh one. `logprobs` is the number of
    alternatives reported beside the chosen token; None reports nothing.
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise InputError(f"{name} is {value}", remedy=f"give a value from {low:g} to {high:g}")
        if self.top_p == 0.0:
            raise InputError("top_p is 0", remedy="give a value above 0; 1 switches it off")
        if self.repetition_penalty == 0.0:
            raise InputError("repetition_penalty is 0", remedy="give a value above 0; 1 switches it off")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}", remedy="give at least 1")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InputError("min_tokens is above max_tokens", remedy="lower min_tokens")
        if any(not text for text in self.stop):
            raise InputError("a stop string is empty", remedy="leave it out")
        if any(not math.isfinite(bias) for bias in self.logit_bias.values()):
            raise InputError("a logit_bias is not finite", remedy="give values from -100 to 100")


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("temperature", 0.0, 100.0),
    ("top_k", -1, 1 << 31),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.0, 100.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("min_tokens", 0, 1 << 31),
)


@dataclass(frozen=True, slots=True)
class EvictionChoice:
    """Which entries of a prompt stay in the cache: a policy by name ("none": all), and how many.

    budget  entries that each layer and KV head keeps: a whole number, or a share of the prompt below 1.
    every   tokens of the answer after which it is done again; 0: once, behind the prompt.
    least   tokens of a prompt that is evicted from at all; shorter ones keep everything.
    """

    policy: str = "none"
    budget: int | float = 0
    every: int = 0
    least: int = 0


Decoding = Literal["auto", "autoregressive", "speculative", "diffusion"]
"""How tokens are written: "speculative" checks guessed ones, several a step; "auto" does that where the
same tokens come of it."""


Caching = Literal["none", "prefix", "dual"]
"""What a diffusion model with full sight keeps for the length of a block: nothing (exact), what is before the
block, or what is on both sides of it."""


Name = TypeVar("Name", bound=str)


def chosen_name(name: str, known: Sequence[Name], what: str) -> Name:
    """The one of these names that is meant; InputError, in words for people, if it is none of them."""
    for one in known:
        if name == one:
            return one
    raise InputError(f"there is no {what} {name!r:.60}", where=what, remedy=f"choose of {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class Request:
    """One generation: the prompt as token ids, and how to go on from it.

    identity  no two requests that are under way may have the same.
    salt      requests with different salts share no cached prefix, so none can measure another's.
    eviction  None: as the engine does with all requests; and so are decoding, denoiser and caching.
    denoiser  by which rule a diffusion model fills places, as "confidence_threshold:threshold=0.8".
    drafts    whether the block in flight of a diffusion model is told of after each step.
    suffix    tokens that stand behind the answer, for models whose rows see both sides of it.
    edited    tokens that stand now where the answer is to be: a diffusion model begins with them, not with
              masks. There is room for all of them.
    rewritten the share of them that is opened at the beginning; 0: the denoiser changes filled places.
    shown     special tokens whose text belongs to the answer (marks of a tool dialect); the text of
              other special tokens is left out.
    """

    identity: str
    prompt: tuple[int, ...]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    salt: str = ""
    shown: frozenset[int] = frozenset()
    eviction: EvictionChoice | None = None
    decoding: Decoding | None = None
    denoiser: str | None = None
    drafts: bool = False
    suffix: tuple[int, ...] = ()
    caching: Caching | None = None
    edited: tuple[int, ...] = ()
    rewritten: float = 0.0


@dataclass(frozen=True, slots=True)
class Timings:
    """What a finished request took.

    queue_seconds    from its arrival to its first step; prefill_seconds from there to its first
                     token; decode_seconds from there to its last.
    cached_tokens    tokens of the prompt that were found in the cache when it was first admitted.
    preemptions      how often it lost its pages and began anew.
    kept_tokens      entries that each KV head has kept after the last eviction; None if nothing was evicted.
    rounds           steps that brought tokens.
    guessed_tokens   guesses that were run, and accepted_tokens of these were right.
    """

    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int = 0
    kept_tokens: int | None = None
    rounds: int = 0
    guessed_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural logarithms of probability: the chosen token and the most likely ones, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """The block in flight of a diffusion model as it stands, in place of the last such draft. Nothing of it
    is final, counted or held against stop strings.

    position  tokens of the answer before it, all final.
    tokens    None where a place is open.
    text      what would follow all text so far; a character of its own stands for an open place.
    """

    position: int
    tokens: tuple[int | None, ...]
    text: str


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """What one step brought to one request.

    `tokens` are final. `text` is what may be shown now: it may lag behind the tokens while a
    character is incomplete or a stop string may still come. The last event of a request carries
    the finish reason, the stop string or token that ended it, its timings, and its error if the
    reason is "error". A `draft` is of what may follow these tokens, for requests that want to be told.
    """

    identity: str
    tokens: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    timings: Timings | None = None
    error: FivefoldError | None = None
    draft: Draft | None = None
