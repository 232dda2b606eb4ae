"""RFM against a separate computation in polars, from the source, to the row."""

import hashlib
import os
import random
from collections.abc import Callable
from datetime import datetime, timedelta

import polars as pl
from polars.testing import assert_frame_equal

from tests.conftest import TestHome, moment
from tests.resolving import RETAIL_AS_OF, Journal, resolve

COLUMNS = [
    "profile_id",
    "recency_days",
    "frequency",
    "monetary_amount",
    "recency_score",
    "frequency_score",
    "monetary_score",
]
MONEY = pl.Decimal(18, 2)


def profile_id(identifier_type: str, identifier: str) -> str:
    """The id of a profile whose oldest identifier this is."""
    digest = hashlib.md5(f"{identifier_type}␟{identifier}".encode()).hexdigest()
    parts = (digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:])
    return "-".join(parts)


def quintiles(frame: pl.DataFrame, by: str, *, descending: bool) -> pl.Series:
    """1 to 5 by rank, larger groups first; equals share a group.

    That of the best of them where less is better, else that of the worst.
    """
    size, larger = divmod(frame.height, 5)
    groups = [g for g in range(1, 6) for _ in range(size + (g <= larger))]
    scores: dict[object, int] = {}
    for value, group in zip(frame[by].sort(descending=descending), groups, strict=True):
        scores[value] = group if descending else scores.get(value, group)
    return pl.Series([scores[value] for value in frame[by]], dtype=pl.Int32)


def expected_rfm(
    orders: pl.DataFrame, unlinked_refunds: pl.DataFrame, as_of: datetime
) -> pl.DataFrame:
    """RFM from (profile_id, ordered_at, amount) and (profile_id, amount)."""
    rfm = (
        orders.group_by("profile_id")
        .agg(
            last=pl.col("ordered_at").max(),
            frequency=pl.len().cast(pl.Int64),
            earned=pl.col("amount").sum(),
        )
        .join(
            unlinked_refunds.group_by("profile_id").agg(
                refunded=pl.col("amount").sum()
            ),
            on="profile_id",
            how="left",
        )
        .with_columns(
            recency_days=(pl.lit(as_of) - pl.col("last")).dt.total_days(),
            monetary_amount=(pl.col("earned") - pl.col("refunded").fill_null(0)).cast(
                MONEY
            ),
        )
    )
    return rfm.with_columns(
        recency_score=quintiles(rfm, "recency_days", descending=True),
        frequency_score=quintiles(rfm, "frequency", descending=False),
        monetary_score=quintiles(rfm, "monetary_amount", descending=False),
    ).select(COLUMNS)


def assert_rfm_equals(home: TestHome, expected: pl.DataFrame) -> None:
    found = home.read(f"select {', '.join(COLUMNS)} from profiles.rfm")
    assert_frame_equal(
        found.sort("profile_id"), expected.sort("profile_id"), check_dtypes=False
    )


def test_rfm_equals_a_separate_computation(new_home: Callable[[str], TestHome]):
    rng = random.Random(20)
    as_of = moment("2026-03-01T12:00:00")
    log = Journal("rfm")
    orders, refunds = [], []
    for number in range(400):
        person = rng.randrange(60)
        kind, key = (
            ({"browser": f"guest-{person}"}, ("anonymous_id", f"guest-{person}"))
            if person % 4 == 0
            else ({"user": f"buyer-{person}"}, ("user_id", f"buyer-{person}"))
        )
        at = as_of - timedelta(seconds=rng.randrange(1, 300 * 86400))
        cents, later = rng.randrange(500, 9000), at + timedelta(minutes=5)
        order = {"order_id": f"o-{number}"}
        revenue = {"revenue": cents / 100, "currency": "USD"}
        log.add(at, "Order Completed", {**order, **revenue, "total": 999}, **kind)
        fate = rng.choice(("kept", "kept", "kept", "part", "whole", "cancelled"))
        if fate == "cancelled":
            log.add(later, "Order Cancelled", order, **kind)
        elif fate == "whole":
            log.add(later, "Order Refunded", {**order, **revenue}, **kind)
        elif fate == "part":
            part = {"revenue": 1.25, "currency": "USD"}
            log.add(later, "Order Refunded", {**order, **part}, **kind)
        elif number % 10 == 0:
            lost = {"order_id": f"unknown-{number}", "revenue": 2, "currency": "USD"}
            log.add(later, "Order Refunded", lost, **kind)
            if later + timedelta(seconds=1) <= as_of:
                refunds.append((profile_id(*key), 200))
        if at + timedelta(seconds=1) > as_of:
            continue
        is_known = later + timedelta(seconds=1) <= as_of
        if not (fate == "cancelled" and is_known):
            taken = {"whole": cents, "part": 125}.get(fate, 0) if is_known else 0
            orders.append((profile_id(*key), at, cents - taken))
    cents = (pl.col("amount") / 100).round(2).cast(MONEY)
    home = new_home("rfm")
    home.land(log.events)
    resolve(home, as_of)
    assert_rfm_equals(
        home,
        expected_rfm(
            pl.DataFrame(
                orders, schema=["profile_id", "ordered_at", "amount"], orient="row"
            ).with_columns(cents),
            pl.DataFrame(
                refunds, schema=["profile_id", "amount"], orient="row"
            ).with_columns(cents),
            as_of,
        ),
    )


def test_rfm_of_real_customers_equals_a_separate_computation(retail_home: TestHome):
    as_of, home = RETAIL_AS_OF, retail_home
    assert home.read(
        "select event, type, count(*) from raw.events group by all order by all"
    ).rows() == [
        ("Order Completed", "track", 19_959),
        ("Order Refunded", "track", 3_836),
        (None, "identify", 4_371),
    ]

    goods = pl.col("UnitPrice").cast(pl.Decimal(18, 3)) * pl.col("Quantity")
    invoices = (
        pl.read_parquet(os.environ["REKINDLE_TEST_RETAIL"])
        .with_columns(
            shipping=pl.col("StockCode").is_in(["POST", "DOT", "C2"]), goods=goods
        )
        .group_by("InvoiceNo")
        .agg(
            customer=pl.col("CustomerID").first(),
            ordered_at=pl.col("InvoiceDate").min(),
            amount=pl.col("goods").filter(~pl.col("shipping")).sum(),
            is_priced=(pl.col("UnitPrice") > 0).any(),
        )
        .filter("is_priced", ~pl.col("InvoiceNo").str.starts_with("A"))
        .with_columns(
            pl.col("amount").cast(pl.Float64).round(2).cast(MONEY),
            pl.col("ordered_at").dt.replace_time_zone(None),
            is_refund=pl.col("InvoiceNo").str.starts_with("C"),
            profile_id=pl.struct("customer", "InvoiceNo").map_elements(
                lambda row: (
                    profile_id("anonymous_id", f"guest_{row['InvoiceNo']}")
                    if row["customer"] is None
                    else profile_id("user_id", f"or_{int(row['customer'])}")
                ),
                return_dtype=pl.String,
            ),
        )
    )
    assert_rfm_equals(
        home,
        expected_rfm(
            invoices.filter(~pl.col("is_refund")),
            invoices.filter("is_refund").with_columns(-pl.col("amount")),
            as_of,
        ),
    )
