"""What a load generator is told, once, and the requests that follow from it.

All that is random comes from the seed: the same plan asks the same on every server. Prompts are random short
words, each about one token of most vocabularies; what a server counted is reported beside it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

Endpoint = Literal["chat", "completions"]

_TEXT = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an "
    "they which one you were all her she there would their we him been has when who will no more if out "
    "so up said what its about than into them can only other time new some could these two may first then "
    "do any like my now over such our man me even most made after also did many off before must well back "
    "through years much where your way down should because long each just state those people too little "
    "world good make very year still see own work men day get here old life both between being under "
    "three never know same last another while us might great go come since against right came take used "
    "himself few house use place during high without again home around small however found part school "
    "every once general left war number set course water light hand side night point far city called body "
    "face young study family name among women until power business given group later head real best line "
    "country give social order book church kind want money case turn matter word street story "
)
WORDS = tuple(_TEXT.split())

LONG_ANSWER = 8
"""Tokens that are asked for after the long prompt."""

PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """One prompt of `words` words that arrives while `clients` stream, after they did so for `seconds`."""

    words: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A load on one server. `base` is its address without `/v1`.

    requests  how many in all; 0 when `seconds` bounds the time in which new ones begin.
    clients   closed loop: so many ask one request after the other. With `rate` above 0 requests arrive so
              many a second instead, at random times (Poisson), however many are under way (open loop).
    words     of each prompt, of which the first `shared` are the same in all.
    timeout   seconds after which a request counts as failed.
    """

    base: str
    model: str
    endpoint: Endpoint
    clients: int
    requests: int
    words: int
    tokens: int
    seconds: float = 0.0
    rate: float = 0.0
    shared: int = 0
    seed: int = 0
    timeout: float = 600.0
    key: str = ""
    long: LongPrompt | None = None

    def to_json(self) -> str:
        """The plan as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan of such a line."""
        fields: dict[str, Any] = json.loads(text)
        long = fields.pop("long")
        return cls(**fields, long=None if long is None else LongPrompt(**long))

    def prompt(self, number: int) -> str:
        """The prompt of the request of that number; no two begin alike after the shared words."""
        shared = _words(f"{self.seed} shared", self.shared)
        own = _words(f"{self.seed} {number}", max(self.words - self.shared, 1))
        return " ".join((*shared, *own))

    def long_prompt(self) -> str:
        """The prompt that arrives while others stream."""
        assert self.long is not None
        return " ".join(_words(f"{self.seed} long", self.long.words))

    def body(self, prompt: str, tokens: int) -> bytes:
        """The JSON of one request: streamed, greedy, all of its tokens whatever they are."""
        asked: dict[str, Any] = {
            "model": self.model, "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
            "stream": True, "stream_options": {"include_usage": True},
        }  # fmt: skip
        if self.endpoint == "chat":
            asked["messages"] = [{"role": "user", "content": prompt}]
        else:
            asked["prompt"] = prompt
        return json.dumps(asked).encode()

    def arrivals(self) -> Iterator[float]:
        """Open loop: seconds from the start at which requests arrive."""
        generator = random.Random(f"{self.seed} arrivals")
        at, number = 0.0, 0
        while True:
            at += generator.expovariate(self.rate)
            if (self.seconds and at >= self.seconds) or (self.requests and number >= self.requests):
                return
            yield at
            number += 1


def _words(seed: str, count: int) -> list[str]:
    return random.Random(seed).choices(WORDS, k=count)
