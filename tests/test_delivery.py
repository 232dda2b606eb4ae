"""Delivery: at most once whatever breaks, never in silence, never a half message."""

import email
import json
import logging
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from email.policy import default
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as SmtpServerProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from activations.addresses import (
    InvalidAddressError,
    in_ascii,
    mail_address,
    sender_address,
    wire_address,
)
from activations.channels import BLIND, DeliveryClass, DestinationDownError
from activations.channels.file import FileDestination
from activations.channels.mail import as_mail
from activations.channels.smtp import SmtpDestination, SmtpServer
from activations.delivery import (
    ImbalanceError,
    RetryPolicy,
    activate,
    assert_balanced,
)
from activations.ledger import Ledger, Outcome, Send
from activations.render import CONTENT, Message, Renderer
from orchestration.sources.receipts import land_bounces, land_receipts
from tests.conftest import LINKS

MONDAY = datetime.fromisoformat("2026-06-01T09:00:00")
TUESDAY = MONDAY + timedelta(hours=12)
WEDNESDAY = MONDAY + timedelta(days=2)
SENDER = "The Shop <hello@shop.example>"
RENDERER = Renderer(shop_url="https://shop.example", links=LINKS, currency="USD")
NO_PAUSE = RetryPolicy(pause_seconds=0)


def a_send_list(
    *numbers: int,
    as_of: datetime = MONDAY,
    channel: str = "email",
    is_due: bool = True,
    is_wanted: bool = True,
    **changes: Any,
) -> pl.DataFrame:
    content_id = {"email": "cart_offer", "push": "cart_reminder"}[channel]
    rows = [
        {
            "send_id": f"{channel}{number:04d}",
            "enrollment_id": f"enrollment{number}",
            "journey": "cart_recovery",
            "step": "a_step",
            "channel": channel,
            "profile_id": f"profile{number}",
            "identifier_type": "user_id",
            "identifier": f"user{number}",
            "address": f"person{number}@mail.example",
            "content_id": content_id,
            "message_class": "marketing",
            "payload": json.dumps({"first_name": f"Ada{number}"}),
            "as_of": as_of,
            "is_due": is_due,
            "is_wanted": is_wanted,
            **changes,
        }
        for number in numbers
    ]
    return pl.DataFrame(rows)


class CrashError(BaseException):
    """The process dies here."""


