"""Several keys in one text of prose, each with a value, one of them asked for. RULER's niah_multikey.

The wrong needles look like the right one, so the cache must keep them all, or know which is asked for.
"""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise
from fivefold.exercises.kind import ExerciseKind, Needle, Order, Phrasings
from fivefold.exercises.needles import in_prose

NAME = "multi_key"
NEEDLES = Phrasings(
    training=(
        Needle(
            "Several lockers are mentioned in this text, each with its combination. Read carefully.",
            "The locker of the {key} opens with {value}.",
            (
                (
                    "With which combination does the locker of the {key} open?",
                    "The locker of the {key} opens with",
                ),
                ("What is the combination of the {key}'s locker?", ""),
            ),
        ),
        Needle(
            "Remember the badge numbers in the text below.",
            "Badge {value} was handed to the {key}.",
            (
                ("Which badge was handed to the {key}?", "The {key} was handed badge"),
                ("What is the number of the badge that the {key} got?", "Badge"),
            ),
        ),
        Needle(
            "In this text there are records of votes. I will ask you about one of them.",
            "In the last election the {key} received {value} votes.",
            (
                ("How many votes did the {key} receive in the last election?", "The {key} received"),
                ("How many people voted for the {key}?", ""),
            ),
        ),
        Needle(
            "The text below was mixed with entries of a catalogue. You will be asked for an entry.",
            "Catalogue entry: {key}, shelf mark {value}.",
            (
                ("What is the shelf mark of the entry {key}?", "The shelf mark of {key} is"),
                ("I am looking for {key} in the catalogue. What is its shelf mark?", "Shelf mark"),
            ),
        ),
        Needle(
            "Keep all identifiers of this text in mind.",
            "The identifier assigned to {key} equals {value}.",
            (
                ("Which identifier is assigned to {key}?", "The identifier assigned to {key} equals"),
                ("Give me the identifier of {key} and nothing else.", ""),
            ),
        ),
    ),
    held_out=(
        Needle(
            "Some special magic numbers are hidden within the following text. Make sure to memorize them. I "
            "will quiz you about one of the numbers afterwards.",
            "One of the special magic numbers for {key} is: {value}.",
            (
                (
                    "What is the special magic number for {key} mentioned in the text above?",
                    "The special magic number for {key} mentioned in the text above is",
                ),
            ),
        ),
        Needle(
            "There are flights listed throughout this document. Be ready to name one traveller's flight.",
            "Traveller {key} booked flight {value}.",
            (("Name the flight that traveller {key} booked.", "Traveller {key} booked flight"),),
        ),
    ),
)


def build(order: Order) -> Exercise:
    """A passage of prose with four to eight needles if not said."""
    phrasing = order.random.choice(NEEDLES.of(order.side))
    return in_prose(order, NAME, phrasing, order.needles or order.random.randint(4, 8))


KIND = ExerciseKind(NAME, 1.5, {"needles": NEEDLES}, build)
