"""Channel scores find the channel that a person answers, from confounded past sends."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from ml import channel_propensity
from orchestration.assets.channel_scores import channel_scores
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import HomeAt, TestHome

CHANNELS = (
    *("email", "sms", "push", "in_app", "onsite"),
    *("paid_retargeting", "direct_mail"),
)
score_channels = partial(channel_propensity.score_channels, channels=CHANNELS)
BASE_RATES = np.array([0.13, 0.12, 0.11, 0.15, 0.10, 0.06, 0.09])


@dataclass(frozen=True)
class Population:
    """People whose true rates are known, and what an old policy sent them.

    Log-odds of an answer = the channel's base + what four visible features explain (sd
    0.8) + individual taste (sd 0.2 to 1). The old policy sent each five to fifteen
    messages and chose channels by luck and, in part, by those very rates: by the
    features and by a taste that no table shows. Each message is answered by chance.

    Who knew every parameter, but not what the old policy's choices betray of taste,
    would close 0.94, 0.69 and 0.64 of the gap at taste 0.2, 0.6 and 1. Had the old
    policy sent at random, 0.94, 0.67 and 0.55: then ten messages tell too little.
    """

    features: Any
    rates: Any
    delivered: Any
    answered: Any

    @classmethod
    def draw(cls, taste: float, seed: int, size: int = 5_000) -> "Population":
        dice = np.random.default_rng([seed, int(10 * taste)])
        features = dice.normal(size=(size, 4))
        effects = dice.normal(size=(4, len(CHANNELS)))
        effects *= 0.8 / np.sqrt((effects**2).sum(axis=0))
        odds = logit(BASE_RATES) + features @ effects
        odds += taste * dice.normal(size=odds.shape)
        likings = np.exp(0.5 * odds)
        likings /= likings.sum(axis=1, keepdims=True)
        delivered = dice.multinomial(dice.integers(5, 16, size), likings)
        return cls(
            features, expit(odds), delivered, dice.binomial(delivered, expit(odds))
        )

    @property
    def profile_ids(self) -> list[str]:
        return [f"p{n:05}" for n in range(len(self.rates))]

    @property
    def profiles(self) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "profile_id": self.profile_ids,
                "preferred_channel": pl.Series(
                    [None] * len(self.rates), dtype=pl.String
                ),
                **{f"trait_{n}": self.features[:, n] for n in range(4)},
            }
        )

    def engagements(self, **weak: Any) -> pl.DataFrame:
        """One row per person and channel; `weak` evidence as matrices of counts."""
        return pl.concat(
            engagements(
                self.delivered[:, at],
                self.answered[:, at],
                channel,
                **{name: counts[:, at] for name, counts in weak.items()},
            )
            for at, channel in enumerate(CHANNELS)
        ).filter(pl.col("delivered_count") > 0)

    def score(self, **weak: Any) -> Any:
        """Propensities as people × channels."""
        scores = score_channels(self.profiles, self.engagements(**weak))
        return scores["channel_propensity"].to_numpy().reshape(-1, len(CHANNELS))

    def gap_closed(self, guesses: Any) -> float:
        """Where choosing by these lies between the best single channel and truth."""
        single, oracle = self.rates.mean(axis=0).max(), self.rates.max(axis=1).mean()
        chosen = self.rates[np.arange(len(self.rates)), guesses.argmax(axis=1)].mean()
        return float((chosen - single) / (oracle - single))

    def plain_guesses(self) -> Any:
        """The rival: beta-binomial around each channel's average, learning nothing."""
        guesses = np.empty(self.rates.shape)
        for at in range(len(CHANNELS)):
            delivered, answered = self.delivered[:, at], self.answered[:, at]
            rate = answered.sum() / delivered.sum()
            known = delivered > 0
            strength = channel_propensity.fit_strength(
                delivered[known], answered[known], np.full(known.sum(), rate)
            )
            guesses[:, at] = (answered + strength * rate) / (delivered + strength)
        return guesses


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("taste", [0.2, 0.6, 1.0])
def test_most_of_the_gap_to_the_oracle_is_closed(taste: float, seed: int) -> None:
    people = Population.draw(taste, seed)
    closed = people.gap_closed(people.score())
    assert closed >= 0.6
    assert closed > people.gap_closed(people.plain_guesses()) + 0.1


