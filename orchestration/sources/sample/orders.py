"""Orders online and in store, and what comes after: delays, refunds, praise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from orchestration.sources.sample.catalogue import CURRENCIES, STORES, Catalogue
from orchestration.sources.sample.dice import Dice, Flags, Ints, Keys, names
from orchestration.sources.sample.event_log import EventLog
from orchestration.sources.sample.fragments import (
    Members,
    Raw,
    gather,
    join,
    json_object,
    money,
)
from orchestration.sources.sample.people import SERVER, People

MAX_LINES = 3
HOUR = 3_600_000
DAY = 24 * HOUR
ONLINE = -1


@dataclass(frozen=True)
class Orders:
    """Orders placed, one entry each; `store` is `ONLINE` or a store's position."""

    key: Keys
    cart_key: Keys
    person: Ints
    ordered_at: Ints
    store: Ints
    lines: Ints
    quantity: Ints
    user_id: pl.Series
    anonymous_id: pl.Series
    context: pl.Series
    checkout_id: pl.Series
    cause: pl.Series

    def __len__(self) -> int:
        return len(self.key)


ORDER_TRUTH = {
    "order_id": pl.String,
    "person_id": pl.Int64,
    "ordered_at": pl.Datetime("ms"),
    "store_id": pl.String,
    "revenue_amount": pl.Float64,
    "currency": pl.String,
    "caused_by": pl.String,
    "outcome": pl.String,
}


def line_list(catalogue: Catalogue, lines: Ints, quantity: Ints | None = None) -> Any:
    """The `products` of each row as a JSON list."""
    pieces: list[pl.Series | str] = ["["]
    for column in range(lines.shape[1]):
        taken = lines[:, column]
        count = (
            np.ones(len(lines), dtype=np.int64)
            if quantity is None
            else quantity[:, column]
        )
        line = json_object(
            len(lines),
            product=Members(gather(catalogue.members, np.maximum(taken, 0))),
            quantity=count,
        )
        lead = "," if column else ""
        kept = pl.Series(taken >= 0)
        pieces.append(join(lead, line).zip_with(kept, pl.Series([""])))
    return join(*pieces, "]")


