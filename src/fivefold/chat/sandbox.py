"""Where chat templates run: Jinja2's immutable sandbox, set up as Transformers does, with bounds.

A template comes with a model file, so from a stranger. The sandbox keeps it from touching anything, and the
bounds keep it from running or growing without end: see `meter` and `guards`. For that the template is
changed as it is read: what makes a value is passed through the meter, and nothing is computed before
the template runs. Methods that no chat template has a use for, and `lipsum`, are not there.

Source of the settings: _compile_jinja_template in transformers/utils/chat_template_utils.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import chain, islice
from traceback import walk_tb
from types import BuiltinMethodType, CodeType, MethodType
from typing import Any, NoReturn

from jinja2 import Template, nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace

from fivefold.chat.guards import FILTERS, METHODS, MOST_KEYS, PLAIN_METHODS, TESTS, tojson
from fivefold.chat.meter import Meter
from fivefold.chat.metered import Metered
from fivefold.chat.operators import operands, spec

MOST_TOKENS = 20_000
"""Words, signs and spaces of a template: a large one has a quarter, and each takes time to compile."""
MOST_ARGUMENTS = 256
MOST_DATE_FORMAT = 256

_DATA = (str, bytes, int, float, list, tuple, dict, set, frozenset)


class RefusedError(TemplateError):
    """What a template itself says against the messages, through `raise_exception`."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment of one rendering. Not shared: its meter belongs to one text."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, meter: Meter) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"],
            finalize=_written, optimized=False,
        )  # fmt: skip
        self.meter = meter
        for table, guards in ((self.filters, FILTERS), (self.tests, TESTS)):
            for name, function in list(table.items()):
                table[name] = _guarded(function, guards.get(name), meter)
        self.filters["tojson"] = functools.partial(tojson, meter)
        self.filters["_made"] = meter.admit
        self.filters["_joined"] = meter.joined
        self.filters["_turns"] = meter.turns
        self.filters["_few"] = self._few
        del self.globals["lipsum"]
        self.globals["dict"] = self._table
        self.globals["namespace"] = lambda *pairs, **given: _Names(self._table(*pairs, **given))
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = _strftime_now

    def concat(self, parts: Iterable[Any]) -> str:
        """The text of a block, a macro, or a `set` with a body."""
        return self.meter.joined(parts)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Every call that a template makes comes through here."""
        self.meter.check(sum(map(self.meter.weigh, chain(args, kwargs.values()))))
        return self.meter.admit(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every operator that computes comes through here."""
        operands(self.meter, operator, left, right)
        return self.meter.admit(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An attribute; each is a step, for filters look up long paths of them."""
        self.meter.step()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item; a step, too."""
        self.meter.step()
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Of data no other methods than those that are known to be harmless."""
        known = attr in PLAIN_METHODS or not (isinstance(obj, _DATA) and callable(value))
        return known and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., Any] | None:
        """A method of a text that needs a guard, with it; None for other values.

        As a function of its own: a template can read the attributes of a `functools.partial`.
        """
        if not isinstance(value, BuiltinMethodType | MethodType) or not isinstance(value.__self__, str):
            return None
        text, name = value.__self__, value.__name__
        formatter, guard, meter = _Formatter(self), METHODS.get(name), self.meter
        if name == "format":
            return lambda *args, **kwargs: formatter.vformat(text, args, kwargs)
        if name == "format_map":
            return lambda values: formatter.vformat(text, (), values)
        if guard is None:
            return None
        return lambda *args, **kwargs: guard(
            lambda _, *given, **named: value(*given, **named), meter, text, *args, **kwargs
        )

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Parse, and let the meter see what the template makes, and the turns of every loop."""
        template = super()._parse(source, name, filename)
        Metered().visit(template)
        template.set_environment(self)
        return template

    def _table(self, /, *pairs: Any, **given: Any) -> dict[Any, Any]:
        made = (one if isinstance(one, dict) else self.meter.listed(one, MOST_KEYS) for one in pairs)
        return dict(*made, **given)

    def _few(self, given: Any) -> Any:
        """What `*` and `**` make arguments of."""
        if isinstance(given, Mapping):
            return dict(zip(self.meter.listed(given, MOST_ARGUMENTS), given.values(), strict=True))
        return self.meter.listed(given, MOST_ARGUMENTS)


class _Formatter(SandboxedFormatter):
    """`str.format`, with its widths and the texts that it fills in measured."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        meter: Meter = self._env.meter  # type: ignore[attr-defined]
        spec(format_spec)
        meter.check(meter.weigh(value))
        return meter.admit(super().format_field(value, format_spec))


class _Names(Namespace):
    """`namespace()`, which may hold itself: so it is not written out."""

    def __repr__(self) -> str:
        return "<Namespace>"


class _Generation(Extension):
    """`{% generation %}`: marks the assistant's text for training; its body renders as it stands."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _guarded(function: Callable[..., Any], guard: Any, meter: Meter) -> Callable[..., Any]:
    """A filter or test with its guard, a step each; what a filter makes is measured."""
    leading = hasattr(function, "jinja_pass_arg")

    @functools.wraps(function)
    def measured(*args: Any, **kwargs: Any) -> Any:
        if guard is None:
            return meter.admit(function(*args, **kwargs))
        call = functools.partial(function, args[0]) if leading else function
        return meter.admit(guard(call, meter, *args[leading:], **kwargs))

    return measured


@pass_context
def _written(context: Context, value: Any) -> str:
    """A value as it stands in the text; needs the context, so that nothing is written before there is one."""
    meter: Meter = context.environment.meter  # type: ignore[attr-defined]
    meter.check(meter.weigh(value))
    return str(meter.admit(str(value)))


def _refuse(message: Any) -> NoReturn:
    raise RefusedError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > MOST_DATE_FORMAT:
        raise SecurityError("it writes too long a date")
    return datetime.now().strftime(form)


def compiled(source: str) -> CodeType:
    """A template ready to render. Raises what Jinja2 and Python raise for what is no template."""
    environment = TemplateSandbox(Meter())
    if sum(1 for _ in islice(environment.lex(source), MOST_TOKENS + 1)) > MOST_TOKENS:
        raise TemplateError(f"it has more than {MOST_TOKENS} words and signs")
    return environment.compile(source)


def render_bounded(code: CodeType, variables: dict[str, Any]) -> str:
    """Render a template once, within the bounds; raises what Jinja2 and the template raise."""
    environment = TemplateSandbox(Meter(variables))
    template = Template.from_code(environment, code, environment.make_globals(None))
    return environment.concat(template.root_render_func(template.new_context(variables)))


def line_of(error: BaseException) -> int | None:
    """The line of the template in which it went wrong, if that can be told."""
    line: int | None = None
    for frame, number in walk_tb(error.__traceback__):
        template = frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template):
            line = template.get_corresponding_lineno(number)
    return line
