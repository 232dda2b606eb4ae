"""How people take messages: the old broadcasts and whatever Rekindle sends, alike.

The true effect of a message is what it sets off here: a click and the sitting that
follows, or a visit without any click. Nothing else in the world depends on sends.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from orchestration.sources.sample.dice import Dice, Flags, Floats, Ints, Keys, names
from orchestration.sources.sample.event_log import EventLog
from orchestration.sources.sample.fragments import gather, join, json_object
from orchestration.sources.sample.people import (
    APP,
    CHANNELS,
    SERVER,
    TABLET,
    WEB,
    People,
)
from orchestration.sources.sample.sessions import (
    NO_PRODUCT,
    Sessions,
    empty_lines,
)

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
EMAIL, SMS, PUSH, IN_APP, ONSITE, ADS, MAIL = range(7)
#: days that a message waits for the next visit to the app or the site
WAITS_DAYS = 3
POST_DAYS = 2
#: a broadcast speaks to nobody in particular
BROADCAST_RELEVANCE = 0.35
CART_IS_WARM_FOR = 10 * 24 * HOUR

SEND_SCHEMA = {
    "send_id": pl.String,
    "channel": pl.String,
    "journey": pl.String,
    "step": pl.String,
    "content_id": pl.String,
    "identifier_type": pl.String,
    "identifier": pl.String,
    "sent_at": pl.Datetime("us"),
}
POST_SCHEMA = {
    "person": pl.Int64,
    "channel": pl.Int64,
    "sent_at": pl.Int64,
    "due_day": pl.Int64,
    "expires_day": pl.Int64,
    "key": pl.UInt64,
    "message": pl.String,
    "send_id": pl.String,
    "campaign_id": pl.String,
    "campaign_name": pl.String,
    "step": pl.String,
    "content_id": pl.String,
    "user_id": pl.String,
    "anonymous_id": pl.String,
}
MESSAGE_TRUTH = {
    "message": pl.String,
    "person_id": pl.Int64,
    "channel": pl.String,
    "campaign_id": pl.String,
    "sent_at": pl.Datetime("ms"),
    "engage_propensity": pl.Float64,
    "has_engaged": pl.Boolean,
    "has_come_unasked": pl.Boolean,
}

#: channel, weekday (0 Monday), hour UTC, every so many weeks, campaign name
BROADCASTS = (
    (EMAIL, 1, 9, 1, "Weekly newsletter"),
    (EMAIL, 4, 15, 2, "Weekend offers"),
    (SMS, 3, 16, 2, "Flash sale text"),
    (PUSH, 5, 11, 1, "Saturday push"),
    (IN_APP, 0, 8, 2, "New season in the app"),
    (ONSITE, 2, 8, 2, "Free returns banner"),
    (ADS, 4, 6, 1, "Autumn retargeting"),
    (MAIL, 0, 7, 4, "Printed catalogue"),
)
HELD_OUT = 0.2


def broadcast(
    dice: Dice, people: People, consents: Flags, day: int, closes_at: datetime
) -> pl.DataFrame:
    """The old policy: every campaign to all who agreed, but a random fifth."""
    parts = []
    persons = np.arange(len(people))
    for number, (channel, weekday, hour, weeks, name) in enumerate(BROADCASTS):
        is_its_week = closes_at.toordinal() // 7 % weeks == 0
        if closes_at.weekday() != weekday or not is_its_week:
            continue
        key = dice.child(f"broadcast {number}", people.key, day)
        reached = (
            consents[:, channel]
            & ~people.is_never_messaged
            & _reachable(people, channel, day)
            & ~dice.chance("held out", key, HELD_OUT)
        )
        rows = persons[reached]
        sent_at = int(closes_at.replace(hour=hour).timestamp() * 1000)
        campaign = f"bc-{number}-{closes_at:%Y%m%d}"
        is_member = people.is_member(rows, day)
        frame = pl.DataFrame(
            {
                "person": rows,
                "channel": np.full(len(rows), channel),
                "sent_at": sent_at
                + (dice.uniform("spread", key[rows]) * 20 * MINUTE).astype(np.int64),
                "message": join(f"{campaign}-", names(key[rows], "", 12)),
            }
        )
        parts.append(
            frame.with_columns(
                campaign_id=pl.lit(campaign),
                campaign_name=pl.lit(name),
                user_id=_kept(gather(people.user_id, rows), is_member),
                anonymous_id=_kept(gather(people.app_id, rows), ~is_member),
            )
        )
    return _as_posts(dice, people, parts, day)


def _reachable(people: People, channel: int, day: int) -> Flags:
    member = people.is_member(np.arange(len(people)), day)
    return {
        EMAIL: member & people.has_email,
        SMS: member & people.has_phone,
        PUSH: people.has_app & (people.browses_from <= day),
        IN_APP: people.has_app & (people.browses_from <= day),
        ONSITE: people.has_web & member,
        ADS: member & people.has_email,
        MAIL: member,
    }[channel]


def posts_from_sends(
    dice: Dice,
    people: People,
    sends: pl.DataFrame,
    day: int,
    opens_at: datetime,
    closes_at: datetime,
) -> pl.DataFrame:
    """What Rekindle sent, as messages to persons; who is nobody here gets none."""
    known = people.identifiers(dice, day).unique(
        ["identifier_type", "identifier"], keep="first", maintain_order=True
    )
    names_of = pl.DataFrame(
        {"channel_name": CHANNELS, "channel": np.arange(len(CHANNELS))}
    )
    frame = (
        sends.rename({"channel": "channel_name"})
        .with_columns(
            pl.col("sent_at").cast(pl.Datetime("us")), pl.col("step").cast(pl.String)
        )
        .join(known, on=["identifier_type", "identifier"])
        .join(names_of, on="channel_name")
        .select(
            "person",
            "channel",
            "send_id",
            "step",
            "content_id",
            sent_at=pl.col("sent_at")
            .clip(opens_at.replace(tzinfo=None), closes_at.replace(tzinfo=None))
            .dt.epoch("ms"),
            message="send_id",
            campaign_id="journey",
            campaign_name="journey",
            user_id=pl.when(pl.col("identifier_type") == "user_id").then("identifier"),
            anonymous_id=pl.when(pl.col("identifier_type") != "user_id").then(
                "identifier"
            ),
        )
    )
    return _as_posts(dice, people, [frame], day)


def _as_posts(
    dice: Dice, people: People, parts: list[pl.DataFrame], day: int
) -> pl.DataFrame:
    """Complete messages with their key: the n-th to this person there on this day."""
    if not parts:
        return pl.DataFrame(schema=POST_SCHEMA)
    posts = pl.concat(parts, how="diagonal_relaxed").sort(
        "person", "channel", "sent_at", "message"
    )
    number = posts.select(pl.int_range(pl.len()).over("person", "channel")).to_series()
    person = posts["person"].to_numpy()
    channel = posts["channel"].to_numpy()
    key = dice.child("message", people.key[person], day * 1000 + channel * 100)
    key = dice.child("message number", key, number.to_numpy())
    wait = np.where(channel == MAIL, POST_DAYS, 0)
    rests = np.isin(channel, [IN_APP, ONSITE])
    columns = {
        "key": pl.Series(key),
        "due_day": pl.Series(day + wait),
        "expires_day": pl.Series(day + wait + np.where(rests, WAITS_DAYS, 0)),
    }
    posts = posts.with_columns(column.alias(name) for name, column in columns.items())
    missing = [name for name in POST_SCHEMA if name not in posts.columns]
    return posts.with_columns(
        pl.lit(None, dtype=POST_SCHEMA[name]).alias(name) for name in missing
    ).select(pl.col(name).cast(POST_SCHEMA[name]) for name in POST_SCHEMA)


@dataclass
class Reactions:
    """What the day's messages set off."""

    sessions: list[Sessions] = field(default_factory=list)
    truth: list[pl.DataFrame] = field(default_factory=list)
    #: persons and channels that nobody may write to any more
    refusals: list[tuple[Ints, int]] = field(default_factory=list)
    waiting: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema=POST_SCHEMA)
    )


