"""Whatever sources send is understood, or reported and read with care.

All persons live in one home that is built once, up to their profiles: shoppers whose
orders are told oddly, one person per opt-out that a vendor has a name for, and one per
field and value that no field expects.
"""

import json
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import count
from random import Random
from typing import Any

import polars as pl
import pytest

from orchestration.settings import PROJECT, Settings
from tests.conftest import TestHome
from tests.resolving import Journal, resolve

START = datetime(2026, 3, 2, 9)
AS_OF = datetime(2026, 3, 20)
SEEDS = PROJECT / "dbt_project" / "seeds"
CHANNELS = ("email", "sms", "push")

EVENTS = pl.read_csv(SEEDS / "semantic_events.csv")
SPELLINGS = pl.read_csv(SEEDS / "spellings.csv", infer_schema=False)


def letters(text: str) -> str:
    """The letters and digits of a text, in lower case."""
    return "".join(sign for sign in text.lower() if sign.isalnum())


def other_spellings(name: str) -> Iterator[str]:
    """The same name as other sources write it."""
    words = re.findall(r"[A-Za-z0-9]+", name)
    yield "_".join(words).lower()
    yield "-".join(words).upper()
    yield f"  {' '.join(words)} "
    yield "".join(word.title() for word in words)


# --- shoppers -------------------------------------------------------------------------


@dataclass
class Shop:
    """Writes what shoppers do; each has a user id of their own."""

    journal: Journal
    clock: datetime = START

    def tell(
        self, user: str, event: str, after_hours: float = 0, **properties: Any
    ) -> str:
        """One track call, a minute after the one before it."""
        self.clock += timedelta(minutes=1)
        at = self.clock + timedelta(hours=after_hours)
        return self.journal.add(at, event, properties, user=user, browser=f"b-{user}")


def go_shopping(journal: Journal) -> None:
    """Orders, carts and refunds as shops with other habits tell them."""
    shop = Shop(journal)
    tell = shop.tell
    # refunds numbered per order, or not at all
    for user, number in (("olga", 1), ("olaf", 1), ("omar", 0), ("otto", 0)):
        tell(user, "Order Completed", order_id=f"{user}-1", revenue=50)
        for amount in (10, 5) if number == 0 else (10,):
            tell(
                user,
                "Order Refunded",
                order_id=f"{user}-1",
                refund_id=number,
                amount=amount,
            )
    # money that comes back in another currency
    tell("dora", "Order Completed", order_id="D-1", revenue=200, currency="EUR")
    tell("dora", "Order Refunded", order_id="D-1", total=108, currency="USD")
    tell("emil", "Order Completed", order_id="E-1", revenue=200, currency=" usd")
    tell("emil", "Order Refunded", order_id="E-1", total=50, currency="GBP")
    tell("fred", "Order Completed", order_id="F-1", revenue=80, currency="USD")
    tell("fred", "Order Refunded", order_id="F-1", total=9000, currency="XAF")
    tell("gala", "Order Completed", order_id="G-1", revenue=75, currency="XAF")
    tell("gert", "Order Completed", order_id="G-2", revenue=75, currency="Thalers")
    # keys and names of other tools
    tell("hans", "purchase", transaction_id="H-1", value="41.50", currencyCode="USD")
    tell("hans", "Purchase ", **{"Transaction ID": "H-1", "VALUE": 41.5})
    # as GA4's data layer nests them
    tell(
        "gaia",
        "purchase",
        currency="USD",
        ecommerce={"transaction_id": "GA-1", "value": 20, "currency": "EUR"},
    )
    tell("gaia", "purchase", transaction_id="GA-2", value=30, ecommerce="yes")
    tell(
        "iris",
        "order_created",
        orderId="I-1",
        totalPrice=60,
        line_items=[{"productId": "vase", "title": "Vase", "unitPrice": 30, "qty": 2}],
    )
    tell("iris", "Order Paid", after_hours=30, orderId="I-1", totalPrice=60)
    tell("iris", "refund", orderId="I-1", amount=10)
    tell("jana", "Completed Order", order_number="J-1", subtotal=20)
    tell("jana", "Viewed Product", product_id="vase", category="Decor")
    # what a refund without an amount gives back
    lines = [{"product_id": "cup", "price": 12}, {"product_id": "jug", "price": 30}]
    for user, refund in {
        "kira": {},
        "kurt": {"total": "n/a"},
        "karl": {"products": [{"product_id": "cup", "quantity": 1}]},
        "kate": {"products": [{"product_id": "lid"}]},
    }.items():
        tell(user, "Order Completed", order_id=user, revenue=42, products=lines)
        tell(user, "Order Refunded", order_id=user, **refund)
    # an update that has taken the refund off, and one that has not
    for user, revenue in {"lars": 60, "lena": 90, "lili": 55}.items():
        tell(user, "Order Completed", order_id=user, revenue=90)
        tell(user, "Order Refunded", order_id=user, total=30)
        tell(user, "Order Updated", order_id=user, revenue=revenue)
    tell("lola", "Order Completed", order_id="lola", revenue=90)
    tell("lola", "Order Updated", order_id="lola", revenue=80, currency="XAG")
    tell("luis", "Order Completed", order_id="luis", revenue=90)
    tell("luis", "Order Updated", order_id="luis", revenue=60)
    tell("luis", "Order Refunded", order_id="luis", total=30)
    # cancelled and refunded
    tell("mara", "Order Completed", order_id="M-1", revenue=90)
    tell("mara", "Order Canceled", order_id="M-1")
    tell("mara", "Order Refunded", order_id="M-1", total=90)
    # one order told twice, and reloaded pages of orders without an id
    for _ in range(2):
        tell("nele", "Order Completed", order_id="N-1", revenue=13)
        tell("nils", "Order Completed", revenue=14, order_id="undefined")
    tell("nora", "Order Completed", revenue=14, order_id="undefined")
    tell("nora", "Order Completed", revenue=15, order_id="undefined")
    tell("noel", "Order Completed", revenue=14)
    tell("noel", "Order Completed", after_hours=25, revenue=14)
    for number, nothing in enumerate(
        ("", "null", "None", "0", "00", "-", "N/A", "test", "(not set)", "{{id}}", {})
    ):
        tell(f"omar-{number}", "Order Completed", order_id=nothing, revenue=5)
        tell(f"olga-{number}", "Order Completed", order_id=nothing, revenue=5)
    # money without end
    tell("paul", "Order Completed", order_id="P-1", revenue=999_999_999_999.99)
    tell("pina", "Order Completed", order_id="P-2", revenue=1e12)
    # carts that are listed, not filled
    tell(
        "rosa",
        "Checkout Started",
        products=[
            {"product_id": "lamp", "category": "Light", "price": 60, "quantity": 2}
        ],
    )
    tell("rosa", "Cart Viewed", products=[{"product_id": "lamp", "price": 60}])
    tell(
        "rolf",
        "view_cart",
        items=[{"item_id": "lamp", "item_category": "Light", "price": "60"}],
    )
    tell("rolf", "remove_from_cart", items=[{"item_id": "lamp", "price": "60"}])
    tell(
        "rhea",
        "view_cart",
        ecommerce={"items": [{"item_id": "urn", "price": 9, "quantity": 3}]},
    )
    # machines that say what they are by their user agent alone
    for user, agent in (
        ("robo", "Mozilla/5.0 (compatible; Googlebot/2.1)"),
        ("rune", "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"),
        ("shop", "axios/1.7"),
    ):
        context = {"userAgent": agent}
        journal.write(START, type="page", user=user, name="Home", context=context)
        journal.add(
            START,
            "Order Completed",
            {"order_id": user, "revenue": 8},
            user=user,
            context=context,
        )
    tell("rene", "Product Added", product_id="rug", category="Floor", price=5)
    tell("rene", "Cart Viewed", products=[{"product_id": "rug", "price": 5}])
    tell("ruth", "Checkout Started", products=[{"product_id": "bed", "price": 7}])
    tell("ruth", "Order Completed", order_id="R-1", revenue=7)
    tell("ruth", "Checkout Started", products=[{"product_id": "bed", "price": 7}])
    tell(
        "rudi",
        "Product Added",
        product_id="pin",
        price=999_999_999_999,
        quantity=999_999,
    )
    # a campaign-wide id of another tool
    for user in ("sven", "sara"):
        tell(user, "Email Delivered", send_id="mailing-7", campaign_id="spring")
        tell(user, "Email Link Clicked", send_id="mailing-7", campaign_id="spring")
    # campaigns and traits in several spellings
    for number, medium in enumerate(
        ("email", "E-Mail", " e mail", "NEWSLETTER", "email_marketing")
    ):
        journal.write(
            START,
            type="page",
            user=f"tina-{number}",
            name="Home",
            context={"campaign": {"medium": medium, "name": "june"}},
        )
    for number, traits in enumerate(
        (
            {
                "email": "UMA-0@example.com",
                "firstName": "Uma",
                "phone": "+14155550100",
                "address": {"postalCode": "10115", "city": "Berlin"},
            },
            {
                "e-mail": "uma-1@example.com",
                "first_name": "Uma",
                "phoneNumber": "+14155550101",
                "address": {"zip": 10115, "City": "Berlin"},
            },
            {
                "Email Address": "uma-2@example.com",
                "fname": "Uma",
                "MOBILE": "+14155550102",
                "zip_code": "10115",
                "city": "Berlin",
            },
        )
    ):
        journal.identify(START, user=f"uma-{number}", traits=traits)
    journal.identify(
        START,
        user="uma-3",
        traits={
            "email": "",
            "Email_Address": "uma-3@example.com",
            "fname": None,
            "birthday": "31/12/1990",
            "phone": "call me",
        },
    )
    for number, stated in enumerate(({}, {"traits": {}})):
        user = f"ursa-{number}"
        journal.write(
            START,
            type="identify",
            user=user,
            context={"traits": {"email": f"{user}@example.com", "firstName": "Ursa"}},
            **stated,
        )
    # consents in several spellings
    for user, channel, status in (
        ("vera", "in-app", "denied"),
        ("vito", "Direct Mail", "Opted-Out"),
        ("vlad", "text", "FALSE"),
        ("vivi", "carrier pigeon", "unsubscribed"),
        ("vica", "carrier pigeon", "granted"),
        ("vola", "e_mail", "perhaps"),
        ("vala", "E-Mail", "Opted In"),
        ("vela", "email", None),
    ):
        tell(user, "Channel Consent Updated", channel=channel, status=status)
    tell(
        "vida",
        "Channel Consent Updated",
        channel="email",
        purpose="promos",
        status="no",
    )
    for user, preferences in (
        ("wera", {"Marketing": "no", "Analytics": True}),
        ("wido", {'odd "key"': False}),
        ("wika", {"C0002": False}),
        ("wolf", "yes"),
    ):
        journal.add(
            START,
            "Segment Consent Preference Updated",
            user=user,
            context={"consent": {"categoryPreferences": preferences}},
        )
    tell(
        "wina",
        "Segment Consent Preference Updated",
        advertising=True,
        Marketing=False,
        source="banner",
    )
    # names that nobody knows
    tell("xara", "Ordr Completed", order_id="X-1", revenue=9)
    tell("xeno", "Clicked The Opt Out Link 77")
    tell("xila", "Email Unsubcribed")
    tell("xola", "Sofa Sketched")


