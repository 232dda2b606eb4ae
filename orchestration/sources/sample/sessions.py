"""What a person does in one sitting at the shop: browse, compare, fill a cart, buy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from orchestration.sources.sample.catalogue import (
    CATEGORIES,
    PRODUCTS_PER_CATEGORY,
    Catalogue,
)
from orchestration.sources.sample.dice import Flags, Floats, Ints, Keys, Text, names
from orchestration.sources.sample.fragments import (
    Members,
    Raw,
    digits,
    either,
    gather,
    is_known,
    join,
    json_object,
    kept,
    money,
    text,
)
from orchestration.sources.sample.orders import MAX_LINES, ONLINE, Orders, line_list
from orchestration.sources.sample.people import APP, TABLET, WEB
from orchestration.sources.sample.scene import HOUR, SECOND, Scene, in_milliseconds

NO_PRODUCT = -1
#: how often somebody of average appetite who has seen products puts one in the cart
CART_RATE = 0.32
NOT_LOGGED_IN = 10**9
#: when things happen in a sitting, in seconds of an average pace
LOGIN, SEARCH, LIST, VIEW, WISH, SHARE = 12, 16, 24, 40, 215, 225
SIGN_UP, ADD, CART, REMOVE, CHECKOUT, PAY, ORDER = 235, 250, 290, 296, 310, 360, 385


@dataclass
class Sessions:
    """Sittings to be played out, one entry each."""

    key: Keys
    person: Ints
    starts_at: Ints
    slot: Ints
    #: what is in the cart already, and what caught the eye beforehand
    cart: Ints
    product: Ints
    cart_key: Keys
    cart_rate: Floats
    checkout_rate: Floats
    order_rate: Floats
    is_sign_up: Flags
    #: part of a sitting that has begun already: no landing page again
    continues: Flags
    session_id: Text
    campaign: Text
    #: the message without which this sitting would not have been
    cause: Text

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True)
class Visit:
    """What the day's sittings left behind."""

    orders: Orders
    carts: pl.DataFrame


CART_SCHEMA = pl.Schema(
    {
        "person": pl.Int64(),
        "key": pl.UInt64(),
        "line_0": pl.Int64(),
        "line_1": pl.Int64(),
        "line_2": pl.Int64(),
        "left_at": pl.Int64(),
        "returns_at": pl.Int64(),
    }
)


def empty_lines(count: int) -> Ints:
    """A cart with nothing in it, for each of `count` sittings."""
    return np.full((count, MAX_LINES), NO_PRODUCT, dtype=np.int64)


class Sitting:
    """Takes down one day's sittings, kind of event by kind of event."""

    def __init__(self, scene: Scene, sessions: Sessions) -> None:
        self.scene, self.s = scene, sessions
        people, person, slot = scene.people, sessions.person, sessions.slot
        self.pace = scene.dice.between("pace", sessions.key, 0.6, 1.5)
        self.login_at = self._logins()
        self.is_web = slot == WEB
        self.base = either(
            self.is_web,
            gather(people.contexts[WEB], person),
            either(
                slot == APP,
                gather(people.contexts[APP], person),
                gather(people.contexts[TABLET], person),
            ),
        )
        self.anonymous_id = either(
            self.is_web,
            people.web_id(scene.dice, person, scene.day),
            either(
                slot == APP,
                gather(people.app_id, person),
                people.household_id(scene.dice, person),
            ),
        )
        self.user_id = gather(people.user_id, person)
        self.currency = scene.currency(person)
        self.session = join(
            self.base, ',"sessionId":"', sessions.session_id, '"', sessions.campaign
        )

    def _logins(self) -> Floats:
        """Seconds into the sitting from which on the user id is known."""
        s, people, dice = self.s, self.scene.people, self.scene.dice
        drawn = dice.choice("login", s.key, [0.45, 0.27, 0.28])
        at = np.select([drawn == 0, drawn == 1], [0, LOGIN], NOT_LOGGED_IN)
        at = np.where(s.slot == APP, 0, at)
        at = np.where(s.slot == TABLET, np.where(drawn == 0, LOGIN, at), at)
        at = np.where(s.is_sign_up, SIGN_UP, at)
        return np.where(people.is_member(s.person, self.scene.day), at, NOT_LOGGED_IN)

    def record(
        self,
        what: str,
        rows: Flags | Ints,
        second: Floats | float,
        kind: str,
        event: str | Text | None,
        *,
        page: str | Text | None = None,
        properties: Text | None = None,
        **columns: Text,
    ) -> None:
        """Take down one event for each of the given sittings."""
        s = self.s
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else rows
        if len(rows) == 0:
            return
        seconds = np.broadcast_to(second, (len(rows),)) * self.pace[rows]
        known = self.login_at[rows] * self.pace[rows] <= seconds
        parts: list[Text | str] = [gather(self.session, rows)]
        if page is not None:
            parts += [',"page":{"path":"', page, '"}']
        if properties is not None:
            columns["properties"] = properties
        self.scene.log.add(
            self.scene.dice.bits(f"event {what}", s.key[rows]),
            s.starts_at[rows] + in_milliseconds(seconds, SECOND),
            kind,
            event,
            user_id=kept(gather(self.user_id, rows), known),
            anonymous_id=gather(self.anonymous_id, rows),
            context=join(*parts, "}"),
            **columns,
        )

    def product(self, products: Ints, **more: Any) -> Text:
        """The properties of an event about one product."""
        return json_object(
            len(products),
            product=Members(gather(self.scene.catalogue.members, products)),
            **more,
        )


