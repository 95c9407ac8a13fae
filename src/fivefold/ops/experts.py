"""Mixture of experts: choosing experts for each row, and a matrix per chosen expert.

`route` gives, for each row, the chosen experts and their weights side by side in one row:
(N, 2k), numbers of experts first, the best one first. `expert_linear` multiplies each row by the matrices
of its k experts, (N, k*M); `expert_sum` adds them up by weight. Or the weights are those of what experts
read (Llama 4): `expert_inputs` makes that, and what comes of it is added up as it is. Rows are independent,
so the grouping of rows by expert is the executor's business and not visible here.

`route` makes scores of logits: a softmax over all experts, over the chosen ones alone, or sigmoids. Experts
are chosen by score (by logit, where scores are of the chosen alone: sigmoids of large logits are the same
number) plus a bias that counts for the choice
only (DeepSeek V3, arXiv 2412.19437). With `groups`, only experts of the `groups_chosen` best groups can be
chosen; a group is as good as the sum of its `group_best` best experts: 1 in DeepSeek V2 (arXiv 2405.04434),
2 in V3. Of equals, the one with the lowest number is chosen. `scales` are numbers of the experts
that their weights are multiplied with at the end. A row with a logit that is NaN has no weights.
"""

from __future__ import annotations

import numpy as np

from fivefold.core.batch import Float32

from .op import Call, Cost, Op, Sizes, rowwise_cost

SCORINGS = ("softmax", "softmax_of_chosen", "sigmoid", "sigmoid_of_chosen")
"""Names of the scoring codes 0, 1, 2, 3."""

LEAST_SUM = 1e-20
"""Added to the sum that scores are divided by, which may be zero."""


def _best(values: Float32, count: int) -> np.ndarray:
    """The places of the largest numbers of each row, the largest first, of equals the first."""
    return np.argsort(-values, axis=1, kind="stable")[:, :count]


def _without_other_groups(keys: Float32, groups: int, chosen: int, best: int) -> Float32:
    """The keys, those outside of the best groups as low as can be."""
    parts = keys.reshape(len(keys), groups, -1)  # (N, G, E / G)
    good = -np.sort(-parts, axis=2)[:, :, :best]
    total = good[:, :, 0] if best == 1 else good[:, :, 0] + good[:, :, 1]
    kept = np.zeros(total.shape, bool)
    np.put_along_axis(kept, _best(total, chosen), True, axis=1)
    return np.where(kept[:, :, None], parts, np.float32(-np.inf)).reshape(keys.shape)


def _route(call: Call) -> tuple[Float32, ...]:
    (logits,) = call.inputs  # (N, E)
    count, scoring = call.integer("chosen"), SCORINGS[call.integer("scoring")]
    wide = logits.astype(np.float64)
    raised = np.exp(wide - wide.max(axis=1, keepdims=True))
    scores = raised / raised.sum(axis=1, keepdims=True)
    if scoring.startswith("sigmoid"):
        with np.errstate(over="ignore"):
            scores = 1.0 / (1.0 + np.exp(-wide))
    keys = logits if scoring.endswith("of_chosen") else scores.astype(np.float32)
    if call.weights[0] is not None:
        keys = keys + call.weights[0]
    if call.integer("groups") > 1:
        limits = (call.integer(name) for name in ("groups", "groups_chosen", "group_best"))
        keys = _without_other_groups(keys, *limits)
    best = _best(keys, count)
    weights = np.take_along_axis(raised if scoring == "softmax_of_chosen" else scores, best, axis=1)
    if call.integer("normalise") or scoring == "softmax_of_chosen":
        weights = weights / (weights.sum(axis=1, keepdims=True) + LEAST_SUM)
    weights = weights * call.number("factor")
    if call.weights[1] is not None:
        weights = weights * call.weights[1].astype(np.float64)[best]
    weights = np.where(np.isnan(wide).any(axis=1, keepdims=True), np.nan, weights)
    return (np.concatenate([best.astype(np.float32), weights.astype(np.float32)], axis=1),)


def _route_cost(sizes: Sizes) -> Cost:
    return Cost(8.0 * sizes.rows * sizes.widths[0], sum(sizes.weight_bytes), sizes.row_bytes())


def _expert_linear(call: Call) -> tuple[Float32, ...]:
    x, route = call.inputs
    matrices, biases = call.weight(0), call.weights[1]  # (E, M, K), (E, M)
    count = route.shape[1] // 2
    parts = x.reshape(len(x), -1, matrices.shape[2])  # one part for all experts, or one for each
    out = np.zeros((len(x), count, matrices.shape[1]), np.float32)
    for row in range(len(x)):
        for place in range(count):
            expert, part = int(route[row, place]), parts[row, min(place, parts.shape[1] - 1)]
            out[row, place] = matrices[expert] @ part
            if biases is not None:
                out[row, place] += biases[expert]
    return (out.reshape(len(x), -1),)


def _expert_inputs(call: Call) -> tuple[Float32, ...]:
    x, route = call.inputs
    weights = route[:, route.shape[1] // 2 :]
    return ((x[:, None, :] * weights[:, :, None]).reshape(len(x), -1),)


def _expert_sum(call: Call) -> tuple[Float32, ...]:
    x, route = call.inputs
    count = route.shape[1] // 2
    weights = route[:, count:] if call.integer("weighted") else np.ones((len(x), count), np.float32)
    return (np.einsum("nkm,nk->nm", x.reshape(len(x), count, -1), weights).astype(np.float32),)


def _expert_cost(sizes: Sizes) -> Cost:
    experts, outer, inner = sizes.weight_shapes[0]
    chosen = sizes.output_width // outer
    touched = experts * (1.0 - (1.0 - chosen / experts) ** sizes.rows)  # expected, rows independent
    bytes_read = sum(sizes.weight_bytes) / experts * touched
    return Cost(2.0 * sizes.rows * chosen * outer * inner, bytes_read, sizes.row_bytes())


DECLARED = (
    Op(
        "route",
        ("logits",),
        ("route",),
        _route,
        _route_cost,
        weights=("bias?", "scales?"),
        attributes=("chosen", "scoring", "normalise", "factor", "groups", "groups_chosen", "group_best"),
        kernel="route",
        integers=("chosen", "scoring", "normalise", "groups", "groups_chosen", "group_best"),
        floats=("factor",),
    ),
    Op(
        "expert_linear",
        ("x", "route"),
        ("y",),
        _expert_linear,
        _expert_cost,
        weights=("matrices", "biases?"),
        kernel="expert_linear",
    ),
    Op("expert_inputs", ("x", "route"), ("y",), _expert_inputs, rowwise_cost(1), kernel="expert_inputs"),
    Op(
        "expert_sum",
        ("x", "route"),
        ("y",),
        _expert_sum,
        rowwise_cost(2),
        attributes=("weighted",),
        kernel="expert_sum",
        integers=("weighted",),
    ),
)
