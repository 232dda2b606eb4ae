"""A home copied while nobody writes it, and put back whole or not at all.

What can be rebuilt stays out: the published copy, dbt's target, and, unless asked for,
Dagster's records. Every file is listed in a manifest with its hash.
"""

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from activations.ledger import Ledger
from activations.reconcile import MAY_HAVE_BEEN_SENT
from orchestration.recovery import home_lock
from orchestration.settings import Settings, wall_clock
from orchestration.warehouse import Warehouse

MANIFEST = "manifest.json"
FORMAT = 1
EXCLUDED = {"dbt", "published", "run.lock", "dagster"}
AT_WORK = ("-wal", "-shm", ".wal", ".tmp", ".part", ".lock")
SQLITE = (".sqlite", ".db")
BLOCK = 1 << 20

Manifest = dict[str, Any]
"""format, made_at, release, files: path → sha256, byte_count"""


class BackupError(Exception):
    """A backup cannot be made or put back, said in one line."""


@dataclass(frozen=True)
class Copied:
    """What was copied: how many files of how many bytes, made when."""

    file_count: int
    byte_count: int
    made_at: str


def back_up(settings: Settings, target: Path, *, with_dagster: bool = False) -> Copied:
    """Copy the home into `target`, a new or empty folder, and list it there.

    Raises:
        BackupError: if there is no home, or `target` holds something.
        DatabaseError: if the warehouse is damaged or in use.
    """
    target = target.expanduser().resolve()
    if not settings.root.is_dir():
        raise BackupError(f"{settings.root} is no home: nothing to back up")
    if target.is_relative_to(settings.root):
        raise BackupError(f"{target} lies in the home; name a folder outside")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} is not empty; name a new folder")
    with home_lock(settings):
        if settings.warehouse.exists():
            Warehouse(settings.warehouse).fold_log()
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = {}
        for path in files_of(settings, with_dagster=with_dagster):
            name = path.relative_to(settings.root).as_posix()
            try:
                files[name] = copy_file(path, target / name)
            except sqlite3.DatabaseError as error:
                reason = f"{path} is damaged ({error}): no backup was made"
                raise BackupError(reason) from None
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
    return summarize(manifest)


def restore(
    settings: Settings, source: Path, *, nothing_sent_since: bool = False
) -> Copied:
    """Put a backup back into a home that holds nothing but landed files, if anything.

    Unless nothing was sent since the backup, what it left unsettled is `unknown`
    afterwards, and so is all that the next run would send: it may have gone out.

    Raises:
        BackupError: if it is no whole backup, or the home holds anything else; nothing
            was written then.
    """
    manifest = read_manifest(source)
    for name, about in manifest["files"].items():
        path = source / name
        if not path.is_file() or hash_file(path) != about["sha256"]:
            raise BackupError(f"{path} is damaged: nothing was restored")
    settings.root.mkdir(parents=True, exist_ok=True)
    with home_lock(settings):
        refuse_harm(settings, source, manifest["files"])
        # first of all: a run after a restore that broke off must know of the doubt
        if not (settings.ledger.exists() and nothing_sent_since):
            put_back_ledger(settings, source, is_doubtful=not nothing_sent_since)
        for name in manifest["files"]:
            if not (settings.root / name).exists():
                copy_file(source / name, settings.root / name)
    return summarize(manifest)


def put_back_ledger(settings: Settings, source: Path, *, is_doubtful: bool) -> None:
    """Copy the ledger, which appears together with its doubt."""
    ledger = source / settings.ledger.name
    partial = settings.root / "ledger.part"
    if ledger.exists():
        copy_file(ledger, partial)
    if is_doubtful:
        with Ledger(partial) as opened:
            opened.begin_doubt(MAY_HAVE_BEEN_SENT)
    if partial.exists():
        partial.replace(settings.ledger)


def refuse_harm(settings: Settings, source: Path, files: Manifest) -> None:
    """Let a restore only into a home where it overwrites nothing.

    Raises:
        BackupError: naming what stands in its way.
    """
    for path in sorted(settings.root.rglob("*")):
        name = path.relative_to(settings.root).as_posix()
        if path.is_dir():
            continue
        is_same = name in files and hash_file(path) == hash_file(source / name)
        # landed since, or rebuilt by the next run
        is_harmless = name.split("/")[0] in {"landing", *EXCLUDED} and name not in files
        if not (is_same or is_harmless):
            raise BackupError(
                f"{settings.root} is in use ({name}): nothing was restored; "
                "set REKINDLE_HOME to a new folder, or move this one away"
            )


def files_of(settings: Settings, *, with_dagster: bool) -> Iterator[Path]:
    """Every file of the home that a backup holds."""
    left_out = EXCLUDED - ({"dagster"} if with_dagster else set())
    for top in sorted(settings.root.iterdir()):
        if top.name in left_out or top.name.startswith("."):
            continue
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            # the landing is read no further either
            is_within = path.resolve().is_relative_to(top.resolve())
            is_finished = is_within and not path.name.endswith(AT_WORK)
            if path.is_file() and is_finished and ".damaged-" not in path.name:
                if path.parent == settings.runs_at_work:
                    continue
                yield path


def copy_file(path: Path, target: Path) -> dict[str, object]:
    """Copy one file for its owner alone, and wait for the disk; its hash and size."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(target, b"")
    if path.suffix in SQLITE:
        # as of one moment, whatever is written meanwhile
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