# --- ids, currencies and tools of other makes -----------------------------------------

# an order and what comes later under another spelling of its id
ONE_ORDER: tuple[tuple[Any, Any], ...] = (
    ("2346.0", "2346"),
    (2347, 2347.0),
    (2348.0, "2348"),
    ("#1001", "1001"),
    (1002, "#1002"),
    ("WEB-1", "web-1"),
    (" 1003 ", "1003"),
    ("1004\u00a0", 1004),
    ("'1005", "1005"),
    ('="1006"', "1006"),
    (["1007"], "1007"),
    ("gid://shopify/Order/5001234567890", 5001234567890),
    (5001234567891, "gid://shopify/Order/5001234567891?key=7d1"),
    (b64encode(b"gid://shopify/Order/5001234567892").decode(), "5001234567892"),
    ("gid://shopify/OrderIdentity/5001234567893", 5001234567893),
    # of one and the same person
    ("000000123", 123),
    ("Web-0009", "WEB-0009"),
    ("2026/17", "2026-17"),
)
TWO_ORDERS = (
    ("7001", "7001-1"),
    ("7002", "70020"),
    ("aBc7", "abC7"),
    ("gid://shopify/DraftOrder/7003", "7003"),
    ("7004.5", "7004"),
    ("7005.10", "7005.1"),
)
# what an order states of itself, and what comes later
ALSO_KNOWN_AS: tuple[tuple[dict[str, Any], dict[str, Any], bool], ...] = (
    ({"order_id": 88001, "order_number": 1201}, {"order_id": "#1201"}, True),
    ({"order_id": 88002, "order_name": "#1202"}, {"order_name": "1202"}, True),
    ({"order_id": 88003, "transaction_id": "ch_3"}, {"transaction_id": "ch_3"}, True),
    ({"order_id": "undefined", "order_number": 1204}, {"order_number": 1204}, True),
    (
        {"admin_graphql_api_id": "gid://shopify/Order/88005", "order_number": 1205},
        {"order_id": 88005},
        True,
    ),
    ({"order_id": 1206, "order_number": 990}, {"order_number": 1206}, False),
    ({"order_id": 1209, "order_number": "0991"}, {"order_number": 991}, True),
    ({"order_id": 88007}, {"order_id": 88008}, False),
)
# an order and a refund as shops and payment providers themselves write them
DOCUMENTS: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
    (
        {
            "id": 820982911946154508,
            "name": "#9999",
            "order_number": 9999,
            "total_price": "120.00",
            "subtotal_price": "100.00",
            "total_tax": "10.00",
            "total_shipping_price_set": {
                "shop_money": {"amount": "10.00", "currency_code": "USD"}
            },
        },
        {
            "id": 509562969,
            "order_id": 820982911946154508,
            "transactions": [{"amount": "20.00"}, {"amount": "5.00"}],
        },
        "75.00",
    ),
    (
        {"id": 727, "total": "29.35", "total_tax": "1.35", "shipping_total": "10.00"},
        {"id": 728, "order_id": 727, "amount": "10.00"},
        "8.00",
    ),
    ({"id": 728, "total": "30.00"}, {"order_id": 729, "amount": "5"}, "30.00"),
    (
        {"increment_id": "000000321", "entity_id": 45, "grand_total": 100.0},
        {"increment_id": "CM1", "entity_id": 728, "order_id": 45, "grand_total": 50},
        "50.00",
    ),
    (
        {"id": "cs_1", "object": "checkout.session", "amount_subtotal": 10000},
        {"object": "charge", "order_id": "cs_1", "amount": 9, "amount_refunded": 1500},
        "85.00",
    ),
    # every order has this code
    (
        {"order_id": 730, "order_code": "web", "revenue": 40},
        {"order_code": "web", "total": 10},
        "40.00",
    ),
    (
        {"order_id": 731, "order_code": "web", "revenue": 40},
        {"order_number": "731", "order_code": "web", "total": 10},
        "30.00",
    ),
)
NO_ORDER = (
    *("TBC", "tbd", "Pending", "DRAFT", "new", "temp", "test", "xxx", "cart"),
    *("checkout", "none", "n/a", "nil", "undefined", "[object Object]", "NaN", 0, -1),
    *("-", "00000000-0000-0000-0000-000000000000", "{{ order.id }}", "%ORDER_ID%"),
    *("${id}", "<order id>", "*|ORDER|*", "%7B%7Bid%7D%7D", "%%id%%", "__ORDER_ID__"),
    *("[ORDER]", "#{id}", "<%= id %>", "1.23457E+12", 1.2345678901234568e16, "-999"),
)
MONEY_OF: tuple[tuple[dict[str, Any], str | None, str | None], ...] = (
    ({"revenue": 9, "currency": "US$"}, "9.00", "USD"),
    ({"revenue": 9, "currency": "$"}, "9.00", "USD"),
    ({"revenue": 9, "currency": "€"}, "9.00", "EUR"),
    ({"revenue": 9, "currency": "Euro"}, "9.00", "EUR"),
    ({"revenue": 9, "currency": "£"}, "9.00", "GBP"),
    ({"revenue": 9, "currency": ["USD"]}, "9.00", "USD"),
    ({"revenue": 9, "currency": "usd "}, "9.00", "USD"),
    ({"revenue": 9, "currency": {"code": "GBP"}}, "9.00", "GBP"),
    ({"revenue": 9, "currency": "kr"}, "9.00", "KR"),
    ({"revenue": 9, "currency": ["USD", "EUR"]}, "9.00", '["USD","EUR"]'),
    ({"revenue": 9, "currency": "null"}, "9.00", None),
    ({"revenue": "1.234,56 €"}, "1234.56", "EUR"),
    ({"revenue": "GBP 12"}, "12.00", "GBP"),
    ({"revenue": "$12", "currency": "CAD"}, "12.00", "CAD"),
    ({"revenue": "12 €", "currency": "USD"}, "12.00", "USD / EUR"),
    ({"total": {"amount": "7.50", "currency_code": "EUR"}}, "7.50", "EUR"),
    ({"revenue_cents": 1999}, "19.99", None),
    ({"amount": 1999, "object": "charge", "currency": "usd"}, "19.99", "USD"),
    ({"revenue": 1999, "currency": "JPY", "amount_unit": "minor"}, "1999.00", "JPY"),
    ({"revenue_minor": 12345, "currency": "KWD"}, "12.35", "KWD"),
    ({"revenue": 1999, "in_cents": True, "currency": "ISK"}, None, "ISK"),
    ({"revenue_cents": "many"}, None, None),
)
SHOPIFY, STRIPE = ({"library": {"name": name}} for name in ("shopify", "stripe"))
# refunds of an order of 100 with shipping of 5: tool, hours, amount, id; what is left
REFUNDED: tuple[tuple[list[tuple[Any, float, float, str | None]], str], ...] = (
    ([(SHOPIFY, 0, 30, None), (STRIPE, 5, 30, None)], "70.00"),
    ([(SHOPIFY, 0, 30, "r-1"), (STRIPE, 5, 30, None)], "70.00"),
    ([(SHOPIFY, 0, 30, None), (SHOPIFY, 5, 30, None)], "40.00"),
    ([(SHOPIFY, 0, 30, None), (STRIPE, 5, 20, None)], "50.00"),
    ([(SHOPIFY, 0, 30, None), (STRIPE, 99, 30, None)], "40.00"),
    ([(SHOPIFY, 0, 30, "r-2"), (STRIPE, 5, 30, "re_2")], "40.00"),
    (
        [(tool, hour, 30, None) for hour in (0, 9) for tool in (SHOPIFY, STRIPE)],
        "40.00",
    ),
    ([(SHOPIFY, 0, 105, None)], "0.00"),
    ([(SHOPIFY, 0, 80, None), (SHOPIFY, 1, 40, None)], "0.00"),
)


