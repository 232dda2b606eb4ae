"""Journeys as marketers write them: read from YAML, checked, and laid out as tables.

Knows nothing of who is due what: that is decided in SQL (`models/decisions`).
"""

import hashlib
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

import polars as pl
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

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


class BlueprintError(ValueError):
    """A journey file that cannot be used; the message names the file and the field."""


def parse_duration(value: object) -> object:
    """Turn `30m`, `4h` or `2d` into a timedelta; leave anything else to pydantic."""
    if not isinstance(value, str):
        raise ValueError("write a duration as 30m, 4h or 2d")
    written = re.fullmatch(r"(\d+)([mhd])", value)
    if written is None:
        raise ValueError(f"'{value}' is no duration; write 30m, 4h or 2d")
    return timedelta(**{UNITS[written[2]]: int(written[1])})


def parse_re_eligibility(value: object) -> object:
    """Turn `never` into None, anything else into a timedelta."""
    return None if value == "never" else parse_duration(value)


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Rate = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A piece of a journey; an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(Part):
    """Who may begin: all of the conditions given must hold at the same `as_of`."""

    intent: tuple[Intent, ...] = ()
    phase: tuple[Phase, ...] = ()
    misstep: Literal["open"] | None = None
    minimum_orders: int = Field(default=0, ge=0)
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

    code: Annotated[str, Field(pattern=r"^[A-Z0-9]+$")]
    percent: int = Field(gt=0, lt=100)
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
    content: Name | dict[Phase | Literal["default"], Name]
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
    version: int = Field(ge=1)
    message_class: Literal["marketing", "transactional"]
    priority: int = Field(ge=1)
    holdout: Rate = 0.0
    entry: Entry
    exit: Exit
    re_eligibility: Annotated[timedelta | None, BeforeValidator(parse_re_eligibility)]
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = Counter(step.step for step in self.steps)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise ValueError(f"two steps are called {twice[0]}")
        if self.steps[0].escalation:
            raise ValueError("the first step has nothing to escalate from")
        # one enrollment at a time: who comes back has left before
        if self.re_eligibility is not None and self.re_eligibility < self.exit.after:
            raise ValueError("re_eligibility must not be shorter than exit.after")
        return self

    @property
    def definition_hash(self) -> str:
        """Changes whenever anything in the file that steers a decision changes."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_journey(path: Path) -> Journey:
    """Read one journey file; raise BlueprintError naming the file and each field."""
    try:
        journey = Journey.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except yaml.YAMLError as error:
        raise BlueprintError(f"{path.name}: not YAML: {error}") from error
    except ValidationError as error:
        lines = [
            f"{path.name}: {_field(problem['loc'])}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise BlueprintError("\n".join(lines)) from error
    if journey.journey != path.stem:
        raise BlueprintError(
            f"{path.name}: journey: is called {journey.journey}, "
            f"so the file must be {journey.journey}.yml"
        )
    return journey


def load_journeys(folder: Path) -> list[Journey]:
    """Read every journey of a folder, in order of priority."""
    paths = sorted(folder.glob("*.yml"))
    if not paths:
        raise BlueprintError(f"{folder}: no journeys (*.yml) here")
    journeys = [read_journey(path) for path in paths]
    return sorted(journeys, key=lambda journey: (journey.priority, journey.journey))


def needed_contents(journeys: list[Journey]) -> set[tuple[str, Channel]]:
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


def journey_frames(journeys: list[Journey]) -> tuple[pl.DataFrame, pl.DataFrame]:
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


def _field(location: tuple[int | str, ...]) -> str:
    """Write a pydantic location as `steps[2].content`."""
    written = ""
    for part in location:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f".{part}" if written else part
    return written or "file"
