"""How people take messages: the old broadcasts and whatever Rekindle sends, alike.

The true effect of a message is what it sets off here: a click and the sitting that
follows, or a visit without any click. Nothing else in the world depends on sends.
"""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import polars as pl

from orchestration.sources.sample.dice import Flags, Floats, Ints, Keys, Text, names
from orchestration.sources.sample.fragments import (
    constant,
    either,
    gather,
    join,
    json_object,
    kept,
)
from orchestration.sources.sample.people import (
    APP,
    CHANNELS,
    SERVER,
    TABLET,
    WEB,
    People,
)
from orchestration.sources.sample.scene import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Scene,
    in_milliseconds,
)
from orchestration.sources.sample.sessions import (
    CART_RATE,
    NO_PRODUCT,
    Sessions,
    empty_lines,
)

EMAIL, SMS, PUSH, IN_APP, ONSITE, ADS, MAIL = range(7)
#: days that a message waits for the next visit to the app or the site
WAITS_DAYS = 3
POST_DAYS = 2
#: a broadcast speaks to nobody in particular; a message about the cart left there does
BROADCAST_RELEVANCE, JOURNEY_RELEVANCE = 0.35, 1.4
CART_RELEVANCE = 1.4
CART_IS_WARM_FOR = 10 * DAY

SEND_SCHEMA = pl.Schema(
    {
        "send_id": pl.String(),
        "channel": pl.String(),
        "journey": pl.String(),
        "step": pl.String(),
        "content_id": pl.String(),
        "identifier_type": pl.String(),
        "identifier": pl.String(),
        "sent_at": pl.Datetime("us"),
    }
)
POST_SCHEMA = pl.Schema(
    {
        "person": pl.Int64(),
        "channel": pl.Int64(),
        "sent_at": pl.Int64(),
        "due_day": pl.Int64(),
        "expires_day": pl.Int64(),
        "key": pl.UInt64(),
        "message": pl.String(),
        "send_id": pl.String(),
        "campaign_id": pl.String(),
        "campaign_name": pl.String(),
        "step": pl.String(),
        "content_id": pl.String(),
        "user_id": pl.String(),
        "anonymous_id": pl.String(),
    }
)
MESSAGE_TRUTH = pl.Schema(
    {
        "message": pl.String(),
        "person_id": pl.Int64(),
        "channel": pl.String(),
        "campaign_id": pl.String(),
        "sent_at": pl.Datetime("ms"),
        "engage_propensity": pl.Float64(),
        "has_engaged": pl.Boolean(),
        "has_come_unasked": pl.Boolean(),
    }
)

#: channel, weekday (0 Monday), hour UTC, every so many weeks, campaign name
BROADCASTS = (
    (EMAIL, 1, 9, 1, "Weekly newsletter"),
    (EMAIL, 4, 15, 2, "Weekend offers"),
    (SMS, 3, 16, 2, "Flash sale text"),
    (PUSH, 5, 11, 2, "Saturday push"),
    (IN_APP, 0, 8, 2, "New season in the app"),
    (ONSITE, 2, 8, 2, "Free returns banner"),
    (ADS, 4, 6, 2, "Always-on retargeting"),
    (MAIL, 0, 7, 4, "Printed catalogue"),
)
HELD_OUT = 0.2

SENT_EVENTS = {EMAIL: "Email Sent", SMS: "SMS Sent", PUSH: "Push Notification Sent"}
DELIVERY_EVENTS = {
    EMAIL: ("Email Delivered", "Email Bounced"),
    SMS: ("SMS Delivered", "SMS Failed"),
    PUSH: ("Push Notification Received", "Push Notification Bounced"),
    ADS: ("Ad Impression", None),
    MAIL: ("Direct Mail Delivered", None),
}
#: on the site too: the `channel` property is what differs
SHOWN, SHOWN_CLICKED = "In-App Message Shown", "In-App Message Clicked"
CLICK_EVENTS = {
    EMAIL: "Email Link Clicked",
    SMS: "SMS Link Clicked",
    PUSH: "Push Notification Tapped",
    ADS: "Ad Clicked",
}
REFUSAL_EVENTS = {EMAIL: "Unsubscribed", SMS: "SMS Stopped"}
#: minutes until half of those who answer have answered
ANSWER_MINUTES = {EMAIL: 100, SMS: 14, PUSH: 12, ADS: 300, MAIL: 90}
#: what the privacy proxy of a large mail program says of itself
PRIVACY_AGENT = "Mozilla/5.0"


