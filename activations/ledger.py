"""The send ledger: the one durable truth of what went out, and what did not.

SQLite, so that a crash between two writes can never send twice. All times are the
`as_of` of runs; `delivery_latency` alone is wall clock. It renders and sends nothing.
"""

import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Literal, Self

import polars as pl

from activations.claims import Claims

State = Literal["pending", "inflight", "sent", "suppressed", "dead", "unknown"]
SETTLED: frozenset[State] = frozenset({"sent", "suppressed", "dead", "unknown"})

# Each entry lifts the schema by one version; entries that were released never change.
MIGRATIONS = (
    """
    create table sends (
        send_id text primary key,
        enrollment_id text not null,
        journey text not null,
        step text not null,
        channel text not null,
        profile_id text not null,
        identifier_type text,
        identifier text,
        destination text not null,
        address text,
        content_id text not null,
        message_class text not null,
        payload text,
        state text not null check (state in (
            'pending', 'inflight', 'sent', 'suppressed', 'dead', 'unknown'
        )),
        reason text,
        as_of text not null,
        enqueued_at text not null,
        settled_at text,
        sent_at text,
        attempts integer not null default 0 check (attempts >= 0),
        receipt text,
        delivery_latency real,
        check ((state in ('pending', 'inflight')) = (settled_at is null)),
        check ((state = 'sent') = (sent_at is not null)),
        check (state not in ('suppressed', 'dead', 'unknown') or reason is not null),
        check (state not in ('inflight', 'sent', 'unknown') or attempts > 0),
        check (settled_at is null or payload is null)
    ) strict;

    create index sends_by_state on sends (channel, state);
    create index sends_by_run on sends (as_of, channel);
    create index sends_by_sent_at on sends (sent_at);

    create trigger sends_take_only_legal_steps
    before update of state on sends
    when old.state <> new.state and not (
        (old.state = 'pending' and new.state in ('inflight', 'suppressed', 'dead'))
        or (
            old.state = 'inflight'
            and new.state in ('pending', 'sent', 'dead', 'unknown')
        )
    )
    begin
        select raise(abort, 'a send cannot take this step');
    end;

    create trigger sends_keep_their_key
    before update of send_id, as_of, enqueued_at on sends
    begin
        select raise(abort, 'the identity of a send is fixed');
    end;
    """,
    """
    create table marks (
        name text primary key,
        value text not null
    ) strict;
    """,
    """
    alter table sends add column retried_at text;

    create index sends_by_address on sends (channel, address, journey, step);

    drop trigger sends_take_only_legal_steps;

    create trigger sends_take_only_legal_steps
    before update of state on sends
    when old.state <> new.state and not (
        (old.state = 'pending' and new.state in ('inflight', 'suppressed', 'dead'))
        or (
            old.state = 'inflight'
            and new.state in ('pending', 'sent', 'dead', 'unknown')
        )
        or (
            old.state = 'dead'
            and new.state = 'pending'
            and new.retried_at is not null
        )
    )
    begin
        select raise(abort, 'a send cannot take this step');
    end;
    """,
    """
    create table test_sends (
        send_id text primary key,
        journey text not null,
        step text not null,
        channel text not null,
        content_id text not null,
        destination text not null,
        address text,
        state text not null check (state in ('inflight', 'sent', 'dead', 'unknown')),
        reason text,
        receipt text,
        made_at text not null
    ) strict;
    """,
    """
    alter table sends add column frozen text check (
        frozen is null or state = 'inflight'
    );
    alter table sends add column tried_at text check (
        (tried_at is null) = (frozen is null)
    );
    """,
)
CLAIMS = "claims.ndjson"
BOUNCED = "bounced"
"""How the reason of a dead send begins whose address takes no mail."""
CLAIM_COUNT = "claim_count"
DOUBT = "doubt"

# What `enqueue` takes of a send list row, in the order of the insert.
ENQUEUED = (
    "send_id",
    "enrollment_id",
    "journey",
    "step",
    "channel",
    "profile_id",
    "identifier_type",
    "identifier",
    "address",
    "content_id",
    "message_class",
    "payload",
    "as_of",
)

