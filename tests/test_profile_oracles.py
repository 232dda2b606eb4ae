"""RFM, affinity and intent against separate computations, row for row, in any order.

The oracles are written from the definitions, in polars and plain Python, over what
staging and identity hold; none of them reads a table of the layer that it checks.
"""

import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from activations.ledger import BOUNCE_SCHEMA
from orchestration.resources import DBT_FOLDER
from orchestration.sources.landing import land
from orchestration.sources.receipts import land_bounces
from orchestration.sources.sample import write_sample
from tests.conftest import TestHome, moment
from tests.resolving import Journal, dbt, resolve
from tests.tables import fingerprints
from tests.test_rfm import assert_rfm_equals, expected_rfm

AS_OF = moment("2026-06-30T20:00:00")
Event = dict[str, Any]
Row = tuple[Any, ...]


def seed(name: str) -> pl.DataFrame:
    return pl.read_csv(DBT_FOLDER / "seeds" / f"{name}.csv")


RULES = seed("profile_rules").row(0, named=True)


def hand_made(log: Journal) -> Journal:
    """People of whom it is known what their profiles must say."""
    at = AS_OF - timedelta(days=3)

    def mail(user: str, *happened: str, **properties: str) -> None:
        for hours, event in enumerate(happened, start=1):
            log.add(at + timedelta(hours=hours), event, properties, user=user)

    def visit(user: str, **fields: Any) -> None:
        app = {"device": {"token": f"t-{user}", "type": "ios"}}
        log.write(at, type="screen", user=user, device=f"d-{user}", context=app)

    for user, address, verified in (
        ("verifier", "proved@v.example", True),
        ("verifier", "later@v.example", None),
        ("typist", "typist@nowhere", None),
        ("full", "full@f.example", None),
        ("half-full", "half@f.example", None),
        ("gone", "gone@g.example", None),
        ("refused", "refused@r.example", None),
        ("long", f"long@{'ü' * 62}.example", None),
        ("abroad", "abroad@bücher.example", None),
    ):
        traits = {"email": address, "emailVerified": verified}
        log.identify(at + timedelta(minutes=len(log.events)), user=user, traits=traits)
    log.identify(at, user="quiet", traits={"phone": "+12125550123"})
    mail("full", *["Email Bounced"] * 3, bounce_type="soft")
    mail("half-full", *["Email Bounced"] * 2, status="4.2.2")
    mail("gone", "Email Bounced")
    mail("quiet", "SMS Stopped")
    visit("leaver")
    log.add(at + timedelta(days=1), "Application Uninstalled", user="leaver")
    visit("stayer")
    goods = {"product_id": "p-x", "brand": "Own", "price": 5}
    log.add(at, "Product Added", goods, user="canceller", browser="c")
    for minutes, event in ((9, "Order Completed"), (90, "Order Cancelled")):
        order = {"order_id": "o-x", "revenue": 5, "currency": "USD"}
        log.add(at + timedelta(minutes=minutes), event, order, user="canceller")
    log.add(
        AS_OF - timedelta(minutes=61),
        "Price Checked",
        {**goods, "store_id": "store-9"},
        user="checker",
        context={"location": {"country": "FR", "city": "Lyon"}},
    )
    return log


def by_chance(log: Journal) -> Journal:
    """Visitors that do one thing after another, around every limit of time."""
    dice = random.Random(4)
    gaps = [timedelta(seconds=s) for s in (0, 60, 1_799, 1_800, 1_801, 9_000, 260_000)]
    for person in range(120):
        at = AS_OF - dice.choice(gaps) - timedelta(seconds=1)
        for _ in range(dice.randrange(1, 14)):
            session = dice.choice((None, None, None, "a", "b"))
            context = {"sessionId": f"{person}-{session}"} if session else {}
            product = {
                "product_id": f"v-{dice.randrange(4)}",
                "category": dice.choice((None, "Hats", "Belts")),
                "brand": dice.choice((None, "Own", "Other")),
                "price": 3,
            }
            event, more = dice.choice(
                (
                    *[("Product Viewed", {})] * 5,
                    *[("Product Added", {"quantity": 2})] * 2,
                    ("Product Removed", {"quantity": dice.choice((1, 2))}),
                    ("Product Clicked", {}),
                    ("Checkout Started", {}),
                    ("Price Checked", {"store_id": "store-1"}),
                    ("Quiz Taken", {}),
                    ("Order Completed", {"order_id": str(len(log.events))}),
                )
            )
            if event == "Order Completed":
                product = {"products": [product, product], "revenue": 6}
                if dice.random() < 0.3:
                    order = {"order_id": more["order_id"]}
                    log.add(at, "Order Cancelled", order, browser=f"v{person}")
            properties = {**product, **more, "currency": "USD"}
            log.add(at, event, properties, browser=f"v{person}", context=context)
            at -= dice.choice(gaps)
    return log


