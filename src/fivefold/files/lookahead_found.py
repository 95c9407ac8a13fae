"""Which lookahead module belongs to a model: one that lies beside it, or one of those that are shipped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.lookahead import LookaheadModule, Sought
from fivefold.files.learned import SHIPPED
from fivefold.files.lookahead_module import LOOKAHEAD_MODULE, fitted_module
from fivefold.program import Model


def found_lookahead_module(
    model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED
) -> LookaheadModule | None:
    """The model's module, or None; errors as of reading if one lies beside the model and is not its own."""
    found = LOOKAHEAD_MODULE.found(model, checkpoint, shipped)
    return None if found is None else fitted_module(found[0], model, checkpoint, found[1])


def sought_lookahead_module(model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED) -> Sought:
    """The same, read when it is asked for first: most models run without, also where it is damaged."""
    return cache(lambda: found_lookahead_module(model, checkpoint, shipped))
