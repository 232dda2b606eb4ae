"""Landed files into `raw`: each file once by content, each message once by its id.

Healthy files are read many at a time by DuckDB's own readers, each under a name of our
own, since a file name may be a pattern or no text at all; a file with anything to
object to is read again on its own, line by line. Which lines are good is decided in
`envelope`, and nowhere else.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from orchestration.erasures import MESSAGE_ID, NOBODY, Erasures
from orchestration.sources.envelope import ARRIVALS, FIELDS, content_hash, parse_events
from orchestration.sources.folder import Content, Form, FoundFile, find_files, inspect
from orchestration.sources.inbound import INBOUND
from orchestration.sources.receipts import RECEIPTS
from orchestration.sources.salvage import DamagedError, Line, locate_rejects, read_lines
from orchestration.warehouse import Connection, DatabaseError, fetch_frame

BATCH_BYTES = 1 << 30
"""Text read in one statement and committed in one transaction."""
ZIP_RATIO = 8
"""Bytes of text in a byte of a compressed file, about."""
CHUNK_LENGTH = 1 << 25
NO_PATH = ("", 0, 0)
WAKE_NOBODY = (f"{RECEIPTS}/", f"{INBOUND}/")

TABLES = """
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
        file_id varchar,
        landing_seq bigint
    );
    alter table raw.events add column if not exists landing_seq bigint;
    create table if not exists raw.superseded_messages (
        message_id varchar,
        landed_at timestamp
    );
    create table if not exists raw.rejected_events (
        file_id varchar,
        line_number bigint,
        reason varchar,
        raw varchar
    );
"""

NO_ARRIVALS = f"create or replace temp table arrivals ({ARRIVALS})"

# What is said of erased people again, word for word or of the time before: line 0, as
# a reader of many lines at once knows no number, and nothing of it is kept.
REFUSE_ERASED = f"""
    update arrivals
    set reason = 'erased', line_number = coalesce(line_number, 0), raw = ''
    where
        reason is null
        and exists (select 1 from erased)
        and (
            keyed_hash('{MESSAGE_ID}', message_id) in (select hmac from erased)
            or exists (
                select 1 from erased
                where
                    hmac = keyed_hash('user_id', user_id)
                    and received_at <= erased_at
            )
            or exists (
                select 1 from erased
                where
                    hmac = keyed_hash('anonymous_id', anonymous_id)
                    and received_at <= erased_at
            )
        )
"""

UNREAD_ID = "sha256('unopened: ' || path)"
"""Stands for the content of a file that is not read, in SQL."""

TURNS = """
    create table if not exists raw.turns (turn_seq bigint);
    insert into raw.turns select 0 where not exists (select 1 from raw.turns);
    update raw.turns set turn_seq = turn_seq + 1;
"""
# as the macro possible_time
HAPPENED_AT = """
    case
        when occurred_at < timestamp '1990-01-01' then received_at
        when received_at < timestamp '1990-01-01' then occurred_at
        else least(occurred_at, received_at)
    end
"""
LANDING = "(select turn_seq from raw.turns)"
"""The landing in progress, in SQL."""

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
class NewFile:
    """A file whose content has not been landed yet; `location` is our name for it."""

    path: str
    location: Path
    byte_count: int
    file_id: str
    form: Form

    @property
    def text_bytes(self) -> int:
        """About how many bytes of text it holds."""
        is_zipped = self.form in (Form.ZIPPED, Form.TABLE)
        return self.byte_count * (ZIP_RATIO if is_zipped else 1)


@dataclass(frozen=True)
class Landed:
    """What one landing brought; `salvaged_count` files had to be read line by line."""

    file_count: int
    row_count: int
    rejected_count: int
    salvaged_count: int


def land(
    connection: Connection,
    landing: Path,
    landed_at: datetime,
    erasures: Erasures = NOBODY,
) -> Landed:
    """Bring every file that is new by content into `raw`, but for what was erased.

    1. List the files; inspect those whose path, size or time of change is new.
    2. Where a known path grew, its new content takes the old one's place.
    3. Read batch after batch; what a batch objects to is read again, file by file.
    4. Keep one arrival of each message, the rejects and the counts.
    5. Note what lies in the folder unread, and why.

    The connection is in a transaction, as `Warehouse.connect` gives it. Each batch is
    committed, so that a crash loses none that is done.
    """
    connection.execute(TABLES)
    erasures.bring(connection)
    take_turn(connection)
    paths = known_paths(connection)
    listing = find_files(landing)
    problems = {file.path: file.problem for file in listing if file.problem}
    found = [
        file
        for file in listing
        if file.path not in problems and not is_known(file, paths)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        prefixes = [paths.get(file.path, NO_PATH)[1] for file in found]
        inspected = list(zip(found, pool.map(inspect, found, prefixes), strict=True))
    problems |= {
        file.path: content.problem for file, content in inspected if content.problem
    }
    contents = [pair for pair in inspected if not pair[1].problem]
    with TemporaryDirectory() as links:
        new_files = pick_new_files(connection, contents, paths, Path(links))
        commit(connection)
        salvaged_count = sum(
            land_batch(connection, batch, landed_at, problems)
            for batch in in_batches(new_files)
        )
    remember_paths(connection, contents)
    note_unread(connection, problems, landed_at)
    read_files = [file for file in new_files if file.path not in problems]
    row_count, rejected_count = count_rows(connection, read_files)
    return Landed(len(read_files), row_count, rejected_count, salvaged_count)


def take_turn(connection: Connection) -> int:
    """The number of what begins now, a landing or a run: greater than any before it."""
    connection.execute(TURNS)
    return int(connection.execute(f"select {LANDING}").fetchall()[0][0])


def unreadable_files(connection: Connection) -> pl.DataFrame:
    """What lies in the landing folder of which nothing could be read: path, reason."""
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

    What runs write themselves wakes nobody, nor does what is said by HTTP: it never
    ends, the schedule reads it, and the guard before that.
    """
    listing = [
        (file.path, file.byte_count, file.modified_ns, file.problem)
        for file in find_files(landing)
        if not file.path.startswith(WAKE_NOBODY)
    ]
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:16]