class Wire:
    """A destination without memory of what it took, which fails and crashes on demand.

    `fates` says, send by send, what happens; then everything is taken.
    """

    delivery_class = BLIND

    def __init__(
        self, name: str = "smtp", batch_size: int = 1, fates: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.batch_size = batch_size
        self.fates = list(fates)
        self.taken: list[str] = []

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        if self.fates[:1] == ["down"]:
            self.fates.pop(0)
            raise DestinationDownError("smtp: ConnectionRefusedError")
        return [self.send_one(message) for message in messages]

    def send_one(self, message: Message) -> Outcome:
        fate = self.fates.pop(0) if self.fates else "taken"
        if fate == "crash before":
            raise CrashError
        if fate == "down":
            return Outcome(message.send_id, "pending", "smtp: ConnectionResetError")
        if fate == "later":
            return Outcome(message.send_id, "pending", "smtp_451")
        if fate == "never":
            return Outcome(message.send_id, "dead", "smtp_550")
        self.taken.append(message.send_id)
        if fate == "crash after":
            raise CrashError
        return Outcome(message.send_id, "sent")

    def look_up(self, send: Send) -> str:
        return "unknown"

    def close(self) -> None:
        pass


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def run(
    ledger: Ledger,
    send_list: pl.DataFrame,
    destination: Any,
    *,
    as_of: datetime = MONDAY,
    channel: str = "email",
    **options: Any,
) -> dict[str, str]:
    """One activation; returns the state of every send."""
    activate(
        ledger,
        send_list,
        channel=channel,
        destination=destination,
        as_of=as_of,
        **{
            "renderer": RENDERER,
            "policy": NO_PAUSE,
            "guard": lambda send_ids: {},
            "clock": lambda: as_of,
            **options,
        },
    )
    return states(ledger)


def states(ledger: Ledger) -> dict[str, str]:
    return dict(ledger.copy().select("send_id", "state").iter_rows())


def reasons(ledger: Ledger) -> dict[str, str]:
    return dict(ledger.copy().select("send_id", "reason").iter_rows())


def files(outbox: Path) -> dict[str, bytes]:
    return {
        path.relative_to(outbox).as_posix(): path.read_bytes()
        for path in outbox.rglob("*")
        if path.is_file()
    }


def test_a_second_run_sends_nothing_and_writes_nothing(ledger, outbox):
    destination = FileDestination(outbox, email_from=SENDER)
    run(ledger, a_send_list(1, 2), destination)
    written, rows = files(outbox), ledger.copy()
    times = {path: path.stat().st_mtime_ns for path in outbox.rglob("*")}
    run(ledger, a_send_list(1, 2), destination)
    assert files(outbox) == written
    assert {path: path.stat().st_mtime_ns for path in outbox.rglob("*")} == times
    assert ledger.copy().equals(rows)


def test_an_outbox_email_opens_in_a_mail_client(ledger, outbox):
    run(ledger, a_send_list(1), FileDestination(outbox, email_from=SENDER))
    (path,) = outbox.rglob("*.eml")
    assert path.relative_to(outbox).as_posix() == "email/20260601T090000Z/email0001.eml"
    mail = email.message_from_bytes(path.read_bytes(), policy=default)
    assert mail["To"] == "person1@mail.example"
    assert mail["From"] == SENDER
    assert mail["Date"].datetime.replace(tzinfo=None) == MONDAY
    # in one line, and as it is: else no mail program could follow it
    (link,) = re.findall(rb"^List-Unsubscribe: <(\S+)>\r$", path.read_bytes(), re.M)
    assert link.startswith(b"https://shop.example/unsubscribe/")
    assert LINKS.read(link.decode().rpartition("/")[2]).send_id == "email0001"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "Ada1, your cart" in mail.get_body(("plain",)).get_content()
    assert "Ada1, your cart" in mail.get_body(("html",)).get_content()
    assert path.stat().st_mode & 0o077 == 0


def test_other_channels_are_json(ledger, outbox):
    run(
        ledger,
        a_send_list(1, channel="push", address="token-1"),
        FileDestination(outbox, email_from=SENDER),
        channel="push",
    )
    (content,) = files(outbox).values()
    message = json.loads(content)
    assert message["address"] == "token-1"
    assert message["message"]["body"].startswith("Ada1, you left")


def test_the_same_send_list_makes_the_same_bytes(tmp_path):
    written = []
    for name in ("one", "two"):
        with Ledger(tmp_path / name / "ledger.sqlite") as ledger:
            outbox = tmp_path / name / "outbox"
            run(ledger, a_send_list(1, 2), FileDestination(outbox, email_from=SENDER))
            written.append(files(outbox))
    assert written[0] == written[1]


def test_who_cannot_be_rendered_is_not_sent_and_the_others_are(ledger, tmp_path):
    content = tmp_path / "content"
    (content / "cart_recovery").mkdir(parents=True)
    (content / "brand.yml").write_text("name: Shop\n")
    (content / "cart_recovery" / "cart_reminder.push.liquid").write_text(
        "---\ntitle: Hi {{ first_name }}\nlink: /cart\n---\nYour cart\n"
    )
    send_list = pl.concat(
        [
            a_send_list(1, 3, channel="push"),
            a_send_list(2, channel="push", payload='{"first_name": null}'),
            a_send_list(4, channel="push", address=None),
            a_send_list(5, channel="push", payload="[1]"),
            a_send_list(6, channel="push", payload="{"),
        ],
        how="vertical_relaxed",
    )
    renderer = Renderer(
        shop_url="https://s.example", links=LINKS, currency="USD", content=content
    )
    wire = Wire(batch_size=10)
    run(ledger, send_list, wire, channel="push", renderer=renderer)
    assert wire.taken == ["push0001", "push0003"]
    assert reasons(ledger) == {
        "push0001": None,
        "push0002": "render_failed: cart_recovery/cart_reminder.push.liquid (title):1: "
        "'first_name' is undefined",
        "push0003": None,
        "push0004": "render_failed: no address",
        "push0005": "render_failed: the payload is no object",
        "push0006": "render_failed: the payload is no JSON",
    }
    assert set(states(ledger).values()) == {"sent", "dead"}


def test_unusable_content_holds_its_own_sends_until_it_is_mended(ledger, tmp_path):
    content = tmp_path / "content"
    shutil.copytree(CONTENT, content)
    broken = content / "cart_recovery" / "gone.email.liquid"

    def renderer() -> Renderer:
        return Renderer(
            shop_url="https://s.example", links=LINKS, currency="USD", content=content
        )

    wire = Wire()
    both = pl.concat([a_send_list(1, content_id="gone"), a_send_list(2)])
    run(ledger, both, wire, renderer=renderer())
    assert states(ledger) == {"email0001": "pending", "email0002": "sent"}
    assert reasons(ledger)["email0001"].startswith(
        "content_unusable: cart_recovery/gone.email.liquid: file: no such content file"
    )
    shutil.copy(content / "cart_recovery" / "cart_offer.email.liquid", broken)
    again = a_send_list(1, content_id="gone", is_due=False)
    run(ledger, again, wire, renderer=renderer(), as_of=TUESDAY)
    assert wire.taken == ["email0002", "email0001"]


def test_what_is_held_is_neither_tried_nor_withdrawn(ledger):
    run(ledger, a_send_list(1, 2), Wire(fates=["down"] * 9))
    wire = Wire()
    later = a_send_list(1, 2, is_due=False)
    held = {"email0001": "quiet_hours"}
    run(ledger, later, wire, as_of=MONDAY + timedelta(hours=6), held=held)
    assert states(ledger) == {"email0001": "pending", "email0002": "sent"}
    assert reasons(ledger)["email0001"] == "quiet_hours"
    run(ledger, later, wire, as_of=TUESDAY)
    assert wire.taken == ["email0002", "email0001"]


def test_a_send_that_waited_goes_to_the_address_of_now(ledger, outbox):
    run(ledger, a_send_list(1), Wire(fates=["down"] * 9))
    moved = a_send_list(1, is_due=False, address="new@mail.example")
    run(ledger, moved, FileDestination(outbox, email_from=SENDER), as_of=TUESDAY)
    (written,) = files(outbox).values()
    assert b"To: new@mail.example" in written


def test_without_a_destination_nothing_goes_out_and_nothing_is_lost(ledger):
    run(ledger, a_send_list(1), Wire(fates=["down"] * 9))
    assert run(ledger, a_send_list(1, 2), None) == {
        "email0001": "suppressed",
        "email0002": "suppressed",
    }
    assert set(reasons(ledger).values()) == {"no_destination"}


def test_a_dead_send_is_tried_again_once_by_the_next_run(ledger):
    run(ledger, a_send_list(1, 2, 3), Wire(fates=["never", "never", "taken"]))
    assert ledger.dead().rows() == [("smtp_550", 2, MONDAY)]
    again = {"send_id": "email0001", "reason": None, "as_of": WEDNESDAY}
    assert ledger.retry(**again) == ["email0001"]
    assert ledger.retry(**again) == []
    assert ledger.retry(send_id="email0003", reason=None, as_of=WEDNESDAY) == []
    wire = Wire()
    run(ledger, a_send_list(1, 2, 3, is_due=False), wire, as_of=WEDNESDAY)
    assert wire.taken == ["email0001"]
    assert states(ledger)["email0002"] == "dead"


def test_a_dead_send_tried_again_is_rendered_and_judged_as_of_now(ledger, outbox):
    run(ledger, a_send_list(1, 2, 3), Wire(fates=["never"] * 3))
    retried = ledger.retry(send_id=None, reason="smtp_5", as_of=WEDNESDAY)
    assert retried == ["email0001", "email0002", "email0003"]
    send_list = pl.concat(
        [
            a_send_list(1, is_due=False, address="new@mail.example"),
            a_send_list(2, is_due=False, is_wanted=False),
            a_send_list(3, is_due=False),
        ]
    )
    run(
        ledger,
        send_list,
        FileDestination(outbox, email_from=SENDER),
        as_of=WEDNESDAY + timedelta(hours=2),
        held={"email0003": "restoration"},
    )
    assert list(states(ledger).values()) == ["sent", "suppressed", "pending"]
    (written,) = files(outbox).values()
    assert b"To: new@mail.example" in written
    assert b"Ada1, your cart" in written


def test_no_send_rises_from_the_dead_by_itself(ledger):
    run(ledger, a_send_list(1), Wire(fates=["never"]))
    with pytest.raises(sqlite3.IntegrityError, match="cannot take this step"):
        ledger._connection.execute("update sends set state = 'pending'")


def test_a_send_of_a_run_that_died_goes_out_only_if_it_is_still_due(ledger):
    send_list = pl.concat([a_send_list(1), a_send_list(2, is_due=False)])
    wire = Wire()
    run(ledger, send_list, wire, as_of=TUESDAY)
    assert wire.taken == ["email0001"]
    assert reasons(ledger)["email0002"] == "run_did_not_finish"
    assert ledger.copy()["enqueued_at"].to_list() == [TUESDAY, TUESDAY]


def test_what_could_not_be_delivered_is_tried_by_the_next_run(ledger):
    run(ledger, a_send_list(1), Wire(fates=["down"] * 9))
    assert states(ledger) == {"email0001": "pending"}
    assert reasons(ledger) == {"email0001": "smtp: ConnectionRefusedError"}
    wire = Wire()
    run(ledger, a_send_list(1, is_due=False), wire, as_of=TUESDAY)
    assert wire.taken == ["email0001"]
    assert ledger.copy()["sent_at"].to_list() == [TUESDAY]


def test_what_is_no_longer_wanted_is_not_tried_again(ledger):
    run(ledger, a_send_list(1), Wire(fates=["down"] * 9))
    wire = Wire()
    bought = a_send_list(1, is_due=False, is_wanted=False)
    assert run(ledger, bought, wire, as_of=TUESDAY) == {"email0001": "suppressed"}
    assert reasons(ledger) == {"email0001": "no_longer_due"}
    assert wire.taken == []


def test_what_waited_too_long_is_not_tried_again(ledger):
    run(ledger, a_send_list(1), Wire(fates=["down"] * 9))
    wire = Wire()
    late = a_send_list(1, is_due=False, is_wanted=False)
    unwanted = {"email0001": "expired"}
    run(ledger, late, wire, as_of=WEDNESDAY, unwanted=unwanted)
    assert (states(ledger), reasons(ledger), wire.taken) == (
        {"email0001": "dead"},
        {"email0001": "expired"},
        [],
    )


def test_a_passing_refusal_is_tried_again_with_growing_pauses(ledger):
    pauses: list[float] = []
    run(
        ledger,
        a_send_list(1),
        Wire(fates=["later", "later"]),
        policy=RetryPolicy(pause_seconds=2),
        sleep=pauses.append,
    )
    assert states(ledger) == {"email0001": "sent"}
    assert pauses == [2, 4]


def test_a_refusal_without_end_is_given_up(ledger):
    policy = RetryPolicy(passes_per_run=3, most_attempts=2, pause_seconds=0)
    run(ledger, a_send_list(1), Wire(fates=["later"] * 9), policy=policy)
    assert reasons(ledger) == {"email0001": "gave_up: smtp_451"}
    assert states(ledger) == {"email0001": "dead"}


def test_a_destination_that_is_down_costs_the_others_no_attempt(ledger):
    run(ledger, a_send_list(1, 2, 3), Wire(fates=["down"] * 3))
    assert ledger.copy()["attempts"].to_list() == [3, 0, 0]
    assert set(states(ledger).values()) == {"pending"}


def test_a_crash_of_a_forgetful_destination_is_never_repeated(ledger):
    for fate in ("crash before", "crash after"):
        with pytest.raises(CrashError):
            run(ledger, a_send_list(1, 2), Wire(fates=[fate]))
    wire = Wire()
    assert run(ledger, a_send_list(1, 2), wire) == {
        "email0001": "unknown",
        "email0002": "unknown",
    }
    assert reasons(ledger)["email0001"] == "crashed_in_flight"
    assert wire.taken == []


def test_what_smtp_had_in_flight_is_unknown_to_the_files_that_follow(ledger, outbox):
    with pytest.raises(CrashError):
        run(ledger, a_send_list(1), Wire(name="smtp", fates=["crash after"]))
    run(ledger, a_send_list(1), FileDestination(outbox, email_from=SENDER))
    assert states(ledger) == {"email0001": "unknown"}
    assert files(outbox) == {}


def test_files_remember_what_a_run_that_died_had_written(ledger, outbox):
    destination = FileDestination(outbox, email_from=SENDER)
    ledger.enqueue(a_send_list(1, 2).to_dicts(), destination="file", as_of=MONDAY)
    claimed = ledger.claim(["email0001", "email0002"], destination="file")
    destination.send([RENDERER.render(claimed[0])])
    moot = a_send_list(1, 2, is_due=False, is_wanted=False)
    run(ledger, moot, destination, as_of=TUESDAY)
    assert states(ledger) == {"email0001": "sent", "email0002": "suppressed"}
    assert len(files(outbox)) == 1


class Keyed(Wire):
    """A destination that takes each message once, for two days."""

    delivery_class = DeliveryClass("key", within=timedelta(days=2))

    def __init__(self, *fates: str) -> None:
        super().__init__("keyed", batch_size=2, fates=fates)
        self.words: list[str] = []

    def send_one(self, message: Message) -> Outcome:
        self.words.append(message.fields["subject"])
        fate = self.fates[0] if self.fates else ""
        if fate == "in doubt":
            self.fates.pop(0)
            return Outcome(message.send_id, "inflight", "keyed_500")
        return super().send_one(message)


def test_a_message_in_doubt_is_repeated_word_for_word(ledger):
    with pytest.raises(CrashError):
        run(ledger, a_send_list(1), before := Keyed("crash after"))
    news = a_send_list(1, payload=json.dumps({"first_name": "Somebody else"}))
    assert run(ledger, news, after := Keyed(), as_of=TUESDAY) == {"email0001": "sent"}
    assert after.words == before.words
    assert ledger.copy()["attempts"].to_list() == [2]


def test_a_message_in_doubt_is_repeated_within_the_run(ledger):
    wire = Keyed("in doubt", "in doubt")
    ended = run(ledger, a_send_list(1, 2, 3), wire)
    assert set(ended.values()) == {"sent"}
    assert len(wire.words) == 5


def test_no_refusal_of_a_repeat_says_that_the_first_was_refused(ledger):
    ended = run(ledger, a_send_list(1), Keyed("in doubt", "never"))
    assert ended == {"email0001": "unknown"}
    ended = run(ledger, a_send_list(2), Keyed("in doubt", "later", "later"))
    assert ended["email0002"] == "inflight"


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"held": {"email0001": "quiet_hours"}}, "inflight"),
        ({"guard": lambda send_ids: dict.fromkeys(send_ids, "order")}, "inflight"),
        ({"as_of": WEDNESDAY + timedelta(hours=1)}, "unknown"),
    ],
)
def test_a_message_in_doubt_waits_for_what_any_other_waits_for(ledger, options, state):
    with pytest.raises(CrashError):
        run(ledger, a_send_list(1), Keyed("crash after"))
    wire = Keyed()
    ended = run(ledger, a_send_list(1), wire, **{"as_of": TUESDAY, **options})
    assert (ended, wire.words) == ({"email0001": state}, [])