class Postman:
    """Delivers one day's messages and takes down how people react."""

    def __init__(
        self,
        log: EventLog,
        dice: Dice,
        people: People,
        day: int,
        closes_at: int,
        is_alive: Flags,
        fatigue: Floats,
        consents: Flags,
        carts: pl.DataFrame,
    ) -> None:
        self.log, self.dice, self.people, self.day = log, dice, people, day
        self.closes_at = closes_at
        self.is_alive, self.fatigue, self.consents = is_alive, fatigue, consents
        self.carts = carts
        self.reactions = Reactions()

    def deliver(self, posts: pl.DataFrame, organic: Sessions) -> Reactions:
        """Deliver what is due; messages in app and on site wait for a visit."""
        due = posts.filter(pl.col("due_day") <= self.day)
        later = [posts.filter(pl.col("due_day") > self.day)]
        self._tell_sent(posts)
        for channel in range(len(CHANNELS)):
            of_channel = due.filter(pl.col("channel") == channel)
            if of_channel.height == 0:
                continue
            if channel in (IN_APP, ONSITE):
                later.append(self._show(of_channel, channel, organic))
            else:
                self._push_out(of_channel, channel)
        self.reactions.waiting = pl.concat(later)
        return self.reactions

    def _likelihood(self, posts: pl.DataFrame, at: Ints) -> Floats:
        """The true probability that each message is answered."""
        person, channel = posts["person"].to_numpy(), posts["channel"].to_numpy()
        own = self.people.answer_rate[person, channel]
        is_broadcast = posts["send_id"].is_null().to_numpy()
        likelihood = own * np.where(is_broadcast, BROADCAST_RELEVANCE, 1.0)
        likelihood = likelihood * np.where(self.is_alive[person], 1.15, 0.5)
        has_cart = self._cart(person, at)[0] != NO_PRODUCT
        likelihood = likelihood * np.where(has_cart[:, 0] & ~is_broadcast, 1.7, 1.0)
        likelihood = likelihood / (1 + 0.12 * self.fatigue[person])
        likelihood = np.where(self.consents[person, channel], likelihood, 0.0)
        return np.minimum(likelihood, 0.6)

    def _cart(self, person: Ints, at: Ints) -> tuple[Ints, Keys]:
        """The cart that each person has left and not come back to by then."""
        asked = pl.DataFrame({"person": person, "at": at}).with_row_index("row")
        latest = (
            asked.join(self.carts, on="person")
            .filter(
                pl.col("left_at") < pl.col("at"),
                pl.col("left_at") > pl.col("at") - CART_IS_WARM_FOR,
                (pl.col("returns_at") < 0) | (pl.col("returns_at") > pl.col("at")),
            )
            .sort("row", "left_at", "key")
            .unique("row", keep="last", maintain_order=True)
        )
        lines = empty_lines(len(person))
        keys = np.zeros(len(person), dtype=np.uint64)
        rows = latest["row"].to_numpy()
        lines[rows] = latest.select("line_0", "line_1", "line_2").to_numpy()
        keys[rows] = latest["key"].to_numpy()
        return lines, keys

    def _tell(
        self,
        posts: pl.DataFrame,
        rows: Flags | Ints,
        at: Ints,
        event: str,
        slot: int = SERVER,
        agent: pl.Series | str | None = None,
        **more: Any,
    ) -> None:
        rows = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else rows
        if len(rows) == 0:
            return
        chosen = posts[rows.astype(np.int64).tolist()] if len(rows) else posts.clear()
        person = chosen["person"].to_numpy()
        context: list[pl.Series | str] = [gather(self.people.contexts[slot], person)]
        if agent is not None:
            context += [',"userAgent":"', pl.Series(_column(agent, len(rows))), '"']
        self.log.add(
            self.dice.bits(f"event {event} {agent is not None}", _keys(chosen)),
            at[rows],
            "track",
            event,
            user_id=chosen["user_id"],
            anonymous_id=chosen["anonymous_id"],
            context=join(*context, "}"),
            properties=json_object(
                len(rows),
                campaign_id=chosen["campaign_id"],
                campaign_name=chosen["campaign_name"],
                email_id=chosen["message"] if event in EMAIL_EVENTS else None,
                send_id=chosen["send_id"],
                step=chosen["step"],
                content_id=chosen["content_id"],
                channel=CHANNELS[int(chosen["channel"][0])],
                **more,
            ),
        )

    def _tell_sent(self, posts: pl.DataFrame) -> None:
        """Broadcasts tell of their own sending; Rekindle's ledger tells of its own."""
        fresh = posts.filter(
            pl.col("send_id").is_null(), pl.col("sent_at") > self.closes_at - 24 * HOUR
        )
        for channel, event in SENT_EVENTS.items():
            sent = fresh.filter(pl.col("channel") == channel)
            self._tell(sent, np.arange(sent.height), sent["sent_at"].to_numpy(), event)

    def _push_out(self, posts: pl.DataFrame, channel: int) -> None:
        dice, people = self.dice, self.people
        key, person = _keys(posts), posts["person"].to_numpy()
        sent_at = posts["sent_at"].to_numpy()
        if channel == MAIL:
            hour = dice.between("letter box", key, 12, 19)
            sent_at = self.closes_at + ((hour - 20) * HOUR).astype(np.int64)
        fails = {
            EMAIL: people.email_bounces[person] | dice.chance("bounces", key, 0.003),
            SMS: people.phone_fails[person] | dice.chance("fails", key, 0.004),
            PUSH: people.token_is_dead[person],
            ADS: dice.chance("no auction won", key, 0.25),
            MAIL: dice.chance("lost in post", key, 0.02),
        }[channel]
        delivered_at = sent_at + (dice.between("transit", key, 1, 60) * SECOND).astype(
            np.int64
        )
        likelihood = np.where(fails, 0.0, self._likelihood(posts, delivered_at))
        answers = dice.chance("answers", key, likelihood)
        median = {EMAIL: 100, SMS: 14, PUSH: 12, ADS: 300, MAIL: 90}[channel]
        spread = np.exp(1.1 * dice.normal("answer delay", key))
        minutes = np.minimum(median * spread, 20 * 60)
        answered_at = delivered_at + (minutes * MINUTE).astype(np.int64)

        delivered, failed = DELIVERY_EVENTS[channel]
        self._tell(posts, ~fails, delivered_at, delivered)
        if failed:
            self._tell(posts, fails, delivered_at, failed, reason="unreachable")
        if channel == EMAIL:
            self._open_emails(posts, ~fails, answers, delivered_at, answered_at)
        if channel == ADS:
            again = ~fails & dice.chance("second impression", key, 0.5)
            self._tell(posts, again, delivered_at + 3 * HOUR, "Ad Impression", APP)
        if click := CLICK_EVENTS.get(channel):
            link = "https://shop.example.com/back" if channel != PUSH else None
            self._tell(posts, answers, answered_at, click, link_url=link)
        if refusal := REFUSAL_EVENTS.get(channel):
            tired = 0.0016 * (1 + 0.4 * self.fatigue[person])
            refuses = ~fails & dice.chance("refuses", key, tired)
            self._tell(posts, refuses, answered_at + MINUTE, refusal)
            self.reactions.refusals.append((person[refuses], channel))
        if channel == EMAIL:
            complains = ~fails & dice.chance("complains", key, 0.0006)
            self._tell(posts, complains, answered_at, "Email Marked as Spam")
            self.reactions.refusals.append((person[complains], channel))
        self._follow(posts, channel, likelihood, answers, answered_at, ~fails)

    def _open_emails(
        self,
        posts: pl.DataFrame,
        delivered: Flags,
        answers: Flags,
        delivered_at: Ints,
        answered_at: Ints,
    ) -> None:
        """Mail programs open for privacy's sake; people open more than they click."""
        dice, key = self.dice, _keys(posts)
        person = posts["person"].to_numpy()
        by_machine = delivered & self.people.opens_by_machine[person]
        says_so = by_machine & dice.chance("says so", key, 0.6)
        at = delivered_at + (dice.between("fetch", key, 5, 900) * SECOND).astype(
            np.int64
        )
        self._tell(
            posts, says_so, at, "Email Opened", agent=PRIVACY_AGENT, machine_open=True
        )
        self._tell(
            posts, by_machine & ~says_so, at, "Email Opened", agent=PRIVACY_AGENT
        )
        reads = delivered & (answers | dice.chance("reads", key, 0.17))
        self._tell(posts, reads, answered_at - 20 * SECOND, "Email Opened")

    def _show(
        self, posts: pl.DataFrame, channel: int, organic: Sessions
    ) -> pl.DataFrame:
        """Messages shown on the next visit; returns those that still wait for one."""
        slots = [APP, TABLET] if channel == IN_APP else [WEB]
        rows = np.flatnonzero(np.isin(organic.slot, slots))
        visits = pl.DataFrame(
            {
                "person": organic.person[rows],
                "visit_at": organic.starts_at[rows],
                "visit": rows,
            }
        )
        shown = (
            posts.join(visits, on="person")
            .filter(pl.col("visit_at") > pl.col("sent_at"))
            .sort("visit_at", "visit", "sent_at", "message")
            .unique("message", keep="first", maintain_order=True)
            .sort("key")
        )
        if shown.height:
            visit_at, key = shown["visit_at"].to_numpy(), _keys(shown)
            likelihood = self._likelihood(shown, visit_at)
            answers = self.dice.chance("answers", key, likelihood)
            everyone = np.ones(shown.height, dtype=bool)
            slot = slots[0]
            clicked_at = visit_at + 14 * SECOND
            self._tell(shown, everyone, visit_at + 4 * SECOND, SHOWN[0], slot)
            self._tell(shown, answers, clicked_at, SHOWN[1], slot)
            self._follow(
                shown, channel, likelihood, answers, visit_at + 9 * MINUTE, everyone,
                organic,
            )  # fmt: skip
        return posts.join(shown, on="message", how="anti").filter(
            pl.col("expires_day") > self.day
        )

    def _follow(
        self,
        posts: pl.DataFrame,
        channel: int,
        likelihood: Floats,
        answers: Flags,
        answered_at: Ints,
        delivered: Flags,
        organic: Sessions | None = None,
    ) -> None:
        """The sittings that the messages cause, with and without a click."""
        dice, key = self.dice, _keys(posts)
        unasked = delivered & ~answers & dice.chance("unasked", key, 0.18 * likelihood)
        self.reactions.truth.append(
            pl.DataFrame(
                {
                    "message": posts["message"],
                    "person_id": posts["person"],
                    "channel": pl.Series([CHANNELS[channel]] * posts.height),
                    "campaign_id": posts["campaign_id"],
                    "sent_at": posts["sent_at"].cast(pl.Datetime("ms")),
                    "engage_propensity": likelihood,
                    "has_engaged": answers,
                    "has_come_unasked": unasked,
                },
                schema=MESSAGE_TRUTH,
            )
        )
        later = (dice.between("comes later", key, 0.5, 9) * HOUR).astype(np.int64)
        clicked = np.flatnonzero(answers)
        self._sit_down(
            posts, clicked, channel, answered_at[clicked] + 3 * SECOND, True, organic
        )
        quiet = np.flatnonzero(unasked)
        self._sit_down(
            posts, quiet, channel, answered_at[quiet] + later[quiet], False, None
        )

    def _sit_down(
        self,
        posts: pl.DataFrame,
        rows: Ints,
        channel: int,
        starts_at: Ints,
        clicked: bool,
        organic: Sessions | None,
    ) -> None:
        if len(rows) == 0:
            return
        dice, people = self.dice, self.people
        chosen = posts[rows.tolist()]
        person = chosen["person"].to_numpy()
        key = dice.bits("caused sitting", _keys(chosen))
        lines, cart_key = self._cart(person, starts_at)
        has_cart = lines[:, 0] != NO_PRODUCT
        cart_key = np.where(has_cart, cart_key, dice.bits("cart", key))
        prefers_app = channel in (PUSH, IN_APP)
        slot = np.where(
            people.has_app[person] & (prefers_app | ~people.has_web[person]), APP, WEB
        )
        session_id = names(dice.bits("session", key), "s-", 12)
        campaign = pl.Series([""] * len(rows))
        continues = organic is not None
        if continues:
            visit = chosen["visit"].to_numpy()
            session_id = gather(organic.session_id, visit)
            slot = organic.slot[visit]
        elif clicked:
            campaign = join(
                ',"campaign":',
                json_object(
                    len(rows),
                    name=chosen["campaign_name"],
                    id=chosen["campaign_id"],
                    source=gather(
                        pl.Series(["rekindle", "broadcast"]),
                        chosen["send_id"].is_null().to_numpy(),
                    ),
                    medium=CHANNELS[channel],
                    content=chosen["content_id"],
                ),
            )
        appetite = people.appetite[person]
        self.reactions.sessions.append(
            Sessions(
                key=key,
                person=person,
                starts_at=starts_at,
                slot=slot,
                cart=lines,
                product=np.where(has_cart, lines[:, 0], NO_PRODUCT),
                cart_key=cart_key,
                cart_rate=np.minimum(0.26 * appetite, 0.75),
                checkout_rate=np.where(has_cart, 0.75, 0.6),
                order_rate=np.where(has_cart, 0.75, 0.62),
                is_sign_up=np.zeros(len(rows), dtype=bool),
                continues=np.full(len(rows), continues),
                session_id=session_id,
                campaign=campaign,
                cause=chosen["message"],
            )
        )


