"""Who lives in the sample world: traits, tastes, devices, and every identifier."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.sources.sample.catalogue import (
    CATEGORIES,
    CITIES,
    FIRST_NAMES,
    LAST_NAMES,
    STORES,
)
from orchestration.sources.sample.dice import (
    Dice,
    Flags,
    Floats,
    Ints,
    Keys,
    Text,
    names,
)
from orchestration.sources.sample.fragments import (
    Raw,
    column,
    constant,
    digits,
    gather,
    join,
    json_object,
    kept,
    members,
    text,
)

CHANNELS = (
    "email",
    "sms",
    "push",
    "in_app",
    "onsite",
    "paid_retargeting",
    "direct_mail",
)
#: how likely the average person answers one relevant message
ANSWER_RATES = (0.13, 0.12, 0.16, 0.26, 0.22, 0.025, 0.07)
#: how likely the average person has agreed to marketing there
CONSENT_RATES = (0.80, 0.50, 0.65, 0.93, 0.93, 0.68, 0.72)
#: devices a session can happen on; the server speaks for stores, mail and imports
APP, WEB, TABLET, KIOSK, SERVER = range(5)

NEVER = 10**6
RESET_DAYS = 40
MORNING = "T09:00:00.000Z"
IMPORTED = -1


@dataclass(frozen=True)
class People:
    """Everything about the persons that never changes, one entry per person."""

    key: Keys
    browses_from: Ints
    joins_on: Ints
    city: Ints
    store: Ints
    household: Ints
    session_rate: Floats
    store_rate: Floats
    appetite: Floats
    warmth: Floats
    favourite: Ints
    second_favourite: Ints
    answer_rate: Floats
    consents: Flags
    has_app: Flags
    has_web: Flags
    has_loyalty: Flags
    has_email: Flags
    has_phone: Flags
    email_bounces: Flags
    phone_fails: Flags
    token_is_dead: Flags
    opens_by_machine: Flags
    is_never_messaged: Flags
    cookie_days: Ints
    user_id: Text
    email: Text
    phone: Text
    loyalty_id: Text
    app_id: Text
    device_id: Text
    traits: Text
    contexts: tuple[Text, ...]

    def __len__(self) -> int:
        return len(self.key)

    def is_member(self, persons: Ints, day: int) -> Flags:
        """Has the person an account by the given day?"""
        return self.joins_on[persons] <= day

    def web_id(self, dice: Dice, persons: Ints, day: int) -> Text:
        """The browser's anonymous id: some browsers lose their cookie now and then."""
        age = day // self.cookie_days[persons]
        return names(dice.child("cookie", self.key[persons], age), "w-", 12)

    def household_id(self, dice: Dice, persons: Ints) -> Text:
        """The anonymous id of the tablet that a household shares."""
        owner = np.where(self.household[persons] >= 0, self.household[persons], persons)
        return names(dice.child("tablet", self.key[owner], 0), "h-", 12)

    def identifiers(self, dice: Dice, day: int) -> pl.DataFrame:
        """Every identifier a person can have shown by the given day.

        Those of a household's tablet are listed for each of its people, the owner's
        first; the kiosks of the stores belong to nobody.
        """
        everyone = np.arange(len(self))
        known = everyone[self.browses_from <= day]
        shared = known[self.household[known] >= 0]
        resets = known[self.cookie_days[known] != NEVER]
        parts = [
            ("user_id", known, gather(self.user_id, known), False),
            ("loyalty_id", known, gather(self.loyalty_id, known), False),
            ("email", known, gather(self.email, known), False),
            ("phone", known, gather(self.phone, known), False),
            ("anonymous_id", known, self.web_id(dice, known, 0), False),
            ("anonymous_id", known, gather(self.app_id, known), False),
            ("device_id", known, gather(self.device_id, known), False),
            ("anonymous_id", shared, self.household_id(dice, shared), True),
            ("device_id", shared, self.tablet_device(dice, shared), True),
            (
                "anonymous_id",
                known,
                join("pos-", gather(self.loyalty_id, known)),
                False,
            ),
        ]
        parts += [
            ("anonymous_id", resets, self.web_id(dice, resets, since), False)
            for since in range(RESET_DAYS, day + 1, RESET_DAYS)
        ]
        return pl.concat(
            pl.DataFrame(
                {
                    "person": persons.astype(np.int64),
                    "identifier": pl.Series(identifier, dtype=pl.String),
                }
            ).with_columns(identifier_type=pl.lit(kind), is_shared=pl.lit(is_shared))
            for kind, persons, identifier, is_shared in parts
        ).drop_nulls("identifier")

    def tablet_device(self, dice: Dice, persons: Ints) -> Text:
        """The device id of the tablet that a household shares."""
        owner = np.where(self.household[persons] >= 0, self.household[persons], persons)
        return names(dice.child("tablet device", self.key[owner], 0), "d-", 12)


