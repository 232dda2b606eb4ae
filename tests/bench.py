"""How fast the loop is, as ratios to a floor measured in the same run.

Floor: DuckDB reading the same landing files once and writing them as Parquet.
Orchestration: what the second run over a single event takes, which is all start-up and
bookkeeping. A day: what the run after the first one takes, over the files of one more
day. `--against` another checkout, with its own `.venv`, does the same there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dagster import DagsterInstance

from orchestration.settings import PROJECT
from orchestration.sources.sample import write_sample

LAST_DAY = date(2026, 6, 29)
FIRST_RUN, DAY_RUN = "2026-06-29T00:00:00Z", "2026-06-30T00:00:00Z"
MEMORY_LIMIT = "3GB"
MAX_STEPS = 5
FLOOR = """
import duckdb, sys
landing, target = sys.argv[1:]
connection = duckdb.connect()
connection.execute("set preserve_insertion_order = false")
readers = []
from pathlib import Path
suffixes = {p.suffix for p in Path(landing).rglob("*") if p.is_file()}
for suffix, reader in (
    ("ndjson.gz", "read_json('{}/**/*.ndjson.gz', {})"),
    ("ndjson", "read_json('{}/**/*.ndjson', {})"),
    ("parquet", "read_parquet('{}/**/*.parquet')"),
):
    if not any(Path(landing).rglob("*." + suffix)):
        continue
    columns = "columns = {messageId: 'varchar', type: 'varchar', event: 'varchar', " \
        "anonymousId: 'varchar', userId: 'varchar', timestamp: 'varchar', " \
        "receivedAt: 'varchar', context: 'json', properties: 'json', " \
        "traits: 'json'}, ignore_errors = true, format = 'newline_delimited', " \
        "maximum_object_size = 67108864"
    source = reader.format(landing, columns)
    connection.execute(
        f"copy (select * from {source}) to '{target}-{suffix}.parquet'"
    )
"""


@dataclass(frozen=True)
class Measure:
    """Wall and CPU seconds and peak memory (MiB) of one process tree."""

    wall: float
    cpu: float
    peak_mib: float


def measure(
    arguments: list[str], cwd: Path | None = None, **environment: str
) -> Measure:
    """Run a command to its end and account for it and its children."""
    started_at = time.perf_counter()
    process = subprocess.Popen(
        arguments,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(arguments[:4])} failed:\n{printed}")
    return Measure(
        wall=time.perf_counter() - started_at,
        cpu=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,
    )


def run_loop(home: Path, as_of: str, checkout: Path = PROJECT) -> Measure:
    """One run of the whole loop on a home, as a user of the checkout starts it."""
    python = sys.executable if checkout == PROJECT else checkout / ".venv/bin/python"
    known = {} if checkout != PROJECT else {"REKINDLE_MEMORY_LIMIT": MEMORY_LIMIT}
    return measure(
        [str(python), "-m", "orchestration.cli", "run", "--as-of", as_of],
        cwd=checkout,
        REKINDLE_HOME=str(home),
        **known,
    )


def run_idle(home: Path, checkout: Path = PROJECT) -> Measure:
    """The second run over a single event."""
    event = {
        "messageId": "m1",
        "type": "page",
        "userId": "u1",
        "timestamp": "2026-06-28T10:00:00Z",
    }
    (home / "landing").mkdir(parents=True)
    (home / "landing" / "one.ndjson").write_text(f"{json.dumps(event)}\n")
    run_loop(home, FIRST_RUN, checkout)
    return run_loop(home, DAY_RUN, checkout)


def run_days(home: Path, landing: Path, checkout: Path = PROJECT) -> list[Measure]:
    """The first run over all but the last day's files, and the run over these."""
    shutil.copytree(landing, home / "landing", copy_function=os.link)
    last_day = sorted(home.rglob(f"*{LAST_DAY}*"))
    for file in last_day:
        file.rename(home / file.name)
    first = run_loop(home, FIRST_RUN, checkout)
    for file in last_day:
        (home / file.name).rename(file)
    return [first, run_loop(home, DAY_RUN, checkout)]


