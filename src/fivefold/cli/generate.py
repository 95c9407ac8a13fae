"""Commands that generate: `run` for one answer, `chat` for a conversation."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from fivefold.chat import ChatTemplate
from fivefold.core.errors import FivefoldError, InputError
from fivefold.core.request import MOST_BIAS, MOST_BIASES, Request, SamplingParams, TokenEvent
from fivefold.engine import AUTO, NONE, Engine, EngineOptions, LoadedModel, LoadOptions

from .options import (
    DEFAULT_MODEL,
    Activations,
    AsJson,
    BudgetOption,
    CachingOption,
    Context,
    DecodingOption,
    DenoiserOption,
    Eviction,
    Format,
    Isa,
    KvUnlessSaid,
    Threads,
    decoding_options,
    eviction_choice,
    load_options,
    open_model,
    print_json,
)
from .terminal import app, ended_by_interrupt

Message = dict[str, Any]


@app.command("run")
def run(
    model: Annotated[str, typer.Argument(help="A pulled name, a folder or a .gguf file.")] = DEFAULT_MODEL,
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="What to ask.")] = "",
    system: Annotated[str, typer.Option(help="A system message before it.")] = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the prompt as it is, without a chat template.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1)] = 512,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    logit_bias: Annotated[
        list[str] | None, typer.Option(help="TOKEN=BIAS, from -100 to 100; may be repeated.")
    ] = None,
    seed: int | None = None,
    stop: Annotated[list[str] | None, typer.Option(help="A text to stop at; may be repeated.")] = None,
    ignore_eos: bool = False,
    logprobs: Annotated[int | None, typer.Option(min=0, max=20)] = None,
    isa: Isa = "auto",
    threads: Threads = 0,
    context: Context = 0,
    activations: Activations = "int8",
    kv: KvUnlessSaid = None,
    form: Format = "auto",
    eviction: Eviction = NONE,
    budget: BudgetOption = "",
    decoding: DecodingOption = AUTO,
    denoiser: DenoiserOption = "",
    caching: CachingOption = NONE,
    as_json: AsJson = False,
) -> None:
    """Answer one prompt on stdout."""
    if not prompt:
        raise InputError("no prompt is given", where="--prompt", remedy='give one: -p "Why is the sky blue?"')
    sampling = SamplingParams(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
        repetition_penalty=repetition_penalty, presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty, logit_bias=_biases(logit_bias or []), seed=seed,
        stop=tuple(stop or ()), ignore_eos=ignore_eos, logprobs=logprobs,
    )  # fmt: skip
    engine_options = _engine_options(eviction, budget, decoding_options(decoding, denoiser, caching))
    options = load_options(isa, threads, context, activations, kv, form=form, eviction=eviction)
    options = _loaded_for(engine_options, options)
    with ended_by_interrupt():
        loaded = open_model(model, options)
        _check_biases(sampling.logit_bias, loaded.vocabulary.size)
        messages = [{"role": "system", "content": system}] if system else []
        tokens = _tokens(loaded, [*messages, {"role": "user", "content": prompt}], prompt if raw else None)
        engine = Engine(loaded, engine_options)
        events = []
        for event in engine.stream(Request("run", tuple(tokens), sampling)):
            events.append(event)
            if not as_json:
                typer.echo(event.text, nl=False)
        print_json(_answer(loaded, tokens, events)) if as_json else typer.echo("")


def _engine_options(eviction: str, budget: str, written: EngineOptions) -> EngineOptions:
    """What a command's requests have in common."""
    return replace(written, eviction=eviction_choice(eviction, budget))


def _loaded_for(told: EngineOptions, options: LoadOptions) -> LoadOptions:
    """Load options, so that what the model cannot do is refused before it is loaded."""
    return replace(options, decoding=told.decoding, denoiser=told.denoiser, caching=told.caching)


def _biases(given: list[str]) -> dict[int, float]:
    """TOKEN=BIAS pairs, within the limits that the server has too."""
    if len(given) > MOST_BIASES:
        raise InputError(
            f"{len(given)} biases are given", where="--logit-bias", remedy=f"give at most {MOST_BIASES}"
        )
    found: dict[int, float] = {}
    for pair in given:
        token, _, number = pair.partition("=")
        try:
            bias: float | None = float(number)
        except ValueError:
            bias = None
        if bias is None or not (token.isascii() and token.isdecimal() and len(token) <= 9):
            raise InputError(
                f"{pair!r:.60} is not TOKEN=NUMBER", where="--logit-bias", remedy="for example 42=-1.5"
            )
        if not abs(bias) <= MOST_BIAS:
            raise InputError(
                f"the bias of token {token} is {number:.30}", where="--logit-bias",
                remedy=f"give a number from {-MOST_BIAS:g} to {MOST_BIAS:g}",
            )  # fmt: skip
        found[int(token)] = bias
    return found


def _check_biases(biases: Mapping[int, float], size: int) -> None:
    """InputError for a token that the model has not."""
    strange = next((token for token in biases if token >= size), None)
    if strange is not None:
        raise InputError(
            f"token {strange} is not in the vocabulary", where="--logit-bias",
            remedy=f"give tokens from 0 to {size - 1}",
        )  # fmt: skip


