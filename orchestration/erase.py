"""A person erased from a home: every file that holds them written anew without them.

Orders stay as money: written from what staging read of them, by day, under a random id
that nothing leads to. A keyed hash of each identifier stays too (`erasures`), so that
nobody writes to them again. What is to go is written down before any of it goes: an
erasure that was killed is ended by whoever takes the home's lock next.
"""

import csv
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from activations.ledger import Ledger, opened_copy
from orchestration.erasure_plan import (
    EVENTS,
    KEYS,
    MESSAGES,
    Plan,
    make_plan,
    read_event,
    tables_of,
)
from orchestration.erasures import MESSAGE_ID, record_erased, write_whole
from orchestration.past import RECORDED
from orchestration.recovery import home_lock
from orchestration.settings import Settings
from orchestration.sources.folder import find_files
from orchestration.sources.inbound.journal import standing_still
from orchestration.sources.landing import is_known, known_paths
from orchestration.sources.redaction import (
    find_landed,
    forget_in_file,
    rewritten,
)
from orchestration.warehouse import (
    Connection,
    Warehouse,
    fetch_frame,
)

KEPT_ORDERS = "erased"
"""The folder of the landing in which the orders of erased people stay."""

# Columns that hold an identifier, and the column that says its type.
TYPED = {
    "identifier": "identifier_type",
    "linked_identifier": "linked_identifier_type",
    "refused_identifier": "refused_identifier_type",
}
# Columns that hold an identifier of the type that they are called by.
OF_TYPE = ("user_id", "anonymous_id", "device_id", "loyalty_id", "email", "phone")
TEXT_KINDS = ("VARCHAR", "JSON", "STRUCT", "MAP")
# What the next run reads again, or what holds no person
NOT_SCRUBBED = {"raw.files", "raw.landing_paths", "raw.events"}


@dataclass
class Erased:
    """Where the person was, as counts by place, and what is left to be done by hand."""

    found: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    backups: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def erase(settings: Settings, person: str, *, dry_run: bool = False) -> Erased:
    """Erase the person that an identifier or profile id names; returns where they were.

    With `dry_run` nothing is written.

    Raises:
        WhyError: if there is no such person, or several.
        EraseError: if it is no person.
        DatabaseError: if no run has been yet.
    """
    if dry_run:
        plan = make_plan(settings, person)
        return look_for(settings, plan)
    with home_lock(settings):
        plan = make_plan(settings, person)
        erased = look_for(settings, plan)
        write_whole(settings.erasing, json.dumps(asdict(plan)).encode())
        erased.left = finish_erasure(settings)
    return erased


def finish_erasure(settings: Settings) -> dict[str, str]:
    """Erase all that is written down to go; returns what is left, by path.

    The home's lock is held by the caller. Each part can be done again.

    Raises:
        DatabaseError, OSError: if a file cannot be read or written; what is written
            down stays then.
    """
    plan = Plan(**json.loads(settings.erasing.read_text()))
    remember(settings, plan)
    forget_in_landing(settings, plan)
    forget_in_outbox(settings, plan)
    # what the next run writes anew, and a backtest that broke off
    for folder in (settings.people, settings.marts, settings.rehearsal):
        shutil.rmtree(folder, ignore_errors=True)
    if settings.ledger.exists():
        with Ledger(settings.ledger) as ledger:
            ledger.forget(plan.keys["send_id"], plan.person.is_named_by)
    for path in warehouses(settings):
        forget_in_warehouse(settings, path, plan)
    forget_in_seeds(settings, plan)
    forget_in_records(settings, plan)
    left = still_named(settings, plan)
    settings.erasing.unlink()
    return left