def test_a_destination_that_is_down_ends_no_doubt(ledger):
    with pytest.raises(CrashError):
        run(ledger, a_send_list(1), Keyed("crash after"))
    for _ in range(4):
        down = Keyed(*["down"] * 4)
        ended = run(ledger, a_send_list(1), down, as_of=TUESDAY)
        assert (ended, down.words) == ({"email0001": "inflight"}, [])
    assert run(ledger, a_send_list(1), Keyed(), as_of=TUESDAY)["email0001"] == "sent"


def test_a_message_in_doubt_that_is_not_wanted_any_more_is_not_repeated(ledger):
    with pytest.raises(CrashError):
        run(ledger, a_send_list(1), Keyed("crash after"))
    moot = a_send_list(1, is_due=False, is_wanted=False)
    assert run(ledger, moot, Keyed(), as_of=TUESDAY) == {"email0001": "unknown"}


def test_what_was_claimed_and_never_tried_is_simply_sent(ledger):
    ledger.enqueue(a_send_list(1).to_dicts(), destination="keyed", as_of=MONDAY)
    ledger.claim(["email0001"], destination="keyed")
    wire = Keyed()
    assert run(ledger, a_send_list(1), wire, as_of=TUESDAY) == {"email0001": "sent"}
    assert len(wire.words) == 1