@pytest.mark.parametrize("taste", [0.2, 1.0])
def test_propensities_are_true_chances_where_nothing_was_sent_too(taste: float) -> None:
    people = Population.draw(taste, seed=4, size=10_000)
    guesses = people.score()
    for at in range(len(CHANNELS)):
        for tenth in np.array_split(np.argsort(guesses[:, at]), 10):
            truth = people.rates[tenth, at].mean()
            assert guesses[tenth, at].mean() == pytest.approx(truth, abs=0.06)


def test_machine_opens_cost_little_of_the_choice() -> None:
    people = Population.draw(0.6, seed=5)
    dice = np.random.default_rng(5)
    ignored = people.delivered - people.answered
    read = dice.binomial(ignored, np.minimum(3 * people.rates, 0.9))
    read[:, 1:] = 0
    by_machine = dice.random(len(people.rates)) < 0.4
    fetched = np.where(by_machine[:, None], ignored - read, 0)
    fetched[:, 1:] = 0
    quiet = people.gap_closed(people.score(opened_count=read))
    # those that say so, and those taken for people
    flagged = people.score(opened_count=read, machine_opened_count=fetched)
    taken_for_people = people.score(opened_count=read + fetched)
    assert people.gap_closed(flagged) > 0.98 * quiet
    assert people.gap_closed(taken_for_people) > 0.95 * quiet


def test_an_open_by_a_person_tells_more_than_one_by_a_machine() -> None:
    dice = np.random.default_rng(6)
    taste = dice.beta(1, 9, 20_000)
    delivered = np.full(20_000, 8)
    answered = dice.binomial(delivered, taste)
    read = dice.binomial(delivered - answered, np.minimum(4 * taste, 1))
    fetched = dice.binomial(delivered - answered - read, 0.4)
    frame = engagements(
        delivered, answered, opened_count=read, machine_opened_count=fetched
    )
    profiles = people_of(frame)
    trials = channel_propensity.spread_trials(
        profiles, channel_propensity.count_trials(frame), CHANNELS
    )
    by_person = channel_propensity.weigh_evidence(trials, 0, "opened_count")
    by_machine = channel_propensity.weigh_evidence(trials, 0, "machine_opened_count")
    assert by_person > 0.3
    assert by_machine < 0.05

    def miss(scored: pl.DataFrame) -> float:
        return float(((scored["channel_propensity"].to_numpy() - taste) ** 2).mean())

    blind = frame.with_columns(opened_count=0, machine_opened_count=0)
    assert miss(score_email(frame)) < 0.95 * miss(score_email(blind))


def test_weak_evidence_makes_no_channel_look_better_than_its_answers() -> None:
    dice = np.random.default_rng(11)
    answered = dice.binomial(10, dice.beta(1, 9, 2_000))
    opened = dice.binomial(10 - answered, 0.5)
    silent = engagements([10] * 2_000, answered)
    told = silent.with_columns(opened_count=pl.Series(opened))
    assert score_email(told)["channel_propensity"].mean() == pytest.approx(
        score_email(silent)["channel_propensity"].mean(), rel=0.02
    )