def look_for(settings: Settings, plan: Plan) -> Erased:
    """Where in the home the person is, as counts by place; changes nothing."""
    counts, problems = find_landed(settings.landing, plan.person)
    erased = Erased(
        {f"landing/{path}: lines": count for path, count in sorted(counts.items())},
        {f"landing/{path}": problem for path, problem in sorted(problems.items())},
        [f"{made['path']} ({made['made_at']})" for made in read_backups(settings)],
    )
    with Warehouse.of(settings).connect(read_only=True) as connection:
        for table, count in rows_of(connection, plan).items():
            erased.found[f"warehouse, {table}: rows"] = count
    erased.found |= {
        "ledger: sends": count_sends(settings, plan),
        "outbox: messages": sum(1 for _ in outbox_files(settings, plan)),
        "orders that stay without a name": sum(
            '"Order Completed"' in line for line in plan.orders
        ),
    }
    return erased


def count_sends(settings: Settings, plan: Plan) -> int:
    """How many of the person's sends the ledger holds."""
    if not settings.ledger.exists():
        return 0
    with opened_copy(settings.ledger) as ledger:
        return len(ledger.known().intersection(plan.keys["send_id"]))


def rows_of(connection: Connection, plan: Plan) -> dict[str, int]:
    """Rows of the person's profile, by table."""
    found = {}
    for table, columns in tables_of(connection).items():
        if "profile_id" in columns:
            count = fetch_frame(
                connection,
                f"select count(*) from {table} where list_contains($ids, profile_id)",
                {"ids": plan.profile_ids},
            ).item()
            if count:
                found[table] = int(count)
    return found


def read_backups(settings: Settings) -> Iterator[dict[str, str]]:
    """Where and when backups of the home were made."""
    if settings.backups.exists():
        for line in settings.backups.read_text().splitlines():
            yield json.loads(line)


def remember(settings: Settings, plan: Plan) -> None:
    """Keep the hashes by which the person is never written to again."""
    record_erased(
        settings.erasures,
        chain(
            ((kind, value) for kind, value in plan.identifiers),
            ((MESSAGE_ID, value) for value in plan.keys["message_id"]),
        ),
        datetime.fromisoformat(plan.erased_at),
    )


def forget_in_landing(settings: Settings, plan: Plan) -> None:
    """Write landed files anew without the person, and the orders that stay."""
    with standing_still(settings.landing):
        counts, _ = find_landed(settings.landing, plan.person)
        for file in find_files(settings.landing):
            if file.path in counts:
                forget_in_file(file.location, plan.person)
    if plan.orders:
        kept = settings.landing / KEPT_ORDERS / f"{plan.token}.ndjson"
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, "".join(f"{line}\n" for line in plan.orders).encode())


def forget_in_outbox(settings: Settings, plan: Plan) -> None:
    """Remove the messages that were written for the person."""
    for path in list(outbox_files(settings, plan)):
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def outbox_files(settings: Settings, plan: Plan) -> Iterator[Path]:
    """Messages to the person, and to others at an address of theirs."""
    send_ids = set(plan.keys["send_id"])
    for path in sorted(
        chain(settings.outbox.rglob("*"), settings.test_outbox.rglob("*"))
    ):
        if path.is_file() and (
            not send_ids.isdisjoint(path.name.split(".")) or names_file(path, plan)
        ):
            yield path


def names_file(path: Path, plan: Plan) -> bool:
    """Whether the plain bytes of a file name the person."""
    text = path.read_bytes().decode("utf-8", "replace")
    return bool(plan.person.parts.search(text))


def warehouses(settings: Settings) -> Iterator[Path]:
    """Every warehouse of the home, the main one first."""
    places = (settings.warehouse, settings.published, settings.dry_run)
    yield from (path for path in places if path.exists())
    yield from sorted(settings.past.glob(f"*/{settings.warehouse.name}"))


