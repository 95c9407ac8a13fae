"""Weights into memory, and the check that a model means the same with our attention as without.

Transformers reads the folder's safetensors files itself. A weight that is missing, of another shape, or
left over is refused: Transformers would fill the first with random numbers. Then two texts run side by side
in uneven parts through the runner, and each alone through the model with Transformers' plain attention; the
logits must agree.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from fivefold.backends.extra import Outline, Room
from fivefold.core.batch import Commit, Float32, Int32, Span, Step
from fivefold.core.checkpoint import Checkpoint
from fivefold.core.errors import FileError, UnsupportedError
from fivefold.core.layout import CacheLayout

from .outline import quietly, refused
from .pages import NUMBERS
from .products import speed_up
from .runner import TransformersRunner
from .witness import Layer, layout_of, watch

CHUNKS = ((5, 3), (1, 4), (6, 1), (1, 1))
"""Rows of the two texts in each step of the check."""

TOLERANCES = {"f32": (1e-3, 1.0), "bf16": (0.1, 0.5)}
"""How far the logits of a row may lie apart (the length of the difference over that of the logits), and for
what share of a text's rows: with bf16 a router may choose another expert for the last digit of a number."""


def open_runner(outline: Outline, checkpoint: Checkpoint, room: Room) -> TransformersRunner:
    """The model's weights read, its layers looked at, and its logits held against Transformers' own."""
    model = _weights(outline, checkpoint.path)
    layout = outline.model.layout
    torch.set_num_threads(room.threads)
    where = f"{checkpoint.path}: {type(model).__name__}"
    try:
        layers: dict[int, Layer] = {}
        with quietly():
            watch(model, outline.model.shape.context, "cpu", layers)
        seen = layout_of(layers, outline.model.shape.layers)
        if seen.entry_bytes(1, 0) > layout.entry_bytes(1, 0):
            raise UnsupportedError("its layers keep more than its config says")
        _check(model, seen, outline, room)
    except Exception as error:
        raise refused(error, where) from None
    return TransformersRunner(model, seen, room.entries, room.entry_format, room.threads, room.max_rows)


def _weights(outline: Outline, folder: Path) -> Any:
    try:
        with quietly():
            model, told = transformers.AutoModelForCausalLM.from_pretrained(
                folder, config=outline.config, dtype=NUMBERS[outline.number], local_files_only=True,
                trust_remote_code=False, use_safetensors=True, output_loading_info=True,
            )  # fmt: skip
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileError(
            f"Transformers cannot read its weights ({text[:200]})",
            where=str(folder),
            remedy="fetch the model again",
        ) from None
    for key, meaning in (
        ("missing_keys", "missing"),
        ("mismatched_keys", "of another shape"),
        ("unexpected_keys", "left over"),
    ):
        names = sorted(map(str, told.get(key) or ()))
        if names:
            raise FileError(
                f"{len(names)} of its weights are {meaning}, {names[0][:100]} first", where=str(folder),
                remedy="fetch all files of the model again",
            )  # fmt: skip
    model.eval()
    speed_up(model)
    return model


def _check(model: Any, layout: CacheLayout, outline: Outline, room: Room) -> None:
    """UnsupportedError if the logits of two texts, run together in parts, are not those of each alone."""
    counts = [sum(chunk[text] for chunk in CHUNKS) for text in range(2)]
    ids = (np.arange(sum(counts), dtype=np.int64) * 7919 + 11) % outline.model.shape.vocabulary
    texts = np.split(ids.astype(np.int32), [counts[0]])
    runner = TransformersRunner(model, layout, 4 * 32, outline.number, room.threads)
    ours = _in_parts(runner, texts)
    model.set_attn_implementation("eager")
    for text, found in zip(texts, ours, strict=True):
        tokens = torch.from_numpy(text.astype(np.int64))[None]
        with torch.inference_mode():
            theirs = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[
                0
            ]
        expected: Float32 = theirs.float().numpy()
        if found.shape != expected.shape or not np.isfinite(expected).all():
            raise UnsupportedError("its logits are not numbers for each token")
        lengths = np.maximum(np.linalg.norm(expected, axis=1), 1e-30)
        most, share = TOLERANCES[outline.number]
        apart = float(np.quantile(np.linalg.norm(found - expected, axis=1) / lengths, share))
        if not apart <= most:
            raise UnsupportedError(
                f"its logits with attention over pages are {apart:.1e} away from those with plain attention"
            )


def _in_parts(runner: TransformersRunner, texts: list[Int32]) -> list[Float32]:
    """The logits after each token of two texts that run together."""
    sequences = [runner.open() for _ in texts]
    begun, found = [0, 0], [list[Float32](), list[Float32]()]
    for chunk in CHUNKS:
        spans = [
            Span.causal(sequence, text[start : start + rows], start, np.arange(rows, dtype=np.int32))
            for sequence, text, start, rows in zip(sequences, texts, begun, chunk, strict=True)
        ]
        logits = runner.run(Step(tuple(spans)))
        runner.commit([Commit(span.sequence, np.arange(len(span.tokens), dtype=np.int32)) for span in spans])
        for text, part in enumerate(np.split(logits, [chunk[0]])):
            found[text].append(part)
            begun[text] += chunk[text]
    return [np.concatenate(parts) for parts in found]
