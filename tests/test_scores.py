"""Scores keep their promises: calibrated, repeatable, honest about what they are."""

import json
import pickle
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
import skops.io

from ml import encoding, evaluation, propensity, store
from orchestration.assets.score import score
from orchestration.resources import Home
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import TestHome, moment

TRAINED_AT = moment("2026-06-04")
HORIZON = 30
PROFILES = 600


def chance_to_buy(features: pl.DataFrame) -> np.ndarray:
    """The truth behind the examples: sessions tell most, recency a little."""
    signal = (
        1.2 * np.log1p(features["session_30d_count"].to_numpy())
        - 0.4 * np.log1p(features["days_since_last_order"].fill_null(400).to_numpy())
        - 0.6
    )
    return 1 / (1 + np.exp(-signal))


def make_features(cutoff_at: datetime, seed: int, profiles: int = PROFILES) -> Any:
    """Profiles at one cutoff; a third of them never ordered."""
    dice = np.random.default_rng(seed)
    orders = dice.poisson(1.1, profiles)
    return pl.DataFrame(
        {
            "profile_id": [
                sha256(bytes(str(n), "ascii")).hexdigest() for n in range(profiles)
            ],
            "cutoff_at": pl.Series([cutoff_at] * profiles, dtype=pl.Datetime("us")),
            "days_since_last_order": pl.Series(
                [
                    int(n) if k else None
                    for n, k in zip(
                        dice.integers(0, 200, profiles), orders, strict=True
                    )
                ]
            ),
            "order_count": orders,
            "revenue_amount": np.round(orders * dice.gamma(3, 20, profiles), 2),
            "session_30d_count": dice.poisson(2.5, profiles),
            "product_view_30d_count": dice.poisson(6, profiles),
        }
    )


def make_examples(horizons: int = 3, profiles: int = PROFILES) -> pl.DataFrame:
    """Labelled examples at cutoffs whose labels are known when training."""
    parts = []
    for back in range(1, horizons + 1):
        cutoff_at = TRAINED_AT - back * timedelta(days=HORIZON)
        features = make_features(cutoff_at, seed=back, profiles=profiles)
        dice = np.random.default_rng(100 + back)
        has_ordered = dice.random(profiles) < chance_to_buy(features)
        known_at = pl.lit(cutoff_at + timedelta(days=HORIZON)).cast(pl.Datetime("us"))
        parts.append(
            features.with_columns(
                has_ordered=pl.Series(has_ordered),
                has_churned=pl.Series(~has_ordered),
                purchase_known_at=known_at,
                churn_known_at=known_at,
            )
        )
    return pl.concat(parts)


def train(examples: pl.DataFrame) -> propensity.Estimator:
    return propensity.train(examples, TRAINED_AT, HORIZON)


@pytest.fixture(scope="module")
def examples() -> pl.DataFrame:
    return make_examples()


@pytest.fixture(scope="module")
def estimator(examples: pl.DataFrame) -> propensity.Estimator:
    return train(examples)


@pytest.fixture
def scored() -> pl.DataFrame:
    return make_features(TRAINED_AT, seed=7)


def test_propensities_are_the_true_chances(
    estimator: propensity.Estimator,
) -> None:
    features = make_features(TRAINED_AT, seed=7, profiles=4000).sort("profile_id")
    scores = propensity.score(estimator, features, TRAINED_AT)
    promised = scores["purchase_propensity"].to_numpy()
    truth = chance_to_buy(features)
    for tenth in np.array_split(np.argsort(promised), 10):
        assert promised[tenth].mean() == pytest.approx(truth[tenth].mean(), abs=0.06)
    assert scores["scored_by"].unique().to_list() == ["estimator"]
    assert np.corrcoef(scores["churn_propensity"], truth)[0, 1] < -0.8


def test_out_of_time_metrics_come_from_the_newest_cutoff_and_beat_rfm(
    estimator: propensity.Estimator,
) -> None:
    for predictor in estimator.predictors:
        assert predictor.tested_cutoff_at == TRAINED_AT - timedelta(days=HORIZON)
        assert predictor.metrics is not None
        assert predictor.baseline_metrics is not None
        assert predictor.metrics.log_loss < predictor.baseline_metrics.log_loss
        assert predictor.metrics.auc > predictor.baseline_metrics.auc
        assert predictor.calibration["profile_count"].sum() == PROFILES


