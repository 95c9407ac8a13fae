"""Where chat templates run: Jinja2's immutable sandbox, set up as Transformers does, with bounds.

A template comes with a model file, so from a stranger. The sandbox keeps it from touching anything;
the bounds here stop it from running or growing without end: loop turns, calls, seconds, the length
of the text, and the sizes that multiplication makes. They stop mistakes and plain bombs. A text that
doubles itself within one expression may still take much memory before it is noticed, so a server
for strangers' models renders in a process with a memory limit.

Source of the settings: _compile_jinja_template in transformers/utils/chat_template_utils.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_STEPS = 1_000_000
MOST_SECONDS = 2.0
MOST_CHARACTERS = 16 << 20


class Meter:
    """What one rendering has used of its bounds."""

    def __init__(self) -> None:
        self._steps = 0
        self._deadline = time.monotonic() + MOST_SECONDS

    def step(self) -> None:
        """Count one loop turn or call; SecurityError when there were too many, or time is up."""
        self._steps += 1
        if self._steps > MOST_STEPS or (self._steps % 64 == 0 and time.monotonic() > self._deadline):
            raise SecurityError("it runs for too long")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering. Not shared: its meter belongs to one text."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        self.meter = Meter()
        self.filters["tojson"] = _tojson
        self.filters["_metered"] = self._metered
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = _strftime_now

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes comes through here."""
        self.meter.step()
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Products and powers, refused where the result would be out of proportion."""
        if operator == "**" and (abs(left) > 1 << 20 or abs(right) > 64):
            raise SecurityError("it computes too large a power")
        for text, times in ((left, right), (right, left)):
            if hasattr(text, "__len__") and isinstance(times, int) and len(text) * times > MOST_CHARACTERS:
                raise SecurityError("it repeats a text too often")
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse, and count the turns of every loop."""
        template = super()._parse(source, name, filename)
        for loop in template.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_metered", [], [], None, None, lineno=loop.lineno)
        return template

    def _metered(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.meter.step()
            yield item


class _Generation(Extension):
    """`{% generation %}`: marks the assistant's text for training; its body renders as it stands."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without HTML escapes, unlike Jinja2's own filter."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def render_bounded(source: str, variables: dict[str, Any]) -> str:
    """Render a template once, within the bounds. Raises what Jinja2 and the template raise."""
    environment = TemplateSandbox()
    parts: list[str] = []
    length = 0
    for part in environment.from_string(source).generate(variables):
        environment.meter.step()
        length += len(part)
        if length > MOST_CHARACTERS:
            raise SecurityError("its text grows too long")
        parts.append(part)
    return "".join(parts)
