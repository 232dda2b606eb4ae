"""Audiences as marketers write them: read from YAML, checked, and laid out as tables.

Who belongs to one is found in SQL (`models/profiles/audience_members.sql`).
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import polars as pl
from pydantic import Field, model_validator

from activations.conditions import (
    CONDITION_PARTS,
    CONDITION_SCHEMA,
    CONDITION_TAGS,
    KINDS,
    All,
    Alternative,
    Any,
    Condition,
    DidEvent,
    HasIdentifier,
    HasIntent,
    HasMisstep,
    HasTrait,
    InAudience,
    Not,
    Vocabulary,
    alternatives,
    condition_rows,
    tests_of,
)
from activations.parts import Name, Part
from activations.reading import Contradiction, Kind, Problem, Source, authored_files

# What is known of people before they are scored and written to.
ASKED = (DidEvent, InAudience, HasTrait, HasIdentifier, HasIntent, HasMisstep)


class Audience(Part):
    """A group of people: all of whom a condition holds as of a run."""

    audience: Name
    owner: str = Field(min_length=1)
    description: str = Field(min_length=1)
    when: Condition

    @model_validator(mode="after")
    def _can_be_followed(self) -> Self:
        alternatives(self.when)
        return self

    @property
    def named(self) -> set[str]:
        """The audiences that this one is made of."""
        return {
            test.audience
            for _, test in tests_of(self.when)
            if isinstance(test, InAudience)
        }


def contradictions(audience: Audience) -> Iterator[Contradiction]:
    """Each test that no audience can ask."""
    for location, test in tests_of(audience.when):
        here = ("when", *location)
        if not isinstance(test, ASKED):
            kind = next(name for name, part in KINDS.items() if type(test) is part)
            asked = [name for name, part in KINDS.items() if part in ASKED]
            yield (
                (*here, kind),
                f"an audience is found before {kind} is known; ask it in the journey, "
                f"or name one of {', '.join(asked)}",
            )
        elif isinstance(test, DidEvent) and test.without:
            yield (
                (*here, "without"),
                "an audience has no entry from which to wait; write "
                "all: [{event: …}, {not: {event: …}}]",
            )


AUDIENCES = Kind(
    field="audience",
    model=Audience,
    parts=CONDITION_PARTS,
    tags=CONDITION_TAGS,
    contradictions=contradictions,
)


def read_audiences(
    folder: Path, vocabulary: Vocabulary
) -> tuple[dict[str, Audience], list[Problem]]:
    """The audiences of a folder that can be used, by name, and what spoils others.

    What is made of an audience that is spoilt is spoilt itself.
    """
    read, problems = AUDIENCES.read_folder(folder)
    known = Vocabulary(vocabulary.traits, vocabulary.identifier_types, read.keys())
    sources = {path.stem: Source(path) for path in authored_files(folder)}
    waiting: dict[str, Audience] = {}
    for name, audience in read.items():
        sources[name].read()
        spoilt = [
            sources[name].problem(("when", *location, *field), reason)
            for location, test in tests_of(audience.when)
            for field, reason in known.unknown(test)
        ]
        problems += spoilt
        if not spoilt:
            waiting[name] = audience
    usable: dict[str, Audience] = {}
    while ready := [
        name for name, audience in waiting.items() if audience.named <= usable.keys()
    ]:
        for name in ready:
            audience = waiting.pop(name)
            try:
                ways(audience, usable)
            except ValueError as error:
                problems.append(sources[name].problem(("when",), str(error)))
            else:
                usable[name] = audience
    for name, audience in waiting.items():
        for location, test in tests_of(audience.when):
            if isinstance(test, InAudience) and test.audience not in usable:
                reason = f"{test.audience} is set aside, or is made of itself; mend it"
                place = ("when", *location, "audience")
                problems.append(sources[name].problem(place, reason))
    return usable, problems


def ways(audience: Audience, audiences: Mapping[str, Audience]) -> list[Alternative]:
    """The ways into an audience, those that it is made of in place of their names.

    Raises:
        ValueError: if there are more than anybody could follow.
    """

    def inlined(condition: Condition) -> Condition:
        if isinstance(condition, Not):
            return condition.model_copy(update={"not_": inlined(condition.not_)})
        if isinstance(condition, All):
            return condition.model_copy(
                update={"all": tuple(map(inlined, condition.all))}
            )
        if isinstance(condition, Any):
            return condition.model_copy(
                update={"any": tuple(map(inlined, condition.any))}
            )
        if isinstance(condition, InAudience):
            return inlined(audiences[condition.audience].when)
        return condition

    return alternatives(inlined(audience.when))


AUDIENCE_SCHEMA = pl.Schema(
    {
        "audience": pl.String(),
        "owner": pl.String(),
        "description": pl.String(),
        "mistake": pl.String(),
    }
)


def audience_frames(
    audiences: Mapping[str, Audience], problems: Sequence[Problem]
) -> dict[str, pl.DataFrame]:
    """Lay audiences out as tables: a row each, also of those set aside; conditions."""
    mistakes: dict[str, list[str]] = {}
    for problem in problems:
        mistakes.setdefault(problem.name, []).append(str(problem))
    rows: list[dict[str, object]] = [
        {
            "audience": name,
            "owner": audience.owner,
            "description": " ".join(audience.description.split()),
        }
        for name, audience in audiences.items()
    ]
    rows += [
        {"audience": name, "mistake": "; ".join(said)}
        for name, said in mistakes.items()
    ]
    conditions = [
        row
        for name, audience in audiences.items()
        for row in condition_rows(
            ways(audience, audiences), audience=name, place="audience"
        )
    ]
    return {
        "audiences": pl.DataFrame(rows, schema=AUDIENCE_SCHEMA),
        "conditions": pl.DataFrame(conditions, schema=CONDITION_SCHEMA),
    }
