"""From a features frame to the matrix that estimators read, one way for all of them.

The encoding has no memory: nothing here is fitted, so training and scoring cannot
differ. Scaling and imputing belong to the fitted pipeline.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import polars.selectors as cs

KEYS = ("profile_id", "cutoff_at")
RFM = ("days_since_last_order", "order_count", "revenue_amount")

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def feature_columns(features: pl.DataFrame) -> tuple[str, ...]:
    """The columns that say something about a profile: every number but the keys."""
    return tuple(features.select(cs.numeric().exclude(*KEYS)).columns)


def encode(features: pl.DataFrame, columns: Sequence[str]) -> Matrix:
    """One row per profile, one column per feature; NaN where a feature is unknown.

    Counts, amounts and ages are skewed over orders of magnitude: each becomes the
    logarithm of one plus its size, with its sign.

    Raises:
        ValueError: if a column is missing or holds infinite values.
    """
    missing = [column for column in columns if column not in features.columns]
    if missing:
        raise ValueError(f"features lack the columns {', '.join(missing)}")
    numbers = features.select(
        pl.col(column).cast(pl.Float64).fill_null(float("nan")) for column in columns
    ).to_numpy()
    if np.isinf(numbers).any():
        raise ValueError("features hold infinite values")
    matrix: Matrix = np.sign(numbers) * np.log1p(np.abs(numbers))
    return matrix
