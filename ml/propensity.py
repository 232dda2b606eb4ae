"""Purchase and churn propensity: calibrated, tested out of time, simple to beat.

Frame in, frame out: what a feature is, is said in `models/profiles/features.sql`, and
where fitted estimators live, in `ml/store.py`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Literal

import numpy as np
import polars as pl
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ml import encoding, evaluation
from ml.evaluation import Metrics, Outcomes, Vector

# Part of every estimator's identity: a change of the recipe below trains anew.
RECIPE = 1

ScoredBy = Literal["estimator", "rfm_fallback"]
FallbackReason = Literal["too_few_outcomes", "not_better_than_rfm"]

# An estimator is tried only where both outcomes occur this often, before the test
# cutoff and after it: about ten for each coefficient that carries weight.
FEWEST_OUTCOMES = 50
# The RFM baseline has three coefficients.
FEWEST_BASELINE_OUTCOMES = 10
# Beyond this, more examples cost time and change no digit that matters.
MOST_EXAMPLES = 400_000
FOLDS = 3
# Another version of one of these fits and stores another estimator.
LIBRARIES = ("numpy", "scikit-learn", "scipy", "skops")
# Scores are told apart to one in a million; smaller differences are arithmetic noise.
DIGITS = 6


@dataclass(frozen=True)
class Target:
    """What is predicted: its label and the moment from which the label is known."""

    name: str
    label: str
    known_at: str


PURCHASE = Target("purchase", "has_ordered", "purchase_known_at")
CHURN = Target("churn", "has_churned", "churn_known_at")
TARGETS = (PURCHASE, CHURN)


@dataclass(frozen=True)
class Predictor:
    """What answers for one target, and how it did out of time.

    `classifier` is None where even the RFM baseline had too few outcomes to fit;
    then everybody gets the `base_rate`.
    """

    target: str
    classifier: CalibratedClassifierCV | Pipeline | None
    features: tuple[str, ...]
    base_rate: float
    scored_by: ScoredBy
    fallback_reason: FallbackReason | None
    example_count: int
    positive_count: int
    tested_cutoff_at: datetime | None
    metrics: Metrics | None
    baseline_metrics: Metrics | None
    calibration: pl.DataFrame

    def predict(self, features: pl.DataFrame) -> Vector:
        """The probability of the target for each row."""
        if self.classifier is None:
            return np.full(features.height, self.base_rate)
        matrix = encoding.encode(features, self.features)
        if features.is_empty():
            return np.empty(0)
        with threadpool_limits(1):
            probabilities: Vector = self.classifier.predict_proba(matrix)[:, 1]
        return probabilities.round(DIGITS)


@dataclass(frozen=True)
class Estimator:
    """The predictors of all targets, trained on what was known at one cutoff."""

    estimator_id: str
    training_cutoff_at: datetime
    horizon_days: int
    recipe: int
    features: tuple[str, ...]
    libraries: dict[str, str]
    data_fingerprint: str
    predictors: tuple[Predictor, ...]

    @property
    def lacks_data(self) -> bool:
        """Whether a target fell back for want of examples, which may still arrive."""
        return any(
            predictor.fallback_reason == "too_few_outcomes"
            for predictor in self.predictors
        )

    def has_seen(self, examples: pl.DataFrame) -> bool:
        """Whether it was trained on exactly these examples."""
        return self.data_fingerprint == fingerprint(examples)


def train(
    examples: pl.DataFrame, training_cutoff_at: datetime, horizon_days: int
) -> Estimator:
    """Fit purchase and churn on labelled examples known at the training cutoff.

    For each target:

    1. Take the examples whose label is known, in the order of cutoff and profile.
    2. Fit the estimator and the RFM baseline on what was known at the best cutoff to
       test on, and compare them on what came after it.
    3. Where the estimator has the smaller log-loss it is used, else the baseline.
    4. Fit the one that is used again on all examples.

    Raises:
        ValueError: if a profile has two examples of one cutoff, or if a label was
            known only after the training cutoff.
    """
    raise_on_duplicates(examples)
    examples = take_examples(examples)
    columns = encoding.feature_columns(examples)
    data_fingerprint = fingerprint(examples)
    predictors = []
    with threadpool_limits(1):
        for target in TARGETS:
            known = examples.filter(pl.col(target.label).is_not_null())
            if (known[target.known_at] > training_cutoff_at).any():
                raise ValueError(
                    f"labels of {target.name} reach beyond the training cutoff"
                )
            predictors.append(train_target(known, target, columns))
    libraries = library_versions()
    identity = (
        training_cutoff_at.isoformat(),
        horizon_days,
        RECIPE,
        columns,
        sorted(libraries.items()),
        data_fingerprint,
    )
    return Estimator(
        estimator_id=hashlib.sha256(repr(identity).encode()).hexdigest()[:16],
        training_cutoff_at=training_cutoff_at,
        horizon_days=horizon_days,
        recipe=RECIPE,
        features=columns,
        libraries=libraries,
        data_fingerprint=data_fingerprint,
        predictors=tuple(predictors),
    )


def score(
    estimator: Estimator, features: pl.DataFrame, as_of: datetime
) -> pl.DataFrame:
    """One row per profile with its propensities and what they come from.

    `scored_by` is `rfm_fallback` as soon as one of the two propensities is the
    baseline's; `purchase_scored_by` and `churn_scored_by` say which.

    Raises:
        ValueError: if a profile comes twice or a feature of the estimator is missing.
    """
    raise_on_duplicates(features)
    features = features.sort("profile_id")
    whole = all(
        predictor.scored_by == "estimator" for predictor in estimator.predictors
    )
    return features.select(
        "profile_id",
        *(
            pl.Series(f"{predictor.target}_propensity", predictor.predict(features))
            for predictor in estimator.predictors
        ),
        pl.lit(estimator.estimator_id).alias("estimator_id"),
        pl.lit("estimator" if whole else "rfm_fallback").alias("scored_by"),
        *(
            pl.lit(predictor.scored_by).alias(f"{predictor.target}_scored_by")
            for predictor in estimator.predictors
        ),
        pl.lit(as_of).cast(pl.Datetime("us")).alias("as_of"),
    )


def calibration_table(estimator: Estimator) -> pl.DataFrame:
    """One row per target and bin of profiles: what was promised, what came true."""
    return pl.concat(
        predictor.calibration.select(
            pl.lit(estimator.estimator_id).alias("estimator_id"),
            pl.lit(predictor.target).alias("target"),
            pl.lit(predictor.scored_by).alias("scored_by"),
            pl.all(),
        )
        for predictor in estimator.predictors
    )


def fingerprint(examples: pl.DataFrame) -> str:
    """The same for the same examples in any order; another for any other."""
    examples = take_examples(examples)
    digest = hashlib.sha256()
    columns = encoding.feature_columns(examples)
    digest.update("\x1f".join(columns).encode())
    digest.update("\x1f".join(examples["profile_id"]).encode())
    digest.update(encoding.encode(examples, columns).tobytes())
    moments = ("cutoff_at", *(target.known_at for target in TARGETS))
    for moment in moments:
        numbers = examples[moment].cast(pl.Datetime("us")).to_physical()
        digest.update(numbers.to_numpy().tobytes())
    for target in TARGETS:
        outcomes = examples[target.label].cast(pl.Int8).fill_null(-1)
        digest.update(outcomes.to_numpy().tobytes())
    return digest.hexdigest()


def train_target(
    examples: pl.DataFrame, target: Target, columns: Sequence[str]
) -> Predictor:
    """Choose between estimator and baseline out of time, then refit."""
    outcomes = to_outcomes(examples, target)
    tested_cutoff_at, metrics, baseline_metrics = None, None, None
    table = evaluation.calibration(np.empty(0, bool), np.empty(0))
    fallback_reason: FallbackReason | None = "too_few_outcomes"
    split = next(out_of_time_splits(examples, target), None)
    if split is not None:
        past, future = split
        truth = to_outcomes(future, target)
        predicted = fit_estimator(past, target, columns).predict_proba(
            encoding.encode(future, columns)
        )[:, 1]
        baseline_predicted = fit_baseline(past, target).predict_proba(
            encoding.encode(future, encoding.RFM)
        )[:, 1]
        tested_cutoff_at = future["cutoff_at"][0]
        metrics = evaluation.evaluate(truth, predicted)
        baseline_metrics = evaluation.evaluate(truth, baseline_predicted)
        is_better = metrics.log_loss < baseline_metrics.log_loss
        fallback_reason = None if is_better else "not_better_than_rfm"
        table = evaluation.calibration(
            truth, predicted if is_better else baseline_predicted
        )
    classifier: CalibratedClassifierCV | Pipeline | None = None
    if fallback_reason is None:
        classifier = fit_estimator(examples, target, columns)
    elif has_outcomes(outcomes, FEWEST_BASELINE_OUTCOMES):
        classifier = fit_baseline(examples, target)
    return Predictor(
        target=target.name,
        classifier=classifier,
        features=tuple(columns) if fallback_reason is None else encoding.RFM,
        base_rate=smooth_rate(outcomes),
        scored_by="estimator" if fallback_reason is None else "rfm_fallback",
        fallback_reason=fallback_reason,
        example_count=int(outcomes.size),
        positive_count=int(outcomes.sum()),
        tested_cutoff_at=tested_cutoff_at,
        metrics=metrics,
        baseline_metrics=baseline_metrics,
        calibration=table,
    )


def out_of_time_splits(
    examples: pl.DataFrame, target: Target
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """What was known at a cutoff and what came after it, the best test first.

    The best is the cutoff with most known labels, of equals the newest: that is the
    newest one for purchase, and for churn the newest by which most cycles have ended.
    Cutoffs with too few outcomes on either side are left out.
    """
    cutoffs = examples.group_by("cutoff_at").len().sort("len", "cutoff_at")
    for cutoff_at in cutoffs["cutoff_at"].reverse():
        past = examples.filter(pl.col(target.known_at) <= cutoff_at)
        future = examples.filter(pl.col("cutoff_at") == cutoff_at)
        if all(
            has_outcomes(to_outcomes(side, target), FEWEST_OUTCOMES)
            for side in (past, future)
        ):
            yield past, future


def fit_estimator(
    examples: pl.DataFrame, target: Target, columns: Sequence[str]
) -> CalibratedClassifierCV:
    """A calibrated pipeline: logistic regression and boosted trees, averaged.

    Both get the average right and grow too sure of themselves, so that temperature
    scaling is what they lack (Guo et al. 2017).
    """
    matrix, outcomes = encoding.encode(examples, columns), to_outcomes(examples, target)
    pipeline = Pipeline(
        [
            *prepare_matrix(),
            (
                "classify",
                VotingClassifier(
                    [
                        ("logistic", LogisticRegression(C=0.1, max_iter=1000)),
                        (
                            "boosting",
                            HistGradientBoostingClassifier(
                                max_iter=60,
                                learning_rate=0.08,
                                max_leaf_nodes=8,
                                min_samples_leaf=40,
                                l2_regularization=5.0,
                                early_stopping=False,
                                random_state=0,
                            ),
                        ),
                    ],
                    voting="soft",
                ),
            ),
        ]
    )
    # All examples of a profile fall into one fold: one held out with its twin of
    # another cutoff in sight would calibrate towards overconfidence.
    folds = examples["profile_id"].rank("dense").to_numpy() % FOLDS
    calibrated = CalibratedClassifierCV(
        pipeline, method="temperature", cv=PredefinedSplit(folds), ensemble=False
    ).fit(matrix, outcomes)
    # The row numbers of the folds would be stored with the estimator.
    return calibrated.set_params(cv=FOLDS)


def fit_baseline(examples: pl.DataFrame, target: Target) -> Pipeline:
    """What recency, frequency and monetary value alone can say."""
    pipeline = Pipeline([*prepare_matrix(), ("classify", LogisticRegression())])
    return pipeline.fit(
        encoding.encode(examples, encoding.RFM), to_outcomes(examples, target)
    )


def prepare_matrix() -> list[tuple[str, SimpleImputer | StandardScaler]]:
    """Steps fitted on training rows alone; an unknown feature is marked as unknown."""
    return [
        (
            "impute",
            SimpleImputer(strategy="constant", fill_value=0.0, add_indicator=True),
        ),
        ("scale", StandardScaler()),
    ]


def take_examples(examples: pl.DataFrame) -> pl.DataFrame:
    """All examples of as many profiles as may be used, in a total order.

    Profile ids are hashes, so the first ones are a fair sample.
    """
    ordered = examples.sort("cutoff_at", "profile_id")
    if ordered.height <= MOST_EXAMPLES:
        return ordered
    last = ordered["profile_id"].sort()[MOST_EXAMPLES]
    return ordered.filter(pl.col("profile_id") < last)


def to_outcomes(examples: pl.DataFrame, target: Target) -> Outcomes:
    """The label of each example, as an array."""
    return examples[target.label].cast(pl.Boolean).to_numpy()


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