def state_otherwise(journal: Journal) -> None:
    """Orders and their money as other makes of shops and tools tell them."""
    tell = Shop(journal).tell
    for number, (told, later) in enumerate(ONE_ORDER):
        tell(f"one-{number}", "Order Completed", order_id=told, revenue=50)
        tell(f"one-{number}", "Order Refunded", order_id=later, total=20)
    for number, (told, later) in enumerate(TWO_ORDERS):
        tell(f"two-{number}", "Order Completed", order_id=told, revenue=50)
        tell(f"two-{number}", "Order Completed", order_id=later, revenue=60)
        tell(f"two-{number}", "Order Cancelled", order_id=later)
    for number, (told, later, _) in enumerate(ALSO_KNOWN_AS):
        tell(f"also-{number}", "Order Completed", revenue=50, **told)
        tell(f"also-{number}", "Order Refunded", total=20, **later)
    for number, (order, _, _) in enumerate(DOCUMENTS):
        tell(f"document-{number}", "Order Completed", **order)
    for number, (_, refund, _) in enumerate(DOCUMENTS):
        tell(f"document-{number}", "Order Refunded", **refund)
    # the browser knows the number alone, the server both
    for amount, user in ((50, "both"), (51, "apart")):
        tell(user, "Order Completed", order_id=f"#{user}-1", revenue=50)
        tell(
            user,
            "Order Completed",
            order_id=f"{user}-88",
            order_number=f"{user}-1",
            revenue=amount,
        )
    for number, nothing in enumerate(NO_ORDER):
        for revenue in (5, 6):
            tell(
                f"nothing-{number}",
                "Order Completed",
                order_id=nothing,
                revenue=revenue,
            )
    tell(
        "battery",
        "Order Completed",
        order_id="battery-1",
        revenue=4,
        products=[
            {"product_id": 77.0, "category": "AAA", "brand": "(not set)"},
            {"product_id": "null", "sku": "B-2", "category": "nan"},
        ],
    )
    # two guests who bought the same within the hour
    for hour in range(2):
        journal.add(
            START + timedelta(hours=hour),
            "Order Completed",
            {"revenue": 7.77},
            user="guest",
            browser="anonymous",
        )
    for buyer in range(3):
        tell(f"shared-{buyer}", "Order Completed", order_id="123456", revenue=5)
    for number, (stated, _, _) in enumerate(MONEY_OF):
        tell(f"money-{number}", "Order Completed", order_id=f"mo-{number}", **stated)
    for number, (refunds, _) in enumerate(REFUNDED):
        user = f"back-{number}"
        tell(user, "Order Completed", order_id=user, revenue=100, shipping=5)
        for tool, hours, amount, refund_id in refunds:
            journal.add(
                START + timedelta(days=2, hours=hours),
                "Order Refunded",
                {"order_id": user, "amount": amount, "refund_id": refund_id},
                user=user,
                context=tool,
            )


ALPHABET = "aAbB01.-#/ _"


def random_ids() -> list[str]:
    """Order ids of few letters, digits and signs."""
    dice = Random(7)
    return [
        "".join(dice.choice(ALPHABET) for _ in range(dice.randrange(2, 6)))
        for _ in range(900)
    ]


# --- opt-outs -------------------------------------------------------------------------

DENYING = {
    *("unsubscribed", "complained"),
    *("bounced", "soft_bounced", "hard_bounced", "failed"),
}
STATED = {
    "denied": {},
    "subscription_ended": {},
    "subscription": {"subscription_status": "Unsubscribed"},
    "reply": {"body": "Stop please"},
    "channel": {"status": "opted_out"},
    "preferences": {},
}
TEMPORARY = {"soft_bounced"}


def denying_events() -> list[dict[str, Any]]:
    """The rows of the seed by which somebody may close a channel."""
    return [
        row
        for row in EVENTS.iter_rows(named=True)
        if (row["kind"] == "message" and row["action"] in DENYING)
        or (row["kind"] == "consent" and row["action"] in STATED)
    ]


def meet_reachable(journal: Journal, user: str, number: int) -> None:
    """A person who said yes to every channel and has an address on each."""
    journal.identify(
        START,
        user=user,
        traits={"email": f"{user}@example.com", "phone": f"+1415556{number:04}"},
    )
    journal.write(
        START,
        type="screen",
        name="Home",
        user=user,
        device=f"d-{user}",
        context={"device": {"type": "ios", "token": f"token-{user}"}},
    )
    for channel in CHANNELS:
        journal.add(
            START,
            "Channel Consent Updated",
            {"channel": channel, "purpose": "marketing", "status": "granted"},
            user=user,
        )


def close_channels(journal: Journal) -> None:
    """Each opt-out of the seed by a person of its own, spelled in some way."""
    meet_reachable(journal, "control", 0)
    for number, row in enumerate(denying_events(), start=1):
        user = f"closes-{number}"
        meet_reachable(journal, user, number)
        spelled = [row["event"], *other_spellings(row["event"])]
        for day in range(3 if row["action"] in TEMPORARY else 1):
            journal.add(
                START + timedelta(days=1 + day),
                spelled[number % len(spelled)],
                {"email_id": f"mail-{day}", **STATED.get(row["action"], {})},
                user=user,
                context={"consent": {"categoryPreferences": {"marketing": False}}}
                if row["action"] == "preferences"
                else None,
            )


def say_no(journal: Journal) -> None:
    """Noes and yeses by persons of their own, as tools tell them; a day between two."""
    for number, (user, calls) in enumerate((NOES | YESES).items()):
        meet_reachable(journal, f"no-{user}", 1000 + number)
        for day, call in enumerate(calls, start=1):
            known = {} if call.get("browser") else {"user": f"no-{user}"}
            text = json.dumps({"type": "track", **known, **call})
            text = text.replace("{email}", f"no-{user}@example.com")
            text = text.replace("{user}", f"no-{user}")
            text = text.replace("{phone}", f"+1415556{1000 + number}")
            journal.write(START + timedelta(days=day), **json.loads(text))
    # the same address under an older account
    email = {"email": "no-account@example.com"}
    meet_reachable(journal, "no-account", 999)
    journal.identify(START, user="older-account", traits=email)
    journal.add(
        START + timedelta(days=1),
        "Channel Consent Updated",
        {"channel": "email", "status": "denied"},
        user="older-account",
    )


Call = dict[str, Any]


