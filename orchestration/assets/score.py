"""What each profile is likely to do.

Reads features, lets `ml` train and score, writes the `ml` tables. `ml` is imported by
what scores: scikit-learn and SciPy would cost every process of Dagster its seconds.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from orchestration.charts import bar_chart, line_chart, markdown_table
from orchestration.columns import documented
from orchestration.fingerprint import code_version
from orchestration.resources import Home
from orchestration.warehouse import Connection, fetch_frame, replace_table

if TYPE_CHECKING:
    from ml.propensity import Estimator

OWNERS = ["data@example.com"]

RUN = "select as_of, training_cutoff_at, horizons_days from staging.stg_run"

FEATURES = """
    select features.*
    from profiles.features
    inner join staging.stg_run on features.cutoff_at = stg_run.as_of
"""

EXCLUDED = """
    select
        overrides.profile_id,
        stg_run.as_of,
        overrides.audience || ': ' || overrides.reason as reason
    from profiles.overrides
    cross join staging.stg_run
    where overrides.override = 'never_score'
"""

EXAMPLES = """
    select features.*
    from profiles.features
    inner join profiles.profile_cutoffs using (profile_id, cutoff_at)
    where profile_cutoffs.is_training
"""

LABELS = "select * from profiles.labels"

BASE_RATES = """
    select
        target,
        cutoff_at,
        count(*) as profile_count,
        avg(cast(has_happened as integer)) as base_rate
    from profiles.labels
    group by all
    order by all
