"""The seven phases: the SQL against a second telling of the same rules in Python."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deciding import PARENTS, DecisionLab

START = datetime.fromisoformat("2026-01-01T00:00:30")
DAY = timedelta(days=1)
QUIET_DAYS = 14
MOVERS = {
    1: {"engaged"},
    2: {"engaged", "viewed_content", "considered", "carted", "checked_out"},
    3: {"carted", "checked_out"},
}


@dataclass
class Visit:
    """A session of half an hour."""

    minute: int
    views: int
    category_views: int
    has_order: bool
    is_store: bool


@dataclass
class Person:
    """What one person does; minutes count from the start and never coincide."""

    cycle_days: int
    visits: list[Visit]
    signals: list[tuple[int, str]]
    missteps: list[tuple[int, int | None]]


@dataclass
class Life:
    """The oracle: lives through a person's signals one by one, clock and all."""

    phase: int = 0
    before: int | None = None
    moved_on: date | None = None
    open_missteps: int = 0
    orders: int = 0
    promotions: int = 0
    considerations: int = 0
    moves: list[tuple[datetime, int, str]] = field(default_factory=list)

    def move(self, at: datetime, phase: int, reason: str) -> None:
        if phase not in (5, 6) and self.moves:
            self.moved_on = at.date()
        self.before, self.phase = self.phase or None, phase
        self.moves.append((at, phase, reason))

    def notice(self, at: datetime, signal: str) -> None:
        self.orders += signal == "ordered"
        self.promotions += signal == "promoted"
        self.open_missteps += (signal == "misstep_opened") - (
            signal == "misstep_resolved"
        )
        if signal in ("ordered", "silent"):
            self.considerations = 0
        self.considerations += signal == "considered"
        if not self.moves:
            self.move(at, 1, "new")
        elif self.open_missteps > 0:
            if self.phase != 6:
                self.move(at, 6, signal)
        elif self.phase == 6 and self.before == 5:
            self.move(at, 5, "misstep_resolved")
        elif signal == "ordered" and self.phase < 5:
            self.move(at, 5, "ordered")
        elif self.moved_on != at.date():
            self.step(at, signal)

    def step(self, at: datetime, signal: str) -> None:
        if self.phase == 6:
            assert self.before is not None
            self.move(at, self.before, "misstep_resolved")
        elif signal in MOVERS.get(self.phase, ()):
            self.move(at, self.phase + 1, signal)
        elif self.phase == 3 and signal == "considered" and self.considerations >= 2:
            self.move(at, 4, signal)
        elif self.phase == 4 and signal == "quiet":
            self.move(at, 3, signal)
        elif self.phase in (2, 3, 5, 7) and signal == "silent":
            self.move(at, 1, signal)
        elif self.phase == 5 and self.orders >= 3 and self.promotions:
            self.move(at, 7, "loyal")


def live(person: Person, as_of: datetime) -> list[tuple[datetime, int, str]]:
    """Every move of a person up to `as_of`: when, to which phase, why."""
    acts = [(at(minute), signal) for minute, signal in person.signals]
    fruitless = 0
    first = min(
        [moment for moment, _ in acts]
        + [at(visit.minute) for visit in person.visits]
        + [at(opened) for opened, _ in person.missteps]
    )
    for visit in sorted(person.visits, key=lambda visit: visit.minute):
        if visit.is_store:
            continue
        if at(visit.minute) > first:
            acts.append((at(visit.minute), "engaged"))
        if visit.has_order:
            fruitless = 0
        elif visit.views:
            fruitless += 1
            if visit.category_views >= 2 or fruitless % 3 == 0:
                acts.append((at(visit.minute + 30), "considered"))
    for opened, resolved in person.missteps:
        acts.append((at(opened), "misstep_opened"))
        if resolved is not None:
            acts.append((at(resolved), "misstep_resolved"))

    cycle = timedelta(days=person.cycle_days)
    quiet = min(cycle, QUIET_DAYS * DAY)
    life = Life()
    alarms: list[tuple[datetime, str]] = []
    for moment, signal in [(first, "seen"), *sorted(acts)]:
        alarms = ring(life, alarms, moment, inclusive=False)
        life.notice(moment, signal)
        if signal != "misstep_opened":
            alarms = [alarm for alarm in alarms if alarm[1] == "midnight"]
            alarms.append((moment + quiet, "quiet"))
            alarms.append((moment + cycle, "silent"))
            alarms.append((moment + cycle + DAY, "silent"))
        if signal in ("misstep_resolved", "ordered", "promoted"):
            midnight = datetime.combine(moment.date() + DAY, datetime.min.time())
            alarms.append((midnight, "midnight"))
    ring(life, alarms, as_of, inclusive=True)
    return life.moves


def ring(
    life: Life, alarms: list[tuple[datetime, str]], until: datetime, *, inclusive: bool
) -> list[tuple[datetime, str]]:
    """Let the alarms before a moment go off in order; return the others."""
    due = [a for a in alarms if a[0] < until or (inclusive and a[0] == until)]
    order = {"quiet": 1, "silent": 2}
    for moment, signal in sorted(due, key=lambda a: (a[0], order.get(a[1], 0))):
        life.notice(moment, signal)
    return [alarm for alarm in alarms if alarm not in due]


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


