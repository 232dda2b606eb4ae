"""dbt from a server does what dbt does, and ends with the process that began it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestration.dbt import dbt_arguments, dbt_command, parsing, served_dbt
from orchestration.settings import Settings
from tests.conftest import TestHome

BEGIN = """
    import sys
    from orchestration.dbt import start_server
    print(start_server(), flush=True)
    sys.stdin.read()
"""
ENDLESS = "select sum(a.range) as a from range(10000000) a, range(10000000) b"
SOON = 120


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("served"), _env_file=None)


@pytest.fixture
def beginner(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A process that began a server and waits for its stdin to end."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BEGIN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "REKINDLE_HOME": str(settings.root)},
    ) as process:
        yield process
        process.kill()


def ask(address: str, dbt: str, words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*served_dbt(address, dbt), *words],
        stdout=subprocess.PIPE,
        text=True,
    )


def address_of(beginner: subprocess.Popen[str]) -> str:
    assert beginner.stdout
    return beginner.stdout.readline().strip()


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_the_server_prints_and_returns_what_dbt_does(
    settings: Settings, beginner: subprocess.Popen[str]
) -> None:
    address = address_of(beginner)
    for words in (
        ["ls", "--quiet", "--output", "name", "--select", "staging"],
        ["ls", "--no-such-option"],
        ["show", "--quiet", "--inline", "select no_such_column"],
    ):
        plain = subprocess.run(
            dbt_command(settings, *words), capture_output=True, text=True, check=False
        )
        served = ask(address, "/no/dbt/but/the/server", dbt_arguments(settings, *words))
        printed, _ = served.communicate()
        assert untimed(printed) == untimed(plain.stdout)
        assert served.returncode == plain.returncode


def untimed(printed: str) -> str:
    return re.sub(r"^\d\d:\d\d:\d\d", "", printed, flags=re.MULTILINE)


def test_dbt_itself_is_run_where_no_server_answers(tmp_path: Path) -> None:
    asked = ask(str(tmp_path / "nobody"), "echo", ["build", "--select", "a"])
    assert asked.communicate() == ("build --select a\n", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_client_interrupts_what_it_asked_for(
    settings: Settings, beginner: subprocess.Popen[str], number: signal.Signals
) -> None:
    address = address_of(beginner)
    asked = ask(address, "false", dbt_arguments(settings, "show", "--inline", ENDLESS))
    wait_for(lambda: is_at_work(beginner))
    asked.send_signal(number)
    assert asked.wait(SOON)
    wait_for(lambda: len(descendants(beginner)) == 1)


def descendants(beginner: subprocess.Popen[str]) -> list[psutil.Process]:
    """The server of a process and what it forked."""
    found = []
    for child in psutil.Process(beginner.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "orchestration.dbt_server" in child.cmdline():
                found.append(child)
    return found


def is_at_work(beginner: subprocess.Popen[str]) -> bool:
    """Whether what the server forked has begun with what it was asked for."""
    return any(fork.cpu_times().user > 2 for fork in descendants(beginner)[1:])


def test_the_server_and_its_forks_end_with_who_began_it(
    settings: Settings, beginner: subprocess.Popen[str]
) -> None:
    address = address_of(beginner)
    asked = ask(address, "false", dbt_arguments(settings, "show", "--inline", ENDLESS))
    wait_for(lambda: is_at_work(beginner))
    left = descendants(beginner)
    beginner.kill()
    assert asked.wait(SOON)
    _, alive = psutil.wait_procs(left, SOON)
    assert not alive
    assert not Path(address).parent.exists()


def test_what_dbt_kept_of_a_former_parse_goes_with_changed_sources(
    home: TestHome,
) -> None:
    """It holds unit tests of models that are gone, at which dbt stops."""
    kept = home.settings.dbt_target / "partial_parse.msgpack"
    kept.parent.mkdir(parents=True)
    for is_first in (True, False):
        kept.touch()
        with parsing(home.settings) as has_changed:
            assert has_changed == is_first
            assert kept.exists() != is_first
