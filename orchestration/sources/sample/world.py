"""The sample world: a made-up shop and its customers, one day after the other.

The same step plays history under the old broadcasts and the closed loop under
Rekindle. What a person does unasked depends on the seed alone; what messages cause
comes on top, or takes the place of what would have come anyway.
"""

import io
import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from orchestration.sources.sample import arrival
from orchestration.sources.sample.accounts import keep_accounts
from orchestration.sources.sample.catalogue import CITIES, build_catalogue
from orchestration.sources.sample.dice import Dice, Flags, Ints, Keys, names
from orchestration.sources.sample.event_log import EventLog
from orchestration.sources.sample.messages import (
    MESSAGE_TRUTH,
    POST_SCHEMA,
    SEND_SCHEMA,
    Postman,
    Reactions,
    broadcast,
    posts_from_sends,
)
from orchestration.sources.sample.orders import ORDER_TRUTH, Orders, place_orders
from orchestration.sources.sample.people import (
    APP,
    TABLET,
    WEB,
    build_people,
    local_offsets,
)
from orchestration.sources.sample.sessions import (
    CART_SCHEMA,
    NO_PRODUCT,
    Sessions,
    empty_lines,
    gather_sessions,
    play_sessions,
)
from orchestration.sources.sample.stores import visit_stores

HOUR = 3_600_000
DAY = 24 * HOUR
#: a day of this world ends, and a run looks at it, at this hour UTC
CLOSING_HOUR = 20
FIRST_DAY = date(2026, 3, 3)
#: how much of a day's sittings begins in each local hour
HOURS_OF_DAY = [
    0.6, 0.3, 0.2, 0.1, 0.1, 0.3, 1.0, 2.2, 3.0, 3.4, 3.6, 3.8,
    4.6, 4.2, 3.6, 3.6, 4.0, 4.8, 6.0, 7.4, 8.2, 7.8, 5.2, 2.0,
]  # fmt: skip
#: chance per day that a regular falls asleep, and that a sleeper wakes unasked
FALLS_ASLEEP, WAKES_UP = 1 / 160, 1 / 420
ASLEEP_RATE = 0.015
WOKEN_FOR_DAYS = 30
#: a person thinks about one product for so many days at a time
PROJECT_DAYS = 9


