"""Which moment a run looks from, and whether all that it reads was built for that one.

The moment is the run's, not an asset's: whichever assets it builds look from it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from activations.channels import CHANNELS
from orchestration.settings import Settings, parse_moment, wall_clock
from orchestration.sources.run_inputs import refuse_future
from orchestration.warehouse import Connection, Warehouse, fetch_frame, has_table

if TYPE_CHECKING:
    from dagster import DagsterRun

LAND = "land"
SENDING = {f"activations__{channel}" for channel in CHANNELS}
# the same for every moment
SEEDS = "seeds"

BUILT_TABLES = """
    create table if not exists raw.built_tables (table_name varchar, as_of timestamp)
"""
STATE_IT = "`resources: {home: {config: {as_of: …}}}` in the UI's launchpad"


class DemoClockError(Exception):
    """A demo home was to be run at the wall clock, months after all that it holds."""


class MixedMomentsError(Exception):
    """A run of some assets would build tables from tables of another moment."""


def choose_as_of(
    settings: Settings,
    stated: str | None,
    steps: set[str] | None,
    *,
    may_be_future: bool,
) -> datetime:
    """The moment of a run: as stated, else the clock, else that of what it reads.

    `steps` are the names of those that the run executes, none for all. A run that
    lands looks from the clock, read here once; any other adds to what the last landing
    began. What goes out is judged by the hour, so it is never sent for a moment that
    has passed since and that nobody stated.

    Raises:
        DemoClockError: if a demo home were run at the clock.
        FutureError: if the moment is to come.
        MixedMomentsError: if it would send for the moment of an earlier run unstated.
        DatabaseError: if nothing was ever landed that the run could add to.
    """
    if stated:
        as_of = parse_moment(stated)
    elif steps is None or LAND in steps:
        if settings.demo_marker.exists():
            raise DemoClockError(
                f"{settings.root} is a demo home: it lives in its own calendar, not "
                "today. Go on with `rekindle demo`, or state the moment: `rekindle run "
                f"--as-of …`, or {STATE_IT}"
            )
        as_of = wall_clock()
    else:
        as_of = landed_as_of(Warehouse.of(settings))
        if not SENDING.isdisjoint(steps):
            raise MixedMomentsError(
                "what goes out is judged by the hour, and this run lands nothing: "
                f"start the job `loop`, or state {as_of.isoformat()}Z, the moment of "
                f"the tables that it reads, as {STATE_IT}"
            )
    if not may_be_future:
        refuse_future(settings, as_of)
    return as_of


def landed_as_of(warehouse: Warehouse) -> datetime:
    """The moment that the last landing was for."""
    moment: datetime = warehouse.read("select as_of from raw.current_run").item()
    return moment


def refuse_mixture(
    warehouse: Warehouse,
    graph: "dg.AssetGraph",
    built: set[dg.AssetKey],
    as_of: datetime,
) -> None:
    """Refuse to build assets from tables of another moment that the run leaves as is.

    Raises:
        MixedMomentsError: naming the tables, and the moment that they were built for.
    """
    parents = {
        parent
        for key in built
        for parent in graph.get(key).parent_keys - built
        if parent.path[0] != SEEDS
    }
    if not parents:
        return
    moments = {}
    if warehouse.path.exists():
        with warehouse.connect(read_only=True) as connection:
            moments = moments_of(connection)
    names = sorted(".".join(parent.path) for parent in parents)
    others = {name: moments.get(name) for name in names if moments.get(name) != as_of}
    if others:
        name, moment = next(iter(others.items()))
        was = f"was built for {moment.isoformat()}Z" if moment else "was never built"
        more = f" (and {len(others) - 1} more like it)" if len(others) > 1 else ""
        raise MixedMomentsError(
            f"{name}{more} {was}, and this run looks from {as_of.isoformat()}Z: "
            "build all of them in one run, by the job `loop`, or state another moment, "
            f"as {STATE_IT}"
        )


def built_assets(run: "DagsterRun", graph: "dg.AssetGraph") -> set[dg.AssetKey]:
    """The assets that a run builds: all, those selected, or those left of another."""
    steps = run.step_keys_to_execute
    return {
        key
        for key in run.asset_selection or graph.materializable_asset_keys
        if steps is None or graph.get(key).assets_def.node_def.name in steps
    }


def moments_of(connection: Connection) -> dict[str, datetime]:
    """The moment for which each table was built last."""
    if not has_table(connection, "raw", "built_tables"):
        return {}
    rows = fetch_frame(connection, "select table_name, as_of from raw.built_tables")
    return dict(rows.iter_rows())


def record_built(
    connection: Connection, keys: Iterable[dg.AssetKey], as_of: datetime
) -> None:
    """Record the moment for which tables were just built."""
    names = [".".join(key.path) for key in keys]
    connection.execute(BUILT_TABLES)
    rows = pl.DataFrame({"table_name": names}).with_columns(
        as_of=pl.lit(as_of, pl.Datetime("us"))
    )
    connection.register("just_built", rows.to_arrow())
    connection.execute(
        "delete from raw.built_tables "
        "where table_name in (select table_name from just_built)"
    )
    connection.execute("insert into raw.built_tables select * from just_built")
    connection.unregister("just_built")
