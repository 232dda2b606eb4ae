"""What a file may ask of a person: conditions, and the ways in which each holds.

A condition is true of a person where one of its alternatives is: all of its tests that
stand as they are hold, and none of those that are negated. Who they hold of is found in
SQL (`models/decisions`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import chain, product
from math import prod
from typing import Annotated, Literal, Self, TypeGuard

import polars as pl
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from activations.parts import (
    IDENTIFIER_FORM,
    PROPERTY_FORM,
    Count,
    Duration,
    Intent,
    Location,
    Name,
    Part,
    Phase,
    Rate,
    nearest,
)

# A condition of more is no longer read by anybody.
MAX_ALTERNATIVES = 64
PropertyName = Annotated[str, Field(pattern=PROPERTY_FORM)]
EventName = Annotated[str, Field(min_length=1)]
Score = Literal["purchase_propensity", "churn_propensity"]
Reaction = Literal["sent", "opened", "clicked"]
Value = bool | int | float | str
Row = dict[str, object]


def seconds(duration: timedelta | None) -> int | None:
    """A duration in whole seconds."""
    return None if duration is None else int(duration.total_seconds())


class PropertyTest(Part):
    """What a property of an event must be; all that is given must hold."""

    is_: Value | None = Field(default=None, alias="is")
    is_not: Value | None = None
    in_: tuple[Value, ...] | None = Field(default=None, alias="in")
    not_in: tuple[Value, ...] | None = None
    at_least: float | None = None
    at_most: float | None = None
    is_known: bool | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if next(self.comparisons(), None) is None:
            raise ValueError("say what it must be, as `is`, `in` or `at_least`")
        return self

    def property_tests(self, name: str) -> list[Row]:
        """The comparisons of the property of this name, one row each."""
        return [
            {"name": name, "comparison": how, **operands(values)}
            for how, values in self.comparisons()
        ]

    def comparisons(self) -> Iterator[tuple[str, Sequence[Value]]]:
        """Each comparison and the values that it compares with."""
        if self.is_ is not None:
            yield "in", [self.is_]
        if self.is_not is not None:
            yield "not_in", [self.is_not]
        if self.in_ is not None:
            yield "in", self.in_
        if self.not_in is not None:
            yield "not_in", self.not_in
        if self.at_least is not None:
            yield "at_least", [self.at_least]
        if self.at_most is not None:
            yield "at_most", [self.at_most]
        if self.is_known is not None:
            yield ("is_known" if self.is_known else "is_unknown"), []


def operands(values: Sequence[Value]) -> Row:
    """Values as the texts and the numbers with which SQL compares."""
    return {
        "texts": [str(value).lower() for value in values if not is_number(value)],
        "numbers": [float(value) for value in values if is_number(value)],
    }


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number, which yes and no are to Python."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_property(value: object) -> object:
    """Turn one value, or a list of them, into a test."""
    if isinstance(value, list):
        return {"in": value}
    return value if isinstance(value, dict) else {"is": value}


Asked = Annotated[
    PropertyTest,
    BeforeValidator(
        parse_property, json_schema_input_type=Value | tuple[Value, ...] | PropertyTest
    ),
]
Properties = dict[PropertyName, Asked]


class EventPattern(Part):
    """An event that somebody did: its name and what its properties say."""

    event: EventName
    where: Properties = Field(default_factory=dict)

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "event",
            "name": self.event,
            "property_tests": [
                test
                for name, asked in self.where.items()
                for test in asked.property_tests(name)
            ],
        }


class Without(EventPattern):
    """An event that must not follow another one within so long."""

    within: Annotated[Duration, Field(gt=timedelta(0))]


class DidEvent(EventPattern):
    """An event pattern, so often, within a window that ends now.

    `without` names what must not have followed: it holds once its time is over.
    """

    at_least: Count = Field(default=1, ge=1)
    within: Duration | None = None
    without: Without | None = None

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            **super().row(),
            "minimum_count": self.at_least,
            "within_seconds": seconds(self.within),
            "wait_seconds": seconds(self.without.within if self.without else None),
        }


class InAudience(Part):
    """Membership of an audience."""

    audience: Name

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": "audience", "names": [self.audience]}


class HasTrait(PropertyTest):
    """What a column of the profile must be; all that is given must hold."""

    trait: Name
    before: date | None = None
    after: date | None = None
    within: Duration | None = None

    def comparisons(self) -> Iterator[tuple[str, Sequence[Value]]]:
        """Each comparison and the values that it compares with."""
        yield from super().comparisons()
        if self.before is not None:
            yield "before", [self.before.isoformat()]
        if self.after is not None:
            yield "after", [self.after.isoformat()]
        if self.within is not None:
            yield "within", [self.within.total_seconds()]

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "trait",
            "name": self.trait,
            "property_tests": self.property_tests(self.trait),
        }


class HasIdentifier(Part):
    """An identifier that the person has ever had, such as `user_id:123`."""

    identifier: tuple[Annotated[str, Field(pattern=IDENTIFIER_FORM)], ...] = Field(
        min_length=1
    )

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": "identifier", "names": list(self.identifier)}


class HasIntent(Part):
    """What the person is after now."""

    intent: tuple[Intent, ...] = Field(min_length=1)

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": "intent", "names": list(self.intent)}


class InPhase(Part):
    """The phase that the person is in now."""

    phase: tuple[Phase, ...] = Field(min_length=1)

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": "phase", "names": list(self.phase)}


class HasMisstep(Part):
    """Something that went wrong and is not yet put right."""

    misstep: Literal["open"]

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": "misstep"}


class HasScore(Part):
    """How likely something is of the person."""

    score: Score
    at_least: Rate = 0.0
    at_most: Rate = 1.0

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError("at_least is above at_most; nobody has such a score")
        return self

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "score",
            "name": self.score,
            "minimum_value": self.at_least,
            "maximum_value": self.at_most,
        }


class OnDate(Part):
    """The day of a date trait, each year or once, moved by so many days."""

    date: Name
    yearly: bool = False
    days: int = Field(default=0, ge=-180, le=180)

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "date",
            "name": self.date,
            "is_yearly": self.yearly,
            "shift_days": self.days,
        }


class RunsOut(Part):
    """An order that is nearly as old as the product usually lasts.

    That is the median time between two orders of it by one person, once there are
    `minimum_reorders`, and until then what `replenishment` says.
    """

    replenishment: Duration
    minimum_reorders: Count = Field(default=5, ge=1)
    before: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(days=3)

    @model_validator(mode="after")
    def _begins_after_the_order(self) -> Self:
        if self.before >= self.replenishment:
            raise ValueError("before must be shorter than replenishment")
        return self

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "replenishment",
            "minimum_count": self.minimum_reorders,
            "within_seconds": seconds(self.replenishment),
            "wait_seconds": seconds(self.before),
        }


class PriceDrop(Part):
    """A product that was viewed and has become cheaper since, by so many percent."""

    price_drop: Annotated[float, Field(gt=0, lt=100)]
    viewed_within: Duration

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "price_drop",
            "minimum_value": self.price_drop,
            "within_seconds": seconds(self.viewed_within),
        }


class BackInStock(Part):
    """A product that was viewed and has come back since."""

    back_in_stock: Literal[True]
    viewed_within: Duration

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        within = seconds(self.viewed_within)
        return {"kind": "back_in_stock", "within_seconds": within}


def without_zone(moment: datetime) -> datetime:
    """A moment on the clock of whoever it comes to."""
    if moment.tzinfo is not None:
        raise ValueError("leave the zone out; it is the hour on each person's clock")
    return moment


class AtMoment(Part):
    """A set moment, on each person's own clock, and the time in which it counts."""

    at: Annotated[datetime, AfterValidator(without_zone)]
    within: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(days=1)

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "at",
            "begins_at": self.at,
            "within_seconds": seconds(self.within),
        }


