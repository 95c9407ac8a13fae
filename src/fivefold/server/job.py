"""A request that has been understood, and how it is answered: whole, or as server-sent events.

Every choice of it is one request to the engine. A client that goes away, in the middle of a stream or
while it waits for a whole answer, has its requests cancelled, and their pages are free at the next
step. Events are sent by plain ASGI calls, one for each event of the engine, with no task for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from starlette.types import Receive, Send

from fivefold.core.errors import FivefoldError
from fivefold.core.request import Request, Timings, TokenEvent
from fivefold.engine import EventStream

from .answers import Choice, Object
from .body import gone
from .errors import ApiError, of_error
from .metrics import Metrics
from .parameters import for_choice
from .protocol import GenerationFields
from .served import ServedModel

_LOG = logging.getLogger("fivefold.server")
_DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Job:
    """What is to be answered. `choices[i]` belongs to `requests[i]`."""

    identity: str
    kind: str
    created: int
    model: ServedModel
    fields: GenerationFields
    requests: list[Request]
    choices: list[Choice]
    prompt_token_ids: list[list[int]]
    timings: dict[int, Timings] = field(default_factory=dict)

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a chunk of usage."""
        options = self.fields.stream_options
        return options is not None and options.include_usage is not False

    @property
    def prompt_is_told(self) -> bool:
        """Whether a chat's first chunk, or its whole answer, has the prompt's token ids.

        Completions have them in each choice. So does vLLM place them.
        """
        return bool(self.fields.return_token_ids) and self.kind == "chat.completion"

    def head(self, chunk: bool) -> Object:
        """The fields that every answer and every chunk begin with."""
        return {
            "id": self.identity,
            "object": f"{self.kind}.chunk" if chunk and self.kind == "chat.completion" else self.kind,
            "created": self.created,
            "model": self.model.config.name,
            "system_fingerprint": "fivefold",
        }

    def usage(self) -> Object:
        """Tokens of all choices; a prompt, and what is behind the answer or in its place, counts once.

        Where entries were evicted, `kept_tokens` says how many each KV head has kept. Guesses of tokens are
        told as OpenAI tells predictions, where any were made; they are no tokens of the answer.
        """
        beside = len(self.requests[0].suffix) + len(self.requests[0].edited)
        prompt = sum(len(tokens) + beside for tokens in self.prompt_token_ids)
        took = list(self.timings.values())
        output = sum(one.output_tokens for one in took)
        share = max(len(self.requests) // max(len(self.prompt_token_ids), 1), 1)
        first = [self.timings[i] for i in self.timings if i % share == 0]
        details = {"cached_tokens": sum(one.cached_tokens for one in first)}
        if any(one.kept_tokens is not None for one in first):
            whole = [one.prompt_tokens if one.kept_tokens is None else one.kept_tokens for one in first]
            details["kept_tokens"] = sum(whole)
        usage: Object = {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": details,
        }
        guessed, accepted = (
            sum(one.guessed_tokens for one in took),
            sum(one.accepted_tokens for one in took),
        )
        if guessed:
            usage["completion_tokens_details"] = {
                "accepted_prediction_tokens": accepted,
                "rejected_prediction_tokens": guessed - accepted,
            }
        return usage


def requests_of(pattern: Request, prompts: Sequence[Sequence[int]], count: int) -> list[Request]:
    """The engine's requests, `count` answers to each prompt; all else is as the pattern has it."""
    return [
        replace(
            pattern,
            identity=f"{pattern.identity}-{place}-{index}",
            prompt=tuple(prompt),
            sampling=for_choice(pattern.sampling, index),
        )
        for place, prompt in enumerate(prompts)
        for index in range(count)
    ]


async def answer(job: Job, metrics: Metrics, receive: Receive, send: Send) -> None:
    """Run a job and send its answer."""
    streams = await _submit(job)
    leaving = asyncio.ensure_future(_cancel_when_gone(receive, streams))
    try:
        metrics.asked(job.model, job.requests)
        if job.fields.stream:
            await _stream(job, streams, metrics, send)
        else:
            await _whole(job, streams, metrics, leaving, send)
    finally:
        leaving.cancel()
        for stream in streams:
            stream.cancel()
        metrics.forget(job.requests)


async def _submit(job: Job) -> list[EventStream]:
    """Give all requests to the engine, or none."""
    streams: list[EventStream] = []
    try:
        for request in job.requests:
            streams.append(await job.model.engine.submit(request))
    except BaseException:
        for stream in streams:
            stream.cancel()
        raise
    return streams


async def _cancel_when_gone(receive: Receive, streams: Sequence[EventStream]) -> None:
    """Wait until the client goes away, and cancel what it had asked for."""
    await gone(receive)
    for stream in streams:
        stream.cancel()


async def _whole(
    job: Job, streams: list[EventStream], metrics: Metrics, leaving: asyncio.Future[None], send: Send
) -> None:
    """Collect every choice and send them as one JSON object."""
    try:
        async for index, event in _events(streams):
            _note(job, index, event, metrics)
            job.choices[index].push(event)
    except Exception as error:
        if not leaving.done():
            await _send_whole(send, _told(error), None)
        return
    body: Object = {
        **job.head(chunk=False),
        "choices": [choice.whole() for choice in job.choices],
        "usage": job.usage(),
    }
    if job.prompt_is_told:
        body["prompt_token_ids"] = job.prompt_token_ids[0]
    if not leaving.done():
        await _send_whole(send, None, msgspec.json.encode(body))


async def _send_whole(send: Send, error: ApiError | None, body: bytes | None) -> None:
    """A JSON answer, or an error in its place."""
    status, told = (200, body or b"") if error is None else (error.status, error.body())
    headers = {} if error is None else error.headers
    sent = _headers("application/json", {"content-length": str(len(told)), **headers})
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": told})


async def _stream(job: Job, streams: list[EventStream], metrics: Metrics, send: Send) -> None:
    """Send every choice's chunks as they come; an error is an event, and the end is always marked."""
    head = msgspec.json.encode(job.head(chunk=True))[:-1] + b',"choices":['
    extra = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    await send(
        {"type": "http.response.start", "status": 200, "headers": _headers("text/event-stream", extra)}
    )
    begin = [chunk for choice in job.choices for chunk in choice.first()]
    if begin and job.prompt_is_told:
        told = {**job.head(chunk=True), "choices": begin[:1], "prompt_token_ids": job.prompt_token_ids[0]}
        await _send_part(send, b"data: " + msgspec.json.encode(told) + b"\n\n")
        begin = begin[1:]
    await _send_chunks(send, head, begin)
    try:
        async for index, event in _events(streams):
            _note(job, index, event, metrics)
            await _send_chunks(send, head, job.choices[index].push(event))
        if job.with_usage:
            usage = msgspec.json.encode(job.usage())
            await _send_part(send, b"data: " + head + b'],"usage":' + usage + b"}\n\n")
    except Exception as error:
        await _send_part(send, b"data: " + _told(error).body() + b"\n\n")
    await send({"type": "http.response.body", "body": _DONE})


async def _send_chunks(send: Send, head: bytes, chunks: Sequence[Object]) -> None:
    """All chunks of one event in one write."""
    if chunks:
        encode = msgspec.json.encode
        await _send_part(send, b"".join([b"data: " + head + encode(chunk) + b"]}\n\n" for chunk in chunks]))


async def _send_part(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


def _headers(kind: str, extra: dict[str, str]) -> list[tuple[bytes, bytes]]:
    pairs = {"content-type": kind, **extra}
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]


def _note(job: Job, index: int, event: TokenEvent, metrics: Metrics) -> None:
    """Count an event; one that says that the request failed raises its error."""
    metrics.event(job.requests[index].identity, job.model, event)
    if event.timings is not None:
        job.timings[index] = event.timings
    if event.finish_reason == "error" and event.error is not None:
        raise event.error
    if event.finish_reason == "cancelled":
        raise FivefoldError("the request was cancelled", remedy="ask again")


def _told(error: Exception) -> ApiError:
    """An error for the client; what is not the client's to know goes to the log."""
    if not isinstance(error, ApiError | FivefoldError):
        _LOG.exception("a request failed", exc_info=error)
    return of_error(error)


async def _events(streams: list[EventStream]) -> AsyncIterator[tuple[int, Any]]:
    """The events of all streams, with the stream's index, as they come."""
    if len(streams) == 1:
        async for event in streams[0]:
            yield 0, event
        return
    waiting = {asyncio.ensure_future(stream.__anext__()): index for index, stream in enumerate(streams)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                index = waiting.pop(future)
                with contextlib.suppress(StopAsyncIteration):
                    event = future.result()
                    waiting[asyncio.ensure_future(streams[index].__anext__())] = index
                    yield index, event
    finally:
        for future in waiting:
            future.cancel()
