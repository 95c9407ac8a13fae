"""Templates of strangers that try to take time or memory: none takes a second or 100 MB, each says why."""

from __future__ import annotations

import resource
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivefold.chat import ChatTemplate
from fivefold.chat.template import MOST_SOURCE
from fivefold.core.errors import InputError

HI = [{"role": "user", "content": "Hi"}]
MOST_SECONDS = 20.0  # of processor time: what is not bounded takes minutes, what is takes a fraction of one
MOST_BYTES = 100_000_000

BOMBS = [
    line
    for line in (Path(__file__).parent / "data" / "bombs.txt").read_text().splitlines()
    if line and not line.startswith("##")
]
"""One template a line."""
BUILT = [
    "{% set y %}{% for i in range(99999) %}" + "x" * 60000 + "{% endfor %}{% endset %}",
    "{% set x = 'x' * 3999999 %}{{ " + " ~ ".join(["x"] * 4000) + " }}",
    "{% set x = 'x' * 3999999 %}{{ [" + ", ".join(["x"] * 4000) + "]|join }}",
    "{% set s = 'a' * 1999999 %}" + "{{ s == s ~ 'b' }}" * 999,
    "{{ joiner('x' * 999999)() }}" + "{{ ('x' * 999999)|reverse|upper|lower|reverse }}" * 99,
]
HARMLESS = [
    "{{ strftime_now('%9999999Y') }}",
    "{% set l = range(999)|list %}{{ l|select('in', l)|list|length }}",
    "{{ [1]|map(attribute='a.' * 999 ~ 'a', default={})|list }}",
    "{% set ns = namespace(d=1) %}{% for i in range(60) %}{% set ns.d = namespace(a=ns.d, b=ns.d) %}"
    "{% endfor %}{{ ns.d }}{{ ns.d.a == ns.d.b }}",
]


