"""The release gate: whether a new estimator may be used, and if not, why.

It must do better than recency, frequency and value alone beyond chance, keep its
promises as well as they do, and have learnt from nothing that it could not know. All is
measured on what came after the cutoff that it learnt up to, at several cutoffs
together: one alone shows what that season did.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from ml import evaluation
from ml.encoding import encode
from ml.evaluation import BINS, Metrics, Outcomes, Vector

RefusalReason = Literal[
    "too_few_outcomes", "not_better_than_rfm", "miscalibrated", "leak", "id_like"
]

RESAMPLES = 2000
# One in twenty estimators that are no better passes by luck.
CONFIDENCE = 0.95
# Promise and outcome may differ by this beyond what chance explains: seasons do that.
# They may differ as much as the baseline's, which would be used instead.
MAX_MISCALIBRATION = 0.05
# A single feature that ranks the future so well, and better by a margin than recency,
# frequency and value do together, has seen it.
LEAK_AUC = 0.95
LEAK_MARGIN = 0.03
# So informative a feature, when learning, is not constant in use unless it was fed by
# what had not happened yet.
INFORMATIVE_AUC = 0.6
# Fewer values than this may well differ by chance.
MIN_IDS = 100
ID_SUFFIXES = ("_id", "_key", "_number", "_code")


@dataclass(frozen=True)
class Refusal:
    """Why an estimator is not used, for a rule and for a reader."""

    reason: RefusalReason
    detail: str


@dataclass(frozen=True)
class Trial:
    """What an estimator and the baseline predicted at one cutoff, and the outcome.

    `profiles` says whose outcome each is: the same ones come again at other cutoffs.
    """

    cutoff_at: datetime
    profiles: Sequence[str]
    outcomes: Outcomes
    predictions: Vector
    baseline_predictions: Vector

    @property
    def gains(self) -> Vector:
        """How much less each prediction cost in log-loss than the baseline's."""
        return evaluation.log_losses(
            self.outcomes, self.baseline_predictions
        ) - evaluation.log_losses(self.outcomes, self.predictions)


@dataclass(frozen=True)
class Comparison:
    """An estimator against the baseline, at several cutoffs together."""

    metrics: Metrics
    baseline_metrics: Metrics
    gain: float
    least_gain: float
    losses_by_cutoff: tuple[tuple[datetime, float, float], ...]

    def __str__(self) -> str:
        """Which is better, by how much, how surely, and at which cutoffs."""
        gain = f"worse by {-self.gain:.4f}"
        if self.gain > 0:
            gain = f"better by {self.gain:.4f}, which may be chance"
        if self.least_gain > 0:
            gain = (
                f"better by {self.gain:.4f}, at least {self.least_gain:.4f} "
                f"with {CONFIDENCE:.0%} confidence"
            )
        cutoffs = ", ".join(
            f"{cutoff_at:%Y-%m-%d} {own:.4f} against {other:.4f}"
            for cutoff_at, own, other in self.losses_by_cutoff
        )
        return (
            f"log-loss {self.metrics.log_loss:.4f} against the baseline's "
            f"{self.baseline_metrics.log_loss:.4f}: {gain} ({cutoffs})"
        )


def compare(trials: Sequence[Trial]) -> Comparison:
    """The estimator and the baseline over all trials together.

    The AUC is the mean over cutoffs: nobody is ranked against another moment's people.
    """
    outcomes = pool(trials, "outcomes").astype(bool)
    sizes = [trial.outcomes.size for trial in trials]

    def measure(name: str) -> Metrics:
        aucs = [
            evaluation.ranking(trial.outcomes, getattr(trial, name)) for trial in trials
        ]
        pooled = evaluation.evaluate(outcomes, pool(trials, name))
        return replace(pooled, auc=float(np.average(aucs, weights=sizes)))

    gains = pool(trials, "gains")
    return Comparison(
        metrics=measure("predictions"),
        baseline_metrics=measure("baseline_predictions"),
        gain=float(gains.mean()),
        least_gain=float(
            np.quantile(
                bootstrap_means(gains, [one for t in trials for one in t.profiles]),
                1 - CONFIDENCE,
            )
        ),
        losses_by_cutoff=tuple(
            (
                trial.cutoff_at,
                float(evaluation.log_losses(trial.outcomes, trial.predictions).mean()),
                float(
                    evaluation.log_losses(
                        trial.outcomes, trial.baseline_predictions
                    ).mean()
                ),
            )
            for trial in sorted(trials, key=lambda trial: trial.cutoff_at)
        ),
    )


