"""Writes what is true of the sample world: beside the landing folder, never in it."""

from pathlib import Path

import numpy as np
import polars as pl

from orchestration.sources.sample.catalogue import CITIES
from orchestration.sources.sample.fragments import gather, text
from orchestration.sources.sample.people import CHANNELS
from orchestration.sources.sample.world import World


def write_truth(world: World, truth: Path) -> None:
    """Who everybody is, and how each channel works on them."""
    people = world.people
    everyone = np.arange(len(people))
    truth.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        {
            "person_id": everyone,
            "user_id": pl.Series(people.user_id),
            "email": pl.Series(people.email),
            "phone": pl.Series(people.phone),
            "loyalty_id": pl.Series(people.loyalty_id),
            "timezone": pl.Series(
                gather(text([place[3] for place in CITIES]), people.city)
            ),
            "browses_from_day": people.browses_from,
            "joins_on_day": people.joins_on,
            "session_rate": people.session_rate,
            "store_rate": people.store_rate,
            "appetite": people.appetite,
            "warmth": people.warmth,
            "is_never_messaged_by_broadcasts": people.is_never_messaged,
        }
    ).write_parquet(truth / "persons.parquet")
    people.identifiers(world.dice, max(world.day - 1, 0)).rename(
        {"person": "person_id"}
    ).write_parquet(truth / "identifiers.parquet")
    pl.DataFrame(
        {
            "person_id": np.repeat(everyone, len(CHANNELS)),
            "channel": list(CHANNELS) * len(people),
            "answer_rate": people.answer_rate.ravel(),
        }
    ).write_parquet(truth / "effects.parquet")


def write_day_truth(world: World, truth: Path, name: str) -> None:
    """The day's orders and messages: what caused what, and what it displaced."""
    for kind, frame in (("orders", world.orders), ("messages", world.messages)):
        folder = truth / kind
        folder.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(folder / f"{name}.parquet")
