"""Buy-till-you-die models against simulated lives, integrals and general optimisers."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import skops.io
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.integrate import quad
from scipy.optimize import differential_evolution, minimize
from scipy.special import betaln, expit, gammaln, hyp2f1
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV

from ml.lifetime import (
    Floats,
    PurchaseTiming,
    PurchaseTimingClassifier,
    SpendLevel,
    log_odds_dropped,
    purchase_likelihood,
    spend_likelihood,
)

# r, alpha, a, b: about those of a CD shop in weeks; people alike; people very unlike.
PEOPLE = ((0.25, 4.4, 0.8, 2.4), (4.0, 30.0, 2.0, 6.0), (0.6, 5.0, 0.3, 0.5))

TIMINGS = [PurchaseTiming(*people) for people in PEOPLE]
every_timing = pytest.mark.parametrize("timing", TIMINGS, ids=str)


@dataclass(frozen=True)
class Lives:
    """What was seen of simulated people, and what was not."""

    x: Floats
    t_x: Floats
    T: Floats
    is_alive: Floats
    future_count: Floats

    @property
    def seen(self) -> tuple[Floats, Floats, Floats]:
        return self.x, self.t_x, self.T


def live(
    timing: PurchaseTiming, T: Floats, rng: np.random.Generator, horizon: float = 0
) -> Lives:
    """People who buy and stay or go by their own rate and their own dice."""
    rate = rng.gamma(timing.r, 1 / timing.alpha, T.size)
    leaves = rng.beta(timing.a, timing.b, T.size)
    x, t_x, future_count, now = np.zeros((4, T.size))
    left_at = np.full(T.size, np.inf)
    left_at[rng.random(T.size) < leaves] = 0
    active = np.flatnonzero(left_at > 0)
    while active.size:
        now[active] += rng.exponential(1 / rate[active])
        active = active[now[active] <= T[active] + horizon]
        past = active[now[active] <= T[active]]
        x[past] += 1
        t_x[past] = now[past]
        future_count[active[now[active] > T[active]]] += 1
        gone = rng.random(active.size) < leaves[active]
        left_at[active[gone]] = now[active[gone]]
        active = active[~gone]
    return Lives(x, t_x, T, (left_at > T).astype(float), future_count)


def log_likelihood_as_published(
    parameters: Floats, x: Floats, t_x: Floats, T: Floats
) -> Floats:
    """The likelihood of Hoppe, Wagner 2007."""
    r, alpha, a, b = parameters
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
    alive = betaln(a, b + x + 1) - (r + x) * np.log(alpha + T)
    dropped = betaln(a + 1, b + x) - (r + x) * np.log(alpha + t_x)
    return common + np.logaddexp(alive, dropped)


def parameters_of(timing: PurchaseTiming) -> Floats:
    return np.array([timing.r, timing.alpha, timing.a, timing.b])


def log_likelihood(timing: PurchaseTiming, *seen: ArrayLike) -> Floats:
    columns = (np.asarray(column, float) for column in seen)
    return purchase_likelihood(parameters_of(timing), *columns)[0]


def alive_chance(timing: PurchaseTiming, *seen: ArrayLike) -> Floats:
    columns = (np.asarray(column, float) for column in seen)
    return expit(-log_odds_dropped(parameters_of(timing), *columns))


def information(gradient: Callable[[Floats], Floats], at: Floats) -> Floats:
    """The observed information: how fast the slope of the log-likelihood falls."""
    steps = 1e-4 * np.eye(at.size)
    slopes = [gradient(at + step) - gradient(at - step) for step in steps]
    falls = -np.array(slopes) / 2e-4
    return (falls + falls.T) / 2


histories = st.lists(
    st.tuples(st.integers(0, 12), st.floats(0.05, 1), st.integers(0, 50)),
    min_size=1,
    max_size=25,
).map(
    lambda rows: tuple(
        np.array(
            [(min(x, x * T), min(1, x) * share * T, T) for x, share, T in rows], float
        ).T
    )
)
observed_histories = histories.filter(lambda seen: seen[2].any())
log_parameters = st.lists(st.floats(-5, 5), min_size=4, max_size=4).map(np.array)


@every_timing
def test_known_parameters_are_recovered_within_sampling_error(
    timing: PurchaseTiming,
) -> None:
    rng = np.random.default_rng(20)
    seen = live(timing, rng.uniform(10, 150, 10_000), rng).seen
    fitted = np.log(parameters_of(PurchaseTiming.fit(*seen)))

    def slope(position: Floats) -> Floats:
        return purchase_likelihood(np.exp(position), *seen)[1].sum(axis=1)

    known = information(slope, fitted)
    assert np.sqrt(np.diag(np.linalg.inv(known))).max() < 0.3
    missed = fitted - np.log(parameters_of(timing))
    assert missed @ known @ missed < chi2.ppf(0.999, 4)


@given(seen=observed_histories, seed=st.integers(0, 1000))
@example(seen=(np.zeros(3), np.zeros(3), np.array([1.0, 2, 3])), seed=0)
@example(seen=(np.ones(3), np.full(3, 2.0), np.full(3, 4.0)), seed=0)
@settings(max_examples=8, deadline=None)
def test_no_general_optimiser_climbs_higher_on_any_few_histories(
    seen: tuple[Floats, Floats, Floats], seed: int
) -> None:
    def loss(position: Floats) -> float:
        return -log_likelihood_as_published(np.exp(position), *seen).sum()

    fitted = PurchaseTiming.fit(*seen)
    starts = np.random.default_rng(seed).uniform(-4, 4, (2, 4))
    rivals = [
        minimize(
            loss,
            start,
            method="Nelder-Mead",
            bounds=[(-8, 8)] * 4,
            options={"maxfev": 600},
        )
        for start in starts
    ]
    reached = log_likelihood(fitted, *seen).sum()
    assert reached >= -min(rival.fun for rival in rivals) - 1e-5 * seen[0].size


@every_timing
def test_the_likelihood_is_that_of_a_global_search(timing: PurchaseTiming) -> None:
    rng = np.random.default_rng(7)
    seen = live(timing, rng.uniform(10, 100, 150), rng).seen

    def loss(position: Floats) -> float:
        return -log_likelihood_as_published(np.exp(position), *seen).sum()

    rival = differential_evolution(loss, [(-8, 8)] * 4, rng=1, maxiter=60)
    fitted = PurchaseTiming.fit(*seen)
    assert loss(np.log(parameters_of(fitted))) <= rival.fun + 1e-4


@given(seen=histories, position=log_parameters)
@settings(max_examples=60, deadline=None)
def test_log_likelihood_and_its_gradient_equal_the_published_ones(
    seen: tuple[Floats, Floats, Floats], position: Floats
) -> None:
    def published(position: Floats) -> Floats:
        return log_likelihood_as_published(np.exp(position), *seen)

    values, gradient = purchase_likelihood(np.exp(position), *seen)
    assert values == pytest.approx(published(position), rel=1e-9, abs=1e-9)
    slopes = [
        (published(position + step) - published(position - step)) / 2e-5
        for step in 1e-5 * np.eye(4)
    ]
    assert gradient == pytest.approx(np.array(slopes), rel=1e-5, abs=1e-5)


EXACT = {"limit": 2000, "epsabs": 0, "epsrel": 1e-9}


def integrate(
    timing: PurchaseTiming, x: int, t_x: float, T: float, horizon: float
) -> tuple[float, float, float]:
    """Likelihood, and of it the share alive and the share that buys in the horizon."""
    r, alpha, a, b = parameters_of(timing)

    def over_leaves(function: Callable[[float], float]) -> float:
        def integrand(logit: float) -> float:
            density = a * np.log(expit(logit)) + b * np.log(expit(-logit))
            return function(expit(logit)) * np.exp(density - betaln(a, b))

        return quad(integrand, -200, 200, points=[np.log(a / b)], **EXACT)[0]

    def over_rates(function: Callable[[float], float]) -> float:
        def integrand(log_rate: float) -> float:
            scaled = alpha * np.exp(log_rate)
            density = r * np.log(scaled) - scaled - gammaln(r)
            return function(np.exp(log_rate)) * np.exp(density)

        return quad(integrand, -200, 20, points=[np.log(r / alpha)], **EXACT)[0]

    stayed = over_leaves(lambda p: (1 - p) ** (x + 1))
    left = over_leaves(lambda p: p * (1 - p) ** x)
    alive = stayed * over_rates(lambda rate: rate**x * np.exp(-rate * T))
    dropped = left * over_rates(lambda rate: rate**x * np.exp(-rate * t_x))
    buys = stayed * over_rates(
        lambda rate: rate**x * np.exp(-rate * T) * -np.expm1(-rate * horizon)
    )
    return alive + dropped, alive / (alive + dropped), buys / (alive + dropped)


@every_timing
@pytest.mark.parametrize("history", [(0, 0.0, 9.0), (1, 2.0, 30.0), (7, 20.0, 21.0)])
def test_likelihood_and_probabilities_equal_the_integrals_over_all_people(
    timing: PurchaseTiming, history: tuple[int, float, float]
) -> None:
    likelihood, alive, buys = integrate(timing, *history, horizon=13)
    seen = [[value] for value in history]
    assert np.exp(log_likelihood(timing, *seen)) == pytest.approx(likelihood, rel=1e-6)
    assert alive_chance(timing, *seen) == pytest.approx(alive, rel=1e-6)
    assert timing.probability_of_purchase(*seen, 13) == pytest.approx(buys, rel=1e-6)


@every_timing
def test_of_people_with_like_histories_as_many_return_and_buy_as_predicted(
    timing: PurchaseTiming,
) -> None:
    rng = np.random.default_rng(1)
    horizon = 20.0
    lives = live(timing, rng.choice([0.5, 15.0, 60.0], 80_000), rng, horizon)
    idle = lives.T - lives.t_x
    groups = np.stack([lives.T, lives.x.clip(max=4), idle > np.median(idle)], axis=1)
    _, group = np.unique(groups, axis=0, return_inverse=True)
    for truth, predicted in (
        (lives.is_alive, alive_chance(timing, *lives.seen)),
        (
            lives.future_count > 0,
            timing.probability_of_purchase(*lives.seen, horizon),
        ),
        (lives.future_count, timing.expected_purchases(*lives.seen, horizon)),
    ):
        missed = truth - predicted
        size = np.bincount(group)
        mean = np.bincount(group, missed) / size
        spread = np.sqrt(np.bincount(group, missed**2) / size**2)
        large = size >= 200
        assert large.sum() >= 10
        assert (np.abs(mean) <= 4 * spread + 1e-12)[large].all()


@given(
    people=st.tuples(*[st.floats(0.05, 20)] * 2, st.floats(0.05, 9), st.floats(0.1, 9)),
    x=st.integers(0, 40),
    share=st.floats(0.001, 1),
    T=st.floats(0.001, 100),
    horizon=st.floats(0.001, 300),
)
@example(people=(1.0, 5.0, 1.0, 2.0), x=3, share=0.9, T=30.0, horizon=30.0)
@example(people=(0.5, 0.1, 0.2, 0.8), x=0, share=0.0, T=0.0, horizon=300.0)
@example(people=(2.0, 0.1, 0.1, 9.0), x=4000, share=1.0, T=9.0, horizon=300.0)
@settings(max_examples=60, deadline=None)
def test_expected_purchases_equal_the_integral_over_those_alive(
    people: tuple[float, float, float, float],
    x: int,
    share: float,
    T: float,
    horizon: float,
) -> None:
    timing = PurchaseTiming(*people)
    seen = [[x], [min(x, 1) * share * T], [T]]
    r, alpha, a, b = people
    stays = b + x + 1
    reach = horizon / (alpha + T)

    def integrand(logit: float) -> float:
        leaves = expit(logit)
        made = -np.expm1(-(r + x) * np.log1p(leaves * reach)) / leaves
        return made * np.exp(
            a * np.log(leaves) + stays * np.log(expit(-logit)) - betaln(a, stays)
        )

    # Peaks lie near the odds of dropping out, and where these end the horizon.
    peaks = [np.log(a / stays), -np.log1p((r + x) * reach)]
    integral = quad(integrand, -500, 350, points=sorted(peaks), **EXACT)[0]
    expected = alive_chance(timing, *seen) * integral
    assert timing.expected_purchases(*seen, horizon) == pytest.approx(
        expected, rel=1e-7
    )


@every_timing
def test_expected_purchases_equal_the_published_formula(
    timing: PurchaseTiming,
) -> None:
    rng = np.random.default_rng(3)
    x, _, T = seen = live(timing, rng.uniform(5, 60, 500), rng).seen
    r, alpha, a, b = parameters_of(timing)
    stays = b + x + 1
    until = alpha + T + 10
    hypergeometric = hyp2f1(r + x, stays, a + stays - 1, 10 / until)
    published = (a + stays - 1) / (a - 1)
    published *= 1 - ((alpha + T) / until) ** (r + x) * hypergeometric
    expected = alive_chance(timing, *seen) * published
    assert timing.expected_purchases(*seen, 10) == pytest.approx(expected, rel=1e-8)


@given(
    seen=histories,
    position=log_parameters,
    horizon=st.floats(0, 100),
    longer=st.floats(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_probabilities_rise_with_the_horizon_and_fall_with_silence(
    seen: tuple[Floats, Floats, Floats],
    position: Floats,
    horizon: float,
    longer: float,
) -> None:
    timing = PurchaseTiming(*np.exp(position))
    x, t_x, T = seen
    alive = alive_chance(timing, *seen)
    buys = timing.probability_of_purchase(*seen, horizon)
    slack = 1 + 1e-12
    assert ((alive >= 0) & (alive <= 1) & (buys >= 0) & (buys <= alive)).all()
    assert (buys <= timing.expected_purchases(*seen, horizon) * slack).all()
    further = timing.probability_of_purchase(*seen, horizon + longer)
    assert (buys <= further * slack).all()
    silent = timing.probability_of_purchase(x, t_x, T + longer, horizon)
    assert (silent <= buys * slack).all()
    later = np.where(x > 0, T, 0.0)
    assert (alive <= alive_chance(timing, x, later, T) * slack).all()


def test_one_time_buyers_may_be_gone_from_the_start() -> None:
    seen = [[0, 0], [0, 0], [0, 1000]]
    alive = alive_chance(PurchaseTiming(0.5, 10, 1.0, 2.0), *seen)
    assert alive[0] == pytest.approx(2 / 3)
    assert alive[1] < 0.2


def test_fit_and_scores_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(4)
    timing = PurchaseTiming(*PEOPLE[0])
    x, t_x, T = live(timing, rng.integers(1, 30, 3000).astype(float), rng).seen
    t_x = np.ceil(t_x)
    shuffled = rng.permutation(x.size)
    there, here = (
        PurchaseTiming.fit(x[rows], t_x[rows], T[rows])
        for rows in (shuffled, slice(None))
    )
    assert there == here
    for score in (here.probability_of_purchase, here.expected_purchases):
        assert np.array_equal(
            score(x, t_x, T, 9)[shuffled],
            score(x[shuffled], t_x[shuffled], T[shuffled], 9),
        )


def test_time_may_have_any_unit() -> None:
    rng = np.random.default_rng(5)
    x, t_x, T = live(PurchaseTiming(*PEOPLE[1]), rng.uniform(9, 99, 400), rng).seen
    fitted = PurchaseTiming.fit(x, t_x, T)
    in_minutes = PurchaseTiming.fit(x, t_x * 10_080, T * 10_080)
    expected = parameters_of(replace(fitted, alpha=fitted.alpha * 10_080))
    assert parameters_of(in_minutes) == pytest.approx(expected, rel=1e-3)


def test_a_start_found_on_few_rows_leads_to_the_same_height(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    timing = TIMINGS[0]
    rng = np.random.default_rng(6)
    seen = live(timing, rng.uniform(10, 50, 2000), rng).seen
    height = log_likelihood(PurchaseTiming.fit(*seen), *seen).sum()
    monkeypatch.setattr("ml.lifetime.SCOUTED", 500)
    fitted = PurchaseTiming.fit(*seen)
    assert log_likelihood(fitted, *seen).sum() == pytest.approx(height, abs=1e-5)


def test_extreme_histories_have_finite_scores() -> None:
    seen = np.array(
        [[0, 0, 0], [3, 1e-9, 1e-9], [5000, 1, 1], [1, 1, 1e9], [0, 0, 1e9]]
    ).T
    for timing in (
        PurchaseTiming(1e-6, 1e-6, 1e-6, 1e-6),
        PurchaseTiming(1e6, 1e6, 1e6, 1e-6),
        PurchaseTiming.fit(*seen),
    ):
        alive = alive_chance(timing, *seen)
        buys = timing.probability_of_purchase(*seen, 1)
        expected = timing.expected_purchases(*seen, 1)
        assert ((buys >= 0) & (buys <= alive) & (alive <= 1)).all()
        assert np.isfinite([*log_likelihood(timing, *seen), *expected]).all()


@pytest.mark.parametrize(
    ("x", "t_x", "T", "complaint"),
    [
        ([-1], [0], [1], "x must be"),
        ([0.5], [0], [1], "x must be"),
        ([1], [2], [1], "between 0 and T"),
        ([1], [-1], [1], "between 0 and T"),
        ([1], [np.nan], [1], "between 0 and T"),
        ([0], [1], [1], "0 where x is 0"),
        ([1], [0], [1], "positive elsewhere"),
        ([np.nan], [0], [1], "finite"),
        ([0], [0], [np.inf], "finite"),
        ([0, 1], [0], [1], "one length"),
        ([[0]], [[0]], [[1]], "one length"),
    ],
)
def test_what_is_no_history_is_refused(
    x: object, t_x: object, T: object, complaint: str
) -> None:
    timing = TIMINGS[0]
    for refuse in (
        PurchaseTiming.fit,
        lambda *seen: timing.probability_of_purchase(*seen, 1),
        lambda *seen: timing.expected_purchases(*seen, 1),
    ):
        with pytest.raises(ValueError, match=complaint):
            refuse(x, t_x, T)


def test_what_cannot_be_fitted_or_looked_ahead_to_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        PurchaseTiming.fit([], [], [])
    with pytest.raises(ValueError, match="every T is 0"):
        PurchaseTiming.fit([0], [0], [0])
    for horizon in (-1, np.nan, np.inf):
        with pytest.raises(ValueError, match="horizon"):
            TIMINGS[0].probability_of_purchase([1], [1], [2], horizon)
        with pytest.raises(ValueError, match="horizon"):
            TIMINGS[0].expected_purchases([1], [1], [2], horizon)


def test_nobody_gets_no_score_and_no_time_no_purchase() -> None:
    for timing in TIMINGS:
        assert timing.probability_of_purchase([], [], [], 30).shape == (0,)
        assert timing.expected_purchases([], [], [], 30).shape == (0,)
        assert timing.probability_of_purchase([2], [1], [3], 0) == [0]
        assert timing.expected_purchases([2], [1], [3], 0) == [0]


@pytest.mark.parametrize("fitted", [TIMINGS[0], SpendLevel(6.0, 4.0, 15.0)], ids=str)
def test_what_was_fitted_comes_back_from_json(fitted: object) -> None:
    assert type(fitted)(**json.loads(json.dumps(asdict(fitted)))) == fitted


def spend(
    level: SpendLevel, size: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Purchases, their mean spend, and the mean the person really has."""
    x = rng.geometric(0.3, size).astype(float)
    nu = rng.gamma(level.q, 1 / level.gamma, size)
    return x, rng.gamma(level.p * x) / nu / x, level.p / nu


