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
# On how many days, until when and since when somebody orders: what timing is fitted to.
TIMING = (
    "order_day_count",
    "days_from_first_to_last_order",
    "days_since_first_order",
)

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]


def feature_columns(features: pl.DataFrame) -> tuple[str, ...]:
    """The columns that say something about a profile: every number but the keys."""
    return tuple(features.select(cs.numeric().exclude(*KEYS)).columns)


def encode(features: pl.DataFrame, columns: Sequence[str]) -> Matrix:
    """One row per profile, one column per feature; NaN where a feature is unknown.

    Raises:
        ValueError: if a column is missing or holds infinite values.
    """
    missing = [column for column in columns if column not in features.columns]
    if missing:
        raise ValueError(f"features lack the columns {', '.join(missing)}")
    if not columns:
        return np.empty((features.height, 0))
    numbers: Matrix = features.select(
        pl.col(column).cast(pl.Float64).fill_null(float("nan")) for column in columns
    ).to_numpy()
    if np.isinf(numbers).any():
        raise ValueError("features hold infinite values")
    return numbers


def squash(matrix: Matrix) -> Matrix:
    """The logarithm of one plus its size, with its sign, of every number.

    Counts, amounts and ages are skewed over orders of magnitude.
    """
    squashed: Matrix = np.sign(matrix) * np.log1p(np.abs(matrix))
    return squashed
