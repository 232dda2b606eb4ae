"""Kills deliveries at every call and at random moments, and counts who was written to.

`make torture` does it a thousand times. A receiver that outlives the killed processes
counts; it refuses some calls, and fails after it has taken some others. What may be
repeated or looked up must arrive exactly once, what may not at most once, and then each
loss is listed as `unknown`. Deliveries that keep no ledger before they send must fail.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import httpx2
import polars as pl
from standardwebhooks.webhooks import Webhook

from activations.channels import SET, Destination
from activations.channels.fcm import FcmDestination
from activations.channels.http import Api, HttpDestination, Limits
from activations.channels.twilio import TwilioDestination, TwilioOptions
from activations.channels.webhook import WebhookDestination
from activations.delivery import RetryPolicy, activate
from activations.ledger import Ledger, Send
from activations.render import Message
from orchestration.settings import wall_clock
from tests.vendors import (
    ACCOUNT,
    SECRET,
    TAKEN_THEN_FAILED,
    Answer,
    Call,
    Fcm,
    Twilio,
    Vendor,
    Webhooks,
    serving,
)

MONDAY = datetime.fromisoformat("2026-06-01T09:00:00")
COUNT = 10
FAILED, DONE = 1, 3
FAST = Limits(calls_per_second=1e6, source="", read_on="", calls_at_once=4)
LEDGER_CALLS = ("enqueue", "refresh", "claim", "freeze", "repeat", "complete")
NO_PAUSE = RetryPolicy(pause_seconds=0)
CHANNELS = {"set": "push", "key": "push", "look_up": "sms", "blind": "push"}
NAIVE = ("send_then_mark", "check_send_mark")


class TortureError(AssertionError):
    """Somebody was written to twice, or not at all, and nobody would have known."""


class Members(Vendor):
    """A set: putting in who is in it changes nothing."""

    def take(self, call: Call) -> Answer:
        self.written[call.path.removeprefix("/members/")] = 1
        return 200, {}, {}


class SetDestination(HttpDestination):
    """Puts people into a set."""

    name = "set"
    delivery_class = SET

    def call(self, message: Message) -> httpx2.Response:
        return self._api.call("PUT", f"/members/{message.send_id}")

    def receipt(self, response: httpx2.Response) -> None:
        return None


class NoLogin:
    """A token that never has to be fetched."""

    def headers(self) -> dict[str, str]:
        return {"authorization": "Bearer a-token"}


class Renderer:
    """Renders each send as a few words that name it."""

    def template(self, journey: str, content_id: str, channel: str) -> None:
        pass

    def render(self, send: Send) -> Message:
        link = f"https://shop.example/?send_id={send.send_id}"
        return Message(
            send_id=send.send_id,
            channel=send.channel,
            address=str(send.address),
            content_id=send.content_id,
            as_of=send.as_of,
            fields={"title": "A title", "body": f"Words. {link}", "link": link},
        )


def open_destination(kind: str, url: str, clock: Callable[[], datetime]) -> Destination:
    """The destination of a class, with batches that leave more than one in flight."""
    login = (ACCOUNT, "twilio-secret") if kind == "look_up" else None
    api = Api(kind, url, limits=FAST, clock=clock, login=login)
    destination: Any
    if kind == "set":
        destination = SetDestination(api, FAST)
    elif kind == "key":
        destination = WebhookDestination(
            api, [Webhook(SECRET)], remembers=timedelta(days=1), clock=wall_clock
        )
    elif kind == "look_up":
        options = TwilioOptions.model_validate(
            {
                "destination": "twilio",
                "account_sid": ACCOUNT,
                "auth_token": {"env": "TWILIO"},
                "sender": "+4915100000000",
            }
        )
        destination = TwilioDestination(api, options)
    else:
        destination = FcmDestination(api, NoLogin(), project="my-shop-1234")
    if kind in ("set", "key"):
        destination.batch_size = 4
    return destination


def send_ids(scenario: int) -> list[str]:
    """The sends of a scenario, which no other has."""
    return [f"s{scenario:06d}x{number:02d}" for number in range(COUNT)]


def send_rows(kind: str, scenario: int) -> list[dict[str, Any]]:
    """The same as rows of a send list."""
    return [
        {
            "send_id": send_id,
            "enrollment_id": send_id,
            "journey": "cart_recovery",
            "step": "a_step",
            "channel": CHANNELS[kind],
            "profile_id": send_id,
            "identifier_type": "user_id",
            "identifier": send_id,
            "address": address_of(send_id),
            "content_id": "cart_reminder",
            "message_class": "marketing",
            "payload": "{}",
            "as_of": MONDAY,
            "is_due": True,
            "is_wanted": True,
        }
        for send_id in send_ids(scenario)
    ]


def address_of(send_id: str) -> str:
    """A phone number, by which a vendor that knows no ids counts."""
    return f"+49{send_id[1:].replace('x', '')}"


def deliver_once(kind: str, url: str, home: Path, scenario: int, turn: int) -> bool:
    """One run, an hour after the one before; returns whether all is settled."""
    as_of = MONDAY + turn * timedelta(hours=1)
    with (
        closing(open_destination(kind, url, lambda: as_of)) as destination,
        Ledger(home / f"{scenario}" / "ledger.sqlite") as ledger,
    ):
        activate(
            ledger,
            pl.DataFrame(send_rows(kind, scenario)),
            channel=CHANNELS[kind],
            destination=destination,
            renderer=Renderer(),  # type: ignore[arg-type]
            guard=lambda send_ids: {},
            as_of=as_of,
            clock=lambda: as_of,
            policy=NO_PAUSE,
        )
        return not (ledger.waiting(CHANNELS[kind]) or ledger.inflight(CHANNELS[kind]))


def deliver_naively(way: str, url: str, home: Path, scenario: int, turn: int) -> bool:
    """What one would write first: a mark for each send, after it went out."""
    folder = home / f"{scenario}"
    folder.mkdir(exist_ok=True)
    marks = folder / "marks"
    as_of = MONDAY + turn * timedelta(hours=1)
    known = marked(marks)
    with closing(open_destination("blind", url, lambda: as_of)) as destination:
        for row in send_rows("blind", scenario):
            if way == "check_send_mark":
                known = marked(marks)
            if row["send_id"] in known:
                continue
            send = Send(
                **{
                    name: row.get(name)
                    for name in Send.__dataclass_fields__
                    if name not in ("destination", "attempts", "frozen", "tried_at")
                },
                destination="blind",
                attempts=1,
            )
            (outcome,) = destination.send([Renderer().render(send)])
            if outcome.state == "sent":
                with marks.open("a") as file:
                    file.write(f"{send.send_id}\n")
    return len(marked(marks)) == COUNT


def marked(marks: Path) -> set[str]:
    """Who is marked as written to."""
    return set(marks.read_text().split()) if marks.exists() else set()


class Countdown:
    """Kills this process at a point of its work, or only counts the points."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.count = 0

    def tick(self) -> None:
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1

    def watch(self, owner: type, name: str) -> None:
        """Make a point before and one after each call of a method."""
        method = getattr(owner, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            self.tick()
            result = method(*arguments, **keywords)
            self.tick()
            return result

        setattr(owner, name, watched)


@dataclass(frozen=True)
class Scenario:
    """Where each of some runs is killed.

    At a share of the points that an undisturbed run has, or after so many seconds.
    """

    number: int
    kills: tuple[tuple[Literal["point", "seconds"], float], ...] = ()


def run_scenarios(
    kind: str, url: str, home: Path, scenarios: Sequence[Scenario]
) -> None:
    """Kill and go on, one scenario after the other.

    Runs in a process that has imported everything and used nothing, so that a fork is
    safe and takes no time.
    """
    killed = 0
    for scenario in scenarios:
        (home / f"{scenario.number}").mkdir(parents=True, exist_ok=True)
        # then undisturbed, until nothing is in doubt any more
        for turn, kill in enumerate([*scenario.kills, None, None, None]):
            kill_at = None
            if kill and kill[0] == "point":
                kill_at = int(kill[1] * int((home / "0" / "points").read_text()))
            child = os.fork()
            if not child:
                code = FAILED
                with suppress(BaseException):
                    is_done = work(kind, url, home, scenario.number, turn, kill_at)
                    code = DONE if is_done else 0
                os._exit(code)
            if kill and kill[0] == "seconds":
                time.sleep(kill[1])
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            killed += os.WIFSIGNALED(status)
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == FAILED:
                (home / "failed").touch()
            if kill is None and os.WEXITSTATUS(status) == DONE:
                break
    (home / "killed").write_text(str(killed))


def work(
    kind: str, url: str, home: Path, scenario: int, turn: int, kill_at: int | None
) -> bool:
    """One run, killed at its point; returns whether all is settled."""
    countdown = Countdown(kill_at)
    for name in LEDGER_CALLS:
        countdown.watch(Ledger, name)
    countdown.watch(Api, "call")
    if kind in NAIVE:
        is_done = deliver_naively(kind, url, home, scenario, turn)
    else:
        is_done = deliver_once(kind, url, home, scenario, turn)
    if not turn:
        (home / f"{scenario}" / "points").write_text(str(countdown.count))
    return is_done


def faults(chance: random.Random) -> Callable[[Call], Answer | None]:
    """Two of a hundred calls are refused, and two are taken and answered with 500."""

    def fault(call: Call) -> Answer | None:
        if call.method == "GET":
            return None
        found = chance.random()
        if found < 0.02:
            return 429, {}, {}
        return TAKEN_THEN_FAILED if found < 0.04 else None

    return fault


def vendor_of(kind: str) -> Vendor:
    """The receiver of a class."""
    vendors: dict[str, type[Vendor]] = {
        "set": Members,
        "key": Webhooks,
        "look_up": Twilio,
    }
    return vendors.get(kind, Fcm)()


def torture(kind: str, home: Path, *, kills: int, seed: int) -> int:
    """Kill a class of delivery so many times; returns how often it was.

    Raises:
        TortureError: naming the sends that went out twice or were lost.
    """
    chance = random.Random(f"{kind} {seed}")
    vendor = vendor_of(kind)
    vendor.faults = faults(chance)
    pairs = kills // 2
    scenarios = [Scenario(0)]
    for number in range(pairs):
        # every point in its turn where there are kills enough; then the recovery
        again: tuple[Literal["point", "seconds"], float]
        again = ("seconds", chance.uniform(0, 0.05))
        if chance.random() < 0.7:
            again = ("point", chance.random())
        scenarios.append(Scenario(number + 1, (("point", number / pairs), again)))
    with serving(vendor) as url:
        # a process to fork from
        nursery = multiprocessing.get_context("spawn").Process(
            target=run_scenarios, args=(kind, url, home, scenarios)
        )
        nursery.start()
        nursery.join()
    if nursery.exitcode:
        raise TortureError(f"{kind}: the nursery ended with {nursery.exitcode}")
    if (home / "failed").exists():
        raise TortureError(f"{kind}: a run failed that was not killed")
    judge(kind, home, vendor, scenarios)
    return int((home / "killed").read_text())


def judge(kind: str, home: Path, vendor: Vendor, scenarios: Sequence[Scenario]) -> None:
    """Hold what the receiver counted to what the ledgers say.

    Raises:
        TortureError: naming the sends that went out twice or were lost.
    """
    twice, lost, untrue = [], [], []
    for scenario in scenarios:
        ids = send_ids(scenario.number)
        written: Counter[str] = Counter()
        for send_id in ids:
            key = address_of(send_id) if isinstance(vendor, Twilio) else send_id
            written[send_id] = vendor.written[key]
        twice += [send_id for send_id in ids if written[send_id] > 1]
        states = {}
        if kind not in NAIVE:
            with Ledger(home / f"{scenario.number}" / "ledger.sqlite") as ledger:
                states = dict(ledger.copy().select("send_id", "state").iter_rows())
        may_lose = kind == "blind"
        for send_id in ids:
            state = states.get(send_id, "none" if kind not in NAIVE else "sent")
            if not written[send_id] and not (may_lose and state == "unknown"):
                lost.append(send_id)
            if state not in ("sent", *(["unknown"] if may_lose else [])):
                untrue.append(f"{send_id} is {state}")
    if twice or lost or untrue:
        raise TortureError(
            f"{kind}: {len(twice)} twice, {len(lost)} lost, {len(untrue)} untrue: "
            f"{[*twice, *lost, *untrue][:5]}"
        )


def assert_naive_fails(way: str, home: Path, *, kills: int, seed: int) -> None:
    """Hold a delivery without a ledger to the same, which it must fail."""
    try:
        torture(way, home, kills=kills, seed=seed)
    except TortureError as error:
        if "twice" not in str(error):
            raise
        return
    raise TortureError(f"{way} went unnoticed: the torture is too gentle")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    # some of them find their process gone already
    share = chosen.kills * 13 // (10 * len(CHANNELS))
    total = 0
    while total < chosen.kills:
        for kind in CHANNELS:
            with tempfile.TemporaryDirectory(prefix="rekindle-torture-") as name:
                began = time.monotonic()
                killed = torture(
                    kind, Path(name), kills=share, seed=chosen.seed + total
                )
                total += killed
                seconds = time.monotonic() - began
            print(f"{kind}: killed {killed} times in {seconds:.0f} s: as promised")
    for way in NAIVE:
        with tempfile.TemporaryDirectory(prefix="rekindle-torture-") as name:
            assert_naive_fails(way, Path(name), kills=40, seed=chosen.seed)
        print(f"{way}: fails, as it must")
