"""What arms caused, against another library, textbooks and worlds whose truth is known.

Numbers "of gbstats" are those that gbstats 0.8.0 gives for the same counts and sums; it
needs an older numpy than ours and cannot be installed beside it.
"""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from ml.lift import LiftRules, compare_arms

RULES = LiftRules()
LARGE = (
    (2000, 10400, 208000, 9000, 150000, 98000),
    (1000, 4700, 90000, 4600, 76000, 45000),
)
SMALL = ((120, 900, 14000, 300, 4000, 5200), (80, 410, 6100, 260, 3600, 3000))


def arm(trial: str, name: str, count: int, **values: Any) -> dict[str, Any]:
    """An arm as `attribution.lift_arms` holds it."""
    return {
        "trial_type": "experiment",
        "trial": trial,
        "arm": name,
        "is_control": name == "control",
        "profile_count": count,
        "visit_rate": 0.5,
        "conversion_rate": 0.1,
        "revenue_mean": 5.0,
        "revenue_variance": 90.0,
        "prior_revenue_mean": 0.0,
        "prior_revenue_variance": 0.0,
        "revenue_covariance": 0.0,
        "attributed_visit_count": 0,
        "attributed_conversion_count": 0,
        "attributed_revenue_amount": 0,
        "expected_share": 1.0,
        **values,
    }


def spend(sums: tuple[int, ...]) -> dict[str, float]:
    """Means and variances, from count, sums, sums of squares and of products."""
    count, spent, squares, before, squares_before, products = sums
    return {
        "revenue_mean": spent / count,
        "revenue_variance": (squares - spent**2 / count) / (count - 1),
        "prior_revenue_mean": before / count,
        "prior_revenue_variance": (squares_before - before**2 / count) / (count - 1),
        "revenue_covariance": (products - spent * before / count) / (count - 1),
    }


def compare(*arms: dict[str, Any], rules: LiftRules = RULES) -> pl.DataFrame:
    return compare_arms(pl.DataFrame(list(arms)), rules)


def read(metric: str, *arms: dict[str, Any]) -> dict[str, Any]:
    return compare(*arms).row(by_predicate=pl.col("metric") == metric, named=True)


@pytest.mark.parametrize(
    ("sums", "welch", "always_valid", "adjusted"),
    [
        (
            LARGE,
            (0.5, -0.13991953900646736, 1.1399195390064674),
            (-0.4987776845999391, 1.498777684599939),
            (0.5453594028882036, -0.04478877946851445, 1.1355075852449217),
        ),
        (
            SMALL,
            (2.375, 0.2677647860314196, 4.482235213968581),
            (-3.071262244701347, 7.821262244701347),
            (2.9384946949602124, 1.1640103124150567, 4.712979077505368),
        ),
    ],
)
def test_spend_is_compared_as_gbstats_compares_it(
    sums: tuple[tuple[int, ...], tuple[int, ...]],
    welch: tuple[float, ...],
    always_valid: tuple[float, ...],
    adjusted: tuple[float, ...],
) -> None:
    treated, control = sums
    row = read(
        "spend",
        arm("x", "a", treated[0], expected_share=treated[0], **spend(treated)),
        arm("x", "control", control[0], expected_share=control[0], **spend(control)),
    )
    found = [
        *(row["incremental_lift"], row["lift_low"], row["lift_high"]),
        *(row["always_valid_low"], row["always_valid_high"]),
        *(row["adjusted_lift"], row["adjusted_low"], row["adjusted_high"]),
    ]
    # the z-score of 95 % is rounded in the seed
    assert found == pytest.approx([*welch, *always_valid, *adjusted], abs=1e-6)


def test_shares_always_valid_interval_is_that_of_gbstats() -> None:
    row = read(
        "conversion",
        arm("x", "a", 2000, conversion_rate=0.12, expected_share=2),
        arm("x", "control", 1000, conversion_rate=0.09),
    )
    assert row["always_valid_low"] == pytest.approx(-0.005524196280813125, abs=1e-6)
    assert row["always_valid_high"] == pytest.approx(0.06552419628081313, abs=1e-6)