def _tokens(loaded: LoadedModel, messages: list[Message], raw: str | None) -> list[int]:
    """Token ids of a conversation by the model's template, or of a raw text."""
    if raw is not None:
        return loaded.vocabulary.encode(raw)
    if loaded.template is None:
        raise InputError(
            "key tokenizer.chat_template is missing or is no text", where=str(loaded.path),
            remedy="take a model made for chat, or continue a text with fivefold run --raw",
        )  # fmt: skip
    template = ChatTemplate.of(loaded.checkpoint, loaded.vocabulary)
    return template.encode(loaded.vocabulary, messages)


def _answer(loaded: LoadedModel, tokens: list[int], events: list[TokenEvent]) -> dict[str, Any]:
    """An answer's figures; one that was interrupted has none of its times."""
    took = events[-1].timings
    figures: dict[str, Any] = {}
    if took is not None:
        read, seconds = took.prompt_tokens - took.cached_tokens, took.queue_seconds + took.prefill_seconds
        figures = {
            "prompt_tokens": took.prompt_tokens,
            "cached_tokens": took.cached_tokens,
            "kept_tokens": took.kept_tokens,
            "output_tokens": took.output_tokens,
            "steps": took.rounds,
            "guessed_tokens": took.guessed_tokens,
            "accepted_tokens": took.accepted_tokens,
            "prompt_seconds": seconds,
            "output_seconds": took.decode_seconds,
            "prompt_tokens_per_second": _rate(read, seconds),
            "output_tokens_per_second": _rate(took.output_tokens - 1, took.decode_seconds),
        }
    return {
        "model": str(loaded.path),
        "text": "".join(event.text for event in events),
        "tokens": [token for event in events for token in event.tokens],
        "prompt_token_ids": tokens,
        "finish_reason": events[-1].finish_reason,
        "stop_reason": events[-1].stop_reason,
        "logprobs": [asdict(entry) for event in events for entry in event.logprobs],
        **figures,
        "instruction_set": loaded.settings.isa,
        "threads": loaded.settings.threads,
        "cache_format": loaded.settings.cache_format,
    }


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 2) if seconds > 0 else 0.0


@app.command("chat")
def chat(
    model: Annotated[str, typer.Argument(help="A pulled name, a folder or a .gguf file.")] = DEFAULT_MODEL,
    system: Annotated[str, typer.Option(help="A system message at the start.")] = "",
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.2,
    seed: int | None = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 1024,
    isa: Isa = "auto",
    threads: Threads = 0,
    context: Context = 0,
    activations: Activations = "int8",
    kv: KvUnlessSaid = None,
    form: Format = "auto",
    eviction: Eviction = NONE,
    budget: BudgetOption = "",
    decoding: DecodingOption = AUTO,
    denoiser: DenoiserOption = "",
    caching: CachingOption = NONE,
    as_json: AsJson = False,
) -> None:
    """Talk with a model. /reset forgets the conversation, /model NAME changes the model, /exit ends."""
    engine_options = _engine_options(eviction, budget, decoding_options(decoding, denoiser, caching))
    options = load_options(isa, threads, context, activations, kv, form=form, eviction=eviction)
    options = _loaded_for(engine_options, options)
    engine = Engine(open_model(model, options), engine_options)
    sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature, top_p=0.95, seed=seed)
    first: list[Message] = [{"role": "system", "content": system}] if system else []
    history = list(first)
    while (line := _read_line(as_json)) is not None:
        word, _, rest = line.strip().partition(" ")
        if word in ("/exit", "/quit"):
            return
        if word == "/reset":
            history = list(first)
        elif word == "/model":
            try:
                engine = Engine(open_model(rest.strip(), options), engine_options)
                history = list(first)
            except FivefoldError as error:
                typer.echo(f"fivefold: {error.line()}", err=True)
        elif word.startswith("/"):
            typer.echo("commands: /reset, /model NAME, /exit", err=True)
        elif line.strip():
            history = _turn(engine, [*history, {"role": "user", "content": line}], sampling, as_json)


def _read_line(quiet: bool) -> str | None:
    """The next line of the user, None at the end. Nobody is asked where nobody sits."""
    if sys.stdin is None:
        return None
    try:
        return input("" if quiet or not sys.stdin.isatty() else "> ")
    except EOFError:
        return None


def _turn(engine: Engine, history: list[Message], sampling: SamplingParams, as_json: bool) -> list[Message]:
    """One answer, streamed; the history with it. Interrupting ends the answer and keeps what came."""
    text = ""
    events: list[TokenEvent] = []
    try:
        tokens = _tokens(engine.loaded, history, None)
        for event in engine.stream(Request(f"chat-{time.monotonic_ns()}", tuple(tokens), sampling)):
            events.append(event)
            text += event.text
            if not as_json:
                typer.echo(event.text, nl=False)
    except KeyboardInterrupt:
        typer.echo(" (interrupted)", err=True)
    except FivefoldError as error:
        typer.echo(f"fivefold: {error.line()}; /reset begins anew", err=True)
        return history[:-1]
    if as_json and events:
        print_json(_answer(engine.loaded, tokens, events))
    elif not as_json:
        typer.echo("")
    return [*history, {"role": "assistant", "content": text}] if text else history[:-1]
