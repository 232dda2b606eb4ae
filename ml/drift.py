"""How far those who are scored have moved away from those who were learnt from.

Population stability index by feature, and rates by cutoff; what is done about it is
somebody else's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ml.encoding import Matrix, encode
from ml.evaluation import Vector

BINS = 10
# The usual thresholds of credit scoring: below 0.1 nothing, from 0.25 much.
DRIFTED = 0.25
# A bin that was, or is, empty counts as this share.
MIN_SHARE = 1e-4


@dataclass(frozen=True)
class Spread:
    """How the values of one feature are spread: shares of bins, the last of unknown."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, values: Vector) -> "Spread":
        """The spread of values over tenths of their own, as far as these differ."""
        known = values[~np.isnan(values)]
        tenths = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = np.unique(np.quantile(known, tenths)) if known.size else np.empty(0)
        return cls(tuple(edges.tolist()), share_bins(edges, values))

    def stability(self, values: Vector) -> float:
        """The population stability index of values against this spread."""
        return stability_index(self.shares, share_bins(np.array(self.edges), values))


def share_bins(edges: Vector, values: Vector) -> tuple[float, ...]:
    """The share of values in each bin between edges, and of those unknown."""
    unknown = np.isnan(values)
    bins = np.searchsorted(edges, values[~unknown], side="right")
    counts = np.append(np.bincount(bins, minlength=len(edges) + 1), unknown.sum())
    return tuple((counts / max(values.size, 1)).tolist())


def spread_of(matrix: Matrix, columns: Sequence[str]) -> dict[str, Spread]:
    """The spread of each column."""
    return {
        column: Spread.of(values)
        for column, values in zip(columns, matrix.T, strict=True)
    }


def drift_table(
    estimator_id: str,
    spreads: Mapping[str, Spread],
    features: pl.DataFrame,
    base_rates: pl.DataFrame,
) -> pl.DataFrame:
    """One row per feature and per target's base rate, what moved most first.

    `features` are those scored now; `base_rates` hold how often each target came true
    by cutoff, of which the newest is held against the others.
    """
    matrix = encode(features, tuple(spreads))
    indices = {
        ("feature", column): spread.stability(values)
        for (column, spread), values in zip(spreads.items(), matrix.T, strict=True)
        if values.size
    }
    for (target,), rates in base_rates.sort("cutoff_at").group_by(
        "target", maintain_order=True
    ):
        *earlier, newest = rates.rows(named=True)
        count = sum(row["profile_count"] for row in earlier)
        if count:
            happened = sum(row["profile_count"] * row["base_rate"] for row in earlier)
            indices["base_rate", str(target)] = stability_index(
                (happened / count, 1 - happened / count),
                (newest["base_rate"], 1 - newest["base_rate"]),
            )
    return (
        pl.DataFrame(
            [(kind, name, round(index, 6)) for (kind, name), index in indices.items()],
            schema={
                "kind": pl.String,
                "name": pl.String,
                "stability_index": pl.Float64,
            },
            orient="row",
        )
        .select(
            pl.lit(estimator_id).alias("estimator_id"),
            pl.all(),
            (pl.col("stability_index") >= DRIFTED).alias("is_drifted"),
        )
        .sort("stability_index", "name", descending=[True, False])
    )


def stability_index(then: Sequence[float], now: Sequence[float]) -> float:
    """How far shares have moved: the sum of differences times log-ratios."""
    before = np.maximum(then, MIN_SHARE)
    after = np.maximum(now, MIN_SHARE)
    return float(((after - before) * np.log(after / before)).sum())
