"""Visits to the shop's stores: prices checked at a shared kiosk, orders at the till."""

from dataclasses import dataclass

import numpy as np

from orchestration.sources.sample.catalogue import STORES
from orchestration.sources.sample.dice import Ints, Keys, names
from orchestration.sources.sample.fragments import (
    Members,
    constant,
    either,
    gather,
    join,
    json_object,
    kept,
    money,
    text,
)
from orchestration.sources.sample.orders import MAX_LINES, Orders
from orchestration.sources.sample.people import APP, KIOSK, SERVER
from orchestration.sources.sample.scene import MINUTE, Scene
from orchestration.sources.sample.sessions import fill_lines, interest


@dataclass(frozen=True)
class StoreVisits:
    """Visits to stores, one entry each."""

    key: Keys
    person: Ints
    starts_at: Ints


def visit_stores(scene: Scene, visits: StoreVisits) -> Orders:
    """Play out the day's store visits; returns what was bought there."""
    dice, people = scene.dice, scene.people
    mood = interest(scene, visits.key, visits.person)
    first = scene.catalogue.pick(dice, "store first", visits.key, mood)
    _check_prices(scene, visits, first)

    rows = np.flatnonzero(dice.chance("buys in store", visits.key, 0.62))
    buyer, key = visits.person[rows], visits.key[rows]
    quantity = [
        1 + dice.choice(f"quantity {column}", key, [0.8, 0.15, 0.05])
        for column in range(MAX_LINES)
    ]
    # the till knows members by their account, or by their card, or not at all
    shows = dice.choice("shows at till", key, [0.55, 0.35, 0.10])
    is_member = people.is_member(buyer, scene.day)
    knows_user = is_member & (shows == 0)
    knows_card = is_member & (shows == 1) & people.has_loyalty[buyer]
    card = gather(people.loyalty_id, buyer)
    receipt = names(dice.bits("receipt", key), "pos-", 12)
    by_card = join(',"traits":{"loyaltyId":"', card, '"}')
    return Orders(
        key=dice.bits("order", key),
        cart_key=key,
        person=buyer,
        ordered_at=visits.starts_at[rows] + 12 * MINUTE,
        store=people.store[buyer],
        lines=fill_lines(scene, key, first[rows], 0.45),
        quantity=np.stack(quantity, axis=1),
        user_id=kept(gather(people.user_id, buyer), knows_user),
        anonymous_id=kept(either(knows_card, join("pos-", card), receipt), ~knows_user),
        context=join(
            gather(people.contexts[SERVER], buyer), either(knows_card, by_card, ""), "}"
        ),
        checkout_id=constant(len(rows), None),
        cause=constant(len(rows), None),
    )


def _check_prices(scene: Scene, visits: StoreVisits, product: Ints) -> None:
    dice, people = scene.dice, scene.people
    rows = np.flatnonzero(dice.chance("checks price", visits.key, 0.4))
    shopper, key = visits.person[rows], visits.key[rows]
    store_id = gather(text(STORES), people.store[shopper])
    by_app = people.has_app[shopper] & dice.chance("by app", key, 0.6)
    logs_in = people.is_member(shopper, scene.day) & (
        by_app | dice.chance("kiosk login", key, 0.35)
    )
    kiosk = join(
        gather(people.contexts[KIOSK], shopper),
        ',"device":{"id":"kiosk-',
        store_id,
        '","type":"kiosk"}}',
    )
    scene.log.add(
        dice.bits("event price", key),
        visits.starts_at[rows] + 4 * MINUTE,
        "track",
        "Price Checked",
        user_id=kept(gather(people.user_id, shopper), logs_in),
        anonymous_id=either(
            by_app, gather(people.app_id, shopper), join("kiosk-", store_id)
        ),
        context=either(by_app, join(gather(people.contexts[APP], shopper), "}"), kiosk),
        properties=json_object(
            len(rows),
            store_id=store_id,
            product=Members(gather(scene.catalogue.members, product[rows])),
            competitor_price=money(
                scene.catalogue.price_cents[product[rows]] * 95 // 100
            ),
        ),
    )
