"""Orders online and in store, and what comes after: delays, refunds, praise."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from orchestration.sources.sample.catalogue import STORES, Catalogue
from orchestration.sources.sample.dice import Flags, Floats, Ints, Keys, Text, names
from orchestration.sources.sample.fragments import (
    Members,
    Raw,
    constant,
    either,
    gather,
    is_known,
    join,
    json_object,
    kept,
    money,
    text,
)
from orchestration.sources.sample.people import SERVER
from orchestration.sources.sample.scene import HOUR, SECOND, Scene, in_milliseconds

MAX_LINES = 3
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
    user_id: Text
    anonymous_id: Text
    context: Text
    checkout_id: Text
    cause: Text

    def __len__(self) -> int:
        return len(self.key)


ORDER_TRUTH = pl.Schema(
    {
        "order_id": pl.String(),
        "person_id": pl.Int64(),
        "ordered_at": pl.Datetime("ms"),
        "store_id": pl.String(),
        "revenue_amount": pl.Float64(),
        "currency": pl.String(),
        "caused_by": pl.String(),
        "outcome": pl.String(),
    }
)


def line_list(catalogue: Catalogue, lines: Ints, quantity: Ints | None = None) -> Text:
    """The `products` of each row as a JSON list, by default one of each."""
    quantity = np.ones_like(lines) if quantity is None else quantity
    pieces: list[Text | str] = ["["]
    for column in range(lines.shape[1]):
        taken = lines[:, column]
        line = json_object(
            len(lines),
            product=Members(gather(catalogue.members, np.maximum(taken, 0))),
            quantity=quantity[:, column],
        )
        pieces.append(either(taken >= 0, join("," if column else "", line), ""))
    return join(*pieces, "]")


def place_orders(scene: Scene, orders: Orders) -> pl.DataFrame:
    """Take down the orders and all that follows from them; returns their truth."""
    count, dice = len(orders), scene.dice
    if count == 0:
        return pl.DataFrame(schema=ORDER_TRUTH)
    prices = np.append(scene.catalogue.price_cents, 0)
    subtotal = (prices[orders.lines] * orders.quantity).sum(axis=1)
    in_store = orders.store != ONLINE
    uses_coupon = dice.chance("uses coupon", orders.key, 0.14)
    discount = np.where(uses_coupon, subtotal // 10, 0)
    revenue = subtotal - discount
    shipping = np.where(in_store | (revenue >= 7500), 0, 495)
    tax = revenue * 8 // 100
    order_id = names(orders.key, "o-", 10)
    coupon = constant(count, f"COMEBACK{scene.day // 30 % 12 + 1:02d}")
    currency = scene.currency(orders.person)
    store_id = kept(gather(text(STORES), np.maximum(orders.store, 0)), in_store)
    ids = {
        "user_id": orders.user_id,
        "anonymous_id": orders.anonymous_id,
        "context": orders.context,
    }
    scene.log.add(
        dice.bits("event order", orders.key),
        orders.ordered_at,
        "track",
        "Order Completed",
        properties=json_object(
            count,
            order_id=order_id,
            checkout_id=orders.checkout_id,
            affiliation=either(
                in_store, join("Harbour Shop ", store_id), "Harbour Shop Online"
            ),
            store_id=store_id,
            subtotal=money(subtotal),
            discount=money(discount),
            coupon=kept(coupon, uses_coupon),
            revenue=money(revenue),
            shipping=money(shipping),
            tax=money(tax),
            total=money(revenue + shipping + tax),
            currency=currency,
            products=Raw(line_list(scene.catalogue, orders.lines, orders.quantity)),
        ),
        **ids,
    )
    for event, mask, before in (
        ("Coupon Applied", uses_coupon & ~in_store, 40 * SECOND),
        ("Coupon Redeemed", uses_coupon & in_store, 2 * SECOND),
    ):
        rows = np.flatnonzero(mask)
        scene.log.add(
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
    _follow_up(scene, orders, order_id, revenue)
    is_caused = is_known(orders.cause)
    return pl.DataFrame(
        {
            "order_id": pl.Series(order_id),
            "person_id": orders.person,
            "ordered_at": pl.Series(orders.ordered_at).cast(pl.Datetime("ms")),
            "store_id": pl.Series(store_id),
            "revenue_amount": money(revenue),
            "currency": pl.Series(currency),
            "caused_by": pl.Series(orders.cause),
            "outcome": np.where(is_caused, "caused", "organic"),
        },
        schema=ORDER_TRUTH,
    )


class Aftermath:
    """Events about orders, hours and days after them."""

    def __init__(self, scene: Scene, orders: Orders, order_id: Text) -> None:
        self.scene, self.orders, self.order_id = scene, orders, order_id
        self.context = join(gather(scene.people.contexts[SERVER], orders.person), "}")

    def record(
        self,
        event: str,
        which: Flags,
        hours: Floats,
        names_order: bool = True,
        **fields: Ints | Floats | Text | Members | str,
    ) -> None:
        """Record one event for each of the given orders, so many hours later."""
        orders, rows = self.orders, np.flatnonzero(which)
        ids = {"order_id": self.order_id} if names_order else {}
        self.scene.log.add(
            self.scene.dice.bits(f"event {event} {names_order}", orders.key[rows]),
            orders.ordered_at[rows] + in_milliseconds(hours[rows], HOUR),
            "track",
            event,
            user_id=gather(orders.user_id, rows),
            anonymous_id=gather(orders.anonymous_id, rows),
            context=gather(self.context, rows),
            properties=json_object(
                len(rows),
                **{name: _pick(value, rows) for name, value in (ids | fields).items()},
            ),
        )


def _follow_up(scene: Scene, orders: Orders, order_id: Text, revenue: Ints) -> None:
    """Days later: the parcel, what went wrong with it, and what was said about it."""
    dice, key, online = scene.dice, orders.key, orders.store == ONLINE
    record = Aftermath(scene, orders, order_id).record
    amount = {"revenue": money(revenue), "currency": scene.currency(orders.person)}

    fate = dice.choice("fate", key, [0.90, 0.03, 0.03, 0.04])
    is_cancelled = (fate == 1) & online
    is_partly_refunded, is_refunded = fate == 2, fate == 3
    shipped_after = dice.between("shipped after", key, 8, 40)
    record(
        "Order Updated", online & ~is_cancelled, shipped_after,
        status="shipped", **amount,
    )  # fmt: skip
    cancelled_after = dice.between("cancelled after", key, 0.3, 20)
    record(
        "Order Cancelled", is_cancelled, cancelled_after,
        reason="changed_mind", **amount,
    )  # fmt: skip
    share = np.where(is_refunded, 100, dice.whole("refund share", key, 2, 7) * 10)
    refunded = is_partly_refunded | is_refunded
    refunded_after = dice.between("refunded after", key, 70, 400)
    refund = {
        "refund_id": names(dice.bits("refund", key), "r-", 10),
        "total": money(revenue * share // 100),
        "revenue": money(revenue * share // 100),
        "currency": amount["currency"],
    }
    # a few store refunds come without the receipt: nobody can link them to an order
    has_receipt = online | dice.chance("has receipt", key, 0.8)
    record("Order Refunded", refunded & has_receipt, refunded_after, True, **refund)
    record("Order Refunded", refunded & ~has_receipt, refunded_after, False, **refund)

    is_delayed = online & ~is_cancelled & dice.chance("delayed", key, 0.055)
    record(
        "Delivery Delayed", is_delayed, dice.between("delay noticed", key, 40, 90),
        days_late=dice.whole("days late", key, 1, 8),
    )  # fmt: skip
    complains = np.where(is_delayed, 0.4, np.where(refunded, 0.2, 0.025))
    has_ticket = dice.chance("ticket", key, complains)
    opened_after = dice.between("ticket after", key, 91, 160)
    resolved_after = opened_after + dice.between("resolved after", key, 5, 150)
    is_resolved = has_ticket & dice.chance("resolved", key, 0.85)
    ticket_id = names(dice.bits("ticket", key), "tk-", 10)
    record("Support Ticket Opened", has_ticket, opened_after, ticket_id=ticket_id)
    record("Support Ticket Resolved", is_resolved, resolved_after, ticket_id=ticket_id)

    went_wrong = is_delayed | refunded | has_ticket
    warmth = scene.people.warmth[orders.person]
    mood = np.where(went_wrong, warmth * 6, 5.2 + warmth * 5.6)
    mood = mood + 1.6 * dice.normal("nps mood", key)
    record(
        "NPS Submitted", ~is_cancelled & dice.chance("answers nps", key, 0.2),
        dice.between("nps after", key, 110, 260),
        score=np.clip(np.rint(mood), 0, 10).astype(np.int64),
    )  # fmt: skip
    praises = np.where(went_wrong, 0.02, 0.02 + 0.12 * warmth)
    record(
        "Product Reviewed", ~is_cancelled & dice.chance("reviews", key, praises),
        dice.between("review after", key, 90, 500),
        product=Members(gather(scene.catalogue.members, orders.lines[:, 0])),
        rating=np.where(went_wrong, 2, np.where(warmth > 0.4, 5, 4)),
    )  # fmt: skip
    refers = ~went_wrong & dice.chance("refers", key, 0.07 * warmth)
    referred_after = dice.between("refers after", key, 60, 400)
    converted_after = referred_after + dice.between("converts after", key, 5, 200)
    converts = refers & dice.chance("referral converts", key, 0.4)
    referral_id = names(dice.bits("referral", key), "rf-", 10)
    record("Referral Sent", refers, referred_after, referral_id=referral_id)
    record("Referral Converted", converts, converted_after, referral_id=referral_id)


def _pick(
    value: Ints | Floats | Text | Members | str, rows: Ints
) -> Ints | Floats | Text | Members | str:
    if isinstance(value, Members):
        return Members(gather(value.text, rows))
    if isinstance(value, str):
        return value
    return value[rows] if isinstance(value, np.ndarray) else gather(value, rows)
