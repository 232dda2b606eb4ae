"""Purchase and churn propensity: blended, tested out of time, simple to beat.

Frame in, frame out: what a feature is, is said in `models/profiles/features.sql`, and
where fitted estimators live, in `ml/store.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from itertools import islice
from typing import Literal

import numpy as np
import polars as pl
from scipy.special import expit
from threadpoolctl import threadpool_limits

from ml import encoding, evaluation, gate
from ml.drift import Spread, spread_of
from ml.encoding import Matrix
from ml.evaluation import Metrics, Outcomes, Vector
from ml.gate import Refusal, Trial
from ml.learners import BASELINE, HORIZON, LEARNERS, Blend
from ml.lifetime import PurchaseTiming, SpendLevel

# Part of every estimator's identity: a change of the recipe below trains anew.
RECIPE = 4

ScoredBy = Literal["estimator", "rfm_fallback"]

# An estimator is tried only where both outcomes occur this often, before the test
# cutoff and after it: about ten for each coefficient that carries weight.
MIN_OUTCOMES = 50
# Cutoffs that an estimator is tried at; each costs a fit on what was known by then.
MAX_TESTED = 3
# The RFM baseline has three coefficients.
MIN_BASELINE_OUTCOMES = 10
# Beyond this, more examples cost time and change no digit that matters.
MAX_EXAMPLES = 400_000
FOLDS = 3
# Four weights need fewer examples than what they weigh.
MAX_WEIGHED = 100_000
# Purchases of so many profiles show how the population spends.
MIN_BUYERS = 50
# Scored at once: so that memory does not grow with the number of profiles.
CHUNK = 100_000
# Another version of one of these fits and stores another estimator.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "skops")
# Scores differ down to one in a million; smaller differences are arithmetic noise.
DIGITS = 6


@dataclass(frozen=True)
class Target:
    """What is predicted: an order within a horizon, or none within one's own cycle."""

    name: str
    horizon_days: int | None

    @property
    def is_purchase(self) -> bool:
        """Whether buying is what is predicted, rather than not buying."""
        return self.horizon_days is not None

    def look_ahead(self, features: pl.DataFrame) -> pl.DataFrame:
        """The features with the days to look ahead from each row's cutoff."""
        days = pl.col("churn_cycle_days")
        if self.horizon_days is not None:
            days = pl.lit(self.horizon_days)
        return features.with_columns(days.cast(pl.Int64).alias(HORIZON))


CHURN = Target("churn", None)


def list_targets(horizons: Sequence[int]) -> tuple[Target, ...]:
    """Purchase within each horizon, the leading one first, and churn."""
    return (*(Target(f"purchase_{days}d", days) for days in horizons), CHURN)


@dataclass(frozen=True)
class Predictor:
    """What answers for one target, and how it did out of time.

    `classifier` is None where even the RFM baseline had too few outcomes to fit; then
    everybody gets the `base_rate`. Where the newest estimator was refused, an earlier
    one may still answer: `classifier_cutoff_at` is what the one in use learnt up to.
    The `verdict` says which of it and the baseline did better, by how much and where;
    `tested_cutoff_at` is the newest of the cutoffs it was tested at.
    """

    target: Target
    classifier: Blend | None
    classifier_cutoff_at: datetime
    base_rate: float
    scored_by: ScoredBy
    refusal: Refusal | None
    example_count: int
    positive_count: int
    tested_cutoff_at: datetime | None
    tested_cutoff_count: int
    verdict: str | None
    metrics: Metrics | None
    baseline_metrics: Metrics | None
    calibration: pl.DataFrame
    typical: Matrix

    def encode(self, features: pl.DataFrame) -> Matrix:
        """What the classifier reads of each row."""
        columns = () if self.classifier is None else self.classifier.columns
        return encoding.encode(self.target.look_ahead(features), columns)

    def predict(self, matrix: Matrix) -> Vector:
        """The probability of the target for each encoded row."""
        if self.classifier is None:
            return np.full(len(matrix), self.base_rate)
        log_odds = self.classifier.log_odds(matrix)
        chances: Vector = expit(log_odds if self.target.is_purchase else -log_odds)
        return chances.round(DIGITS)

    def effects(self, matrix: Matrix, groups: Sequence[Sequence[str]]) -> Matrix:
        """What the log-odds of the target owe to each group of features.

        That is how they differ from those of the same profile with the group as the
        typical profile has it. Rows × groups; zero where nothing is learnt.
        """
        if self.classifier is None:
            return np.zeros((len(matrix), len(groups)))
        effects = self.classifier.effects(matrix, groups, self.typical)
        return effects if self.target.is_purchase else -effects


