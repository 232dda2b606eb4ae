"""Journeys as marketers write them: read from YAML, checked, and laid out as tables.

Knows nothing of who is due what: that is decided in SQL (`models/decisions`).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import polars as pl
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from activations.conditions import (
    CONDITION_PARTS,
    CONDITION_SCHEMA,
    CONDITION_TAGS,
    KINDS,
    Alternative,
    AtMoment,
    BackInStock,
    Condition,
    Drawn,
    EventPattern,
    HasIntent,
    HasMisstep,
    InPhase,
    MetMessage,
    OnArm,
    OnDate,
    PriceDrop,
    RunsOut,
    alternatives,
    condition_rows,
    joined,
    seconds,
    tests_of,
)
from activations.parts import (
    CODE_FORM,
    PHASES,
    Channel,
    Count,
    Duration,
    Intent,
    Location,
    Name,
    Part,
    Phase,
    Rate,
    WrittenDuration,
    duration_text,
    nearest,
    parse_duration,
)
from activations.reading import (
    AuthoredError,
    Kind,
    Problem,
    authored_files,
)

ExitEvent = Literal["order", "misstep", "resolved", "cart_emptied", "audience_left"]


ReEligibility = Literal["never", "per_evidence"] | WrittenDuration


def parse_re_eligibility(value: object) -> object:
    """Turn `never` into None, `per_evidence` into no time, others into timedeltas."""
    if value == "per_evidence":
        return timedelta(0)
    return None if value == "never" else parse_duration(value)


ContentPhase = Literal[
    "default",
    "reintroduction",
    "value",
    "social_proof",
    "action",
    "relationship",
    "restoration",
    "advocacy",
]
# Each kind of content is checked as what it is: an error is of that kind alone.
Content = Annotated[
    Annotated[Name, Tag("by_name")]
    | Annotated[dict[ContentPhase, Name], Tag("by_phase")],
    Discriminator(lambda value: "by_phase" if isinstance(value, dict) else "by_name"),
]


class EntryCap(Part):
    """How many people may begin a journey in any time so long."""

    people: Annotated[Count, Field(ge=1)]
    within: Annotated[Duration, Field(gt=timedelta(0))]


class Group(Part):
    """Journeys of which a person is written to by so many at a time.

    Whoever began first goes first; what the others have to say waits.
    """

    name: Name
    at_most: Count = Field(default=1, ge=1)


class Entry(Part):
    """Who may begin: all of the conditions given must hold at the same `as_of`."""

    intent: tuple[Intent, ...] = ()
    phase: tuple[Phase, ...] = ()
    misstep: Literal["open"] | None = None
    when: Condition | None = None
    minimum_orders: Count = Field(default=0, ge=0)
    within: Duration | None = None
    at_most: EntryCap | None = None

    @model_validator(mode="after")
    def _names_its_evidence(self) -> Self:
        if not (self.intent or self.phase or self.misstep or self.when):
            raise ValueError("name at least one of intent, phase, misstep or when")
        for alternative in self.alternatives:
            if all(negated for _, negated in alternative):
                raise ValueError(
                    "nobody can begin by what is not so alone; name what must be so"
                )
        return self

    @property
    def alternatives(self) -> list[Alternative]:
        """All that must hold, as alternatives."""
        return joined(
            alternatives(self.when) if self.when else [()],
            [((HasMisstep(misstep="open"), False),)] if self.misstep else [()],
            [((HasIntent(intent=self.intent), False),)] if self.intent else [()],
            [((InPhase(phase=self.phase), False),)] if self.phase else [()],
        )


class Exit(Part):
    """What ends an enrollment before its last step, and how long it may last."""

    when: tuple[ExitEvent, ...] = ("order",)
    goals: tuple[EventPattern, ...] = ()
    after: Duration


class WaitFor(EventPattern):
    """Hold a step until the person does something, at most until the timeout.

    The event `session` is a visit. After the timeout the step is left out, or sent.
    """

    timeout: Duration
    on_timeout: Literal["skip", "send"] = "skip"

    @model_validator(mode="after")
    def _visits_have_no_properties(self) -> Self:
        if self.event == "session" and self.where:
            raise ValueError("a session has no properties; take out where")
        return self


Weekday = Literal[
    "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
WrittenHour = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


def parse_hour(value: object) -> object:
    """Turn `09:30` into a time; YAML reads some hours as numbers to the base of 60."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value // 60:02}:{value % 60:02}"
    if isinstance(value, str) and re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        return time.fromisoformat(value)
    raise ValueError(f"'{value}' is no hour of the day; write it as \"09:30\"")


