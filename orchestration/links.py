"""The links of a home: where they lead, and the keys that sign them."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from activations.links import Links
from orchestration.settings import Settings, SettingsError, split_keys

NO_KEY = "0" * 64
"""Signs links that no home reads; the same each time, as pages made twice are."""


def links_of(settings: Settings) -> Links:
    """Links that `rekindle inbound` of this home can read.

    Where no keys are stated a key is made, once; a secret is the one thing here that
    chance has to choose.

    Raises:
        SettingsError: if the file of keys cannot be read, or holds no good ones.
    """
    address = settings.inbound_url or settings.shop_url
    if settings.link_keys:
        return Links(address, split_keys(settings.link_keys))
    path = settings.link_keys_file or settings.made_link_keys
    if path == settings.made_link_keys and not path.exists():
        make_key(path)
    try:
        return Links(address, path.expanduser().read_text("ascii").split())
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        reason = "is no text"
    except ValueError as error:
        reason = f"holds none: {error}"
    raise SettingsError(f"{path}, the file of keys that sign links, {reason}")


def links_to_show(settings: Settings) -> Links:
    """Links that nobody can use, for messages that are only looked at."""
    return Links(settings.inbound_url or settings.shop_url, [NO_KEY])


def make_key(path: Path) -> None:
    """Write a key that nobody else can read; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(f"{secrets.token_hex()}\n")
        stream.flush()
        os.fsync(descriptor)
    try:
        # a link is not made where a key already is, whoever made it in between
        with suppress(FileExistsError):
            path.hardlink_to(unfinished)
    finally:
        unfinished.unlink()