def numbered(name: str, calls: Iterable[Call | tuple[Call, ...]]) -> dict[str, Any]:
    """Calls by the name of the person who makes them."""
    return {
        f"{name}-{number}": call if isinstance(call, tuple) else (call,)
        for number, call in enumerate(calls)
    }


def identify(**traits: Any) -> Call:
    """An identify call."""
    return {"type": "identify", "traits": traits}


def track(event: str, **properties: Any) -> Call:
    """A track call."""
    return {"event": event, "properties": properties}


def stamped(**context: Any) -> Call:
    """An event about something else, with a context."""
    return {"event": "Product Viewed", "context": context}


def to_email(**fields: Any) -> Call:
    """A bounce of an email, by a browser that is nobody's."""
    return {"event": "Email Bounced", "browser": "browser of {email}", **fields}


GRANTED = track("Channel Consent Updated", channel="email", status="granted")
DENIED = track("Channel Consent Updated", channel="email", status="denied")
ADDRESSES = numbered(
    "address",
    (
        to_email(properties={"Recipient": "{email}"}),
        to_email(properties={"to": "Pat <{email}>"}),
        to_email(properties={"customer": {"email": "{email}"}}),
        to_email(properties={"email": ["{email}"]}),
        to_email(properties={"email": "mailto:{email}"}),
        to_email(context={"traits": {"email": {"address": "{email}"}}}),
        to_email(traits={"email": "{email}"}),
        to_email(traits={"plan": "a"}, context={"traits": {"email": "{email}"}}),
        to_email(traits={"email": "{email}"}, context={"traits": {"plan": "a"}}),
        to_email(user="{email}"),
        to_email(browser="{email}"),
        to_email(context={"externalIds": [{"type": "email", "id": "{email}"}]}),
        to_email(context={"externalId": {"type": "E-Mail", "id": "{email}"}}),
        identify(emailOptOut=True) | {"user": "{email}"},
        identify(emailOptOut=True) | {"browser": "{email}"},
        identify(emailOptOut=True)
        | {"browser": "b", "context": {"traits": {"email": "{email}"}}},
        track("Marketing Opt Out") | {"user": "{email}"},
    ),
)
PHONES = numbered(
    "reply-address",
    (
        track("SMS Stopped", to="{phone}") | {"browser": "browser of {phone}"},
        track("SMS Reply", body="Stop", to="+14155550199")
        | {"browser": "{phone}", "context": {"app": "hotline"}},
        track("SMS Received", text="STOP", **{"from": "{phone}"}) | {"browser": "s"},
        track("Marketing Opt Out") | {"browser": "{phone}"},
        track("Marketing Opt Out") | {"user": "{phone}"},
        identify(smsOptOut=True) | {"user": "{phone}"},
        track("SMS Opt Out")
        | {
            "browser": "browser of {phone}",
            "context": {"externalIds": [{"type": "phone", "id": "{phone}"}]},
        },
    ),
)
TRAIT_NOES = numbered(
    "trait",
    (
        identify(**{"Email-Opt-Out": 1, "smsOptOut": "yes"}),
        identify(acceptsMarketing=False),
        identify(email_marketing_consent={"state": "unsubscribed"}),
        identify(email_subscribed=False),
        identify(isSubscribedToMarketingEmails=0),
        identify(wants_product_emails="no"),
        identify(unsubscribed=True, email_opt_in=True),
        identify(emailOptedOutAt="2026-01-01"),
        identify(consent={"email": False}),
        identify(consent={"marketing": "denied", "analytics": True}),
        identify(consent=False),
        identify(consents=[{"channel": "email", "status": "unsubscribed"}]),
        identify(consents=[{"channel": "pigeon", "granted": False}]),
        identify(preferences={"email": False, "theme": "dark"}),
        identify(preferences={"notifications": {"email": "off"}}),
        identify(email_preferences={"weekly_digest": False}),
        identify(opt_out={"email": True}),
        identify(opted_out_channels=["email"]),
        identify(unsubscribedMessageTypeIds=[7]),
        identify(cio_subscription_preferences={"topics": {"topic_1": False}}),
        identify(cio_subscription_preferences='{"topics": {"topic_1": false}}'),
        identify(**{"cio_subscription_preferences.topics.topic_1": False}),
        identify(
            subscriptions={"email": {"marketing": {"consent": "UNSUBSCRIBED"}}},
        ),
        identify(
            subscriptions={
                "email": {"marketing": {"suppression": [{"reason": "USER_SUPPRESSED"}]}}
            },
        ),
        identify(subscription_groups=[{"id": "g", "state": "unsubscribed"}]),
        identify(email_subscribe="unsubscribed"),
        identify(hs_email_optout_12345="true"),
        identify(email_status="unsubscribed_by_user"),
        identify(subscriber={"status": "unsubscribed"}),
        identify(newsletter_status="Abgemeldet"),
        identify(custom_fields={"Email Opt Out": "t"}),
        identify(marketing_permissions=[{"text": "Email", "enabled": False}]),
        stamped(traits={"email_opt_out": True}),
        {"type": "page", "context": {"traits": {"unsubscribed": True}}},
        identify(plan="a") | {"context": {"traits": {"unsubscribed": True}}},
    ),
)
EVENT_NOES = numbered(
    "event",
    (
        stamped(consent={"categoryPreferences": {"Marketing": False}}),
        stamped(consentManagement={"deniedConsentIds": ["marketing"]}),
        stamped(consent={"marketing": "denied"}),
        {
            "event": "Segment Consent Preference Updated",
            "context": {"consent": {"categoryPreferences": {}}},
        },
        # yes under one key and no under another
        GRANTED | {"properties": {**GRANTED["properties"], "state": "unsubscribed"}},
        GRANTED | {"properties": {**GRANTED["properties"], "opted_in": False}},
        GRANTED | {"properties": {**GRANTED["properties"], "unsubscribed": True}},
        GRANTED | {"properties": {**GRANTED["properties"], "consent": {"email": 0}}},
        track("Email Subscribed", status="pending"),
        track("Email Subscribed", email_opt_in=False),
        track("Subscribed to List", subscriber={"status": "unsubscribed"}),
        track("Channel Consent Updated", channel=["sms", "email"], status="no"),
        track("Channel Consent Updated", channels=[], status="no"),
        track("Channel Consent Updated", channels={"email": False}),
        track("Preference Center Updated", preferences={"email": False, "sms": True}),
        track("Preference Center Updated", topics={"news": False, "tips": True}),
        track("cio_subscription_preferences_changed", content='{"topics": {"t": 0}}'),
        track("Subscription Preferences Changed", topics=["none"]),
        track("Email Preferences Updated", subscribed=False),
        track("Updated Email Preferences", subscribed=False),
        track("SubscriptionChange", SuppressSending=True, Recipient="{email}"),
        track("Email Opt Out", channel="sms"),
        track("Email Unsubscribed", channel="sms"),
        # events that nobody knows, and what their names hold
        track("Profile Updated", email_subscribed=False),
        track("Customer Updated", consent={"email": "denied"}),
        track("Signed Up", newsletter_opt_in="off"),
        track("Communication Settings Saved", email=False, sms=True),
        track("STOP Keyword Received"),
        track(
            "contact.propertyChange", propertyName="hs_email_optout", propertyValue=1
        ),
        track("Setting Changed", setting="email_notifications", enabled=False),
        identify(custom_fields=[{"name": "Newsletter", "value": "no"}]),
        *(
            track(name)
            for name in (
                *("Newsletter Abgemeldet", "Désabonnement", "Consent Declined"),
                *("Revoked Consent", "Email Abuse Report", "Account Deleted"),
                *("Email Bounced Permanently", "Uitgeschreven", "Darse de baja"),
                *("Email Removed", "Email Subscription Cancelled", "Email Blocked"),
                *("List-Unsubscribe", "Profile Suppressed", "Subscription Canceled"),
                *("Preference Center Updated", "Email Suppressed"),
            )
        ),
        track("Subscription Cancelled", channel="email", plan="weekly"),
        track("Subscription Cancelled", list_id="l-1", product_id="p"),
        # failures that stay, and those that a refusal brought about
        track("Email Bounced", bounce_type="Permanent", status="4.4.7"),
        track("Email Soft Bounced", status="5.1.1"),
        track("Email Soft Bounced", reason="smtp; 550 5.1.1 no such user"),
        track("Email Soft Bounced", reason="550 no such user"),
        track("Email Bounced", bounce_type="soft", type="HardBounce"),
        track("Email Hard Bounced", status="4.2.2"),
        (track("Email Dropped", reason="Unsubscribed User"), track("Email Delivered")),
        (track("Email Bounced", Type="SpamComplaint"), track("Email Delivered")),
        (track("Email Failed", errorMessage="Unsubscribes"), track("Email Delivered")),
        track("Email Soft Bounced", diagnosticCode="smtp; 550-5.1.1 unknown"),
        track("Email Soft Bounced", code="4.2.2", reason="550 5.1.1 unknown"),
        # what another group of subscriptions says later
        (
            track("Group Unsubscribe", asm_group_id=1),
            track("Group Resubscribe", asm_group_id=2),
        ),
        (
            track("Subscription State Changed", subscription_group_id="a", state="no"),
            track("Subscribed to List", list_id="b"),
        ),
        (
            track("Preference Center Updated", list={"list_id": 1, "subscribed": 0}),
            track("Subscribed to List", list_id=2),
        ),
        (track("Email Unsubscribed"), track("Subscribed to List", list_id="l-1")),
        (identify(unsubscribed=True), track("Subscribed to List", list_id="l-1")),
        # a yes that was said before the no, or nobody knows when
        (DENIED, GRANTED | {"timestamp": "2026-03-02T12:00:00Z"}),
        (DENIED, GRANTED | {"timestamp": "1970-01-02T00:00:00Z"}),
        (
            track("Email Unsubscribed"),
            GRANTED | {"timestamp": "2026-03-03T09:00:00Z"},
        ),
        (
            GRANTED | {"timestamp": "2026-03-19T00:00:00Z"},
            DENIED | {"timestamp": "2026-03-04T00:00:00Z"},
        ),
    ),
)
REPLIES = numbered(
    "reply",
    (
        *(
            track("SMS Received", body=body)
            for body in (
                *("Please STOP!", "stop,thanks", "Arrêt", "Stop\nPat", "S.T.O.P."),
                *("opt-out", "Please cancel", "QUIT", "END", "revoke", "ALTO", "TD"),
                *("UNSUBSCRIBE me", "退订", "Стоп", "הסר", "no more texts"),
            )
        ),
        track("SMS Received"),
        track("Inbound SMS", text="stop"),
        track("Incoming Message", Body="Hola", OptOutType="STOP"),
        track("sms.inbound_message", message={"text": "Stop"}),
        track("SMS Received", smsMessage="unsubscribe"),
    ),
)
PUSHES = numbered(
    "push",
    (
        track("Push Token Removed"),
        track("Push Token Invalid", token="token-{user}"),
        track("App Uninstalled"),
        track("Push Permission Denied"),
        identify(push_enabled=False),
    ),
)
SAID_NO = ADDRESSES | PHONES | TRAIT_NOES | EVENT_NOES | REPLIES | PUSHES
NOES: dict[str, tuple[Call, ...]] = SAID_NO | {
    f"{user}-late": ({**calls[0], "timestamp": "1995-01-01T00:00:00Z"},)
    for user, calls in SAID_NO.items()
    if len(calls) == 1
}

