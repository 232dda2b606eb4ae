"""Journeys as marketers write them: read from YAML, checked, and laid out as tables.

Knows nothing of who is due what: that is decided in SQL (`models/decisions`).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import polars as pl
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

Channel = Literal[
    "email", "sms", "push", "in_app", "onsite", "paid_retargeting", "direct_mail"
]
Phase = Literal[
    "reintroduction",
    "value",
    "social_proof",
    "action",
    "relationship",
    "restoration",
    "advocacy",
]
Intent = Literal[
    "browsing",
    "considering",
    "price_checking",
    "cart_abandoned",
    "checkout_abandoned",
    "converted",
]
ExitEvent = Literal["order", "misstep", "resolved"]

PHASES: tuple[Phase, ...] = get_args(Phase)
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
# No table of moments holds much more, and no customer waits as long.
LONGEST = timedelta(days=3653)
MOST = 1_000_000
MAX_BYTES = 1_000_000
MAX_LEVELS = 32
SUFFIXES = (".yml", ".yaml")

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Problem:
    """What keeps a journey from being used: where it stands and how to mend it."""

    journey: str
    file: str
    line: int | None
    field: str
    reason: str

    def __str__(self) -> str:
        line = "" if self.line is None else f"{self.line}:"
        return f"{self.file}:{line} {self.field}: {self.reason}"


class BlueprintError(ValueError):
    """A journey file that cannot be used; the message names the file and the field."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(dict.fromkeys(map(str, problems))))
        self.problems = tuple(problems)


def parse_duration(value: object) -> object:
    """Turn `30m`, `4h` or `2d` into a timedelta; leave anything else to pydantic."""
    if not isinstance(value, str):
        raise ValueError("write a duration as 30m, 4h or 2d")
    written = re.fullmatch(r"(\d+)([mhd])", value)
    if written is None:
        raise ValueError(f"'{value}' is no duration; write 30m, 4h or 2d")
    try:
        duration = timedelta(**{UNITS[written[2]]: int(written[1])})
    except OverflowError:
        duration = timedelta.max
    if duration > LONGEST:
        raise ValueError(f"{value} is longer than ten years; write a shorter one")
    return duration


def parse_re_eligibility(value: object) -> object:
    """Turn `never` into None, anything else into a timedelta."""
    return None if value == "never" else parse_duration(value)


def refuse_yes(value: object) -> object:
    """Keep YAML's `yes` and `on` from being taken for the number 1."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not yes or no")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
FORMS = {
    r"^[a-z][a-z0-9_]*$": "a name is of a-z, 0-9 and _ and begins with a letter",
    r"^[A-Z0-9]+$": "a code is of A-Z and 0-9",
}
NAME_FORM, CODE_FORM = FORMS
Name = Annotated[str, Field(pattern=NAME_FORM)]
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
# What pydantic puts into a location that no author wrote.
INSERTED = {"by_name", "by_phase", "[key]"}
Count = Annotated[int, BeforeValidator(refuse_yes), Field(le=MOST)]
Rate = Annotated[float, BeforeValidator(refuse_yes), Field(ge=0, le=1)]


class Part(BaseModel):
    """A piece of a journey; an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(Part):
    """Who may begin: all of the conditions given must hold at the same `as_of`."""

    intent: tuple[Intent, ...] = ()
    phase: tuple[Phase, ...] = ()
    misstep: Literal["open"] | None = None
    minimum_orders: Count = Field(default=0, ge=0)
    within: Duration | None = None

    @model_validator(mode="after")
    def _names_its_evidence(self) -> Self:
        if not (self.intent or self.phase or self.misstep):
            raise ValueError("name at least one of intent, phase or misstep")
        return self


class Exit(Part):
    """What ends an enrollment before its last step, and how long it may last."""

    when: tuple[ExitEvent, ...] = ("order",)
    after: Duration


class WaitFor(Part):
    """Hold a step until the person does something, at most until the timeout."""

    event: Literal["session"]
    timeout: Duration


class SendTime(Part):
    """Hold a step until the person's best hour within so long after it fell due."""

    within: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(days=3))]


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
    wait_for: WaitFor | None = None
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


