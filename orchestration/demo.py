"""The demo: some days of the closed loop, lived in a sample world.

What a run sent, the world reacts to on the next day. Never deletes anything: a home
that is not the demo's is refused.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta

import polars as pl
import typer
from rich.console import Console

from activations.ledger import Ledger
from orchestration.dbt import start_server
from orchestration.resources import dbt_project
from orchestration.run import run_loop
from orchestration.settings import Settings
from orchestration.sources.sample import SEND_SCHEMA, World, live_day
from orchestration.sources.sample.truth import write_truth
from orchestration.terminal import print_frame
from orchestration.warehouse import Warehouse

SEED = 7
HISTORY_DAYS = 100
FIRST_DAY = date(2026, 3, 21)
FOUND = {
    "Where people are": """
        select phase, phase_name, count(*) as profiles
        from decisions.phases group by all order by phase
    """,
    "What was decided, and why": """
        select verdict, reason, count(*) as decisions
        from decisions.decisions
        group by all order by decisions desc, verdict, reason limit 14
    """,
    "What went out": """
        select as_of, channel, count(*) as sends
        from decisions.send_list group by all order by as_of, channel
    """,
    "Which channels earned it": """
        select
            channel,
            sum(revenue_amount) filter (attribution_model = 'last_touch')
                as last_touch,
            sum(revenue_amount) filter (attribution_model = 'linear') as linear,
            sum(revenue_amount) filter (attribution_model = 'markov') as markov
        from attribution.channel_performance
        group by all order by markov desc nulls last, channel
    """,
    "How much we caused": """
        select
            journey,
            treated_count as treated,
            control_count as control,
            round(incremental_lift, 3) as lift,
            round(lift_low, 3) as low,
            round(lift_high, 3) as high,
            waiting_count as waiting,
            unknown_reason as unknown
        from attribution.lift order by journey
    """,
}


class NotADemoHomeError(Exception):
    """The home holds something that the demo did not make."""


def live(settings: Settings, days: int, customers: int) -> None:
    """Live `days` days of the closed loop, in a new world or where it stopped.

    Raises:
        NotADemoHomeError: if the home holds anything else; nothing was touched then.
        RunFailedError: if a run of the loop failed; call again to go on.
    """
    world = open_world(settings, customers)
    with ThreadPoolExecutor() as beside:
        prepared = beside.submit(prepare, settings)
        write_history(world, settings)
        prepared.result()
    catch_up(world, settings)
    for _ in range(days):
        closes_at = naive(world.as_of(world.day))
        sends = read_sends(settings, closes_at)
        lived, _broken = live_day(
            world, settings.landing, settings.root / "truth", sends
        )
        world.save(settings.demo_marker)
        say(f"{closes_at:%Y-%m-%d}: {sends.height} sends met, {lived:,} events landed")
        run_loop(settings, closes_at)
    write_truth(world, settings.root / "truth")
    report(settings)


def open_world(settings: Settings, customers: int) -> World:
    """The world of this home, made anew if the home is empty."""
    if settings.demo_marker.exists():
        return World.load(settings.demo_marker)
    if any(path.is_file() for path in settings.root.rglob("*")):
        raise NotADemoHomeError(
            f"{settings.root} is not a demo home; "
            "set REKINDLE_HOME to a new folder, or remove this one yourself"
        )
    settings.root.mkdir(parents=True, exist_ok=True)
    world = World.create(SEED, customers, FIRST_DAY)
    world.save(settings.demo_marker)
    return world


def write_history(world: World, settings: Settings) -> None:
    """Land the days before the demo, in which the shop broadcast to everybody."""
    if world.day >= HISTORY_DAYS:
        return
    say(f"a sample world of {world.customers:,} customers, {HISTORY_DAYS} days old")
    with typer.progressbar(
        length=HISTORY_DAYS, label="  living its history", file=sys.stderr
    ) as bar:
        bar.update(world.day)
        while world.day < HISTORY_DAYS:
            live_day(world, settings.landing, settings.root / "truth", broadcasts=True)
            bar.update(1)
    world.save(settings.demo_marker)


def prepare(settings: Settings) -> None:
    """Parse the models and compile the kernels, each in a process of its own."""
    start_server()
    subprocess.run([sys.executable, "-m", "ml.warm_up"], check=True)
    dbt_project(settings)


def catch_up(world: World, settings: Settings) -> None:
    """Run over the last lived day, if an earlier call stopped before its run ended."""
    last = naive(world.as_of(world.day - 1))
    if world.day > HISTORY_DAYS and last_finished(settings) < last:
        say(f"{last:%Y-%m-%d}: its run had not finished")
        run_loop(settings, last)


def last_finished(settings: Settings) -> datetime:
    """The `as_of` that the published copy shows; the beginning of time without one."""
    if not settings.published.exists():
        return datetime.min
    published = Warehouse(settings.published)
    moment: datetime = published.read("select as_of from raw.current_run").item()
    return moment


def read_sends(settings: Settings, closes_at: datetime) -> pl.DataFrame:
    """What the run a day earlier sent, as the world takes it."""
    sent_at = closes_at - timedelta(days=1)
    with Ledger(settings.ledger) as ledger:
        receipts = ledger.receipts_before(closes_at)
    return receipts.filter(pl.col("sent_at") == sent_at).select(*SEND_SCHEMA)


def naive(moment: datetime) -> datetime:
    """A UTC moment as the warehouse writes it."""
    return moment.replace(tzinfo=None)


def say(line: str) -> None:
    """Print on stderr how far the demo has come."""
    typer.echo(line, err=True)


def report(settings: Settings) -> None:
    """Print what the loop found, and where to look."""
    console = Console()
    warehouse = Warehouse.of(settings)
    for title, query in FOUND.items():
        print_frame(console, title, warehouse.read(query))
    console.print(
        f"Report:   {settings.report / 'index.html'}\n"
        f"Messages: {settings.outbox}\n"
        f"Tables:   {settings.published} (read-only copy)\n"
        "Lineage, charts and checks: rekindle ui",
        highlight=False,
        soft_wrap=True,
    )