def known_paths(connection: Connection) -> dict[str, tuple[str, int, int]]:
    """Every path read so far: its content, bytes and time of change."""
    rows = connection.execute(
        "select path, file_id, byte_count, modified_ns from raw.landing_paths"
    ).fetchall()
    return {path: (file_id, size, changed) for path, file_id, size, changed in rows}


def is_known(file: FoundFile, paths: Mapping[str, tuple[str, int, int]]) -> bool:
    """Whether a file lies where one of its size and time of change was read."""
    return (file.byte_count, file.modified_ns) == paths.get(file.path, NO_PATH)[1:]


def pick_new_files(
    connection: Connection,
    contents: list[tuple[FoundFile, Content]],
    paths: dict[str, tuple[str, int, int]],
    links: Path,
) -> list[NewFile]:
    """One file for each content that `raw.files` lacks, the smallest path first.

    What a new content continues is replaced by it. Each file gets a link of a plain
    name that says its form.
    """
    rows = connection.execute("select file_id from raw.files").fetchall()
    known_ids = {file_id for (file_id,) in rows}
    new_files: dict[str, NewFile] = {}
    for number, (file, content) in enumerate(contents):
        if content.file_id in known_ids | new_files.keys():
            continue
        link = links / f"{number}{content.form.value}"
        link.symlink_to(file.location.absolute())
        new_files[content.file_id] = NewFile(
            file.path, link, content.byte_count, content.file_id, content.form
        )
        old_id = paths.get(file.path, NO_PATH)[0]
        if old_id in known_ids and old_id == content.prefix_id:
            supersede(connection, old_id, content.file_id)
    return list(new_files.values())


def supersede(connection: Connection, old_id: str, new_id: str) -> None:
    """Forget a file of which another is the continuation."""
    connection.execute("delete from raw.files where file_id = ?", [old_id])
    connection.execute("delete from raw.rejected_events where file_id = ?", [old_id])
    connection.execute(
        "update raw.events set file_id = ? where file_id = ?", [new_id, old_id]
    )


def in_batches(files: list[NewFile]) -> Iterator[list[NewFile]]:
    """Files that are read alike, in groups that are worth one statement each."""
    for forms in ((Form.TEXT, Form.ZIPPED), (Form.TABLE,), (Form.ODD,)):
        batch: list[NewFile] = []
        text_bytes = 0
        for file in files:
            if file.form not in forms:
                continue
            if batch and text_bytes + file.text_bytes > BATCH_BYTES:
                yield batch
                batch, text_bytes = [], 0
            batch.append(file)
            text_bytes += file.text_bytes
        if batch:
            yield batch


