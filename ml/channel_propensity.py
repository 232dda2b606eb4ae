"""Through which channel each profile answers: as those like it do, then as it did.

Beta-binomial empirical Bayes (Efron, Morris 1975): each profile starts on each channel
from what profiles like it do, and moves from there as far as its own messages carry.
Only what arrived counts, so that a policy that favoured a channel favours no score.
Which channel is *allowed* is decided elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import polars.selectors as cs
from scipy.optimize import minimize_scalar
from scipy.special import betaln, expit, logit

# A channel nobody was reached on yet starts at one answer in twenty messages; twenty
# is also what that guess weighs against the messages that do arrive.
GUESSED_RATE = 0.05
GUESSED_STRENGTH = 20.0
# Bounds on how many messages the prior weighs for one profile: below, one click would
# decide; above, no history could. The guess is trusted to a factor of e either way.
MIN_STRENGTH = 2.0
MAX_STRENGTH = 1_000.0
# How far a feature of usual size is expected to move the log-odds of an answer.
USUAL_EFFECT = 0.5
# Rates stay clear of 0 and 1, however sure few messages look.
MIN_RATE = 1e-4
# A channel's prior is as well known from so many profiles as from all of them.
LEARNED_FROM = 50_000
ROUNDS = 3
# What kinds of weak evidence are worth in answers until enough pairs of messages to
# one profile, of which the first met with that evidence, are known.
GUESSED_WORTH = {
    "followed_count": 0.3,
    "opened_count": 0.15,
    "machine_opened_count": 0.0,
}
GUESSED_PAIRS = 2_000.0

COUNTS = ("delivered_count", "engaged_count", *GUESSED_WORTH)
SCHEMA = {
    "profile_id": pl.String,
    "channel": pl.String,
    "channel_propensity": pl.Float64,
    "prior_propensity": pl.Float64,
    "prior_strength": pl.Float64,
    "channel_rate": pl.Float64,
    "delivered_count": pl.Int64,
    "engaged_count": pl.Int64,
}

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Trials:
    """What arrived on each channel and what it met with: profiles × channels."""

    delivered: Floats
    engaged: Floats
    weak: dict[str, Floats]

    @property
    def rates(self) -> Floats:
        """Each channel's share of answered messages, leaning on the guess."""
        answers = self.engaged.sum(axis=0) + GUESSED_RATE * GUESSED_STRENGTH
        rates: Floats = answers / (self.delivered.sum(axis=0) + GUESSED_STRENGTH)
        return rates


def score_channels(
    profiles: pl.DataFrame, engagements: pl.DataFrame, channels: Sequence[str]
) -> pl.DataFrame:
    """One row per profile and channel, for every profile on all `channels`.

    The propensity is the chance that a delivered message is answered. `profiles` holds
    what its prior is learned from: any number but the key is a feature, and
    `preferred_channel` is what the profile says of itself. Whether the channel reaches
    it is not asked here.

    Raises:
        ValueError: if a profile comes twice, or twice on one channel.
    """
    if profiles["profile_id"].is_duplicated().any():
        raise ValueError("profiles hold two rows of one profile_id")
    profiles = profiles.sort("profile_id")
    trials = spread_trials(profiles, count_trials(engagements), channels)
    features = measure_features(profiles)
    stated = [
        (profiles["preferred_channel"] == channel).fill_null(False).to_numpy()
        for channel in channels
    ]
    elsewhere = excess_elsewhere(trials)
    scores, priors = np.empty((2, *trials.delivered.shape))
    strengths = np.empty(len(channels))
    for at in range(len(channels)):
        own = [elsewhere[:, at], stated[at], np.log1p(trials.delivered[:, at])]
        priors[:, at], strengths[at] = fit_prior(
            np.column_stack([features, standardize(np.column_stack(own))]),
            trials.delivered[:, at],
            trials.engaged[:, at],
            trials.rates[at],
        )
        scores[:, at] = update(trials, at, priors[:, at], strengths[at])
    everybody = np.ones((profiles.height, 1))
    columns = {
        "channel_propensity": scores.round(6),
        "prior_propensity": priors.round(6),
        "prior_strength": everybody * strengths.round(6),
        "channel_rate": everybody * trials.rates.round(6),
        "delivered_count": trials.delivered,
        "engaged_count": trials.engaged,
    }
    return pl.DataFrame(
        {
            "profile_id": profiles["profile_id"].gather(
                np.repeat(np.arange(profiles.height), len(channels))
            ),
            "channel": pl.Series(channels).gather(
                np.tile(np.arange(len(channels)), profiles.height)
            ),
            **{name: matrix.ravel() for name, matrix in columns.items()},
        }
    ).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())