class SendTime(Part):
    """Hold a step until the person's best hour within so long after it fell due."""

    within: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=3))]


class Until(Part):
    """Hold a step until an hour of the person's day, on certain weekdays or on any."""

    at: Annotated[time, BeforeValidator(parse_hour, json_schema_input_type=WrittenHour)]
    weekdays: tuple[Weekday, ...] = ()

    @property
    def minute(self) -> int:
        """The hour as a minute of the day."""
        return self.at.hour * 60 + self.at.minute

    @property
    def longest(self) -> timedelta:
        """How long somebody may have to wait for it."""
        days = sorted(WEEKDAYS.index(day) for day in set(self.weekdays)) or [*range(7)]
        gaps = [after - before for before, after in pairwise([*days, days[0] + 7])]
        return timedelta(days=max(gaps))


class Incentive(Part):
    """A timed offer; nobody who would buy anyway needs one."""

    code: Annotated[str, Field(pattern=CODE_FORM)]
    percent: Count = Field(gt=0, lt=100)
    valid_for: Duration
    maximum_purchase_propensity: Rate = 1.0


class Step(Part):
    """One message: where, when and what."""

    step: Name
    channels: tuple[Channel, ...] = Field(min_length=1)
    next_best_channel: bool = False
    escalation: bool = False
    delay: Duration = timedelta(0)
    delay_from: Literal["entry", "previous"] = "previous"
    until: Until | None = None
    wait_for: WaitFor | None = None
    only_if: Condition | None = None
    send_time: SendTime | None = None
    content: Content
    incentive: Incentive | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.channels)) < len(self.channels):
            raise ValueError("channels names a channel twice")
        if self.next_best_channel and len(self.channels) == 1:
            raise ValueError("next_best_channel needs two channels or more")
        if isinstance(self.content, dict) and "default" not in self.content:
            raise ValueError("content by phase needs a default")
        return self

    def content_for(self, phase: Phase) -> str:
        """The content a person in this phase is shown."""
        if isinstance(self.content, str):
            return self.content
        return self.content.get(phase, self.content["default"])


class Branch(Part):
    """Steps for those of whom a condition holds when they are due, and for the others.

    Who was sent a message of one side gets none of the other.
    """

    branch: Name
    if_: Condition = Field(alias="if")
    then: "Items"
    else_: "Items" = Field(default=(), alias="else")


class Arm(Part):
    """One arm of an experiment: its share of the people and what they are sent."""

    arm: Name
    share: Annotated[Rate, Field(gt=0)]
    steps: "Items" = ()


