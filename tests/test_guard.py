"""The guard: nobody is written to on what a landed file has overtaken."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pytest

from activations.channels import BLIND
from activations.delivery import Guard as AnyGuard
from activations.delivery import RetryPolicy, deliver
from activations.ledger import Ledger, Outcome, Send
from activations.render import Message, Renderer
from orchestration.settings import PROJECT, wall_clock
from orchestration.sources.guard import Guard
from orchestration.sources.landing import land
from orchestration.warehouse import Warehouse, replace_table
from tests.conftest import LINKS, TestHome

AS_OF = datetime(2026, 6, 1, 9)
BEFORE = AS_OF - timedelta(days=1)
SEMANTIC_EVENTS = PROJECT / "dbt_project" / "seeds" / "semantic_events.csv"
LOOK_AWAY: AnyGuard = lambda send_ids: {}  # noqa: E731


class Street:
    """A home whose tables know some people; each has one message to come by email."""

    def __init__(self, home: TestHome, people: Sequence[str]) -> None:
        self.home = home
        self.people = people
        self.landed = 0
        self.warehouse = Warehouse(home.settings.warehouse)
        self.land(*(self.line(name, "Product Viewed") for name in people))
        identifiers = [
            (text, f"profile-{name}")
            for name in people
            for text in (
                f"user-{name}",
                f"browser-{name}",
                f"{name}@mail.example",
                self.phone(name),
            )
        ]
        frames = {
            "identity.identity_map": pl.DataFrame(
                identifiers, schema=["identifier", "profile_id"], orient="row"
            ),
            "decisions.enrollment_progress": pl.DataFrame(
                [(f"enrollment-{name}", f"profile-{name}") for name in people],
                schema=["enrollment_id", "profile_id"],
                orient="row",
            ),
            "seeds.semantic_events": pl.read_csv(SEMANTIC_EVENTS),
        }
        with self.warehouse.connect() as connection:
            land(connection, home.settings.landing, AS_OF)
            connection.execute("create schema seeds")
            for table, frame in frames.items():
                replace_table(connection, table, frame)

    @staticmethod
    def phone(name: str) -> str:
        return f"+4930{sum(map(ord, name)):08}"

    @staticmethod
    def line(who: str, event: str | None = None, **fields: Any) -> dict[str, Any]:
        """One message about somebody, by their user id unless the fields say else."""
        return {
            "messageId": f"{who}-{event}-{sorted(fields)}",
            "type": "track" if event else "identify",
            "event": event,
            "userId": f"user-{who}",
            "timestamp": "2026-05-31T09:00:00Z",
            **fields,
        }

    def land(self, *lines: dict[str, Any] | str, name: str | None = None) -> None:
        """One more file, or lines at the end of one that is there."""
        self.landed += 1
        path = self.home.settings.landing / (name or f"{self.landed}.ndjson")
        with path.open("a") as stream:
            for line in lines:
                text = line if isinstance(line, str) else json.dumps(line)
                stream.write(text + "\n")

    def guard(self, since: datetime | None = None) -> Guard:
        sends = pl.DataFrame(
            [
                {
                    "send_id": name,
                    "enrollment_id": f"enrollment-{name}",
                    "profile_id": "as decided",
                    "identifier": f"user-{name}",
                    "address": f"{name}@mail.example",
                }
                for name in self.people
            ]
        )
        return Guard(self.warehouse, self.home.settings.landing, sends, since=since)

    def stopped(self, since: datetime | None = None) -> dict[str, str]:
        return self.guard(since)(self.people)


@pytest.fixture
def street(home: TestHome) -> Street:
    return Street(home, ["ann", "bob", "7"])


def test_nothing_new_stops_nobody(street: Street) -> None:
    assert street.stopped() == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (Street.line("ann", "Order Completed"), "Order Completed"),
        (Street.line("ann", "placed_order"), "Placed Order"),
        (Street.line("ann", "Email Unsubscribed"), "Email Unsubscribed"),
        (Street.line("ann", "Product Added"), "Product Added"),
        (Street.line("ann", "Something Of The Shop's Own"), "track"),
        (Street.line("ann", traits={"email_opt_in": False}), "identify"),
        (Street.line("ann", userId=None, anonymousId="browser-ann"), "identify"),
        (
            Street.line(
                "x", "Order Completed", properties={"Email": "ANN@Mail.Example"}
            ),
            "Order Completed",
        ),
        (
            Street.line("x", "SMS Replied", context={"from": Street.phone("ann")[3:]}),
            "SMS Replied",
        ),
        (
            Street.line(
                "x",
                "Order Completed",
                properties={"buyers": [{"phone": f"0{Street.phone('ann')[3:]}"}]},
            ),
            "Order Completed",
        ),
        (
            json.dumps(Street.line("ann", "Order Completed", timestamp="yesterday")),
            "a line that cannot be read",
        ),
        (
            '{"type": "track", "email": "ann@mail.example", ',
            "a line that cannot be read",
        ),
    ],
)
def test_whoever_did_more_than_look_around_waits(
    street: Street, line: dict[str, Any] | str, reason: str
) -> None:
    street.land(line)
    assert street.stopped() == {"ann": f"guard: {reason} has landed since"}


@pytest.mark.parametrize(
    "line",
    [
        Street.line("ann", "Product Viewed", properties={"product_id": "p1"}),
        Street.line("ann", "Products Searched"),
        Street.line("ann", "Email Delivered"),
        Street.line("ann", "email opened"),
        Street.line("ann", type="page", name="Home"),
        Street.line("nobody", "Order Completed"),
        # a 7 is a quantity, unless it stands where somebody's id belongs
        Street.line("nobody", "Order Completed", properties={"quantity": 7}),
    ],
)
def test_who_looks_around_and_who_is_somebody_else_do_not(
    street: Street, line: dict[str, Any]
) -> None:
    street.land(line)
    assert street.stopped() == {}


def test_a_short_id_is_one_where_ids_stand(home: TestHome) -> None:
    street = Street(home, ["ann"])
    with street.warehouse.connect() as connection:
        connection.execute(
            "insert into identity.identity_map values ('7', 'profile-ann')"
        )
    street.land(Street.line("x", "Order Completed", userId=7))
    assert set(street.stopped()) == {"ann"}


def test_who_becomes_known_by_what_landed_is_recognised(street: Street) -> None:
    street.land(Street.line("x", "Order Completed", userId=None, anonymousId="new-1"))
    assert street.stopped() == {}
    street.land(
        Street.line("x", "Product Viewed", userId="new-2", anonymousId="new-1"),
        Street.line("ann", "Product Viewed", anonymousId="new-2"),
    )
    assert set(street.stopped()) == {"ann"}


def test_a_file_that_grew_brings_its_new_lines_alone(street: Street) -> None:
    street.land(Street.line("ann", "Order Completed"), name="log.ndjson")
    with street.warehouse.connect() as connection:
        land(connection, street.home.settings.landing, AS_OF)
    assert street.stopped() == {}
    street.land(Street.line("bob", "Order Completed"), name="log.ndjson")
    assert set(street.stopped()) == {"bob"}


def test_a_run_at_the_clock_sees_what_was_received_since_it_began(
    street: Street,
) -> None:
    began = wall_clock() - timedelta(minutes=5)
    for name, received_at in (
        ("ann", began + timedelta(minutes=1)),
        ("bob", began - timedelta(minutes=1)),
        # a clock that is wrong stops nobody until then
        ("7", began + timedelta(days=900)),
    ):
        received = received_at.isoformat() + "Z"
        street.land(Street.line(name, "Order Completed", receivedAt=received))
    with street.warehouse.connect() as connection:
        land(connection, street.home.settings.landing, began)
    assert street.stopped() == {}
    assert set(street.stopped(since=began)) == {"ann"}


def test_what_was_kept_back_says_when_it_landed_and_when_that_was_seen(
    street: Street,
) -> None:
    street.land(Street.line("ann", "Order Completed"))
    guard = street.guard()
    assert guard.stops().is_empty()
    guard(["ann", "bob"])
    street.land(Street.line("bob", "Order Completed"))
    guard(["7"])
    (stop,) = guard.stops().to_dicts()
    assert (stop["send_id"], stop["event"]) == ("ann", "Order Completed")
    assert timedelta() <= stop["stopped_at"] - stop["landed_at"] < timedelta(hours=1)


class Wire:
    """A destination beside which files go on landing."""

    name = "wire"
    delivery_class = BLIND

    def __init__(self, random: Random, happen: Callable[[], None]) -> None:
        self.batch_size = random.choice([4, 10, 20])
        self.happen = happen
        self.taken: set[str] = set()

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        self.taken |= {message.send_id for message in messages}
        self.happen()
        return [Outcome(message.send_id, "sent") for message in messages]

    def look_up(self, send: Send) -> str:
        return "unknown"

    def close(self) -> None:
        pass


def buy_while_sending(
    home: TestHome, random: Random, *, is_guarded: bool
) -> tuple[set[str], set[str]]:
    """Many sends, and purchases at random moments, most between list and claim.

    Returns who had bought before their message was claimed, and who of them got it.
    """
    people = [f"p{number:03}" for number in range(250)]
    street = Street(home, people)
    bought: set[str] = set()
    too_late: set[str] = set()

    def buy() -> None:
        """Some buy in this moment, told by whatever identifier, in one file."""
        if random.random() < 0.5:
            return
        waiting = sorted(set(people) - bought - wire.taken)
        buyers = random.sample(waiting, k=min(len(waiting), random.randint(1, 40)))
        buyers += sorted(wire.taken - bought)[:1]
        street.land(
            *(
                Street.line(
                    name,
                    random.choice(["Order Completed", "purchase", "Placed Order"]),
                    **random.choice(
                        [
                            {},
                            {"userId": None, "anonymousId": f"browser-{name}"},
                            {
                                "userId": "till",
                                "properties": {"email": f"{name}@MAIL.example"},
                            },
                        ]
                    ),
                )
                for name in buyers
            )
        )
        bought.update(buyers)
        too_late.update(set(buyers) & wire.taken)

    wire = Wire(random, buy)
    guard = street.guard() if is_guarded else LOOK_AWAY
    with Ledger(home.settings.ledger) as ledger:
        ledger.enqueue(
            [
                {
                    "send_id": name,
                    "enrollment_id": f"enrollment-{name}",
                    "journey": "cart_recovery",
                    "step": "push_reminder",
                    "channel": "push",
                    "profile_id": f"profile-{name}",
                    "identifier_type": "user_id",
                    "identifier": f"user-{name}",
                    "address": f"{name}@mail.example",
                    "content_id": "cart_reminder",
                    "message_class": "marketing",
                    "payload": "{}",
                    "as_of": AS_OF,
                }
                for name in people
            ],
            destination="wire",
            as_of=AS_OF,
        )
        deliver(
            ledger,
            "push",
            wire,
            Renderer(shop_url="https://shop.example", links=LINKS, currency="USD"),
            guard=guard,
            as_of=AS_OF,
            clock=lambda: AS_OF,
            policy=RetryPolicy(pause_seconds=0),
        )
        states = dict(ledger.copy().select("send_id", "state").iter_rows())
    in_time = bought - too_late
    if is_guarded:
        assert {name for name in people if states[name] == "pending"} == in_time
    assert {name for name in people if states[name] == "sent"} == wire.taken
    return in_time, in_time & wire.taken


def test_a_purchase_at_any_moment_before_the_claim_stops_the_message(
    new_home: Callable[[str], TestHome],
) -> None:
    random = Random(7)
    stopped: list[str] = []
    while len(stopped) < 1000:
        trial = f"guarded-{len(stopped)}"
        bought, reached = buy_while_sending(new_home(trial), random, is_guarded=True)
        assert reached == set()
        stopped += bought
    _, reached = buy_while_sending(new_home("unguarded"), random, is_guarded=False)
    assert reached
