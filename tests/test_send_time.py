"""Moments: when a person engages, from few and many signs."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import send_time
from ml.send_time import BEST_SLOTS, SLOTS, WEEKDAY_GROUPS


def as_frame(counts: Any) -> pl.DataFrame:
    """People × groups × slots as rows, without the empty ones."""
    person, group, slot = np.nonzero(counts)
    return pl.DataFrame(
        {
            "profile_id": [f"p{n:05}" for n in person],
            "weekday_group": [WEEKDAY_GROUPS[n] for n in group],
            "slot": slot,
            "engagement_weight": counts[person, group, slot].astype(float),
        },
        schema_overrides={"profile_id": pl.String, "weekday_group": pl.String},
    )


def names(size: int) -> pl.Series:
    return pl.Series([f"p{n:05}" for n in range(size)], dtype=pl.String)


def draw_people(seed: int, size: int, alike: float) -> tuple[Any, Any]:
    """True shares per group and slot, and engagements; people keep their own hours.

    What a person likes on weekdays it likes on weekends, around other hours.
    """
    dice = np.random.default_rng(seed)
    usual = dice.dirichlet(np.ones(SLOTS) * 3, 2)
    own = dice.dirichlet(np.ones(SLOTS) * alike / SLOTS, size) * SLOTS
    shares = usual * own[:, None, :]
    shares /= shares.sum(axis=2, keepdims=True)
    totals = dice.poisson(8, (size, 2))
    return shares, dice.multinomial(totals, shares)


def test_the_best_slot_is_nearer_the_truth_than_everybodys_or_the_own_most_used() -> (
    None
):
    shares, counts = draw_people(1, 5_000, alike=12)
    learned = send_time.share_send_times(counts.astype(float))
    usual = counts.sum(axis=0) / counts.sum(axis=(0, 2))[:, None]

    def reached(choice: Any) -> float:
        """The share of engagements that fall into the chosen slots."""
        return float(np.take_along_axis(shares, choice[..., None], axis=2).mean())

    everybodys = reached(np.broadcast_to(usual.argmax(axis=1), (5_000, 2)))
    own = reached(np.where(counts.sum(axis=2) > 0, counts.argmax(axis=2), 0))
    oracle = float(shares.max(axis=2).mean())
    best = reached(learned.argmax(axis=2))
    assert best > max(everybodys, own)
    assert (best - everybodys) / (oracle - everybodys) > 0.6
    assert ((learned - shares) ** 2).mean() < 0.7 * ((usual - shares) ** 2).mean()


def test_hours_of_weekdays_tell_of_the_weekend() -> None:
    counts = np.zeros((200, 2, SLOTS))
    counts[:, :, 6] = 2
    counts[:100, :, 9] = 4
    counts[0, 1] = 0
    counts[150, 1] = 0
    learned = send_time.share_send_times(counts)
    assert learned[0, 1].argmax() == 9
    assert learned[0, 1, 9] > learned[150, 1, 9]


def test_one_visit_at_night_makes_no_night_owl() -> None:
    counts = np.zeros((500, 2, SLOTS))
    counts[:, :, 5] = 3
    counts[:, :, 9] = 3
    counts[0] = 0
    counts[0, 0, 1] = 1
    best = send_time.score_send_times(names(500), as_frame(counts)).row(0, named=True)
    assert best["slot"] in (5, 9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20))
def test_shares_are_shares_and_the_best_three_come_first(seed: int, size: int) -> None:
    _, counts = draw_people(seed, size, alike=12)
    shares = send_time.share_send_times(counts.astype(float))
    assert shares.sum(axis=2) == pytest.approx(np.ones((size, 2)))
    scores = send_time.score_send_times(names(size), as_frame(counts))
    assert scores.height == size * 2 * BEST_SLOTS
    for _, rows in scores.group_by("profile_id", "weekday_group"):
        assert rows["slot_rank"].to_list() == [1, 2, 3]
        assert rows["send_time_propensity"].is_sorted(descending=True)
        assert rows["slot"].n_unique() == BEST_SLOTS


def test_who_never_engaged_gets_the_hours_of_everybody() -> None:
    counts = np.zeros((100, 2, SLOTS))
    counts[:90, 0, 8] = 2
    counts[:90, 1, 3] = 2
    best = send_time.score_send_times(names(100), as_frame(counts)).filter(
        pl.col("profile_id") == "p00099", pl.col("slot_rank") == 1
    )
    assert best["slot"].to_list() == [8, 3]
    assert best["engagement_weight"].to_list() == [0, 0]


def test_nobody_and_nothing_are_no_error() -> None:
    nothing = as_frame(np.zeros((1, 2, SLOTS)))
    assert send_time.score_send_times(names(0), nothing).is_empty()
    flat = send_time.score_send_times(names(1), nothing)["send_time_propensity"]
    assert flat.to_list() == pytest.approx([1 / SLOTS] * 6, abs=1e-6)


def test_the_order_of_rows_changes_no_moment() -> None:
    _, counts = draw_people(3, 300, alike=6)
    frame = as_frame(counts)
    shuffled = send_time.score_send_times(
        names(300).sample(fraction=1, shuffle=True, seed=1),
        frame.sample(fraction=1, shuffle=True, seed=2),
    )
    assert send_time.score_send_times(names(300), frame).equals(shuffled)


def test_broken_engagements_raise() -> None:
    frame = as_frame(np.ones((1, 2, SLOTS)))
    with pytest.raises(ValueError, match="profile and slot"):
        send_time.score_send_times(names(1), pl.concat([frame, frame]))
    with pytest.raises(ValueError, match="two rows of one profile_id"):
        send_time.score_send_times(pl.Series(["a", "a"]), frame)