Schema = Mapping[str, pl.DataType | type[pl.DataType]]
TIMESTAMP = pl.Datetime("us")
COPY_SCHEMA: Schema = {
    "send_id": pl.String,
    "enrollment_id": pl.String,
    "journey": pl.String,
    "step": pl.String,
    "channel": pl.String,
    "profile_id": pl.String,
    "destination": pl.String,
    "content_id": pl.String,
    "message_class": pl.String,
    "state": pl.String,
    "reason": pl.String,
    "as_of": TIMESTAMP,
    "enqueued_at": TIMESTAMP,
    "settled_at": TIMESTAMP,
    "sent_at": TIMESTAMP,
    "attempts": pl.Int64,
    "delivery_latency": pl.Float64,
}
RECEIPT_SCHEMA: Schema = {
    "send_id": pl.String,
    "channel": pl.String,
    "journey": pl.String,
    "step": pl.String,
    "content_id": pl.String,
    "profile_id": pl.String,
    "identifier_type": pl.String,
    "identifier": pl.String,
    "sent_at": TIMESTAMP,
}
BOUNCE_SCHEMA: Schema = {
    "send_id": pl.String,
    "channel": pl.String,
    "journey": pl.String,
    "step": pl.String,
    "content_id": pl.String,
    "address": pl.String,
    "reason": pl.String,
    "settled_at": TIMESTAMP,
}
ROW_COLUMNS = tuple(name for name in ENQUEUED if name not in ("payload", "as_of"))
ROWS_BEFORE_SCHEMA: Schema = {
    **dict.fromkeys(ROW_COLUMNS, pl.String),
    "state": pl.String,
    "reason": pl.String,
    "as_of": TIMESTAMP,
    "waits_since": TIMESTAMP,
    "sent_at": TIMESTAMP,
    "is_in_doubt": pl.Boolean,
}
TEST_SCHEMA: Schema = {
    "send_id": pl.String,
    "journey": pl.String,
    "step": pl.String,
    "channel": pl.String,
    "content_id": pl.String,
    "destination": pl.String,
    "state": pl.String,
    "reason": pl.String,
    "made_at": TIMESTAMP,
}
DEAD_SCHEMA: Schema = {
    "reason": pl.String,
    "send_count": pl.Int64,
    "settled_at": TIMESTAMP,
}


class LedgerError(Exception):
    """The ledger cannot be used as asked, said in one line."""


class DamagedLedgerError(LedgerError):
    """The file is no ledger, or not a whole one."""


class StaleLedgerError(LedgerError):
    """The ledger is older than what went out: it would send again."""


