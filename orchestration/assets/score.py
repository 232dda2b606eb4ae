"""What each profile is likely to do.

Reads features, lets `ml` train and score, writes the `ml` tables.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from ml import encoding, propensity, store
from ml.propensity import Estimator
from orchestration.charts import line_chart, markdown_table
from orchestration.resources import Home
from orchestration.warehouse import Connection, fetch_frame, replace_table

OWNERS = ["data@example.com"]

RUN = "select as_of, training_cutoff_at, horizon_days from staging.stg_run"

FEATURES = """
    select features.*
    from profiles.features
    inner join staging.stg_run on features.cutoff_at = stg_run.as_of
"""

EXAMPLES = """
    select
        features.*,
        labels.has_ordered,
        labels.has_churned,
        labels.purchase_known_at,
        labels.churn_known_at
    from profiles.features
    inner join profiles.labels using (profile_id, cutoff_at)
"""

SCORES = {
    "profile_id": ("varchar", "The profile."),
    "purchase_propensity": (
        "double",
        "Probability of an order within `horizon_days` from `as_of`.",
    ),
    "churn_propensity": (
        "double",
        "Probability of no order within the profile's own expected cycle.",
    ),
    "estimator_id": ("varchar", "What scored it; see `ml/estimators`."),
    "scored_by": (
        "varchar",
        "`estimator`, or `rfm_fallback` as soon as one of the two propensities comes "
        "from recency, frequency and monetary value alone.",
    ),
    "purchase_scored_by": ("varchar", "The same for `purchase_propensity`."),
    "churn_scored_by": ("varchar", "The same for `churn_propensity`."),
    "as_of": ("timestamp", "The moment the run looked from, UTC."),
}
ESTIMATORS = {
    "estimator_id": ("varchar", "Hash of training cutoff, features, recipe and data."),
    "target": ("varchar", "`purchase` or `churn`."),
    "training_cutoff_at": ("timestamp", "Labels end here, UTC."),
    "horizon_days": ("bigint", "How far purchase propensity looks ahead."),
    "is_in_use": ("boolean", "Whether this run scored with it."),
    "scored_by": ("varchar", "`estimator`, or `rfm_fallback`."),
    "fallback_reason": (
        "varchar",
        "`too_few_outcomes` to train and test, or `not_better_than_rfm` out of time.",
    ),
    "example_count": (
        "bigint",
        "Examples, of a profile at a cutoff each, it was fitted on.",
    ),
    "positive_count": ("bigint", "Those of them with the outcome."),
    "feature_count": ("bigint", "Features it reads."),
    "tested_cutoff_at": ("timestamp", "The cutoff it was tested on, unseen, UTC."),
    "auc": ("double", "Out of time: how well it ranks; 0.5 is chance."),
    "log_loss": ("double", "Out of time; smaller is better."),
    "brier_score": ("double", "Out of time; smaller is better."),
    "calibration_error": ("double", "Out of time: mean gap of promise and outcome."),
    "baseline_auc": ("double", "The same for the RFM baseline."),
    "baseline_log_loss": ("double", "The same for the RFM baseline."),
    "baseline_brier_score": ("double", "The same for the RFM baseline."),
    "baseline_calibration_error": ("double", "The same for the RFM baseline."),
    "library_versions": ("varchar", "What it was fitted with, JSON."),
}
CALIBRATION = {
    "estimator_id": ("varchar", "The estimator in use."),
    "target": ("varchar", "`purchase` or `churn`."),
    "scored_by": ("varchar", "`estimator`, or `rfm_fallback`."),
    "bin": ("bigint", "1 for the lowest tenth of predictions to 10 for the highest."),
    "profile_count": ("bigint", "Profiles of the tested cutoff in this bin."),
    "predicted_rate": ("double", "What was promised for them, on average."),
    "observed_rate": ("double", "How many of them had the outcome."),
}


def asset_spec(
    name: str,
    description: str,
    columns: Mapping[str, tuple[str, str]],
    sources: tuple[str, ...],
) -> dg.AssetSpec:
    """An asset of the `ml` schema that reads tables of `profiles`."""
    return dg.AssetSpec(
        key=["ml", name],
        group_name="ml",
        description=description,
        owners=OWNERS,
        kinds={"python", "scikitlearn", "duckdb"},
        deps=[dg.AssetKey(["profiles", source]) for source in sources],
        metadata={
            "dagster/table_name": f"ml.{name}",
            "dagster/column_schema": dg.TableSchema(
                [
                    dg.TableColumn(column, type=kind, description=description)
                    for column, (kind, description) in columns.items()
                ]
            ),
        },
    )


@dg.multi_asset(
    name="score",
    specs=[
        asset_spec(
            "scores",
            "One row per profile that is a person seen before `as_of`: how likely it "
            "is to buy and to leave.",
            SCORES,
            ("features", "labels"),
        ),
        asset_spec(
            "estimators",
            "One row per estimator and target trained up to this run: what it is made "
            "of and how it did out of time, beside the RFM baseline.",
            ESTIMATORS,
            ("features", "labels"),
        ),
        asset_spec(
            "calibration",
            "One row per target and tenth of the tested profiles: what the estimator "
            "in use promised and what came true.",
            CALIBRATION,
            ("features", "labels"),
        ),
    ],
)
def score(home: Home) -> Iterator[dg.MaterializeResult[None]]:
    """Train when due, score everybody, write the `ml` tables."""
    with home.warehouse.connect(read_only=True) as connection:
        run = fetch_frame(connection, RUN).row(0, named=True)
        features = fetch_frame(connection, FEATURES)
        estimator = choose_estimator(home, connection, run, features)
    scores = propensity.score(estimator, features, run["as_of"])
    estimators = store.summarize(
        home.settings.estimators, run["training_cutoff_at"], estimator.estimator_id
    )
    calibration = propensity.calibration_table(estimator)
    with home.warehouse.connect() as connection:
        replace_table(connection, "ml.scores", scores)
        replace_table(connection, "ml.estimators", estimators)
        replace_table(connection, "ml.calibration", calibration)
    yield result_of("scores", scores, describe_scores(scores))
    yield result_of("estimators", estimators, describe_estimators(estimators))
    yield result_of("calibration", calibration, describe_calibration(calibration))


def choose_estimator(
    home: Home, connection: Connection, run: Mapping[str, Any], features: pl.DataFrame
) -> Estimator:
    """The stored estimator of this run's training cutoff, else a new one, stored."""
    stored = store.find(
        home.settings.estimators,
        run["training_cutoff_at"],
        run["horizon_days"],
        propensity.RECIPE,
        encoding.feature_columns(features),
    )
    if stored is not None and not stored.lacks_data:
        return stored
    examples = fetch_frame(connection, EXAMPLES)
    if stored is not None and stored.has_seen(examples):
        return stored
    trained = propensity.train(examples, run["training_cutoff_at"], run["horizon_days"])
    store.save(trained, home.settings.estimators)
    return trained


