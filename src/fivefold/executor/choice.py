"""The choice of a token in the compiled core, over a whole vocabulary, and guesses of tokens by a table.

Both take a fraction of the time of Python. Which rules there are, and the references they are tested against,
is for `decode` and for `core.ngrams` to say.
"""

from __future__ import annotations

from fivefold._native import draw, guess_tokens, largest_logit, likeliest_tokens

__all__ = ["draw", "guess_tokens", "largest_logit", "likeliest_tokens"]
