"""Exercises: texts, and questions about them, to train and to measure learned parts of the cache.

The texts come from pinned packages of which whole ones are held out; exercises of the held-out side are asked
in wordings that training never has. Nothing here knows a model: it is given its template and vocabulary.
"""

from .catalogue import Side, catalogue
from .exercise import Exercise, Question
from .passages import CountTokens, Library
from .prompts import FIXED_SETS, WEIGHTS, Drawing, FixedSet, exercises, one_exercise
from .rendering import Rendering, common_beginning
from .texts import Text, texts

__all__ = [
    "FIXED_SETS", "WEIGHTS", "CountTokens", "Drawing", "Exercise", "FixedSet", "Library", "Question",
    "Rendering", "Side", "Text", "catalogue", "common_beginning", "exercises", "one_exercise", "texts",
]  # fmt: skip