def test_arms_that_chance_does_not_make_stop_the_reading() -> None:
    fair = compare(
        *(arm("x", name, n) for name, n in (("a", 21306), ("b", 21387))),
        arm("x", "control", 21307),
    )
    # both as gbstats says
    assert fair["sample_ratio_p_value"].to_list() == pytest.approx(
        [0.9036929575604196] * 6
    )
    assert fair["unknown_reason"].null_count() == fair.height == 6
    unfair = compare(
        *(
            arm("x", name, n, expected_share=0.3)
            for name, n in (("a", 600), ("b", 400))
        ),
        arm("x", "control", 500, expected_share=0.4),
    )
    assert unfair["sample_ratio_p_value"].max() < 1e-12
    assert set(unfair["unknown_reason"]) == {"sample_ratio_mismatch"}
    for reading in (
        "incremental_lift",
        "lift_low",
        "always_valid_high",
        "adjusted_lift",
    ):
        assert unfair[reading].null_count() == 6
    assert unfair["mean_treated"].null_count() == 0


def test_without_a_known_ratio_or_a_control_nothing_is_tested() -> None:
    unknown = compare(
        arm("all", "treated", 90, expected_share=None),
        arm("all", "control", 10, expected_share=None),
    )
    assert unknown["sample_ratio_p_value"].null_count() == 3
    assert unknown["incremental_lift"].null_count() == 0
    alone = compare(arm("x", "a", 90))
    assert set(alone["unknown_reason"]) == {"no_control_group"}
    assert alone["incremental_lift"].null_count() == 3
    assert set(alone["control_count"]) == {0}


def test_no_arms_are_no_comparisons() -> None:
    empty = pl.DataFrame([arm("x", "a", 1)]).clear()
    found = compare_arms(empty, RULES)
    assert found.is_empty()
    assert found.schema == compare(arm("x", "a", 1), arm("x", "control", 1)).schema


def test_a_lift_is_set_beside_what_credits_claim() -> None:
    row = read(
        "conversion",
        arm("j", "treated", 200, conversion_rate=0.15, attributed_conversion_count=25),
        arm("j", "control", 200),
    )
    assert row["incremental_amount"] == pytest.approx(10)
    assert row["attributed_amount"] == 25
    assert row["incremental_share"] == pytest.approx(0.4)


def test_where_all_spend_alike_no_interval_is_made_up() -> None:
    same = {"revenue_mean": 0.0, "revenue_variance": 0.0}
    row = read("spend", arm("x", "a", 9, **same), arm("x", "control", 9, **same))
    assert row["incremental_lift"] == 0
    assert row["lift_low"] is None
    assert row["still_needed_count"] is None


def deal_trials(
    seeds: int, people: int, lift: float, effect: float
) -> tuple[
    NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]
]:
    """Who is treated, who buys, what they spend and had spent, a row per seed."""
    dice = np.random.default_rng(20240101)
    treated = dice.random((seeds, people)) < 0.8
    converted = dice.random((seeds, people)) < np.where(treated, 0.10 + lift, 0.10)
    before = dice.gamma(2, 20, (seeds, people))
    spent = before + dice.gamma(2, 10, (seeds, people)) + effect * treated
    return treated, converted, spent, before


def trial_arms(lift: float, effect: float, seeds: int, people: int) -> pl.DataFrame:
    treated, converted, spent, before = deal_trials(seeds, people, lift, effect)
    rows = []
    for seed in range(seeds):
        for name, who in (("a", treated[seed]), ("control", ~treated[seed])):
            both = np.cov(spent[seed, who], before[seed, who])
            rows.append(
                arm(
                    f"{seed:03}",
                    name,
                    int(who.sum()),
                    conversion_rate=float(converted[seed, who].mean()),
                    revenue_mean=float(spent[seed, who].mean()),
                    revenue_variance=float(both[0, 0]),
                    prior_revenue_mean=float(before[seed, who].mean()),
                    prior_revenue_variance=float(both[1, 1]),
                    revenue_covariance=float(both[0, 1]),
                    expected_share=0.8 if name == "a" else 0.2,
                    attributed_conversion_count=int(converted[seed, who].sum()),
                )
            )
    return pl.DataFrame(rows)


