"""The fields of requests, as types: OpenAI's, and the extras that vLLM made common.

An explicit null is as good as leaving a field out. Fields that are not listed are accepted and
ignored, as OpenAI's clients expect; fields that would change the answer and cannot be honoured are listed, so
that they can be refused. What the numbers may be is checked in `parameters`.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Object = dict[str, Any]
Whole = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
"""Whole numbers of 64 bits: JSON's may have thousands of digits, which nothing here could use."""


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationFields(msgspec.Struct, kw_only=True):
    """What both endpoints take."""

    model: str | None = None
    max_tokens: Whole | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: Whole | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: Whole | None = None
    user: str | None = None
    top_k: Whole | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Whole | None = None
    stop_token_ids: list[Whole] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None
    cache_salt: str | None = None
    prompt_logprobs: Whole | None = None
    use_beam_search: bool | None = None
    guided_json: Any = None
    guided_regex: Any = None
    structured_outputs: Any = None
    eviction: str | None = None
    budget: Whole | float | None = None
    eviction_every: Whole | None = None
    decoding: str | None = None
    denoiser: str | None = None
    caching: str | None = None
    diffusing: bool | None = None


class ChatRequest(GenerationFields, kw_only=True):
    """The body of /v1/chat/completions."""

    messages: list[Object]
    max_completion_tokens: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: Whole | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    parallel_tool_calls: bool | None = None
    response_format: Object | None = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    modalities: list[str] | None = None
    web_search_options: Any = None
    suffix: Any = None
    edited: Any = None
    rewritten: Any = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: Object | None = None


class CompletionRequest(GenerationFields, kw_only=True):
    """The body of /v1/completions."""

    prompt: str | list[str | Whole | list[Whole]]
    logprobs: Whole | None = None
    echo: bool | None = None
    suffix: str | None = None
    edited: str | None = None
    rewritten: float | None = None
    best_of: Whole | None = None
    add_special_tokens: bool | None = None


class InfillSeed(msgspec.Struct):
    """What /v1/fim/completions takes beside the fields of a completion: Mistral's name of the seed."""

    random_seed: Whole | None = None