def build_people(dice: Dice, customers: int, start: date) -> People:
    """Draw the population; the same seed and number, the same people."""
    count = customers
    person = np.arange(count)
    key = dice.child("person", np.zeros(count, dtype=np.uint64), person)
    city = dice.choice("city", key, [city[4] for city in CITIES])

    is_guest = dice.chance("guest", key, 0.16)
    is_newcomer = dice.chance("newcomer", key, 0.38)
    arrival = (-np.log1p(-dice.uniform("arrival", key)) * 110).astype(np.int64)
    looks_first = (dice.uniform("looks first", key) ** 2 * 12).astype(np.int64)
    joins_on = np.where(is_newcomer, arrival + looks_first, IMPORTED)
    joins_on = np.where(is_guest, NEVER, joins_on)
    browses_from = np.where(is_newcomer, arrival, 0)

    appetite = np.exp(0.55 * dice.normal("appetite", key))
    session_rate = 0.105 * np.exp(0.9 * dice.normal("session rate", key))
    near_store = dice.chance("near store", key, 0.5)
    store_rate = np.where(near_store, 0.022 * dice.uniform("store rate", key) * 2, 0.0)

    taste = np.empty((count, len(CHANNELS)))
    consents = np.empty((count, len(CHANNELS)), dtype=bool)
    for number, channel in enumerate(CHANNELS):
        base = np.log(ANSWER_RATES[number] / (1 - ANSWER_RATES[number]))
        logit = base + 0.9 * dice.normal(f"taste {channel}", key)
        taste[:, number] = 1 / (1 + np.exp(-logit))
        eager = CONSENT_RATES[number] + 0.5 * (taste[:, number] - ANSWER_RATES[number])
        consents[:, number] = dice.chance(f"consent {channel}", key, eager)

    has_app = dice.chance("has app", key, 0.55)
    has_web = dice.chance("has web", key, 0.78) | ~has_app
    in_household = dice.chance("household", key[person - person % 2], 0.07)
    household = np.where(in_household & (person | 1 < count), person - person % 2, -1)
    loyal = ~is_guest & dice.chance("loyalty", key, 0.45)
    has_email = ~is_guest & dice.chance("has email", key, 0.94)
    has_phone = ~is_guest & dice.chance("has phone", key, 0.72)

    labels = text([f"{number:06d}" for number in person])
    first = gather(text(FIRST_NAMES), dice.whole("first", key, 0, len(FIRST_NAMES)))
    last = gather(text(LAST_NAMES), dice.whole("last", key, 0, len(LAST_NAMES)))
    at_home = join(pc.utf8_lower(first), ".", pc.utf8_lower(last), labels)
    email = kept(join(at_home, "@example.com"), has_email)
    line = digits(dice.whole("phone", key, 2_000_000, 9_999_999))
    phone = kept(join("+1555", line), has_phone)
    loyalty_id = kept(join("L9", labels), loyal)
    app_id = names(dice.child("app", key, 0), "a-", 12)
    device_id = names(dice.child("device", key, 0), "d-", 12)
    cookie_days = np.where(dice.chance("cookie", key, 0.15), RESET_DAYS, NEVER)
    return People(
        key=key,
        browses_from=browses_from,
        joins_on=joins_on,
        city=city,
        store=dice.whole("store", key, 0, len(STORES)),
        household=household,
        session_rate=session_rate,
        store_rate=store_rate,
        appetite=appetite,
        warmth=dice.uniform("warmth", key),
        favourite=dice.whole("favourite", key, 0, len(CATEGORIES)),
        second_favourite=dice.whole("second favourite", key, 0, len(CATEGORIES)),
        answer_rate=taste,
        consents=consents,
        has_app=has_app,
        has_web=has_web,
        has_loyalty=loyal,
        has_email=has_email,
        has_phone=has_phone,
        email_bounces=dice.chance("email bounces", key, 0.02),
        phone_fails=dice.chance("phone fails", key, 0.03),
        token_is_dead=dice.chance("dead token", key, 0.06),
        opens_by_machine=dice.chance("machine", key, 0.40),
        is_never_messaged=dice.chance("never messaged", key, 0.10),
        cookie_days=cookie_days,
        user_id=kept(join("u-", labels), ~is_guest),
        email=email,
        phone=phone,
        loyalty_id=loyalty_id,
        app_id=app_id,
        device_id=device_id,
        traits=_traits(
            dice,
            key,
            city,
            createdAt=join(_days(start, _member_since(dice, key, joins_on)), MORNING),
            firstName=first,
            lastName=last,
            email=email,
            phone=phone,
            loyaltyId=loyalty_id,
        ),
        contexts=_contexts(dice, key, city, household, device_id),
    )


def _member_since(dice: Dice, key: Keys, joins_on: Ints) -> Ints:
    """The day of each sign-up, counted from the first day of the world."""
    long_ago = -1 - dice.whole("member since", key, 0, 900)
    return np.where(joins_on == IMPORTED, long_ago, np.minimum(joins_on, 20_000))