@pytest.mark.parametrize(("lift", "effect"), [(0.03, 4.0), (0.0, 0.0)])
def test_intervals_cover_the_truth_of_two_hundred_worlds(
    lift: float, effect: float
) -> None:
    found = compare_arms(trial_arms(lift, effect, seeds=200, people=3000), RULES)
    for row in found.iter_rows(named=True):
        assert (row["finding"] == "more") == ((row["lift_low"] or 0) > 0)
        assert (row["finding"] is None) == (row["incremental_lift"] is None)
    known = found.filter(pl.col("unknown_reason").is_null())
    conversion, spent = (
        known.filter(pl.col("metric") == metric) for metric in ("conversion", "spend")
    )
    assert len(conversion) >= 198
    for frame, low, high, truth in (
        (conversion, "lift_low", "lift_high", lift),
        (spent, "lift_low", "lift_high", effect),
        (spent, "adjusted_low", "adjusted_high", effect),
    ):
        covered = ((frame[low] <= truth) & (truth <= frame[high])).mean()
        assert 0.93 <= covered <= 0.98
    always = (spent["always_valid_low"] <= effect) & (
        effect <= spent["always_valid_high"]
    )
    assert always.mean() > 0.98
    width, adjusted = (
        (spent[f"{name}_high"] - spent[f"{name}_low"]).mean()
        for name in ("lift", "adjusted")
    )
    # spend before explains two thirds of the variance
    assert adjusted < 0.7 * width


def test_where_nothing_was_caused_credit_remains_and_lift_is_not_proved() -> None:
    found = compare_arms(trial_arms(0.0, 0.0, seeds=200, people=3000), RULES)
    conversion = found.filter(pl.col("metric") == "conversion")
    assert conversion["attributed_amount"].min() > 0
    assert abs(conversion["incremental_lift"].mean()) < 0.003
    findings = Counter(conversion["finding"])
    assert set(findings) <= {"more", "less", "not_proved", None}
    assert findings["not_proved"] >= 0.93 * len(conversion)
    assert conversion["still_needed_count"].median() > 3000


def test_the_minimal_detectable_lift_is_proved_as_often_as_promised() -> None:
    found = compare_arms(trial_arms(0.0, 0.0, seeds=200, people=3000), RULES)
    detectable = found.filter(pl.col("metric") == "spend")[
        "minimal_detectable_lift"
    ].mean()
    moved = compare_arms(trial_arms(0.0, detectable, seeds=200, people=3000), RULES)
    proved = (moved.filter(pl.col("metric") == "spend")["lift_low"] > 0).mean()
    assert 0.72 <= proved <= 0.88


def test_arms_in_which_nobody_bought_prove_nothing() -> None:
    nobody = {"conversion_rate": 0.0}
    row = read(
        "conversion", arm("x", "a", 60, **nobody), arm("x", "control", 60, **nobody)
    )
    assert row["lift_low"] < -0.05 < 0.05 < row["lift_high"]
    assert row["always_valid_low"] is None
    # three in a hundred could still buy without any of sixty doing so
    assert row["minimal_detectable_lift"] > 0.05
    assert row["still_needed_count"] is None


def test_an_interval_that_holds_at_every_look_holds_at_one() -> None:
    row = read(
        "visit",
        arm("x", "a", 30, visit_rate=29 / 30),
        arm("x", "control", 300, visit_rate=299 / 300, expected_share=10.0),
    )
    assert row["always_valid_low"] <= row["lift_low"]
    assert row["always_valid_high"] >= row["lift_high"]