@dataclass(frozen=True)
class Spending:
    """How often people order and for how much: what a horizon is worth."""

    timing: PurchaseTiming
    level: SpendLevel

    def expect(self, features: pl.DataFrame, chances: Vector, horizon: int) -> Vector:
        """The expected revenue of each row within a horizon, in the base currency.

        Expected orders times expected spend (Fader, Hardie, Lee 2005); for those who
        never ordered, their chance to times what the population spends.
        """
        days, repeats_until, since = encoding.encode(features, encoding.TIMING).T
        (spent,) = encoding.encode(
            features.select(
                spent=pl.col("average_order_amount").cast(pl.Float64)
                * pl.col("order_count")
            ),
            ("spent",),
        ).T
        expected = chances * self.level.population_mean
        bought = (days > 0) & (spent > 0)
        repeats = days[bought] - 1
        expected[bought] = self.timing.expected_purchases(
            repeats, repeats_until[bought], since[bought], horizon
        ) * self.level.expected_spend(days[bought], spent[bought] / days[bought])
        return expected.round(2)


@dataclass(frozen=True)
class Estimator:
    """The predictors of all targets, trained on what was known at one cutoff."""

    estimator_id: str
    training_cutoff_at: datetime
    horizons: tuple[int, ...]
    recipe: int
    features: tuple[str, ...]
    libraries: dict[str, str]
    code_version: str
    data_fingerprint: str
    predictors: tuple[Predictor, ...]
    spending: Spending | None
    spreads: dict[str, Spread]

    @property
    def lacks_data(self) -> bool:
        """Whether a target fell back for want of examples, which may still arrive."""
        return any(
            predictor.refusal is not None
            and predictor.refusal.reason == "too_few_outcomes"
            for predictor in self.predictors
        )

    def has_seen(self, features: pl.DataFrame, labels: pl.DataFrame) -> bool:
        """Whether it was trained on exactly these examples."""
        return self.data_fingerprint == fingerprint(features, labels)


def train(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    current: pl.DataFrame,
    training_cutoff_at: datetime,
    horizons: Sequence[int],
    *,
    last_good: Mapping[str, Predictor] | None = None,
    code_version: str = "unknown",
) -> Estimator:
    """Fit all targets on the features and labels known at the training cutoff.

    For each target:

    1. Take the examples whose label is known, in the order of cutoff and profile.
    2. Fit the blend and the RFM baseline on what was known at each of the best cutoffs
       to test on, and compare them on what came after.
    3. Where the gate lets the blend pass, fit it again on all examples and use it.
    4. Else use the last good one (by target in `last_good`), else the RFM baseline.

    `current` holds the features that will be scored; a feature that is of use only
    where the future is recorded shows by it.

    Raises:
        ValueError: if a profile has two examples of one cutoff, or if a label was
            known only after the training cutoff.
    """
    raise_on_duplicates(features)
    if (labels["known_at"] > training_cutoff_at).any():
        raise ValueError("labels reach beyond the training cutoff")
    columns = encoding.feature_columns(features)
    data_fingerprint = fingerprint(features, labels)
    targets = list_targets(horizons)
    libraries = library_versions()
    predictors = [
        train_target(
            examples_of(target, features, labels),
            target,
            columns,
            current,
            training_cutoff_at,
        )
        for target in targets
    ]
    predictors = [
        fall_back(predictor, (last_good or {}).get(predictor.target.name))
        for predictor in predictors
    ]
    identity = (
        training_cutoff_at.isoformat(),
        tuple(horizons),
        RECIPE,
        columns,
        sorted(libraries.items()),
        data_fingerprint,
        [predictor.classifier_cutoff_at.isoformat() for predictor in predictors],
    )
    newest = features.filter(pl.col("cutoff_at") == pl.col("cutoff_at").max())
    return Estimator(
        estimator_id=hashlib.sha256(repr(identity).encode()).hexdigest()[:16],
        training_cutoff_at=training_cutoff_at,
        horizons=tuple(horizons),
        recipe=RECIPE,
        features=columns,
        libraries=libraries,
        code_version=code_version,
        data_fingerprint=data_fingerprint,
        predictors=tuple(predictors),
        spending=fit_spending(newest),
        spreads=spread_of(encoding.encode(newest, columns), columns),
    )


