"""Tables of n-grams: made of conversations that a model wrote."""

from .counting import Written, ngram_table
from .made import Made, Making, make_table

__all__ = ["Made", "Making", "Written", "make_table", "ngram_table"]
