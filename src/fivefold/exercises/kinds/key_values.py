"""Look-ups in settings, tables and lists that stand in a text: names, and digits or words for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fivefold.exercises import words
from fivefold.exercises.exercise import Exercise, Question
from fivefold.exercises.kind import Asking, ExerciseKind, Order, Phrasings
from fivefold.exercises.passages import ANY, Passage

NAME = "key_values"
FEWEST, MOST = 8, 24
WHOLE = 0.25
"""Share of the exercises whose document is entries alone."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How entries are written: what comes before them, each of them, what comes after."""

    opening: str
    entry: str
    closing: str
    between: str


LAYOUTS = Phrasings(
    training=(
        Layout("```json\n{\n", '  "{key}": "{value}",', '\n  "end": ""\n}\n```', "_"),
        Layout("SETTINGS = {\n", '    "{key}": "{value}",', "\n}", "_"),
        Layout("[settings]\n", "{key} = {value}", "\n", "_"),
        Layout("| name | value |\n|---|---|\n", "| {key} | {value} |", "\n", " "),
        Layout("The list:\n", "- {key}: {value}", "\n", " "),
        Layout("", 'define("{key}", "{value}");', "\n", "_"),
    ),
    held_out=(
        Layout("config:\n", "    {key}: {value}", "\n", "-"),
        Layout("key,value\n", "{key},{value}", "\n", " "),
        Layout("<items>\n", '  <item name="{key}">{value}</item>', "\n</items>", "_"),
    ),
)
LAYOUT_TEXTS = Phrasings(
    tuple(layout.entry for layout in LAYOUTS.training), tuple(layout.entry for layout in LAYOUTS.held_out)
)
INTRODUCTIONS = Phrasings(
    training=(
        "Some settings and their values follow.",
        "Look at this file.",
        "I have a file with names and values in it:",
        "Use the data below to answer.",
        "This is what I found on the disk.",
    ),
    held_out=("The entries of this document are needed later.", "Consult the following record."),
)
ASKINGS = Phrasings(
    training=(
        Asking("What is the value of {key}?", "The value of {key} is"),
        Asking("Which value does {key} have?"),
        Asking("Look up {key} and answer with its value only."),
        Asking("Copy the entry of {key}.", "{key}"),
        Asking("I need {key}. What does it say there?", "It says"),
    ),
    held_out=(
        Asking("To what is {key} set?", "{key} is set to"),
        Asking("Report what is recorded for {key}.", "For {key} the record says"),
    ),
)


def build(order: Order) -> Exercise:
    """Entries of one layout, in a text of any kind or alone; each question asks for another entry."""
    random = order.random
    layout = random.choice(LAYOUTS.of(order.side))
    introduction = random.choice(INTRODUCTIONS.of(order.side))
    draw = _values(order)
    count = order.needles or random.randint(FEWEST, MOST)
    entry = order.tokens(_table(layout, _entries(order, layout, draw, 8, ""))) / 8
    left = order.size - order.tokens(introduction) - 6
    passage = None
    if random.random() < WHOLE and not order.needles and left / entry < 150:
        count = max(2, int(0.97 * left / entry))
    else:
        count = min(count, max(2, int(left / entry / 2)))
        passage = order.library.passage(random, ANY, int(left - count * entry * 1.05) - 4)
    entries = _entries(order, layout, draw, count, passage.text if passage else "")
    document = f"{introduction}\n\n{_placed(order, passage, _table(layout, entries))}"
    questions = _questions(order, layout, entries, document)
    return Exercise(NAME, document, questions, (passage.package,) if passage else ())


def _values(order: Order) -> Callable[[], str]:
    random, side = order.random, order.side
    return random.choice(
        (
            lambda: words.digits(random, 7),
            lambda: words.digits(random, 4),
            lambda: words.name(random, side),
            lambda: f"{random.randrange(16**8):08x}",
        )
    )


def _entries(
    order: Order, layout: Layout, draw: Callable[[], str], count: int, text: str
) -> list[tuple[str, str]]:
    keys: set[str] = set()
    values: set[str] = set()
    between = layout.between

    def key() -> str:
        return words.name(order.random, order.side, between) + between + words.word(order.random, order.side)

    return [(words.unused(key, keys, text), words.unused(draw, values, text)) for _ in range(count)]


def _table(layout: Layout, entries: list[tuple[str, str]]) -> str:
    lines = [layout.entry.replace("{key}", key).replace("{value}", value) for key, value in entries]
    return layout.opening + "\n".join(lines) + layout.closing


def _placed(order: Order, passage: Passage | None, table: str) -> str:
    """The table in the passage, between two of its paragraphs or lines, at a place drawn evenly."""
    if passage is None:
        return table
    wanted = order.random.randint(0, len(passage.text))
    mark = "\n\n" if "\n\n" in passage.text else "\n"
    place = passage.text.find(mark, wanted)
    place = passage.text.rfind(mark) if place < 0 else place
    before, after = passage.text[: max(place, 0)], passage.text[max(place, 0) :].strip("\n")
    return "\n\n".join(part.rstrip("\n") for part in (before, table, after) if part)


def _questions(
    order: Order, layout: Layout, entries: list[tuple[str, str]], document: str
) -> tuple[Question, ...]:
    made = []
    for key, value in order.random.sample(entries, min(order.questions, len(entries))):
        asking = order.random.choice(ASKINGS.of(order.side))
        line = layout.entry.replace("{key}", key).replace("{value}", value)
        depth = document.find(line) / len(document)
        made.append(
            Question(asking.question.format(key=key), value, asking.prefix.format(key=key), NAME, depth)
        )
    return tuple(made)


KIND = ExerciseKind(
    NAME, 1.0, {"layouts": LAYOUT_TEXTS, "introductions": INTRODUCTIONS, "askings": ASKINGS}, build
)
