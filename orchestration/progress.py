"""Lines of progress on stderr while a run goes on in this process."""

import logging
import sys
import time

import dagster as dg

SECONDS_BETWEEN_LINES = 10

VERBS = {
    "land": "land",
    "transform": "stage, resolve, profile, phase",
    "decide": "decide, attribute",
}


class ProgressHandler(logging.Handler):
    """Writes a line per finished step and warning of ours; the rest stays in Dagster's.

    A long step counts its parts: in place on a terminal, else by a line now and then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started_at: dict[str, float] = {}
        self.step = ""
        self.reported_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line for a step's end and for each warning.

        A step that never began has nothing to say: another one failed before it.
        """
        meta = getattr(record, "dagster_meta", None) or {}
        event = meta.get("dagster_event")
        step = meta.get("step_key")
        has_begun = step is None or step in self.started_at
        if event is None and has_begun and record.levelno >= logging.WARNING:
            print(f"  ! {meta.get('orig_message')}", file=sys.stderr, flush=True)
        if event is None or event.step_key is None:
            return
        name = VERBS.get(event.step_key, event.step_key.replace("__", "/"))
        if event.event_type == dg.DagsterEventType.STEP_START:
            self.step = name
            self.started_at[event.step_key] = self.reported_at = time.monotonic()
        elif event.event_type in ENDINGS:
            begun = self.started_at.get(event.step_key, time.monotonic())
            mark = ENDINGS[event.event_type]
            seconds = time.monotonic() - begun
            self.show(f"  {mark} {name:<34}{seconds:6.1f} s\n")

    def show_part(self, done: int, total: int) -> None:
        """Show how far the running step has come."""
        line = f"  … {self.step}: {done} of {total}"
        if sys.stderr.isatty():
            self.show(line)
        elif time.monotonic() - self.reported_at >= SECONDS_BETWEEN_LINES:
            self.reported_at = time.monotonic()
            self.show(f"{line}\n")

    def show(self, text: str) -> None:
        """Write over the line that a terminal may be showing."""
        over = "\r\x1b[K" if sys.stderr.isatty() else ""
        print(f"{over}{text}", end="", file=sys.stderr, flush=True)


ENDINGS = {
    dg.DagsterEventType.STEP_SUCCESS: "✓",
    dg.DagsterEventType.STEP_FAILURE: "✗",
    dg.DagsterEventType.STEP_SKIPPED: "–",
}


LOOKING_ON: list[ProgressHandler] = []


def report_part(done: int, total: int) -> None:
    """Say to who looks on how many of its parts a step has done; it is kept nowhere."""
    for handler in LOOKING_ON:
        handler.show_part(done, total)


@dg.logger
def progress_logger(_context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that shows a person how far a run has come."""
    logger = logging.Logger("progress", logging.DEBUG)
    handler = ProgressHandler()
    logger.addHandler(handler)
    LOOKING_ON[:] = [handler]
    return logger