def count_trials(engagements: pl.DataFrame) -> pl.DataFrame:
    """Messages that arrived and those of them that were answered.

    On a channel that reports no delivery, what was sent counts as delivered. Several
    answers to one message cannot be kept apart: never more answers than messages.
    """
    return (
        engagements.with_columns(
            pl.when(pl.col("delivered_count").sum().over("channel") > 0)
            .then(pl.col("delivered_count"))
            .otherwise(pl.col("sent_count"))
            .alias("delivered_count"),
        )
        .with_columns(
            delivered_count=pl.when(pl.col("engaged_count") > 0)
            .then(pl.max_horizontal("delivered_count", 1))
            .otherwise("delivered_count")
        )
        .with_columns(
            engaged_count=pl.min_horizontal("engaged_count", "delivered_count")
        )
        .filter(pl.col("delivered_count") > 0)
        .select("profile_id", "channel", *COUNTS)
    )


def spread_trials(
    profiles: pl.DataFrame, counted: pl.DataFrame, channels: Sequence[str]
) -> Trials:
    """The counts as matrices, in the order of `profiles` and of `channels`."""
    placed = counted.join(
        profiles.select("profile_id").with_row_index("row"), on="profile_id"
    ).join(pl.DataFrame({"channel": channels}).with_row_index("column"), on="channel")
    if (
        placed.select(pl.col("row") * len(channels) + pl.col("column"))
        .is_duplicated()
        .any()
    ):
        raise ValueError("engagements hold two rows of one profile_id and channel")
    row, column = placed["row"].to_numpy(), placed["column"].to_numpy()
    counts = {}
    for name in COUNTS:
        counts[name] = np.zeros((profiles.height, len(channels)))
        counts[name][row, column] = placed[name].to_numpy()
    return Trials(
        counts["delivered_count"],
        counts["engaged_count"],
        {name: counts[name] for name in GUESSED_WORTH},
    )


def measure_features(profiles: pl.DataFrame) -> Floats:
    """Every number of the profiles, standardized; counts and ages by their size."""
    numbers = profiles.select(
        cs.numeric().cast(pl.Float64).fill_null(float("nan"))
    ).to_numpy()
    return standardize(np.sign(numbers) * np.log1p(np.abs(numbers)))


def standardize(matrix: Floats) -> Floats:
    """Columns of mean 0 and spread 1; what is unknown is average."""
    known = np.isfinite(matrix)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, matrix, 0).sum(axis=0) / count
    centred = np.where(known, matrix - mean, 0)
    spread = np.sqrt((centred**2).sum(axis=0) / count)
    return np.where(spread > 1e-9, centred / np.maximum(spread, 1e-9), 0)


def excess_elsewhere(trials: Trials) -> Floats:
    """How much more than usual a profile answers on all channels but the one."""
    expected = trials.delivered * trials.rates
    spread = expected * (1 - trials.rates)
    excess = trials.engaged - expected

    def others(matrix: Floats) -> Floats:
        rest: Floats = matrix.sum(axis=1, keepdims=True) - matrix
        return rest

    return others(excess) / np.sqrt(others(spread) + 1)


def fit_prior(
    features: Floats, delivered: Floats, engaged: Floats, rate: float
) -> tuple[Floats, float]:
    """The chance that profiles like each answer, and what that weighs, in messages.

    Maximum posterior of the beta-binomial likelihood: in turn a logistic regression
    whose trials count the less the more alike they are, and the strength.
    """
    learned = np.flatnonzero(delivered > 0)[:LEARNED_FROM]
    known, trials, answers = features[learned], delivered[learned], engaged[learned]
    strength = GUESSED_STRENGTH
    if len(learned) == 0:
        return np.full(len(delivered), rate), strength
    for _ in range(ROUNDS):
        weights = (strength + 1) / (strength + trials)
        effects = fit_effects(known, trials, answers, weights, rate)
        prior = predict(known, effects, rate)
        strength = fit_strength(trials, answers, prior)
    return predict(features, effects, rate), strength


