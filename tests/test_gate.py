"""The release gate on simulated shops: it lets the better estimator pass, no other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from ml import evaluation, gate
from tests.conftest import moment

NEWEST = moment("2026-05-01")
PROFILES = 1500
USUAL, FALLEN = -2.0, -3.2


def simulate(
    seed: int,
    levels: Sequence[float],
    *,
    visits_tell: float,
    noise: float = 0.0,
    profiles: int = PROFILES,
) -> list[gate.Trial]:
    """Trials at one cutoff for each level of log-odds, the newest first.

    What people do follows recency, by as much as `visits_tell` their visits, and the
    level. Both promise what held at the usual level: the estimator sees the visits and
    is off by `noise`, the baseline averages over all visits there are.
    """
    dice = np.random.default_rng(seed)
    people = [f"person-{number}" for number in range(profiles)]
    grid = np.linspace(-2.5, 2.5, 51)
    weights = np.exp(-(grid**2) / 2)
    trials = []
    for number, level in enumerate(levels):
        recency, visits = dice.normal(0, 0.8, profiles), dice.normal(0, 1, profiles)
        truth = expit(level + recency + visits_tell * visits)
        seen = visits_tell * visits + noise * dice.normal(0, 1, profiles)
        average = expit(USUAL + recency[:, None] + visits_tell * grid) @ weights
        trials.append(
            gate.Trial(
                NEWEST - number * timedelta(days=30),
                people,
                dice.random(profiles) < truth,
                expit(USUAL + recency + seen),
                average / weights.sum(),
            )
        )
    return trials


def refusal(trials: Sequence[gate.Trial]) -> gate.Refusal | None:
    comparison = gate.compare(trials)
    return gate.find_no_gain(comparison) or gate.find_miscalibration(trials, comparison)


def refusals(seeds: int, levels: Sequence[float], **shop: Any) -> Counter[str]:
    """How often, over many shops, for which reason."""
    told = (refusal(simulate(seed, levels, **shop)) for seed in range(seeds))
    return Counter(one.reason if one else "released" for one in told)


@pytest.mark.parametrize(
    "levels",
    [
        (USUAL, USUAL, USUAL),
        (FALLEN, USUAL, USUAL),
        (USUAL, FALLEN, USUAL),
        (-2.4, -2.4, -2.4),
        (-1.0, USUAL, USUAL),
    ],
    ids=["steady", "fell lately", "fell for a while", "fell for long", "rose lately"],
)
def test_the_better_estimator_is_released_though_the_base_rate_moved(
    levels: tuple[float, ...],
) -> None:
    told = refusals(20, levels, visits_tell=0.9)
    assert told["released"] >= 19, told


@pytest.mark.parametrize("levels", [(USUAL,) * 3, (FALLEN, USUAL, USUAL)])
def test_the_worse_estimator_is_refused(levels: tuple[float, ...]) -> None:
    told = refusals(20, levels, visits_tell=0.0, noise=0.5)
    assert told["released"] == 0, told


def test_an_estimator_that_is_no_better_passes_one_time_in_twenty_at_most() -> None:
    told = refusals(80, (USUAL,) * 3, visits_tell=0.0, noise=0.02)
    assert told["not_better_than_rfm"] >= 72, told


def test_a_good_ranking_with_promises_far_beyond_the_baselines_is_refused() -> None:
    for seed in range(10):
        trials = [
            replace(trial, predictions=np.minimum(trial.predictions * 2.5, 0.99))
            for trial in simulate(seed, (USUAL,) * 3, visits_tell=2.5)
        ]
        assert refusal(trials) is not None


def test_the_verdict_names_the_better_one_by_how_much_and_at_which_cutoffs() -> None:
    trials = simulate(1, (FALLEN, USUAL, USUAL), visits_tell=0.9)
    turned = [
        replace(
            trial,
            predictions=trial.baseline_predictions,
            baseline_predictions=trial.predictions,
        )
        for trial in trials
    ]
    costs = [
        float(
            np.concatenate(
                [evaluation.log_losses(t.outcomes, p) for t, p in pairs]
            ).mean()
        )
        for pairs in (
            [(trial, trial.predictions) for trial in trials],
            [(trial, trial.baseline_predictions) for trial in trials],
        )
    ]
    assert costs[0] < costs[1]
    difference = f"{costs[1] - costs[0]:.4f}"
    better, worse = str(gate.compare(trials)), gate.find_no_gain(gate.compare(turned))
    assert f"log-loss {costs[0]:.4f} against the baseline's {costs[1]:.4f}" in better
    assert f"better by {difference}, at least" in better
    assert worse is not None
    assert f"worse by {difference}" in worse.detail
    assert (
        f"log-loss {costs[1]:.4f} against the baseline's {costs[0]:.4f}" in worse.detail
    )
    for trial in trials:
        assert f"{trial.cutoff_at:%Y-%m-%d}" in better


def test_the_measures_are_of_all_cutoffs_together_and_auc_is_within_them() -> None:
    trials = simulate(2, (FALLEN, USUAL), visits_tell=0.9)
    comparison = gate.compare(trials)
    outcomes, promised = gate.pool(trials, "outcomes"), gate.pool(trials, "predictions")
    assert comparison.metrics.brier_score == pytest.approx(
        ((promised - outcomes) ** 2).mean()
    )
    assert comparison.metrics.calibration_in_the_large == pytest.approx(
        promised.mean() - outcomes.mean()
    )
    assert comparison.metrics.auc == pytest.approx(
        np.mean([roc_auc_score(one.outcomes, one.predictions) for one in trials])
    )


def test_one_person_at_many_cutoffs_proves_no_more_than_one() -> None:
    """The same rows again and again would shrink a bootstrap of rows to nothing."""
    (trial,) = simulate(3, (USUAL,), visits_tell=0.5, profiles=400)
    once = gate.compare([trial])
    often = gate.compare([trial] * 9)
    assert often.gain == pytest.approx(once.gain)
    assert often.least_gain == pytest.approx(once.least_gain, abs=1e-9)


def test_promises_that_are_far_off_fail_the_gate() -> None:
    dice = np.random.default_rng(2)
    truth = dice.uniform(0.05, 0.95, 5000)
    outcomes = dice.random(5000) < truth
    constant = np.full(5000, outcomes.mean())
    people = [str(number) for number in range(5000)]

    def miscalibration(
        predictions: Any, baseline: Any = constant
    ) -> gate.Refusal | None:
        trials = [gate.Trial(NEWEST, people, outcomes, predictions, baseline)]
        return gate.find_miscalibration(trials, gate.compare(trials))

    assert miscalibration(truth) is None
    for far_off in (truth * 0.8, truth**3, 1 - truth):
        found = miscalibration(far_off)
        assert found is not None
        assert found.reason == "miscalibrated"
        assert miscalibration(far_off, far_off) is None
    too_sure = miscalibration(np.where(truth > 0.5, 0.95, 0.05))
    assert too_sure is not None
    assert "tenths" in too_sure.detail


def test_errors_by_chance_are_those_of_true_chances() -> None:
    dice = np.random.default_rng(4)
    truth = dice.uniform(0.02, 0.6, 800)
    drawn = dice.random((3000, 800)) < truth
    errors = pl.DataFrame(
        [
            (
                abs(evaluation.calibration_in_the_large(outcomes, truth)),
                evaluation.calibration_error(outcomes, truth),
            )
            for outcomes in drawn
        ],
        orient="row",
    )
    expected = errors.select(pl.all().quantile(0.95)).row(0)
    assert gate.errors_by_chance(truth) == pytest.approx(expected, rel=0.06)