LEVELS = (SpendLevel(6.25, 3.74, 15.44), SpendLevel(1.0, 8.0, 500.0))


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_spend_parameters_are_recovered_within_sampling_error(
    level: SpendLevel,
) -> None:
    x, mean_spend, _ = spend(level, 20_000, np.random.default_rng(8))

    def position(level: SpendLevel) -> Floats:
        return np.log([level.p, level.q - 1, level.population_mean])

    def slope(position: Floats) -> Floats:
        return spend_likelihood(position, x, mean_spend)[1].sum(axis=1)

    fitted = position(SpendLevel.fit(x, mean_spend))
    known = information(slope, fitted)
    assert np.sqrt(np.diag(np.linalg.inv(known))).max() < 0.1
    missed = fitted - position(level)
    assert missed @ known @ missed < chi2.ppf(0.999, 3)


def spend_likelihood_as_published(
    level: SpendLevel, x: Floats, mean_spend: Floats
) -> Floats:
    """Equation 1a of Fader, Hardie 2013."""
    p, q = level.p * x, level.q
    return (
        gammaln(p + q)
        - gammaln(p)
        - gammaln(q)
        + q * np.log(level.gamma)
        + (p - 1) * np.log(mean_spend)
        + p * np.log(x)
        - (p + q) * np.log(level.gamma + x * mean_spend)
    )


