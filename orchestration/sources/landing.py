"""Landed files into `raw`: each file once by content, each message once by its id.

Healthy files are read many at a time by DuckDB's own readers; a file with anything to
object to is read again on its own, line by line. Which lines are good is decided in
`envelope`, and nowhere else.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import batched
from pathlib import Path

import polars as pl

from orchestration.sources.envelope import ARRIVALS, FIELDS, content_hash, take_apart
from orchestration.sources.receipts import RECEIPTS
from orchestration.sources.salvage import DamagedError, Line, read_lines
from orchestration.warehouse import Connection, DatabaseError, fetch_frame

TEXT_SUFFIXES = (".ndjson", ".jsonl", ".json")
SUFFIXES = (*TEXT_SUFFIXES, *(f"{suffix}.gz" for suffix in TEXT_SUFFIXES), ".parquet")
UNFINISHED_SUFFIXES = (".tmp", ".part")

BATCH_BYTES = 512 << 20
"""Text read in one statement and committed in one transaction."""
GZIP_RATIO = 8
SALVAGE_LINES = 50_000

TABLES = f"""
    create table if not exists raw.files (
        file_id varchar,
        path varchar,
        sha256 varchar,
        row_count bigint,
        rejected_count bigint,
        landed_at timestamp
    );
    create table if not exists raw.landing_paths (
        path varchar,
        file_id varchar,
        byte_count bigint,
        modified_ns bigint
    );
    create table if not exists raw.events (
        message_id varchar,
        type varchar,
        event varchar,
        anonymous_id varchar,
        user_id varchar,
        occurred_at timestamp,
        received_at timestamp,
        context json,
        properties json,
        traits json,
        file_id varchar
    );
    create table if not exists raw.rejected_events (
        file_id varchar,
        line_number bigint,
        reason varchar,
        raw varchar
    );
    create temp table if not exists arrivals ({ARRIVALS});
"""

EVENT_COLUMNS = """
    message_id,
    type,
    event,
    anonymous_id,
    user_id,
    occurred_at,
    received_at,
    context,
    properties,
    traits,
    file_id
"""


@dataclass(frozen=True)
class FoundFile:
    """A file below the landing folder that may be read, as a listing shows it."""

    path: str
    location: Path
    byte_count: int
    modified_ns: int


@dataclass(frozen=True)
class NewFile:
    """A file whose content has not been landed yet."""

    path: str
    location: Path
    byte_count: int
    file_id: str
    problem: str | None = None

    @property
    def is_parquet(self) -> bool:
        """Whether it is read as a table, not as lines."""
        return self.path.lower().endswith(".parquet")

    @property
    def text_bytes(self) -> int:
        """About how many bytes of text it holds."""
        zipped = self.path.lower().endswith((".gz", ".parquet"))
        return self.byte_count * (GZIP_RATIO if zipped else 1)


@dataclass(frozen=True)
class Landed:
    """What one landing brought."""

    file_count: int
    row_count: int
    rejected_count: int
    salvaged_count: int


def land(connection: Connection, landing: Path, landed_at: datetime) -> Landed:
    """Bring every file that is new by content into `raw`.

    1. List the files; hash those whose path, size or time of change is new.
    2. Where a known path grew, its new content takes the old one's place.
    3. Read batch after batch; read what a batch objects to again, file by file.
    4. Keep the first arrival of each message, the rejects and the counts.

    The connection is in a transaction, as `Warehouse.connect` gives it; each batch is
    committed, so that a crash loses none that is done.
    """
    connection.execute(TABLES)
    new_files = find_new_files(connection, landing)
    keep(connection)
    salvaged = 0
    for batch in in_batches(new_files):
        salvaged += land_batch(connection, batch, landed_at)
    counts = connection.execute(
        "select coalesce(sum(row_count), 0), coalesce(sum(rejected_count), 0) "
        "from raw.files where list_contains(?, file_id)",
        [[file.file_id for file in new_files]],
    ).fetchall()
    return Landed(len(new_files), int(counts[0][0]), int(counts[0][1]), salvaged)


def unreadable_files(connection: Connection) -> pl.DataFrame:
    """The landed files of which nothing could be read: path, reason."""
    return fetch_frame(
        connection,
        """
        select files.path, rejected_events.reason
        from raw.rejected_events
        inner join raw.files on rejected_events.file_id = files.file_id
        where rejected_events.line_number is null
        order by files.path
        """,
    )


def landing_fingerprint(landing: Path) -> str:
    """A short text that changes with the files in the landing folder.

    The receipts that runs write themselves are left out: they wake nobody.
    """
    listing = sorted(
        (file.path, file.byte_count, file.modified_ns)
        for file in find_files(landing)
        if not file.path.startswith(f"{RECEIPTS}/")
    )
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:16]


def find_files(landing: Path) -> Iterator[FoundFile]:
    """Every finished event file at any depth."""
    for folder, subfolders, names in os.walk(landing):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            if is_event_file(name):
                location = Path(folder, name)
                try:
                    status = location.stat()
                except FileNotFoundError:
                    # Renamed since it was listed; its new name is for the next run.
                    continue
                yield FoundFile(
                    location.relative_to(landing).as_posix(),
                    location,
                    status.st_size,
                    status.st_mtime_ns,
                )


def is_event_file(name: str) -> bool:
    """Whether a name says that the file is finished and holds events."""
    name = name.lower()
    return name.endswith(SUFFIXES) and not name.startswith(".")


def find_new_files(connection: Connection, landing: Path) -> list[NewFile]:
    """The files whose content `raw.files` does not hold, one per content, by path."""
    known_paths = {
        path: (file_id, byte_count, modified_ns)
        for path, file_id, byte_count, modified_ns in connection.execute(
            "select path, file_id, byte_count, modified_ns from raw.landing_paths"
        ).fetchall()
    }
    known_ids = {
        file_id
        for (file_id,) in connection.execute("select file_id from raw.files").fetchall()
    }
    changed = sorted(
        (
            file
            for file in find_files(landing)
            if known_paths.get(file.path, ())[1:] != (file.byte_count, file.modified_ns)
        ),
        key=lambda file: file.path,
    )
    new_files: dict[str, NewFile] = {}
    seen = []
    prefixes = [known_paths.get(file.path, ("", 0, 0))[:2] for file in changed]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = list(pool.map(hash_content, changed, [size for _, size in prefixes]))
    for file, (old_id, _), content in zip(changed, prefixes, hashed, strict=True):
        seen.append((file.path, content.file_id, file.byte_count, file.modified_ns))
        if content.file_id in known_ids:
            continue
        if old_id in known_ids and (content.prefix_id == old_id or is_pseudo(old_id)):
            supersede(connection, old_id, content.file_id)
        new_files.setdefault(
            content.file_id,
            NewFile(
                file.path,
                file.location,
                file.byte_count,
                content.file_id,
                content.problem,
            ),
        )
    remember_paths(connection, seen)
    return list(new_files.values())