@st.composite
def persons(draw: st.DrawFn) -> Person:
    minutes = draw(
        st.lists(
            # three acts in ten follow soon on another: many things within a day
            st.integers(0, 120 * 24 * 60) | st.integers(0, 3 * 24 * 60),
            min_size=1,
            max_size=24,
            unique_by=lambda minute: minute // 31,
        )
    )
    person = Person(draw(st.sampled_from([14, 15, 30, 60])), [], [], [])
    for minute in minutes:
        kind = draw(st.sampled_from(KINDS))
        if kind == "visit":
            views = draw(st.integers(0, 4))
            person.visits.append(
                Visit(
                    minute,
                    views,
                    draw(st.integers(0, views)),
                    draw(st.integers(0, 5)) == 0,
                    draw(st.integers(0, 7)) == 0,
                )
            )
        elif kind == "misstep":
            length = draw(st.none() | st.integers(1, 20 * 24 * 60))
            person.missteps.append((minute, length and minute + length))
        else:
            person.signals.append((minute, kind))
    return person


KINDS = [
    "visit",
    "visit",
    "visit",
    "engaged",
    "viewed_content",
    "carted",
    "checked_out",
    "ordered",
    "ordered",
    "promoted",
    "misstep",
]
AS_OF = START + 130 * DAY
SIGNAL_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "engaged": ("stg_message_events", {"interaction": "clicked", "is_machine": False}),
    "viewed_content": ("stg_product_views", {}),
    "carted": ("stg_cart_events", {"action": "added"}),
    "checked_out": ("stg_checkout_events", {}),
    "ordered": ("stg_orders", {"status": "completed"}),
    "promoted": ("stg_service_events", {"kind": "nps", "score": 9}),
}


def tables(people: list[Person]) -> dict[str, pl.DataFrame]:
    """The parent tables that tell of these people."""
    rows: dict[str, list[dict[str, Any]]] = {
        table: [] for table in PARENTS if not table.startswith("ml.")
    }
    numbers = count()

    def message(profile_id: str, moment: datetime) -> str:
        message_id = f"m{next(numbers):05}"
        rows["identity.profile_events"].append(
            {
                "message_id": message_id,
                "profile_id": profile_id,
                "occurred_at": moment,
            }
        )
        return message_id

    for number, person in enumerate(people):
        profile_id = f"p{number:03}"
        rows["profiles.profiles"].append(
            {
                "profile_id": profile_id,
                "is_hub": False,
                "churn_cycle_days": person.cycle_days,
            }
        )
        for visit in person.visits:
            started_at, ended_at = at(visit.minute), at(visit.minute + 30)
            first_id = message(profile_id, started_at)
            rows["profiles.sessions"].append(
                {
                    "session_id": f"s{first_id}",
                    "profile_id": profile_id,
                    "started_at": started_at,
                    "ended_at": ended_at,
                    "product_view_count": visit.views,
                    "order_count": int(visit.has_order),
                    "first_message_id": first_id,
                    "last_message_id": message(profile_id, ended_at),
                    "max_category_views": visit.category_views,
                    "is_store": visit.is_store,
                }
            )
        for minute, signal in person.signals:
            message_id = message(profile_id, at(minute))
            table, facts = SIGNAL_TABLES[signal]
            rows[f"staging.{table}"].append({"message_id": message_id, **facts})
        for opened, resolved in person.missteps:
            resolved_at = (
                at(resolved) if resolved is not None and at(resolved) <= AS_OF else None
            )
            rows["profiles.missteps"].append(
                {
                    "profile_id": profile_id,
                    "opened_at": at(opened),
                    "resolved_at": resolved_at,
                    "evidence_message_id": message(profile_id, at(opened)),
                    "is_open": resolved_at is None,
                }
            )
    return {
        table: pl.DataFrame(facts, infer_schema_length=None)
        for table, facts in rows.items()
        if facts
    }


PHASE_MODELS = (
    "decisions.phase",
    "decisions.derived_phase_signals",
    "decisions.inactivity_timers",
)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(people=st.lists(persons(), min_size=25, max_size=50))
def test_phases_are_what_a_second_telling_says(
    lab: DecisionLab, people: list[Person]
) -> None:
    expected = {
        f"p{number:03}": live(person, AS_OF) for number, person in enumerate(people)
    }
    assert moves(lab, people) == expected


@pytest.mark.parametrize(
    ("ordered", "missteps", "reason"),
    [
        pytest.param(8, [], "ordered", id="order"),
        pytest.param(-24, [(-20, 8)], "misstep_resolved", id="end of a misstep"),
    ],
)
def test_who_comes_to_phase_5_loyal_is_in_7_by_the_next_signal_of_that_day(
    lab: DecisionLab, ordered: int, missteps: list[tuple[int, int]], reason: str
) -> None:
    day = 90 * 24
    hours = [
        # advocacy lacks an order when silence leads back to phase 1
        *((0, "ordered"), (1, "ordered"), (2, "promoted")),
        (day + ordered, "ordered"),
        *((day + 7, "checked_out"), (day + 9, "checked_out")),
    ]
    person = Person(
        cycle_days=14,
        visits=[],
        signals=[(hour * 60, signal) for hour, signal in hours],
        missteps=[
            ((day + opened) * 60, (day + resolved) * 60)
            for opened, resolved in missteps
        ],
    )
    (changes,) = moves(lab, [person]).values()
    assert [move for move in changes if move[0].date() == at(day * 60).date()] == [
        (at((day + 8) * 60), 5, reason),
        (at((day + 9) * 60), 7, "loyal"),
    ]


def moves(
    lab: DecisionLab, people: list[Person]
) -> dict[str, list[tuple[datetime, int, str]]]:
    """Every move of these people as the models find them: when, to which phase, why."""
    lab.put_frames(tables(people))
    lab.build(AS_OF, only=PHASE_MODELS)
    changes = lab.read(
        "select * from decisions.phase_changes order by profile_id, change_number"
    )
    return {
        profile_id: [
            (row["changed_at"], row["phase"], row["reason"])
            for row in rows.iter_rows(named=True)
        ]
        for (profile_id,), rows in changes.group_by("profile_id", maintain_order=True)
    }