@dataclass(frozen=True)
class Send:
    """One claimed row: all that rendering and sending it takes."""

    send_id: str
    enrollment_id: str
    journey: str
    step: str
    channel: str
    profile_id: str
    destination: str
    address: str | None = field(repr=False)
    content_id: str
    message_class: str
    payload: str | None = field(repr=False)
    as_of: datetime
    attempts: int
    identifier_type: str | None = None
    identifier: str | None = None
    frozen: str | None = field(default=None, repr=False)
    tried_at: datetime | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one claimed row.

    `pending` was certainly not taken and may be tried again; `inflight` may have been
    taken, and its destination's delivery class says what follows.
    """

    send_id: str
    state: Literal["pending", "inflight", "sent", "dead", "unknown"]
    reason: str | None = None
    receipt: str | None = None
    delivery_latency: float | None = None


class Ledger:
    """An open ledger; one process at a time writes it, under the home's lock."""

    def __init__(self, path: Path) -> None:
        """Open `path`, making or migrating the file where needed.

        Raises:
            DamagedLedgerError: if the file cannot be read.
            LedgerError: if a newer release wrote the file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._claims = Claims(path.with_name(CLAIMS))
        is_new = not path.exists()
        self._connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        if is_new:
            path.chmod(0o600)
        try:
            for pragma in (
                "journal_mode = wal",
                "synchronous = full",
                "secure_delete = on",
                "foreign_keys = on",
            ):
                self._connection.execute(f"pragma {pragma}")
            self._connection.row_factory = sqlite3.Row
            self._migrate()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise DamagedLedgerError(damage(path, error)) from None
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Fold the write-ahead log into the file and let go of it."""
        self._connection.execute("pragma wal_checkpoint(truncate)")
        self._connection.close()

    def _migrate(self) -> None:
        (version,) = self._connection.execute("pragma user_version").fetchone()
        if version > len(MIGRATIONS):
            raise LedgerError(
                f"{self.path} has schema {version}, this release knows "
                f"{len(MIGRATIONS)}: upgrade rekindle"
            )
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            # executescript commits what is open, so the transaction is in the script
            self._connection.executescript(
                f"begin immediate;\n{script}\npragma user_version = {number};\ncommit;"
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("begin immediate")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def assert_sound(self) -> None:
        """Read the whole file.

        Raises:
            DamagedLedgerError: if any of it cannot be read.
        """
        try:
            found = self._connection.execute("pragma quick_check(1)").fetchall()
        except sqlite3.DatabaseError as error:
            raise DamagedLedgerError(damage(self.path, error)) from None
        if [row[0] for row in found] != ["ok"]:
            raise DamagedLedgerError(damage(self.path, found[0][0]))

    def assert_current(self) -> None:
        """Compare the count of claims with the one kept beside the ledger.

        Raises:
            StaleLedgerError: if the ledger lacks claims that were made.
        """
        count = self._claim_count()
        if self._claims.mark > count:
            raise StaleLedgerError(
                f"{self.path.name} holds {count} claims of sends, "
                f"{self._claims.path.name} {self._claims.mark}"
            )

    def _claim_count(self) -> int:
        return int(self._mark(CLAIM_COUNT) or 0)

    def _mark(self, name: str) -> str | None:
        rows = self._connection.execute(
            "select value from marks where name = ?", (name,)
        ).fetchall()
        return rows[0]["value"] if rows else None

    def _set_mark(self, name: str, value: str) -> None:
        self._connection.execute(
            "insert into marks values (?, ?) "
            "on conflict (name) do update set value = excluded.value",
            (name, value),
        )

    def enqueue(
        self,
        sends: Iterable[Mapping[str, object]],
        *,
        destination: str,
        as_of: datetime,
        suppressed_for: str | None = None,
        unknown_for: str | None = None,
    ) -> int:
        """Record each send that the ledger does not know; returns how many were new.

        `as_of` is the run that records; a row's own `as_of` is the run that decided.
        With `suppressed_for` they are recorded as never to be sent, for that reason;
        with `unknown_for` as possibly sent before, which is never sent again either.
        """
        moment = to_text(as_of)
        reason = suppressed_for or unknown_for
        settled_at = moment if reason else None
        state = "pending"
        if reason:
            state = "suppressed" if suppressed_for else "unknown"
        rows = []
        for send in sends:
            values = {name: send[name] for name in ENQUEUED}
            decided_at = values["as_of"]
            if not isinstance(decided_at, datetime):
                raise LedgerError(f"send {values['send_id']} has no as_of")
            values["as_of"] = to_text(decided_at)
            if reason:
                values["payload"] = None
            rows.append(
                (
                    *values.values(),
                    destination,
                    state,
                    reason,
                    moment,
                    settled_at,
                    int(state == "unknown"),
                )
            )
        columns = (
            *ENQUEUED,
            "destination",
            "state",
            "reason",
            "enqueued_at",
            "settled_at",
            "attempts",
        )
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(
                f"insert into sends ({', '.join(columns)}) "
                f"values ({', '.join('?' * len(columns))}) "
                "on conflict (send_id) do nothing",
                rows,
            )
            return connection.total_changes - before

    def waiting(self, channel: str) -> list[Send]:
        """The pending rows of a channel, in the order in which they were decided."""
        return self._in_state("pending", channel)

    def inflight(self, channel: str) -> list[Send]:
        """The rows of a channel that a run claimed and never settled: it died."""
        return self._in_state("inflight", channel)

    def _in_state(self, state: State, channel: str) -> list[Send]:
        rows = self._connection.execute(
            "select * from sends where state = ? and channel = ? "
            "order by as_of, send_id",
            (state, channel),
        ).fetchall()
        return [to_send(row) for row in rows]

    def claim(self, send_ids: Sequence[str], *, destination: str) -> list[Send]:
        """Take pending rows in flight to `destination`; others are left alone.

        Raises:
            StaleLedgerError: if the ledger lacks claims that were made.
        """
        self.assert_current()
        with self._transaction() as connection:
            rows = [
                row
                for send_id in send_ids
                for row in connection.execute(
                    "update sends set state = 'inflight', destination = ?, "
                    "attempts = attempts + 1 "
                    "where send_id = ? and state = 'pending' returning *",
                    (destination, send_id),
                ).fetchall()
            ]
            count = self._claim_count() + len(rows)
            self._set_mark(CLAIM_COUNT, str(count))
        if rows:
            self._claims.append(count, [dict(row) for row in rows])
        return [to_send(row) for row in rows]

    def freeze(self, messages: Mapping[str, str], *, at: datetime) -> None:
        """Keep what claimed rows are about to be sent with, until they are settled.

        `at` is the clock's time of the attempt: since then a destination may have it.

        Raises:
            LedgerError: if a row is not in flight.
        """
        moment = to_text(at)
        with self._transaction() as connection:
            for send_id, message in messages.items():
                cursor = connection.execute(
                    "update sends set frozen = ?, tried_at = ? "
                    "where send_id = ? and state = 'inflight'",
                    (message, moment, send_id),
                )
                if cursor.rowcount != 1:
                    raise LedgerError(f"send {send_id} is not in flight")

    def repeat(self, send_ids: Iterable[str]) -> list[Send]:
        """Count another attempt of rows in flight, each with what it was frozen as."""
        with self._transaction() as connection:
            rows = [
                row
                for send_id in send_ids
                for row in connection.execute(
                    "update sends set attempts = attempts + 1 where send_id = ? "
                    "and state = 'inflight' and frozen is not null returning *",
                    (send_id,),
                ).fetchall()
            ]
        return [to_send(row) for row in rows]

    def complete(self, outcomes: Iterable[Outcome], *, as_of: datetime) -> None:
        """Settle claimed rows, put them back to be tried again, or leave them in doubt.

        Raises:
            LedgerError: if a row is not in flight.
        """
        moment = to_text(as_of)
        with self._transaction() as connection:
            for outcome in outcomes:
                is_settled = outcome.state in SETTLED
                cursor = connection.execute(
                    """
                    update sends
                    set
                        state = ?,
                        reason = ?,
                        receipt = ?,
                        delivery_latency = ?,
                        settled_at = ?,
                        sent_at = ?,
                        payload = case when ? then null else payload end,
                        frozen = case when ? then frozen end,
                        tried_at = case when ? then tried_at end
                    where send_id = ? and state = 'inflight'
                    """,
                    (
                        outcome.state,
                        outcome.reason,
                        outcome.receipt,
                        outcome.delivery_latency,
                        moment if is_settled else None,
                        moment if outcome.state == "sent" else None,
                        is_settled,
                        outcome.state == "inflight",
                        outcome.state == "inflight",
                        outcome.send_id,
                    ),
                )
                if cursor.rowcount != 1:
                    raise LedgerError(f"send {outcome.send_id} is not in flight")

    def withdraw(
        self,
        send_ids: Iterable[str],
        *,
        state: Literal["suppressed", "dead"],
        reason: str,
        as_of: datetime,
    ) -> int:
        """Settle pending rows that shall not be tried again; returns how many."""
        moment = to_text(as_of)
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(
                "update sends set state = ?, reason = ?, settled_at = ?, "
                "payload = null where send_id = ? and state = 'pending'",
                [(state, reason, moment, send_id) for send_id in send_ids],
            )
            return connection.total_changes - before

    def refresh(self, sends: Iterable[Mapping[str, object]]) -> None:
        """Write to pending rows what they are to be sent with now.

        Address, payload and class are those of now; a payload that is not known now
        stays as it was.
        """
        names = ("send_id", "address", "payload", "message_class")
        with self._transaction() as connection:
            connection.executemany(
                "update sends set address = :address, "
                "payload = coalesce(:payload, payload), "
                "message_class = :message_class "
                "where send_id = :send_id and state = 'pending'",
                [{name: send[name] for name in names} for send in sends],
            )

    def hold(self, reasons: Mapping[str, str]) -> None:
        """Record why pending rows are not tried now."""
        with self._transaction() as connection:
            connection.executemany(
                "update sends set reason = ? where send_id = ? and state = 'pending'",
                [(reason, send_id) for send_id, reason in reasons.items()],
            )

    def begin_test(self, send: Send, *, made_at: datetime) -> None:
        """Record a message to ourselves before it is handed over.

        It is no send: no run reads it, counts it or sends it again. One that a process
        left in flight when it died is `unknown`.
        """
        with self._transaction() as connection:
            connection.execute(
                "update test_sends set state = 'unknown', reason = 'crashed_in_flight' "
                "where state = 'inflight'"
            )
            connection.execute(
                "insert into test_sends values "
                "(?, ?, ?, ?, ?, ?, ?, 'inflight', null, null, ?)",
                (
                    *(send.send_id, send.journey, send.step, send.channel),
                    *(send.content_id, send.destination, send.address),
                    to_text(made_at),
                ),
            )

    def end_test(self, outcome: Outcome) -> None:
        """Record what became of a message to ourselves; it is not tried again."""
        state = "dead" if outcome.state == "pending" else outcome.state
        with self._transaction() as connection:
            connection.execute(
                "update test_sends set state = ?, reason = ?, receipt = ? "
                "where send_id = ?",
                (state, outcome.reason, outcome.receipt, outcome.send_id),
            )

    def tests(self) -> pl.DataFrame:
        """Every message to ourselves, the newest last, without its address."""
        return self._frame(
            TEST_SCHEMA,
            f"select {', '.join(TEST_SCHEMA)} from test_sends "
            "order by made_at, send_id",
        )

    def dead(self) -> pl.DataFrame:
        """How many sends are dead for which reason, the newest of them last settled."""
        return self._frame(
            DEAD_SCHEMA,
            "select reason, count(*) as send_count, max(settled_at) as settled_at "
            "from sends where state = 'dead' group by reason order by 2 desc, 1",
        )

    def retry(
        self, *, send_id: str | None, reason: str | None, as_of: datetime
    ) -> list[str]:
        """Have dead sends tried again by the next run; returns which.

        `reason` is what a reason begins with; `as_of` is the newest run, since which
        they wait. A send that is not dead, or no more, is left alone.
        """
        with self._transaction() as connection:
            rows = connection.execute(
                """
                update sends
                set
                    state = 'pending',
                    settled_at = null,
                    attempts = 0,
                    retried_at = :as_of
                where
                    state = 'dead'
                    and (:send_id is null or send_id = :send_id)
                    and (:reason is null or substr(reason, 1, :length) = :reason)
                returning send_id
                """,
                {
                    "as_of": to_text(as_of),
                    "send_id": send_id,
                    "reason": reason,
                    "length": len(reason or ""),
                },
            ).fetchall()
        return sorted(row["send_id"] for row in rows)

    def rows_before(
        self, as_of: datetime, listed: Collection[str] | None = None
    ) -> pl.DataFrame:
        """The rows of runs before `as_of`, as they stood when the run at `as_of` began.

        A row that a later run settled reads as pending, so that repeating a run
        gives it the same past. With `listed`, the sends that a warehouse knows, the
        others come too, whichever run recorded them: that warehouse is older.
        """
        rows = self._frame(
            {**ROWS_BEFORE_SCHEMA, "enqueued_at": TIMESTAMP},
            f"""
            select
                {", ".join(ROW_COLUMNS)},
                case when settled_at < :as_of then state else 'pending' end as state,
                case when settled_at < :as_of then reason end as reason,
                as_of,
                coalesce(retried_at, as_of) as waits_since,
                case when settled_at < :as_of then sent_at end as sent_at,
                tried_at is not null as is_in_doubt,
                enqueued_at
            from sends
            order by send_id
            """,
            {"as_of": to_text(as_of)},
        )
        is_earlier = pl.col("enqueued_at") < as_of
        if listed is not None:
            is_earlier |= ~pl.col("send_id").is_in(list(listed))
        return rows.filter(is_earlier).drop("enqueued_at")

    def receipts_before(self, as_of: datetime) -> pl.DataFrame:
        """What was sent by runs before `as_of`; `sent_at` is the run that sent it."""
        return self._frame(
            RECEIPT_SCHEMA,
            f"select {', '.join(RECEIPT_SCHEMA)} from sends "
            "where sent_at < :as_of order by sent_at, send_id",
            {"as_of": to_text(as_of)},
        )

    def bounces_before(self, as_of: datetime) -> pl.DataFrame:
        """Sends whose address took no mail in runs before `as_of`."""
        return self._frame(
            BOUNCE_SCHEMA,
            f"select {', '.join(BOUNCE_SCHEMA)} from sends "
            f"where state = 'dead' and reason like '{BOUNCED}: %' "
            "and settled_at < :as_of order by settled_at, send_id",
            {"as_of": to_text(as_of)},
        )

    def copy(self) -> pl.DataFrame:
        """Every row without address, identifier and payload."""
        return self._frame(
            COPY_SCHEMA,
            f"select {', '.join(COPY_SCHEMA)} from sends order by send_id",
        )

    def run_rows(self, as_of: datetime, channel: str) -> pl.DataFrame:
        """What the run at `as_of` recorded on one channel, as in `copy`."""
        return self._frame(
            COPY_SCHEMA,
            f"select {', '.join(COPY_SCHEMA)} from sends "
            "where enqueued_at = :as_of and channel = :channel order by send_id",
            {"as_of": to_text(as_of), "channel": channel},
        )

    def moments(self) -> list[datetime]:
        """The `as_of` of every run that recorded a send."""
        rows = self._connection.execute(
            "select distinct enqueued_at from sends order by enqueued_at"
        ).fetchall()
        return [datetime.fromisoformat(row["enqueued_at"]) for row in rows]

    def count(self) -> int:
        """How many sends have a row."""
        rows = self._connection.execute("select count(*) from sends").fetchall()
        return int(rows[0][0])

    def lacking(self, send_ids: Iterable[str]) -> list[str]:
        """Those of the sends, all of which went out, that no row says may have."""
        return [
            send_id
            for send_id in send_ids
            if not self._connection.execute(
                "select 1 from sends where send_id = ? "
                "and state not in ('pending', 'suppressed')",
                (send_id,),
            ).fetchall()
        ]

    def bring_up(self, rows: pl.DataFrame) -> None:
        """Take in what is known of sends that the ledger lacks or has not settled.

        `rows` has the columns of `activations.reconcile.RECOVERED`, each in a settled
        state. The count of claims is then that of the claims beside the ledger.
        """
        moments = [name for name, kind in rows.schema.items() if kind == TIMESTAMP]
        texts = rows.with_columns(
            pl.col(moments).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
        ).to_dicts()
        names = rows.columns
        with self._transaction() as connection:
            for row in texts:
                connection.execute(
                    f"insert into sends ({', '.join(names)}) "
                    f"values ({', '.join(f':{name}' for name in names)}) "
                    "on conflict (send_id) do nothing",
                    row,
                )
                # by its legal steps: what is settled here already stays as it is
                connection.execute(
                    "update sends set state = 'inflight', attempts = max(attempts, 1) "
                    "where send_id = :send_id and state = 'pending' "
                    "and :state in ('sent', 'unknown')",
                    row,
                )
                connection.execute(
                    "update sends set state = :state, reason = :reason, "
                    "settled_at = :settled_at, sent_at = :sent_at, payload = null, "
                    "frozen = null, tried_at = null where send_id = :send_id and ("
                    "state = 'inflight' and :state in ('sent', 'dead', 'unknown') "
                    "or state = 'pending' and :state in ('suppressed', 'dead'))",
                    row,
                )
            count = max(self._claim_count(), self._claims.mark)
            self._set_mark(CLAIM_COUNT, str(count))

    def sends_of(
        self, profile_ids: Collection[str], identifiers: Collection[tuple[str, str]]
    ) -> list[str]:
        """The sends to a person, by a profile's id or by (type, identifier)."""
        rows = self._connection.execute(
            "select send_id, profile_id, identifier_type, identifier from sends "
            "order by send_id"
        ).fetchall()
        return [
            row["send_id"]
            for row in rows
            if row["profile_id"] in profile_ids
            or (row["identifier_type"], row["identifier"]) in identifiers
        ]

    def rows(self, send_ids: Collection[str]) -> list[dict[str, object]]:
        """All that is known of some sends, in the order in which they were decided."""
        rows = self._connection.execute(
            "select * from sends order by as_of, send_id"
        ).fetchall()
        return [dict(row) for row in rows if row["send_id"] in send_ids]

    def forget(self, send_ids: Collection[str], names: Callable[[str], bool]) -> None:
        """Remove sends for good, and from others the address and words of the person.

        `names` takes what is theirs. A send that waits for them goes nowhere then.
        """
        with self._transaction() as connection:
            connection.executemany(
                "delete from sends where send_id = ?",
                [(send_id,) for send_id in send_ids],
            )
            for column in ("identifier", "address", "payload", "frozen"):
                rows = connection.execute(
                    f"select send_id, {column} from sends where {column} is not null"
                ).fetchall()
                also = ", tried_at = null" if column == "frozen" else ""
                connection.executemany(
                    f"update sends set {column} = null{also} where send_id = ?",
                    [(row["send_id"],) for row in rows if names(row[column])],
                )
            rows = connection.execute(
                "select send_id, address from test_sends where address is not null"
            ).fetchall()
            connection.executemany(
                "update test_sends set address = null where send_id = ?",
                [(row["send_id"],) for row in rows if names(row["address"])],
            )
        self._connection.execute("vacuum")
        self._claims.forget(send_ids)

    def begin_doubt(self, reason: str) -> None:
        """Record that sends may have gone out of which this ledger knows nothing.

        What is not settled is `unknown` then; see `doubt`.
        """
        with self._transaction() as connection:
            connection.execute(
                "update sends set state = 'inflight', attempts = max(attempts, 1) "
                "where state = 'pending'"
            )
            connection.execute(
                "update sends set state = 'unknown', reason = ?, "
                "settled_at = enqueued_at, payload = null, frozen = null, "
                "tried_at = null where state = 'inflight'",
                (reason,),
            )
            count = max(self._claim_count(), self._claims.mark)
            self._set_mark(CLAIM_COUNT, str(count))
            self._set_mark(DOUBT, "")

    def doubt(self, as_of: datetime) -> datetime | None:
        """Until when sends may have gone out that the ledger lacks; none: never.

        It ends with the first run after the doubt began, which `as_of` is if none was.
        """
        value = self._mark(DOUBT)
        if value is None:
            return None
        if value == "":
            value = to_text(as_of)
            with self._transaction():
                self._set_mark(DOUBT, value)
        return datetime.fromisoformat(value)

    def adopt(
        self, other: Path, *, before: datetime, is_known_only: bool = False
    ) -> None:
        """Take the rows of another ledger as they stood before a moment.

        Those that were settled since are pending. With `is_known_only` a row comes
        alone in place of one of its id. For a ledger of which nothing is sent.
        """
        names = [row[1] for row in self._connection.execute("pragma table_info(sends)")]
        since = {
            "state": "'pending'",
            **dict.fromkeys(
                (
                    *("reason", "receipt", "settled_at", "sent_at"),
                    *("delivery_latency", "frozen", "tried_at"),
                ),
                "null",
            ),
        }
        values = [
            f"case when settled_at < :before then {name} else {since[name]} end"
            if name in since
            else name
            for name in names
        ]
        known = "send_id in (select send_id from main.sends)"
        self._connection.execute("attach ? as other", (str(other),))
        try:
            with self._transaction() as connection:
                connection.execute(
                    f"insert or replace into main.sends ({', '.join(names)}) "
                    f"select {', '.join(values)} from other.sends "
                    f"where enqueued_at < :before and ({known} or not :is_known_only)",
                    {"before": to_text(before), "is_known_only": is_known_only},
                )
        finally:
            self._connection.execute("detach other")

    def known(self) -> set[str]:
        """Every `send_id` that has a row."""
        rows = self._connection.execute("select send_id from sends").fetchall()
        return {row["send_id"] for row in rows}

    def _frame(
        self,
        schema: Schema,
        query: str,
        parameters: Mapping[str, str] | None = None,
    ) -> pl.DataFrame:
        rows = self._connection.execute(query, parameters or {}).fetchall()
        as_stored = {
            name: pl.String if kind == TIMESTAMP else kind
            for name, kind in schema.items()
        }
        return pl.DataFrame(
            [tuple(row) for row in rows], schema=as_stored, orient="row"
        ).with_columns(
            pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%.6f", time_unit="us")
            for name, kind in schema.items()
            if kind == TIMESTAMP
        )


def count_unsettled(path: Path, channel: str) -> tuple[int, int]:
    """How many sends wait on a channel and how many are in flight, without a lock.

    Raises:
        DamagedLedgerError: if the file cannot be read.
    """
    if not path.exists():
        return 0, 0
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
        ) as connection:
            counts = dict(
                connection.execute(
                    "select state, count(*) from sends where channel = ? "
                    "and state in ('pending', 'inflight') group by state",
                    (channel,),
                ).fetchall()
            )
    except sqlite3.DatabaseError as error:
        raise DamagedLedgerError(damage(path, error)) from None
    return counts.get("pending", 0), counts.get("inflight", 0)


