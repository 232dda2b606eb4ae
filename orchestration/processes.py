"""How a command ends: on a signal, with all that it started."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence

GRACE_SECONDS = 30


def heed_signals() -> None:
    """End on termination as on an interrupt, in the background as in a terminal.

    A shell has what it starts with `&` ignore interrupts, children included, and
    Dagster does on termination whatever is done on an interrupt: nothing, then.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


def run_to_the_end(command: Sequence[str]) -> int:
    """Run a program and return its exit code; nothing that it started outlives it."""
    with subprocess.Popen(command, start_new_session=True) as program:
        # a signal to this process goes on to the program and its children
        with contextlib.suppress(KeyboardInterrupt):
            program.wait()
        end_group(program)
        return program.wait()


def end_group(leader: "subprocess.Popen[bytes]") -> None:
    """Terminate what a program started and wait for it; kill what takes too long."""
    deadline = time.monotonic() + GRACE_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
        while time.monotonic() < deadline:
            leader.poll()
            os.killpg(leader.pid, 0)
            time.sleep(0.1)
        os.killpg(leader.pid, signal.SIGKILL)
