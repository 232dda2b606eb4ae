"""The release gate: whether a new estimator may be used, and if not, why.

It must do better than recency, frequency and value alone beyond chance, keep its
promises, and have learnt from nothing that it could not know. All is measured on what
came after the cutoff that it learnt up to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from ml import evaluation
from ml.encoding import encode
from ml.evaluation import Outcomes, Vector

RefusalReason = Literal[
    "too_few_outcomes", "not_better_than_rfm", "miscalibrated", "leak", "id_like"
]

RESAMPLES = 2000
# One in twenty estimators that are no better passes by luck.
CONFIDENCE = 0.95
# Promise and outcome may differ by this beyond what chance explains: seasons do that.
MOST_MISCALIBRATION = 0.05
# A single feature that ranks the future so well, and better by a margin than recency,
# frequency and value do together, has seen it.
LEAK_AUC = 0.95
LEAK_MARGIN = 0.03
# So informative a feature, when learning, is not constant in use unless it was fed by
# what had not happened yet.
INFORMATIVE_AUC = 0.6
# Fewer values than this may well differ by chance.
FEWEST_IDS = 100
ID_SUFFIXES = ("_id", "_key", "_number", "_code")


@dataclass(frozen=True)
class Refusal:
    """Why an estimator is not used, for a rule and for a reader."""

    reason: RefusalReason
    detail: str


@dataclass(frozen=True)
class Trial:
    """What an estimator and the baseline foretold, and what came."""

    outcomes: Outcomes
    predictions: Vector
    baseline_predictions: Vector


def judge(
    trial: Trial, tested: pl.DataFrame, current: pl.DataFrame, columns: Sequence[str]
) -> Refusal | None:
    """The first reason against using an estimator; None where there is none.

    `tested` holds the features at the tested cutoff in the order of the trial;
    `current` those that are scored now, empty where nobody is.
    """
    return (
        find_id(tested, columns)
        or find_leak(trial, tested, current, columns)
        or find_no_gain(trial)
        or find_miscalibration(trial)
    )


def find_no_gain(trial: Trial) -> Refusal | None:
    """Refuse what does not beat the baseline's log-loss, by a paired bootstrap."""
    gains = evaluation.log_losses(
        trial.outcomes, trial.baseline_predictions
    ) - evaluation.log_losses(trial.outcomes, trial.predictions)
    least = float(np.quantile(bootstrap_means(gains), 1 - CONFIDENCE))
    if least > 0:
        return None
    return Refusal(
        "not_better_than_rfm",
        f"log-loss {gains.mean():+.4f} better than the baseline's, "
        f"at least {least:+.4f} with {CONFIDENCE:.0%} confidence",
    )


def find_miscalibration(trial: Trial) -> Refusal | None:
    """Refuse promises that are off, on the whole or in bins, beyond chance."""
    dice = np.random.default_rng(0)
    chance = dice.uniform(size=(200, trial.predictions.size)) < trial.predictions
    measures: dict[str, Callable[[Outcomes, Vector], float]] = {
        "in the large": evaluation.calibration_in_the_large,
        "in tenths": evaluation.calibration_error,
    }
    for name, measure in measures.items():
        error = abs(measure(trial.outcomes, trial.predictions))
        by_chance = float(
            np.quantile(
                [abs(measure(drawn, trial.predictions)) for drawn in chance], CONFIDENCE
            )
        )
        if error > MOST_MISCALIBRATION + by_chance:
            return Refusal(
                "miscalibrated",
                f"off by {error:.3f} {name}, where {by_chance:.3f} would be chance",
            )
    return None


def find_leak(
    trial: Trial, tested: pl.DataFrame, current: pl.DataFrame, columns: Sequence[str]
) -> Refusal | None:
    """Refuse a feature that knows what it should foretell.

    It gives itself away by telling the outcome on its own, or by being informative in
    the past, where its future is recorded, and the same for everybody now.
    """
    usual = evaluation.ranking(trial.outcomes, trial.baseline_predictions)
    past, now = encode(tested, columns), encode(current, columns)
    for column, before, after in zip(columns, past.T, now.T, strict=True):
        auc = informativeness(trial.outcomes, before)
        if auc >= LEAK_AUC and auc >= usual + LEAK_MARGIN:
            return Refusal("leak", f"{column} tells the outcome alone, AUC {auc:.3f}")
        is_dead = after.size > 1 and np.unique(after).size == 1
        if is_dead and auc >= INFORMATIVE_AUC:
            return Refusal(
                "leak", f"{column} told much in the past and is the same for all now"
            )
    return None


def find_id(tested: pl.DataFrame, columns: Sequence[str]) -> Refusal | None:
    """Refuse a feature that names profiles rather than describes them.

    By its own name, or because whole numbers, no amounts, are a different one for
    everybody.
    """
    for column in columns:
        if column.endswith(ID_SUFFIXES):
            return Refusal("id_like", f"{column} is named like an identifier")
    for column, values in zip(columns, encode(tested, columns).T, strict=True):
        known = values[~np.isnan(values)]
        if (
            known.size >= FEWEST_IDS
            and not column.endswith("_amount")
            and np.array_equal(known, known.round())
            and np.unique(known).size == known.size
        ):
            return Refusal("id_like", f"{column} differs for each of {known.size}")
    return None


def informativeness(outcomes: Outcomes, values: Vector) -> float:
    """How well one feature ranks the outcomes, either way up; unknown ranks lowest."""
    auc = evaluation.ranking(outcomes, np.nan_to_num(values, nan=-np.inf))
    return max(auc, 1 - auc)


def bootstrap_means(values: Vector) -> Vector:
    """The means of resamples; of blocks of rows where there are many rows."""
    blocks = np.array_split(values, min(values.size, RESAMPLES))
    sums = np.array([block.sum() for block in blocks])
    sizes = np.array([block.size for block in blocks])
    drawn = np.random.default_rng(0).integers(
        len(blocks), size=(RESAMPLES, len(blocks))
    )
    means: Vector = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means
