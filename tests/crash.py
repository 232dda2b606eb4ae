"""Kills whole runs at random moments, and holds what comes after to an undisturbed run.

`make crash` does it thirty times, and once to a run that the scheduler of the UI has
started. A killed run takes all its processes with it, as a power cut would.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import psutil

from activations.ledger import Ledger
from orchestration.sources.sample import write_sample
from tests.tables import fingerprints

DAYS = 20
END = date(2026, 6, 30)
FIRST, SECOND = "2026-06-29T20:00:00Z", "2026-06-30T20:00:00Z"
UNFINISHED = ("NOT_STARTED", "STARTING", "STARTED", "CANCELING")


class CrashError(AssertionError):
    """Something was not as after an undisturbed run."""


def environment(root: Path, temp: Path) -> dict[str, str]:
    """What a command is given to work on the home, with a temp folder of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("REKINDLE_")}
    return {**kept, "REKINDLE_HOME": str(root), "TMPDIR": str(temp)}


def start(root: Path, temp: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Begin a command on the home; what it prints goes to a file beside it."""
    temp.mkdir(exist_ok=True)
    with (root.parent / f"{root.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "orchestration.cli", *arguments],
            env=environment(root, temp),
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def run(root: Path, temp: Path, as_of: str) -> float:
    """One whole run; returns its seconds."""
    began = time.monotonic()
    process = start(root, temp, "run", "--as-of", as_of)
    if process.wait():
        log = (root.parent / f"{root.name}.log").read_text()
        raise CrashError(f"the run at {as_of} failed:\n{log[-2000:]}")
    return time.monotonic() - began


def kill_all(pid: int) -> None:
    """Kill a process and all that came from it, all at once."""
    parent = psutil.Process(pid)
    doomed = [*parent.children(recursive=True), parent]
    for act in (psutil.Process.suspend, psutil.Process.kill):
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                act(process)
    psutil.wait_procs(doomed, timeout=30)


def make_homes(folder: Path, customers: int) -> tuple[Path, Path, float]:
    """A home after its first run, one after both, and the seconds of the second."""
    before, after = folder / "before", folder / "after"
    write_sample(folder / "world", customers=customers, days=DAYS, seed=3, end=END)
    before.mkdir()
    shutil.move(folder / "world" / "landing", before / "landing")
    run(before, folder / "tmp", FIRST)
    shutil.copytree(before, after, symlinks=True)
    return before, after, run(after, folder / "tmp", SECOND)


def messages(root: Path) -> dict[str, bytes]:
    """Every message of the outbox, and whatever else lies there."""
    outbox = root / "outbox"
    return {
        path.relative_to(outbox).as_posix(): path.read_bytes()
        for path in sorted(outbox.rglob("*"))
        if path.is_file()
    }


def statuses(root: Path) -> dict[str, int]:
    """How many of Dagster's runs ended how."""
    connection = sqlite3.connect(root / "dagster" / "history" / "runs.db")
    rows = connection.execute("select status, count(*) from runs group by 1").fetchall()
    connection.close()
    return dict(rows)


def assert_as_undisturbed(root: Path, undisturbed: Path, temp: Path) -> None:
    """Compare tables, messages, sends, runs and what lies about.

    Raises:
        CrashError: naming what differs.
    """
    found = fingerprints(root / "warehouse.duckdb")
    expected = fingerprints(undisturbed / "warehouse.duckdb")
    differing = sorted(t for t in expected | found if expected.get(t) != found.get(t))
    # how often a send was tried is what a crash may change
    differing = [table for table in differing if not table.startswith("activations.")]
    if differing:
        raise CrashError(f"tables differ: {', '.join(differing)}")
    if messages(root) != messages(undisturbed):
        raise CrashError("the outboxes differ")
    if sends(root) != sends(undisturbed):
        raise CrashError("the ledgers differ")
    unfinished = {s: n for s, n in statuses(root).items() if s in UNFINISHED}
    if unfinished:
        raise CrashError(f"runs are left {unfinished}")
    left = [
        *temp.glob("rekindle-*"),
        *(root / "dagster" / "at_work").iterdir(),
        *(root / "estimators").glob(".*"),
        *(root / "published").glob("*.tmp*"),
        *(root / "landing").rglob("*.tmp"),
    ]
    if left:
        raise CrashError(f"left behind: {left}")


def sends(root: Path) -> list[tuple[object, ...]]:
    """What the ledger says of each send, whatever it took."""
    with Ledger(root / "ledger.sqlite") as ledger:
        rows = ledger.copy().drop("attempts", "delivery_latency")
    return rows.rows()


def crash(before: Path, undisturbed: Path, folder: Path, moments: list[float]) -> None:
    """Kill a run at each moment, one after the other, then let one run through."""
    root, temp = folder / "crashed", folder / "tmp-crashed"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(before, root, symlinks=True)
    for seconds in moments:
        process = start(root, temp, "run", "--as-of", SECOND)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            kill_all(process.pid)
    run(root, temp, SECOND)
    assert_as_undisturbed(root, undisturbed, temp)


def crash_under_scheduler(before: Path, folder: Path, wait: float = 900.0) -> None:
    """Kill the UI and the run that its sensor started; opened again, the next one ends.

    The wall clock is its `as_of`, so that what is compared is that it ends well.
    """
    root, temp = folder / "scheduled", folder / "tmp-scheduled"
    shutil.copytree(before, root, symlinks=True)
    until = time.monotonic() + wait
    served = start(root, temp, "ui", "--port", str(free_port()))
    try:
        while not list((root / "dagster").glob("at_work/[!.]*")):
            pause(until, "no run was started")
        time.sleep(random.uniform(0, 20))
    finally:
        kill_all(served.pid)
    if not statuses(root).get("STARTED"):
        raise CrashError(f"no run was killed at work: {statuses(root)}")
    finished = statuses(root).get("SUCCESS", 0)
    # what the sensor waits for; the schedule's quarter of an hour would do as well
    (root / "landing" / "news.ndjson").write_text("{}\n")
    served = start(root, temp, "ui", "--port", str(free_port()))
    try:
        while statuses(root).get("SUCCESS", 0) <= finished:
            pause(until, f"no run ended: {statuses(root)}")
    finally:
        served.send_signal(signal.SIGTERM)
        served.wait(60)
    if statuses(root).get("FAILURE", 0) != 1:
        raise CrashError(f"the killed run is not failed: {statuses(root)}")


def pause(until: float, reason: str) -> None:
    """Wait a little, but not for ever."""
    if time.monotonic() > until:
        raise CrashError(reason)
    time.sleep(1)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--customers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-scheduler", action="store_true")
    chosen = parser.parse_args()
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="rekindle-crash-") as name:
        folder = Path(name)
        before, after, seconds = make_homes(folder, chosen.customers)
        print(f"an undisturbed run takes {seconds:.0f} s", flush=True)
        left = chosen.kills
        while left > 0:
            count = min(left, chance.randint(1, 3))
            moments = [chance.uniform(0, seconds) for _ in range(count)]
            crash(before, after, folder, moments)
            left -= count
            shown = ", ".join(f"{moment:.1f} s" for moment in moments)
            print(f"killed at {shown}: as undisturbed; {left} to go", flush=True)
        if not chosen.no_scheduler:
            crash_under_scheduler(before, folder)
            print("killed under the scheduler: the next run came and ended by itself")
