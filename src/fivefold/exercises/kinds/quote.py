"""Quotations: the sentence that begins with some words, or what comes after them."""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise, Question
from fivefold.exercises.kind import Asking, ExerciseKind, Order, Phrasings, UnfitPassage
from fivefold.exercises.passages import PROSE
from fivefold.exercises.sentences import named_sentences

NAME = "quote"
FEWEST = 2
"""Questions that a document must allow; a short one has fewer than are wanted."""
INTRODUCTIONS = Phrasings(
    training=(
        "I will ask you to quote from this text.",
        "Learn the following text by heart.",
        "A passage from a text follows.",
        "Please read:",
        "You will have to repeat parts of this:",
    ),
    held_out=("Exact wording matters in this document.", "The next pages are to be cited literally."),
)
ASKINGS = Phrasings(
    training=(
        Asking('Repeat the sentence that begins with "{beginning}".', "{beginning}"),
        Asking('How does the sentence go on that starts with "{beginning}"?', "{beginning}"),
        Asking('Continue the passage that begins "{beginning}", word for word.'),
        Asking('Which words come after "{beginning}" in the text?', 'After "{beginning}" comes: "'),
        Asking('Copy from the text the whole sentence with "{beginning}" at its start.'),
        Asking('Finish this sentence as the text does: "{beginning} ..."', "{beginning}"),
    ),
    held_out=(
        Asking('Cite the complete sentence whose first words are "{beginning}".', "{beginning}"),
        Asking('In the document, what follows directly upon "{beginning}"?', "{beginning}"),
        Asking('Write out literally what the document says from "{beginning}" on.'),
    ),
)


def build(order: Order) -> Exercise:
    """A passage of prose; each question names another of its sentences, drawn evenly over the passage."""
    introduction = order.random.choice(INTRODUCTIONS.of(order.side))
    passage = order.library.passage(order.random, PROSE, order.size - order.tokens(introduction) - 2)
    found = named_sentences(passage.text)
    if len(found) < min(FEWEST, order.questions):
        raise UnfitPassage
    made = []
    for sentence in order.random.sample(found, min(order.questions, len(found))):
        asking = order.random.choice(ASKINGS.of(order.side))
        made.append(
            Question(
                asking.question.format(beginning=sentence.beginning),
                sentence.rest,
                asking.prefix.format(beginning=sentence.beginning),
                NAME,
                sentence.depth,
            )
        )
    return Exercise(NAME, f"{introduction}\n\n{passage.text}", tuple(made), (passage.package,))


KIND = ExerciseKind(NAME, 1.0, {"introductions": INTRODUCTIONS, "askings": ASKINGS}, build)
