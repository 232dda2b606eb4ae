"""`rekindle …`: each command checks its input, calls one function, says what came."""

import json
import os
import sys
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestration.one_line import CommandError, OneLineGroup
from orchestration.processes import heed_signals, run_to_the_end
from orchestration.settings import END, EPOCH, MAX_DAYS, Settings, parse_moment

ASKS_FOR_HELP = {"--help", "-h", "--version", "-V"}

app = typer.Typer(
    cls=OneLineGroup,
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
    heed_signals()


def fail(reason: object) -> NoReturn:
    """End with one clear line on stderr."""
    raise CommandError(reason) from None


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


AsJson = Annotated[
    bool, typer.Option("--json", help="print one JSON object, for programs")
]


def print_json(content: object) -> None:
    """Print for a program; amounts and moments as text."""
    typer.echo(json.dumps(content, default=str, ensure_ascii=False))


@app.command()
def run(
    as_of: AsOf = None,
    *,
    allow_future: Annotated[
        bool,
        typer.Option(
            "--allow-future",
            help="look from a moment to come; runs before it then send nothing",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole loop once over what has landed; print what it did."""
    from rich.console import Console

    from orchestration.run import RunFailedError, run_loop
    from orchestration.summary import print_summary, summarise

    settings = Settings()
    try:
        run_id = run_loop(settings, parse_as_of(as_of), allow_future=allow_future)
        summary = summarise(settings, run_id)
    except RunFailedError as error:
        fail(error)
    if as_json:
        print_json(summary.as_dict())
    else:
        print_summary(Console(), summary)


@app.command("dry-run")
def dry_run(as_of: AsOf = None, *, as_json: AsJson = False) -> None:
    """Decide as a run would, and send nothing; print what would go out."""
    from rich.console import Console

    from orchestration.run import RunFailedError, run_loop
    from orchestration.summary import print_summary, summarise

    settings = Settings()
    try:
        run_id = run_loop(settings, parse_as_of(as_of), dry_run=True)
        summary = summarise(settings, run_id)
    except RunFailedError as error:
        fail(error)
    if as_json:
        print_json(summary.as_dict())
    else:
        print_summary(Console(), summary)


@app.command()
def backtest(
    journey: Annotated[
        str, typer.Argument(help="the name of a journey, or a file of one")
    ],
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="TS", help="default: seven days before the end"),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TS", help="default: the newest run")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="REF", help="compare with the file at a git revision"),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="one run of each period only, like 1d"),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Make past runs again with a journey, send nothing; print what would differ."""
    from activations.parts import parse_duration
    from activations.reading import AuthoredError
    from orchestration.backtest import BacktestError
    from orchestration.backtest import backtest as try_journey
    from orchestration.warehouse import DatabaseError

    try:
        period = parse_duration(every) if every else None
    except ValueError as error:
        raise typer.BadParameter(f"--every: {error}") from None
    try:
        found = try_journey(
            Settings(),
            journey,
            since=parse_as_of(since),
            until=parse_as_of(until),
            against=against,
            every=period,
            report=lambda line: typer.echo(line, err=True),
        )
    except (AuthoredError, BacktestError, DatabaseError) as error:
        fail(error)
    if as_json:
        print_json(found.as_dict())
    else:
        for line in found.lines():
            typer.echo(line)


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
    days: Annotated[int, typer.Option(min=1, max=MAX_DAYS)] = 120,
    seed: Annotated[int, typer.Option()] = 1,
    end: Annotated[
        str, typer.Option(metavar="DATE", help="the world's last day")
    ] = "2026-06-30",
    *,
    as_json: AsJson = False,
) -> None:
    """Write a sample world as landing files, its truth beside them."""
    from orchestration.sources.sample import write_sample

    try:
        last_day = date.fromisoformat(end)
    except ValueError:
        raise typer.BadParameter(f"{end!r} is not a date, e.g. 2026-06-30") from None
    if not EPOCH.toordinal() <= last_day.toordinal() - days < END.toordinal() - days:
        raise typer.BadParameter(f"{end!r} and {days} days leave the times of events")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(f"{out} is not empty; name a new folder")
    summary = write_sample(out, customers=customers, days=days, seed=seed, end=last_day)
    if as_json:
        print_json(asdict(summary))
        return
    typer.echo(
        f"{summary.events:,} events and {summary.broken_lines:,} broken lines "
        f"in {out / 'landing'}, the truth in {out / 'truth'}"
    )


@app.command()
def real(
    households: Annotated[
        int | None, typer.Option(min=1, help="take only so many households")
    ] = None,
    as_json: AsJson = False,
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
    if as_json:
        print_json(asdict(summary))
        return
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
    as_json: AsJson = False,
) -> None:
    """Part two identifiers that are not one person; list what the merge touched."""
    from rich.console import Console

    from orchestration.terminal import print_frame
    from orchestration.unmerge import UnmergeError, deny, find_identifier, part
    from orchestration.warehouse import DatabaseError, Warehouse

    console = Console()
    try:
        settings = Settings()
        with Warehouse.of(settings).connect(read_only=True) as connection:
            one = find_identifier(connection, identifier)
            another = find_identifier(connection, other)
            touched = part(connection, one, another)
        if as_json:
            print_json({title: frame.to_dicts() for title, frame in touched.items()})
        else:
            for title, frame in touched.items():
                print_frame(console, title, frame)
        if not dry_run:
            rules = deny(settings, one, another, reason)
            if not as_json:
                typer.echo(f"{rules} denies that {one} and {another} are one; ")
                typer.echo("the next run parts them, in all of history")
    except (UnmergeError, DatabaseError) as error:
        fail(error)


@app.command()
def report(
    *,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="print where it is, and open nothing")
    ] = False,
) -> None:
    """Open the report of the newest run in the browser."""
    import webbrowser

    path = Settings().report / "index.html"
    if not path.exists():
        fail(f"{path} is not there: `rekindle run` makes it")
    if no_open or not webbrowser.open(path.as_uri()):
        typer.echo(path)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say how fresh, able and sound the home is; exit 1 where it needs a hand."""
    from orchestration.doctor import examine, in_words
    from orchestration.warehouse import DatabaseError

    try:
        health = examine(Settings())
    except DatabaseError as error:
        fail(error)
    if as_json:
        print_json(health.as_dict())
    else:
        for line in in_words(health):
            typer.echo(line)
    if health.troubles:
        typer.echo(f"rekindle: needs a hand: {len(health.troubles)}", err=True)
        raise typer.Exit(1)


@app.command()
def why(
    person: Annotated[
        str, typer.Argument(help="identifier (value or type:value) or profile id")
    ],
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Say what was decided for a person, by which rules and on what evidence."""
    from orchestration.warehouse import DatabaseError, Warehouse
    from orchestration.why import WhyError, explain, in_words

    moment = parse_as_of(as_of)
    try:
        with Warehouse.of(Settings()).connect(read_only=True) as connection:
            answer = explain(connection, person, moment)
    except (WhyError, DatabaseError) as error:
        fail(error)
    if as_json:
        print_json(answer.as_dict())
    else:
        for line in in_words(answer):
            typer.echo(line)


@app.command()
def export(
    person: Annotated[
        str, typer.Argument(help="identifier (value or type:value) or profile id")
    ],
    out: Annotated[Path, typer.Option(help="a new folder outside the home")] = Path(
        "export"
    ),
    as_json: AsJson = False,
) -> None:
    """Write all that the home holds of a person, as JSON and as a page to read."""
    from orchestration.export import ExportError, write_export
    from orchestration.export import export as gather
    from orchestration.warehouse import DatabaseError
    from orchestration.why import WhyError

    settings = Settings()
    try:
        exported = gather(settings, person)
        written = write_export(settings, exported, out)
    except (ExportError, WhyError, DatabaseError) as error:
        fail(error)
    if as_json:
        print_json({"row_count": exported.row_count, "files": written})
    else:
        typer.echo(f"{exported.row_count:,} rows in {' and '.join(map(str, written))}")


@app.command()
def erase(
    person: Annotated[
        str, typer.Argument(help="identifier (value or type:value) or profile id")
    ],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="list what holds them; write nothing"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person from the home, for good; only that they were stays known."""
    from orchestration.erase import erase as forget
    from orchestration.erasure_plan import EraseError
    from orchestration.warehouse import DatabaseError
    from orchestration.why import WhyError

    settings = Settings()
    try:
        erased = forget(settings, person, dry_run=dry_run)
    except (EraseError, WhyError, DatabaseError) as error:
        fail(error)
    if as_json:
        print_json(erased.as_dict())
    else:
        for place, count in erased.found.items():
            typer.echo(f"{place}: {count}")
        for path, problem in erased.left.items():
            typer.echo(f"left to you: {path} {problem}")
        for backup in erased.backups or ["backups of this home, if there are any"]:
            typer.echo(f"cannot be reached from here, remove it: {backup}")
    if erased.left and not dry_run:
        fail(f"erased but for what is left to you: {', '.join(erased.left)}")


@app.command()
def reconcile(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="report only; change nothing")
    ] = False,
) -> None:
    """Bring up a ledger that was put back, from what else knows of its sends."""
    from orchestration.reconcile import reconcile as bring_up

    found = bring_up(Settings(), dry_run=dry_run)
    for path in found.set_aside:
        typer.echo(f"{'damaged' if dry_run else 'set aside, damaged'}: {path}")
    for line in found.behind:
        typer.echo(f"the ledger is older: {line}")
    if not found.behind:
        typer.echo("the ledger knows all that went out")
    for state, count in sorted(found.rows["state"].value_counts().iter_rows()):
        typer.echo(f"{'would be' if dry_run else 'now'} {state}: {count} sends")
    if found.is_doubtful:
        typer.echo(
            "more may have gone out, of which nothing is left: what began by the next "
            "run is recorded as unknown, and never sent"
        )


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="DEST", help="a new folder")],
    with_dagster: Annotated[
        bool, typer.Option("--with-dagster", help="the records of runs too")
    ] = False,
) -> None:
    """Copy the home while nobody writes it, each file with its hash."""
    from orchestration.backup import BackupError, back_up

    try:
        copied = back_up(Settings(), target, with_dagster=with_dagster)
    except BackupError as error:
        fail(error)
    for name, problem in copied.left_out.items():
        typer.echo(f"left out: {name} {problem}")
    typer.echo(f"{copied.file_count} files, {copied.byte_count:,} bytes in {target}")


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="what backup wrote")],
    nothing_sent_since: Annotated[
        bool,
        typer.Option(
            "--nothing-sent-since",
            help="you are sure that nothing was sent after the backup was made",
        ),
    ] = False,
) -> None:
    """Put a backup back into a new home; what may have been sent is not repeated."""
    from orchestration.backup import BackupError
    from orchestration.backup import restore as put_back

    settings = Settings()
    try:
        copied = put_back(settings, source, nothing_sent_since=nothing_sent_since)
    except BackupError as error:
        fail(error)
    typer.echo(f"{copied.file_count} files of {copied.made_at} are in {settings.root}")
    if not nothing_sent_since:
        typer.echo(
            "what was sent since is not known: journeys that began by the next run "
            "send nothing more, their sends are recorded as unknown"
        )


@app.command()
def mcp() -> None:
    """Answer a client of the Model Context Protocol over stdin and stdout."""
    from importlib.util import find_spec

    if find_spec("mcp") is None:
        fail("needs the MCP SDK: pip install 'rekindle[mcp]'")
    from orchestration.mcp_server import make_server

    make_server(Settings()).run()


@app.command()
def approve(
    journey: Annotated[str, typer.Argument(help="a journey that needs approval")],
    by: Annotated[str, typer.Option("--by", help="who approves it")],
) -> None:
    """Let a journey send as it is written now, words included."""
    from activations.approvals import (
        NEEDS_REVIEW,
        Approval,
        ApprovalError,
        add_approval,
        digest,
    )
    from activations.blueprint import read_journeys
    from activations.reading import AuthoredError
    from orchestration.settings import wall_clock
    from orchestration.sources.authored import read_authored

    settings = Settings()
    try:
        problems = [
            problem
            for problem in read_authored(settings).journey_problems
            if problem.name == journey
        ]
        written = {one.journey: one for one in read_journeys(settings.journeys)[0]}
    except (AuthoredError, ApprovalError) as error:
        fail(error)
    mistakes = [problem for problem in problems if problem.code != NEEDS_REVIEW]
    if mistakes:
        fail(f"mend it first: {mistakes[0]}")
    if not problems:
        fail(f"{journey} waits for no approval; `rekindle check` lists what does")
    approval = Approval(
        journey=journey,
        digest=digest(written[journey], settings.content),
        approved_by=by,
        approved_at=f"{wall_clock().isoformat()}Z",
    )
    add_approval(settings.approvals, approval)
    typer.echo(f"{journey} may send from the next run on: {settings.approvals}")


@app.command()
def check(
    *,
    schema: Annotated[
        str | None,
        typer.Option(help="print the JSON schema of such a file: journey or audience"),
    ] = None,
) -> None:
    """Proofread audiences, journeys, contents and destinations.yml, as a run does."""
    from activations.approvals import ApprovalError
    from activations.audiences import AUDIENCES
    from activations.blueprint import JOURNEYS
    from activations.destinations import DestinationsError, read_destinations
    from activations.reading import AuthoredError
    from orchestration.sources.authored import read_authored
    from orchestration.sources.run_inputs import destinations_in_use

    if schema:
        kinds = {kind.field: kind for kind in (JOURNEYS, AUDIENCES)}
        if schema not in kinds:
            raise typer.BadParameter(f"--schema is one of {', '.join(kinds)}")
        typer.echo(json.dumps(kinds[schema].schema(), indent=2))
        return
    try:
        settings = Settings()
        authored = read_authored(settings)
        read_destinations()
        destinations_in_use(settings)
    except (ApprovalError, AuthoredError, DestinationsError) as error:
        fail(error)
    problems = [*authored.audience_problems, *authored.journey_problems]
    for problem in problems:
        typer.echo(str(problem))
    names = {problem.name for problem in problems}
    if names:
        fail(f"set aside until mended: {', '.join(sorted(names))}")
    typer.echo(
        f"journeys: {len(authored.journeys)}, "
        f"audiences: {len(authored.audiences)}, mistakes: none"
    )


@app.command()
def preview(
    journey: Annotated[str, typer.Argument(help="a journey, as its file names it")],
    step: Annotated[str | None, typer.Argument(help="one of its steps")] = None,
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="every step and channel, on one page")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="identifier or profile id; default: a made-up customer"),
    ] = None,
    channel: Annotated[str | None, typer.Option(help="this channel alone")] = None,
    out: Annotated[
        Path | None, typer.Option(help="write the page there; default: open it")
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="send it to config/seed_list.yml too")
    ] = False,
) -> None:
    """Show what a step says to a person, as each channel shows it."""
    import webbrowser

    from rich.console import Console

    from activations.ledger import LedgerError
    from activations.preview import PreviewError, preview_page
    from activations.reading import AuthoredError
    from orchestration.preview import preview as look
    from orchestration.preview import send_tests, write_page
    from orchestration.terminal import print_frame
    from orchestration.warehouse import DatabaseError
    from orchestration.why import WhyError

    if (step is None) != everything:
        raise typer.BadParameter("say a step, or --all")
    settings = Settings()
    try:
        found = look(settings, journey, step=step, channel=channel, person=profile)
        path = write_page(preview_page(found.shown, found.whom), out)
        typer.echo(path)
        if send:
            print_frame(Console(), "sent to ourselves", send_tests(settings, found))
        elif out is None:
            webbrowser.open(path.as_uri())
    except (AuthoredError, DatabaseError, LedgerError, PreviewError, WhyError) as error:
        fail(error)
    problems = [each.problem for each in found.shown if each.problem]
    if problems:
        fail(f"{len(problems)} cannot be made: {problems[0]}")


@app.command()
def stop(
    channel: Annotated[str, typer.Argument(help="email, sms, push …")],
    reason: Annotated[str, typer.Option(help="why, for who reads of it")] = "",
) -> None:
    """Send nothing more on a channel, at once, in the midst of a run too."""
    from orchestration.stopping import StoppingError, stop_channel

    settings = Settings()
    try:
        stop_channel(settings, channel, reason)
    except StoppingError as error:
        fail(error)
    say_what_waits(settings, channel, "is stopped")


@app.command()
def start(
    channel: Annotated[str, typer.Argument(help="a channel that was stopped")],
) -> None:
    """Have the next run send on a channel again that was stopped."""
    from orchestration.stopping import StoppingError, start_channel

    settings = Settings()
    try:
        start_channel(settings, channel)
    except StoppingError as error:
        fail(error)
    say_what_waits(settings, channel, "goes on with the next run")


def say_what_waits(settings: Settings, channel: str, what: str) -> None:
    """Print what a channel does now, and how many of its sends are not settled."""
    from activations.ledger import LedgerError, count_unsettled

    try:
        pending, inflight = count_unsettled(settings.ledger, channel)
    except LedgerError as error:
        fail(f"{channel} {what}; {error}")
    typer.echo(f"{channel} {what}: {pending} wait, {inflight} in flight")


@app.command()
def retry(
    send_id: Annotated[str | None, typer.Argument(help="a dead send")] = None,
    reason: Annotated[
        str | None, typer.Option(help="all dead sends whose reason begins like this")
    ] = None,
) -> None:
    """Have dead sends tried again by the next run; alone, list why they are dead."""
    from rich.console import Console

    from activations.ledger import Ledger, LedgerError, opened_copy
    from orchestration.recovery import home_at_rest, home_lock
    from orchestration.terminal import print_frame
    from orchestration.warehouse import (
        DatabaseError,
        Warehouse,
        fetch_frame,
        require_table,
    )

    settings = Settings()
    if not settings.ledger.exists():
        fail(f"nothing was ever sent from {settings.root}")
    try:
        if send_id is None and reason is None:
            with home_at_rest(settings), opened_copy(settings.ledger) as ledger:
                print_frame(Console(), "dead sends", ledger.dead())
            return
        with home_lock(settings), Ledger(settings.ledger) as ledger:
            with Warehouse.of(settings).connect(read_only=True) as connection:
                require_table(connection, "raw", "runs")
                newest = fetch_frame(connection, "select max(as_of) from raw.runs")
            retried = ledger.retry(send_id=send_id, reason=reason, as_of=newest.item())
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
    from orchestration.dbt import dbt_command, dbt_executable, parse_changes
    from orchestration.recovery import home_lock

    if not context.args or not ASKS_FOR_HELP.isdisjoint(context.args):
        # dbt takes no place of a project there
        raise typer.Exit(run_to_the_end([dbt_executable(), *context.args]))
    settings = Settings()
    with home_lock(settings):
        try:
            parse_changes(settings)
        except RuntimeError as error:
            fail(error)
        code = run_to_the_end(dbt_command(settings, *context.args))
    raise typer.Exit(code)


@app.command()
def inbound(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port; 0 takes a free one")
    ] = 8700,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    proxies: Annotated[
        str, typer.Option(help="proxies whose X-Forwarded-For is believed")
    ] = "127.0.0.1",
) -> None:
    """Take opt-outs, webhooks and events by HTTP; write them to the landing folder."""
    from orchestration.sources.inbound.app import listen, server

    answering = server(Settings(), proxies=proxies)
    with listen(host, port) as listening:
        address, taken = listening.getsockname()[:2]
        place = f"[{address}]" if ":" in address else address
        typer.echo(f"rekindle inbound listens on http://{place}:{taken}")
        answering.run(sockets=[listening])


@app.command()
def ui(
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="port on this machine")
    ] = 3000,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="show only: no run, no scheduler")
    ] = False,
) -> None:
    """Open the Dagster UI and scheduler on this home."""
    from orchestration.run import WORKSPACE, prepare_instance

    settings = Settings()
    prepare_instance(settings)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    server = ["dagster-webserver", "--read-only"] if read_only else ["dagster", "dev"]
    program = Path(sys.executable).parent / server[0]
    arguments = [*server[1:], "-w", str(WORKSPACE), "-h", host, "-p", str(port)]
    raise typer.Exit(run_to_the_end([str(program), *arguments]))


if __name__ == "__main__":
    app()