def play_sessions(scene: Scene, sessions: Sessions) -> Visit:
    """Play out the day's sittings: arrive, look around, fill a cart, check out."""
    sitting = Sitting(scene, sessions)
    _arrive(sitting)
    viewed = _look_around(sitting)
    lines = _fill_cart(sitting, viewed)
    return _check_out(sitting, lines)


def _arrive(sitting: Sitting) -> None:
    s, scene, is_web = sitting.s, sitting.scene, sitting.is_web
    dice, people = scene.dice, scene.people
    starts = ~s.continues
    paths = ["/", "/sale", "/new", "/account"]
    labels = ["Home", "Sale", "New Arrivals", "Account"]
    spot = dice.choice("landing", s.key, [0.7, 0.12, 0.12, 0.06])
    second_spot = dice.choice("second page", s.key, [0.2, 0.3, 0.3, 0.2])
    wanders = starts & dice.chance("wanders", s.key, 0.45)
    for what, second, who, place in (
        ("landing", 0, starts, spot),
        ("second page", 8, wanders, second_spot),
    ):
        for kind, mask in (("page", is_web), ("screen", ~is_web)):
            rows = np.flatnonzero(who & mask)
            path = gather(text(paths), place[rows])
            properties = (
                json_object(
                    len(rows), path=path, url=join("https://shop.example.com", path)
                )
                if kind == "page"
                else json_object(len(rows), section=path)
            )
            name = gather(text(labels), place[rows])
            sitting.record(
                what,
                rows,
                second,
                kind,
                name,
                page=path if kind == "page" else None,
                properties=properties,
            )

    logs_in = (sitting.login_at == LOGIN) | s.is_sign_up
    rows = np.flatnonzero(logs_in)
    traits = gather(people.traits, s.person[rows])
    sitting.record(
        "identify", rows, sitting.login_at[rows], "identify", None, traits=traits
    )
    joins = np.flatnonzero(s.is_sign_up & (s.slot == APP))
    sitting.record(
        "alias",
        joins,
        SIGN_UP,
        "alias",
        None,
        previous_id=gather(sitting.anonymous_id, joins),
    )

    variation = dice.choice("variation", people.key[s.person], [0.5, 0.5])
    sees = is_web & starts & (scene.day % 30 >= 15)
    rows = np.flatnonzero(sees & dice.chance("experiment", s.key, 0.35))
    sitting.record(
        "experiment",
        rows,
        1,
        "track",
        "Experiment Viewed",
        page="/",
        properties=json_object(
            len(rows),
            experiment_id=f"exp-{scene.day // 30}",
            experiment_name="Free shipping banner",
            variation_id=digits(variation[rows]),
            variation_name=gather(text(["Control", "Banner"]), variation[rows]),
        ),
    )
    asked = is_web & starts & dice.chance("cookie banner", s.key, 0.06)
    rows = np.flatnonzero(asked | (s.is_sign_up & is_web))
    agrees = dice.chance("agrees", s.key[rows], 0.7)
    sitting.record(
        "preferences",
        rows,
        2,
        "track",
        "Segment Consent Preference Updated",
        page="/",
        properties=json_object(
            len(rows),
            advertising=agrees,
            analytics=agrees | dice.chance("analytics", s.key[rows], 0.5),
            functional=True,
        ),
    )