class World:
    """The state of the sample world at the end of a day."""

    def __init__(self, seed: int, customers: int, start: date) -> None:
        self.seed, self.customers, self.start = seed, customers, start
        self.dice = Dice(seed)
        self.catalogue = build_catalogue(self.dice)
        self.people = build_people(self.dice, customers, start)
        self.day = 0
        self.is_alive = ~self.dice.chance("asleep", self.people.key, 0.38)
        self.fatigue = np.zeros(customers)
        self.consents = self.people.consents.copy()
        self.woken_until = np.full(customers, -1, dtype=np.int64)
        self.woken_by = pl.Series([None] * customers, dtype=pl.String)
        self.carts = pl.DataFrame(schema=CART_SCHEMA)
        self.posts = pl.DataFrame(schema=POST_SCHEMA)
        self.queue = pl.DataFrame(schema=arrival.QUEUE_SCHEMA)
        #: what is true of the last day's orders and messages, for nobody's eyes
        self.orders = pl.DataFrame(schema=ORDER_TRUTH)
        self.messages = pl.DataFrame(schema=MESSAGE_TRUTH)

    @classmethod
    def create(cls, seed: int, customers: int, start: date = FIRST_DAY) -> "World":
        """A world before its first day, which ends on `start`."""
        return cls(seed, customers, start)

    def as_of(self, day: int) -> datetime:
        """The moment that ends a day; the day is the 24 hours before it."""
        closing = datetime.combine(self.start, time(CLOSING_HOUR), UTC)
        return closing + timedelta(days=day)

    def broadcasts(self, day: int) -> pl.DataFrame:
        """What the shop sends by its old policy on that day."""
        return broadcast(self.dice, self.people, self.consents, day, self.as_of(day))

    def step(
        self, day: int, sends: pl.DataFrame | None = None, broadcasts: bool = False
    ) -> pl.DataFrame:
        """Live one day and return the events that arrive on it.

        `sends` has the columns of `SEND_SCHEMA`; one that was sent before the day
        began is taken as sent at its beginning. Days must follow one another.
        """
        if day != self.day:
            raise ValueError(f"the world is at day {self.day}, not at day {day}")
        dice, people = self.dice, self.people
        closes_at = self.as_of(day)
        opens_at = closes_at - timedelta(days=1)
        opens = int(opens_at.timestamp() * 1000)
        closes = opens + DAY
        log = EventLog()
        self._wake_and_sleep(day)

        posts = [self.posts]
        if broadcasts:
            posts.append(self.broadcasts(day))
        if sends is not None and sends.height:
            missing = set(SEND_SCHEMA) - set(sends.columns)
            if missing:
                raise ValueError(f"sends lack the columns {sorted(missing)}")
            posts.append(
                posts_from_sends(
                    dice, people, sends.select(SEND_SCHEMA), day, opens_at, closes_at
                )
            )

        organic = self._sittings(day, opens)
        postman = Postman(
            log, dice, people, day, closes, self.is_alive, self.fatigue, self.consents,
            self.carts,
        )  # fmt: skip
        reactions = postman.deliver(pl.concat(posts), organic)
        truth = self._react(log, reactions, day, opens, closes)

        returning = self._returning(opens, closes)
        sessions = gather_sessions([organic, returning])
        visit = play_sessions(log, dice, people, self.catalogue, sessions, day)
        truth.append(self._order(log, visit.orders, day))
        truth.append(self._order(log, self._visit_stores(log, day, opens), day))
        self.carts = pl.concat([self.carts, visit.carts]).filter(
            (pl.col("left_at") > closes - 10 * DAY) | (pl.col("returns_at") >= closes)
        )

        self.consents = keep_accounts(log, dice, people, self.consents, day, opens)
        for persons, channel in reactions.refusals:
            self.consents[persons, channel] = False
        self.orders = pl.concat(truth).sort("ordered_at", "order_id")
        self.messages = pl.concat(
            [pl.DataFrame(schema=MESSAGE_TRUTH), *reactions.truth]
        )
        self.posts = reactions.waiting
        self.day += 1
        waiting = pl.concat([self.queue, arrival.send_off(dice, log.frame())])
        arrives = pl.col("received_at")
        self.queue = waiting.filter(arrives >= closes)
        return arrival.sort(waiting.filter((arrives >= opens) & (arrives < closes)))

    def _wake_and_sleep(self, day: int) -> None:
        today = self.dice.child("alive", self.people.key, day)
        chance = np.where(self.is_alive, FALLS_ASLEEP, WAKES_UP)
        self.is_alive ^= self.dice.chance("turns", today, chance)

    def _sittings(self, day: int, opens: int) -> Sessions:
        """The day's sittings that nobody asked for by a message sent today."""
        dice, people = self.dice, self.people
        member = people.joins_on <= day
        here = people.browses_from <= day
        mind = self._project(day)
        asleep_rate = np.where(self.is_alive, 1.0, ASLEEP_RATE)
        is_woken = self.woken_until >= day
        lively_rate = np.where(is_woken, 1.0, asleep_rate)
        curious = np.where(mind != NO_PRODUCT, 3.2, 1.0)
        base = np.minimum(people.session_rate * curious, 0.8) * here
        parts = []
        for slot_of_day, share in ((0, 1.0), (1, 0.3)):
            key = dice.child(f"sitting {slot_of_day}", people.key, day)
            drawn = dice.uniform("sits down", key)
            unasked = drawn < base * share * asleep_rate
            woken = ~unasked & (drawn < base * share * lively_rate)
            joins = (people.joins_on == day) & (slot_of_day == 0)
            rows = np.flatnonzero(unasked | woken | joins)
            cause = self.woken_by.zip_with(
                pl.Series(woken & ~joins), pl.Series([None], dtype=pl.String)
            )
            parts.append(
                self._sitting(
                    key[rows], rows, self._local_times(key[rows], rows, day, opens),
                    mind[rows], joins[rows], cause.gather(rows.astype(np.uint32)),
                    member[rows],
                )
            )  # fmt: skip
        return gather_sessions(parts)

    def _project(self, day: int) -> Ints:
        """The product each person is making up their mind about, if any."""
        dice, key = self.dice, self.people.key
        shift = dice.whole("project shift", key, 0, PROJECT_DAYS)
        epoch = dice.child("project", key, (day + shift) // PROJECT_DAYS)
        product = self.catalogue.pick(
            dice, "project product", epoch, self.people.favourite
        )
        return np.where(dice.chance("has project", epoch, 0.13), product, NO_PRODUCT)

    def _sitting(
        self,
        key: Keys,
        person: Ints,
        starts_at: Ints,
        product: Ints,
        joins: Flags,
        cause: pl.Series,
        member: Flags,
    ) -> Sessions:
        dice, people, count = self.dice, self.people, len(key)
        wants_app = people.has_app[person] & (
            dice.chance("app today", key, 0.6) | ~people.has_web[person]
        )
        slot = np.where(wants_app, APP, WEB)
        on_tablet = (people.household[person] >= 0) & dice.chance("tablet", key, 0.25)
        slot = np.where(on_tablet & ~joins, TABLET, slot)
        in_mind = (product != NO_PRODUCT) & dice.chance("in mind", key, 0.85)
        # whoever compares buys less in each sitting, and comes more often
        hesitates = np.where(in_mind, 0.35, 1.0)
        appetite = people.appetite[person] * hesitates
        return Sessions(
            key=key,
            person=person,
            starts_at=starts_at,
            slot=slot,
            cart=empty_lines(count),
            product=np.where(in_mind, product, NO_PRODUCT),
            cart_key=dice.bits("cart", key),
            cart_rate=np.minimum(0.26 * appetite, 0.75),
            checkout_rate=np.full(count, 0.58),
            order_rate=np.full(count, 0.60),
            is_sign_up=joins & member,
            continues=np.zeros(count, dtype=bool),
            session_id=names(dice.bits("session", key), "s-", 12),
            campaign=pl.Series([""] * count, dtype=pl.String),
            cause=cause.cast(pl.String),
        )

    def _local_times(self, key: Keys, person: Ints, day: int, opens: int) -> Ints:
        """When in the day each sitting begins, by the habits of the local clock."""
        offsets = local_offsets(self.as_of(day).date())
        assert len(offsets) == len(CITIES)
        local = self.dice.choice("hour", key, HOURS_OF_DAY)
        hour = (local - offsets[self.people.city[person]] - CLOSING_HOUR) % 24
        return opens + ((hour + self.dice.uniform("minute", key)) * HOUR).astype(
            np.int64
        )

    def _returning(self, opens: int, closes: int) -> Sessions:
        """Those who come back today to the cart they left, to buy it."""
        due = self.carts.filter(
            (pl.col("returns_at") >= opens) & (pl.col("returns_at") < closes)
        )
        return self._returns(due)

    def _returns(self, carts: pl.DataFrame) -> Sessions:
        count = carts.height
        cart_key = carts["key"].to_numpy()
        person = carts["person"].to_numpy()
        sessions = self._sitting(
            self.dice.bits("return", cart_key),
            person,
            carts["returns_at"].to_numpy(),
            np.full(count, NO_PRODUCT),
            np.zeros(count, dtype=bool),
            pl.Series([None] * count, dtype=pl.String),
            self.people.is_member(person, self.day),
        )
        sessions.cart = carts.select("line_0", "line_1", "line_2").to_numpy().copy()
        sessions.product = sessions.cart[:, 0]
        sessions.cart_key = cart_key
        sessions.checkout_rate = sessions.order_rate = np.ones(count)
        return sessions

    def _react(
        self, log: EventLog, reactions: Reactions, day: int, opens: int, closes: int
    ) -> list[pl.DataFrame]:
        """Play out the sittings that messages caused; returns their orders' truth."""
        reached = np.concatenate(
            [np.zeros(0, dtype=np.int64)]
            + [truth["person_id"].to_numpy() for truth in reactions.truth]
        )
        self.fatigue *= 0.86
        self.fatigue += np.bincount(reached, minlength=self.customers)
        if not reactions.sessions:
            return [pl.DataFrame(schema=ORDER_TRUTH)]
        caused = gather_sessions(reactions.sessions)
        visit = play_sessions(log, self.dice, self.people, self.catalogue, caused, day)
        orders = visit.orders
        truth = self._order(log, orders, day)
        wakes = ~self.is_alive[orders.person] & self.dice.chance(
            "stays awake", orders.key, 0.6
        )
        woken = orders.person[wakes]
        self.woken_until[woken] = day + WOKEN_FOR_DAYS
        by = self.woken_by.to_list()
        for person, cause in zip(
            woken.tolist(), orders.cause.filter(pl.Series(wakes)), strict=True
        ):
            by[person] = cause
        self.woken_by = pl.Series(by, dtype=pl.String)
        return [truth, self._displaced(orders, day)]

    def _displaced(self, orders: Orders, day: int) -> pl.DataFrame:
        """Orders that would have come anyway: the cart's owner was about to return.

        The cart is bought now, so nobody returns to it; the order not placed is
        played in a log that nobody reads.
        """
        causes = pl.DataFrame({"key": orders.cart_key, "cause": orders.cause})
        bought = self.carts.join(causes.unique("key", keep="first"), on="key")
        self.carts = self.carts.join(causes, on="key", how="anti")
        bought = bought.filter(pl.col("returns_at") >= 0).sort("key")
        if bought.height == 0:
            return pl.DataFrame(schema=ORDER_TRUTH)
        unlived = self._returns(bought.drop("cause"))
        unread = EventLog()
        visit = play_sessions(
            unread, self.dice, self.people, self.catalogue, unlived, day
        )
        return place_orders(
            unread, self.dice, self.people, self.catalogue, visit.orders, day
        ).with_columns(caused_by=bought["cause"], outcome=pl.lit("displaced"))

    def _visit_stores(self, log: EventLog, day: int, opens: int) -> Orders:
        people = self.people
        key = self.dice.child("store visit", people.key, day)
        rate = people.store_rate * np.where(self.is_alive, 1.0, ASLEEP_RATE)
        rows = np.flatnonzero(
            (people.browses_from <= day) & self.dice.chance("goes to store", key, rate)
        )
        offsets = local_offsets(self.as_of(day).date())[people.city[rows]]
        local = self.dice.between("store hour", key[rows], 9.5, 19.0)
        hour = (local - offsets - CLOSING_HOUR) % 24
        starts_at = opens + (hour * HOUR).astype(np.int64)
        return visit_stores(
            log, self.dice, people, self.catalogue, rows, key[rows], starts_at, day
        )

    def _order(self, log: EventLog, orders: Orders, day: int) -> pl.DataFrame:
        return place_orders(log, self.dice, self.people, self.catalogue, orders, day)

    def save(self, path: Path) -> None:
        """Write the state to one file, from which `load` goes on."""
        facts = {
            "seed": self.seed,
            "customers": self.customers,
            "start": self.start.isoformat(),
            "day": self.day,
        }
        partial = path.with_name(path.name + ".tmp")
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                facts=np.array(json.dumps(facts)),
                is_alive=self.is_alive,
                fatigue=self.fatigue,
                consents=self.consents,
                woken_until=self.woken_until,
                woken_by=_packed(self.woken_by.to_frame("woken_by")),
                carts=_packed(self.carts),
                posts=_packed(self.posts),
                queue=_packed(self.queue),
            )
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "World":
        """The world as it was when it was saved."""
        with np.load(path) as saved:
            facts = json.loads(str(saved["facts"]))
            world = cls(
                facts["seed"], facts["customers"], date.fromisoformat(facts["start"])
            )
            world.day = facts["day"]
            world.is_alive = saved["is_alive"]
            world.fatigue = saved["fatigue"]
            world.consents = saved["consents"]
            world.woken_until = saved["woken_until"]
            world.woken_by = _unpacked(saved["woken_by"]).to_series()
            world.carts = _unpacked(saved["carts"])
            world.posts = _unpacked(saved["posts"])
            world.queue = _unpacked(saved["queue"])
        return world


def _packed(frame: pl.DataFrame) -> np.ndarray:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def _unpacked(data: np.ndarray) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(data.tobytes()))
