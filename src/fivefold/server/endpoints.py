"""The endpoints: from a request's body to a job, and the small ones beside.

They check what a client sent and turn it into tokens; answering is `job`'s matter.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fivefold import __version__
from fivefold.core.request import Request, SamplingParams

from .answers import ChatChoice, Choice, CompletionChoice
from .body import Addressed, decoded, read_raw
from .errors import ApiError, bad_request
from .job import Job, answer, requests_of
from .messages import checked_messages, checked_tools, template_options
from .metrics import Metrics
from .models import Models
from .parameters import (
    caching_choice,
    chat_sampling,
    choices,
    completion_sampling,
    decoding_choice,
    eviction_choice,
)
from .protocol import ChatRequest, CompletionRequest, GenerationFields, InfillSeed
from .served import ServedModel
from .table import Entry, UpstreamEntry

MOST_PROMPTS = 64
MOST_SALT = 256
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


Prepare = Callable[[ServedModel, str], Awaitable[Job]]
"""From a model and a request's name to a job; what can be checked without a model was checked before."""


class Generation:
    """An endpoint that answers with generated text: an ASGI application of its own."""

    def __init__(
        self, models: Models, metrics: Metrics, path: str, check: Callable[[bytes], Prepare]
    ) -> None:
        self._models = models
        self._metrics = metrics
        self._path = path
        self._check = check
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = HttpRequest(scope, receive)
        if request.method != "POST":
            raise ApiError(405, "this path takes POST", headers={"allow": "POST"})
        raw = await read_raw(request)
        entry = self._models.table.find(decoded(raw, Addressed).model)
        if isinstance(entry, UpstreamEntry):
            await entry.relay(entry.upstream, self._path, raw, receive, send)
            return
        prepare = self._check(raw)
        given = request.headers.get("x-request-id", "")
        name = given if _NAME.fullmatch(given) else f"{time.time_ns():x}"
        with await self._models.lease(entry, receive) as model:
            job = await prepare(model, f"{name}-{next(self._numbers):x}")
            await answer(job, self._metrics, receive, send)


def chat_request(raw: bytes) -> Prepare:
    """What a body of /v1/chat/completions asks for."""
    fields = decoded(raw, ChatRequest)
    sampling = chat_sampling(fields)
    eviction_choice(fields)
    decoding_choice(fields)
    caching_choice(fields)
    count = choices(fields)
    messages = checked_messages(fields.messages)
    tools = checked_tools(fields)
    options = template_options(fields)

    async def prepare(model: ServedModel, name: str) -> Job:
        tokens = await model.chat_tokens(messages, tools, options)
        opener = model.dialect.reasoning_open
        ending = model.vocabulary.decode(tokens[-16:], skip_special=False).rstrip("\n") if opener else ""
        opened = bool(opener) and ending.endswith(opener)

        def choice(index: int) -> Choice:
            parser = model.dialect.make(bool(tools), True, opened)
            token_ids, shown = bool(fields.return_token_ids), fields.include_reasoning is not False
            diffusing = bool(fields.diffusing)
            return ChatChoice(index, model.vocabulary, parser, token_ids, shown, diffusing)

        pattern = _pattern(f"chatcmpl-{name}", model, fields, sampling)
        return _job(pattern, "chat.completion", model, fields, [tokens], count, choice)

    return prepare