def land_batch(
    connection: Connection,
    files: list[NewFile],
    landed_at: datetime,
    problems: dict[str, str],
) -> int:
    """Read and keep a group of files; returns how many had to be salvaged.

    A file that cannot be opened any more joins the `problems`, by path.
    """
    connection.execute(NO_ARRIVALS)
    try:
        doubtful = read_batch(connection, files)
        gone = recheck_files(connection, doubtful)
    except DatabaseError as error:
        rollback(connection)
        if len(files) > 1:
            middle = len(files) // 2
            return sum(
                land_batch(connection, half, landed_at, problems)
                for half in (files[:middle], files[middle:])
            )
        connection.execute(NO_ARRIVALS)
        doubtful = files
        gone = salvage_refused(connection, files[0], error)
    problems |= gone
    keep_arrivals(
        connection, [file for file in files if file.path not in gone], landed_at
    )
    commit(connection)
    return len(doubtful)


def read_batch(connection: Connection, files: list[NewFile]) -> list[NewFile]:
    """Read files into `arrivals`; returns those that need another look.

    Raises:
        DatabaseError: if DuckDB refuses a file as a whole.
    """
    form = files[0].form
    if form is Form.ODD:
        return files
    if form is Form.TABLE:
        read_parquet(connection, files)
        return []
    return read_texts(connection, files)


def read_texts(connection: Connection, files: list[NewFile]) -> list[NewFile]:
    """Read line files in one statement; returns those with anything amiss.

    A line is one value of a CSV file whose separator no JSON can hold, so that it comes
    whole and unparsed, and from many files in parallel.
    """
    register_files(connection, files)
    locations = [str(file.location) for file in files]
    connection.execute(
        "insert into arrivals "
        + parse_events(
            """
            select
                batch_files.file_id,
                cast(null as bigint) as line_number,
                texts.line,
                cast(null as varchar) as problem,
                false as is_cut
            from read_csv(
                $locations,
                columns = {'line': 'varchar'},
                auto_detect = false,
                header = false,
                delim = '\x1f',
                quote = '',
                escape = '',
                nullstr = '\x1e',
                strict_mode = false,
                store_rejects = true,
                rejects_table = 'refused_lines',
                rejects_scan = 'refused_scans',
                filename = true
            ) as texts
            inner join batch_files on texts.filename = batch_files.location
            """
        ),
        {"locations": locations},
    )
    amiss = connection.execute(
        """
        select file_id from arrivals where reason is not null
        union
        select batch_files.file_id
        from refused_lines
        inner join refused_scans
            on
                refused_lines.scan_id = refused_scans.scan_id
                and refused_lines.file_id = refused_scans.file_id
        inner join batch_files on refused_scans.file_path = batch_files.location
        """
    ).fetchall()
    connection.execute("drop table refused_lines; drop table refused_scans")
    connection.unregister("batch_files")
    amiss_ids = {file_id for (file_id,) in amiss}
    return [file for file in files if file.file_id in amiss_ids]


def read_parquet(connection: Connection, files: list[NewFile]) -> None:
    """Read tables whose columns are the envelope's fields, cast where they can be.

    Each row is written as the line that it would have been, and judged as one.
    """
    names = {*FIELDS, *FIELDS.values()}
    alike: dict[tuple[tuple[str, str], ...], list[NewFile]] = {}
    for file in files:
        columns = connection.execute(
            "select column_name, column_type from "
            "(describe from read_parquet(?, hive_partitioning = false)) "
            "order by column_name",
            [str(file.location)],
        ).fetchall()
        known = tuple((name, kind) for name, kind in columns if name in names)
        alike.setdefault(known, []).append(file)
    for schema, group in alike.items():
        register_files(connection, group)
        values = ", ".join(f"'{name}', {as_json(name, kind)}" for name, kind in schema)
        connection.execute(
            "insert into arrivals "
            + parse_events(
                f"""
                select
                    batch_files.file_id,
                    rows.file_row_number + 1 as line_number,
                    cast(json_object({values}) as varchar) as line,
                    cast(null as varchar) as problem,
                    false as is_cut
                from read_parquet(
                    $locations,
                    hive_partitioning = false,
                    file_row_number = true,
                    filename = 'landed from'
                ) as rows
                inner join batch_files on rows."landed from" = batch_files.location
                """
            ),
            {"locations": [str(file.location) for file in group]},
        )
        connection.unregister("batch_files")


def as_json(name: str, kind: str) -> str:
    """A Parquet column as JSON; objects may come as text, and text as bytes."""
    value = f'"{name}"'
    if kind == "BLOB":
        value = f"coalesce(try(decode({value})), cast({value} as varchar))"
    if name not in ("context", "properties", "traits"):
        return value
    if kind in ("VARCHAR", "JSON", "BLOB"):
        return f"coalesce(try_cast({value} as json), to_json({value}))"
    return f"json_strip_nulls(to_json({value}))"


