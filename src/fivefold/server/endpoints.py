"""The endpoints: from a request's body to a job, and the small ones beside.

They check what a client sent and turn it into tokens; answering is `job`'s matter.
"""

from __future__ import annotations

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
from fivefold.core.request import SamplingParams

from .answers import ChatChoice, Choice, CompletionChoice
from .body import read_body
from .errors import ApiError, bad_request
from .job import Job, answer, requests_of
from .messages import checked_messages, checked_tools, template_options
from .metrics import Metrics
from .parameters import chat_sampling, choices, completion_sampling
from .protocol import ChatRequest, CompletionRequest, GenerationFields
from .served import Models, ServedModel

MOST_PROMPTS = 64
MOST_SALT = 256
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Generation:
    """An endpoint that answers with generated text: an ASGI application of its own."""

    def __init__(self, models: Models, metrics: Metrics, prepare: Callable[..., Awaitable[Job]]) -> None:
        self._models = models
        self._metrics = metrics
        self._prepare = prepare
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = HttpRequest(scope, receive)
        if request.method != "POST":
            raise ApiError(405, "this path takes POST", headers={"allow": "POST"})
        given = request.headers.get("x-request-id", "")
        name = given if _NAME.fullmatch(given) else f"{time.time_ns():x}"
        job = await self._prepare(request, self._models, f"{name}-{next(self._numbers):x}")
        await answer(job, self._metrics, receive, send)


async def chat_job(request: HttpRequest, models: Models, name: str) -> Job:
    """The job of a body of /v1/chat/completions."""
    fields = await read_body(request, ChatRequest)
    model = models.find(fields.model)
    sampling = chat_sampling(fields)
    count = choices(fields)
    messages = checked_messages(fields.messages)
    tools = checked_tools(fields)
    options = template_options(fields)
    tokens = await model.chat_tokens(messages, tools, options)
    opener = model.dialect.reasoning_open
    ending = model.vocabulary.decode(tokens[-16:], skip_special=False).rstrip("\n") if opener else ""
    opened = bool(opener) and ending.endswith(opener)

    def choice(index: int) -> Choice:
        parser = model.dialect.make(bool(tools), True, opened)
        token_ids, shown = bool(fields.return_token_ids), fields.include_reasoning is not False
        return ChatChoice(index, model.vocabulary, parser, token_ids, shown)

    return _job(f"chatcmpl-{name}", "chat.completion", model, fields, [tokens], sampling, count, choice)


async def completion_job(request: HttpRequest, models: Models, name: str) -> Job:
    """The job of a body of /v1/completions."""
    fields = await read_body(request, CompletionRequest)
    model = models.find(fields.model)
    sampling = completion_sampling(fields)
    count = choices(fields)
    prompts = [await _prompt_tokens(model, prompt) for prompt in _prompts(fields)]

    def choice(index: int) -> Choice:
        prompt = prompts[index // count] if fields.return_token_ids else None
        return CompletionChoice(index, model.vocabulary, sampling.logprobs is not None, prompt)

    return _job(f"cmpl-{name}", "text_completion", model, fields, prompts, sampling, count, choice)


def _job(
    identity: str,
    kind: str,
    model: ServedModel,
    fields: GenerationFields,
    prompts: list[list[int]],
    sampling: SamplingParams,
    count: int,
    choice: Callable[[int], Choice],
) -> Job:
    salt = fields.cache_salt or ""
    if len(salt) > MOST_SALT:
        raise bad_request(f"cache_salt has {len(salt)} characters; give at most {MOST_SALT}", "cache_salt")
    most = model.config.max_sequences + model.config.max_queue
    if len(prompts) * count > most:
        raise bad_request(f"{len(prompts)} prompts with n {count} are more than {most} answers at once", "n")
    requests = requests_of(identity, model, prompts, sampling, count, salt)
    made = [choice(index) for index in range(len(requests))]
    return Job(identity, kind, int(time.time()), model, fields, requests, made, prompts)


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
        """200 only while the default model can answer."""
        if not self._models.default.engine.healthy:
            raise ApiError(503, "the default model cannot answer", code="unhealthy")
        return _json({"status": "ok"})

    async def models(self, _: HttpRequest) -> Response:
        """All models."""
        return _json({"object": "list", "data": [_described(model) for model in self._models.served]})

    async def model(self, request: HttpRequest) -> Response:
        """One model by name or alias."""
        return _json(_described(self._models.find(request.path_params["name"])))

    async def metrics(self, _: HttpRequest) -> Response:
        """Figures in Prometheus' text form."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def version(self, _: HttpRequest) -> Response:
        """The version of this server."""
        return _json({"version": __version__})


def _described(model: ServedModel) -> dict[str, Any]:
    return {
        "id": model.config.name,
        "object": "model",
        "created": model.created,
        "owned_by": "fivefold",
        "root": model.config.source,
        "aliases": list(model.config.aliases),
        "max_model_len": model.context,
    }


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
