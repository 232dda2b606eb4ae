"""`dbt_client.py <address> <dbt> …`: one invocation of dbt, done by a server.

Does what `<dbt> …` does, also where no server answers. Imports no package and is run
without any, so that a start takes no time.
"""

import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Be killed when the process that started this one dies, also as dbt itself.

    An invocation that outlived its run would write beside the next one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Have the invocation done; the exit code of dbt."""
    die_with_parent()
    address, dbt, *arguments = sys.argv[1:]
    asked = {
        "arguments": arguments,
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as server:
        reply = server.makefile()
        try:
            server.connect(address)
            socket.send_fds(server, [b"\n"], [1, 2])
            server.sendall(json.dumps(asked).encode())
            server.shutdown(socket.SHUT_WR)
            process = reply.readline()
        except OSError:
            process = ""
        if not process:
            os.execvp(dbt, [dbt, *arguments])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(int(process), number))
        return int(reply.read() or 1)


if __name__ == "__main__":
    sys.exit(main())
