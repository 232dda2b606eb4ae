"""Buy till you die: who will buy again, how often, and what they spend.

Arrays in, numbers out; what counts as a purchase, the unit of time, the horizon and
the currency are the caller's.
"""

# x, t_x, T are the papers' symbols, X is scikit-learn's.
# ruff: noqa: N803, N806

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, Self, cast

import numba as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import betaln, expit, psi
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

Floats = NDArray[np.float64]

# A likelihood without a maximum (say all people alike, or nobody ever lost) still
# rises beyond these logarithms of a parameter, but by less than anyone can see.
FARTHEST = 15.0
# So many different histories are plenty to find out which start leads highest.
SCOUTED = 10_000
# What is still to come of a sum, relative to it, when it is broken off.
PRECISION = 1e-13
# Sums are scaled down from here, long before they overflow.
HUGE, LOG_HUGE = 1e200, 200 * math.log(10)


@dataclass(frozen=True)
class PurchaseTiming:
    """When people buy: each at their own rate, until after some purchase they stop.

    While alive, a person buys at a rate ~ Gamma(r, alpha), and drops out after each
    purchase, the first among them, with a probability ~ Beta(a, b): the MBG/NBD
    (Batislam, Denizel, Filiztekin 2007; Hoppe, Wagner 2007).

    A history is `(x, t_x, T)`: the number of purchases after the first, the time from
    the first to the last of them (0 if x = 0), the time from the first until now.
    Purchases of one moment (or day, where days are all that is known) count as one.
    Times share one unit, that of `alpha` and of every horizon. All methods take arrays
    of one length and raise ValueError for what cannot be a history.
    """

    r: float
    alpha: float
    a: float
    b: float

    @classmethod
    def fit(cls, x: ArrayLike, t_x: ArrayLike, T: ArrayLike) -> Self:
        """The maximum of the likelihood.

        Where the likelihood has no maximum (nobody bought again, all bought alike),
        parameters near the end of its rise come back, which predict the same.

        Raises:
            ValueError: if something is no history, or nobody was observed for any time.
        """
        (x, t_x, T), counts = count_equals(check_histories(x, t_x, T))
        time = float(np.average(T, weights=counts))
        if time == 0:
            raise ValueError("nobody was observed for any time: every T is 0")
        t_x, T = t_x / time, T / time
        rate = max(float(np.average(x, weights=counts)), np.exp(-FARTHEST))

        def loss(position: Floats, rows: slice) -> tuple[float, Floats]:
            values, gradient = purchase_likelihood(
                np.exp(LOG_PARAMETERS @ position), x[rows], t_x[rows], T[rows]
            )
            return average_loss(values, LOG_PARAMETERS.T @ gradient, counts[rows])

        r, alpha, a, b = np.exp(
            LOG_PARAMETERS
            @ find_least(
                loss,
                starts=[
                    np.log([shape, faster * rate, odds, alike])
                    for shape, (faster, odds), alike in STARTS
                ],
                bounds=[(-FARTHEST, FARTHEST)] * 4,
                row_count=x.size,
            )
        )
        return cls(float(r), float(alpha * time), float(a), float(b))

    def probability_of_purchase(
        self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike, horizon: ArrayLike
    ) -> Floats:
        """The probability of at least one purchase in (T, T + horizon].

        Who is alive makes the next purchase for certain if given time; the rate of
        those alive is Gamma(r + x, alpha + T) distributed.
        """
        horizon = check_horizon(horizon)
        x, t_x, T = check_histories(x, t_x, T)
        buys = -np.expm1(-(self.r + x) * np.log1p(horizon / (self.alpha + T)))
        return self._alive(x, t_x, T) * buys

    def expected_purchases(
        self, x: ArrayLike, t_x: ArrayLike, T: ArrayLike, horizon: ArrayLike
    ) -> Floats:
        """The expected number of purchases in (T, T + horizon]."""
        horizon = check_horizon(horizon)
        x, t_x, T = check_histories(x, t_x, T)
        return self._alive(x, t_x, T) * count_purchases(
            self.r + x, horizon / (self.alpha + T), self.a, self.b + x + 1
        )

    def _alive(self, x: Floats, t_x: Floats, T: Floats) -> Floats:
        alive: Floats = expit(-log_odds_dropped(self._parameters, x, t_x, T))
        return alive

    @property
    def _parameters(self) -> Floats:
        return np.array([self.r, self.alpha, self.a, self.b])


