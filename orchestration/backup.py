"""A home copied while nobody writes it, and put back whole or not at all.

What can be rebuilt stays out: the published copy, dbt's target, and, unless asked for,
Dagster's records. Every file is listed in a manifest with its hash.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from activations.ledger import Ledger
from activations.reconcile import MAY_HAVE_BEEN_SENT
from orchestration.recovery import home_held, home_lock
from orchestration.settings import Settings, wall_clock
from orchestration.sources.folder import find_files, is_finished, printable
from orchestration.warehouse import Warehouse

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"
PARTIAL = ".rekindle.part"
LEDGER_PARTIAL = "ledger.part"
FORMAT = 1
EXCLUDED = {
    *("dbt", "published", "past", "dry_run", "rehearsal", "dagster", "run.lock"),
    "restoring",
    "backups.ndjson",
}
# Logs of our own files, copies of them half written, and what was set aside.
LEFTOVER = re.compile(
    r"(ledger[.]sqlite|warehouse[.]duckdb)[.-].*|warehouse[.]tmp|ledger[.]part.*"
)
LOGS = ("-wal", "-shm")
GOES_ON = "the restore broke off; give the same command again to go on with it"
BLOCK = 1 << 20

Manifest = dict[str, Any]
"""format, made_at, release, files: path → sha256, byte_count"""


class BackupError(Exception):
    """A backup cannot be made or put back, said in one line."""


@dataclass(frozen=True)
class Copied:
    """What was copied: how many files of how many bytes, made when; what was not."""

    file_count: int
    byte_count: int
    made_at: str
    left_out: Mapping[str, str] = field(default_factory=dict)


def back_up(settings: Settings, target: Path, *, with_dagster: bool = False) -> Copied:
    """Copy the home into `target`, a new or empty folder, and list it there.

    What lies in the home and is no readable file of it is left out, with its reason.
    A backup that breaks off removes what it wrote; one that was killed is written over.

    Raises:
        BackupError: if there is nothing to copy, `target` holds something else, or one
            of our own files cannot be read, or `target` cannot be written.
        DatabaseError: if the warehouse is damaged or in use.
    """
    target = target.expanduser().resolve()
    if not settings.root.is_dir():
        raise BackupError(f"{settings.root} is no home: nothing to back up")
    if target.is_relative_to(settings.root):
        raise BackupError(f"{target} lies in the home; name a folder outside")
    was_begun = (target / UNFINISHED).exists()
    is_new = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not (is_new or was_begun):
        raise BackupError(f"{target} is not empty; name a new folder")
    with home_lock(settings):
        if settings.warehouse.exists():
            Warehouse.of(settings).fold_log()
        paths, left_out = files_of(settings, with_dagster=with_dagster)
        if not paths:
            raise BackupError(f"{settings.root} holds nothing to back up")
        try:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            if was_begun:
                empty(target)
            write_private(target / UNFINISHED, b"")
            files = copy_home(settings, paths, target)
            made_at = f"{wall_clock().isoformat()}Z"
            manifest = {
                "format": FORMAT,
                "made_at": made_at,
                "release": version("rekindle"),
                "files": files,
            }
            # the last file: a backup without it is none
            partial = target / f".{MANIFEST}"
            write_private(partial, json.dumps(manifest, indent=1).encode())
            partial.replace(target / MANIFEST)
            (target / UNFINISHED).unlink()
            note_backup(settings, target, made_at)
        except BaseException as error:
            empty(target)
            if not isinstance(error, OSError):
                raise
            reason = f"{target} cannot be written ({error.strerror})"
            raise BackupError(f"{reason}: no backup was made") from None
    return replace(summarize(manifest), left_out=left_out)


def note_backup(settings: Settings, target: Path, made_at: str) -> None:
    """Remember where a backup is: what is erased from the home is in it still."""
    with settings.backups.open("a") as stream:
        stream.write(json.dumps({"made_at": made_at, "path": str(target)}) + "\n")


def copy_home(settings: Settings, paths: list[Path], target: Path) -> Manifest:
    """Copy files of the home; the hash and size of each by its name.

    Raises:
        BackupError: if one of our databases is damaged, or its copy cannot be written.
    """
    files = {}
    for path in paths:
        name = path.relative_to(settings.root).as_posix()
        is_database = path == settings.ledger or (
            path.is_relative_to(settings.dagster_home) and path.suffix == ".db"
        )
        try:
            files[name] = copy_file(path, target / name, is_database=is_database)
        except sqlite3.OperationalError as error:
            reason = f"{path} cannot be copied to {target} ({error})"
            raise BackupError(f"{reason}: no backup was made") from None
        except sqlite3.DatabaseError as error:
            reason = f"{path} is damaged ({error}): no backup was made"
            raise BackupError(reason) from None
    return files


def empty(target: Path) -> None:
    """Remove what a backup wrote; the mark that it is unfinished goes last."""
    if not target.is_dir():
        return
    for path in sorted(target.iterdir(), key=lambda path: path.name == UNFINISHED):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def restore(
    settings: Settings, source: Path, *, nothing_sent_since: bool = False
) -> Copied:
    """Put a backup back into a home that holds nothing but landed files, if anything.

    Unless nothing was sent since the backup, what it left unsettled is `unknown`
    afterwards, and so is all that the next run would send: it may have gone out. Where
    a restore broke off, nothing may be done to the home but to go on with it.

    Raises:
        BackupError: if it is no whole backup, or the home holds anything else: nothing
            was written then; or if the home cannot be written.
        KeyboardInterrupt: if it was interrupted.
    """
    manifest = read_manifest(source)
    for name, about in manifest["files"].items():
        path = source / name
        if not path.is_file() or hash_file(path) != about["sha256"]:
            raise BackupError(f"{path} is damaged: nothing was restored")
    try:
        with home_held(settings):
            refuse_harm(settings, source, manifest["files"])
            write_private(settings.restoring, identity(source))
            put_back_ledger(settings, source, is_doubtful=not nothing_sent_since)
            for name, about in manifest["files"].items():
                if name != settings.ledger.name:
                    put_back(source / name, settings.root / name, about["sha256"])
            settings.restoring.unlink()
    except (OSError, sqlite3.OperationalError) as error:
        said = getattr(error, "strerror", None) or error
        reason = f"{settings.root} cannot be written ({said})"
        raise BackupError(f"{reason}: {GOES_ON}") from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(GOES_ON) from None
    return summarize(manifest)


def identity(source: Path) -> bytes:
    """The hash that no other backup has."""
    return hash_file(source / MANIFEST).encode()


def put_back_ledger(settings: Settings, source: Path, *, is_doubtful: bool) -> None:
    """Copy the ledger, which appears together with its doubt."""
    ledger = source / settings.ledger.name
    partial = settings.root / LEDGER_PARTIAL
    for left in settings.root.glob(f"{LEDGER_PARTIAL}*"):
        left.unlink()
    if ledger.exists():
        copy_file(ledger, partial)
    if is_doubtful:
        with Ledger(partial) as opened:
            opened.begin_doubt(MAY_HAVE_BEEN_SENT)
    if partial.exists():
        partial.replace(settings.ledger)


def put_back(path: Path, target: Path, sha256: str) -> None:
    """Copy a file, which appears whole; one that is there already is left alone."""
    if target.exists() and hash_file(target) == sha256:
        return
    partial = target.with_name(PARTIAL)
    copy_file(path, partial)
    partial.replace(target)


def refuse_harm(settings: Settings, source: Path, files: Manifest) -> None:
    """Let a restore only into a home where it overwrites nothing but its own.

    Raises:
        BackupError: naming what stands in its way.
    """
    is_resumed = settings.restoring.exists()
    if is_resumed and settings.restoring.read_bytes() != identity(source):
        raise BackupError(
            f"the restore of another backup into {settings.root} broke off: go on with "
            "that one, or set REKINDLE_HOME to a new folder"
        )
    for path in sorted(settings.root.rglob("*")):
        name = path.relative_to(settings.root).as_posix()
        if path.is_dir():
            continue
        is_same = name in files and hash_file(path) == hash_file(source / name)
        is_begun = is_resumed and (
            name == settings.ledger.name
            or name.startswith(LEDGER_PARTIAL)
            or path.name == PARTIAL
        )
        # landed since, or rebuilt by the next run
        is_harmless = name.split("/")[0] in {"landing", *EXCLUDED} and name not in files
        if not (is_same or is_begun or is_harmless):
            raise BackupError(
                f"{settings.root} is in use ({name}): nothing was restored; "
                "set REKINDLE_HOME to a new folder, or move this one away"
            )


def files_of(
    settings: Settings, *, with_dagster: bool
) -> tuple[list[Path], dict[str, str]]:
    """Every file of the home that a backup holds; what it cannot hold, and why.

    Raises:
        BackupError: if one of our own files cannot be read.
    """
    left_out = EXCLUDED - ({"dagster"} if with_dagster else set())
    found: list[Path] = []
    for top in sorted(settings.root.iterdir()):
        if top.name in left_out or top.name.startswith("."):
            continue
        if top == settings.landing:
            found += [file.location for file in find_files(top)]
        elif top.is_dir():
            found += [path for path in sorted(top.rglob("*")) if not path.is_dir()]
        elif not LEFTOVER.fullmatch(top.name):
            found.append(top)
    paths = []
    problems = {}
    for path in found:
        top = settings.root / path.relative_to(settings.root).parts[0]
        if is_at_work(settings, path):
            continue
        problem = problem_of(path, top)
        if problem is None:
            paths.append(path)
        elif top == settings.landing or not path.is_file():
            problems[printable(path.relative_to(settings.root))] = problem
        else:
            raise BackupError(f"{path} {problem}: no backup was made")
    return paths, problems


def is_at_work(settings: Settings, path: Path) -> bool:
    """Whether a file is half written or a log: what it is for goes with another one."""
    if path.is_relative_to(settings.dagster_home):
        return path.name.endswith(LOGS) or path.parent == settings.runs_at_work
    return not is_finished(path.name)


def problem_of(path: Path, top: Path) -> str | None:
    """Why a path of the home is no file that can be copied; none if it can."""
    try:
        # the landing is read no further either
        if not path.resolve().is_relative_to(top.resolve()):
            return "is a link that leads out"
        if not path.is_file():
            return "is no regular file"
        path.open("rb").close()
    except (OSError, RuntimeError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return None


def copy_file(
    path: Path, target: Path, *, is_database: bool = False
) -> dict[str, object]:
    """Copy one file for its owner alone, and wait for the disk; its hash and size.

    One of our SQLite files is copied as of one moment, whatever is written meanwhile.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(target, b"")
    if is_database:
        source = f"{path.resolve().as_uri()}?mode=ro"
        with (
            closing(sqlite3.connect(source, uri=True)) as opened,
            closing(sqlite3.connect(target)) as copy,
        ):
            opened.backup(copy)
    else:
        shutil.copyfile(path, target)
        status = path.stat()
        # the landing is read again where a time of change is new
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    with target.open("rb") as copied:
        os.fsync(copied.fileno())
    return {"sha256": hash_file(target), "byte_count": target.stat().st_size}


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(descriptor)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(source: Path) -> Manifest:
    """What a backup says it holds.

    Raises:
        BackupError: if there is none, or one of a newer release.
    """
    path = source / MANIFEST
    try:
        manifest: Manifest = json.loads(path.read_text())
        names, number = list(manifest["files"]), manifest["format"]
        hashes = [about["sha256"] for about in manifest["files"].values()]
        summarize(manifest)
    except FileNotFoundError:
        raise BackupError(f"{source} is no backup: it has no {MANIFEST}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BackupError(f"{path} cannot be read: nothing was restored") from None
    if number != FORMAT:
        raise BackupError(f"{path} has format {number}: upgrade rekindle")
    outside = [name for name in names if ".." in Path(name).parts or name[:1] == "/"]
    if outside or len(hashes) != len(names):
        raise BackupError(f"{path} names {outside[0]!r}: nothing was restored")
    return manifest


def summarize(manifest: Manifest) -> Copied:
    """The size of a backup."""
    files = manifest["files"]
    return Copied(
        len(files),
        sum(about["byte_count"] for about in files.values()),
        str(manifest["made_at"]),
    )
