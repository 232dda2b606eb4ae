"""Digests by which a change of files is seen, and the commit that they are of."""

import hashlib
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from orchestration.settings import PROJECT


def fingerprint(paths: Iterable[Path], suffixes: frozenset[str]) -> str:
    """A digest of the files, and of those with these suffixes in the folders."""
    digest = hashlib.sha256()
    for source in paths:
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.suffix in suffixes:
                content = path.read_bytes()
                name = path.relative_to(source.parent)
                digest.update(f"{name}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def code_version() -> str:
    """The commit of this checkout, marked where files differ; else the release."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return version("rekindle")
    return described.stdout.strip()