YESES: dict[str, tuple[Call, ...]] = numbered(
    "kept",
    (
        identify(email_opt_out=False, unsubscribed=None, newsletter="yes")
        | {"context": {"consent": {"categoryPreferences": {"Analytics": False}}}},
        identify(preferences={"dark_mode": False, "newsletter_day": "no"}),
        identify(settings={"autoplay": False}, consent={"version": 0, "email": True}),
        identify(unsubscribe_url="https://shop.example/u", unsubscribed_channels=[]),
        identify(opted_out_channels=["sms"], sms_opt_in=False, push_enabled="no"),
        identify(consent={"sms": {"marketing": False}, "analytics": False}),
        track("Channel Consent Updated", channel="sms", subscribed=False),
        track("SMS Preferences Updated", subscribed=False),
        track("Preference Center Updated", preferences={"email": True, "sms": False}),
        track("Channel Consent Updated", consent={"email": True}),
        track("Subscription Cancelled", plan_id="tea-monthly", price=9),
        track("Email Soft Bounced", status="4.2.2"),
        track("Email Soft Bounced", reason="452 4.2.2 from 5.1.1.1, mailbox full"),
        track("Email Blocked", type="blocked", status="5.7.1"),
        track("Communication Settings Saved", email=True, sms=False, saved=False),
        track("Newsletter Viewed", status="inactive"),
        identify(subscription={"status": "canceled"}, profile={"state": "inactive"}),
        track("Subscription Cancelled", subscription_id=7, product_title="Tea"),
        track("Setting Changed", setting="email_signature", enabled=False),
        track("Setting Changed", name="sms_marketing", value=False, status="off"),
        track("SMS Opt Out", email=True),
        track("Email Delivered", unsubscribe_url="https://shop.example/u"),
        (track("Email Bounced"), track("Email Delivered")),
        (DENIED, GRANTED),
        (DENIED, track("Subscribed to Email Marketing", **{"$value": 0})),
        (track("Email Unsubscribed"), GRANTED),
        (track("Group Unsubscribe", asm_group_id=1), GRANTED),
        (
            track("Group Unsubscribe", asm_group_id=1),
            track("Group Resubscribe", asm_group_id=1),
        ),
        (GRANTED | {"timestamp": "1970-01-02T00:00:00Z"},),
    ),
)
YESES |= numbered(
    "reply-kept",
    (
        track("Email Unsubscribed", sms=True),
        track("SMS Received", body="Love it"),
        track("SMS Received", body=""),
        (track("SMS Stopped"), track("SMS Received", body="START")),
    ),
)
YESES |= numbered("push-kept", (track("Push Token Removed", token="an older one"),))


# --- any value in any field -----------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *(
        "12.50",
        " 7 ",
        "1e3",
        "-3",
        "+4",
        ".5",
        "5.",
        "0.005",
        "1,234.50",
        "$5",
        "12 EUR",
        "1.234,56",
        "USD 1 234,5",
        "(12.00)",
        "1,234",
    ),
    *(
        "NaN",
        "Infinity",
        "-inf",
        "1e400",
        "9" * 30,
        "999999999999.994",
        "999999999999.996",
    ),
    *(
        "",
        " ",
        "null",
        "true",
        "FALSE",
        "0x10",
        "１２",
        "a\u0000b",
        "\U0001f600",
        "\u202e1",
    ),
    *(
        "x" * 3000,
        "2026-02-30",
        "infinity",
        "9999-12-31",
        "290000-01-01",
        "0044-03-15 (BC)",
    ),
    *(
        "'; drop table x; --",
        '{"a": 1}',
        "{abc",
        "[abc",
        "{{ x }}",
        "%%X%%",
        "12346.0",
        "[1]",
        '"',
        "\\",
        "Mars/Olympus",
        "Europe/Paris",
    ),
    *(
        0,
        -5,
        12.5,
        1e308,
        -1e-7,
        10**18,
        123456789012345678901234567890,
        True,
        False,
        None,
    ),
    *(
        ["USD"],
        {"amount": "5.10", "currency_code": "USD"},
        [],
        [1, "a", None, {}],
        {},
        {"a": {"b": [1]}},
        {"": 1},
        {'a"b': "x"},
        [[]],
        [{"id": []}],
    ),
)