def predict(features: Floats, effects: Floats, rate: float) -> Floats:
    """The chance that the features give, around the channel's rate."""
    chance: Floats = expit(logit(rate) + effects[0] + features @ effects[1:])
    return np.clip(chance, MIN_RATE, 1 - MIN_RATE)


def fit_effects(
    features: Floats,
    trials: Floats,
    answers: Floats,
    weights: Floats,
    rate: float,
) -> Floats:
    """Ridge logistic regression around the channel's rate, by Newton's method."""
    matrix = np.column_stack([np.ones(len(features)), features])
    effects = np.zeros(matrix.shape[1])
    penalty = np.full(matrix.shape[1], 1 / USUAL_EFFECT**2)
    for _ in range(25):
        chance = expit(logit(rate) + matrix @ effects)
        slope = matrix.T @ (weights * (answers - trials * chance)) - penalty * effects
        curve = matrix.T * (weights * trials * chance * (1 - chance)) @ matrix
        step = np.linalg.solve(curve + np.diag(penalty), slope)
        effects = effects + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-6:
            break
    return effects


def fit_strength(trials: Floats, answers: Floats, prior: Floats) -> float:
    """What the prior weighs: by maximum likelihood, near the guess for few messages."""

    def loss(log_strength: float) -> float:
        alpha = prior * np.exp(log_strength)
        beta = (1 - prior) * np.exp(log_strength)
        likelihood = betaln(alpha + answers, beta + trials - answers)
        surprise = (log_strength - np.log(GUESSED_STRENGTH)) ** 2 / 2
        return float(surprise - (likelihood - betaln(alpha, beta)).sum())

    found = minimize_scalar(
        loss,
        bounds=(np.log(MIN_STRENGTH), np.log(MAX_STRENGTH)),
        method="bounded",
        options={"xatol": 1e-2},
    )
    return float(np.exp(found.x))


def update(trials: Trials, at: int, prior: Floats, strength: float) -> Floats:
    """Move the prior by the profile's own messages.

    Weak evidence counts as further trials, as many as there would be at the channel's
    rate of answers: who meets messages with as much of it as is usual stays where it
    is. So it ranks profiles, and makes no channel look better than its answers.
    """
    delivered, rate = trials.delivered[:, at], trials.rates[at]
    tried, answers = delivered, trials.engaged[:, at]
    for name, counts in trials.weak.items():
        worth = weigh_evidence(trials, at, name)
        usual = float(counts[:, at].sum()) / max(float(delivered.sum()), 1.0)
        tried = tried + worth * usual / rate * delivered
        answers = answers + worth * counts[:, at]
    score: Floats = (answers + strength * prior) / (tried + strength)
    return np.clip(score, MIN_RATE, 1 - MIN_RATE)


def weigh_evidence(trials: Trials, at: int, name: str) -> float:
    """What one message with this evidence is worth in answers, from 0 to 1.

    By what follows for another message to the same profile: how much likelier an
    answer to that one is than after a message that met with nothing, against how much
    likelier it is after an answered one. A machine opens for everybody, and
    predicts nothing.
    """
    delivered, engaged = trials.delivered[:, at], trials.engaged[:, at]
    evidence = trials.weak[name][:, at]
    met = np.sum([counts[:, at] for counts in trials.weak.values()], axis=0) + engaged
    ignored = np.maximum(delivered - met, 0)
    others = np.maximum(delivered - 1, 0)

    def next_rate(counts: Floats, answers: Floats) -> float:
        return float(counts @ answers) / max(float(counts @ others), 1.0)

    usual = next_rate(ignored, engaged)
    gain = next_rate(evidence, engaged) - usual
    most = next_rate(engaged, np.maximum(engaged - 1, 0)) - usual
    pairs = float(evidence @ others)
    guess = GUESSED_WORTH[name]
    seen = min(max(gain / most, 0.0), 1.0) if most > 0 else guess
    return (pairs * seen + GUESSED_PAIRS * guess) / (pairs + GUESSED_PAIRS)
