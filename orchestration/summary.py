"""What a run did, and what it warns of, read back when it has ended.

Shows counts only: what came in of people stays in the tables.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console

from orchestration.labels import Labels
from orchestration.resources import ASIDE
from orchestration.settings import Settings
from orchestration.sources.receipts import RECEIPTS
from orchestration.terminal import print_frame
from orchestration.warehouse import Warehouse, fetch_frame

if TYPE_CHECKING:
    from dagster import AssetCheckEvaluation, DagsterInstance

RUN = "select as_of, is_newest from raw.current_run"

LANDED = """
    select
        count(*) as files,
        coalesce(sum(row_count), 0)::bigint as lines,
        coalesce(sum(rejected_count), 0)::bigint as rejected
    from raw.files
    where landed_at >= $began_at and not starts_with(path, $receipts)
"""

REJECTED = """
    select rejected_events.reason, count(*) as lines
    from raw.rejected_events
    inner join raw.files on rejected_events.file_id = files.file_id
    where files.landed_at >= $began_at
    group by all
    order by lines desc, rejected_events.reason asc
"""

# Who moved since the run before; in the first run, where everybody is.
MOVED = """
    with previous as (
        select max(runs.as_of) as as_of
        from raw.runs
        inner join raw.current_run on runs.as_of < current_run.as_of
    )
    select
        case when previous.as_of is null then null else was.phase_name end
            as from_phase,
        phases.phase_name as to_phase,
        count(*) as profiles
    from decisions.phases
    cross join previous
    left join seeds.phase_names as was on phases.previous_phase = was.phase
    where previous.as_of is null or phases.entered_at > previous.as_of
    group by all
    order by profiles desc, from_phase asc nulls first, to_phase asc
"""

SENT = """
    select sends.channel, sends.state, sends.reason, count(*) as sends
    from activations.sends
    inner join raw.current_run
        on current_run.as_of in (sends.sent_at, sends.settled_at, sends.enqueued_at)
    group by all
    order by channel asc, state asc, reason asc nulls first
"""

LISTED = """
    select journey, step, channel, count(*) as messages
    from (
        select journey, step, channel
        from decisions.send_list
        inner join raw.current_run on send_list.as_of = current_run.as_of
        union all
        select journey, step, channel
        from decisions.send_list
        semi join (from decisions.deliverable_sends where is_deliverable)
            using (send_id)
    )
    group by all
    order by all
"""

UNSENT = """
    select decisions.verdict, decisions.reason, count(*) as messages
    from decisions.candidates
    inner join raw.current_run on candidates.as_of = current_run.as_of
    inner join decisions.decisions
        on candidates.decision_id = decisions.decision_id
    where decisions.verdict <> 'send'
    group by all
    order by messages desc, verdict asc, reason asc
"""


KINDS = {
    "from_phase": "phase",
    "to_phase": "phase",
    "journey": "journey",
    "step": "step",
    "channel": "channel",
    "state": "state",
    "verdict": "verdict",
    "reason": "reason",
}
"""What the columns of a summary name."""

DBTS_OWN = {"unique_id", "invocation_id", "status"}


@dataclass(frozen=True)
class Warned:
    """A check that did not pass, and what it found, as far as it says."""

    table: str
    check: str
    description: str | None
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What a run looked from, did and warned of; only the newest decides and sends."""

    run_id: str
    warehouse: Path
    as_of: datetime
    is_newest: bool
    is_dry: bool
    seconds: float
    landed: pl.DataFrame
    rejected: pl.DataFrame
    moved: pl.DataFrame
    listed: pl.DataFrame
    sent: pl.DataFrame
    unsent: pl.DataFrame
    warnings: list[Warned]
    labels: Labels

    def as_dict(self) -> dict[str, Any]:
        """What a program reads: plain values, lists of rows."""
        return {
            "run_id": self.run_id,
            "as_of": f"{self.as_of.isoformat()}Z",
            "is_newest": self.is_newest,
            "is_dry": self.is_dry,
            "warehouse": str(self.warehouse),
            "seconds": round(self.seconds, 1),
            "landed": self.landed.to_dicts()[0],
            "rejected": self.rejected.to_dicts(),
            "moved": self.moved.to_dicts(),
            "listed": self.listed.to_dicts(),
            "sent": self.sent.to_dicts(),
            "unsent": self.unsent.to_dicts(),
            "warnings": [vars(warned) for warned in self.warnings],
        }


