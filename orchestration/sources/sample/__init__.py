"""The sample world: a simulated shop with known truth, written as landing files."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from orchestration.sources.sample.landing import form_of, write_landing
from orchestration.sources.sample.messages import SEND_SCHEMA
from orchestration.sources.sample.truth import write_day_truth, write_truth
from orchestration.sources.sample.world import World

__all__ = [
    "SEND_SCHEMA",
    "SampleSummary",
    "World",
    "live_day",
    "write_landing",
    "write_sample",
]

LAST_DAY = date(2026, 6, 30)


@dataclass(frozen=True)
class SampleSummary:
    """What a sample holds: events with their doubles, and broken lines besides."""

    customers: int
    days: int
    events: int
    broken_lines: int


def live_day(
    world: World,
    landing: Path,
    truth: Path,
    sends: pl.DataFrame | None = None,
    broadcasts: bool = False,
) -> tuple[int, int]:
    """Live the world's next day and land its events; returns events and broken lines.

    The truth of the day goes to the `truth` folder, which the pipeline never reads.
    """
    day = world.day
    closes_at = world.as_of(day)
    events = world.step(day, sends, broadcasts)
    name = f"{closes_at:%Y/%m}/events-{closes_at:%Y-%m-%d}"
    broken = write_landing(events, landing, name, form_of(day), nth=day)
    write_day_truth(world, truth, f"{closes_at:%Y-%m-%d}")
    return events.height, broken


def write_sample(
    out: Path,
    customers: int = 2_000,
    days: int = 120,
    seed: int = 7,
    *,
    end: date | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSummary:
    """Write `days` of history under the old broadcasts to `out`.

    Events go to `out/landing`, the truth to `out/truth`. The last day ends on `end`.
    `progress` is called after each day: how many are done, and of how many.
    """
    start = (end or LAST_DAY) - timedelta(days=days - 1)
    world = World.create(seed, customers, start)
    events = broken = 0
    for day in range(days):
        counts = live_day(world, out / "landing", out / "truth", broadcasts=True)
        events, broken = events + counts[0], broken + counts[1]
        if progress:
            progress(day + 1, days)
    write_truth(world, out / "truth")
    return SampleSummary(customers, days, events, broken)