def test_who_answers_elsewhere_and_who_states_a_channel_start_higher() -> None:
    dice = np.random.default_rng(7)
    states = dice.random(6_000) < 0.3
    eagerness = dice.normal(size=6_000)
    rates = expit(-2.2 + 0.8 * states + eagerness)
    frame = pl.concat(
        engagements(sent, dice.binomial(sent, chance), channel)
        for channel, chance in (("email", rates), ("sms", expit(-2 + eagerness)))
        if (sent := np.where(np.arange(6_000) < 5_000, 8, 0)) is not None
    )
    newcomers = pl.DataFrame(
        {
            "profile_id": [f"n{n}" for n in range(2)],
            "preferred_channel": ["email", "push"],
            "trait": 0.0,
        }
    )
    told = people_of(frame).with_columns(
        preferred_channel=pl.Series(np.where(states, "email", "push"))
    )
    scores = score_channels(
        pl.concat([told, newcomers]),
        pl.concat(
            [frame, engagements([9], [6], "sms").with_columns(profile_id=pl.lit("n1"))]
        ),
    )
    email = dict(
        scores.filter(pl.col("channel") == "email")
        .select("profile_id", "channel_propensity")
        .rows()
    )
    rate = scores.filter(pl.col("channel") == "email")["channel_rate"][0]
    assert email["n0"] > 1.2 * rate
    assert email["n1"] > 1.5 * rate


def engagements(
    delivered: Any, engaged: Any, channel: str = "email", **weak: Any
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "profile_id": [f"p{n:05}" for n in range(len(delivered))],
            "channel": channel,
            "sent_count": delivered,
            "delivered_count": delivered,
            "engaged_count": engaged,
            "followed_count": 0,
            "opened_count": 0,
            "machine_opened_count": 0,
        }
    ).with_columns(pl.Series(name, counts) for name, counts in weak.items())


def people_of(frame: pl.DataFrame, *others: str) -> pl.DataFrame:
    """Those in the frame and others, of whom nothing else is known."""
    names = frame["profile_id"].unique(maintain_order=True).to_list()
    return pl.DataFrame(
        {"profile_id": [*names, *others]}, {"profile_id": pl.String}
    ).with_columns(preferred_channel=pl.lit(None, pl.String), trait=pl.lit(0.0))


def score_email(frame: pl.DataFrame, *others: str) -> pl.DataFrame:
    scores = score_channels(people_of(frame, *others), frame)
    return scores.filter(pl.col("channel") == "email")


def test_every_profile_is_scored_on_every_channel() -> None:
    frame = engagements([4, 0], [1, 0])
    scores = score_channels(people_of(frame, "new"), frame)
    assert scores.group_by("profile_id").len()["len"].to_list() == [7, 7, 7]
    assert scores["channel_propensity"].is_between(0, 1, closed="none").all()


def test_nobody_and_nothing_are_no_error() -> None:
    nothing = engagements([1], [0]).clear()
    assert score_email(nothing).is_empty()
    rates = score_email(nothing, "new")["channel_propensity"]
    assert rates.to_list() == [channel_propensity.GUESSED_RATE]


def test_few_messages_move_nobody_far_from_the_average_of_the_channel() -> None:
    dice = np.random.default_rng(8)
    frame = engagements([2] * 10, [0] * 9 + [1])
    told = people_of(frame).with_columns(trait=pl.Series(dice.normal(size=10)))
    scores = score_channels(told, frame).filter(pl.col("channel") == "email")
    ratio = scores["prior_propensity"] / scores["channel_rate"]
    assert ratio.is_between(0.5, 2).all()


def test_who_has_no_history_gets_what_profiles_like_it_do() -> None:
    scores = score_email(engagements([50] * 40, [10] * 40), "new")
    newcomer = scores.row(by_predicate=pl.col("profile_id") == "new", named=True)
    assert newcomer["channel_propensity"] == newcomer["prior_propensity"]
    assert newcomer["channel_rate"] == pytest.approx(0.2, abs=0.01)
    assert newcomer["prior_propensity"] == pytest.approx(0.2, rel=0.3)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.integers(1, 40).flatmap(
            lambda delivered: st.tuples(st.just(delivered), st.integers(0, delivered))
        ),
        min_size=1,
        max_size=50,
    )
)
def test_a_propensity_lies_between_the_own_rate_and_that_of_profiles_like_it(
    history: list[tuple[int, int]],
) -> None:
    delivered, engaged = map(list, zip(*history, strict=True))
    scores = score_email(engagements(delivered, engaged))
    own, prior, propensities = (
        scores["engaged_count"] / scores["delivered_count"],
        scores["prior_propensity"],
        scores["channel_propensity"],
    )
    lowest = pl.select(pl.min_horizontal(own, prior)).to_series() - 1e-5
    highest = pl.select(pl.max_horizontal(own, prior)).to_series() + 1e-5
    assert propensities.is_between(lowest, highest).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(2, 20))
