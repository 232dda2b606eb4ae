"""Four ways to predict who will buy, and their blend.

Each sees what it is good at: recency, frequency and value alone; every feature, along
straight lines; every feature, in steps; the timing of purchases. Which of them are
used is decided elsewhere.
"""

# X is scikit-learn's name for a matrix of rows.
# ruff: noqa: N803

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from ml.encoding import RFM, TIMING, Matrix, squash
from ml.evaluation import Outcomes, Vector
from ml.lifetime import PurchaseTimingClassifier

HORIZON = "horizon_days"
BASELINE = ("rfm",)
LEARNERS = ("rfm", "temporal", "trees", "timing")
# No learner may be surer than this: one that is wrong then costs no fortune.
SUREST = 1e-4
# What a step away from equal weights must gain, in log-loss. Bases of which only orders
# are known never gained 0.02; where visits predicted most of it, it was 0.1.
CONSERVATISM = 0.03

Folds = NDArray[np.int64]


class Blend(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A weighted sum of several learners' log-odds of buying.

    All weigh the same unless that is plainly wrong: on orders alone nothing beats their
    mean, but where visits and carts predict more, those that see them count for more.
    Rows of X hold `columns`, as numbers with NaN where unknown; the days to look ahead
    are one of them.
    """

    def __init__(self, columns: Sequence[str], learners: Sequence[str]) -> None:
        self.columns = columns
        self.learners = learners

    def fit(self, X: Matrix, y: Outcomes, folds: Folds) -> Self:
        """Fit every learner to who bought, and weigh them on folds they had not seen.

        All rows of a profile must have one number in `folds` (n): seen at another
        cutoff, a profile is known. Rows of a negative fold are not weighed on.
        """
        self.classes_ = np.array([False, True])
        self.weights_ = np.ones(1)
        self.fitted_ = {name: self.fit_learner(name, X, y) for name in self.learners}
        if len(self.learners) > 1:
            weighed = folds >= 0
            unseen = self.log_odds_unseen(X[weighed], y[weighed], folds[weighed])
            self.weights_ = weigh(unseen, y[weighed])
        return self

    def fit_learner(self, name: str, X: Matrix, y: Outcomes) -> Any:
        """One learner, fitted."""
        return make_learner(name).fit(self.view(name, X), y)

    def log_odds_unseen(self, X: Matrix, y: Outcomes, folds: Folds) -> Matrix:
        """The log-odds by each learner fitted to the other folds, n × learners.

        Timing does not look at who bought, and need not be fitted again.
        """
        unseen = self.log_odds_by_learner(X)
        for fold in np.unique(folds):
            held = folds == fold
            for position, name in enumerate(self.learners):
                if name != "timing":
                    learner = self.fit_learner(name, X[~held], y[~held])
                    unseen[held, position] = self.odds_of(name, learner, X[held])
        return unseen

    def log_odds(self, X: Matrix) -> Vector:
        """The blended log-odds of buying, one for each row."""
        odds: Vector = self.log_odds_by_learner(X) @ self.weights_
        return odds

    def log_odds_by_learner(self, X: Matrix) -> Matrix:
        """The log-odds of buying by each learner alone, n × learners."""
        return np.column_stack(
            [self.odds_of(name, self.fitted_[name], X) for name in self.learners]
        )

    def odds_of(self, name: str, learner: Any, X: Matrix) -> Vector:
        """The log-odds of buying by one learner."""
        chances = learner.predict_proba(self.view(name, X))[:, 1]
        odds: Vector = logit(np.clip(chances, SUREST, 1 - SUREST))
        return odds

    def predict_proba(self, X: Matrix) -> Matrix:
        """The probabilities of not buying and of buying, n × 2."""
        chances = expit(self.log_odds(X))
        return np.column_stack([1 - chances, chances])

    def effects(self, X: Matrix, groups: Sequence[Sequence[str]], X0: Matrix) -> Matrix:
        """How much the log-odds owe to each group of columns, n × groups.

        That is what they lose where the group is as in the one row `X0` instead.
        """
        effects = np.zeros((len(X), len(groups)))
        differs = (X != X0) & ~(np.isnan(X) & np.isnan(X0))
        for name, weight in zip(self.learners, self.weights_, strict=True):
            reads = set(self.reads(name))
            learner = self.fitted_[name]
            own = self.odds_of(name, learner, X)
            for position, group in enumerate(groups):
                places = [self.columns.index(column) for column in group]
                rows = np.flatnonzero(differs[:, places].any(axis=1))
                if weight == 0 or reads.isdisjoint(group) or not rows.size:
                    continue
                without = X[rows]
                without[:, places] = X0[0, places]
                effects[rows, position] += weight * (
                    own[rows] - self.odds_of(name, learner, without)
                )
        return effects

    def reads(self, name: str) -> tuple[str, ...]:
        """The columns that a learner looks at."""
        return READS.get(name, tuple(self.columns))

    def view(self, name: str, X: Matrix) -> Matrix:
        """What a learner is shown of X."""
        shown = X[:, [self.columns.index(column) for column in self.reads(name)]]
        if name == "timing":
            repeats = np.where(shown[:, 0] > 0, shown[:, 0] - 1, np.nan)
            return np.column_stack([repeats, shown[:, 1:]])
        return shown if name == "trees" else squash(shown)


def weigh(log_odds: Matrix, outcomes: Outcomes) -> Vector:
    """The weights of learners: equal, unless others explain the outcomes far better.

    They leave equal weights only where the first step away gains more log-loss than
    `CONSERVATISM` times its length. Then they are the likeliest; none is negative.
    """
    equal = np.full(log_odds.shape[1], 1 / log_odds.shape[1])

    def loss(weights: Vector) -> tuple[float, Vector]:
        blended = log_odds @ weights
        losses = np.logaddexp(0, blended) - np.where(outcomes, blended, 0)
        return float(losses.mean()), log_odds.T @ (expit(blended) - outcomes) / len(
            outcomes
        )

    if np.linalg.norm(loss(equal)[1]) <= CONSERVATISM:
        return equal
    bounds = [(0, None)] * len(equal)
    best: Vector = minimize(loss, equal, jac=True, bounds=bounds).x
    return best


READS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"rfm": RFM, "timing": (*TIMING, HORIZON)}
)


def make_learner(name: str) -> Any:
    """A learner, not yet fitted."""
    match name:
        case "rfm":
            return logistic(strength=1.0)
        case "temporal":
            return logistic(strength=0.1)
        case "trees":
            return HistGradientBoostingClassifier(
                max_iter=150,
                learning_rate=0.04,
                max_leaf_nodes=4,
                min_samples_leaf=60,
                l2_regularization=20.0,
                max_features=0.5,
                early_stopping=False,
                random_state=0,
            )
        case "timing":
            return PurchaseTimingClassifier()
    raise ValueError(f"no learner is called {name}")


def logistic(strength: float) -> Pipeline:
    """Logistic regression; an unknown feature counts as zero and is marked unknown."""
    return Pipeline(
        [
            (
                "impute",
                SimpleImputer(
                    strategy="constant",
                    fill_value=0.0,
                    add_indicator=True,
                    keep_empty_features=True,
                ),
            ),
            ("scale", StandardScaler()),
            ("classify", LogisticRegression(C=strength, max_iter=2000)),
        ]
    )