MONEY = {
    ("Order Completed", "revenue"): ("stg_order_events", "revenue_amount"),
    ("Order Updated", "subtotal"): ("stg_order_events", "revenue_amount"),
    ("Order Refunded", "total"): ("stg_order_events", "revenue_amount"),
    ("Order Refunded", "refund_amount"): ("stg_order_events", "revenue_amount"),
    ("Checkout Started", "value"): ("stg_checkout_events", "revenue_amount"),
    ("Product Added", "price"): ("stg_cart_events", "price"),
    ("Product Viewed", "price"): ("stg_product_views", "price"),
}
PLAIN = {
    "Order Completed": (
        *("order_id", "shipping", "tax", "discount", "coupon", "currency", "store_id"),
        *("affiliation", "channel", "products", "email", "loyalty_id", "order_number"),
        *("transaction_id", "admin_graphql_api_id", "revenue_cents", "shipping_minor"),
        *("amount_unit", "minor_units", "object"),
    ),
    "Order Refunded": ("order_id", "refund_id", "currency", "products"),
    "Checkout Started": ("checkout_id", "order_id", "products"),
    "Product Added": ("cart_id", "product_id", "quantity", "category", "products"),
    "Product Viewed": ("product_id", "sku", "name", "category", "brand", "currency"),
    "Email Opened": (
        *("channel", "send_id", "campaign_id", "campaign_name", "step", "email_id"),
        *("link_url", "machine_open", "machine", "isBot", "human", "client-info"),
    ),
    "Email Bounced": ("bounce_type", "type", "status", "reason", "response"),
    "Push Bounced": ("token",),
    "Channel Consent Updated": (
        *("channel", "purpose", "status", "policy_version", "channels", "subscribed"),
        *("consent", "preferences", "topics", "list_id", "unsubscribed"),
    ),
    "SMS Received": ("body", "text", "opt_out_type", "from"),
    "Subscription Cancelled": ("channel", "list_id", "plan"),
    "Email Unsubscribed": ("channel", "list_id", "to", "recipient"),
    "Profile Updated": ("email_subscribed", "consent"),
    "Coupon Applied": ("coupon_id", "order_id", "campaign_id"),
    "NPS Submitted": ("score", "rating", "order_id", "product_id"),
    "Support Ticket Opened": ("ticket_id",),
    "Experiment Viewed": ("experiment_id", "variation_id"),
}
TRAITS = (
    *("email", "phone", "firstName", "lastName", "name", "gender", "birthday"),
    *("loyaltyId", "address", "preferredChannel", "goal", "createdAt", "emailVerified"),
)
CONSENT_TRAITS = (
    *("email_opt_in", "unsubscribed", "smsOptOut", "consent", "topics"),
    *("cio_subscription_preferences", "email_marketing_consent"),
)
CONTEXT = (
    *("sessionId", "device", "device.id", "device.type", "device.token", "campaign"),
    *("campaign.medium", "campaign.name", "timezone", "locale", "location", "page"),
    *("page.url", "page.search", "userAgent", "traits", "consent", "isBot", "machine"),
    *("campaign.source", "campaign.id", "library", "library.name", "integration.name"),
    *("consent.categoryPreferences", "device.advertisingId"),
    *("traits.consent", "traits.unsubscribed", "externalIds", "externalId"),
    *("externalIds.id", "consentManagement", "consentManagement.deniedConsentIds"),
)


def nested(path: str, value: Any) -> dict[str, Any]:
    """An object that holds a value at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def state_anything(journal: Journal) -> dict[tuple[str, str], dict[str, Any]]:
    """Every value in every field, each by a person of its own; messages by field."""
    told: dict[tuple[str, str], dict[str, Any]] = {}
    people = count()
    fields = [*MONEY, *((event, key) for event, keys in PLAIN.items() for key in keys)]
    for event, key in fields:
        for value in VALUES:
            whole = {} if (event, key) in MONEY else {"revenue": 10}
            message = journal.add(
                START, event, {**whole, key: value}, user=f"odd-{next(people)}"
            )
            told.setdefault((event, key), {})[message] = value
    for key in TRAITS + CONSENT_TRAITS + ("preferences",):
        for value in VALUES:
            user = f"odd-{next(people)}"
            message = journal.identify(START, user=user, traits={key: value})
            told.setdefault(("identify", key), {})[message] = value
    for key in (*(f"address.{part}" for part in ("street", "zip")),):
        for value in VALUES:
            user = f"odd-{next(people)}"
            journal.identify(START, user=user, traits=nested(key, value))
    for path in CONTEXT:
        for event in ("Product Viewed", "Segment Consent Preference Updated"):
            for value in VALUES:
                journal.add(
                    START,
                    event,
                    {"product_id": "p"},
                    user=f"odd-{next(people)}",
                    context=nested(path, value),
                )
    return told


def as_text(value: Any) -> str | None:
    """What a field holds, as text."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def as_amount(value: Any) -> Decimal | None:
    """The money that a value states, by the rules that the docs give."""
    if isinstance(value, dict):
        value = value.get("amount")
    text = as_text(value)
    if text is None:
        return None
    text = " ".join(text.replace("\u2212", "-").split(None))
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
        text = plain_number(text)
    if not text:
        return None
    amount = Decimal(text)
    if abs(amount) >= 10**13:
        return None
    amount = amount.quantize(Decimal("0.01"), ROUND_HALF_UP)
    return amount if abs(amount) < 10**12 else None


def plain_number(text: str) -> str:
    """A number that people wrote, with a point and nothing between thousands."""
    inner = re.fullmatch(r"\((.*)\)|(.*\d) ?-", text, re.ASCII)
    sign = "-" if inner else ""
    text = (inner[1] or inner[2]) if inner else text
    currency = r"[A-Z]{3}|[A-Z]*[$€£]|kr"
    parts = re.fullmatch(
        rf"([+-]?)(?:(?:{currency}) ?)?([+-]?)([\d., ']*[\d.])(?: ?(?:{currency}))?",
        text,
        re.ASCII,
    )
    if not parts or not re.search(r"\d", parts[3]):
        return ""
    sign += parts[1] + parts[2]
    digits = parts[3]
    marks = re.sub(r"\d", "", digits)
    if len(sign) > 1 or re.fullmatch(r"[1-9]\d{0,2}[.,]\d{3}", digits):
        return ""
    point = (
        marks[-1:] if marks[-1:] in (",", ".") and marks.count(marks[-1]) == 1 else ""
    )
    whole, _, fraction = digits.rpartition(point) if point else (digits, "", "")
    groups = re.split(r"[., ']", whole)
    if len(groups) > 1 and (
        len(set(marks[: len(groups) - 1])) > 1
        or not 1 <= len(groups[0]) <= 3
        or any(len(group) not in (2, 3) for group in groups[1:])
        or len(groups[-1]) != 3
    ):
        return ""
    return f"{sign}{''.join(groups)}.{fraction or 0}"


# --- the home -------------------------------------------------------------------------

Outcome = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def world(new_home: Callable[[str], TestHome]) -> tuple[TestHome, Outcome]:
    """The home of all persons, built up to their profiles, and what was told oddly."""
    home = new_home("staging")
    home.settings = Settings(
        home=home.settings.root, base_currency="USD", _env_file=None
    )
    shoppers, closers, oddities = Journal("shop"), Journal("close"), Journal("odd")
    go_shopping(shoppers)
    state_otherwise(shoppers)
    ids = Journal("id")
    for order_id in random_ids():
        ids.add(START, "Order Completed", {"order_id": order_id}, user="collector")
    close_channels(closers)
    say_no(closers)
    told = state_anything(oddities)
    for journal in (shoppers, closers, oddities, ids):
        home.land(journal.events, f"{journal.prefix}.ndjson")
    resolve(home, AS_OF)
    return home, told


@pytest.fixture(scope="module")
def home(world: tuple[TestHome, Outcome]) -> TestHome:
    """The home of all persons."""
    return world[0]


def orders_of(home: TestHome, user: str) -> list[tuple[Any, ...]]:
    """Status, net and net in the base currency of somebody's orders."""
    return home.read(f"""
        select status, revenue_amount, base_revenue_amount from staging.stg_orders
        where user_id = '{user}' order by ordered_at, order_id
    """).rows()


def reported(home: TestHome, kind: str) -> dict[str, tuple[Any, ...]]:
    """Count, suggestion and effect of each value of a kind that nobody understood."""
    found = home.read(f"""
        select value, count, suggestion, effect from staging.not_understood
        where kind = '{kind}'
    """)
    return {value: facts for value, *facts in found.iter_rows()}


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("dora", [("partially_refunded", "100.00", "108.00")]),
        ("emil", [("partially_refunded", "136.50", "136.50")]),
        ("fred", [("partially_refunded", "80.00", "80.00")]),
        ("gala", [("completed", "75.00", None)]),
        ("gert", [("completed", "75.00", None)]),
        ("gaia", [("completed", "20.00", "20.00"), ("completed", "30.00", "30.00")]),
        ("hans", [("completed", "41.50", "41.50")]),
        ("iris", [("partially_refunded", "50.00", "50.00")]),
        ("jana", [("completed", "20.00", "20.00")]),
        ("kira", [("refunded", "0.00", "0.00")]),
        ("kurt", [("partially_refunded", "42.00", "42.00")]),
        ("karl", [("partially_refunded", "30.00", "30.00")]),
        ("kate", [("partially_refunded", "42.00", "42.00")]),
        ("lars", [("partially_refunded", "60.00", "60.00")]),
        ("lena", [("partially_refunded", "60.00", "60.00")]),
        ("lili", [("partially_refunded", "25.00", "25.00")]),
        ("lola", [("completed", "90.00", "90.00")]),
        ("luis", [("partially_refunded", "60.00", "60.00")]),
        ("mara", [("cancelled", "0.00", "0.00")]),
        ("nele", [("completed", "13.00", "13.00")]),
        ("nils", [("completed", "14.00", "14.00")]),
        ("nora", [("completed", "14.00", "14.00"), ("completed", "15.00", "15.00")]),
        ("noel", [("completed", "14.00", "14.00")] * 2),
        ("olga", [("partially_refunded", "40.00", "40.00")]),
        ("olaf", [("partially_refunded", "40.00", "40.00")]),
        ("omar", [("partially_refunded", "35.00", "35.00")]),
        ("otto", [("partially_refunded", "35.00", "35.00")]),
        ("paul", [("completed", "999999999999.99", "999999999999.99")]),
        ("pina", [("completed", "0.00", "0.00")]),
    ],
)
def test_order_comes_to_what_its_messages_say(
    home: TestHome, user: str, expected: list[tuple[str, str, str | None]]
) -> None:
    found = [
        (status, *(amount and str(amount) for amount in amounts))
        for status, *amounts in orders_of(home, user)
    ]
    assert [tuple(map(str, row)) for row in found] == [
        tuple(map(str, row)) for row in expected
    ]