class MetMessage(Part):
    """What an earlier message of the journey met with."""

    message: Name
    was: Reaction

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": self.was, "name": self.message}


class All(Part):
    """Every one of these holds."""

    all: tuple["Condition", ...] = Field(min_length=1)


class Any(Part):
    """One of these holds at least."""

    any: tuple["Condition", ...] = Field(min_length=1)


class Not(Part):
    """This does not hold."""

    not_: "Condition" = Field(alias="not")


KINDS: Mapping[str, type[Part]] = {
    "all": All,
    "any": Any,
    "not": Not,
    "event": DidEvent,
    "audience": InAudience,
    "trait": HasTrait,
    "identifier": HasIdentifier,
    "intent": HasIntent,
    "phase": InPhase,
    "misstep": HasMisstep,
    "score": HasScore,
    "date": OnDate,
    "replenishment": RunsOut,
    "price_drop": PriceDrop,
    "back_in_stock": BackInStock,
    "at": AtMoment,
    "message": MetMessage,
}


def kind_of(value: object) -> str | None:
    """The tag of a condition: the first of its fields that names a kind."""
    if isinstance(value, Part):
        return next(f"as_{kind}" for kind, part in KINDS.items() if type(value) is part)
    fields = value if isinstance(value, dict) else {}
    return next((f"as_{field}" for field in fields if field in KINDS), None)


