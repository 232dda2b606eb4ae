"""`rekindle …`: each command checks its input, calls one function, says what came."""

import os
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestration.settings import PROJECT, Settings, parse_moment

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def describe_settings() -> str:
    """The settings as lines of help text."""
    return "\n\n".join(
        f"REKINDLE_{name.upper()}: {field.description}"
        + (f" (default {field.default})" if field.default is not None else "")
        for name, field in Settings.model_fields.items()
    )


@app.callback(
    help="Wins customers back: raw events in, the next right message out.\n\n"
    "Settings, from the environment or .env:\n\n" + describe_settings()
)
def rekindle() -> None:
    """Hold the commands together."""


def fail(reason: object) -> NoReturn:
    """End with one clear line on stderr."""
    typer.echo(f"rekindle: {reason}", err=True)
    raise typer.Exit(1)


def parse_as_of(text: str | None) -> datetime | None:
    """The moment given on the command line, if any."""
    if text is None:
        return None
    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="TS", help="UTC ISO 8601; default: the wall clock"),
]


@app.command()
def run(as_of: AsOf = None) -> None:
    """Run the whole loop once over what has landed."""
    from orchestration.run import RunFailedError, run_loop

    try:
        run_loop(Settings(), parse_as_of(as_of))
    except RunFailedError as error:
        fail(error)


@app.command()
def demo(
    days: Annotated[
        int, typer.Option(min=1, help="days to live in the sample world")
    ] = 3,
    customers: Annotated[
        int, typer.Option(min=50, help="customers of a new sample world")
    ] = 1500,
) -> None:
    """Live some days of the closed loop in a sample world."""
    from orchestration.demo import NotADemoHomeError, live
    from orchestration.run import RunFailedError

    try:
        live(Settings(), days=days, customers=customers)
    except (NotADemoHomeError, RunFailedError) as error:
        fail(error)


@app.command()
def sample(
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    customers: Annotated[int, typer.Option(min=1)] = 2000,
    days: Annotated[int, typer.Option(min=1)] = 120,
    seed: Annotated[int, typer.Option()] = 1,
    end: Annotated[
        str, typer.Option(metavar="DATE", help="the world's last day")
    ] = "2026-06-30",
) -> None:
    """Write a sample world as landing files, its truth beside them."""
    from orchestration.sources.sample import write_sample

    try:
        last_day = date.fromisoformat(end)
    except ValueError:
        raise typer.BadParameter(f"{end!r} is not a date, e.g. 2026-06-30") from None
    if out.exists() and any(out.iterdir()):
        fail(f"{out} is not empty; name a new folder")
    summary = write_sample(out, customers=customers, days=days, seed=seed, end=last_day)
    typer.echo(
        f"{summary.events:,} events and {summary.broken_lines:,} broken lines "
        f"in {out / 'landing'}, the truth in {out / 'truth'}"
    )


@app.command()
def real(
    households: Annotated[
        int | None, typer.Option(min=1, help="take only so many households")
    ] = None,
) -> None:
    """Land the dunnhumby Complete Journey, real grocery baskets and mailings."""
    from orchestration.sources.complete_journey import (
        ExtraMissingError,
        write_complete_journey,
    )

    try:
        summary = write_complete_journey(Settings().landing, households=households)
    except ExtraMissingError as error:
        fail(error)
    typer.echo(
        f"{summary.households:,} households: {summary.orders:,} orders, "
        f"{summary.mailings:,} mailings, {summary.redemptions:,} redemptions"
    )


@app.command()
def unmerge(
    identifier: Annotated[str, typer.Argument(help="value, or type:value")],
    other: Annotated[str, typer.Argument(help="what is another person's")],
    reason: Annotated[str, typer.Option(help="why, for who reads the rule")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="report only; write no rule")
    ] = False,
) -> None:
    """Part two identifiers that are not one person, and tell what the merge touched."""
    from rich.console import Console

    from orchestration.sources.run_inputs import IDENTITY_RULES
    from orchestration.terminal import print_frame
    from orchestration.unmerge import UnmergeError, deny, find_identifier, part
    from orchestration.warehouse import DatabaseError, Warehouse

    console = Console()
    try:
        with Warehouse(Settings().warehouse).connect(read_only=True) as connection:
            one = find_identifier(connection, identifier)
            another = find_identifier(connection, other)
            for title, frame in part(connection, one, another).items():
                print_frame(console, title, frame)
        if not dry_run:
            deny(IDENTITY_RULES, one, another, reason)
            typer.echo(f"{IDENTITY_RULES} denies that {one} and {another} are one; ")
            typer.echo("commit it; the next run parts them, in all of history")
    except (UnmergeError, DatabaseError) as error:
        fail(error)


@app.command()
def check() -> None:
    """Proofread journeys and their content; a run sets aside what has mistakes."""
    from activations.blueprint import BlueprintError
    from orchestration.sources.run_inputs import usable_journeys

    try:
        journeys, problems = usable_journeys(Settings())
    except BlueprintError as error:
        fail(error)
    for problem in problems:
        typer.echo(str(problem))
    names = {problem.journey for problem in problems}
    if names:
        fail(f"set aside until mended: {', '.join(sorted(names))}")
    typer.echo(f"{len(journeys)} journeys, no mistakes")


@app.command()
def retry(
    send_id: Annotated[str | None, typer.Argument(help="a dead send")] = None,
    reason: Annotated[
        str | None, typer.Option(help="all dead sends whose reason begins like this")
    ] = None,
) -> None:
    """Have dead sends tried again by the next run; alone, list why they are dead."""
    from rich.console import Console

    from activations.ledger import Ledger, LedgerError
    from orchestration.resources import home_lock
    from orchestration.terminal import print_frame
    from orchestration.warehouse import DatabaseError, Warehouse

    settings = Settings()
    if not settings.ledger.exists():
        fail(f"nothing was ever sent from {settings.root}")
    try:
        with home_lock(settings), Ledger(settings.ledger) as ledger:
            if send_id is None and reason is None:
                print_frame(Console(), "dead sends", ledger.dead())
                return
            newest = Warehouse(settings.warehouse).read(
                "select max(as_of) as as_of from raw.runs"
            )
            retried = ledger.retry(
                send_id=send_id, reason=reason, as_of=newest["as_of"].item()
            )
    except (DatabaseError, LedgerError) as error:
        fail(error)
    if not retried:
        fail("no dead send is of this id or reason; rekindle retry lists the reasons")
    typer.echo(
        f"{len(retried)} to be tried again by the next run, where no rule stands "
        "against it by then"
    )


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def dbt(context: typer.Context) -> None:
    """Run dbt on this home: whatever dbt takes may follow."""
    from orchestration.dbt import dbt_command
    from orchestration.resources import home_lock

    settings = Settings()
    arguments = context.args or ["--help"]
    with home_lock(settings):
        finished = subprocess.run(dbt_command(settings, *arguments), check=False)
    raise typer.Exit(finished.returncode)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="port on this machine")] = 3000,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
) -> None:
    """Open the Dagster UI and scheduler on this home."""
    from orchestration.run import prepare_instance

    settings = Settings()
    prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    dagster = Path(sys.executable).parent / "dagster"
    arguments = ["dev", "-w", str(PROJECT / "workspace.yaml")]
    os.execv(dagster, [str(dagster), *arguments, "-h", host, "-p", str(port)])


if __name__ == "__main__":
    app()
