"""How good probabilities are: ranking, sharpness and calibration, out of time.

Measures only; which estimator is used is decided where it is trained.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.stats import rankdata

BINS = 10

Vector = np.ndarray[tuple[int], np.dtype[np.float64]]
Outcomes = np.ndarray[tuple[int], np.dtype[np.bool_]]

CALIBRATION: dict[str, pl.DataType | type[pl.DataType]] = {
    "bin": pl.Int64,
    "profile_count": pl.Int64,
    "predicted_rate": pl.Float64,
    "observed_rate": pl.Float64,
    "lift": pl.Float64,
}


@dataclass(frozen=True)
class Metrics:
    """Measures of one set of predictions; smaller is better except for `auc`.

    `calibration_in_the_large` is nearer zero the better.
    """

    auc: float
    log_loss: float
    brier_score: float
    calibration_error: float
    calibration_in_the_large: float


def evaluate(outcomes: Outcomes, predictions: Vector) -> Metrics:
    """Compare predicted probabilities with what came true.

    Raises:
        ValueError: if only one outcome occurs, so that no ranking can be measured.
    """
    return Metrics(
        auc=ranking(outcomes, predictions),
        log_loss=float(log_losses(outcomes, predictions).mean()),
        brier_score=float(((predictions - outcomes) ** 2).mean()),
        calibration_error=calibration_error(outcomes, predictions),
        calibration_in_the_large=calibration_in_the_large(outcomes, predictions),
    )


def ranking(outcomes: Outcomes, values: Vector) -> float:
    """How often the one with the outcome has the higher value, ties half: the AUC.

    Hanley and McNeil (1982), through ranks.

    Raises:
        ValueError: if only one outcome occurs.
    """
    positives, negatives = int(outcomes.sum()), int((~outcomes).sum())
    if not positives or not negatives:
        raise ValueError("both outcomes are needed to measure predictions")
    ranks = rankdata(values)[outcomes].sum()
    return float((ranks - positives * (positives + 1) / 2) / positives / negatives)


def log_losses(outcomes: Outcomes, predictions: Vector) -> Vector:
    """What each prediction cost: minus the logarithm of the truth's chance."""
    given = np.where(outcomes, predictions, 1 - predictions)
    losses: Vector = -np.log(np.maximum(given, np.finfo(float).tiny))
    return losses


def calibration(
    outcomes: Outcomes, predictions: Vector, bins: int = BINS
) -> pl.DataFrame:
    """One row per bin of equally many predictions, from the lowest to the highest.

    `lift` is how many times as often as on the whole the outcome occurred there. Ties
    are kept apart by position, so that a constant prediction still fills bins.
    """
    order = np.argsort(predictions, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    rate = float(outcomes.mean()) if outcomes.size else 0.0
    observed = [float(outcomes[part].mean()) for part in parts]
    return pl.DataFrame(
        {
            "bin": list(range(1, len(parts) + 1)),
            "profile_count": [part.size for part in parts],
            "predicted_rate": [float(predictions[part].mean()) for part in parts],
            "observed_rate": observed,
            "lift": [share / rate if rate else None for share in observed],
        },
        schema=CALIBRATION,
    )


def calibration_error(
    outcomes: Outcomes, predictions: Vector, bins: int = BINS
) -> float:
    """The expected calibration error: the mean gap between promise and outcome.

    Naeini, Cooper, Hauskrecht (2015), with bins of equal size.
    """
    order = np.argsort(predictions, kind="stable")
    gaps = (predictions - outcomes)[order]
    parts = np.array_split(gaps, min(bins, max(gaps.size, 1)))
    return float(sum(abs(part.sum()) for part in parts) / max(gaps.size, 1))


def calibration_in_the_large(outcomes: Outcomes, predictions: Vector) -> float:
    """What was promised on the whole beyond what came true; negative: too little."""
    return float(predictions.mean() - outcomes.mean())
