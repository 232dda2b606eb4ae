"""Tells whether files are what they were."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def fingerprint(paths: Iterable[Path], suffixes: frozenset[str]) -> str:
    """A digest of the files, and of those with these suffixes in the folders."""
    digest = hashlib.sha256()
    for source in paths:
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.suffix in suffixes:
                content = path.read_bytes()
                digest.update(f"{path}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()
