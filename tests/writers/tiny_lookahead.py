"""The tiny model with a lookahead module beside it, whose numbers are random."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from fivefold.core.lookahead import LookaheadModule, Origin
from fivefold.files import model_fingerprint, open_checkpoint, write_lookahead_module
from fivefold.models import load_model

TINY = Path(__file__).parents[1] / "engine" / "data" / "tiny.gguf"
ROWS, RANK = 4, 2
ADAPTED = ("blk.0.attn_q.weight", "blk.1.attn_k.weight")


def write_tiny_with_lookahead(folder: Path) -> Path:
    """A copy of the tiny model in that folder, and its module; the path of the model."""
    path = folder / TINY.name
    shutil.copyfile(TINY, path)
    checkpoint = open_checkpoint(path)
    model = load_model(checkpoint)
    dice = np.random.default_rng(11)

    def numbers(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return dice.standard_normal(shape).astype(np.float16).astype(np.float32)

    shapes = {name: model.main.weights[name].shape for name in ADAPTED}
    pairs = {name: (numbers(RANK, shape[1]), numbers(shape[0], RANK)) for name, shape in shapes.items()}
    origin = Origin("tiny", model_fingerprint(model, checkpoint), lengths=(16, 96), steps=3)
    module = LookaheadModule(numbers(ROWS, model.shape.hidden), pairs, 4.0, RANK, origin=origin)
    write_lookahead_module(folder / f"{path.name}.lookahead.safetensors", module)
    return path
