"""What is kept of the positions of a text: sums for means and their errors, KL of each for percentiles.

Standard errors take positions for independent, as llama-perplexity does: the standard deviation over
positions (with n - 1) over the root of n. Neighbours in a text are not quite, so they are a little low.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from fivefold.core.batch import Float32

from .distance import Float64, Found

Arrays = dict[str, npt.NDArray[Any]]
PERCENTILES = (50.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of a text; None without a reference.

    KL is from the reference to the model, in nats a position. `log_ratio` is ln(perplexity / reference's),
    its error that of the paired differences. `top1_agreement` is the share of positions where both find
    the same word likeliest.
    """

    positions: int
    perplexity: float
    perplexity_error: float
    mean_kl: float | None = None
    mean_kl_error: float | None = None
    top1_agreement: float | None = None
    top1_agreement_error: float | None = None
    median_kl: float | None = None
    p99_kl: float | None = None
    p99_9_kl: float | None = None
    max_kl: float | None = None
    log_ratio: float | None = None
    log_ratio_error: float | None = None
    reference_perplexity: float | None = None
    reference_perplexity_error: float | None = None


@dataclass(slots=True)
class Moments:
    """Count, mean, and the sum of squared distances to it, of values that come in pieces.

    Pieces are merged as Chan, Golub and LeVeque do (1983), so that no digits are lost in differences of
    large sums.
    """

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Float64) -> None:
        """Count a piece in."""
        if not len(values):
            return
        more, mean = float(len(values)), float(values.mean())
        count, apart = self.count + more, mean - self.mean
        self.squares += float(np.square(values - mean).sum()) + apart * apart * self.count * more / count
        self.mean += apart * more / count
        self.count = count

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 of one value."""
        return sqrt(self.squares / (self.count - 1) / self.count) if self.count > 1 else 0.0

    @property
    def perplexity(self) -> tuple[float, float]:
        """exp(mean) and its standard error, of losses."""
        return exp(self.mean), exp(self.mean) * self.error


@dataclass(slots=True)
class Tally:
    """What is kept of one model."""

    losses: Moments = field(default_factory=Moments)
    ratios: Moments = field(default_factory=Moments)
    distances: Moments = field(default_factory=Moments)
    agreements: Moments = field(default_factory=Moments)
    each: list[Float32] = field(default_factory=list)

    def add(self, found: Found, reference: Found | None) -> None:
        """Count positions in."""
        self.losses.add(found.losses)
        if reference is not None:
            self.ratios.add(found.losses - reference.losses)
            self.distances.add(found.distances)
            self.agreements.add((found.firsts == reference.firsts).astype(np.float64))
            self.each.append(found.distances.astype(np.float32))

    def figures(self, reference: Moments) -> Quality:
        """The figures; `reference` are the reference's losses, of no position if there is none."""
        own = (int(self.losses.count), *self.losses.perplexity)
        if not reference.count:
            return Quality(*own)
        median, p99, p99_9, largest = map(float, np.percentile(np.concatenate(self.each), PERCENTILES))
        return Quality(
            *own, self.distances.mean, self.distances.error, self.agreements.mean, self.agreements.error,
            median, p99, p99_9, largest, self.ratios.mean, self.ratios.error, *reference.perplexity,
        )  # fmt: skip

    @property
    def moments(self) -> tuple[Moments, ...]:
        """All sums, in a fixed order."""
        return self.losses, self.ratios, self.distances, self.agreements


@dataclass(slots=True)
class Tallies:
    """What is kept of all models and the reference after so many whole windows."""

    models: list[Tally]
    reference: Moments = field(default_factory=Moments)
    windows: int = 0

    @property
    def positions(self) -> int:
        """Positions scored so far."""
        return int(self.models[0].losses.count)

    def arrays(self) -> Arrays:
        """Float64 sums (M + 1, 4, 3), the first of the last row the reference's; float32 KL (M, n)."""
        rows = [[(m.count, m.mean, m.squares) for m in tally.moments] for tally in self.models]
        own = self.reference
        rows.append([(own.count, own.mean, own.squares), *[(0.0, 0.0, 0.0)] * 3])
        kept = [np.concatenate([np.empty(0, np.float32), *tally.each]) for tally in self.models]
        return {"windows": np.array(self.windows), "sums": np.array(rows), "kl": np.stack(kept)}

    @staticmethod
    def of(arrays: Arrays) -> Tallies:
        """The reverse of `arrays`."""
        *models, own = [[Moments(*each) for each in row] for row in arrays["sums"].tolist()]
        tallies = [
            Tally(losses, ratios, distances, agreements, [np.asarray(kept, np.float32)])
            for (losses, ratios, distances, agreements), kept in zip(models, arrays["kl"], strict=True)
        ]
        return Tallies(tallies, own[0], int(arrays["windows"]))
