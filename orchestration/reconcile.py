"""Whether the ledger is as new as what went out, and how it is brought up if not.

What went out has four witnesses besides the ledger: the claims beside it, its copy in
the warehouse, the receipts that were landed, the files of the outbox. A ledger behind
one of them was put back from an earlier time or lost: it would send again.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from activations.channels import CHANNELS
from activations.claims import Claims
from activations.ledger import (
    DamagedLedgerError,
    Ledger,
    StaleLedgerError,
    opened_copy,
)
from activations.reconcile import MAY_HAVE_BEEN_SENT, RECOVERED, recover, witness
from orchestration.recovery import home_at_rest, home_lock
from orchestration.settings import Settings, parse_moment
from orchestration.sources.receipts import RECEIPTS, sent_events
from orchestration.warehouse import (
    Connection,
    DatabaseError,
    Warehouse,
    fetch_frame,
    has_table,
)

REMEDY = "nothing is sent until `rekindle reconcile` has brought it up"

COPIED = """
    select send_id from activations.sends
    where state in ('sent', 'unknown')
    qualify rank() over (order by settled_at desc) = 1
"""


def assert_ledger_holds(
    settings: Settings, ledger: Ledger, connection: Connection
) -> None:
    """Refuse a ledger that is damaged, or older than any witness.

    Only what each witness saw last is looked for: what is older lacks that first.

    Raises:
        DamagedLedgerError: if the file cannot be read.
        StaleLedgerError: naming the witnesses.
    """
    ledger.assert_sound()
    behind = find_behind(settings, ledger, connection)
    if behind:
        raise StaleLedgerError(
            f"{settings.ledger} is older than what went out ({'; '.join(behind)}): "
            f"{REMEDY}"
        )


def find_behind(
    settings: Settings, ledger: Ledger, connection: Connection | None
) -> list[str]:
    """What shows that the ledger is too old, a line per witness."""
    behind = []
    try:
        ledger.assert_current()
    except StaleLedgerError as error:
        behind.append(str(error))
    witnesses = {
        "the landed receipts": newest_receipts(settings.landing),
        "the outbox": newest_files(settings.outbox),
        "the warehouse": [],
    }
    if connection is not None and has_table(connection, "activations", "sends"):
        copied = fetch_frame(connection, COPIED)
        witnesses["the warehouse"] = copied["send_id"].to_list()
        count = fetch_frame(connection, "select count(*) from activations.sends").item()
        if count > ledger.count():
            behind.append(f"the warehouse has {count} sends")
    for name, send_ids in witnesses.items():
        lacking = ledger.lacking(send_ids)
        if lacking:
            behind.append(
                f"{name} shows {len(lacking)} that are not in it, one is {lacking[0]}"
            )
    return behind


def newest_receipts(landing: Path) -> list[str]:
    """The sends of the last run that was landed."""
    files = sorted((landing / RECEIPTS).glob("sends-*.ndjson"))
    return [str(receipt["send_id"]) for receipt in read_receipts(files[-1:])]


def newest_files(outbox: Path) -> list[str]:
    """The sends of the last run that wrote files, on each channel."""
    found = []
    for channel in CHANNELS:
        folders = sorted(path for path in (outbox / channel).glob("*") if path.is_dir())
        for folder in folders[-1:]:
            found += [path.stem for path in message_files(folder)]
    return found


def message_files(folder: Path) -> Iterator[Path]:
    """The finished messages of one run."""
    for path in sorted(folder.iterdir()):
        if path.suffix in {".eml", ".json"} and not path.name.startswith("."):
            yield path


def read_receipts(files: list[Path]) -> Iterator[dict[str, object]]:
    """What landed receipts say of each send; a line that is none says nothing."""
    channels = {event: channel for channel, event in sent_events().items()}
    for path in files:
        for line in path.read_text("utf-8", "replace").splitlines():
            try:
                event = json.loads(line)
                properties = event["properties"]
                sent_at = datetime.fromisoformat(event["timestamp"].rstrip("Z"))
                is_user = event.get("userId") is not None
                yield {
                    "send_id": event["messageId"],
                    "journey": properties["campaign_id"],
                    "step": properties["step"],
                    "channel": channels[event["event"]],
                    "identifier_type": "user_id" if is_user else "anonymous_id",
                    "identifier": event["userId" if is_user else "anonymousId"],
                    "content_id": properties["content_id"],
                    "state": "sent",
                    "sent_at": sent_at,
                }
            except (ValueError, KeyError, TypeError, AttributeError):
                continue


def read_files(outbox: Path) -> Iterator[dict[str, object]]:
    """What the files of the outbox say: the run that decided is their folder."""
    for channel in CHANNELS:
        for folder in sorted((outbox / channel).glob("*")):
            try:
                as_of = parse_moment(folder.name)
            except ValueError:
                continue
            for path in message_files(folder):
                yield {
                    "send_id": path.stem,
                    "channel": channel,
                    "destination": "file",
                    "as_of": as_of,
                    "state": "sent",
                    "sent_at": as_of,
                }


@dataclass
class Reconciled:
    """What a reconciliation found and did."""

    behind: list[str]
    set_aside: list[Path] = field(default_factory=list)
    rows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=RECOVERED))
    is_doubtful: bool = False


def reconcile(settings: Settings, *, dry_run: bool = False) -> Reconciled:
    """Bring the ledger up from its witnesses; what cannot be known is `unknown`.

    A ledger or warehouse that cannot be read is set aside first. All is tried on a copy
    of the ledger: a dry run, or one that finds nothing amiss, writes nothing.

    Raises:
        LedgerError: if a newer release wrote the ledger.
    """
    with home_at_rest(settings):
        damaged = find_damaged(settings)
        if settings.ledger in damaged:
            tried = Reconciled([f"{settings.ledger} is damaged"], damaged)
        else:
            with opened_copy(settings.ledger) as copy:
                tried = bring_up(settings, copy, damaged)
    if dry_run or not (tried.behind or tried.set_aside):
        return tried
    with home_lock(settings):
        set_aside = [put_aside(path) for path in find_damaged(settings)]
        with Ledger(settings.ledger) as ledger:
            return bring_up(settings, ledger, set_aside)


def find_damaged(settings: Settings) -> list[Path]:
    """The ledger and the warehouse, as far as they are there and cannot be read."""
    return [
        path
        for path in (settings.ledger, settings.warehouse)
        if path.exists() and not is_readable(path, settings)
    ]


def bring_up(settings: Settings, ledger: Ledger, set_aside: list[Path]) -> Reconciled:
    """Compare an open ledger with its witnesses, and take in what it lacks."""
    has_warehouse = settings.warehouse.exists() and settings.warehouse not in set_aside
    listed, copied = read_warehouse(settings) if has_warehouse else (None, None)
    claims = Claims(settings.claims).read()
    receipts = pl.DataFrame(
        list(read_receipts(sorted((settings.landing / RECEIPTS).glob("sends-*")))),
        schema_overrides=RECOVERED,
    )
    files = pl.DataFrame(list(read_files(settings.outbox)), schema_overrides=RECOVERED)
    if has_warehouse:
        with Warehouse.of(settings).connect(read_only=True) as connection:
            behind = find_behind(settings, ledger, connection)
    else:
        behind = find_behind(settings, ledger, None)
    if not behind:
        return Reconciled([], set_aside)
    claimed = claims.with_columns(
        pl.col("as_of").str.to_datetime(time_unit="us"), attempts="claim_count"
    )
    rows = recover(
        ledger.copy().select("send_id", "state", "attempts"),
        [witness(frame) for frame in (listed, copied, claimed, receipts, files)],
    )
    # each of the two knows of everything that can have gone out, if it is not older
    went_out = {
        send_id
        for frame in (receipts, files)
        if frame.height
        for send_id in frame["send_id"]
    }
    complete = (claimed, listed)
    is_doubtful = not any(
        frame is not None and frame.height and went_out <= set(frame["send_id"])
        for frame in complete
    )
    ledger.bring_up(rows)
    if is_doubtful:
        ledger.begin_doubt(MAY_HAVE_BEEN_SENT)
    return Reconciled(behind, set_aside, rows, is_doubtful)


def read_warehouse(
    settings: Settings,
) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """The send list and the copy of the ledger, where the warehouse has them."""
    found = []
    with Warehouse.of(settings).connect(read_only=True) as connection:
        for schema, table in (("decisions", "send_list"), ("activations", "sends")):
            found.append(
                fetch_frame(connection, f"select * from {schema}.{table}")
                if has_table(connection, schema, table)
                else None
            )
    return found[0], found[1]


def is_readable(path: Path, settings: Settings) -> bool:
    """Whether a ledger or warehouse opens, and what is asked of it can be read."""
    try:
        if path == settings.ledger:
            with opened_copy(path) as ledger:
                ledger.assert_sound()
        else:
            read_warehouse(settings)
    except (DamagedLedgerError, DatabaseError):
        return False
    return True


def put_aside(path: Path) -> Path:
    """Rename a damaged file, with the log that belongs to it; returns its new name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    for log in (f"{path.name}-wal", f"{path.name}-shm", f"{path.name}.wal"):
        beside = path.with_name(log)
        if beside.exists():
            beside.rename(aside.with_name(aside.name + log.removeprefix(path.name)))
    return aside
