"""What runs inside a peer's own interpreter, by its path: nothing here may import fivefold.

`answer_rounds.py` is the door; it loads one of the engines beside it and measures round after round.
"""
