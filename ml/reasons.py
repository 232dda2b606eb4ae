"""Why a profile is scored as it is: its three strongest contributions, in words.

What a group of features contributes is measured on the estimator itself; the words only
say what the features hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from ml.propensity import CHUNK, Estimator, Predictor

REASONS = 3
# Less than this makes no difference that anybody would see in a score.
MIN_EFFECT = 0.005

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "profile_id": pl.String,
    "target": pl.String,
    "rank": pl.Int64,
    "subject": pl.String,
    "effect": pl.Float64,
    "reason": pl.String,
}


@dataclass(frozen=True)
class Subject:
    """Features about one thing, and how to word it."""

    name: str
    features: tuple[str, ...]
    words: pl.Expr


def number(column: str) -> pl.Expr:
    """A feature as text, without trailing zeros."""
    text = pl.col(column).cast(pl.Float64).round(2).cast(pl.String)
    return text.str.strip_suffix(".0")


def count(column: str, one: str, many: str) -> pl.Expr:
    """A number of things, in the right number."""
    amount = pl.col(column).fill_null(0)
    words = pl.format("{} {}", amount, pl.lit(many))
    return (
        pl.when(amount == 0)
        .then(pl.lit(f"no {one}"))
        .when(amount == 1)
        .then(pl.lit(f"one {one}"))
        .otherwise(words)
    )


def ago(column: str) -> pl.Expr:
    """So many days before the moment looked back from."""
    days = pl.col(column)
    return (
        pl.when(days == 0)
        .then(pl.lit("today"))
        .when(days == 1)
        .then(pl.lit("yesterday"))
        .otherwise(pl.format("{} days ago", days))
    )


def say_orders() -> pl.Expr:
    """How often and when last it bought."""
    times = pl.when(pl.col("order_count") == 1).then(
        pl.format("bought once, {}", ago("days_since_last_order"))
    )
    often = pl.format(
        "bought {} times, last {}", pl.col("order_count"), ago("days_since_last_order")
    )
    never = pl.col("order_count").fill_null(0) == 0
    return pl.when(never).then(pl.lit("never bought")).otherwise(times.otherwise(often))


def say_rhythm() -> pl.Expr:
    """How steadily it buys."""
    return (
        pl.when(pl.col("days_between_orders").is_null())
        .then(pl.lit("no rhythm of orders yet"))
        .otherwise(
            pl.format("usually {} days between orders", number("days_between_orders"))
        )
    )


def say_spend() -> pl.Expr:
    """How much it spent."""
    return (
        pl.when(pl.col("order_count").fill_null(0) == 0)
        .then(pl.lit("spent nothing yet"))
        .otherwise(
            pl.format(
                "spent {} in all, {} an order",
                number("revenue_amount"),
                number("average_order_amount"),
            )
        )
    )


def say_visits() -> pl.Expr:
    """How often and when last it came."""
    return (
        pl.when(pl.col("days_since_last_session").is_null())
        .then(pl.lit("never visited"))
        .otherwise(
            pl.format(
                "{} in 30 days, last {}",
                count("session_30d_count", "visit", "visits"),
                ago("days_since_last_session"),
            )
        )
    )


SUBJECTS = (
    Subject(
        "orders",
        (
            *("order_count", "order_day_count", "store_order_count"),
            *("order_month_count", "orders_per_30d"),
            *("days_since_last_order", "days_since_first_order"),
            *("days_from_first_to_last_order", "online_order_90d_count"),
            *(f"order_{days}d_count" for days in (7, 14, 30, 60, 90, 180, 365)),
        ),
        say_orders(),
    ),
    Subject(
        "rhythm",
        (
            *("days_between_orders", "last_days_between_orders"),
            *("longest_days_between_orders", "spread_days_between_orders"),
            *("overdue_ratio", "churn_cycle_days", "horizon_days"),
        ),
        say_rhythm(),
    ),
    Subject(
        "spend",
        (
            *("revenue_amount", "average_order_amount", "first_order_amount"),
            *("last_order_amount", "largest_order_amount"),
            *(f"order_{days}d_amount" for days in (7, 14, 30, 60, 90, 180, 365)),
        ),
        say_spend(),
    ),
    Subject(
        "visits",
        (
            "days_since_last_session",
            *(f"session_{days}d_count" for days in (7, 30, 90)),
        ),
        say_visits(),
    ),
    Subject(
        "interest",
        tuple(f"product_view_{days}d_count" for days in (7, 30, 90)),
        pl.format(
            "{} in 30 days",
            count("product_view_30d_count", "product viewed", "products viewed"),
        ),
    ),
    Subject(
        "cart",
        tuple(
            f"{thing}_{days}d_count"
            for thing in ("cart_add", "checkout")
            for days in (7, 30, 90)
        ),
        pl.format(
            "{} and {} in 30 days",
            count("cart_add_30d_count", "product carted", "products carted"),
            count("checkout_30d_count", "checkout begun", "checkouts begun"),
        ),
    ),
    Subject(
        "messages",
        ("message_click_90d_count", "message_open_90d_count"),
        pl.format(
            "{} and {} in 90 days",
            count("message_click_90d_count", "message clicked", "messages clicked"),
            count("message_open_90d_count", "message opened", "messages opened"),
        ),
    ),
    Subject(
        "service",
        ("service_issue_90d_count", "refund_count", "cancellation_count"),
        pl.format(
            "{} in 90 days, {}, {}",
            count("service_issue_90d_count", "complaint", "complaints"),
            count("refund_count", "refund", "refunds"),
            count("cancellation_count", "order cancelled", "orders cancelled"),
        ),
    ),
    Subject("offers", ("coupon_count",), count("coupon_count", "coupon", "coupons")),
    Subject(
        "acquaintance",
        ("days_since_first_seen", "days_since_last_seen"),
        pl.format(
            "known for {} days, last seen {}",
            pl.col("days_since_first_seen"),
            ago("days_since_last_seen"),
        ),
    ),
)


def explain(estimator: Estimator, features: pl.DataFrame) -> pl.DataFrame:
    """One row per profile, target and rank: what raised or lowered the score most.

    Targets are purchase within the leading horizon, and churn. `effect` is in log-odds
    of the target: by how much they exceed those of the same profile with the subject
    as the typical profile has it. Strongest first, three at most; what changes nothing
    is no reason.
    """
    features = features.sort("profile_id")
    parts = [
        explain_chunk(predictor, chunk, list_subjects(predictor))
        for predictor in (estimator.predictors[0], estimator.predictors[-1])
        for chunk in features.iter_slices(CHUNK)
    ]
    return pl.concat([pl.DataFrame(schema=SCHEMA), *parts]).sort(
        "profile_id", "target", "rank"
    )


def explain_left_out(estimator: Estimator, left_out: pl.DataFrame) -> pl.DataFrame:
    """One row per target and profile that nobody may score, with the `reason` given."""
    return pl.concat(
        left_out.select(
            "profile_id",
            pl.lit(predictor.target.name).alias("target"),
            pl.lit(1, pl.Int64).alias("rank"),
            pl.lit("override").alias("subject"),
            pl.lit(None, pl.Float64).alias("effect"),
            "reason",
        )
        for predictor in (estimator.predictors[0], estimator.predictors[-1])
    )


def list_subjects(predictor: Predictor) -> Sequence[Subject]:
    """The subjects that a predictor may read; a feature of no subject is its own."""
    if predictor.classifier is None:
        return ()
    columns = predictor.classifier.columns
    known = {feature for subject in SUBJECTS for feature in subject.features}
    shared = [
        Subject(
            subject.name,
            tuple(feature for feature in subject.features if feature in columns),
            subject.words,
        )
        for subject in SUBJECTS
    ]
    own = [
        Subject(
            column, (column,), pl.format(f"{column.replace('_', ' ')}: {{}}", column)
        )
        for column in columns
        if column not in known
    ]
    return [subject for subject in (*shared, *own) if subject.features]


def explain_chunk(
    predictor: Predictor, features: pl.DataFrame, subjects: Sequence[Subject]
) -> pl.DataFrame:
    """The reasons of some profiles for one target."""
    if not subjects or features.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    with threadpool_limits(1):
        effects = predictor.effects(
            predictor.encode(features), [subject.features for subject in subjects]
        ).round(4)
    strongest = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :REASONS]
    words = features.select(
        subject.words.fill_null("unknown").alias(subject.name) for subject in subjects
    )
    names = pl.Series([subject.name for subject in subjects])
    parts = []
    for rank, places in enumerate(strongest.T, 1):
        parts.append(
            features.select("profile_id")
            .with_columns(
                pl.lit(predictor.target.name).alias("target"),
                pl.lit(rank).cast(pl.Int64).alias("rank"),
                names[places].alias("subject"),
                pl.Series("effect", effects[np.arange(len(places)), places]),
            )
            .with_columns(words)
            .with_columns(
                pl.coalesce(
                    pl.when(pl.col("subject") == subject.name).then(subject.name)
                    for subject in subjects
                ).alias("reason")
            )
            .filter(pl.col("effect").abs() >= MIN_EFFECT)
            .select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
        )
    return pl.concat(parts)
