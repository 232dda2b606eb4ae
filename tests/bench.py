"""How fast the loop is, as ratios to a floor measured in the same run.

Floor: DuckDB reading the same landing files once and writing them as Parquet.
Orchestration: what a run over a single event takes, which is all start-up, parsing and
bookkeeping.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from dagster import DagsterInstance

from orchestration.sources.sample import write_sample

END = date(2026, 6, 30)
AS_OF = "2026-07-01T00:00:00Z"
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


def measure(arguments: list[str], **environment: str) -> Measure:
    """Run a command to its end and account for it and its children."""
    started_at = time.perf_counter()
    process = subprocess.Popen(
        arguments,
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


def run_loop(home: Path) -> Measure:
    """One run of the whole loop on a home, as a user starts it."""
    return measure(
        [sys.executable, "-m", "orchestration.cli", "run", "--as-of", AS_OF],
        REKINDLE_HOME=str(home),
    )


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


def seconds_by_step(instance: DagsterInstance) -> Counter[str]:
    """Seconds of each step of the newest run."""
    (run,) = instance.get_runs(limit=1)
    return Counter(
        {
            step.step_key: step.end_time - step.start_time
            for step in instance.get_run_step_stats(run.run_id)
            if step.start_time and step.end_time
        }
    )


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=8_500)
    parser.add_argument("--days", type=int, default=120)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        started_at = time.perf_counter()
        summary = write_sample(
            root / "world",
            customers=chosen.customers,
            days=chosen.days,
            seed=1,
            end=END,
        )
        written_in = time.perf_counter() - started_at
        landing = root / "world" / "landing"

        floor = measure(
            [sys.executable, "-c", FLOOR, str(landing), str(root / "floor")]
        )
        empty = root / "empty"
        (empty / "landing").mkdir(parents=True)
        (empty / "landing" / "one.ndjson").write_text(
            json.dumps(
                {
                    "messageId": "m1",
                    "type": "page",
                    "userId": "u1",
                    "timestamp": "2026-06-30T10:00:00Z",
                }
            )
            + "\n"
        )
        idle = run_loop(empty)
        full_home = root / "full"
        full_home.mkdir()
        landing.rename(full_home / "landing")
        full = run_loop(full_home)
        os.environ["REKINDLE_HOME"] = str(full_home)
        with DagsterInstance.from_config(str(full_home / "dagster")) as instance:
            layers = seconds_by_layer(instance, feature_tables(full_home))
            steps = seconds_by_step(instance)

    events = summary.events
    print(f"events                      {events:>12,}")
    print(f"sample world                {events / written_in:>12,.0f} events/s")
    print(f"loop                        {events / full.wall:>12,.0f} events/s")
    print(f"loop / floor, wall          {full.wall / floor.wall:>12.1f} ×")
    print(f"loop / floor, CPU           {full.cpu / floor.cpu:>12.1f} ×")
    print(f"orchestration share of wall {idle.wall / full.wall:>12.1%}")
    for step, seconds in steps.most_common(MAX_STEPS):
        print(f"{step + ' share of wall':28}{seconds / full.wall:>12.1%}")
    for layer, seconds in layers.most_common():
        print(f"{layer + ' share of tables':28}{seconds / layers.total():>12.1%}")
    print(f"peak memory, largest process{full.peak_mib:>12,.0f} MiB")


if __name__ == "__main__":
    main()
