"""Visits to the shop's stores: prices checked at a shared kiosk, purchases at the till."""

import numpy as np
import polars as pl

from orchestration.sources.sample.catalogue import STORES, Catalogue
from orchestration.sources.sample.dice import Dice, Flags, Ints, Keys, names
from orchestration.sources.sample.event_log import EventLog
from orchestration.sources.sample.fragments import (
    Members,
    gather,
    join,
    json_object,
    money,
)
from orchestration.sources.sample.orders import MAX_LINES, Orders
from orchestration.sources.sample.people import APP, KIOSK, SERVER, People
from orchestration.sources.sample.sessions import fill_lines, interest

MINUTE = 60_000


def visit_stores(
    log: EventLog,
    dice: Dice,
    people: People,
    catalogue: Catalogue,
    person: Ints,
    key: Keys,
    starts_at: Ints,
    day: int,
) -> Orders:
    """Play out the day's store visits; returns what was bought there."""
    first = catalogue.pick(
        dice, "store first", key, interest(dice, people, key, person)
    )
    _check_prices(log, dice, people, catalogue, person, key, starts_at, first, day)
    buys = dice.chance("buys in store", key, 0.62)
    rows = np.flatnonzero(buys)
    buyer, key = person[rows], key[rows]
    lines = fill_lines(dice, catalogue, key, first[rows], 0.45)
    quantity = np.stack(
        [1 + dice.choice(f"quantity {c}", key, [0.8, 0.15, 0.05]) for c in range(3)],
        axis=1,
    )
    assert quantity.shape[1] == MAX_LINES
    # the till knows members by their card, or by the app's code, or not at all
    is_member = people.is_member(buyer, day)
    shows = dice.choice("shows at till", key, [0.55, 0.35, 0.10])
    knows_user = is_member & (shows == 0)
    shows_card = is_member & (shows == 1) & people.has_loyalty[buyer]
    card = gather(people.loyalty_id, buyer)
    receipt = names(dice.bits("receipt", key), "pos-", 12)
    anonymous_id = join("pos-", card.fill_null("")).zip_with(
        pl.Series(shows_card), receipt
    )
    # the server's context is an object still open at its end
    traits = join(',"traits":{"loyaltyId":"', card.fill_null(""), '"}')
    context = join(
        gather(people.contexts[SERVER], buyer),
        traits.zip_with(pl.Series(shows_card), pl.Series([""])),
        ',"channel":"store"}',
    )
    return Orders(
        key=dice.bits("order", key),
        cart_key=key,
        person=buyer,
        ordered_at=starts_at[rows] + 12 * MINUTE,
        store=people.store[buyer],
        lines=lines,
        quantity=quantity,
        user_id=_kept(gather(people.user_id, buyer), knows_user),
        anonymous_id=_kept(anonymous_id, ~knows_user),
        context=context,
        checkout_id=pl.Series([None] * len(rows), dtype=pl.String),
        cause=pl.Series([None] * len(rows), dtype=pl.String),
    )


def _check_prices(
    log: EventLog,
    dice: Dice,
    people: People,
    catalogue: Catalogue,
    person: Ints,
    key: Keys,
    starts_at: Ints,
    product: Ints,
    day: int,
) -> None:
    rows = np.flatnonzero(dice.chance("checks price", key, 0.4))
    shopper, key = person[rows], key[rows]
    store_id = gather(pl.Series(STORES), people.store[shopper])
    by_app = people.has_app[shopper] & dice.chance("by app", key, 0.6)
    logs_in = people.is_member(shopper, day) & (
        by_app | dice.chance("kiosk login", key, 0.35)
    )
    kiosk = join(
        gather(people.contexts[KIOSK], shopper),
        ',"device":{"id":"kiosk-',
        store_id,
        '","type":"kiosk"}}',
    )
    app = join(gather(people.contexts[APP], shopper), "}")
    log.add(
        dice.bits("event price", key),
        starts_at[rows] + 4 * MINUTE,
        "track",
        "Price Checked",
        user_id=_kept(gather(people.user_id, shopper), logs_in),
        anonymous_id=gather(people.app_id, shopper).zip_with(
            pl.Series(by_app), join("kiosk-", store_id)
        ),
        context=app.zip_with(pl.Series(by_app), kiosk),
        properties=json_object(
            len(rows),
            store_id=store_id,
            product=Members(gather(catalogue.members, product[rows])),
            competitor_price=money(catalogue.price_cents[product[rows]] * 95 // 100),
        ),
    )


def _kept(column: pl.Series, kept: Flags) -> pl.Series:
    return column.zip_with(pl.Series(kept), pl.Series([None], dtype=pl.String))