def test_a_settled_send_keeps_no_message(ledger, tmp_path):
    run(ledger, a_send_list(1, 2, 3), Keyed("in doubt", "in doubt", "never"))
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        kept = connection.execute("select frozen, tried_at from sends").fetchall()
    assert set(kept) == {(None, None)}


FATES = st.lists(
    st.sampled_from(["taken", "later", "never", "down", "crash before", "crash after"]),
    max_size=12,
)


@given(
    runs=st.lists(FATES, max_size=4),
    batch_size=st.sampled_from([1, 2, 5]),
    count=st.integers(1, 6),
)
@settings(max_examples=25, deadline=None)
def test_no_order_of_failures_sends_twice_or_loses_a_send(
    tmp_path_factory, runs, batch_size, count
):
    folder = tmp_path_factory.mktemp("ledger")
    numbers = range(count)
    taken: Counter[str] = Counter()
    with Ledger(folder / "ledger.sqlite") as ledger:
        for fates in [*runs, []]:
            wire = Wire(batch_size=batch_size, fates=fates)
            with suppress(CrashError):
                run(ledger, a_send_list(*numbers), wire)
            taken.update(wire.taken)
        ended = states(ledger)
        sent = {send_id for send_id, state in ended.items() if state == "sent"}
        doubtful = {send_id for send_id, state in ended.items() if state == "unknown"}
    assert set(ended) == {f"email{number:04d}" for number in numbers}
    assert set(ended.values()) <= {"sent", "dead", "unknown"}
    assert set(taken.values()) <= {1}
    assert sent <= set(taken) <= sent | doubtful