class Journey(Part):
    """One message flow: who begins it, what they are sent and when it ends."""

    journey: Name
    description: str = Field(min_length=1)
    version: Count = Field(ge=1)
    message_class: Literal["marketing", "transactional"]
    priority: Count = Field(ge=1)
    holdout: Rate = 0.0
    entry: Entry
    exit: Exit
    re_eligibility: Annotated[timedelta | None, BeforeValidator(parse_re_eligibility)]
    steps: tuple[Step, ...] = Field(min_length=1)

    @property
    def definition_hash(self) -> str:
        """Changes whenever anything in the file that steers a decision changes."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


# The parts of a journey by the field that holds them.
PARTS: dict[str, type[Part]] = {
    "entry": Entry,
    "exit": Exit,
    "steps": Step,
    "wait_for": WaitFor,
    "send_time": SendTime,
    "incentive": Incentive,
}


# What pydantic says of these would not help an author.
MENDS = {
    "missing": "is missing; add it",
    "invalid_key": "expected a name; put a number, yes or no in quotes",
    "string_type": "expected words; put a number, a date, yes or no in quotes",
    "model_type": "expected fields, as `name: value`",
    "dict_type": "expected fields, as `name: value`",
    "tuple_type": "expected a list, as `[one, two]`",
}


class Source:
    """A journey file as its author sees it: which line says what, and what twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root: yaml.Node | None = None
        self.name = printable(path.name)
        self.journey = printable(path.stem)

    def problem(self, location: Location, reason: str, **changes: str) -> Problem:
        """A problem of what stands at `location`."""
        return Problem(
            **{"journey": self.journey, "file": self.name, **changes},
            line=self._line(location),
            field=_field(location),
            reason=reason,
        )

    def read(self) -> object:
        """What the file says.

        Raises:
            BlueprintError: if it is no YAML, or gives a key twice.
        """
        try:
            text = read_text(self._path)
            self._root = compose(text)
            twice = list(keys_twice(self._root))
            value = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            said = ", ".join(filter(None, (error.context, error.problem)))
            problem = Problem(self.journey, self.name, line, "file", _no_yaml(said))
            raise BlueprintError([problem]) from None
        # a date that is none is a ValueError, as are bytes that are not UTF-8
        except (yaml.YAMLError, ValueError, OSError) as error:
            raise BlueprintError([self.problem((), _no_yaml(str(error)))]) from None
        if twice:
            raise BlueprintError(
                [
                    Problem(self.journey, self.name, line, _field(key), reason)
                    for key, line, reason in twice
                ]
            )
        return value

    def _line(self, location: Location) -> int | None:
        """The line of the deepest part of `location` that the file holds."""
        node, line = self._root, None
        for part in location:
            if isinstance(node, yaml.MappingNode):
                pairs = [pair for pair in node.value if pair[0].value == part]
                if not pairs:
                    break
                line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                line = node.start_mark.line + 1
        return line


def read_text(path: Path) -> str:
    """What an author's file says, in whatever editor it was written.

    Raises:
        OSError: if it is no file, as a pipe that nobody will ever write to.
        ValueError: if it is not UTF-8, or too large to be written by hand.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is no file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("it is larger than 1 MB")
    return path.read_text("utf-8-sig")


def compose(text: str) -> yaml.Node | None:
    """What an author's YAML holds, with the line of each part.

    Raises:
        yaml.YAMLError: if it is no YAML, or nested more than 32 levels deep, which
            PyYAML composes for minutes before it gives up.
    """
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_LEVELS:
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise yaml.YAMLError(f"nested too deeply in line {line}")
    return yaml.compose(text, yaml.SafeLoader)


def keys_twice(
    root: yaml.Node | None,
    location: Location = (),
    seen: set[int] | None = None,
) -> Iterator[tuple[Location, int, str]]:
    """Each key that a mapping gives twice: YAML takes the last of them in silence."""
    # what an alias repeats is looked at once: it may lead back to where it stands
    seen = set() if seen is None else seen
    if root is None or id(root) in seen:
        return
    seen.add(id(root))
    if isinstance(root, yaml.SequenceNode):
        for index, item in enumerate(root.value):
            yield from keys_twice(item, (*location, index), seen)
    elif isinstance(root, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in root.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in first:
                reason = f"stands here and in line {first[name]}; keep one"
                yield (*location, name), line, reason
            first.setdefault(name, line)
            yield from keys_twice(value, (*location, name), seen)


def read_journey(path: Path) -> Journey:
    """Read one journey file.

    Raises:
        BlueprintError: naming file, line and field of each mistake, and its mend.
    """
    source = Source(path)
    written = source.read()
    if not isinstance(written, dict):
        raise BlueprintError(
            [source.problem((), "expected fields, as `journey: name`")]
        )
    try:
        journey = Journey.model_validate(written)
    except ValidationError as error:
        raise BlueprintError(list(_explain(error.errors(), source))) from None
    problems = [
        source.problem(location, reason) for location, reason in contradictions(journey)
    ]
    if journey.journey != path.stem:
        reason = (
            f"is called {journey.journey}, so the file must be "
            f"{journey.journey}{path.suffix}"
        )
        # either name may be the wrong one, and people may be in a journey of either
        problems += [
            source.problem(("journey",), reason, journey=name)
            for name in (source.journey, journey.journey)
        ]
    if problems:
        raise BlueprintError(problems)
    return journey


def contradictions(journey: Journey) -> Iterator[tuple[Location, str]]:
    """Where a journey's parts do not go together, and why."""
    seen: set[str] = set()
    for index, step in enumerate(journey.steps):
        if step.step in seen:
            yield ("steps", index, "step"), f"two steps are called {step.step}"
        seen.add(step.step)
    if journey.steps[0].escalation:
        reason = "the first step has nothing to escalate from"
        yield ("steps", 0, "escalation"), reason
    # one enrollment at a time: who comes back has left before
    comes_back = journey.re_eligibility
    if comes_back is not None and comes_back < journey.exit.after:
        reason = "re_eligibility must not be shorter than exit.after"
        yield ("re_eligibility",), reason
    yield from never_due(journey)