def feature_tables(home: Path) -> set[str]:
    """The tables that are made for the scores: those described beside the features."""
    manifest = json.loads((home / "dbt" / "target" / "manifest.json").read_text())
    return {
        node["name"]
        for node in manifest["nodes"].values()
        if str(node.get("patch_path")).endswith("_features.yml")
    }


def seconds_by_layer(instance: DagsterInstance, features: set[str]) -> Counter[str]:
    """Seconds that each layer's tables took, as recorded; those for scores apart."""
    seconds: Counter[str] = Counter()
    for key in instance.all_asset_keys():
        event = instance.get_latest_materialization_event(key)
        built = event.asset_materialization if event else None
        took = built.metadata.get("Execution Duration") if built else None
        if took:
            layer, table = key.path
            seconds["features" if table in features else layer] += took.value
    return seconds


def steps_of_runs(instance: DagsterInstance) -> list[Counter[str]]:
    """Seconds of each step of every run, the oldest first."""
    return [
        Counter(
            {
                step.step_key: step.end_time - step.start_time
                for step in instance.get_run_step_stats(run.run_id)
                if step.start_time and step.end_time
            }
        )
        for run in reversed(instance.get_runs())
    ]


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=8_500)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        started_at = time.perf_counter()
        summary = write_sample(
            root / "world",
            customers=chosen.customers,
            days=chosen.days,
            seed=1,
            end=LAST_DAY,
        )
        written_in = time.perf_counter() - started_at
        landing = root / "world" / "landing"

        floor = measure(
            [sys.executable, "-c", FLOOR, str(landing), str(root / "floor")]
        )
        idle = run_idle(root / "empty")
        first, day = run_days(root / "full", landing)
        os.environ["REKINDLE_HOME"] = str(root / "full")
        with DagsterInstance.from_config(str(root / "full" / "dagster")) as instance:
            layers = seconds_by_layer(instance, feature_tables(root / "full"))
            first_run, day_run = steps_of_runs(instance)
        if chosen.against:
            former = (
                run_idle(root / "former_empty", chosen.against),
                *run_days(root / "former", landing, chosen.against),
            )

    events = summary.events
    print(f"events                      {events:>12,}")
    print(f"sample world                {events / written_in:>12,.0f} events/s")
    print(f"loop                        {events / first.wall:>12,.0f} events/s")
    print(f"loop / floor, wall          {first.wall / floor.wall:>12.1f} ×")
    print(f"loop / floor, CPU           {first.cpu / floor.cpu:>12.1f} ×")
    print(f"landing / floor, wall       {first_run['land'] / floor.wall:>12.1f} ×")
    print(f"a day / the first run, wall {day.wall / first.wall:>12.1%}")
    print(f"a day / the first run, CPU  {day.cpu / first.cpu:>12.1%}")
    print(f"orchestration / a day, CPU  {idle.cpu / day.cpu:>12.1%}")
    for step, seconds in first_run.most_common(MAX_STEPS):
        print(f"{step + ' share of wall':28}{seconds / first.wall:>12.1%}")
    for step, seconds in day_run.most_common(MAX_STEPS):
        print(f"{step + ' share of a day':28}{seconds / day.wall:>12.1%}")
    for layer, seconds in layers.most_common():
        print(f"{layer + ' share of a day':28}{seconds / layers.total():>12.1%}")
    print(f"peak memory, {MEMORY_LIMIT} limit      {first.peak_mib:>12,.0f} MiB")
    if chosen.against:
        for name, now, then in zip(
            ("one event", "first run", "a day"), (idle, first, day), former, strict=True
        ):
            ratio = now.cpu / then.cpu
            print(f"{name + ', CPU / ' + chosen.against.name:28}{ratio:>12.2f} ×")


if __name__ == "__main__":
    main()
