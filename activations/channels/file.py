"""The default destination: one file per message under `outbox/<channel>/<as_of>/`.

The file's name is the send's id and its folder the run that decided it, so that
writing the same send again can only write the same file. It contacts nobody.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Literal

from activations.addresses import InvalidAddressError, sender_address
from activations.channels import DeliveryClass
from activations.channels.mail import as_mail, cannot_be_built
from activations.channels.options import Options, Surroundings
from activations.ledger import Outcome, Send
from activations.registry import ChannelRule
from activations.render import Message


class FileOptions(Options):
    """`file`: the home's outbox, for whoever delivers from there."""

    takes = "any channel"

    destination: Literal["file"] = "file"

    @classmethod
    def is_for(cls, rule: ChannelRule) -> bool:
        """Any message can be a file."""
        return True

    def open(self, surroundings: Surroundings) -> "FileDestination":
        """The outbox of the home."""
        return FileDestination(surroundings.outbox, email_from=surroundings.email_from)


class FileDestination:
    """An outbox folder: `.eml` for email, `.json` for every other channel."""

    name = "file"
    # what a run that died has written stands there at once, for as long as it is kept
    delivery_class = DeliveryClass("look_up")
    batch_size = 500

    def __init__(self, outbox: Path, *, email_from: str) -> None:
        self._outbox = outbox
        self._sender = sender_address(email_from)

    def send(self, messages: Sequence[Message]) -> list[Outcome]:
        """Write each message whole or not at all, and make it last a power cut."""
        parts = []
        outcomes = []
        for message in messages:
            try:
                content = self._encode(message)
            except InvalidAddressError:
                outcomes.append(Outcome(message.send_id, "dead", "invalid_address"))
                continue
            # one message that cannot be written is no reason to keep back the others
            except Exception as error:
                outcomes.append(cannot_be_built(message, error))
                continue
            path = self._path(message.channel, message.as_of, message.send_id)
            part = part_of(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(part, content)
            parts.append((part, path))
            receipt = path.relative_to(self._outbox).as_posix()
            outcomes.append(Outcome(message.send_id, "sent", receipt=receipt))
        # one after the other a disk makes 250 files a second last, together thousands
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(flush_to_disk, [part for part, _ in parts]))
        for part, path in parts:
            part.replace(path)
        for folder in {path.parent for _, path in parts}:
            flush_to_disk(folder)
        return outcomes

    def look_up(self, send: Send) -> Literal["sent", "not_sent", "unknown"]:
        """Sent exactly when its file stands there: files appear whole."""
        path = self._path(send.channel, send.as_of, send.send_id)
        part_of(path).unlink(missing_ok=True)
        return "sent" if path.exists() else "not_sent"

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, channel: str, as_of: datetime, send_id: str) -> Path:
        suffix = ".eml" if channel == "email" else ".json"
        folder = as_of.strftime("%Y%m%dT%H%M%SZ")
        return self._outbox / channel / folder / f"{send_id}{suffix}"

    def _encode(self, message: Message) -> bytes:
        if message.channel == "email":
            return as_mail(message, sender=self._sender).as_bytes()
        body = {
            "send_id": message.send_id,
            "channel": message.channel,
            "address": message.address,
            "content_id": message.content_id,
            "as_of": f"{message.as_of.isoformat()}Z",
            "message": message.fields,
        }
        return json.dumps(body, ensure_ascii=False, indent=2).encode() + b"\n"


def part_of(path: Path) -> Path:
    """Where a message is written before it appears whole."""
    return path.with_name(f".{path.name}.part")


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read: it holds an address."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def flush_to_disk(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
