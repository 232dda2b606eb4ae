"""Scores keep their promises: calibrated, repeatable, honest about what they are."""

import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import numpy as np
import polars as pl
import pytest
import skops.io
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ml import (
    encoding,
    evaluation,
    gate,
    learners,
    propensity,
    reasons,
    store,
)
from orchestration.assets.score import score
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import HomeAt, TestHome, moment

TRAINED_AT = moment("2026-06-04")
HORIZONS = (30, 90)
HORIZON = HORIZONS[0]
PURCHASE = propensity.Target("purchase_30d", HORIZON)
PROFILES = 1000
# Features that the words of reasons need and that tell nothing here.
SILENT = (
    *("days_between_orders", "cart_add_30d_count", "checkout_30d_count"),
    *("message_click_90d_count", "message_open_90d_count", "coupon_count"),
    *("service_issue_90d_count", "refund_count", "cancellation_count"),
)


def chance_to_buy(features: pl.DataFrame) -> np.ndarray:
    """The truth behind the examples: sessions tell most, recency a little."""
    signal = (
        2.0 * np.log1p(features["session_30d_count"].to_numpy())
        - 0.4 * np.log1p(features["days_since_last_order"].fill_null(400).to_numpy())
        - 1.4
    )
    return 1 / (1 + np.exp(-signal))


def make_features(cutoff_at: datetime, seed: int, profiles: int = PROFILES) -> Any:
    """Profiles at one cutoff; a third of them never ordered."""
    dice = np.random.default_rng(seed)
    orders = dice.poisson(1.1, profiles)
    since_last = dice.integers(0, 200, profiles)
    lasted = np.where(orders > 1, dice.integers(1, 160, profiles), 0)
    spent = np.round(orders * dice.gamma(3, 20, profiles), 2)
    frame = pl.DataFrame(
        {
            "profile_id": [
                sha256(bytes(str(n), "ascii")).hexdigest() for n in range(profiles)
            ],
            "cutoff_at": pl.Series([cutoff_at] * profiles, dtype=pl.Datetime("us")),
            "days_since_last_order": since_last,
            "order_count": orders,
            "revenue_amount": spent,
            "average_order_amount": spent / np.maximum(orders, 1),
            "order_day_count": orders,
            "days_since_first_order": since_last + lasted,
            "days_from_first_to_last_order": lasted,
            "churn_cycle_days": np.full(profiles, HORIZON),
            "session_30d_count": dice.poisson(2.5, profiles),
            "product_view_30d_count": dice.poisson(6, profiles),
            "days_since_last_session": dice.integers(0, 30, profiles),
            "days_since_first_seen": since_last + lasted + 5,
            "days_since_last_seen": since_last // 4,
            **{name: np.zeros(profiles, int) for name in SILENT},
        }
    )
    unknown = pl.when(pl.col("order_count") > 0)
    return frame.with_columns(
        unknown.then(column).alias(column)
        for column in frame.columns
        if column.endswith("_order") or column == "average_order_amount"
    )


def make_labels(features: pl.DataFrame, seed: int) -> pl.DataFrame:
    """What followed within a month and, half as sure again, within a quarter."""
    chances = chance_to_buy(features)
    dice = np.random.default_rng(100 + seed).random(features.height)
    parts = [
        features.select(
            "profile_id",
            "cutoff_at",
            pl.lit(target).alias("target"),
            pl.lit(days).alias("horizon_days"),
            pl.Series("has_happened", happened),
            pl.col("cutoff_at").dt.offset_by(f"{days}d").alias("known_at"),
        )
        for target, days, happened in (
            ("purchase_30d", 30, dice < chances),
            ("purchase_90d", 90, dice < (1 + chances) / 2),
            ("churn", 30, dice >= chances),
        )
    ]
    return pl.concat(parts).filter(pl.col("known_at") <= TRAINED_AT)


class Examples(NamedTuple):
    """Features at training cutoffs, and what was known to follow."""

    features: pl.DataFrame
    labels: pl.DataFrame

    def keep(self, profiles: int) -> "Examples":
        """Those of the first so many profiles."""
        kept = self.features["profile_id"].unique(maintain_order=True)[:profiles]
        return Examples(
            *(frame.filter(pl.col("profile_id").is_in(kept)) for frame in self)
        )


