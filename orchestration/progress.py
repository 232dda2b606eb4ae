"""Lines of progress on stderr while a run goes on in this process."""

import logging
import sys
import time

import dagster as dg

VERBS = {
    "land": "land",
    "transform": "stage, resolve, profile, phase",
    "decide": "decide, attribute",
}


class ProgressHandler(logging.Handler):
    """Writes one line per finished step and per warning of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.started_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line if the record tells of a step's end, or of what went amiss."""
        meta = getattr(record, "dagster_meta", None) or {}
        event = meta.get("dagster_event")
        if event is None and record.levelno >= logging.WARNING:
            print(f"  ! {meta.get('orig_message')}", file=sys.stderr, flush=True)
        if event is None or event.step_key is None:
            return
        if event.event_type == dg.DagsterEventType.STEP_START:
            self.started_at[event.step_key] = time.monotonic()
        elif event.event_type in ENDINGS:
            begun = self.started_at.get(event.step_key, time.monotonic())
            name = VERBS.get(event.step_key, event.step_key.replace("__", "/"))
            mark = ENDINGS[event.event_type]
            seconds = time.monotonic() - begun
            print(f"  {mark} {name:<34}{seconds:6.1f} s", file=sys.stderr, flush=True)


ENDINGS = {
    dg.DagsterEventType.STEP_SUCCESS: "✓",
    dg.DagsterEventType.STEP_FAILURE: "✗",
    dg.DagsterEventType.STEP_SKIPPED: "–",
}


@dg.logger
def progress_logger(_context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that shows a person how far a run has come."""
    logger = logging.Logger("progress", logging.DEBUG)
    logger.addHandler(ProgressHandler())
    return logger
