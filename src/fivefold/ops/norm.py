"""Root mean square norm (Zhang & Sennrich 2019, arXiv 1910.07467), whole rows or equal groups of a row.

`groups` splits the row into that many parts, each normed by itself with the same weight: the
per-head norm of queries and keys. `offset` is added to the weight before anything else, in float32: files
of some families hold what norms differ from 1 by. The native executor adds it once, when the weight is
packed, so its kernel knows nothing of it.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Op, rowwise_cost


def _reference(call: Call) -> tuple[Float32, ...]:
    (x,) = call.inputs  # (N, D)
    parts = x.reshape(len(x), call.integer("groups"), x.shape[1] // call.integer("groups"))
    mean = np.mean(np.square(parts, dtype=np.float64), axis=-1, keepdims=True)
    scale = 1.0 / np.sqrt(mean + call.number("eps"))
    weight = call.weight(0) + np.float32(call.number("offset"))
    return (((parts * scale).astype(np.float32) * weight).reshape(x.shape),)


DECLARED = (
    Op(
        "rms_norm",
        ("x",),
        ("y",),
        _reference,
        rowwise_cost(4),
        weights=("weight",),
        attributes=("eps", "groups", "offset"),
        kernel="rms_norm",
        integers=("groups",),
        floats=("eps",),
    ),
)