class LogWire(Wire):
    """A forgetful destination whose log outlives the process."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def send_one(self, message: Message) -> Outcome:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{message.send_id}\n".encode())
        os.close(descriptor)
        return Outcome(message.send_id, "sent")


class SmallBatches(FileDestination):
    """Files, with more places to be killed at."""

    batch_size = 7


def activate_two_channels(home: Path, count: int) -> None:
    """What is killed: a channel that remembers what it took, then one that does not."""
    renderer = Renderer(shop_url="https://shop.example", links=LINKS, currency="USD")
    with Ledger(home / "ledger.sqlite") as ledger:
        (home / "ready").touch()
        for channel, destination in (
            ("push", SmallBatches(home / "outbox", email_from=SENDER)),
            ("email", LogWire(home / "wire.log")),
        ):
            run(
                ledger,
                a_send_list(*range(count), channel=channel),
                destination,
                channel=channel,
                renderer=renderer,
            )
    (home / "done").touch()


def kill_again_and_again(home: Path, count: int, kills: int) -> None:
    """Fork, kill at a random moment, repeat; the last one may finish.

    Runs in a process that has imported everything and used nothing, so that a fork is
    safe and takes no time.
    """
    chance = random.Random(7)
    while not (home / "done").exists():
        (home / "ready").unlink(missing_ok=True)
        child = os.fork()
        if not child:
            activate_two_channels(home, count)
            os._exit(0)
        while not (home / "ready").exists():
            time.sleep(0.001)
        if kills:
            time.sleep(chance.uniform(0.01, 0.15))
            os.kill(child, signal.SIGKILL)
            kills -= 1
        _, status = os.waitpid(child, 0)
        with (home / "killed").open("a") as log:
            log.write("x" if os.WIFSIGNALED(status) else "")


def test_a_killed_process_sends_nothing_twice_and_loses_nothing(tmp_path):
    count = 150
    nursery = multiprocessing.get_context("spawn").Process(
        target=kill_again_and_again, args=(tmp_path, count, 12)
    )
    nursery.start()
    nursery.join(120)
    assert nursery.exitcode == 0
    kills = len((tmp_path / "killed").read_text())
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        rows = ledger.copy()
    ended = {
        (channel, state): set(frame["send_id"])
        for (channel, state), frame in rows.group_by("channel", "state")
    }
    written = Counter(path.stem for path in (tmp_path / "outbox").rglob("*.json"))
    wired = Counter((tmp_path / "wire.log").read_text().split())
    assert kills > 3
    assert rows.height == 2 * count
    assert ended["push", "sent"] == set(written)
    assert set(written.values()) == {1}
    assert len(written) == count
    assert set(wired.values()) == {1}
    doubtful = ended.get(("email", "unknown"), set())
    assert set(wired) <= ended["email", "sent"] | doubtful
    assert ended["email", "sent"] <= set(wired)
    assert ended["email", "sent"] | doubtful == {f"email{n:04d}" for n in range(count)}
    assert len(doubtful) <= kills
    assert not list((tmp_path / "outbox").rglob(".*.part"))


class Mailbox:
    """An SMTP server in this process; `replies` answers by recipient."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.replies: dict[str, str] = {}
        self.data_reply = "250 2.0.0 taken"

    async def handle_RCPT(self, server, session, envelope, address, options):
        reply = self.replies.get(address, "250 ok")
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):
        if self.data_reply == "hang up":
            self.mails.append((envelope.rcpt_tos, envelope.content))
            server.transport.abort()
            return "250 never heard"
        if self.data_reply.startswith("250"):
            self.mails.append((envelope.rcpt_tos, envelope.content))
        return self.data_reply