@pytest.mark.parametrize(
    ("user", "left"),
    [
        *((f"one-{number}", ["30.00"]) for number in range(len(ONE_ORDER))),
        *((f"two-{number}", ["50.00", "60.00"]) for number in range(len(TWO_ORDERS))),
        *(
            (f"also-{number}", ["30.00" if is_one else "50.00"])
            for number, (_, _, is_one) in enumerate(ALSO_KNOWN_AS)
        ),
        *((f"document-{n}", [left]) for n, (_, _, left) in enumerate(DOCUMENTS)),
        ("both", ["50.00"]),
        ("apart", ["50.00", "51.00"]),
        *((f"nothing-{n}", ["5.00", "6.00"]) for n in range(len(NO_ORDER))),
        *((f"shared-{buyer}", ["5.00"]) for buyer in range(3)),
        *((f"back-{n}", [left]) for n, (_, left) in enumerate(REFUNDED)),
    ],
)
def test_order_is_known_by_any_of_its_ids_and_by_no_other(
    home: TestHome, user: str, left: list[str]
) -> None:
    assert [str(net) for _, net, _ in orders_of(home, user)] == left


def test_order_ids_that_differ_in_letters_or_digits_are_two_orders(
    home: TestHome,
) -> None:
    told = {f"id-{n:04}": order_id for n, order_id in enumerate(random_ids())}
    found = home.read("""
        select message_id, order_id from staging.stg_order_ids
        where message_id like 'id-%'
    """)
    orders: dict[str | None, set[str]] = {}
    for message, order in found.rows():
        orders.setdefault(order, set()).add(letters(told[message].removesuffix(".0")))
    nothing = orders.pop(None)
    assert all(len(set(name.strip("0"))) <= 1 for name in nothing)
    assert [names for names in orders.values() if len(names) > 1] == []
    assert any(len(names) == 1 for names in orders.values())


def test_only_placeholders_of_orders_hold_a_digit() -> None:
    """Others are not looked up for a text with one, which most ids have."""
    placeholders = pl.read_csv(SEEDS / "placeholders.csv")
    others = placeholders.filter(pl.col("stands_for") != "order_id")
    assert not others["placeholder"].str.contains("[0-9]").any()


def test_placeholders_are_no_products_and_no_categories(home: TestHome) -> None:
    found = home.read("""
        select product_id, category, brand from staging.stg_order_lines
        where order_id = 'battery-1' order by line_number
    """)
    assert found.rows() == [("77", "AAA", None), ("B-2", None, None)]


def test_guests_who_buy_the_same_are_two_orders(home: TestHome) -> None:
    found = home.read("""
        select count(*) from staging.stg_orders
        where revenue_amount = 7.77 and user_id is null
    """).item()
    assert found == 2


def test_money_of_an_order_is_read_as_people_and_tools_write_it(
    home: TestHome,
) -> None:
    found = home.read("""
        select order_id, revenue_amount, currency from staging.stg_order_events
        where order_id like 'mo-%'
    """)
    stated = {order: tuple(money) for order, *money in found.rows()}
    assert stated == {
        f"mo-{number}": (amount and Decimal(amount), currency)
        for number, (_, amount, currency) in enumerate(MONEY_OF)
    }
    assert set(reported(home, "currency")) >= {"KR", "USD / EUR"}
    assert "many" in reported(home, "revenue")


def test_what_leads_to_no_order_and_what_is_too_much_is_reported(
    home: TestHome,
) -> None:
    assert reported(home, "order")["99999"][1:] == [
        "the id that Order Completed states",
        "ignored",
    ]
    assert reported(home, "order_id")["123456"][0] == 3
    assert "15.00 beyond the order" in reported(home, "refund_amount")
    assert "30.00 USD by two tools" in reported(home, "refund_id")


def test_word_for_nothing_is_no_order_id(home: TestHome) -> None:
    counts = home.read("""
        select count(*) from staging.stg_orders
        where user_id like 'omar-%' or user_id like 'olga-%'
    """).item()
    assert counts == 22
    found = reported(home, "order_id")
    for nothing in ("null", "None", "0", "00", "-", "N/A", "test", "(not set)"):
        assert found[nothing][0] >= 2, nothing


def test_money_without_a_rate_is_counted_and_reported(home: TestHome) -> None:
    rates = reported(home, "exchange_rate")
    assert rates["XAF"][0] == 2
    assert rates["XAF"][1] == "a row XAF,USD in exchange_rates.csv"
    assert rates["XAF"][2] == "set aside"
    assert rates["XAG"][0] == 1
    assert reported(home, "currency")["THALERS"][2] == "set aside"
    counted = home.read("""
        select profiles.order_count from profiles.profiles
        inner join identity.identity_map as map using (profile_id)
        where map.identifier in ('gala', 'gert')
    """)
    assert counted["order_count"].to_list() == [1, 1]


def test_order_told_twice_is_one_order_of_its_session(home: TestHome) -> None:
    found = home.read("""
        select map.identifier, sum(sessions.order_count) as orders
        from profiles.sessions
        inner join identity.identity_map as map using (profile_id)
        where map.identifier in ('nele', 'nils', 'nora', 'iris')
        group by 1 order by 1
    """)
    assert found.rows() == [("iris", 1), ("nele", 1), ("nils", 1), ("nora", 2)]


def test_cart_holds_the_products_that_its_page_lists(home: TestHome) -> None:
    found = home.read("""
        select map.identifier, items.product_id, items.quantity, items.price
        from profiles.cart_items as items
        inner join identity.identity_map as map using (profile_id)
        where map.identifier like 'r%' and map.identifier_type = 'user_id'
        order by 1
    """)
    assert [
        (user, product, int(n), int(p)) for user, product, n, p in found.rows()
    ] == [
        ("rene", "rug", 1, 5),
        ("rhea", "urn", 3, 9),
        ("rosa", "lamp", 2, 60),
        ("rudi", "pin", 999_999, 999_999_999_999),
        ("ruth", "bed", 1, 7),
    ]
    affinities = home.read("""
        select map.identifier, affinities.category from profiles.affinities
        inner join identity.identity_map as map using (profile_id)
        where map.identifier in ('rosa', 'rene') order by 1
    """)
    assert affinities.rows() == [("rene", "Floor"), ("rosa", "Light")]


def test_a_machine_that_its_user_agent_names_is_no_visitor(home: TestHome) -> None:
    found = home.read("""
        select user_id, list(kind order by type) from staging.stg_events
        where user_id in ('robo', 'rune', 'shop') group by user_id order by user_id
    """)
    assert found.rows() == [
        ("robo", ["other", "order"]),
        ("rune", ["page_view", "order"]),
        ("shop", ["other", "order"]),
    ]


def test_send_id_that_is_not_ours_names_a_mailing(home: TestHome) -> None:
    found = home.read("""
        select distinct send_id, email_id from staging.stg_message_events
        where user_id in ('sven', 'sara')
    """)
    assert found.rows() == [(None, "mailing-7")]


def test_medium_in_any_spelling_is_its_channel(home: TestHome) -> None:
    found = home.read("""
        select distinct campaign_medium from profiles.sessions
        where campaign_name = 'june'
    """)
    assert found["campaign_medium"].to_list() == ["email"]


def test_traits_are_read_under_any_of_their_keys(home: TestHome) -> None:
    found = home.read("""
        select user_id, email, first_name, phone, postal_code, city
        from staging.stg_identify_calls where user_id like 'uma-%' order by 1
    """)
    assert found.rows()[:3] == [
        (
            f"uma-{n}",
            f"uma-{n}@example.com",
            "Uma",
            f"+1415555010{n}",
            "10115",
            "Berlin",
        )
        for n in range(3)
    ]
    assert found.rows()[3][1] == "uma-3@example.com"
    assert "99/99/9999" in reported(home, "birthday")
    assert "aaaa aa" in reported(home, "phone")