def never_due(journey: Journey) -> Iterator[tuple[Location, str]]:
    """Each step that is due only after `exit.after` has ended the journey.

    A step counts from the one before, or from the last that is no escalation: who
    answered that one is asked no more by the escalations in between.
    """
    last_due = last_main_due = timedelta(0)
    for index, step in enumerate(journey.steps):
        before = last_due if step.escalation else last_main_due
        from_entry = step.delay_from == "entry"
        due = max(before, step.delay) if from_entry else before + step.delay
        if due >= journey.exit.after:
            yield (
                ("steps", index, "delay"),
                f"the step is due {_duration(due)} after the entry at the earliest, "
                f"and exit.after ends the journey after "
                f"{_duration(journey.exit.after)}; shorten the delay or lengthen "
                f"exit.after",
            )
        last_due = due
        if not step.escalation:
            last_main_due = due


def _explain(errors: Sequence[ErrorDetails], source: Source) -> Iterator[Problem]:
    """Each mistake once, in the author's words."""
    located = [
        (tuple(part for part in error["loc"] if part not in INSERTED), error)
        for error in errors
    ]
    for location, error in located:
        is_own = all(
            other == location or other[: len(location)] != location
            for other, _ in located
        )
        # a list counts as too short when what it holds is wrong
        if error["type"] != "too_short" or is_own:
            yield source.problem(location, _reason(location, error))


def _reason(location: Location, error: ErrorDetails) -> str:
    kind, wrong, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        holders = [part for part in location[:-1] if isinstance(part, str)]
        fields = list(PARTS.get(holders[-1] if holders else "", Journey).model_fields)
        return f"there is no such field; {nearest(location[-1], fields)}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"'{wrong}' is not allowed; {nearest(wrong, allowed)}"
    if kind == "string_pattern_mismatch":
        return f"'{wrong}' does not fit; {FORMS[context['pattern']]}"
    return MENDS.get(kind) or error["msg"].removeprefix("Value error, ")