@contextmanager
def opened_copy(path: Path) -> Iterator[Ledger]:
    """A ledger, or an empty one where there is none, that is gone after the block.

    To look into a ledger without a trace, or to try what would become of it.

    Raises:
        DamagedLedgerError: if the file cannot be read.
        LedgerError: if a newer release wrote the file.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for name in (path.name, f"{path.name}-wal", CLAIMS):
            if path.with_name(name).exists():
                shutil.copyfile(path.with_name(name), copy.with_name(name))
        try:
            ledger = Ledger(copy)
        except LedgerError as error:
            raise type(error)(str(error).replace(str(copy), str(path))) from None
        with ledger:
            yield ledger


def damage(path: Path, reason: object) -> str:
    """What is wrong with a ledger file, and what helps."""
    return (
        f"{path} is damaged ({reason}): nothing is sent until `rekindle reconcile` "
        "has set it aside and brought up a new one"
    )


def to_text(moment: datetime) -> str:
    """A naive UTC moment as text that sorts as it should."""
    if moment.tzinfo is not None:
        raise LedgerError(f"{moment} must be naive UTC")
    return moment.isoformat(timespec="microseconds")


def to_send(row: sqlite3.Row) -> Send:
    """A ledger row as what delivery needs of it."""
    values = {name: row[name] for name in Send.__dataclass_fields__}
    for name in ("as_of", "tried_at"):
        values[name] = values[name] and datetime.fromisoformat(values[name])
    return Send(**values)
