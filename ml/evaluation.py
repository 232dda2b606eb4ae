"""How good probabilities are: ranking, sharpness and calibration, out of time.

Measures only; which estimator is used is decided where it is trained.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

BINS = 10

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Outcomes = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Metrics:
    """Measures of one set of predictions; smaller is better except for `auc`."""

    auc: float
    log_loss: float
    brier_score: float
    calibration_error: float


def evaluate(outcomes: Outcomes, predictions: Vector) -> Metrics:
    """Compare predicted probabilities with what came true.

    Raises:
        ValueError: if only one outcome occurs, so that no ranking can be measured.
    """
    if outcomes.all() or not outcomes.any():
        raise ValueError("both outcomes are needed to measure predictions")
    return Metrics(
        auc=float(roc_auc_score(outcomes, predictions)),
        log_loss=float(log_loss(outcomes, predictions)),
        brier_score=float(brier_score_loss(outcomes, predictions)),
        calibration_error=calibration_error(outcomes, predictions),
    )


def calibration(
    outcomes: Outcomes, predictions: Vector, bins: int = BINS
) -> pl.DataFrame:
    """One row per bin of equally many predictions, from the lowest to the highest.

    Ties are kept apart by position, so that a constant prediction still fills bins.
    """
    order = np.argsort(predictions, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return pl.DataFrame(
        {
            "bin": list(range(1, len(parts) + 1)),
            "profile_count": [part.size for part in parts],
            "predicted_rate": [float(predictions[part].mean()) for part in parts],
            "observed_rate": [float(outcomes[part].mean()) for part in parts],
        },
        schema={
            "bin": pl.Int64,
            "profile_count": pl.Int64,
            "predicted_rate": pl.Float64,
            "observed_rate": pl.Float64,
        },
    )


def calibration_error(
    outcomes: Outcomes, predictions: Vector, bins: int = BINS
) -> float:
    """The expected calibration error: the mean gap between promise and outcome.

    Naeini, Cooper, Hauskrecht (2015), with bins of equal size.
    """
    table = calibration(outcomes, predictions, bins)
    gap = (pl.col("predicted_rate") - pl.col("observed_rate")).abs()
    share = pl.col("profile_count") / pl.col("profile_count").sum()
    return float(table.select((gap * share).sum()).item())