def filled(begin: str, unit: str, end: str = "") -> str:
    """A source as long as one may be, of the same all over."""
    return begin + unit * ((MOST_SOURCE - len(begin + end)) // len(unit)) + end


SOURCES = [
    "{% for x in y %}" * 30 + "{% endfor %}" * 30,
    "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    filled("{{ ", "["),
    filled("{{ ", "-", "1 }}"),
    filled("{{ ", "a.b", " }}"),
    filled("{{ a", "|upper", " }}"),
    filled("{{ ", "1 + ", "1 }}"),
    filled("{{ ", "not ", "x }}"),
    filled("", "{% if x %}"),
    filled("{{ ", "9", " }}"),
    filled("{{ 0x", "f", " }}"),
    filled("{% macro ", "f", "() %}{% endmacro %}{{ 1 / 0 }}"),
    filled("", "{{ a }}", "{{ 1 / 0 }}"),
    "{{ a }}" * 3990 + "{{ 1 / 0 }}",
    "{{a~a}}" * 3990 + "{{ 1 / 0 }}",
    "{{ a" + "~a" * 9980 + "~(1 / 0) }}",
    "{{ f(" + "a," * 9980 + ") }}",
    filled("", "{%set a=1%}", "{{ 1 / 0 }}"),
    filled("", "{{"),
    filled("", "{#"),
    filled("", "{%"),
    filled("{{ '", "\\"),
    filled("{{ [", "1,", "] / 0 }}"),
    filled("{{ {", "1:1,", "} / 0 }}"),
    filled("{{ a", "~a", "~(1 / 0) }}"),
    filled("{{ a", "==a", "== 1 / 0 }}"),
    filled("{% if a %}", "{%elif a%}", "{% endif %}{{ 1 / 0 }}"),
    filled("{{ f(", "a,", ") }}"),
    filled("{{ ", "a if b else ", "c }}"),
    filled("{% macro f(", "a,", "b) %}{% endmacro %}{{ 1 / 0 }}"),
    "{{ 1e999999999 * 0 }}{{ 'x' * 1e9 }}",
    "{{ '\\x' }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{{ x is no_such_test }}",
    "{% block a %}{% endblock %}" * 2,
]


def ended(source: str) -> bool:
    """Whether a template ends with an error, which is one line and not Python's about memory."""
    try:
        assert len(ChatTemplate(source).render(HI)) < MOST_BYTES
    except InputError as error:
        line = error.line()
        assert "chat template" in line
        assert "MemoryError" not in line
        assert len(line) < 700
        return True
    return False


def measured(source: str) -> bool:
    """The same, once by the clock and once by the memory that it takes.

    Tracing slows it several times, so that its time may be up where else it ends well, never the reverse.
    """
    began = time.thread_time()
    result = ended(source)
    assert time.thread_time() - began < MOST_SECONDS
    tracemalloc.start()
    try:
        assert ended(source) or not result
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    return result


@pytest.mark.parametrize("source", [*BOMBS, *BUILT], ids=lambda source: source[:60])
def test_a_bomb_ends_soon_and_says_why(source: str) -> None:
    assert measured(source)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source[:30])
def test_a_strange_source_ends_soon(source: str) -> None:
    """Compiling is not traced byte by byte: that would take it a minute."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.thread_time()
    assert ended(source)
    assert time.thread_time() - began < MOST_SECONDS
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MOST_BYTES


@pytest.mark.parametrize("source", HARMLESS, ids=lambda source: source[:30])
def test_what_is_no_bomb_is_let_through(source: str) -> None:
    assert not ended(source)


TEXTS = st.sampled_from(
    ["'a'", "'a b'", "'\\n'", "messages", "'%s'", "'{}'", "x", "y", "12", "range(999)", "'漢'"]
)
SIZES = st.sampled_from(["2", "9", "4096", "99999", "1000000000", "-1", "x", "y"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One operation on what there is already."""
    one = st.sampled_from(
        [
            "({a} * {n})",
            "({a} + {b})",
            "({a} ~ {b})",
            "({a} % {b})",
            "({a} ** {n})",
            "[{a}, {b}]",
            "({a}, {b})",
            "{{'k': {a}, {b}: 1}}",
            "({a}|center({n}))",
            "({a}|indent({n}))",
            "({a}|join({b}))",
            "({a}|list)",
            "({a}|replace({b}, {a}))",
            "({a}|batch({n})|list)",
            "({a}|slice({n})|list)",
            "({a}|tojson(indent={n}))",
            "({a}|string)",
            "({a}.join({b}))",
            "({a}.format({b}, {b}))",
            "({a}.replace({b}, {a}))",
            "({a}.split({b}))",
            "({a}|wordwrap({n}))",
            "({a}|sort)",
            "({a}|unique|list)",
            "({a}|sum)",
            "({a}|map('upper')|list)",
            "({a}[::2])",
            "({a}.zfill({n}))",
            "({a} == {b})",
            "({a} in {b})",
            "({a}|int(base=36))",
            "({a}|round({n}))",
            "({a}|pprint)",
            "({a}|urlencode)",
            "({a}|e)",
            "dict(k={a}, l={b})",
            "({a}|select('in', {b})|list)",
            "({a}|format({b}))",
        ]
    )
    return st.builds(lambda form, a, b, n: form.format(a=a, b=b, n=n), one, inner, inner, SIZES)


@given(st.recursive(TEXTS, larger, max_leaves=8), st.recursive(TEXTS, larger, max_leaves=8))
@settings(max_examples=80, deadline=None)
def test_any_expression_ends_soon(first: str, second: str) -> None:
    measured(
        "{% set ns = namespace(x='ab', y='ab') %}{% for i in range(20) %}{% set x = ns.x %}{% set y = ns.y %}"
        f"{{% set ns.x = {first} %}}{{% set ns.y = {second} %}}{{% endfor %}}"
        "{{ ns.x }}{{ ns.y|string }}"
    )
