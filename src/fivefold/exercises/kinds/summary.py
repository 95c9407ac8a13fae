"""Questions about a whole text: summaries, main points, what it is about. No string decides what is right."""

from __future__ import annotations

from fivefold.exercises.exercise import Exercise, Question
from fivefold.exercises.kind import Asking, ExerciseKind, Order, Phrasings
from fivefold.exercises.passages import ANY

NAME = "summary"
INTRODUCTIONS = Phrasings(
    training=(
        "Read the following text.",
        "Here is a text:",
        "Below you find something I have to read.",
        "Please study this.",
        "The text:",
    ),
    held_out=("Consider the document below.", "This is the material that the questions are about."),
)
ASKINGS = Phrasings(
    training=(
        Asking("Summarize the text in a few sentences."),
        Asking("What is this about?", "The text is about"),
        Asking("List the main points of the text.", "1."),
        Asking("Give the text a title and say in one sentence why it fits."),
        Asking("Explain the text to somebody who knows nothing of its subject."),
        Asking("Which names, programs or people does the text mention?"),
        Asking("What did you learn from the text? Write three sentences.", "From the text I learned that"),
        Asking("Who should read this text, and why?"),
    ),
    held_out=(
        Asking("Condense the document into one short paragraph."),
        Asking("Name the most important facts of the document.", "The most important facts are"),
        Asking("Describe the subject and the purpose of the document.", "The document"),
        Asking("Write an abstract of what you have just read."),
    ),
)


def build(order: Order) -> Exercise:
    """A passage of any kind; its questions are all different ones."""
    introduction = order.random.choice(INTRODUCTIONS.of(order.side))
    passage = order.library.passage(order.random, ANY, order.size - order.tokens(introduction) - 2)
    askings = ASKINGS.of(order.side)
    chosen = order.random.sample(askings, min(order.questions, len(askings)))
    questions = tuple(Question(asking.question, None, asking.prefix, NAME) for asking in chosen)
    return Exercise(NAME, f"{introduction}\n\n{passage.text}", questions, (passage.package,))


KIND = ExerciseKind(NAME, 1.0, {"introductions": INTRODUCTIONS, "askings": ASKINGS}, build)
