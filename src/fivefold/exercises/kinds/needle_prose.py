"""A needle in real prose: one to three 7-digit numbers hidden between sentences of a text."""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise
from fivefold.exercises.kind import ExerciseKind, Needle, Order, Phrasings
from fivefold.exercises.needles import in_prose

NAME = "needle_prose"
NEEDLES = Phrasings(
    training=(
        Needle(
            "The following text has a number in it that does not belong there. Find it.",
            "The lucky number of the {key} is {value}.",
            (
                ("What is the lucky number of the {key}?", "The lucky number of the {key} is"),
                ("Which number brings luck to the {key}?", ""),
                (
                    "A sentence of the text is about the {key}. Which number does it give?",
                    "It gives the number",
                ),
            ),
        ),
        Needle(
            "Read this text. Somebody wrote a password into it.",
            "By the way, the password for the {key} has been changed to {value}.",
            (
                ("What is the password for the {key} now?", "The password for the {key} is now"),
                ("To what has the password for the {key} been changed?", ""),
                ("Tell me the new password of the {key}.", "The new password is"),
            ),
        ),
        Needle(
            "I copied a text for you. An order number got into it by mistake, please pay attention to it.",
            "The order for one {key} was filed under {value}.",
            (
                ("Under which number was the order for one {key} filed?", "It was filed under"),
                ("Find the number of the order for the {key}.", "The order for the {key} has the number"),
                ("Somebody ordered a {key}. What is the order's number?", ""),
            ),
        ),
        Needle(
            "Here is a text with a price in it. I will want to know the price later.",
            "At the auction a {key} was sold for {value} dollars.",
            (
                ("For how many dollars was a {key} sold at the auction?", "A {key} was sold for"),
                ("What did the {key} cost?", "The {key} cost"),
                ("How much was paid for the {key}?", ""),
            ),
        ),
        Needle(
            "Please go through the text below, and remember which room is meant for whom.",
            "Room {value} is reserved for the {key}.",
            (
                ("Which room is reserved for the {key}?", "The room reserved for the {key} is number"),
                ("Where can I find the {key}? Give the number of the room.", "Room"),
                ("What room number does the {key} have?", ""),
            ),
        ),
        Needle(
            "Text:",
            "({key}: {value})",
            (
                ("What number stands beside {key}?", "The number beside {key} is"),
                ("There are brackets around {key} and a number. Which number?", ""),
                ("Complete what is written in the brackets: {key}", "{key}:"),
            ),
        ),
    ),
    held_out=(
        Needle(
            "Some special magic numbers are hidden within the following text. Make sure to memorize it. I "
            "will quiz you about the numbers afterwards.",
            "One of the special magic numbers for {key} is: {value}.",
            (
                (
                    "What is the special magic number for {key} mentioned in the provided text?",
                    "The special magic number for {key} mentioned in the provided text is",
                ),
                (
                    "Say which special magic number the text has for {key}.",
                    "The special magic number for {key} is",
                ),
            ),
        ),
        Needle(
            "One sentence in this document states a membership. Take notice of it.",
            "Incidentally, {key} holds membership {value}.",
            (
                ("Which membership does {key} hold?", "Incidentally, {key} holds membership"),
                ("Report the membership of {key} that the document states.", "The membership of {key} is"),
            ),
        ),
    ),
)


def build(order: Order) -> Exercise:
    """A passage of prose with the needles in it; one to three if not said."""
    phrasing = order.random.choice(NEEDLES.of(order.side))
    count = order.needles or order.random.randint(1, 3)
    return in_prose(order, NAME, phrasing, count)


KIND = ExerciseKind(NAME, 1.5, {"needles": NEEDLES}, build)