def _traits(dice: Dice, key: Keys, city: Ints, **known: Text) -> Text:
    """What an identify call says about each person."""
    count = len(key)
    born = dice.whole("birthday", key, 0, 18_000)
    address = json_object(
        count,
        street=join(digits(dice.whole("house", key, 1, 200)), " Harbour Street"),
        city=_of_city(city, 0),
        state=_of_city(city, 1),
        postalCode=digits(dice.whole("postal", key, 10_000, 99_999)),
        country=_of_city(city, 2),
    )
    has_address = dice.chance("has address", key, 0.8)
    preferred = text(["email", "sms", "push"])
    goals = text(["gift", "training", "expedition", "family"])
    return json_object(
        count,
        **known,
        gender=kept(
            gather(
                text(["female", "male", "other"]),
                dice.choice("gender", key, [0.49, 0.48, 0.03]),
            ),
            dice.chance("says gender", key, 0.6),
        ),
        birthday=kept(
            _days(date(1955, 1, 1), born), dice.chance("says birthday", key, 0.5)
        ),
        address=Raw(kept(address, has_address)),
        preferredChannel=kept(
            gather(preferred, dice.whole("preferred", key, 0, 3)),
            dice.chance("says preferred", key, 0.25),
        ),
        goal=kept(
            gather(goals, dice.whole("goal", key, 0, 4)),
            dice.chance("says goal", key, 0.3),
        ),
    )


def _contexts(
    dice: Dice, key: Keys, city: Ints, household: Ints, device_id: Text
) -> tuple[Text, ...]:
    """What every event of a person says about its device, open at the end: `{…`."""
    count = len(key)
    place = members(
        count,
        locale=gather(text(["de-DE", "en-GB", "pt-PT", "el-GR"] + ["en-US"] * 8), city),
        timezone=_of_city(city, 3),
        location=Raw(
            json_object(
                count,
                country=_of_city(city, 2),
                region=_of_city(city, 1),
                city=_of_city(city, 0),
            )
        ),
        ip=join("203.0.113.", digits(dice.whole("ip", key, 1, 255))),
    )
    is_iphone = dice.chance("iphone", key, 0.5)
    kind = gather(text(["android", "ios"]), is_iphone)
    system = gather(text(["Android", "iOS"]), is_iphone)
    release = gather(text(["16", "19.4"]), is_iphone)
    phone = json_object(
        count,
        id=device_id,
        type=kind,
        token=names(dice.child("token", key, 0), "t-", 16),
        advertisingId=names(dice.child("advertising", key, 0), "ad-", 12),
    )
    app = json_object(
        count,
        app=Raw(constant(count, '{"name":"Harbour Shop","version":"5.2.1"}')),
        device=Raw(phone),
        os=Raw(json_object(count, name=system, version=release)),
        network=Raw(
            constant(count, '{"wifi":true,"carrier":"Example Mobile"}'),
        ),
        library=Raw(
            json_object(count, name=join("analytics-", kind), version="4.1.8"),
        ),
        screen=Raw(constant(count, '{"width":390,"height":844}')),
    )
    web = json_object(
        count,
        library=Raw(constant(count, '{"name":"analytics.js","version":"2.11.1"}')),
        userAgent=gather(
            text(
                [
                    "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0",
                    "Mozilla/5.0 (Macintosh; Intel Mac OS X 15_0) Safari/605.1.15",
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/138.0.0.0",
                ]
            ),
            dice.whole("browser", key, 0, 3),
        ),
    )
    owner = np.where(household >= 0, household, np.arange(count))
    tablet_device = names(dice.child("tablet device", key[owner], 0), "d-", 12)
    tablet = json_object(
        count,
        app=Raw(constant(count, '{"name":"Harbour Shop","version":"5.2.1"}')),
        device=Raw(json_object(count, id=tablet_device, type="ios")),
        library=Raw(constant(count, '{"name":"analytics-ios","version":"4.1.8"}')),
    )
    kiosk = constant(count, '{"app":{"name":"Store Kiosk","version":"1.3"}')
    server = constant(count, '{"library":{"name":"analytics-node","version":"2.2"}')
    opened = [pc.utf8_slice_codeunits(part, 0, -1) for part in (app, web, tablet)]
    return tuple(join(part, ",", place) for part in (*opened, kiosk, server))


def _of_city(city: Ints, field: int) -> Text:
    return gather(text([str(place[field]) for place in CITIES]), city)


def _days(first: date, days: Ints) -> Text:
    """The dates that many days after the first."""
    epoch = (first - date(1970, 1, 1)).days
    return column((days + epoch).astype(np.int32)).cast(pa.date32()).cast(pa.string())


def local_offsets(day: date) -> Ints:
    """Whole hours by which each city's clock is ahead of UTC on that day."""
    noon = datetime.combine(day, time(12), UTC)
    offsets = []
    for place in CITIES:
        shift = noon.astimezone(ZoneInfo(str(place[3]))).utcoffset() or timedelta()
        offsets.append(round(shift.total_seconds() / 3600))
    return np.array(offsets, dtype=np.int64)
