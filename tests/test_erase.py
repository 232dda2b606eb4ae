"""A person who was erased is in no byte of the home, and is never written to again."""

import base64
import csv
import gzip
import hashlib
import hmac
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration import erase as erasing
from orchestration.erase import erase
from orchestration.erasures import ErasuresError, read_erasures, record_erased
from orchestration.recovery import home_lock
from orchestration.sources.landing import land
from orchestration.sources.redaction import Person, forget_in_file
from orchestration.warehouse import Warehouse, fetch_frame
from tests.conftest import MakeOnce, TestHome, moment

FIRST, SECOND = moment("2026-06-20T12:00:00"), moment("2026-06-21T12:00:00")
PEOPLE = range(70, 78)
RUG = {"product_id": "77", "name": "Rug", "category": "Floor", "price": 20}
JOURNEY = """\
journey: cart_recovery
version: 1
description: One email to who left a cart.
message_class: marketing
priority: 20
holdout: 0
entry: {intent: [cart_abandoned], within: 3d}
exit: {when: [order], after: 5d}
re_eligibility: 0d
steps:
  - step: email_offer
    channels: [email]
    content: cart_offer
    incentive: {code: BACK10, percent: 10, valid_for: 48h}
"""
TOTALS = """
    select
        (select count(*) from staging.stg_orders) as orders,
        (select sum(revenue_amount) from staging.stg_orders) as revenue,
        (select sum(gross_revenue_amount) from staging.stg_orders) as gross,
        (select sum(refund_amount) from staging.stg_refunds) as refunds,
        (select sum(quantity) from staging.stg_order_lines) as quantity,
        (select sum(revenue_amount) from attribution.channel_performance) as credits,
        (select count(*) from profiles.rfm) as buyers
"""


def told(number: int, at: datetime, event: str, **more: Any) -> dict[str, Any]:
    """One message of a person."""
    return {
        "type": "track",
        "event": event,
        "messageId": f"m-{number}-{event}-{at:%d%H%M}".replace(" ", "-"),
        "userId": str(number),
        "anonymousId": f"browser-{number}-q",
        "timestamp": f"{at.isoformat()}Z",
        "receivedAt": f"{at.isoformat()}Z",
        "context": {"timezone": "Europe/Berlin"},
        "properties": more,
    }


def life(number: int) -> list[dict[str, Any]]:
    """Who buys, gets some of it back, and leaves a cart."""
    order = f"ord-{number}-xyz"
    who = told(number, FIRST - timedelta(days=30), "who")
    who |= {"type": "identify", "traits": words(number)}
    return [
        who,
        told(number, FIRST - timedelta(days=29), "Email Subscribed"),
        told(
            number,
            FIRST - timedelta(days=20),
            "Order Completed",
            **{"order_id": order, "revenue": 40 + number, "currency": "USD"},
            **{"products": [RUG | {"quantity": 2}], "email": words(number)["email"]},
        ),
        told(
            number,
            FIRST - timedelta(days=19),
            "Order Refunded",
            **{"order_id": order, "refund_id": f"ref-{number}-xyz"},
            **{"refund_amount": 7, "currency": "USD"},
        ),
        told(number, FIRST - timedelta(hours=30), "Product Added", **RUG),
    ]


def words(number: int) -> dict[str, str]:
    """What a person says of themselves."""
    return {
        "email": f"zelda{number}@mail.example",
        "phone": f"+1555010{1000 + number}",
        "first_name": f"Zelda{number}",
        "last_name": f"Quartzberg{number}",
    }


def secrets_of(number: int) -> list[str]:
    """Words that nothing but that person's traces holds."""
    said = words(number)
    return [
        *(said["email"], said["phone"], f"browser-{number}-q", f"ord-{number}-xyz"),
        *(f"ref-{number}-xyz", f"m-{number}-", said["first_name"], said["last_name"]),
    ]


