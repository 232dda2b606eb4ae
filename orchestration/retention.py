"""What is kept no longer than the home's settings say; all of it, where they are unset.

Landed files go once they are read, messages once they are settled. What runs decide by
stays: events, the ledger, receipts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestration.settings import Settings, parse_moment, wall_clock
from orchestration.sources.folder import find_files
from orchestration.sources.landing import is_known, known_paths
from orchestration.sources.receipts import RECEIPTS
from orchestration.warehouse import Connection, fetch_frame, has_table

LANDED_BEFORE = """
    select landing_paths.path
    from raw.landing_paths
    inner join raw.files on landing_paths.file_id = files.file_id
    where files.landed_at <= $before
"""
FORGET_LINES = """
    update raw.rejected_events
    set raw = ''
    where
        raw <> ''
        and file_id in (select file_id from raw.files where landed_at <= ?)
"""
# what waits is sent with its words
FORGET_PAYLOADS = """
    update decisions.send_list
    set payload = null
    where
        payload is not null
        and as_of <= ?
        and send_id in (
            select send_id from raw.sends
            where state not in ('pending', 'inflight')
        )
"""


@dataclass(frozen=True)
class Purged:
    """How much was removed because it was too old."""

    file_count: int = 0
    payload_count: int = 0
    outbox_count: int = 0


def purge(settings: Settings, connection: Connection, as_of: datetime) -> Purged:
    """Remove what is older than the settings allow; returns how much.

    Files by the clock, since when they were landed; messages by the moment of the run
    that decided them. The run has landed, and laid out the sends of earlier ones.
    """
    file_count = payload_count = outbox_count = 0
    if settings.keep_landed_days is not None:
        before = wall_clock() - timedelta(days=settings.keep_landed_days)
        file_count = purge_landed(settings, connection, before)
    if settings.keep_payloads_days is not None:
        before = as_of - timedelta(days=settings.keep_payloads_days)
        if has_table(connection, "decisions", "send_list"):
            counted = connection.execute(FORGET_PAYLOADS, [before]).fetchall()
            payload_count = int(counted[0][0])
        outbox_count = purge_outbox(settings, connection, before)
    return Purged(file_count, payload_count, outbox_count)


def purge_landed(settings: Settings, connection: Connection, before: datetime) -> int:
    """Remove files that were landed by a moment and lie there unchanged.

    Receipts stay: they show that a ledger is older than what went out.
    """
    old = set(fetch_frame(connection, LANDED_BEFORE, {"before": before})["path"])
    paths = known_paths(connection)
    count = 0
    for file in find_files(settings.landing):
        is_receipt = file.path.startswith(f"{RECEIPTS}/")
        if file.path in old and is_known(file, paths) and not is_receipt:
            file.location.unlink()
            count += 1
    connection.execute(FORGET_LINES, [before])
    return count


def purge_outbox(settings: Settings, connection: Connection, before: datetime) -> int:
    """Remove the files of messages that were decided by a moment and are settled."""
    unsettled = set(
        fetch_frame(
            connection,
            "select send_id from raw.sends where state in ('pending', 'inflight')",
        )["send_id"]
    )
    count = 0
    for folder in settings.outbox.glob("*/*"):
        try:
            is_old = parse_moment(folder.name) <= before
        except ValueError:
            continue
        if is_old and folder.is_dir():
            files = [path for path in folder.iterdir() if path.stem not in unsettled]
            for path in files:
                path.unlink()
            count += len(files)
            if not any(folder.iterdir()):
                folder.rmdir()
    return count
