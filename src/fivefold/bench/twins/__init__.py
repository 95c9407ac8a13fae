"""Twins compared: the same records completed token by token and by blocks, how well and how fast.

What is compared, and when it holds, is decision 16.
"""

from .questions import Question, read_questions
from .report import twins_lines
from .run import Compared, Twins, measure_twins

__all__ = ["Compared", "Question", "Twins", "measure_twins", "read_questions", "twins_lines"]