def refusals() -> pl.DataFrame:
    """What the ledger says of a send that a mail server would not take."""
    bounce = {
        **dict.fromkeys(BOUNCE_SCHEMA, "refused"),
        "channel": "email",
        "address": "refused@r.example",
        "settled_at": AS_OF - timedelta(days=1),
    }
    return pl.DataFrame([bounce], schema=BOUNCE_SCHEMA)


@pytest.fixture(scope="module")
def build(
    new_home: Callable[[str], TestHome], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], TestHome]:
    """Builds the sample world, its files landed as they are named or the other way."""
    out = tmp_path_factory.mktemp("world")
    write_sample(out, customers=250, days=40, seed=23)
    home = TestHome(out)
    home.land(hand_made(Journal("hand")).events, "by-hand.ndjson")
    home.land(by_chance(Journal("chance")).events, "by-chance.ndjson")
    land_bounces(refusals(), home.settings.landing)
    files = sorted(path for path in (out / "landing").rglob("*") if path.is_file())

    def build_home(backwards: bool) -> TestHome:
        home = new_home("backwards" if backwards else "forwards")
        for part in [files[20:], files[:20]] if backwards else [files]:
            for path in part:
                copy = home.settings.landing / path.relative_to(out / "landing")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            with home.warehouse() as connection:
                land(connection, home.settings.landing, AS_OF)
        resolve(home, AS_OF)
        return home

    return build_home


@pytest.fixture(scope="module")
def sample(build: Callable[[bool], TestHome]) -> TestHome:
    return build(False)


@pytest.fixture(params=["sample", "retail_home"])
def known(request: pytest.FixtureRequest) -> TestHome:
    """The sample world, then real customers where there are any."""
    home: TestHome = request.getfixturevalue(request.param)
    return home


def as_of(home: TestHome) -> datetime:
    found: datetime = home.read("select as_of from staging.stg_run").item()
    return found


def test_rfm_equals_a_separate_computation(known: TestHome) -> None:
    orders = known.read("""
        select profile_id, ordered_at, base_revenue_amount as amount
        from staging.stg_orders
        inner join identity.profile_events using (message_id)
        where status <> 'cancelled'
    """)
    refunds = known.read("""
        select profile_id, base_refund_amount as amount
        from staging.stg_refunds
        inner join identity.profile_events using (message_id)
        where order_id is null
    """)
    expected = expected_rfm(orders, refunds, as_of(known))
    assert expected.height > 50
    assert_rfm_equals(known, expected)
    names = {
        (row["recency_score"], row["frequency_score"]): row["rfm_segment"]
        for row in seed("rfm_segments").iter_rows(named=True)
    }
    named = known.read("select * from profiles.rfm")
    assert named["rfm_segment"].to_list() == [
        names[row["recency_score"], row["frequency_score"]]
        for row in named.iter_rows(named=True)
    ]