def result_of(
    name: str, frame: pl.DataFrame, metadata: Mapping[str, Any]
) -> dg.MaterializeResult[None]:
    """What the UI is told of one written table."""
    return dg.MaterializeResult(
        asset_key=["ml", name],
        metadata={"dagster/row_count": frame.height, **metadata},
    )


def describe_scores(scores: pl.DataFrame) -> dict[str, Any]:
    """Who scored how many profiles, and how the propensities are spread."""
    spread = scores.select(
        target=pl.lit("purchase"), propensity="purchase_propensity"
    ).vstack(scores.select(target=pl.lit("churn"), propensity="churn_propensity"))
    return {
        **{
            f"{scored_by}_count": scores.filter(pl.col("scored_by") == scored_by).height
            for scored_by in ("estimator", "rfm_fallback")
        },
        "mean_purchase_propensity": scores["purchase_propensity"].mean(),
        "mean_churn_propensity": scores["churn_propensity"].mean(),
        "table": markdown_table(
            spread.group_by("target", maintain_order=True).agg(
                pl.col("propensity").quantile(share).round(3).alias(f"p{share:.0%}")
                for share in (0.1, 0.25, 0.5, 0.75, 0.9)
            )
        ),
    }


def describe_estimators(estimators: pl.DataFrame) -> dict[str, Any]:
    """The out-of-time measures of what is in use, plotted over runs."""
    in_use = estimators.filter("is_in_use")
    measures = ("auc", "log_loss", "calibration_error", "baseline_log_loss")
    return {
        **{
            f"{row['target']}_{measure}": row[measure]
            for row in in_use.iter_rows(named=True)
            for measure in measures
            if row[measure] is not None
        },
        "table": markdown_table(
            in_use.select(
                *("target", "scored_by", "fallback_reason", "example_count"),
                "positive_count",
                *(pl.col(measure).round(4) for measure in measures),
            )
        ),
    }


def describe_calibration(calibration: pl.DataFrame) -> dict[str, Any]:
    """Promise against outcome; on the diagonal they agree."""
    if calibration.is_empty():
        return {}
    diagonal = pl.DataFrame(
        {
            "target": "agreement",
            "predicted_rate": [0.0, 1.0],
            "observed_rate": [0.0, 1.0],
        }
    )
    points = calibration.select("target", "predicted_rate", "observed_rate")
    return {
        "table": markdown_table(calibration.drop("estimator_id")),
        "chart": line_chart(
            points.vstack(diagonal),
            title="Calibration out of time",
            x="predicted_rate",
            y="observed_rate",
            series="target",
        ),
    }