def fill(home: TestHome) -> None:
    """Land the lives in every form that is read, and what names people elsewhere."""
    lives = [life(number) for number in PEOPLE]
    home.land([event for events in lives for event in events[:2]], "a.ndjson")
    landing = home.settings.landing
    lines = "".join(json.dumps(events[2]) + "\n" for events in lives)
    (landing / "b.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
    pl.DataFrame(
        [
            {**events[3], "properties": json.dumps(events[3]["properties"])}
            for events in lives
        ]
    ).write_parquet(landing / "c.parquet")
    array = json.dumps([events[4] for events in lives], indent=1)
    (landing / "d.json").write_bytes(array.encode("utf-16"))
    with (landing / "e.ndjson").open("w") as stream:
        for number in PEOPLE:
            said = words(number)
            friend = told(1, FIRST - timedelta(days=2), "Invite Sent", by="mail")
            friend["messageId"] += str(number)
            friend["properties"]["friend"] = said["email"].upper()
            stream.write(json.dumps(friend) + "\n")
            stream.write(f'{{"userId": "{number}", "email": "{said["email"]}", oh\n')
    journeys = home.settings.config / "journeys"
    journeys.mkdir(parents=True)
    (journeys / "cart_recovery.yml").write_text(JOURNEY)
    rules = home.settings.seeds / "identity_rules.csv"
    rules.parent.mkdir()
    shutil.copy(home.settings.seed("identity_rules"), rules)
    with rules.open("a", newline="") as stream:
        for number in PEOPLE:
            email = words(number)["email"]
            csv.writer(stream).writerow(
                ["deny", "email", email, "email", f"x{number}@mail.example", "no"]
            )
    logs = home.settings.dagster_home
    logs.mkdir(exist_ok=True)
    (logs / "run.log").write_text(
        "".join(f"odd: {words(number)['email']}\n" for number in PEOPLE)
    )


@pytest.fixture(scope="session")
def lived(make_once: MakeOnce) -> TestHome:
    """A home in which one run has sent."""

    def live(folder: Path) -> None:
        home = TestHome(folder)
        fill(home)
        home.run(FIRST.isoformat())

    return TestHome(make_once("erase", live))


@pytest.fixture(scope="session")
def number(lived: TestHome) -> int:
    """One of those who were sent an email."""
    sent = lived.read(
        "select identifier from decisions.send_list "
        "where channel = 'email' order by send_id"
    )["identifier"]
    with sqlite3.connect(lived.settings.ledger) as ledger:
        assert ledger.execute("select 1 from sends where state = 'sent'").fetchall()
    return int(sent[0])


def copy_of(home: TestHome, folder: Path) -> TestHome:
    shutil.copytree(home.settings.root, folder / "home", symlinks=True)
    return TestHome(folder / "home")


def traces(root: Path, secrets: list[str]) -> set[tuple[str, str]]:
    """Where any of the words is, plain, hashed or in base64, whatever the file is."""
    needles = {}
    for word in secrets:
        raw = word.encode()
        for form in (
            word,
            *(hashlib.new(name, raw).hexdigest() for name in ("sha256", "sha1", "md5")),
            base64.b64encode(raw).decode(),
        ):
            needles[form.lower()] = word
    found = set()
    for path in sorted(root.rglob("*")):
        if path.is_file():
            for text in texts_of(path, needles):
                lower = text.lower()
                found |= {
                    (path.relative_to(root).as_posix(), word)
                    for form, word in needles.items()
                    if form in lower
                }
    return found


def texts_of(path: Path, needles: dict[str, str]) -> Iterator[str]:
    """What a file holds: its bytes, and what they are once unpacked or read."""
    raw = path.read_bytes()
    yield path.name
    yield raw.decode("utf-8", "replace")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield raw.decode("utf-16")
    if raw.startswith(b"\x1f\x8b"):
        yield gzip.decompress(raw).decode()
    if raw.startswith(b"PAR1"):
        yield str(pl.read_parquet(path).rows())
    if raw.startswith(b"SQLite format 3"):
        with closing(sqlite3.connect(path)) as opened:
            yield "\n".join(opened.iterdump())
    if path.suffix == ".duckdb":
        with Warehouse(path).connect(read_only=True) as connection:
            for schema, table in connection.execute(
                "select schema_name, table_name from duckdb_tables()"
            ).fetchall():
                rows = connection.execute(
                    f'select row_text from (select cast("{table}" as varchar) as '
                    f'row_text from {schema}."{table}") '
                    "where list_has_any(list_transform($needles, lambda needle: "
                    "contains(lower(row_text), needle)), [true])",
                    {"needles": list(needles)},
                ).fetchall()
                yield str(rows)


def plant(home: TestHome, said: list[str]) -> None:
    """Have Dagster's records quote a person, and keep the bytes of deleted rows."""
    (path,) = home.settings.dagster_home.rglob("history/runs.db")
    with closing(sqlite3.connect(path)) as records, records:
        records.execute("create table said (text)")
        for word in said:
            records.execute("insert into said values (?)", (f'{{"x": "{word}!"}}',))
        records.execute("create table unsaid as select * from said")
        records.execute("delete from unsaid")


def test_who_is_erased_is_in_no_byte_and_is_never_written_to_again(
    lived: TestHome, number: int, tmp_path: Path
) -> None:
    home = copy_of(lived, tmp_path)
    root, secrets = home.settings.root, secrets_of(number)
    profile_id = home.read(
        f"select profile_id from identity.identity_map where identifier = '{number}'"
    ).item()
    secrets.append(profile_id)
    said = words(number)
    name = f"{said['first_name']} {said['last_name']}"
    plant(home, [*secrets[:5], profile_id, name, said["email"].upper()])
    before = traces(root, secrets)
    assert {word for _, word in before} == set(secrets)
    for place in ("a.ndjson", "b.ndjson.gz", "c.parquet", "d.json", "e.ndjson"):
        assert f"landing/{place}" in {path for path, _ in before}
    others = secrets_of(number - 1 if number > 70 else number + 1)
    kept = {word for _, word in traces(root, others)}
    totals = home.read(TOTALS).to_dicts()

    shown = json.loads(home.rekindle("erase", str(number), "--json").stdout)
    assert shown["left"] == {}
    assert shown["found"]["outbox: messages"] == 1
    assert traces(root, secrets) == set()
    assert {word for _, word in traces(root, others)} == kept
    rules = (home.settings.seeds / "identity_rules.csv").read_text()
    assert rules.count("deny,email") == len(PEOPLE) - 1
    friends = (home.settings.landing / "e.ndjson").read_text()
    assert friends.count("Invite Sent") == len(PEOPLE)
    for path in (*home.settings.erasures.iterdir(), home.settings.warehouse):
        assert path.stat().st_mode & 0o077 == 0, path

    again = told(number, SECOND - timedelta(hours=12), "Product Added", **RUG)
    again["traits"] = {"email": said["email"].upper()}
    old = [event for event in life(number) if event["event"] == "Order Completed"]
    home.land([again, *old], "later.ndjson")
    home.run(SECOND.isoformat())
    assert home.read(TOTALS).to_dicts() == totals
    reasons = home.read(
        "select distinct verdict, reason from decisions.decisions "
        "inner join identity.identity_map using (profile_id) "
        f"where identifier = '{number}'"
    ).rows()
    assert reasons == [("suppressed", "erased")]
    refused = home.read("from raw.rejected_events where reason = 'erased'").to_dicts()
    assert [row["raw"] for row in refused] == [""]
    outbox = {"outbox/email", *(path for path, _ in traces(root / "outbox", secrets))}
    assert outbox == {"outbox/email"}


def test_an_erasure_that_is_killed_anywhere_is_ended_by_whoever_comes_next(
    lived: TestHome, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copy_of(lived, tmp_path)
    steps = (
        *("remember", "forget_in_landing", "forget_in_outbox", "forget_in_warehouse"),
        *("forget_in_seeds", "forget_in_records", "still_named"),
    )

    class KilledError(Exception):
        pass

    def work(step: str) -> None:
        """Do what is to do until a step is done, and die."""
        done = getattr(erasing, step)

        def die(*arguments: Any) -> None:
            done(*arguments)
            raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(erasing, step, die)
            with pytest.raises(KilledError):
                if step == steps[0]:
                    erase(home.settings, words(number)["email"])
                else:
                    with home_lock(home.settings):
                        pytest.fail("the home was held while a person is half erased")

    for step in steps:
        work(step)
        assert home.settings.erasing.exists()
        assert home.settings.erasing.stat().st_mode & 0o077 == 0
    with home_lock(home.settings):
        pass
    assert not home.settings.erasing.exists()
    assert traces(home.settings.root, secrets_of(number)) == set()
    kept = home.settings.landing / "erased"
    assert len([*kept.iterdir()]) == 1


def test_a_dry_run_lists_what_holds_a_person_and_writes_nothing(
    lived: TestHome, number: int
) -> None:
    def contents() -> dict[Path, bytes]:
        root = lived.settings.root
        return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = contents()
    erased = erase(lived.settings, f"user_id:{number}", dry_run=True)
    assert contents() == before
    assert erased.found["landing/d.json: lines"] == 1
    assert erased.found["ledger: sends"] == 1
    assert erased.found["orders that stay without a name"] == 1
    assert erased.found["warehouse, profiles.profiles: rows"] == 1


@given(
    st.lists(
        st.sampled_from(
            [
                '{"messageId": "m1", "userId": "u1",  "a": 1}',
                '{"messageId": "m2", "userId": "b.ada@mail.example"}',
                '{"messageId": "m3", "p": "007"}',
                "not ada at all",
                '{"messageId": "m4", "userId": "8", "size": "7", "quantity": 7}',
                '{"messageId": "m5", "userId": "100234x", "price": 100234}',
                '{"messageId": "x1", "userId": "7"}',
                '{"messageId": "x2", "userId": 7}',
                '{"messageId": "x3", "traits": {"email": " ADA@mail.example"}}',
                '{"messageId": "x4", "traits": {"mobile": "(0170) 123-4567"}}',
                '{"messageId": "x5", "q": "say\\nada@mail.example!"}',
                '{"messageId": "x6", "q": "\\u0061da@mail.example"}',
                "x7 ada@mail.example broken",
            ]
        ),
        max_size=12,
    )
)
def test_lines_of_others_stay_letter_by_letter(lines: list[str]) -> None:
    person = Person(frozenset({"ada@mail.example", "+491701234567", "7", "100234"}))
    kept = [line for line in lines if person.forget_line(line) is not None]
    assert kept == [line for line in lines if '"x' not in line and "x7" not in line]


def test_a_file_of_which_nothing_is_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"messageId": "m1", "userId": "ada-1815"}\n')
    forget_in_file(path, Person(frozenset({"ada-1815"})))
    assert [*tmp_path.iterdir()] == []


def test_hashes_are_hmacs_and_tell_nothing_without_the_pepper(home: TestHome) -> None:
    folder = home.settings.erasures
    record_erased(folder, [("email", "ada@mail.example")], FIRST)
    record_erased(folder, [("user_id", "ü")], SECOND)
    pepper = (folder / "pepper").read_bytes()
    expected = {
        hmac.new(pepper, text.encode(), hashlib.sha256).hexdigest()
        for text in ("email␟ada@mail.example", "user_id␟ü")
    }
    erasures = read_erasures(folder)
    assert set(erasures.hashes["hmac"]) == expected
    assert "pepper" not in repr(erasures)
    with home.warehouse() as connection:
        erasures.bring(connection)
        found = fetch_frame(
            connection,
            "select keyed_hash('email', 'ada@mail.example') as hmac "
            "union select keyed_hash('user_id', 'ü')",
        )
    assert set(found["hmac"]) == expected


@pytest.mark.parametrize("harm", ["pepper is gone", "a line is damaged"])
def test_nobody_is_written_to_while_it_is_not_known_who_was_erased(
    home: TestHome, harm: str
) -> None:
    folder = home.settings.erasures
    record_erased(folder, [("email", "ada@mail.example")], FIRST)
    if harm == "pepper is gone":
        (folder / "pepper").unlink()
    else:
        (folder / "identifiers.ndjson").write_text("oh\n")
    with pytest.raises(ErasuresError, match="nothing is sent until then"):
        read_erasures(folder)


def test_what_is_of_the_time_before_the_erasure_does_not_come_back(
    home: TestHome,
) -> None:
    record_erased(home.settings.erasures, [("user_id", "70")], FIRST)
    before = told(70, FIRST - timedelta(days=1), "Product Viewed")
    after = told(70, FIRST + timedelta(days=1), "Product Viewed")
    home.land([before, after])
    with home.warehouse() as connection:
        erasures = read_erasures(home.settings.erasures)
        landed = land(connection, home.settings.landing, SECOND, erasures)
    assert (landed.row_count, landed.rejected_count) == (2, 1)
    assert home.read("select message_id from raw.events").item() == after["messageId"]
    assert home.read("select raw from raw.rejected_events").item() == ""