def recheck_files(connection: Connection, files: list[NewFile]) -> dict[str, str]:
    """Number the bad lines of doubtful files; salvage a file that was not read well.

    Returns the problems of files that cannot be opened any more, by path.
    """
    ids = [file.file_id for file in files]
    good_counts = dict(
        connection.execute(
            "select file_id, count(*) from arrivals "
            "where reason is null and list_contains(?, file_id) group by file_id",
            [ids],
        ).fetchall()
    )
    bad_lines: dict[str, set[str]] = {file_id: set() for file_id in ids}
    for file_id, raw in connection.execute(
        "select file_id, raw from arrivals "
        "where reason is not null and list_contains(?, file_id)",
        [ids],
    ).fetchall():
        bad_lines[file_id].add(raw)
    suspects: list[tuple[str, Line]] = []
    gone: dict[str, str] = {}
    for file in files:
        sifted = None
        if file.form is not Form.ODD:
            with suppress(DamagedError, OSError):
                sifted = locate_rejects(file.location, bad_lines[file.file_id])
        if sifted and sifted.sound_count == good_counts.get(file.file_id, 0):
            connection.execute(
                "delete from arrivals where file_id = ? and reason is not null",
                [file.file_id],
            )
            suspects += [(file.file_id, line) for line in sifted.suspects]
        else:
            gone |= salvage(connection, file)
    insert_lines(connection, suspects)
    return gone


def salvage(connection: Connection, file: NewFile) -> dict[str, str]:
    """Read one file line by line for all that can be had of it.

    Returns the problem of a file that cannot be opened any more, by its path.
    """
    connection.execute("delete from arrivals where file_id = ?", [file.file_id])
    try:
        for lines in in_chunks(read_lines(file.location)):
            insert_lines(connection, [(file.file_id, line) for line in lines])
    except DamagedError as error:
        reject_whole(connection, file, str(error))
    except OSError as error:
        connection.execute("delete from arrivals where file_id = ?", [file.file_id])
        return {file.path: f"cannot be opened: {error.strerror}"}
    return {}


def salvage_refused(
    connection: Connection, file: NewFile, refusal: DatabaseError
) -> dict[str, str]:
    """Salvage a file that DuckDB refused; what even so cannot be read is one reject."""
    reason = str(refusal).splitlines()[0].replace(str(file.location), file.path)
    if file.form is Form.TABLE:
        reject_whole(connection, file, f"Parquet cannot be read: {reason}")
        return {}
    try:
        return salvage(connection, file)
    except DatabaseError:
        rollback(connection)
        connection.execute(NO_ARRIVALS)
        reject_whole(connection, file, f"cannot be read: {reason}")
        return {}


def reject_whole(connection: Connection, file: NewFile, reason: str) -> None:
    """Reject a file as a whole."""
    connection.execute(
        "insert into arrivals (file_id, reason, raw) values (?, ?, '')",
        [file.file_id, reason],
    )