"""

SCORES = {
    "profile_id": ("varchar", "The profile."),
    "purchase_propensity": (
        "double",
        "Probability of an order within the leading horizon from `as_of`.",
    ),
    "churn_propensity": (
        "double",
        "Probability of no order within the profile's own expected cycle.",
    ),
    "expected_revenue_amount": (
        "double",
        "Expected revenue within the leading horizon, in the base currency; null until "
        "enough profiles ordered.",
    ),
    "estimator_id": ("varchar", "What scored it; see `ml/estimators`."),
    "scored_by": (
        "varchar",
        "`estimator`; `rfm_fallback` as soon as one of the two propensities comes "
        "from recency, frequency and monetary value alone; `override` where a human "
        "decided that there is none.",
    ),
    "purchase_scored_by": ("varchar", "The same for `purchase_propensity`."),
    "churn_scored_by": ("varchar", "The same for `churn_propensity`."),
    "as_of": ("timestamp", "The moment the run looked from, UTC."),
}
HORIZON_SCORES = {
    "profile_id": ("varchar", "The profile."),
    "horizon_days": ("bigint", "Days looked ahead."),
    "purchase_propensity": (
        "double",
        "Probability of an order within them; never less than within fewer days.",
    ),
    "scored_by": ("varchar", "`estimator`, or `rfm_fallback`."),
}
SCORE_REASONS = {
    "profile_id": ("varchar", "The profile."),
    "target": ("varchar", "The leading purchase target, or `churn`."),
    "rank": ("bigint", "1 for the strongest reason to 3."),
    "subject": ("varchar", "What the reason is about: orders, visits, cart …"),
    "effect": (
        "double",
        "What it adds to the log-odds of the target, against the typical profile.",
    ),
    "reason": ("varchar", "What is known of it, in words."),
}
DRIFT = {
    "estimator_id": ("varchar", "The estimator in use."),
    "kind": ("varchar", "`feature`, or `base_rate` of a target."),
    "name": ("varchar", "The feature or target."),
    "stability_index": (
        "double",
        "Population stability index of those scored now, or of the newest cutoff, "
        "against those learnt from.",
    ),
    "is_drifted": ("boolean", "Whether it is 0.25 or more."),
}
ESTIMATORS = {
    "estimator_id": ("varchar", "Hash of training cutoff, features, recipe and data."),
    "target": (
        "varchar",
        "`purchase_30d` and the like, or `churn`; `all` of one that was set aside.",
    ),
    "training_cutoff_at": ("timestamp", "Labels end here, UTC."),
    "classifier_cutoff_at": (
        "timestamp",
        "What the one in use learnt up to; earlier where the newest was refused, UTC.",
    ),
    "horizon_days": ("bigint", "Days it looks ahead; null: each profile's own cycle."),
    "is_in_use": ("boolean", "Whether this run scored with it."),
    "scored_by": ("varchar", "`estimator`, or `rfm_fallback`."),
    "refusal_reason": (
        "varchar",
        "Why the newest may not be used: `too_few_outcomes`, `not_better_than_rfm`, "
        "`miscalibrated`, `leak` or `id_like`; `damaged` for one that could not be "
        "read and was set aside; null where it may.",
    ),
    "refusal_detail": ("varchar", "The same with its numbers."),
    "example_count": (
        "bigint",
        "Examples, of a profile at a cutoff each, it was fitted on.",
    ),
    "positive_count": ("bigint", "Those of them with the outcome."),
    "feature_count": ("bigint", "Features it reads."),
    "verdict": (
        "varchar",
        "Which did better out of time, it or the RFM baseline, by how much, how surely "
        "and at which cutoffs.",
    ),
    "tested_cutoff_at": (
        "timestamp",
        "The newest cutoff it was tested at, unseen, UTC.",
    ),
    "tested_cutoff_count": (
        "bigint",
        "Cutoffs it was tested at; the measures are of all of them together.",
    ),
    "auc": ("double", "Out of time: how well it ranks; 0.5 is chance."),
    "log_loss": ("double", "Out of time; smaller is better."),
    "brier_score": ("double", "Out of time; smaller is better."),
    "calibration_error": ("double", "Out of time: mean gap of promise and outcome."),
    "calibration_in_the_large": (
        "double",
        "Out of time: what was promised on the whole beyond what came true.",
    ),
    "baseline_auc": ("double", "The same for the RFM baseline."),
    "baseline_log_loss": ("double", "The same for the RFM baseline."),
    "baseline_brier_score": ("double", "The same for the RFM baseline."),
    "baseline_calibration_error": ("double", "The same for the RFM baseline."),
    "baseline_calibration_in_the_large": ("double", "The same for the RFM baseline."),
    "code_version": ("varchar", "Commit of the code that trained it."),
    "library_versions": ("varchar", "What it was fitted with, JSON."),
}
CALIBRATION = {
    "estimator_id": ("varchar", "The estimator in use."),
    "target": ("varchar", "`purchase_30d` and the like, or `churn`."),
    "scored_by": ("varchar", "`estimator`, or `rfm_fallback`."),
    "bin": ("bigint", "1 for the lowest tenth of predictions to 10 for the highest."),
    "profile_count": ("bigint", "Profiles of the tested cutoff in this bin."),
    "predicted_rate": ("double", "What was promised for them, on average."),
    "observed_rate": ("double", "How many of them had the outcome."),
    "lift": ("double", "How many times as often as among all tested."),
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
            "dagster/column_schema": documented(columns),
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
            ("features", "labels", "overrides"),
        ),
        asset_spec(
            "horizon_scores",
            "One row per profile and horizon: how likely it is to buy within it.",
            HORIZON_SCORES,
            ("features", "labels"),
        ),
        asset_spec(
            "score_reasons",
            "One row per profile, target and one of its three strongest reasons: what "
            "raised or lowered the score, in words.",
            SCORE_REASONS,
            ("features", "labels", "overrides"),
        ),
        asset_spec(
            "drift",
            "One row per feature, and per target's base rate: how far those scored now "
            "have moved from those learnt from.",
            DRIFT,
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
def score(
    context: dg.AssetExecutionContext, home: Home
) -> Iterator[dg.MaterializeResult[None]]:
    """Train when due, score everybody, write the `ml` tables."""
    from ml import drift, propensity, reasons, store

    with home.warehouse.connect(read_only=True) as connection:
        run = fetch_frame(connection, RUN).row(0, named=True)
        features = fetch_frame(connection, FEATURES)
        left_out = fetch_frame(connection, EXCLUDED)
        base_rates = fetch_frame(connection, BASE_RATES)
        estimator = choose_estimator(home, connection, run, features)
    features = features.join(left_out, on="profile_id", how="anti")
    scores, horizon_scores = propensity.score(estimator, features, run["as_of"])
    tables = {
        "scores": propensity.leave_out(scores, left_out),
        "horizon_scores": horizon_scores,
        "score_reasons": pl.concat(
            [
                reasons.explain(estimator, features),
                reasons.explain_left_out(estimator, left_out),
            ]
        ),
        "drift": drift.drift_table(
            estimator.estimator_id, estimator.spreads, features, base_rates
        ),
        "estimators": store.summarize(
            home.estimators, run["training_cutoff_at"], estimator.estimator_id
        ),
        "calibration": propensity.calibration_table(estimator),
    }
    with home.warehouse.connect() as connection:
        for name, frame in tables.items():
            replace_table(connection, f"ml.{name}", frame)
    home.record(context)
    describe = {
        "scores": describe_scores,
        "horizon_scores": describe_horizons,
        "score_reasons": describe_reasons,
        "drift": describe_drift,
        "estimators": describe_estimators,
        "calibration": describe_calibration,
    }
    for name, frame in tables.items():
        yield result_of(name, frame, describe[name](frame))


def choose_estimator(
    home: Home, connection: Connection, run: Mapping[str, Any], features: pl.DataFrame
) -> "Estimator":
    """The stored estimator of this run's training cutoff, else a new one, stored."""
    from ml import encoding, propensity, store

    settings, trained_at = home.settings, run["training_cutoff_at"]
    horizons = tuple(run["horizons_days"])
    columns = encoding.feature_columns(features)
    stored = store.find(
        home.estimators, trained_at, horizons, propensity.RECIPE, columns
    )
    if stored is not None and not stored.lacks_data:
        return stored
    examples = fetch_frame(connection, EXAMPLES)
    labels = fetch_frame(connection, LABELS)
    if stored is not None and stored.has_seen(examples, labels):
        return stored
    trained = propensity.train(
        examples,
        labels,
        features,
        trained_at,
        horizons,
        last_good=store.find_last_good(
            home.estimators,
            trained_at,
            timedelta(days=settings.estimator_days),
            propensity.RECIPE,
            columns,
        ),
        code_version=code_version(),
    )
    store.save(trained, home.estimators)
    return trained