EMAIL_EVENTS = {
    "Email Sent",
    "Email Delivered",
    "Email Opened",
    "Email Link Clicked",
    "Email Bounced",
    "Email Marked as Spam",
    "Unsubscribed",
}
SENT_EVENTS = {
    EMAIL: "Email Sent",
    SMS: "SMS Sent",
    PUSH: "Push Notification Sent",
}
DELIVERY_EVENTS = {
    EMAIL: ("Email Delivered", "Email Bounced"),
    SMS: ("SMS Delivered", "SMS Failed"),
    PUSH: ("Push Notification Received", "Push Notification Bounced"),
    ADS: ("Ad Impression", None),
    MAIL: ("Direct Mail Delivered", None),
}
CLICK_EVENTS = {
    EMAIL: "Email Link Clicked",
    SMS: "SMS Link Clicked",
    PUSH: "Push Notification Tapped",
    ADS: "Ad Clicked",
}
REFUSAL_EVENTS = {EMAIL: "Unsubscribed", SMS: "SMS Stopped"}
#: on the site too: the `channel` property tells the two apart
SHOWN = ("In-App Message Shown", "In-App Message Clicked")
#: what the privacy proxy of a large mail program says of itself
PRIVACY_AGENT = "Mozilla/5.0"


def _keys(posts: pl.DataFrame) -> Keys:
    return posts["key"].to_numpy()


def _column(value: str | pl.Series, count: int) -> pl.Series:
    return pl.Series([value] * count) if isinstance(value, str) else value


def _kept(column: pl.Series, kept: Flags) -> pl.Series:
    return column.zip_with(pl.Series(kept), pl.Series([None], dtype=pl.String))