# Rows: log r, log alpha, log a, log b. Columns: the logarithms of what the data keep
# apart best, namely the shape r, the mean rate r / alpha, the odds of dropping out
# a / b, and how alike people are in that, sqrt(a b).
LOG_PARAMETERS = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [1.0, -1.0, 0.0, 0.0],
        [0.0, 0.0, 0.5, 1.0],
        [0.0, 0.0, -0.5, 1.0],
    ]
)
# From each corner: people differ much or little in their rates and in dropping out, and
# buy fast but leave soon, or as slowly as it seems (the mean rate is in observed ones).
STARTS = tuple(product((0.3, 3.0), ((1.0, 0.05), (4.0, 1.0)), (0.03, 1.0)))


def purchase_likelihood(
    parameters: Floats, x: Floats, t_x: Floats, T: Floats
) -> tuple[Floats, Floats]:
    """Each history's log-likelihood, and its slopes by log (r, alpha, a, b).

    The likelihood of being alive is that of x purchases in T, times that of having
    stayed at each chance to drop out; that of any history is greater by the odds of
    having dropped out at t_x. Returns shapes (n,) and (4, n).
    """
    r, alpha, a, b = parameters
    chances = x + 1
    purchase = np.arange(x.max(initial=0.0))
    chance = np.arange(chances.max(initial=0.0))
    waited = np.log1p(T / alpha)
    log_odds = log_odds_dropped(parameters, x, t_x, T)
    values = (
        first(x, np.log(r + purchase))
        - x * np.log(alpha + T)
        - r * waited
        - first(chances, np.log1p(a / (b + chance)))
        + np.logaddexp(0, log_odds)
    )
    dropped: Floats = expit(log_odds)
    idle = (T - t_x) / (alpha + t_x)
    by_r = first(x, 1 / (r + purchase)) - waited + dropped * np.log1p(idle)
    stays = first(chances, a * b / ((b + chance) * (a + b + chance)))
    gradient = np.stack(
        [
            r * by_r,
            (r * T - x * alpha - dropped * (r + x) * alpha * idle) / (alpha + T),
            dropped - first(chances, a / (a + b + chance)),
            stays - dropped * b / (b + x),
        ]
    )
    return values, gradient


def log_odds_dropped(parameters: Floats, x: Floats, t_x: Floats, T: Floats) -> Floats:
    """The log-odds of having dropped out at t_x, against being alive at T."""
    r, alpha, a, b = parameters
    log_odds: Floats = np.log(a / (b + x)) + (r + x) * np.log1p(
        (T - t_x) / (alpha + t_x)
    )
    return log_odds


def first(counts: Floats, terms: Floats) -> Floats:
    """The sum of the first `count` terms, for each count."""
    sums: Floats = np.concatenate([[0.0], np.cumsum(terms)])[counts.astype(np.intp)]
    return sums


def _count_purchases(shape: float, reach: float, a: float, b: float) -> float:
    """The expected purchases of a person alive, in `reach` times what was observed.

    With nobody dropping out there would be N of them, negative-binomially distributed;
    each is made if the person stayed at all before it, which has probability
    (b)_j / (a + b)_j for j of them. This is the papers' difference of 2F1, but a sum
    of positive terms alone: nothing cancels, and a = 1 is no pole.
    """
    probability = reach / (1 + reach)
    log_scale = -shape * math.log1p(reach)
    mass, stayed, made, total, n = 1.0, 1.0, 0.0, 0.0, 0.0
    while True:
        mass *= probability * (shape + n) / (n + 1)
        made += stayed
        total += mass * made
        stayed *= (b + n) / (a + b + n)
        n += 1
        ratio = probability * max(1.0, (shape + n) / (n + 1))
        if ratio < 1 and mass * made <= PRECISION * (1 - ratio) * total:
            return total * math.exp(log_scale)
        if mass > HUGE:
            mass, total = mass / HUGE, total / HUGE
            log_scale += LOG_HUGE


count_purchases = cast(
    Callable[[Floats, Floats, float, Floats], Floats],
    nb.vectorize(cache=True)(_count_purchases),  # type: ignore[no-untyped-call]
)