class Loopback(Controller):
    def factory(self) -> SmtpServerProtocol:
        return SmtpServerProtocol(self.handler, hostname="loopback")


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Loopback(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    mailbox.port = port
    yield mailbox
    controller.stop()


def smtp_to(port: int) -> SmtpDestination:
    server = SmtpServer("127.0.0.1", port, starttls=False, timeout_seconds=5)
    return SmtpDestination(server, email_from=SENDER)


def test_smtp_sends_each_email_once_to_its_person(ledger, mailbox):
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1, 2), destination)
        run(ledger, a_send_list(1, 2), destination)
    assert [to for to, _ in mailbox.mails] == [
        ["person1@mail.example"],
        ["person2@mail.example"],
    ]
    mail = email.message_from_bytes(mailbox.mails[0][1], policy=default)
    assert mail["Message-ID"] == "<email0001@shop.example>"
    assert "Ada1, your cart" in mail.get_body(("plain",)).get_content()
    assert set(states(ledger).values()) == {"sent"}


def test_smtp_refusals_end_or_wait_and_never_quote_the_address(ledger, mailbox):
    mailbox.replies = {
        "person1@mail.example": "550 5.1.1 <person1@mail.example> is unknown here",
        "person2@mail.example": "451 4.7.1 person2@mail.example is greylisted",
    }
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1, 2, 3), destination)
    assert reasons(ledger) == {
        "email0001": "bounced: smtp_550_5.1.1",
        "email0002": "smtp_451_4.7.1",
        "email0003": None,
    }
    assert list(states(ledger).values()) == ["dead", "pending", "sent"]


BAD_ADDRESS = ("550 5.1.1 no", "550 no such user", "551 moved", "553 5.1.3 bad")
OTHER_REASON = (
    "550 5.7.1 spam",
    "554 no",
    "552 5.2.2 full",
    "501 5.5.4 what",
    "503 no",
)


@pytest.mark.parametrize(
    ("at", "reply", "state"),
    [
        *[("RCPT", reply, "bounced") for reply in (*BAD_ADDRESS, "550 5.2.1 closed")],
        *[("RCPT", reply, "dead") for reply in (*OTHER_REASON, "550 5.1.8 sender")],
        *[("RCPT", reply, "pending") for reply in ("450 4.2.1 busy", "421 later")],
        # of the content nobody's address is guilty, unless the server says so
        ("DATA", "550 5.1.1 no", "bounced"),
        *[("DATA", reply, "dead") for reply in ("550 no", "554 5.7.1 spam")],
    ],
)
def test_a_refusal_for_good_of_an_address_is_landed_as_its_bounce(
    ledger, mailbox, tmp_path, at, reply, state
):
    if at == "RCPT":
        mailbox.replies = {"person1@mail.example": reply}
    else:
        mailbox.data_reply = reply
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1), destination)
    bounces = ledger.bounces_before(TUESDAY)
    expected = {"bounced": "dead"}.get(state, state)
    assert states(ledger) == {"email0001": expected}
    assert bounces["address"].to_list() == (
        ["person1@mail.example"] if state == "bounced" else []
    )
    assert ledger.bounces_before(MONDAY).is_empty()
    land_bounces(bounces, tmp_path / "landing")
    landed = list((tmp_path / "landing").rglob("bounces-*.ndjson"))
    assert len(landed) == bounces.height
    for path in landed:
        (line,) = path.read_text().splitlines()
        event = json.loads(line)
        assert event["event"] == "Email Bounced"
        assert event["anonymousId"] == "person1@mail.example"
        assert (
            event["timestamp"] == event["receivedAt"] == "2026-06-01T09:00:00.000000Z"
        )


def test_a_bounce_stays_landed_when_its_send_is_tried_again(ledger, mailbox, tmp_path):
    mailbox.replies = {f"person{n}@mail.example": "550 5.1.1 no" for n in (1, 2)}
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1, 2), destination)
        land_bounces(ledger.bounces_before(TUESDAY), tmp_path)
        (landed,) = tmp_path.rglob("bounces-*")
        before = landed.read_text()
        assert ledger.retry(send_id="email0001", reason=None, as_of=WEDNESDAY)
        land_bounces(ledger.bounces_before(WEDNESDAY), tmp_path)
        assert landed.read_text() == before
        again = a_send_list(1, is_due=False)
        run(ledger, again, destination, as_of=WEDNESDAY)
    land_bounces(ledger.bounces_before(WEDNESDAY + timedelta(hours=1)), tmp_path)
    lines = [
        json.loads(line)["messageId"]
        for path in tmp_path.rglob("bounces-*")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) == len(set(lines)) == 3
    # it never went out: no receipt says so
    assert land_receipts(ledger.receipts_before(WEDNESDAY), tmp_path) == 0


@pytest.mark.parametrize(
    ("reply", "state", "reason"),
    [
        ("554 5.7.1 spam", "dead", "smtp_554_5.7.1"),
        ("452 4.3.1 full", "pending", "smtp_452_4.3.1"),
        ("hang up", "unknown", "connection_lost_in_data"),
    ],
)
def test_smtp_is_in_doubt_only_once_the_content_is_on_its_way(
    ledger, mailbox, reply, state, reason
):
    mailbox.data_reply = reply
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1), destination)
    assert (states(ledger), reasons(ledger)) == (
        {"email0001": state},
        {"email0001": reason},
    )
    assert len(mailbox.mails) == (state == "unknown")