def forget_in_warehouse(settings: Settings, path: Path, plan: Plan) -> None:
    """Remove the person from a warehouse, and write its file anew.

    A row that was deleted leaves its bytes in the file. What is derived of others may
    go too where it names the person: the next run builds it again, from the beginning.
    """
    warehouse = Warehouse.of(settings, path)
    with warehouse.connect() as connection:
        for name, values in plan.keys.items():
            frame = pl.DataFrame({name: values}, schema={name: pl.String})
            connection.register(f"erased_{name}", frame.to_arrow())
        ids = pl.DataFrame({"text": sorted(plan.typed)}, schema={"text": pl.String})
        connection.register("erased_ids", ids.to_arrow())
        redact_events(connection, plan)
        for table, columns in tables_of(connection).items():
            if table not in NOT_SCRUBBED:
                scrub(connection, table, columns, plan)
        if path == settings.warehouse:
            forget_files(connection, settings.landing)
            connection.execute("drop table if exists identity.identity_state")
    warehouse.fold_log()
    warehouse.rewrite()


def redact_events(connection: Connection, plan: Plan) -> None:
    """Take the person's messages out of `raw`, and the mention out of others'."""
    connection.execute(
        "delete from raw.events "
        "where message_id in (select message_id from erased_message_id)"
    )
    mentions = pl.DataFrame({"message_id": plan.mentioned_in}, schema=MESSAGES)
    connection.register("mentions", mentions.to_arrow())
    rows = fetch_frame(connection, EVENTS)
    kept = []
    for row in rows.to_dicts():
        event = plan.person.without(read_event(row))
        kept.append(
            {
                name: json.dumps(value, ensure_ascii=False)
                if isinstance(value, dict | list)
                else value
                for name, value in event.items()
            }
        )
    redacted = pl.DataFrame(kept, schema=rows.schema).filter(
        pl.any_horizontal(pl.col("user_id", "anonymous_id").is_not_null())
    )
    connection.register("redacted", redacted.to_arrow())
    connection.execute(
        "delete from raw.events where message_id in (select message_id from mentions) "
        "and message_id not in (select message_id from redacted)"
    )
    names = [name for name in rows.columns if name != "message_id"]
    values = ", ".join(f"{name} = redacted.{name}" for name in names)
    connection.execute(
        f"update raw.events set {values} from redacted "
        "where events.message_id = redacted.message_id"
    )
    connection.unregister("redacted")


def scrub(
    connection: Connection, table: str, columns: Mapping[str, str], plan: Plan
) -> None:
    """Delete the person's rows of a table, and those that name them.

    What was recorded of others stays, but for the value that names the person.
    """
    parameters = {
        "profile_ids": plan.profile_ids,
        "part": f"(^|[^\\w.%-])(?:{plan.person.words})($|[^\\w.-]|[.]($|\\W))",
    }
    texts = [name for name, kind in columns.items() if holds_text(kind)]
    named = {
        name: f"regexp_matches(cast({name} as varchar), $part, 'i')" for name in texts
    }
    theirs = [
        *(
            f"list_contains($profile_ids, {name})"
            for name in columns
            if name.endswith("profile_id")
        ),
        *(
            f"{name} in (select {name} from erased_{name})"
            for name in columns
            if name in KEYS
        ),
        *(
            f"{kind} || ':' || lower(trim({name})) in (select text from erased_ids)"
            for name, kind in TYPED.items()
            if name in columns and kind in columns
        ),
        *(
            f"'{name}:' || lower(trim({name})) in (select text from erased_ids)"
            for name in OF_TYPE
            if name in columns
        ),
    ]
    is_recorded = table in RECORDED
    if not is_recorded:
        theirs += named.values()
    if theirs:
        run(connection, f"delete from {table} where {' or '.join(theirs)}", parameters)
    cited = {
        name: f"{name} in (select message_id from erased_message_id)"
        for name in columns
        if name.endswith("_message_id")
    }
    for name, condition in (cited | (named if is_recorded else {})).items():
        statement = f"update {table} set {name} = null where {condition}"
        run(connection, statement, parameters)