def broadcast(scene: Scene, consents: Flags, closes_at: datetime) -> pl.DataFrame:
    """The old policy: every campaign to all who agreed, but a random fifth."""
    dice, people, day = scene.dice, scene.people, scene.day
    parts = []
    for number, (channel, weekday, hour, weeks, name) in enumerate(BROADCASTS):
        is_its_week = closes_at.toordinal() // 7 % weeks == 0
        if closes_at.weekday() != weekday or not is_its_week:
            continue
        key = dice.child(f"broadcast {number}", people.key, day)
        reached = (
            consents[:, channel]
            & ~people.is_never_messaged
            & _is_reachable(people, channel, day)
            & ~dice.chance("held out", key, HELD_OUT)
        )
        rows = np.flatnonzero(reached)
        sent_at = scene.closes_at + (hour - closes_at.hour) * HOUR
        pause = in_milliseconds(dice.between("spread", key[rows], 0, 20), MINUTE)
        campaign = f"bc-{number}-{closes_at:%Y%m%d}"
        is_member = people.is_member(rows, day)
        user_id = kept(gather(people.user_id, rows), is_member)
        anonymous_id = kept(gather(people.app_id, rows), ~is_member)
        parts.append(
            pl.DataFrame(
                {
                    "person": rows,
                    "channel": np.full(len(rows), channel),
                    "sent_at": sent_at + pause,
                    "message": pl.Series(names(key[rows], f"{campaign}-", 12)),
                    "user_id": pl.Series(user_id),
                    "anonymous_id": pl.Series(anonymous_id),
                }
            ).with_columns(campaign_id=pl.lit(campaign), campaign_name=pl.lit(name))
        )
    return _as_posts(scene, parts)


def _is_reachable(people: People, channel: int, day: int) -> Flags:
    member = people.is_member(np.arange(len(people)), day)
    has_app = people.has_app & (people.browses_from <= day)
    return {
        EMAIL: member & people.has_email,
        SMS: member & people.has_phone,
        PUSH: has_app,
        IN_APP: has_app,
        ONSITE: people.has_web & member,
        ADS: member & people.has_email,
        MAIL: member,
    }[channel]


def posts_from_sends(scene: Scene, sends: pl.DataFrame) -> pl.DataFrame:
    """What Rekindle sent, as messages to persons; who is nobody here gets none."""
    known = scene.people.identifiers(scene.dice, scene.day).unique(
        ["identifier_type", "identifier"], keep="first", maintain_order=True
    )
    channels = pl.DataFrame(
        {"channel_name": CHANNELS, "channel": np.arange(len(CHANNELS))}
    )
    by_user = pl.col("identifier_type") == "user_id"
    frame = (
        sends.rename({"channel": "channel_name"})
        .join(known, on=["identifier_type", "identifier"])
        .join(channels, on="channel_name")
        .select(
            "person",
            "channel",
            "send_id",
            "content_id",
            step=pl.col("step").cast(pl.String),
            sent_at=pl.col("sent_at")
            .cast(pl.Datetime("ms"))
            .dt.epoch("ms")
            .clip(scene.opens_at, scene.closes_at - 1),
            message="send_id",
            campaign_id="journey",
            campaign_name="journey",
            user_id=pl.when(by_user).then("identifier"),
            anonymous_id=pl.when(~by_user).then("identifier"),
        )
    )
    return _as_posts(scene, [frame])