spends = st.lists(
    st.tuples(st.integers(1, 12), st.floats(0.5, 200)), min_size=1, max_size=25
).map(lambda rows: tuple(np.array(rows, float).T))


@given(
    spends=spends,
    position=st.lists(st.floats(-4, 5), min_size=3, max_size=3).map(np.array),
)
@settings(max_examples=60, deadline=None)
def test_spend_likelihood_and_its_gradient_equal_the_published_ones(
    spends: tuple[Floats, Floats], position: Floats
) -> None:
    def published(position: Floats) -> Floats:
        p, beyond_one, mean = np.exp(position)
        level = SpendLevel(p, 1 + beyond_one, mean * beyond_one / p)
        return spend_likelihood_as_published(level, *spends)

    values, gradient = spend_likelihood(position, *spends)
    assert values == pytest.approx(published(position), rel=1e-9, abs=1e-8)
    slopes = [
        (published(position + step) - published(position - step)) / 2e-5
        for step in 1e-5 * np.eye(3)
    ]
    assert gradient == pytest.approx(np.array(slopes), rel=1e-5, abs=1e-5)


@given(spends=spends, seed=st.integers(0, 1000))
@example(spends=(np.ones(3), np.full(3, 7.0)), seed=0)
@settings(max_examples=15, deadline=None)
def test_no_general_optimiser_finds_likelier_spend(
    spends: tuple[Floats, Floats], seed: int
) -> None:
    least, most = np.log(spends[1].min()), np.log(spends[1].max())

    def level_at(position: Floats) -> SpendLevel:
        p, beyond_one, mean = np.exp(position)
        return SpendLevel(p, 1 + beyond_one, mean * beyond_one / p)

    def loss(position: Floats) -> float:
        return -spend_likelihood_as_published(level_at(position), *spends).sum()

    starts = np.random.default_rng(seed).uniform(-2, 4, (2, 3))
    starts[:, 2] = starts[:, 2].clip(least, most)
    rivals = [
        minimize(
            loss,
            start,
            method="Nelder-Mead",
            bounds=[(-8, 8), (-8, 8), (least, most)],
            options={"maxfev": 500},
        )
        for start in starts
    ]
    fitted = SpendLevel.fit(*spends)
    reached = spend_likelihood_as_published(fitted, *spends).sum()
    highest = -min(rival.fun for rival in rivals)
    assert reached >= highest - 1e-4 * spends[0].size
    assert least - 1e-9 <= np.log(fitted.population_mean) <= most + 1e-9


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_expected_spend_is_what_people_of_such_a_history_spend_on_average(
    level: SpendLevel,
) -> None:
    x, mean_spend, truth = spend(level, 200_000, np.random.default_rng(9))
    expected = level.expected_spend(x, mean_spend)
    missed = truth - expected
    group = np.digitize(mean_spend, np.quantile(mean_spend, [0.2, 0.5, 0.8]))
    group += 4 * (x.astype(int).clip(max=4) - 1)
    size = np.bincount(group)
    mean = np.bincount(group, missed) / size
    spread = np.sqrt(np.bincount(group, missed**2)) / size
    assert (np.abs(mean) < 4 * spread).all()