def taken_carts(home: TestHome) -> dict[str, str | None]:
    """Each message about a cart or a checkout, and the first order that took it."""
    products: dict[str, list[Row]] = defaultdict(list)
    for message_id, *product in home.read("""
        select message_id, product_id, lower(product_name)
        from staging.stg_cart_events
        where product_id is not null or product_name is not null
        union all
        select message_id, product_id, lower(product_name)
        from staging.stg_product_lines
        where product_id is not null or product_name is not null
    """).iter_rows():
        products[message_id].append(tuple(product))
    carts = home.read("""
        select profile_id, message_id, session_events.occurred_at,
            coalesce(carts.cart_id, checkouts.cart_id) as cart_id
        from profiles.session_events
        left join staging.stg_cart_events as carts using (message_id)
        left join staging.stg_checkout_events as checkouts using (message_id)
        where kind in ('cart', 'checkout')
    """).to_dicts()
    orders = home.read("""
        select profile_id, message_id, ordered_at, cart_id, store_id
        from staging.stg_orders
        inner join identity.profile_events using (message_id)
        order by ordered_at, message_id
    """).to_dicts()
    of_profile: dict[str, list[Event]] = defaultdict(list)
    for cart in carts:
        of_profile[cart["profile_id"]].append(cart)
    taken: dict[str, str | None] = {cart["message_id"]: None for cart in carts}
    for order in orders:
        lines = products[order["message_id"]]
        before = [
            cart
            for cart in of_profile[order["profile_id"]]
            if cart["occurred_at"] <= order["ordered_at"]
        ]
        listed = {item for cart in before for item in products[cart["message_id"]]}
        is_online = order["store_id"] is None
        shares = any(
            (one and one == other) or (name and name == other_name)
            for one, name in lines
            for other, other_name in listed
        )
        for cart in before:
            ids = cart["cart_id"], order["cart_id"]
            is_unknown = is_online or not lines or not products[cart["message_id"]]
            takes = shares or (ids[0] == ids[1] if all(ids) else is_unknown)
            if takes and taken[cart["message_id"]] is None:
                taken[cart["message_id"]] = order["message_id"]
    return taken


def listed_products(home: TestHome) -> pl.DataFrame:
    """What carts and checkouts list first that nobody had said to be added."""
    lines = home.read("""
        select message_id, 'added' as action, product_id, category, brand
        from staging.stg_product_lines
        where kind in ('cart', 'checkout') and action not in ('added', 'removed')
            and product_id is not null
        order by message_id, line_number
    """)
    listed = lines.partition_by("message_id", as_dict=True)
    moves = home.read("""
        select profile_events.profile_id, profile_events.message_id,
            carts.product_id as added
        from identity.profile_events
        left join (
            from staging.stg_cart_events where action = 'added'
        ) as carts using (message_id)
        order by profile_events.occurred_at, profile_events.message_id
    """)
    taken = taken_carts(home)
    added, first = set(), {}
    for profile_id, message_id, product_id in moves.iter_rows():
        cart = (profile_id, taken.get(message_id))
        if product_id:
            added.add((*cart, product_id))
        for line in listed.get((message_id,), lines.clear()).iter_rows(named=True):
            first.setdefault((*cart, line["product_id"]), line)
    rows = [line for item, line in first.items() if item not in added]
    return pl.DataFrame(rows, lines.schema)


def expected_interests(home: TestHome) -> pl.DataFrame:
    """Affinities from staging: decayed weights, shrunk towards the average."""
    columns = "message_id, action, product_id, category, brand"
    views = home.read(f"select {columns} from staging.stg_product_views")
    carts = home.read(f"select {columns} from staging.stg_cart_events")
    lines = home.read("select * from staging.stg_order_lines")
    ordered = (
        lines.drop_nulls("product_id")
        .group_by("message_id", "product_id")
        .agg(pl.col("category", "brand").max())
        .with_columns(action=pl.lit("ordered"))
    )
    age = (as_of(home) - pl.col("occurred_at")).dt.total_seconds().clip(0)
    half_life = RULES["affinity_half_life_days"] * 86_400
    signs = (
        pl.concat(
            [views, carts.drop_nulls("product_id"), listed_products(home), ordered],
            how="diagonal",
        )
        .join(seed("affinity_weights"), on="action")
        .join(home.read("from identity.profile_events"), on="message_id")
        .with_columns(interest=pl.col("weight") * 0.5 ** (age / half_life))
    )
    kinds = []
    for kind, column in (
        ("category", "category"),
        ("brand", "brand"),
        ("product", "product_id"),
    ):
        interest = (
            signs.drop_nulls(column)
            .group_by("profile_id", value=column)
            .agg(
                pl.col("interest").sum(),
                interaction_count=pl.len(),
                last_interaction_at=pl.col("occurred_at").max(),
            )
        )
        average = pl.col("interest").sum().over("value") / pl.col("interest").sum()
        own = pl.col("interest").sum().over("profile_id")
        prior = RULES["affinity_prior_weight"]
        kinds.append(
            interest.with_columns(
                kind=pl.lit(kind),
                affinity=(pl.col("interest") + prior * average) / (own + prior),
            )
        )
    return pl.concat(kinds).drop("interest")


