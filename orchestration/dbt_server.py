"""dbt, imported and parsed once: each invocation is a fork of this server.

A start of dbt takes seconds before it builds anything, and a run invokes it twice. The
server parses while the process that began it imports Dagster, and ends with that
process, as does what it forked. `dbt_client.py` asks it for an invocation.
"""

import atexit
import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from orchestration.dbt import dbt_arguments, parsing
from orchestration.dbt_client import die_with_parent
from orchestration.settings import Settings

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest


def parse(settings: Settings) -> "Manifest":
    """The project as dbt holds it in memory; written to the home where it changed.

    Raises:
        SystemExit: if dbt cannot parse it; who needs it written parses it again then.
    """
    with parsing(settings) as has_changed:
        from dbt.cli.main import dbtRunner
        from dbt.contracts.graph.manifest import Manifest

        words = ["--quiet", "parse", *([] if has_changed else ["--no-write-json"])]
        parsed = dbtRunner().invoke(dbt_arguments(settings, *words))
        if not isinstance(parsed.result, Manifest):
            raise SystemExit(f"dbt could not parse the models: {parsed.exception}")
        return parsed.result


def serve(listening: socket.socket, manifest: "Manifest") -> None:
    """Fork for each client, until stdin ends with the process that began this one.

    What is still at work then ends too.
    """
    signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))
    gc.freeze()
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
            return
        client, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            invoke(client, manifest)
        client.close()


def invoke(client: socket.socket, manifest: "Manifest") -> NoReturn:
    """Do in this process what the client was started for; send it how that ended.

    Raises:
        SystemExit: always; the client waits until the process is gone, and with it its
            hold on the warehouse.
    """
    from dbt.cli.main import cli

    atexit.unregister(shutil.rmtree)
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, _, _ = socket.recv_fds(client, 1, 2)
    asked = json.load(client.makefile())
    for descriptor, of_client in enumerate(descriptors, start=1):
        os.dup2(of_client, descriptor)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    client.sendall(f"{os.getpid()}\n".encode())
    try:
        cli.main(asked["arguments"], prog_name="dbt", obj={"manifest": manifest})
    except SystemExit as ended:
        client.sendall(f"{ended.code}\n".encode())
        raise
    raise SystemExit


def fall_silent() -> None:
    """Say nothing more: what libraries miss of theirs when Python ends is no news."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


if __name__ == "__main__":
    # the first that is registered comes last
    atexit.register(fall_silent)
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        atexit.register(shutil.rmtree, Path(listening.getsockname()).parent)
        serve(listening, parse(Settings()))
