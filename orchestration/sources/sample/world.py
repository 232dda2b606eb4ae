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
from orchestration.sources.sample.catalogue import build_catalogue
from orchestration.sources.sample.dice import Dice, Flags, Ints, Keys, names
from orchestration.sources.sample.fragments import constant, stack, text
from orchestration.sources.sample.messages import (
    MESSAGE_TRUTH,
    POST_SCHEMA,
    SEND_SCHEMA,
    Mood,
    OpenCarts,
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
from orchestration.sources.sample.scene import DAY, HOUR, Scene, in_milliseconds
from orchestration.sources.sample.sessions import (
    CART_RATE,
    CART_SCHEMA,
    NO_PRODUCT,
    Sessions,
    empty_lines,
    play_sessions,
)
from orchestration.sources.sample.stores import StoreVisits, visit_stores

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
WOKEN_SCHEMA = {"woken_by": pl.String}
#: what is left of yesterday's fatigue
FADES = 0.86
CARTS_ARE_KEPT_FOR = 10 * DAY
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
        self.woken_by = np.full(customers, None, dtype=object)
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

    def step(
        self, day: int, sends: pl.DataFrame | None = None, broadcasts: bool = False
    ) -> pl.DataFrame:
        """Live one day and return the events that arrive on it.

        `sends` has the columns of `SEND_SCHEMA`; one that was sent before the day
        began is taken as sent at its beginning. `broadcasts` says whether the shop
        follows its old policy too. Days must follow one another.
        """
        if day != self.day:
            raise ValueError(f"the world is at day {self.day}, not at day {day}")
        scene = self._scene(day)
        self._wake_and_sleep(day)
        posts = [self.posts]
        if broadcasts:
            posts.append(broadcast(scene, self.consents, self.as_of(day)))
        if sends is not None and sends.height:
            missing = set(SEND_SCHEMA) - set(sends.columns)
            if missing:
                raise ValueError(f"sends lack the columns {sorted(missing)}")
            posts.append(posts_from_sends(scene, sends))

        organic = self._sittings(scene)
        carts = OpenCarts.of(self.carts, self.customers)
        mood = Mood(self.is_alive, self.fatigue, self.consents, carts)
        postman = Postman(scene, mood)
        self.posts = postman.deliver(pl.concat(posts), organic)
        caused = self._react(scene, postman.reactions)
        displaced = self._displaced(scene, caused)

        due = pl.col("returns_at").is_between(
            scene.opens_at, scene.closes_at, closed="left"
        )
        returning = self._returns(scene, self.carts.filter(due))
        visit = play_sessions(scene, stack([organic, returning]))
        orders = [caused] if caused else []
        orders += [visit.orders, self._visit_stores(scene)]
        truth = [place_orders(scene, stack(orders)), displaced]
        self.carts = pl.concat([self.carts, visit.carts]).filter(
            (pl.col("left_at") > scene.closes_at - CARTS_ARE_KEPT_FOR)
            | (pl.col("returns_at") >= scene.closes_at)
        )

        self.consents = keep_accounts(scene, self.consents)
        for persons, channel in postman.reactions.refusals:
            self.consents[persons, channel] = False
        self.orders = pl.concat(truth).sort("ordered_at", "order_id")
        self.messages = pl.concat(
            [pl.DataFrame(schema=MESSAGE_TRUTH), *postman.reactions.truth]
        ).sort("sent_at", "message")
        self.day += 1
        travelling = pl.concat(
            [self.queue, arrival.send_off(scene.dice, scene.log.frame())]
        )
        arrives = pl.col("received_at")
        self.queue = travelling.filter(arrives >= scene.closes_at)
        return arrival.in_order(travelling.filter(arrives < scene.closes_at))

    def _scene(self, day: int) -> Scene:
        closes_at = self.as_of(day)
        return Scene(
            self.dice,
            self.people,
            self.catalogue,
            day,
            int(closes_at.timestamp()) * 1000 - DAY,
            local_offsets(closes_at.date())[self.people.city],
        )

    def _wake_and_sleep(self, day: int) -> None:
        today = self.dice.child("alive", self.people.key, day)
        chance = np.where(self.is_alive, FALLS_ASLEEP, WAKES_UP)
        self.is_alive ^= self.dice.chance("turns", today, chance)

    def _sittings(self, scene: Scene) -> Sessions:
        """The day's sittings that no message of today asked for."""
        dice, people, day = self.dice, self.people, self.day
        mind = self._project(day)
        rate = people.session_rate * np.where(mind != NO_PRODUCT, 3.2, 1.0)
        rate = np.minimum(rate, 0.8) * (people.browses_from <= day)
        asleep_rate = np.where(self.is_alive, 1.0, ASLEEP_RATE)
        lively_rate = np.where(self.woken_until >= day, 1.0, asleep_rate)
        parts = []
        for number, share in ((0, 1.0), (1, 0.3)):
            key = dice.child(f"sitting {number}", people.key, day)
            drawn = dice.uniform("sits down", key)
            unasked = drawn < rate * share * asleep_rate
            woken = ~unasked & (drawn < rate * share * lively_rate)
            joins = (people.joins_on == day) & (number == 0)
            rows = np.flatnonzero(unasked | woken | joins)
            cause = np.where(woken & ~joins, self.woken_by, np.array(None))[rows]
            starts_at = self._local_times(scene, key[rows], rows)
            sessions = self._sitting(
                key[rows], rows, starts_at, mind[rows], joins[rows]
            )
            sessions.cause = text(cause.tolist())
            parts.append(sessions)
        return stack(parts)

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
    ) -> Sessions:
        """Sittings as they come of themselves: where, with what on the mind."""
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
            cart_rate=np.minimum(CART_RATE * appetite, 0.75),
            checkout_rate=np.full(count, 0.58),
            order_rate=np.full(count, 0.55),
            is_sign_up=joins,
            continues=np.zeros(count, dtype=bool),
            session_id=names(dice.bits("session", key), "s-", 12),
            campaign=constant(count, ""),
            cause=constant(count, None),
        )

    def _local_times(self, scene: Scene, key: Keys, person: Ints) -> Ints:
        """When in the day each sitting begins, by the habits of the local clock."""
        local = self.dice.choice("hour", key, HOURS_OF_DAY)
        hour = (local - scene.clock[person] - CLOSING_HOUR) % 24
        minute = self.dice.uniform("minute", key)
        return scene.opens_at + in_milliseconds(hour + minute, HOUR)

    def _returns(self, scene: Scene, carts: pl.DataFrame) -> Sessions:
        """Those who come back to the cart they left, to buy it."""
        count = carts.height
        cart_key = carts["key"].to_numpy()
        person = carts["person"].to_numpy()
        sessions = self._sitting(
            scene.dice.bits("return", cart_key),
            person,
            carts["returns_at"].to_numpy(),
            np.full(count, NO_PRODUCT),
            np.zeros(count, dtype=bool),
        )
        sessions.cart = carts.select("line_0", "line_1", "line_2").to_numpy().copy()
        sessions.product = sessions.cart[:, 0]
        sessions.cart_key = cart_key
        sessions.checkout_rate = sessions.order_rate = np.ones(count)
        return sessions

    def _react(self, scene: Scene, reactions: Reactions) -> Orders | None:
        """Play out the sittings that messages caused; returns their orders."""
        reached = np.concatenate(
            [np.zeros(0, dtype=np.int64)]
            + [truth["person_id"].to_numpy() for truth in reactions.truth]
        )
        self.fatigue *= FADES
        self.fatigue += np.bincount(reached, minlength=self.customers)
        if not reactions.sessions:
            return None
        orders = play_sessions(scene, stack(reactions.sessions)).orders
        wakes = ~self.is_alive[orders.person] & self.dice.chance(
            "stays awake", orders.key, 0.6
        )
        self.woken_until[orders.person[wakes]] = self.day + WOKEN_FOR_DAYS
        causes = np.array(orders.cause.to_pylist(), dtype=object)
        self.woken_by[orders.person[wakes]] = causes[wakes]
        return orders

    def _displaced(self, scene: Scene, orders: Orders | None) -> pl.DataFrame:
        """Orders that would have come anyway: the cart's owner was about to return.

        The cart is bought now, so nobody returns to it; the order not placed is
        played in a log that nobody reads.
        """
        if orders is None:
            return pl.DataFrame(schema=ORDER_TRUTH)
        causes = pl.DataFrame(
            {"key": orders.cart_key, "cause": pl.Series(orders.cause, dtype=pl.String)}
        ).unique("key", keep="first", maintain_order=True)
        bought = self.carts.join(causes, on="key").filter(pl.col("returns_at") >= 0)
        self.carts = self.carts.join(causes, on="key", how="anti")
        if bought.height == 0:
            return pl.DataFrame(schema=ORDER_TRUTH)
        bought = bought.sort("key")
        unlived = scene.unread()
        visit = play_sessions(unlived, self._returns(unlived, bought))
        return place_orders(unlived, visit.orders).with_columns(
            caused_by=bought["cause"], outcome=pl.lit("displaced")
        )

    def _visit_stores(self, scene: Scene) -> Orders:
        people = self.people
        key = self.dice.child("store visit", people.key, self.day)
        rate = people.store_rate * np.where(self.is_alive, 1.0, ASLEEP_RATE)
        goes = self.dice.chance("goes to store", key, rate)
        rows = np.flatnonzero(goes & (people.browses_from <= self.day))
        local = self.dice.between("store hour", key[rows], 9.5, 19.0)
        hour = (local - scene.clock[rows] - CLOSING_HOUR) % 24
        starts_at = scene.opens_at + in_milliseconds(hour, HOUR)
        return visit_stores(scene, StoreVisits(key[rows], rows, starts_at))

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
                woken_by=_packed(
                    pl.DataFrame({"woken_by": self.woken_by.tolist()}, WOKEN_SCHEMA)
                ),
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
            woken_by = _unpacked(saved["woken_by"]).to_series().to_list()
            world.woken_by = np.array(woken_by, dtype=object)
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
