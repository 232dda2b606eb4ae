"""The last look before a message goes out: what landed since the send list was made.

Such messages are read as `landing` reads them, into a database in memory. Nothing is
judged here, for the models have not seen them: whoever does more in them than look
around keeps what waits for them until the next run, which judges it with all that is
known by then. A message is about a person if it holds any of their identifiers, or is
of somebody who another such message says is them.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path

import polars as pl

from orchestration.settings import wall_clock
from orchestration.sources.folder import FoundFile, find_files
from orchestration.sources.landing import TABLES, is_known, known_paths, land
from orchestration.warehouse import Connection, Warehouse, fetch_frame

STOPS_SCHEMA: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "send_id": pl.String,
    "message_id": pl.String,
    "event": pl.String,
    "landed_at": pl.Datetime("us"),
    "stopped_at": pl.Datetime("us"),
}

READ = {
    "raw.landing_paths": "select * from raw.landing_paths",
    "raw.files": "select * from raw.files",
}
READ_MESSAGES = "select message_id from raw.events semi join news using (message_id)"
# landed in time to be read, but received while the run was under way
LATECOMERS = """
    select * from raw.events where received_at > $since and received_at <= $now
"""
LETTERS = "regexp_replace(lower({text}), '[^\\pL\\pN]', '', 'g')"
"""How a name or an identifier is compared, in SQL: as the macro `spelled`."""

MEANINGS = f"""
    select
        {LETTERS.format(text="event")} as spelled,
        any_value(event) as event,
        bool_and(
            kind in ('page_view', 'product_view', 'experiment')
            or kind = 'message'
            and action in ('sent', 'delivered', 'opened', 'clicked')
        ) as is_looking_around
    from seeds.semantic_events
    group by 1
"""
IDENTIFIERS = """
    select
        sends.send_id,
        true as is_id,
        unnest([sends.address, sends.identifier, identity_map.identifier]) as text
    from sends
    left join decisions.enrollment_progress as progress
        on sends.enrollment_id = progress.enrollment_id
    left join identity.identity_map as identity_map
        on coalesce(progress.profile_id, sends.profile_id) = identity_map.profile_id
"""
NEWS = """
    create or replace temp table news as
    select
        row_number() over () as line_id,
        *
    from (
        select
            message_id,
            file_id,
            type,
            event,
            anonymous_id,
            user_id,
            to_json([context, properties, traits]) as document
        from raw.events
        union all
        select
            cast(null as varchar) as message_id,
            file_id,
            'a line that cannot be read' as type,
            cast(null as varchar) as event,
            json_extract_string(try_cast(raw as json), '$.anonymousId') as anonymous_id,
            json_extract_string(try_cast(raw as json), '$.userId') as user_id,
            coalesce(
                try_cast(raw as json),
                to_json(regexp_split_to_array(raw, '["''\\s,;:{}\\[\\]]+'))
            ) as document
        from raw.rejected_events
    )
"""
TEXTS = """
    select line_id, true as is_id, unnest([anonymous_id, user_id]) as text
    from news
    union all
    select
        news.line_id,
        false as is_id,
        json_extract_string(leaves.atom, '$') as text
    from news, json_tree(news.document) as leaves
    where leaves.atom is not null
"""
# A short text is an identifier only where one belongs. The last digits of a phone
# number are the same however it is written.
KEYS = f"""
    select distinct
        {{owner}},
        is_id,
        key
    from (
        select
            {{owner}},
            is_id,
            unnest([
                letters,
                case
                    when regexp_full_match(letters, '[0-9]{{{{9,15}}}}')
                        then right(letters, 9)
                end
            ]) as key
        from (
            select {{owner}}, is_id, {LETTERS.format(text="text")} as letters
            from ({{texts}})
        )
    )
    where key <> '' and (is_id or length(key) >= 6)
