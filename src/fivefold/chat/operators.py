"""What operators and formats may do in a chat template, looking one step ahead.

Products, powers and formats with a width are the operations that make a large value from small ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jinja2.exceptions import SecurityError

from fivefold.chat.meter import Meter, size_of

MOST_WIDTH = 4096
"""Columns, digits, or pieces that a filter, method or format may be asked for."""
MOST_BITS = 4096
MOST_FIELDS = 8192

_SPEC = re.compile(r"%(?:\(([^()]*)\)|(\())?[-#0 +]*(\*|\d*)(?:\.(\*|\d*))?[hlL]?(.)?", re.DOTALL)


def operands(meter: Meter, operator: str, left: Any, right: Any) -> None:
    """Refuse an operation on two values whose result would be out of proportion."""
    if operator == "%" and isinstance(left, str):
        percent(meter, left, right)
    elif isinstance(left, int) and isinstance(right, int):
        bits = max(left.bit_length(), right.bit_length())
        if operator == "**" and right > 1 and left.bit_length() * right > MOST_BITS:
            raise SecurityError("it computes too large a power")
        if bits > MOST_BITS:
            raise SecurityError("it computes with too large numbers")
    elif operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(times, int) and hasattr(value, "__len__"):
                size = len(value) * (1 if isinstance(value, str) and value.isascii() else 4)
                if not isinstance(value, str):
                    size = meter.weigh(value)
                if size * times > meter.most:
                    raise SecurityError("it repeats a text or list too often")


def percent(meter: Meter, form: str, values: Any) -> None:
    """Refuse widths in `form % values` that are out of proportion, and texts repeated too often."""
    if form.count("%") > MOST_FIELDS:
        raise SecurityError(f"it formats more than {MOST_FIELDS} values")
    size, place = size_of(form), 0
    each = values if isinstance(values, tuple) else (values,)
    for found in _SPEC.finditer(form):
        key, odd, width, precision, _ = found.groups()
        if odd is not None or "*" in (width, precision):
            raise SecurityError("it formats with a width that is not written out")
        for number in (width, precision):
            _width(number or "")
            size += int(number or 0)
        if key is not None:
            size += meter.weigh(values.get(key)) if isinstance(values, Mapping) else 0
        elif place < len(each):
            size += meter.weigh(each[place])
            place += 1
        meter.check(size)


def _width(number: str) -> None:
    if len(number) > 4 or int(number or 0) > MOST_WIDTH:
        raise SecurityError(f"it asks for a width above {MOST_WIDTH}")


def spec(text: str) -> None:
    """Refuse a format's specification, as in `{:>8.3f}`, with too large a number."""
    for number in re.findall(r"\d+", text):
        _width(number.lstrip("0"))