def in_chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in groups that fit in memory many times over."""
    chunk: list[Line] = []
    length = 0
    for line in lines:
        chunk.append(line)
        length += len(line.line)
        if length > CHUNK_LENGTH:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def keep_arrivals(
    connection: Connection, files: list[NewFile], landed_at: datetime
) -> None:
    """Keep what arrived: files with their counts, rejects, one row per message.

    Of several arrivals of a message the earliest received stays, then the one with the
    smallest content hash, then that from the file with the smallest id: the smallest
    of a total order, so that no order of landing matters.
    """
    connection.execute(REFUSE_ERASED)
    register_files(connection, files)
    connection.execute(
        """
        insert into raw.files
        select
            batch_files.file_id,
            any_value(batch_files.path) as path,
            batch_files.file_id as sha256,
            count(arrivals.file_id) as row_count,
            count(arrivals.reason) as rejected_count,
            cast($landed_at as timestamp) as landed_at
        from batch_files
        left join arrivals on batch_files.file_id = arrivals.file_id
        group by batch_files.file_id
        """,
        {"landed_at": landed_at},
    )
    connection.unregister("batch_files")
    connection.execute(
        f"""
        insert into raw.rejected_events
        select file_id, line_number, reason, raw from arrivals where reason is not null;

        create or replace temp table contested as
        select message_id from arrivals where reason is null
        group by message_id having count(*) > 1
        union
        select message_id from arrivals semi join raw.events using (message_id)
        where reason is null;

        insert into raw.events
        select {EVENT_COLUMNS}, {LANDING} as landing_seq
        from arrivals anti join contested using (message_id)
        where reason is null;

        create or replace temp table winners as
        select {EVENT_COLUMNS}, landing_seq from (
            select {EVENT_COLUMNS}, {LANDING} as landing_seq
            from arrivals semi join contested using (message_id)
            where reason is null
            union all
            select {EVENT_COLUMNS}, landing_seq from raw.events
            semi join contested using (message_id)
        )
        qualify row_number() over (
            partition by message_id
            order by received_at asc, {content_hash()} asc, file_id asc
        ) = 1;

        insert into raw.superseded_messages
        select message_id, timestamp '{landed_at}' as landed_at from (
            select message_id, {content_hash()}, {HAPPENED_AT}
            from raw.events semi join contested using (message_id)
            except
            select message_id, {content_hash()}, {HAPPENED_AT}
            from winners
        );

        delete from raw.events
        where message_id in (select message_id from contested);

        insert into raw.events select * from winners;

        drop table contested;
        drop table winners;
        drop table arrivals;
        """
    )


def register_files(connection: Connection, files: list[NewFile]) -> None:
    """Make `batch_files` hold a group of files."""
    frame = pl.DataFrame(
        {
            "file_id": [file.file_id for file in files],
            "path": [file.path for file in files],
            "location": [str(file.location) for file in files],
        }
    )
    connection.register("batch_files", frame.to_arrow())


def insert_lines(connection: Connection, lines: list[tuple[str, Line]]) -> None:
    """Take lines of files, given as (file_id, line), into `arrivals`."""
    if not lines:
        return
    frame = pl.DataFrame(
        {
            "file_id": [file_id for file_id, _ in lines],
            "line_number": [line.line_number for _, line in lines],
            "line": [line.line for _, line in lines],
            "problem": pl.Series([line.problem for _, line in lines], dtype=pl.String),
            "is_cut": [line.is_cut for _, line in lines],
        }
    )
    connection.register("chunk_lines", frame.to_arrow())
    connection.execute(
        f"insert into arrivals {parse_events('select * from chunk_lines')}"
    )
    connection.unregister("chunk_lines")


def remember_paths(
    connection: Connection, contents: list[tuple[FoundFile, Content]]
) -> None:
    """Note what was read where, so that it need not be hashed again."""
    if not contents:
        return
    frame = pl.DataFrame(
        {
            "path": [file.path for file, _ in contents],
            "file_id": [content.file_id for _, content in contents],
            "byte_count": [content.byte_count for _, content in contents],
            "modified_ns": [file.modified_ns for file, _ in contents],
        }
    )
    connection.register("read_paths", frame.to_arrow())
    connection.execute(
        """
        delete from raw.landing_paths where path in (select path from read_paths);
        insert into raw.landing_paths
        select * from read_paths semi join raw.files using (file_id);
        """
    )
    connection.unregister("read_paths")


def note_unread(
    connection: Connection, problems: dict[str, str], landed_at: datetime
) -> None:
    """Make the rejects hold what now lies in the landing folder unread, and why.

    Such a file is known by its path, and forgotten when it is gone or can be read.
    """
    frame = pl.DataFrame(
        {"path": list(problems), "reason": list(problems.values())},
        schema={"path": pl.String, "reason": pl.String},
    )
    connection.register("unread", frame.to_arrow())
    connection.execute(
        f"""
        create or replace temp table unread_files as
        select {UNREAD_ID} as file_id, path, reason from unread;

        create or replace temp table read_since as
        select files.file_id from raw.files as files
        left join raw.rejected_events using (file_id)
        left join unread_files using (file_id)
        where
            files.file_id = {UNREAD_ID.replace("path", "files.path")}
            and rejected_events.reason is distinct from unread_files.reason;

        delete from raw.files where file_id in (from read_since);
        delete from raw.rejected_events where file_id in (from read_since);

        insert into raw.rejected_events
        select file_id, null, reason, ''
        from unread_files anti join raw.files using (file_id);

        insert into raw.files
        select file_id, path, file_id, 1, 1, timestamp '{landed_at}'
        from unread_files anti join raw.files using (file_id);

        drop table unread_files;
        drop table read_since;
        """
    )
    connection.unregister("unread")


def count_rows(connection: Connection, files: list[NewFile]) -> tuple[int, int]:
    """How many lines the files had, good and bad, and how many were rejected."""
    rows = connection.execute(
        "select coalesce(sum(row_count), 0), coalesce(sum(rejected_count), 0) "
        "from raw.files where list_contains(?, file_id)",
        [[file.file_id for file in files]],
    ).fetchall()
    return int(rows[0][0]), int(rows[0][1])


def commit(connection: Connection) -> None:
    """Commit what is done and go on."""
    connection.execute("commit")
    connection.execute("begin")


def rollback(connection: Connection) -> None:
    """Give up what was done since the last commit and go on."""
    connection.execute("rollback")
    connection.execute("begin")