Condition = Annotated[
    Annotated[All, Tag("as_all")]
    | Annotated[Any, Tag("as_any")]
    | Annotated[Not, Tag("as_not")]
    | Annotated[DidEvent, Tag("as_event")]
    | Annotated[InAudience, Tag("as_audience")]
    | Annotated[HasTrait, Tag("as_trait")]
    | Annotated[HasIdentifier, Tag("as_identifier")]
    | Annotated[HasIntent, Tag("as_intent")]
    | Annotated[InPhase, Tag("as_phase")]
    | Annotated[HasMisstep, Tag("as_misstep")]
    | Annotated[HasScore, Tag("as_score")]
    | Annotated[OnDate, Tag("as_date")]
    | Annotated[RunsOut, Tag("as_replenishment")]
    | Annotated[PriceDrop, Tag("as_price_drop")]
    | Annotated[BackInStock, Tag("as_back_in_stock")]
    | Annotated[AtMoment, Tag("as_at")]
    | Annotated[MetMessage, Tag("as_message")],
    Discriminator(
        kind_of,
        custom_error_type="condition",
        custom_error_message=f"a condition names one of {', '.join(KINDS)}",
    ),
]
for part in (All, Any, Not):
    part.model_rebuild()

# The parts of a condition by the field or the tag that holds them.
CONDITION_PARTS: Mapping[str, type[Part]] = {
    **{f"as_{kind}": part for kind, part in KINDS.items()},
    "without": Without,
    "where": PropertyTest,
}
# What pydantic puts into a location that no author wrote.
CONDITION_TAGS = frozenset({"[key]", *(f"as_{kind}" for kind in KINDS)})


class OnArm(Part):
    """An arm of a branch: closed once a message of another arm went out."""

    branch: Name
    arm: Name

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {"kind": "arm", "name": self.branch, "names": [self.arm]}


class Drawn(Part):
    """The part of all draws from 0 to 1 that is one arm of an experiment."""

    experiment: Name
    from_: float
    until: float

    def row(self) -> Row:
        """What is asked, in the columns of the table of conditions."""
        return {
            "kind": "draw",
            "name": self.experiment,
            "minimum_value": self.from_,
            "maximum_value": self.until,
        }


Test = (
    EventPattern
    | DidEvent
    | InAudience
    | HasTrait
    | HasIdentifier
    | HasIntent
    | InPhase
    | HasMisstep
    | HasScore
    | OnDate
    | RunsOut
    | PriceDrop
    | BackInStock
    | AtMoment
    | MetMessage
    | OnArm
    | Drawn
)
Alternative = tuple[tuple[Test, bool], ...]
TraitType = Literal["text", "number", "date", "boolean"]
# The fields by which a trait of each type is compared.
COMPARED_BY: Mapping[TraitType, tuple[str, ...]] = {
    "text": ("is", "is_not", "in", "not_in", "is_known"),
    "number": ("is", "is_not", "in", "not_in", "at_least", "at_most", "is_known"),
    "date": ("before", "after", "within", "is_known"),
    "boolean": ("is", "is_not", "is_known"),
}
FITS: Mapping[TraitType, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": is_number,
    "boolean": lambda value: isinstance(value, bool),
}