def test_affinities_equal_a_separate_computation(known: TestHome) -> None:
    expected = expected_interests(known)
    assert expected.height > 500
    parts = [
        known.read(f"""
            select profile_id, '{kind}' as kind, {kind} as value, affinity,
                interaction_count, last_interaction_at
            from profiles.{table}
        """)
        for kind, table in (("category", "affinities"), ("brand", "brand_affinities"))
    ]
    products = known.read("from profiles.interests").filter(kind="product")
    keys = ["kind", "profile_id", "value"]
    assert_frame_equal(
        pl.concat([*parts, products], how="diagonal").sort(keys),
        expected.sort(keys),
        check_dtypes=False,
        check_column_order=False,
        rel_tol=1e-7,
    )


def test_affinities_of_a_profile_sum_to_at_most_one(known: TestHome) -> None:
    interests = known.read("from profiles.interests")
    sums = interests.group_by("profile_id", "kind").agg(pl.col("affinity").sum())
    assert interests["affinity"].min() > 0
    assert sums["affinity"].max() <= 1 + 1e-9


def test_product_affinities_keep_the_strongest(known: TestHome) -> None:
    every = expected_interests(known).filter(kind="product")
    kept = known.read("from profiles.product_affinities").join(
        every.rename({"value": "product_id", "affinity": "expected"}),
        on=["profile_id", "product_id"],
    )
    most = RULES["products_per_profile"]
    strongest = every.group_by("profile_id").agg(
        pl.col("affinity").sort(descending=True).head(most)
    )
    in_order = kept.sort("affinity_rank").group_by("profile_id").agg("expected")
    assert_frame_equal(
        in_order.rename({"expected": "affinity"}).sort("profile_id"),
        strongest.sort("profile_id"),
    )


def activities(home: TestHome) -> dict[str, list[Event]]:
    """What each profile did on site, in the app or in a store, first to last."""
    found = home.read("""
        select
            profile_events.profile_id, profile_events.occurred_at as at,
            events.message_id, events.kind, events.action,
            events.session_id as tracker,
            views.category, coalesce(views.product_id, carts.product_id) as product_id,
            coalesce(carts.quantity, 1) as quantity,
            coalesce(orders.store_id, views.store_id) as store_id
        from identity.profile_events
        inner join staging.stg_events as events using (message_id)
        left join staging.stg_product_views as views using (message_id)
        left join staging.stg_cart_events as carts using (message_id)
        left join staging.stg_orders as orders using (message_id)
        where
            events.kind in ('page_view', 'product_view', 'cart', 'checkout')
            or (events.kind = 'order' and events.action = 'completed')
            or (
                events.kind is null
                and events.type = 'track'
                and events.anonymous_id is not null
            )
    """)
    by_profile = defaultdict(list)
    for event in found.sort("at", "message_id").iter_rows(named=True):
        by_profile[event["profile_id"]].append(event)
    for events in by_profile.values():
        cut_into_sessions(events)
    return by_profile


def cut_into_sessions(events: list[Event]) -> None:
    """Give each event its session: the tracker's, or what no long silence parts."""
    gap = timedelta(seconds=RULES["session_gap_seconds"] + 1)
    tracked: Event | None = None
    previous: Event | None = None
    visit = 0
    for event in events:
        visit += previous is None or event["at"] - previous["at"] >= gap
        if event["tracker"]:
            tracked = event
        names_it = tracked is not None and event["at"] - tracked["at"] < gap
        event["session"] = tracked["tracker"] if names_it and tracked else visit
        previous = event


def test_sessions_equal_a_separate_computation(known: TestHome) -> None:
    ours = {
        event["message_id"]: (profile_id, event["session"])
        for profile_id, events in activities(known).items()
        for event in events
    }
    found = dict(
        known.read("select message_id, session_id from profiles.session_events").rows()
    )
    assert found.keys() == ours.keys()
    pairs = {(found[message_id], ours[message_id]) for message_id in ours}
    assert len(pairs) == len(set(found.values())) == len(set(ours.values()))


def newest(events: list[Event]) -> Event:
    return max(events, key=lambda event: (event["at"], event["message_id"]))


def left_in_cart(events: list[Event]) -> list[Event]:
    """The newest addition of each product that was not all taken out again."""
    by_product = defaultdict(list)
    for event in events:
        if event["action"] in ("added", "removed") and event["product_id"]:
            by_product[event["product_id"]].append(event)
    return [
        newest([event for event in changes if event["action"] == "added"])
        for changes in by_product.values()
        if sum(e["quantity"] * (1 if e["action"] == "added" else -1) for e in changes)
        > 0
    ]


