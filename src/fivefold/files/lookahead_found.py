"""Which lookahead module belongs to a model: one that lies beside it, or one of those that are shipped.

Beside a file NAME it is NAME.lookahead.safetensors, in a folder lookahead.safetensors. Shipped ones lie in
this package (`shipped/`), and are told apart by the fingerprint in their heads alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fivefold.core.checkpoint import Checkpoint
from fivefold.core.lookahead import LookaheadModule, Sought
from fivefold.files.lookahead_module import fitted_module, lookahead_module_for, model_fingerprint
from fivefold.files.safetensors import free_text
from fivefold.program import Model

SUFFIX = ".lookahead.safetensors"
BESIDE = "lookahead.safetensors"
SHIPPED = Path(__file__).parent / "shipped"


def found_lookahead_module(
    model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED
) -> LookaheadModule | None:
    """The model's module, or None; errors as of reading if one lies beside the model and is not its own."""
    beside = _beside(checkpoint.path)
    if beside.exists():
        return lookahead_module_for(beside, model, checkpoint)
    if not model.programs or not shipped.is_dir():
        return None
    wanted = model_fingerprint(model, checkpoint)
    for candidate, fingerprint in _shipped(shipped):
        if fingerprint == wanted:
            return fitted_module(candidate, model, checkpoint, wanted)
    return None


def sought_lookahead_module(model: Model, checkpoint: Checkpoint, shipped: Path = SHIPPED) -> Sought:
    """The same, but one that is shipped is read when it is asked for first: most models run without."""
    if _beside(checkpoint.path).exists():
        module = found_lookahead_module(model, checkpoint, shipped)
        return lambda: module
    return cache(lambda: found_lookahead_module(model, checkpoint, shipped))


def _beside(path: Path) -> Path:
    return path / BESIDE if path.is_dir() else path.with_name(path.name + SUFFIX)


def _shipped(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        yield path, str(json.loads(free_text(path).get("fingerprint", '""')))