def summarise(settings: Settings, run_id: str) -> Summary:
    """The summary of the run that has just ended in this home.

    Read from what it published: in the warehouse the next run may be at work.
    """
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        record = instance.get_run_record_by_id(run_id)
        warnings = read_warnings(instance, run_id)
    if record is None or record.start_time is None or record.end_time is None:
        raise LookupError(f"Dagster knows no end of run {run_id}")
    began_at = datetime.fromtimestamp(int(record.start_time), UTC).replace(tzinfo=None)
    aside = record.dagster_run.tags.get(ASIDE)
    warehouse = Path(aside) if aside else settings.published
    with Warehouse(warehouse).connect(read_only=True) as connection:
        run = fetch_frame(connection, RUN).row(0, named=True)
        return Summary(
            run_id=run_id,
            warehouse=warehouse,
            as_of=run["as_of"],
            is_newest=run["is_newest"],
            is_dry=warehouse == settings.dry_run,
            seconds=record.end_time - record.start_time,
            landed=fetch_frame(
                connection,
                LANDED,
                {"began_at": began_at, "receipts": f"{RECEIPTS}/"},
            ),
            rejected=fetch_frame(connection, REJECTED, {"began_at": began_at}),
            moved=fetch_frame(connection, MOVED),
            listed=fetch_frame(connection, LISTED),
            sent=fetch_frame(connection, SENT),
            unsent=fetch_frame(connection, UNSENT),
            warnings=warnings,
            labels=Labels.read(connection),
        )


def read_warnings(instance: "DagsterInstance", run_id: str) -> list[Warned]:
    """The checks of a run that did not pass and stopped nothing."""
    import dagster as dg

    evaluations = [
        entry.get_dagster_event().asset_check_evaluation_data
        for entry in instance.all_logs(
            run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
    ]
    return [warned(found) for found in evaluations if not found.passed]


def warned(evaluation: "AssetCheckEvaluation") -> Warned:
    """A check as a reader sees it; dbt's own particulars are left out."""
    return Warned(
        table=".".join(evaluation.asset_key.path),
        check=evaluation.check_name,
        description=evaluation.description,
        found={
            name: value.value
            for name, value in evaluation.metadata.items()
            if isinstance(value.value, int | str) and name not in DBTS_OWN
        },
    )


def print_summary(console: Console, summary: Summary) -> None:
    """Print what the run did, then what it warns of."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    landed = summary.landed.row(0, named=True)
    say(
        f"As of {summary.as_of:%Y-%m-%d %H:%M:%S} UTC: {landed['files']:,} files "
        f"landed, {landed['lines']:,} lines, {landed['rejected']:,} of them rejected"
    )
    if summary.is_newest:
        for title, frame in (
            ("Who moved phase", summary.moved),
            ("What would go out", summary.listed)
            if summary.is_dry
            else ("What went out", summary.sent),
            ("What did not, and why", summary.unsent),
        ):
            if frame.is_empty():
                say(f"{title}: none")
            else:
                print_frame(console, title, summary.labels.relabel(frame, KINDS))
    else:
        say(
            "A newer run exists: nothing was decided, nothing sent. The tables as of "
            f"then: {summary.warehouse}"
        )
    if summary.is_dry:
        say(f"Nothing was sent or kept. The tables: {summary.warehouse}")
    for reason, count in summary.rejected.iter_rows():
        say(f"Warning: raw.rejected_events: {reason}: lines rejected: {count:,}")
    for warning in summary.warnings:
        about = warning.description or warning.check.replace("_", " ")
        say(f"Warning: {warning.table}: {about}")
        for name, value in warning.found.items():
            title = name.rpartition("/")[2].replace("_", " ")
            text = str(value)
            say(f"  {title}: {text}" if "\n" not in text else f"  {title}:\n{text}")