@dataclass(frozen=True)
class Vocabulary:
    """All that conditions may name: audiences, traits, types of identifiers."""

    traits: Mapping[str, TraitType]
    identifier_types: Sequence[str]
    audiences: Collection[str] = ()

    def unknown(self, test: Test) -> Iterator[tuple[Location, str]]:
        """What a test names that there is not, or compares as it cannot be."""
        if isinstance(test, InAudience) and test.audience not in self.audiences:
            mend = nearest(test.audience, sorted(self.audiences) or ["none yet"])
            yield (
                ("audience",),
                f"there is no audience {test.audience} that can be used; {mend}",
            )
        elif isinstance(test, HasTrait):
            yield from self._misread(test)
        elif isinstance(test, HasIdentifier):
            for index, identifier in enumerate(test.identifier):
                written = identifier.split(":")[0]
                if written not in self.identifier_types:
                    mend = nearest(written, self.identifier_types)
                    reason = f"there is no type {written} of identifiers; {mend}"
                    yield ("identifier", index), reason

    def _misread(self, test: HasTrait) -> Iterator[tuple[Location, str]]:
        kind = self.traits.get(test.trait)
        if kind is None:
            mend = nearest(test.trait, sorted(self.traits))
            yield ("trait",), f"there is no trait {test.trait}; {mend}"
            return
        said = test.model_dump(by_alias=True, exclude_unset=True, exclude={"trait"})
        for field, value in said.items():
            values = value if isinstance(value, list | tuple) else [value]
            fits = FITS.get(kind)
            if field not in COMPARED_BY[kind]:
                by = ", ".join(COMPARED_BY[kind])
                yield (field,), f"{test.trait} is a {kind}, compared by {by}"
            elif field != "is_known" and fits and not all(map(fits, values)):
                mend = "put it in quotes" if kind == "text" else f"write a {kind}"
                yield (field,), f"{test.trait} is a {kind}; {mend}"


def alternatives(condition: Condition, *, negated: bool = False) -> list[Alternative]:
    """A condition as alternatives, each of them tests and whether they are negated."""
    if isinstance(condition, Not):
        return alternatives(condition.not_, negated=not negated)
    if isinstance(condition, All | Any):
        parts = condition.all if isinstance(condition, All) else condition.any
        inner = [alternatives(part, negated=negated) for part in parts]
        # of all that is negated, one must be missing; of any, all
        if isinstance(condition, Any) != negated:
            return [alternative for part in inner for alternative in part]
        return joined(*inner)
    return [((condition, negated),)]


def joined(*conditions: list[Alternative]) -> list[Alternative]:
    """The alternatives in which every one of these conditions holds.

    Raises:
        ValueError: if there are more than anybody could follow.
    """
    if prod(map(len, conditions)) > MAX_ALTERNATIVES:
        raise ValueError(
            f"the conditions hold in more than {MAX_ALTERNATIVES} ways; "
            "make them simpler"
        )
    return [
        tuple(test for place, test in enumerate(tests) if test not in tests[:place])
        for tests in (tuple(chain(*choice)) for choice in product(*conditions))
    ]


def tests_of(condition: Condition) -> Iterator[tuple[tuple[str | int, ...], Test]]:
    """Each test of a condition, and where it stands in it."""
    if isinstance(condition, Not):
        for location, test in tests_of(condition.not_):
            yield ("not", *location), test
    elif isinstance(condition, All | Any):
        field = "all" if isinstance(condition, All) else "any"
        for index, part in enumerate(getattr(condition, field)):
            for location, test in tests_of(part):
                yield (field, index, *location), test
    else:
        yield (), condition


def condition_rows(condition: list[Alternative], **place: str | None) -> Iterator[Row]:
    """One row per alternative and test of a condition, and one per `without`."""
    for alternative, tests in enumerate(condition, start=1):
        for number, (test, negated) in enumerate(tests, start=1):
            key = {
                **place,
                "alternative": alternative,
                "test": number,
                "is_negated": negated,
            }
            yield {**key, **test.row()}
            if isinstance(test, DidEvent) and test.without:
                yield {**key, **test.without.row(), "kind": "without"}


CONDITION_SCHEMA = pl.Schema(
    {
        "journey": pl.String(),
        "audience": pl.String(),
        "place": pl.String(),
        "step": pl.String(),
        "alternative": pl.Int64(),
        "test": pl.Int64(),
        "is_negated": pl.Boolean(),
        "kind": pl.String(),
        "name": pl.String(),
        "names": pl.List(pl.String),
        "property_tests": pl.List(
            pl.Struct(
                {
                    "name": pl.String,
                    "comparison": pl.String,
                    "texts": pl.List(pl.String),
                    "numbers": pl.List(pl.Float64),
                }
            )
        ),
        "minimum_count": pl.Int64(),
        "within_seconds": pl.Int64(),
        "wait_seconds": pl.Int64(),
        "minimum_value": pl.Float64(),
        "maximum_value": pl.Float64(),
        "is_yearly": pl.Boolean(),
        "shift_days": pl.Int64(),
        "begins_at": pl.Datetime("us"),
    }
)
