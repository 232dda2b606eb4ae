"""What the ledger says was sent or bounced, as events of the landing folder.

The ledger stays the only truth of what went out; the loop reads it like any event.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from activations.registry import CHANNELS, RegistryError
from orchestration.settings import SEEDS

RECEIPTS = "receipts"
EVENTS = SEEDS / "semantic_events.csv"
BOUNCED_EVENTS = {"email": "Email Bounced"}


def sent_events() -> dict[str, str]:
    """The event by which a send on each channel is known, as `semantic_events` has it.

    Raises:
        RegistryError: if a channel has none.
    """
    own = pl.read_csv(EVENTS, infer_schema=False).filter(
        kind="message", action="sent", source="rekindle"
    )
    events = dict(own.select("channel", "event").rows())
    missing = sorted(CHANNELS.keys() - events.keys())
    if missing:
        raise RegistryError(
            f"{EVENTS.name}: {', '.join(missing)} has no event of the source rekindle "
            "for what was sent"
        )
    return events


def land_receipts(receipts: pl.DataFrame, landing: Path) -> int:
    """Write one landing file per run that sent; returns how many were new or changed.

    `receipts` has one row per send that went out, as `Ledger.receipts_before` gives it:
    `sent_at` is the `as_of` of the run that sent it.
    """
    events = sent_events()
    written_count = 0
    for (sent_at,), sends in receipts.sort("sent_at", "send_id").group_by(
        "sent_at", maintain_order=True
    ):
        content = "".join(f"{sent_line(send, events)}\n" for send in sends.to_dicts())
        path = landing / RECEIPTS / f"sends-{sent_at:%Y%m%dT%H%M%S%fZ}.ndjson"
        if path.exists() and path.read_text("utf-8") == content:
            continue
        write_whole(path, content)
        written_count += 1
    return written_count


def land_bounces(bounces: pl.DataFrame, landing: Path) -> None:
    """Write one landing file per run in which addresses took no mail.

    `bounces` is as `Ledger.bounces_before` gives it. What is written stays: a send that
    is tried again later did bounce all the same.
    """
    for (settled_at,), sends in bounces.group_by("settled_at", maintain_order=True):
        path = landing / RECEIPTS / f"bounces-{settled_at:%Y%m%dT%H%M%S%fZ}.ndjson"
        if not path.exists():
            lines = (f"{bounce_line(send)}\n" for send in sends.to_dicts())
            write_whole(path, "".join(lines))


def write_whole(path: Path, content: str) -> None:
    """Write a file that appears when it is finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(content, "utf-8")
    unfinished.replace(path)


def sent_line(send: dict[str, object], events: Mapping[str, str]) -> str:
    """One send as a line of the Segment spec."""
    moment = f"{send['sent_at']:%Y-%m-%dT%H:%M:%S.%fZ}"
    is_user = send["identifier_type"] == "user_id"
    return json.dumps(
        {
            "type": "track",
            "event": events[str(send["channel"])],
            "messageId": send["send_id"],
            "userId" if is_user else "anonymousId": send["identifier"],
            "timestamp": moment,
            "receivedAt": moment,
            "properties": {
                "send_id": send["send_id"],
                "channel": send["channel"],
                "campaign_id": send["journey"],
                "campaign_name": send["journey"],
                "step": send["step"],
                "content_id": send["content_id"],
            },
        },
        ensure_ascii=False,
    )


def bounce_line(send: dict[str, object]) -> str:
    """A bounce as a mail tool reports it: of an address, and whoever has it."""
    moment = f"{send['settled_at']:%Y-%m-%dT%H:%M:%S.%fZ}"
    return json.dumps(
        {
            "type": "track",
            "event": BOUNCED_EVENTS[str(send["channel"])],
            "messageId": f"{send['send_id']}-bounced-{moment}",
            "anonymousId": send["address"],
            "timestamp": moment,
            "receivedAt": moment,
            "properties": {
                "email": send["address"],
                "bounce_type": "hard",
                "reason": send["reason"],
                "send_id": send["send_id"],
                "channel": send["channel"],
                "campaign_id": send["journey"],
                "campaign_name": send["journey"],
                "step": send["step"],
                "content_id": send["content_id"],
            },
        },
        ensure_ascii=False,
    )
