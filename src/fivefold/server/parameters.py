"""A request's fields as sampling parameters, within this server's limits.

Defaults are OpenAI's: temperature 1, top_p 1, 16 tokens for a completion and as many as fit for a chat. A
value out of range is refused with its field's name.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from fivefold.core.errors import InputError
from fivefold.core.request import MOST_BIAS, MOST_BIASES, Caching, Decoding, EvictionChoice, SamplingParams
from fivefold.engine import NONE, caching_named, checked, chosen_denoiser, decoding_named

from .errors import bad_request, not_supported
from .protocol import ChatRequest, CompletionRequest, GenerationFields

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_STOP_CHARACTERS = 256
MOST_LOGPROBS = 20
COMPLETION_TOKENS = 16

ANY_EVICTION = EvictionChoice("window", 1)
"""In place of a model's own, where only what no model can do is to be refused."""

_REFUSED_IN_CHAT = (
    "functions", "function_call", "audio", "web_search_options", "chat_template",
    "suffix", "edited", "rewritten",
)  # fmt: skip
_REFUSED = ("prompt_logprobs", "use_beam_search", "guided_json", "guided_regex", "structured_outputs")


def chat_sampling(fields: ChatRequest) -> SamplingParams:
    """The parameters of a chat request."""
    for name in _REFUSED_IN_CHAT:
        if getattr(fields, name) is not None:
            raise not_supported(name, name)
    if fields.modalities not in (None, ["text"]):
        raise not_supported("any modality but text", "modalities")
    if fields.response_format is not None and fields.response_format.get("type") != "text":
        raise not_supported("a response_format other than text", "response_format")
    if fields.top_logprobs is not None and not fields.logprobs:
        raise bad_request("top_logprobs needs logprobs to be true", "top_logprobs")
    logprobs = (fields.top_logprobs or 0) if fields.logprobs else None
    most = fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens
    field = "max_tokens" if fields.max_completion_tokens is None else "max_completion_tokens"
    return _sampling(fields, most, field, logprobs, "top_logprobs")


def completion_sampling(fields: CompletionRequest) -> SamplingParams:
    """The parameters of a completion request."""
    if fields.echo:
        raise not_supported("echo", "echo")
    if fields.best_of is not None and fields.best_of != choices(fields):
        raise not_supported("best_of other than n", "best_of")
    if fields.edited == "":
        raise bad_request("edited is empty: there is nothing to rewrite", "edited")
    standing = None if fields.edited else COMPLETION_TOKENS
    most = standing if fields.max_tokens is None else fields.max_tokens
    return _sampling(fields, most, "max_tokens", fields.logprobs, "logprobs")


def choices(fields: GenerationFields) -> int:
    """How many answers are wanted."""
    count = 1 if fields.n is None else fields.n
    if not 1 <= count <= MOST_CHOICES:
        raise bad_request(f"n is {count}; give 1 to {MOST_CHOICES}", "n")
    if count > 1 and fields.temperature == 0:
        raise bad_request("n is above 1 with temperature 0: all answers would be the same", "n")
    return count


def for_choice(sampling: SamplingParams, index: int) -> SamplingParams:
    """The parameters of one of several answers: each has a seed of its own."""
    if sampling.seed is None or index == 0:
        return sampling
    return dataclasses.replace(sampling, seed=sampling.seed + index)


def eviction_choice(
    fields: GenerationFields, default: EvictionChoice = ANY_EVICTION
) -> EvictionChoice | None:
    """What a request asks for, None if it says nothing of it.

    What it leaves out is as its model does it with all requests, which is the default; but a prompt of any
    length is evicted from, if it is asked for. Whether the model can is for its engine to say.
    """
    if fields.eviction is None and fields.budget is None and fields.eviction_every is None:
        return None
    policy = default.policy if fields.eviction is None else fields.eviction
    rest = EvictionChoice() if policy == NONE else default
    choice = EvictionChoice(
        policy,
        rest.budget if fields.budget is None else fields.budget,
        rest.every if fields.eviction_every is None else fields.eviction_every,
    )
    try:
        checked(choice)
    except InputError as error:
        raise bad_request(error.line(), error.where) from None
    return choice


def decoding_choice(fields: GenerationFields) -> Decoding | None:
    """What a request asks for, None if it says nothing; whether the model can is for its engine."""
    if fields.decoding is None:
        return None
    try:
        return decoding_named(fields.decoding)
    except InputError as error:
        raise bad_request(error.line(), error.where) from None


def caching_choice(fields: GenerationFields) -> Caching | None:
    """The same of what is kept for the length of a block."""
    if fields.caching is None:
        return None
    try:
        return caching_named(fields.caching)
    except InputError as error:
        raise bad_request(error.line(), error.where) from None


def _sampling(
    fields: GenerationFields, most: int | None, most_field: str, logprobs: int | None, logprobs_field: str
) -> SamplingParams:
    _refuse(fields)
    if most is not None and most < 1:
        raise bad_request(f"{most_field} is {most}; give at least 1", most_field)
    if logprobs is not None and not 0 <= logprobs <= MOST_LOGPROBS:
        raise bad_request(f"{logprobs_field} is {logprobs}; give 0 to {MOST_LOGPROBS}", logprobs_field)
    given: dict[str, Any] = {
        name: getattr(fields, name)
        for name in (
            "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty",
            "repetition_penalty", "min_tokens", "include_stop_str_in_output", "ignore_eos",
        )
        if getattr(fields, name) is not None
    }  # fmt: skip
    if fields.seed is not None and fields.seed != -1:
        given["seed"] = fields.seed
    try:
        return SamplingParams(
            max_tokens=most, logprobs=logprobs, stop=_stops(fields), logit_bias=_biases(fields),
            stop_token_ids=tuple(fields.stop_token_ids or ()), **given,
        )  # fmt: skip
    except InputError as error:
        field = error.what.split(" ", 1)[0]
        raise bad_request(error.line(), field if hasattr(fields, field) else None) from None


def _refuse(fields: GenerationFields) -> None:
    for name in _REFUSED:
        value = getattr(fields, name)
        if value is not None and value is not False:
            raise not_supported(name, name)
    for name in ("stream_options", "diffusing"):
        if getattr(fields, name) and not fields.stream:
            raise bad_request(f"{name} is for streams only: give stream, or leave it out", name)
    if fields.denoiser is not None:
        try:
            chosen_denoiser(fields.denoiser)
        except InputError as error:
            raise bad_request(error.line(), error.where) from None


def _stops(fields: GenerationFields) -> tuple[str, ...]:
    stops = [fields.stop] if isinstance(fields.stop, str) else fields.stop or []
    if len(stops) > MOST_STOPS:
        raise bad_request(f"there are {len(stops)} stop strings; give at most {MOST_STOPS}", "stop")
    for stop in stops:
        if not 0 < len(stop) <= MOST_STOP_CHARACTERS:
            raise bad_request(f"a stop string has {len(stop)} characters; give 1 to {MOST_STOP_CHARACTERS}",
                              "stop")  # fmt: skip
    return tuple(stops)


def _biases(fields: GenerationFields) -> dict[int, float]:
    given = fields.logit_bias or {}
    if len(given) > MOST_BIASES:
        raise bad_request(f"there are {len(given)} biases; give at most {MOST_BIASES}", "logit_bias")
    for token in given:
        if not (token.isascii() and token.isdecimal() and len(token) <= 9):
            raise bad_request(f"{token!r:.50} is not the number of a token", "logit_bias")
    return {int(token): max(-MOST_BIAS, min(MOST_BIAS, bias)) for token, bias in given.items()}