def considered(events: list[Event], now: datetime) -> list[Event]:
    """The evidence of each category or product that is looked at again and again."""
    begins_at = now - timedelta(days=RULES["considering_lookback_days"])
    views: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event["action"] == "viewed" and event["kind"] == "product_view":
            what = (
                ("category", event["category"])
                if event["category"]
                else ("product", event["product_id"])
            )
            if what[1] and event["at"] > begins_at:
                views[what].append(event)
    found = []
    for seen in views.values():
        sessions = Counter(event["session"] for event in seen)
        if len(sessions) >= RULES["considering_sessions"]:
            found.append(newest(seen))
        elif max(sessions.values()) >= RULES["considering_category_views"]:
            often = RULES["considering_category_views"]
            found.append(newest([e for e in seen if sessions[e["session"]] >= often]))
    return found


def expected_active_intents(home: TestHome) -> Iterator[Row]:
    """(profile, intent, evidence, when, minutes, signs, store) from what was done."""
    now = as_of(home)
    fresh = {
        row["intent"]: timedelta(hours=row["max_age_hours"], seconds=1)
        for row in seed("intent_rules").iter_rows(named=True)
    }
    taken = taken_carts(home)
    orders = defaultdict(dict)
    for profile_id, message_id, status in home.read("""
        select profile_id, message_id, status
        from staging.stg_orders
        inner join identity.profile_events using (message_id)
    """).iter_rows():
        orders[profile_id][message_id] = status
    for profile_id, events in activities(home).items():
        mine = orders[profile_id]
        placed = [event for event in events if event["message_id"] in mine]
        ends_at = max((event["at"] for event in placed), default=datetime.min)
        since = [e for e in events if e["at"] > ends_at and e["kind"] != "order"]
        open_carts = [e for e in events if not taken.get(e["message_id"], True)]
        signs: dict[str, list[Event]] = defaultdict(list)
        for event in since:
            if event["kind"] != "checkout":
                is_check = event["action"] == "price_checked"
                kind = "price_checking" if is_check else "browsing"
                signs[kind] = [newest([*signs[kind], event])]
        if checkouts := [e for e in open_carts if e["kind"] == "checkout"]:
            signs["checkout_abandoned"] = [newest(checkouts)]
        signs["considering"] = considered(since, now)
        if items := left_in_cart(open_carts):
            signs["cart_abandoned"] = [newest(items)]
        stands = [e for e in placed if mine[e["message_id"]] != "cancelled"]
        if stands:
            signs["converted"] = [newest(stands)]
        if now - events[-1]["at"] < timedelta(seconds=RULES["left_after_seconds"]):
            for kind in ("cart_abandoned", "checkout_abandoned"):
                signs["considering"] += signs.pop(kind, [])
        for kind, seen in signs.items():
            found = [event for event in seen if now - event["at"] < fresh[kind]]
            if found:
                last = newest(found)
                yield (
                    *(profile_id, kind, last["message_id"], last["at"]),
                    (now - last["at"]) // timedelta(minutes=1),
                    *(len(found), last["store_id"]),
                )


def test_active_and_first_intents_equal_a_separate_computation(known: TestHome) -> None:
    expected = sorted(expected_active_intents(known), key=lambda row: row[:2])
    found = known.read("""
        select profile_id, intent, evidence_message_id, occurred_at, age_minutes,
            signal_count, store_id
        from profiles.active_intents
        order by profile_id, intent
    """)
    assert found.rows() == expected
    order = seed("intent_rules").sort("priority")["intent"].to_list()
    first: dict[str, Row] = {}
    for row in sorted(expected, key=lambda row: order.index(row[1])):
        first.setdefault(row[0], row[1:5])
    profiles = known.read("select distinct profile_id from identity.identity_map")
    assert {
        row[0]: row[1:]
        for row in known.read("""
            select profile_id, intent, evidence_message_id, intent_at,
                intent_age_minutes
            from profiles.intents
        """).iter_rows()
    } == {
        profile_id: first.get(profile_id, ("none", None, None, None))
        for profile_id in profiles["profile_id"]
    }


def test_the_sample_world_has_every_intent(sample: TestHome) -> None:
    active = sample.read("select distinct intent from profiles.active_intents")
    assert set(active["intent"]) == set(seed("intent_rules")["intent"])