def make_examples(
    steps: Sequence[int] = (1, 2, 3, 4, 6), profiles: int = PROFILES
) -> Examples:
    """Labelled examples at cutoffs whose labels are known when training."""
    cutoffs = {back: TRAINED_AT - back * timedelta(days=HORIZON) for back in steps}
    frames = [make_features(at, back, profiles) for back, at in cutoffs.items()]
    labels = [make_labels(*pair) for pair in zip(frames, cutoffs, strict=True)]
    return Examples(pl.concat(frames), pl.concat(labels))


def train(examples: Examples, **options: Any) -> propensity.Estimator:
    current = make_features(TRAINED_AT, seed=7)
    return propensity.train(*examples, current, TRAINED_AT, HORIZONS, **options)


def score_of(
    estimator: propensity.Estimator, features: pl.DataFrame, at: datetime = TRAINED_AT
) -> pl.DataFrame:
    return propensity.score(estimator, features, at)[0]


@pytest.fixture(scope="module")
def examples() -> Examples:
    return make_examples()


@pytest.fixture(scope="module")
def estimator(examples: Examples) -> propensity.Estimator:
    return train(examples)


@pytest.fixture(autouse=True)
def tested_at_one_cutoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials cost a fit each; where they are not the point, one is enough."""
    monkeypatch.setattr(propensity, "MAX_TESTED", 1)


@pytest.fixture
def scored() -> pl.DataFrame:
    return make_features(TRAINED_AT, seed=7)


def test_propensities_are_the_true_chances(
    estimator: propensity.Estimator,
) -> None:
    features = make_features(TRAINED_AT, seed=7, profiles=4000).sort("profile_id")
    scores = score_of(estimator, features)
    promised = scores["purchase_propensity"].to_numpy()
    truth = chance_to_buy(features)
    for tenth in np.array_split(np.argsort(promised), 10):
        assert promised[tenth].mean() == pytest.approx(truth[tenth].mean(), abs=0.06)
    assert scores["scored_by"].unique().to_list() == ["estimator"]
    assert np.corrcoef(scores["churn_propensity"], truth)[0, 1] < -0.8


def test_out_of_time_metrics_come_from_the_newest_cutoffs_and_beat_rfm(
    estimator: propensity.Estimator,
) -> None:
    for predictor in estimator.predictors:
        days = predictor.target.horizon_days or HORIZON
        assert predictor.tested_cutoff_at == TRAINED_AT - timedelta(days=days)
        # of those three, six, … steps back, one has another to learn from before it
        count = 1 if days == 90 else 3
        assert predictor.tested_cutoff_count == count
        assert predictor.verdict is not None
        assert "better by" in predictor.verdict
        assert predictor.metrics is not None
        assert predictor.baseline_metrics is not None
        assert predictor.metrics.log_loss < predictor.baseline_metrics.log_loss
        assert predictor.metrics.auc > predictor.baseline_metrics.auc
        assert predictor.calibration["profile_count"].sum() == count * PROFILES


def test_shuffled_rows_train_and_score_the_same(
    examples: Examples, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    shuffle: dict[str, Any] = {"fraction": 1.0, "shuffle": True, "seed": 1}
    again = train(Examples(*(frame.sample(**shuffle) for frame in examples)))
    assert again.estimator_id == estimator.estimator_id
    shuffled = scored.sample(**shuffle)
    assert score_of(again, shuffled).equals(score_of(estimator, scored))
    assert reasons.explain(again, shuffled).equals(reasons.explain(estimator, scored))


def test_a_sample_of_the_examples_tells_the_weights(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propensity, "MAX_WEIGHED", 600)
    weighed = []

    def remember(log_odds: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        weighed.append(len(outcomes))
        return np.full(log_odds.shape[1], 1 / log_odds.shape[1])

    monkeypatch.setattr(learners, "weigh", remember)
    target = propensity.list_targets(HORIZONS)[0]
    rows = propensity.examples_of(target, *examples)
    columns = encoding.feature_columns(examples.features)
    propensity.fit(rows, target, columns, learners.LEARNERS)
    assert weighed == [600]


def test_a_profile_scores_the_same_alone_as_among_others(
    estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    together = score_of(estimator, scored)
    alone = score_of(estimator, scored[:1])
    assert alone.row(0) == together.row(
        by_predicate=pl.col("profile_id") == scored["profile_id"][0]
    )


def test_a_longer_horizon_is_never_the_less_likely(
    estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    scores, horizons = propensity.score(estimator, scored, TRAINED_AT)
    wide = horizons.pivot("horizon_days", index="profile_id")
    short, long = (wide[f"purchase_propensity_{days}"] for days in HORIZONS)
    assert (long >= short).all()
    assert (long > short).sum() > PROFILES / 2
    assert short.equals(scores["purchase_propensity"], check_names=False)


def test_expected_revenue_is_what_people_go_on_to_spend() -> None:
    dice = np.random.default_rng(3)
    people, days, horizon = 20_000, 200, 90
    rates, spend = dice.gamma(1.0, 0.02, people), dice.gamma(4, 15, people)
    rows, spent_later = [], 0.0
    for rate, level in zip(rates, spend, strict=True):
        bought = np.cumsum(dice.exponential(1 / rate, 60))
        seen = np.unique(bought[bought < days - 1].astype(int))
        later = ((bought >= days - 1) & (bought < days - 1 + horizon)).sum()
        amounts = dice.gamma(4, level / 4, 60)
        if seen.size:
            first, last = seen[0], seen[-1]
            spent_later += amounts[-later:].sum() if later else 0
            rows.append((seen.size, last - first, days - 1 - first, amounts, seen.size))
    features = pl.DataFrame(
        {
            "order_day_count": [row[0] for row in rows],
            "order_count": [row[4] for row in rows],
            "days_from_first_to_last_order": [row[1] for row in rows],
            "days_since_first_order": [row[2] for row in rows],
            "average_order_amount": [row[3][: row[0]].mean() for row in rows],
        }
    )
    spending = propensity.fit_spending(features)
    assert spending is not None
    expected = spending.expect(features, np.zeros(features.height), horizon)
    assert expected.sum() == pytest.approx(spent_later, rel=0.06)
    newcomer = features[:1].with_columns(order_day_count=0, order_count=0)
    assert spending.expect(newcomer, np.array([0.5]), horizon) == pytest.approx(
        spending.level.population_mean / 2, abs=0.01
    )


def test_other_examples_make_another_estimator(
    examples: Examples, estimator: propensity.Estimator
) -> None:
    features, labels = examples
    is_first = pl.int_range(pl.len()) == 0
    flipped = labels.with_columns(has_happened=pl.col("has_happened") ^ is_first)
    changed = features.with_columns(order_count=pl.col("order_count") + is_first)
    assert estimator.has_seen(features, labels)
    assert not estimator.has_seen(features, flipped)
    assert not estimator.has_seen(changed, labels)


def draw(count: int, chance: float) -> pl.Series:
    """True so often, by chance."""
    return pl.Series(np.random.default_rng(5).random(count) < chance)


def followed(examples: Examples) -> pl.Series:
    """Whether an order followed within a month of each row of features."""
    purchases = examples.labels.filter(target="purchase_30d")
    keys = ["profile_id", "cutoff_at"]
    return examples.features.join(
        purchases, on=keys, how="left", maintain_order="left"
    )["has_happened"]


def refuse(examples: Examples, planted: pl.Series, now: pl.Expr) -> gate.Refusal:
    """What the gate says of a feature that holds `now` for those scored."""
    features = examples.features.with_columns(planted)
    predictor = propensity.train_target(
        propensity.examples_of(PURCHASE, features, examples.labels),
        PURCHASE,
        encoding.feature_columns(features),
        make_features(TRAINED_AT, seed=7).with_columns(now.alias(planted.name)),
        TRAINED_AT,
    )
    assert predictor.scored_by == "rfm_fallback"
    assert predictor.refusal is not None
    return predictor.refusal


def test_an_estimator_that_fails_out_of_time_is_not_used_but_the_last_good_one(
    examples: Examples, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    cutoffs = examples.features["cutoff_at"]
    turns = (cutoffs == cutoffs.max()) ^ draw(cutoffs.len(), 0.25)
    trap = (followed(examples) ^ turns).cast(int).alias("trap_count")
    trapped = Examples(examples.features.with_columns(trap), examples.labels)
    trap_now = scored.with_columns(trap_count=pl.int_range(pl.len()) % 2)
    good = {one.target.name: one for one in estimator.predictors}
    misled = propensity.train(
        *trapped, trap_now, TRAINED_AT, HORIZONS[:1], last_good={"churn": good["churn"]}
    )
    purchase, churn = misled.predictors
    for predictor in (purchase, churn):
        assert predictor.refusal is not None
        assert predictor.refusal.reason == "not_better_than_rfm"
    assert not misled.lacks_data
    scores = score_of(misled, trap_now)
    assert scores["purchase_scored_by"].unique().to_list() == ["rfm_fallback"]
    assert scores["purchase_propensity"].n_unique() > 10
    assert scores["churn_scored_by"].unique().to_list() == ["estimator"]
    assert scores["churn_propensity"].equals(
        score_of(estimator, scored)["churn_propensity"]
    )


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_feature_that_sees_the_future_fails_the_gate(
    examples: Examples, noise: float
) -> None:
    """It counts what followed the cutoff, as far as it was recorded."""
    sees = followed(examples)
    blurred = (sees ^ draw(sees.len(), noise)).cast(int).alias("next_count")
    refusal = refuse(examples, blurred, now=pl.lit(0))
    assert refusal.reason == "leak"
    assert "next_count predicts the outcome alone" in refusal.detail


def test_a_weak_leak_shows_by_being_empty_in_use(examples: Examples) -> None:
    sees = followed(examples)
    blurred = (sees & draw(sees.len(), 0.4)).cast(int).alias("next_count")
    refusal = refuse(examples, blurred, now=pl.lit(0))
    assert refusal.reason == "leak"
    assert "next_count predicted much in the past" in refusal.detail


@pytest.mark.parametrize("name", ["row_count", "store_id"])
def test_a_feature_that_names_profiles_fails_the_gate(
    examples: Examples, name: str
) -> None:
    everybody = examples.features["profile_id"].rank("dense").cast(pl.Int64)
    values = everybody if name == "row_count" else everybody % 7
    refusal = refuse(examples, values.alias(name), now=pl.lit(1))
    assert refusal.reason == "id_like"
    assert name in refusal.detail


def test_an_estimator_that_ranks_better_is_released_though_fewer_buy_of_late(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propensity, "MAX_TESTED", 3)
    newest = examples.labels.filter(target=PURCHASE.name)["cutoff_at"].max()
    stays = (pl.col("cutoff_at") != newest) | ~draw(examples.labels.height, 0.6)
    labels = examples.labels.with_columns(has_happened=pl.col("has_happened") & stays)
    predictor = propensity.train_target(
        propensity.examples_of(PURCHASE, examples.features, labels),
        PURCHASE,
        encoding.feature_columns(examples.features),
        make_features(TRAINED_AT, seed=7),
        TRAINED_AT,
    )
    assert predictor.metrics is not None
    assert predictor.baseline_metrics is not None
    assert predictor.metrics.calibration_in_the_large > 0.05
    assert predictor.baseline_metrics.calibration_in_the_large > 0.05
    assert predictor.refusal is None
    assert predictor.scored_by == "estimator"


def test_one_cutoff_is_too_little_to_test_on_and_falls_back_to_rfm(
    scored: pl.DataFrame,
) -> None:
    trained = train(make_examples(steps=[1]))
    assert trained.lacks_data
    scores = score_of(trained, scored)
    assert scores["scored_by"].unique().to_list() == ["rfm_fallback"]
    assert scores["purchase_propensity"].n_unique() > 10


@pytest.mark.parametrize("profiles", [0, 1, 12])
def test_a_tiny_home_gets_a_base_rate(profiles: int, scored: pl.DataFrame) -> None:
    few = train(make_examples(steps=[1]).keep(profiles))
    scores = score_of(few, scored)
    assert scores.height == PROFILES
    assert scores["purchase_propensity"].n_unique() == 1
    assert scores["purchase_propensity"].is_between(0, 1).all()
    assert scores["scored_by"].unique().to_list() == ["rfm_fallback"]
    assert reasons.explain(few, scored).is_empty()


def test_nobody_to_score_is_no_error(estimator: propensity.Estimator) -> None:
    empty = make_features(TRAINED_AT, seed=7).clear()
    assert score_of(estimator, empty).height == 0


def test_broken_input_raises(
    examples: Examples, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    with pytest.raises(ValueError, match="two rows"):
        twice = pl.concat([examples.features, examples.features[:1]])
        train(examples._replace(features=twice))
    with pytest.raises(ValueError, match="two rows"):
        score_of(estimator, pl.concat([scored, scored[:1]]))
    with pytest.raises(ValueError, match="lack the columns session_30d_count"):
        score_of(estimator, scored.drop("session_30d_count"))
    with pytest.raises(ValueError, match="beyond the training cutoff"):
        propensity.train(*examples, scored, TRAINED_AT - timedelta(days=1), HORIZONS)


def test_a_stored_estimator_scores_as_when_it_was_trained(
    tmp_path: Path, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    store.save(estimator, tmp_path)
    found = find(tmp_path, estimator)
    assert found is not None
    assert score_of(found, scored).equals(score_of(estimator, scored))
    summary = store.summarize(tmp_path, TRAINED_AT, estimator.estimator_id)
    assert summary["target"].to_list() == ["purchase_30d", "purchase_90d", "churn"]
    assert summary["auc"].is_not_null().all()
    assert reasons.explain(found, scored).equals(reasons.explain(estimator, scored))
    assert store.summarize(tmp_path, TRAINED_AT - timedelta(days=1), "").is_empty()


def find(
    folder: Path, estimator: propensity.Estimator, **other: Any
) -> propensity.Estimator | None:
    wanted = {
        "training_cutoff_at": estimator.training_cutoff_at,
        "horizons": estimator.horizons,
        "recipe": estimator.recipe,
        "features": estimator.features,
    }
    return store.find(folder, **{**wanted, **other})


def test_an_estimator_of_another_cutoff_horizon_or_recipe_is_not_found(
    tmp_path: Path, estimator: propensity.Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find(tmp_path, estimator) is None
    store.save(estimator, tmp_path)
    assert find(tmp_path, estimator, training_cutoff_at=moment("2026-06-11")) is None
    assert find(tmp_path, estimator, horizons=(90,)) is None
    assert find(tmp_path, estimator, recipe=99) is None
    assert find(tmp_path, estimator, features=("order_count",)) is None
    monkeypatch.setattr(store, "library_versions", lambda: {"scikit-learn": "0"})
    assert find(tmp_path, estimator) is None


def plant(folder: Path, estimator: propensity.Estimator, content: bytes) -> None:
    """Put other bytes in the place of a classifier, checksum and all."""
    place = store.save(estimator, folder)
    (place / "purchase_30d.skops").write_bytes(content)
    metadata = json.loads((place / "metadata.json").read_text())
    metadata["predictors"][0]["sha256"] = sha256(content).hexdigest()
    (place / "metadata.json").write_text(json.dumps(metadata))


def reason_aside(folder: Path, estimator: propensity.Estimator) -> str:
    return store.set_aside_reasons(folder)[estimator.estimator_id]


class Intruder:
    """What an attacker would have unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("the store ran foreign code",))


