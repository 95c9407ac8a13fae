"""Which lookahead module belongs to a model: one that lies beside it, or one of those that are shipped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.lookahead import LookaheadModule, Sought
from fivefold.files.learned import SHIPPED, model_fingerprint
from fivefold.files.lookahead_module import LOOKAHEAD_MODULE, fitted_module, lookahead_module_for
from fivefold.program import Model


def found_lookahead_module(
    model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED
) -> LookaheadModule | None:
    """The model's module, or None; errors as of reading if one lies beside the model and is not its own."""
    beside = LOOKAHEAD_MODULE.beside(checkpoint.path)
    if beside.exists():
        return lookahead_module_for(beside, model, checkpoint)
    if not model.programs or not shipped.is_dir():
        return None
    wanted = model_fingerprint(model, checkpoint)
    found = LOOKAHEAD_MODULE.shipped(wanted, shipped)
    return None if found is None else fitted_module(found, model, checkpoint, wanted)


def sought_lookahead_module(model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED) -> Sought:
    """The same, read when it is asked for first: most models run without, also where it is damaged."""
    return cache(lambda: found_lookahead_module(model, checkpoint, shipped))
