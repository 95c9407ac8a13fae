"""A model in memory as the server needs it: its engine, and what is known of its talk.

Templates, stop tokens, dialects and limits belong to the model, so that nothing of it is left when another
takes its name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fivefold.chat import ChatTemplate, Dialect, dialect_for, messages_with_tools
from fivefold.core.vocabulary import Vocabulary
from fivefold.engine import AsyncEngine, Engine, LoadedModel, Recipe, load

from .config import ModelConfig
from .errors import ApiError, bad_request

LONG_TEXT = 4000
"""Characters from which on a text is read on another thread, so that streams go on meanwhile."""

_Result = TypeVar("_Result")


@dataclass(slots=True)
class ServedModel:
    """One model: its config, its engine, and its chat template if it has one."""

    config: ModelConfig
    engine: AsyncEngine
    template: ChatTemplate | None
    source: str | None
    dialect: Dialect
    longest_token: int
    created: int
    shown: frozenset[int] = field(default_factory=frozenset)

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's tokens."""
        return self.engine.loaded.vocabulary

    @property
    def context(self) -> int:
        """The most tokens of a request, prompt and answer together."""
        return self.engine.loaded.context

    async def chat_tokens(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        options: Mapping[str, Any],
    ) -> list[int]:
        """The tokens of a conversation by the model's template."""
        template, source = self.template, self.source
        if template is None or source is None:
            raise bad_request("this model has no chat template; use /v1/completions", "messages")
        size = _characters(messages) + _characters(tools) + _characters(options)
        self._check_characters(size, "messages")

        def encode() -> list[int]:
            told = messages_with_tools(source, messages, tools, self.dialect)
            return template.encode(self.vocabulary, told, tools=tools, **options)

        tokens = await _elsewhere(encode, size)
        self.check_length(tokens, "messages")
        return tokens

    async def text_tokens(self, text: str, field_name: str) -> list[int]:
        """The tokens of a text as it stands."""
        self._check_characters(len(text), field_name)
        tokens = await _elsewhere(lambda: self.vocabulary.encode(text), len(text))
        self.check_length(tokens, field_name)
        return tokens

    async def other_tokens(self, text: str, field_name: str) -> list[int]:
        """The tokens of a text that stands behind the answer, or in its place."""
        self._check_characters(len(text), field_name)
        return await _elsewhere(lambda: self.vocabulary.encode(text, add_bos=False), len(text))

    def check_length(self, tokens: Sequence[int], field_name: str) -> None:
        """Refuse a prompt that leaves no room for an answer."""
        if not tokens:
            raise bad_request(f"{field_name} is empty", field_name)
        if len(tokens) >= self.context:
            raise self._too_long(f"{len(tokens)} tokens", field_name)

    def _check_characters(self, size: int, field_name: str) -> None:
        """A text of so many characters cannot fit, whatever its tokens: not worth reading."""
        if size > self.context * self.longest_token:
            raise self._too_long(f"{size} characters", field_name)

    def _too_long(self, what: str, field_name: str) -> ApiError:
        message = f"the prompt has {what}; this model's context is {self.context} tokens, answer included"
        return bad_request(message, field_name, "context_length_exceeded")


def open_served(recipe: Recipe) -> ServedModel:
    """Load a model with an engine of its own."""
    loaded = load(recipe.path, recipe.load)
    options = recipe.engine
    config = ModelConfig(
        str(recipe.path), recipe.name, max_sequences=options.max_sequences, max_queue=options.max_queue
    )
    return serve(config, loaded, AsyncEngine(Engine(loaded, options)), int(time.time()))


def serve(config: ModelConfig, loaded: LoadedModel, engine: AsyncEngine, now: int) -> ServedModel:
    """A loaded model with its engine, as the server keeps it."""
    vocabulary = loaded.vocabulary
    template = ChatTemplate.of(loaded.checkpoint, vocabulary) if loaded.template else None
    dialect = dialect_for(loaded.template)
    marks = (vocabulary.token_id(text) for text in dialect.shown_texts)
    longest = max((len(vocabulary.token_bytes(token)) for token in range(vocabulary.size)), default=1)
    return ServedModel(
        config, engine, template, loaded.template, dialect, longest, now,
        frozenset(token for token in marks if token is not None),
    )  # fmt: skip


def _characters(value: Any) -> int:
    """Characters of all texts in nested lists and mappings; any other value is one at least."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(len, value)) + sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list | tuple) else 1


async def _elsewhere(work: Callable[[], _Result], size: int) -> _Result:
    """Short work here, long work on another thread."""
    return await asyncio.to_thread(work) if size > LONG_TEXT else work()