def pool(trials: Sequence[Trial], name: str) -> Vector:
    """One column of all trials, one below the other."""
    return np.concatenate([getattr(trial, name) for trial in trials])


def judge(
    trials: Sequence[Trial],
    comparison: Comparison,
    tested: pl.DataFrame,
    current: pl.DataFrame,
    columns: Sequence[str],
) -> Refusal | None:
    """The first reason against using an estimator; None where there is none.

    `comparison` is that of `trials`; `tested` holds the features of the first trial in
    its order; `current` those that are scored now, empty where nobody is.
    """
    return (
        find_id(tested, columns)
        or find_leak(trials[0], tested, current, columns)
        or find_no_gain(comparison)
        or find_miscalibration(trials, comparison)
    )


def find_no_gain(comparison: Comparison) -> Refusal | None:
    """Refuse what does not beat the baseline's log-loss beyond chance, or costs else.

    Chance is measured by a bootstrap of profiles, each with all its cutoffs.
    """
    if comparison.least_gain <= 0:
        return Refusal("not_better_than_rfm", str(comparison))
    ours, theirs = comparison.metrics, comparison.baseline_metrics
    for name, own, other, loses in (
        ("AUC", ours.auc, theirs.auc, ours.auc < theirs.auc),
        (
            "Brier score",
            ours.brier_score,
            theirs.brier_score,
            ours.brier_score > theirs.brier_score,
        ),
    ):
        if loses:
            return Refusal(
                "not_better_than_rfm",
                f"{name} {own:.4f} against the baseline's {other:.4f}: worse by "
                f"{abs(own - other):.4f}, though {comparison}",
            )
    return None


def find_miscalibration(
    trials: Sequence[Trial], comparison: Comparison
) -> Refusal | None:
    """Refuse promises that are off, on the whole or in tenths, beyond chance.

    Where the base rate has moved all are off: what counts is whether the baseline's,
    which would be made instead, are less so.
    """
    predictions = pool(trials, "predictions")
    in_the_large, in_tenths = errors_by_chance(predictions)
    for name, measure, by_chance in (
        ("in the large", "calibration_in_the_large", in_the_large),
        ("in tenths", "calibration_error", in_tenths),
    ):
        error = abs(getattr(comparison.metrics, measure))
        usual = abs(getattr(comparison.baseline_metrics, measure))
        if error > max(MAX_MISCALIBRATION, usual) + by_chance:
            return Refusal(
                "miscalibrated",
                f"off by {error:.3f} {name}, the baseline by {usual:.3f}, where "
                f"{by_chance:.3f} would be chance; {comparison}",
            )
    return None


def errors_by_chance(predictions: Vector) -> tuple[float, float]:
    """How far true chances may be off, in the large and in tenths, with confidence."""
    parts = np.array_split(np.sort(predictions), min(BINS, predictions.size))
    spreads = np.sqrt([(part * (1 - part)).sum() for part in parts])
    drawn = np.random.default_rng(0).normal(0, spreads, (RESAMPLES, len(parts)))
    errors = np.abs(drawn.sum(axis=1)), np.abs(drawn).sum(axis=1)
    in_the_large, in_tenths = (
        float(np.quantile(error, CONFIDENCE)) / predictions.size for error in errors
    )
    return in_the_large, in_tenths


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
            return Refusal(
                "leak", f"{column} predicts the outcome alone, AUC {auc:.3f}"
            )
        is_dead = after.size > 1 and np.unique(after).size == 1
        if is_dead and auc >= INFORMATIVE_AUC:
            return Refusal(
                "leak",
                f"{column} predicted much in the past and is the same for all now",
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
            known.size >= MIN_IDS
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


def bootstrap_means(values: Vector, profiles: Sequence[str]) -> Vector:
    """The means of resamples of profiles; of blocks of them where there are many."""
    _, numbers = np.unique(np.asarray(profiles), return_inverse=True)
    by_profile = np.bincount(numbers, weights=values), np.bincount(numbers)
    sums, sizes = (
        np.array([part.sum() for part in np.array_split(each, RESAMPLES)])
        if each.size > RESAMPLES
        else each
        for each in by_profile
    )
    drawn = np.random.default_rng(0).integers(sums.size, size=(RESAMPLES, sums.size))
    means: Vector = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return means
