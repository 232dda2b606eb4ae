"""What real clients send lands whole: `make sdk-clients` installs them."""

import gzip
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestration.settings import PROJECT, wall_clock
from orchestration.sources.landing import land
from orchestration.warehouse import Warehouse
from tests.conftest import TestHome
from tests.test_inbound import serving

CLIENTS = PROJECT / ".sdk-clients"
SENDERS = PROJECT / "tests" / "sdk"
NAMES = ("jitsu", "rudder-node", "rudder-python", "segment-node", "segment-python")


class Collector(ThreadingHTTPServer):
    """Takes what clients send to the loopback address and keeps the messages."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.messages: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where clients send to."""
        return f"http://127.0.0.1:{self.server_port}"


class Endpoint(BaseHTTPRequestHandler):
    """Any path takes one message or a batch of them."""

    server: Collector

    def do_POST(self) -> None:
        """Keep the messages of one request."""
        raw = self.body()
        if raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
        body = json.loads(raw)
        self.server.messages += body.get("batch", [body])
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def body(self) -> bytes:
        """What was sent, in one piece or in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *arguments: object) -> None:
        """Write no access log."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def send_all(url: str) -> None:
    """Have each client live its day at an address."""
    python = CLIENTS / "python" / "bin" / "python"
    if not (CLIENTS / "stamp").exists():
        if os.environ.get("REKINDLE_TEST_SDK_CLIENTS") == "required":
            pytest.fail("the clients are not installed: run `make sdk-clients`")
        pytest.skip("needs clients of other makers: run `make sdk-clients`")
    for command in (
        [str(python), str(SENDERS / "send.py"), url],
        ["node", str(SENDERS / "send.mjs"), url, str(CLIENTS)],
    ):
        subprocess.run(command, check=True, timeout=120)


def test_messages_of_real_clients_land_with_traits_order_and_campaign(
    collector: Collector, tmp_path: Path
) -> None:
    send_all(collector.url)
    landing = tmp_path / "landing"
    landing.mkdir()
    lines = "".join(json.dumps(message) + "\n" for message in collector.messages)
    (landing / "batches.ndjson").write_text(lines)
    warehouse = Warehouse(tmp_path / "warehouse.duckdb")
    with warehouse.connect() as connection:
        landed = land(connection, landing, datetime(2026, 7, 1))
    assert (landed.row_count, landed.rejected_count) == (3 * len(NAMES), 0)
    persons = warehouse.read(
        """
        select
            user_id,
            max(coalesce(traits, context -> '$.traits') ->> '$.email')
                filter (where type = 'identify') as email,
            max(coalesce(traits, context -> '$.traits') ->> '$.address.city')
                filter (where type = 'identify') as city,
            max(properties ->> '$.products[0].price')
                filter (where event = 'Order Completed') as price,
            max(properties ->> '$.order_id') as order_id
        from raw.events where user_id is not null group by user_id order by user_id
        """
    )
    assert persons.rows() == [
        (name, f"{name}@example.com", "Oslo", "19.99", f"{name}-order")
        for name in NAMES
    ]
    campaigns = warehouse.read(
        "select anonymous_id, context ->> '$.campaign.medium' as medium "
        "from raw.events where type = 'page' order by anonymous_id"
    )
    assert campaigns.rows() == [(f"{name}-browser", "cpc") for name in NAMES]


def test_clients_of_the_spec_need_only_the_address_of_inbound(home: TestHome) -> None:
    with serving(home, write_keys="key") as service:
        send_all(f"http://127.0.0.1:{service.port}")
    warehouse = Warehouse(home.settings.warehouse)
    with warehouse.connect() as connection:
        landed = land(connection, home.settings.landing, wall_clock())
    # one of the clients has paths of its own
    spoken = sorted(set(NAMES) - {"jitsu"})
    assert (landed.row_count, landed.rejected_count) == (3 * len(spoken), 0)
    events = warehouse.read(
        "select user_id, event, occurred_at from raw.events "
        "where event = 'Order Completed' order by user_id"
    )
    assert events["user_id"].to_list() == spoken
    # the moment that was stated, mended by the milliseconds that it was on its way
    assert {f"{moment:%Y-%m-%d}" for moment in events["occurred_at"]} == {"2026-06-10"}