def result_of(
    name: str, frame: pl.DataFrame, metadata: Mapping[str, Any]
) -> dg.MaterializeResult[None]:
    """What the UI shows of one written table."""
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
            for scored_by in ("estimator", "rfm_fallback", "override")
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


def describe_horizons(horizon_scores: pl.DataFrame) -> dict[str, Any]:
    """How likely profiles are to buy within each horizon."""
    return {
        "table": markdown_table(
            horizon_scores.group_by("horizon_days", "scored_by")
            .agg(
                profile_count=pl.len(),
                mean_propensity=pl.col("purchase_propensity").mean().round(4),
            )
            .sort("horizon_days")
        )
    }


def describe_reasons(score_reasons: pl.DataFrame) -> dict[str, Any]:
    """What moves scores most, and some profiles' reasons."""
    subjects = (
        score_reasons.group_by("target", "subject")
        .agg(
            profile_count=pl.len(),
            mean_effect=pl.col("effect").abs().mean().round(3),
        )
        .sort("profile_count", "target", "subject", descending=[True, False, False])
    )
    return {
        "table": markdown_table(
            score_reasons.with_columns(pl.col("profile_id").str.head(8))
        ),
        "chart": bar_chart(
            subjects,
            title="Profiles by what moves their score",
            label="subject",
            value="profile_count",
            series="target",
        ),
    }


def describe_drift(moved: pl.DataFrame) -> dict[str, Any]:
    """What moved most, and how much has moved far."""
    return {
        "drifted_count": moved.filter("is_drifted").height,
        "largest_stability_index": moved["stability_index"].max(),
        "table": markdown_table(moved.drop("estimator_id")),
        "chart": bar_chart(
            moved.head(20),
            title="Population stability index; 0.25 is much",
            label="name",
            value="stability_index",
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
                *("target", "scored_by", "refusal_reason", "refusal_detail", "verdict"),
                *("example_count", "positive_count"),
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
        "lift_chart": line_chart(
            calibration,
            title="Lift by tenth of predictions, out of time",
            x="bin",
            y="lift",
            series="target",
        ),
    }