def _look_around(sitting: Sitting) -> Ints:
    """Searches, lists and product views; returns the first product of each sitting."""
    s, scene = sitting.s, sitting.scene
    dice, catalogue = scene.dice, scene.catalogue
    category = interest(scene, s.key, s.person)
    has_product = s.product != NO_PRODUCT
    category = np.where(has_product, s.product // PRODUCTS_PER_CATEGORY, category)
    name_of = text(list(CATEGORIES))
    query_of = text([label.lower() for label in CATEGORIES])
    views = dice.choice("views", s.key, [0.20, 0.27, 0.22, 0.18, 0.13])
    views = np.where(has_product, np.maximum(views, 1), views)
    views = np.where(s.continues, np.minimum(views, 1), views)

    rows = np.flatnonzero((views > 0) & dice.chance("searches", s.key, 0.22))
    sitting.record(
        "search",
        rows,
        SEARCH,
        "track",
        "Products Searched",
        page="/search",
        properties=json_object(len(rows), query=gather(query_of, category[rows])),
    )
    rows = np.flatnonzero((views > 1) & dice.chance("lists", s.key, 0.55))
    label = gather(name_of, category[rows])
    sitting.record(
        "list",
        rows,
        LIST,
        "track",
        "Product List Viewed",
        page="/category",
        properties=json_object(len(rows), list_id=join("list-", label), category=label),
    )

    first = np.where(
        has_product, s.product, catalogue.pick(dice, "first view", s.key, category)
    )
    seen = first
    for number in range(4):
        rows = np.flatnonzero(views > number)
        if number:
            strays = dice.chance(f"strays {number}", s.key, 0.25)
            other = dice.whole(f"other {number}", s.key, 0, len(CATEGORIES))
            seen = catalogue.pick(
                dice, f"view {number}", s.key, np.where(strays, other, category)
            )
        second = VIEW + 38 * number
        shown = seen[rows]
        clicks = dice.chance(f"clicks {number}", s.key[rows], 0.3)
        sitting.record(
            f"click {number}",
            rows[clicks],
            second - 3,
            "track",
            "Product Clicked",
            page="/category",
            properties=sitting.product(shown[clicks], position=number + 1),
        )
        sitting.record(
            f"view {number}",
            rows,
            second,
            "track",
            "Product Viewed",
            page=join("/products/", gather(catalogue.product_id, shown)),
            properties=sitting.product(shown, currency=gather(sitting.currency, rows)),
        )
    for what, rate, second, event in (
        ("wish", 0.05, WISH, "Product Added to Wishlist"),
        ("share", 0.02, SHARE, "Product Shared"),
    ):
        rows = np.flatnonzero((views > 0) & dice.chance(what, s.key, rate))
        sitting.record(
            what,
            rows,
            second,
            "track",
            event,
            page="/products",
            properties=sitting.product(first[rows]),
        )
    return np.where(views > 0, first, NO_PRODUCT)


def interest(scene: Scene, keys: Keys, persons: Ints) -> Ints:
    """The category on a person's mind: mostly a favourite one."""
    dice, people = scene.dice, scene.people
    mood = dice.choice("mood", keys, [0.55, 0.2, 0.25])
    anything = dice.whole("anything", keys, 0, len(CATEGORIES))
    return np.select(
        [mood == 0, mood == 1],
        [people.favourite[persons], people.second_favourite[persons]],
        anything,
    )


def fill_lines(scene: Scene, keys: Keys, first: Ints, rate: float = 0.3) -> Ints:
    """The products bought together with the first one, `NO_PRODUCT` where none is."""
    dice, catalogue = scene.dice, scene.catalogue
    lines = empty_lines(len(keys))
    lines[:, 0] = first
    for column in range(1, MAX_LINES):
        more = dice.chance(f"line {column}", keys, rate) & (first != NO_PRODUCT)
        same = dice.chance(f"same {column}", keys, 0.5)
        other = dice.whole(f"line category {column}", keys, 0, len(CATEGORIES))
        category = np.where(same, first // PRODUCTS_PER_CATEGORY, other)
        picked = catalogue.pick(dice, f"line product {column}", keys, category)
        lines[:, column] = np.where(more, picked, NO_PRODUCT)
    return lines


def _fill_cart(sitting: Sitting, viewed: Ints) -> Ints:
    """What is in each cart in the end; `NO_PRODUCT` in its first place says none."""
    s, scene = sitting.s, sitting.scene
    dice = scene.dice
    came_with_cart = s.cart[:, 0] != NO_PRODUCT
    adds = (
        ~came_with_cart
        & (viewed != NO_PRODUCT)
        & dice.chance("adds", s.key, s.cart_rate)
    )
    picked = fill_lines(scene, s.key, viewed)
    picked[~adds] = NO_PRODUCT
    cart_id = names(s.cart_key, "c-", 10)
    for column in range(MAX_LINES):
        rows = np.flatnonzero(picked[:, column] != NO_PRODUCT)
        sitting.record(
            f"add {column}",
            rows,
            ADD + 9 * column,
            "track",
            "Product Added",
            page="/cart",
            properties=sitting.product(
                picked[rows, column], cart_id=gather(cart_id, rows), quantity=1
            ),
        )
    lines = np.where(came_with_cart[:, None], s.cart, picked)
    looks = (lines[:, 0] != NO_PRODUCT) & dice.chance("looks", s.key, 0.6)
    rows = np.flatnonzero(looks | came_with_cart)
    sitting.record(
        "cart",
        rows,
        CART,
        "track",
        "Cart Viewed",
        page="/cart",
        properties=json_object(
            len(rows),
            cart_id=gather(cart_id, rows),
            products=Raw(line_list(scene.catalogue, lines[rows])),
        ),
    )
    removes = (lines[:, 1] != NO_PRODUCT) & dice.chance("removes", s.key, 0.15)
    rows = np.flatnonzero(removes)
    sitting.record(
        "remove",
        rows,
        REMOVE,
        "track",
        "Product Removed",
        page="/cart",
        properties=sitting.product(
            lines[rows, 1], cart_id=gather(cart_id, rows), quantity=1
        ),
    )
    lines[rows, 1] = NO_PRODUCT
    return lines


def _check_out(sitting: Sitting, lines: Ints) -> Visit:
    s, scene = sitting.s, sitting.scene
    dice, catalogue = scene.dice, scene.catalogue
    has_cart = lines[:, 0] != NO_PRODUCT
    starts = has_cart & dice.chance("checks out", s.key, s.checkout_rate)
    pays = starts & dice.chance("orders", s.key, s.order_rate)
    fills_in = pays | (starts & dice.chance("fills in", s.key, 0.4))
    checkout_id = names(dice.bits("checkout", s.cart_key), "k-", 10)
    value = cart_value(catalogue, lines)
    for what, second, mask, event, step in (
        ("checkout", CHECKOUT, starts, "Checkout Started", None),
        ("step 1", CHECKOUT + 2, starts, "Checkout Step Viewed", 1),
        ("step 1 done", CHECKOUT + 30, fills_in, "Checkout Step Completed", 1),
        ("payment", PAY, pays, "Payment Info Entered", 2),
    ):
        rows = np.flatnonzero(mask)
        started = step is None
        sitting.record(
            what,
            rows,
            second,
            "track",
            event,
            page="/checkout",
            properties=json_object(
                len(rows),
                checkout_id=gather(checkout_id, rows),
                step=step,
                cart_id=gather(names(s.cart_key, "c-", 10), rows) if started else None,
                revenue=money(value[rows]) if started else None,
                value=money(value[rows]) if started else None,
                currency=gather(sitting.currency, rows) if started else None,
                products=Raw(line_list(catalogue, lines[rows])) if started else None,
            ),
        )

    rows = np.flatnonzero(pays)
    ordered_at = s.starts_at[rows] + in_milliseconds(sitting.pace[rows], ORDER * SECOND)
    known = sitting.login_at[rows] <= ORDER
    context = join(gather(sitting.session, rows), ',"page":{"path":"/thanks"}}')
    orders = Orders(
        key=dice.bits("order", s.key[rows]),
        cart_key=s.cart_key[rows],
        person=s.person[rows],
        ordered_at=ordered_at,
        store=np.full(len(rows), ONLINE, dtype=np.int64),
        lines=lines[rows],
        quantity=np.ones((len(rows), MAX_LINES), dtype=np.int64),
        user_id=kept(gather(sitting.user_id, rows), known),
        anonymous_id=gather(sitting.anonymous_id, rows),
        context=context,
        checkout_id=gather(checkout_id, rows),
        cause=gather(s.cause, rows),
    )
    left = has_cart & ~pays
    rows = np.flatnonzero(left & ~is_known(s.cause))
    wait = in_milliseconds(dice.between("cart wait", s.key[rows], 0.8, 44.0), HOUR)
    comes_back = dice.chance("comes back", s.key[rows], 0.27)
    left_at = s.starts_at[rows] + in_milliseconds(sitting.pace[rows], ORDER * SECOND)
    carts = pl.DataFrame(
        {
            "person": s.person[rows],
            "key": s.cart_key[rows],
            "line_0": lines[rows, 0],
            "line_1": lines[rows, 1],
            "line_2": lines[rows, 2],
            "left_at": left_at,
            "returns_at": np.where(comes_back, left_at + wait, -1),
        },
        schema=CART_SCHEMA,
    )
    return Visit(orders, carts)


def cart_value(catalogue: Catalogue, lines: Ints) -> Ints:
    """Cents in the cart, one of each product."""
    prices = np.append(catalogue.price_cents, 0)
    value: Ints = prices[lines].sum(axis=1)
    return value