def run(connection: Connection, statement: str, parameters: dict[str, Any]) -> None:
    """Execute a statement with those of the parameters that it names."""
    named = {key: value for key, value in parameters.items() if f"${key}" in statement}
    connection.execute(statement, named)


def holds_text(kind: str) -> bool:
    """Whether a column of this type may hold words."""
    return any(word in kind for word in TEXT_KINDS)


def forget_files(connection: Connection, landing: Path) -> None:
    """Have files that were written anew read by the next run."""
    paths = known_paths(connection)
    changed = [
        file.path
        for file in find_files(landing)
        if file.path in paths and not is_known(file, paths)
    ]
    for table in ("raw.rejected_events", "raw.files"):
        connection.execute(
            f"delete from {table} where file_id in ("
            "select file_id from raw.landing_paths where list_contains(?, path))",
            [changed],
        )
    connection.execute(
        "delete from raw.landing_paths where list_contains(?, path)", [changed]
    )


def forget_in_seeds(settings: Settings, plan: Plan) -> None:
    """Take the rows that name the person out of the brand's own seeds."""
    for path in sorted(settings.seeds.glob("[!.]*.csv")):
        with path.open(newline="") as lines:
            head, *rows = csv.reader(lines)
        kept = [row for row in rows if not is_of_person(head, row, plan)]
        if len(kept) < len(rows):
            with rewritten(path) as partial, partial.open("w", newline="") as lines:
                csv.writer(lines, lineterminator="\n").writerows([head, *kept])


def is_of_person(head: list[str], row: list[str], plan: Plan) -> bool:
    """Whether a row of a seed names the person."""
    fields = dict(zip(head, row, strict=False))
    return any(map(plan.person.is_named_by, row)) or any(
        f"{fields.get(kind)}:{fields.get(name, '').strip().lower()}" in plan.typed
        for name, kind in TYPED.items()
    )


def forget_in_records(settings: Settings, plan: Plan) -> None:
    """Cut the person out of what Dagster keeps of runs, and of logs."""
    for path in sorted(settings.dagster_home.rglob("*")):
        if path.suffix == ".db":
            cut_from_database(path, plan)
        elif path.is_file() and not path.name.endswith(("-wal", "-shm")):
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            kept = plan.cut_from(text)
            if kept != text:
                with rewritten(path) as partial:
                    partial.write_bytes(kept.encode("utf-8", "surrogateescape"))


def cut_from_database(path: Path, plan: Plan) -> None:
    """Cut the person out of every text of an SQLite file, and of its free pages."""
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        connection.execute("pragma secure_delete = on")
        tables = connection.execute(
            "select name from sqlite_master where type = 'table' "
            "and name not like 'sqlite_%'"
        ).fetchall()
        for (table,) in tables:
            rows = connection.execute(f'select rowid, * from "{table}"')
            columns = [column for column, *_ in rows.description]
            for number, *values in rows.fetchall():
                for column, value in zip(columns[1:], values, strict=True):
                    kept = plan.cut_from(value) if isinstance(value, str) else value
                    if kept != value:
                        connection.execute(
                            f'update "{table}" set "{column}" = ? where rowid = ?',
                            (kept, number),
                        )
        connection.commit()
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")


def still_named(settings: Settings, plan: Plan) -> dict[str, str]:
    """What still names the person, or cannot be looked into, with what to do."""
    _, problems = find_landed(settings.landing, plan.person)
    left = {f"landing/{path}": problem for path, problem in problems.items()}
    looked_into = {settings.erasing, settings.run_lock, *warehouses(settings)}
    for path in sorted(settings.root.rglob("*")):
        name = path.relative_to(settings.root).as_posix()
        if not path.is_file() or path in looked_into or name in left:
            continue
        if ".damaged-" in name:
            left[name] = "was set aside and cannot be read: remove it"
        elif names_file(path, plan):
            left[name] = "names the person: take them out of it, or remove it"
    return left