def test_the_order_of_landing_changes_no_profile(
    sample: TestHome, build: Callable[[bool], TestHome]
) -> None:
    forwards, backwards = (
        {
            table: digest
            for table, digest in fingerprints(home.settings.warehouse).items()
            if table.startswith("profiles.")
        }
        for home in (sample, build(True))
    )
    assert forwards == backwards


def profile_of(home: TestHome, user: str) -> dict[str, Any]:
    return home.read(f"from profiles.profiles where user_id = '{user}'").row(
        0, named=True
    )


@pytest.mark.parametrize(
    ("user", "channel", "reason"),
    [
        ("verifier", "email", None),
        ("typist", "email", "invalid_address"),
        ("full", "email", "soft_bounced"),
        ("half-full", "email", None),
        ("gone", "email", "bounced"),
        ("refused", "email", "bounced"),
        ("long", "email", "invalid_address"),
        ("abroad", "email", None),
        ("quiet", "sms", "stopped"),
        ("quiet", "email", "no_address"),
        ("leaver", "push", "app_uninstalled"),
        ("leaver", "in_app", "app_uninstalled"),
        ("stayer", "push", None),
        ("stayer", "in_app", None),
    ],
)
def test_a_channel_says_why_it_cannot_be_reached(
    sample: TestHome, user: str, channel: str, reason: str | None
) -> None:
    found = sample.read(f"""
        select unreachable_reason, is_reachable
        from profiles.contact_points
        inner join profiles.profiles using (profile_id)
        where user_id = '{user}' and channel = '{channel}'
    """)
    assert found.rows() == [(reason, reason is None)]


def test_a_verified_email_outlives_a_newer_one(sample: TestHome) -> None:
    assert profile_of(sample, "verifier")["email"] == "proved@v.example"


def test_a_cancelled_order_leaves_no_abandoned_cart_behind(sample: TestHome) -> None:
    canceller = profile_of(sample, "canceller")
    assert (canceller["cancelled_order_count"], canceller["order_count"]) == (1, 0)
    found = sample.read(f"""
        select intent from profiles.active_intents
        where profile_id = '{canceller["profile_id"]}'
    """)
    assert found.is_empty()


def test_a_price_check_tells_the_store_the_place_and_the_age(sample: TestHome) -> None:
    found = sample.read("""
        select intent, surface, intents.store_id, intents.country, intents.city,
            intent_age_minutes
        from profiles.intents
        inner join profiles.profiles using (profile_id)
        where user_id = 'checker'
    """)
    assert found.rows() == [("price_checking", "store", "store-9", "FR", "Lyon", 61)]


def test_revenue_by_side_and_missteps_add_up(sample: TestHome) -> None:
    found = sample.read("""
        select
            sum(online_order_count + store_order_count) = sum(order_count) as orders,
            sum(online_revenue_amount + store_revenue_amount) = (
                select sum(base_revenue_amount) from staging.stg_orders
                inner join identity.profile_events using (message_id)
                where status <> 'cancelled'
            ) as revenue,
            sum(open_misstep_count + resolved_misstep_count)
                = (select count(*) from profiles.missteps) as missteps,
            sum(session_count) = (select count(*) from profiles.sessions) as sessions
        from profiles.profiles
    """)
    assert found.row(0) == (True, True, True, True)


def expected_pairs(home: TestHome) -> pl.DataFrame:
    """Lift of every two products that were ordered together, from staging."""
    begins_at = as_of(home) - timedelta(days=RULES["related_lookback_days"])
    baskets = (
        home.read("from staging.stg_order_lines")
        .drop_nulls("product_id")
        .join(home.read("from identity.profile_events"), on="message_id")
        .filter(pl.col("occurred_at") > begins_at)
        .group_by("message_id")
        .agg(product=pl.col("product_id").unique())
        .filter(pl.col("product").list.len() <= RULES["related_max_basket"])
    )
    lines = baskets.explode("product")
    held = lines.group_by("product").agg(count=pl.len())
    prior = RULES["related_prior_baskets"]
    chance = pl.col("one") * pl.col("other") / baskets.height
    return (
        lines.join(lines, on="message_id", suffix="_b")
        .filter(pl.col("product") != pl.col("product_b"))
        .group_by("product", "product_b")
        .agg(both=pl.len())
        .join(held.rename({"count": "one"}), on="product")
        .join(held.rename({"count": "other"}), left_on="product_b", right_on="product")
        .with_columns(lift=(pl.col("both") + prior) / (chance + prior))
        .select("product", "product_b", "both", "lift")
    )