@dataclass(frozen=True)
class SpendLevel:
    """What people spend: the Gamma–Gamma model of Fader and Hardie (2013).

    What a person spends on a purchase is Gamma(p, nu) distributed, around a mean of
    their own, p / nu, with nu ~ Gamma(q, gamma); it does not depend on how often they
    buy. Amounts share one currency, that of `gamma`.
    """

    p: float
    q: float
    gamma: float

    @classmethod
    def fit(cls, x: ArrayLike, mean_spend: ArrayLike) -> Self:
        """The maximum of the likelihood of mean spends over x purchases each.

        The population's mean is kept to exist and to lie among the observed ones.

        Raises:
            ValueError: if there is none, or one with no purchases or no positive spend.
        """
        spends = check_spends(x, mean_spend)
        if not (spends[0] > 0).all():
            raise ValueError("a mean spend needs purchases: every x must be positive")
        (x, mean_spend), counts = count_equals(spends)
        level = float(np.average(mean_spend, weights=counts))
        mean_spend = mean_spend / level

        def loss(position: Floats, rows: slice) -> tuple[float, Floats]:
            values, gradient = spend_likelihood(position, x[rows], mean_spend[rows])
            return average_loss(values, gradient, counts[rows])

        p, beyond_one, mean = np.exp(
            find_least(
                loss,
                starts=[
                    np.log([*shapes, 1.0]) for shapes in product((0.5, 20.0), repeat=2)
                ],
                bounds=[
                    (-FARTHEST, FARTHEST),
                    (-FARTHEST, FARTHEST),
                    (np.log(mean_spend.min()), np.log(mean_spend.max())),
                ],
                row_count=x.size,
            )
        )
        return cls(
            float(p), float(1 + beyond_one), float(mean * beyond_one / p * level)
        )

    @property
    def population_mean(self) -> float:
        """What a purchase of somebody unknown is expected to cost."""
        return self.p * self.gamma / (self.q - 1)

    def expected_spend(self, x: ArrayLike, mean_spend: ArrayLike) -> Floats:
        """What the next purchase is expected to cost: the own mean, shrunk.

        Where x is 0 the mean spend is not looked at, and the population's comes back.

        Raises:
            ValueError: if there are purchases without a positive spend.
        """
        x, mean_spend = check_spends(x, mean_spend)
        own = self.p * x / (self.p * x + self.q - 1)
        return own * mean_spend + (1 - own) * self.population_mean


def spend_likelihood(
    position: Floats, x: Floats, mean_spend: Floats
) -> tuple[Floats, Floats]:
    """Each mean's log-likelihood, and its slopes by log (p, q - 1, population mean).

    All spent, S, makes a share S / (gamma + S) that is Beta(p x, q) distributed.
    Returns shapes (n,) and (3, n).
    """
    p, beyond_one, mean = np.exp(position)
    q, gamma = 1 + beyond_one, mean * beyond_one / p
    spent = x * mean_spend
    share = spent / (gamma + spent)
    log_share, log_rest = -np.log1p(gamma / spent), -np.log1p(spent / gamma)
    values = p * x * log_share + q * log_rest - betaln(p * x, q) - np.log(mean_spend)
    by_p = x * (log_share + psi(p * x + q) - psi(p * x))
    by_q = log_rest + psi(p * x + q) - psi(q)
    by_log_gamma = q * share - p * x * (1 - share)
    return values, np.stack(
        [p * by_p - by_log_gamma, beyond_one * by_q + by_log_gamma, by_log_gamma]
    )


class PurchaseTimingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The MBG/NBD's probability of a purchase within a horizon, for scikit-learn.

    Columns of X are x, t_x and T of `PurchaseTiming`, and the horizon. Where x is
    missing, nobody ordered yet: these get the rate of the positive class among their
    like in training. The outcomes of the others are not looked at.

    One made-up person, who bought again halfway through a usual horizon, joins the
    training, so that no customer base is too young to be fitted.
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Estimate the parameters from X (n × 4) and the newcomers' rate from y (n).

        Raises:
            ValueError: if a row is no history, or y has not two classes.
        """
        matrix, labels = validate_data(self, X, y, ensure_all_finite="allow-nan")
        self.classes_, outcomes = np.unique(labels, return_inverse=True)
        if self.classes_.size != 2:
            raise ValueError(f"two classes are needed, not {self.classes_.size}")
        ordered = ~np.isnan(matrix[:, 0])
        usual = float(np.median(matrix[:, 3]))
        imagined = [[1.0, usual / 2, usual]]
        x, t_x, T = np.concatenate([matrix[ordered, :3], imagined]).T
        timing = PurchaseTiming.fit(x, t_x, T)
        self.r_, self.alpha_ = timing.r, timing.alpha
        self.a_, self.b_ = timing.a, timing.b
        newcomers = outcomes[~ordered]
        self.newcomer_rate_ = float(
            (newcomers.sum() + outcomes.mean()) / (newcomers.size + 1)
        )
        return self

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of no purchase and of one, n × 2."""
        check_is_fitted(self)
        matrix = validate_data(self, X, ensure_all_finite="allow-nan", reset=False)
        ordered = ~np.isnan(matrix[:, 0])
        x, t_x, T, horizon = matrix[ordered].T
        timing = PurchaseTiming(self.r_, self.alpha_, self.a_, self.b_)
        buys = np.full(ordered.size, self.newcomer_rate_)
        buys[ordered] = timing.probability_of_purchase(x, t_x, T, horizon)
        return np.column_stack([1 - buys, buys])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likelier class of each row."""
        likelier: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return likelier

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def find_least(
    loss: Callable[[Floats, slice], tuple[float, Floats]],
    starts: list[Floats],
    bounds: list[tuple[float, float]],
    row_count: int,
) -> Floats:
    """Where the loss over all rows is least, coming from the best of the starts.

    Which start that is, is found on rows picked evenly from all of them. A search that
    ends because slopes are lost in rounding has arrived.
    """

    def descend(start: Floats, step: int) -> Any:
        return minimize(
            loss,
            start,
            args=(slice(None, None, step),),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1_000},
        )

    step = -(-row_count // SCOUTED)
    # On matrices this small, threads only wait for one another.
    with threadpool_limits(1, user_api="blas"):
        leading = min(
            (descend(start, step) for start in starts), key=lambda end: end.fun
        )
        position: Floats = descend(leading.x, 1).x
    return position


def average_loss(
    values: Floats, gradient: Floats, counts: Floats
) -> tuple[float, Floats]:
    """The mean of what is lost, each row counted so often, and its slopes (k × n)."""
    total = counts.sum()
    return (
        -float((counts * values).sum() / total),
        -(counts * gradient).sum(axis=1) / total,
    )


def count_equals(columns: tuple[Floats, ...]) -> tuple[tuple[Floats, ...], Floats]:
    """The different rows, sorted, and how often each is there.

    Raises:
        ValueError: if there is no row.
    """
    size = columns[0].size
    if size == 0:
        raise ValueError("there is nothing to fit: no row")
    order = np.lexsort(columns[::-1])
    columns = tuple(column[order] for column in columns)
    is_new = np.ones(size, dtype=bool)
    is_new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    starts = np.flatnonzero(is_new)
    counts = np.diff(starts, append=size).astype(float)
    return tuple(column[starts] for column in columns), counts


def check_histories(
    x: ArrayLike, t_x: ArrayLike, T: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """Histories as floats.

    Raises:
        ValueError: if something cannot be a history.
    """
    x, t_x, T = (np.asarray(column, dtype=float) for column in (x, t_x, T))
    if not (x.ndim == 1 and x.shape == t_x.shape == T.shape):
        raise ValueError("x, t_x and T must be columns of one length")
    if not (np.isfinite(x) & np.isfinite(T)).all():
        raise ValueError("x and T must be finite")
    if not ((x >= 0) & (x == np.floor(x))).all():
        raise ValueError("x must be a number of purchases: 0, 1, 2, …")
    if not ((t_x >= 0) & (t_x <= T)).all():
        raise ValueError("t_x must lie between 0 and T")
    # Purchases of one moment are one: the likelihood would know no bounds.
    if not ((x > 0) == (t_x > 0)).all():
        raise ValueError("t_x must be 0 where x is 0, and positive elsewhere")
    return x, t_x, T


def check_spends(x: ArrayLike, mean_spend: ArrayLike) -> tuple[Floats, Floats]:
    """Purchases and what they cost on average, 0 where there were none.

    Raises:
        ValueError: if something cannot be a mean spend.
    """
    x, mean_spend = (np.asarray(column, dtype=float) for column in (x, mean_spend))
    if not (x.ndim == 1 and x.shape == mean_spend.shape):
        raise ValueError("x and mean_spend must be columns of one length")
    if not ((x >= 0) & np.isfinite(x)).all():
        raise ValueError("x must be a number of purchases")
    mean_spend = np.where(x > 0, mean_spend, 0.0)
    if not (((mean_spend > 0) | (x == 0)) & np.isfinite(mean_spend)).all():
        raise ValueError("mean_spend must be positive where something was bought")
    return x, mean_spend


def check_horizon(horizon: ArrayLike) -> Floats:
    """Horizons as an array; ValueError where one is no span of time."""
    spans = np.asarray(horizon, float)
    if not ((spans >= 0) & (spans < np.inf)).all():
        raise ValueError(f"horizon must be a span of time, not {horizon!r}")
    return spans