def _as_posts(scene: Scene, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Complete messages with their key: the n-th to this person there on this day."""
    if not parts:
        return pl.DataFrame(schema=POST_SCHEMA)
    posts = pl.concat(parts, how="diagonal_relaxed").sort(
        "person", "channel", "sent_at", "message"
    )
    number = posts.select(pl.int_range(pl.len()).over("person", "channel")).to_series()
    channel = posts["channel"].to_numpy()
    person_key = scene.people.key[posts["person"].to_numpy()]
    day_key = scene.dice.child("message", person_key, scene.day * 10 + channel)
    due_day = scene.day + np.where(channel == MAIL, POST_DAYS, 0)
    waits = np.where(np.isin(channel, [IN_APP, ONSITE]), WAITS_DAYS, 0)
    posts = posts.with_columns(
        key=scene.dice.child("message number", day_key, number.to_numpy()),
        due_day=due_day,
        expires_day=due_day + waits,
    )
    missing = [name for name in POST_SCHEMA if name not in posts.columns]
    return posts.with_columns(
        pl.lit(None, dtype=POST_SCHEMA[name]).alias(name) for name in missing
    ).select(pl.col(name).cast(POST_SCHEMA[name]) for name in POST_SCHEMA)


@dataclass(frozen=True)
class Batch:
    """Messages on one channel, in columns."""

    channel: int
    key: Keys
    person: Ints
    sent_at: Ints
    is_broadcast: Flags
    message: Text
    texts: dict[str, Text]

    @classmethod
    def of(cls, posts: pl.DataFrame) -> "Batch":
        """The batch of these messages, which go out on the same channel."""

        def column(name: str) -> Text:
            return posts[name].to_arrow().cast("string")

        named = ("send_id", "campaign_id", "campaign_name", "step", "content_id")
        return cls(
            channel=int(posts["channel"][0]),
            key=posts["key"].to_numpy(),
            person=posts["person"].to_numpy(),
            sent_at=posts["sent_at"].to_numpy(),
            is_broadcast=posts["send_id"].is_null().to_numpy(),
            message=column("message"),
            texts={name: column(name) for name in (*named, "user_id", "anonymous_id")},
        )

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True)
class Answers:
    """Who answers a batch: the true probability, the outcome, and when."""

    likelihood: Floats
    is_given: Flags
    at: Ints
    delivered: Flags


@dataclass(frozen=True)
class OpenCarts:
    """The cart that each person left last, one entry per person."""

    lines: Ints
    key: Keys
    left_at: Ints
    returns_at: Ints

    @classmethod
    def of(cls, carts: pl.DataFrame, persons: int) -> "OpenCarts":
        """The last cart of each person among these."""
        last = carts.sort("person", "left_at", "key").unique(
            "person", keep="last", maintain_order=True
        )
        rows = last["person"].to_numpy()
        lines = empty_lines(persons)
        lines[rows] = last.select("line_0", "line_1", "line_2").to_numpy()
        key = np.zeros(persons, dtype=np.uint64)
        key[rows] = last["key"].to_numpy()
        left_at, returns_at = np.full((2, persons), -1, dtype=np.int64)
        left_at[rows] = last["left_at"].to_numpy()
        returns_at[rows] = last["returns_at"].to_numpy()
        return cls(lines, key, left_at, returns_at)

    def at(self, person: Ints, moment: Ints) -> tuple[Ints, Keys]:
        """Each person's cart if it is still warm by then and they are not back yet."""
        left_at, returns_at = self.left_at[person], self.returns_at[person]
        is_open = (left_at >= 0) & (left_at < moment)
        is_open &= moment - left_at < CART_IS_WARM_FOR
        is_open &= (returns_at < 0) | (returns_at > moment)
        lines = np.where(is_open[:, None], self.lines[person], NO_PRODUCT)
        return lines, self.key[person]


@dataclass
class Reactions:
    """What the day's messages set off."""

    sessions: list[Sessions] = field(default_factory=list)
    truth: list[pl.DataFrame] = field(default_factory=list)
    #: persons and channels that nobody may write to any more
    refusals: list[tuple[Ints, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Mood:
    """What decides, besides taste, whether people answer: one entry per person."""

    is_alive: Flags
    #: recent messages, fading
    fatigue: Floats
    consents: Flags
    carts: OpenCarts


class Postman:
    """Delivers one day's messages and takes down how people react."""

    def __init__(self, scene: Scene, mood: Mood) -> None:
        self.scene, self.mood = scene, mood
        self.reactions = Reactions()

    def deliver(self, posts: pl.DataFrame, organic: Sessions) -> pl.DataFrame:
        """Deliver what is due, and return what still waits for its day or a visit."""
        due = posts.filter(pl.col("due_day") <= self.scene.day)
        waiting = [posts.filter(pl.col("due_day") > self.scene.day)]
        for (channel,), of_channel in due.partition_by(
            "channel", as_dict=True, maintain_order=True
        ).items():
            if channel in (IN_APP, ONSITE):
                waiting.append(self._show(of_channel, organic))
            else:
                self._push_out(Batch.of(of_channel))
        return pl.concat(waiting)

    def _likelihood(self, batch: Batch, at: Ints) -> Floats:
        """The true probability that each message is answered."""
        person, mood = batch.person, self.mood
        likelihood = self.scene.people.answer_rate[person, batch.channel]
        relevance = np.where(batch.is_broadcast, BROADCAST_RELEVANCE, JOURNEY_RELEVANCE)
        lines, _ = mood.carts.at(person, at)
        has_cart = (lines[:, 0] != NO_PRODUCT) & ~batch.is_broadcast
        likelihood = likelihood * relevance * np.where(has_cart, CART_RELEVANCE, 1.0)
        likelihood = likelihood * np.where(mood.is_alive[person], 1.15, 0.5)
        likelihood = likelihood / (1 + 0.12 * mood.fatigue[person])
        allowed = mood.consents[person, batch.channel]
        return np.minimum(np.where(allowed, likelihood, 0.0), 0.6)

    def _emit(
        self,
        batch: Batch,
        which: Flags,
        at: Ints,
        event: str,
        slot: int = SERVER,
        *,
        agent: str | None = None,
        **more: str | bool | None,
    ) -> None:
        """Take down one event for each of the given messages."""
        rows = np.flatnonzero(which)
        texts = {name: gather(column, rows) for name, column in batch.texts.items()}
        message = gather(batch.message, rows)
        context = gather(self.scene.people.contexts[slot], batch.person[rows])
        signed = f',"userAgent":"{agent}"}}' if agent else "}"
        what = f"event {event} {slot} {agent} {sorted(more)}"
        user_id, anonymous_id = texts.pop("user_id"), texts.pop("anonymous_id")
        self.scene.log.add(
            self.scene.dice.bits(what, batch.key[rows]),
            at[rows],
            "track",
            event,
            user_id=user_id,
            anonymous_id=anonymous_id,
            context=join(context, signed),
            properties=json_object(
                len(rows),
                channel=CHANNELS[batch.channel],
                **texts,
                email_id=message if batch.channel == EMAIL else None,
                **more,
            ),
        )

    def _push_out(self, batch: Batch) -> None:
        dice, people = self.scene.dice, self.scene.people
        key, person, channel = batch.key, batch.person, batch.channel
        sent_at = batch.sent_at
        if channel == MAIL:
            sent_at = self.scene.within("letter box", key, 16, 23)
        elif channel in SENT_EVENTS:
            # the ledger holds what Rekindle sent, the world of its broadcasts only
            self._emit(batch, batch.is_broadcast, sent_at, SENT_EVENTS[channel])
        fails = {
            EMAIL: people.email_bounces[person] | dice.chance("bounces", key, 0.003),
            SMS: people.phone_fails[person] | dice.chance("fails", key, 0.004),
            PUSH: people.token_is_dead[person],
            ADS: dice.chance("no auction won", key, 0.25),
            MAIL: dice.chance("lost in post", key, 0.02),
        }[channel]
        transit = dice.between("transit", key, 1, 60)
        delivered_at = sent_at + in_milliseconds(transit, SECOND)
        likelihood = np.where(fails, 0.0, self._likelihood(batch, delivered_at))
        hesitation = ANSWER_MINUTES[channel] * np.exp(1.1 * dice.normal("delay", key))
        answers = Answers(
            likelihood,
            dice.chance("answers", key, likelihood),
            delivered_at + in_milliseconds(np.minimum(hesitation, 20 * 60), MINUTE),
            ~fails,
        )
        delivered, failed = DELIVERY_EVENTS[channel]
        self._emit(batch, ~fails, delivered_at, delivered)
        if failed:
            self._emit(batch, fails, delivered_at, failed, reason="unreachable")
        if channel == EMAIL:
            self._open_emails(batch, answers, delivered_at)
        if channel == ADS:
            again = ~fails & dice.chance("second impression", key, 0.2)
            self._emit(batch, again, delivered_at + 3 * HOUR, delivered, APP)
        if channel in CLICK_EVENTS:
            link = "https://shop.example.com/back" if channel != PUSH else None
            self._emit(
                batch, answers.is_given, answers.at, CLICK_EVENTS[channel],
                link_url=link,
            )  # fmt: skip
        self._refuse(batch, answers)
        self._follow(batch, answers, None)

    def _refuse(self, batch: Batch, answers: Answers) -> None:
        """The more messages lately, the more people want no more of them."""
        dice, key, channel = self.scene.dice, batch.key, batch.channel
        if channel not in REFUSAL_EVENTS:
            return
        tired = 0.0016 * (1 + 0.4 * self.mood.fatigue[batch.person])
        refuses = answers.delivered & dice.chance("refuses", key, tired)
        self._emit(batch, refuses, answers.at + MINUTE, REFUSAL_EVENTS[channel])
        self.reactions.refusals.append((batch.person[refuses], channel))
        if channel == EMAIL:
            complains = answers.delivered & dice.chance("complains", key, 0.0006)
            self._emit(batch, complains, answers.at, "Email Marked as Spam")
            self.reactions.refusals.append((batch.person[complains], channel))

    def _open_emails(self, batch: Batch, answers: Answers, delivered_at: Ints) -> None:
        """Mail programs open for privacy's sake; people open more than they click."""
        dice, key = self.scene.dice, batch.key
        by_machine = (
            answers.delivered & self.scene.people.opens_by_machine[batch.person]
        )
        admits = dice.chance("admits", key, 0.6)
        fetched_at = delivered_at + in_milliseconds(
            dice.between("fetch", key, 5, 900), SECOND
        )
        event, agent = "Email Opened", PRIVACY_AGENT
        self._emit(
            batch,
            by_machine & admits,
            fetched_at,
            event,
            agent=agent,
            machine_open=True,
        )
        self._emit(batch, by_machine & ~admits, fetched_at, event, agent=agent)
        reads = answers.is_given | dice.chance("reads", key, 0.17)
        self._emit(batch, answers.delivered & reads, answers.at - 20 * SECOND, event)

    def _show(self, posts: pl.DataFrame, organic: Sessions) -> pl.DataFrame:
        """Show messages on the next visit; returns those that still wait for one."""
        slots = [APP, TABLET] if posts["channel"][0] == IN_APP else [WEB]
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
            batch, visit_at = Batch.of(shown), shown["visit_at"].to_numpy()
            everyone = np.ones(len(batch), dtype=bool)
            likelihood = self._likelihood(batch, visit_at)
            clicks = self.scene.dice.chance("answers", batch.key, likelihood)
            self._emit(batch, everyone, visit_at + 4 * SECOND, SHOWN, slots[0])
            self._emit(batch, clicks, visit_at + 14 * SECOND, SHOWN_CLICKED, slots[0])
            answers = Answers(likelihood, clicks, visit_at + 9 * MINUTE, everyone)
            visit = shown["visit"].to_numpy()
            self._follow(batch, answers, (organic, visit))
        return posts.join(shown, on="message", how="anti").filter(
            pl.col("expires_day") > self.scene.day
        )

    def _follow(
        self, batch: Batch, answers: Answers, during: tuple[Sessions, Ints] | None
    ) -> None:
        """The sittings that the messages cause, with and without a click."""
        dice, key = self.scene.dice, batch.key
        comes = dice.chance("unasked", key, 0.18 * answers.likelihood)
        comes &= answers.delivered & ~answers.is_given
        self.reactions.truth.append(
            pl.DataFrame(
                {
                    "message": pl.Series(batch.message),
                    "person_id": batch.person,
                    "channel": [CHANNELS[batch.channel]] * len(batch),
                    "campaign_id": pl.Series(batch.texts["campaign_id"]),
                    "sent_at": pl.Series(batch.sent_at).cast(pl.Datetime("ms")),
                    "engage_propensity": answers.likelihood,
                    "has_engaged": answers.is_given,
                    "has_come_unasked": comes,
                },
                schema=MESSAGE_TRUTH,
            )
        )
        later = in_milliseconds(dice.between("comes later", key, 0.5, 9), HOUR)
        clicked, quiet = np.flatnonzero(answers.is_given), np.flatnonzero(comes)
        self._sit_down(batch, clicked, answers.at[clicked] + 3 * SECOND, during)
        self._sit_down(batch, quiet, answers.at[quiet] + later[quiet], "unasked")

    def _sit_down(
        self,
        batch: Batch,
        rows: Ints,
        starts_at: Ints,
        during: tuple[Sessions, Ints] | str | None,
    ) -> None:
        """New sittings: from a click, in the middle of another one, or `"unasked"`."""
        count = len(rows)
        if count == 0:
            return
        dice, people = self.scene.dice, self.scene.people
        person = batch.person[rows]
        key = dice.bits("caused sitting", batch.key[rows])
        lines, cart_key = self.mood.carts.at(person, starts_at)
        has_cart = lines[:, 0] != NO_PRODUCT
        prefers_app = batch.channel in (PUSH, IN_APP)
        uses_app = people.has_app[person] & (prefers_app | ~people.has_web[person])
        slot = np.where(uses_app, APP, WEB)
        session_id = names(dice.bits("session", key), "s-", 12)
        campaign = constant(count, "")
        if isinstance(during, tuple):
            sessions, visit = during
            slot = sessions.slot[visit[rows]]
            session_id = gather(sessions.session_id, visit[rows])
        elif during is None:
            texts = {name: gather(column, rows) for name, column in batch.texts.items()}
            source = either(
                batch.is_broadcast[rows],
                constant(count, "broadcast"),
                constant(count, "rekindle"),
            )
            content = json_object(
                count,
                name=texts["campaign_name"],
                id=texts["campaign_id"],
                source=source,
                medium=CHANNELS[batch.channel],
                content=texts["content_id"],
            )
            campaign = join(',"campaign":', content)
        self.reactions.sessions.append(
            Sessions(
                key=key,
                person=person,
                starts_at=starts_at,
                slot=slot,
                cart=lines,
                product=lines[:, 0],
                cart_key=np.where(has_cart, cart_key, dice.bits("cart", key)),
                cart_rate=np.minimum(CART_RATE * people.appetite[person], 0.75),
                checkout_rate=np.where(has_cart, 0.75, 0.6),
                order_rate=np.where(has_cart, 0.75, 0.62),
                is_sign_up=np.zeros(count, dtype=bool),
                continues=np.full(count, isinstance(during, tuple)),
                session_id=session_id,
                campaign=campaign,
                cause=gather(batch.message, rows),
            )
        )