def test_lift_equals_a_separate_computation(known: TestHome) -> None:
    found = known.read("""
        select product_id as product, related_product_id as product_b,
            basket_count as both, lift
        from profiles.product_pairs
        where relation = 'bought_together'
    """)
    keys = ["product", "product_b"]
    assert found.height > 100
    assert_frame_equal(
        found.sort(keys), expected_pairs(known).sort(keys), check_dtypes=False
    )


def test_next_products_are_related_new_and_few(known: TestHome) -> None:
    found = known.read("""
        select
            count(*) as suggested,
            count(related.product_id) as related,
            max(next.rank) as last_rank,
            count(bought.profile_id) filter (where not is_bought_repeatedly) as known
        from profiles.next_products as next
        inner join profiles.product_stats using (product_id)
        left join profiles.related_products as related
            on
                next.reason_product_id = related.product_id
                and next.product_id = related.related_product_id
        left join (
            select distinct profile_id, product_id
            from profiles.product_interactions where action = 'ordered'
        ) as bought
            on
                next.profile_id = bought.profile_id
                and next.product_id = bought.product_id
    """).row(0, named=True)
    assert found["suggested"] == found["related"] > 50
    assert found["known"] == 0
    assert found["last_rank"] <= RULES["next_products_per_profile"]


class SegmentLog:
    """The log of RFM segments, gone on with by hand-set segments and moments."""

    def __init__(self, home: TestHome) -> None:
        compiled = dbt(home, "compile", "--select", "rfm_changes")
        self.query = (compiled / "profiles" / "rfm_changes.sql").read_text()
        self.home = home

    def go_on(self, as_of: datetime, is_newest: bool, *changes: str) -> list[Row]:
        """What a run at that moment would log after these changes; nothing is kept."""
        with self.home.warehouse() as connection:
            connection.execute(
                "update staging.stg_run set as_of = ?, is_newest = ?",
                [as_of, is_newest],
            )
            for change in changes:
                connection.execute(change)
            rows = connection.execute(
                f"select profile_id, rfm_segment, previous_rfm_segment "
                f"from ({self.query}) order by profile_id"
            ).fetchall()
            connection.execute("rollback")
            connection.execute("begin")
        return rows


@pytest.fixture(scope="module")
def segment_log(sample: TestHome) -> SegmentLog:
    return SegmentLog(sample)


def test_segments_are_logged_once_and_again_only_when_they_change(
    sample: TestHome, segment_log: SegmentLog
) -> None:
    logged = sample.read("select profile_id, rfm_segment from profiles.rfm_changes")
    held = sample.read("select profile_id, rfm_segment from profiles.rfm")
    assert_frame_equal(logged.sort("profile_id"), held.sort("profile_id"))
    profile_id, segment = random.Random(1).choice(held.rows())
    change = f"""
        update profiles.rfm set rfm_segment = 'other'
        where profile_id = '{profile_id}'
    """
    later = AS_OF + timedelta(days=1)
    assert segment_log.go_on(later, True) == []
    assert segment_log.go_on(later, True, change) == [(profile_id, "other", segment)]
    assert segment_log.go_on(AS_OF, True, change) == []
    assert segment_log.go_on(later, False, change) == []


def test_a_merged_profile_goes_on_from_the_history_of_both(
    sample: TestHome, segment_log: SegmentLog
) -> None:
    held = sample.read("select profile_id, rfm_segment from profiles.rfm")
    loser, segment = held.row(0)
    winner, _ = held.filter(pl.col("rfm_segment") != segment).row(0)
    merge = [
        f"update identity.identity_map set profile_id = '{winner}' "
        f"where profile_id = '{loser}'",
        f"delete from profiles.rfm where profile_id = '{loser}'",
        f"delete from profiles.profile_identifiers where profile_id = '{loser}'",
        f"update profiles.rfm_changes set changed_at = changed_at + interval 1 hour "
        f"where profile_id = '{loser}'",
    ]
    own = held.filter(profile_id=winner)["rfm_segment"].item()
    assert segment_log.go_on(AS_OF + timedelta(days=1), True, *merge) == [
        (winner, own, segment)
    ]
