"""What is told of policies never followed is what following them would have shown."""

from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from ml import off_policy

REACHED = ("email", "push", "sms")
CHANNELS = (*REACHED, "direct_mail")
score_policies = partial(off_policy.score_policies, channels=CHANNELS)


def draw_sends(seed: int, size: int, exploration: float = 0.2) -> tuple[Any, Any, Any]:
    """True rates, what was thought of them and what was chosen: people × channels.

    Who answers more on a channel is thought to, so that what was sent there flatters
    it: the naive mean of a channel is far from what always sending there would earn.
    """
    dice = np.random.default_rng(seed)
    odds = np.array([-1.4, -1.2, -1.0]) + dice.normal(size=(size, 3))
    rates = expit(odds)
    thought = expit(odds + 0.3 * dice.normal(size=odds.shape))
    chances = np.full((size, 3), exploration / 2)
    chances[np.arange(size), thought.argmax(axis=1)] = 1 - exploration
    return rates, thought, chances


def as_trials(seed: int, rates: Any, thought: Any, chances: Any) -> pl.DataFrame:
    """One logged history of these people, by luck."""
    dice = np.random.default_rng(seed)
    size = len(rates)
    chosen = (dice.random((size, 1)) > chances.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    answered = dice.random(size) < rates[np.arange(size), chosen]
    return pl.DataFrame(
        {
            "send_id": np.repeat([f"s{n:05}" for n in range(size)], 3),
            "channel": np.tile(REACHED, size),
            "choice_probability": chances.ravel(),
            "channel_propensity": thought.ravel(),
            "is_chosen": (chosen[:, None] == np.arange(3)).ravel(),
            "has_answered": np.repeat(answered, 3),
        }
    )


def told(trials: pl.DataFrame, policy: str) -> dict[str, Any]:
    return score_policies(trials).row(
        by_predicate=pl.col("policy") == policy, named=True
    )


def misses(seed: int, *, wrong: str) -> Any:
    """Estimate minus truth of `always_sms`, over many histories."""
    rates, thought, chances = draw_sends(seed, 1_500)
    truth = rates[:, 2].mean()
    missed = []
    for history in range(40):
        trials = as_trials(history, rates, thought, chances)
        if wrong == "propensities":
            trials = trials.with_columns(channel_propensity=pl.lit(0.05))
        if wrong == "probabilities":
            trials = trials.with_columns(
                choice_probability=pl.lit(1 / 3),
                channel_propensity=pl.Series(rates.ravel()),
            )
        missed.append(told(trials, "always_sms")["answer_rate"] - truth)
    return np.array(missed)


@pytest.mark.parametrize("wrong", ["nothing", "propensities", "probabilities"])
def test_the_estimate_is_right_if_probabilities_or_propensities_are(wrong: str) -> None:
    missed = misses(1, wrong=wrong)
    assert abs(missed.mean()) < 3 * missed.std() / len(missed) ** 0.5 + 1e-3


def test_what_was_sent_there_flatters_a_channel_and_the_estimate_does_not() -> None:
    rates, thought, chances = draw_sends(2, 20_000)
    trials = as_trials(2, rates, thought, chances)
    sent = trials.filter("is_chosen", channel="sms")
    truth = rates[:, 2].mean()
    assert sent["has_answered"].mean() > truth + 0.05
    row = told(trials, "always_sms")
    for estimate in ("answer_rate", "inverse_propensity_rate", "self_normalized_rate"):
        assert row[estimate] == pytest.approx(truth, abs=0.02)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rates, thought, chances = draw_sends(3, 1_500)
    best = rates[np.arange(1_500), thought.argmax(axis=1)].mean()
    truths = {"always_push": rates[:, 1].mean(), "best_channel": best}
    held = {policy: 0 for policy in truths}
    for history in range(100):
        scores = score_policies(as_trials(history, rates, thought, chances))
        for policy, truth in truths.items():
            row = scores.row(by_predicate=pl.col("policy") == policy, named=True)
            held[policy] += row["answer_rate_low"] <= truth <= row["answer_rate_high"]
    assert all(count >= 89 for count in held.values()), held


def test_good_propensities_make_the_estimate_surer_than_probabilities_alone() -> None:
    rates, thought, chances = draw_sends(4, 1_500, exploration=0.1)
    rows = [
        told(as_trials(history, rates, thought, chances), "always_email")
        for history in range(40)
    ]
    robust = np.std([row["answer_rate"] for row in rows])
    assert robust < 0.9 * np.std([row["inverse_propensity_rate"] for row in rows])


def test_what_was_done_is_told_as_it_was() -> None:
    trials = as_trials(5, *draw_sends(5, 500))
    answered = trials.filter("is_chosen")["has_answered"].mean()
    assert told(trials, "logged")["inverse_propensity_rate"] == pytest.approx(
        answered, abs=1e-6
    )


def test_too_few_sends_tell_nothing_and_say_so() -> None:
    scores = score_policies(as_trials(6, *draw_sends(6, 40)))
    assert scores["policy"].to_list() == [
        "logged",
        "best_channel",
        *(f"always_{name}" for name in CHANNELS),
    ]
    assert scores["answer_rate"].is_null().all()
    assert set(scores["reason"]) == {"too_few_sends"}
    nothing = score_policies(as_trials(6, *draw_sends(6, 40)).clear())
    assert nothing["send_count"].to_list() == [0] * (2 + len(CHANNELS))


def test_always_a_channel_means_the_best_where_it_was_not_possible() -> None:
    trials = as_trials(7, *draw_sends(7, 2_000))
    assert told(trials, "always_direct_mail") == {
        **told(trials, "best_channel"),
        "policy": "always_direct_mail",
    }


def test_a_send_on_no_channel_or_with_odd_chances_raises() -> None:
    trials = as_trials(8, *draw_sends(8, 100))
    with pytest.raises(ValueError, match="exactly one chosen"):
        score_policies(trials.with_columns(is_chosen=pl.lit(False)))
    with pytest.raises(ValueError, match="exactly one chosen"):
        score_policies(trials.with_columns(pl.col("choice_probability") * 0.9))


def test_the_order_of_rows_changes_no_estimate() -> None:
    trials = as_trials(9, *draw_sends(9, 500))
    shuffled = trials.sample(fraction=1, shuffle=True, seed=1)
    assert score_policies(trials).equals(score_policies(shuffled))