def completion_request(raw: bytes, seed: int | None = None) -> Prepare:
    """What a body of /v1/completions asks for; `seed` is for one that has none."""
    fields = decoded(raw, CompletionRequest)
    fields.seed = seed if fields.seed is None else fields.seed
    sampling = completion_sampling(fields)
    eviction_choice(fields)
    decoding_choice(fields)
    caching_choice(fields)
    count = choices(fields)
    given = _prompts(fields)

    async def prepare(model: ServedModel, name: str) -> Job:
        prompts = [await _prompt_tokens(model, prompt) for prompt in given]
        suffix = await model.other_tokens(fields.suffix, "suffix") if fields.suffix else ()
        edited = await model.other_tokens(fields.edited, "edited") if fields.edited else ()

        def choice(index: int) -> Choice:
            prompt = prompts[index // count] if fields.return_token_ids else None
            with_logprobs = sampling.logprobs is not None
            return CompletionChoice(index, model.vocabulary, with_logprobs, prompt, bool(fields.diffusing))

        pattern = dataclasses.replace(
            _pattern(f"cmpl-{name}", model, fields, sampling), suffix=tuple(suffix), edited=tuple(edited),
            rewritten=fields.rewritten or 0.0,
        )  # fmt: skip
        return _job(pattern, "text_completion", model, fields, prompts, count, choice)

    return prepare


def infill_request(raw: bytes) -> Prepare:
    """What a body of /v1/fim/completions asks for: a completion, by Mistral's and Inception's names."""
    seed = decoded(raw, InfillSeed).random_seed
    return completion_request(raw, seed)


def _pattern(
    identity: str, model: ServedModel, fields: GenerationFields, sampling: SamplingParams
) -> Request:
    """What all requests of a job have in common."""
    salt = fields.cache_salt or ""
    if len(salt) > MOST_SALT:
        raise bad_request(f"cache_salt has {len(salt)} characters; give at most {MOST_SALT}", "cache_salt")
    return Request(
        identity, (), sampling, salt, model.shown, eviction_choice(fields, model.engine.eviction),
        decoding_choice(fields), fields.denoiser, bool(fields.diffusing), caching=caching_choice(fields),
    )  # fmt: skip


def _job(
    pattern: Request,
    kind: str,
    model: ServedModel,
    fields: GenerationFields,
    prompts: list[list[int]],
    count: int,
    choice: Callable[[int], Choice],
) -> Job:
    most = model.config.max_sequences + model.config.max_queue
    if len(prompts) * count > most:
        raise bad_request(f"{len(prompts)} prompts with n {count} are more than {most} answers at once", "n")
    requests = requests_of(pattern, prompts, count)
    made = [choice(index) for index in range(len(requests))]
    return Job(pattern.identity, kind, int(time.time()), model, fields, requests, made, prompts)


def _prompts(fields: CompletionRequest) -> list[str | list[int]]:
    """The prompts of a completion request: a text, token ids, or a list of either."""
    given = fields.prompt
    if isinstance(given, str):
        return [given]
    if not given:
        raise bad_request("prompt is empty", "prompt")
    tokens = [item for item in given if isinstance(item, int)]
    if len(tokens) == len(given):
        return [tokens]
    if tokens:
        raise bad_request("prompt mixes tokens with texts or lists", "prompt")
    if len(given) > MOST_PROMPTS:
        raise bad_request(f"there are {len(given)} prompts; give at most {MOST_PROMPTS}", "prompt")
    return [item for item in given if not isinstance(item, int)]


async def _prompt_tokens(model: ServedModel, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, str):
        return await model.text_tokens(prompt, "prompt")
    size = model.engine.loaded.model.shape.vocabulary
    strange = next((token for token in prompt if not 0 <= token < size), None)
    if strange is not None:
        raise bad_request(f"token {strange} is not in the vocabulary; give 0 to {size - 1}", "prompt")
    model.check_length(prompt, "prompt")
    return prompt


class Small:
    """The endpoints that generate nothing."""

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self._models = models
        self._metrics = metrics

    async def health(self, _: HttpRequest) -> Response:
        """200 only while the default model can answer. Nothing is loaded for that."""
        entry = self._models.table.default
        if not self._models.answers(entry):
            message = f"the default model cannot answer: it is {self._models.state(entry)}"
            raise ApiError(503, message, code="unhealthy")
        return _json({"status": "ok"})

    async def models(self, _: HttpRequest) -> Response:
        """All models."""
        return _json({"object": "list", "data": [self._told(one) for one in self._models.table.entries]})

    async def model(self, request: HttpRequest) -> Response:
        """One model by name or alias."""
        return _json(self._told(self._models.table.find(request.path_params["name"])))

    def _told(self, entry: Entry) -> dict[str, Any]:
        """What is known of a model; of one that is elsewhere less."""
        told = {
            "id": entry.config.name,
            "object": "model",
            "created": entry.created,
            "owned_by": "fivefold",
            "aliases": list(entry.config.aliases),
            "state": self._models.state(entry),
        }
        if isinstance(entry, UpstreamEntry):
            return {**told, "root": entry.upstream.model, "owned_by": "upstream"}
        return {**told, "root": entry.config.source, "max_model_len": entry.context}

    async def metrics(self, _: HttpRequest) -> Response:
        """Figures in Prometheus' text form."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def version(self, _: HttpRequest) -> Response:
        """The version of this server."""
        return _json({"version": __version__})


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