def place_orders(
    log: EventLog,
    dice: Dice,
    people: People,
    catalogue: Catalogue,
    orders: Orders,
    day: int,
) -> pl.DataFrame:
    """Take down the orders and all that follows from them; returns their truth."""
    count = len(orders)
    if count == 0:
        return pl.DataFrame(schema=ORDER_TRUTH)
    prices = np.append(catalogue.price_cents, 0)
    subtotal = (prices[orders.lines] * orders.quantity).sum(axis=1)
    in_store = orders.store != ONLINE
    uses_coupon = dice.chance("uses coupon", orders.key, 0.14)
    discount = np.where(uses_coupon, subtotal // 10, 0)
    revenue = subtotal - discount
    shipping = np.where(in_store | (revenue >= 7500), 0, 495)
    tax = revenue * 8 // 100
    order_id = names(orders.key, "o-", 10)
    coupon = pl.Series([f"COMEBACK{day // 30 % 12 + 1:02d}"] * count)
    currency = gather(pl.Series(CURRENCIES), people.city[orders.person])
    store_id = _where(gather(pl.Series(STORES), np.maximum(orders.store, 0)), in_store)
    affiliation = _where(join("Harbour Shop ", store_id.fill_null("")), in_store)
    ids = {
        "user_id": orders.user_id,
        "anonymous_id": orders.anonymous_id,
        "context": orders.context,
    }
    log.add(
        dice.bits("event order", orders.key),
        orders.ordered_at,
        "track",
        "Order Completed",
        properties=json_object(
            count,
            order_id=order_id,
            checkout_id=orders.checkout_id,
            affiliation=affiliation.fill_null("Harbour Shop Online"),
            store_id=store_id,
            subtotal=money(subtotal),
            discount=money(discount),
            coupon=_where(coupon, uses_coupon),
            revenue=money(revenue),
            shipping=money(shipping),
            tax=money(tax),
            total=money(revenue + shipping + tax),
            currency=currency,
            products=Raw(line_list(catalogue, orders.lines, orders.quantity)),
        ),
        **ids,
    )
    for event, mask, before in (
        ("Coupon Applied", uses_coupon & ~in_store, 40_000),
        ("Coupon Redeemed", uses_coupon & in_store, 2_000),
    ):
        rows = np.flatnonzero(mask)
        log.add(
            dice.bits(f"event {event}", orders.key[rows]),
            orders.ordered_at[rows] - before,
            "track",
            event,
            properties=json_object(
                len(rows),
                order_id=gather(order_id, rows),
                coupon_id=gather(coupon, rows),
                coupon_name="Ten percent off",
                discount=money(discount[rows]),
            ),
            **{name: gather(column, rows) for name, column in ids.items()},
        )
    _follow_up(log, dice, people, catalogue, orders, order_id, revenue, currency)
    return pl.DataFrame(
        {
            "order_id": order_id,
            "person_id": orders.person,
            "ordered_at": pl.Series(orders.ordered_at).cast(pl.Datetime("ms")),
            "store_id": store_id,
            "revenue_amount": money(revenue),
            "currency": currency,
            "caused_by": orders.cause,
            "outcome": _where(pl.Series(["caused"] * count), _known(orders.cause)),
        },
        schema=ORDER_TRUTH,
    ).with_columns(pl.col("outcome").fill_null("organic"))


def _follow_up(
    log: EventLog,
    dice: Dice,
    people: People,
    catalogue: Catalogue,
    orders: Orders,
    order_id: pl.Series,
    revenue: Ints,
    currency: pl.Series,
) -> None:
    """Days later: the parcel, what went wrong with it, and what was said about it."""
    key, online = orders.key, orders.store == ONLINE
    server = join(
        people.contexts[SERVER].gather(pl.Series(orders.person.astype(np.uint32))), "}"
    )
    first_product = orders.lines[:, 0]

    def tell(event: str, rows: Flags, hours: Any, **more: Any) -> None:
        chosen = np.flatnonzero(rows)
        picked = {name: _pick(value, chosen) for name, value in more.items()}
        delay = np.broadcast_to(hours, (len(key),))[chosen] * HOUR
        log.add(
            dice.bits(f"event {event}", key[chosen]),
            orders.ordered_at[chosen] + delay.astype(np.int64),
            "track",
            event,
            user_id=gather(orders.user_id, chosen),
            anonymous_id=gather(orders.anonymous_id, chosen),
            context=gather(server, chosen),
            properties=json_object(
                len(chosen), order_id=gather(order_id, chosen), **picked
            ),
        )

    fate = dice.choice("fate", key, [0.90, 0.03, 0.03, 0.04])
    is_cancelled = (fate == 1) & online
    is_partly_refunded, is_refunded = fate == 2, fate == 3
    tell(
        "Order Updated", online & ~is_cancelled,
        dice.between("shipped after", key, 8, 40), status="shipped",
        revenue=money(revenue), currency=currency,
    )  # fmt: skip
    tell(
        "Order Cancelled", is_cancelled, dice.between("cancelled after", key, 0.3, 20),
        revenue=money(revenue), currency=currency, reason="changed_mind",
    )  # fmt: skip
    share = np.where(is_refunded, 100, dice.whole("refund share", key, 2, 7) * 10)
    refund_after = dice.between("refunded after", key, 70, 400)
    # a few store refunds come without the receipt: nobody can link them to an order
    has_receipt = online | dice.chance("has receipt", key, 0.8)
    refund = {
        "refund_id": names(dice.bits("refund", key), "r-", 10),
        "revenue": money(revenue * share // 100),
        "total": money(revenue * share // 100),
        "currency": currency,
    }
    refunded = is_partly_refunded | is_refunded
    tell("Order Refunded", refunded & has_receipt, refund_after, **refund)
    chosen = np.flatnonzero(refunded & ~has_receipt)
    log.add(
        dice.bits("event unlinked refund", key[chosen]),
        orders.ordered_at[chosen] + (refund_after[chosen] * HOUR).astype(np.int64),
        "track",
        "Order Refunded",
        user_id=gather(orders.user_id, chosen),
        anonymous_id=gather(orders.anonymous_id, chosen),
        context=gather(server, chosen),
        properties=json_object(
            len(chosen), **{name: gather(col, chosen) for name, col in refund.items()}
        ),
    )

    is_delayed = online & ~is_cancelled & dice.chance("delayed", key, 0.055)
    tell(
        "Delivery Delayed", is_delayed, dice.between("delay noticed", key, 40, 90),
        days_late=pl.Series(dice.whole("days late", key, 1, 8)),
    )  # fmt: skip
    complains = np.where(is_delayed, 0.4, np.where(refunded, 0.2, 0.025))
    has_ticket = dice.chance("ticket", key, complains)
    opened_after = dice.between("ticket after", key, 91, 160)
    ticket = names(dice.bits("ticket", key), "tk-", 10)
    tell(
        "Support Ticket Opened", has_ticket, opened_after,
        ticket_id=ticket, topic="delivery",
    )  # fmt: skip
    tell(
        "Support Ticket Resolved", has_ticket & dice.chance("resolved", key, 0.85),
        opened_after + dice.between("resolved after", key, 5, 150), ticket_id=ticket,
    )  # fmt: skip

    went_wrong = is_delayed | refunded | has_ticket
    warmth = people.warmth[orders.person]
    mood = np.where(went_wrong, warmth * 6, 5.2 + warmth * 5.6)
    mood = mood + 1.6 * dice.normal("nps mood", key)
    score = np.clip(np.rint(mood), 0, 10).astype(np.int64)
    tell(
        "NPS Submitted", ~is_cancelled & dice.chance("answers nps", key, 0.2),
        dice.between("nps after", key, 110, 260), score=pl.Series(score),
    )  # fmt: skip
    praises = np.where(went_wrong, 0.02, 0.02 + 0.12 * warmth)
    tell(
        "Product Reviewed", ~is_cancelled & dice.chance("reviews", key, praises),
        dice.between("review after", key, 90, 500),
        product=Members(gather(catalogue.members, first_product)),
        rating=pl.Series(np.where(went_wrong, 2, np.where(warmth > 0.4, 5, 4))),
    )  # fmt: skip
    refers = ~went_wrong & dice.chance("refers", key, 0.07 * warmth)
    referred_after = dice.between("refers after", key, 60, 400)
    referral = names(dice.bits("referral", key), "rf-", 10)
    tell("Referral Sent", refers, referred_after, referral_id=referral)
    tell(
        "Referral Converted", refers & dice.chance("referral converts", key, 0.4),
        referred_after + dice.between("converts after", key, 5, 200),
        referral_id=referral,
    )  # fmt: skip


def _pick(value: Any, rows: Ints) -> Any:
    if isinstance(value, Members):
        return Members(gather(value.text, rows))
    return gather(value, rows) if isinstance(value, pl.Series) else value


def _known(column: pl.Series) -> Flags:
    return column.is_not_null().to_numpy()


def _where(column: pl.Series, kept: Flags) -> pl.Series:
    return column.zip_with(pl.Series(kept), pl.Series([None], dtype=column.dtype))