def test_smtp_goes_on_after_a_line_broke(ledger, mailbox):
    mailbox.data_reply = "hang up"
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1), destination)
        mailbox.data_reply = "250 ok"
        run(ledger, a_send_list(1, 2), destination)
    assert states(ledger) == {"email0001": "unknown", "email0002": "sent"}
    assert len(mailbox.mails) == 2


def test_an_unreachable_smtp_server_leaves_everything_pending(ledger):
    with closing(smtp_to(1)) as destination:
        run(ledger, a_send_list(1, 2), destination)
    assert set(states(ledger).values()) == {"pending"}
    assert reasons(ledger)["email0001"] == "smtp: ConnectionRefusedError"


def test_a_password_is_never_said_in_the_clear():
    with pytest.raises(ValueError, match="encrypted"):
        SmtpServer("127.0.0.1", 25, user="me", password="secret", starttls=False)
    server = SmtpServer("mail.example", user="me", password="secret")
    assert "secret" not in repr(server)


HOSTILE = (
    *("", " ", "nobody", "@mail.example", "a@", "a@mail", "a@b@mail.example"),
    *("bob@gmail..com", ".bob@gmail.com", "bob.@gmail.com", "bob@-gmail.com"),
    *("a b@mail.example", "a@mail.example,b@mail.example", "<a@mail.example>"),
    "a@mail.example\r\nRCPT TO:<b@mail.example>",
    "a@mail.example\nBcc: b@mail.example",
    *("a@mail.example\n", "a@mail.example\u200b", "a@mail.example\x00"),
    *(f"{'a' * 65}@mail.example", f"a@{'b' * 64}.example", f"a@{'b.' * 130}example"),
    *('"a b"@mail.example', "a@[127.0.0.1]", "a@127.0.0.1", "=?utf-8?q?a?=@b.example"),
    *("ä@mail.example", "a@mail．example", "a@ma\u202eil.example", "a@mail.e"),
)


@pytest.mark.parametrize("address", HOSTILE)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="not an email address"):
        mail_address(address)


@pytest.mark.parametrize(
    ("address", "on_the_wire"),
    [
        ("ada@mail.example", "ada@mail.example"),
        ("o'hara+shop_1@a-b.mail.example", "o'hara+shop_1@a-b.mail.example"),
        ("kunde@bücher.example", "kunde@xn--bcher-kva.example"),
        ("kunde@BU\u0308CHER.example", "kunde@xn--bcher-kva.example"),
        ("a@straße.example", "a@xn--strae-oqa.example"),
        ("a@例え.テスト", "a@xn--r8jz45g.xn--zckzah"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
    ],
)
def test_a_domain_beyond_ascii_goes_out_in_punycode(address, on_the_wire):
    assert mail_address(address) == on_the_wire


def near_addresses() -> st.SearchStrategy[str]:
    """Texts that are nearly, or just, addresses."""
    parts = st.sampled_from(
        [
            *("a", "B", "7", ".", "..", "@", "-", "_", "+", "'", "=", "?", "/", " "),
            *("\n", "\x00", "ü", "ß", "例", "𠀀", "\u0308", "\u200b", "×", "．", "é"),
            *(
                "mail",
                "example",
                ".com",
                "xn--bcher-kva",
                "a" * 60,
                "ü" * 56,
                "例" * 20,
            ),
        ]
    )
    texts = st.lists(parts, max_size=8).map("".join)
    return texts | st.builds("{}@{}.{}".format, texts, texts, texts) | st.text()


@given(address=near_addresses())
@settings(max_examples=600, deadline=None)
def test_an_address_goes_out_within_the_limits_of_the_wire_or_not_at_all(address):
    sent_to = wire_address(address)
    if sent_to is None:
        with pytest.raises(InvalidAddressError):
            as_mail(a_message(address), sender=sender_address(SENDER))
        return
    mail = as_mail(a_message(address), sender=sender_address(SENDER))
    read = email.message_from_bytes(mail.as_bytes(), policy=default)
    assert read["To"].addresses[0].addr_spec == sent_to
    assert sent_to.isascii()
    assert len(sent_to) <= 254
    assert wire_address(sent_to) == sent_to
    name, _, domain = sent_to.rpartition("@")
    assert 1 <= len(name) <= 64
    assert all(1 <= len(label) <= 63 for label in domain.split("."))


@pytest.mark.parametrize("letter", ["ü", "例", "𠀀", "ж"])
def test_a_label_counts_as_long_as_it_is_on_the_wire(letter):
    fitting = [n for n in range(1, 64) if len(in_ascii(letter * n)) <= 63]
    assert fitting
    for count in range(1, 64):
        sent_to = wire_address(f"a@{letter * count}.example")
        assert (sent_to is not None) == (count in fitting)
    labels = ".".join([letter * fitting[-1]] * 3)
    assert wire_address(f"a@{labels}.example") is not None
    assert wire_address(f"a@{labels}.{letter * fitting[-1]}.example") is None


def a_message(address: str) -> Message:
    fields = {"subject": "Hello", "text": "Hello", "html": "<p>Hello</p>"}
    return Message("send", "email", address, "hello", MONDAY, fields)


def test_bad_addresses_and_people_end_alone_among_a_thousand(ledger, mailbox):
    odd = [
        a_send_list(number, address=address)
        for number, address in enumerate(HOSTILE[:20], start=1)
    ]
    refused = a_send_list(30, 31)
    mailbox.replies = {
        "person30@mail.example": "550 5.1.1 nobody here",
        "person31@mail.example": "501 5.1.3 a bad address",
    }
    hostile = [
        '{"first_name": "{{ 7 | times: 7 }}{% raw %}"}',
        '{"first_name": "Ada\\r\\nBcc: all@mail.example"}',
        '{"first_name": "\\ud800\\u0000\\u202eAda"}',
        '{"first_name": {"a": 1}, "recent_buyer_count": "many"}',
        '{"incentive_ends_at": "9999-12-31T23:59:59", "timezone": "Mars/Olympus"}',
        f'{{"first_name": {"[" * 9000 + "]" * 9000}}}',
    ]
    people = [
        a_send_list(40 + number, payload=payload)
        for number, payload in enumerate(hostile)
    ]
    others = a_send_list(*range(100, 1100))
    send_list = pl.concat([*odd, refused, *people, others])
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, send_list, destination)
    outcomes = ledger.copy().select("send_id", "state", "reason")
    ended = {send_id: (state, why) for send_id, state, why in outcomes.iter_rows()}
    assert {ended[f"email{n:04d}"] for n in range(100, 1100)} == {("sent", None)}
    for number in range(1, 21):
        state, reason = ended[f"email{number:04d}"]
        assert state == "dead"
        assert reason in ("invalid_address", "render_failed: no address")
    assert ended["email0030"] == ("dead", "bounced: smtp_550_5.1.1")
    assert ended["email0031"] == ("dead", "bounced: smtp_501_5.1.3")
    for number in range(40, 46):
        assert ended[f"email{number:04d}"][0] in ("sent", "dead")
    told = {
        to[0]: email.message_from_bytes(mail, policy=default)
        for to, mail in mailbox.mails
    }
    assert (
        len(told) == len(mailbox.mails) == sum(s == "sent" for s, _ in ended.values())
    )
    assert all(mail["Bcc"] is None for mail in told.values())
    text = told["person40@mail.example"].get_body(("plain",)).get_content()
    assert "{{ 7 | times: 7 }}{% raw %}, your cart" in text
    text = told["person42@mail.example"].get_body(("plain",)).get_content()
    assert "Ada, your cart" in text


