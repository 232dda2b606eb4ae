"""What wrong clocks, empty forms, robots and advertisements leave in events.

One home of made-up persons, a few for each kind of trace, and a crowd at random.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from tests.conftest import TestHome, moment
from tests.resolving import Journal, resolve

AS_OF = moment("2026-05-20T12:00:00")
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
START = AS_OF - 40 * DAY
EPOCH = moment("1970-01-01T00:00:07")

MODELS = (
    *("staging", "identity", "profiles"),
    *("derived_phase_signals", "phase_evidence", "inactivity_timers", "phase_inputs"),
    *("phase_changes", "phases"),
    *("message_interactions", "message_touches", "session_touches", "message_sessions"),
    "touchpoints",
)

NOBODYS_USER_IDS = (
    *("null", "Undefined", "0", "GUEST", "anonymous", "[object Object]", "unknown"),
    *("test", "(null)", "<none>", "--", "0000-0000", "No Name"),
    *("not_set", "(not set)", "NaN", "false", '"undefined"', "00000000"),
    *("visitor", "{{ customer.id }}", "*|EMAIL|*", "%%EMAIL%%", "${uid}", "<user id>"),
    *("-1", "-999", "1.23457E+12", "12345678901234568.0", "[userId]", "xxx"),
)
NOBODYS_EMAILS = (
    *("", " ", "N/A", "none@none", "null@null.example", "No-Email@shop.example"),
    *("noemail@shop.example", "test@test.example", "undefined@undefined.example"),
    *("guest@shop.example", "-@-.example", "a@a.a", "xxx@xxx.example", "%%EMAIL%%"),
    *("{{email}}@shop.example", "*|EMAIL|*"),
)
NOBODYS_DEVICES = (
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "9774d56d682e549c",
    "02:00:00:00:00:00",
    "unknown",
)

# what follows the question mark, and the channel and campaign that it stands for
LANDINGS = {
    "gclid=Cj0KC-x_1": ("cpc", None),
    "page=2&gbraid=0AAA": ("cpc", None),
    "wbraid=Clc": ("cpc", None),
    "msclkid=7f0a": ("cpc", None),
    "dclid=CM3": ("display", None),
    "fbclid=IwAR2": ("social", None),
    "ttclid=E.C.P": ("paid_social", None),
    "utm_source=google&utm_medium=cpc&utm_campaign=may": ("cpc", "may"),
    "utm_medium=Paid-Social&utm_campaign=Fr%C3%BChling+%26+Ostern": (
        "paid_social",
        "Frühling & Ostern",
    ),
    "utm_source=partner&utm_campaign=100%ff#top": ("partner", "100%ff"),
    "utm_campaign=brand&gclid=Cj1#top": ("cpc", "brand"),
    "a=1&amp;utm_source=news&amp;utm_medium=email": ("email", None),
    "a=1;utm_medium=email;utm_campaign=a;b": ("email", "a;b"),
    "a=1?utm_medium=email&utm_campaign=second": ("email", "second"),
    "a=1#utm_medium=email&utm_campaign=behind": ("email", "behind"),
    "%3Futm_medium%3Demail%26utm_campaign%3Dbig%2520sale": ("email", "big sale"),
    "next=%2Fcart%3Futm_medium%3Demail%26utm_source%3Dnews": ("email", None),
    "UTM_Source=News&Utm_Medium=EMAIL": ("email", None),
    "utm_medium=&utm_medium=email&utm_medium=cpc": ("email", None),
    "utm_medium=email&utm_campaign=1%2B1+%3D+2": ("email", "1+1 = 2"),
    "utm_source={{utm.source}}&utm_campaign=*|CAMPAIGN|*": None,
    "utm_source=(not+set)&utm_medium=(none)&utm_campaign=null": None,
    "utm_source=partner&utm_campaign=test": ("partner", "test"),
    "srsltid=AfmB": ("organic", None),
    "srsltid=AfmB&gclid=Cj1": ("cpc", None),
    "fbclid=IwAR2&gad_source=1": ("cpc", None),
    "utm_source=newsletter&fbclid=IwAR2": ("newsletter", None),
    "epik=dj0y": ("social", None),
    "_kx=Px4%3D.Sf": ("email", None),
    "mc_cid=1a&mc_eid=2b": ("email", None),
    "_hsenc=p2&_hsmi=3": ("email", None),
    "li_fat_id=1": ("paid_social", None),
    "ScCid=1": ("paid_social", None),
    "rdt_cid=1": ("paid_social", None),
    "twclid=1": ("paid_social", None),
    "irclickid=1": ("affiliate", None),
    "cjevent=1": ("affiliate", None),
    "awc=1_2": ("affiliate", None),
    "ref=utm_source": None,
    "gclid=&a=1": None,
    "gclid=#top": None,
    "gclid=": None,
    "xgclid=1": None,
    "q=shoes": None,
}

MACHINES = {
    "by its name": [(40, "a", {"context": {"userAgent": "Barracuda Sentinel (EE)"}})],
    "too soon": [(4, "a", {})],
    "everywhere at once": [(7200, "a", {}), (7201, "b", {}), (7203, "c", {})],
    "by the head only": [(300, "a", {"properties": {"method": "HEAD"}})],
    "as it says": [(300, "a", {"properties": {"machine_click": True}})],
    "by a kind": [(300, "a", {"properties": {"machine": {"type": "prefetch"}}})],
    "by a number": [(300, "a", {"properties": {"bot": "1", "human": None}})],
    "beside another flag": [
        (300, "a", {"properties": {"machine_open": False, "apple_privacy_open": "yes"}})
    ],
    "as its tracker says": [(300, "a", {"context": {"isBot": True}})],
    "as its mailer says": [
        (300, "a", {"properties": {"client-info": {"bot": "apple"}}})
    ],
}
PERSONS = {
    "after a while": [(40, "a", {})],
    "as all flags say": [
        (300, "a", {"properties": {"machine": {"is": False}, "bot": 0, "human": True}})
    ],
    "two of the links": [(7200, "a", {}), (7201, "b", {})],
    "one link again and again": [(7200, "a", {}), (7201, "a", {}), (7202, "a", {})],
}


def write_times(log: Journal) -> None:
    order = {"order_id": "ti-1", "revenue": 20, "currency": "EUR"}
    received = {"receivedAt": (AS_OF - 3 * DAY).isoformat() + "Z"}
    log.add(AS_OF + 9 * DAY, "Order Completed", order, user="ti-fast", **received)
    log.add(START, "Product Viewed", {"product_id": "p"}, browser="ti-late")
    for number, at in enumerate((moment("2044-02-03"), AS_OF + MINUTE)):
        received = {"receivedAt": (START + DAY + number * SECOND).isoformat() + "Z"}
        log.write(at, type="page", browser="ti-late", **received)
    received = {"receivedAt": (AS_OF - DAY).isoformat() + "Z"}
    log.write(EPOCH, type="page", browser="ti-reset", **received)
    # the collector's own clock was reset; the event is of tomorrow, or of yesterday
    for name, at in (("unknown", AS_OF + DAY), ("known", AS_OF - DAY)):
        received = {"receivedAt": EPOCH.isoformat() + "Z"}
        log.write(at, type="page", browser=f"ti-{name}", **received)


def write_ids(log: Journal) -> None:
    def come(name: str, **who: Any) -> None:
        log.identify(START, browser=name, **who)
        goods = {"order_id": name, "revenue": 5, "currency": "EUR"}
        user = who.get("user")
        log.add(START + DAY, "Order Completed", goods, browser=name, user=user)

    for number, junk in enumerate(NOBODYS_USER_IDS):
        for person in "ab":
            email = {"email": f"{person}{number}@ju.example"}
            come(f"ju-{number}-{person}", user=junk, traits=email)
    for number, junk in enumerate(NOBODYS_EMAILS):
        for person in "ab":
            user = f"je-user-{number}-{person}"
            come(f"je-{number}-{person}", user=user, traits={"email": junk})
    for number, junk in enumerate(NOBODYS_DEVICES):
        for person in "ab":
            ids = {"device": {"advertisingId": junk, "type": "ios"}}
            come(f"jd-{number}-{person}", device=junk, context=ids)
    for number in range(12):
        email = {"email": f"buyer{number}@cl.example"}
        come(f"cl-{number}", user="cl-clerk", traits=email)
    for number in range(7):
        email = {"email": f"mail{number}@ma.example"}
        log.identify(START + number * DAY, user="ma-collector", traits=email)
    for name in ("al-one", "al-two"):
        come(name, user=f"{name}-user", traits={"email": f"{name}@al.example"})
    log.write(
        START + 2 * DAY, type="alias", user="al-two-user", previousId="al-one-user"
    )
    # an address in place of a browser's id
    log.identify(START, user="ea-member", traits={"email": "Member@EA.example"})
    consent = {"channel": "email", "purpose": "marketing", "status": "granted"}
    log.add(START + MINUTE, "Channel Consent Updated", consent, user="ea-member")
    log.add(START + DAY, "Unsubscribed", {"email_id": "x"}, browser="member@ea.example")
    # traits that are no object
    for number, context in enumerate(({"traits": "none"}, {"traits": [1]})):
        log.add(START, "Product Viewed", browser=f"tr-{number}", context=context)
    for number, email in enumerate(("right@de.example", "wrong@de.example")):
        log.identify(START + number * DAY, user="de-ann", traits={"email": email})


def write_clicks(log: Journal) -> None:
    for kind, clicks in {**MACHINES, **PERSONS}.items():
        mail = {"email_id": f"mail-{kind}", "campaign_id": "weekly"}
        log.add(START + DAY, "Email Delivered", mail, user=kind)
        for seconds, link, more in clicks:
            log.add(
                START + DAY + seconds * SECOND,
                "Email Link Clicked",
                {**mail, "link_url": f"/{link}", **more.get("properties", {})},
                user=kind,
                context=more.get("context"),
            )


def write_visits(log: Journal) -> None:
    def visit(name: str, *pages: dict[str, Any], minutes: int = 10) -> None:
        for number, context in enumerate(pages):
            at = START + number * minutes * MINUTE
            log.write(at, type="page", name="Page", browser=name, context=context)

    def led_by(**campaign: str) -> dict[str, Any]:
        return {"campaign": campaign}

    for number, query in enumerate(LANDINGS):
        visit(f"la-url-{number}", {"page": {"url": f"https://s.example/?{query}"}})
        visit(f"la-search-{number}", {"page": {"search": f"?{query}"}})
        log.write(
            START,
            type="page",
            browser=f"la-page-{number}",
            properties={"url": f"https://s.example/x?{query}"},
        )
    gclid = {"page": {"url": "https://s.example/?gclid=1"}}
    visit("vi-stated", {**gclid, **led_by(source="news", medium="email", name="n")})
    may = led_by(source="google", medium="cpc", name="may")
    june = led_by(source="meta", medium="paid_social", name="june")
    visit("vi-later", {}, may, {})
    visit("vi-kept", may, may, may)
    visit("vi-again", may, june, {}, may)
    paypal = led_by(source="www.paypal.com", medium="referral")
    visit("vi-paid", may, {"page": {"referrer": "https://www.paypal.com/"}}, paypal)
    visit("vi-direct", led_by(source="(direct)", medium="(none)"))
    phone = {"device": {"type": "ios"}, "timezone": "Europe/Oslo"}
    visit("vi-device", {}, {**phone, "location": {"city": "Oslo", "country": "NO"}})
    visit("vi-robot", {"isBot": True}, {"bot": {"name": "crawler"}})
    visit("vi-beats", {})
    for number in range(1, 5):
        log.add(START + 29 * number * MINUTE, "Heartbeat", browser="vi-beats")
    for number, label in enumerate(("Big Sale (77X)", "big sale", "77x", "BIG SALE")):
        mail = {"campaign_id": "77X", "campaign_name": "Big Sale", "email_id": "e"}
        log.add(START - 2 * MINUTE, "Email Delivered", mail, browser=f"es-{number}")
        log.add(START - MINUTE, "Email Link Clicked", mail, browser=f"es-{number}")
        visit(f"es-{number}", led_by(source="esp", medium="email", name=label))
    for number in range(4):
        to_all = {"send_id": "blast", "campaign_id": "b1", "campaign_name": "Blast"}
        log.add(START, "Email Delivered", to_all, user=f"bl-{number}")
        clicked_at = START + number * DAY + 60 * MINUTE
        log.add(clicked_at, "Email Link Clicked", to_all, user=f"bl-{number}")
    for number in range(6):
        letter = {"campaign_id": "L9", "campaign_name": "Letter"}
        log.add(START, "Direct Mail Delivered", letter, user=f"dm-{number}")
        coupon = {"coupon_id": "c", "campaign_id": "l9" if number < 3 else "other"}
        if number < 4:
            log.add(START + 12 * DAY, "Coupon Redeemed", coupon, user=f"dm-{number}")


def write_crowd(log: Journal) -> None:
    """Everybody on anybody's device, under ids that may be anybody's or nobody's."""
    dice = random.Random(7)
    emails = [*(f"cr{n}@cr.example" for n in range(30)), *NOBODYS_EMAILS]
    users = [*(f"cr-user-{n}" for n in range(12)), *NOBODYS_USER_IDS[:6]]
    names = ("Product Viewed", "Order Completed", "Email Link Clicked", "Heartbeat")
    for number in range(400):
        at = START + dice.randrange(40 * 86400) * SECOND
        user = dice.choice([None, *users])
        browser = f"cr-{dice.randrange(25)}"
        kind = dice.randrange(4)
        if kind == 0:
            email = {"email": dice.choice(emails)}
            log.identify(at, user=user, browser=browser, traits=email)
        elif kind == 1:
            previous = dice.choice((f"cr-{dice.randrange(25)}", dice.choice(users)))
            log.write(at, type="alias", user=user or "cr-alias", previousId=previous)
        else:
            goods = {"order_id": f"cr-{number}", "revenue": 1, "currency": "EUR"}
            at += dice.choice((0, 0, 0, 90, -30_000)) * DAY
            received = {"receivedAt": (AS_OF - MINUTE).isoformat() + "Z"}
            log.add(
                at, dice.choice(names), goods, user=user, browser=browser, **received
            )