def test_shuffled_rows_train_and_score_the_same(
    examples: pl.DataFrame, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    again = train(examples.sample(fraction=1, shuffle=True, seed=1))
    assert again.estimator_id == estimator.estimator_id
    shuffled = scored.sample(fraction=1, shuffle=True, seed=2)
    assert propensity.score(again, shuffled, TRAINED_AT).equals(
        propensity.score(estimator, scored, TRAINED_AT)
    )


def test_a_profile_scores_the_same_alone_as_among_others(
    estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    together = propensity.score(estimator, scored, TRAINED_AT)
    alone = propensity.score(estimator, scored[:1], TRAINED_AT)
    assert alone.row(0) == together.row(
        by_predicate=pl.col("profile_id") == scored["profile_id"][0]
    )


def test_other_examples_make_another_estimator(
    examples: pl.DataFrame, estimator: propensity.Estimator
) -> None:
    flipped = examples.with_columns(
        has_ordered=pl.when(pl.int_range(pl.len()) == 0)
        .then(~pl.col("has_ordered"))
        .otherwise("has_ordered")
    )
    assert estimator.has_seen(examples)
    assert not estimator.has_seen(flipped)


def test_an_estimator_that_fails_out_of_time_is_not_used(
    examples: pl.DataFrame, scored: pl.DataFrame
) -> None:
    newest = examples["cutoff_at"].max()
    misleading = examples.with_columns(
        trap_count=pl.when(pl.col("cutoff_at") < newest)
        .then(pl.col("has_ordered").cast(pl.Int64) * 9)
        .otherwise((~pl.col("has_ordered")).cast(pl.Int64) * 9)
    )
    trained = train(misleading)
    assert {p.fallback_reason for p in trained.predictors} == {"not_better_than_rfm"}
    assert not trained.lacks_data
    scores = propensity.score(trained, scored, TRAINED_AT)
    assert scores["scored_by"].unique().to_list() == ["rfm_fallback"]
    assert scores["purchase_propensity"].n_unique() > 10


def test_one_cutoff_is_too_little_to_test_on_and_falls_back_to_rfm(
    scored: pl.DataFrame,
) -> None:
    trained = train(make_examples(horizons=1))
    assert trained.lacks_data
    scores = propensity.score(trained, scored, TRAINED_AT)
    assert scores["scored_by"].unique().to_list() == ["rfm_fallback"]
    assert scores["purchase_propensity"].n_unique() > 10


@pytest.mark.parametrize("profiles", [0, 1, 12])
def test_a_tiny_home_gets_a_base_rate(profiles: int, scored: pl.DataFrame) -> None:
    few = make_examples(horizons=1, profiles=PROFILES)[:profiles]
    scores = propensity.score(train(few), scored, TRAINED_AT)
    assert scores.height == PROFILES
    assert scores["purchase_propensity"].n_unique() == 1
    assert scores["purchase_propensity"].is_between(0, 1).all()
    assert scores["scored_by"].unique().to_list() == ["rfm_fallback"]


def test_nobody_to_score_is_no_error(estimator: propensity.Estimator) -> None:
    empty = make_features(TRAINED_AT, seed=7).clear()
    assert propensity.score(estimator, empty, TRAINED_AT).height == 0


def test_broken_input_raises(
    examples: pl.DataFrame, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    with pytest.raises(ValueError, match="two rows"):
        train(pl.concat([examples, examples[:1]]))
    with pytest.raises(ValueError, match="two rows"):
        propensity.score(estimator, pl.concat([scored, scored[:1]]), TRAINED_AT)
    with pytest.raises(ValueError, match="lack the columns session_30d_count"):
        propensity.score(estimator, scored.drop("session_30d_count"), TRAINED_AT)
    with pytest.raises(ValueError, match="beyond the training cutoff"):
        propensity.train(examples, TRAINED_AT - timedelta(days=1), HORIZON)


def test_a_stored_estimator_scores_as_when_it_was_trained(
    tmp_path: Path, estimator: propensity.Estimator, scored: pl.DataFrame
) -> None:
    store.save(estimator, tmp_path)
    found = find(tmp_path, estimator)
    assert found is not None
    assert propensity.score(found, scored, TRAINED_AT).equals(
        propensity.score(estimator, scored, TRAINED_AT)
    )
    summary = store.summarize(tmp_path, TRAINED_AT, estimator.estimator_id)
    assert summary["target"].to_list() == ["purchase", "churn"]
    assert summary["auc"].is_not_null().all()
    assert store.summarize(tmp_path, TRAINED_AT - timedelta(days=1), "").is_empty()


def find(
    folder: Path, estimator: propensity.Estimator, **other: Any
) -> propensity.Estimator | None:
    wanted = {
        "training_cutoff_at": estimator.training_cutoff_at,
        "horizon_days": estimator.horizon_days,
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
    assert find(tmp_path, estimator, horizon_days=90) is None
    assert find(tmp_path, estimator, recipe=99) is None
    assert find(tmp_path, estimator, features=("order_count",)) is None
    monkeypatch.setattr(store, "library_versions", lambda: {"scikit-learn": "0"})
    assert find(tmp_path, estimator) is None


def plant(folder: Path, estimator: propensity.Estimator, content: bytes) -> None:
    """Put other bytes in the place of a classifier, checksum and all."""
    place = store.save(estimator, folder)
    (place / "purchase.skops").write_bytes(content)
    metadata = json.loads((place / "metadata.json").read_text())
    metadata["predictors"][0]["sha256"] = sha256(content).hexdigest()
    (place / "metadata.json").write_text(json.dumps(metadata))


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
    with pytest.raises(store.UntrustedEstimatorError, match="no skops file"):
        find(tmp_path, estimator)


def test_a_foreign_type_is_refused(
    tmp_path: Path, estimator: propensity.Estimator
) -> None:
    plant(tmp_path, estimator, skops.io.dumps(Foreign()))
    with pytest.raises(store.UntrustedEstimatorError, match="Foreign"):
        find(tmp_path, estimator)


def test_a_changed_file_is_refused(
    tmp_path: Path, estimator: propensity.Estimator
) -> None:
    place = store.save(estimator, tmp_path)
    with (place / "churn.skops").open("ab") as file:
        file.write(b" ")
    with pytest.raises(store.UntrustedEstimatorError, match="not the file"):
        find(tmp_path, estimator)


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


def fill_warehouse(home: TestHome, examples: pl.DataFrame, as_of: datetime) -> None:
    """The tables that scoring reads."""
    features = make_features(as_of, seed=9)
    labels = ["has_ordered", "has_churned", "purchase_known_at", "churn_known_at"]
    tables = {
        "staging.stg_run": pl.DataFrame(
            {
                "as_of": pl.Series([as_of], dtype=pl.Datetime("us")),
                "training_cutoff_at": pl.Series([TRAINED_AT], dtype=pl.Datetime("us")),
                "horizon_days": [HORIZON],
            }
        ),
        "profiles.features": pl.concat([features, examples.drop(labels)]),
        "profiles.labels": examples.select("profile_id", "cutoff_at", *labels),
    }
    with Warehouse(home.settings.warehouse).connect() as connection:
        for table, frame in tables.items():
            replace_table(connection, table, frame)


def run_score(home: TestHome, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    monkeypatch.setenv("REKINDLE_HOME", str(home.settings.root))
    assert dg.materialize([score], resources={"home": Home()}).success
    return home.read("select * from ml.scores order by profile_id")


def test_an_estimator_is_trained_once_a_grid_and_used_until_the_next(
    home: TestHome, examples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_warehouse(home, examples, TRAINED_AT + timedelta(hours=9))
    first = run_score(home, monkeypatch)
    assert first["scored_by"].unique().to_list() == ["estimator"]
    monkeypatch.setattr(
        propensity, "train", lambda *_: pytest.fail("trained though not due")
    )
    assert run_score(home, monkeypatch).equals(first)
    fill_warehouse(home, examples[:-5], TRAINED_AT + timedelta(days=3))
    later = run_score(home, monkeypatch)
    assert later["estimator_id"].unique().equals(first["estimator_id"].unique())


def test_a_fallback_for_want_of_examples_is_trained_again_when_they_arrive(
    home: TestHome, examples: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = TRAINED_AT + timedelta(hours=9)
    fill_warehouse(home, examples[:30], as_of)
    first = run_score(home, monkeypatch)
    assert first["scored_by"].unique().to_list() == ["rfm_fallback"]
    assert run_score(home, monkeypatch).equals(first)
    fill_warehouse(home, examples, as_of)
    later = run_score(home, monkeypatch)
    assert later["scored_by"].unique().to_list() == ["estimator"]
    assert home.read("select * from ml.estimators where is_in_use").height == 2


def test_calibration_error_is_the_mean_gap_of_promise_and_outcome() -> None:
    outcomes = np.array([False] * 50 + [True] * 50)
    perfect = np.where(outcomes, 1.0, 0.0)
    assert evaluation.calibration_error(outcomes, perfect) == 0
    assert evaluation.calibration_error(outcomes, np.full(100, 0.9), 1) == (
        pytest.approx(0.4)
    )
    with pytest.raises(ValueError, match="both outcomes"):
        evaluation.evaluate(np.array([True, True]), np.array([0.1, 0.2]))


def test_encoding_keeps_unknown_apart_from_zero() -> None:
    frame = pl.DataFrame({"profile_id": ["a"], "x": [None], "y": [0], "z": [-3.0]})
    frame = frame.with_columns(pl.col("x").cast(pl.Int64))
    assert encoding.feature_columns(frame) == ("x", "y", "z")
    unknown, zero, negative = encoding.encode(frame, ("x", "y", "z"))[0]
    assert np.isnan(unknown)
    assert zero == 0
    assert negative == pytest.approx(-np.log(4))
    with pytest.raises(ValueError, match="infinite"):
        encoding.encode(pl.DataFrame({"x": [np.inf]}), ("x",))
