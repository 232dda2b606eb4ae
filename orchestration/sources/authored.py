"""What authors keep for a run: audiences and journeys, checked and laid out as tables.

They are replaced by every run, so that models read tables and never a file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import polars as pl
import yaml

from activations.approvals import read_approvals, unapproved
from activations.audiences import Audience, audience_frames, read_audiences
from activations.authoring import read_usable
from activations.blueprint import Journey, journey_frames, problem_frame
from activations.conditions import TraitType, Vocabulary
from activations.reading import Problem
from activations.render import Renderer
from orchestration.links import links_to_show
from orchestration.settings import PROJECT, Settings, wall_clock
from orchestration.warehouse import Connection, replace_table

PROFILES = PROJECT / "models" / "profiles" / "_profiles__profiles.yml"
# Whom these columns mean, or whether somebody is meant, no author decides.
NO_TRAITS = {"profile_id", "is_hub"}
TRAIT_TYPES: Mapping[str, TraitType] = {
    "varchar": "text",
    "date": "date",
    "timestamp": "date",
    "boolean": "boolean",
}


@dataclass(frozen=True)
class Authored:
    """What authors keep: all that can be used, and what sets the rest aside."""

    audiences: Mapping[str, Audience]
    audience_problems: list[Problem]
    journeys: list[Journey]
    journey_problems: list[Problem]

    @property
    def frames(self) -> dict[str, pl.DataFrame]:
        """All of it as tables; a journey that is set aside is in its problems alone."""
        of_audiences = audience_frames(self.audiences, self.audience_problems)
        of_journeys = journey_frames(self.journeys)
        return {
            **of_audiences,
            **of_journeys,
            "conditions": pl.concat(
                [of_journeys["conditions"], of_audiences["conditions"]]
            ),
            "journey_problems": problem_frame(self.journey_problems),
        }


def read_authored(settings: Settings, as_of: datetime | None = None) -> Authored:
    """What authors keep for a home, as of a moment, by default the clock's.

    Raises:
        AuthoredError: if there is no journey file at all.
        ApprovalError: if the approvals cannot be read.
    """
    # the currency of a message is that of the orders; any will do to proofread it
    renderer = Renderer(
        shop_url=settings.shop_url,
        links=links_to_show(settings),
        currency=settings.base_currency or "USD",
        content=settings.content,
        needs_postal_address=settings.live,
    )
    words = known_words(settings)
    audiences, audience_problems = read_audiences(settings.audiences, words)
    words = replace(words, audiences=audiences.keys())
    journeys, problems = read_usable(
        settings.journeys, renderer, words, today=(as_of or wall_clock()).date()
    )
    waiting = list(
        unapproved(
            journeys,
            read_approvals(settings.approvals),
            settings.journeys,
            settings.content,
        )
    )
    names = {problem.name for problem in waiting}
    return Authored(
        audiences,
        audience_problems,
        [journey for journey in journeys if journey.journey not in names],
        [*problems, *waiting],
    )


def known_words(settings: Settings) -> Vocabulary:
    """What conditions may name: every column of a profile, and types of identifiers."""
    types = pl.read_csv(settings.seed("identifier_types"), infer_schema=False)
    return Vocabulary(known_traits(), types["identifier_type"].to_list())


def known_traits() -> dict[str, TraitType]:
    """Each trait of a profile and its type, as the table's contract states them."""
    models = yaml.load(PROFILES.read_text(), yaml.CSafeLoader)["models"]
    (profiles,) = (model for model in models if model["name"] == "profiles")
    return {
        column["name"]: TRAIT_TYPES.get(column["data_type"], "number")
        for column in profiles["columns"]
        if column["name"] not in NO_TRAITS
    }


def bring_authored(connection: Connection, authored: Authored) -> None:
    """Replace the tables of audiences and journeys by what their files hold now."""
    for table, frame in authored.frames.items():
        replace_table(connection, f"raw.{table}", frame)