def test_spend_is_shrunk_towards_the_population_the_less_the_more_is_known() -> None:
    level = LEVELS[0]
    expected = level.expected_spend([0, 0, 1, 9, 10**9], [np.nan, 5, 90, 90, 90])
    assert expected[:2].tolist() == [level.population_mean] * 2
    assert (np.diff(expected[1:]) > 0).all()
    assert expected[-1] == pytest.approx(90)


def test_spend_has_no_order_and_any_currency() -> None:
    rng = np.random.default_rng(10)
    x, mean_spend, _ = spend(LEVELS[0], 500, rng)
    fitted = SpendLevel.fit(x, mean_spend)
    rows = rng.permutation(500)
    assert SpendLevel.fit(x[rows], mean_spend[rows]) == fitted
    in_yen = SpendLevel.fit(x, 150 * mean_spend)
    assert in_yen.p == pytest.approx(fitted.p, rel=1e-3)
    assert in_yen.population_mean == pytest.approx(150 * fitted.population_mean)


@pytest.mark.parametrize(
    ("x", "mean_spend", "complaint"),
    [
        ([], [], "nothing to fit"),
        ([0], [5], "needs purchases"),
        ([1], [0], "must be positive"),
        ([1], [-1], "must be positive"),
        ([1], [np.nan], "must be positive"),
        ([-1], [1], "number of purchases"),
        ([np.nan], [1], "number of purchases"),
        ([1, 1], [1], "one length"),
    ],
)
def test_what_is_no_spend_is_refused(
    x: object, mean_spend: object, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        SpendLevel.fit(x, mean_spend)


def examples(size: int = 4000) -> tuple[Floats, Floats]:
    """Profiles, a tenth of whom never ordered, and whether they order within 10."""
    rng = np.random.default_rng(11)
    timing = PurchaseTiming(*PEOPLE[1])
    lives = live(timing, rng.uniform(5, 80, size), rng, horizon=10)
    matrix = np.stack(lives.seen, axis=1)
    outcomes = lives.future_count > 0
    matrix[: size // 10] = np.nan
    matrix = np.column_stack([matrix, np.full(size, 10.0)])
    outcomes[: size // 10] = rng.random(size // 10) < 0.05
    return matrix, outcomes


def test_the_classifier_gives_the_fitted_probability_of_a_purchase() -> None:
    matrix, outcomes = examples()
    ordered = ~np.isnan(matrix[:, 0])
    classifier = PurchaseTimingClassifier().fit(matrix, outcomes)
    predicted = classifier.predict_proba(matrix)
    seen = matrix[ordered, :3].T
    expected = PurchaseTiming.fit(*seen).probability_of_purchase(*seen, 10)
    assert predicted.sum(axis=1) == pytest.approx(1)
    assert predicted[ordered, 1] == pytest.approx(expected, abs=0.01)
    assert predicted[ordered, 1].mean() == pytest.approx(
        outcomes[ordered].mean(), abs=0.03
    )
    assert (classifier.predict(matrix) == (predicted[:, 1] > 0.5)).all()


def test_who_never_ordered_gets_the_smoothed_rate_of_their_like() -> None:
    matrix, outcomes = examples(400)
    classifier = PurchaseTimingClassifier().fit(matrix, outcomes)
    newcomers = np.isnan(matrix[:, 0])
    rate = (outcomes[newcomers].sum() + outcomes.mean()) / (newcomers.sum() + 1)
    assert classifier.predict_proba(matrix)[newcomers, 1] == pytest.approx(rate)
    of_none = classifier.fit(matrix[~newcomers], outcomes[~newcomers])
    assert of_none.newcomer_rate_ == pytest.approx(outcomes[~newcomers].mean())


def test_a_customer_base_too_young_to_be_fitted_gets_doubtful_probabilities() -> None:
    nobody_ordered = np.array([[np.nan, np.nan, np.nan, 30.0]] * 4)
    nobody_returned = np.array([[0.0, 0, T, 30] for T in range(4)])
    for matrix in (nobody_ordered, nobody_returned):
        classifier = PurchaseTimingClassifier().fit(matrix, [0, 1, 0, 1])
        buys = classifier.predict_proba([*matrix, [2.0, 5.0, 9.0, 30.0]])[:, 1]
        assert ((buys > 0.001) & (buys < 0.999)).all()


def test_the_classifier_is_a_good_citizen_of_scikit_learn() -> None:
    matrix, outcomes = examples(600)
    classifier = PurchaseTimingClassifier()
    calibrated = CalibratedClassifierCV(
        classifier, method="temperature", cv=3, ensemble=False
    ).fit(matrix, outcomes)
    assert np.isfinite(calibrated.predict_proba(matrix)).all()
    fitted = classifier.fit(matrix, outcomes)
    content = skops.io.dumps(fitted)
    ours = "ml.lifetime.PurchaseTimingClassifier"
    assert skops.io.get_untrusted_types(data=content) == [ours]
    stored = skops.io.loads(content, trusted=[ours])
    assert np.array_equal(stored.predict_proba(matrix), fitted.predict_proba(matrix))
    assert np.array_equal(
        clone(fitted).fit(matrix, outcomes).predict_proba(matrix),
        fitted.predict_proba(matrix),
    )
    with pytest.raises(ValueError, match="two classes"):
        classifier.fit(matrix, np.zeros(len(matrix)))