class ExperimentSplit(Part):
    """Arms that people are drawn for by chance, each person always for the same one."""

    experiment_split: Name
    arms: tuple[Arm, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _covers_everybody_once(self) -> Self:
        if abs(sum(arm.share for arm in self.arms) - 1) > 1e-9:
            raise ValueError("the shares of the arms must add up to 1")
        if len({arm.arm for arm in self.arms}) < len(self.arms):
            raise ValueError("two arms have one name")
        return self


class ExitHere(Part):
    """The end of the journey, for whoever comes here or meets a condition here."""

    exit: Name
    only_if: Condition | None = None


def item_kind(value: object) -> str:
    """The tag of what stands among steps: a branch, a split, an exit, else a step."""
    kinds = {"branch": Branch, "experiment_split": ExperimentSplit, "exit": ExitHere}
    if isinstance(value, Part):
        return next(
            (f"as_{kind}" for kind, part in kinds.items() if type(value) is part),
            "as_step",
        )
    fields = value if isinstance(value, dict) else {}
    return next((f"as_{kind}" for kind in kinds if kind in fields), "as_step")


Item = Annotated[
    Annotated[Step, Tag("as_step")]
    | Annotated[Branch, Tag("as_branch")]
    | Annotated[ExperimentSplit, Tag("as_experiment_split")]
    | Annotated[ExitHere, Tag("as_exit")],
    Discriminator(item_kind),
]
Items = tuple[Item, ...]
for part in (Branch, Arm, ExperimentSplit):
    part.model_rebuild()


@dataclass(frozen=True)
class PlacedStep:
    """A message of a journey, where it stands and of whom it asks what."""

    step: Step
    location: Location
    arms: tuple[OnArm, ...]
    condition: list[Alternative]
    share: float


def place_steps(
    items: Items,
    location: Location,
    arms: tuple[OnArm, ...] = (),
    outer: list[Alternative] | None = None,
    share: float = 1.0,
) -> Iterator[PlacedStep]:
    """The messages among items, those of branches and arms one after the other.

    `share` is that of all people who are drawn to come to the items.
    """
    held_by: list[Alternative] = [()] if outer is None else outer

    def follow(
        on_arm: OnArm,
        held: list[Alternative],
        inner: Items,
        *field: int | str,
        drawn: float = 1.0,
    ) -> Iterator[PlacedStep]:
        held = joined(held_by, [((on_arm, False),)], held)
        there, on_arms = (*here, *field), (*arms, on_arm)
        yield from place_steps(inner, there, on_arms, held, share * drawn)

    for index, item in enumerate(items):
        here = (*location, index)
        if isinstance(item, Branch):
            name, holds = item.branch, alternatives(item.if_)
            lacks = alternatives(item.if_, negated=True)
            then, else_ = (OnArm(branch=name, arm=arm) for arm in ("then", "else"))
            yield from follow(then, holds, item.then, "then")
            yield from follow(else_, lacks, item.else_, "else")
        elif isinstance(item, ExperimentSplit):
            for number, (arm, drawn) in enumerate(drawn_arms(item)):
                yield from follow(
                    OnArm(branch=item.experiment_split, arm=arm.arm),
                    [((drawn, False),)],
                    arm.steps,
                    *("arms", number, "steps"),
                    drawn=arm.share,
                )
        elif isinstance(item, Step):
            own = alternatives(item.only_if) if item.only_if else [()]
            yield PlacedStep(item, here, arms, joined(held_by, own), share)
        held_by = joined(held_by, who_stays((item,)))


def drawn_arms(split: ExperimentSplit) -> Iterator[tuple[Arm, Drawn]]:
    """Each arm of an experiment and the draws that lead to it."""
    ends = [0.0, *accumulate(arm.share for arm in split.arms)]
    ends[-1] = 1.0
    for arm, (low, high) in zip(split.arms, pairwise(ends), strict=True):
        yield arm, Drawn(experiment=split.experiment_split, from_=low, until=high)


def who_stays(items: Items) -> list[Alternative]:
    """Who has not come to the end of the journey after some items, as alternatives."""
    staying: list[Alternative] = [()]
    for item in items:
        ways: list[tuple[list[Alternative], Items]]
        if isinstance(item, ExitHere):
            lacks = alternatives(item.only_if, negated=True) if item.only_if else []
            staying = joined(staying, lacks)
            continue
        if isinstance(item, Branch):
            ways = [
                (alternatives(item.if_), item.then),
                (alternatives(item.if_, negated=True), item.else_),
            ]
        elif isinstance(item, ExperimentSplit):
            ways = [([((draw, False),)], arm.steps) for arm, draw in drawn_arms(item)]
        else:
            continue
        stays = [(held, who_stays(inner)) for held, inner in ways]
        if any(after != [()] for _, after in stays):
            staying = joined(staying, [*chain(*(joined(*way) for way in stays))])
    return staying


class Journey(Part):
    """One message flow: who begins it, what they are sent and when it ends."""

    journey: Name
    description: str = Field(min_length=1)
    version: Count = Field(ge=1)
    message_class: Literal["marketing", "transactional"]
    purpose: Annotated[str, Field(min_length=1)] | None = None
    priority: Count = Field(ge=1)
    group: Group | None = None
    holdout: Rate = 0.0
    entry: Entry
    exit: Exit
    open_tracking: bool = False
    approval: Literal["required"] | None = None
    re_eligibility: Annotated[
        timedelta | None,
        BeforeValidator(parse_re_eligibility, json_schema_input_type=ReEligibility),
    ]
    steps: Items = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        if not self.messages:
            raise ValueError("no step sends a message; add one")
        return self

    @cached_property
    def messages(self) -> tuple[PlacedStep, ...]:
        """The messages of all branches, in the order in which they are tried."""
        return tuple(place_steps(self.steps, ("steps",)))

    @property
    def definition_hash(self) -> str:
        """Changes whenever anything in the file that steers a decision changes."""
        steering = self.model_dump_json(exclude={"approval"})
        return hashlib.sha256(steering.encode()).hexdigest()


# The tests that come about at a moment, by which a journey begins.
OF_ENTRY = (OnDate, RunsOut, PriceDrop, BackInStock, AtMoment)


def contradictions(journey: Journey) -> Iterator[tuple[Location, str]]:
    """Where a journey's parts do not go together, and why."""
    yield from named_twice(journey)
    first = journey.messages[0]
    if first.step.escalation:
        reason = "the first step has nothing to escalate from"
        yield (*first.location, "escalation"), reason
    # one enrollment at a time: who comes back has left before
    comes_back = journey.re_eligibility
    if comes_back and comes_back < journey.exit.after:
        reason = "re_eligibility must not be shorter than exit.after"
        yield ("re_eligibility",), reason
    yield from misplaced_tests(journey)
    for placed in journey.messages:
        if not placed.condition:
            reason = "every way to the step ends in an exit before; take one out"
            yield (*placed.location, "step"), reason
    yield from never_due(journey)


def named_twice(journey: Journey) -> Iterator[tuple[Location, str]]:
    """Each name of a step, a branch or an experiment that another one bears too."""
    seen: set[tuple[str, str]] = set()
    for location, field, name in names_of(journey.steps, ("steps",)):
        if (field, name) in seen:
            kind = field.replace("_", " ")
            yield (*location, field), f"two {PLURALS.get(kind, kind)} are called {name}"
        seen.add((field, name))


PLURALS = {
    "step": "steps",
    "branch": "branches",
    "experiment split": "experiment splits",
    "exit": "exits",
}


def names_of(items: Items, location: Location) -> Iterator[tuple[Location, str, str]]:
    """Each item that has a name: where it stands, the field and the name."""
    for index, item in enumerate(items):
        here = (*location, index)
        if isinstance(item, Branch):
            yield here, "branch", item.branch
            yield from names_of(item.then, (*here, "then"))
            yield from names_of(item.else_, (*here, "else"))
        elif isinstance(item, ExperimentSplit):
            yield here, "experiment_split", item.experiment_split
            for number, arm in enumerate(item.arms):
                yield from names_of(arm.steps, (*here, "arms", number, "steps"))
        elif isinstance(item, ExitHere):
            yield here, "exit", item.exit
        else:
            yield here, "step", item.step


def asked_of_steps(
    items: Items, location: Location
) -> Iterator[tuple[Location, Condition]]:
    """Each condition among items: where it stands and what it asks."""
    for index, item in enumerate(items):
        here = (*location, index)
        if isinstance(item, Branch):
            yield (*here, "if"), item.if_
            yield from asked_of_steps(item.then, (*here, "then"))
            yield from asked_of_steps(item.else_, (*here, "else"))
        elif isinstance(item, ExperimentSplit):
            for number, arm in enumerate(item.arms):
                yield from asked_of_steps(arm.steps, (*here, "arms", number, "steps"))
        elif item.only_if:
            yield (*here, "only_if"), item.only_if


def misplaced_tests(journey: Journey) -> Iterator[tuple[Location, str]]:
    """Each test that means nothing where it stands."""
    if journey.entry.when:
        for location, test in tests_of(journey.entry.when):
            if isinstance(test, MetMessage):
                reason = "no message has gone out before the entry; ask in a step"
                yield ("entry", "when", *location, "message"), reason
    order = [placed.step.step for placed in journey.messages]
    for place, condition in asked_of_steps(journey.steps, ("steps",)):
        # the messages that stand before this condition in the file
        before = {
            placed.step.step
            for placed in journey.messages
            if written_before(placed.location, place)
        }
        for location, test in tests_of(condition):
            here = (*place, *location)
            if isinstance(test, OF_ENTRY):
                kind = next(name for name, part in KINDS.items() if type(test) is part)
                yield (*here, kind), f"{kind} begins a journey; ask it in entry.when"
            elif isinstance(test, MetMessage) and test.message not in before:
                mend = (
                    "it goes out later; name one before"
                    if test.message in order
                    else nearest(test.message, sorted(before) or ["none before"])
                )
                yield (*here, "message"), f"no step {test.message} before; {mend}"


def written_before(location: Location, other: Location) -> bool:
    """Whether one place among the steps comes before another in each of their lists."""
    for mine, others in zip(location, other, strict=False):
        if mine != others:
            return isinstance(mine, int) and isinstance(others, int) and mine < others
    return False


def never_due(journey: Journey) -> Iterator[tuple[Location, str]]:
    """Each step that is due only after `exit.after` has ended the journey.

    A step counts from the last before it that all get who get this one: an escalation,
    or a step of another arm, is passed over by some.
    """
    due_after: list[tuple[PlacedStep, timedelta]] = []
    for placed in journey.messages:
        step = placed.step
        before = [
            due
            for earlier, due in due_after
            if placed.arms[: len(earlier.arms)] == earlier.arms
            and (
                (earlier is due_after[-1][0] and step.escalation)
                or not (earlier.step.escalation or earlier.step.only_if)
            )
        ]
        last = max(before, default=timedelta(0))
        from_entry = step.delay_from == "entry"
        due = max(last, step.delay) if from_entry else last + step.delay
        if step.until:
            due += step.until.longest
        if due >= journey.exit.after:
            yield (
                (*placed.location, "delay"),
                f"the step is due {duration_text(due)} after the entry "
                f"{'for some' if step.until else 'at the earliest'}, "
                f"and exit.after ends the journey after "
                f"{duration_text(journey.exit.after)}; shorten the delay or lengthen "
                f"exit.after",
            )
        due_after.append((placed, due))


JOURNEYS = Kind(
    field="journey",
    model=Journey,
    parts={
        **CONDITION_PARTS,
        "entry": Entry,
        "exit": Exit,
        "as_step": Step,
        "as_branch": Branch,
        "as_experiment_split": ExperimentSplit,
        "arms": Arm,
        "as_exit": ExitHere,
        "at_most": EntryCap,
        "group": Group,
        "goals": EventPattern,
        "wait_for": WaitFor,
        "send_time": SendTime,
        "until": Until,
        "incentive": Incentive,
    },
    tags=CONDITION_TAGS
    | {"by_name", "by_phase", "as_step", "as_branch", "as_experiment_split"}
    | {"as_exit"},
    contradictions=contradictions,
)


def read_journeys(folder: Path) -> tuple[list[Journey], list[Problem]]:
    """The journeys of a folder in order of priority, and what keeps others from it.

    Raises:
        AuthoredError: if there is no journey file at all.
    """
    if not authored_files(folder):
        none = Problem("", folder.name, None, "folder", "no journeys (*.yml) here")
        raise AuthoredError([none])
    journeys, problems = JOURNEYS.read_folder(folder)
    in_order = sorted(
        journeys.values(), key=lambda journey: (journey.priority, journey.journey)
    )
    return in_order, problems


def load_journeys(folder: Path) -> list[Journey]:
    """Every journey of a folder, in order of priority.

    Raises:
        AuthoredError: if one of them cannot be used.
    """
    journeys, problems = read_journeys(folder)
    if problems:
        raise AuthoredError(problems)
    return journeys


def needed_contents(journeys: Sequence[Journey]) -> set[tuple[str, Channel]]:
    """Every (content_id, channel) that some step may ask for."""
    return {
        (placed.step.content_for(phase), channel)
        for journey in journeys
        for placed in journey.messages
        for phase in PHASES
        for channel in placed.step.channels
    }


JOURNEY_SCHEMA = pl.Schema(
    {
        "journey": pl.String(),
        "version": pl.Int64(),
        "definition_hash": pl.String(),
        "description": pl.String(),
        "message_class": pl.String(),
        "purpose": pl.String(),
        "priority": pl.Int64(),
        "holdout_rate": pl.Float64(),
        "minimum_order_count": pl.Int64(),
        "entry_within_seconds": pl.Int64(),
        "entry_cap": pl.Int64(),
        "entry_cap_seconds": pl.Int64(),
        "journey_group": pl.String(),
        "group_cap": pl.Int64(),
        "exits_on_order": pl.Boolean(),
        "exits_on_misstep": pl.Boolean(),
        "exits_on_resolved": pl.Boolean(),
        "exits_on_cart_emptied": pl.Boolean(),
        "exits_on_audience_left": pl.Boolean(),
        "expires_after_seconds": pl.Int64(),
        "re_eligible_after_seconds": pl.Int64(),
        "step_count": pl.Int64(),
    }
)

STEP_SCHEMA = pl.Schema(
    {
        "journey": pl.String(),
        "step": pl.String(),
        "step_position": pl.Int64(),
        "arm_share": pl.Float64(),
        "channel": pl.String(),
        "channel_position": pl.Int64(),
        "uses_next_best_channel": pl.Boolean(),
        "is_escalation": pl.Boolean(),
        "delay_seconds": pl.Int64(),
        "is_delayed_from_entry": pl.Boolean(),
        "until_weekdays": pl.List(pl.Int64),
        "until_minute": pl.Int64(),
        "wait_for": pl.String(),
        "wait_timeout_seconds": pl.Int64(),
        "is_sent_on_timeout": pl.Boolean(),
        "send_time_seconds": pl.Int64(),
        "content_ids": pl.List(pl.String),
        "incentive_code": pl.String(),
        "incentive_percent": pl.Int64(),
        "incentive_valid_seconds": pl.Int64(),
        "incentive_maximum_propensity": pl.Float64(),
    }
)

PROBLEM_SCHEMA = pl.Schema(
    {
        "journey": pl.String(),
        "file": pl.String(),
        "line": pl.Int64(),
        "field": pl.String(),
        "reason": pl.String(),
        "code": pl.String(),
        "witness": pl.String(),
    }
)


def problem_frame(problems: Sequence[Problem]) -> pl.DataFrame:
    """The mistakes of journeys as a table."""
    columns = {"journey": "name"}
    rows = [
        {
            column: getattr(problem, columns.get(column, column))
            for column in PROBLEM_SCHEMA
        }
        for problem in problems
    ]
    return pl.DataFrame(rows, schema=PROBLEM_SCHEMA)


def journey_frames(journeys: Sequence[Journey]) -> dict[str, pl.DataFrame]:
    """Lay journeys out as tables: their rows, those of their steps and conditions.

    A step has a row per channel; its `content_ids` hold one content id per phase, in
    the order of the phases. A condition has a row per alternative and test.
    """
    rows = {
        "journeys": (map(_journey_row, journeys), JOURNEY_SCHEMA),
        "journey_steps": (chain(*map(_step_rows, journeys)), STEP_SCHEMA),
        "conditions": (
            chain(*map(_condition_rows, journeys)),
            CONDITION_SCHEMA,
        ),
    }
    return {
        table: pl.DataFrame(list(written), schema=schema)
        for table, (written, schema) in rows.items()
    }


def _condition_rows(journey: Journey) -> Iterator[dict[str, object]]:
    name = journey.journey
    yield from condition_rows(
        journey.entry.alternatives, journey=name, place="entry", step=None
    )
    goals: list[Alternative] = [((goal, False),) for goal in journey.exit.goals]
    yield from condition_rows(goals, journey=name, place="exit", step=None)
    for placed in journey.messages:
        step, waits_for = placed.step.step, placed.step.wait_for
        if placed.condition != [()]:
            yield from condition_rows(
                placed.condition, journey=name, place="step", step=step
            )
        if waits_for and waits_for.event != "session":
            awaited: list[Alternative] = [((waits_for, False),)]
            yield from condition_rows(awaited, journey=name, place="wait", step=step)


def _journey_row(journey: Journey) -> dict[str, object]:
    cap, group = journey.entry.at_most, journey.group
    return {
        "journey": journey.journey,
        "version": journey.version,
        "definition_hash": journey.definition_hash,
        "description": " ".join(journey.description.split()),
        "message_class": journey.message_class,
        "purpose": journey.purpose,
        "priority": journey.priority,
        "holdout_rate": journey.holdout,
        "minimum_order_count": journey.entry.minimum_orders,
        "entry_within_seconds": seconds(journey.entry.within),
        "entry_cap": cap.people if cap else None,
        "entry_cap_seconds": seconds(cap.within) if cap else None,
        "journey_group": group.name if group else None,
        "group_cap": group.at_most if group else None,
        "exits_on_order": "order" in journey.exit.when,
        "exits_on_misstep": "misstep" in journey.exit.when,
        "exits_on_resolved": "resolved" in journey.exit.when,
        "exits_on_cart_emptied": "cart_emptied" in journey.exit.when,
        "exits_on_audience_left": "audience_left" in journey.exit.when,
        "expires_after_seconds": seconds(journey.exit.after),
        "re_eligible_after_seconds": seconds(journey.re_eligibility),
        "step_count": len(journey.messages),
    }


def _step_rows(journey: Journey) -> list[dict[str, object]]:
    return [
        {
            "journey": journey.journey,
            "step": step.step,
            "step_position": step_position,
            "arm_share": share,
            "channel": channel,
            "channel_position": channel_position,
            "uses_next_best_channel": step.next_best_channel,
            "is_escalation": step.escalation,
            "delay_seconds": seconds(step.delay),
            "is_delayed_from_entry": step.delay_from == "entry",
            "until_weekdays": (
                [1 + WEEKDAYS.index(day) for day in step.until.weekdays]
                if step.until
                else []
            ),
            "until_minute": step.until.minute if step.until else None,
            "wait_for": step.wait_for.event if step.wait_for else None,
            "wait_timeout_seconds": (
                seconds(step.wait_for.timeout) if step.wait_for else None
            ),
            "is_sent_on_timeout": (
                step.wait_for is not None and step.wait_for.on_timeout == "send"
            ),
            "send_time_seconds": (
                seconds(step.send_time.within) if step.send_time else None
            ),
            "content_ids": [step.content_for(phase) for phase in PHASES],
            "incentive_code": step.incentive.code if step.incentive else None,
            "incentive_percent": step.incentive.percent if step.incentive else None,
            "incentive_valid_seconds": (
                seconds(step.incentive.valid_for) if step.incentive else None
            ),
            "incentive_maximum_propensity": (
                step.incentive.maximum_purchase_propensity if step.incentive else None
            ),
        }
        for step_position, (step, share) in enumerate(
            ((placed.step, placed.share) for placed in journey.messages), start=1
        )
        for channel_position, channel in enumerate(step.channels, start=1)
    ]