def test_a_sender_that_is_none_is_named_before_anything_is_tried(outbox):
    with pytest.raises(ValueError, match="is no sender of emails"):
        FileDestination(outbox, email_from="The Shop")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("hello@shop.example", "", "hello@shop.example"),
        ("<hello@shop.example>", "", "hello@shop.example"),
        ("The Shop <hello@shop.example>", "The Shop", "hello@shop.example"),
        (' "The, Shop" <hello@shop.example> ', "The, Shop", "hello@shop.example"),
        ("The, Shop <hello@shop.example>", "The, Shop", "hello@shop.example"),
        ("Bücher <a@bücher.example>", "Bücher", "a@xn--bcher-kva.example"),
        ("a@shop.example, b@shop.example", None, None),
        ("A <a@shop.example>, B <b@shop.example>", None, None),
        ("a@shop.example extra", None, None),
        ("a@shop.example\nBcc: b@shop.example", None, None),
        ("The\nShop <a@shop.example>", None, None),
        ("<a@shop.example", None, None),
        ("The Shop", None, None),
        ("", None, None),
    ],
)
def test_a_sender_is_one_address_with_a_name_or_none(text, name, address):
    if address is None:
        with pytest.raises(ValueError, match="is no sender of emails"):
            sender_address(text)
        return
    sender = sender_address(text)
    assert (sender.display_name, sender.addr_spec) == (name, address)


def test_a_bad_address_ends_one_send_on_either_destination(ledger, mailbox, outbox):
    bad = a_send_list(1, address="a@mail.example\r\nBcc: b@mail.example")
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, pl.concat([bad, a_send_list(2)]), destination)
    other = pl.concat([bad.with_columns(send_id=pl.lit("email0003")), a_send_list(4)])
    run(ledger, other, FileDestination(outbox, email_from=SENDER))
    assert list(states(ledger).values()) == ["dead", "sent", "dead", "sent"]
    assert reasons(ledger)["email0001"] == "invalid_address"
    assert len(mailbox.mails) == len(files(outbox)) == 1


def test_nothing_that_is_logged_or_copied_names_a_person(ledger, mailbox, caplog):
    caplog.set_level(logging.DEBUG)
    mailbox.replies = {"person1@mail.example": "550 <person1@mail.example> unknown"}
    with closing(smtp_to(mailbox.port)) as destination:
        run(ledger, a_send_list(1, 2), destination)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("mail.log")]
    shown = f"{ours}{ledger.copy().to_dicts()}{ledger.run_rows(MONDAY, 'email')}"
    assert "mail.example" not in shown
    assert "Ada" not in shown


def test_decisions_out_of_balance_are_not_acted_on():
    rules = {"rule": ["candidates without exactly one verdict", "sends listed twice"]}
    assert_balanced(pl.DataFrame({**rules, "broken_count": [0, 0]}))
    with pytest.raises(ImbalanceError, match="nothing was sent: 2 sends listed twice"):
        assert_balanced(pl.DataFrame({**rules, "broken_count": [0, 2]}))