def score(
    estimator: Estimator, features: pl.DataFrame, as_of: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """One row per profile with its propensities and what they come from.

    `purchase_propensity` is that of the leading horizon. `scored_by` is `rfm_fallback`
    as soon as one of the leading propensities is the baseline's;
    `purchase_scored_by` and `churn_scored_by` say which. The second frame has one row
    per profile and horizon; a longer horizon holds the shorter one, so that its
    propensity is never the smaller.

    Raises:
        ValueError: if a profile comes twice or a feature of the estimator is missing.
    """
    raise_on_duplicates(features)
    features = features.sort("profile_id")
    *purchases, churn = estimator.predictors
    leading, horizon = purchases[0], estimator.horizons[0]
    chances: dict[int, Vector] = {}
    least = np.zeros(features.height)
    for days, predictor in sorted(zip(estimator.horizons, purchases, strict=True)):
        chances[days] = least = np.maximum(least, predict(predictor, features))
    by_horizon = [
        features.select(
            "profile_id",
            pl.lit(days).cast(pl.Int64).alias("horizon_days"),
            pl.Series("purchase_propensity", chances[days]),
            pl.lit(predictor.scored_by).alias("scored_by"),
        )
        for days, predictor in zip(estimator.horizons, purchases, strict=True)
    ]
    expected = None
    if estimator.spending is not None:
        expected = estimator.spending.expect(features, chances[horizon], horizon)
    whole = leading.scored_by == churn.scored_by == "estimator"
    scores = features.select(
        "profile_id",
        pl.Series("purchase_propensity", chances[horizon]),
        pl.Series("churn_propensity", predict(churn, features)),
        pl.lit(None if expected is None else pl.Series(expected), pl.Float64).alias(
            "expected_revenue_amount"
        ),
        pl.lit(estimator.estimator_id).alias("estimator_id"),
        pl.lit("estimator" if whole else "rfm_fallback").alias("scored_by"),
        pl.lit(leading.scored_by).alias("purchase_scored_by"),
        pl.lit(churn.scored_by).alias("churn_scored_by"),
        pl.lit(as_of).cast(pl.Datetime("us")).alias("as_of"),
    )
    return scores, pl.concat(by_horizon)


def leave_out(scores: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    """The scores, with rows without any propensity for those nobody may score.

    `left_out` holds their `profile_id` and `as_of`.
    """
    unscored = left_out.select("profile_id", "as_of", scored_by=pl.lit("override"))
    return pl.concat([scores, unscored], how="diagonal_relaxed").sort("profile_id")


def predict(predictor: Predictor, features: pl.DataFrame) -> Vector:
    """The probability of the predictor's target for each row."""
    with threadpool_limits(1):
        return np.concatenate(
            [
                predictor.predict(predictor.encode(chunk))
                for chunk in features.iter_slices(CHUNK)
            ]
            or [np.empty(0)]
        )


def calibration_table(estimator: Estimator) -> pl.DataFrame:
    """One row per target and bin of profiles: what was promised, what came true."""
    return pl.concat(
        predictor.calibration.select(
            pl.lit(estimator.estimator_id).alias("estimator_id"),
            pl.lit(predictor.target.name).alias("target"),
            pl.lit(predictor.scored_by).alias("scored_by"),
            pl.all(),
        )
        for predictor in estimator.predictors
    )


def fingerprint(features: pl.DataFrame, labels: pl.DataFrame) -> str:
    """The same for the same features and labels in any order; another for any other."""
    digest = hashlib.sha256()
    for frame, keys in (
        (features, encoding.KEYS),
        (labels, (*encoding.KEYS, "target")),
    ):
        ordered = frame.select(sorted(frame.columns)).sort(keys)
        digest.update("\x1f".join(ordered.columns).encode())
        for column in ordered.iter_columns():
            numbers = column.hash() if column.dtype == pl.String else column
            numbers = numbers.to_physical().cast(pl.Float64).fill_null(-1)
            digest.update(numbers.to_numpy().tobytes())
            digest.update(column.is_null().to_numpy().tobytes())
    return digest.hexdigest()


def train_target(
    examples: pl.DataFrame,
    target: Target,
    columns: Sequence[str],
    current: pl.DataFrame,
    training_cutoff_at: datetime,
) -> Predictor:
    """Test the blend out of time, then fit it, or else the baseline, on everything."""
    comparison = None
    table = evaluation.calibration(np.empty(0, bool), np.empty(0))
    refusal: Refusal | None = Refusal(
        "too_few_outcomes",
        f"fewer than {MIN_OUTCOMES} of either outcome before a cutoff or after it",
    )
    splits = list(islice(out_of_time_splits(examples), MAX_TESTED))
    trials = [backtest(past, future, target, columns) for past, future in splits]
    if trials:
        comparison = gate.compare(trials)
        refusal = gate.judge(trials, comparison, splits[0][1], current, columns)
        table = evaluation.calibration(
            gate.pool(trials, "outcomes").astype(bool),
            gate.pool(
                trials, "predictions" if refusal is None else "baseline_predictions"
            ),
        )
    outcomes = to_outcomes(examples)
    learners = LEARNERS if refusal is None else BASELINE
    classifier = None
    if refusal is None or has_outcomes(outcomes, MIN_BASELINE_OUTCOMES):
        classifier = fit(examples, target, columns, learners)
    return Predictor(
        target=target,
        classifier=classifier,
        classifier_cutoff_at=training_cutoff_at,
        base_rate=smooth_rate(outcomes),
        scored_by="estimator" if refusal is None else "rfm_fallback",
        refusal=refusal,
        example_count=int(outcomes.size),
        positive_count=int(outcomes.sum()),
        tested_cutoff_at=max((trial.cutoff_at for trial in trials), default=None),
        tested_cutoff_count=len(trials),
        verdict=None if comparison is None else str(comparison),
        metrics=None if comparison is None else comparison.metrics,
        baseline_metrics=None if comparison is None else comparison.baseline_metrics,
        calibration=table,
        typical=find_typical(examples, classifier),
    )


def backtest(
    past: pl.DataFrame, future: pl.DataFrame, target: Target, columns: Sequence[str]
) -> Trial:
    """What blend and baseline learn from the past and foretell of the future."""
    forecasts = []
    for learners in (LEARNERS, BASELINE):
        classifier = fit(past, target, columns, learners)
        log_odds = classifier.log_odds(encoding.encode(future, classifier.columns))
        forecasts.append(expit(log_odds if target.is_purchase else -log_odds))
    return Trial(
        future["cutoff_at"][0],
        future["profile_id"].to_list(),
        to_outcomes(future),
        *forecasts,
    )


def fall_back(predictor: Predictor, last_good: Predictor | None) -> Predictor:
    """A refused predictor with the last good classifier in place of the baseline."""
    if predictor.refusal is None or last_good is None:
        return predictor
    return replace(
        predictor,
        classifier=last_good.classifier,
        classifier_cutoff_at=last_good.classifier_cutoff_at,
        scored_by="estimator",
        calibration=last_good.calibration,
        typical=last_good.typical,
    )


def examples_of(
    target: Target, features: pl.DataFrame, labels: pl.DataFrame
) -> pl.DataFrame:
    """The features of a target's labelled examples, in a total order.

    All examples of as many profiles as may be used; profile ids are hashes, so the
    first ones are a fair sample.
    """
    wanted = labels.filter(pl.col("target") == target.name).drop("target")
    examples = features.join(wanted, on=encoding.KEYS, how="inner")
    if examples.height > MAX_EXAMPLES:
        last = examples["profile_id"].sort()[MAX_EXAMPLES]
        examples = examples.filter(pl.col("profile_id") < last)
    return examples.sort("cutoff_at", "profile_id")


def out_of_time_splits(
    examples: pl.DataFrame,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """What was known at a cutoff and what came after it, the best test first.

    The best is the cutoff with most known labels, of equals the newest: that is the
    newest one for purchase, and for churn the newest by which most cycles have ended.
    Cutoffs with too few outcomes on either side are left out.
    """
    cutoffs = examples.group_by("cutoff_at").len().sort("len", "cutoff_at")
    for cutoff_at in cutoffs["cutoff_at"].reverse():
        past = examples.filter(pl.col("known_at") <= cutoff_at)
        future = examples.filter(pl.col("cutoff_at") == cutoff_at)
        if all(
            has_outcomes(to_outcomes(side), MIN_OUTCOMES) for side in (past, future)
        ):
            yield past, future


def fit(
    examples: pl.DataFrame,
    target: Target,
    columns: Sequence[str],
    learners: Sequence[str],
) -> Blend:
    """Some learners fitted to who bought; the baseline reads its own columns alone."""
    read = encoding.RFM if learners == BASELINE else columns
    classifier = Blend(columns=(*read, HORIZON), learners=tuple(learners))
    bought = to_outcomes(examples) == target.is_purchase
    profiles = examples["profile_id"].rank("dense").cast(pl.Int64).to_numpy()
    weighed = profiles.max(initial=0) * MAX_WEIGHED / max(examples.height, 1)
    folds = np.where(profiles <= weighed, profiles % FOLDS, -1)
    matrix = encoding.encode(examples, classifier.columns)
    with threadpool_limits(1):
        return classifier.fit(matrix, bought, folds)


def find_typical(examples: pl.DataFrame, classifier: Blend | None) -> Matrix:
    """The example nearest to the middle of all in every feature, one row.

    A made-up middle could be of nobody: to have bought twice, never.
    """
    if classifier is None or examples.is_empty():
        return np.empty((1, 0))
    matrix = encoding.encode(examples, classifier.columns)
    squashed = np.nan_to_num(encoding.squash(matrix), nan=-1.0)
    spread = squashed.std(axis=0)
    middle = np.median(squashed, axis=0)
    distances = (((squashed - middle) / np.where(spread > 0, spread, 1)) ** 2).sum(1)
    return matrix[[int(distances.argmin())]]


def fit_spending(features: pl.DataFrame) -> Spending | None:
    """How the profiles of one cutoff order and spend; None where too few ever did."""
    needed = (*encoding.TIMING, "average_order_amount", "order_count")
    if not set(needed) <= set(features.columns):
        return None
    buyers = features.filter(
        pl.col("order_day_count") > 0, pl.col("average_order_amount") > 0
    )
    if buyers.height < MIN_BUYERS:
        return None
    days, repeats_until, since = encoding.encode(buyers, encoding.TIMING).T
    average, orders = encoding.encode(buyers, ("average_order_amount", "order_count")).T
    return Spending(
        PurchaseTiming.fit(days - 1, repeats_until, since),
        SpendLevel.fit(days, average * orders / days),
    )


def to_outcomes(examples: pl.DataFrame) -> Outcomes:
    """The label of each example, as an array."""
    return examples["has_happened"].cast(pl.Boolean).to_numpy()


def has_outcomes(outcomes: Outcomes, fewest: int) -> bool:
    """Whether both outcomes occur at least `fewest` times."""
    return bool(min(outcomes.sum(), (~outcomes).sum()) >= fewest)


def smooth_rate(outcomes: Outcomes) -> float:
    """Laplace's rule of succession: one half where nothing was ever seen."""
    return round(float((outcomes.sum() + 1) / (outcomes.size + 2)), DIGITS)


def library_versions() -> dict[str, str]:
    """The versions of what fits and rebuilds estimators."""
    return {name: version(name) for name in LIBRARIES}


def raise_on_duplicates(frame: pl.DataFrame) -> None:
    """Refuse a frame in which a profile has two rows of one cutoff."""
    keys = [key for key in encoding.KEYS if key in frame.columns]
    if frame.select(pl.struct(keys).is_duplicated().any()).item():
        raise ValueError(f"features hold two rows of one {' and '.join(keys)}")