def printable(name: str) -> str:
    """A file's name as tables and terminals can hold it."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def nearest(word: object, words: Sequence[str]) -> str:
    """The mend of a word that does not exist: the one that was meant, and all."""
    close = get_close_matches(str(word), words, n=1, cutoff=0.65)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}it is one of {', '.join(words)}"


def _no_yaml(said: object) -> str:
    return f"cannot be read as YAML: {' '.join(str(said).split())}"


def _duration(duration: timedelta) -> str:
    """A duration as authors write it."""
    for unit, name in (("d", "days"), ("h", "hours")):
        count = duration / timedelta(**{name: 1})
        if count == int(count):
            return f"{int(count)}{unit}"
    return f"{int(duration / timedelta(minutes=1))}m"


def read_journeys(folder: Path) -> tuple[list[Journey], list[Problem]]:
    """The journeys of a folder in order of priority, and what keeps others from it.

    A folder inside is not read: it is a place to put journeys away.

    Raises:
        BlueprintError: if there is no journey file at all.
    """
    paths = sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        none = Problem("", folder.name, None, "folder", "no journeys (*.yml) here")
        raise BlueprintError([none])
    journeys: list[Journey] = []
    problems: list[Problem] = []
    stems = Counter(path.stem for path in paths)
    for path in paths:
        if stems[path.stem] > 1:
            source = Source(path)
            others = [p.name for p in paths if p.stem == path.stem and p != path]
            reason = f"{printable(others[0])} is the same journey; keep one file"
            problems.append(source.problem((), reason))
            continue
        try:
            journeys.append(read_journey(path))
        except BlueprintError as error:
            problems += error.problems
    # a copy that still bears the name of a journey does not stop that journey
    names = {journey.journey for journey in journeys}
    return (
        sorted(journeys, key=lambda journey: (journey.priority, journey.journey)),
        [problem for problem in problems if problem.journey not in names],
    )


def load_journeys(folder: Path) -> list[Journey]:
    """Every journey of a folder, in order of priority.

    Raises:
        BlueprintError: if one of them cannot be used.
    """
    journeys, problems = read_journeys(folder)
    if problems:
        raise BlueprintError(problems)
    return journeys


def needed_contents(journeys: Sequence[Journey]) -> set[tuple[str, Channel]]:
    """Every (content_id, channel) that some step may ask for."""
    return {
        (step.content_for(phase), channel)
        for journey in journeys
        for step in journey.steps
        for phase in PHASES
        for channel in step.channels
    }


JOURNEY_SCHEMA = pl.Schema(
    {
        "journey": pl.String(),
        "version": pl.Int64(),
        "definition_hash": pl.String(),
        "description": pl.String(),
        "message_class": pl.String(),
        "priority": pl.Int64(),
        "holdout_rate": pl.Float64(),
        "entry_intents": pl.List(pl.String),
        "entry_phases": pl.List(pl.String),
        "needs_open_misstep": pl.Boolean(),
        "minimum_order_count": pl.Int64(),
        "entry_within_seconds": pl.Int64(),
        "exits_on_order": pl.Boolean(),
        "exits_on_misstep": pl.Boolean(),
        "exits_on_resolved": pl.Boolean(),
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
        "channel": pl.String(),
        "channel_position": pl.Int64(),
        "uses_next_best_channel": pl.Boolean(),
        "is_escalation": pl.Boolean(),
        "delay_seconds": pl.Int64(),
        "is_delayed_from_entry": pl.Boolean(),
        "wait_for": pl.String(),
        "wait_timeout_seconds": pl.Int64(),
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
    }
)


def journey_frames(journeys: Sequence[Journey]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Lay journeys out as (one row per journey, one row per journey, step, channel).

    `content_ids` holds one content id per phase, in the order of the phases.
    """
    return (
        pl.DataFrame([_journey_row(j) for j in journeys], schema=JOURNEY_SCHEMA),
        pl.DataFrame(
            [row for j in journeys for row in _step_rows(j)], schema=STEP_SCHEMA
        ),
    )


def _journey_row(journey: Journey) -> dict[str, object]:
    return {
        "journey": journey.journey,
        "version": journey.version,
        "definition_hash": journey.definition_hash,
        "description": " ".join(journey.description.split()),
        "message_class": journey.message_class,
        "priority": journey.priority,
        "holdout_rate": journey.holdout,
        "entry_intents": list(journey.entry.intent),
        "entry_phases": list(journey.entry.phase),
        "needs_open_misstep": journey.entry.misstep is not None,
        "minimum_order_count": journey.entry.minimum_orders,
        "entry_within_seconds": _seconds(journey.entry.within),
        "exits_on_order": "order" in journey.exit.when,
        "exits_on_misstep": "misstep" in journey.exit.when,
        "exits_on_resolved": "resolved" in journey.exit.when,
        "expires_after_seconds": _seconds(journey.exit.after),
        "re_eligible_after_seconds": _seconds(journey.re_eligibility),
        "step_count": len(journey.steps),
    }


def _step_rows(journey: Journey) -> list[dict[str, object]]:
    return [
        {
            "journey": journey.journey,
            "step": step.step,
            "step_position": step_position,
            "channel": channel,
            "channel_position": channel_position,
            "uses_next_best_channel": step.next_best_channel,
            "is_escalation": step.escalation,
            "delay_seconds": _seconds(step.delay),
            "is_delayed_from_entry": step.delay_from == "entry",
            "wait_for": step.wait_for.event if step.wait_for else None,
            "wait_timeout_seconds": (
                _seconds(step.wait_for.timeout) if step.wait_for else None
            ),
            "send_time_seconds": (
                _seconds(step.send_time.within) if step.send_time else None
            ),
            "content_ids": [step.content_for(phase) for phase in PHASES],
            "incentive_code": step.incentive.code if step.incentive else None,
            "incentive_percent": step.incentive.percent if step.incentive else None,
            "incentive_valid_seconds": (
                _seconds(step.incentive.valid_for) if step.incentive else None
            ),
            "incentive_maximum_propensity": (
                step.incentive.maximum_purchase_propensity if step.incentive else None
            ),
        }
        for step_position, step in enumerate(journey.steps, start=1)
        for channel_position, channel in enumerate(step.channels, start=1)
    ]


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else int(duration.total_seconds())


def _field(location: Location) -> str:
    """Write a pydantic location as `steps[2].content`."""
    written = ""
    for part in location:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written or "file"