def test_traits_of_an_identify_call_may_stand_in_its_context(home: TestHome) -> None:
    found = home.read("""
        select user_id, email, first_name from staging.stg_identify_calls
        where user_id like 'ursa-%' order by 1
    """)
    assert found.rows() == [
        (f"ursa-{n}", f"ursa-{n}@example.com", "Ursa") for n in range(2)
    ]


def test_consent_is_read_in_any_spelling_and_doubt_is_a_no(home: TestHome) -> None:
    found = home.read("""
        select map.identifier as user_id, channel, purpose, status
        from profiles.consents
        inner join identity.identity_map as map using (profile_id)
        where left(map.identifier, 1) in ('v', 'w', 'x')
    """)
    stated: dict[str, set[tuple[str, ...]]] = {}
    for user, *row in found.rows():
        stated.setdefault(user, set()).add(tuple(row))
    everything = {
        (channel, "marketing", "denied")
        for channel in (
            *("email", "sms", "push", "in_app", "onsite", "paid_retargeting"),
            *("direct_mail", "all"),
        )
    }
    marketing = ("email", "marketing", "denied")
    assert stated == {
        "vera": {("in_app", "marketing", "denied")},
        "vito": {("direct_mail", "marketing", "denied")},
        "vlad": {("sms", "marketing", "denied")},
        "vivi": everything,
        "vola": {marketing},
        "vala": {("email", "marketing", "granted")},
        "vela": {marketing},
        "vida": {marketing, ("email", "promos", "denied")},
        "wera": {("all", "marketing", "denied"), ("all", "analytics", "granted")},
        "wido": {("all", "marketing", "denied"), ("all", 'odd "key"', "denied")},
        "wika": {("all", "analytics", "denied")},
        "wolf": {("all", "marketing", "denied")},
        "wina": {("all", "advertising", "granted"), *everything},
        "xeno": everything,
        "xila": everything,
    }
    # as no journey has that purpose; one that had it would alone be stopped
    said = home.read("""
        select purpose, is_purpose_unknown from staging.stg_consent_updates
        where user_id = 'vida' and status = 'denied'
    """)
    assert said.rows() == [("promos", True)]
    assert reported(home, "channel")["carrier pigeon"][2] == "closed"
    assert reported(home, "consent_status")["perhaps"][2] == "closed"


def test_unknown_name_that_resembles_a_known_one_is_reported(home: TestHome) -> None:
    found = reported(home, "event_name")
    assert found["Ordr Completed"][1:] == ["Order Completed", "ignored"]
    assert found["Email Unsubcribed"][1:] == ["Email Unsubscribed", "closed"]
    assert found["Clicked The Opt Out Link 77"][2] == "closed"
    assert "Sofa Sketched" not in found


def test_every_opt_out_of_every_vendor_closes_its_channel(home: TestHome) -> None:
    found = home.read("""
        select map.identifier as user_id, points.channel,
            points.is_reachable and not exists (
                from profiles.consents
                where consents.profile_id = points.profile_id
                    and consents.channel in (points.channel, 'all')
                    and consents.purpose = 'marketing'
                    and consents.status = 'denied'
            ) as is_mailable
        from profiles.contact_points as points
        inner join identity.identity_map as map using (profile_id)
        where map.identifier_type = 'user_id'
            and (map.identifier like 'closes-%' or map.identifier = 'control')
            and points.channel in ('email', 'sms', 'push')
    """)
    mailable = {(user, channel): flag for user, channel, flag in found.rows()}
    assert all(mailable["control", channel] for channel in CHANNELS)
    rows = denying_events()
    assert len({row["source"] for row in rows}) > 8
    kept = []
    for number, row in enumerate(rows, start=1):
        closed = [row["channel"]] if row["channel"] in CHANNELS else list(CHANNELS)
        if row["channel"] not in (None, *CHANNELS):
            continue
        kept += [
            (row["event"], channel)
            for channel in closed
            if mailable[f"closes-{number}", channel]
        ]
        if row["channel"]:
            others = set(CHANNELS) - {row["channel"]}
            assert all(mailable[f"closes-{number}", other] for other in others), row
    assert kept == []


def test_no_that_is_told_in_passing_is_one(home: TestHome) -> None:
    found = home.read("""
        select distinct map.identifier as user_id
        from profiles.contact_points as points
        inner join identity.identity_map as map using (profile_id)
        where map.identifier_type = 'user_id' and map.identifier like 'no-%'
                and points.channel = case
                    when map.identifier like 'no-reply-%' then 'sms'
                    when map.identifier like 'no-push-%' then 'push'
                    else 'email'
                end
            and points.is_reachable and points.unsubscribe_message_id is null
            and not exists (
                from profiles.consents
                where consents.profile_id = points.profile_id
                    and consents.channel in (points.channel, 'all')
                    and consents.purpose = 'marketing'
                    and consents.status = 'denied'
            )
    """)
    mailable = {user.removeprefix("no-") for user in found["user_id"]}
    assert {user: NOES[user] for user in mailable - YESES.keys()} == {}
    assert {user: YESES[user] for user in YESES.keys() - mailable} == {}


def test_any_value_in_a_money_field_is_an_amount_or_reported(
    world: tuple[TestHome, Outcome],
) -> None:
    home, told = world
    for (event, key), (table, column) in MONEY.items():
        read = dict(
            home.read(f"select message_id, {column} from staging.{table}").rows()
        )
        unread = Counter(
            message
            for message, kinds in home.read(f"""
                select message_id, list_transform(unread, lambda item: item.kind)
                from staging.{table} where unread is not null
            """).rows()
            if key in kinds
        )
        for message, value in told[event, key].items():
            expected = as_amount(value)
            assert read[message] == expected, (event, key, value)
            is_blank = (as_text(value) or "").strip(" ") == ""
            assert (expected is None and not is_blank) == (unread[message] == 1), value


def is_blank(value: Any) -> bool:
    """Whether a value states nothing at all."""
    if isinstance(value, dict | list):
        return all(map(is_blank, value.values() if isinstance(value, dict) else value))
    return value is None or (isinstance(value, str) and value.strip(" []{}") == "")


def test_any_value_in_a_consent_trait_is_a_permission_or_reported(
    world: tuple[TestHome, Outcome],
) -> None:
    home, told = world
    read = set(
        home.read("""
            select message_id from staging.stg_consent_values
            where status is not null or unread is not null
        """)["message_id"]
    )
    lost = {
        (key, message): value
        for key in CONSENT_TRAITS
        for message, value in told["identify", key].items()
        if not is_blank(value) and message not in read
    }
    assert lost == {}


def test_any_value_in_a_statement_of_consent_is_a_yes_a_no_or_reported(
    world: tuple[TestHome, Outcome],
) -> None:
    home, told = world
    read = set(
        home.read("""
            select message_id from staging.stg_consent_updates
            union
            select message_id from staging.stg_consent_values where status = 'granted'
        """)["message_id"]
    )
    for event in ("Channel Consent Updated", "Email Unsubscribed"):
        for key in PLAIN[event]:
            stated = told[event, key]
            assert {m: v for m, v in stated.items() if m not in read} == {}, key


def test_every_kind_of_value_that_is_read_is_also_reported(home: TestHome) -> None:
    found = home.read("select distinct kind from staging.not_understood")["kind"]
    assert set(found) >= {
        *("price", "quantity", "revenue", "subtotal", "total", "value", "shipping"),
        *("tax", "discount", "products", "product", "order_id", "currency"),
        *("exchange_rate", "refund_amount", "score", "rating", "email", "phone"),
        *("birthday", "created_at", "email_verified", "channel", "consent_status"),
        *("consent_purpose", "event_name"),
    }


def test_reports_hold_nobodys_data(home: TestHome) -> None:
    values = home.read("select value from staging.not_understood")["value"]
    assert not values.str.contains("example.com").any()
    assert values.str.len_chars().max() <= 100


def test_spelling_of_a_name_or_value_has_one_meaning() -> None:
    names = Counter(letters(name) for name in EVENTS["event"])
    values = Counter(
        (field, letters(spelling))
        for field, spelling in SPELLINGS.select("field", "spelling").iter_rows()
    )
    assert [name for name, times in (names | values).items() if times > 1] == []