def test_the_longer_the_history_the_less_it_is_shrunk(once: int, times: int) -> None:
    frame = engagements(
        [10] * 60 + [2 * once, 2 * once * times], [1] * 60 + [once, once * times]
    )
    short, long = (
        score_email(frame)
        .select(
            (pl.col("channel_propensity") - pl.col("prior_propensity"))
            / (0.5 - pl.col("prior_propensity"))
        )
        .to_series()[-2:]
    )
    assert 0 < short < long < 1


def test_shrunk_rates_are_nearer_the_truth_than_raw_ones_or_the_average() -> None:
    dice = np.random.default_rng(4)
    taste = dice.beta(2, 18, 3000)
    delivered = dice.poisson(8, 3000) + 1
    scores = score_email(engagements(delivered, dice.binomial(delivered, taste)))
    raw = (scores["engaged_count"] / scores["delivered_count"]).to_numpy()

    def miss(guess: Any) -> float:
        return float(((guess - taste) ** 2).mean())

    shrunk = miss(scores["channel_propensity"].to_numpy())
    assert shrunk < 0.6 * miss(raw)
    assert shrunk < 0.85 * miss(scores["channel_rate"].to_numpy())
    assert scores["prior_strength"][0] == pytest.approx(20, rel=0.3)


def test_a_channel_that_reports_no_delivery_counts_what_was_sent() -> None:
    frame = engagements([0, 0], [1, 0]).with_columns(sent_count=pl.lit(8))
    assert score_email(frame)["delivered_count"].to_list() == [8, 8]


def test_more_answers_than_messages_are_no_more_than_certain() -> None:
    assert score_email(engagements([2], [9]))["engaged_count"].to_list() == [2]


def test_the_order_of_rows_changes_no_channel_score() -> None:
    people = Population.draw(0.6, seed=9, size=500)
    profiles, frame = people.profiles, people.engagements()
    shuffled = score_channels(
        profiles.sample(fraction=1, shuffle=True, seed=3),
        frame.sample(fraction=1, shuffle=True, seed=4),
    )
    assert score_channels(profiles, frame).equals(shuffled)


def test_broken_engagements_raise() -> None:
    frame = engagements([1], [0])
    with pytest.raises(ValueError, match="profile_id and channel"):
        score_email(pl.concat([frame, frame]))
    with pytest.raises(ValueError, match="two rows of one profile_id"):
        score_channels(people_of(frame, "p00000"), frame)


def test_the_asset_writes_channels_and_moments_of_whom_it_may_score(
    home: TestHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = Population.draw(0.6, seed=10, size=50)
    tables = {
        "profiles.channel_features": people.profiles,
        "profiles.channel_engagements": people.engagements(),
        "profiles.send_time_engagements": pl.DataFrame(
            {
                "profile_id": people.profile_ids[:5],
                "weekday_group": "weekday",
                "slot": 4,
                "engagement_weight": 3.0,
            }
        ),
        "profiles.overrides": pl.DataFrame(
            {"profile_id": people.profile_ids[-1:], "override": "never_score"}
        ),
    }
    with Warehouse(home.settings.warehouse).connect() as connection:
        for table, frame in tables.items():
            replace_table(connection, table, frame)
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    assert dg.materialize(
        [channel_scores], resources={"home": HomeAt(as_of="2026-06-30")}
    ).success
    assert home.read("from ml.channel_scores").height == 49 * len(CHANNELS)
    best = home.read("""
        select slot, count(*) as profile_count from ml.send_time_scores
        where weekday_group = 'weekday' and slot_rank = 1 group by all
    """)
    assert best.rows() == [(4, 49)]