@pytest.fixture(scope="module")
def traces(new_home: Callable[[str], TestHome]) -> TestHome:
    """A home with all of them, and a denial of an address that wrote no message."""
    log = Journal("tr")
    for write in (write_times, write_ids, write_clicks, write_visits, write_crowd):
        write(log)
    home = new_home("traces")
    home.land(log.events)
    resolve(home, AS_OF, ("path:seeds",))
    with home.warehouse() as connection:
        connection.execute(
            "insert into seeds.identity_rules values "
            "('deny', 'user_id', 'de-ann', 'email', 'wrong@de.example', '')"
        )
    resolve(home, AS_OF, MODELS)
    return home


@pytest.fixture(scope="module")
def profile_of(traces: TestHome) -> dict[str, str]:
    rows = traces.read("select identifier, profile_id from identity.identity_map")
    return dict(rows.iter_rows())


@pytest.fixture(scope="module")
def phase_of(traces: TestHome, profile_of: dict[str, str]) -> dict[str, int]:
    phases = dict(traces.read("select profile_id, phase from decisions.phases").rows())
    return {
        name: phases[profile]
        for name, profile in profile_of.items()
        if profile in phases
    }


@pytest.fixture(scope="module")
def touches_of(traces: TestHome) -> dict[str, list[tuple[Any, ...]]]:
    """By the name of each person: channel, campaign and interaction, in order."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for name, *touch in traces.read("""
        select profiles.identifier, channel, campaign, interaction
        from attribution.touchpoints
        inner join profiles.profiles using (profile_id)
        order by touched_at, touchpoint_id
    """).iter_rows():
        found.setdefault(name, []).append(tuple(touch))
    return found


def times_of(home: TestHome, browser: str) -> list[datetime]:
    return home.read(f"""
        select occurred_at from staging.stg_events
        where '{browser}' in (user_id, anonymous_id) order by occurred_at
    """)["occurred_at"].to_list()


def test_nothing_happens_after_it_was_received_nor_before_there_were_shops(traces):
    assert times_of(traces, "ti-fast") == [AS_OF - 3 * DAY]
    assert times_of(traces, "ti-late") == [START, START + DAY, START + DAY + SECOND]
    assert times_of(traces, "ti-reset") == [AS_OF - DAY]
    assert times_of(traces, "ti-known") == [AS_OF - DAY]
    assert times_of(traces, "ti-unknown") == []
    stated = traces.read("""
        select count(*) from staging.stg_events
        where stated_at <> occurred_at and anonymous_id in ('ti-late', 'ti-reset')
    """)
    assert stated.item() == 3


def test_no_wrong_clock_moves_a_profile(traces, profile_of, phase_of):
    first, last, recency = traces.read("""
        select min(first_seen_at), max(last_seen_at), min(recency_days)
        from profiles.profiles left join profiles.rfm using (profile_id)
    """).row(0)
    assert START - DAY < first < last <= AS_OF
    assert recency == 0
    ids = [profile_of[name] for name in ("ti-fast", "ti-late")]
    assert (
        traces.read(f"""
        select recency_days from profiles.rfm where profile_id = '{ids[0]}'
    """).item()
        == 3
    )
    assert (
        traces.read(f"""
        select last_seen_at from profiles.profiles where profile_id = '{ids[1]}'
    """).item()
        == START + DAY + SECOND
    )
    assert traces.read("select max(entered_at) from decisions.phases").item() <= AS_OF
    assert phase_of["ti-fast"] == 5


@pytest.mark.parametrize(
    ("prefix", "count"),
    [
        ("ju", len(NOBODYS_USER_IDS)),
        ("je", len(NOBODYS_EMAILS)),
        ("jd", len(NOBODYS_DEVICES)),
    ],
)
def test_ids_of_nobody_join_nobody(profile_of, prefix, count):
    persons = [f"{prefix}-{number}-{who}" for number in range(count) for who in "ab"]
    assert len({profile_of[person] for person in persons}) == len(persons)


def test_ids_of_nobody_are_no_ids(traces, profile_of):
    names = {*NOBODYS_USER_IDS, *NOBODYS_EMAILS, *NOBODYS_DEVICES}
    assert {*names, *map(str.lower, names)} & profile_of.keys() == set()
    assert (
        traces.read("""
        select count(*) from profiles.profiles where identifier like 'je-%'
        and email is not null
    """).item()
        == 0
    )
    ads = traces.read("select advertising_id from staging.stg_events").drop_nulls()
    assert set(ads["advertising_id"]) <= {
        "9774d56d682e549c",
        "02:00:00:00:00:00",
        "unknown",
    }


def test_a_user_id_in_front_of_many_persons_joins_none_of_them(traces, profile_of):
    buyers = [f"cl-{number}" for number in range(12)]
    assert len({profile_of[name] for name in (*buyers, "cl-clerk")}) == 13
    for number, buyer in enumerate(buyers):
        assert profile_of[f"buyer{number}@cl.example"] == profile_of[buyer]
    why = traces.read("""
        select distinct hub_reason from identity.identifiers
        where identifier = 'cl-clerk'
    """)
    assert why.item() == "several_persons"
    orders = traces.read("""
        select order_count from profiles.profiles where identifier like 'cl-%'
        and not is_hub
    """)
    assert orders["order_count"].to_list() == [1] * 12


def test_an_address_beyond_the_limit_or_denied_is_a_profile_in_every_table(
    profile_of, phase_of
):
    collector = profile_of["ma-collector"]
    emails = [f"mail{number}@ma.example" for number in range(7)]
    apart = [email for email in emails if profile_of[email] != collector]
    assert len(apart) == 2
    assert all(phase_of[email] == 1 for email in apart)
    assert profile_of["right@de.example"] == profile_of["de-ann"]
    assert profile_of["wrong@de.example"] != profile_of["de-ann"]
    assert phase_of["wrong@de.example"] == 1


def test_an_alias_joins_no_two_users(profile_of):
    assert profile_of["al-one"] != profile_of["al-two"]
    assert profile_of["al-one@al.example"] == profile_of["al-one"]
    assert profile_of["al-two@al.example"] == profile_of["al-two"]


def test_who_unsubscribes_under_an_address_has_unsubscribed(traces, profile_of):
    assert profile_of["member@ea.example"] == profile_of["ea-member"]
    status = traces.read(f"""
        select status from profiles.consents
        where profile_id = '{profile_of["ea-member"]}' and channel = 'email'
    """)
    assert status.item() == "denied"


def test_every_profile_stands_in_every_table_once(traces):
    mapped = traces.read("select distinct profile_id from identity.identity_map")
    profiles = traces.read("select profile_id, is_hub from profiles.profiles")
    phases = traces.read("select profile_id from decisions.phases")
    assert sorted(profiles["profile_id"]) == sorted(mapped["profile_id"])
    persons = profiles.filter(~pl.col("is_hub"))
    assert 0 < len(persons) < len(profiles)
    assert sorted(phases["profile_id"]) == sorted(persons["profile_id"])
    evidence = traces.read("""
        select count(*) from decisions.phases
        where evidence_message_id not in (select message_id from staging.stg_events)
    """)
    assert evidence.item() == 0


@pytest.mark.parametrize("kind", MACHINES)
def test_a_machines_click_engages_nobody(touches_of, phase_of, kind):
    assert touches_of[kind] == [("email", "weekly", "delivered")]
    assert phase_of[kind] == 1


@pytest.mark.parametrize("kind", PERSONS)
def test_a_persons_click_engages(touches_of, phase_of, kind):
    assert touches_of[kind] == [("email", "weekly", "clicked")]
    assert phase_of[kind] > 1


def test_engagements_and_features_count_persons_clicks_alone(traces, profile_of):
    clicks = dict(
        traces.read("""
            select profile_id, engaged_count from profiles.channel_engagements
            where channel = 'email'
        """).rows()
    )
    counted = dict(
        traces.read("""
            select profile_id, sum(message_click_count)::int
            from profiles.activity_hours group by profile_id
        """).rows()
    )
    for kind, told in {**MACHINES, **PERSONS}.items():
        assert clicks[profile_of[kind]] == (kind in PERSONS)
        assert counted[profile_of[kind]] == (kind in PERSONS) * len(told)


@pytest.mark.parametrize("place", ["url", "search", "page"])
def test_the_address_of_a_page_names_its_campaign(touches_of, place):
    expected = {
        f"la-{place}-{number}": [(*named, "session")]
        for number, named in enumerate(LANDINGS.values())
        if named
    }
    found = {n: t for n, t in touches_of.items() if n.startswith(f"la-{place}-")}
    assert found == expected


def test_a_visit_has_a_touch_for_each_campaign_that_led_into_it(touches_of):
    may = ("cpc", "may", "session")
    assert touches_of["vi-stated"] == [("email", "n", "session")]
    assert touches_of["vi-later"] == [may]
    assert touches_of["vi-kept"] == [may]
    assert touches_of["vi-again"] == [may, ("paid_social", "june", "session"), may]
    assert touches_of["vi-paid"] == [may]
    assert "vi-direct" not in touches_of


def test_no_single_event_speaks_for_a_visit(traces, profile_of):
    sessions = {
        row["profile_id"]: row
        for row in traces.read("select * from profiles.sessions").iter_rows(named=True)
    }
    found = Counter(
        traces.read("select profile_id from profiles.sessions")["profile_id"]
    )
    assert profile_of["vi-robot"] not in sessions
    whole = {name: sessions[profile_of[name]] for name in ("vi-device", "vi-beats")}
    assert whole["vi-device"]["device_class"] == "mobile"
    assert whole["vi-device"]["timezone"] == "Europe/Oslo"
    assert whole["vi-device"]["city"] == "Oslo"
    assert whole["vi-beats"]["event_count"] == 5
    for name in ("vi-beats", "vi-again", "vi-paid", "vi-later"):
        assert found[profile_of[name]] == 1
    assert sessions[profile_of["vi-later"]]["campaign_name"] == "may"


def test_a_label_with_an_id_is_the_campaign_of_the_mail(touches_of):
    for number in range(4):
        assert touches_of[f"es-{number}"] == [("email", "Big Sale", "session")]


def test_a_send_to_everybody_touches_each_of_them(touches_of):
    for number in range(4):
        assert touches_of[f"bl-{number}"] == [("email", "Blast", "clicked")]


def test_a_redeemed_coupon_answers_the_letter_of_its_campaign(traces):
    answered = traces.read("""
        select user_id, engaged_count from profiles.channel_engagements
        inner join profiles.profiles using (profile_id)
        where channel = 'direct_mail' order by user_id
    """)
    assert answered["engaged_count"].to_list() == [1, 1, 1, 0, 0, 0]


def ordered_scores(home: TestHome) -> Iterator[list[tuple[Any, int]]]:
    for measure, sign in (
        ("recency_days", -1),
        ("frequency", 1),
        ("monetary_amount", 1),
    ):
        score = measure.split("_")[0] + "_score"
        rows = home.read(f"select {sign} * {measure}, {score} from profiles.rfm").rows()
        yield sorted(rows)


def test_equals_score_alike_and_better_ones_no_worse(traces):
    for rows in ordered_scores(traces):
        scores: dict[Any, set[int]] = {}
        for value, score in rows:
            scores.setdefault(value, set()).add(score)
        assert all(len(given) == 1 for given in scores.values())
        in_order = [min(given) for _, given in sorted(scores.items())]
        assert in_order == sorted(in_order)
    once = traces.read("select frequency_score from profiles.rfm where frequency = 1")
    assert set(once["frequency_score"]) == {1}