"""
STOPS = f"""
    with recursive

    reached as (
        select send_id, key from watched_keys
        union
        select reached.send_id, others.key
        from reached
        inner join news_keys as found on reached.key = found.key
        inner join news_keys as others
            on found.line_id = others.line_id and others.is_id
    )

    select
        reached.send_id,
        min_by(news.message_id, news.line_id) as message_id,
        min_by(coalesce(meanings.event, news.type), news.line_id) as event,
        date_trunc(
            'second', make_timestamp(min_by(files.modified_ns, news.line_id) // 1000)
        ) as landed_at
    from reached
    inner join news_keys on reached.key = news_keys.key
    inner join news on news_keys.line_id = news.line_id
    left join raw.landing_paths as files on news.file_id = files.file_id
    left join meanings
        on
            news.type = 'track'
            and {LETTERS.format(text="news.event")} = meanings.spelled
    where
        news.type not in ('page', 'screen')
        and not coalesce(meanings.is_looking_around, false)
    group by reached.send_id
    order by reached.send_id
"""


class Guard:
    """What landed since the tables of a run were built, for the sends of one channel.

    `sends` holds `send_id`, `enrollment_id`, `profile_id`, `identifier` and `address`.
    A run that looks from the clock leaves what was received since it began to the next
    one; `since` says when that was, so that the guard does not.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        landing: Path,
        sends: pl.DataFrame,
        *,
        since: datetime | None = None,
    ) -> None:
        self._warehouse = warehouse
        self._landing = landing
        self._sends = sends
        self._since = since
        self._listing: list[FoundFile] | None = None
        self._stops: dict[str, Mapping[str, object]] = {}
        self._stopped: set[str] = set()

    def __call__(self, send_ids: Collection[str]) -> dict[str, str]:
        """Those of some sends that must wait now, each with the reason.

        Raises:
            DatabaseError: if what landed cannot be read; then nothing may go out.
        """
        listing = [file for file in find_files(self._landing) if not file.problem]
        if listing != self._listing:
            self._look(listing)
            self._listing = listing
        stopped = self._stops.keys() & set(send_ids)
        self._stopped |= stopped
        return {
            send_id: f"guard: {self._stops[send_id]['event']} has landed since"
            for send_id in stopped
        }

    def stops(self) -> pl.DataFrame:
        """What was kept back: the columns of `STOPS_SCHEMA`, times to the second."""
        rows = [self._stops[send_id] for send_id in sorted(self._stopped)]
        return pl.DataFrame(rows, schema=STOPS_SCHEMA)

    def _look(self, listing: Iterable[FoundFile]) -> None:
        """Hold all that landed since against the sends; a stop that was found stays."""
        now = wall_clock()
        bounds = {"since": self._since or now, "now": now}
        with self._warehouse.connect(read_only=True) as tables:
            latecomers = fetch_frame(tables, LATECOMERS, bounds)
            paths = known_paths(tables)
            if latecomers.is_empty() and all(is_known(file, paths) for file in listing):
                return
            with Warehouse(Path(":memory:")).connect() as news:
                self._read(tables, news, latecomers)
                for stop in fetch_frame(news, STOPS).to_dicts():
                    self._stops.setdefault(stop["send_id"], {**stop, "stopped_at": now})

    def _read(
        self, tables: Connection, news: Connection, latecomers: pl.DataFrame
    ) -> None:
        """Bring news, whom they are about and whom the sends are to, into `news`."""
        news.execute(TABLES)
        for table, query in READ.items():
            copy(news, table, fetch_frame(tables, query))
        land(news, self._landing, wall_clock())
        self._forget_what_was_read(tables, news)
        copy(news, "raw.events", latecomers)
        tables.register("sends", self._sends.to_arrow())
        news.register("identifiers", fetch_frame(tables, IDENTIFIERS).to_arrow())
        news.register("meanings", fetch_frame(tables, MEANINGS).to_arrow())
        news.execute(NEWS)
        for table, owner, texts in (
            ("watched_keys", "send_id", "select * from identifiers"),
            ("news_keys", "line_id", TEXTS),
        ):
            keys = KEYS.format(owner=owner, texts=texts)
            news.execute(f"create temp table {table} as {keys}")

    def _forget_what_was_read(self, tables: Connection, news: Connection) -> None:
        """A file that grew is read whole; what it held before is no news."""
        found = fetch_frame(news, "select message_id from raw.events")
        tables.register("news", found.to_arrow())
        read = fetch_frame(tables, READ_MESSAGES)
        news.register("read_before", read.to_arrow())
        news.execute(
            "delete from raw.events "
            "where message_id in (select message_id from read_before)"
        )


def copy(connection: Connection, table: str, frame: pl.DataFrame) -> None:
    """Add the rows of a frame to a table, by name."""
    connection.register("incoming", frame.to_arrow())
    connection.execute(f"insert into {table} by name select * from incoming")
    connection.unregister("incoming")