class Foreign:
    """A type that no estimator of ours holds."""

    def __init__(self) -> None:
        self.number = 1


def test_a_pickle_is_refused_and_never_run(
    tmp_path: Path, estimator: propensity.Estimator
) -> None:
    plant(tmp_path, estimator, pickle.dumps(Intruder()))
    assert find(tmp_path, estimator) is None
    assert "no skops file" in reason_aside(tmp_path, estimator)


def test_a_foreign_type_is_refused(
    tmp_path: Path, estimator: propensity.Estimator
) -> None:
    plant(tmp_path, estimator, skops.io.dumps(Foreign()))
    assert find(tmp_path, estimator) is None
    assert "Foreign" in reason_aside(tmp_path, estimator)


def test_a_changed_file_is_refused(
    tmp_path: Path, estimator: propensity.Estimator
) -> None:
    place = store.save(estimator, tmp_path)
    with (place / "churn.skops").open("ab") as file:
        file.write(b" ")
    assert find(tmp_path, estimator) is None
    assert "not the file" in reason_aside(tmp_path, estimator)


METADATA = Path("metadata.json")
DAMAGES: dict[str, tuple[Path, Callable[[bytes], bytes]]] = {
    "truncated metadata": (METADATA, lambda content: content[: len(content) // 2]),
    "empty metadata": (METADATA, lambda _: b""),
    "metadata of bytes": (METADATA, lambda _: b"\xff\xfe\x00"),
    "metadata that are a list": (METADATA, lambda _: b"[]"),
    "metadata without a field": (
        METADATA,
        lambda content: content.replace(b'"recipe"', b'"recipes"'),
    ),
    "metadata of another": (
        METADATA,
        lambda content: content.replace(b'"estimator_id": "', b'"estimator_id": "x'),
    ),
    "metadata of another form": (
        METADATA,
        lambda content: content.replace(b'"base_rate"', b'"basic_rate"'),
    ),
    "truncated classifier": (
        Path("purchase_30d.skops"),
        lambda content: content[: len(content) // 2],
    ),
    "empty classifier": (Path("churn.skops"), lambda _: b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_estimator_is_set_aside_told_and_made_room_for(
    tmp_path: Path, estimator: propensity.Estimator, damage: str
) -> None:
    name, spoil = DAMAGES[damage]
    for _ in range(2):
        path = store.save(estimator, tmp_path) / name
        content = path.read_bytes()
        path.write_bytes(spoil(content))
        assert path.read_bytes() != content
        assert find(tmp_path, estimator) is None
        summary = store.summarize(tmp_path, TRAINED_AT, "another")
        assert summary["refusal_reason"].to_list() == ["damaged"]
        assert summary["refusal_detail"].str.len_chars().min() > 10
        assert summary["estimator_id"].to_list() == [estimator.estimator_id]
    store.save(estimator, tmp_path)
    assert find(tmp_path, estimator) is not None


def test_a_damaged_last_good_estimator_is_passed_over(
    tmp_path: Path, estimator: propensity.Estimator
) -> None:
    older = replace(
        estimator,
        estimator_id="older",
        training_cutoff_at=estimator.training_cutoff_at - timedelta(days=7),
    )

    def last_good() -> dict[str, propensity.Predictor]:
        return store.find_last_good(
            tmp_path,
            TRAINED_AT + timedelta(days=7),
            timedelta(days=60),
            estimator.recipe,
            estimator.features,
        )

    store.save(older, tmp_path)
    good = last_good()
    assert good
    newer = store.save(estimator, tmp_path)
    (newer / f"{next(iter(good))}.skops").unlink()
    assert last_good().keys() == good.keys()
    assert "FileNotFoundError" in reason_aside(tmp_path, estimator)


def test_an_interrupted_save_leaves_nothing_to_find(
    tmp_path: Path, estimator: propensity.Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "flush", crash)
    with pytest.raises(KeyboardInterrupt):
        store.save(estimator, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".partial-killed").mkdir()
    (tmp_path / ".partial-killed" / "metadata.json").write_text("{")
    assert find(tmp_path, estimator) is None


def fill_warehouse(home: TestHome, examples: Examples, as_of: datetime) -> None:
    """The tables that scoring reads."""
    features = make_features(as_of, seed=9)
    tables = {
        "staging.stg_run": pl.DataFrame(
            {
                "as_of": pl.Series([as_of], dtype=pl.Datetime("us")),
                "training_cutoff_at": pl.Series([TRAINED_AT], dtype=pl.Datetime("us")),
                "horizons_days": [list(HORIZONS)],
            }
        ),
        "profiles.features": pl.concat([features, examples.features]),
        "profiles.profile_cutoffs": examples.features.select(
            "profile_id", "cutoff_at", is_training=pl.lit(True)
        ),
        "profiles.labels": examples.labels,
        "profiles.overrides": pl.DataFrame(
            {
                "profile_id": features["profile_id"][:3],
                "override": ["never_score", "never_score", "never_contact"],
                "audience": "staff",
                "reason": "they know",
            }
        ),
    }
    with Warehouse(home.settings.warehouse).connect() as connection:
        for table, frame in tables.items():
            replace_table(connection, table, frame)


def run_score(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    assert dg.materialize(
        [score], resources={"home": HomeAt(as_of="2026-06-30")}
    ).success
    return home.read("select * from ml.scores order by profile_id")


def test_an_estimator_is_trained_once_a_grid_and_used_until_the_next(
    home: TestHome, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_warehouse(home, examples, TRAINED_AT + timedelta(hours=9))
    first = run_score(home, monkeypatch)
    assert first["scored_by"].value_counts(sort=True).rows() == [
        ("estimator", PROFILES - 2),
        ("override", 2),
    ]
    left_out = home.read(
        "select purchase_propensity, churn_propensity, reasons.reason "
        "from ml.scores inner join ml.score_reasons as reasons using (profile_id) "
        "where scored_by = 'override'"
    )
    assert left_out.unique().rows() == [(None, None, "staff: they know")]
    stored = home.read("select code_version from ml.estimators")["code_version"]
    assert stored.str.contains("^[0-9a-f]{40}(-dirty)?$").all()
    said = home.read("select reason from ml.score_reasons")["reason"]
    assert said.str.contains(r"^bought \d+ times, last").any()
    monkeypatch.setattr(
        propensity, "train", lambda *_, **__: pytest.fail("trained though not due")
    )
    assert run_score(home, monkeypatch).equals(first)
    fill_warehouse(home, examples.keep(PROFILES - 5), TRAINED_AT + timedelta(days=3))
    later = run_score(home, monkeypatch)
    assert set(later["estimator_id"]) == set(first["estimator_id"])


def test_a_fallback_for_want_of_examples_is_trained_again_when_they_arrive(
    home: TestHome, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = TRAINED_AT + timedelta(hours=9)
    fill_warehouse(home, examples.keep(6), as_of)
    first = run_score(home, monkeypatch)
    assert set(first["scored_by"]) == {"rfm_fallback", "override"}
    assert run_score(home, monkeypatch).equals(first)
    fill_warehouse(home, examples, as_of)
    later = run_score(home, monkeypatch)
    assert set(later["scored_by"]) == {"estimator", "override"}
    assert home.read("select * from ml.estimators where is_in_use").height == 3


def test_calibration_error_is_the_mean_gap_of_promise_and_outcome() -> None:
    outcomes = np.array([False] * 50 + [True] * 50)
    perfect = np.where(outcomes, 1.0, 0.0)
    assert evaluation.calibration_error(outcomes, perfect) == 0
    assert evaluation.calibration_error(outcomes, np.full(100, 0.9), 1) == (
        pytest.approx(0.4)
    )
    with pytest.raises(ValueError, match="both outcomes"):
        evaluation.evaluate(np.array([True, True]), np.array([0.1, 0.2]))


def test_the_fast_measures_equal_scikit_learns() -> None:
    dice = np.random.default_rng(8)
    predictions = dice.random(500).round(1).clip(0.05, 0.95)
    outcomes = dice.random(500) < predictions
    measured = evaluation.evaluate(outcomes, predictions)
    assert measured.auc == pytest.approx(roc_auc_score(outcomes, predictions))
    assert measured.log_loss == pytest.approx(log_loss(outcomes, predictions))
    assert measured.brier_score == pytest.approx(
        brier_score_loss(outcomes, predictions)
    )
    table = evaluation.calibration(outcomes, predictions)
    gaps = (table["predicted_rate"] - table["observed_rate"]).abs()
    weights = table["profile_count"] / 500
    assert measured.calibration_error == pytest.approx((gaps * weights).sum())
    assert (table["lift"] * table["profile_count"]).sum() == pytest.approx(500)


def test_encoding_keeps_unknown_apart_from_zero() -> None:
    frame = pl.DataFrame({"profile_id": ["a"], "x": [None], "y": [0], "z": [-3.0]})
    frame = frame.with_columns(pl.col("x").cast(pl.Int64))
    assert encoding.feature_columns(frame) == ("x", "y", "z")
    raw = encoding.encode(frame, ("x", "y", "z"))
    assert raw[0, 2] == -3
    unknown, zero, negative = encoding.squash(raw)[0]
    assert np.isnan(unknown)
    assert zero == 0
    assert negative == pytest.approx(-np.log(4))
    with pytest.raises(ValueError, match="infinite"):
        encoding.encode(pl.DataFrame({"x": [np.inf]}), ("x",))
