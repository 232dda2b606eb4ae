"""From landed events to credits: what counts as a touch, and what of it is one."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import TestHome, moment
from tests.resolving import Journal, resolve

DAY, MINUTE, SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
NOON = moment("2026-01-31T12:00")
AS_OF = moment("2026-07-01")


class Shoppers(Journal):
    """People who meet messages, come by ads and buy, each under a name of a test."""

    def message(
        self, person: str, at: datetime, event: str, name: str = "spring", **more: Any
    ) -> None:
        channel = event.split(maxsplit=1)[0]
        properties = {
            "campaign_id": f"{name}-id",
            "campaign_name": name,
            "message_id": f"{person}-{channel}-{name}",
            "email_id": f"{person}-{channel}-{name}",
        }
        self.add(at, event, {**properties, **more}, user=person)

    def visit(
        self,
        person: str,
        at: datetime,
        url: str = "https://shop.example/",
        **campaign: str,
    ) -> None:
        context: dict[str, Any] = {"page": {"url": url}}
        if campaign:
            context["campaign"] = campaign
        self.write(at, type="page", name="Home", user=person, context=context)

    def buy(self, person: str, at: datetime, order: str = "", **more: Any) -> None:
        properties = {"order_id": order or f"{person}-order", "revenue": 30}
        self.add(
            at,
            "Order Completed",
            {**properties, "currency": "USD", **more},
            user=person,
        )

    def change(self, person: str, at: datetime, event: str, **more: Any) -> None:
        order = {"order_id": f"{person}-order", "currency": "USD"}
        self.add(at, event, {**order, **more}, user=person)


def write_scenarios() -> list[dict[str, Any]]:
    shop = Shoppers("touches")
    shop.message("windows", NOON - 10 * DAY, "Email Delivered")
    shop.message("windows", NOON - 5 * DAY, "SMS Delivered")
    shop.buy("windows", NOON)

    shop.visit("click_id", NOON - DAY, "https://shop.example/?gclid=abc")
    shop.buy("click_id", NOON)

    shop.visit("later_event", NOON - 20 * MINUTE)
    shop.visit(
        "later_event", NOON - 10 * MINUTE, source="google", medium="cpc", name="a"
    )
    shop.buy("later_event", NOON)

    shop.visit(
        "second_ad", NOON - 20 * MINUTE, source="news", medium="partner", name="p"
    )
    shop.visit("second_ad", NOON - 10 * MINUTE, source="google", medium="cpc", name="a")
    shop.buy("second_ad", NOON)

    shop.message("machine", NOON - DAY, "Email Delivered")
    shop.message("machine", NOON - DAY + SECOND, "Email Link Clicked", is_bot=True)
    shop.buy("machine", NOON)

    shop.message("own_label", NOON - DAY, "Email Delivered")
    shop.message("own_label", NOON - 10 * MINUTE, "Email Link Clicked")
    shop.visit(
        "own_label",
        NOON - 10 * MINUTE + 2 * SECOND,
        source="crm",
        medium="news",
        name="x",
    )
    shop.visit("own_label", NOON - 5 * MINUTE, source="google", medium="cpc", name="a")
    shop.buy("own_label", NOON)

    shop.message("two_campaigns", NOON - 2 * DAY, "Email Delivered", "spring")
    shop.message("two_campaigns", NOON - DAY, "Email Delivered", "summer")
    shop.buy("two_campaigns", NOON)
    shop.buy("two_campaigns", NOON + MINUTE)

    for person in ("cancelled", "refunded", "partly_refunded"):
        shop.message(person, NOON - DAY, "Email Delivered")
        shop.buy(person, NOON)
    shop.change("cancelled", NOON + DAY, "Order Cancelled")
    shop.change("refunded", NOON + DAY, "Order Refunded", total=30)
    shop.change("partly_refunded", NOON + DAY, "Order Refunded", total=12)

    shop.message("nothing_bought", NOON, "Email Delivered")
    shop.buy("nothing_met", NOON)
    return shop.events


@pytest.fixture(scope="module")
def shop(new_home: Callable[[str], TestHome]) -> TestHome:
    home = new_home("touches")
    home.settings.seeds.mkdir(parents=True)
    (home.settings.seeds / "lookback_windows.csv").write_text(
        "channel,lookback_days\nemail,30\nsms,3\n"
    )
    events = write_scenarios()
    late, timely = events[::7], [e for n, e in enumerate(events) if n % 7]
    for event in late:
        # a tracker that was offline for 150 days sends what it kept
        event["receivedAt"] = "2026-06-30T00:00:00Z"
    home.land(timely, "timely.ndjson")
    home.land(late, "late.ndjson")
    resolve(home, AS_OF, ("+path_performance",))
    return home


def credits(shop: TestHome, person: str, model: str) -> list[tuple[Any, ...]]:
    """Channel, credit and revenue of each touch, the oldest first."""
    return list(
        shop.read(
            f"""
            select credits.channel, credits.credit, credits.revenue_amount
            from attribution.credits
            inner join attribution.conversions using (conversion_id)
            left join attribution.touchpoints using (touchpoint_id)
            where order_id = '{person}-order' and attribution_model = '{model}'
            order by touched_at
            """
        ).iter_rows()
    )


def touches(shop: TestHome, person: str) -> list[tuple[Any, ...]]:
    return list(
        shop.read(
            f"""
            select channel, interaction from attribution.touchpoints
            inner join identity.identity_map using (profile_id)
            where identifier_type = 'user_id' and identifier = '{person}'
            order by touched_at
            """
        ).iter_rows()
    )


def test_who_buys_after_the_window_of_one_channel_is_credited_to_the_other(
    shop: TestHome,
) -> None:
    assert [channel for channel, _ in touches(shop, "windows")] == ["email", "sms"]
    assert credits(shop, "windows", "linear") == [("email", 1, 30)]


def test_a_visit_that_only_a_click_id_explains_is_paid_search(shop: TestHome) -> None:
    assert credits(shop, "click_id", "last_touch") == [("cpc", 1, 30)]


def test_a_campaign_on_a_later_event_of_the_visit_is_a_touch(shop: TestHome) -> None:
    assert touches(shop, "later_event") == [("cpc", "session")]


def test_a_second_ad_in_mid_visit_is_a_second_touch(shop: TestHome) -> None:
    assert credits(shop, "second_ad", "linear") == [
        ("partner", Decimal("0.5"), 15),
        ("cpc", Decimal("0.5"), 15),
    ]


def test_a_machines_click_does_not_engage(shop: TestHome) -> None:
    assert touches(shop, "machine") == [("email", "delivered")]


def test_a_visit_that_a_message_caused_is_its_touch_whatever_its_label(
    shop: TestHome,
) -> None:
    assert touches(shop, "own_label") == [("email", "session"), ("cpc", "session")]


def test_a_purchase_after_two_campaigns_converts_once(shop: TestHome) -> None:
    found = credits(shop, "two_campaigns", "linear")
    assert found == [("email", Decimal("0.5"), 15), ("email", Decimal("0.5"), 15)]


def test_what_was_cancelled_or_given_back_is_not_credited(shop: TestHome) -> None:
    assert credits(shop, "cancelled", "markov") == []
    assert credits(shop, "refunded", "markov") == []
    assert credits(shop, "partly_refunded", "markov") == [("email", 1, 18)]


def test_a_purchase_without_touch_and_a_touch_without_purchase_are_kept(
    shop: TestHome,
) -> None:
    assert credits(shop, "nothing_met", "shapley") == [("none", 1, 30)]
    paths = shop.read(
        """
        select path_kind, path from attribution.paths
        inner join identity.identity_map using (profile_id)
        where identifier = 'nothing_bought'
        """
    )
    assert paths.rows() == [("path_to_non_conversion", "email")]


def test_no_join_doubles_revenue(shop: TestHome) -> None:
    sums = shop.read(
        """
        select attribution_model, sum(revenue_amount) as credited, count(distinct
            conversion_id) as conversions
        from attribution.credits group by attribution_model
        """
    )
    # nine orders at 30, of which one gave back 12
    assert set(sums["credited"]) == {9 * 30 - 12}
    assert set(sums["conversions"]) == {9}
    assert len(sums) == 7
