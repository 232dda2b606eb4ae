"""Channels that somebody stopped: a file each in the home, looked at before each batch.

Stopping takes no lock, so that it holds at once, in the midst of a run too.
"""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import polars as pl

from activations.channels import CHANNELS
from activations.parts import nearest
from orchestration.erasures import write_whole
from orchestration.settings import Settings, wall_clock

CHANNEL_STOPPED = "channel_stopped"
STOPPED_CHANNELS = pl.Schema(
    {
        "channel": pl.String(),
        "stopped_at": pl.Datetime("us"),
        "reason": pl.String(),
    }
)


class StoppingError(Exception):
    """A channel that cannot be stopped or started, said in one line."""


def stop_channel(settings: Settings, channel: str, reason: str) -> None:
    """Send nothing on a channel from now on; one that is stopped keeps its reason.

    Raises:
        StoppingError: if there is no such channel.
    """
    mark = mark_of(settings, channel)
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        stopped = {"stopped_at": wall_clock().isoformat(), "reason": reason}
        write_whole(mark, json.dumps(stopped).encode())


def start_channel(settings: Settings, channel: str) -> None:
    """Have the next run send on a channel again.

    Raises:
        StoppingError: if there is no such channel, or it is not stopped.
    """
    mark = mark_of(settings, channel)
    if not mark.exists():
        stopped = ", ".join(read_stopped(settings)["channel"]) or "none is"
        raise StoppingError(f"{channel} is not stopped; stopped: {stopped}")
    mark.unlink()


def mark_of(settings: Settings, channel: str) -> Path:
    """The file that is there while a channel is stopped.

    Raises:
        StoppingError: if there is no such channel.
    """
    if channel not in CHANNELS:
        mend = nearest(channel, list(CHANNELS))
        raise StoppingError(f"there is no channel {channel}; {mend}")
    return settings.stopped / channel


def read_stopped(settings: Settings) -> pl.DataFrame:
    """The channels that are stopped, since when and why.

    A mark that cannot be read stops its channel all the same.
    """
    rows = []
    for channel in CHANNELS:
        mark = settings.stopped / channel
        if mark.exists():
            stopped_at, reason = None, None
            with suppress(OSError, ValueError, KeyError, TypeError):
                stopped = json.loads(mark.read_text())
                stopped_at = datetime.fromisoformat(stopped["stopped_at"])
                reason = stopped["reason"]
            rows.append((channel, stopped_at, reason))
    return pl.DataFrame(rows, schema=STOPPED_CHANNELS, orient="row")


def heeding_stops(
    settings: Settings,
    channel: str,
    guard: Callable[[Collection[str]], Mapping[str, str]],
) -> Callable[[Collection[str]], Mapping[str, str]]:
    """A guard that lets nothing pass while the channel is stopped."""
    mark = mark_of(settings, channel)

    def heed(send_ids: Collection[str]) -> Mapping[str, str]:
        if mark.exists():
            return dict.fromkeys(send_ids, CHANNEL_STOPPED)
        return guard(send_ids)

    return heed
